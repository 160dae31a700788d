//! The second half of ingest: commits what was encoded, set after set, while the next one is being encoded. A commit mostly waits for the disk.

use std::{
    panic,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use connector_api::SourcePosition;
use log_core::{CommitSet, EncodedBatch, PartitionId, PipelineLog, Topic};
use tokio::sync::mpsc as async_mpsc;

use crate::{failure::Failure, status::PipelineStatus};

/// So many bytes are synced whenever the last sync was: from there on more of them make no sync cheaper.
const UNSYNCED_BYTES_MAX: u64 = 32 << 20;

/// A group of changes, ready for the log.
pub(crate) struct EncodedGroup {
    pub batches: Vec<(Topic, PartitionId, EncodedBatch)>,
    /// Where the source stands after it.
    pub position: SourcePosition,
}

/// What became of groups.
#[derive(Debug)]
pub(crate) struct Progress {
    /// So many more are in the log.
    written: usize,
    /// Everything that is in the log is durable; the position of the last of it. `None`: they are not yet.
    pub durable: Option<SourcePosition>,
}

/// A thread that commits groups in the order in which it gets them. It ends at the first commit that fails.
pub(crate) struct CommitThread<'scope> {
    groups: mpsc::SyncSender<EncodedGroup>,
    progress: async_mpsc::UnboundedReceiver<Progress>,
    /// Groups that are not told to be written.
    unwritten: usize,
    /// Some that are written are not told to be durable.
    unsynced: bool,
    thread: ScopedJoinHandle<'scope, Result<(), Failure>>,
}

impl<'scope> CommitThread<'scope> {
    /// `interval` is the least time between two syncs.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        log: PipelineLog,
        interval: Duration,
        status: Arc<PipelineStatus>,
    ) -> Result<Self, Failure> {
        // No room: one group is committed, one is encoded, and no third one takes memory.
        let (groups, received) = mpsc::sync_channel(0);
        let (tell, progress) = async_mpsc::unbounded_channel();
        let committer = Committer { log, interval, status, tell, synced_at: None, unsynced: None };
        let thread = thread::Builder::new().name("commit".into()).spawn_scoped(scope, move || committer.run(&received));
        let thread = thread.map_err(|error| Failure::retry(error).context("could not start a thread"))?;
        Ok(Self { groups, progress, unwritten: 0, unsynced: false, thread })
    }

    /// Hands a group over as soon as the one before is written. Whether it was taken: after a failed commit none is, and
    /// [`finish`](Self::finish) says why.
    pub fn commit(&mut self, group: EncodedGroup) -> bool {
        self.unwritten += 1;
        self.groups.send(group).is_ok()
    }

    /// Whether a group is being written: the next one may as well grow.
    pub fn is_busy(&self) -> bool {
        self.unwritten > 0
    }

    /// Whether [`progress`](Self::progress) has something to wait for.
    pub fn is_pending(&self) -> bool {
        self.is_busy() || self.unsynced
    }

    /// Waits for what becomes of groups next; `None` after a failed commit. Cancel-safe.
    pub async fn progress(&mut self) -> Option<Progress> {
        let progress = self.progress.recv().await?;
        self.unwritten -= progress.written;
        self.unsynced = progress.durable.is_none();
        Some(progress)
    }

    /// Waits for the last commit. Returns the last position that became durable and was not told yet, and how it ended.
    pub fn finish(mut self) -> (Option<SourcePosition>, Result<(), Failure>) {
        drop(self.groups);
        let ended = self.thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        let mut last = None;
        while let Ok(progress) = self.progress.try_recv() {
            last = progress.durable.or(last);
        }
        (last, ended)
    }
}

/// What the thread does.
struct Committer {
    log: PipelineLog,
    interval: Duration,
    status: Arc<PipelineStatus>,
    tell: async_mpsc::UnboundedSender<Progress>,
    synced_at: Option<Instant>,
    unsynced: Option<Unsynced>,
}

/// What was written since the last sync.
struct Unsynced {
    /// The last sequence and position.
    sequence: u64,
    position: SourcePosition,
    records: u64,
    bytes: u64,
    /// Of it, groups of which nothing was told.
    untold: usize,
}

impl Committer {
    fn run(mut self, groups: &mpsc::Receiver<EncodedGroup>) -> Result<(), Failure> {
        loop {
            let next = match self.wait_before_sync() {
                Some(Duration::ZERO) => Err(RecvTimeoutError::Timeout),
                Some(wait) => {
                    self.tell_of_written();
                    groups.recv_timeout(wait)
                }
                None => groups.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(group) => self.write(group)?,
                Err(RecvTimeoutError::Timeout) => self.sync()?,
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
        }
    }

    /// How long the next sync waits; `None` if there is nothing to sync.
    fn wait_before_sync(&self) -> Option<Duration> {
        let unsynced = self.unsynced.as_ref()?;
        let since = self.synced_at.map_or(self.interval, |at| at.elapsed());
        Some(if unsynced.bytes >= UNSYNCED_BYTES_MAX { Duration::ZERO } else { self.interval.saturating_sub(since) })
    }

    fn tell_of_written(&mut self) {
        if let Some(Unsynced { untold, .. }) = &mut self.unsynced
            && *untold > 0
        {
            // Nobody listens once ingest has given up.
            let _ = self.tell.send(Progress { written: std::mem::take(untold), durable: None });
        }
    }

    fn write(&mut self, EncodedGroup { batches, position }: EncodedGroup) -> Result<(), Failure> {
        let records: usize = batches.iter().map(|(_, _, batch)| batch.record_count()).sum();
        let bytes: usize = batches.iter().map(|(_, _, batch)| batch.size_bytes()).sum();
        let stored = Bytes::copy_from_slice(position.as_bytes());
        let sequence = self.log.append(CommitSet { batches, position: stored })?;
        let mut unsynced = Unsynced { sequence, position, records: records as u64, bytes: bytes as u64, untold: 1 };
        if let Some(before) = &self.unsynced {
            unsynced.records += before.records;
            unsynced.bytes += before.bytes;
            unsynced.untold += before.untold;
        }
        self.unsynced = Some(unsynced);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let Some(Unsynced { sequence, position, records, bytes, untold }) = self.unsynced.take() else { return Ok(()) };
        self.log.sync()?;
        self.synced_at = Some(Instant::now());
        self.status.committed(sequence, records, bytes);
        let _ = self.tell.send(Progress { written: untold, durable: Some(position) });
        Ok(())
    }
}
