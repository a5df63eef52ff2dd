//! The block cache and the one memory budget.
//!
//! The cache maps (file identity, offset) to the decoded, verified bytes of a block, in up to 16 shards with a lock
//! each. File identities are never reused, so an entry can be useless but never wrong, and a dropped file's
//! blocks leave as all blocks do that nobody asks for.
//!
//! Evicting a block that somebody still holds frees nothing; its bytes move in the [`Budget`] from `Cache` to
//! `Pinned` and leave it when the last holder lets go. A block larger than a shard's share is never kept.
//!
//! What is absent: the cache does no I/O and never waits. Two tasks that miss on one block both load it, and
//! [`BlockCache::insert`] gives both the same winner.

mod block;
mod budget;
mod shard;

use std::sync::Arc;

pub use block::Block;
pub use budget::{Budget, Charge, Purpose};
use shard::Shard;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Bug, Mutex, planted};
use crate::types::FileId;

/// Most shards of a cache.
const SHARDS_MAX: u64 = 16;
/// The part of its share that the cache keeps however much others hold.
const KEPT_PART: u64 = 16;
/// A change of its share by less than this part does not move the cache.
const NOTICED_PART: u64 = 32;
/// A cache has only as many shards as leave each this many bytes, so that a block of usual size fits.
const SHARD_BYTES_MIN: u64 = 256 << 10;

/// Where a block comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockKey {
    /// Identity of the file.
    pub file: FileId,
    /// Offset of the block's first byte.
    pub offset: u64,
}

impl BlockKey {
    /// A fixed mix: identities are random already, offsets are not.
    fn hash(self) -> u64 {
        let mixed = (self.file.get() ^ self.offset.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.offset.wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

/// What a cache has done, and holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Look-ups that found their block.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Blocks put in.
    pub insertions: u64,
    /// Blocks that left to make room.
    pub evictions: u64,
    /// Blocks refused because they are larger than a shard's share.
    pub bypassed: u64,
    /// Heap bytes of the blocks held now.
    pub bytes: u64,
    /// Blocks held now.
    pub blocks: u64,
}

impl CacheStats {
    fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            insertions: self.insertions + other.insertions,
            evictions: self.evictions + other.evictions,
            bypassed: self.bypassed + other.bypassed,
            bytes: self.bytes + other.bytes,
            blocks: self.blocks + other.blocks,
        }
    }
}

/// Decoded blocks of all tables.
#[derive(Debug)]
pub struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    budget: Arc<Budget>,
    capacity_bytes: u64,
    /// What each shard may hold at present.
    share_bytes: AtomicU64,
}

impl BlockCache {
    /// An empty cache for `capacity_bytes` of blocks; 0 keeps nothing.
    pub fn new(capacity_bytes: u64, budget: Arc<Budget>) -> Self {
        let mut shards = SHARDS_MAX;
        while shards > 1 && capacity_bytes / shards < SHARD_BYTES_MIN {
            shards /= 2;
        }
        let shards: Vec<_> =
            (0..shards).map(|_| Mutex::new(Shard::new(capacity_bytes / shards, &budget))).collect();
        let share_bytes = AtomicU64::new(capacity_bytes / shards.len() as u64);
        Self { shards, budget, capacity_bytes, share_bytes }
    }

    /// The budget that blocks are counted in.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The block, if it is here. Does not allocate; O(1).
    pub fn get(&self, key: BlockKey) -> Option<Arc<Block>> {
        self.shard(key).lock().get(key)
    }

    /// Keeps `block`, unless it is too large or another of the same key came first, and gives the one to use.
    pub fn insert(&self, key: BlockKey, block: Arc<Block>) -> Arc<Block> {
        // Freeing memory takes longer than the rest, so what is evicted is dropped after the lock.
        let mut evicted = Vec::new();
        let most = self.share_bytes.load(Ordering::Relaxed);
        let kept = self.shard(key).lock().insert(key, block, most, &mut evicted);
        if planted(Bug::CacheCountsAfterUnlock) {
            evicted.iter().for_each(|block| block.count_as(Purpose::Pinned));
        }
        kept
    }

    /// Takes note of what others hold of the budget by now: lets go of what they need, and grows again when they need
    /// less. Some loads where nothing much has changed.
    pub fn give_way(&self) {
        let left = self.budget.limit().saturating_sub(self.budget.held());
        let most = left.clamp(self.capacity_bytes / KEPT_PART, self.capacity_bytes);
        let (share, before) = (most / self.shards.len() as u64, self.share_bytes.load(Ordering::Relaxed));
        if share.abs_diff(before) <= before / NOTICED_PART {
            return;
        }
        self.share_bytes.store(share, Ordering::Relaxed);
        if share < before {
            for shard in &self.shards {
                let mut evicted = Vec::new();
                shard.lock().make_room(share, &mut evicted);
                drop(evicted);
            }
        }
    }

    /// Counters since the cache was made, summed over the shards one after another.
    pub fn stats(&self) -> CacheStats {
        self.shards.iter().map(|shard| shard.lock().stats()).fold(CacheStats::default(), CacheStats::plus)
    }

    fn shard(&self, key: BlockKey) -> &Mutex<Shard> {
        // The low bits of the hash choose the slot, so the shard comes from the high ones.
        let high = (key.hash().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize;
        &self.shards[high & (self.shards.len() - 1)]
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
