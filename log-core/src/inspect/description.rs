//! What a topic's partitions are made of.

use crate::error::Result;
use crate::partition::{Offset, Partition, PartitionId};
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
            last_timestamp_ms: partition.find(segment, end_offset - 1)?.1.max_timestamp_ms,
            compacted: segment.is_compacted(),
        })
    });
    described.collect()
}
