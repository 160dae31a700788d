//! Reads entries back: what [`super::format`] draws, told from what it does not.

use bytes::{Buf as _, Bytes};
use uuid::Uuid;

use super::{
    entry::{Checkpoint, Commit, Entry, PartitionImage, Piece, SegmentImage, TopicEntry, TopicImage},
    format::{
        ENTRY_HEADER_BYTES, ENTRY_MAGIC, KIND_CHECKPOINT, KIND_COMMIT, KIND_COMMIT_BEHIND_UNSYNCED, KIND_TOPICS_CREATED,
        KIND_TOPICS_DELETED, Malformed, NUMBER_MAX, PIECE_BYTES, PIECE_INLINE, SEGMENT_BYTES_MAX, SEGMENT_COMPACTED, SEGMENT_SWAP,
        TRAILER_BYTES, VERSION, salted_crc,
    },
};
use crate::{
    names,
    partition::{Offset, PartitionId},
    topic::PARTITIONS_MAX,
};

/// Reads the entry at the start of `bytes`, which end where the file does; with it, its total bytes.
pub(crate) fn decode_entry(bytes: &Bytes, salt: u64) -> Result<(Entry, usize), Malformed> {
    let header = bytes.get(..ENTRY_HEADER_BYTES).ok_or(Malformed::Cut)?;
    if header[..4] != ENTRY_MAGIC {
        return Err(Malformed::Header("no entry begins there"));
    }
    let mut fields = &header[8..];
    let total = fields.get_u64_le();
    let sequence = fields.get_u64_le();
    let head_bytes = fields.get_u32_le() as usize;
    let head_crc = fields.get_u32_le();
    if fields.get_u32_le() != salted_crc(salt, &header[..32]) {
        return Err(Malformed::Header("the entry header's checksum is wrong"));
    }
    if header[4] != VERSION || header[6..8] != [0, 0] {
        return Err(Malformed::Newer(header[4].into()));
    }
    let content = |problem| Malformed::Content(problem, total);
    let size = usize::try_from(total).map_err(|_| Malformed::Cut)?;
    if bytes.len() < size {
        return Err(Malformed::Cut);
    }
    let overhead = ENTRY_HEADER_BYTES + TRAILER_BYTES;
    if head_bytes.checked_add(overhead).is_none_or(|least| least > size) {
        return Err(content("its head is longer than the entry"));
    }
    let head = bytes.slice(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + head_bytes);
    if salted_crc(salt, &head) != head_crc {
        return Err(content("its head's checksum is wrong"));
    }
    if sequence > NUMBER_MAX {
        return Err(content("its sequence is too large"));
    }
    let inline = bytes.slice(ENTRY_HEADER_BYTES + head_bytes..size - TRAILER_BYTES);
    let entry = match header[5] {
        KIND_CHECKPOINT => decode_checkpoint(head, sequence).map(Entry::Checkpoint),
        kind @ (KIND_COMMIT | KIND_COMMIT_BEHIND_UNSYNCED) => {
            decode_commit(head, sequence, kind == KIND_COMMIT_BEHIND_UNSYNCED, inline).map(Entry::Commit)
        }
        KIND_TOPICS_DELETED => decode_topics_deleted(head).map(|topics| Entry::TopicsDeleted { sequence, topics }),
        KIND_TOPICS_CREATED => decode_topics_created(head).map(|topics| Entry::TopicsCreated { sequence, topics }),
        _ => Err(Unread::Newer),
    };
    match entry {
        Ok(entry) => Ok((entry, size)),
        Err(Unread::Short) => Err(content("its head does not hold what it says")),
        Err(Unread::Impossible) => Err(content("its head says what cannot be")),
        Err(Unread::Newer) => Err(Malformed::Newer(u32::from(VERSION) + 1)),
    }
}

/// Why a head whose checksum is right could not be read.
enum Unread {
    Short,
    /// It says what no writer can have meant.
    Impossible,
    Newer,
}

impl From<bytes::TryGetError> for Unread {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

fn decode_commit(mut head: Bytes, sequence: u64, behind_unsynced: bool, mut inline_bytes: Bytes) -> Result<Commit, Unread> {
    let unsynced_before = if behind_unsynced { head.try_get_u64_le()? } else { 0 };
    let _time = head.try_get_u64_le()?;
    let position = take(&mut head)?;
    let count = head.try_get_u32_le()? as usize;
    if count.checked_mul(PIECE_BYTES) != Some(head.len()) {
        return Err(Unread::Short);
    }
    let mut pieces = Vec::with_capacity(count);
    let mut inline = Vec::with_capacity(count);
    for _ in 0..count {
        let topic = take_uuid(&mut head)?;
        let partition = take_partition(&mut head)?;
        let flags = head.try_get_u32_le()?;
        if flags & !u32::from(PIECE_INLINE) != 0 {
            return Err(Unread::Newer);
        }
        let piece = Piece {
            topic,
            partition,
            inline: flags & u32::from(PIECE_INLINE) != 0,
            segment: take_offset(&mut head)?,
            file_position: head.try_get_u64_le()?,
            base_offset: take_offset(&mut head)?,
            next_offset: take_offset(&mut head)?,
            length: head.try_get_u64_le()?,
            crc: head.try_get_u32_le()?,
        };
        if piece.file_position.checked_add(piece.length).is_none_or(|end| end > SEGMENT_BYTES_MAX) {
            return Err(Unread::Impossible);
        }
        inline.push(if piece.inline { take_inline(&mut inline_bytes, &piece)? } else { None });
        pieces.push(piece);
    }
    if !inline_bytes.is_empty() {
        return Err(Unread::Short);
    }
    Ok(Commit { sequence, unsynced_before, position, pieces, inline })
}

fn decode_topics_deleted(mut head: Bytes) -> Result<Vec<Uuid>, Unread> {
    let mut topics = Vec::with_capacity(head.len() / size_of::<Uuid>());
    while !head.is_empty() {
        topics.push(take_uuid(&mut head)?);
    }
    Ok(topics)
}

fn decode_topics_created(mut head: Bytes) -> Result<Vec<TopicEntry>, Unread> {
    let count = head.try_get_u32_le()?;
    let topics: Vec<_> = (0..count).map(|_| take_topic(&mut head)).collect::<Result<_, _>>()?;
    if head.is_empty() { Ok(topics) } else { Err(Unread::Short) }
}

fn decode_checkpoint(mut head: Bytes, sequence: u64) -> Result<Checkpoint, Unread> {
    let _time = head.try_get_u64_le()?;
    let present = head.try_get_u8()?;
    let position = take(&mut head)?;
    let topic_count = head.try_get_u32_le()?;
    let mut topics = Vec::new();
    for _ in 0..topic_count {
        let topic = take_topic(&mut head)?;
        let partition_count = head.try_get_u32_le()?;
        let mut partitions = Vec::new();
        for _ in 0..partition_count {
            let number = take_partition(&mut head)?;
            let mut image = PartitionImage {
                start_offset: take_offset(&mut head)?,
                next_offset: take_offset(&mut head)?,
                segments: Vec::new(),
            };
            for _ in 0..head.try_get_u32_le()? {
                let base_offset = take_offset(&mut head)?;
                let length = head.try_get_u64_le()?;
                let flags = head.try_get_u8()?;
                if flags & !(SEGMENT_SWAP | SEGMENT_COMPACTED) != 0 {
                    return Err(Unread::Newer);
                }
                let (swap, compacted) = (flags & SEGMENT_SWAP != 0, flags & SEGMENT_COMPACTED != 0);
                image.segments.push(SegmentImage { base_offset, length, swap, compacted });
            }
            if !image.is_possible() {
                return Err(Unread::Impossible);
            }
            partitions.push((number, image));
        }
        topics.push(TopicImage { topic, partitions });
    }
    if !head.is_empty() {
        return Err(Unread::Short);
    }
    Ok(Checkpoint { sequence, position: (present != 0).then_some(position), topics })
}

/// Takes a length (u32) and that many bytes.
fn take(head: &mut Bytes) -> Result<Bytes, Unread> {
    let length = head.try_get_u32_le()? as usize;
    if length > head.len() {
        return Err(Unread::Short);
    }
    // Copied, because a position outlives the journal's bytes in memory.
    Ok(Bytes::copy_from_slice(&head.split_to(length)))
}

/// Takes a piece's bytes; the inner `None` when their checksum is wrong.
fn take_inline(inline: &mut Bytes, piece: &Piece) -> Result<Option<Bytes>, Unread> {
    let length = usize::try_from(piece.length).map_err(|_| Unread::Short)?;
    if length > inline.len() {
        return Err(Unread::Short);
    }
    let bytes = inline.split_to(length);
    Ok((crc_fast::crc32_iscsi(&bytes) == piece.crc).then_some(bytes))
}

fn take_uuid(head: &mut Bytes) -> Result<Uuid, Unread> {
    let mut id = [0; 16];
    head.try_copy_to_slice(&mut id)?;
    Ok(Uuid::from_bytes(id))
}

/// Takes a topic; one that could never have been made is malformed.
fn take_topic(head: &mut Bytes) -> Result<TopicEntry, Unread> {
    let id = take_uuid(head)?;
    let partitions = take_partition(head)?;
    let name = String::from_utf8(take(head)?.to_vec()).map_err(|_| Unread::Short)?;
    if names::check_topic(&name).is_err() || !(1..=PARTITIONS_MAX).contains(&partitions) {
        return Err(Unread::Impossible);
    }
    Ok(TopicEntry { id, name, partitions })
}

fn take_offset(head: &mut Bytes) -> Result<Offset, Unread> {
    let offset = head.try_get_u64_le()?;
    Offset::try_from(offset).ok().filter(|_| offset <= NUMBER_MAX).ok_or(Unread::Impossible)
}

fn take_partition(head: &mut Bytes) -> Result<PartitionId, Unread> {
    PartitionId::try_from(head.try_get_u32_le()?).map_err(|_| Unread::Short)
}
