//! What a topic's partitions are made of.

use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::error::Result;
use crate::partition::{Offset, Partition, PartitionId};
use crate::segment::{BatchPlace, Segment};
use crate::topic::Topic;

/// One segment of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentDescription {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// Committed bytes.
    pub bytes: u64,
    /// Time of its first record, in milliseconds since 1970.
    pub first_timestamp_ms: i64,
    /// Newest time of its last batch, in milliseconds since 1970.
    pub last_timestamp_ms: i64,
    /// Whether a compaction went over it.
    pub compacted: bool,
}

impl Topic {
    /// The segments of a partition, oldest first. Walks over the headers of the batches; blocks on the disk.
    pub fn segments(&self, partition: PartitionId) -> Result<Vec<SegmentDescription>> {
        let partition = self.inner.partition(partition)?;
        self.looking_again(|| describe(partition))
    }
}

fn describe(partition: &Partition) -> Result<Vec<SegmentDescription>> {
    let state = partition.state();
    let described = state.segments.iter().enumerate().map(|(index, segment)| {
        let (end_offset, bytes) = state.segment_end(index);
        Ok(SegmentDescription {
            base_offset: segment.base_offset(),
            end_offset,
            bytes,
            first_timestamp_ms: partition.first_time(segment)?,
            last_timestamp_ms: last_header(partition, segment, end_offset)?.max_timestamp_ms,
            compacted: segment.is_compacted(),
        })
    });
    described.collect()
}

fn last_header(partition: &Partition, segment: &Segment, end_offset: Offset) -> Result<BatchHeader> {
    // The index knows a place at or before the last batch.
    let mut place = segment.locate(end_offset - 1, &partition.files)?;
    loop {
        let header = header_at(partition, segment, place)?;
        if header.next_offset() >= end_offset {
            return Ok(header);
        }
        place = BatchPlace { base_offset: header.next_offset(), position: place.position + header.total_bytes as u64 };
    }
}

fn header_at(partition: &Partition, segment: &Segment, place: BatchPlace) -> Result<BatchHeader> {
    let mut bytes = [0; HEADER_BYTES];
    let read = segment.open(&partition.files)?.read_at(&mut bytes, place.position)?;
    let header = BatchHeader::parse(bytes.get(..read).unwrap_or_default()).map_err(|error| segment.damaged(place, None, &error))?;
    segment.check_place(&header, place, u64::MAX)?;
    Ok(header)
}
