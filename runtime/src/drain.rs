//! Log → sinks: for each topic and sink, hands over what is due and reports what the target made durable.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use connector_api::{
    ByteBudget, Delivery, Filled, FlushPolicy, NextOffsets, Offset, PartitionId, Shutdown, Sink, Target, TopicId, TopicInfo,
};
use log_core::{Listing, Log, Topic};
use tokio::sync::{Semaphore, watch};

use crate::{
    definition::Begin,
    failure::Failure,
    ingest::clock_us,
    read_ahead::ReadAhead,
    registry::LogRegistry,
    status::SinkStatus,
    topic_reader::{Step, TopicReader},
};

/// How much of the log is read and decoded at once, at most.
const READ_BYTES_MAX: usize = 2 << 20;

/// Under `--once`, a file is begun, and gone on with, when this much of the log waits for it.
const EARLY_BYTES: u64 = 8 << 20;

/// What all topics of one sink share.
pub(crate) struct DrainContext {
    pub log: Log,
    /// Where to begin in a topic of which the target holds nothing.
    pub from: Begin,
    /// Name under which offsets are reported to the log: pipeline and sink.
    pub group: String,
    pub target: Arc<dyn Target>,
    pub delivery: Delivery,
    pub policy: FlushPolicy,
    /// How many topics may be opened or written at once.
    pub writers: Arc<Semaphore>,
    pub budget: ByteBudget,
    pub status: Arc<SinkStatus>,
    pub shutdown: Shutdown,
    /// True once the run is to end when everything committed was drained.
    pub finish: watch::Receiver<bool>,
    /// Whether the run ends by itself (`--once`), with everything written whatever its age: then nothing is gained by waiting for a roll.
    pub once: bool,
}

/// A sink that takes whole tables holds what it has taken in memory until it flushes: a part of the budget at most.
pub(crate) fn policy_within(policy: FlushPolicy, delivery: Delivery, budget: &ByteBudget) -> FlushPolicy {
    let held_max = (budget.total_bytes() / 4) as u64;
    match delivery {
        Delivery::WholeTable => FlushPolicy { bytes: policy.bytes.min(held_max), ..policy },
        Delivery::PerPartition => policy,
    }
}

/// Partitions that are written together: all of a topic, or one.
struct Unit {
    reader: ReadAhead,
    /// Bytes of the log that made one byte in the target, in the last flush.
    log_bytes_per_byte: f64,
}

/// Drains one topic until shutdown, or to its end once `finish` is given.
pub(crate) async fn run(topic: &Topic, context: &DrainContext) -> Result<(), Failure> {
    let Some(schema) = latest_schema(&context.log, topic)? else {
        // The topic was made, but its first commit is not there yet: the caller comes again.
        return Ok(());
    };
    let info =
        TopicInfo { id: TopicId(*topic.id().as_bytes()), name: topic.name().to_owned(), partitions: topic.partitions(), schema };
    let reported = context.log.offsets().get(&context.group, topic.id());
    let opened = {
        // A thousand topics that open at once would take hundreds of threads, each with memory of its own, for the rest of the run.
        let _writer = context.writers.acquire().await;
        context.target.open(&info, &reported).await?
    };
    let start = resume_offsets(topic, &opened.next, &reported, context.from)?;
    report(context, topic, &start);
    let registry = LogRegistry(context.log.clone());
    let read_bytes = READ_BYTES_MAX.min(context.budget.total_bytes() / 16);
    let unit = |from: NextOffsets| {
        let reader = TopicReader::new(topic, &registry, &from);
        Unit { reader: ReadAhead::new(reader, read_bytes, context.budget.clone()), log_bytes_per_byte: 1.0 }
    };
    let mut units: Vec<Unit> = match context.delivery {
        Delivery::WholeTable => vec![unit(start)],
        Delivery::PerPartition => start.into_iter().map(|(partition, next)| unit(BTreeMap::from([(partition, next)]))).collect(),
    };
    let mut sink = opened.sink;
    let early = context.once && context.delivery == Delivery::PerPartition && units.len() == 1;
    let mut commits = topic.committed();
    let mut finish = context.finish.clone();
    let mut shutdown = context.shutdown.clone();
    loop {
        commits.borrow_and_update();
        let finishing = *finish.borrow_and_update();
        let mut wait = Duration::MAX;
        for unit in &mut units {
            loop {
                if shutdown.is_requested() {
                    return Ok(());
                }
                let due = due(topic, &unit.reader.done(), context.policy, unit.log_bytes_per_byte)?;
                // One at a time: a permit is left for what is due.
                let begins_early = matches!(due, Due::In(_))
                    && early
                    && !finishing
                    && context.writers.available_permits() > 1
                    && waits(topic, unit)?;
                match due {
                    Due::Never => {
                        unit.reader.discard().await;
                        break;
                    }
                    Due::In(rest) if !finishing && !begins_early => {
                        // Others need the memory before this does.
                        unit.reader.discard().await;
                        wait = wait.min(rest);
                        break;
                    }
                    Due::In(_) | Due::Now => {}
                }
                let _writer = context.writers.acquire().await;
                let more = More { commits: begins_early.then(|| commits.clone()), finish: finish.clone(), finishing };
                write_one(topic, context, sink.as_mut(), unit, more).await?;
            }
        }
        if finishing {
            return Ok(());
        }
        tokio::select! {
            _ = commits.changed() => {}
            _ = finish.changed() => {}
            () = shutdown.requested() => return Ok(()),
            () = sleep(wait) => {}
        }
    }
}

/// Whether enough waits to begin a file with.
fn waits(topic: &Topic, unit: &Unit) -> Result<bool, Failure> {
    Ok(backlog_bytes(topic, &unit.reader.done())? >= EARLY_BYTES)
}

/// Whether more is to come for what is being written.
struct More {
    /// Told of the topic's commits; `None`: what is there is all.
    commits: Option<watch::Receiver<u64>>,
    finish: watch::Receiver<bool>,
    finishing: bool,
}

impl More {
    /// Waits until `enough` has come, or the last of it: a reader that is woken by every commit takes time from the source, which is still at work.
    /// False if there will be none: everything committed was read after the run's end was known.
    async fn comes(&mut self, mut shutdown: Shutdown, enough: impl Fn() -> Result<bool, Failure>) -> Result<bool, Failure> {
        let Some(commits) = self.commits.as_mut().filter(|_| !self.finishing) else { return Ok(false) };
        loop {
            tokio::select! {
                committed = commits.changed() => if committed.is_err() { return Ok(false) },
                _ = self.finish.wait_for(|finish| *finish) => {
                    self.finishing = true;
                    return Ok(true);
                }
                () = shutdown.requested() => return Ok(false),
            }
            if enough()? {
                return Ok(true);
            }
        }
    }
}

async fn sleep(wait: Duration) {
    if wait == Duration::MAX { std::future::pending().await } else { tokio::time::sleep(wait).await }
}

/// The offsets to begin at: the target's, checked against the log.
fn resume_offsets(topic: &Topic, target: &NextOffsets, reported: &NextOffsets, from: Begin) -> Result<NextOffsets, Failure> {
    let mut start = BTreeMap::new();
    for partition in 0..topic.partitions() {
        let first = topic.start_offset(partition);
        // The target may have no row of what it was given, such as a tombstone.
        let has_read = reported.get(&partition).is_some_and(|&reported| reported >= first);
        let beginning = if has_read || from == Begin::LogStart { first } else { 0 };
        let next = target.get(&partition).copied().unwrap_or(beginning);
        check_not_ahead(topic, partition, next)?;
        if next < first {
            return Err(Failure::stop(format!(
                "topic `{}` partition {partition}: the target needs offset {next}, but the log begins at {first}: the records between are \
                 gone. Begin anew: empty the target, write `from: log_start` beside the sink's connector, and `mainstem resnapshot`",
                topic.name()
            )));
        }
        start.insert(partition, next);
    }
    Ok(start)
}

/// A target that holds more than the log belongs to another log.
fn check_not_ahead(topic: &Topic, partition: PartitionId, next: Offset) -> Result<(), Failure> {
    let end = topic.end_offset(partition);
    if next <= end {
        return Ok(());
    }
    Err(Failure::stop(format!(
        "topic `{}` partition {partition}: the target already holds everything up to offset {next}, but the log ends at {end}: it is \
         another or an older log. Restore the data directory that belongs to this target, or begin anew: empty the target and \
         `mainstem resnapshot`",
        topic.name()
    )))
}

enum Due {
    Never,
    In(Duration),
    Now,
}

/// Whether what waits in the log is to be written.
fn due(topic: &Topic, next: &NextOffsets, policy: FlushPolicy, log_bytes_per_byte: f64) -> Result<Due, Failure> {
    let (mut records, mut bytes, mut oldest) = (0, 0, i64::MAX);
    for (&partition, &offset) in next {
        let backlog = topic.backlog(partition, offset)?;
        records += backlog.records;
        bytes += backlog.bytes;
        oldest = oldest.min(backlog.oldest_timestamp_ms.unwrap_or(i64::MAX));
    }
    if records == 0 {
        return Ok(Due::Never);
    }
    if records >= policy.rows || bytes as f64 >= policy.bytes as f64 * log_bytes_per_byte {
        return Ok(Due::Now);
    }
    let age = Duration::from_millis((clock_us() / 1000).saturating_sub(oldest).max(0) as u64);
    Ok(if age >= policy.age { Due::Now } else { Due::In(policy.age - age) })
}

/// Writes until the sink is full or the log is at its end with no more to come, and flushes.
async fn write_one(
    topic: &Topic,
    context: &DrainContext,
    sink: &mut dyn Sink,
    unit: &mut Unit,
    mut more: More,
) -> Result<(), Failure> {
    let began = Instant::now();
    let before = unit.reader.done();
    let backlog_before = backlog_bytes(topic, &before)?;
    let mut filled = Filled::default();
    loop {
        let taken = unit.reader.next().await?;
        let inputs = match taken.step {
            Step::CaughtUp => {
                drop(taken.reservation);
                if more.comes(context.shutdown.clone(), || waits(topic, unit)).await? {
                    continue;
                }
                break;
            }
            Step::SchemaChange => break,
            Step::Inputs(inputs) => inputs,
        };
        for input in inputs {
            filled = unit.reader.busy(sink.write(input)).await?;
        }
        drop(taken.reservation);
        let full = filled.bytes >= context.policy.bytes || filled.rows >= context.policy.rows;
        if full || context.shutdown.is_requested() {
            break;
        }
    }
    let flushed = unit.reader.busy(sink.flush()).await?;
    let expected = unit.reader.done();
    // A partition without rows since the last flush is not in the answer: what was passed over there (tombstones) counts as done.
    let next: NextOffsets =
        expected.iter().map(|(partition, offset)| (*partition, flushed.next.get(partition).copied().unwrap_or(*offset))).collect();
    if next != expected {
        next.iter().try_for_each(|(&partition, &offset)| check_not_ahead(topic, partition, offset))?;
        tracing::info!(topic = topic.name(), "another writer was here before: going on where it ended");
        unit.reader.seek(&next).await;
    }
    report(context, topic, &next);
    if flushed.bytes > 0 {
        let log_bytes = backlog_before.saturating_sub(backlog_bytes(topic, &next)?);
        unit.log_bytes_per_byte = (log_bytes as f64 / flushed.bytes as f64).clamp(0.25, 16.0);
    }
    context.status.flushed(filled.rows, flushed.bytes, began.elapsed());
    Ok(())
}

fn backlog_bytes(topic: &Topic, next: &NextOffsets) -> Result<u64, Failure> {
    let mut bytes = 0;
    for (&partition, &offset) in next {
        bytes += topic.backlog(partition, offset)?.bytes;
    }
    Ok(bytes)
}

fn report(context: &DrainContext, topic: &Topic, next: &NextOffsets) {
    for (&partition, &offset) in next {
        context.log.offsets().report(&context.group, topic.id(), partition, offset);
    }
    context.status.set_next(topic, next);
}

/// The latest schema of a topic's rows; `None` while it has none.
fn latest_schema(log: &Log, topic: &Topic) -> Result<Option<Arc<connector_api::TableSchema>>, Failure> {
    match log.schemas().versions(&formats::value_subject(topic.name()), Listing::Live).last() {
        Some(version) => {
            let unreadable = |error| Failure::stop(format!("the schema of topic `{}` cannot be read: {error}", topic.name()));
            Ok(Some(formats::table_schema(&version.schema.text).map_err(unreadable)?))
        }
        None => Ok(None),
    }
}
