//! One shard of the block cache: an open-addressing table whose slots are also the ring of the clock.
//!
//! A look-up touches one slot, two to a cache line, and then the block. Collisions probe the following slots; a removal
//! shifts later members of the run back, so there are no grave markers and the table never needs cleaning.
//!
//! Eviction is GCLOCK (Smith, "Sequentiality and prefetching in database systems", TODS 1978): each slot counts
//! its recent uses up to [`USES_MAX`], the hand takes one off as it passes and evicts at zero. New blocks start at
//! zero, so a block that is used once, by a scan, leaves before one that is used twice.
//!
//! Everything here is a function of the calls made: the hash is fixed and nothing depends on an address.
//!
//! Invariants: at least a third of the slots is empty; a key stands at most once; every key stands in the run that
//! starts at its home slot; `bytes` is the sum of the blocks' heap bytes and at most `capacity`.

use std::sync::Arc;

use super::block::Block;
use super::budget::{Budget, Charge, Purpose};
use super::{BlockKey, CacheStats};
use crate::sync::{Bug, planted};

/// Uses that a slot remembers.
const USES_MAX: u8 = 3;
/// Slots of a fresh shard; a power of two.
const SLOTS_MIN: usize = 64;

#[derive(Clone, Debug, Default)]
struct Slot {
    key: BlockKey,
    block: Option<Arc<Block>>,
    uses: u8,
}

/// A part of the cache with its own lock.
#[derive(Debug)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    entries: usize,
    hand: usize,
    bytes: u64,
    capacity: u64,
    stats: CacheStats,
    slots_charge: Charge,
}

impl Shard {
    /// An empty shard for `capacity` bytes of blocks.
    pub(super) fn new(capacity: u64, budget: &Arc<Budget>) -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS_MIN],
            entries: 0,
            hand: 0,
            bytes: 0,
            capacity,
            stats: CacheStats::default(),
            slots_charge: budget.charge(Purpose::Cache, (SLOTS_MIN * size_of::<Slot>()) as u64),
        }
    }

    /// Counters, and bytes and blocks now held.
    pub(super) fn stats(&self) -> CacheStats {
        CacheStats { bytes: self.bytes, blocks: self.entries as u64, ..self.stats }
    }

    /// The block of `key`, noting the use.
    pub(super) fn get(&mut self, key: BlockKey) -> Option<Arc<Block>> {
        match self.find(key) {
            Ok(at) => {
                self.stats.hits += 1;
                let slot = &mut self.slots[at];
                slot.uses = (slot.uses + 1).min(USES_MAX);
                slot.block.clone()
            }
            Err(_) => {
                self.stats.misses += 1;
                None
            }
        }
    }

    /// Puts `block` in unless `key` stands already, and gives the one that stands. No more than `most` bytes are held
    /// then, if that is less than the capacity. Blocks that had to leave are appended to `evicted`, for the caller to
    /// drop after the lock.
    pub(super) fn insert(
        &mut self,
        key: BlockKey,
        block: Arc<Block>,
        most: u64,
        evicted: &mut Vec<Arc<Block>>,
    ) -> Arc<Block> {
        if let Ok(at) = self.find(key) {
            return self.slots[at].block.clone().unwrap_or(block);
        }
        let heap_bytes = block.heap_bytes();
        let most = most.min(self.capacity);
        if heap_bytes > most {
            self.stats.bypassed += 1;
            return block;
        }
        self.make_room(most - heap_bytes, evicted);
        if (self.entries + 1) * 3 > self.slots.len() * 2 {
            self.grow();
        }
        let at = match self.find(key) {
            Ok(at) | Err(at) => at,
        };
        block.count_as(Purpose::Cache);
        self.slots[at] = Slot { key, block: Some(Arc::clone(&block)), uses: 0 };
        self.entries += 1;
        self.bytes += heap_bytes;
        self.stats.insertions += 1;
        block
    }

    /// Evicts until at most `bytes_max` are held.
    pub(super) fn make_room(&mut self, bytes_max: u64, evicted: &mut Vec<Arc<Block>>) {
        while self.bytes > bytes_max {
            let slot = &mut self.slots[self.hand];
            if slot.block.is_some() && slot.uses == 0 {
                self.stats.evictions += 1;
                // The hand stays: the removal may have shifted another block into the slot.
                evicted.extend(self.remove_at(self.hand));
            } else {
                slot.uses = slot.uses.saturating_sub(1);
                self.hand = (self.hand + 1) & (self.slots.len() - 1);
            }
        }
    }

    /// The slot of `key`, or the empty slot that ends its run.
    fn find(&self, key: BlockKey) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = key.hash() as usize & mask;
        loop {
            let slot = &self.slots[at];
            match slot.block {
                None => return Err(at),
                Some(_) if slot.key == key => return Ok(at),
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    /// Empties slot `at` and closes the gap in its run.
    fn remove_at(&mut self, at: usize) -> Option<Arc<Block>> {
        let mask = self.slots.len() - 1;
        let block = self.slots[at].block.take()?;
        // Under the lock, so that a holder who puts the block back counts it after this, not before.
        if !planted(Bug::CacheCountsAfterUnlock) {
            block.count_as(Purpose::Pinned);
        }
        self.bytes -= block.heap_bytes();
        self.entries -= 1;
        let mut gap = at;
        let mut next = (at + 1) & mask;
        while self.slots[next].block.is_some() {
            let home = self.slots[next].key.hash() as usize & mask;
            // A member may move back as far as its home slot, not further.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(gap) & mask) {
                self.slots.swap(gap, next);
                gap = next;
            }
            next = (next + 1) & mask;
        }
        Some(block)
    }

    fn grow(&mut self) {
        let len = self.slots.len() * 2;
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); len]);
        self.hand = 0;
        for slot in old.into_iter().filter(|slot| slot.block.is_some()) {
            let at = match self.find(slot.key) {
                Ok(at) | Err(at) => at,
            };
            self.slots[at] = slot;
        }
        self.slots_charge.resize((len * size_of::<Slot>()) as u64);
    }

    /// Checks the invariants of the header. For tests and the loom model; O(slots).
    #[cfg(test)]
    pub(super) fn check(&self) {
        let held = self.slots.iter().filter(|slot| slot.block.is_some());
        assert_eq!(held.clone().count(), self.entries);
        assert_eq!(
            held.clone().filter_map(|s| s.block.as_ref()).map(|b| b.heap_bytes()).sum::<u64>(),
            self.bytes
        );
        assert!(self.bytes <= self.capacity && self.entries * 3 <= self.slots.len() * 2);
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.block.is_some()) {
            assert_eq!(self.find(slot.key), Ok(at));
        }
    }
}
