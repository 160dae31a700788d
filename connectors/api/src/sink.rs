use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{ChangeBatch, ConnectorError, Finding, Op, OrderKey, TableSchema};

/// A record's place in its partition. Offsets increase; gaps are normal.
pub type Offset = i64;

/// Which partition of a topic, from 0.
pub type PartitionId = i32;

/// For each partition, the next offset that a target needs: everything below is done.
pub type NextOffsets = BTreeMap<PartitionId, Offset>;

/// The UUID of a topic: a topic made anew under an old name has another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The topic that a sink is opened for.
#[derive(Debug, Clone)]
pub struct TopicInfo {
    /// The topic's UUID.
    pub id: TopicId,
    /// The topic's name, `[A-Za-z0-9._-]{1,249}`.
    pub name: String,
    /// The number of partitions; they are numbered from 0.
    pub partitions: PartitionId,
    /// The latest schema of its rows, with the table's name.
    pub schema: Arc<TableSchema>,
}

/// What the runtime gives a sink to live with.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// The pipeline that the sink drains.
    pub pipeline: String,
    /// The sink's name in the pipeline file.
    pub sink: String,
    /// Tells this run of the runtime from every other: for fencing and for file metadata.
    pub writer: String,
    /// A folder on local disk for temporary files; may be emptied whenever the sink is not open.
    pub scratch: std::path::PathBuf,
}

/// A sink whose settings are known to be good. Touches nothing outside the process before `connect` or `check`.
#[async_trait]
pub trait SinkConnector: Send + Sync {
    /// Connects: the first step that may wait on, or fail because of, the world outside. One target serves all topics of the sink.
    async fn connect(&self, context: SinkContext) -> Result<Arc<dyn Target>, ConnectorError>;

    /// Says what would keep the sink from working, with what to run to mend it. Leaves nothing behind.
    async fn check(&self, context: SinkContext) -> Result<Vec<Finding>, ConnectorError>;

    /// How rows are to be handed over.
    fn delivery(&self) -> Delivery;

    /// When changes that wait in the log are to be written.
    fn policy(&self) -> FlushPolicy;
}

/// How rows of a topic with several partitions are handed to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// One partition after the other, with a flush between them: each partition is a stream of its own. A barrier comes once for each
    /// partition, as rows do.
    PerPartition,
    /// Aligned: at each flush and at each barrier the sink holds, of every partition, exactly the rows up to one order key. Rows
    /// arrive partition by partition, so a sink that needs their order sorts by order key. A barrier comes once, when all partitions
    /// reached it.
    WholeTable,
}

/// When changes that wait in the log are due, and when a sink that is writing is to flush. The first limit that is reached counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushPolicy {
    /// Bytes, as the sink counts them in [`Filled`]. Where changes wait in the log, the log's bytes stand in, scaled by what the
    /// last flush showed.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Age of the oldest change that waits. Zero: changes are due as soon as they are there.
    pub age: Duration,
}

/// What a sink has taken since its last flush.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filled {
    /// Bytes, in the sink's own measure.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
}

/// What a flush made durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flushed {
    /// For each partition, the next offset that the target needs. Partitions without rows since the last flush may be left out.
    pub next: NextOffsets,
    /// Bytes written to the target, in the sink's own measure.
    pub bytes: u64,
}

/// A connected target, which opens a sink for each topic.
#[async_trait]
pub trait Target: Send + Sync {
    /// Opens a sink for one topic and says from where the target needs it. `reported` is what an earlier run reported to the log: a
    /// hint for targets that cannot know by themselves (files get moved and expire); a target that keeps offsets of its own believes
    /// those alone. A target that holds another topic's id, or whose state is gone, is an error that stops, with the choices.
    async fn open(&self, topic: &TopicInfo, reported: &NextOffsets) -> Result<OpenedSink, ConnectorError>;
}

/// A sink and where it wants to begin.
pub struct OpenedSink {
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// For each partition, the next offset that the target needs. A partition that is missing begins at the topic's first record.
    pub next: NextOffsets,
}

impl fmt::Debug for OpenedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedSink").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Rows of one partition, in order, without barriers among them.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The partition.
    pub partition: PartitionId,
    /// The offset from which the range is complete: the previous range's `next_offset`. There may be a gap before the first row.
    pub first_offset: Offset,
    /// The offset after the range, exclusive.
    pub next_offset: Offset,
    /// The offset of each row.
    pub offsets: Vec<Offset>,
    /// The rows: one schema version, ops that are no barriers.
    pub batch: ChangeBatch,
}

/// What happened to the table as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierKind {
    /// All rows are gone.
    Truncate,
    /// All that the topic held so far is void; a new snapshot follows.
    SnapshotRestart,
}

impl BarrierKind {
    /// The op that stands for it in a change batch.
    pub fn op(self) -> Op {
        match self {
            Self::Truncate => Op::Truncate,
            Self::SnapshotRestart => Op::SnapshotRestart,
        }
    }
}

/// A change of the table as a whole, between rows.
#[derive(Debug, Clone)]
pub struct Barrier {
    /// What happened.
    pub kind: BarrierKind,
    /// Its place in the order of changes.
    pub order: OrderKey,
    /// Commit time in the source database, microseconds since 1970 UTC.
    pub commit_ts_us: i64,
    /// The offset after the barrier in each partition that it was met in: one for [`Delivery::PerPartition`], all for
    /// [`Delivery::WholeTable`].
    pub next: NextOffsets,
    /// The barrier as a batch of one row, for sinks that write it down.
    pub batch: ChangeBatch,
}

/// What a sink takes.
#[derive(Debug, Clone)]
pub enum SinkInput {
    /// Rows of one partition.
    Rows(Rows),
    /// A change of the table as a whole.
    Barrier(Barrier),
}

/// Writes one topic to a target.
#[async_trait]
pub trait Sink: Send {
    /// Takes rows or a barrier, perhaps only into memory, and says how much it holds since the last flush. After a crash the same
    /// input comes again, starting at the offsets that `open` or `flush` reported last, cut into other batches: writing it twice must
    /// not change the result. Between two flushes all rows have one schema: the runtime flushes when it changes.
    async fn write(&mut self, input: SinkInput) -> Result<Filled, ConnectorError>;

    /// Makes what was written durable and says from where the target goes on. A flush of nothing is allowed.
    async fn flush(&mut self) -> Result<Flushed, ConnectorError>;
}
