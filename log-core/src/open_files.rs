//! Keeps the number of open segment files below a limit, however many partitions there are.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::durable_file::{self, Access, DurableFile};
use crate::error::{LogError, Result};

/// A file that is opened when it is used and closed when too many others are.
///
/// A file with un-synced bytes may be closed too: the kernel keeps a write-back error with the inode and
/// reports it to the next descriptor that syncs, and until a checkpoint's sync the journal holds the bytes.
#[derive(Debug)]
pub(crate) struct CachedFile {
    path: PathBuf,
    handle: Mutex<Option<Arc<DurableFile>>>,
    used: AtomicBool,
    /// The content is in a file with [`WAITING_SUFFIX`] behind its name, until that is renamed.
    waiting: AtomicBool,
}

/// Behind the name of a file whose content is to replace another's.
pub(crate) const WAITING_SUFFIX: &str = ".swap";

impl CachedFile {
    pub(crate) fn new(path: PathBuf) -> Arc<Self> {
        let waiting = AtomicBool::new(false);
        Arc::new(Self { path, handle: Mutex::new(None), used: AtomicBool::new(false), waiting })
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Release);
    }

    pub(crate) fn waiting_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(WAITING_SUFFIX);
        path.into()
    }

    fn open(&self, access: Access) -> Result<DurableFile> {
        if self.is_waiting() {
            match DurableFile::open(&self.waiting_path(), access) {
                // It was renamed meanwhile.
                Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        DurableFile::open(&self.path, access)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next use opens the path again.
    pub(crate) fn close(&self) {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// All cached files of a log: second-chance eviction, so that files in use stay open.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    open_max: usize,
    access: Access,
    queue: Mutex<VecDeque<Weak<CachedFile>>>,
}

impl OpenFiles {
    /// `open_max` of 0 chooses a limit from the process's own.
    pub(crate) fn new(open_max: usize, access: Access) -> Self {
        let open_max = if open_max == 0 { default_open_max() } else { open_max };
        Self { open_max, access, queue: Mutex::new(VecDeque::new()) }
    }

    /// The open file, opening it first if needed.
    pub(crate) fn get(&self, file: &Arc<CachedFile>) -> Result<Arc<DurableFile>> {
        self.get_with(file, |file| file.open(self.access))
    }

    /// Creates the file (emptying a leftover) and keeps it open.
    pub(crate) fn create(&self, file: &Arc<CachedFile>) -> Result<Arc<DurableFile>> {
        file.close();
        self.get_with(file, |file| DurableFile::create(&file.path))
    }

    fn get_with(&self, file: &Arc<CachedFile>, open: impl FnOnce(&CachedFile) -> Result<DurableFile>) -> Result<Arc<DurableFile>> {
        let opened = {
            let mut handle = file.handle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(opened) = handle.as_ref() {
                file.used.store(true, Ordering::Relaxed);
                return Ok(opened.clone());
            }
            let opened = Arc::new(open(file)?);
            *handle = Some(opened.clone());
            opened
        };
        self.admit(file);
        Ok(opened)
    }

    /// Notes that `file` is open and closes others until the limit holds.
    fn admit(&self, file: &Arc<CachedFile>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(Arc::downgrade(file));
        let mut chances = queue.len();
        while queue.len() > self.open_max {
            let Some(candidate) = queue.pop_front() else { break };
            let Some(oldest) = candidate.upgrade() else { continue };
            chances = chances.saturating_sub(1);
            if chances > 0 && oldest.used.swap(false, Ordering::Relaxed) {
                queue.push_back(candidate);
            } else {
                oldest.close();
            }
        }
    }
}

/// Half of the process's descriptors: the rest is for sockets, sinks and files being read.
fn default_open_max() -> usize {
    let limits = durable_file::read_file(Path::new("/proc/self/limits")).unwrap_or_default();
    let limits = String::from_utf8_lossy(&limits);
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    (soft.unwrap_or(1024) / 2).clamp(16, 8192)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let files = OpenFiles::new(3, Access::ReadWrite);
        let all: Vec<_> = (0..10).map(|n| CachedFile::new(dir.path().join(n.to_string()))).collect();
        for file in &all {
            files.create(file).unwrap();
        }
        let open = |file: &Arc<CachedFile>| file.handle.lock().unwrap().is_some();
        assert_eq!(all.iter().filter(|file| open(file)).count(), 3);
        // One that is used again and again survives the opening of all others.
        files.get(&all[9]).unwrap();
        for file in &all[..8] {
            files.get(file).unwrap();
            files.get(&all[9]).unwrap();
            assert!(open(&all[9]));
            assert_eq!(all.iter().filter(|file| open(file)).count(), 3);
        }
        assert!(default_open_max() >= 16);
    }
}
