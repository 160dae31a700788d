use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// Asks for a table, or a part of it, to be read while the stream goes on. Its rows arrive as [`Op::Read`](crate::Op::Read) among the
/// changes, each at least as new as all changes of its row before it; nothing is voided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The table, `schema.table` as in `status`.
    pub table: String,
    /// Which of its rows, as the source's database writes it behind `WHERE`; all if `None`.
    pub condition: Option<String>,
}

/// Requests on their way to a running source, which keeps those that it took in its position until they are done. Cheap to clone; all
/// clones share it.
#[derive(Debug, Clone, Default)]
pub struct SnapshotRequests(Arc<Mutex<VecDeque<SnapshotRequest>>>);

impl SnapshotRequests {
    /// Adds a request.
    pub fn push(&self, request: SnapshotRequest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
    }

    /// Whether the source has taken all that was added.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes the oldest request. A source that cannot serve it says so in its status and in the log.
    pub fn take(&self) -> Option<SnapshotRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
