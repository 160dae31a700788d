//! Reads the records of a batch in place.

use bytes::Bytes;

use crate::batch::{ATTRIBUTE_APPEND_TIME, ATTRIBUTE_CONTROL, BATCH_BYTES_MAX, HEADER_BYTES, RecordBatch};
use crate::codec::{self, Codec};
use crate::error::{BatchError, LogError, Result};
use crate::partition::Offset;
use crate::varint;

/// As many as a batch is written with. Less for fuzz targets, to which what is allowed is no finding.
const RECORDS_BYTES_MAX: usize = if cfg!(feature = "fuzzing") { 16 << 20 } else { BATCH_BYTES_MAX };

impl RecordBatch {
    /// Decompresses the records, at most 1 GiB of them (the most that a batch is written with), so that they can be
    /// iterated any number of times.
    pub fn records(&self) -> Result<Records> {
        self.records_limited(RECORDS_BYTES_MAX)
    }

    /// As [`records`](Self::records), with an error when there are more than `limit` bytes.
    pub fn records_limited(&self, limit: usize) -> Result<Records> {
        let stored = self.bytes.slice(HEADER_BYTES.min(self.bytes.len())..);
        let attributes = self.header.attributes;
        let data = Codec::from_attributes(attributes)
            .and_then(|codec| codec::decompress(codec, &stored, limit))
            .map_err(|source| LogError::Batch { base_offset: self.header.base_offset, source })?;
        // A control batch holds markers of Kafka's transactions, which are nobody's data.
        let count = if attributes & ATTRIBUTE_CONTROL != 0 { 0 } else { self.header.record_count as u32 };
        Ok(Records {
            data,
            count,
            base_offset: self.header.base_offset,
            last_offset_delta: self.header.last_offset_delta,
            base_timestamp_ms: self.header.base_timestamp_ms,
            append_time_ms: (attributes & ATTRIBUTE_APPEND_TIME != 0).then_some(self.header.max_timestamp_ms),
        })
    }
}

/// The decompressed records of one batch.
#[derive(Clone, Debug)]
pub struct Records {
    data: Bytes,
    count: u32,
    base_offset: Offset,
    last_offset_delta: i32,
    base_timestamp_ms: i64,
    append_time_ms: Option<i64>,
}

impl Records {
    /// The records in order of their offsets.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter { records: self, bytes: &self.data, at: 0, index: 0, last_delta: -1 }
    }

    /// How many records the batch says it has.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True when there is no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Uncompressed bytes of all records with their framing.
    pub fn size_bytes(&self) -> usize {
        self.data.len()
    }

    /// The buffer that keys and values point into: `Bytes::slice_ref` of it outlives the iteration without a copy.
    pub fn buffer(&self) -> &Bytes {
        &self.data
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// One record, pointing into its batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// When it was appended, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What identifies the row; `None` for a record without a key.
    pub key: Option<&'a [u8]>,
    /// The content; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    header_count: u32,
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// The headers in the order they were written; a name may occur more than once.
    pub fn headers(&self) -> Headers<'a> {
        Headers { left: self.header_count, bytes: self.headers, at: 0 }
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(found, _)| *found == name).and_then(|(_, value)| value)
    }
}

/// Iterates the records of a batch; ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    records: &'a Records,
    bytes: &'a [u8],
    at: usize,
    index: u32,
    last_delta: i32,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.records.count {
            // Every byte belongs to a record.
            if self.at < self.bytes.len() && self.records.count > 0 {
                self.at = self.bytes.len();
                return Some(Err(self.malformed("bytes follow the last record")));
            }
            return None;
        }
        match self.read_record() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(problem) => {
                let error = self.malformed(problem);
                self.index = self.records.count;
                self.at = self.bytes.len();
                Some(Err(error))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.records.count - self.index) as usize + 1))
    }
}

impl<'a> RecordIter<'a> {
    /// Where the next record begins in [`Records::buffer`].
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    fn read_record(&mut self) -> std::result::Result<Record<'a>, &'static str> {
        let length = varint::get_i32(self.bytes, &mut self.at).ok_or("its length is cut off")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let body = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        let body = body.ok_or("it is longer than the batch")?;
        self.at += length;

        // The first byte, the attributes, has no bit in use.
        let mut at = 1;
        let timestamp_delta = varint::get_i64(body, &mut at).ok_or("its timestamp is cut off")?;
        let offset_delta = varint::get_i32(body, &mut at).ok_or("its offset is cut off")?;
        if offset_delta <= self.last_delta || offset_delta > self.records.last_offset_delta {
            return Err("its offset is out of order");
        }
        self.last_delta = offset_delta;
        let key = take_bytes(body, &mut at).ok_or("its key is cut off")?;
        let value = take_bytes(body, &mut at).ok_or("its value is cut off")?;
        let header_count = varint::get_i32(body, &mut at).ok_or("its header count is cut off")?;
        let header_count = u32::try_from(header_count).map_err(|_| "its header count is negative")?;
        let headers = body.get(at..).unwrap_or_default();
        check_headers(header_count, headers)?;
        let timestamp_ms = match self.records.append_time_ms {
            Some(append_time_ms) => append_time_ms,
            None => self.records.base_timestamp_ms.wrapping_add(timestamp_delta),
        };
        let offset = self.records.base_offset + Offset::from(offset_delta);
        Ok(Record { offset, timestamp_ms, key, value, header_count, headers })
    }

    #[cold]
    fn malformed(&self, problem: &'static str) -> LogError {
        let source = BatchError::Record { index: self.index, problem };
        LogError::Batch { base_offset: self.records.base_offset, source }
    }
}

/// A length and that many bytes; the inner `None` stands for the length -1. The outer one for bytes that are not there.
#[inline]
fn take_bytes<'a>(body: &'a [u8], at: &mut usize) -> Option<Option<&'a [u8]>> {
    let length = varint::get_i32(body, at)?;
    if length == -1 {
        return Some(None);
    }
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let bytes = body.get(*at..end)?;
    *at = end;
    Some(Some(bytes))
}

/// Walks all headers once, so that iterating them later cannot fail.
#[inline]
fn check_headers(count: u32, bytes: &[u8]) -> std::result::Result<(), &'static str> {
    let mut at = 0;
    for _ in 0..count {
        let name = take_bytes(bytes, &mut at).flatten().ok_or("a header's name is cut off")?;
        if std::str::from_utf8(name).is_err() {
            return Err("a header's name is not UTF-8");
        }
        take_bytes(bytes, &mut at).ok_or("a header's value is cut off")?;
    }
    if at == bytes.len() { Ok(()) } else { Err("bytes follow the last header") }
}

/// Iterates the headers of a record as name and value; a value may be missing.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    left: u32,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = take_bytes(self.bytes, &mut self.at)??;
        let value = take_bytes(self.bytes, &mut self.at)?;
        Some((std::str::from_utf8(name).ok()?, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compression;
    use crate::batch_builder::RecordBatchBuilder;
    use proptest::prelude::*;

    type Owned = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);

    fn encode(compression: Compression, rows: &[Owned], base_offset: Offset) -> RecordBatch {
        let mut builder = RecordBatchBuilder::new(compression, 77);
        for (key, value, headers) in rows {
            let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
            builder.append(key.as_deref(), value.as_deref(), &headers).unwrap();
        }
        let mut encoded = builder.finish();
        encoded.set_base_offset(base_offset);
        RecordBatch::parse(Bytes::from(encoded.bytes)).unwrap()
    }

    fn decode(batch: &RecordBatch) -> Vec<Owned> {
        let records = batch.records().unwrap();
        let mut rows = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let record = record.unwrap();
            assert_eq!(record.offset, batch.base_offset() + index as i64);
            assert_eq!(record.timestamp_ms, 77);
            let headers = record.headers().map(|(n, v)| (n.to_owned(), v.unwrap().to_vec())).collect();
            rows.push((record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers));
        }
        rows
    }

    fn compressions() -> impl Strategy<Value = Compression> {
        prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
    }

    fn rows() -> impl Strategy<Value = Vec<Owned>> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
        let header = ("[a-z]{0,70}", prop::collection::vec(any::<u8>(), 0..70));
        prop::collection::vec((bytes(), bytes(), prop::collection::vec(header, 0..3)), 1..100)
    }

    proptest! {
        #[test]
        fn round_trip(compression in compressions(), rows in rows(), base in 0i64..1 << 40) {
            let batch = encode(compression, &rows, base);
            prop_assert_eq!(batch.record_count(), rows.len());
            prop_assert_eq!(batch.next_offset(), base + rows.len() as i64);
            prop_assert_eq!(decode(&batch), rows);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = RecordBatch::parse(Bytes::from(bytes));
        }

        /// A right checksum around wrong records: what a writer with a bug would leave.
        #[test]
        fn wrong_records_never_panic(
            codec in 0i16..8,
            count in any::<i32>(),
            delta in any::<i32>(),
            records in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = encode(Compression::None, &[(None, None, vec![])], 5).bytes.to_vec();
            bytes.truncate(HEADER_BYTES);
            bytes.extend_from_slice(&records);
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[21..23].copy_from_slice(&codec.to_be_bytes());
            bytes[23..27].copy_from_slice(&delta.to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let crc = crc_fast::crc32_iscsi(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            if let Ok(batch) = RecordBatch::parse(Bytes::from(bytes))
                && let Ok(records) = batch.records_limited(1 << 20)
            {
                for record in records.iter().flatten() {
                    prop_assert!(record.offset >= 5 && record.offset <= batch.last_offset());
                    record.headers().count();
                }
            }
        }

        /// Every change of a record's byte under a right checksum is an error or another valid record, never a panic.
        #[test]
        fn changed_bytes_never_panic(rows in rows(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut bytes = encode(Compression::None, &rows, 5).bytes.to_vec();
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] = to;
            let crc = crc_fast::crc32_iscsi(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            let records = RecordBatch::parse(Bytes::from(bytes)).unwrap().records().unwrap();
            prop_assert!(records.iter().count() <= rows.len() + 1);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_found() {
        let batch = encode(Compression::None, &[(Some(vec![1, 2]), Some(vec![3]), vec![])], 5);
        for bit in 64..batch.bytes.len() * 8 {
            let mut bytes = batch.bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(RecordBatch::parse(Bytes::from(bytes)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn first_header_of_a_name() {
        let headers = vec![("a".to_owned(), vec![1]), ("b".to_owned(), vec![2]), ("a".to_owned(), vec![3])];
        let batch = encode(Compression::None, &[(None, None, headers)], 0);
        let records = batch.records().unwrap();
        let record = records.iter().next().unwrap().unwrap();
        assert_eq!(record.header("a"), Some(&[1][..]));
        assert_eq!(record.header("b"), Some(&[2][..]));
        assert_eq!(record.header("c"), None);
        assert_eq!(records.len(), 1);
        assert!(!records.is_empty());
    }
}
