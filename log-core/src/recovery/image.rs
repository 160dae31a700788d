//! What is committed: a journal's checkpoint with the entries behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::journal::LoadedTopics;
use crate::journal::entry::{self, Checkpoint, PartitionImage, Piece, SegmentImage, TopicEntry, TopicImage};
use crate::partition::{Offset, Partition, PartitionId, PartitionState};
use crate::segment::Segment;
use crate::topic::TopicInner;

/// What a journal says is committed.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pub(crate) sequence: u64,
    pub(crate) position: Option<Bytes>,
    /// Those that exist after all entries.
    topics: Vec<TopicEntry>,
    pub(crate) partitions: BTreeMap<(Uuid, PartitionId), PartitionImage>,
}

impl Image {
    /// The checkpoint, of the topics that still exist at the journal's end, once all contents have their names.
    pub(crate) fn from_checkpoint(checkpoint: &Checkpoint, topics: &LoadedTopics) -> Self {
        let mut image = Self::as_written(checkpoint, topics);
        let segments = image.partitions.values_mut().flat_map(|partition| &mut partition.segments);
        segments.for_each(|segment| segment.swap = false);
        image
    }

    /// As [`from_checkpoint`](Self::from_checkpoint), with contents that may still wait for their names.
    pub(super) fn as_written(checkpoint: &Checkpoint, topics: &LoadedTopics) -> Self {
        let mut partitions = BTreeMap::new();
        for image in &checkpoint.topics {
            if topics.deleted.iter().any(|deleted| deleted.id == image.topic.id) {
                continue;
            }
            for (number, partition) in &image.partitions {
                partitions.insert((image.topic.id, *number), partition.clone());
            }
        }
        Self { sequence: checkpoint.sequence, position: checkpoint.position.clone(), topics: topics.live.clone(), partitions }
    }

    /// The checkpoint that says this.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let topics = self.topics.iter().map(|topic| {
            let partitions = self.partitions.range((topic.id, PartitionId::MIN)..=(topic.id, PartitionId::MAX));
            let partitions = partitions.map(|((_, number), image)| (*number, image.clone())).collect();
            TopicImage { topic: topic.clone(), partitions }
        });
        Checkpoint { sequence: self.sequence, position: self.position.clone(), topics: topics.collect() }
    }

    /// Adds a piece behind what is there, checking that it belongs exactly there.
    pub(crate) fn add(&mut self, piece: &Piece) -> Result<(), &'static str> {
        let image = self.partitions.entry((piece.topic, piece.partition)).or_default();
        if piece.base_offset != image.next_offset || piece.next_offset <= piece.base_offset || piece.length == 0 {
            return Err("a piece of the commit does not continue its partition");
        }
        match image.segments.last_mut() {
            Some(last) if last.base_offset == piece.segment => {
                if last.length != piece.file_position {
                    return Err("a piece of the commit does not continue its segment");
                }
                if !entry::fits_segment(last.base_offset, piece.next_offset) {
                    return Err("a piece of the commit does not fit its segment");
                }
                last.length += piece.length;
            }
            _ if piece.segment == piece.base_offset && piece.file_position == 0 => {
                if !entry::fits_segment(piece.segment, piece.next_offset) {
                    return Err("a piece of the commit does not fit its segment");
                }
                let (base_offset, length) = (piece.segment, piece.length);
                image.segments.push(SegmentImage { base_offset, length, swap: false, compacted: false });
            }
            _ => return Err("a piece of the commit is in an unknown segment"),
        }
        image.next_offset = piece.next_offset;
        Ok(())
    }

    /// Shows the image to readers.
    pub(super) fn apply(&self, topics: &[Arc<TopicInner>], known: Known) {
        for topic in topics {
            for (number, partition) in (0..).zip(&topic.partitions) {
                let state = match self.partitions.get(&(topic.metadata.id, number)) {
                    Some(image) => partition_state(image, partition, known),
                    None => PartitionState::default(),
                };
                partition.set_state(state);
            }
        }
    }
}

/// What becomes of segments that are in memory already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// They go on, with their indexes and open files.
    Keep,
    /// Recovery may have replaced their files.
    Discard,
}

fn partition_state(image: &PartitionImage, partition: &Partition, known: Known) -> PartitionState {
    let known = if known == Known::Keep { partition.state().segments } else { Vec::new() };
    let bases = image.segments.iter().skip(1).map(|segment| Some(segment.base_offset)).chain([None]);
    let segments = image.segments.iter().zip(bases).map(|(segment, next)| match find_same(&known, segment, next) {
        Some(same) => {
            same.set_committed_bytes(segment.length);
            same.clone()
        }
        None => Segment::from_image(&partition.dir, segment),
    });
    PartitionState::new(image.start_offset, image.next_offset, segments.collect())
}

/// The segment in memory that has the content of an image, behind which `next` begins. Only the last one grows; where any other
/// has changed, a compaction wrote it.
fn find_same<'a>(known: &'a [Arc<Segment>], image: &SegmentImage, next: Option<Offset>) -> Option<&'a Arc<Segment>> {
    let at = known.iter().position(|known| known.base_offset() == image.base_offset)?;
    let found = known.get(at)?;
    let as_before = found.is_compacted() == image.compacted && !found.is_waiting() && !image.swap;
    let same = match known.get(at + 1) {
        None => found.committed_bytes() <= image.length,
        Some(behind) => found.committed_bytes() == image.length && next == Some(behind.base_offset()),
    };
    (as_before && same).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_spans_no_more_offsets_than_a_batch_can_say() {
        let longest = Offset::from(i32::MAX);
        let piece = |segment, file_position, base_offset, next_offset| Piece {
            topic: Uuid::from_u128(1),
            partition: 0,
            inline: false,
            segment,
            file_position,
            base_offset,
            next_offset,
            length: 100,
            crc: 0,
        };
        let mut image = Image::default();
        assert!(image.add(&piece(0, 0, 0, longest + 1)).is_err());
        let mut image = Image::default();
        assert_eq!(image.add(&piece(0, 0, 0, longest)), Ok(()));
        assert!(image.add(&piece(0, 100, longest, longest + 1)).is_err());
        assert_eq!(image.add(&piece(longest, 0, longest, longest + 1)), Ok(()));
    }
}
