//! Checkpoints: what bounds the journal, and so the time of a recovery. They run beside the commits, for syncing a thousand
//! segments takes longer than anybody should wait for a commit.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::durable_file::{self, DurableFile};
use crate::error::Result;
use crate::journal::entry::{Checkpoint, PartitionImage, SegmentImage, TopicImage};
use crate::journal::{JournalFile, NewJournal};
use crate::log::Core;
use crate::open_files::OpenFiles;
use crate::partition::PartitionId;
use crate::pipeline::{Dirty, Pipeline, Writer};
use crate::topic::TopicInner;

/// A checkpoint that is being made: first everything it speaks of is synced, then a journal file that begins with it
/// replaces the one that was there, whose later entries are copied.
#[derive(Debug)]
pub(crate) struct PendingCheckpoint {
    dir: PathBuf,
    pub(crate) dirty: Dirty,
    checkpoint: Checkpoint,
    old: Arc<DurableFile>,
    old_number: u64,
    salt: u64,
    /// Entries of the old file from here on are not in the checkpoint and not in the new file.
    copied_to: u64,
    new: Option<NewJournal>,
}

impl PendingCheckpoint {
    /// `checkpoint` speaks of everything up to the end of `journal`, of which `dirty` is not synced.
    pub(crate) fn new(dir: &Path, journal: &JournalFile, dirty: Dirty, checkpoint: Checkpoint) -> Self {
        Self {
            dir: dir.to_owned(),
            dirty,
            checkpoint,
            old: journal.file(),
            old_number: journal.number,
            salt: journal.salt,
            copied_to: journal.len(),
            new: None,
        }
    }

    /// Syncs what the checkpoint speaks of, so many files at a time, and begins the new file.
    pub(crate) fn sync(&mut self, files: &OpenFiles, at_a_time: usize) -> Result<()> {
        durable_file::sync_at_a_time(at_a_time, &self.dirty.segments, |segment| {
            segment.flush_tail(files)?;
            segment.open(files)?.sync_data()
        })?;
        self.dirty.dirs.sort_unstable();
        self.dirty.dirs.dedup();
        durable_file::sync_at_a_time(at_a_time, &self.dirty.dirs, |dir| durable_file::sync_dir(dir))?;
        self.new = Some(NewJournal::begin(&self.dir, self.old_number + 1, self.salt, &self.checkpoint)?);
        Ok(())
    }

    /// Copies the entries up to `end`, so that few are left to copy when commits have to wait.
    fn copy(&mut self, end: u64) -> Result<()> {
        if let Some(new) = &mut self.new {
            new.copy(&self.old, self.copied_to, end)?;
            self.copied_to = end;
        }
        Ok(())
    }

    /// Copies the last entries and makes the new file the journal.
    pub(crate) fn finish(mut self, writer: &mut Writer) -> Result<()> {
        let Some(journal) = &mut writer.journal else { return Ok(()) };
        self.copy(journal.len())?;
        let Some(new) = self.new else { return Ok(()) };
        *journal = new.finish()?;
        writer.names_swaps = self.checkpoint.names_swaps();
        JournalFile::remove(&self.dir, self.old_number)
    }
}

/// Makes the checkpoint in a thread of its own.
pub(crate) fn spawn(pipeline: &Arc<Pipeline>, core: &Arc<Core>, pending: PendingCheckpoint) -> io::Result<()> {
    let (pipeline, core) = (pipeline.clone(), core.clone());
    std::thread::Builder::new().name("log-checkpoint".to_owned()).spawn(move || run(&pipeline, &core, pending)).map(|_| ())
}

fn run(pipeline: &Pipeline, core: &Core, mut pending: PendingCheckpoint) {
    // The file has no name any more when its last handle goes, and the file system frees its room only then: many milliseconds that
    // no commit shall wait for.
    let old = pending.old.clone();
    let written = panic::catch_unwind(AssertUnwindSafe(|| {
        // One at a time, for each commit's own sync waits behind these, while nobody waits for the checkpoint.
        pending.sync(&core.files, 1)?;
        let end = pipeline.lock().journal.as_ref().map_or(pending.copied_to, JournalFile::len);
        pending.copy(end)?;
        if let Some(new) = &pending.new {
            new.sync()?;
        }
        Ok(pending)
    }));
    pipeline.end_checkpoint(written.ok());
    drop(old);
}

/// What a checkpoint says of these topics, as they are.
pub(crate) fn image(sequence: u64, position: Option<Bytes>, topics: &[Arc<TopicInner>]) -> Checkpoint {
    let topics = topics.iter().map(|topic| TopicImage { topic: topic.metadata.entry(), partitions: partition_images(topic) });
    Checkpoint { sequence, position, topics: topics.collect() }
}

/// The partitions of a topic that ever had records.
fn partition_images(topic: &TopicInner) -> Vec<(PartitionId, PartitionImage)> {
    let partitions = (0..).zip(&topic.partitions).map(|(number, partition)| {
        let state = partition.state();
        let segments = state.segments.iter().map(|segment| SegmentImage {
            base_offset: segment.base_offset(),
            length: segment.committed_bytes(),
            swap: segment.is_waiting(),
            compacted: segment.is_compacted(),
        });
        let segments = segments.collect();
        (number, PartitionImage { start_offset: state.start_offset, next_offset: state.end_offset, segments })
    });
    partitions.filter(|(_, image)| image.next_offset > 0).collect()
}
