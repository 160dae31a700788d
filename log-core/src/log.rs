//! A log: its topics and its pipelines, in a data directory (see [`crate::data_dir`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use tokio::sync::watch;
use uuid::Uuid;

use crate::compaction::{self, Compacted, Compaction};
use crate::data_dir;
use crate::durable_file::{self, Access, DurableFile};
use crate::error::{LogError, Result};
use crate::group_offsets::{self, GroupOffsets};
use crate::journal;
use crate::journal::entry::TopicEntry;
use crate::names;
use crate::open_files::OpenFiles;
use crate::partition::{LOOKS_MAX, Offset, PartitionId};
use crate::pipeline::{Pipeline, PipelineLog, StoredPosition};
use crate::recovery;
use crate::retention::{self, Removed, Retention};
use crate::schema_store::{self, SchemaStore};
use crate::sync_threads::SyncThreads;
use crate::topic::{self, PARTITIONS_MAX, Topic, TopicInner, TopicMetadata};

const INTERNAL_SEGMENT_BYTES: u64 = 4 << 20;

/// Settings of a log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// A segment is followed by a new one rather than grow beyond this many bytes; a single larger batch still fits one.
    pub segment_bytes: u64,
    /// A journal file is replaced after this many bytes; a recovery reads about as much.
    pub journal_bytes: u64,
    /// Most segment files that are kept open; 0 for half of the process's descriptors.
    pub open_files_max: usize,
    /// Bytes that a pipeline may have in memory and in its journal alone before they go to segment files; 0 sends them at once.
    pub tail_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 128 << 20, journal_bytes: 64 << 20, open_files_max: 0, tail_bytes: 8 << 20 }
    }
}

/// An open log. Cloning it is cheap; the last clone to go closes it.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) core: Arc<Core>,
    closer: Arc<Closer>,
}

/// Closes the log when it is dropped. Apart from [`Core`], which topic handles and a background thread keep alive.
#[derive(Debug)]
struct Closer {
    core: Arc<Core>,
    lock: Mutex<Option<DurableFile>>,
}

#[derive(Debug)]
pub(crate) struct Core {
    dir: PathBuf,
    read_only: bool,
    closed: AtomicBool,
    pub(crate) options: LogOptions,
    pub(crate) files: Arc<OpenFiles>,
    pub(crate) sync_threads: SyncThreads,
    /// Held for writing while a commit becomes visible.
    pub(crate) publication: Arc<RwLock<()>>,
    topics: RwLock<BTreeMap<String, Arc<TopicInner>>>,
    /// Held while topics are made or removed.
    changes: Mutex<()>,
    pub(crate) pipelines: Mutex<HashMap<String, Arc<Pipeline>>>,
    pub(crate) commits: watch::Sender<u64>,
    pub(crate) schemas: schema_store::State,
    pub(crate) offsets: group_offsets::State,
    /// Of a log that was opened for reading only: for its topics, to look again when files were replaced.
    viewer: OnceLock<Weak<Core>>,
    /// Held by a compaction: there is one at a time, so that all of them take no more memory than one.
    pub(crate) compacting: Mutex<()>,
}

impl Log {
    /// Opens the log in `dir`, making it if there is none, and recovers what a crash left behind.
    ///
    /// # Errors
    /// When another process has it open, when committed bytes are missing or damaged, and when a newer build wrote it.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self> {
        let lock = data_dir::take_lock(dir)?;
        data_dir::create(dir)?;
        let core = Arc::new(Core::new(dir, options, false));
        // What is found may have got its name just before a crash; from here on commits rely on it.
        durable_file::sync_dir(&core.topics_dir())?;
        durable_file::sync_dir(&core.journals_dir())?;
        core.recover_pipelines()?;
        core.remove_unfinished()?;
        schema_store::load(&core)?;
        group_offsets::load(&core)?;
        let closer = Closer { core: core.clone(), lock: Mutex::new(Some(lock)) };
        Ok(Self { core, closer: Arc::new(closer) })
    }

    /// Opens the log in `dir` to look at it, beside a runtime that may be writing. Nothing on disk is changed; what is
    /// committed later shows after [`refresh`](Self::refresh).
    pub fn open_read_only(dir: &Path) -> Result<Self> {
        data_dir::check(dir)?;
        let core = Arc::new(Core::new(dir, LogOptions::default(), true));
        let _ = core.viewer.set(Arc::downgrade(&core));
        core.view()?;
        let closer = Closer { core: core.clone(), lock: Mutex::new(None) };
        Ok(Self { core, closer: Arc::new(closer) })
    }

    /// Looks again at topics, committed ends, schemas and offsets, of a log that was opened for reading only. A log that
    /// is open for writing knows them already.
    pub fn refresh(&self) -> Result<()> {
        if self.core.read_only { self.core.view() } else { Ok(()) }
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.core.dir
    }

    /// Makes a topic, durably, which belongs to `pipeline`. One that exists as asked for is returned.
    ///
    /// # Errors
    /// When it exists with another number of partitions or belongs to another pipeline, and for names that cannot be.
    pub fn create_topic(&self, name: &str, partitions: PartitionId, pipeline: &str) -> Result<Topic> {
        names::check_pipeline(pipeline)?;
        self.core.create_topic(name, partitions, pipeline)
    }

    /// As [`create_topic`](Self::create_topic) for many topics, given as name and number of partitions, in about the time of
    /// one. An error can leave some of them made.
    pub fn create_topics(&self, topics: &[(&str, PartitionId)], pipeline: &str) -> Result<Vec<Topic>> {
        names::check_pipeline(pipeline)?;
        self.core.create_topics(topics, pipeline)
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<Topic> {
        self.core.topic(name)
    }

    /// All topics, sorted by name, internal ones (`_…`) included.
    pub fn topics(&self) -> Vec<Topic> {
        let topics = self.core.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().map(|inner| Topic { inner: inner.clone() }).collect()
    }

    /// Removes a topic and all its records. Positions and schemas stay.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.core.check_writable()?;
        let topic = self.core.topic(name).ok_or_else(|| LogError::UnknownTopic(name.to_owned()))?;
        self.core.delete_topics(topic.pipeline(), std::slice::from_ref(&topic.inner))
    }

    /// Removes what a topic need not keep any more, in whole segments. `readers` are the groups whose reports say what is still to be
    /// read; one that never reported needs all. Waits for a checkpoint of the topic's pipeline if there is something to remove.
    pub fn retain(&self, topic: &Topic, retention: &Retention, readers: &[&str]) -> Result<Removed> {
        self.core.check_writable()?;
        retention::apply(&self.core, &topic.inner, retention, readers)
    }

    /// Takes out of a topic what later records of the same key make superfluous; offsets stay as they are. `readers` are the groups that
    /// have to have read a delete before nothing is left of it. See [`Compaction`] for what stays.
    ///
    /// Blocks for long: it reads the topic at the speed that it is given. Commits and readers go on meanwhile. It ends early, with what it
    /// did so far, when `stop` is set; the next call goes on. There is one at a time: a second one waits.
    ///
    /// # Errors
    /// When a segment cannot be read or the disk is full, everything stays as it is; after a failed checkpoint the pipeline has to be
    /// opened again, as after a failed commit.
    pub fn compact(&self, topic: &Topic, compaction: &Compaction, readers: &[&str], stop: &AtomicBool) -> Result<Compacted> {
        self.core.check_writable()?;
        compaction::run(&self.core, &topic.inner, compaction, readers, stop)
    }

    /// As [`compact`](Self::compact) for the schemas of records: every version that is in use stays, and every schema whose id a record
    /// may name.
    pub fn compact_schemas(&self, compaction: &Compaction, stop: &AtomicBool) -> Result<Compacted> {
        self.core.check_writable()?;
        schema_store::compact(&self.core, compaction, stop)
    }

    /// The committed ends of all partitions of a topic at one instant, exclusive: no commit is half in it.
    pub fn committed_ends(&self, topic: &Topic) -> Vec<Offset> {
        topic.end_offsets()
    }

    /// Changes whenever anything was committed to any topic; the value only counts. As [`Topic::committed`], for readers
    /// of many topics.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.core.commits.subscribe()
    }

    /// Opens the commit journal of a pipeline for writing, making it if there is none. After a failed commit this is what
    /// recovers.
    ///
    /// # Errors
    /// When it is open already.
    pub fn pipeline(&self, name: &str) -> Result<PipelineLog> {
        names::check_pipeline(name)?;
        self.core.check_writable()?;
        self.core.pipeline(name).open(&self.core)
    }

    /// The names of all pipelines that ever committed here, sorted.
    pub fn pipelines(&self) -> Vec<String> {
        let pipelines = self.core.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = pipelines.keys().filter(|name| *name != names::SYSTEM_PIPELINE).cloned().collect();
        names.sort_unstable();
        names
    }

    /// The position that a pipeline's last commit stored, without opening it.
    pub fn position(&self, pipeline: &str) -> Option<StoredPosition> {
        let pipelines = self.core.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = pipelines.get(pipeline)?.clone();
        drop(pipelines);
        pipeline.position()
    }

    /// Removes a pipeline: its topics with all their records, its journal and its position.
    pub fn delete_pipeline(&self, name: &str) -> Result<()> {
        names::check_pipeline(name)?;
        self.core.check_writable()?;
        let pipeline = self.core.pipeline(name);
        if pipeline.is_in_use() {
            return Err(LogError::PipelineInUse(name.to_owned()));
        }
        self.core.delete_topics(name, &self.core.topics_of(name))?;
        pipeline.delete()?;
        self.core.pipelines.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    /// The schemas of records.
    pub fn schemas(&self) -> SchemaStore {
        SchemaStore::new(self.core.clone())
    }

    /// How far named readers have come.
    pub fn offsets(&self) -> GroupOffsets {
        GroupOffsets::new(self.core.clone())
    }

    /// Writes down what is only in memory, and leaves nothing for a recovery to do. Further writes fail. The same happens,
    /// with errors unseen, when the last clone is dropped.
    pub fn close(&self) -> Result<()> {
        self.closer.close()
    }
}

impl Closer {
    fn close(&self) -> Result<()> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            return Ok(());
        }
        group_offsets::stop_flusher(&self.core);
        let mut result = group_offsets::flush(&self.core);
        let pipelines: Vec<_> = {
            let pipelines = self.core.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
            pipelines.values().cloned().collect()
        };
        self.core.closed.store(true, Ordering::Release);
        // A compaction sees that soon. It must not write to files that the next owner may be recovering.
        drop(self.core.compacting.lock());
        for pipeline in pipelines {
            result = result.and(pipeline.close(&self.core));
        }
        // The lock goes last, and even after an error: what was not written down is recovered by the next owner.
        *lock = None;
        result
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(error = error.in_full(), "closing the log failed; the next start recovers");
        }
    }
}

impl Core {
    fn new(dir: &Path, options: LogOptions, read_only: bool) -> Self {
        let access = if read_only { Access::Read } else { Access::ReadWrite };
        Self {
            dir: dir.to_owned(),
            read_only,
            closed: AtomicBool::new(false),
            files: Arc::new(OpenFiles::new(options.open_files_max, access)),
            options,
            sync_threads: SyncThreads::default(),
            publication: Arc::default(),
            topics: RwLock::default(),
            changes: Mutex::default(),
            pipelines: Mutex::default(),
            commits: watch::Sender::new(0),
            schemas: schema_store::State::default(),
            offsets: group_offsets::State::default(),
            viewer: OnceLock::new(),
            compacting: Mutex::default(),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(LogError::Closed(self.dir.clone())) } else { Ok(()) }
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(LogError::ReadOnly(self.dir.clone()));
        }
        self.check_open()
    }

    /// The size of segments; the internal topics have small ones, which is what keeps `_offsets` short.
    pub(crate) fn segment_bytes(&self, pipeline: &str) -> u64 {
        let internal = pipeline == names::SYSTEM_PIPELINE;
        if internal { self.options.segment_bytes.min(INTERNAL_SEGMENT_BYTES) } else { self.options.segment_bytes }
    }

    pub(crate) fn topics_dir(&self) -> PathBuf {
        self.dir.join(data_dir::TOPICS_DIR)
    }

    fn journals_dir(&self) -> PathBuf {
        self.dir.join(data_dir::JOURNALS_DIR)
    }

    pub(crate) fn sync_journals_dir(&self) -> Result<()> {
        durable_file::sync_dir(&self.journals_dir())
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Topic> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(name).map(|inner| Topic { inner: inner.clone() })
    }

    /// The topics that a pipeline owns, sorted by name.
    pub(crate) fn topics_of(&self, pipeline: &str) -> Vec<Arc<TopicInner>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().filter(|topic| topic.metadata.pipeline == pipeline).cloned().collect()
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: PartitionId, pipeline: &str) -> Result<Topic> {
        let mut topics = self.create_topics(&[(name, partitions)], pipeline)?;
        topics.pop().ok_or_else(|| LogError::UnknownTopic(name.to_owned()))
    }

    fn create_topics(&self, wanted: &[(&str, PartitionId)], pipeline: &str) -> Result<Vec<Topic>> {
        self.check_writable()?;
        let _change = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new: BTreeMap<&str, TopicMetadata> = BTreeMap::new();
        for &(name, partitions) in wanted {
            names::check_topic(name)?;
            if !(1..=PARTITIONS_MAX).contains(&partitions) {
                return Err(LogError::InvalidPartitionCount { topic: name.to_owned(), partitions });
            }
            match self.topic(name) {
                Some(existing) => existing.inner.metadata.check_same(partitions, pipeline)?,
                None => {
                    let entry = || TopicEntry { id: Uuid::new_v4(), name: name.to_owned(), partitions };
                    let metadata = new.entry(name).or_insert_with(|| TopicMetadata::new(pipeline, entry()));
                    metadata.check_same(partitions, pipeline)?;
                }
            }
        }
        if !new.is_empty() {
            let new = new.values().map(TopicMetadata::entry).collect();
            self.pipeline(pipeline).create_topics(self, new)?;
        }
        let topic = |name: &str| self.topic(name).ok_or_else(|| LogError::UnknownTopic(name.to_owned()));
        wanted.iter().map(|(name, _)| topic(name)).collect()
    }

    /// Takes new topics into memory.
    pub(crate) fn add_topics(&self, pipeline: &str, new: Vec<TopicEntry>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for entry in new {
            let topic = self.new_topic(pipeline, entry);
            topics.insert(topic.metadata.name.clone(), topic);
        }
    }

    fn new_topic(&self, pipeline: &str, entry: TopicEntry) -> Arc<TopicInner> {
        let dir = self.topics_dir().join(&entry.name);
        let viewer = self.viewer.get().cloned().unwrap_or_default();
        Arc::new(TopicInner::new(dir, TopicMetadata::new(pipeline, entry), &self.files, &self.publication, viewer))
    }

    fn delete_topics(&self, pipeline: &str, topics: &[Arc<TopicInner>]) -> Result<()> {
        let _change = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = topics.iter().find(|topic| topic.deleted.load(Ordering::Acquire)) {
            return Err(LogError::UnknownTopic(gone.metadata.name.clone()));
        }
        if !topics.is_empty() {
            self.pipeline(pipeline).delete_topics(self, topics)?;
        }
        topics.iter().for_each(|topic| group_offsets::forget_topic(self, topic.metadata.id));
        Ok(())
    }

    /// Takes deleted topics out of memory and wakes their readers.
    pub(crate) fn forget_topics(&self, ids: &HashSet<Uuid>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, topic| {
            let deleted = ids.contains(&topic.metadata.id);
            if deleted {
                topic.deleted.store(true, Ordering::Release);
                topic.commits.send_modify(|count| *count = count.wrapping_add(1));
            }
            !deleted
        });
    }

    /// The journal of a pipeline, whether it exists on disk or not.
    pub(crate) fn pipeline(&self, name: &str) -> Arc<Pipeline> {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = || self.journals_dir().join(names::escape_pipeline(name));
        pipelines.entry(name.to_owned()).or_insert_with(|| Pipeline::new(name, dir())).clone()
    }

    /// Makes the topics of a pipeline those that its journal names, and returns them. Those that are known already go on.
    ///
    /// # Errors
    /// When another pipeline's journal names one of them too.
    pub(crate) fn set_topics(&self, pipeline: &str, found: &[TopicEntry]) -> Result<Vec<Arc<TopicInner>>> {
        let ids: HashSet<Uuid> = found.iter().map(|entry| entry.id).collect();
        let gone = self.topics_of(pipeline).into_iter().map(|topic| topic.metadata.id).filter(|id| !ids.contains(id));
        self.forget_topics(&gone.collect());
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let mut current = Vec::with_capacity(found.len());
        for entry in found {
            let topic = match topics.get(&entry.name) {
                Some(known) if known.metadata.id == entry.id => known.clone(),
                // What was read of the other pipeline may be older than this.
                Some(other) if self.read_only => {
                    other.deleted.store(true, Ordering::Release);
                    self.new_topic(pipeline, entry.clone())
                }
                Some(other) => {
                    let (topic, owner) = (entry.name.clone(), other.metadata.pipeline.clone());
                    return Err(LogError::TopicOwner { topic, owner, pipeline: pipeline.to_owned() });
                }
                None => self.new_topic(pipeline, entry.clone()),
            };
            topics.insert(entry.name.clone(), topic.clone());
            current.push(topic);
        }
        Ok(current)
    }

    /// The pipelines that have a journal.
    fn pipeline_names(&self) -> Result<HashSet<String>> {
        Ok(journal::pipelines(&self.journals_dir())?.into_iter().collect())
    }

    fn recover_pipelines(&self) -> Result<()> {
        for name in self.pipeline_names()? {
            let pipeline = self.pipeline(&name);
            if let Some(loaded) = journal::load(&pipeline.dir)? {
                let topics = self.set_topics(&name, &loaded.topics()?.live)?;
                pipeline.set_recovered(recovery::recover(
                    &pipeline.dir,
                    &loaded,
                    &topics,
                    &self.topics_dir(),
                    self.options.tail_bytes,
                )?);
            }
        }
        recovery::refuse_orphans(&self.topics_dir(), |name| self.topic(name).is_some())
    }

    /// Removes directories that a crash left half removed.
    fn remove_unfinished(&self) -> Result<()> {
        for dir in [self.topics_dir(), self.journals_dir()] {
            for name in durable_file::list_dir(&dir)? {
                if name.starts_with(topic::REMOVED_PREFIX) {
                    durable_file::remove_dir_all(&dir.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// Looks at everything on disk without changing it.
    fn view(self: &Arc<Self>) -> Result<()> {
        self.look_again()?;
        self.commits.send_modify(|count| *count = count.wrapping_add(1));
        schema_store::load(self)?;
        group_offsets::load(self)
    }

    /// Looks at topics and committed ends without changing anything. A writer may replace the files meanwhile; so it may look again.
    pub(crate) fn look_again(&self) -> Result<()> {
        let mut attempt = 1;
        while let Err(error) = self.try_view() {
            let replaced = matches!(&error, LogError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
            if !replaced || attempt == LOOKS_MAX {
                return Err(error);
            }
            attempt += 1;
        }
        Ok(())
    }

    fn try_view(&self) -> Result<()> {
        let names = self.pipeline_names()?;
        for name in &names {
            let dir = self.journals_dir().join(names::escape_pipeline(name));
            let Some(loaded) = journal::load(&dir)? else { continue };
            let topics = self.set_topics(name, &loaded.topics()?.live)?;
            let image = {
                let _publication = self.publication.write().unwrap_or_else(PoisonError::into_inner);
                recovery::view(&dir, &loaded, &topics)?
            };
            self.pipeline(name).set_position(image.sequence, image.position);
            for topic in topics {
                topic.commits.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
        let all = self.topics.read().unwrap_or_else(PoisonError::into_inner).clone();
        let gone = all.values().filter(|topic| !names.contains(&topic.metadata.pipeline)).map(|topic| topic.metadata.id);
        self.forget_topics(&gone.collect());
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
        Ok(())
    }
}
