//! Commits: the one way that anything gets into the log.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;
use tracing::warn;

use crate::batch::EncodedBatch;
use crate::checkpoint::{self, PendingCheckpoint};
use crate::commit::{self, Plan};
use crate::durable_file;
use crate::error::{LogError, Result};
use crate::journal::entry::{Checkpoint, TopicEntry};
use crate::journal::format::{self, CommitPlace};
use crate::journal::{self, JournalFile};
use crate::log::{Core, LogOptions};
use crate::partition::{Offset, Partition, PartitionId};
use crate::recovery::{self, Recovered};
use crate::segment::Segment;
use crate::segment_tail::Tails;
use crate::topic::{Topic, TopicInner};

/// With more segments to sync, closing a log leaves them to its journal: a recovery is quicker.
const CLOSE_SEGMENTS_MAX: usize = 200;
/// So many segments are synced while commits wait.
const SYNCED_AT_ONCE_MAX: usize = 16;

/// What one commit appends, all of it or nothing.
#[derive(Debug, Default)]
pub struct CommitSet {
    /// The batches, any number a partition, in the order that their records shall have there. Topics must belong to the
    /// pipeline.
    pub batches: Vec<(Topic, PartitionId, EncodedBatch)>,
    /// Where the source stands after these changes; it replaces the position of the last commit.
    pub position: Bytes,
}

/// The position of the last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPosition {
    /// Number of the commit: 1 for a pipeline's first, without gaps.
    pub sequence: u64,
    /// What the commit gave.
    pub position: Bytes,
}

/// One pipeline's journal, opened for writing. There is one at a time.
#[derive(Debug)]
pub struct PipelineLog {
    pub(crate) core: Arc<Core>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) epoch: u64,
}

impl PipelineLog {
    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.pipeline.name
    }

    /// The position of the last commit, synced or not; nothing before the first one.
    pub fn position(&self) -> Option<StoredPosition> {
        self.pipeline.position()
    }

    /// From now on a segment is followed by a new one rather than grow beyond this many bytes.
    pub fn set_segment_bytes(&self, bytes: u64) {
        self.pipeline.segment_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The sequence that the next commit will have.
    pub fn next_sequence(&self) -> u64 {
        self.pipeline.lock().sequence + 1
    }

    /// Appends everything in `set` and stores its position: atomic, durable when it returns, and then visible to readers
    /// at one instant. Returns the commit's sequence. A set without batches stores the position alone.
    ///
    /// Blocks on the disk: call it where that is allowed.
    ///
    /// # Errors
    /// A topic or partition that does not fit leaves everything as it was. After a failed write or sync the outcome is
    /// unknown and no commit is taken until the pipeline is opened again: its [`position`](Self::position) then tells
    /// whether this one happened.
    pub fn commit(&self, set: CommitSet) -> Result<u64> {
        self.pipeline.commit(&self.core, Some(self.epoch), set, Settle::Now)
    }

    /// As [`commit`](Self::commit), but neither durable nor visible before the next [`sync`](Self::sync) or commit, which does that for all that
    /// was appended. A crash before that leaves all of it, nothing, or what was appended up to some call. Returns the sequence.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit). What was appended before and not synced is as unknown after one as this.
    pub fn append(&self, set: CommitSet) -> Result<u64> {
        self.pipeline.commit(&self.core, Some(self.epoch), set, Settle::Later)
    }

    /// Makes all that was [appended](Self::append) durable, with one sync for everything, and then visible to readers at one instant.
    ///
    /// # Errors
    /// After a failed sync nothing that was appended since the last one is known to be there, see [`commit`](Self::commit).
    pub fn sync(&self) -> Result<()> {
        self.pipeline.sync(&self.core, self.epoch)
    }
}

/// When a commit becomes durable and visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settle {
    /// Before it is told to have happened.
    Now,
    /// With what comes after it.
    Later,
}

impl Drop for PipelineLog {
    fn drop(&mut self) {
        let mut writer = self.pipeline.lock();
        if writer.epoch == self.epoch {
            writer.in_use = false;
        }
    }
}

/// One pipeline's journal, whether somebody writes to it or not.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    /// 0 until somebody says otherwise: as the log's options have it.
    segment_bytes: AtomicU64,
    writer: Mutex<Writer>,
    /// Woken when a checkpoint has ended that ran beside commits.
    checkpointed: Condvar,
}

/// What has to be synced before a checkpoint can say that it is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Directories with new names in them.
    pub(crate) dirs: Vec<PathBuf>,
}

/// Everything up to `sequence` is in the journal and in the segments; all but `unsettled` is durable in the journal and, except for what is in
/// `dirty`, in the segments.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) journal: Option<JournalFile>,
    pub(crate) sequence: u64,
    pub(crate) position: Option<Bytes>,
    /// The last commits, as far as they were not synced and readers do not see them.
    unsettled: Vec<Plan>,
    /// Bytes of the journal that hold them, its last.
    unsettled_bytes: u64,
    /// Why no commit is taken. Also set while one is being written, so that a panic in between is not forgotten.
    poisoned: Option<String>,
    in_use: bool,
    epoch: u64,
    dirty: Dirty,
    tails: Tails,
    /// The journal's checkpoint says of some segments that their content may wait in another file.
    pub(crate) names_swaps: bool,
    /// Bytes that a recovery would have to read.
    bytes_since_checkpoint: u64,
    /// A checkpoint runs beside commits. There is one at a time.
    checkpointing: bool,
    /// Reused for each entry.
    entry: Vec<u8>,
}

impl Pipeline {
    pub(crate) fn new(name: &str, dir: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            dir,
            segment_bytes: AtomicU64::new(0),
            writer: Mutex::default(),
            checkpointed: Condvar::new(),
        })
    }

    pub(crate) fn segment_bytes(&self, core: &Core) -> u64 {
        match self.segment_bytes.load(Ordering::Relaxed) {
            0 => core.segment_bytes(&self.name),
            bytes => bytes,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`lock`](Self::lock), with no checkpoint going on.
    pub(crate) fn lock_alone(&self) -> MutexGuard<'_, Writer> {
        let ended = self.checkpointed.wait_while(self.lock(), |writer| writer.checkpointing);
        ended.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn position(&self) -> Option<StoredPosition> {
        let writer = self.lock();
        let position = writer.position.clone()?;
        Some(StoredPosition { sequence: writer.sequence, position })
    }

    /// Takes over what recovery found, or what a read-only log saw.
    pub(crate) fn set_position(&self, sequence: u64, position: Option<Bytes>) {
        let mut writer = self.lock();
        writer.sequence = sequence;
        writer.position = position;
    }

    pub(crate) fn set_recovered(&self, recovered: Recovered) {
        self.lock().set_recovered(recovered);
    }

    /// Makes the journal ready for commits: creates it when there is none, recovers it after a failure.
    pub(crate) fn open(self: &Arc<Self>, core: &Arc<Core>) -> Result<PipelineLog> {
        let mut writer = self.lock_alone();
        if writer.in_use && writer.poisoned.is_none() {
            return Err(LogError::PipelineInUse(self.name.clone()));
        }
        self.make_ready(core, &mut writer)?;
        // What a former owner left.
        writer.settle(core)?;
        writer.in_use = true;
        writer.epoch += 1;
        Ok(PipelineLog { core: core.clone(), pipeline: self.clone(), epoch: writer.epoch })
    }

    fn make_ready(&self, core: &Core, writer: &mut Writer) -> Result<()> {
        if let Some(cause) = &writer.poisoned {
            warn!(pipeline = self.name, cause, "recovering the log after a failure");
            match journal::load(&self.dir)? {
                Some(loaded) => {
                    let topics = core.set_topics(&self.name, &loaded.topics()?.live)?;
                    let recovered = {
                        let _publication = core.publication.write().unwrap_or_else(PoisonError::into_inner);
                        let segment_bytes = self.segment_bytes(core);
                        recovery::recover_to_new_files(
                            &self.dir,
                            &loaded,
                            &topics,
                            &core.topics_dir(),
                            &core.options,
                            segment_bytes,
                        )?
                    };
                    writer.set_recovered(recovered);
                    notify(&topics, &core.commits);
                }
                None => writer.journal = None,
            }
            writer.poisoned = None;
        }
        if writer.journal.is_none() {
            durable_file::create_dir(&self.dir)?;
            writer.journal = Some(JournalFile::start(&self.dir, 1, &Checkpoint::default())?);
            core.sync_journals_dir()?;
        }
        Ok(())
    }

    /// Commits for the owner of `epoch`, or for the log itself when that is `None`.
    pub(crate) fn commit(self: &Arc<Self>, core: &Arc<Core>, epoch: Option<u64>, set: CommitSet, settle: Settle) -> Result<u64> {
        let mut writer = self.lock();
        // The log itself may have to recover; and nobody can outrun a checkpoint for ever.
        if epoch.is_none() || writer.is_far_behind(&core.options) {
            drop(writer);
            writer = self.lock_alone();
        }
        core.check_open()?;
        match epoch {
            Some(epoch) => self.check_owner(&writer, epoch)?,
            None => self.make_ready(core, &mut writer)?,
        }
        writer.check_healthy(&self.name)?;
        let CommitSet { mut batches, position } = set;
        let plan = Plan::new(&self.name, &mut batches, self.segment_bytes(core))?;

        let result = writer.guarded(|writer| {
            writer.write_commit(plan, &batches, position, core)?;
            if settle == Settle::Now { writer.settle_unguarded(core) } else { Ok(()) }
        });
        result.inspect_err(|error| self.warn_of_failure("commit", error))?;
        let sequence = writer.sequence;
        if writer.needs_checkpoint(&core.options) && !writer.checkpointing {
            self.start_checkpoint(core, &mut writer)?;
        }
        Ok(sequence)
    }

    /// Makes what the owner of `epoch` appended durable and visible.
    fn sync(&self, core: &Core, epoch: u64) -> Result<()> {
        let mut writer = self.lock();
        core.check_open()?;
        self.check_owner(&writer, epoch)?;
        writer.check_healthy(&self.name)?;
        writer.settle(core).inspect_err(|error| self.warn_of_failure("sync", error))
    }

    fn check_owner(&self, writer: &Writer, epoch: u64) -> Result<()> {
        if epoch == writer.epoch {
            return Ok(());
        }
        let cause = "it was opened again elsewhere".to_owned();
        Err(LogError::Poisoned { pipeline: self.name.clone(), cause })
    }

    fn warn_of_failure(&self, what: &str, error: &LogError) {
        let error = error.in_full();
        warn!(pipeline = self.name, error, "{what} failed; the log takes no more commits until it is opened again");
    }

    /// As [`lock_alone`](Self::lock_alone), for what is not a commit: with all commits durable and visible.
    fn lock_settled(&self, core: &Core) -> Result<MutexGuard<'_, Writer>> {
        let mut writer = self.lock_alone();
        core.check_open()?;
        writer.check_healthy(&self.name)?;
        writer.settle(core)?;
        Ok(writer)
    }

    fn start_checkpoint(self: &Arc<Self>, core: &Arc<Core>, writer: &mut Writer) -> Result<()> {
        writer.settle(core)?;
        let Some(pending) = writer.begin_checkpoint(self, core) else { return Ok(()) };
        let dirty = pending.dirty.clone();
        match checkpoint::spawn(self, core, pending) {
            Ok(()) => writer.checkpointing = true,
            Err(error) => {
                warn!(pipeline = self.name, error = %error, "cannot start the thread for a checkpoint; trying again after the next commit");
                for segment in &dirty.segments {
                    segment.set_dirty(true);
                }
                writer.dirty = dirty;
            }
        }
        Ok(())
    }

    /// Ends a checkpoint that ran beside commits. `written` is the new journal file as far as it was written without the
    /// lock, or nothing if that panicked. A failure stops the next commit; those before are durable all the same.
    pub(crate) fn end_checkpoint(&self, written: Option<Result<PendingCheckpoint>>) {
        let mut writer = self.lock();
        writer.checkpointing = false;
        self.checkpointed.notify_all();
        writer.tails.retain(|_| false);
        if writer.poisoned.is_some() {
            return;
        }
        let Some(written) = written else {
            // What it should have synced is known to nobody any more.
            writer.poisoned = Some("a checkpoint panicked".to_owned());
            return;
        };
        if let Err(error) = writer.guarded(|writer| written?.finish(writer)) {
            self.warn_of_failure("checkpoint", &error);
        }
    }

    /// Leaves nothing for a recovery to do, if that is quick. A poisoned journal is left to it.
    pub(crate) fn close(&self, core: &Core) -> Result<()> {
        let mut writer = self.lock_alone();
        if writer.poisoned.is_some() {
            return Ok(());
        }
        writer.settle(core)?;
        let many = writer.dirty.segments.len() > CLOSE_SEGMENTS_MAX;
        if writer.bytes_since_checkpoint == 0 || many {
            // Whoever reads the files finds all of it.
            return writer.guarded(|writer| writer.tails.flush(&core.files));
        }
        writer.guarded(|writer| writer.checkpoint(self, core))
    }

    /// Makes new topics, durably, with one sync for all.
    pub(crate) fn create_topics(&self, core: &Core, topics: Vec<TopicEntry>) -> Result<()> {
        let mut writer = self.lock();
        if writer.poisoned.is_some() {
            drop(writer);
            writer = self.lock_alone();
        }
        // An owner has to open it again after a failure, to learn what became of its last commit.
        if writer.poisoned.is_none() || !writer.in_use {
            self.make_ready(core, &mut writer)?;
        }
        writer.check_healthy(&self.name)?;
        writer.settle(core)?;
        writer.guarded(|writer| {
            let sequence = writer.sequence;
            let Some(journal) = &mut writer.journal else { return Ok(()) };
            format::encode_topics_created(&mut writer.entry, journal.salt, sequence, topics.iter());
            journal.append(&writer.entry)
        })?;
        // Before the next checkpoint can begin, which has to name them.
        core.add_topics(&self.name, topics);
        Ok(())
    }

    /// Writes down that topics are deleted, then removes them.
    pub(crate) fn delete_topics(&self, core: &Core, topics: &[Arc<TopicInner>]) -> Result<()> {
        let mut writer = self.lock_settled(core)?;
        let removed = |path: &Path| topics.iter().any(|topic| path.starts_with(&topic.dir));
        writer.dirty.segments.retain(|segment| !removed(&segment.path()));
        writer.tails.retain(|segment| removed(&segment.path()));
        writer.dirty.dirs.retain(|dir| !removed(dir));
        writer.guarded(|writer| {
            let sequence = writer.sequence;
            if let Some(journal) = &mut writer.journal {
                // One entry: of several, a crash could leave any.
                let ids = topics.iter().map(|topic| topic.metadata.id);
                format::encode_topics_deleted(&mut writer.entry, journal.salt, sequence, ids);
                journal.append(&writer.entry)?;
            }
            topics.iter().try_for_each(|topic| crate::topic::remove_dir(&topic.dir))?;
            core.forget_topics(&topics.iter().map(|topic| topic.metadata.id).collect());
            // A recovery that reads the entries removes the directories of that name, and there may be another topic of it soon.
            writer.checkpoint(self, core)
        })
    }

    /// Moves the starts of partitions up to offsets, and removes segments that end there or before.
    pub(crate) fn trim(&self, core: &Core, cuts: &[(&Partition, Offset)]) -> Result<()> {
        let mut writer = self.lock_settled(core)?;
        let removed: Vec<_> = cuts.iter().flat_map(|(partition, start_offset)| partition.trim(*start_offset)).collect();
        if removed.is_empty() {
            return Ok(());
        }
        writer.dirty.segments.retain(|segment| !removed.iter().any(|removed| Arc::ptr_eq(removed, segment)));
        writer.tails.retain(|segment| removed.iter().any(|removed| std::ptr::eq(removed.as_ref(), segment)));
        writer.guarded(|writer| {
            // The checkpoint first: it no longer names the files, so a crash in between leaves them to recovery.
            writer.checkpoint(self, core)?;
            removed.iter().try_for_each(|segment| durable_file::remove_file(&segment.path()))
        })
    }

    /// Puts segments whose content waits under other names, durably, in the place of others. The checkpoint that says so is what makes
    /// it happen; until then a crash leaves the old ones. `false`, and nothing done, when the old ones are not there any more.
    pub(crate) fn replace(
        self: &Arc<Self>,
        core: &Arc<Core>,
        partition: &Partition,
        old: &[Arc<Segment>],
        new: &[Arc<Segment>],
    ) -> Result<bool> {
        let mut writer = self.lock_settled(core)?;
        if writer.dirty.segments.len() > SYNCED_AT_ONCE_MAX {
            // Commits go on while most of it is synced; what they have to wait for below is little then.
            self.start_checkpoint(core, &mut writer)?;
            drop(writer);
            writer = self.lock_settled(core)?;
        }
        if !partition.replace(old, new) {
            return Ok(false);
        }
        writer.dirty.segments.retain(|segment| !old.iter().any(|old| Arc::ptr_eq(old, segment)));
        // What they have in memory is in the new ones, and their names are those of the new ones soon.
        writer.tails.retain(|segment| old.iter().any(|old| std::ptr::eq(old.as_ref(), segment)));
        writer.guarded(|writer| {
            writer.checkpoint(self, core)?;
            for segment in new {
                durable_file::rename(&segment.waiting_path(), &segment.path())?;
            }
            // From here on a checkpoint may say that the contents have their names.
            durable_file::sync_dir(&partition.dir)?;
            new.iter().for_each(|segment| segment.set_renamed());
            let mut merged = old.iter().filter(|old| new.iter().all(|new| new.base_offset() != old.base_offset()));
            merged.try_for_each(|segment| durable_file::remove_file(&segment.path()))
        })?;
        Ok(true)
    }

    /// Lets the journal stop saying of any segment that its content may wait under another name: before files of these names
    /// are written, of which a crash could leave the half.
    pub(crate) fn forget_swaps(&self, core: &Core) -> Result<()> {
        let mut writer = self.lock_settled(core)?;
        if writer.names_swaps { writer.guarded(|writer| writer.checkpoint(self, core)) } else { Ok(()) }
    }

    /// Removes the journal; its topics are gone already.
    pub(crate) fn delete(&self) -> Result<()> {
        let mut writer = self.lock_alone();
        if writer.in_use && writer.poisoned.is_none() {
            return Err(LogError::PipelineInUse(self.name.clone()));
        }
        *writer = Writer { epoch: writer.epoch + 1, ..Writer::default() };
        if durable_file::exists(&self.dir)? { crate::topic::remove_dir(&self.dir) } else { Ok(()) }
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.lock().in_use
    }
}

impl Writer {
    fn set_recovered(&mut self, recovered: Recovered) {
        self.journal = Some(recovered.journal);
        self.sequence = recovered.sequence;
        self.position = recovered.position;
        self.dirty = recovered.dirty;
        self.names_swaps = false;
        self.tails = recovered.tails;
        self.unsettled.clear();
        self.unsettled_bytes = 0;
        self.bytes_since_checkpoint = recovered.bytes_since_checkpoint;
    }

    fn check_healthy(&self, pipeline: &str) -> Result<()> {
        match &self.poisoned {
            Some(cause) => Err(LogError::Poisoned { pipeline: pipeline.to_owned(), cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Runs `action`, which writes; should it fail, nothing more is written.
    fn guarded(&mut self, action: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.poisoned = Some("a write was interrupted".to_owned());
        let result = action(self);
        self.poisoned = result.as_ref().err().map(LogError::in_full);
        result
    }

    /// Steps 1 and 2 of a commit, see [`crate::journal`].
    fn write_commit(
        &mut self,
        plan: Plan,
        batches: &[(Topic, PartitionId, EncodedBatch)],
        position: Bytes,
        core: &Core,
    ) -> Result<()> {
        commit::write_referenced(&plan, batches, &core.files)?;

        let Some(journal) = &mut self.journal else { return Ok(()) };
        let place = CommitPlace { salt: journal.salt, sequence: self.sequence + 1, unsynced_before: self.unsettled_bytes };
        let inline_at = commit::encode(&mut self.entry, place, &plan, batches, &position);
        journal.write(&self.entry)?;

        let inline = self.entry.get(inline_at..).unwrap_or_default();
        commit::write_inline(&plan, inline, core, &mut self.tails, &mut self.dirty)?;
        let entry_bytes = self.entry.len() as u64;
        self.bytes_since_checkpoint += entry_bytes + plan.referenced_bytes();
        if self.entry.capacity() > commit::ENTRY_KEPT_BYTES {
            self.entry = Vec::new();
        }
        plan.index(batches);
        plan.extend_tails();
        self.sequence = place.sequence;
        self.position = Some(position);
        self.unsettled.push(plan);
        self.unsettled_bytes += entry_bytes;
        Ok(())
    }

    /// Makes all commits durable and visible.
    fn settle(&mut self, core: &Core) -> Result<()> {
        if self.unsettled.is_empty() { Ok(()) } else { self.guarded(|writer| writer.settle_unguarded(core)) }
    }

    /// Steps 3 and 4 of a commit, see [`crate::journal`].
    fn settle_unguarded(&mut self, core: &Core) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        commit::sync(&journal.file(), &self.unsettled, core)?;
        publish(&self.unsettled, &core.publication);
        for plan in self.unsettled.drain(..) {
            plan.notify();
        }
        core.commits.send_modify(|count| *count = count.wrapping_add(1));
        self.unsettled_bytes = 0;
        Ok(())
    }

    fn needs_checkpoint(&self, options: &LogOptions) -> bool {
        let journal = self.journal.as_ref().map_or(0, JournalFile::len);
        journal > options.journal_bytes || self.bytes_since_checkpoint > options.journal_bytes.saturating_mul(8)
    }

    fn is_far_behind(&self, options: &LogOptions) -> bool {
        let journal = self.journal.as_ref().map_or(0, JournalFile::len);
        journal > options.journal_bytes.saturating_mul(4)
    }

    /// Step 5 of a commit up to the syncs, see [`crate::journal`]; nothing when there is no journal.
    fn begin_checkpoint(&mut self, pipeline: &Pipeline, core: &Core) -> Option<PendingCheckpoint> {
        let journal = self.journal.as_ref()?;
        let dirty = std::mem::take(&mut self.dirty);
        // From here on a write makes a segment dirty again, for the checkpoint after this one.
        for segment in &dirty.segments {
            segment.set_dirty(false);
        }
        self.bytes_since_checkpoint = 0;
        let topics = core.topics_of(&pipeline.name);
        let checkpoint = checkpoint::image(self.sequence, self.position.clone(), &topics);
        Some(PendingCheckpoint::new(&pipeline.dir, journal, dirty, checkpoint))
    }

    /// Step 5 of a commit, see [`crate::journal`].
    fn checkpoint(&mut self, pipeline: &Pipeline, core: &Core) -> Result<()> {
        let Some(mut pending) = self.begin_checkpoint(pipeline, core) else { return Ok(()) };
        pending.sync(&core.files, durable_file::SYNC_THREADS)?;
        pending.finish(self)
    }
}

/// Step 4 of commits: all their partitions at one instant.
fn publish(plans: &[Plan], publication: &RwLock<()>) {
    let _publication = publication.write().unwrap_or_else(PoisonError::into_inner);
    for piece in plans.iter().flat_map(Plan::pieces) {
        let committed = piece.file_position + piece.length;
        piece.partition().publish(&piece.segment, committed, piece.next_offset);
    }
}

fn notify(topics: &[Arc<TopicInner>], commits: &watch::Sender<u64>) {
    for topic in topics {
        topic.commits.send_modify(|count| *count = count.wrapping_add(1));
    }
    commits.send_modify(|count| *count = count.wrapping_add(1));
}
