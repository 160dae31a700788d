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
//!           bit 1: it was compacted: its batches may hold fewer records than offsets
//!
//! head of deleted topics: their ids, 16 bytes each
//!
//! head of created topics: topic count u32, created topic*
//! created topic = id 16 bytes, partition count u32, name length u32, name (UTF-8)
//! ```
//!
//! A reader refuses versions, kinds and flags that it does not know: a newer build wrote them.

use bytes::{Buf as _, BufMut as _, Bytes};
use uuid::Uuid;

use crate::names;
use crate::partition::{Offset, PartitionId};
use crate::topic::PARTITIONS_MAX;

pub(crate) const FILE_MAGIC: [u8; 4] = *b"MSJL";
pub(crate) const ENTRY_MAGIC: [u8; 4] = *b"MSJe";
pub(crate) const TRAILER_MAGIC: [u8; 4] = *b"eJSM";
pub(crate) const VERSION: u8 = 1;
pub(crate) const FILE_HEADER_BYTES: usize = 20;
pub(crate) const ENTRY_HEADER_BYTES: usize = 36;
pub(crate) const TRAILER_BYTES: usize = 16;
pub(crate) const PIECE_BYTES: usize = 68;

const KIND_CHECKPOINT: u8 = 1;
pub(crate) const KIND_COMMIT: u8 = 2;
const KIND_TOPICS_DELETED: u8 = 3;
const KIND_TOPICS_CREATED: u8 = 4;
pub(crate) const KIND_COMMIT_BEHIND_UNSYNCED: u8 = 5;
pub(crate) const PIECE_INLINE: u8 = 1;
const SEGMENT_SWAP: u8 = 1;
/// No segment is longer: where a batch stands in one is kept in 32 bits.
const SEGMENT_BYTES_MAX: u64 = u32::MAX as u64;
/// No sequence and no offset is larger, so that there is always a next one.
const NUMBER_MAX: u64 = Offset::MAX as u64 / 2;
const SEGMENT_COMPACTED: u8 = 2;

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
    fn flags(&self) -> u8 {
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
    fn is_possible(&self) -> bool {
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
fn begin(buffer: &mut Vec<u8>, kind: u8, sequence: u64) {
    buffer.clear();
    buffer.extend_from_slice(&ENTRY_MAGIC);
    buffer.extend_from_slice(&[VERSION, kind, 0, 0]);
    buffer.put_u64_le(0);
    buffer.put_u64_le(sequence);
    buffer.resize(ENTRY_HEADER_BYTES, 0);
}

/// Ends an entry whose head and `inline_bytes` more are in `buffer`.
fn finish(buffer: &mut Vec<u8>, salt: u64, sequence: u64, inline_bytes: usize) {
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
        begin(buffer, KIND_COMMIT, sequence);
    } else {
        begin(buffer, KIND_COMMIT_BEHIND_UNSYNCED, sequence);
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
    finish(buffer, salt, sequence, inline_bytes);
}

pub(crate) fn encode_topics_deleted(buffer: &mut Vec<u8>, salt: u64, sequence: u64, topics: impl Iterator<Item = Uuid>) {
    begin(buffer, KIND_TOPICS_DELETED, sequence);
    topics.for_each(|topic| buffer.extend_from_slice(topic.as_bytes()));
    finish(buffer, salt, sequence, 0);
}

pub(crate) fn encode_topics_created<'a>(
    buffer: &mut Vec<u8>,
    salt: u64,
    sequence: u64,
    topics: impl ExactSizeIterator<Item = &'a TopicEntry>,
) {
    begin(buffer, KIND_TOPICS_CREATED, sequence);
    buffer.put_u32_le(topics.len() as u32);
    topics.for_each(|topic| put_topic(buffer, topic));
    finish(buffer, salt, sequence, 0);
}

fn put_topic(buffer: &mut Vec<u8>, topic: &TopicEntry) {
    buffer.extend_from_slice(topic.id.as_bytes());
    buffer.put_u32_le(topic.partitions as u32);
    buffer.put_u32_le(topic.name.len() as u32);
    buffer.extend_from_slice(topic.name.as_bytes());
}

pub(crate) fn encode_checkpoint(buffer: &mut Vec<u8>, salt: u64, checkpoint: &Checkpoint) {
    begin(buffer, KIND_CHECKPOINT, checkpoint.sequence);
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
    finish(buffer, salt, checkpoint.sequence, 0);
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commit(unsynced_before: u64) -> (Commit, Vec<u8>) {
        let inline = [Bytes::from_static(b"first bytes"), Bytes::from_static(b"second")];
        let piece = |partition, inline: Option<&Bytes>| Piece {
            topic: Uuid::from_u128(7),
            partition,
            inline: inline.is_some(),
            segment: 100,
            file_position: 4096,
            base_offset: 110,
            next_offset: 120,
            length: inline.map_or(1 << 20, |bytes| bytes.len() as u64),
            crc: inline.map_or(9, |bytes| crc_fast::crc32_iscsi(bytes)),
        };
        let commit = Commit {
            sequence: 3,
            unsynced_before,
            position: Bytes::from_static(b"position"),
            pieces: vec![piece(0, Some(&inline[0])), piece(1, None), piece(2, Some(&inline[1]))],
            inline: vec![Some(inline[0].clone()), None, Some(inline[1].clone())],
        };
        let mut bytes = Vec::new();
        let pieces = commit.inline.iter().flatten().map(|bytes| bytes.as_ref());
        let place = CommitPlace { salt: 42, sequence: 3, unsynced_before };
        encode_commit(&mut bytes, place, b"position", &commit.pieces, pieces);
        (commit, bytes)
    }

    fn topic(number: u128) -> TopicEntry {
        TopicEntry { id: Uuid::from_u128(number), name: format!("shop.public.t_{number}"), partitions: 4 }
    }

    fn topics_created() -> (Vec<TopicEntry>, Vec<u8>) {
        let topics = vec![topic(1), topic(2)];
        let mut bytes = Vec::new();
        encode_topics_created(&mut bytes, 42, 8, topics.iter());
        (topics, bytes)
    }

    fn checkpoint() -> (Checkpoint, Vec<u8>) {
        let segment = |base_offset, swap, compacted| SegmentImage { base_offset, length: 100, swap, compacted };
        let segments = vec![segment(5, false, true), segment(7, true, true), segment(9, true, false), segment(11, false, false)];
        let image = PartitionImage { start_offset: 6, next_offset: 12, segments };
        let partitions = vec![(0, image), (3, PartitionImage::default())];
        let topics = vec![TopicImage { topic: topic(1), partitions }, TopicImage { topic: topic(2), partitions: Vec::new() }];
        let checkpoint = Checkpoint { sequence: 8, position: Some(Bytes::from_static(b"p")), topics };
        let mut bytes = Vec::new();
        encode_checkpoint(&mut bytes, 42, &checkpoint);
        (checkpoint, bytes)
    }

    #[test]
    fn round_trip() {
        for unsynced_before in [0, 777] {
            let (commit, bytes) = commit(unsynced_before);
            let len = bytes.len();
            assert_eq!(decode_entry(&Bytes::from(bytes), 42), Ok((Entry::Commit(commit), len)));
        }
        let (checkpoint, bytes) = checkpoint();
        let len = bytes.len();
        assert_eq!(decode_entry(&Bytes::from(bytes), 42), Ok((Entry::Checkpoint(checkpoint), len)));
        let mut bytes = Vec::new();
        let topics = vec![Uuid::from_u128(1), Uuid::from_u128(2)];
        encode_topics_deleted(&mut bytes, 42, 8, topics.iter().copied());
        let expected = Entry::TopicsDeleted { sequence: 8, topics };
        assert_eq!(decode_entry(&Bytes::from(bytes.clone()), 42), Ok((expected, bytes.len())));
        let (topics, created) = topics_created();
        let expected = Entry::TopicsCreated { sequence: 8, topics };
        assert_eq!(decode_entry(&Bytes::from(created.clone()), 42), Ok((expected, created.len())));
        // The same bytes in another file are no entry.
        assert!(matches!(decode_entry(&Bytes::from(bytes), 43), Err(Malformed::Header(_))));
        assert_eq!(decode_file_header(&encode_file_header(42)), Ok(42));
    }

    /// A checkpoint with one partition.
    fn checkpoint_of(image: PartitionImage) -> Vec<u8> {
        let topics = vec![TopicImage { topic: topic(1), partitions: vec![(0, image)] }];
        let mut bytes = Vec::new();
        encode_checkpoint(&mut bytes, 42, &Checkpoint { sequence: 1, position: None, topics });
        bytes
    }

    #[test]
    fn what_cannot_be_is_refused() {
        const LONGEST: u64 = SEGMENT_BYTES_MAX;
        let image = |start_offset, next_offset, segments: &[(Offset, u64)]| {
            let segment = |(base_offset, length)| SegmentImage { base_offset, length, swap: false, compacted: false };
            PartitionImage { start_offset, next_offset, segments: segments.iter().copied().map(segment).collect() }
        };
        let far = NUMBER_MAX as Offset;
        for possible in [
            image(0, 0, &[]),
            image(9, 9, &[]),
            image(6, 9, &[(5, 1), (8, 1)]),
            image(far - 1, far, &[(far - 1, LONGEST)]),
            image(0, i32::MAX.into(), &[(0, 1)]),
        ] {
            assert!(decode_entry(&Bytes::from(checkpoint_of(possible.clone())), 42).is_ok(), "{possible:?}");
        }
        for impossible in [
            // The end before the start, no segment for what is there, none at the start.
            image(9, 5, &[(5, 1)]),
            image(0, 5, &[]),
            image(4, 9, &[(5, 1)]),
            // Segments in a wrong order, twice, behind the end.
            image(5, 9, &[(5, 1), (8, 1), (7, 1)]),
            image(5, 9, &[(5, 1), (5, 1)]),
            image(5, 9, &[(5, 1), (9, 1)]),
            // Too much in one.
            image(0, 1, &[(0, LONGEST + 1)]),
            image(0, Offset::from(i32::MAX) + 1, &[(0, 1)]),
            image(far, far + 1, &[(far, 1)]),
        ] {
            let decoded = decode_entry(&Bytes::from(checkpoint_of(impossible.clone())), 42);
            assert!(matches!(decoded, Err(Malformed::Content(..))), "{impossible:?}");
        }
        let mut commit = commit(0).0;
        let decode = |sequence, pieces: &[Piece], inline: &[Option<Bytes>]| {
            let mut bytes = Vec::new();
            let place = CommitPlace { salt: 42, sequence, unsynced_before: 0 };
            encode_commit(&mut bytes, place, b"", pieces, inline.iter().flatten().map(|bytes| bytes.as_ref()));
            decode_entry(&Bytes::from(bytes), 42)
        };
        assert!(decode(NUMBER_MAX, &commit.pieces, &commit.inline).is_ok());
        assert!(matches!(decode(NUMBER_MAX + 1, &commit.pieces, &commit.inline), Err(Malformed::Content(..))));
        for (file_position, length) in [(LONGEST, 1), (0, LONGEST + 1), (1, u64::MAX)] {
            let piece = Piece { file_position, length, ..commit.pieces.swap_remove(1) };
            assert!(matches!(decode(1, std::slice::from_ref(&piece), &[]), Err(Malformed::Content(..))), "{piece:?}");
            commit.pieces.insert(1, piece);
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        for bytes in [commit(0).1, commit(777).1, checkpoint().1, topics_created().1] {
            for len in 0..bytes.len() {
                let cut = decode_entry(&Bytes::copy_from_slice(&bytes[..len]), 42);
                assert_eq!(cut, Err(Malformed::Cut), "{len} bytes");
            }
            let whole = decode_entry(&Bytes::from(bytes.clone()), 42).unwrap();
            let trailer = (bytes.len() - TRAILER_BYTES) * 8;
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                match decode_entry(&Bytes::from(changed), 42) {
                    Err(_) => {}
                    Ok(same) if bit >= trailer => assert_eq!(same, whole),
                    Ok((Entry::Commit(commit), _)) => {
                        let lost = commit.inline.iter().zip(&commit.pieces);
                        assert!(lost.filter(|(bytes, piece)| bytes.is_none() && piece.inline).count() == 1);
                    }
                    Ok(_) => panic!("bit {bit} went unnoticed"),
                }
            }
        }
        let header = encode_file_header(42);
        for bit in 0..header.len() * 8 {
            let mut changed = header.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_file_header(&changed).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_entry(&Bytes::from(bytes.clone()), 42).is_err());
            prop_assert!(decode_file_header(&bytes).is_err());
        }

        /// Wrong contents under right checksums.
        #[test]
        fn wrong_contents_never_panic(
            kind in 0u8..7,
            head in prop::collection::vec(any::<u8>(), 0..300),
            inline in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            begin(&mut bytes, kind, 1);
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(&inline);
            finish(&mut bytes, 42, 1, inline.len());
            let _ = decode_entry(&Bytes::from(bytes), 42);
        }
    }
}
