//! The committed part of one partition, as readers see it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use crate::batch::{BatchHeader, RecordBatch};
use crate::durable_file;
use crate::error::{BatchError, LogError, Result};
use crate::open_files::OpenFiles;
use crate::segment::Segment;
use crate::sparse_index::INDEX_INTERVAL_BYTES;

/// A record's place in its partition. Offsets increase; there can be gaps.
pub type Offset = i64;

/// Which partition of a topic, from 0.
pub type PartitionId = i32;

/// How often something is read that is being replaced.
pub(crate) const LOOKS_MAX: usize = 10;

/// A partition's directory, the topic's, and the one of all topics.
const DIR_LEVELS: usize = 3;

/// Makes a partition's directory, and its topic's.
pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    dir.parent().map_or(Ok(()), durable_file::create_dir)?;
    durable_file::create_dir(dir)
}

/// The directories to sync before names in a partition's directory are durable, however new it is.
pub(crate) fn dirs_above(dir: &Path) -> impl Iterator<Item = &Path> {
    dir.ancestors().take(DIR_LEVELS)
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) dir: PathBuf,
    /// The names of `dir` and of the topic's directory are durable.
    dir_is_durable: AtomicBool,
    pub(crate) files: Arc<OpenFiles>,
    state: RwLock<PartitionState>,
    /// Where the next commit goes on, if there are some behind the state that readers do not see yet.
    tail: Mutex<Option<Tail>>,
}

/// Where a commit goes on.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// The last segment.
    pub(crate) segment: Option<Arc<Segment>>,
    /// The byte of it behind the last commit.
    pub(crate) position: u64,
    pub(crate) next_offset: Offset,
}

/// `start_offset <= end_offset`; `segments` are sorted by base offset, and each ends where the next begins. Only a
/// commit moves `end_offset`, after the journal holds it durably: all that stands here is committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionState {
    pub(crate) start_offset: Offset,
    pub(crate) end_offset: Offset,
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Committed bytes of the last segment, as of the same commit as `end_offset`.
    pub(crate) last_segment_bytes: u64,
}

impl PartitionState {
    pub(crate) fn new(start_offset: Offset, end_offset: Offset, segments: Vec<Arc<Segment>>) -> Self {
        let last_segment_bytes = segments.last().map_or(0, |segment| segment.committed_bytes());
        Self { start_offset, end_offset, segments, last_segment_bytes }
    }

    /// The segment at `index` ends before this offset and this byte.
    pub(crate) fn segment_end(&self, index: usize) -> (Offset, u64) {
        match (self.segments.get(index), self.segments.get(index + 1)) {
            (Some(segment), Some(next)) => (next.base_offset(), segment.committed_bytes()),
            _ => (self.end_offset, self.last_segment_bytes),
        }
    }

    /// The segment that holds `offset`.
    pub(crate) fn segment_of(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base_offset() <= offset).saturating_sub(1)
    }
}

impl Partition {
    pub(crate) fn new(dir: PathBuf, files: Arc<OpenFiles>) -> Self {
        Self { dir, dir_is_durable: AtomicBool::new(false), files, state: RwLock::default(), tail: Mutex::default() }
    }

    /// Makes the directory of the segments.
    pub(crate) fn create_dir(&self) -> Result<()> {
        if self.dir_is_durable.load(Ordering::Acquire) { Ok(()) } else { create_dir(&self.dir) }
    }

    /// The directories to sync before a new segment's name is durable.
    pub(crate) fn dirs_to_sync(&self) -> impl Iterator<Item = &Path> {
        let levels = if self.dir_is_durable.load(Ordering::Acquire) { 1 } else { DIR_LEVELS };
        self.dir.ancestors().take(levels)
    }

    /// Notes that all of [`dirs_to_sync`](Self::dirs_to_sync) were synced.
    pub(crate) fn set_dir_durable(&self) {
        self.dir_is_durable.store(true, Ordering::Release);
    }

    pub(crate) fn start_offset(&self) -> Offset {
        self.state.read().unwrap_or_else(PoisonError::into_inner).start_offset
    }

    pub(crate) fn end_offset(&self) -> Offset {
        self.state.read().unwrap_or_else(PoisonError::into_inner).end_offset
    }

    pub(crate) fn state(&self) -> PartitionState {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the state: after recovery, or when a read-only log looks again.
    pub(crate) fn set_state(&self, state: PartitionState) {
        *self.lock_tail() = None;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Where a commit goes on.
    pub(crate) fn tail(&self) -> Tail {
        if let Some(tail) = &*self.lock_tail() {
            return tail.clone();
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Tail { segment: state.segments.last().cloned(), position: state.last_segment_bytes, next_offset: state.end_offset }
    }

    /// Lets the next commit go on there, until all that was written is [published](Self::publish).
    pub(crate) fn set_tail(&self, tail: Tail) {
        *self.lock_tail() = Some(tail);
    }

    fn lock_tail(&self) -> MutexGuard<'_, Option<Tail>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what a commit appended visible. What comes behind it was not written, or is published next.
    pub(crate) fn publish(&self, segment: &Arc<Segment>, committed_bytes: u64, end_offset: Offset) {
        *self.lock_tail() = None;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        segment.set_committed_bytes(committed_bytes);
        if state.segments.last().is_none_or(|last| !Arc::ptr_eq(last, segment)) {
            state.segments.push(segment.clone());
        }
        state.end_offset = end_offset;
        state.last_segment_bytes = committed_bytes;
    }

    /// Moves the start up to `start_offset`, at most to the end, and takes out the segments wholly before it. Their files are left to
    /// the caller.
    pub(crate) fn trim(&self, start_offset: Offset) -> Vec<Arc<Segment>> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.start_offset = start_offset.clamp(state.start_offset, state.end_offset);
        let all = state.start_offset == state.end_offset;
        let kept = if all { state.segments.len() } else { state.segment_of(state.start_offset) };
        let removed = state.segments.drain(..kept).collect();
        if all {
            state.last_segment_bytes = 0;
        }
        removed
    }

    /// Puts `new` in the place of `old`; `false`, and nothing done, unless all of those are there, one behind the other and before
    /// the last segment.
    pub(crate) fn replace(&self, old: &[Arc<Segment>], new: &[Arc<Segment>]) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = old.first() else { return false };
        let Some(at) = state.segments.iter().position(|segment| Arc::ptr_eq(segment, first)) else { return false };
        let end = at + old.len();
        let there = state.segments.get(at..end).unwrap_or_default();
        if end >= state.segments.len() || !there.iter().zip(old).all(|(there, old)| Arc::ptr_eq(there, old)) {
            return false;
        }
        state.segments.splice(at..end, new.iter().cloned());
        true
    }

    /// Whole committed batches from the one that holds `from` on: at least one, then as many as fit `bytes_max`.
    pub(crate) fn read(&self, from: Offset, bytes_max: usize) -> Result<Vec<RecordBatch>> {
        self.looking_again(|| self.read_once(from, bytes_max))
    }

    /// Once more if it fails: a compaction or a recovery (of the process that writes, for a read-only log) may have replaced
    /// the files meanwhile. Damage is still there the second time. More often only while one compaction replaces after the other.
    pub(crate) fn looking_again<T>(&self, look: impl Fn() -> Result<T>) -> Result<T> {
        let mut before = self.state().segments;
        let mut result = look();
        for attempt in 1..LOOKS_MAX {
            let Err(LogError::Corrupt { .. } | LogError::Io { .. }) = &result else { break };
            let now = self.state().segments;
            let same = now.len() == before.len() && now.iter().zip(&before).all(|(now, before)| Arc::ptr_eq(now, before));
            if same && attempt > 1 {
                break;
            }
            now.iter().for_each(|segment| segment.reopen());
            before = now;
            result = look();
        }
        result
    }

    fn read_once(&self, from: Offset, bytes_max: usize) -> Result<Vec<RecordBatch>> {
        let state = self.state();
        let mut batches = Vec::new();
        let mut offset = from;
        let mut left = bytes_max as u64;
        for (index, segment) in state.segments.iter().enumerate().skip(state.segment_of(from)) {
            if offset >= state.end_offset {
                break;
            }
            let (segment_end, committed) = state.segment_end(index);
            let more = self.read_segment(segment, segment_end, committed, offset, &mut left, &mut batches)?;
            if !more {
                break;
            }
            offset = segment_end;
        }
        Ok(batches)
    }

    /// Reads from one segment; `true` when it was read to its end and there is room for more.
    fn read_segment(
        &self,
        segment: &Arc<Segment>,
        segment_end: Offset,
        committed: u64,
        from: Offset,
        left: &mut u64,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<bool> {
        let mut place = segment.locate(from, &self.files)?;
        let mut want = *left + INDEX_INTERVAL_BYTES;
        while place.base_offset < segment_end {
            let chunk_start = place.position;
            let len = want.min(committed.saturating_sub(chunk_start)) as usize;
            // Not `vec![0; len]`: an allocator may give that fresh pages each time, whose faults cost more than all else of a read.
            #[expect(clippy::slow_vector_initialization, reason = "it is the faster one here")]
            let mut buffer = {
                let mut buffer = Vec::with_capacity(len);
                buffer.resize(len, 0);
                buffer
            };
            let read = segment.read_at(&mut buffer, chunk_start, &self.files)?;
            buffer.truncate(read);
            let chunk = Bytes::from(buffer);
            loop {
                let at = (place.position - chunk_start) as usize;
                let rest = chunk.get(at..).unwrap_or_default();
                let header = match BatchHeader::parse(rest) {
                    Ok(header) => header,
                    Err(BatchError::Short { need, .. }) if read == len && place.position + need <= committed => {
                        want = (*left).max(need);
                        break;
                    }
                    Err(error) => return Err(segment.damaged(place, None, &error)),
                };
                segment.check_place(&header, place, committed)?;
                if header.next_offset() > segment_end {
                    let error = BatchError::BaseOffset { found: header.next_offset(), expected: segment_end };
                    return Err(segment.damaged(place, None, &error));
                }
                let total = header.total_bytes as u64;
                let wanted = header.next_offset() > from;
                if wanted && total > *left && !batches.is_empty() {
                    return Ok(false);
                }
                if rest.len() < header.total_bytes {
                    if read < len {
                        let error = BatchError::Short { need: total, have: rest.len() as u64 };
                        return Err(segment.damaged(place, Some(header.next_offset()), &error));
                    }
                    want = (*left).max(total);
                    break;
                }
                if wanted {
                    let bytes = chunk.slice(at..at + header.total_bytes);
                    let damaged = |error| segment.damaged(place, Some(header.next_offset()), &error);
                    header.check_crc(&bytes).map_err(damaged)?;
                    batches.push(RecordBatch { header, bytes });
                    *left = left.saturating_sub(total);
                }
                place = header.place_behind(place);
                if place.base_offset >= segment_end {
                    break;
                }
            }
        }
        if place.position != committed {
            let error = BatchError::BaseOffset { found: segment_end, expected: place.base_offset };
            return Err(segment.damaged(place, None, &error));
        }
        Ok(*left > 0)
    }
}
