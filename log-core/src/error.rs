//! What can go wrong, said so that the reader knows what failed, where, and what to do.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::partition::{Offset, PartitionId};

/// Result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, LogError>;

/// An error of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused a file operation.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was being done, as a verb: `open`, `write`, `sync` …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// Another process (or another [`Log`](crate::Log) of this one) has the directory open for writing.
    #[error("data directory {} is in use by {}; stop that runtime first, or give this one another --data-dir", dir.display(), holder(*pid))]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The process that holds it, where it said so.
        pid: Option<u32>,
    },
    /// There is nothing to open for reading.
    #[error("no log in {}: the directory has no `log.json`", .0.display())]
    NotALog(PathBuf),
    /// A write was asked of a log that was opened with [`Log::open_read_only`](crate::Log::open_read_only).
    #[error("the log in {} was opened for reading only", .0.display())]
    ReadOnly(PathBuf),
    /// The log was closed.
    #[error("the log in {} was closed", .0.display())]
    Closed(PathBuf),
    /// The topic name cannot be a directory name or a Kafka topic name.
    #[error("topic name `{0}` is not valid: 1 to 249 characters of A-Z a-z 0-9 . _ - are, but not `.` and `..`")]
    InvalidTopicName(String),
    /// The pipeline name is empty, too long, or reserved.
    #[error("pipeline name `{0}` is not valid: 1 to 60 bytes, not beginning with `_`")]
    InvalidPipelineName(String),
    /// A topic cannot have this number of partitions.
    #[error("topic `{topic}` cannot have {partitions} partitions: 1 to 10000 are possible")]
    InvalidPartitionCount {
        /// The topic.
        topic: String,
        /// What was asked for.
        partitions: PartitionId,
    },
    /// The topic exists with another number of partitions, which is fixed when a topic is made.
    #[error("topic `{topic}` has {existing} partitions, not {requested}: the number is fixed when a topic is made")]
    PartitionCountDiffers {
        /// The topic.
        topic: String,
        /// The number it was made with.
        existing: PartitionId,
        /// The number asked for now.
        requested: PartitionId,
    },
    /// The topic belongs to another pipeline's journal.
    #[error("topic `{topic}` belongs to pipeline `{owner}`, not to `{pipeline}`")]
    TopicOwner {
        /// The topic.
        topic: String,
        /// The pipeline that made it.
        owner: String,
        /// The pipeline that wanted to write.
        pipeline: String,
    },
    /// There is no such topic, or it was deleted.
    #[error("topic `{0}` does not exist")]
    UnknownTopic(String),
    /// A journal holds records of a topic that it does not name.
    #[error("the journal in {} holds records of topic {topic}, which it does not name; {}", journal.display(), ADVICE_DAMAGE)]
    TopicMissing {
        /// The journal's directory.
        journal: PathBuf,
        /// The topic's id.
        topic: uuid::Uuid,
    },
    /// The topic has fewer partitions.
    #[error("topic `{topic}` has no partition {partition}: it has {partitions}, numbered from 0")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: PartitionId,
    },
    /// The offset is before the first kept record or after the last committed one.
    #[error("offset {offset} of topic `{topic}` partition {partition} is out of range: it holds {start} to {end} (exclusive)")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionId,
        /// The offset asked for.
        offset: Offset,
        /// First offset that is kept.
        start: Offset,
        /// Committed end, exclusive.
        end: Offset,
    },
    /// Committed bytes on disk are not what was written.
    #[error("{} is damaged at byte {position}: {problem}; {advice}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in the file, in bytes from its start.
        position: u64,
        /// What is wrong there.
        problem: String,
        /// What the operator can do.
        advice: &'static str,
    },
    /// A file of a newer version of this crate.
    #[error("{} has format version {found}, this build knows {known}; run the newer build that wrote it", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version it says.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A record batch that is not well-formed, with no file to name.
    #[error("record batch at offset {base_offset} is malformed")]
    Batch {
        /// First offset of the batch.
        base_offset: Offset,
        /// What is wrong.
        #[source]
        source: BatchError,
    },
    /// A record or batch is larger than the format can hold.
    #[error("a record batch of {bytes} bytes is too large: the limit is {limit}")]
    BatchTooLarge {
        /// The size it would have.
        bytes: u64,
        /// The largest possible.
        limit: u64,
    },
    /// The pipeline's journal has a writer already.
    #[error("pipeline `{0}` is already open for writing")]
    PipelineInUse(String),
    /// A write or sync failed before; what reached the disk is not known until the pipeline is opened again.
    #[error("the log of pipeline `{pipeline}` takes no commits since an earlier failure ({cause}); open it again to recover")]
    Poisoned {
        /// The pipeline.
        pipeline: String,
        /// The failure, as text.
        cause: String,
    },
    /// Something stored in an internal topic cannot be understood.
    #[error("record at offset {offset} of internal topic `{topic}` cannot be read")]
    Internal {
        /// `_schemas` or `_offsets`.
        topic: &'static str,
        /// Offset of the record.
        offset: Offset,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A level is set for the subject, and the schema does not keep to it.
    #[error("a schema for subject `{subject}` is refused at compatibility level {level}: {reasons}")]
    SchemaRefused {
        /// The subject.
        subject: String,
        /// The level that counts for it.
        level: String,
        /// What the check said.
        reasons: String,
    },
    /// There is no subject of this name, or it was deleted.
    #[error("there is no subject `{0}`")]
    UnknownSubject(String),
    /// The subject has no such version, or it was deleted.
    #[error("subject `{subject}` has no version {version}")]
    UnknownSchemaVersion {
        /// The subject.
        subject: String,
        /// The version asked for.
        version: u32,
    },
    /// A version cannot go for good while it is in use.
    #[error("version {version} of subject `{subject}` is in use: delete it softly first")]
    SchemaNotDeleted {
        /// The subject.
        subject: String,
        /// The version.
        version: u32,
    },
    /// Another schema refers to the version.
    #[error("version {version} of subject `{subject}` cannot be deleted: version {by_version} of `{by}` refers to it")]
    SchemaInUse {
        /// The subject.
        subject: String,
        /// The version.
        version: u32,
        /// The subject that refers to it.
        by: String,
        /// The version that refers to it.
        by_version: u32,
    },
    /// A schema comes with an id that names another schema here.
    #[error("version {version} of subject `{subject}` has id {id}, which names another schema here (of `{taken_by}`)")]
    SchemaIdTaken {
        /// The id.
        id: u32,
        /// The subject of the schema that came with it.
        subject: String,
        /// The version of that schema.
        version: u32,
        /// A subject that has the id already.
        taken_by: String,
    },
    /// A version comes with another schema than it has here.
    #[error("version {version} of subject `{subject}` is another schema here")]
    SchemaVersionTaken {
        /// The subject.
        subject: String,
        /// The version.
        version: u32,
    },
    /// A record of another registry's `_schemas` cannot be understood.
    #[error("record {index} (from 0) is not one of a schema registry")]
    ForeignSchemaRecord {
        /// Which record of those given, from 0.
        index: usize,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Ids or versions have reached 2³¹−1.
    #[error("no more ids or versions are left for schemas of subject `{0}`: the highest possible number is in use")]
    SchemaNumbersExhausted(String),
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// The error and what is behind it, in one line: the operating system's answer is what tells a full disk from a broken one.
    pub(crate) fn in_full(&self) -> String {
        self.source().map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }

    /// True when the disk or the quota is full: waiting for room and opening the pipeline again helps.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// Why bytes are not a record batch of Kafka's format version 2, or not one that this build can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end too early.
    #[error("it ends after {have} bytes, {need} are needed")]
    Short {
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// Not format version 2.
    #[error("its magic byte is {0}, expected 2")]
    Magic(i8),
    /// A field holds something impossible.
    #[error("its field `{field}` holds {value}")]
    Field {
        /// The field's name in Kafka's protocol guide.
        field: &'static str,
        /// The impossible value.
        value: i64,
    },
    /// The checksum does not fit the bytes.
    #[error("its CRC-32C is {stored:08x}, the bytes have {computed:08x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The chain of offsets is broken: the base offset is outside the batch's own checksum.
    #[error("its base offset is {found}, expected {expected}")]
    BaseOffset {
        /// What the header says.
        found: Offset,
        /// Where the batch before it ended.
        expected: Offset,
    },
    /// The compressed bytes cannot be decompressed.
    #[error("its {0} bytes cannot be decompressed")]
    Decompress(&'static str),
    /// It would decompress to more than the limit.
    #[error("it decompresses to more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A record inside does not follow the format.
    #[error("record {index} is malformed: {problem}")]
    Record {
        /// Which record, from 0.
        index: u32,
        /// What is wrong.
        problem: &'static str,
    },
}

/// What to do when committed bytes are gone or changed and nothing is left to rebuild them from.
pub(crate) const ADVICE_DAMAGE: &str = "committed changes are affected, so nothing was skipped: restore the data directory from a copy, see what `mainstem log repair` can save, or drop the pipeline and take a new snapshot";
