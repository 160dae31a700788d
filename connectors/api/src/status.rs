use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

/// How far the snapshot of one table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotProgress {
    /// Rows read so far.
    pub rows: u64,
    /// The server's estimate of the rows in all; 0 if it has none.
    pub rows_estimated: u64,
    /// All rows were handed over.
    pub done: bool,
}

#[derive(Debug, Default, Clone, Serialize)]
struct Inner {
    values: BTreeMap<&'static str, String>,
    snapshot: BTreeMap<String, SnapshotProgress>,
    retained_bytes: Option<u64>,
    behind_bytes: Option<u64>,
}

/// What a source tells about itself while it runs: for `mainstem status`, metrics and the progress bar. Cheap to clone; all clones
/// share it. Sources set it per group, never per row.
#[derive(Debug, Clone, Default)]
pub struct SourceStatus(Arc<Mutex<Inner>>);

impl SourceStatus {
    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets a line of free text, for example `received_lsn` to `16/B374D848`.
    pub fn set(&self, name: &'static str, value: impl Into<String>) {
        self.with(|inner| inner.values.insert(name, value.into()));
    }

    /// Sets how far a table's snapshot is.
    pub fn set_snapshot(&self, table: &str, progress: SnapshotProgress) {
        self.with(|inner| inner.snapshot.insert(table.to_owned(), progress));
    }

    /// Sets how many bytes of its log the source's server keeps because of us.
    pub fn set_retained_bytes(&self, bytes: u64) {
        self.with(|inner| inner.retained_bytes = Some(bytes));
    }

    /// Sets how many bytes of the server's log lie between what was received and its end.
    pub fn set_behind_bytes(&self, bytes: u64) {
        self.with(|inner| inner.behind_bytes = Some(bytes));
    }

    /// All lines of free text.
    pub fn values(&self) -> BTreeMap<&'static str, String> {
        self.with(|inner| inner.values.clone())
    }

    /// All snapshots of this run.
    pub fn snapshots(&self) -> BTreeMap<String, SnapshotProgress> {
        self.with(|inner| inner.snapshot.clone())
    }

    /// See [`set_retained_bytes`](Self::set_retained_bytes).
    pub fn retained_bytes(&self) -> Option<u64> {
        self.with(|inner| inner.retained_bytes)
    }

    /// See [`set_behind_bytes`](Self::set_behind_bytes).
    pub fn behind_bytes(&self) -> Option<u64> {
        self.with(|inner| inner.behind_bytes)
    }
}
