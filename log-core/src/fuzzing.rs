//! What the fuzz targets in `log-core/fuzz` need beyond the public API: decoders that are private, and checksums put right, without
//! which hardly any input would come past them.
//!
//! Only there with the feature `fuzzing`. A check that fails here panics: that is how a target says what it found.

use std::path::Path;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use crate::batch::{BatchHeader, HEADER_BYTES, LENGTH_EXCLUDES, RecordBatch};
use crate::batch_builder;
use crate::codec::{self, Codec};
use crate::durable_file::Access;
use crate::error::{BatchError, Result};
use crate::journal::decode;
use crate::journal::entry::{Checkpoint, Commit, Entry};
use crate::journal::format::{self, CommitPlace, ENTRY_HEADER_BYTES, FILE_HEADER_BYTES, TRAILER_BYTES, TRAILER_MAGIC};
use crate::journal::{self, Loaded};
use crate::open_files::OpenFiles;
use crate::partition::{Offset, Partition, PartitionState};
use crate::recovery::Image;
use crate::segment::{self, Segment};
use crate::{group_offsets, schema_store};

/// Key and value of a record.
pub type KeyValue<'a> = (&'a [u8], Option<&'a [u8]>);

/// Decompresses with the codec of a batch's `attributes`, at most `limit` bytes.
pub fn decompress(attributes: i16, stored: &Bytes, limit: usize) -> std::result::Result<Bytes, BatchError> {
    codec::decompress(Codec::from_attributes(attributes)?, stored, limit)
}

/// Reads the header of a batch, of ours and of a broker.
pub fn read_header(bytes: &[u8]) {
    let own = BatchHeader::parse(bytes);
    let foreign = BatchHeader::parse_foreign(bytes);
    if let Ok(header) = own {
        assert_eq!(foreign, Ok((header, 0)));
        assert!(header.total_bytes >= HEADER_BYTES && header.next_offset() > header.base_offset);
    }
}

/// Puts other records into a batch, as a compaction does.
pub fn with_records(batch: &RecordBatch, codec: Codec, records: &[u8]) -> Vec<u8> {
    let mut header = batch.bytes.first_chunk().copied().unwrap_or([0; HEADER_BYTES]);
    // A broker's epoch is read by a dump alone.
    header[12..16].fill(0);
    batch_builder::with_records(&header, codec, records, batch.header.record_count)
}

/// Gives the one batch that fills `bytes` the right length and checksum.
pub fn seal_batch(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        batch_builder::seal(bytes);
    }
}

/// Gives all batches of a segment right checksums, and the last one the length of what is left.
pub fn seal_batches(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some(length) = rest.get(8..12).and_then(|field| field.first_chunk()) {
        let total = usize::try_from(i32::from_be_bytes(*length)).ok().and_then(|length| length.checked_add(LENGTH_EXCLUDES));
        let total = total.filter(|total| (HEADER_BYTES..=rest.len()).contains(total)).unwrap_or(rest.len());
        let (batch, behind) = rest.split_at_mut(total);
        seal_batch(batch);
        rest = behind;
    }
}

/// Which checksums of a journal are put right.
#[derive(Clone, Copy, Debug)]
pub struct SealJournal {
    /// Those of the bytes of pieces.
    pub pieces: bool,
    /// The trailers.
    pub trailers: bool,
}

/// Gives a journal file's header and entries right lengths and checksums. The entry whose length leads behind the end of the file
/// becomes the last one.
pub fn seal_journal(bytes: &mut [u8], seal: SealJournal) {
    let Some((header, mut rest)) = bytes.split_at_mut_checked(FILE_HEADER_BYTES) else { return };
    let mut fields = &header[8..];
    let salt = fields.get_u64_le();
    let crc = format::salted_crc(salt, &header[..16]);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    while rest.len() >= ENTRY_HEADER_BYTES + TRAILER_BYTES {
        let mut fields = &rest[8..];
        let total = usize::try_from(fields.get_u64_le()).unwrap_or(usize::MAX);
        let total = if (ENTRY_HEADER_BYTES + TRAILER_BYTES..=rest.len()).contains(&total) { total } else { rest.len() };
        let (entry, behind) = rest.split_at_mut(total);
        seal_entry(entry, salt, seal);
        rest = behind;
    }
}

fn seal_entry(entry: &mut [u8], salt: u64, seal: SealJournal) {
    let total = entry.len();
    let mut fields = &entry[16..];
    let sequence = fields.get_u64_le();
    let head_bytes = (fields.get_u32_le() as usize).min(total - ENTRY_HEADER_BYTES - TRAILER_BYTES);
    entry[8..16].copy_from_slice(&(total as u64).to_le_bytes());
    entry[24..28].copy_from_slice(&(head_bytes as u32).to_le_bytes());
    let (content, trailer) = entry.split_at_mut(total - TRAILER_BYTES);
    if seal.trailers {
        trailer[..8].copy_from_slice(&(total as u64).to_le_bytes());
        trailer[8..12].copy_from_slice(&(sequence as u32).to_le_bytes());
        trailer[12..].copy_from_slice(&TRAILER_MAGIC);
    }
    let kind = content[5];
    let (head, inline) = content[ENTRY_HEADER_BYTES..].split_at_mut(head_bytes);
    // Behind its un-synced bytes the one has the other's head.
    let commit = match kind {
        format::KIND_COMMIT => Some(&mut *head),
        format::KIND_COMMIT_BEHIND_UNSYNCED => head.get_mut(8..),
        _ => None,
    };
    if let Some(commit) = commit.filter(|_| seal.pieces) {
        seal_pieces(commit, inline);
    }
    let head_crc = format::salted_crc(salt, head);
    entry[28..32].copy_from_slice(&head_crc.to_le_bytes());
    let crc = format::salted_crc(salt, &entry[..32]);
    entry[32..36].copy_from_slice(&crc.to_le_bytes());
}

/// Puts the checksums of inline bytes into the head of a commit, as far as they are there.
fn seal_pieces(head: &mut [u8], mut inline: &[u8]) {
    let mut fields = &*head;
    let (Ok(_time), Ok(position_bytes)) = (fields.try_get_u64_le(), fields.try_get_u32_le()) else { return };
    // Behind time, position and number of pieces.
    let Some(start) = usize::try_from(position_bytes).ok().and_then(|bytes| bytes.checked_add(8 + 4 + 4)) else { return };
    for piece in head.get_mut(start..).unwrap_or_default().chunks_exact_mut(format::PIECE_BYTES) {
        if piece[20] & format::PIECE_INLINE == 0 {
            continue;
        }
        let mut length = &piece[56..];
        let length = usize::try_from(length.get_u64_le()).ok();
        let Some((bytes, behind)) = length.and_then(|length| inline.split_at_checked(length)) else { return };
        piece[64..].copy_from_slice(&crc_fast::crc32_iscsi(bytes).to_le_bytes());
        inline = behind;
    }
}

/// Reads a journal file whole, and what it says is committed. What was read is written again as it was.
pub fn read_journal(bytes: &[u8]) -> Result<()> {
    let loaded = journal::read_journal(Path::new("journal"), &Bytes::copy_from_slice(bytes))?;
    assert_eq!(loaded.valid_bytes + loaded.torn_bytes, bytes.len() as u64);
    assert_writes_the_same(&loaded, &Entry::Checkpoint(loaded.checkpoint.clone()));
    for (_, entry) in &loaded.entries {
        assert_writes_the_same(&loaded, entry);
    }
    let topics = loaded.topics()?;
    let mut image = Image::from_checkpoint(&loaded.checkpoint, &topics);
    for (_, entry) in &loaded.entries {
        let Entry::Commit(commit) = entry else { continue };
        if commit.pieces.iter().any(|piece| image.add(piece).is_err()) {
            break;
        }
        image.sequence = commit.sequence;
        image.position = Some(commit.position.clone());
    }
    // A checkpoint is written of nothing else.
    assert_writes_the_same(&loaded, &Entry::Checkpoint(image.checkpoint()));
    Ok(())
}

fn assert_writes_the_same(loaded: &Loaded, entry: &Entry) {
    let Some(bytes) = write_entry(loaded.salt, entry) else { return };
    let len = bytes.len();
    assert_eq!(decode::decode_entry(&Bytes::from(bytes), loaded.salt).as_ref(), Ok(&(entry.clone(), len)));
}

/// The bytes of an entry; nothing for a commit that lacks bytes of a piece.
fn write_entry(salt: u64, entry: &Entry) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match entry {
        Entry::Checkpoint(checkpoint) => format::encode_checkpoint(&mut bytes, salt, checkpoint),
        Entry::Commit(Commit { sequence, unsynced_before, position, pieces, inline }) => {
            if pieces.iter().zip(inline).any(|(piece, bytes)| piece.inline != bytes.is_some()) {
                return None;
            }
            let inline = inline.iter().flatten().map(Bytes::as_ref);
            let place = CommitPlace { salt, sequence: *sequence, unsynced_before: *unsynced_before };
            format::encode_commit(&mut bytes, place, position, pieces, inline);
        }
        Entry::TopicsDeleted { sequence, topics } => {
            format::encode_topics_deleted(&mut bytes, salt, *sequence, topics.iter().copied());
        }
        Entry::TopicsCreated { sequence, topics } => format::encode_topics_created(&mut bytes, salt, *sequence, topics.iter()),
    }
    Some(bytes)
}

/// The same journal, with a checkpoint that says of all segments that their content may wait under another name.
pub fn journal_with_swaps(bytes: &[u8]) -> Result<Vec<u8>> {
    rewrite_journal(bytes, |checkpoint, _| {
        let partitions = checkpoint.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions.flat_map(|(_, partition)| &mut partition.segments).for_each(|segment| segment.swap = true);
    })
}

/// The same journal, with commits whose bytes stand in segments alone, as those of large ones do.
pub fn journal_without_inline(bytes: &[u8]) -> Result<Vec<u8>> {
    rewrite_journal(bytes, |_, entries| {
        for (_, entry) in entries {
            if let Entry::Commit(commit) = entry {
                commit.inline.iter_mut().for_each(|bytes| *bytes = None);
                commit.pieces.iter_mut().for_each(|piece| piece.inline = false);
            }
        }
    })
}

fn rewrite_journal(bytes: &[u8], change: impl FnOnce(&mut Checkpoint, &mut Vec<(u64, Entry)>)) -> Result<Vec<u8>> {
    let mut loaded = journal::read_journal(Path::new("journal"), &Bytes::copy_from_slice(bytes))?;
    change(&mut loaded.checkpoint, &mut loaded.entries);
    let mut written = format::encode_file_header(loaded.salt);
    written.extend(write_entry(loaded.salt, &Entry::Checkpoint(loaded.checkpoint)).unwrap_or_default());
    for (_, entry) in &loaded.entries {
        written.extend(write_entry(loaded.salt, entry).unwrap_or_default());
    }
    Ok(written)
}

/// Reads the segment file in `dir` that begins at `base_offset`, as a reader of a partition that ends at `end_offset` does.
pub fn read_partition(dir: &Path, base_offset: Offset, end_offset: Offset, length: u64, from: Offset) -> Result<Vec<RecordBatch>> {
    let partition = Partition::new(dir.to_owned(), Arc::new(OpenFiles::new(4, Access::Read)));
    let segment = Segment::new(dir, base_offset, length);
    partition.set_state(PartitionState::new(base_offset, end_offset, vec![segment]));
    let _ = partition.backlog(from);
    partition.read(from, 1 << 10)
}

/// The name of the segment file that begins at `base_offset`.
pub fn segment_name(base_offset: Offset) -> String {
    segment::file_name(base_offset)
}

/// Reads records of `_offsets`.
pub fn read_offsets<'a>(records: impl Iterator<Item = KeyValue<'a>>) {
    let groups = group_offsets::replay(records);
    assert!(groups.values().all(|topics| !topics.is_empty() && topics.values().all(|partitions| !partitions.is_empty())));
}

/// Reads records of `_schemas`.
pub fn read_schemas<'a>(records: impl Iterator<Item = KeyValue<'a>>) {
    schema_store::replay(records);
}
