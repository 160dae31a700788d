//! How far named readers (sinks) have come, kept in the topic `_offsets`.
//!
//! A target's own state decides where its sink goes on; what is kept here is for lag, status and retention. So a report
//! costs no sync: a thread writes reports down once a second, and closing the log does.
//!
//! A record's key is `{"version":1,"group":…,"topic":<id>,"partition":…}`, its value `{"next_offset":…}`, or none once
//! the group or the topic is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use crate::batch_builder::RecordBatchBuilder;
use crate::clock;
use crate::compression::Compression;
use crate::error::{LogError, Result};
use crate::log::Core;
use crate::names::SYSTEM_PIPELINE;
use crate::partition::{Offset, PartitionId};
use crate::pipeline::{CommitSet, Settle};
use crate::topic::Topic;

const TOPIC: &str = "_offsets";
const VERSION: u8 = 1;
const READ_BYTES: usize = 1 << 20;
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct OffsetKey {
    version: u8,
    group: String,
    topic: Uuid,
    partition: PartitionId,
}

#[derive(Serialize, Deserialize)]
struct OffsetValue {
    next_offset: Offset,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    contents: Mutex<Contents>,
    changed: Condvar,
    /// Held while reports are written down: who asks for that has to wait for what somebody else has begun to write.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Contents {
    /// Where reading the topic goes on.
    next_offset: Offset,
    groups: BTreeMap<String, HashMap<Uuid, BTreeMap<PartitionId, Offset>>>,
    /// What the topic does not hold yet.
    unwritten: BTreeSet<OffsetKey>,
    flusher: Option<JoinHandle<()>>,
    stop: bool,
}

/// How far named readers have come. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct GroupOffsets {
    core: Arc<Core>,
}

impl GroupOffsets {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Notes that `group` needs `next_offset` of a partition next. Returns at once; it is written down within about a
    /// second, and when the log is closed. A log opened for reading only ignores it.
    pub fn report(&self, group: &str, topic_id: Uuid, partition: PartitionId, next_offset: Offset) {
        if self.core.is_read_only() {
            return;
        }
        let mut contents = self.core.offsets.lock();
        if contents.get(group, topic_id, partition) == Some(next_offset) {
            return;
        }
        let key = OffsetKey { version: VERSION, group: group.to_owned(), topic: topic_id, partition };
        contents.put(&key, Some(next_offset));
        contents.unwritten.insert(key);
        self.wake_flusher(contents);
    }

    /// The next offsets that `group` reported for a topic; empty when it never did.
    pub fn get(&self, group: &str, topic_id: Uuid) -> BTreeMap<PartitionId, Offset> {
        self.core.reported(group, topic_id)
    }

    /// The names of all groups that ever reported, sorted.
    pub fn groups(&self) -> Vec<String> {
        self.core.offsets.lock().groups.keys().cloned().collect()
    }

    /// Forgets a group.
    pub fn remove_group(&self, group: &str) {
        if self.core.is_read_only() {
            return;
        }
        let mut contents = self.core.offsets.lock();
        let keys = contents.keys(|found, _| found == group);
        contents.forget(keys);
        self.wake_flusher(contents);
    }

    /// Writes down what was reported, durably.
    pub fn flush(&self) -> Result<()> {
        flush(&self.core)
    }

    fn wake_flusher(&self, mut contents: MutexGuard<'_, Contents>) {
        if contents.flusher.is_none() && !contents.stop {
            let core = self.core.clone();
            let thread = std::thread::Builder::new().name("log-offsets".to_owned());
            match thread.spawn(move || run_flusher(&core)) {
                Ok(flusher) => contents.flusher = Some(flusher),
                Err(error) => warn!(error = %error, "cannot start the thread that writes offsets; closing the log does it"),
            }
        }
        drop(contents);
        self.core.offsets.changed.notify_all();
    }
}

impl Core {
    /// The next offsets that a group reported for a topic.
    pub(crate) fn reported(&self, group: &str, topic_id: Uuid) -> BTreeMap<PartitionId, Offset> {
        let contents = self.offsets.lock();
        contents.groups.get(group).and_then(|topics| topics.get(&topic_id)).cloned().unwrap_or_default()
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn get(&self, group: &str, topic: Uuid, partition: PartitionId) -> Option<Offset> {
        self.groups.get(group)?.get(&topic)?.get(&partition).copied()
    }

    fn put(&mut self, key: &OffsetKey, next_offset: Option<Offset>) {
        match next_offset {
            Some(next_offset) => {
                let topics = self.groups.entry(key.group.clone()).or_default();
                topics.entry(key.topic).or_default().insert(key.partition, next_offset);
            }
            None => self.remove(key),
        }
    }

    fn remove(&mut self, key: &OffsetKey) {
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        if let Some(partitions) = topics.get_mut(&key.topic) {
            partitions.remove(&key.partition);
            if partitions.is_empty() {
                topics.remove(&key.topic);
            }
        }
        if topics.is_empty() {
            self.groups.remove(&key.group);
        }
    }

    fn keys(&self, matches: impl Fn(&str, Uuid) -> bool) -> Vec<OffsetKey> {
        let mut keys = Vec::new();
        for (group, topics) in &self.groups {
            for (topic, partitions) in topics.iter().filter(|(topic, _)| matches(group, **topic)) {
                keys.extend(partitions.keys().map(|partition| OffsetKey {
                    version: VERSION,
                    group: group.clone(),
                    topic: *topic,
                    partition: *partition,
                }));
            }
        }
        keys
    }

    fn forget(&mut self, keys: Vec<OffsetKey>) {
        for key in keys {
            self.remove(&key);
            self.unwritten.insert(key);
        }
    }
}

/// Writes reports down, at most once a second, until the log is closed.
fn run_flusher(core: &Arc<Core>) {
    let mut contents = core.offsets.lock();
    while !contents.stop {
        if contents.unwritten.is_empty() {
            contents = core.offsets.changed.wait(contents).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        drop(contents);
        if let Err(error) = flush(core) {
            warn!(error = error.in_full(), "writing offsets failed; trying again");
        }
        let stopped = |contents: &mut Contents| !contents.stop;
        let waited = core.offsets.changed.wait_timeout_while(core.offsets.lock(), FLUSH_INTERVAL, stopped);
        contents = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Ends the thread; reports after this are written by [`flush`] alone.
pub(crate) fn stop_flusher(core: &Arc<Core>) {
    let flusher = {
        let mut contents = core.offsets.lock();
        contents.stop = true;
        contents.flusher.take()
    };
    core.offsets.changed.notify_all();
    if let Some(flusher) = flusher {
        // It only returns; should it have panicked, what it did not write is still in memory.
        let _ = flusher.join();
    }
}

/// Writes down what was reported, durably.
pub(crate) fn flush(core: &Arc<Core>) -> Result<()> {
    let _writing = core.offsets.writing.lock().unwrap_or_else(PoisonError::into_inner);
    let (records, unwritten) = {
        let mut contents = core.offsets.lock();
        if core.is_read_only() || contents.unwritten.is_empty() {
            return Ok(());
        }
        let unwritten = std::mem::take(&mut contents.unwritten);
        let value = |key: &OffsetKey| contents.get(&key.group, key.topic, key.partition);
        (unwritten.iter().map(|key| (key.clone(), value(key))).collect::<Vec<_>>(), unwritten)
    };
    let written = core.create_topic(TOPIC, 1, SYSTEM_PIPELINE).and_then(|topic| {
        write(core, &topic, &records)?;
        shorten(core, &topic)
    });
    if written.is_err() {
        core.offsets.lock().unwritten.extend(unwritten);
    }
    written
}

fn write(core: &Arc<Core>, topic: &Topic, records: &[(OffsetKey, Option<Offset>)]) -> Result<()> {
    let mut builder = RecordBatchBuilder::new(Compression::None, clock::now_ms());
    for (key, next_offset) in records {
        // Serialising plain strings and numbers into memory cannot fail.
        let key = serde_json::to_vec(key).unwrap_or_default();
        let value = next_offset.map(|next_offset| serde_json::to_vec(&OffsetValue { next_offset }).unwrap_or_default());
        builder.append(Some(&key), value.as_deref(), &[])?;
    }
    let batches = vec![(topic.clone(), 0, builder.finish())];
    let set = CommitSet { batches, position: Bytes::new() };
    core.pipeline(SYSTEM_PIPELINE).commit(core, None, set, Settle::Now).map(|_| ())
}

/// Once the topic has a second segment: writes all offsets anew and removes what came before.
fn shorten(core: &Arc<Core>, topic: &Topic) -> Result<()> {
    let partition = topic.inner.partition(0)?;
    if partition.state().segments.len() < 2 {
        return Ok(());
    }
    let start_offset = partition.end_offset();
    let records: Vec<_> = {
        let contents = core.offsets.lock();
        let keys = contents.keys(|_, _| true).into_iter();
        keys.map(|key| (key.clone(), contents.get(&key.group, key.topic, key.partition))).collect()
    };
    write(core, topic, &records)?;
    core.pipeline(SYSTEM_PIPELINE).trim(core, &[(partition, start_offset)])
}

/// Forgets a topic that was deleted.
pub(crate) fn forget_topic(core: &Core, topic: Uuid) {
    let mut contents = core.offsets.lock();
    let keys = contents.keys(|_, found| found == topic);
    contents.forget(keys);
}

/// Reads a record.
fn decode(key: &[u8], value: Option<&[u8]>) -> serde_json::Result<(OffsetKey, Option<Offset>)> {
    let key = serde_json::from_slice(key)?;
    let value = value.map(serde_json::from_slice::<OffsetValue>).transpose()?;
    Ok((key, value.map(|value| value.next_offset)))
}

/// Reads what was committed to the topic since the last time.
pub(crate) fn load(core: &Arc<Core>) -> Result<()> {
    let mut contents = core.offsets.lock();
    let Some(topic) = core.topic(TOPIC) else { return Ok(()) };
    contents.next_offset = contents.next_offset.max(topic.start_offset(0));
    while contents.next_offset < topic.end_offset(0) {
        for batch in topic.read(0, contents.next_offset, READ_BYTES)? {
            for record in &batch.records()? {
                let record = record?;
                let unreadable = |source| LogError::Internal { topic: TOPIC, offset: record.offset, source };
                let (key, next_offset) = decode(record.key.unwrap_or_default(), record.value).map_err(unreadable)?;
                contents.put(&key, next_offset);
            }
            contents.next_offset = batch.next_offset();
        }
    }
    Ok(())
}

/// What records of the topic come to, for [`crate::fuzzing`]: for each group its offsets. Those that cannot be read are passed over.
#[cfg(feature = "fuzzing")]
pub(crate) fn replay<'a>(
    records: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> BTreeMap<String, HashMap<Uuid, BTreeMap<PartitionId, Offset>>> {
    let mut contents = Contents::default();
    for (key, value) in records {
        if let Ok((key, next_offset)) = decode(key, value) {
            contents.put(&key, next_offset);
            assert_eq!(contents.get(&key.group, key.topic, key.partition), next_offset);
        }
    }
    let keys = contents.keys(|_, _| true);
    assert!(keys.iter().all(|key| contents.get(&key.group, key.topic, key.partition).is_some()));
    contents.groups
}
