//! The block of range tombstones: every piece of [`Fragmented`], kept while the table is open. Always present, so
//! that salvage can tell "none" from "lost".
//!
//! ```text
//! content := varint(pieces) piece*
//! piece   := bytes(start) bytes(end) varint(seqs) varint(first seq) varint(seq before - seq)*   seqs - 1 times
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::codec::{BadBytes, Reader, put_bytes, put_varint};
use crate::types::{Fragmented, KEY_LEN_MAX, Piece, Seq};

/// The content for these tombstones.
pub(super) fn encode_tombstones(tombstones: &Fragmented) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, tombstones.pieces().len() as u64);
    for piece in tombstones.pieces() {
        put_bytes(&mut out, &piece.start);
        put_bytes(&mut out, &piece.end);
        put_varint(&mut out, piece.seqs.len() as u64);
        let mut newer = None;
        for seq in &piece.seqs {
            put_varint(&mut out, newer.map_or(seq.get(), |newer: Seq| newer.get().saturating_sub(seq.get())));
            newer = Some(*seq);
        }
    }
    out
}

/// Reads the content back.
pub(super) fn decode_tombstones(content: &[u8]) -> Result<Fragmented, BadBytes> {
    let mut reader = Reader::new(content);
    let count = reader.length("number of range tombstones")?;
    let mut pieces = Vec::new();
    // Every piece takes bytes, so a wrong count runs out of them before it costs memory.
    for _ in 0..count {
        let start = reader.bytes("range tombstone start")?;
        let end = reader.bytes("range tombstone end")?;
        if start.len() > KEY_LEN_MAX || end.len() > KEY_LEN_MAX.saturating_add(1) {
            return Err(reader.bad("range tombstone bound is longer than a key"));
        }
        let seqs_count = reader.length("range tombstone seqs")?;
        let mut seqs: Vec<Seq> = Vec::new();
        for _ in 0..seqs_count {
            let number = reader.varint("range tombstone seq")?;
            let seq = match seqs.last() {
                None => Some(number),
                Some(newer) => newer.get().checked_sub(number),
            };
            match seq.filter(|seq| *seq <= Seq::LIMIT.get()) {
                Some(seq) => seqs.push(Seq::new(seq)),
                None => return Err(reader.bad("range tombstone seq is out of range")),
            }
        }
        pieces.push(Piece { start: start.into(), end: end.into(), seqs: seqs.into_boxed_slice() });
    }
    reader.finish("bytes after the range tombstones")?;
    Fragmented::from_pieces(pieces).ok_or_else(|| reader.bad("range tombstones overlap or are out of order"))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::types::RangeTombstone;

    quickcheck::quickcheck! {
        fn tombstones_come_back(raw: Vec<(Vec<u8>, Vec<u8>, u64)>, flips: Vec<(u16, u8)>) -> bool {
            let cut = Fragmented::new(raw.into_iter().take(12).map(|(start, end, seq)| RangeTombstone {
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
