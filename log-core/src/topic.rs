//! A topic: the handle that readers use. That it exists stands in the journal of its pipeline, see [`crate::journal::format`].
//!
//! ```text
//! topics/<name>/<partition>/<base offset>.log    its segments; directories are made with the first one
//! ```

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use tokio::sync::watch;
use uuid::Uuid;

use crate::batch::RecordBatch;
use crate::durable_file;
use crate::error::{LogError, Result};
use crate::journal::entry::TopicEntry;
use crate::log::Core;
use crate::lookup::Backlog;
use crate::open_files::OpenFiles;
use crate::partition::{LOOKS_MAX, Offset, Partition, PartitionId};

/// More would be a mistake in a file rather than a wish. Fewer for fuzz targets, to which time and memory of so many are no finding.
pub(crate) const PARTITIONS_MAX: PartitionId = if cfg!(feature = "fuzzing") { 100 } else { 10_000 };

/// What a topic is.
#[derive(Clone, Debug)]
pub(crate) struct TopicMetadata {
    /// Tells this topic from an earlier one of the same name.
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) partitions: PartitionId,
    /// Whose journal decides what is committed.
    pub(crate) pipeline: String,
}

impl TopicMetadata {
    pub(crate) fn new(pipeline: &str, entry: TopicEntry) -> Self {
        let TopicEntry { id, name, partitions } = entry;
        Self { id, name, partitions, pipeline: pipeline.to_owned() }
    }

    /// As the journal has it.
    pub(crate) fn entry(&self) -> TopicEntry {
        TopicEntry { id: self.id, name: self.name.clone(), partitions: self.partitions }
    }

    /// An error unless the topic is as asked for.
    pub(crate) fn check_same(&self, partitions: PartitionId, pipeline: &str) -> Result<()> {
        let topic = || self.name.clone();
        if self.pipeline != pipeline {
            let (owner, pipeline) = (self.pipeline.clone(), pipeline.to_owned());
            return Err(LogError::TopicOwner { topic: topic(), owner, pipeline });
        }
        if self.partitions != partitions {
            return Err(LogError::PartitionCountDiffers { topic: topic(), existing: self.partitions, requested: partitions });
        }
        Ok(())
    }
}

/// Directories of this prefix are being removed; they are no topics.
pub(crate) const REMOVED_PREFIX: &str = ".deleted-";

/// Removes a topic's or a journal's directory; a crash on the way leaves it either whole or under a hidden name.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    if !durable_file::exists(dir)? {
        return Ok(());
    }
    let hidden = parent.join(format!("{REMOVED_PREFIX}{}", Uuid::new_v4()));
    durable_file::rename(dir, &hidden)?;
    durable_file::sync_dir(parent)?;
    // It is gone already, except for the room that it takes until the next start.
    if let Err(error) = durable_file::remove_dir_all(&hidden) {
        tracing::warn!(error = error.in_full(), "cannot free the room of what was deleted");
    }
    Ok(())
}

/// A topic that can be read. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Topic {
    pub(crate) inner: Arc<TopicInner>,
}

#[derive(Debug)]
pub(crate) struct TopicInner {
    pub(crate) metadata: TopicMetadata,
    pub(crate) dir: PathBuf,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) deleted: AtomicBool,
    pub(crate) commits: watch::Sender<u64>,
    /// Held by a commit while it moves end offsets: see [`Topic::end_offsets`].
    publication: Arc<RwLock<()>>,
    /// Of a log that is read beside the process that writes it.
    viewer: Weak<Core>,
}

impl TopicInner {
    pub(crate) fn new(
        dir: PathBuf,
        metadata: TopicMetadata,
        files: &Arc<OpenFiles>,
        publication: &Arc<RwLock<()>>,
        viewer: Weak<Core>,
    ) -> Self {
        let partitions = (0..metadata.partitions).map(|number| Partition::new(dir.join(number.to_string()), files.clone()));
        Self {
            partitions: partitions.collect(),
            metadata,
            dir,
            deleted: AtomicBool::new(false),
            commits: watch::Sender::new(0),
            publication: publication.clone(),
            viewer,
        }
    }

    pub(crate) fn partition(&self, partition: PartitionId) -> Result<&Partition> {
        let found = usize::try_from(partition).ok().and_then(|index| self.partitions.get(index));
        found.ok_or_else(|| LogError::UnknownPartition {
            topic: self.metadata.name.clone(),
            partition,
            partitions: self.metadata.partitions,
        })
    }
}

impl Topic {
    /// Tells this topic from an earlier or later one of the same name.
    pub fn id(&self) -> Uuid {
        self.inner.metadata.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.metadata.name
    }

    /// The number of partitions, fixed when the topic was made.
    pub fn partitions(&self) -> PartitionId {
        self.inner.metadata.partitions
    }

    /// The pipeline whose journal owns the topic.
    pub fn pipeline(&self) -> &str {
        &self.inner.metadata.pipeline
    }

    /// True once the topic was deleted; reads then fail.
    pub fn is_deleted(&self) -> bool {
        self.inner.deleted.load(Ordering::Acquire)
    }

    /// Offset of the first kept record of a partition; 0 for one that does not exist.
    pub fn start_offset(&self, partition: PartitionId) -> Offset {
        self.inner.partition(partition).map_or(0, Partition::start_offset)
    }

    /// The committed end of a partition, exclusive; 0 for one that does not exist.
    ///
    /// Two calls may lie on both sides of a commit: see [`end_offsets`](Self::end_offsets).
    pub fn end_offset(&self, partition: PartitionId) -> Offset {
        self.inner.partition(partition).map_or(0, Partition::end_offset)
    }

    /// The committed ends of all partitions at one instant: no commit is half in it.
    pub fn end_offsets(&self) -> Vec<Offset> {
        let _no_commit = self.inner.publication.read().unwrap_or_else(PoisonError::into_inner);
        self.inner.partitions.iter().map(Partition::end_offset).collect()
    }

    /// Whole committed batches from the one that holds `from` on: at least one if there is any, then as many as fit
    /// `bytes_max`. Nothing when `from` is the committed end. The first batch may begin before `from`.
    ///
    /// Checksums and the chain of offsets are verified. Blocks on the disk: call it where that is allowed.
    pub fn read(&self, partition: PartitionId, from: Offset, bytes_max: usize) -> Result<Vec<RecordBatch>> {
        self.check_exists()?;
        let inner = self.inner.partition(partition)?;
        self.looking_again(|| {
            let (start, end) = (inner.start_offset(), inner.end_offset());
            if from < start || from > end {
                let topic = self.name().to_owned();
                return Err(LogError::OffsetOutOfRange { topic, partition, offset: from, start, end });
            }
            inner.read(from, bytes_max)
        })
    }

    /// What a reader that needs `from` next has before it.
    pub fn backlog(&self, partition: PartitionId, from: Offset) -> Result<Backlog> {
        self.check_exists()?;
        let inner = self.inner.partition(partition)?;
        self.looking_again(|| inner.backlog(from))
    }

    /// The offset of the first record of a partition that was appended at `timestamp_ms` (milliseconds since 1970) or later; `None` if all are
    /// earlier. Kafka's clients know this as `offsetsForTimes`.
    ///
    /// Times are those of the clock when records were appended. Where it was set back, records behind the found one may be earlier.
    ///
    /// # Errors
    /// A topic or partition that does not exist; damage, or a disk that cannot be read. Blocks on the disk.
    pub fn offset_for_time(&self, partition: PartitionId, timestamp_ms: i64) -> Result<Option<Offset>> {
        self.check_exists()?;
        let inner = self.inner.partition(partition)?;
        self.looking_again(|| inner.offset_for_time(timestamp_ms))
    }

    /// Changes whenever something was committed to this topic, and when it is deleted; the value only counts.
    ///
    /// A reader that takes the receiver, reads to the end, and then waits for `changed()` misses nothing.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.inner.commits.subscribe()
    }

    /// Once more if it fails and another process writes the log: it may have replaced files since the last look.
    pub(crate) fn looking_again<T>(&self, look: impl Fn() -> Result<T>) -> Result<T> {
        let mut result = look();
        for _ in 1..LOOKS_MAX {
            let Err(LogError::Corrupt { .. } | LogError::Io { .. }) = &result else { break };
            let Some(core) = self.inner.viewer.upgrade() else { break };
            if core.look_again().is_err() {
                break;
            }
            result = look();
        }
        result
    }

    fn check_exists(&self) -> Result<()> {
        if self.is_deleted() { Err(LogError::UnknownTopic(self.name().to_owned())) } else { Ok(()) }
    }
}
