//! The filter of one index partition: says "certainly not here" of most keys that are not.
//!
//! A Bloom filter whose probes of one key all fall into one line of 64 bytes, so that a question costs one cache
//! miss (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", WEA 2007). At 10 bits a key
//! about 1.2 % of absent keys are let through.
//!
//! ```text
//! content := line{64}* | probes (1) | hash kind (1) = 1 | zero (6)
//! ```
//!
//! Key hash, kind 1: `h = fold(len ^ S, M)`, then for every eight key bytes `w`, little-endian, the last
//! zero-padded: `h = fold(h ^ w, M)`, and last `h = fold(h ^ S, M)`, where `fold(a, b)` is the low half of the 128-bit product xor
//! its high half, S = 0x243f6a8885a308d3 and M = 0x9e3779b97f4a7c15. The line is `(h >> 32) * lines >> 32`. The
//! bits in it are, `probes` times: `g = g * M`, bit `g >> 55`, starting from `g = h * M | 1`; bit b is bit b % 8 of
//! byte b / 8.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::codec::BadBytes;

const LINE_BYTES: usize = 64;
const LINE_BITS: u64 = 512;
const TAIL_BYTES: usize = 8;
const HASH_KIND: u8 = 1;
const START: u64 = 0x243f_6a88_85a3_08d3;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// More probes than this cost more than they exclude at any size we allow.
const PROBES_MAX: u32 = 16;

/// The hash of a user key.
#[inline]
pub(super) fn key_hash(key: &[u8]) -> u64 {
    let mut hash = fold(key.len() as u64 ^ START, MULTIPLIER);
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), MULTIPLIER);
    }
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        hash = fold(hash ^ word, MULTIPLIER);
    }
    fold(hash ^ START, MULTIPLIER)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    ((hash >> 32).wrapping_mul(lines as u64) >> 32) as usize
}

/// The bits of a key in its line.
#[inline]
fn bits_of(hash: u64, probes: u32) -> impl Iterator<Item = (usize, u8)> {
    let mut g = hash.wrapping_mul(MULTIPLIER) | 1;
    (0..probes).map(move |_| {
        g = g.wrapping_mul(MULTIPLIER);
        let bit = (g >> 55) as usize;
        (bit / 8, 1u8 << (bit % 8))
    })
}

/// The content of a filter over keys of these hashes. `bits_per_key` is 1 to 32.
pub(super) fn build_filter(hashes: &[u64], bits_per_key: u32) -> Vec<u8> {
    let bits = (hashes.len() as u64).saturating_mul(u64::from(bits_per_key));
    // A hash chooses its line by 32 bits, and no partition has anywhere near as many lines.
    let lines = bits.div_ceil(LINE_BITS).clamp(1, u64::from(u32::MAX)) as usize;
    // The best number of probes is ln 2 times the bits of a key.
    let probes = bits_per_key.saturating_mul(69).div_ceil(100).clamp(1, PROBES_MAX);
    let body = lines.saturating_mul(LINE_BYTES);
    let mut content = vec![0u8; body.saturating_add(TAIL_BYTES)];
    let (cells, _) = content.as_chunks_mut::<LINE_BYTES>();
    for hash in hashes {
        if let Some(line) = cells.get_mut(line_of(*hash, lines)) {
            for (byte, bit) in bits_of(*hash, probes) {
                if let Some(byte) = line.get_mut(byte) {
                    *byte |= bit;
                }
            }
        }
    }
    if let Some([tail @ .., _, _, _, _, _, _]) = content.get_mut(body..) {
        tail.copy_from_slice(&[probes as u8, HASH_KIND]);
    }
    content
}

/// False if no key of this hash is in the partition.
#[inline]
pub(super) fn may_contain(content: &[u8], hash: u64) -> Result<bool, BadBytes> {
    let bad = || BadBytes { what: "filter contradicts itself", at: content.len() };
    let (body, tail) = content.split_last_chunk::<TAIL_BYTES>().ok_or_else(bad)?;
    let (lines, rest) = body.as_chunks::<LINE_BYTES>();
    let [probes, kind, zero @ ..] = *tail;
    if !rest.is_empty() || kind != HASH_KIND || zero != [0; 6] || u32::from(probes) > PROBES_MAX {
        return Err(bad());
    }
    let line = lines.get(line_of(hash, lines.len())).ok_or_else(bad)?;
    Ok(bits_of(hash, u32::from(probes)).all(|(byte, bit)| line.get(byte).is_some_and(|byte| byte & bit != 0)))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn every_key_put_in_is_found(keys: Vec<Vec<u8>>, bits: u32) -> bool {
            let hashes: Vec<u64> = keys.iter().map(|key| key_hash(key)).collect();
            let content = build_filter(&hashes, bits % 32 + 1);
            hashes.iter().all(|hash| may_contain(&content, *hash) == Ok(true))
        }

        fn any_bytes_are_judged(bytes: Vec<u8>, hash: u64) -> bool {
            may_contain(&bytes, hash).ok();
            true
        }
    }

    #[test]
    fn absent_keys_pass_as_rarely_as_promised() {
        let key = |i: u32| format!("user{i:012}").into_bytes();
        for (bits, most_per_10k) in [(5, 1400), (10, 160), (16, 30)] {
            let hashes: Vec<u64> = (0..7000).map(|i| key_hash(&key(i))).collect();
            let content = build_filter(&hashes, bits);
            assert!(content.len() <= 7000 * bits as usize / 8 + 72);
            let passed = (0..10_000)
                .filter(|i| may_contain(&content, key_hash(&key(1 << 20 | i))) == Ok(true))
                .count();
            assert!(passed <= most_per_10k, "{bits} bits: {passed} of 10000");
        }
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        let hashes = [&b""[..], b"a", b"12345678", b"123456789"].map(key_hash);
        assert_eq!(hashes, PINNED);
    }

    /// Computed from the description in the header by another program.
    const PINNED: [u64; 4] = [0x6fd70948974ea073, 0x47be7307ecfe9fb2, 0x3df9d5ab6213aa73, 0x4f660f60870fd325];
}
