//! Reads any file of Kafka's record batches, batch by batch.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::batch::{ATTRIBUTE_CONTROL, BatchHeader, HEADER_BYTES, RecordBatch};
use crate::codec::Codec;
use crate::durable_file::{Access, DurableFile};
use crate::error::{BatchError, LogError, Result};
use crate::partition::Offset;

/// The batches of a file in which nothing else stands: a segment of ours or of a Kafka broker. Ends after the first place where no
/// batch can be found, with an error; a batch with a wrong checksum is given and passed over.
#[derive(Debug)]
pub struct SegmentDump {
    path: PathBuf,
    file: DurableFile,
    file_bytes: u64,
    position: u64,
    failed: bool,
}

/// One batch of a file, whether its checksum fits or not.
#[derive(Clone, Debug)]
pub struct DumpedBatch {
    /// Where it begins, in bytes from the file's start.
    pub position: u64,
    /// Why it is not to be trusted: its checksum is wrong.
    pub problem: Option<BatchError>,
    batch: RecordBatch,
}

impl SegmentDump {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = DurableFile::open(path, Access::Read)?;
        let file_bytes = file.len()?;
        Ok(Self { path: path.to_owned(), file, file_bytes, position: 0, failed: false })
    }

    fn read_batch(&self) -> Result<DumpedBatch> {
        let position = self.position;
        let left = self.file_bytes - position;
        let first = self.read(left.min(HEADER_BYTES as u64) as usize)?;
        let (header, _) = BatchHeader::parse_foreign(&first).map_err(|error| self.no_batch(&error))?;
        if header.total_bytes as u64 > left {
            return Err(self.no_batch(&BatchError::Short { need: header.total_bytes as u64, have: left }));
        }
        let bytes = self.read(header.total_bytes)?;
        let problem = header.check_crc(&bytes).err();
        Ok(DumpedBatch { position, problem, batch: RecordBatch { header, bytes } })
    }

    fn read(&self, len: usize) -> Result<Bytes> {
        let mut buffer = vec![0; len];
        let read = self.file.read_at(&mut buffer, self.position)?;
        buffer.truncate(read);
        Ok(buffer.into())
    }

    fn no_batch(&self, error: &BatchError) -> LogError {
        let advice = "nothing behind it was read";
        let problem = format!("no record batch of Kafka's format 2 begins there: {error}");
        LogError::Corrupt { path: self.path.clone(), position: self.position, problem, advice }
    }
}

impl Iterator for SegmentDump {
    type Item = Result<DumpedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.position >= self.file_bytes {
            return None;
        }
        let batch = self.read_batch();
        match &batch {
            Ok(batch) => self.position += batch.size_bytes() as u64,
            Err(_) => self.failed = true,
        }
        Some(batch)
    }
}

impl DumpedBatch {
    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        self.batch.base_offset()
    }

    /// Offset of the last record, inclusive.
    pub fn last_offset(&self) -> Offset {
        self.batch.last_offset()
    }

    /// How many records the header says there are.
    pub fn record_count(&self) -> usize {
        self.batch.record_count()
    }

    /// The oldest record's time, in milliseconds since 1970.
    pub fn base_timestamp_ms(&self) -> i64 {
        self.batch.header.base_timestamp_ms
    }

    /// The newest record's time, in milliseconds since 1970.
    pub fn max_timestamp_ms(&self) -> i64 {
        self.batch.max_timestamp_ms()
    }

    /// How its records are compressed; an error for a codec that does not exist.
    pub fn codec(&self) -> std::result::Result<Codec, BatchError> {
        Codec::from_attributes(self.batch.header.attributes)
    }

    /// Bytes of the whole batch.
    pub fn size_bytes(&self) -> usize {
        self.batch.bytes.len()
    }

    /// Whether it holds markers of Kafka's transactions, which are nobody's data.
    pub fn is_control(&self) -> bool {
        self.batch.header.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// The batch, for its records; nothing if its checksum is wrong.
    pub fn batch(&self) -> Option<&RecordBatch> {
        self.problem.is_none().then_some(&self.batch)
    }

    /// Whether a repair put it in the place of records that are lost.
    pub fn is_lost(&self) -> bool {
        self.batch.is_lost()
    }
}
