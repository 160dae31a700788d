//! Reads a journal's directory back, and tells a torn end from damage.
//!
//! An entry is written and synced before the next one is begun. So an entry that cannot be read is the torn remains
//! of a commit that nobody was told of *only* if it is the last and looks torn: the file ends within it, its trailer
//! is not there, or blocks of it are zero because they never reached the disk. Anything else was committed and has
//! changed since: an error.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use uuid::Uuid;

use super::decode;
use super::entry::{Checkpoint, Entry, TopicEntry};
use super::format::{self, FILE_HEADER_BYTES, Malformed, TRAILER_BYTES, TRAILER_MAGIC};
use super::{BLOCK_BYTES, file};
use crate::durable_file;
use crate::error::{ADVICE_DAMAGE, LogError, Result};
use crate::names;

/// A journal as read back.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The last checkpoint.
    pub(crate) checkpoint: Checkpoint,
    /// What came after it, with the position of each entry in its file.
    pub(crate) entries: Vec<(u64, Entry)>,
    /// The file that holds the checkpoint and the entries.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) bytes: Bytes,
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// Where the last whole entry ends.
    pub(crate) valid_bytes: u64,
    /// Bytes of a torn entry behind it.
    pub(crate) torn_bytes: u64,
    /// Of `entries`, those from here on may not have been synced: no entry behind them says so.
    pub(crate) first_unsynced: usize,
    /// Files that this one replaced, and unfinished ones.
    pub(crate) obsolete: Vec<PathBuf>,
}

/// The pipelines that have a directory in `journals`. Files there, and directories of other names, are somebody else's.
pub(crate) fn pipelines(journals: &Path) -> Result<Vec<String>> {
    let mut pipelines = Vec::new();
    for name in durable_file::list_dir(journals)? {
        if let Some(pipeline) = names::unescape_pipeline(&name)
            && durable_file::exists(&journals.join(&name).join("."))?
        {
            pipelines.push(pipeline);
        }
    }
    Ok(pipelines)
}

/// The topics of a journal.
#[derive(Debug, Default)]
pub(crate) struct LoadedTopics {
    /// Those that exist.
    pub(crate) live: Vec<TopicEntry>,
    /// Those that were deleted since the checkpoint. Their directories may be there still.
    pub(crate) deleted: Vec<TopicEntry>,
}

impl Loaded {
    /// What the journal says of topics.
    ///
    /// # Errors
    /// When two that exist have the same name.
    pub(crate) fn topics(&self) -> Result<LoadedTopics> {
        let mut live: BTreeMap<Uuid, &TopicEntry> =
            self.checkpoint.topics.iter().map(|image| (image.topic.id, &image.topic)).collect();
        let mut deleted = Vec::new();
        for (_, entry) in &self.entries {
            match entry {
                Entry::TopicsCreated { topics, .. } => live.extend(topics.iter().map(|topic| (topic.id, topic))),
                Entry::TopicsDeleted { topics, .. } => {
                    deleted.extend(topics.iter().filter_map(|topic| live.remove(topic).cloned()));
                }
                Entry::Checkpoint(_) | Entry::Commit(_) => {}
            }
        }
        let mut names = HashSet::new();
        if let Some(twice) = live.values().find(|topic| !names.insert(&topic.name)) {
            return Err(self.damaged(0, &format!("it says twice that topic `{}` was made", twice.name)));
        }
        Ok(LoadedTopics { live: live.into_values().cloned().collect(), deleted })
    }

    /// Where the entry of that number in `entries` ends.
    pub(crate) fn entry_end(&self, index: usize) -> u64 {
        self.entries.get(index + 1).map_or(self.valid_bytes, |(next, _)| *next)
    }

    /// Whether blocks of that entry never reached the disk, though it can be read: if bytes of its pieces are missing, it is torn.
    pub(crate) fn is_partial(&self, index: usize) -> bool {
        let unsynced = self.entries.get(index).filter(|_| index >= self.first_unsynced);
        unsynced.is_some_and(|(start, _)| looks_torn(&self.bytes, *start, self.entry_end(index)))
    }

    /// Those of the first `kept` entries that may not have been synced: where they begin, and their bytes.
    pub(crate) fn unsynced_bytes(&self, kept: usize) -> (u64, &[u8]) {
        let end = self.entries.get(kept).map_or(self.valid_bytes, |(at, _)| *at);
        let start = self.entries.get(self.first_unsynced).map_or(end, |(at, _)| *at).min(end);
        (start, self.bytes.get(start as usize..end as usize).unwrap_or_default())
    }

    /// An error for damage in the file, at a byte.
    pub(crate) fn damaged(&self, position: u64, problem: &str) -> LogError {
        let problem = problem.to_owned();
        LogError::Corrupt { path: self.path.clone(), position, problem, advice: ADVICE_DAMAGE }
    }
}

/// Reads the newest journal file in `dir`; nothing when there is none.
pub(crate) fn load(dir: &Path) -> Result<Option<Loaded>> {
    let mut newest = None;
    let mut obsolete = Vec::new();
    for name in durable_file::list_dir(dir)? {
        if file::is_unfinished(&name) {
            obsolete.push(dir.join(&name));
        } else if let Some(number) = file::parse_file_name(&name)
            && let Some(older) = newest.replace(number)
        {
            // Names are sorted, so the one before is the older one.
            obsolete.push(dir.join(file::file_name(older)));
        }
    }
    let Some(number) = newest else { return Ok(None) };
    let path = dir.join(file::file_name(number));
    let bytes = Bytes::from(durable_file::read_file(&path)?);
    let mut loaded = read_journal(&path, &bytes)?;
    loaded.number = number;
    loaded.obsolete = obsolete;
    Ok(Some(loaded))
}

/// Reads a journal file, of which `path` is the name for errors.
pub(crate) fn read_journal(path: &Path, bytes: &Bytes) -> Result<Loaded> {
    let reader = Reader { path, bytes };
    let salt = format::decode_file_header(bytes).map_err(|error| reader.error(0, error))?;
    let mut at = FILE_HEADER_BYTES as u64;
    // The file got its name after its first entry was synced, so that one cannot be torn.
    let checkpoint = match reader.entry(at, salt).map_err(|error| reader.error(at, error))? {
        (Entry::Checkpoint(checkpoint), size) => {
            at += size;
            checkpoint
        }
        _ => return Err(reader.damaged(at, "it does not begin with a checkpoint".to_owned())),
    };
    let mut entries = Vec::new();
    let mut torn_bytes = 0;
    while at < bytes.len() as u64 {
        match reader.entry(at, salt) {
            Ok((entry, size)) => {
                entries.push((at, entry));
                at += size;
            }
            Err(error) => {
                torn_bytes = reader.torn_bytes(at, error, salt)?;
                break;
            }
        }
    }
    let synced = entries.iter().map(|(at, entry)| synced_before(*at, entry)).max().unwrap_or(0);
    let first_unsynced = entries.partition_point(|(at, _)| *at < synced);
    Ok(Loaded {
        first_unsynced,
        checkpoint,
        entries,
        path: path.to_owned(),
        bytes: bytes.clone(),
        number: 0,
        salt,
        valid_bytes: at,
        torn_bytes,
        obsolete: Vec::new(),
    })
}

struct Reader<'a> {
    path: &'a Path,
    bytes: &'a Bytes,
}

impl Reader<'_> {
    fn entry(&self, at: u64, salt: u64) -> std::result::Result<(Entry, u64), Malformed> {
        let (entry, size) = decode::decode_entry(&self.bytes.slice(at as usize..), salt)?;
        Ok((entry, size as u64))
    }

    /// Decides what the bytes from `at` on are: torn (how many), or damage.
    fn torn_bytes(&self, at: u64, error: Malformed, salt: u64) -> Result<u64> {
        let rest = self.bytes.slice(at as usize..);
        let torn = match &error {
            Malformed::Newer(_) => false,
            Malformed::Header(_) | Malformed::Cut if rest.iter().all(|byte| *byte == 0) => true,
            // An entry cut off by the end of the file is the last one by itself.
            Malformed::Cut => true,
            // Its header may be what never reached the disk; a trailer says where it would end.
            Malformed::Header(_) => {
                let end = trailer_end(&rest).map(|end| at + end);
                !self.was_synced(at, salt) && end.is_none_or(|end| looks_torn(self.bytes, at, end))
            }
            Malformed::Content(_, total) => !self.was_synced(at, salt) && looks_torn(self.bytes, at, at.saturating_add(*total)),
        };
        if torn { Ok(rest.len() as u64) } else { Err(self.error(at, error)) }
    }

    /// True when a whole entry anywhere behind `at` says that what stands at `at` was synced.
    fn was_synced(&self, at: u64, salt: u64) -> bool {
        let rest = self.bytes.slice(at as usize..);
        let candidates = rest.windows(format::ENTRY_MAGIC.len()).zip(0..).skip(1);
        candidates.filter(|(window, _)| *window == format::ENTRY_MAGIC).any(|(_, offset)| {
            let entry = decode::decode_entry(&rest.slice(offset..), salt);
            entry.is_ok_and(|(entry, _)| synced_before(offset as u64, &entry) > 0)
        })
    }

    fn error(&self, at: u64, error: Malformed) -> LogError {
        match error {
            Malformed::Header(problem) | Malformed::Content(problem, _) => self.damaged(at, problem.to_owned()),
            Malformed::Cut => self.damaged(at, "the file ends within its first entry".to_owned()),
            Malformed::Newer(found) => {
                LogError::UnsupportedVersion { path: self.path.to_owned(), found, known: format::VERSION.into() }
            }
        }
    }

    fn damaged(&self, position: u64, problem: String) -> LogError {
        LogError::Corrupt { path: self.path.to_owned(), position, problem, advice: ADVICE_DAMAGE }
    }
}

/// All before this byte was synced, says the entry at `at`.
fn synced_before(at: u64, entry: &Entry) -> u64 {
    match entry {
        Entry::Commit(commit) => at.saturating_sub(commit.unsynced_before),
        Entry::Checkpoint(_) | Entry::TopicsDeleted { .. } | Entry::TopicsCreated { .. } => at,
    }
}

/// Where an entry ends that begins where `bytes` do, if a trailer says so.
fn trailer_end(bytes: &[u8]) -> Option<u64> {
    bytes.windows(TRAILER_BYTES).zip(TRAILER_BYTES as u64..).find_map(|(mut window, end)| {
        let is_trailer = window.ends_with(&TRAILER_MAGIC) && window.get_u64_le() == end;
        is_trailer.then_some(end)
    })
}

/// True when the entry from `start` to `end` looks as if parts of it never reached the disk: its trailer is not there,
/// or a block of it is all zero. The first block counts from where the entry begins: the bytes before are an older entry's.
fn looks_torn(file: &[u8], start: u64, end: u64) -> bool {
    let Some(entry) = file.get(start as usize..end as usize) else { return true };
    let trailer = entry.len().checked_sub(TRAILER_BYTES).and_then(|at| entry.get(at..));
    let whole = trailer.is_some_and(|mut trailer| trailer.ends_with(&TRAILER_MAGIC) && trailer.get_u64_le() == end - start);
    let second = (start + 1).next_multiple_of(BLOCK_BYTES);
    let zero = |from: u64, to: u64| file.get(from as usize..to as usize).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    let mut blocks = (second..end).step_by(BLOCK_BYTES as usize);
    !whole || zero(start, second) || blocks.any(|block| zero(block, block + BLOCK_BYTES))
}
