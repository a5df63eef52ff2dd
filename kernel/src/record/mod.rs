//! Checksummed groups of frames in a file made of 512-byte sectors: the one framing of log and manifest.
//!
//! A device writes whole sectors, so the sector is the unit of everything here: each one says by itself which
//! file, place, use and position it belongs to, and a power loss leaves each either new or as it was.
//!
//! ```text
//! file    | header region, 4096 bytes | sector | sector | ...
//! header  | magic 8 | version u32 | FileId u64 | fields length u32 | fields | zeros | crc32 u32 |   512 bytes
//! field   | tag u8 | flags u8 (1 = required) | length u16 | body |        the region's rest is zeros
//! sector  | crc32 u32 | epoch u32 | lsn u64 | used u16 | flags u8 | format u8 | remaining u32 | payload 488 |
//! group   a run of sectors from FIRST to LAST; PAD sectors fill it up to the device's alignment. Its payload:
//!         | durable u64 | payload length u64 | frames u32 | frame | frame | ...
//! frame   | kind u8 | stream u8 | flags u8 (1 = optional) | length u32 | body |
//! ```
//!
//! A sector's checksum covers FileId, its number in the file, and its bytes from 4 on. `remaining` counts the
//! sectors of the group that follow. `durable` is the position below which everything was known to be durable
//! when the group was made.
//!
//! Invariants:
//! 1. A position is written at most once in one use of a file: what failed is abandoned, never written over. So a
//!    torn group is a mix of *its own* sectors and of what stood there before, and never of two attempts.
//! 2. What stood there before is zeros, or sectors valid for this file and place whose position lies below the
//!    base of this use. Hence every sector is provably new, provably old, or corrupt.
//! 3. `durable` never exceeds the position of the group that carries it.
//! 4. Decoding is pure, panics on no input, and allocates no more than the bytes it was given.

mod decode;
mod encode;
mod file_io;
mod frame;
mod header;
mod lenient;
mod scan;
mod sector;
mod sector_reader;
mod survey;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

pub use decode::{FrameDecoder, FrameRef};
pub use encode::{EncodedFrames, GroupEncoder, GroupLayout, encode_frames};
pub use file_io::{READ_CHUNK, read_full, remove_quietly, write_full};
pub use frame::{FRAME_OPTIONAL, Frame, FrameKind, GroupHeader};
pub use header::{FileHeader, HeaderWriter};
pub(crate) use lenient::read_leniently;
pub(crate) use scan::{Scan, Scanned, ScannedFrame};
pub(crate) use sector::position_of;
pub use sector::{SectorHead, SectorUse, Verdict, judge};
pub use sector_reader::SectorReader;
pub use survey::{Survey, Surveyed, Torn, Vouched};

use std::path::Path;

use crate::codec::BadBytes;
use crate::error::Error;

/// What a device writes whole.
pub const SECTOR: usize = 512;

/// Bytes of so many sectors.
pub const fn sector_bytes(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR as u64)
}

/// Whole sectors in so many bytes.
pub const fn sectors_in(bytes: u64) -> u64 {
    bytes / SECTOR as u64
}
/// Bytes before a sector's payload.
pub const SECTOR_HEAD: usize = 24;
/// Payload bytes of a sector.
pub const SECTOR_PAYLOAD: usize = SECTOR - SECTOR_HEAD;
/// Bytes before the first data sector. The header itself is one sector, so it is replaced in one step.
pub const HEADER_REGION: usize = 4096;
/// Number of the first data sector.
pub const FIRST_SECTOR: u64 = (HEADER_REGION / SECTOR) as u64;
/// Largest piece in which a group is encoded and written.
pub const WRITE_CHUNK: usize = 1 << 20;

/// Why bytes could not be read: they are bad, or a newer version wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not what was written.
    Bad(BadBytes),
    /// Whole, but of a kind this version does not know and may not skip.
    Newer(String),
}

impl From<BadBytes> for Unreadable {
    fn from(bad: BadBytes) -> Self {
        Self::Bad(bad)
    }
}

impl Unreadable {
    /// The error for bytes that stood at `base` of `file`.
    pub fn in_file(self, file: &Path, base: u64) -> Error {
        match self {
            Self::Bad(bad) => Error::corrupt(file, base, &bad),
            Self::Newer(what) => Error::NewerFormat { file: file.to_path_buf(), what },
        }
    }
}
