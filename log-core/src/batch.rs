//! Kafka's record batch, format version 2: what a segment file is made of, byte for byte.
//!
//! All numbers are big-endian. Source: "Record Batch" in Apache Kafka's message format documentation.
//!
//! ```text
//!  0  base offset            i64   not covered by the CRC: readers check the chain of offsets instead
//!  8  batch length           i32   bytes that follow this field
//! 12  partition leader epoch i32   always 0 here; not covered by the CRC
//! 16  magic                  i8    2
//! 17  CRC-32C                u32   of everything from byte 21 on
//! 21  attributes             i16   bits 0-2 compression, bit 3 "timestamps are the append time", bit 14 (ours; Kafka's
//!                                  readers pass over it) "the records that stood here are lost"
//! 23  last offset delta      i32
//! 27  base timestamp         i64   milliseconds since 1970
//! 35  max timestamp          i64
//! 43  producer id            i64   -1
//! 51  producer epoch         i16   -1
//! 53  base sequence          i32   -1
//! 57  record count           i32
//! 61  records, compressed together if bits 0-2 say so
//! ```

use bytes::Bytes;

use crate::error::{BatchError, LogError, Result};
use crate::partition::Offset;
use crate::sparse_index::BatchPlace;

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 61;
const MAX_TIMESTAMP_AT: usize = 35;
/// Where the bytes that the CRC covers begin.
pub(crate) const CRC_COVERS_FROM: usize = 21;
/// Bytes that the length field does not count: base offset and the length itself.
pub(crate) const LENGTH_EXCLUDES: usize = 12;
pub(crate) const MAGIC: i8 = 2;
/// The largest batch that is written or read: a length that is really garbage shall not become an allocation.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 30;
/// `attributes`: every record carries the batch's `max timestamp`.
pub(crate) const ATTRIBUTE_APPEND_TIME: i16 = 1 << 3;
/// `attributes`: the records are markers of Kafka's transactions, not data.
pub(crate) const ATTRIBUTE_CONTROL: i16 = 1 << 5;

/// `attributes`: a repair put the batch where damage had taken records. It has none, and stands for their offsets.
pub(crate) const ATTRIBUTE_LOST: i16 = 1 << 14;

/// The header of a batch, checked for everything that can be checked without the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: Offset,
    /// Bytes of the whole batch, header included.
    pub(crate) total_bytes: usize,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp_ms: i64,
    pub(crate) max_timestamp_ms: i64,
    pub(crate) record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may end anywhere behind it.
    pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<Self, BatchError> {
        let (parsed, epoch) = Self::parse_foreign(bytes)?;
        // Outside the CRC; every batch here is written with 0, so another value is damage.
        if epoch != 0 {
            return Err(BatchError::Field { field: "partitionLeaderEpoch", value: i64::from(epoch) });
        }
        Ok(parsed)
    }

    /// As [`parse`](Self::parse), of a batch that a Kafka broker may have stored; with its leader epoch.
    pub(crate) fn parse_foreign(bytes: &[u8]) -> std::result::Result<(Self, i32), BatchError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Short { need: HEADER_BYTES as u64, have: bytes.len() as u64 });
        };
        let parsed = Self {
            base_offset: i64::from_be_bytes(field(header, 0)),
            total_bytes: 0,
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: i16::from_be_bytes(field(header, 21)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp_ms: i64::from_be_bytes(field(header, 27)),
            max_timestamp_ms: i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT)),
            record_count: i32::from_be_bytes(field(header, 57)),
        };
        let magic = header[16] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let length = i32::from_be_bytes(field(header, 8));
        let total_bytes = i64::from(length) + LENGTH_EXCLUDES as i64;
        if total_bytes < HEADER_BYTES as i64 || total_bytes > BATCH_BYTES_MAX as i64 {
            return Err(BatchError::Field { field: "batchLength", value: i64::from(length) });
        }
        if parsed.base_offset < 0 || parsed.base_offset > Offset::MAX / 2 {
            return Err(BatchError::Field { field: "baseOffset", value: parsed.base_offset });
        }
        if parsed.last_offset_delta < 0 {
            return Err(BatchError::Field { field: "lastOffsetDelta", value: i64::from(parsed.last_offset_delta) });
        }
        if parsed.record_count < 0 {
            return Err(BatchError::Field { field: "recordsCount", value: i64::from(parsed.record_count) });
        }
        let epoch = i32::from_be_bytes(field(header, 12));
        Ok((Self { total_bytes: total_bytes as usize, ..parsed }, epoch))
    }

    /// Where the next batch begins if this one stands at `place`.
    pub(crate) fn place_behind(&self, place: BatchPlace) -> BatchPlace {
        BatchPlace { base_offset: self.next_offset(), position: place.position + self.total_bytes as u64 }
    }

    /// The offset after the last record's.
    pub(crate) fn next_offset(&self) -> Offset {
        self.base_offset + Offset::from(self.last_offset_delta) + 1
    }

    /// Whether a repair put it in the place of lost records.
    pub(crate) fn is_lost(&self) -> bool {
        self.attributes & ATTRIBUTE_LOST != 0
    }

    /// Compares the checksum with `batch`, the whole batch.
    pub(crate) fn check_crc(&self, batch: &[u8]) -> std::result::Result<(), BatchError> {
        let covered = batch
            .get(CRC_COVERS_FROM..self.total_bytes)
            .ok_or(BatchError::Short { need: self.total_bytes as u64, have: batch.len() as u64 })?;
        let computed = crc_fast::crc32_iscsi(covered);
        if computed == self.crc { Ok(()) } else { Err(BatchError::Crc { stored: self.crc, computed }) }
    }
}

#[inline]
fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// One stored record batch: a slice of what was read from a segment, its header and checksum verified.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
}

impl RecordBatch {
    /// Takes bytes that hold exactly one batch and checks header and checksum.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let checked = BatchHeader::parse(&bytes).and_then(|header| {
            if header.total_bytes != bytes.len() {
                return Err(BatchError::Short { need: header.total_bytes as u64, have: bytes.len() as u64 });
            }
            header.check_crc(&bytes)?;
            Ok(header)
        });
        match checked {
            Ok(header) => Ok(Self { header, bytes }),
            Err(source) => {
                let base_offset = bytes.first_chunk().map_or(-1, |first| i64::from_be_bytes(*first));
                Err(LogError::Batch { base_offset, source })
            }
        }
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// Offset of the last record, inclusive.
    pub fn last_offset(&self) -> Offset {
        self.header.next_offset() - 1
    }

    /// The offset after the last record's: where the next read goes on.
    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }

    /// The newest record's time, in milliseconds since 1970.
    pub fn max_timestamp_ms(&self) -> i64 {
        self.header.max_timestamp_ms
    }

    /// How many records there are; fewer than the offsets span after a compaction.
    pub fn record_count(&self) -> usize {
        self.header.record_count as usize
    }

    /// True for a batch that a repair put where damage had taken records: it has none, and stands for their offsets. Who
    /// needed them lacks them from here on.
    pub fn is_lost(&self) -> bool {
        self.header.is_lost()
    }

    /// The batch as it stands in the segment, header included. Cloning it copies nothing.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// A finished batch that has no offset yet; [`PipelineLog::commit`](crate::PipelineLog::commit) gives it one.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) record_count: i32,
}

impl EncodedBatch {
    /// How many records there are. A batch without any is left out of a commit.
    pub fn record_count(&self) -> usize {
        self.record_count as usize
    }

    /// Bytes the batch takes in the log.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch as it will stand in the segment, except for its base offset.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The latest time of a record, milliseconds since 1970.
    pub(crate) fn max_timestamp_ms(&self) -> i64 {
        self.bytes.get(MAX_TIMESTAMP_AT..).and_then(|rest| rest.first_chunk()).map_or(i64::MIN, |bytes| i64::from_be_bytes(*bytes))
    }

    pub(crate) fn set_base_offset(&mut self, base_offset: Offset) {
        if let Some(field) = self.bytes.first_chunk_mut::<8>() {
            *field = base_offset.to_be_bytes();
        }
    }
}
