//! Writes down the calls that change a directory, in the order in which they were made.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::durable_file::changes::Change;

/// A call that was made. Handles are told apart by inode, as their files may have been renamed or removed since.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Relative to the directory of the trace. Of a call on a handle: the name under which it was opened.
    pub(super) path: PathBuf,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Create,
    OpenOrCreate,
    Opened {
        inode: u64,
    },
    Write {
        inode: u64,
        position: u64,
        bytes: Arc<[u8]>,
    },
    SetLen {
        inode: u64,
        len: u64,
    },
    Sync {
        inode: u64,
    },
    /// The sync was made to fail: the disk did not get what the page cache goes on to show.
    SyncFailed {
        inode: u64,
    },
    SyncDir,
    CreateDir,
    Rename {
        to: PathBuf,
    },
    RemoveFile,
    RemoveDirAll,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.action {
            Action::Create => write!(f, "create {path}"),
            Action::OpenOrCreate => write!(f, "open or create {path}"),
            Action::Opened { .. } => write!(f, "open {path}"),
            Action::Write { position, bytes, .. } => write!(f, "write {} bytes at {position} of {path}", bytes.len()),
            Action::SetLen { len, .. } => write!(f, "set the length of {path} to {len}"),
            Action::Sync { .. } => write!(f, "sync {path}"),
            Action::SyncFailed { .. } => write!(f, "sync {path}, which fails"),
            Action::SyncDir => write!(f, "sync directory {path}"),
            Action::CreateDir => write!(f, "create directory {path}"),
            Action::Rename { to } => write!(f, "rename {path} to {}", to.display()),
            Action::RemoveFile => write!(f, "remove {path}"),
            Action::RemoveDirAll => write!(f, "remove directory {path}"),
        }
    }
}

/// A trace that is being written: its directory and its calls.
type Open = (PathBuf, Vec<Call>);

static TRACES: Mutex<Vec<Open>> = Mutex::new(Vec::new());

fn traces() -> MutexGuard<'static, Vec<Open>> {
    TRACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls below a directory, from [`Trace::start`] on until it is dropped.
#[derive(Debug)]
pub(super) struct Trace {
    dir: PathBuf,
}

impl Trace {
    pub(super) fn start(dir: &Path) -> Self {
        traces().push((dir.to_owned(), Vec::new()));
        Self { dir: dir.to_owned() }
    }

    /// How many calls were made.
    pub(super) fn len(&self) -> usize {
        traces().iter().find(|(dir, _)| *dir == self.dir).map_or(0, |(_, calls)| calls.len())
    }

    /// Ends the trace.
    pub(super) fn finish(self) -> Vec<Call> {
        let mut traces = traces();
        let open = traces.iter_mut().find(|(dir, _)| *dir == self.dir);
        open.map(|(_, calls)| std::mem::take(calls)).unwrap_or_default()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        traces().retain(|(dir, _)| *dir != self.dir);
    }
}

/// A call that is being made.
pub(crate) struct Recording {
    traces: MutexGuard<'static, Vec<Open>>,
    index: usize,
    path: PathBuf,
}

impl Recording {
    pub(crate) fn opened(&mut self, file: &File) {
        let call = Call { path: self.path.clone(), action: Action::Opened { inode: inode(file) } };
        self.traces[self.index].1.push(call);
    }
}

fn inode(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

/// Writes a call down if its directory has a trace. `fails`: it will not be made.
pub(crate) fn record(change: Change<'_>, fails: bool) -> Option<Recording> {
    let (path, action) = match change {
        Change::Open { path } => (path, None),
        Change::Create { path } => (path, Some(Action::Create)),
        Change::OpenOrCreate { path } => (path, Some(Action::OpenOrCreate)),
        Change::Write { file, path, position, bytes } => {
            (path, Some(Action::Write { inode: inode(file), position, bytes: bytes.into() }))
        }
        Change::SetLen { file, path, len } => (path, Some(Action::SetLen { inode: inode(file), len })),
        Change::Sync { file, path } if fails => (path, Some(Action::SyncFailed { inode: inode(file) })),
        Change::Sync { file, path } => (path, Some(Action::Sync { inode: inode(file) })),
        Change::SyncDir { path } => (path, Some(Action::SyncDir)),
        Change::CreateDir { path } => (path, Some(Action::CreateDir)),
        Change::Rename { from, to } => (from, Some(Action::Rename { to: to.to_owned() })),
        Change::RemoveFile { path } => (path, Some(Action::RemoveFile)),
        Change::RemoveDirAll { path } => (path, Some(Action::RemoveDirAll)),
    };
    let mut traces = traces();
    let index = traces.iter().position(|(dir, _)| path.starts_with(dir))?;
    let relative = |path: &Path| path.strip_prefix(&traces[index].0).unwrap_or(path).to_owned();
    let path = relative(path);
    let action = match action {
        Some(Action::Rename { to }) => Some(Action::Rename { to: relative(&to) }),
        action => action,
    };
    if let Some(action) = action
        && (!fails || matches!(action, Action::SyncFailed { .. }))
    {
        traces[index].1.push(Call { path: path.clone(), action });
    }
    Some(Recording { traces, index, path })
}
