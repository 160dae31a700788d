//! Every file operation that durability depends on.
//!
//! Nothing else in the crate opens, writes, syncs, renames or removes a file, so that one place decides about
//! permissions (owner only), about errors (each names its path), and about what tests see of it: they can let any call
//! that changes something fail, and write all of them down.
//!
//! A new name survives a power cut only after [`sync_dir`] of its directory; a file's bytes and length only after
//! [`DurableFile::sync_data`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use self::changes::{Began, Change, begin};
use crate::error::{LogError, Result};

pub(crate) mod changes;

/// Syncs that wait together where somebody waits for all of them.
pub(crate) const SYNC_THREADS: usize = 16;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// An open file that knows its path.
#[derive(Debug)]
pub(crate) struct DurableFile {
    file: File,
    path: PathBuf,
}

impl DurableFile {
    /// Opens an existing file.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self> {
        let began = begin(Change::Open { path })?;
        let file = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(path);
        Self::opened("open", path, file, began)
    }

    /// Creates the file, emptying one that is there: leftovers of a commit that did not happen.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let began = begin(Change::Create { path })?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
        Self::opened("create", path, file, began)
    }

    /// Opens the file, creating it when it is not there.
    pub(crate) fn open_or_create(path: &Path) -> Result<Self> {
        let began = begin(Change::OpenOrCreate { path })?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        Self::opened("open", path, file, began)
    }

    fn opened(action: &'static str, path: &Path, file: io::Result<File>, mut began: Began) -> Result<Self> {
        let file = file.map_err(|error| LogError::io(action, path, error))?;
        began.opened(&file);
        Ok(Self { file, path: path.to_owned() })
    }

    /// Notes that the file was renamed, for errors.
    pub(crate) fn renamed(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|error| LogError::io("inspect", &self.path, error))?.len())
    }

    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    pub(crate) fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LogError::io("read", &self.path, error)),
            }
        }
        Ok(filled)
    }

    /// The error for a read that got less than is known to be there.
    pub(crate) fn ended_early(&self) -> LogError {
        LogError::io("read", &self.path, io::ErrorKind::UnexpectedEof.into())
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        let _began = begin(Change::Write { file: &self.file, path: &self.path, position, bytes })?;
        self.file.write_all_at(bytes, position).map_err(|error| LogError::io("write", &self.path, error))
    }

    /// Makes the bytes and the length durable.
    pub(crate) fn sync_data(&self) -> Result<()> {
        let _began = begin(Change::Sync { file: &self.file, path: &self.path })?;
        self.file.sync_data().map_err(|error| LogError::io("sync", &self.path, error))
    }

    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        let _began = begin(Change::SetLen { file: &self.file, path: &self.path, len })?;
        self.file.set_len(len).map_err(|error| LogError::io("truncate", &self.path, error))
    }

    /// Takes the exclusive lock; `false` when somebody else holds it. It ends with the file handle.
    pub(crate) fn try_lock(&self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(LogError::io("lock", &self.path, error)),
        }
    }
}

/// A directory that is kept open, so that no other can get its inode meanwhile.
#[derive(Debug)]
pub(crate) struct OpenDir {
    dir: File,
    path: PathBuf,
}

impl OpenDir {
    /// Opens a directory; nothing when it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        match File::open(path) {
            Ok(dir) => Ok(Some(Self { dir, path: path.to_owned() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::io("open directory", path, error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path still leads to it, and not to nothing or to another of the same name.
    pub(crate) fn is_in_place(&self) -> Result<bool> {
        let inspect = |error| LogError::io("inspect", &self.path, error);
        let opened = self.dir.metadata().map_err(inspect)?;
        match fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (opened.dev(), opened.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(inspect(error)),
        }
    }
}

/// Makes creations, renames and removals in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    let _began = begin(Change::SyncDir { path })?;
    let result = File::open(path).and_then(|dir| dir.sync_all());
    result.map_err(|error| LogError::io("sync directory", path, error))
}

/// Calls `sync` for all `items`, many at a time: a journaling file system makes one commit of syncs that wait together,
/// and a thousand files one after the other would take seconds.
pub(crate) fn sync_together<T: Sync>(items: &[T], sync: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    sync_at_a_time(SYNC_THREADS, items, sync)
}

/// As [`sync_together`], with no more than `at_a_time` that wait.
pub(crate) fn sync_at_a_time<T: Sync>(at_a_time: usize, items: &[T], sync: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    if let [item] = items {
        return sync(item);
    }
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = sync(item) {
                next.store(items.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (1..items.len().min(at_a_time)).map(|_| scope.spawn(work)).collect();
        let own = work();
        threads.into_iter().fold(own, |result, thread| match thread.join() {
            Ok(other) => result.and(other),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Creates a directory for its owner only; one that exists is fine.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    let _began = begin(Change::CreateDir { path })?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(LogError::io("create directory", path, error)),
        _ => Ok(()),
    }
}

/// Creates a directory and those above it for their owner only, durably, except for the name of one that exists.
pub(crate) fn create_dir_all(path: &Path) -> Result<()> {
    if exists(path)? {
        return Ok(());
    }
    let above = parent(path);
    if exists(above)? {
        // Whoever made that may have been killed before it had a durable name.
        sync_dir(parent(above))?;
    } else {
        create_dir_all(above)?;
    }
    create_dir(path)?;
    sync_dir(above)
}

/// The directory that holds the name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Writes a new file and syncs it; its directory is left to the caller.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = DurableFile::create(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

/// Syncs a file that is not open.
pub(crate) fn sync_file(path: &Path) -> Result<()> {
    DurableFile::open(path, Access::ReadWrite)?.sync_data()
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| LogError::io("read", path, error))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let _began = begin(Change::Rename { from, to })?;
    fs::rename(from, to).map_err(|error| LogError::io("rename", from, error))
}

pub(crate) fn remove_file(path: &Path) -> Result<()> {
    let _began = begin(Change::RemoveFile { path })?;
    fs::remove_file(path).map_err(|error| LogError::io("remove", path, error))
}

pub(crate) fn remove_dir_all(path: &Path) -> Result<()> {
    let _began = begin(Change::RemoveDirAll { path })?;
    fs::remove_dir_all(path).map_err(|error| LogError::io("remove directory", path, error))
}

/// The length of a file, or nothing when it does not exist.
pub(crate) fn file_len(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(LogError::io("inspect", path, error)),
    }
}

pub(crate) fn exists(path: &Path) -> Result<bool> {
    Ok(file_len(path)?.is_some())
}

/// The names in a directory, sorted; none when it does not exist or is something else. Names that are not UTF-8 are not ours.
pub(crate) fn list_dir(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(LogError::io("list", path, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| LogError::io("list", path, error))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Scripted failures for the tests of this crate. Each names the directory of its test, so tests do not meet each other's.
#[cfg(test)]
pub(crate) mod faults {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    enum Outcome {
        Fails,
        /// Says that it is there, and waits until nobody holds it any more.
        Waits(Sender<()>, Receiver<()>),
    }

    /// An action that waits. Dropping it lets it go on.
    pub(crate) struct Held {
        reached: Receiver<()>,
        _goes_on: Sender<()>,
    }

    impl Held {
        /// Whether something has come to it, after a moment in which it may.
        pub(crate) fn is_reached(&self) -> bool {
            self.reached.recv_timeout(std::time::Duration::from_millis(20)).is_ok()
        }
    }

    struct Script {
        dir: PathBuf,
        action: &'static str,
        path_part: String,
        nth: usize,
        outcome: Outcome,
    }

    static SCRIPTS: Mutex<Vec<Script>> = Mutex::new(Vec::new());

    /// Lets the `nth` (from 0) coming `action` below `dir`, on a path that contains `path_part`, fail, once.
    pub(crate) fn fail(dir: &Path, action: &'static str, path_part: &str, nth: usize) {
        let script = Script { dir: dir.to_owned(), action, path_part: path_part.to_owned(), nth, outcome: Outcome::Fails };
        SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner).push(script);
    }

    /// Lets the coming `action` below `dir`, on a path that contains `path_part`, wait, once.
    pub(crate) fn hold(dir: &Path, action: &'static str, path_part: &str) -> Held {
        let ((reaches, reached), (goes_on, waits)) = (channel(), channel());
        let outcome = Outcome::Waits(reaches, waits);
        let script = Script { dir: dir.to_owned(), action, path_part: path_part.to_owned(), nth: 0, outcome };
        SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner).push(script);
        Held { reached, _goes_on: goes_on }
    }

    /// True when a scripted failure below `dir` has not happened yet; forgets it.
    pub(crate) fn clear(dir: &Path) -> bool {
        let mut scripts = SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner);
        let before = scripts.len();
        scripts.retain(|script| script.dir != dir);
        scripts.len() < before
    }

    pub(super) fn fault(action: &'static str, path: &Path) -> Result<()> {
        let mut scripts = SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |script: &Script| {
            let part = path.strip_prefix(&script.dir).map(|rest| rest.to_string_lossy().contains(&script.path_part));
            script.action == action && part == Ok(true)
        };
        let Some(index) = scripts.iter().position(fits) else { return Ok(()) };
        if scripts[index].nth > 0 {
            scripts[index].nth -= 1;
            return Ok(());
        }
        let script = scripts.remove(index);
        drop(scripts);
        match script.outcome {
            Outcome::Fails => Err(LogError::io(action, path, io::Error::other("injected failure"))),
            Outcome::Waits(reaches, waits) => {
                let _ = reaches.send(());
                let _ = waits.recv();
                Ok(())
            }
        }
    }
}
