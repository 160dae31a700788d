//! Pieces of commits: what segments have of them, and what is written of them once more.

use std::ops::Range;
use std::path::PathBuf;

use crate::durable_file::{self, Access, DurableFile};
use crate::error::Result;
use crate::journal::BLOCK_BYTES;
use crate::journal::entry::Piece;
use crate::partition;

const CHUNK_BYTES: usize = 1 << 20;

/// Makes the pieces of entries durable that stand in segments alone, as the entries themselves are made durable before there can be another one.
pub(super) fn settle(files: &[(PathBuf, Vec<LocatedPiece<'_>>)], entries: Range<usize>) -> Result<()> {
    let mut settled = Vec::new();
    for (path, pieces) in files {
        // Of a damaged copy in the journal the segment may be the only one, and it was synced by nobody but a checkpoint.
        let in_doubt = |located: &&LocatedPiece<'_>| located.entry >= entries.start || located.piece.inline;
        let unsettled = pieces.iter().filter(|located| located.entry < entries.end && located.inline.is_none());
        let mut unsettled = unsettled.filter(in_doubt).peekable();
        if unsettled.peek().is_none() {
            continue;
        }
        let file = DurableFile::open(path, Access::ReadWrite)?;
        unsettled.try_for_each(|located| write_once_more(&file, located.piece))?;
        settled.push((path, file));
    }
    durable_file::sync_together(&settled, |(path, file)| {
        file.sync_data()?;
        path.parent().map_or(Ok(()), |dir| partition::dirs_above(dir).try_for_each(durable_file::sync_dir))
    })
}

/// Writes the bytes that a segment has of a piece in their place. That they can be read does not mean that they are on the disk: their writer may have been
/// killed before a sync of them ended, or have ended because one failed, after which the kernel may call pages clean that were never written.
pub(crate) fn write_once_more(file: &DurableFile, piece: &Piece) -> Result<()> {
    let mut at = piece.file_position;
    for_each_chunk(file, piece, |chunk| {
        file.write_all_at(chunk, at)?;
        at += chunk.len() as u64;
        Ok(())
    })?;
    Ok(())
}

/// A piece behind the checkpoint that only the journal has.
pub(super) struct MissingPiece<'a> {
    pub(super) piece: &'a Piece,
    pub(super) bytes: &'a [u8],
}

/// A piece behind the checkpoint.
pub(super) struct LocatedPiece<'a> {
    /// Which entry it belongs to.
    pub(super) entry: usize,
    pub(super) piece: &'a Piece,
    /// Its bytes, if the journal has them.
    pub(super) inline: Option<&'a [u8]>,
    /// What its segment has of it, if the journal does not have its bytes.
    pub(super) found: Found,
}

/// What a segment has of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its bytes.
    Whole,
    /// Parts of it look as if they never reached the disk: the file ends within it, or a block of it is all zero. Segments are written
    /// behind their durable end alone, so nothing else can stand there after a loss of power.
    Torn,
    /// Others.
    Different,
}

/// What the segment `file` has of a piece.
pub(crate) fn look_for(file: &DurableFile, piece: &Piece) -> Result<Found> {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut at = piece.file_position;
    // Of a block that two chunks have a part of, each part counts as one.
    let mut has_zero_block = false;
    let reaches_end = for_each_chunk(file, piece, |chunk| {
        digest.update(chunk);
        let first = (at.next_multiple_of(BLOCK_BYTES) - at).min(chunk.len() as u64);
        let (head, blocks) = chunk.split_at(first as usize);
        let is_zero = |block: &[u8]| !block.is_empty() && block.iter().all(|byte| *byte == 0);
        has_zero_block |= is_zero(head) || blocks.chunks(BLOCK_BYTES as usize).any(is_zero);
        at += chunk.len() as u64;
        Ok(())
    })?;
    Ok(match reaches_end {
        true if digest.finalize() as u32 == piece.crc => Found::Whole,
        true if !has_zero_block => Found::Different,
        _ => Found::Torn,
    })
}

/// Reads a piece from its segment, chunk by chunk; `false` when the file ends early.
pub(super) fn for_each_chunk(file: &DurableFile, piece: &Piece, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
    let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(piece.length).unwrap_or(CHUNK_BYTES))];
    let mut done = 0;
    while done < piece.length {
        let want = buffer.len().min((piece.length - done) as usize);
        let read = file.read_at(&mut buffer[..want], piece.file_position + done)?;
        each(&buffer[..read])?;
        done += read as u64;
        if read < want {
            return Ok(false);
        }
    }
    Ok(true)
}
