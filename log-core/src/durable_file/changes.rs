//! Every call that changes the disk passes here first, so that the tests of this crate can let it fail
//! ([`super::faults`]) and write it down (`crate::power_loss::trace`). In any other build this is nothing.

use std::fs::File;
use std::path::Path;

pub(super) use self::hook::{Began, begin};
use crate::error::Result;

/// A call that is about to be made.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only the tests of this crate look at the calls"))]
pub(crate) enum Change<'a> {
    /// An existing file gets a handle. Changes nothing, but says which file later calls mean.
    Open {
        path: &'a Path,
    },
    /// The file is there and empty then.
    Create {
        path: &'a Path,
    },
    /// The file is there then.
    OpenOrCreate {
        path: &'a Path,
    },
    Write {
        file: &'a File,
        path: &'a Path,
        position: u64,
        bytes: &'a [u8],
    },
    SetLen {
        file: &'a File,
        path: &'a Path,
        len: u64,
    },
    Sync {
        file: &'a File,
        path: &'a Path,
    },
    SyncDir {
        path: &'a Path,
    },
    CreateDir {
        path: &'a Path,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    RemoveFile {
        path: &'a Path,
    },
    RemoveDirAll {
        path: &'a Path,
    },
}

#[cfg(not(test))]
mod hook {
    use super::*;

    /// A call that is being made.
    pub(crate) struct Began;

    #[inline]
    pub(crate) fn begin(_change: Change<'_>) -> Result<Began> {
        Ok(Began)
    }

    impl Began {
        /// Notes which file the call has opened.
        #[inline]
        pub(crate) fn opened(&mut self, _file: &File) {}
    }
}

#[cfg(test)]
mod hook {
    use super::*;
    use crate::durable_file::faults;
    use crate::power_loss::trace::{self, Recording};

    /// A call that is being made. No other call that is written down is made until this is dropped: so the order of the
    /// calls in a trace is the order in which they were made.
    pub(crate) struct Began(Option<Recording>);

    pub(crate) fn begin(change: Change<'_>) -> Result<Began> {
        let (action, path) = match change {
            Change::Open { path } | Change::OpenOrCreate { path } => ("open", path),
            Change::Create { path } | Change::CreateDir { path } => ("create", path),
            Change::Write { path, .. } => ("write", path),
            Change::SetLen { path, .. } => ("truncate", path),
            Change::Sync { path, .. } | Change::SyncDir { path } => ("sync", path),
            Change::Rename { from, .. } => ("rename", from),
            Change::RemoveFile { path } => ("remove", path),
            Change::RemoveDirAll { path } => ("remove directory", path),
        };
        let fault = faults::fault(action, path);
        let recording = trace::record(change, fault.is_err());
        fault.map(|()| Began(recording))
    }

    impl Began {
        pub(crate) fn opened(&mut self, file: &File) {
            if let Some(recording) = &mut self.0 {
                recording.opened(file);
            }
        }
    }
}
