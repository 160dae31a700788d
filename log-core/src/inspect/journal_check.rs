//! What is wrong with a journal that can be read all the same: bytes of pieces that their segments have too, and trailers.

use std::io;
use std::path::Path;

use bytes::Buf as _;

use super::{Damage, Remedy};
use crate::durable_file;
use crate::error::{LogError, Result};
use crate::journal::Loaded;
use crate::journal::entry::Entry;
use crate::journal::format::{FILE_HEADER_BYTES, TRAILER_BYTES, TRAILER_MAGIC};

/// Damages of a journal; none of a file that a checkpoint has replaced meanwhile.
pub(super) fn check(loaded: &Loaded) -> Result<Vec<Damage>> {
    let file = match durable_file::read_file(&loaded.path) {
        Ok(file) => file,
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut damages = Vec::new();
    let first = loaded.entries.first().map_or(loaded.valid_bytes, |(at, _)| *at);
    check_trailer(&file, loaded, FILE_HEADER_BYTES as u64, first, loaded.checkpoint.sequence, &mut damages);
    for (index, (at, entry)) in loaded.entries.iter().enumerate() {
        let end = loaded.entry_end(index);
        let sequence = match entry {
            Entry::Commit(commit) => commit.sequence,
            Entry::Checkpoint(checkpoint) => checkpoint.sequence,
            Entry::TopicsDeleted { sequence, .. } | Entry::TopicsCreated { sequence, .. } => *sequence,
        };
        // Of one that was not synced a crash may have torn off the trailer.
        if !loaded.is_partial(index) {
            check_trailer(&file, loaded, *at, end, sequence, &mut damages);
            check_inline(loaded, entry, end, &mut damages);
        }
    }
    Ok(damages)
}

fn check_trailer(file: &[u8], loaded: &Loaded, start: u64, end: u64, sequence: u64, damages: &mut Vec<Damage>) {
    let at = end.saturating_sub(TRAILER_BYTES as u64);
    let Some(mut trailer) = usize::try_from(at).ok().and_then(|at| file.get(at..)?.get(..TRAILER_BYTES)) else { return };
    let fits = trailer.ends_with(&TRAILER_MAGIC) && trailer.get_u64_le() == end - start && trailer.get_u32_le() == sequence as u32;
    if !fits {
        damages.push(damage(&loaded.path, at, end, "the end of the journal entry is not what was written".to_owned()));
    }
}

fn check_inline(loaded: &Loaded, entry: &Entry, end: u64, damages: &mut Vec<Damage>) {
    let Entry::Commit(commit) = entry else { return };
    let inline = || commit.pieces.iter().zip(&commit.inline).filter(|(piece, _)| piece.inline);
    let total: u64 = inline().map(|(piece, _)| piece.length).sum();
    let mut at = end.saturating_sub(TRAILER_BYTES as u64 + total);
    for (piece, bytes) in inline() {
        let piece_end = at + piece.length;
        if bytes.is_none() {
            let (first, last) = (piece.base_offset, piece.next_offset - 1);
            let problem = format!("the copy of offsets {first} to {last} in the journal is not what was committed");
            damages.push(damage(&loaded.path, at, piece_end, problem));
        }
        at = piece_end;
    }
}

fn damage(path: &Path, start: u64, end: u64, problem: String) -> Damage {
    let (path, bytes) = (path.to_owned(), start..end);
    Damage { path, bytes, partition: None, offsets: None, records: None, problem, remedy: Remedy::NewJournal }
}
