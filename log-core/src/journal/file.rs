//! Appends entries to a journal file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::entry::Checkpoint;
use super::format;
use crate::durable_file::{self, DurableFile};
use crate::error::Result;

const COPY_BYTES: usize = 1 << 20;
const SUFFIX: &str = ".journal";
/// A file that is still being written under this name is not part of the journal.
const NEW_SUFFIX: &str = ".journal.new";

/// The journal file that takes entries. `len` is where the next one goes.
#[derive(Debug)]
pub(crate) struct JournalFile {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    file: Arc<DurableFile>,
    len: u64,
}

impl JournalFile {
    /// Goes on with a file that was read back up to `unsynced`, the bytes of its last whole entries, which begin at `unsynced_at`.
    /// Anything behind was not committed.
    ///
    /// That they could be read does not mean that they are on the disk: their writer may have been killed before a sync, or have
    /// ended because of one that failed, after which the kernel may call pages clean that were never written. So they are
    /// written once more. All before them was synced.
    pub(crate) fn resume(dir: &Path, number: u64, salt: u64, unsynced_at: u64, unsynced: &[u8]) -> Result<Self> {
        let path = dir.join(file_name(number));
        let file = DurableFile::open(&path, durable_file::Access::ReadWrite)?;
        let len = unsynced_at + unsynced.len() as u64;
        if file.len()? != len {
            file.set_len(len)?;
        }
        file.write_all_at(unsynced, unsynced_at)?;
        file.sync_data()?;
        Ok(Self { number, salt, file: Arc::new(file), len })
    }

    /// Writes a new file that begins with `checkpoint`, and makes it the journal. Whatever the checkpoint says must be
    /// durable. The file it replaces is left to the caller, see [`Self::remove`].
    pub(crate) fn start(dir: &Path, number: u64, checkpoint: &Checkpoint) -> Result<Self> {
        let salt = Uuid::new_v4().as_u64_pair().0;
        NewJournal::begin(dir, number, salt, checkpoint)?.finish()
    }

    /// Appends an entry and makes it durable. After an error nothing is known about it.
    pub(crate) fn append(&mut self, entry: &[u8]) -> Result<()> {
        self.write(entry)?;
        self.file.sync_data()
    }

    /// Appends an entry; it is durable when [the file](Self::file) was synced. After an error nothing is known about it.
    pub(crate) fn write(&mut self, entry: &[u8]) -> Result<()> {
        self.file.write_all_at(entry, self.len)?;
        self.len += entry.len() as u64;
        Ok(())
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The file, for syncing it, and for copying entries to the one that replaces it.
    pub(crate) fn file(&self) -> Arc<DurableFile> {
        self.file.clone()
    }

    /// Removes a journal file that a later one replaced. Should the removal not survive, it happens again at recovery.
    pub(crate) fn remove(dir: &Path, number: u64) -> Result<()> {
        durable_file::remove_file(&dir.join(file_name(number)))
    }
}

/// A journal file in the making, under a name that recovery ignores.
#[derive(Debug)]
pub(crate) struct NewJournal {
    dir: PathBuf,
    number: u64,
    salt: u64,
    file: DurableFile,
    len: u64,
}

impl NewJournal {
    /// Entries can be copied to it from a file with the same `salt`.
    pub(crate) fn begin(dir: &Path, number: u64, salt: u64, checkpoint: &Checkpoint) -> Result<Self> {
        let mut bytes = format::encode_file_header(salt);
        let mut entry = Vec::new();
        format::encode_checkpoint(&mut entry, salt, checkpoint);
        bytes.append(&mut entry);
        let file = DurableFile::create(&new_path(dir, number))?;
        file.write_all_at(&bytes, 0)?;
        Ok(Self { dir: dir.to_owned(), number, salt, file, len: bytes.len() as u64 })
    }

    /// Copies entries from another journal file, between two positions of it.
    pub(crate) fn copy(&mut self, from: &DurableFile, start: u64, end: u64) -> Result<()> {
        let mut buffer = vec![0; COPY_BYTES.min((end - start) as usize)];
        let mut at = start;
        while at < end {
            let want = buffer.len().min((end - at) as usize);
            let read = from.read_at(&mut buffer[..want], at)?;
            if read < want {
                return Err(from.ended_early());
            }
            self.file.write_all_at(&buffer[..want], self.len)?;
            at += want as u64;
            self.len += want as u64;
        }
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data()
    }

    /// Makes it the journal, durably.
    pub(crate) fn finish(self) -> Result<JournalFile> {
        self.file.sync_data()?;
        let path = self.dir.join(file_name(self.number));
        durable_file::rename(&new_path(&self.dir, self.number), &path)?;
        durable_file::sync_dir(&self.dir)?;
        let file = Arc::new(self.file.renamed(&path));
        Ok(JournalFile { number: self.number, salt: self.salt, file, len: self.len })
    }
}

fn new_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{NEW_SUFFIX}"))
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The number in a journal file's name; `None` for a file that is not one. Numbers are counted up from 1, so that none is so large that
/// there is no next one.
pub(super) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| all_digits && *number < u64::MAX / 2)
}

pub(super) fn is_unfinished(name: &str) -> bool {
    name.ends_with(NEW_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        assert_eq!(parse_file_name(&file_name(7)), Some(7));
        for foreign in ["7", "+0000000000000000007", "0000000000000000000x", "18446744073709551615", "99999999999999999999"] {
            assert_eq!(parse_file_name(&format!("{foreign}.journal")), None, "{foreign}");
        }
        assert_eq!(parse_file_name("00000000000000000007.journal.new"), None);
    }
}
