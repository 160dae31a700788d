//! The second half of ingest: commits what was encoded, set after set, while the next one is being encoded. A commit mostly waits for the disk.

use std::{
    panic,
    sync::{Arc, mpsc},
    thread::{self, Scope, ScopedJoinHandle},
};

use bytes::Bytes;
use connector_api::SourcePosition;
use log_core::{CommitSet, EncodedBatch, PartitionId, PipelineLog, Topic};
use tokio::sync::mpsc as async_mpsc;

use crate::{failure::Failure, status::PipelineStatus};

/// A group of changes, ready for the log.
pub(crate) struct EncodedGroup {
    pub batches: Vec<(Topic, PartitionId, EncodedBatch)>,
    /// Where the source stands after it.
    pub position: SourcePosition,
}

/// A thread that commits groups in the order in which it gets them. It ends at the first commit that fails.
pub(crate) struct CommitThread<'scope> {
    groups: mpsc::SyncSender<EncodedGroup>,
    durable: async_mpsc::UnboundedReceiver<SourcePosition>,
    /// Groups whose positions were not told yet.
    pending: usize,
    thread: ScopedJoinHandle<'scope, Result<(), Failure>>,
}

impl<'scope> CommitThread<'scope> {
    pub fn start<'env>(scope: &'scope Scope<'scope, 'env>, log: PipelineLog, status: Arc<PipelineStatus>) -> Result<Self, Failure> {
        // No room: one group is committed, one is encoded, and no third one takes memory.
        let (groups, received) = mpsc::sync_channel::<EncodedGroup>(0);
        let (confirm, durable) = async_mpsc::unbounded_channel();
        let thread = thread::Builder::new().name("commit".into()).spawn_scoped(scope, move || {
            for EncodedGroup { batches, position } in received {
                let records: usize = batches.iter().map(|(_, _, batch)| batch.record_count()).sum();
                let bytes: usize = batches.iter().map(|(_, _, batch)| batch.size_bytes()).sum();
                let stored = Bytes::copy_from_slice(position.as_bytes());
                let sequence = log.commit(CommitSet { batches, position: stored })?;
                status.committed(sequence, records as u64, bytes as u64);
                // Nobody listens once ingest has given up.
                let _ = confirm.send(position);
            }
            Ok(())
        });
        let thread = thread.map_err(|error| Failure::retry(error).context("could not start a thread"))?;
        Ok(Self { groups, durable, pending: 0, thread })
    }

    /// Hands a group over as soon as the one before is committed. Whether it was taken: after a failed commit none is, and
    /// [`finish`](Self::finish) says why.
    pub fn commit(&mut self, group: EncodedGroup) -> bool {
        self.pending += 1;
        self.groups.send(group).is_ok()
    }

    /// Whether [`durable`](Self::durable) has something to wait for.
    pub fn is_busy(&self) -> bool {
        self.pending > 0
    }

    /// Waits for the position of the next group that has become durable; `None` after a failed commit. Cancel-safe.
    pub async fn durable(&mut self) -> Option<SourcePosition> {
        let position = self.durable.recv().await;
        self.pending -= usize::from(position.is_some());
        position
    }

    /// Waits for the last commit. Returns the last position that became durable and was not told yet, and how it ended.
    pub fn finish(mut self) -> (Option<SourcePosition>, Result<(), Failure>) {
        drop(self.groups);
        let ended = self.thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        let mut last = None;
        while let Ok(position) = self.durable.try_recv() {
            last = Some(position);
        }
        (last, ended)
    }
}
