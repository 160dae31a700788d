//! What the entries of a journal say; [`super::format`] has their bytes.

use bytes::Bytes;
use uuid::Uuid;

use super::format::{SEGMENT_BYTES_MAX, SEGMENT_COMPACTED, SEGMENT_SWAP};
use crate::partition::{Offset, PartitionId};

/// Bytes of one partition in one segment, written by one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) topic: Uuid,
    pub(crate) partition: PartitionId,
    pub(crate) inline: bool,
    pub(crate) segment: Offset,
    pub(crate) file_position: u64,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) length: u64,
    pub(crate) crc: u32,
}

/// A segment as of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentImage {
    pub(crate) base_offset: Offset,
    pub(crate) length: u64,
    /// Its content may still be in the `.swap` file.
    pub(crate) swap: bool,
    /// A compaction went over it.
    pub(crate) compacted: bool,
}

impl SegmentImage {
    pub(super) fn flags(&self) -> u8 {
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        flag(self.swap, SEGMENT_SWAP) | flag(self.compacted, SEGMENT_COMPACTED)
    }
}

/// A partition as of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionImage {
    pub(crate) start_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) segments: Vec<SegmentImage>,
}

impl PartitionImage {
    /// Whether a partition can be like this: records from its start to its end, in segments that follow each other.
    pub(super) fn is_possible(&self) -> bool {
        let ends = self.segments.iter().skip(1).map(|segment| segment.base_offset).chain([self.next_offset]);
        let mut segments = self.segments.iter().zip(ends);
        let first = self.segments.first().map_or(self.next_offset, |first| first.base_offset);
        self.start_offset <= self.next_offset
            && first <= self.start_offset
            && segments.all(|(segment, end)| {
                segment.length <= SEGMENT_BYTES_MAX && segment.base_offset < end && fits_segment(segment.base_offset, end)
            })
    }
}

/// Whether a segment that begins at `base_offset` can end before `next_offset`.
pub(crate) fn fits_segment(base_offset: Offset, next_offset: Offset) -> bool {
    next_offset - base_offset <= Offset::from(i32::MAX)
}

/// A topic as its pipeline's journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicEntry {
    /// Tells this topic from an earlier one of the same name.
    pub(crate) id: Uuid,
    pub(crate) name: String,
    /// How many it has.
    pub(crate) partitions: PartitionId,
}

/// A topic as of a checkpoint, with the partitions that ever had records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicImage {
    pub(crate) topic: TopicEntry,
    pub(crate) partitions: Vec<(PartitionId, PartitionImage)>,
}

/// A checkpoint's content: all topics of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) sequence: u64,
    pub(crate) position: Option<Bytes>,
    pub(crate) topics: Vec<TopicImage>,
}

impl Checkpoint {
    /// Whether the content of a segment may wait in a `.swap` file.
    pub(crate) fn names_swaps(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.flat_map(|(_, partition)| &partition.segments).any(|segment| segment.swap)
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Checkpoint(Checkpoint),
    Commit(Commit),
    TopicsDeleted { sequence: u64, topics: Vec<Uuid> },
    TopicsCreated { sequence: u64, topics: Vec<TopicEntry> },
}

/// A commit as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) sequence: u64,
    /// So many bytes of the file right before the entry had not been synced when it was written.
    pub(crate) unsynced_before: u64,
    pub(crate) position: Bytes,
    pub(crate) pieces: Vec<Piece>,
    /// For each piece its bytes, where they stand in the entry and their checksum is right.
    pub(crate) inline: Vec<Option<Bytes>>,
}
