//! Builds the entry block that [`super`] describes.

use super::{KIND_BITS, LAYOUT, PREFIX_BYTES, RESTART_BYTES, TAIL_BYTES};
use crate::codec::put_varint;
use crate::types::{OpKind, Seq};

/// How many leading bytes `a` and `b` share. O(result), eight bytes a step.
#[inline]
pub(in crate::table) fn common_len(a: &[u8], b: &[u8]) -> usize {
    let (a_words, _) = a.as_chunks::<8>();
    let (b_words, _) = b.as_chunks::<8>();
    let mut common = 0;
    for (x, y) in a_words.iter().zip(b_words) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return common + (differ.trailing_zeros() / 8) as usize;
        }
        common += 8;
    }
    common + a.iter().zip(b).skip(common).take_while(|(x, y)| x == y).count()
}

/// Collects entries and gives the content of a block. Its memory serves one block after another.
pub(in crate::table) struct EntryBlockBuilder {
    interval: u8,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Offsets in keys (of the entry, and of its suffix, which is the whole key, with its end) and in values.
    restarts: Vec<Restart>,
    last_key: Vec<u8>,
    base_seq: i64,
    entries: u32,
}

struct Restart {
    entry: u32,
    key: std::ops::Range<usize>,
    value: u32,
}

impl EntryBlockBuilder {
    /// A block that starts a key anew every `interval` entries.
    pub(in crate::table) fn new(interval: u8) -> Self {
        assert!(interval > 0, "a restart interval is at least one entry");
        Self {
            interval,
            keys: Vec::new(),
            values: Vec::new(),
            restarts: Vec::new(),
            last_key: Vec::new(),
            base_seq: 0,
            entries: 0,
        }
    }

    pub(in crate::table) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Length of the content if it were finished now.
    pub(in crate::table) fn content_len(&self) -> usize {
        self.keys.len() + self.values.len() + self.restarts.len() * RESTART_BYTES + TAIL_BYTES
    }

    /// At most how much longer the content gets by an entry; a small overestimate.
    pub(in crate::table) fn entry_len_max(key: &[u8], value: &[u8]) -> usize {
        key.len() + value.len() + RESTART_BYTES + 16
    }

    /// Appends an entry, which must follow the last one in order; the table builder checks that.
    pub(in crate::table) fn add(&mut self, key: &[u8], seq: Seq, kind: OpKind, value: &[u8]) {
        let seq = i64::try_from(seq.get()).expect("a seq is below 2^56");
        let shared = if self.entries.is_multiple_of(u32::from(self.interval)) {
            if self.entries == 0 {
                self.base_seq = seq;
            }
            0
        } else {
            common_len(&self.last_key, key)
        };
        let entry = self.keys.len();
        let delta = seq - self.base_seq;
        let zigzag = (delta << 1 ^ delta >> 63) as u64;
        put_varint(&mut self.keys, shared as u64);
        put_varint(&mut self.keys, (key.len() - shared) as u64);
        put_varint(&mut self.keys, zigzag << KIND_BITS | kind as u64);
        put_varint(&mut self.keys, value.len() as u64);
        if self.entries.is_multiple_of(u32::from(self.interval)) {
            let key_start = self.keys.len();
            self.restarts.push(Restart {
                entry: offset(entry),
                key: key_start..key_start + key.len(),
                value: offset(self.values.len()),
            });
        }
        self.keys.extend_from_slice(&key[shared..]);
        self.values.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.entries += 1;
    }

    /// The content; the builder is empty afterwards once [`EntryBlockBuilder::clear`] is called.
    pub(in crate::table) fn finish(&mut self) -> &[u8] {
        let keys_len = offset(self.keys.len());
        let common = match self.restarts.first() {
            Some(first) => common_len(&self.keys[first.key.clone()], &self.last_key).min(u16::MAX as usize),
            None => 0,
        };
        // The three sections become one run of bytes in the memory of the first.
        let restarts = std::mem::take(&mut self.restarts);
        let mut tail = Vec::with_capacity(restarts.len() * RESTART_BYTES + TAIL_BYTES);
        for restart in &restarts {
            let prefix = key_prefix(&self.keys[restart.key.clone()][common..]);
            tail.extend_from_slice(&prefix.to_le_bytes());
            tail.extend_from_slice(&restart.entry.to_le_bytes());
            tail.extend_from_slice(&restart.value.to_le_bytes());
        }
        tail.extend_from_slice(&self.base_seq.to_le_bytes());
        tail.extend_from_slice(&self.entries.to_le_bytes());
        tail.extend_from_slice(&offset(restarts.len()).to_le_bytes());
        tail.extend_from_slice(&keys_len.to_le_bytes());
        tail.extend_from_slice(&(common as u16).to_le_bytes());
        tail.extend_from_slice(&[self.interval, LAYOUT]);
        self.keys.append(&mut self.values);
        self.keys.append(&mut tail);
        offset(self.keys.len());
        &self.keys
    }

    /// Makes ready for the next block. Keeps memory for blocks of usual size only.
    pub(in crate::table) fn clear(&mut self) {
        for section in [&mut self.keys, &mut self.values] {
            section.clear();
            section.shrink_to(1 << 20);
        }
        self.restarts.clear();
        self.last_key.clear();
        self.entries = 0;
        self.base_seq = 0;
    }
}

/// The number by which restarts are searched: order of numbers is order of keys, except that ties decide nothing.
pub(super) fn key_prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<PREFIX_BYTES>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => key
            .iter()
            .chain(std::iter::repeat(&0))
            .take(PREFIX_BYTES)
            .fold(0, |prefix, byte| prefix << 8 | u64::from(*byte)),
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a block holds one entry or stays below its target size, far below 4 GiB")
}
