//! Looks at a data directory file by file, without opening it as a log: also at one that a start refuses.
//!
//! `survey` reads what the journals say is committed, `scan` walks over a segment's batches, `verification` does that for a
//! whole log, `repair` mends what can be mended. `description` and `dump` show what is there.

mod committed_bytes;
mod description;
mod dump;
mod journal_check;
mod repair;
mod scan;
mod survey;
mod verification;

#[cfg(test)]
mod fault_tests;

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;

use crate::error::LogError;
use crate::partition::{Offset, PartitionId};

pub use self::description::SegmentDescription;
pub use self::dump::{DumpedBatch, SegmentDump};
pub use self::repair::Repair;
pub use self::verification::{Verification, verify};

/// Committed bytes that are not what was written, or not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The damaged bytes of it, end exclusive. Empty where the whole file is meant, or where bytes are missing in between.
    pub bytes: Range<u64>,
    /// Whose records they are, where that is known.
    pub partition: Option<(String, PartitionId)>,
    /// The offsets of their records, end exclusive.
    pub offsets: Option<Range<Offset>>,
    /// How many records that are, where a readable header says so.
    pub records: Option<u64>,
    /// What is wrong.
    pub problem: String,
    /// What a repair makes of it.
    pub remedy: Remedy,
}

/// What a [`Repair`] does about a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Writes the bytes again: the journal still has them. Nothing is lost.
    FromJournal,
    /// Writes the first bytes of the batch again, which follow from its neighbours: the rest fits its checksum. Nothing is lost.
    RebuildHeader,
    /// Writes the journal anew: what it says is also known from elsewhere. Nothing is lost.
    NewJournal,
    /// Puts an empty batch in their place, so that what follows can be read. The records are lost.
    CutOut,
    /// Nothing. What somebody can do.
    Nothing(&'static str),
}

impl Remedy {
    /// Whether a repair does anything.
    pub fn mends(self) -> bool {
        !matches!(self, Self::Nothing(_))
    }

    /// What a repair does, as a sentence.
    pub fn describe(self) -> &'static str {
        match self {
            Self::FromJournal => "the journal has these bytes: they are written again, nothing is lost",
            Self::RebuildHeader => "the bytes follow from the batches around them: they are written again, nothing is lost",
            Self::NewJournal => "a new journal is written, nothing is lost",
            Self::CutOut => "THESE RECORDS ARE LOST: they are cut out, so that what follows can be read",
            Self::Nothing(advice) => advice,
        }
    }
}

impl Damage {
    /// What an error of a file that is read as a whole says. Errors that are no damage are given back.
    fn of_file(error: LogError) -> Result<Self, LogError> {
        let (path, position, problem) = match error {
            LogError::Corrupt { path, position, problem, .. } => (path, position, problem),
            LogError::TopicMissing { journal, topic } => {
                (journal, 0, format!("it holds records of topic {topic}, which it does not know"))
            }
            LogError::Io { path, source, .. } if !matches!(source.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                (path, 0, format!("it cannot be read: {source}"))
            }
            other => return Err(other),
        };
        let remedy = Remedy::Nothing(ADVICE_RESTORE);
        Ok(Self { path, bytes: position..position, partition: None, offsets: None, records: None, problem, remedy })
    }
}

/// For what no repair can make up.
const ADVICE_RESTORE: &str =
    "this cannot be repaired: restore the data directory from a copy, or drop the pipeline and take a new snapshot";
