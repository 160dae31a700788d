//! The codecs of stored batches: all that Kafka's clients write can be read. [`crate::compression`] is what is written here.
//!
//! What compressed bytes say of their size is not believed: output is bounded by the caller's limit, and memory by what
//! so many bytes can hold.
//!
//! Snappy comes in two framings. librdkafka and others write one raw block; Kafka's Java clients write that of the library
//! snappy-java (once xerial's), for which all numbers are big-endian:
//!
//! ```text
//! 0x82 "SNAPPY" 0    version i32 (1)    oldest version that can read it i32 (1)
//! { length i32   raw block of that many bytes } …
//! ```

use std::fmt;
use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

use crate::error::BatchError;

/// How the records of a stored batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in one raw block or in the framing of Kafka's Java clients.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

const CODEC_MASK: i16 = 0x07;
/// The size comes from the input: it shall not allocate more at once.
const ONE_GO_BYTES_MAX: usize = 64 << 20;

const SNAPPY_FRAMED: [u8; 8] = *b"\x82SNAPPY\0";
const SNAPPY_FRAME_HEADER_BYTES: usize = 16;
/// No element of a Snappy block gives more bytes for each of its own: a copy of 64 takes 3.
const SNAPPY_RATIO_MAX: usize = 22;

impl Codec {
    /// From a batch's `attributes`, bits 0 to 2.
    pub(crate) fn from_attributes(attributes: i16) -> Result<Self, BatchError> {
        match attributes & CODEC_MASK {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(BatchError::Field { field: "attributes", value: i64::from(other) }),
        }
    }

    /// Bits 0 to 2 of a batch's `attributes`.
    pub(crate) fn attribute_bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// `attributes` with these bits 0 to 2.
    pub(crate) fn replace_in(self, attributes: i16) -> i16 {
        attributes & !CODEC_MASK | self.attribute_bits()
    }

    /// Its name in Kafka's settings: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    fn failed(self) -> BatchError {
        BatchError::Decompress(self.name())
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Gives the records back as they were before compression, at most `limit` bytes of them.
pub(crate) fn decompress(codec: Codec, stored: &Bytes, limit: usize) -> Result<Bytes, BatchError> {
    match codec {
        Codec::None => Ok(stored.clone()),
        Codec::Gzip => read_limited(MultiGzDecoder::new(stored.as_ref()), stored.len() * 4, limit, codec),
        Codec::Snappy => decompress_snappy(stored, limit),
        Codec::Lz4 => read_limited(FrameDecoder::new(stored.as_ref()), stored.len() * 4, limit, codec),
        Codec::Zstd => decompress_zstd(stored, limit),
    }
}

fn decompress_zstd(stored: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    let content = zstd::zstd_safe::get_frame_content_size(stored).ok().flatten();
    // Frames that say their size, as those written here do, are decompressed in one go.
    if let Some(bytes) = content.and_then(|bytes| usize::try_from(bytes).ok())
        && bytes <= limit.min(ONE_GO_BYTES_MAX)
    {
        return zstd::bulk::decompress(stored, bytes).map(Bytes::from).map_err(|_| Codec::Zstd.failed());
    }
    let decoder = zstd::Decoder::with_buffer(stored).map_err(|_| Codec::Zstd.failed())?;
    read_limited(decoder, stored.len() * 4, limit, Codec::Zstd)
}

fn decompress_snappy(stored: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    let mut output = Vec::new();
    if !stored.starts_with(&SNAPPY_FRAMED) {
        append_snappy_block(stored, limit, &mut output)?;
        return Ok(output.into());
    }
    let failed = || Codec::Snappy.failed();
    let mut rest = stored.get(SNAPPY_FRAME_HEADER_BYTES..).ok_or_else(failed)?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk().ok_or_else(failed)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| failed())?;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(failed)?;
        append_snappy_block(block, limit, &mut output)?;
        rest = behind;
    }
    Ok(output.into())
}

fn append_snappy_block(block: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    let failed = |_| Codec::Snappy.failed();
    let bytes = snap::raw::decompress_len(block).map_err(failed)?;
    if bytes > limit - output.len() {
        return Err(BatchError::TooLarge { limit });
    }
    if bytes / SNAPPY_RATIO_MAX > block.len() {
        return Err(Codec::Snappy.failed());
    }
    let start = output.len();
    output.resize(start + bytes, 0);
    snap::raw::Decoder::new().decompress(block, output.get_mut(start..).unwrap_or_default()).map_err(failed)?;
    Ok(())
}

fn read_limited(decoder: impl Read, expected: usize, limit: usize, codec: Codec) -> Result<Bytes, BatchError> {
    // The expectation comes from the input, so it only sizes the first allocation, within reason.
    let mut output = Vec::with_capacity(expected.min(limit).min(16 << 20) + 1);
    let read = decoder.take(limit as u64 + 1).read_to_end(&mut output);
    read.map_err(|_| codec.failed())?;
    if output.len() > limit {
        return Err(BatchError::TooLarge { limit });
    }
    Ok(Bytes::from(output))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::compression::{Compression, Compressor};

    /// How a test's bytes are compressed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Writer {
        Ours(Compression),
        Gzip,
        SnappyRaw,
        SnappyFramed,
    }

    const WRITERS: [Writer; 6] = [
        Writer::Ours(Compression::None),
        Writer::Ours(Compression::Lz4),
        Writer::Ours(Compression::Zstd),
        Writer::Gzip,
        Writer::SnappyRaw,
        Writer::SnappyFramed,
    ];

    impl Writer {
        fn codec(self) -> Codec {
            match self {
                Self::Ours(compression) => compression.codec(),
                Self::Gzip => Codec::Gzip,
                Self::SnappyRaw | Self::SnappyFramed => Codec::Snappy,
            }
        }

        fn compress(self, records: &[u8]) -> Bytes {
            let snappy = |block: &[u8]| snap::raw::Encoder::new().compress_vec(block).unwrap();
            let mut output = Vec::new();
            match self {
                Self::Ours(compression) => assert!(Compressor::new().compress(compression, records, &mut output)),
                Self::Gzip => {
                    let mut encoder = flate2::write::GzEncoder::new(&mut output, flate2::Compression::default());
                    encoder.write_all(records).unwrap();
                    encoder.finish().unwrap();
                }
                Self::SnappyRaw => output = snappy(records),
                Self::SnappyFramed => {
                    output.extend_from_slice(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
                    for block in records.chunks(32 << 10).map(snappy) {
                        output.extend_from_slice(&(block.len() as i32).to_be_bytes());
                        output.extend_from_slice(&block);
                    }
                }
            }
            Bytes::from(output)
        }
    }

    #[test]
    fn round_trip() {
        for size in [0, 1, 1000, 70_000, 3_000_000] {
            let records: Vec<u8> = (0..size).map(|index: usize| (index / 7 % 251) as u8).collect();
            for writer in WRITERS {
                let found = decompress(writer.codec(), &writer.compress(&records), size);
                assert_eq!(found.as_deref(), Ok(records.as_slice()), "{writer:?}, {size} bytes");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let records = vec![0; 1 << 20];
        for writer in WRITERS.into_iter().skip(1) {
            let bytes = writer.compress(&records);
            assert!(bytes.len() < 64 << 10);
            let refused = decompress(writer.codec(), &bytes, (1 << 20) - 1);
            assert_eq!(refused, Err(BatchError::TooLarge { limit: (1 << 20) - 1 }), "{writer:?}");
        }
        // Eight bytes that claim to hold 256 MiB: nothing is allocated for them.
        let lie = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x01, 0, 0, 0]);
        assert_eq!(decompress(Codec::Snappy, &lie, 1 << 30), Err(BatchError::Decompress("snappy")));
    }

    #[test]
    fn every_cut_is_an_error_or_shorter() {
        let records: Vec<u8> = (0..50_000u32).flat_map(u32::to_be_bytes).collect();
        for writer in WRITERS.into_iter().skip(1) {
            let bytes = writer.compress(&records);
            for len in (0..bytes.len()).step_by(997) {
                if let Ok(found) = decompress(writer.codec(), &bytes.slice(..len), records.len()) {
                    assert!(found.len() < records.len(), "{writer:?} cut to {len}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), framed in any::<bool>()) {
            let mut input = if framed { SNAPPY_FRAMED.to_vec() } else { Vec::new() };
            input.extend_from_slice(&bytes);
            for bits in 0..5 {
                let codec = Codec::from_attributes(bits).unwrap();
                if let Ok(found) = decompress(codec, &Bytes::from(input.clone()), 1 << 20) {
                    prop_assert!(found.len() <= 1 << 20);
                }
            }
        }
    }
}
