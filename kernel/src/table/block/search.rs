//! Finds entries in an entry block without building keys.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::cmp::Ordering;
use std::ops::Range;

use super::builder::{common_len, key_prefix};
use super::{KIND_BITS, LAYOUT, RESTART_BYTES, TAIL_BYTES};
use crate::codec::{BadBytes, Reader};
use crate::types::{OpKind, Seq};

/// True if the entry (key, seq) stands before the other: key ascending, then `Seq` descending.
pub(in crate::table) fn precedes(a: (&[u8], Seq), b: (&[u8], Seq)) -> bool {
    match a.0.cmp(b.0) {
        Ordering::Less => true,
        Ordering::Equal => a.1 > b.1,
        Ordering::Greater => false,
    }
}

/// Where the sections of a block are. Small enough to be decoded anew for each search.
#[derive(Clone, Copy, Debug)]
pub(in crate::table) struct Layout {
    keys_len: usize,
    restarts_at: usize,
    restarts: usize,
    entries: usize,
    base_seq: i64,
    common: usize,
}

/// An entry as it stands in the keys section.
pub(super) struct Entry<'a> {
    pub(super) shared: usize,
    pub(super) suffix: &'a [u8],
    pub(super) seq: Seq,
    pub(super) kind: OpKind,
    pub(super) value_len: usize,
    /// Offset of the entry after it.
    pub(super) next: usize,
}

/// The first entry not before the target, as it stands in the keys section.
pub(super) struct Found<'a> {
    pub(super) at: usize,
    pub(super) entry: Entry<'a>,
    pub(super) value_at: usize,
    /// True if its key is the target's.
    same_key: bool,
}

/// What a search found: the first entry not before the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::table) struct Spot {
    /// True if its key is the target's.
    pub(in crate::table) same_key: bool,
    pub(in crate::table) seq: Seq,
    pub(in crate::table) kind: OpKind,
    /// Where its value stands in the content.
    pub(in crate::table) value: Range<usize>,
}

const fn bad(what: &'static str, at: usize) -> BadBytes {
    BadBytes { what, at }
}

impl Layout {
    /// Reads the tail. O(1).
    #[inline]
    pub(in crate::table) fn decode(content: &[u8]) -> Result<Self, BadBytes> {
        let (body, tail) =
            content.split_last_chunk::<TAIL_BYTES>().ok_or(bad("block has no tail", content.len()))?;
        let mut reader = Reader::new(tail);
        let base_seq = reader.u64("block tail")? as i64;
        let entries = reader.u32("block tail")? as usize;
        let restarts = reader.u32("block tail")? as usize;
        let keys_len = reader.u32("block tail")? as usize;
        let common = usize::from(reader.u16("block tail")?);
        let interval = reader.u8("block tail")?;
        let layout = reader.u8("block tail")?;
        let restarts_at = body.len().checked_sub(restarts.saturating_mul(RESTART_BYTES));
        match restarts_at {
            Some(restarts_at)
                if layout == LAYOUT
                    && interval > 0
                    && keys_len <= restarts_at
                    && base_seq >> 56 == 0
                    && restarts == entries.div_ceil(usize::from(interval)) =>
            {
                Ok(Self { keys_len, restarts_at, restarts, entries, base_seq, common })
            }
            _ => Err(bad("block tail contradicts the block", body.len())),
        }
    }

    /// True if no entry starts at `at` of the keys section or behind it.
    #[inline]
    pub(super) fn ends_at(&self, at: usize) -> bool {
        at >= self.keys_len
    }

    #[inline]
    pub(super) fn keys<'a>(&self, content: &'a [u8]) -> &'a [u8] {
        content.get(..self.keys_len).unwrap_or_default()
    }

    /// The value of `len` bytes at `at` of the values section, as a place in the content.
    #[inline]
    pub(super) fn value(&self, at: usize, len: usize) -> Result<Range<usize>, BadBytes> {
        let start = self.keys_len.saturating_add(at);
        let end = start.saturating_add(len);
        if end > self.restarts_at {
            // The place stays inside the block: whoever reads the error looks there.
            return Err(bad("value lies outside its block", start.min(self.restarts_at)));
        }
        Ok(start..end)
    }

    pub(super) fn records<'a>(&self, content: &'a [u8]) -> &'a [[u8; RESTART_BYTES]] {
        let (records, _) = content.get(self.restarts_at..).unwrap_or_default().as_chunks::<RESTART_BYTES>();
        records.get(..self.restarts).unwrap_or_default()
    }

    /// Decodes the entry at `at` of the keys section.
    #[inline(always)]
    pub(super) fn entry<'a>(&self, keys: &'a [u8], at: usize) -> Result<Entry<'a>, BadBytes> {
        let from = keys.get(at..).ok_or(bad("entry lies outside its block", at))?;
        // Most numbers are below 128, so that the four of an entry are four bytes.
        let (shared, suffix_len, packed, value_len, head) = match from.first_chunk::<4>() {
            Some([a, b, c, d]) if (a | b | c | d) & 0x80 == 0 => {
                (usize::from(*a), usize::from(*b), u64::from(*c), usize::from(*d), 4)
            }
            _ => match seq_entry_head(from) {
                Some(head) => head,
                None => long_entry_head(from)?,
            },
        };
        let zigzag = packed >> KIND_BITS;
        let delta = (zigzag >> 1) as i64 ^ (zigzag as i64 & 1).wrapping_neg();
        let seq = self.base_seq.wrapping_add(delta);
        let kind = OpKind::from_u8((packed & ((1 << KIND_BITS) - 1)) as u8);
        let end = head.saturating_add(suffix_len);
        match (from.get(head..end), kind) {
            (Some(suffix), Some(kind @ (OpKind::Put | OpKind::Delete))) if seq >> 56 == 0 => Ok(Entry {
                shared,
                suffix,
                seq: Seq::new(seq as u64),
                kind,
                value_len,
                next: at.saturating_add(end),
            }),
            _ => Err(bad("entry makes no sense", at)),
        }
    }

    /// Number of the last restart whose entry stands before the target, or 0: where to walk from.
    pub(super) fn restart_before(&self, content: &[u8], key: &[u8], seq: Seq) -> Result<usize, BadBytes> {
        let (keys, records) = (self.keys(content), self.records(content));
        if records.len() <= 1 {
            return Ok(0);
        }
        let first = self.entry(keys, 0)?;
        let prefix = first.suffix.get(..self.common).ok_or(bad("common prefix is longer than a key", 0))?;
        let Some(rest) = key.strip_prefix(prefix) else {
            let after_all = key > prefix;
            return Ok(if after_all { records.len().saturating_sub(1) } else { 0 });
        };
        let target = key_prefix(rest);
        let less = records.partition_point(|record| record_prefix(record) < target);
        let ties = records.get(less..).unwrap_or_default();
        let ties =
            ties.get(..ties.partition_point(|record| record_prefix(record) == target)).unwrap_or_default();
        let (mut low, mut high) = (0, ties.len());
        while low < high {
            let middle = low.midpoint(high);
            let at = ties.get(middle).map_or(0, record_entry);
            let entry = self.entry(keys, at)?;
            if precedes((entry.suffix, entry.seq), (key, seq)) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(less.saturating_add(low).saturating_sub(1))
    }

    /// The first entry not before (`key`, `seq`): the newest version of `key` that `seq` may see, if the block
    /// has one, else the first entry of a greater key. O(log entries), and at most one interval decoded.
    pub(in crate::table) fn seek(
        &self,
        content: &[u8],
        key: &[u8],
        seq: Seq,
    ) -> Result<Option<Spot>, BadBytes> {
        let Some(found) = self.find(content, key, seq)? else { return Ok(None) };
        let Found { entry, value_at, same_key, .. } = found;
        let value = self.value(value_at, entry.value_len)?;
        Ok(Some(Spot { same_key, seq: entry.seq, kind: entry.kind, value }))
    }

    /// The same, as it stands in the keys section. The key found begins with the first `shared` bytes of the target,
    /// so nobody has to build the keys before it.
    pub(super) fn find<'a>(
        &self,
        content: &'a [u8],
        key: &[u8],
        seq: Seq,
    ) -> Result<Option<Found<'a>>, BadBytes> {
        if self.restarts == 0 {
            return Ok(None);
        }
        let restart = self.restart_before(content, key, seq)?;
        let (mut at, mut value_at) = self.restart(content, restart);
        let keys = self.keys(content);
        // How many bytes of the previous key, which stands before the target, match the target's.
        let mut matched = 0;
        while at < keys.len() {
            let entry = self.entry(keys, at)?;
            // A key that shares more than matched differs from the target where its predecessor did.
            if entry.shared <= matched {
                let order = match entry.shared.cmp(&matched) {
                    Ordering::Less if entry.shared > 0 => Ordering::Greater,
                    _ => {
                        let rest = key.get(entry.shared..).unwrap_or_default();
                        let common = common_len(entry.suffix, rest);
                        matched = entry.shared.saturating_add(common);
                        entry.suffix.get(common).cmp(&rest.get(common))
                    }
                };
                if order == Ordering::Greater || (order == Ordering::Equal && entry.seq <= seq) {
                    return Ok(Some(Found { at, value_at, same_key: order == Ordering::Equal, entry }));
                }
            }
            at = entry.next;
            value_at = value_at.saturating_add(entry.value_len);
        }
        Ok(None)
    }

    /// Offsets in keys and values at which restart number `at` stands; the ends of both beyond the last.
    pub(super) fn restart(&self, content: &[u8], at: usize) -> (usize, usize) {
        match self.records(content).get(at) {
            Some(record) => (record_entry(record), record_value(record)),
            None => (self.keys_len, self.restarts_at.saturating_sub(self.keys_len)),
        }
    }

    /// Number of the last restart that stands before offset `at` of keys; 0 if there is none.
    pub(super) fn restart_behind(&self, content: &[u8], at: usize) -> usize {
        let records = self.records(content);
        records.partition_point(|record| record_entry(record) < at).saturating_sub(1)
    }
}

/// The same if only the `Seq`, of up to 56 bits, takes more than a byte, as in keys written in random order.
#[inline(always)]
fn seq_entry_head(from: &[u8]) -> Option<(usize, usize, u64, usize, usize)> {
    let [shared, suffix_len, packed @ .., _] = from.first_chunk::<11>()?;
    let word = u64::from_le_bytes(*packed);
    // The byte that ends the number is the first whose high bit is not set.
    let last = (!word & 0x8080_8080_8080_8080).trailing_zeros() / 8;
    let value_at = (last as usize).saturating_add(3);
    let value_len = *from.get(value_at)?;
    if (shared | suffix_len | value_len) & 0x80 != 0 || last > 6 {
        return None;
    }
    // A number is never written longer than it must be.
    if last > 0 && packed.get(last as usize) == Some(&0) {
        return None;
    }
    let unused_bits = 56u32.saturating_sub(last.saturating_mul(8));
    let seven = word & 0x7f7f_7f7f_7f7f_7f7f & (u64::MAX >> unused_bits);
    let fourteen = (seven & 0x007f_007f_007f_007f) | (seven & 0x7f00_7f00_7f00_7f00) >> 1;
    let twenty_eight = (fourteen & 0x0000_3fff_0000_3fff) | (fourteen & 0x3fff_0000_3fff_0000) >> 2;
    let packed = (twenty_eight & 0x0fff_ffff) | (twenty_eight & 0x0fff_ffff_0000_0000) >> 4;
    Some((
        usize::from(*shared),
        usize::from(*suffix_len),
        packed,
        usize::from(value_len),
        value_at.saturating_add(1),
    ))
}

/// The numbers of an entry of which one is 128 or more, and how many bytes they take.
#[inline(never)]
fn long_entry_head(from: &[u8]) -> Result<(usize, usize, u64, usize, usize), BadBytes> {
    let mut reader = Reader::new(from);
    let shared = reader.length("shared length")?;
    let suffix_len = reader.length("suffix length")?;
    let packed = reader.varint("entry seq")?;
    let value_len = reader.length("value length")?;
    Ok((shared, suffix_len, packed, value_len, reader.position()))
}

#[inline]
fn record_prefix(record: &[u8; RESTART_BYTES]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *record;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn record_entry(record: &[u8; RESTART_BYTES]) -> usize {
    let [.., a, b, c, d, _, _, _, _] = *record;
    u32::from_le_bytes([a, b, c, d]) as usize
}

fn record_value(record: &[u8; RESTART_BYTES]) -> usize {
    let [.., a, b, c, d] = *record;
    u32::from_le_bytes([a, b, c, d]) as usize
}

/// Checks everything that a search relies on: order, restarts, prefixes, sections without a gap. O(bytes).
pub(in crate::table) fn check_order(content: &[u8]) -> Result<(), BadBytes> {
    let layout = Layout::decode(content)?;
    let (keys, records) = (layout.keys(content), layout.records(content));
    let (mut at, mut value_at, mut entries) = (0usize, 0usize, 0usize);
    let mut restarts = records.iter();
    let mut next_restart = restarts.next();
    let mut previous: Option<(Vec<u8>, Seq)> = None;
    let mut prefix: &[u8] = &[];
    while at < keys.len() {
        let entry = layout.entry(keys, at)?;
        let mut key = previous.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
        if entry.shared > key.len() {
            return Err(bad("key shares more than there is", at));
        }
        // A search takes a key that shares less than the one before matched for a greater one.
        let could_share_more = key.get(entry.shared).is_some_and(|byte| entry.suffix.first() == Some(byte));
        key.truncate(entry.shared);
        key.extend_from_slice(entry.suffix);
        let is_restart = next_restart.is_some_and(|record| record_entry(record) == at);
        if could_share_more && !is_restart {
            return Err(bad("key shares less than it could", at));
        }
        if let Some(record) = next_restart.filter(|record| record_entry(record) == at) {
            if at == 0 {
                prefix =
                    entry.suffix.get(..layout.common).ok_or(bad("common prefix is longer than a key", 0))?;
            }
            let rest = key.strip_prefix(prefix).map(key_prefix);
            if entry.shared != 0 || record_value(record) != value_at || rest != Some(record_prefix(record)) {
                return Err(bad("restart contradicts its entry", at));
            }
            next_restart = restarts.next();
        }
        if !key.starts_with(prefix)
            || previous.as_ref().is_some_and(|(last, seq)| !precedes((last, *seq), (&key, entry.seq)))
        {
            return Err(bad("entries out of order", at));
        }
        layout.value(value_at, entry.value_len)?;
        value_at = value_at.saturating_add(entry.value_len);
        previous = Some((key, entry.seq));
        entries = entries.saturating_add(1);
        at = entry.next;
    }
    let ends = layout.restart(content, usize::MAX);
    if (at, value_at) != ends || entries != layout.entries || next_restart.is_some() {
        return Err(bad("sections do not fill the block", at));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::put_varint;

    quickcheck::quickcheck! {
        fn the_short_way_to_an_entry_says_the_same(shared: u8, packed: u64, shift: u8, tail: Vec<u8>) -> bool {
            let mut from = vec![shared, tail.len() as u8];
            put_varint(&mut from, packed >> (shift % 64));
            from.extend(tail);
            from.extend([1; 9]);
            let long = long_entry_head(&from).ok();
            // Up to 56 bits and everything else in a byte: then it does find its way.
            let finds = shared < 128 && from.get(1).is_some_and(|len| *len < 128) && packed >> (shift % 64) >> 49 == 0;
            match seq_entry_head(&from) {
                Some(short) => long == Some(short),
                None => !finds || long.is_none_or(|long| long.3 > 127),
            }
        }

        fn the_short_way_believes_no_more_than_the_long(from: Vec<u8>) -> bool {
            seq_entry_head(&from).is_none_or(|short| long_entry_head(&from).ok() == Some(short))
        }
    }
}
