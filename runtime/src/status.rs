//! How pipelines are doing, as `/status`, `/metrics` and the progress bar show it. Written per commit and per flush, never per row.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use connector_api::{NextOffsets, SnapshotProgress, SourceStatus};
use log_core::Topic;
use serde::Serialize;
use tokio::sync::watch;

use crate::ingest::clock_us;

/// Work that waits this long without any progress is called stalled.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// What a part of a pipeline is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Not connected yet.
    Starting,
    /// It moved lately, or there is nothing to do.
    Running,
    /// Reading tables as a whole before it follows the stream.
    Snapshot,
    /// There is work, but nothing has moved for a minute.
    Stalled,
    /// Waiting before it tries again.
    Retrying,
    /// An error that somebody has to look at.
    Stopped,
    /// `--once`: done.
    Done,
}

#[derive(Debug)]
struct Condition {
    state: State,
    error: Option<String>,
    moved: Instant,
}

impl Condition {
    fn new() -> Mutex<Self> {
        Mutex::new(Self { state: State::Starting, error: None, moved: Instant::now() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One pipeline.
pub(crate) struct PipelineStatus {
    pub name: String,
    pub source: SourceStatus,
    ingest: Mutex<Condition>,
    position: Mutex<Vec<(String, String)>>,
    position_asked: Mutex<Option<Instant>>,
    sequence: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    topics: watch::Sender<u64>,
    has_source: bool,
    sinks: Mutex<BTreeMap<String, Arc<SinkStatus>>>,
}

impl PipelineStatus {
    pub fn new(name: &str, has_source: bool, source: SourceStatus) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            source,
            ingest: Condition::new(),
            position: Mutex::default(),
            position_asked: Mutex::default(),
            sequence: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            topics: watch::Sender::new(0),
            has_source,
            sinks: Mutex::default(),
        })
    }

    pub fn add_sink(&self, name: &str) -> Arc<SinkStatus> {
        Arc::clone(lock(&self.sinks).entry(name.to_owned()).or_insert_with(|| SinkStatus::new(name)))
    }

    /// The sequence of the last commit.
    pub fn committed_sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// After a commit: its sequence, and what it added.
    pub fn committed(&self, sequence: u64, records: u64, bytes: u64) {
        self.sequence.store(sequence, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        lock(&self.ingest).moved = Instant::now();
    }

    /// Whether it is time to describe the position again: at most once a second.
    pub fn wants_position(&self) -> bool {
        let mut asked = lock(&self.position_asked);
        let due = asked.is_none_or(|asked| asked.elapsed() >= Duration::from_secs(1));
        if due {
            *asked = Some(Instant::now());
        }
        due
    }

    pub fn set_position(&self, position: Option<Vec<(String, String)>>) {
        if let Some(position) = position {
            *lock(&self.position) = position;
        }
    }

    pub fn topic_added(&self) {
        self.topics.send_modify(|count| *count += 1);
    }

    /// Changes when ingest made a topic.
    pub fn topics(&self) -> watch::Receiver<u64> {
        self.topics.subscribe()
    }

    pub fn ingest_running(&self) {
        self.set_ingest(State::Running, None);
    }

    pub fn set_ingest(&self, state: State, error: Option<String>) {
        *lock(&self.ingest) = Condition { state, error, moved: Instant::now() };
    }

    pub fn report(&self) -> PipelineReport {
        let snapshots = self.source.snapshots();
        let behind = self.source.behind_bytes();
        let ingest = lock(&self.ingest);
        let state = match ingest.state {
            State::Running if snapshots.values().any(|snapshot| !snapshot.done) => State::Snapshot,
            State::Running if behind.is_some_and(|bytes| bytes > 0) && ingest.moved.elapsed() > STALLED_AFTER => State::Stalled,
            state => state,
        };
        PipelineReport {
            name: self.name.clone(),
            state: if self.has_source { state } else { State::Running },
            error: ingest.error.clone(),
            position: lock(&self.position).iter().cloned().collect(),
            committed_sequence: self.sequence.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            source: SourceReport {
                retained_bytes: self.source.retained_bytes(),
                behind_bytes: behind,
                values: self.source.values(),
                snapshot: snapshots,
            },
            sinks: lock(&self.sinks).values().map(|sink| sink.report()).collect(),
        }
    }
}

/// One sink.
pub(crate) struct SinkStatus {
    name: String,
    condition: Mutex<Condition>,
    topics: Mutex<BTreeMap<String, SinkTopic>>,
    rows: AtomicU64,
    bytes: AtomicU64,
    flushes: AtomicU64,
    busy_us: AtomicU64,
    connected: AtomicBool,
}

struct SinkTopic {
    topic: Topic,
    next: NextOffsets,
    trouble: Option<(State, String)>,
}

impl SinkStatus {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            condition: Condition::new(),
            topics: Mutex::default(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
            connected: AtomicBool::new(false),
        })
    }

    pub fn set(&self, state: State, error: Option<String>) {
        self.connected.store(state == State::Running, Ordering::Relaxed);
        *lock(&self.condition) = Condition { state, error, moved: Instant::now() };
    }

    /// Where a topic stands in the target.
    pub fn set_next(&self, topic: &Topic, next: &NextOffsets) {
        let mut topics = lock(&self.topics);
        let entry = topics.entry(topic.name().to_owned()).or_insert_with(|| SinkTopic {
            topic: topic.clone(),
            next: BTreeMap::new(),
            trouble: None,
        });
        entry.next.extend(next);
        entry.trouble = None;
    }

    /// A topic failed: it is tried again, or stopped.
    pub fn topic_trouble(&self, topic: &Topic, state: State, error: String) {
        let mut topics = lock(&self.topics);
        let entry = topics.entry(topic.name().to_owned()).or_insert_with(|| SinkTopic {
            topic: topic.clone(),
            next: BTreeMap::new(),
            trouble: None,
        });
        entry.trouble = Some((state, error));
    }

    pub fn flushed(&self, rows: u64, bytes: u64, took: Duration) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.busy_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
        lock(&self.condition).moved = Instant::now();
    }

    pub fn report(&self) -> SinkReport {
        let topics = lock(&self.topics);
        let (mut lag_records, mut lag_bytes, mut oldest) = (0, 0, i64::MAX);
        for topic in topics.values() {
            for partition in 0..topic.topic.partitions() {
                let next = topic.next.get(&partition).copied().unwrap_or_else(|| topic.topic.start_offset(partition));
                if let Ok(backlog) = topic.topic.backlog(partition, next) {
                    lag_records += backlog.records;
                    lag_bytes += backlog.bytes;
                    oldest = oldest.min(backlog.oldest_timestamp_ms.unwrap_or(i64::MAX));
                }
            }
        }
        let condition = lock(&self.condition);
        let worst = topics.values().filter_map(|topic| topic.trouble.as_ref()).max_by_key(|(state, _)| *state == State::Stopped);
        let (state, error) = match worst {
            Some((state, error)) => (*state, Some(error.clone())),
            None => (condition.state, condition.error.clone()),
        };
        let lag_seconds = if lag_records == 0 { 0.0 } else { ((clock_us() / 1000).saturating_sub(oldest)).max(0) as f64 / 1000.0 };
        SinkReport {
            name: self.name.clone(),
            state,
            error,
            topics: topics.len(),
            lag_records,
            lag_bytes,
            lag_seconds,
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            flushes: self.flushes.load(Ordering::Relaxed),
            busy_seconds: self.busy_us.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

/// What `/status` says of a pipeline.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PipelineReport {
    pub name: String,
    pub state: State,
    pub error: Option<String>,
    pub position: BTreeMap<String, String>,
    pub committed_sequence: u64,
    /// Records committed since the start of the process.
    pub records: u64,
    /// Bytes of record batches committed since the start of the process.
    pub bytes: u64,
    pub source: SourceReport,
    pub sinks: Vec<SinkReport>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct SourceReport {
    pub retained_bytes: Option<u64>,
    pub behind_bytes: Option<u64>,
    pub values: BTreeMap<&'static str, String>,
    pub snapshot: BTreeMap<String, SnapshotProgress>,
}

/// What `/status` says of a sink.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SinkReport {
    pub name: String,
    pub state: State,
    pub error: Option<String>,
    pub topics: usize,
    pub lag_records: u64,
    pub lag_bytes: u64,
    /// Age of the oldest record that the target lacks.
    pub lag_seconds: f64,
    pub rows: u64,
    pub bytes: u64,
    pub flushes: u64,
    pub busy_seconds: f64,
}
