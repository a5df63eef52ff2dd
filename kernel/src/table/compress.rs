//! The codecs of block payloads.
//!
//! LZ4 is `lz4_flex`'s block format without a length in front; Zstandard is one frame. The frame around the block
//! says how long the content is. A block that would not shrink by an eighth is stored as it is, since decoding
//! would cost more than reading the difference; so is one too large to hold twice.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use crate::options::Compression;

/// Content longer than this is stored as it is: compressing it needs as much memory again. It also bounds the
/// memory that a wrong content length can ask for.
pub(super) const COMPRESS_BYTES_MAX: usize = 64 << 20;
/// LZ4 cannot shrink more than this many times.
const LZ4_RATIO_MAX: usize = 255;
const ZSTD_LEVEL: i32 = 1;

/// How a payload stands on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Codec {
    None = 0,
    Lz4 = 1,
    Zstd = 2,
}

impl Codec {
    pub(super) fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// True if `payload_len` bytes could hold `content_len`, so that a wrong length is refused before memory is
    /// taken for it. Zstandard has no useful bound; there only the table's largest block bounds it.
    pub(super) fn can_hold(self, payload_len: usize, content_len: usize) -> bool {
        match self {
            Self::None => payload_len == content_len,
            Self::Lz4 => content_len <= payload_len.saturating_mul(LZ4_RATIO_MAX),
            Self::Zstd => true,
        }
    }

    /// Decodes `payload` into exactly `content`.
    pub(super) fn decode(self, payload: &[u8], content: &mut [u8]) -> Result<(), &'static str> {
        let len = match self {
            Self::None if payload.len() == content.len() => {
                content.copy_from_slice(payload);
                return Ok(());
            }
            Self::None => return Err("block content length differs from its payload"),
            Self::Lz4 => decompress_into(payload, content).map_err(|_| "block does not decode as LZ4")?,
            Self::Zstd => zstd::bulk::decompress_to_buffer(payload, content)
                .map_err(|_| "block does not decode as Zstandard")?,
        };
        if len == content.len() { Ok(()) } else { Err("block decodes to another length than stated") }
    }
}

/// Compresses one block after another with memory of its own that it reuses.
pub(super) struct Compressor {
    compression: Compression,
    lz4: CompressTable,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    out: Vec<u8>,
}

impl Compressor {
    /// For blocks of `compression`.
    pub(super) fn new(compression: Compression) -> Self {
        // Without memory for a Zstandard context blocks are stored as they are, which every reader reads.
        let zstd = match compression {
            Compression::Zstd => zstd::bulk::Compressor::new(ZSTD_LEVEL).ok(),
            Compression::None | Compression::Lz4 => None,
        };
        Self { compression, lz4: CompressTable::small(), zstd, out: Vec::new() }
    }

    /// `content` as it should be stored.
    pub(super) fn compress<'a>(&'a mut self, content: &'a [u8]) -> (Codec, &'a [u8]) {
        if self.compression == Compression::None || content.len() > COMPRESS_BYTES_MAX {
            return (Codec::None, content);
        }
        let codec = if self.compression == Compression::Lz4 { Codec::Lz4 } else { Codec::Zstd };
        let worth = content.len().saturating_sub(content.len() / 8);
        match self.compress_into_out(content).and_then(|len| self.out.get(..len)) {
            Some(out) if out.len() < worth => (codec, out),
            _ => (Codec::None, content),
        }
    }

    fn compress_into_out(&mut self, content: &[u8]) -> Option<usize> {
        let room = match self.compression {
            Compression::Zstd => zstd::zstd_safe::compress_bound(content.len()),
            Compression::None | Compression::Lz4 => get_maximum_output_size(content.len()),
        };
        if self.out.len() < room {
            self.out.resize(room, 0);
        }
        match (self.compression, &mut self.zstd) {
            (Compression::Lz4, _) => compress_into_with_table(content, &mut self.out, &mut self.lz4).ok(),
            (Compression::Zstd, Some(zstd)) => zstd.compress_to_buffer(content, &mut self.out[..]).ok(),
            (Compression::Zstd | Compression::None, _) => None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn content_comes_back_and_damage_does_not_panic(seed: Vec<u8>, repeat: u8, flips: Vec<u16>) -> bool {
            let content = seed.repeat(repeat as usize % 9);
            for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
                let mut compressor = Compressor::new(compression);
                for _ in 0..2 {
                    let (codec, payload) = compressor.compress(&content);
                    assert!(payload.len() <= content.len() && codec.can_hold(payload.len(), content.len()));
                    let mut again = vec![0; content.len()];
                    assert_eq!(codec.decode(payload, &mut again), Ok(()));
                    assert_eq!(again, content);
                    assert!(codec.decode(payload, &mut vec![0; content.len() + 1]).is_err());
                    let mut bad = payload.to_vec();
                    for flip in flips.iter().filter(|_| !payload.is_empty()) {
                        bad[*flip as usize % payload.len()] ^= (flip >> 8) as u8;
                        codec.decode(&bad, &mut again).ok();
                    }
                }
            }
            true
        }

        fn any_bytes_are_judged(bytes: Vec<u8>, len: u16) -> bool {
            let mut content = vec![0; len as usize];
            Codec::Lz4.decode(&bytes, &mut content).ok();
            Codec::Zstd.decode(&bytes, &mut content).ok();
            true
        }
    }
}
