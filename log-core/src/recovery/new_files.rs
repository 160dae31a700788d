//! Writes what came after a checkpoint once more, when what the page cache says of the old files proves nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::image::Image;
use super::pieces::for_each_chunk;
use crate::durable_file::{self, Access, DurableFile};
use crate::error::Result;
use crate::journal::entry::{self, Piece, SegmentImage};
use crate::partition::{self, Offset, PartitionId};
use crate::segment;

/// What was committed after the checkpoint, written to new files, one or more for each partition.
pub(super) struct Tail {
    segment_bytes_max: u64,
    segments: BTreeMap<(Uuid, PartitionId), TailPartition>,
}

struct TailPartition {
    dir: PathBuf,
    next_offset: Offset,
    segments: Vec<SegmentImage>,
}

impl Tail {
    pub(super) fn new(segment_bytes_max: u64) -> Self {
        Self { segment_bytes_max, segments: BTreeMap::new() }
    }

    /// Adds a piece: `inline`, or what stands at `source`.
    pub(super) fn append(&mut self, piece: &Piece, inline: Option<&[u8]>, source: &Path) -> Result<()> {
        let dir = source.parent().unwrap_or(source);
        let partition = self.segments.entry((piece.topic, piece.partition)).or_insert_with(|| TailPartition {
            dir: dir.to_owned(),
            next_offset: piece.base_offset,
            segments: Vec::new(),
        });
        partition.next_offset = piece.next_offset;
        let full = |segment: &SegmentImage| {
            segment.length + piece.length > self.segment_bytes_max || !entry::fits_segment(segment.base_offset, piece.next_offset)
        };
        let last = match partition.segments.last_mut() {
            Some(last) if !full(last) => last,
            _ => {
                let base_offset = piece.base_offset;
                partition::create_dir(dir)?;
                DurableFile::create(&dir.join(segment::swap_file_name(base_offset)))?;
                partition.segments.push(SegmentImage { base_offset, length: 0, swap: true, compacted: false });
                let Some(last) = partition.segments.last_mut() else { return Ok(()) };
                last
            }
        };
        let path = partition.dir.join(segment::swap_file_name(last.base_offset));
        let file = DurableFile::open(&path, Access::ReadWrite)?;
        match inline {
            Some(bytes) => file.write_all_at(bytes, last.length)?,
            None => {
                let mut at = last.length;
                let source = DurableFile::open(source, Access::Read)?;
                for_each_chunk(&source, piece, |chunk| {
                    file.write_all_at(chunk, at)?;
                    at += chunk.len() as u64;
                    Ok(())
                })?;
            }
        }
        last.length += piece.length;
        Ok(())
    }

    /// Syncs the new files and puts them into `image`.
    pub(super) fn finish(self, image: &mut Image) -> Result<()> {
        for (key, tail) in self.segments {
            durable_file::sync_together(&tail.segments, |segment| {
                durable_file::sync_file(&tail.dir.join(segment::swap_file_name(segment.base_offset)))
            })?;
            partition::dirs_above(&tail.dir).try_for_each(durable_file::sync_dir)?;
            let image = image.partitions.entry(key).or_default();
            image.next_offset = tail.next_offset;
            image.segments.extend(tail.segments);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_takes_no_more_offsets_than_a_segment() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("topic/0/source.log");
        let far = Offset::from(i32::MAX);
        let piece = |base_offset, next_offset| Piece {
            topic: Uuid::from_u128(1),
            partition: 0,
            inline: true,
            segment: base_offset,
            file_position: 0,
            base_offset,
            next_offset,
            length: 5,
            crc: 0,
        };
        let mut tail = Tail::new(1 << 20);
        for piece in [piece(0, far - 1), piece(far - 1, far), piece(far, far + 1)] {
            tail.append(&piece, Some(b"bytes"), &source).unwrap();
        }
        let mut image = Image::default();
        tail.finish(&mut image).unwrap();
        let segments = image.partitions.values().flat_map(|partition| &partition.segments);
        let found: Vec<_> = segments.map(|segment| (segment.base_offset, segment.length)).collect();
        assert_eq!(found, [(0, 10), (far, 5)]);
    }
}
