//! The codecs of a record batch.
//!
//! LZ4 is the frame format with independent blocks and without checksums, which is what Kafka's own clients write
//! and all that they read; Zstandard is one frame.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use crate::error::BatchError;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: little CPU.
    Lz4,
    /// Zstandard at level 1: fewer bytes.
    Zstd,
}

const CODEC_MASK: i16 = 0x07;
const CODEC_LZ4: i16 = 3;
const CODEC_ZSTD: i16 = 4;
const ZSTD_LEVEL: i32 = 1;
/// The size comes from the input: it shall not allocate more at once.
const ONE_GO_BYTES_MAX: usize = 64 << 20;

impl Compression {
    /// Bits 0 to 2 of a batch's `attributes`.
    pub(crate) fn attribute_bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Lz4 => CODEC_LZ4,
            Self::Zstd => CODEC_ZSTD,
        }
    }

    pub(crate) fn from_attributes(attributes: i16) -> Result<Self, BatchError> {
        match attributes & CODEC_MASK {
            0 => Ok(Self::None),
            1 => Err(BatchError::Codec("gzip")),
            2 => Err(BatchError::Codec("snappy")),
            CODEC_LZ4 => Ok(Self::Lz4),
            CODEC_ZSTD => Ok(Self::Zstd),
            other => Err(BatchError::Field { field: "attributes", value: i64::from(other) }),
        }
    }
}

/// Compresses batch after batch with the same working memory.
pub(crate) struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    pub(crate) fn new() -> Self {
        Self { zstd: None }
    }

    /// Appends the compressed form of `records` to `output`; `false` when a codec failed, which leaves
    /// `output` unusable.
    pub(crate) fn compress(&mut self, compression: Compression, records: &[u8], output: &mut Vec<u8>) -> bool {
        match compression {
            Compression::None => {
                output.extend_from_slice(records);
                true
            }
            Compression::Lz4 => {
                let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
                let mut encoder = FrameEncoder::with_frame_info(info, output);
                encoder.write_all(records).is_ok() && encoder.finish().is_ok()
            }
            Compression::Zstd => self.compress_zstd(records, output).is_some(),
        }
    }

    fn compress_zstd(&mut self, records: &[u8], output: &mut Vec<u8>) -> Option<()> {
        if self.zstd.is_none() {
            self.zstd = Some(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?);
        }
        let start = output.len();
        output.resize(start + zstd::zstd_safe::compress_bound(records.len()), 0);
        let written = self.zstd.as_mut()?.compress_to_buffer(records, output.get_mut(start..)?).ok()?;
        output.truncate(start + written);
        Some(())
    }
}

/// Gives the records back as they were before compression, at most `limit` bytes of them.
pub(crate) fn decompress(compression: Compression, records: &Bytes, limit: usize) -> Result<Bytes, BatchError> {
    match compression {
        Compression::None => Ok(records.clone()),
        Compression::Lz4 => read_limited(FrameDecoder::new(records.as_ref()), records.len() * 4, limit, "LZ4"),
        Compression::Zstd => {
            let content = zstd::zstd_safe::get_frame_content_size(records).ok().flatten();
            // Frames that say their size, as those written here do, are decompressed in one go.
            if let Some(bytes) = content.and_then(|bytes| usize::try_from(bytes).ok())
                && bytes <= limit.min(ONE_GO_BYTES_MAX)
            {
                let output = zstd::bulk::decompress(records, bytes);
                return output.map(Bytes::from).map_err(|_| BatchError::Decompress("Zstandard"));
            }
            let decoder = zstd::Decoder::with_buffer(records.as_ref()).map_err(|_| BatchError::Decompress("Zstandard"))?;
            read_limited(decoder, records.len() * 4, limit, "Zstandard")
        }
    }
}

fn read_limited(decoder: impl std::io::Read, expected: usize, limit: usize, codec: &'static str) -> Result<Bytes, BatchError> {
    // The expectation comes from the input, so it only sizes the first allocation, within reason.
    let mut output = Vec::with_capacity(expected.min(limit).min(16 << 20) + 1);
    let read = decoder.take(limit as u64 + 1).read_to_end(&mut output);
    read.map_err(|_| BatchError::Decompress(codec))?;
    if output.len() > limit {
        return Err(BatchError::TooLarge { limit });
    }
    Ok(Bytes::from(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(compression: Compression, records: &[u8]) -> Bytes {
        let mut output = Vec::new();
        assert!(Compressor::new().compress(compression, records, &mut output));
        Bytes::from(output)
    }

    #[test]
    fn round_trip() {
        for size in [0, 1, 1000, 70_000, 3_000_000] {
            let records: Vec<u8> = (0..size).map(|index: usize| (index / 7 % 251) as u8).collect();
            for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
                let bytes = compressed(compression, &records);
                assert_eq!(decompress(compression, &bytes, size).as_deref(), Ok(records.as_slice()));
            }
        }
    }

    #[test]
    fn lz4_frame_header_is_the_one_kafka_writes() {
        // Version 1, independent blocks, no checksums, 64 KiB blocks, header checksum 0x82.
        assert_eq!(compressed(Compression::Lz4, b"x")[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    }

    #[test]
    fn a_bomb_is_refused() {
        let records = vec![0; 1 << 20];
        for compression in [Compression::Lz4, Compression::Zstd] {
            let bytes = compressed(compression, &records);
            assert!(bytes.len() < 16 << 10);
            let refused = decompress(compression, &bytes, (1 << 20) - 1);
            assert_eq!(refused, Err(BatchError::TooLarge { limit: (1 << 20) - 1 }));
        }
    }
}
