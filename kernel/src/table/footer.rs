//! The last 512 bytes of a table, on a sector boundary so that a torn write leaves all of them or none.
//!
//! ```text
//!   0  8  magic "HFTFOOT\n"
//!   8  4  format version, 1
//!  12  4  zero
//!  16  8  file identity
//!  24  8  length of the file
//!  32  16 properties: offset (8), length of the frame (8)
//!  48  16 range tombstones, the same
//!  64  16 top index, the same
//!  80 428 zero
//! 508  4  CRC-32 of file identity (8), offset of the footer (8), bytes 0 to 507
//! ```
//!
//! Between the last block and the footer stand fewer than 512 bytes, all zero. Bytes that are zero in this version
//! are checked, so that a later one may use them and be refused by this one.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::fields::Unreadable;
use super::frame::Handle;
use super::header::FORMAT_VERSION;
use crate::codec::{BadBytes, Reader, checksum};
use crate::types::FileId;

/// Length of the footer, and what its offset is a multiple of.
pub(super) const FOOTER_BYTES: usize = 512;

const MAGIC: &[u8; 8] = b"HFTFOOT\n";
const COVERED_BYTES: usize = 508;

/// What the footer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Footer {
    pub(super) file_bytes: u64,
    pub(super) properties: Handle,
    pub(super) tombstones: Handle,
    pub(super) top_index: Handle,
}

impl Footer {
    /// The footer's bytes.
    pub(super) fn encode(&self, id: FileId) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&id.get().to_le_bytes());
        out.extend_from_slice(&self.file_bytes.to_le_bytes());
        for handle in [self.properties, self.tombstones, self.top_index] {
            out.extend_from_slice(&handle.offset.to_le_bytes());
            out.extend_from_slice(&handle.len.to_le_bytes());
        }
        out.resize(COVERED_BYTES, 0);
        let offset = self.file_bytes.saturating_sub(FOOTER_BYTES as u64);
        out.extend_from_slice(&footer_checksum(id, offset, &out).to_le_bytes());
        out
    }

    /// Reads the footer of the file `id` from `bytes`, which stand at `offset`.
    pub(super) fn decode(bytes: &[u8; FOOTER_BYTES], id: FileId, offset: u64) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take(COVERED_BYTES, "table footer")?;
        let sum = reader.u32("table footer")?;
        let mut reader = Reader::new(covered);
        if reader.take(MAGIC.len(), "table footer")? != MAGIC {
            return Err(BadBytes { what: "the file does not end in a table's footer", at: 0 }.into());
        }
        if sum != footer_checksum(id, offset, covered) {
            return Err(BadBytes { what: "table footer does not match its checksum", at: 0 }.into());
        }
        let version = reader.u32("table footer")?;
        let zero = reader.u32("table footer")?;
        let footer_id = reader.u64("table footer")?;
        let file_bytes = reader.u64("table footer")?;
        let mut handle = || -> Result<Handle, BadBytes> {
            Ok(Handle { offset: reader.u64("table footer")?, len: reader.u64("table footer")? })
        };
        let (properties, tombstones, top_index) = (handle()?, handle()?, handle()?);
        if version != FORMAT_VERSION || zero != 0 || reader.rest().iter().any(|byte| *byte != 0) {
            return Err(Unreadable::Newer("the table's footer holds what this version does not know".into()));
        }
        if footer_id != id.get() || file_bytes != offset.saturating_add(FOOTER_BYTES as u64) {
            return Err(BadBytes { what: "table footer belongs to another file or length", at: 16 }.into());
        }
        Ok(Self { file_bytes, properties, tombstones, top_index })
    }
}

fn footer_checksum(id: FileId, offset: u64, covered: &[u8]) -> u32 {
    checksum(&[&id.get().to_le_bytes(), &offset.to_le_bytes(), covered])
}
