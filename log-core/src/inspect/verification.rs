//! Reads every committed byte of a log and lists what is not as it was written.

use std::collections::BTreeMap;
use std::path::Path;

use super::committed_bytes::{CommittedBytes, Difference};
use super::scan::{self, Hole};
use super::survey::{self, Survey, SurveyedSegment};
use super::{Damage, Remedy, journal_check};
use crate::batch::BatchHeader;
use crate::error::{LogError, Result};

/// How often a segment is looked at again whose file the process that writes has replaced meanwhile.
const ATTEMPTS: usize = 5;

/// What [`verify`] read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// What is wrong, in the order of the files.
    pub damages: Vec<Damage>,
    /// Topics whose segments were read.
    pub topics: usize,
    /// Segment files that were read.
    pub segments: usize,
    /// Journals that were read.
    pub journals: usize,
    /// Bytes of both.
    pub bytes: u64,
    /// Committed bytes that only a journal has so far: after a loss of power, until the next start writes them to segments.
    pub journal_only_bytes: u64,
    /// Offsets whose records an earlier repair gave up.
    pub lost_offsets: u64,
}

/// What is to be told of a segment.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) holes: Vec<Hole>,
    /// By index into [`SurveyedSegment::held`].
    pub(super) differences: BTreeMap<usize, Difference>,
    lost_offsets: u64,
}

/// What was found in which segment, by the indexes of pipeline and segment.
pub(super) type Findings = BTreeMap<(usize, usize), Finding>;

impl Finding {
    /// Something is not as it should be, or not yet.
    fn is_suspicious(&self) -> bool {
        !self.holes.is_empty() || !self.differences.is_empty()
    }

    /// Not only bytes that wait in the journal for their segment, as those of every segment of a busy log may.
    fn may_be_damage(&self) -> bool {
        !self.holes.is_empty() || self.differences.values().any(|difference| *difference == Difference::Changed)
    }
}

/// Reads the journals of the log in `dir` and every committed byte of these topics, or of all if none is named. Nothing is changed;
/// a runtime may have the log open. `progress` is told now and then how many bytes of how many were read.
///
/// # Errors
/// When there is no log, a topic is unknown, a newer build wrote the log, or a file may not be read. Damage is no error.
pub fn verify(dir: &Path, topics: &[String], progress: &mut dyn FnMut(u64, u64)) -> Result<Verification> {
    let survey = Survey::take(dir)?;
    for topic in topics {
        if !survey.topics.contains(topic) {
            return Err(LogError::UnknownTopic(topic.clone()));
        }
    }
    let (verification, _) = examine(&survey, topics, Some(dir), progress)?;
    Ok(verification)
}

/// Examines what was surveyed. `watched` is the data directory if another process may be changing it: what looks damaged is then
/// looked at again.
pub(super) fn examine(
    survey: &Survey,
    topics: &[String],
    watched: Option<&Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Verification, Findings)> {
    let wanted = |name: &String| topics.is_empty() || topics.contains(name);
    let segments = || survey.pipelines.iter().flat_map(|pipeline| &pipeline.segments);
    let total = segments().filter(|segment| wanted(&segment.topic)).map(|segment| segment.length).sum();
    let mut verification = Verification {
        damages: survey.damages.clone(),
        topics: survey.topics.iter().filter(|topic| wanted(topic)).count(),
        ..Verification::default()
    };
    let mut findings = BTreeMap::new();
    let mut done = 0;
    for (number, pipeline) in survey.pipelines.iter().enumerate() {
        verification.journals += 1;
        verification.bytes += pipeline.loaded.valid_bytes;
        verification.damages.extend(journal_check::check(&pipeline.loaded)?);
        for (index, segment) in pipeline.segments.iter().enumerate().filter(|(_, segment)| wanted(&segment.topic)) {
            let before = done;
            let mut advance = |bytes: u64| {
                done += bytes;
                progress(done, total);
            };
            let Some((segment, finding)) = examine_segment(segment, watched, &mut advance)? else { continue };
            done = before + segment.length;
            verification.segments += 1;
            verification.bytes += segment.length;
            verification.lost_offsets += finding.lost_offsets;
            report(&segment, &finding, &mut verification);
            if finding.is_suspicious() {
                findings.insert((number, index), finding);
            }
        }
    }
    Ok((verification, findings))
}

/// Reads a segment; nothing if it is not part of the log any more.
fn examine_segment(
    segment: &SurveyedSegment,
    watched: Option<&Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<(SurveyedSegment, Finding)>> {
    let mut segment = segment.clone();
    for _ in 0..ATTEMPTS {
        let finding = read_segment(&segment, progress)?;
        let (Some(dir), true) = (watched, finding.may_be_damage()) else { return Ok(Some((segment, finding))) };
        // Retention may have removed the file, a recovery or a compaction replaced it, or a commit was on its way from the
        // journal to the segment. What is left of damage after another look is damage.
        match Survey::take(dir)?.segment(&segment) {
            None => return Ok(None),
            Some(now) if *now == segment => {
                let again = read_segment(&segment, &mut |_| {})?;
                return Ok(Some((segment, again)));
            }
            Some(now) => segment = now.clone(),
        }
    }
    let finding = read_segment(&segment, progress)?;
    Ok(Some((segment, finding)))
}

fn read_segment(segment: &SurveyedSegment, progress: &mut dyn FnMut(u64)) -> Result<Finding> {
    let mut bytes = CommittedBytes::open(&segment.content_path(), segment.length, &segment.held)?;
    let scan = scan::scan(&mut bytes, segment.base_offset, segment.end_offset, progress);
    Ok(Finding { holes: scan.holes, differences: bytes.differences().clone(), lost_offsets: scan.lost_offsets })
}

fn report(segment: &SurveyedSegment, finding: &Finding, verification: &mut Verification) {
    let path = segment.content_path();
    let partition = Some((segment.topic.clone(), segment.partition));
    for (index, difference) in &finding.differences {
        let Some((position, bytes)) = segment.held.get(*index) else { continue };
        let end = position + bytes.len() as u64;
        if *difference == Difference::Missing {
            verification.journal_only_bytes += bytes.len() as u64;
            continue;
        }
        verification.damages.push(Damage {
            path: path.clone(),
            bytes: *position..end,
            partition: partition.clone(),
            offsets: BatchHeader::parse(bytes).ok().map(|first| first.base_offset..last_offset(bytes, &first)),
            records: None,
            problem: "the bytes there are not those that were committed".to_owned(),
            remedy: Remedy::FromJournal,
        });
    }
    for hole in &finding.holes {
        let cut_out = survey::is_irreplaceable(&segment.topic).unwrap_or(Remedy::CutOut);
        verification.damages.push(Damage {
            path: path.clone(),
            bytes: hole.start.position..hole.end.position,
            partition: partition.clone(),
            offsets: Some(hole.start.base_offset..hole.end.base_offset),
            records: hole.records,
            problem: hole.problem.clone(),
            remedy: if hole.header.is_some() { Remedy::RebuildHeader } else { cut_out },
        });
    }
}

/// The offset after the last of whole batches, of which `first` is the first one's header.
fn last_offset(bytes: &[u8], first: &BatchHeader) -> i64 {
    let mut header = *first;
    let mut rest = bytes;
    while let Some(behind) = rest.get(header.total_bytes..)
        && let Ok(next) = BatchHeader::parse(behind)
    {
        header = next;
        rest = behind;
    }
    header.next_offset()
}
