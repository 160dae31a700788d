//! Compaction: takes out of a partition what later records of the same key make superfluous. Whoever folds the records to rows, from
//! the log's start or from where it stands, comes to the same rows as before.
//!
//! # What stays
//!
//! A record is *full* unless it has the header `partial`: then it says only what changed, and builds on the records of its key
//! before it. Of each key the last full record stays, and everything behind it. The rest goes. These are the special cases:
//!
//! - A record **without a key** stays. Barriers (truncates, `snapshot_restart`) have none, so each stays where it is in its partition, and
//!   so do all rows of tables without a key.
//! - A **tombstone** (no value) is full. The record right before it stays with it if it is a full one of the same key: that is
//!   the delete itself, which readers see that pass over tombstones, as our sinks do.
//! - A tombstone goes, with everything of its key before it, once it was appended longer ago than [`Compaction::tombstone_age`] *and*
//!   every reader has reported an offset behind it *and* no record before it has a key of another shape (see [`KeyIdentity`]): such a
//!   record may be of the same row under another key, and would come back to life.
//! - A key under which a **partial row moved away** (headers `move` = `out` and `partial`) keeps all its records: the row under the new
//!   key, perhaps in another partition, builds on them. Such moves are rare: of rows with columns that are not sent when they do not
//!   change, whose key changes.
//! - A batch whose records damage took (see `inspect`) stays as it is.
//!
//! # Why a fold comes to the same
//!
//! A record R of key k goes only if a full record F of k stands behind it and stays, or a tombstone of k behind it goes that every reader
//! has passed. Take a reader that begins at offset s.
//!
//! - F ≥ s: before F the reader may lack R, or miss that the row was there for a while. At F the row of k is what F says, whatever was
//!   known before, and all records of k behind F are there, in their order. Nobody but k builds on R: partial records of k between R and
//!   F have gone before R did; and those of another key build on k's records only if k's row moved away partially, but then all of k's
//!   records stay.
//! - F < s: R < F < s, so the reader needs neither. It has their effect already, as it had before.
//! - A tombstone that went lies before s, or s is the start of the log: then all records of k before it went with it, so k's
//!   row is as little there as after it. Records that go do so in the order of their offsets, those before a tombstone before it.
//! - Barriers are there for every reader and void what is before them, whether that is all there or not. What is behind a barrier builds on
//!   nothing before it.
//! - A full move (header `move` = `in`) says by itself that the row under the old key is gone. If it went because its new key has a later
//!   full record, its other half under the old key (`move` = `out`) says so, unless that went because the old key has a later full record.
//!
//! # How it is done
//!
//! The last segment is never touched. Those before it that no compaction went over are *dirty*; the others, at the front, are clean (bit 1 of
//! their flags in the journal's checkpoint). That is all the state there is. A round reads the partition once to fill an
//! [`OffsetMap`](offset_map::OffsetMap) with the keys of dirty records, as many as fit; of clean ones it looks for tombstones that may go and keys
//! that keep all. Then it reads everything up to there again and writes segments anew that lose something, in the order of offsets. If the map
//! was full, a segment is cut in two there, and another round goes on.
//!
//! What goes does not go at once, and a round may end early. So where there are records that build on those of their key before them,
//! these go in a pass of their own, before anything goes that they build on: a reader that meets one finds that too, at any time.
//!
//! However far a round comes, the next one is right: dirty segments become clean only after everything before them was compared
//! with their keys.
//!
//! Offsets stay as they are, and so does the chain of batches: where batches vanish, the one before them is made to end where
//! they did (its last offset delta grows, which Kafka's clients know from their own compaction), or an empty batch stands for them at the
//! beginning of a segment. So a segment is never empty, each batch begins where the one before it ends, and the bytes that checksums do not
//! cover (base offsets) can be checked as in any other segment. Records are copied byte by byte, so their offsets and times
//! stay too. Small neighbours become one segment, up to the size of segments.
//!
//! A new content is written to the `.swap` file of its segment and synced, then a checkpoint says that it counts, then it is renamed. A
//! crash before the checkpoint leaves the old segments, one behind it the new ones, for recovery finishes the renaming. Readers see the new
//! content from just before the checkpoint on; whoever has the old file open goes on reading that.

mod offset_map;
mod output;
mod pace;
mod rewrite;
mod survey;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::warn;

use self::pace::Pace;
use self::rewrite::{Old, Rewritten};
use self::survey::{Rules, Survey};
use crate::clock;
use crate::durable_file;
use crate::error::Result;
use crate::log::Core;
use crate::partition::{Offset, Partition, PartitionId, PartitionState};
use crate::pipeline::Pipeline;
use crate::retention;
use crate::segment::{SEGMENT_BYTES_LIMIT, Segment, swap_file_name};
use crate::topic::TopicInner;

/// Header of a record that is not a whole row and builds on those of its key before it.
const HEADER_PARTIAL: &str = "partial";
/// Header of the two records of a row whose key changed, and its value at the one under the old key.
const HEADER_MOVE: &str = "move";
const MOVED_AWAY: &[u8] = b"out";
/// Read at once.
const READ_BYTES: usize = 1 << 20;

/// Appends to its second argument what of a key says which row it means, where that is less than all its bytes: two keys with the same
/// bytes there mean the same row. It returns a number for the key's shape: a row whose key was made another one by a change of the table
/// has keys of two shapes. `None`: records with this key are kept, all of them.
pub type KeyIdentity = fn(&[u8], &mut Vec<u8>) -> Option<u64>;

/// How a topic is compacted. Of each key the last record stays that is a whole row, and what came after it; records without a
/// key stay.
#[derive(Clone, Debug)]
pub struct Compaction {
    /// A delete's tombstone goes, and the delete with it, once it is in the log for longer than this and every reader has
    /// passed it. Whoever reads from the log's start within this time sees all deletes of what it has read.
    pub tombstone_age: Duration,
    /// Memory for keys, in bytes: 24 a key, at three quarters full. Beside it there are some copies of the record batch at hand,
    /// which is what one commit wrote, up to about 1 MiB or one record.
    pub memory_bytes: u64,
    /// How much is read and written in a second, in bytes; no limit if `None`.
    pub bytes_per_second: Option<u64>,
    /// A partition is compacted once so much of it, in percent of its bytes without the segment being written, was not yet. With 0 always.
    pub min_dirty_percent: u8,
    /// What of a key says which row it means.
    pub identity: KeyIdentity,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            tombstone_age: Duration::from_secs(24 * 3600),
            memory_bytes: 16 << 20,
            bytes_per_second: Some(32 << 20),
            min_dirty_percent: 50,
            identity: whole_key,
        }
    }
}

fn whole_key(key: &[u8], identity: &mut Vec<u8>) -> Option<u64> {
    identity.extend_from_slice(key);
    Some(0)
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Records that are gone.
    pub records: u64,
    /// Bytes by which segment files have become fewer.
    pub bytes: u64,
    /// Segment files that were written.
    pub segments: usize,
    /// It came to the end of what there was to do.
    pub finished: bool,
}

/// Compacts a topic. `readers` are the groups that have to have passed a tombstone; one that never reported has passed none.
pub(crate) fn run(
    core: &Arc<Core>,
    topic: &Arc<TopicInner>,
    compaction: &Compaction,
    readers: &[&str],
    stop: &AtomicBool,
) -> Result<Compacted> {
    let _one = core.compacting.lock().unwrap_or_else(PoisonError::into_inner);
    let tombstones_before_ms = clock::now_ms() - i64::try_from(compaction.tombstone_age.as_millis()).unwrap_or(i64::MAX);
    let reported = retention::Reported::of(core, topic, readers);
    let mut run = Run {
        core,
        pipeline: core.pipeline(&topic.metadata.pipeline),
        compaction,
        pace: Pace::new(core, stop, compaction.bytes_per_second),
        compacted: Compacted { finished: true, ..Compacted::default() },
    };
    for (number, partition) in (0..).zip(&topic.partitions) {
        let read_to = reported.needed(number, partition.start_offset());
        let rules = Rules { identity: compaction.identity, tombstones_before_ms, read_to };
        match run.partition(topic, number, partition, &rules) {
            Ok(true) => {}
            Ok(false) => run.compacted.finished = false,
            // Its files went away meanwhile.
            Err(_) if topic.deleted.load(Ordering::Acquire) => return Ok(run.compacted),
            Err(error) => return Err(error),
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(run.compacted)
}

/// What a round is about: `start <= dirty < end`, all of them where segments begin.
#[derive(Clone, Debug)]
struct Extent {
    start: Offset,
    /// Everything before this is clean.
    dirty: Offset,
    /// Where the segment begins that is being written.
    end: Offset,
}

impl Extent {
    /// Nothing when too little of the partition is dirty.
    fn of(state: &PartitionState, min_dirty_percent: u8) -> Option<Self> {
        let (last, closed) = state.segments.split_last()?;
        let first = closed.first()?;
        let clean = closed.iter().take_while(|segment| segment.is_compacted()).count();
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.committed_bytes()).sum::<u64>();
        let dirty_bytes = bytes(closed.get(clean..).unwrap_or_default());
        let due = min_dirty_percent == 0
            || dirty_bytes > 0 && u128::from(dirty_bytes) * 100 >= u128::from(bytes(closed)) * u128::from(min_dirty_percent);
        let dirty = closed.get(clean).map_or(last.base_offset(), |segment| segment.base_offset());
        due.then(|| Self { start: first.base_offset(), dirty, end: last.base_offset() })
    }
}

/// What goes first, and what then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Partial records, so that none is left without what it builds on.
    Partials,
    Rest,
}

struct Run<'a> {
    core: &'a Arc<Core>,
    pipeline: Arc<Pipeline>,
    compaction: &'a Compaction,
    pace: Pace<'a>,
    compacted: Compacted,
}

impl Run<'_> {
    /// Compacts a partition; `false` when it did not come to the end.
    fn partition(&mut self, topic: &TopicInner, number: PartitionId, partition: &Partition, rules: &Rules) -> Result<bool> {
        let Some(mut extent) = Extent::of(&partition.state(), self.compaction.min_dirty_percent) else { return Ok(true) };
        let end = extent.end;
        loop {
            self.pipeline.forget_swaps(self.core)?;
            let memory = self.compaction.memory_bytes;
            let survey = Survey::take(partition, &extent, rules, memory, &mut self.pace)?;
            let Some(mut survey) = survey else { return Ok(false) };
            if survey.lacks_memory {
                let (topic, memory_bytes) = (&topic.metadata.name, memory);
                warn!(topic, partition = number, memory_bytes, "cannot compact: the keys of rows that moved do not fit the memory");
                return Ok(false);
            }
            if survey.partials.is_some() {
                if !self.rewrite(partition, &mut survey, Pass::Partials, extent.end)? {
                    return Ok(false);
                }
                self.pipeline.forget_swaps(self.core)?;
            }
            if !self.rewrite(partition, &mut survey, Pass::Rest, extent.end)? {
                return Ok(false);
            }
            if survey.to >= end {
                return Ok(true);
            }
            match Extent::of(&partition.state(), 0) {
                Some(next) if next.dirty < end => extent = Extent { end, ..next },
                _ => return Ok(true),
            }
        }
    }

    /// Writes everything up to where the survey came anew that loses something in that pass; `false` when it did not come to the end.
    fn rewrite(&mut self, partition: &Partition, survey: &mut Survey, pass: Pass, end: Offset) -> Result<bool> {
        let bytes_max = self.pipeline.segment_bytes(self.core).min(SEGMENT_BYTES_LIMIT);
        let state = partition.state();
        let end = survey.to.min(end);
        let ends = (0..).map(|index| state.segment_end(index).0);
        let old = state.segments.iter().zip(ends).take_while(|(segment, _)| segment.base_offset() < end);
        let concerned = |(segment, end): &(&Arc<Segment>, Offset)| match (pass, survey.partials) {
            (Pass::Rest, _) => true,
            (Pass::Partials, partials) => partials.is_some_and(|(first, last)| first < *end && segment.base_offset() <= last),
        };
        let old: Vec<_> = old.filter(concerned).map(|(segment, end)| Old { segment, end }).collect();
        let mut rest = old.as_slice();
        while let Some(first) = rest.first() {
            let written = rewrite::rewrite(partition, rest, survey, pass, bytes_max, &mut self.pace);
            let written = written.inspect_err(|_| discard(first.segment, survey.to, &partition.dir))?;
            let count = match written {
                Rewritten::Unchanged => {
                    if pass == Pass::Rest {
                        first.segment.set_compacted();
                    }
                    1
                }
                Rewritten::New { segments: new, old: count, records } => {
                    let replaced: Vec<_> = rest.iter().take(count).map(|old| old.segment.clone()).collect();
                    let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.committed_bytes()).sum::<u64>();
                    durable_file::sync_dir(&partition.dir)?;
                    if !self.pipeline.replace(self.core, partition, &replaced, &new)? {
                        discard(first.segment, survey.to, &partition.dir);
                        return Ok(false);
                    }
                    self.compacted.records += records;
                    self.compacted.bytes += bytes(&replaced).saturating_sub(bytes(&new));
                    self.compacted.segments += new.len();
                    count
                }
                Rewritten::Stopped => {
                    discard(first.segment, survey.to, &partition.dir);
                    return Ok(false);
                }
            };
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(true)
    }
}

/// Removes contents that were not taken over. If that fails too, the next start does it.
fn discard(first: &Segment, to: Offset, dir: &Path) {
    for path in [first.waiting_path(), dir.join(swap_file_name(to))] {
        if durable_file::exists(&path).unwrap_or(false) {
            let _ = durable_file::remove_file(&path);
        }
    }
}
