//! Ends of segments that are in memory and in the journal, but not in their files yet.
//!
//! A commit to many partitions would write a few bytes to as many files, each of which the file system notes in its own journal, where the next sync has
//! to wait for it. So these bytes are collected: readers get them from memory, another process from the journal, and a recovery writes them as it
//! does anyway. They go to their file when they are many, when all together are too many, before anything else is written to that
//! file, and before a checkpoint takes them out of the journal.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::error::Result;
use crate::open_files::OpenFiles;
use crate::segment::Segment;

/// With so many bytes in memory a segment's end goes to its file.
const SEGMENT_TAIL_BYTES: usize = 64 << 10;

/// The end of one segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentTail {
    /// Where it begins in the file, which has everything before.
    start: u64,
    bytes: Vec<u8>,
}

impl Segment {
    fn lock_tail(&self) -> MutexGuard<'_, SegmentTail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is in memory, by what the journal has from a byte of the file on.
    pub(crate) fn set_tail(&self, start: u64, bytes: Vec<u8>) {
        *self.lock_tail() = SegmentTail { start, bytes };
    }

    /// How many of the segment's `length` bytes are not only in memory.
    pub(crate) fn bytes_in_file(&self, length: u64) -> u64 {
        let tail = self.lock_tail();
        if tail.bytes.is_empty() { length } else { tail.start }
    }

    /// Appends bytes at a position, which is the segment's end. Returns how many bytes are in memory.
    fn append_to_tail(&self, bytes: &[u8], position: u64) -> usize {
        let mut tail = self.lock_tail();
        if tail.bytes.is_empty() {
            tail.start = position;
        }
        tail.bytes.extend_from_slice(bytes);
        tail.bytes.len()
    }

    /// Writes what is in memory to the file, without a sync. Returns how much it was.
    pub(crate) fn flush_tail(&self, files: &OpenFiles) -> Result<usize> {
        let mut tail = self.lock_tail();
        if tail.bytes.is_empty() {
            return Ok(0);
        }
        self.open(files)?.write_all_at(&tail.bytes, tail.start)?;
        // Its memory goes too: of ten thousand segments most are idle.
        Ok(std::mem::take(&mut tail.bytes).len())
    }

    /// Reads from the file and from memory, until the buffer is full or the segment ends. Returns the number of bytes.
    pub(crate) fn read_at(&self, buffer: &mut [u8], position: u64, files: &OpenFiles) -> Result<usize> {
        let mut in_file = buffer.len();
        let mut in_memory = 0;
        {
            let tail = self.lock_tail();
            let end = position + buffer.len() as u64;
            if !tail.bytes.is_empty() && end > tail.start {
                in_file = tail.start.saturating_sub(position) as usize;
                let from = position.saturating_sub(tail.start) as usize;
                let there = tail.bytes.get(from..).unwrap_or_default();
                let (_, wanted) = buffer.split_at_mut(in_file);
                in_memory = there.len().min(wanted.len());
                wanted[..in_memory].copy_from_slice(&there[..in_memory]);
            }
        }
        if in_file == 0 {
            return Ok(in_memory);
        }
        // Should the rest go to the file meanwhile, the bytes before it stay what they are.
        let read = self.open(files)?.read_at(&mut buffer[..in_file], position)?;
        Ok(if read < in_file { read } else { read + in_memory })
    }
}

/// The segments of a pipeline with bytes in memory.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    /// The oldest first. Those that others wrote to their files meanwhile may be among them.
    segments: VecDeque<Arc<Segment>>,
    /// As many as there are, or more, for the same reason.
    bytes: usize,
}

impl Tails {
    /// Appends committed bytes to a segment, at a position that is its end. When there are more than `limit` bytes of all segments, the oldest go to their
    /// files.
    pub(crate) fn append(
        &mut self,
        segment: &Arc<Segment>,
        bytes: &[u8],
        position: u64,
        limit: usize,
        files: &OpenFiles,
    ) -> Result<()> {
        self.bytes += bytes.len();
        if segment.append_to_tail(bytes, position) >= SEGMENT_TAIL_BYTES {
            self.bytes = self.bytes.saturating_sub(segment.flush_tail(files)?);
        } else if !segment.is_in_tails.swap(true, Ordering::AcqRel) {
            self.segments.push_back(segment.clone());
        }
        while self.bytes > limit {
            let Some(oldest) = self.segments.pop_front() else {
                self.bytes = 0;
                break;
            };
            oldest.is_in_tails.store(false, Ordering::Release);
            self.bytes = self.bytes.saturating_sub(oldest.flush_tail(files)?);
        }
        Ok(())
    }

    /// Writes all to their files.
    pub(crate) fn flush(&mut self, files: &OpenFiles) -> Result<()> {
        for segment in self.segments.drain(..) {
            segment.is_in_tails.store(false, Ordering::Release);
            segment.flush_tail(files)?;
        }
        self.bytes = 0;
        Ok(())
    }

    /// Forgets those that are in their files, and those that `gone` says it of.
    pub(crate) fn retain(&mut self, gone: impl Fn(&Segment) -> bool) {
        self.bytes = 0;
        let bytes = &mut self.bytes;
        self.segments.retain(|segment| {
            let held = segment.lock_tail().bytes.len();
            let stays = held > 0 && !gone(segment);
            if stays {
                *bytes += held;
            } else {
                segment.is_in_tails.store(false, Ordering::Release);
            }
            stays
        });
    }
}
