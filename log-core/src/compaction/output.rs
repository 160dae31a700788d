//! The new content of a segment.

use std::ops::Range;
use std::path::Path;

use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::batch_builder;
use crate::durable_file::DurableFile;
use crate::error::Result;
use crate::open_files::OpenFiles;
use crate::partition::Offset;
use crate::segment::Segment;

/// What is written at once, and copied at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A file of batches that is being written. The last batch waits in memory, because it may have to end later.
pub(super) struct Output {
    file: DurableFile,
    /// Bytes in the file.
    position: u64,
    /// What comes behind them.
    buffer: Vec<u8>,
    last: Option<Last>,
}

/// The last batch.
struct Last {
    /// Where it begins in the buffer.
    at: usize,
    base_offset: Offset,
    /// It is one that may stand for more offsets than it did.
    may_grow: bool,
    /// Where it shall end, if not where it does.
    grows_to: Option<Offset>,
}

impl Output {
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: DurableFile::create(path)?, position: 0, buffer: Vec::new(), last: None })
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.position + self.buffer.len() as u64
    }

    /// Copies bytes of a segment, which are whole batches.
    pub(super) fn copy(&mut self, from: &Segment, files: &OpenFiles, bytes: Range<u64>) -> Result<()> {
        self.write_out()?;
        let Range { start: mut at, end } = bytes;
        let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(end - at).unwrap_or(CHUNK_BYTES))];
        while at < end {
            let want = chunk.len().min(usize::try_from(end - at).unwrap_or(CHUNK_BYTES));
            let chunk = chunk.get_mut(..want).unwrap_or_default();
            if from.read_at(chunk, at, files)? < want {
                return Err(from.open(files)?.ended_early());
            }
            self.file.write_all_at(chunk, self.position)?;
            self.position += want as u64;
            at += want as u64;
        }
        Ok(())
    }

    /// Adds a batch, which begins where the one before ends.
    pub(super) fn push(&mut self, batch: &[u8], header: &BatchHeader) -> Result<()> {
        self.end_last();
        if self.buffer.len() >= CHUNK_BYTES {
            self.write_out()?;
        }
        let may_grow = !header.is_lost();
        self.last = Some(Last { at: self.buffer.len(), base_offset: header.base_offset, may_grow, grows_to: None });
        self.buffer.extend_from_slice(batch);
        Ok(())
    }

    /// Passes over a batch of which nothing is left.
    pub(super) fn pass(&mut self, header: &BatchHeader) {
        if let Some(last) = self.last.as_mut().filter(|last| last.may_grow) {
            last.grows_to = Some(header.next_offset());
            return;
        }
        self.end_last();
        let (base_offset, at) = (header.base_offset, self.buffer.len());
        let offsets = header.last_offset_delta.saturating_add(1);
        self.buffer.extend_from_slice(&batch_builder::empty_batch(base_offset, offsets, header.base_timestamp_ms));
        self.last = Some(Last { at, base_offset, may_grow: true, grows_to: None });
    }

    /// Makes everything durable but the name; returns how many bytes there are.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.write_out()?;
        self.file.sync_data()?;
        Ok(self.position)
    }

    fn end_last(&mut self) {
        if let Some(Last { at, base_offset, grows_to: Some(next_offset), .. }) = self.last.take()
            && let Some(batch) = self.buffer.get_mut(at..).filter(|batch| batch.len() >= HEADER_BYTES)
        {
            batch_builder::set_next_offset(batch, base_offset, next_offset);
        }
    }

    fn write_out(&mut self) -> Result<()> {
        self.end_last();
        if !self.buffer.is_empty() {
            self.file.write_all_at(&self.buffer, self.position)?;
            self.position += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
