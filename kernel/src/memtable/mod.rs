//! The memtable: a concurrent, versioned, sorted map in memory.
//!
//! It takes the commits that no table holds yet. Several committers insert at once while readers search and
//! iterate, none of them taking a lock; deleted ranges, which are rare, stand beside the entries under one.
//! Nothing is ever removed: a memtable fills up, is frozen, flushed to a table and dropped whole. Values read from
//! it, and iterators, keep its memory alive beyond that.
//!
//! Invariants:
//! - An entry is found by everyone who learnt of its sequence from whoever inserted it.
//! - No two point entries share key and sequence.
//! - The same insertions in the same order make the same list, whatever the addresses.
//!
//! Reading order: `arena` (memory), `node` (one entry), `skiplist` (their order), `ranges`, `iter`.

mod arena;
mod iter;
mod node;
mod ranges;
mod skiplist;

use std::sync::Arc;

pub use iter::MemtableIter;

use crate::cache::Budget;
use crate::types::{OpKind, RangeTombstone, RangeTombstones, Seq, Value};
use node::{Entry, Target};
use ranges::Ranges;
use skiplist::SkipList;

/// See the module's header.
pub struct Memtable {
    list: Arc<SkipList>,
    ranges: Ranges,
}

impl Memtable {
    /// An empty one. `seed` decides its shape: the same insertions give the same list.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { list: Arc::new(SkipList::new(seed)), ranges: Ranges::new() })
    }

    /// Inserts a point entry. No other one has this key and sequence; a delete has no value.
    pub fn insert(&self, key: &[u8], seq: Seq, kind: OpKind, value: &[u8]) {
        self.insert_sorted([(key, kind, value)].into_iter(), seq);
    }

    /// Inserts point entries of one commit. Each search begins where the last one ended, so keys in ascending order
    /// cost little when they are close together; other orders are correct too.
    pub fn insert_sorted<'a>(&self, entries: impl Iterator<Item = (&'a [u8], OpKind, &'a [u8])>, seq: Seq) {
        let mut splice = self.list.splice();
        for (key, kind, value) in entries {
            assert!(kind != OpKind::DeleteRange, "a deleted range is no point entry");
            debug_assert!(kind == OpKind::Put || value.is_empty(), "a delete has no value");
            self.list.insert(&mut splice, key, seq, kind, value);
        }
    }

    /// Deletes a range as of its sequence. Entries of the same sequence stand above it.
    pub fn add_range_tombstone(&self, range: RangeTombstone) {
        self.ranges.add(range);
    }

    /// All deleted ranges added so far, in a few sets.
    pub fn range_tombstones(&self) -> Vec<Arc<RangeTombstones>> {
        self.ranges.sets()
    }

    /// The newest deleted range over `key` with a sequence of at most `read_seq`. One atomic load if there are none.
    pub fn newest_range_tombstone(&self, key: &[u8], read_seq: Seq) -> Option<Seq> {
        self.ranges.newest_covering(key, read_seq)
    }

    /// The newest point entry of `key` with a sequence of at most `read_seq`; deleted ranges are not looked at.
    pub fn get(&self, key: &[u8], read_seq: Seq) -> Option<(Seq, OpKind, Value)> {
        let entry = self.find(key, read_seq)?;
        Some((entry.seq, entry.kind, self.list.pin(entry.value)))
    }

    /// Sequence of the newest point entry of `key`, put or delete; deleted ranges are not looked at.
    pub fn newest_seq(&self, key: &[u8]) -> Option<Seq> {
        self.find(key, Seq::LIMIT).map(|entry| entry.seq)
    }

    /// A cursor on no entry.
    pub fn iter(&self) -> MemtableIter {
        MemtableIter::new(self.list.clone(), Seq::MAX)
    }

    /// A cursor on no entry that passes over everything after `seq`.
    pub fn iter_until(&self, seq: Seq) -> MemtableIter {
        MemtableIter::new(self.list.clone(), seq)
    }

    /// Memory held: the arena's chunks, and what the deleted ranges are taken to need.
    pub fn bytes(&self) -> u64 {
        self.list.bytes() + self.ranges.bytes()
    }

    /// Counts what is held by now in `budget`; once it was called, until the last reader has let go of the memory.
    pub fn count_in(&self, budget: &Arc<Budget>) {
        self.list.count_in(budget, self.bytes());
    }

    /// No state needs it any more: what is counted, readers hold.
    pub fn count_as_pinned(&self) {
        self.list.count_as_pinned();
    }

    /// Entries, deleted ranges included; those being inserted right now may be counted already.
    pub fn entries(&self) -> u64 {
        self.list.inserted() + self.ranges.count()
    }

    fn find(&self, key: &[u8], read_seq: Seq) -> Option<Entry<'_>> {
        self.list.first_from(&Target::new(key, read_seq)).filter(|entry| entry.key == key)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
