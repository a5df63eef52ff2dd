//! The block of range tombstones: the list of [`RangeTombstones`], kept while the table is open. Always present, so
//! that salvage can tell "none" from "lost".
//!
//! ```text
//! content   := varint(tombstones) tombstone*     by start, then newest first
//! tombstone := bytes(start) bytes(end) varint(seq)
//! ```
//! Those of one `Seq` neither overlap nor touch.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::codec::{BadBytes, Reader, put_bytes, put_varint};
use crate::types::{KEY_LEN_MAX, RangeTombstone, RangeTombstones, Seq};

/// The content for these tombstones.
pub(super) fn encode_tombstones(tombstones: &RangeTombstones) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, tombstones.len() as u64);
    for RangeTombstone { start, end, seq } in tombstones.list() {
        put_bytes(&mut out, start);
        put_bytes(&mut out, end);
        put_varint(&mut out, seq.get());
    }
    out
}

/// Reads the content back.
pub(super) fn decode_tombstones(content: &[u8]) -> Result<RangeTombstones, BadBytes> {
    let mut reader = Reader::new(content);
    let count = reader.length("number of range tombstones")?;
    let mut list = Vec::new();
    // Every tombstone takes bytes, so a wrong count runs out of them before it costs memory.
    for _ in 0..count {
        let start = reader.bytes("range tombstone start")?;
        let end = reader.bytes("range tombstone end")?;
        if start.len() > KEY_LEN_MAX || end.len() > KEY_LEN_MAX.saturating_add(1) {
            return Err(reader.bad("range tombstone bound is longer than a key"));
        }
        let seq = reader.varint("range tombstone seq")?;
        if seq > Seq::LIMIT.get() {
            return Err(reader.bad("range tombstone seq is out of range"));
        }
        list.push(RangeTombstone { start: start.into(), end: end.into(), seq: Seq::new(seq) });
    }
    reader.finish("bytes after the range tombstones")?;
    RangeTombstones::from_list(list)
        .ok_or_else(|| reader.bad("range tombstones are empty, overlap or are out of order"))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn tombstones_come_back(raw: Vec<(Vec<u8>, Vec<u8>, u64)>, flips: Vec<(u16, u8)>) -> bool {
            let cut = RangeTombstones::new(raw.into_iter().take(12).map(|(start, end, seq)| RangeTombstone {
                start: start.into(), end: end.into(), seq: Seq::new(seq >> 8),
            }).collect());
            let mut content = encode_tombstones(&cut);
            assert_eq!(decode_tombstones(&content).as_ref(), Ok(&cut));
            assert!((0..content.len()).all(|cut| decode_tombstones(&content[..cut]).is_err()));
            for (at, bits) in flips {
                let len = content.len();
                content[at as usize % len] ^= bits;
                decode_tombstones(&content).ok();
            }
            true
        }

        fn any_bytes_are_judged(bytes: Vec<u8>) -> bool {
            decode_tombstones(&bytes).ok();
            true
        }
    }
}
