//! Mends a closed log: what the journal has is written again, what nothing has is cut out.
//!
//! New contents of segments are written beside them, then a journal whose checkpoint names them, and then they take the segments'
//! names. A crash in between leaves the old log or the new one, for the next start finishes the renaming.

use std::collections::BTreeSet;
use std::path::Path;

use super::committed_bytes::CommittedBytes;
use super::scan::Hole;
use super::survey::{Survey, SurveyedPipeline, SurveyedSegment};
use super::verification::{self, Finding, Findings};
use super::{Damage, Verification};
use crate::batch_builder;
use crate::clock;
use crate::data_dir;
use crate::durable_file::{self, DurableFile};
use crate::error::{LogError, Result};
use crate::journal::JournalFile;
use crate::journal::entry::{Checkpoint, SegmentImage};
use crate::partition;
use crate::recovery;
use crate::topic;

/// A log that nobody has open, and what is damaged in it. As long as this lives, nobody can open it for writing.
#[derive(Debug)]
pub struct Repair {
    _lock: DurableFile,
    survey: Survey,
    verification: Verification,
    findings: Findings,
}

impl Repair {
    /// Locks the log in `dir` and reads all of it, as [`verify`](super::verify) does. Nothing is changed.
    ///
    /// # Errors
    /// When a runtime has it open, and those of [`verify`](super::verify).
    pub fn plan(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        data_dir::check(dir)?;
        let lock = data_dir::take_lock(dir)?;
        let survey = Survey::take(dir)?;
        let (verification, findings) = verification::examine(&survey, &[], None, progress)?;
        Ok(Self { _lock: lock, survey, verification, findings })
    }

    /// What was read and found. Each damage says what [`apply`](Self::apply) does about it.
    pub fn verification(&self) -> &Verification {
        &self.verification
    }

    /// Does it. What cannot be mended stays as it is.
    ///
    /// # Errors
    /// When the disk refuses; the log is then as it was, or as after this.
    pub fn apply(self) -> Result<()> {
        for (number, pipeline) in self.survey.pipelines.iter().enumerate() {
            let own = |damage: &&Damage| damage.path.starts_with(&pipeline.dir) || owns(pipeline, &damage.path);
            let damages: Vec<&Damage> = self.verification.damages.iter().filter(own).collect();
            // With one damage in it that stays, a segment stays as it is.
            let stays: BTreeSet<&Path> =
                damages.iter().filter(|damage| !damage.remedy.mends()).map(|damage| damage.path.as_path()).collect();
            if damages.iter().any(|damage| damage.remedy.mends() && !stays.contains(damage.path.as_path())) {
                let findings = self.findings.range((number, 0)..(number + 1, 0));
                let findings: Vec<_> =
                    findings.filter_map(|((_, index), finding)| Some((pipeline.segments.get(*index)?, finding))).collect();
                mend(pipeline, &findings, &stays)?;
            }
        }
        Ok(())
    }
}

fn owns(pipeline: &SurveyedPipeline, path: &Path) -> bool {
    pipeline.segments.iter().any(|segment| segment.content_path() == path)
}

/// The order matters: at each moment the newest journal and the files that it names are whole, or damaged as they were before.
fn mend(pipeline: &SurveyedPipeline, findings: &[(&SurveyedSegment, &Finding)], stays: &BTreeSet<&Path>) -> Result<()> {
    if !pipeline.deleted_dirs.is_empty() {
        // As a start does before it relies on the entries that say so.
        durable_file::sync_dir(&pipeline.dir)?;
        recovery::resume(&pipeline.dir, &pipeline.loaded, pipeline.kept)?;
    }
    // The new checkpoint says nothing of deleted topics: they would come back, empty.
    for dir in &pipeline.deleted_dirs {
        topic::remove_dir(dir)?;
    }
    let mut journal = Journal { dir: &pipeline.dir, number: pipeline.loaded.number };
    let with_holes =
        findings.iter().filter(|(segment, finding)| !finding.holes.is_empty() && !stays.contains(segment.content_path().as_path()));
    let with_holes: Vec<_> = with_holes.collect();
    finish_swaps(&pipeline.segments)?;
    settle(&pipeline.segments)?;
    // From here on no start takes a half-written content for a whole one, and none needs the old journal.
    journal.replace(&pipeline.image.checkpoint())?;

    let mut checkpoint = pipeline.image.checkpoint();
    for (segment, finding) in &with_holes {
        partition::create_dir(&segment.dir)?;
        let length = write_replacement(segment, &finding.holes)?;
        if let Some(image) = image_of(&mut checkpoint, segment) {
            image.length = length;
            image.swap = true;
        }
    }
    let dirs: BTreeSet<&Path> = with_holes.iter().flat_map(|(segment, _)| partition::dirs_above(&segment.dir)).collect();
    let dirs: Vec<_> = dirs.into_iter().collect();
    durable_file::sync_together(&dirs, |dir| durable_file::sync_dir(dir))?;
    journal.replace(&checkpoint)?;

    for (segment, _) in &with_holes {
        durable_file::rename(&segment.swap_path(), &segment.path())?;
        if let Some(image) = image_of(&mut checkpoint, segment) {
            image.swap = false;
        }
    }
    durable_file::sync_together(&dirs, |dir| durable_file::sync_dir(dir))?;
    journal.replace(&checkpoint)
}

/// A journal file after the other.
struct Journal<'a> {
    dir: &'a Path,
    number: u64,
}

impl Journal<'_> {
    /// Makes a file that says this the journal.
    fn replace(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        JournalFile::start(self.dir, self.number + 1, checkpoint)?;
        JournalFile::remove(self.dir, self.number)?;
        self.number += 1;
        Ok(())
    }
}

fn image_of<'a>(checkpoint: &'a mut Checkpoint, segment: &SurveyedSegment) -> Option<&'a mut SegmentImage> {
    let topic = checkpoint.topics.iter_mut().find(|image| image.topic.id == segment.topic_id)?;
    let (_, partition) = topic.partitions.iter_mut().find(|(number, _)| *number == segment.partition)?;
    partition.segments.iter_mut().find(|image| image.base_offset == segment.base_offset)
}

/// Gives contents that an earlier start left waiting their names, which the new ones need.
fn finish_swaps(segments: &[SurveyedSegment]) -> Result<()> {
    for segment in segments.iter().filter(|segment| segment.swap) {
        durable_file::rename(&segment.swap_path(), &segment.path())?;
        durable_file::sync_dir(&segment.dir)?;
    }
    Ok(())
}

/// Makes durable all that segments have since the last checkpoint: the next journal has none of it. That the bytes are there does not mean that they
/// are on the disk, see [`recovery::write_once_more`], so all of them are written, and not only those that are missing.
fn settle(segments: &[SurveyedSegment]) -> Result<()> {
    for segment in segments.iter().filter(|segment| !segment.held.is_empty() || !segment.unsynced.is_empty()) {
        partition::create_dir(&segment.dir)?;
        let file = DurableFile::open_or_create(&segment.path())?;
        for (position, bytes) in &segment.held {
            file.write_all_at(bytes, *position)?;
        }
        segment.unsynced.iter().try_for_each(|piece| recovery::write_once_more(&file, piece))?;
        file.sync_data()?;
    }
    // Of the others too: a content may have got its name just before its process was killed.
    let mut dirs = BTreeSet::new();
    for segment in segments {
        if durable_file::exists(&segment.dir)? {
            dirs.extend(partition::dirs_above(&segment.dir));
        }
    }
    let dirs: Vec<_> = dirs.into_iter().collect();
    durable_file::sync_together(&dirs, |dir| durable_file::sync_dir(dir))
}

/// Writes the segment's new content beside it, durably; returns its length. Batches in holes are mended where they can be,
/// otherwise an empty batch stands for their offsets.
fn write_replacement(segment: &SurveyedSegment, holes: &[Hole]) -> Result<u64> {
    let mut bytes = CommittedBytes::open(&segment.path(), segment.length, &segment.held)?;
    let file = DurableFile::create(&segment.swap_path())?;
    let mut written = 0;
    let mut append = |chunk: &[u8]| {
        file.write_all_at(chunk, written)?;
        written += chunk.len() as u64;
        Ok(())
    };
    let mut at = 0;
    for hole in holes {
        bytes.for_each_chunk(at, hole.start.position, &mut append)?;
        at = match &hole.header {
            Some(header) => {
                append(header)?;
                hole.start.position + header.len() as u64
            }
            None => {
                append(&stand_in(segment, hole)?)?;
                hole.end.position
            }
        };
    }
    bytes.for_each_chunk(at, segment.length, &mut append)?;
    file.sync_data()?;
    Ok(written)
}

/// The empty batch for the offsets of a hole; nothing where bytes were damaged that had none.
fn stand_in(segment: &SurveyedSegment, hole: &Hole) -> Result<Vec<u8>> {
    let offsets = hole.end.base_offset - hole.start.base_offset;
    if offsets == 0 {
        return Ok(Vec::new());
    }
    // A segment has no more offsets than that, or its journal would not have been read.
    let offsets = i32::try_from(offsets).map_err(|_| LogError::Corrupt {
        path: segment.path(),
        position: hole.start.position,
        problem: format!("{offsets} offsets are too many for one batch"),
        advice: super::ADVICE_RESTORE,
    })?;
    Ok(batch_builder::lost_batch(hole.start.base_offset, offsets, hole.timestamp_ms.unwrap_or_else(clock::now_ms)))
}
