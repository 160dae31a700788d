//! The bytes of a journal file. All numbers are little-endian.
//!
//! ```text
//! file    = header entry* zero*              <number, 20 digits>.journal
//! header  =  0  magic          "MSJL"
//!            4  version        u8   1
//!            5  zero           3 bytes
//!            8  salt           u64  random; begins every salted CRC, so that no byte from another file fits
//!           16  CRC-32C        u32  salted, of bytes 0 to 16
//! entry   =  0  magic          "MSJe"
//!            4  version        u8   1
//!            5  kind           u8   1 checkpoint, 2 commit, 3 topics deleted, 4 topics created, 5 commit behind un-synced ones
//!            6  zero           u16
//!            8  total bytes    u64  of the entry, trailer included
//!           16  sequence       u64  of this commit; of the last commit before any other kind
//!           24  head bytes     u32
//!           28  head CRC-32C   u32  salted, of the head
//!           32  CRC-32C        u32  salted, of bytes 0 to 32
//!           36  head, inline bytes, trailer
//! trailer =  0  total bytes    u64  again: finds an entry whose first bytes are damaged
//!            8  sequence       u32  low half
//!           12  magic          "eJSM"
//!
//! head of a commit
//!     time u64 (ms since 1970), position length u32, position, piece count u32, piece*
//! piece   =  0  topic id       16 bytes
//!           16  partition      u32
//!           20  flags          u8   bit 0: its bytes stand in this entry
//!           21  zero           3 bytes
//!           24  segment        u64  base offset of the segment file
//!           32  file position  u64  where in it; 0 begins a new segment
//!           40  base offset    u64  of the first record
//!           48  next offset    u64  after the last record
//!           56  length         u64  in bytes
//!           64  CRC-32C        u32  of the bytes
//! The inline bytes are those of the pieces with bit 0, in the same order.
//!
//! head of a commit behind un-synced ones: un-synced bytes u64, then as a commit's. So many bytes of the file right before this entry, whole
//! entries, had not been synced when it was written, nor what they say of segments; in all other cases none.
//!
//! head of a checkpoint: everything that was committed up to `sequence`, whose bytes are synced
//!     time u64, position present u8, position length u32, position, topic count u32, topic*
//! topic   = created topic, listed partition count u32, partition*     only partitions that ever had records
//! partition = number u32, start offset u64, next offset u64, segment count u32, segment*
//! segment = base offset u64, length u64, flags u8
//!           bit 0: `<segment>.log.swap`, if there, is to be renamed over the segment
//!           bit 1: a round of compaction has gone over it
//!
//! head of deleted topics: their ids, 16 bytes each
//!
//! head of created topics: topic count u32, created topic*
//! created topic = id 16 bytes, partition count u32, name length u32, name (UTF-8)
//! ```
//!
//! A reader refuses versions, kinds and flags that it does not know: a newer build wrote them.

use bytes::{Buf as _, BufMut as _};
use uuid::Uuid;

use super::entry::{Checkpoint, Piece, TopicEntry, TopicImage};
use crate::partition::Offset;

pub(crate) const FILE_MAGIC: [u8; 4] = *b"MSJL";
pub(crate) const ENTRY_MAGIC: [u8; 4] = *b"MSJe";
pub(crate) const TRAILER_MAGIC: [u8; 4] = *b"eJSM";
pub(crate) const VERSION: u8 = 1;
pub(crate) const FILE_HEADER_BYTES: usize = 20;
pub(crate) const ENTRY_HEADER_BYTES: usize = 36;
pub(crate) const TRAILER_BYTES: usize = 16;
pub(crate) const PIECE_BYTES: usize = 68;

pub(super) const KIND_CHECKPOINT: u8 = 1;
pub(crate) const KIND_COMMIT: u8 = 2;
pub(super) const KIND_TOPICS_DELETED: u8 = 3;
pub(super) const KIND_TOPICS_CREATED: u8 = 4;
pub(crate) const KIND_COMMIT_BEHIND_UNSYNCED: u8 = 5;
pub(crate) const PIECE_INLINE: u8 = 1;
pub(super) const SEGMENT_SWAP: u8 = 1;
/// No segment is longer: where a batch stands in one is kept in 32 bits.
pub(super) const SEGMENT_BYTES_MAX: u64 = u32::MAX as u64;
/// No sequence and no offset is larger, so that there is always a next one.
pub(super) const NUMBER_MAX: u64 = Offset::MAX as u64 / 2;
pub(super) const SEGMENT_COMPACTED: u8 = 2;

/// Why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The header is not one, so nothing else is known.
    Header(&'static str),
    /// The file ends before the entry does.
    Cut,
    /// The header is right, what follows is not. The entry's total bytes.
    Content(&'static str, u64),
    /// A version, kind or flag of a newer build.
    Newer(u32),
}

/// CRC-32C over the file's salt and then `bytes`.
pub(crate) fn salted_crc(salt: u64, bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&salt.to_le_bytes());
    digest.update(bytes);
    digest.finalize() as u32
}

pub(crate) fn encode_file_header(salt: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES);
    bytes.extend_from_slice(&FILE_MAGIC);
    bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
    bytes.put_u64_le(salt);
    let crc = salted_crc(salt, &bytes);
    bytes.put_u32_le(crc);
    bytes
}

/// The salt of a journal file.
pub(crate) fn decode_file_header(bytes: &[u8]) -> Result<u64, Malformed> {
    let header = bytes.get(..FILE_HEADER_BYTES).ok_or(Malformed::Header("the file is shorter than its header"))?;
    if header[..4] != FILE_MAGIC {
        return Err(Malformed::Header("it does not begin as a journal file does"));
    }
    let mut rest = &header[8..];
    let salt = rest.get_u64_le();
    if rest.get_u32_le() != salted_crc(salt, &header[..16]) {
        return Err(Malformed::Header("the file header's checksum is wrong"));
    }
    if header[4] != VERSION {
        return Err(Malformed::Newer(header[4].into()));
    }
    Ok(salt)
}

/// Starts an entry in `buffer`, which is emptied; the head is to follow.
pub(super) fn begin_entry(buffer: &mut Vec<u8>, kind: u8, sequence: u64) {
    buffer.clear();
    buffer.extend_from_slice(&ENTRY_MAGIC);
    buffer.extend_from_slice(&[VERSION, kind, 0, 0]);
    buffer.put_u64_le(0);
    buffer.put_u64_le(sequence);
    buffer.resize(ENTRY_HEADER_BYTES, 0);
}

/// Ends an entry whose head and `inline_bytes` more are in `buffer`.
pub(super) fn end_entry(buffer: &mut Vec<u8>, salt: u64, sequence: u64, inline_bytes: usize) {
    let total = (buffer.len() + TRAILER_BYTES) as u64;
    let head_end = buffer.len() - inline_bytes;
    let head_crc = salted_crc(salt, &buffer[ENTRY_HEADER_BYTES..head_end]);
    buffer[8..16].copy_from_slice(&total.to_le_bytes());
    buffer[24..28].copy_from_slice(&((head_end - ENTRY_HEADER_BYTES) as u32).to_le_bytes());
    buffer[28..32].copy_from_slice(&head_crc.to_le_bytes());
    let crc = salted_crc(salt, &buffer[..32]);
    buffer[32..36].copy_from_slice(&crc.to_le_bytes());
    buffer.put_u64_le(total);
    buffer.put_u32_le(sequence as u32);
    buffer.extend_from_slice(&TRAILER_MAGIC);
}

/// What identifies a commit entry in its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitPlace {
    /// Of the file.
    pub(crate) salt: u64,
    pub(crate) sequence: u64,
    /// See [`Commit::unsynced_before`].
    pub(crate) unsynced_before: u64,
}

/// Writes a commit entry into `buffer`. `inline` are the bytes of the inline pieces, in their order.
pub(crate) fn encode_commit<'a>(
    buffer: &mut Vec<u8>,
    place: CommitPlace,
    position: &[u8],
    pieces: &[Piece],
    inline: impl Iterator<Item = &'a [u8]>,
) {
    let CommitPlace { salt, sequence, unsynced_before } = place;
    if unsynced_before == 0 {
        begin_entry(buffer, KIND_COMMIT, sequence);
    } else {
        begin_entry(buffer, KIND_COMMIT_BEHIND_UNSYNCED, sequence);
        buffer.put_u64_le(unsynced_before);
    }
    buffer.put_u64_le(crate::clock::now_ms() as u64);
    buffer.put_u32_le(position.len() as u32);
    buffer.extend_from_slice(position);
    buffer.put_u32_le(pieces.len() as u32);
    buffer.reserve(pieces.len() * PIECE_BYTES);
    for piece in pieces {
        buffer.extend_from_slice(piece.topic.as_bytes());
        buffer.put_u32_le(piece.partition as u32);
        buffer.put_u8(if piece.inline { PIECE_INLINE } else { 0 });
        buffer.put_bytes(0, 3);
        buffer.put_u64_le(piece.segment as u64);
        buffer.put_u64_le(piece.file_position);
        buffer.put_u64_le(piece.base_offset as u64);
        buffer.put_u64_le(piece.next_offset as u64);
        buffer.put_u64_le(piece.length);
        buffer.put_u32_le(piece.crc);
    }
    let head_end = buffer.len();
    for bytes in inline {
        buffer.extend_from_slice(bytes);
    }
    let inline_bytes = buffer.len() - head_end;
    end_entry(buffer, salt, sequence, inline_bytes);
}

pub(crate) fn encode_topics_deleted(buffer: &mut Vec<u8>, salt: u64, sequence: u64, topics: impl Iterator<Item = Uuid>) {
    begin_entry(buffer, KIND_TOPICS_DELETED, sequence);
    topics.for_each(|topic| buffer.extend_from_slice(topic.as_bytes()));
    end_entry(buffer, salt, sequence, 0);
}

pub(crate) fn encode_topics_created<'a>(
    buffer: &mut Vec<u8>,
    salt: u64,
    sequence: u64,
    topics: impl ExactSizeIterator<Item = &'a TopicEntry>,
) {
    begin_entry(buffer, KIND_TOPICS_CREATED, sequence);
    buffer.put_u32_le(topics.len() as u32);
    topics.for_each(|topic| put_topic(buffer, topic));
    end_entry(buffer, salt, sequence, 0);
}

fn put_topic(buffer: &mut Vec<u8>, topic: &TopicEntry) {
    buffer.extend_from_slice(topic.id.as_bytes());
    buffer.put_u32_le(topic.partitions as u32);
    buffer.put_u32_le(topic.name.len() as u32);
    buffer.extend_from_slice(topic.name.as_bytes());
}

pub(crate) fn encode_checkpoint(buffer: &mut Vec<u8>, salt: u64, checkpoint: &Checkpoint) {
    begin_entry(buffer, KIND_CHECKPOINT, checkpoint.sequence);
    buffer.put_u64_le(crate::clock::now_ms() as u64);
    let position = checkpoint.position.as_deref();
    buffer.put_u8(position.is_some().into());
    let position = position.unwrap_or_default();
    buffer.put_u32_le(position.len() as u32);
    buffer.extend_from_slice(position);
    buffer.put_u32_le(checkpoint.topics.len() as u32);
    for TopicImage { topic, partitions } in &checkpoint.topics {
        put_topic(buffer, topic);
        buffer.put_u32_le(partitions.len() as u32);
        for (number, partition) in partitions {
            buffer.put_u32_le(*number as u32);
            buffer.put_u64_le(partition.start_offset as u64);
            buffer.put_u64_le(partition.next_offset as u64);
            buffer.put_u32_le(partition.segments.len() as u32);
            for segment in &partition.segments {
                buffer.put_u64_le(segment.base_offset as u64);
                buffer.put_u64_le(segment.length);
                buffer.put_u8(segment.flags());
            }
        }
    }
    end_entry(buffer, salt, checkpoint.sequence, 0);
}
