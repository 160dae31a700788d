//! What a log holds, kept beside it in plain maps, and the comparison of the two.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::next_random;
use crate::{
    CommitSet, Compression, EncodedBatch, Listing, Log, LogOptions, Offset, PartitionId, PipelineLog, RecordBatchBuilder, Schema,
    Topic,
};

/// Small reads, so that they begin and end in many places.
const READ_BYTES: usize = 2000;

/// A record's value.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Value(Arc<[u8]>);

impl Value {
    /// Different bytes for each `number`, none of which looks like a block that was never written; but every ninth is all
    /// zeros, for there are such values too.
    pub(super) fn new(number: u64, size: usize) -> Self {
        let mut state = number;
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            let random = if number % 9 == 8 { 0 } else { next_random(&mut state) };
            bytes.extend_from_slice(&random.to_le_bytes());
        }
        bytes.truncate(size);
        Self(bytes.into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.iter().take(4).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        write!(f, "{start}…×{}", self.0.len())
    }
}

/// Keys of values, for compaction.
const KEYS: u8 = 4;

impl Value {
    /// Follows from the value, so that a model need not know it.
    fn key(&self) -> Option<[u8; 1]> {
        self.0.first().map(|first| [first % KEYS])
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) values: BTreeMap<Offset, Value>,
    /// Of these, those that may be missing: a compaction is on its way, or a repair cut them out.
    superfluous: BTreeSet<Offset>,
}

impl Records {
    fn add(&mut self, value: &Value) {
        self.values.insert(self.end, value.clone());
        self.end += 1;
    }

    /// Notes which records a compaction of everything before `end` makes superfluous.
    pub(super) fn find_superfluous(&mut self, end: Offset) {
        let mut later = BTreeSet::new();
        for (offset, value) in self.values.range(..end).rev() {
            if value.key().is_some_and(|key| !later.insert(key)) {
                self.superfluous.insert(*offset);
            }
        }
    }

    /// Notes that any record may be missing: a repair cut it out.
    pub(super) fn may_lack_any(&mut self) {
        self.superfluous = self.values.keys().copied().collect();
    }

    /// Takes them out.
    pub(super) fn remove_superfluous(&mut self) {
        let superfluous = std::mem::take(&mut self.superfluous);
        self.values.retain(|offset, _| !superfluous.contains(offset));
    }

    fn admits(&self, found: &Self) -> bool {
        let expected = |(offset, value): (&Offset, &Value)| self.values.get(offset) == Some(value);
        let there = |offset: &Offset| found.values.contains_key(offset) || self.superfluous.contains(offset);
        (self.start, self.end) == (found.start, found.end) && found.values.iter().all(expected) && self.values.keys().all(there)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicContents {
    pub(super) pipeline: String,
    pub(super) partitions: Vec<Records>,
}

/// All that a log holds, except for the records of internal topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) topics: BTreeMap<String, TopicContents>,
    /// Of each pipeline, sequence and position.
    pub(super) positions: BTreeMap<String, (u64, Vec<u8>)>,
    /// Of each subject, version, id and text.
    pub(super) schemas: BTreeMap<String, Vec<(u32, u32, String)>>,
    /// By group and topic.
    pub(super) offsets: BTreeMap<(String, String), BTreeMap<PartitionId, Offset>>,
}

impl Contents {
    pub(super) fn add_topic(&mut self, name: &str, partitions: PartitionId, pipeline: &str) {
        let partitions = vec![Records::default(); partitions as usize];
        self.topics.insert(name.to_owned(), TopicContents { pipeline: pipeline.to_owned(), partitions });
    }

    pub(super) fn remove_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.offsets.retain(|(_, topic), _| topic != name);
    }

    pub(super) fn add_records(&mut self, topic: &str, partition: PartitionId, values: &[Value]) {
        let records = &mut self.topics.get_mut(topic).unwrap().partitions[partition as usize];
        values.iter().for_each(|value| records.add(value));
    }

    pub(super) fn set_position(&mut self, pipeline: &str, position: &[u8]) {
        let sequence = self.positions.get(pipeline).map_or(0, |(sequence, _)| *sequence) + 1;
        self.positions.insert(pipeline.to_owned(), (sequence, position.to_vec()));
    }

    /// As the schema store does: a text has one id, under whatever subject.
    pub(super) fn add_schema(&mut self, subject: &str, text: &str) -> u32 {
        let known = self.schemas.values().flatten().find(|(_, _, known)| known == text).map(|(_, id, _)| *id);
        let last = self.schemas.values().flatten().map(|(_, id, _)| *id).max().unwrap_or(0);
        let id = known.unwrap_or(last + 1);
        let versions = self.schemas.entry(subject.to_owned()).or_default();
        if versions.iter().all(|(_, _, known)| known != text) {
            versions.push((versions.len() as u32 + 1, id, text.to_owned()));
        }
        id
    }

    /// Reads everything that is in a log. An error for what no log may show, whatever was committed to it.
    pub(super) fn read(log: &Log) -> Result<Self, String> {
        let mut contents = Self::default();
        for topic in log.topics().iter().filter(|topic| !topic.name().starts_with('_')) {
            let partitions = (0..topic.partitions()).map(|partition| read_partition(topic, partition));
            let partitions = partitions.collect::<Result<_, _>>()?;
            contents.topics.insert(topic.name().to_owned(), TopicContents { pipeline: topic.pipeline().to_owned(), partitions });
            for group in log.offsets().groups() {
                let offsets = log.offsets().get(&group, topic.id());
                if !offsets.is_empty() {
                    contents.offsets.insert((group, topic.name().to_owned()), offsets);
                }
            }
        }
        for pipeline in log.pipelines() {
            if let Some(stored) = log.position(&pipeline) {
                contents.positions.insert(pipeline, (stored.sequence, stored.position.to_vec()));
            }
        }
        let mut texts = HashMap::new();
        for subject in log.schemas().subjects(Listing::Live) {
            let versions = log.schemas().versions(&subject, Listing::Live);
            for version in &versions {
                if log.schemas().get(version.id).as_ref() != Some(&version.schema.text) {
                    return Err(format!("the schema of id {} is not that of version {} of {subject}", version.id, version.version));
                }
                if texts.insert(version.id, version.schema.clone()).is_some_and(|other| other != version.schema) {
                    return Err(format!("two schemas have the id {}", version.id));
                }
            }
            let versions = versions.iter().map(|found| (found.version, found.id, found.schema.text.to_string())).collect();
            contents.schemas.insert(subject, versions);
        }
        Ok(contents)
    }

    /// Whether a log may hold what was found where it should hold this.
    fn admits(&self, found: &Self) -> bool {
        let bare = |contents: &Self| {
            let topics = contents.topics.iter().map(|(name, topic)| (name.clone(), topic.pipeline.clone(), topic.partitions.len()));
            let Self { positions, schemas, offsets, .. } = contents;
            (topics.collect::<Vec<_>>(), positions.clone(), schemas.clone(), offsets.clone())
        };
        let partitions =
            |contents: &'_ Self| contents.topics.values().flat_map(|topic| topic.partitions.clone()).collect::<Vec<_>>();
        let same = || partitions(self).iter().zip(&partitions(found)).all(|(records, found)| records.admits(found));
        bare(self) == bare(found) && same()
    }

    /// Commits one record to every partition of a pipeline's topics, here and in the log.
    pub(super) fn commit_everywhere(&mut self, log: &Log, pipeline: &PipelineLog, number: u64, size: usize) -> Result<(), String> {
        let mut batches = Vec::new();
        for (name, topic) in self.topics.iter_mut().filter(|(_, topic)| topic.pipeline == pipeline.name()) {
            let handle = log.topic(name).ok_or("a topic is gone")?;
            for (partition, records) in (0..).zip(&mut topic.partitions) {
                let value = Value::new(number, size);
                batches.push((handle.clone(), partition, batch(std::slice::from_ref(&value))));
                records.add(&value);
            }
        }
        let position = number.to_le_bytes();
        let sequence = pipeline.commit(CommitSet { batches, position: Bytes::copy_from_slice(&position) });
        self.set_position(pipeline.name(), &position);
        let expected = self.positions[pipeline.name()].0;
        match sequence {
            Ok(sequence) if sequence == expected => Ok(()),
            Ok(sequence) => Err(format!("a commit to {} got sequence {sequence}, not {expected}", pipeline.name())),
            Err(error) => Err(format!("a commit to {} failed: {}", pipeline.name(), error.in_full())),
        }
    }
}

fn read_partition(topic: &Topic, partition: PartitionId) -> Result<Records, String> {
    let place = || format!("{} partition {partition}", topic.name());
    let (start, end) = (topic.start_offset(partition), topic.end_offset(partition));
    let mut values = BTreeMap::new();
    let mut next = start;
    while next < end {
        let batches = topic.read(partition, next, READ_BYTES).map_err(|error| format!("{}: {}", place(), error.in_full()))?;
        if batches.is_empty() {
            return Err(format!("{}: nothing is read at {next}, before its end {end}", place()));
        }
        for batch in batches {
            for record in &batch.records().map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                if record.offset < next {
                    continue;
                }
                if record.offset >= batch.next_offset() || values.last_key_value().is_some_and(|(last, _)| *last >= record.offset) {
                    return Err(format!("{}: offset {} is where it should not be", place(), record.offset));
                }
                values.insert(record.offset, Value(record.value.unwrap_or_default().into()));
            }
            if batch.next_offset() <= next {
                return Err(format!("{}: a batch ends at {}, before {next}", place(), batch.next_offset()));
            }
            next = batch.next_offset();
        }
    }
    let backlog = topic.backlog(partition, start).map_err(|error| error.in_full())?;
    if next != end || backlog.records != (end - start) as u64 {
        return Err(format!("{}: read up to {next}, its end is {end}, {} are waiting", place(), backlog.records));
    }
    Ok(Records { start, end, values, superfluous: BTreeSet::new() })
}

pub(super) fn batch(values: &[Value]) -> EncodedBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None, 1_700_000_000_000);
    for value in values {
        builder.append(value.key().as_ref().map(|key| &key[..]), Some(&value.0), &[]).unwrap();
    }
    builder.finish()
}

/// What a check does with a log that it found to hold what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Nothing more.
    Read,
    /// Commits to it, closes it, and opens it once more.
    GoOn,
}

/// Opens the log in `dir` and compares it with what it may hold.
pub(super) fn check(dir: &Path, options: &LogOptions, allowed: &[&Contents], depth: Depth) -> Result<(), String> {
    let log = open(dir, options)?;
    let mut contents = find(&log, allowed)?;
    if depth == Depth::Read {
        return Ok(());
    }
    log.create_topic("after", 1, "after").map_err(|error| format!("a new topic: {}", error.in_full()))?;
    contents.add_topic("after", 1, "after");
    let pipelines: BTreeSet<String> = contents.topics.values().map(|topic| topic.pipeline.clone()).collect();
    for name in pipelines {
        let pipeline = log.pipeline(&name).map_err(|error| format!("the journal of {name}: {}", error.in_full()))?;
        contents.commit_everywhere(&log, &pipeline, 1_000_001, 40)?;
    }
    let id = log
        .schemas()
        .register("after", &Schema::avro("after"), &|_| Ok(()))
        .map_err(|error| format!("a schema: {}", error.in_full()))?;
    let expected = contents.add_schema("after", "after");
    if id != expected {
        return Err(format!("a new schema got id {id}, not {expected}"));
    }
    log.close().map_err(|error| format!("closing: {}", error.in_full()))?;
    drop(log);
    find(&open(dir, options)?, &[&contents]).map_err(|problem| format!("closed and opened once more: {problem}"))?;
    Ok(())
}

fn open(dir: &Path, options: &LogOptions) -> Result<Log, String> {
    Log::open(dir, options.clone()).map_err(|error| format!("it cannot be opened: {}", error.in_full()))
}

/// Which of `allowed` a log holds.
pub(super) fn find(log: &Log, allowed: &[&Contents]) -> Result<Contents, String> {
    let found = Contents::read(log)?;
    if allowed.iter().any(|allowed| allowed.admits(&found)) {
        return Ok(found);
    }
    let mut problem = format!("it holds\n  {found:?}\nwhich is none of");
    for allowed in allowed {
        problem += &format!("\n  {allowed:?}");
    }
    Err(problem)
}
