//! Writes records straight into the bytes of a batch: the hot path of every change.
//!
//! A record, all lengths and numbers zig-zag varints except the attributes:
//!
//! ```text
//! length  attributes(i8, 0)  timestamp delta(0)  offset delta
//! key length (-1 for none)  key  value length (-1 for none)  value
//! header count  { key length  key  value length  value } …
//! ```

use crate::batch::{ATTRIBUTE_LOST, BATCH_BYTES_MAX, CRC_COVERS_FROM, EncodedBatch, HEADER_BYTES, LENGTH_EXCLUDES, MAGIC};
use crate::codec::Codec;
use crate::compression::{Compression, Compressor};
use crate::error::{LogError, Result};
use crate::partition::Offset;
use crate::varint;

/// Room for every number before the key: three varints of five bytes and two single bytes.
const PREFIX_BYTES_MAX: usize = 5 + 1 + 1 + 5 + 5;

/// Builds one [`EncodedBatch`] after the other.
pub struct RecordBatchBuilder {
    compression: Compression,
    timestamp_ms: i64,
    /// Header, still zero, and the uncompressed records.
    buffer: Vec<u8>,
    record_count: i32,
    compressor: Compressor,
}

impl RecordBatchBuilder {
    /// A builder whose records all carry `timestamp_ms`, in milliseconds since 1970.
    pub fn new(compression: Compression, timestamp_ms: i64) -> Self {
        let buffer = vec![0; HEADER_BYTES];
        Self { compression, timestamp_ms, buffer, record_count: 0, compressor: Compressor::new() }
    }

    /// Sets the time of all records of the batch being built and of those that follow.
    pub fn set_timestamp_ms(&mut self, timestamp_ms: i64) {
        self.timestamp_ms = timestamp_ms;
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When the batch would pass 1 GiB, the most that a batch may hold here; it stays as it was.
    pub fn append(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) -> Result<()> {
        let payload = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let header_payload: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let framing = PREFIX_BYTES_MAX + 5 + 5 + headers.len() * 10;
        let upper_bound = self.buffer.len() + payload + header_payload + framing;
        if upper_bound > BATCH_BYTES_MAX {
            return Err(LogError::BatchTooLarge { bytes: upper_bound as u64, limit: BATCH_BYTES_MAX as u64 });
        }
        // All lengths fit an i32 from here on, and so does the number of records.
        let key_length = key.map_or(-1, |key| key.len() as i32);
        let value_length = value.map_or(-1, |value| value.len() as i32);
        let headers_bytes = if headers.is_empty() { 1 } else { headers_size(headers) };
        let body = 2
            + varint::len_i32(self.record_count)
            + varint::len_i32(key_length)
            + varint::len_i32(value_length)
            + payload
            + headers_bytes;

        let buffer = &mut self.buffer;
        buffer.reserve(body + PREFIX_BYTES_MAX);
        let mut prefix = [0; PREFIX_BYTES_MAX];
        let mut at = varint::put_i32(&mut prefix, 0, body as i32);
        // Attributes and timestamp delta are both a zero byte.
        at = varint::put_i32(&mut prefix, at + 2, self.record_count);
        at = varint::put_i32(&mut prefix, at, key_length);
        push_front(buffer, &prefix, at);
        if let Some(key) = key {
            buffer.extend_from_slice(key);
        }
        put_varint(buffer, value_length);
        if let Some(value) = value {
            buffer.extend_from_slice(value);
        }
        put_varint(buffer, headers.len() as i32);
        for (name, value) in headers {
            put_varint(buffer, name.len() as i32);
            buffer.extend_from_slice(name.as_bytes());
            put_varint(buffer, value.len() as i32);
            buffer.extend_from_slice(value);
        }
        self.record_count += 1;
        Ok(())
    }

    /// Bytes of the batch as it stands, before compression.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Records appended since the last [`finish`](Self::finish).
    pub fn record_count(&self) -> usize {
        self.record_count as usize
    }

    /// Gives the batch and starts the next one, with the same compression and time.
    pub fn finish(&mut self) -> EncodedBatch {
        let record_count = std::mem::take(&mut self.record_count);
        // The next batch will be about as large. A little more saves it from being copied at its last record.
        let capacity = self.buffer.len() + self.buffer.len() / 8;
        let compressed = self.compressed();
        let (mut bytes, attributes) = match compressed {
            Some(bytes) => {
                self.buffer.truncate(HEADER_BYTES);
                (bytes, self.compression.codec().attribute_bits())
            }
            None => {
                let mut next = Vec::with_capacity(capacity);
                next.resize(HEADER_BYTES, 0);
                (std::mem::replace(&mut self.buffer, next), Codec::None.attribute_bits())
            }
        };
        fill_header(&mut bytes, attributes, record_count, record_count - 1, self.timestamp_ms);
        EncodedBatch { bytes, record_count }
    }

    /// The batch with its records compressed; `None` when that is not wanted or gains nothing.
    fn compressed(&mut self) -> Option<Vec<u8>> {
        if self.compression == Compression::None {
            return None;
        }
        let mut output = Vec::with_capacity(HEADER_BYTES + self.buffer.len() / 2);
        output.resize(HEADER_BYTES, 0);
        let done = self.compressor.compress(self.compression, &self.buffer[HEADER_BYTES..], &mut output);
        (done && output.len() < self.buffer.len()).then_some(output)
    }
}

#[inline]
fn put_varint(buffer: &mut Vec<u8>, value: i32) {
    let mut bytes = [0; 5];
    let len = varint::put_i32(&mut bytes, 0, value);
    push_front(buffer, &bytes, len);
}

/// Appends the first `len` bytes. A copy of a length that the compiler knows, and a cut, are cheaper than one of any length.
#[inline]
fn push_front<const N: usize>(buffer: &mut Vec<u8>, bytes: &[u8; N], len: usize) {
    let end = buffer.len() + len;
    buffer.extend_from_slice(bytes);
    buffer.truncate(end);
}

fn headers_size(headers: &[(&str, &[u8])]) -> usize {
    let each = headers.iter().map(|(name, value)| {
        let lengths = varint::len_i32(name.len() as i32) + varint::len_i32(value.len() as i32);
        lengths + name.len() + value.len()
    });
    varint::len_i32(headers.len() as i32) + each.sum::<usize>()
}

/// A batch without records that stands for `offsets` offsets from `base_offset` on, whose records are lost. At least one
/// offset; the time is that of its neighbours.
pub(crate) fn lost_batch(base_offset: Offset, offsets: i32, timestamp_ms: i64) -> Vec<u8> {
    batch_without_records(base_offset, offsets, timestamp_ms, ATTRIBUTE_LOST)
}

/// A batch without records that stands for `offsets` offsets from `base_offset` on, from which a compaction took them. At least
/// one offset.
pub(crate) fn empty_batch(base_offset: Offset, offsets: i32, timestamp_ms: i64) -> Vec<u8> {
    batch_without_records(base_offset, offsets, timestamp_ms, 0)
}

fn batch_without_records(base_offset: Offset, offsets: i32, timestamp_ms: i64, attributes: i16) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    fill_header(&mut bytes, attributes, 0, offsets - 1, timestamp_ms);
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes
}

fn fill_header(bytes: &mut [u8], attributes: i16, record_count: i32, last_offset_delta: i32, timestamp_ms: i64) {
    bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
    bytes[16] = MAGIC as u8;
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
    bytes[27..35].copy_from_slice(&timestamp_ms.to_be_bytes());
    bytes[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
    // Producer id, producer epoch and base sequence: none.
    bytes[43..57].fill(0xff);
    bytes[57..61].copy_from_slice(&record_count.to_be_bytes());
    seal(bytes);
}

/// The batch of which `original` is the header, with other records: so many, as they stand in a batch, compressed by `codec` if by
/// any. Offsets and times stay.
pub(crate) fn with_records(original: &[u8; HEADER_BYTES], codec: Codec, records: &[u8], record_count: i32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + records.len());
    bytes.extend_from_slice(original);
    bytes.extend_from_slice(records);
    let attributes = codec.replace_in(i16::from_be_bytes([original[21], original[22]]));
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[57..61].copy_from_slice(&record_count.to_be_bytes());
    seal(&mut bytes);
    bytes
}

/// Lets a batch end before `next_offset`, behind its last record.
pub(crate) fn set_next_offset(batch: &mut [u8], base_offset: Offset, next_offset: Offset) {
    let last_offset_delta = (next_offset - base_offset - 1) as i32;
    batch[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
    seal(batch);
}

/// Puts in length and checksum.
pub(crate) fn seal(batch: &mut [u8]) {
    let length = (batch.len() - LENGTH_EXCLUDES) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&batch[CRC_COVERS_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C bit by bit, so that the golden batch does not trust the library that the crate uses.
    fn crc32c(bytes: &[u8]) -> u32 {
        let mut crc = !0u32;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn golden_batch() {
        let mut builder = RecordBatchBuilder::new(Compression::None, 0x0102_0304_0506);
        builder.append(Some(b"k1"), Some(b"value"), &[("h", b"xy")]).unwrap();
        builder.append(None, Some(b""), &[]).unwrap();
        builder.append(Some(b"k2"), None, &[]).unwrap();
        assert_eq!(builder.record_count(), 3);
        let batch = builder.finish();

        #[rustfmt::skip]
        let records: &[u8] = &[
            // 18 bytes: no attributes, no delta, offset +0, key of 2, value of 5, one header of 1 and 2 bytes
            36, 0, 0, 0, 4, b'k', b'1', 10, b'v', b'a', b'l', b'u', b'e', 2, 2, b'h', 4, b'x', b'y',
            // 6 bytes: offset +1, no key (-1), empty value, no header
            12, 0, 0, 2, 1, 0, 0,
            // 8 bytes: offset +2, key of 2, no value
            16, 0, 0, 4, 4, b'k', b'2', 1, 0,
        ];
        #[rustfmt::skip]
        let from_attributes: &[u8] = &[
            0, 0,                       // attributes
            0, 0, 0, 2,                 // last offset delta
            0, 0, 1, 2, 3, 4, 5, 6,     // base timestamp
            0, 0, 1, 2, 3, 4, 5, 6,     // max timestamp
            255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
            0, 0, 0, 3,                 // records
        ];
        let covered = [from_attributes, records].concat();
        let mut expected = vec![0; 8];
        expected.extend_from_slice(&(covered.len() as i32 + 9).to_be_bytes());
        expected.extend_from_slice(&[0, 0, 0, 0, 2]);
        expected.extend_from_slice(&crc32c(&covered).to_be_bytes());
        expected.extend_from_slice(&covered);
        assert_eq!(batch.bytes(), expected);
        assert_eq!(batch.size_bytes(), 61 + 19 + 7 + 9);
        // The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn compression_that_gains_nothing_is_left_out() {
        for compression in [Compression::Lz4, Compression::Zstd] {
            let mut builder = RecordBatchBuilder::new(compression, 1);
            builder.append(None, Some(b"x"), &[]).unwrap();
            assert_eq!(builder.finish().bytes()[21..23], [0, 0]);
            builder.append(None, Some(&[7; 10_000]), &[]).unwrap();
            let batch = builder.finish();
            assert_eq!(i16::from(batch.bytes()[22]), compression.codec().attribute_bits());
            assert!(batch.size_bytes() < 500);
        }
    }
}
