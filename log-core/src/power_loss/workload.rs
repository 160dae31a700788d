//! Uses a log, writing down every call, and what the log has to hold after which call.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::disk::{Disk, next_random};
use super::model::{Contents, Records, Value, batch, find};
use super::trace::{Call, Trace};
use crate::durable_file::faults;
use crate::{CommitSet, Compaction, Log, LogOptions, PartitionId, PipelineLog, Schema};

/// Where the log is: two directories that do not exist at first.
pub(super) const LOG_DIR: &str = "data/log";

/// Topic, partition, number of records, size of each.
pub(super) type Appends = Vec<(&'static str, PartitionId, usize, usize)>;

/// Something that a user of a log does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Open,
    Close,
    /// For a pipeline; with their numbers of partitions.
    CreateTopics(&'static str, Vec<(&'static str, PartitionId)>),
    DeleteTopic(&'static str),
    /// A deletion whose journal entry cannot be synced, and what recovers the log.
    FailedDelete(&'static str),
    DeletePipeline(&'static str),
    Commit(&'static str, Appends),
    /// As a commit, but not synced.
    Append(&'static str, Appends),
    /// Of what was appended.
    Sync(&'static str),
    /// A commit in which the first such action on such a path fails, and what recovers the log.
    FailedCommit(&'static str, Appends, &'static str, &'static str),
    /// A commit whose checkpoint fails at the first sync of such a path, and what recovers the log.
    FailedCheckpoint(&'static str, Appends, &'static str),
    Register(&'static str, &'static str),
    /// Group, topic, partition, offset.
    Report(&'static str, &'static str, PartitionId, i64),
    /// All partitions of a topic.
    Compact(&'static str),
    /// Moves the start of a partition up.
    Trim(&'static str, PartitionId, Keeps),
}

/// What is left of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    LastSegment,
    Nothing,
}

/// A step that was taken.
#[derive(Debug)]
struct Taken {
    name: String,
    /// It was called before the call of this number was made …
    start: usize,
    /// … and had returned before this one.
    end: usize,
    /// What a crash on the way may leave, apart from what there was before.
    outcomes: Vec<Contents>,
    /// What a crash right behind it may leave: more than one thing if something was not synced.
    after: Vec<Contents>,
}

/// What a log had to hold when.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Before the first step.
    initial: Vec<Contents>,
    steps: Vec<Taken>,
}

impl History {
    /// How many steps have returned after `calls` calls, and whether one is under way. `torn`: the next call is, too.
    pub(super) fn stage(&self, calls: usize, torn: bool) -> (usize, bool) {
        let returned = self.steps.iter().take_while(|step| step.end <= calls).count();
        let next = self.steps.get(returned);
        (returned, next.is_some_and(|next| next.start < calls + usize::from(torn)))
    }

    /// What a crash at this stage may leave, and the step that it meets.
    pub(super) fn allowed(&self, (returned, under_way): (usize, bool)) -> (Vec<&Contents>, &str) {
        let mut allowed = match returned.checked_sub(1) {
            Some(last) => self.steps[last].after.iter().collect(),
            None => self.initial.iter().collect::<Vec<_>>(),
        };
        match self.steps.get(returned).filter(|_| under_way) {
            Some(step) => {
                allowed.extend(&step.outcomes);
                (allowed, &step.name)
            }
            None => (allowed, "no step"),
        }
    }
}

/// A log that is used and watched.
pub(super) struct Session {
    root: PathBuf,
    options: LogOptions,
    trace: Trace,
    log: Option<Log>,
    pipelines: HashMap<&'static str, PipelineLog>,
    contents: Contents,
    /// What the log holds, but not durably, after each of the appends that were not synced; all to the pipeline of that name.
    ahead: Vec<Contents>,
    ahead_of: &'static str,
    history: History,
    /// Of the last commit; makes each different.
    number: u64,
}

/// What a session did.
pub(super) struct Recorded {
    pub(super) options: LogOptions,
    pub(super) calls: Vec<Call>,
    pub(super) history: History,
}

impl Session {
    /// In `root`, which is empty.
    pub(super) fn start(root: &Path, options: &LogOptions) -> Self {
        Self::resume(root, options, vec![Contents::default()])
    }

    /// In `root`, where the log holds one of `initial`.
    pub(super) fn resume(root: &Path, options: &LogOptions, initial: Vec<Contents>) -> Self {
        Self {
            root: root.to_owned(),
            options: options.clone(),
            trace: Trace::start(root),
            log: None,
            pipelines: HashMap::new(),
            contents: Contents::default(),
            ahead: Vec::new(),
            ahead_of: "",
            history: History { initial, steps: Vec::new() },
            number: 0,
        }
    }

    pub(super) fn finish(self) -> Recorded {
        let calls = self.trace.finish();
        Recorded { options: self.options, calls, history: self.history }
    }

    /// As [`finish`](Self::finish), and makes sure that the calls are all that changed the directory.
    pub(super) fn finish_complete(self) -> Recorded {
        let Self { root, options, trace, log, pipelines, history, .. } = self;
        // Those of the log itself too: a checkpoint may be going on, or sinks' offsets be written any moment.
        let journals: Vec<_> =
            log.iter().flat_map(|log| log.core.pipelines.lock().unwrap().values().cloned().collect::<Vec<_>>()).collect();
        let at_rest: Vec<_> = journals.iter().map(|pipeline| pipeline.lock_alone()).collect();
        let calls = trace.finish();
        let mut disk = Disk::new();
        calls.iter().for_each(|call| disk.apply(call, None));
        disk.assert_same(&root);
        drop(at_rest);
        drop((pipelines, log));
        Recorded { options, calls, history }
    }

    fn is_open(&self) -> bool {
        self.log.is_some()
    }

    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn log_dir(&self) -> PathBuf {
        self.root.join(LOG_DIR)
    }

    /// Where a file that is to fail is looked for. Another journal is none of it: offsets are written to that of `_system` when their time comes.
    fn faulty_dir(&self, pipeline: &str, path_part: &str) -> PathBuf {
        if path_part == ".journal" { self.log_dir().join("journals").join(pipeline) } else { self.log_dir() }
    }

    pub(super) fn step(&mut self, step: Step) {
        let name = format!("{step:?}");
        self.taken(name, |session| session.take(step));
    }

    /// Opens a log that a crash left; which of what it may hold it holds is for the session to find out.
    pub(super) fn open_after_crash(&mut self) -> Result<(), String> {
        let start = self.trace.len();
        let opened = Log::open(&self.log_dir(), self.options.clone());
        let end = self.trace.len();
        let log = opened.map_err(|error| format!("it cannot be opened: {}", error.in_full()))?;
        self.contents = find(&log, &self.history.initial.iter().collect::<Vec<_>>())?;
        self.log = Some(log);
        let outcomes = self.history.initial.clone();
        self.history.steps.push(Taken { name: "Open".to_owned(), start, end, outcomes, after: vec![self.contents.clone()] });
        Ok(())
    }

    /// Commits one record to each partition of a pipeline.
    pub(super) fn commit_everywhere(&mut self, pipeline: &str, size: usize) -> Result<(), String> {
        let mut result = Ok(());
        self.taken(format!("commit to all of {pipeline}"), |session| {
            let opened = session.log().pipeline(pipeline);
            result = opened.map_err(|error| format!("the journal of {pipeline}: {}", error.in_full())).and_then(|opened| {
                let mut contents = session.contents.clone();
                contents.commit_everywhere(session.log(), &opened, 1_000_000, size)?;
                session.contents = contents;
                Ok(())
            });
            Vec::new()
        });
        result
    }

    /// Takes a step that changes `contents` and returns what a crash in it may leave besides.
    fn taken(&mut self, name: String, take: impl FnOnce(&mut Self) -> Vec<Contents>) {
        let start = self.trace.len();
        let mut outcomes = take(self);
        let end = self.trace.len();
        let after: Vec<_> = [&self.contents].into_iter().chain(&self.ahead).cloned().collect();
        outcomes.extend(after.iter().cloned());
        self.history.steps.push(Taken { name, start, end, outcomes, after });
        // Steps do not overlap with the checkpoint that an earlier one began, so that a seed means nearly the same each time.
        for pipeline in self.pipelines.values() {
            drop(pipeline.pipeline.lock_alone());
        }
    }

    fn take(&mut self, step: Step) -> Vec<Contents> {
        let pipeline = self.pipeline_of(&step);
        if let Step::Append(pipeline, appends) = &step
            && (self.ahead.is_empty() || self.ahead_of == *pipeline)
        {
            self.append(pipeline, appends);
            return Vec::new();
        }
        let ahead = std::mem::take(&mut self.ahead);
        if let Some(last) = ahead.last() {
            // A step of the pipeline itself has to do that by itself; but these look at ends and last segments before it does.
            let needs_it = matches!(step, Step::DeletePipeline(_) | Step::Trim(_, _, Keeps::Nothing) | Step::Compact(_));
            if needs_it || pipeline.is_some_and(|pipeline| pipeline != self.ahead_of) {
                self.pipelines[self.ahead_of].sync().unwrap();
            }
            self.contents = last.clone();
        }
        let may_do_nothing = matches!(step, Step::Trim(..));
        let mut outcomes = self.take_settled(step);
        // One that finds nothing to do does not sync either.
        if may_do_nothing && !ahead.is_empty() {
            self.pipelines[self.ahead_of].sync().unwrap();
        }
        outcomes.extend(ahead);
        outcomes
    }

    /// Which pipeline a step is about; `None` for all.
    fn pipeline_of(&self, step: &Step) -> Option<String> {
        let owner = |topic: &str| self.contents.topics.get(topic).map(|topic| topic.pipeline.clone());
        match step {
            Step::Open | Step::Close => None,
            Step::CreateTopics(pipeline, _)
            | Step::DeletePipeline(pipeline)
            | Step::Commit(pipeline, _)
            | Step::Append(pipeline, _)
            | Step::Sync(pipeline)
            | Step::FailedCommit(pipeline, ..)
            | Step::FailedCheckpoint(pipeline, ..) => Some((*pipeline).to_owned()),
            Step::DeleteTopic(topic) | Step::FailedDelete(topic) | Step::Trim(topic, ..) | Step::Compact(topic) => owner(topic),
            Step::Register(..) | Step::Report(..) => Some("_system".to_owned()),
        }
    }

    fn append(&mut self, pipeline: &'static str, appends: &Appends) {
        self.open_pipeline(pipeline);
        let durable = self.contents.clone();
        self.contents = self.ahead.last().unwrap_or(&durable).clone();
        let (set, appended) = self.plan(pipeline, appends);
        self.contents = durable;
        let sequence = self.pipelines[pipeline].append(set).unwrap();
        assert_eq!(sequence, appended.positions[pipeline].0);
        self.ahead.push(appended);
        self.ahead_of = pipeline;
    }

    fn take_settled(&mut self, step: Step) -> Vec<Contents> {
        match step {
            Step::Append(pipeline, appends) => self.append(pipeline, &appends),
            Step::Sync(pipeline) => {
                self.open_pipeline(pipeline);
                self.pipelines[pipeline].sync().unwrap();
            }
            Step::Open => self.log = Some(Log::open(&self.log_dir(), self.options.clone()).unwrap()),
            Step::Close => {
                self.pipelines.clear();
                self.log.take().unwrap().close().unwrap();
            }
            Step::CreateTopics(pipeline, topics) => {
                self.log().create_topics(&topics, pipeline).unwrap();
                topics.iter().for_each(|(name, partitions)| self.contents.add_topic(name, *partitions, pipeline));
            }
            Step::DeleteTopic(topic) => {
                self.log().delete_topic(topic).unwrap();
                self.contents.remove_topic(topic);
            }
            Step::FailedDelete(topic) => {
                let pipeline = self.contents.topics[topic].pipeline.clone();
                let pipeline = *self.pipelines.keys().find(|name| **name == pipeline).unwrap();
                let mut deleted = self.contents.clone();
                deleted.remove_topic(topic);
                let below = self.faulty_dir(pipeline, ".journal");
                faults::fail(&below, "sync", ".journal", 0);
                self.log().delete_topic(topic).unwrap_err();
                assert!(!faults::clear(&below), "the sync did not fail");
                self.recover_pipeline(pipeline);
                if self.log().topic(topic).is_none() {
                    self.contents = deleted.clone();
                }
                return vec![deleted];
            }
            Step::DeletePipeline(pipeline) => {
                self.pipelines.remove(pipeline);
                self.log().delete_pipeline(pipeline).unwrap();
                return self.remove_pipeline(pipeline);
            }
            Step::Commit(pipeline, appends) => {
                self.open_pipeline(pipeline);
                let (set, committed) = self.plan(pipeline, &appends);
                let sequence = self.pipelines[pipeline].commit(set).unwrap();
                assert_eq!(sequence, committed.positions[pipeline].0);
                self.contents = committed;
            }
            Step::FailedCommit(pipeline, appends, action, path_part) => {
                self.open_pipeline(pipeline);
                let (set, committed) = self.plan(pipeline, &appends);
                let outcomes = vec![committed.clone()];
                let below = self.faulty_dir(pipeline, path_part);
                faults::fail(&below, action, path_part, 0);
                self.pipelines[pipeline].commit(set).unwrap_err();
                assert!(!faults::clear(&below), "{action} {path_part} did not fail");
                self.recover_pipeline(pipeline);
                if self.log().position(pipeline).map(|stored| stored.sequence) == Some(committed.positions[pipeline].0) {
                    self.contents = committed;
                }
                return outcomes;
            }
            Step::FailedCheckpoint(pipeline, appends, path_part) => {
                self.open_pipeline(pipeline);
                let (set, committed) = self.plan(pipeline, &appends);
                let below = self.faulty_dir(pipeline, path_part);
                faults::fail(&below, "sync", path_part, 0);
                self.pipelines[pipeline].commit(set).unwrap();
                self.contents = committed;
                drop(self.pipelines[pipeline].pipeline.lock_alone());
                assert!(!faults::clear(&below), "sync {path_part} did not fail");
                self.recover_pipeline(pipeline);
            }
            Step::Register(subject, text) => {
                let id = self.log().schemas().register(subject, &Schema::avro(text), &|_| Ok(())).unwrap();
                assert_eq!(id, self.contents.add_schema(subject, text));
            }
            Step::Report(group, topic, partition, offset) => {
                let offsets = self.log().offsets();
                offsets.report(group, self.log().topic(topic).unwrap().id(), partition, offset);
                offsets.flush().unwrap();
                let key = (group.to_owned(), topic.to_owned());
                self.contents.offsets.entry(key).or_default().insert(partition, offset);
            }
            Step::Trim(topic, partition, keeps) => self.trim(topic, partition, keeps),
            Step::Compact(topic) => return self.compact(topic),
        }
        Vec::new()
    }

    /// Its topics go first, all at one instant, then its position.
    fn remove_pipeline(&mut self, pipeline: &str) -> Vec<Contents> {
        let topics = self.contents.topics.iter().filter(|(_, topic)| topic.pipeline == pipeline);
        for topic in topics.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.contents.remove_topic(&topic);
        }
        let without_topics = self.contents.clone();
        self.contents.positions.remove(pipeline);
        vec![without_topics]
    }

    fn open_pipeline(&mut self, pipeline: &'static str) {
        if !self.pipelines.contains_key(pipeline) {
            let opened = self.log().pipeline(pipeline).unwrap();
            self.pipelines.insert(pipeline, opened);
        }
    }

    fn recover_pipeline(&mut self, pipeline: &'static str) {
        let opened = self.log().pipeline(pipeline).unwrap();
        self.pipelines.insert(pipeline, opened);
    }

    /// A commit, and what the log holds after it.
    fn plan(&mut self, pipeline: &str, appends: &Appends) -> (CommitSet, Contents) {
        let mut after = self.contents.clone();
        let mut batches = Vec::new();
        for &(topic, partition, records, size) in appends {
            let values: Vec<Value> = (0..records)
                .map(|_| {
                    self.number += 1;
                    Value::new(self.number, size)
                })
                .collect();
            after.add_records(topic, partition, &values);
            batches.push((self.log().topic(topic).unwrap(), partition, batch(&values)));
        }
        let position = format!("position {}", self.number);
        after.set_position(pipeline, position.as_bytes());
        (CommitSet { batches, position: Bytes::from(position) }, after)
    }

    fn trim(&mut self, topic: &str, partition: PartitionId, keeps: Keeps) {
        let handle = self.log().topic(topic).unwrap();
        let inner = handle.inner.partition(partition).unwrap();
        let state = inner.state();
        let Some(last) = state.segments.last() else { return };
        let Some(pipeline) = self.pipelines.get(handle.pipeline()) else { return };
        let start = if keeps == Keeps::Nothing { state.end_offset } else { last.base_offset() };
        pipeline.pipeline.trim(&pipeline.core, &[(inner, start)]).unwrap();
        let records = &mut self.contents.topics.get_mut(topic).unwrap().partitions[partition as usize];
        records.values.retain(|offset, _| *offset >= start);
        records.start = start;
    }

    /// A crash on the way may leave any record that is to go, or not.
    fn compact(&mut self, name: &str) -> Vec<Contents> {
        let topic = self.log().topic(name).unwrap();
        let records = &mut self.contents.topics.get_mut(name).unwrap().partitions;
        for (partition, records) in topic.inner.partitions.iter().zip(records) {
            let state = partition.state();
            state.segments.last().iter().for_each(|last| records.find_superfluous(last.base_offset()));
        }
        let on_the_way = self.contents.clone();
        // Memory for the least number of keys, so that it takes several rounds.
        let compaction = Compaction { memory_bytes: 0, bytes_per_second: None, min_dirty_percent: 0, ..Compaction::default() };
        let compacted = self.log().compact(&topic, &compaction, &[], &AtomicBool::new(false)).unwrap();
        assert!(compacted.finished);
        self.contents.topics.get_mut(name).unwrap().partitions.iter_mut().for_each(Records::remove_superfluous);
        let found = find(self.log(), &[&self.contents]);
        found.unwrap_or_else(|problem| panic!("after a compaction: {problem}"));
        vec![on_the_way]
    }

    /// Something that can be done now.
    pub(super) fn random_step(&self, random: &mut u64) -> Step {
        let mut below = |bound: usize| (next_random(random) % bound as u64) as usize;
        let names = ["a", "b", "c", "d"];
        let pipeline = |topic: &str| if topic == "d" { "q" } else { "p" };
        if !self.is_open() {
            return Step::Open;
        }
        let name = names[below(names.len())];
        let Some(topic) = self.contents.topics.get(name) else {
            let partitions = 1 + below(3) as PartitionId;
            return Step::CreateTopics(pipeline(name), vec![(name, partitions)]);
        };
        let partition = below(topic.partitions.len());
        let records = &topic.partitions[partition];
        let partition = partition as PartitionId;
        let texts = ["one", "two", "three", "four"];
        match below(52) {
            0..=1 => Step::Close,
            2..=3 => Step::DeleteTopic(name),
            4 => Step::DeletePipeline("q"),
            5..=7 => Step::Register(["s", "t"][below(2)], texts[below(texts.len())]),
            8..=11 => Step::Report(["g", "h"][below(2)], name, partition, records.start + below(5) as i64),
            12..=13 if self.pipelines.contains_key(pipeline(name)) => Step::Trim(name, partition, Keeps::LastSegment),
            14..=15 if self.pipelines.contains_key(pipeline(name)) => Step::Trim(name, partition, Keeps::Nothing),
            40..=43 => Step::Compact(name),
            44..=45 => Step::Sync(pipeline(name)),
            roll => {
                let pipeline = pipeline(name);
                let mine = names.into_iter().filter(|name| self.contents.topics.get(*name).is_some_and(|t| t.pipeline == pipeline));
                let mut appends = Vec::new();
                for topic in mine {
                    let partitions = self.contents.topics[topic].partitions.len();
                    for _ in 0..below(3) {
                        let size = [0, 30, 200, 700, 2500][below(5)];
                        appends.push((topic, below(partitions) as PartitionId, 1 + below(3), size));
                    }
                }
                match roll {
                    16..=17 => Step::FailedCommit(pipeline, appends, "sync", ".journal"),
                    18 => Step::FailedCommit(pipeline, appends, "write", ".journal"),
                    46.. => Step::Append(pipeline, appends),
                    _ => Step::Commit(pipeline, appends),
                }
            }
        }
    }
}
