//! The data directory: who owns it, and which version of the format it has.
//!
//! ```text
//! <data directory>/
//!   log.json                 {"format": "mainstem-log", "format_version": 1}
//!   lock                     locked while a runtime has the log open; holds its process id
//!   journals/<pipeline>/     see `journal`; bytes other than letters, digits, `_`, `-` as %XX
//!   topics/<name>/           see `topic`
//! ```
//!
//! Directories whose names begin with `.deleted-` are being removed.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable_file::{self, DurableFile};
use crate::error::{LogError, Result};

const FORMAT: &str = "mainstem-log";
const FORMAT_VERSION: u32 = 1;
const MARKER_FILE: &str = "log.json";
const LOCK_FILE: &str = "lock";
pub(crate) const TOPICS_DIR: &str = "topics";
pub(crate) const JOURNALS_DIR: &str = "journals";

/// What `log.json` holds.
#[derive(Serialize, Deserialize)]
struct Marker {
    format: String,
    format_version: u32,
}

/// Takes the directory for this process; it is made if there is none. The lock ends with the file handle.
pub(crate) fn take_lock(dir: &Path) -> Result<DurableFile> {
    durable_file::create_dir_all(dir)?;
    let path = dir.join(LOCK_FILE);
    let lock = DurableFile::open_or_create(&path)?;
    if !lock.try_lock()? {
        let holder = durable_file::read_file(&path).unwrap_or_default();
        let pid = String::from_utf8_lossy(&holder).trim().parse().ok();
        return Err(LogError::Locked { dir: dir.to_owned(), pid });
    }
    lock.set_len(0)?;
    lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
    Ok(lock)
}

/// Makes what every log has, or checks what is there.
pub(crate) fn create(dir: &Path) -> Result<()> {
    let marker_path = dir.join(MARKER_FILE);
    if durable_file::exists(&marker_path)? {
        return check(dir);
    }
    durable_file::create_dir(&dir.join(TOPICS_DIR))?;
    durable_file::create_dir(&dir.join(JOURNALS_DIR))?;
    let marker = Marker { format: FORMAT.to_owned(), format_version: FORMAT_VERSION };
    // Serialising plain strings and numbers into memory cannot fail.
    let json = serde_json::to_vec(&marker).unwrap_or_default();
    let new_path = dir.join(format!("{MARKER_FILE}.new"));
    durable_file::write_file(&new_path, &json)?;
    // The marker comes last, so that a directory with the marker has all the rest, durably.
    durable_file::sync_dir(dir)?;
    // The name of a new data directory is in the one above.
    let absolute = dir.canonicalize().map_err(|error| LogError::io("inspect", dir, error))?;
    absolute.parent().map_or(Ok(()), durable_file::sync_dir)?;
    durable_file::rename(&new_path, &marker_path)?;
    durable_file::sync_dir(dir)
}

/// An error unless the directory holds a log of a version known here.
pub(crate) fn check(dir: &Path) -> Result<()> {
    let path = dir.join(MARKER_FILE);
    if !durable_file::exists(&path)? {
        return Err(LogError::NotALog(dir.to_owned()));
    }
    let bytes = durable_file::read_file(&path)?;
    let damaged = |problem: String| LogError::Corrupt {
        path: path.clone(),
        position: 0,
        problem,
        advice: "restore the file from a copy of the data directory",
    };
    let marker: Marker = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if marker.format != FORMAT {
        return Err(damaged(format!("its format is `{}`, expected `{FORMAT}`", marker.format)));
    }
    if marker.format_version > FORMAT_VERSION {
        return Err(LogError::UnsupportedVersion { path, found: marker.format_version, known: FORMAT_VERSION });
    }
    Ok(())
}
