//! The block cache: whoever pins, evicts and inserts side by side, every byte is counted once, under the right purpose.
//!
//! A block's last holder lets go on the main thread, after the joins: that the standard library's `Arc` orders the last
//! drop after all others is not ours to prove, and loom does not see it.

use std::sync::Arc;

use holdfast::loom_exports::{Block, BlockCache, BlockKey, Budget, Purpose};
use holdfast::types::FileId;
use holdfast_loom_tests::model;
use loom::thread;

const FIRST: BlockKey = BlockKey { file: FileId::new(1), offset: 0 };
const SECOND: BlockKey = BlockKey { file: FileId::new(2), offset: 0 };

fn block(budget: &Arc<Budget>, byte: u8) -> Arc<Block> {
    Arc::new(Block::copy_of(budget, &[byte; 8]))
}

/// A cache with room for one block, which is there.
fn full_cache(budget: &Arc<Budget>) -> Arc<BlockCache> {
    let first = block(budget, 1);
    let cache = Arc::new(BlockCache::new(first.heap_bytes(), budget.clone()));
    cache.insert(FIRST, first);
    cache
}

/// Counts nothing twice and nothing under the wrong name; `held` are the blocks that callers hold, each once.
fn check_counts(budget: &Budget, cache: &BlockCache, slot_bytes: u64, held: &[Arc<Block>]) {
    let cached = |block: &Arc<Block>| {
        [FIRST, SECOND].into_iter().any(|key| cache.get(key).is_some_and(|found| Arc::ptr_eq(&found, block)))
    };
    let pinned: u64 = held.iter().filter(|block| !cached(block)).map(|block| block.heap_bytes()).sum();
    assert_eq!(budget.used_by(Purpose::Pinned), pinned, "pinned bytes are miscounted");
    assert_eq!(
        budget.used_by(Purpose::Cache),
        slot_bytes + cache.stats().bytes,
        "cached bytes are miscounted"
    );
}

/// One pins the block that another evicts, and puts it back, evicting in its turn.
fn pin_evict_insert() {
    let budget = Arc::new(Budget::new(1 << 20));
    let cache = full_cache(&budget);
    let slot_bytes = budget.used_by(Purpose::Cache) - cache.stats().bytes;
    let pinning = thread::spawn({
        let cache = cache.clone();
        move || {
            let pinned = cache.get(FIRST)?;
            assert_eq!(pinned.bytes(), [1; 8]);
            let kept = cache.insert(FIRST, pinned.clone());
            assert!(Arc::ptr_eq(&kept, &pinned), "nobody else inserts this key");
            Some(kept)
        }
    });
    let second = cache.insert(SECOND, block(&budget, 2));
    assert_eq!(second.bytes(), [2; 8]);
    let first = pinning.join().unwrap();
    let held: Vec<Arc<Block>> = first.into_iter().chain([second]).collect();
    check_counts(&budget, &cache, slot_bytes, &held);
    assert!(cache.stats().blocks == 1, "the capacity is one block");
    drop((held, cache));
    assert_eq!(budget.used(), 0);
}

model!(
    a_pinned_block_is_counted_once_while_it_is_evicted_and_put_back,
    pin_evict_insert,
    catches CacheCountsAfterUnlock: "bytes are miscounted"
);

// Two miss on one block, load it both, and use the same one from then on.
model!(two_that_load_one_block_share_the_winner, || {
    let budget = Arc::new(Budget::new(1 << 20));
    let cache = Arc::new(BlockCache::new(1 << 10, budget.clone()));
    let slot_bytes = budget.used_by(Purpose::Cache);
    let loading = thread::spawn({
        let (cache, budget) = (cache.clone(), budget.clone());
        move || cache.get(FIRST).unwrap_or_else(|| cache.insert(FIRST, block(&budget, 1)))
    });
    let mine = cache.get(FIRST).unwrap_or_else(|| cache.insert(FIRST, block(&budget, 1)));
    let other = loading.join().unwrap();
    assert!(Arc::ptr_eq(&mine, &other), "two blocks of one key are in use");
    check_counts(&budget, &cache, slot_bytes, &[mine]);
});

/// Two give one charge another purpose.
fn move_move() {
    let budget = Arc::new(Budget::new(1 << 20));
    let charge = Arc::new(budget.charge(Purpose::Pinned, 8));
    let moving = thread::spawn({
        let charge = charge.clone();
        move || charge.move_to(Purpose::TableMeta)
    });
    charge.move_to(Purpose::Cache);
    moving.join().unwrap();
    let counts = [Purpose::Pinned, Purpose::TableMeta, Purpose::Cache].map(|purpose| budget.used_by(purpose));
    assert!(matches!(counts, [0, 8, 0] | [0, 0, 8]), "a charge is counted as {counts:?}");
    drop(charge);
    assert_eq!(budget.used(), 0);
}

model!(
    a_charge_that_two_move_is_counted_once,
    move_move,
    catches BudgetMovesInTwoSteps: "a charge is counted as"
);
