//! The committed bytes of a segment as a start would leave them: those of its file, and over them those that the journal still has.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;

use crate::durable_file::{Access, DurableFile};
use crate::error::{LogError, Result};

/// Read at once.
const WINDOW_BYTES: u64 = 4 << 20;
/// Where a window cannot be read, it is read in pieces of this size, to lose no more than the disk has.
const BLOCK_BYTES: usize = 4 << 10;

/// How the file differs from what the journal has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The bytes never arrived: the file is shorter, or zero there.
    Missing,
    /// Other bytes stand there.
    Changed,
}

/// Reads a segment from its start to its committed length through a window that moves forward. What cannot be read is zero.
pub(super) struct CommittedBytes<'a> {
    file: Option<DurableFile>,
    /// Bytes that the file has; 0 when there is none.
    file_bytes: u64,
    length: u64,
    /// Bytes that the journal has, by their position, sorted and without overlap.
    held: &'a [(u64, Bytes)],
    differences: BTreeMap<usize, Difference>,
    /// The first block that could not be read, and the system's answer.
    unreadable: Option<(u64, String)>,
    window: Vec<u8>,
    window_start: u64,
    window_len: usize,
}

impl<'a> CommittedBytes<'a> {
    /// `length` bytes of the file at `path`, which may be shorter or missing.
    pub(super) fn open(path: &Path, length: u64, held: &'a [(u64, Bytes)]) -> Result<Self> {
        let file = match DurableFile::open(path, Access::Read) {
            Ok(file) => Some(file),
            Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let file_bytes = file.as_ref().map_or(Ok(0), DurableFile::len)?;
        Ok(Self {
            file,
            file_bytes,
            length,
            held,
            differences: BTreeMap::new(),
            unreadable: None,
            window: vec![0; length.min(WINDOW_BYTES) as usize],
            window_start: 0,
            window_len: 0,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Where the bytes end that the file or the journal has. Behind there is nothing but zeros, however much was committed.
    pub(super) fn stored(&self) -> u64 {
        let held = self.held.last().map_or(0, |(position, bytes)| position + bytes.len() as u64);
        self.file_bytes.max(held).min(self.length)
    }

    /// Where the file differs from the journal, as far as it was read: index into `held`.
    pub(super) fn differences(&self) -> &BTreeMap<usize, Difference> {
        &self.differences
    }

    /// What explains that the bytes from `start` on, to `end`, are not a batch.
    pub(super) fn explain(&self, start: u64, end: u64) -> Option<String> {
        if let Some((position, error)) = &self.unreadable
            && (start..end).contains(position)
        {
            return Some(format!("byte {position} cannot be read: {error}"));
        }
        if self.file.is_none() {
            return Some(format!("the file is missing, {} bytes of it were committed", self.length));
        }
        let ends_inside = self.file_bytes < self.length && end > self.file_bytes;
        ends_inside.then(|| format!("the file ends at byte {}, but {} bytes were committed", self.file_bytes, self.length))
    }

    /// The bytes from `position` on: at least `want` of them, less only at the committed end or when the window holds no more.
    pub(super) fn at(&mut self, position: u64, want: usize) -> &[u8] {
        let left = self.length.saturating_sub(position);
        let want = (want as u64).min(left).min(self.window.len() as u64);
        let window_end = self.window_start + self.window_len as u64;
        if position < self.window_start || position + want > window_end {
            self.slide(position);
        }
        let start = (position - self.window_start) as usize;
        self.window.get(start..self.window_len).unwrap_or_default()
    }

    /// CRC-32C of the bytes from `start` to `end` (exclusive).
    pub(super) fn crc(&mut self, start: u64, end: u64) -> u32 {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        self.for_each_chunk(start, end, |chunk| {
            digest.update(chunk);
            Ok(())
        })
        .map_or(0, |()| digest.finalize() as u32)
    }

    /// Hands over the bytes from `start` to `end` (exclusive) in order.
    pub(super) fn for_each_chunk(&mut self, start: u64, end: u64, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut at = start;
        while at < end {
            let chunk = self.at(at, 1);
            let len = chunk.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let Some(chunk) = chunk.get(..len).filter(|chunk| !chunk.is_empty()) else { break };
            each(chunk)?;
            at += len as u64;
        }
        Ok(())
    }

    /// Moves the window so that it begins at `position`; what it has of that already is not read again.
    fn slide(&mut self, position: u64) {
        let window_end = self.window_start + self.window_len as u64;
        let kept = if (self.window_start..window_end).contains(&position) {
            let from = (position - self.window_start) as usize;
            self.window.copy_within(from..self.window_len, 0);
            self.window_len - from
        } else {
            0
        };
        let want = self.length.saturating_sub(position).min(self.window.len() as u64) as usize;
        self.window_start = position;
        self.window_len = want.max(kept);
        let Some(new) = self.window.get_mut(kept..want) else { return };
        let start = position + kept as u64;
        if let Some(file) = &self.file {
            let unreadable = read_or_zero(file, new, start);
            self.unreadable = self.unreadable.take().or(unreadable);
        } else {
            new.fill(0);
        }
        let file_bytes = self.file_bytes.saturating_sub(start);
        put_over(self.held, new, start, file_bytes, &mut self.differences);
    }
}

/// Fills `buffer` from the file. What it does not have, or cannot give, is zero; for the latter the first place and why.
fn read_or_zero(file: &DurableFile, buffer: &mut [u8], position: u64) -> Option<(u64, String)> {
    if let Ok(read) = file.read_at(buffer, position) {
        buffer.get_mut(read..).unwrap_or_default().fill(0);
        return None;
    }
    let mut unreadable = None;
    for (block, start) in buffer.chunks_mut(BLOCK_BYTES).zip((position..).step_by(BLOCK_BYTES)) {
        match file.read_at(block, start) {
            Ok(read) => block.get_mut(read..).unwrap_or_default().fill(0),
            Err(error) => {
                block.fill(0);
                unreadable.get_or_insert_with(|| (start, error.in_full()));
            }
        }
    }
    unreadable
}

/// Puts what the journal has over `window`, which begins at `start` and of which the file has `file_bytes`.
fn put_over(held: &[(u64, Bytes)], window: &mut [u8], start: u64, file_bytes: u64, differences: &mut BTreeMap<usize, Difference>) {
    let end = start + window.len() as u64;
    let first = held.partition_point(|(position, bytes)| position + bytes.len() as u64 <= start);
    for (index, (position, bytes)) in held.iter().enumerate().skip(first).take_while(|(_, (position, _))| *position < end) {
        let from = (*position).max(start);
        let to = (position + bytes.len() as u64).min(end);
        let source = bytes.get((from - position) as usize..(to - position) as usize).unwrap_or_default();
        let target = window.get_mut((from - start) as usize..(to - start) as usize).unwrap_or_default();
        if target != source {
            let in_file = file_bytes.saturating_sub(from - start).min(target.len() as u64) as usize;
            let arrived = target.iter().zip(source).take(in_file).any(|(found, right)| found != right && *found != 0);
            let difference = if arrived { Difference::Changed } else { Difference::Missing };
            let known = differences.entry(index).or_insert(difference);
            if arrived {
                *known = Difference::Changed;
            }
            target.copy_from_slice(source);
        }
    }
}
