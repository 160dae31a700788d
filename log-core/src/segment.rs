//! One file of a partition: Kafka record batches (see [`crate::batch`]), one after the other, and nothing else.
//!
//! The file is named by its first offset, `00000000000000000100.log`. Its format version is the magic byte of each
//! batch. Only the first [`Segment::committed_bytes`] belong to the log; what stands behind them is the remains of a
//! commit that did not happen.
//!
//! Where a batch stands and how late it is is kept in a sparse index in memory ([`crate::sparse_index`]): filled by appends, and for files of
//! earlier runs by walking over batch headers, no further than somebody reads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::durable_file::DurableFile;
use crate::error::{ADVICE_DAMAGE, BatchError, LogError, Result};
use crate::journal::entry::SegmentImage;
use crate::open_files::{CachedFile, OpenFiles, WAITING_SUFFIX};
use crate::partition::Offset;
use crate::segment_tail::SegmentTail;
use crate::sparse_index::{BatchPlace, SparseIndex};

/// Kafka's readers use 32-bit positions.
pub(crate) const SEGMENT_BYTES_LIMIT: u64 = i32::MAX as u64;
/// What is read at once when walking over headers: many small batches, or the header of a large one.
const SCAN_BYTES: usize = 32 << 10;

/// The file name of the segment that starts at `base_offset`.
pub(crate) fn file_name(base_offset: Offset) -> String {
    format!("{base_offset:020}.log")
}

/// Where a segment's new content waits for the checkpoint that names it.
pub(crate) fn swap_file_name(base_offset: Offset) -> String {
    format!("{base_offset:020}.log{WAITING_SUFFIX}")
}

/// The base offset in a segment's file name; `None` for a file that is not a segment.
pub(crate) fn parse_file_name(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}

/// One segment file.
#[derive(Debug)]
pub(crate) struct Segment {
    base_offset: Offset,
    file: Arc<CachedFile>,
    committed_bytes: AtomicU64,
    /// Has bytes that only the journal holds durably.
    dirty: AtomicBool,
    /// Its directory is known to have been synced since the file is there.
    name_is_durable: AtomicBool,
    /// A compaction went over it.
    compacted: AtomicBool,
    /// What its file does not have yet.
    pub(crate) tail: Mutex<SegmentTail>,
    /// Whether it is in a pipeline's [`Tails`](crate::segment_tail::Tails).
    pub(crate) is_in_tails: AtomicBool,
    index: Mutex<SparseIndex>,
}

impl Segment {
    pub(crate) fn new(dir: &Path, base_offset: Offset, committed_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            base_offset,
            file: CachedFile::new(dir.join(file_name(base_offset))),
            committed_bytes: AtomicU64::new(committed_bytes),
            dirty: AtomicBool::new(false),
            name_is_durable: AtomicBool::new(false),
            compacted: AtomicBool::new(false),
            tail: Mutex::default(),
            is_in_tails: AtomicBool::new(false),
            index: Mutex::new(SparseIndex::new(base_offset)),
        })
    }

    /// As a checkpoint has it.
    pub(crate) fn from_image(dir: &Path, image: &SegmentImage) -> Arc<Self> {
        let segment = Self::new(dir, image.base_offset, image.length);
        segment.file.set_waiting(image.swap);
        segment.compacted.store(image.compacted, Ordering::Release);
        segment
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    pub(crate) fn committed_bytes(&self) -> u64 {
        self.committed_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn set_committed_bytes(&self, bytes: u64) {
        self.committed_bytes.store(bytes, Ordering::Release);
    }

    pub(crate) fn open(&self, files: &OpenFiles) -> Result<Arc<DurableFile>> {
        files.get(&self.file)
    }

    /// Lets the next use open the path again, which may name another file since.
    pub(crate) fn reopen(&self) {
        self.file.close();
    }

    /// Whether its content stands in the file of [`swap_file_name`] until that is renamed.
    pub(crate) fn is_waiting(&self) -> bool {
        self.file.is_waiting()
    }

    /// The file that has its content until then.
    pub(crate) fn waiting_path(&self) -> PathBuf {
        self.file.waiting_path()
    }

    /// Notes that the content has its name, durably.
    pub(crate) fn set_renamed(&self) {
        self.file.set_waiting(false);
    }

    pub(crate) fn is_compacted(&self) -> bool {
        self.compacted.load(Ordering::Acquire)
    }

    /// Notes that a compaction found nothing more to take out. The next checkpoint says so.
    pub(crate) fn set_compacted(&self) {
        self.compacted.store(true, Ordering::Release);
    }

    pub(crate) fn create(&self, files: &OpenFiles) -> Result<Arc<DurableFile>> {
        files.create(&self.file)
    }

    /// Sets whether bytes wait for a sync; returns what it was.
    pub(crate) fn set_dirty(&self, dirty: bool) -> bool {
        self.dirty.swap(dirty, Ordering::AcqRel)
    }

    pub(crate) fn has_durable_name(&self) -> bool {
        self.name_is_durable.load(Ordering::Acquire)
    }

    /// Notes that its directory was synced.
    pub(crate) fn set_durable_name(&self) {
        self.name_is_durable.store(true, Ordering::Release);
    }

    /// Notes an appended batch; only while the index has no hole before it.
    pub(crate) fn index_appended(&self, place: BatchPlace, next: BatchPlace, max_timestamp_ms: i64) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.scanned() == place {
            index.add(next, max_timestamp_ms);
        }
    }

    /// The place to start looking for the batch that holds `offset`: at or less than one index interval before it.
    pub(crate) fn locate(&self, offset: Offset, files: &OpenFiles) -> Result<BatchPlace> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        self.scan(&mut index, files, |index| index.scanned().base_offset > offset)?;
        Ok(index.before_offset(offset))
    }

    /// The place to start looking for the first record of that time (milliseconds since 1970) or later: at or less than one index interval before
    /// its batch, or before the end if there is none.
    pub(crate) fn locate_time(&self, timestamp_ms: i64, files: &OpenFiles) -> Result<BatchPlace> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        self.scan(&mut index, files, |index| index.latest_ms() >= timestamp_ms)?;
        Ok(index.before_time(timestamp_ms))
    }

    /// Walks over headers until the index has what is looked for, or the committed bytes end.
    fn scan(&self, index: &mut SparseIndex, files: &OpenFiles, has_it: impl Fn(&SparseIndex) -> bool) -> Result<()> {
        let committed = self.committed_bytes();
        if has_it(index) || index.scanned().position >= committed {
            return Ok(());
        }
        let mut buffer = vec![0; SCAN_BYTES];
        while index.scanned().position < committed && !has_it(index) {
            let start = index.scanned().position;
            let want = (committed - start).min(SCAN_BYTES as u64) as usize;
            let chunk = &mut buffer[..want];
            let read = self.read_at(chunk, start, files)?;
            let mut at = 0;
            while let Some(rest) = chunk.get(at..read)
                && (rest.len() >= HEADER_BYTES || at == 0)
            {
                let place = index.scanned();
                let header = BatchHeader::parse(rest).map_err(|error| self.damaged(place, None, &error))?;
                self.check_place(&header, place, committed)?;
                index.add(header.place_behind(place), header.max_timestamp_ms);
                at += header.total_bytes;
            }
        }
        Ok(())
    }

    /// Checks what the batch's own checksum does not cover: its offset, and that it ends within the committed bytes.
    pub(crate) fn check_place(&self, header: &BatchHeader, place: BatchPlace, committed: u64) -> Result<()> {
        if header.base_offset != place.base_offset {
            let error = BatchError::BaseOffset { found: header.base_offset, expected: place.base_offset };
            return Err(self.damaged(place, None, &error));
        }
        let left = committed.saturating_sub(place.position);
        if header.total_bytes as u64 > left {
            let error = BatchError::Short { need: header.total_bytes as u64, have: left };
            return Err(self.damaged(place, None, &error));
        }
        Ok(())
    }

    /// The error for the batch at `place`; `next_offset` is where it ends, if that much of it can be believed.
    pub(crate) fn damaged(&self, place: BatchPlace, next_offset: Option<Offset>, error: &BatchError) -> LogError {
        let first = place.base_offset;
        let offsets = match next_offset {
            Some(next) => format!("offsets {first} to {}", next - 1),
            None => format!("offset {first} and perhaps more"),
        };
        let problem = format!("the record batch there, {offsets}, cannot be read: {error}");
        LogError::Corrupt { path: self.path(), position: place.position, problem, advice: ADVICE_DAMAGE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        assert_eq!(file_name(100), "00000000000000000100.log");
        assert_eq!(parse_file_name("00000000000000000100.log"), Some(100));
        for foreign in ["100.log", "00000000000000000100.log.swap", "0000000000000000010x.log", "99999999999999999999.log"] {
            assert_eq!(parse_file_name(foreign), None, "{foreign}");
        }
    }
}
