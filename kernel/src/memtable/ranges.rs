//! The deleted ranges of one memtable.
//!
//! Few memtables have any, so the question "is this key under a deleted range?" costs one atomic load when there are
//! none. Otherwise they stand under a lock: the newest as they came, the others in sets made for searching. A set is
//! made when a reader asks, not when a range is added, and a handful of new ranges is looked at one by one instead.
//!
//! Each new set takes in the sets before it that are not twice as large, so that there are O(log n) of them and each
//! range has been built into O(log n) sets, however adding and reading take turns (the logarithmic method of Bentley
//! and Saxe, 1980).
//!
//! A set is built without the lock, and takes its place if nobody was quicker. So nobody waits for the builder, who may
//! be a background task that gets no processor; two who ask at once may both do the work.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Bug, RwLock, planted};
use crate::types::{RangeTombstone, RangeTombstones, Seq};

/// Memory that one range is taken to need beside its keys: its slots in a list and a tree, allocation headers.
const RANGE_OVERHEAD: u64 = 400;
/// Ranges that are looked at one by one before a set is worth it.
const TAIL_MAX: usize = 32;

#[derive(Default)]
struct State {
    /// Each more than twice as large as the next.
    sets: Vec<Arc<RangeTombstones>>,
    /// What came since the last set was made and is about to be built into one, part by part.
    sealed: Vec<Arc<Vec<RangeTombstone>>>,
    /// What came after that.
    tail: Vec<RangeTombstone>,
    /// How often `sets` was exchanged.
    generation: u64,
}

impl State {
    /// What stands in no set.
    fn new_ones(&self) -> impl Iterator<Item = &RangeTombstone> {
        self.sealed.iter().flat_map(|part| part.iter()).chain(&self.tail)
    }
}

/// See the module's header.
pub(super) struct Ranges {
    /// How many were added, to be asked without the lock.
    count: AtomicU64,
    bytes: AtomicU64,
    state: RwLock<State>,
}

impl Ranges {
    /// None.
    pub fn new() -> Self {
        Self { count: AtomicU64::new(0), bytes: AtomicU64::new(0), state: RwLock::new(State::default()) }
    }

    /// How many were added.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Memory they are taken to need.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds one.
    pub fn add(&self, range: RangeTombstone) {
        assert!(range.start < range.end, "an empty range deletes nothing");
        let bytes = RANGE_OVERHEAD + (range.start.len() + range.end.len()) as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut state = self.state.write();
        state.tail.push(range);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// The newest one over `key` with a sequence of at most `read_seq`.
    #[inline]
    pub fn newest_covering(&self, key: &[u8], read_seq: Seq) -> Option<Seq> {
        if self.count() == 0 { None } else { self.search(key, read_seq) }
    }

    fn search(&self, key: &[u8], read_seq: Seq) -> Option<Seq> {
        let in_sets = |sets: &[Arc<RangeTombstones>]| {
            sets.iter().filter_map(|set| set.newest_covering(key, read_seq)).max()
        };
        {
            let state = self.state.read();
            if state.new_ones().nth(TAIL_MAX).is_none() {
                let covering = state.new_ones().filter(|range| range.seq <= read_seq && range.contains(key));
                return covering.map(|range| range.seq).max().max(in_sets(&state.sets));
            }
        }
        in_sets(&self.sets())
    }

    /// All that were added before the call, for searching and iterating.
    pub fn sets(&self) -> Vec<Arc<RangeTombstones>> {
        if self.count() == 0 {
            return Vec::new();
        }
        {
            let state = self.state.read();
            if state.sealed.is_empty() && state.tail.is_empty() {
                return state.sets.clone();
            }
        }
        let (mut sets, new, generation) = {
            let mut state = self.state.write();
            if !state.tail.is_empty() {
                let part = std::mem::take(&mut state.tail);
                state.sealed.push(Arc::new(part));
            }
            (state.sets.clone(), state.sealed.clone(), state.generation)
        };
        let parts = new.len();
        let mut new: Vec<RangeTombstone> = new.iter().flat_map(|part| part.iter().cloned()).collect();
        while let Some(set) = sets.pop_if(|set| set.len() <= 2 * new.len()) {
            new.extend_from_slice(set.list());
        }
        if !new.is_empty() {
            sets.push(Arc::new(RangeTombstones::new(new)));
        }
        let replaced = {
            let mut state = self.state.write();
            if state.generation != generation && !planted(Bug::RangeSetsExchangedBlindly) {
                return sets;
            }
            state.generation += 1;
            let built: Vec<_> = state.sealed.drain(..parts).collect();
            (built, std::mem::replace(&mut state.sets, sets.clone()))
        };
        // Perhaps large, so not under the lock.
        drop(replaced);
        sets
    }
}
