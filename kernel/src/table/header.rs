//! The first bytes of a table.
//!
//! ```text
//!  0  8  magic "HFTABLE\n"
//!  8  4  format version, 1
//! 12  4  length of the fields
//! 16  8  file identity
//! 24  n  fields: 1 key order (required): one byte, 1 = bytewise · 2 keyspace (optional): varint, for repair
//!  …  4  CRC-32 of identity, offset 0 (8 bytes) and all bytes before
//! ```
//!
//! At most [`HEADER_BYTES_MAX`] bytes. Magic, lengths, identity and checksum stand where they stand in every
//! version, so that damage is told from a newer format: only a header whose checksum holds is believed.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::fields::{Need, Unreadable, put_field, put_keyspace, read_fields, read_keyspace};
use crate::codec::{BadBytes, Reader, checksum};
use crate::types::{FileId, KeyspaceId};

/// The largest header.
pub(super) const HEADER_BYTES_MAX: usize = 4096;
/// The one format version so far.
pub(super) const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"HFTABLE\n";
const FIXED_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 4;
const KEY_ORDER: u32 = 1;
const KEYSPACE: u32 = 2;
const BYTEWISE: &[u8] = &[1];

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) id: FileId,
    /// Where the blocks begin.
    pub(super) len: u64,
    /// Whose table it is. The manifest decides; this is for a repair that has lost it.
    pub(super) keyspace: Option<KeyspaceId>,
}

impl Header {
    /// The header of a file.
    pub(super) fn encode(id: FileId, keyspace: KeyspaceId) -> Vec<u8> {
        let mut fields = Vec::new();
        put_field(&mut fields, KEY_ORDER, Need::Required, BYTEWISE);
        put_keyspace(&mut fields, KEYSPACE, keyspace);
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(fields.len() as u32).to_le_bytes());
        out.extend_from_slice(&id.get().to_le_bytes());
        out.extend_from_slice(&fields);
        let sum = header_checksum(id, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the header from the start of a file, of which `bytes` holds up to [`HEADER_BYTES_MAX`].
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len(), "table header")? != MAGIC {
            return Err(BadBytes { what: "not a table: wrong magic", at: 0 }.into());
        }
        let version = reader.u32("table header")?;
        let fields_len = reader.u32("table header")? as usize;
        if fields_len > HEADER_BYTES_MAX.saturating_sub(FIXED_BYTES).saturating_sub(CHECKSUM_BYTES) {
            return Err(BadBytes { what: "table header is too long", at: 12 }.into());
        }
        let id = FileId::new(reader.u64("table header")?);
        let fields = reader.take(fields_len, "table header fields")?;
        let covered = bytes.get(..reader.position()).unwrap_or_default();
        if reader.u32("table header checksum")? != header_checksum(id, covered) {
            return Err(BadBytes { what: "table header does not match its checksum", at: 0 }.into());
        }
        if version != FORMAT_VERSION {
            return Err(Unreadable::Newer(format!("table format version {version} is unknown")));
        }
        let mut keyspace = None;
        read_fields(fields, |field| match field.tag {
            tag if tag == u64::from(KEYSPACE) => {
                keyspace = read_keyspace(&field);
                Ok(())
            }
            tag if tag == u64::from(KEY_ORDER) && field.value == BYTEWISE => Ok(()),
            tag if tag == u64::from(KEY_ORDER) => {
                Err(Unreadable::Newer(format!("key order {:?} is unknown", field.value)))
            }
            _ => field.unknown("table header"),
        })?;
        Ok(Self { id, len: reader.position() as u64, keyspace })
    }
}

fn header_checksum(id: FileId, covered: &[u8]) -> u32 {
    checksum(&[&id.get().to_le_bytes(), &0u64.to_le_bytes(), covered])
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]
mod tests {
    use super::*;

    fn reseal(bytes: &mut [u8], id: FileId) {
        let end = bytes.len() - CHECKSUM_BYTES;
        let sum = header_checksum(id, &bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
    }

    #[test]
    fn a_newer_header_is_named_and_a_damaged_one_is_corrupt() {
        let id = FileId::new(77);
        let keyspace = KeyspaceId::new(300);
        let good = Header::encode(id, keyspace);
        assert_eq!(
            Header::decode(&good),
            Ok(Header { id, len: good.len() as u64, keyspace: Some(keyspace) })
        );
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Header::decode(&bad), Err(Unreadable::Bad(_))), "bit {bit}");
        }
        for (tag, need, skipped) in [(9, Need::Optional, true), (9, Need::Required, false)] {
            let mut grown = good[..good.len() - CHECKSUM_BYTES].to_vec();
            put_field(&mut grown, tag, need, b"later");
            let fields = (grown.len() - FIXED_BYTES) as u32;
            grown[12..16].copy_from_slice(&fields.to_le_bytes());
            grown.extend_from_slice(&[0; CHECKSUM_BYTES]);
            reseal(&mut grown, id);
            match Header::decode(&grown) {
                Ok(header) => assert!(skipped && header.len == grown.len() as u64),
                Err(Unreadable::Newer(what)) => assert!(!skipped && what.contains("field 9"), "{what}"),
                Err(Unreadable::Bad(bad)) => panic!("{bad}"),
            }
        }
        let mut newer = good.clone();
        newer[8] = 2;
        reseal(&mut newer, id);
        assert!(matches!(Header::decode(&newer), Err(Unreadable::Newer(_))));
    }

    quickcheck::quickcheck! {
        fn any_bytes_are_judged(bytes: Vec<u8>, keep: bool) -> bool {
            let bytes = if keep { [&MAGIC[..], &bytes].concat() } else { bytes };
            Header::decode(&bytes).is_err()
        }
    }
}
