//! Questions about places in a partition: how far a reader is behind, and what was appended when.

use std::sync::Arc;

use crate::batch::{BatchHeader, HEADER_BYTES, RecordBatch};
use crate::error::Result;
use crate::partition::{Offset, Partition};
use crate::segment::Segment;
use crate::sparse_index::BatchPlace;

/// What a reader at some offset has not read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Offsets up to the committed end: the number of records where none were compacted away.
    pub records: u64,
    /// Bytes in segment files, counted from the batch that holds the reader's offset.
    pub bytes: u64,
    /// Time of the oldest record of that batch, in milliseconds since 1970; `None` when nothing is waiting.
    pub oldest_timestamp_ms: Option<i64>,
}

impl Partition {
    /// The header of the batch at a place.
    pub(crate) fn header_at(&self, segment: &Segment, place: BatchPlace) -> Result<BatchHeader> {
        let mut bytes = [0; HEADER_BYTES];
        let read = segment.read_at(&mut bytes, place.position, &self.files)?;
        let header = BatchHeader::parse(bytes.get(..read).unwrap_or_default());
        let header = header.map_err(|error| segment.damaged(place, None, &error))?;
        segment.check_place(&header, place, u64::MAX)?;
        Ok(header)
    }

    /// When the first record of a segment was appended, in milliseconds since 1970.
    pub(crate) fn first_time(&self, segment: &Segment) -> Result<i64> {
        let first = BatchPlace { base_offset: segment.base_offset(), position: 0 };
        Ok(self.header_at(segment, first)?.base_timestamp_ms)
    }

    /// When the last record before `end` was appended; nothing if there is none.
    pub(crate) fn newest_time(&self, end: Offset) -> Result<Option<i64>> {
        if end <= self.start_offset() {
            return Ok(None);
        }
        Ok(self.read(end - 1, 1)?.last().map(RecordBatch::max_timestamp_ms))
    }

    /// Where the batch that holds an offset of the segment begins, and its header.
    pub(crate) fn find(&self, segment: &Segment, offset: Offset) -> Result<(BatchPlace, BatchHeader)> {
        let mut place = segment.locate(offset, &self.files)?;
        loop {
            let header = self.header_at(segment, place)?;
            if header.next_offset() > offset {
                return Ok((place, header));
            }
            place = header.place_behind(place);
        }
    }

    /// What a reader has before it that needs `from` next.
    pub(crate) fn backlog(&self, from: Offset) -> Result<Backlog> {
        self.looking_again(|| {
            let state = self.state();
            let from = from.max(state.start_offset);
            if from >= state.end_offset {
                return Ok(Backlog::default());
            }
            let current = state.segment_of(from);
            let bytes: u64 = (current..state.segments.len()).map(|index| state.segment_end(index).1).sum();
            let records = (state.end_offset - from) as u64;
            let Some(segment) = state.segments.get(current) else { return Ok(Backlog { records, ..Backlog::default() }) };
            let (place, header) = self.find(segment, from)?;
            let bytes = bytes.saturating_sub(place.position);
            Ok(Backlog { records, bytes, oldest_timestamp_ms: Some(header.base_timestamp_ms) })
        })
    }

    /// The offset of the first record that was appended at `timestamp_ms` or later; nothing if all are earlier.
    pub(crate) fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<Offset>> {
        self.looking_again(|| self.offset_for_time_once(timestamp_ms))
    }

    fn offset_for_time_once(&self, timestamp_ms: i64) -> Result<Option<Offset>> {
        let state = self.state();
        // It is in the last segment that begins earlier, or the next one begins with it.
        let first = self.segments_before(&state.segments, timestamp_ms)?.saturating_sub(1);
        for (index, segment) in state.segments.iter().enumerate().skip(first) {
            let (end_offset, _) = state.segment_end(index);
            let mut place = segment.locate_time(timestamp_ms, &self.files)?;
            while place.base_offset < end_offset {
                let header = self.header_at(segment, place)?;
                if header.max_timestamp_ms >= timestamp_ms
                    && header.next_offset() > state.start_offset
                    && let Some(offset) = self.first_in_batch(place.base_offset.max(state.start_offset), timestamp_ms)?
                {
                    return Ok(Some(offset));
                }
                place = header.place_behind(place);
            }
        }
        Ok(None)
    }

    /// How many segments begin before that time.
    fn segments_before(&self, segments: &[Arc<Segment>], timestamp_ms: i64) -> Result<usize> {
        let (mut low, mut high) = (0_usize, segments.len());
        while low < high {
            let middle = low.midpoint(high);
            let Some(segment) = segments.get(middle) else { break };
            if self.first_time(segment)? < timestamp_ms { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The first record from `from` on, in the batch that holds it, that is not earlier; a compaction may have taken it.
    fn first_in_batch(&self, from: Offset, timestamp_ms: i64) -> Result<Option<Offset>> {
        let batches = self.read(from, 1)?;
        let Some(batch) = batches.first() else { return Ok(None) };
        for record in &batch.records()? {
            let record = record?;
            if record.offset >= from && record.timestamp_ms >= timestamp_ms {
                return Ok(Some(record.offset));
            }
        }
        Ok(None)
    }
}
