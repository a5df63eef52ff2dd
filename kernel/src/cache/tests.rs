//! The cache against a model that remembers every block ever inserted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

fn key(file: u64, offset: u64) -> BlockKey {
    BlockKey { file: FileId::new(file), offset }
}

fn check(cache: &BlockCache, held: &[Arc<Block>]) {
    cache.shards.iter().for_each(|shard| shard.lock().check());
    let stats = cache.stats();
    let slots = cache.budget.used_by(Purpose::Cache) - stats.bytes;
    assert!(slots > 0 && slots.is_multiple_of(32), "the cache counts its blocks and slots, not {slots}");
    let pinned: u64 = held.iter().map(|block| block.heap_bytes()).sum();
    assert!(cache.budget.used_by(Purpose::Pinned) <= pinned, "only held blocks can be pinned");
}

quickcheck::quickcheck! {
    /// Inserts, look-ups, evictions and holders in any order: a hit is always the block last inserted
    /// under its key, the capacity holds, and every byte is counted exactly once.
    fn any_sequence_keeps_the_invariants(steps: Vec<(u8, u8, u16)>, capacity: u16) -> bool {
        let budget = Arc::new(Budget::new(1 << 20));
        let cache = BlockCache::new(u64::from(capacity) * 8, Arc::clone(&budget));
        let mut model: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
        let mut held: Vec<Arc<Block>> = Vec::new();
        for (action, place, size) in steps {
            let (file, offset) = (u64::from(place % 5), u64::from(place / 5) * 4096);
            match action % 8 {
                0..=3 => {
                    let bytes = vec![place ^ action; size as usize % 5000];
                    let bytes = model.entry((file, offset)).or_insert(bytes).clone();
                    let block = cache.insert(key(file, offset), Arc::new(Block::copy_of(&budget, &bytes)));
                    assert_eq!(block.bytes(), &bytes[..]);
                    if action & 16 != 0 && !held.iter().any(|other| Arc::ptr_eq(other, &block)) {
                        held.push(block);
                    }
                }
                4 | 5 => {
                    if let Some(block) = cache.get(key(file, offset)) {
                        assert_eq!(Some(block.bytes()), model.get(&(file, offset)).map(|b| &b[..]));
                    }
                }
                _ => held.truncate(place as usize % 4),
            }
            check(&cache, &held);
        }
        drop(cache);
        let pinned: u64 = held.iter().map(|block| block.heap_bytes()).sum();
        assert_eq!(budget.used(), pinned);
        drop(held);
        budget.used() == 0
    }
}

#[test]
fn a_block_in_use_survives_a_scan() {
    let budget = Arc::new(Budget::new(1 << 20));
    let cache = BlockCache::new(64 << 10, Arc::clone(&budget));
    let block = || Arc::new(Block::copy_of(&budget, &[7; 4000]));
    cache.insert(key(1, 0), block());
    for offset in 1..1000 {
        assert!(cache.get(key(1, 0)).is_some(), "evicted by a scan after {offset} blocks");
        cache.insert(key(2, offset), block());
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.insertions), (999, 1000));
    assert!(stats.evictions > 980 && stats.bytes <= 64 << 10);
}

#[test]
fn the_first_of_two_loads_wins_and_a_giant_passes_by() {
    let budget = Arc::new(Budget::new(1 << 20));
    let cache = BlockCache::new(1 << 20, Arc::clone(&budget));
    let first = cache.insert(key(1, 0), Arc::new(Block::copy_of(&budget, b"first")));
    let second = cache.insert(key(1, 0), Arc::new(Block::copy_of(&budget, b"first")));
    assert!(Arc::ptr_eq(&first, &second));
    let giant = cache.insert(key(1, 8), Arc::new(Block::copy_of(&budget, &vec![0; 1 << 19])));
    assert_eq!(budget.used_by(Purpose::Pinned), giant.heap_bytes());
    assert!(cache.get(key(1, 8)).is_none() && cache.stats().bypassed == 1);
}
