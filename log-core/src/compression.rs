//! Compresses the records of a batch. [`crate::codec`] reads them back, and what other writers compressed.
//!
//! LZ4 is the frame format with independent blocks and without checksums, which is what Kafka's own clients write
//! and all that they read; Zstandard is one frame.

use std::io::Write as _;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use crate::codec::Codec;

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

const ZSTD_LEVEL: i32 = 1;

impl Compression {
    /// What a batch says of itself when it is compressed so.
    pub(crate) fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lz4_frame_header_is_the_one_kafka_writes() {
        // Version 1, independent blocks, no checksums, 64 KiB blocks, header checksum 0x82.
        let mut output = Vec::new();
        assert!(Compressor::new().compress(Compression::Lz4, b"x", &mut output));
        assert_eq!(output[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    }
}
