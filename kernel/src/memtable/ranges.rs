//! The deleted ranges of one memtable.
//!
//! Few memtables have any, so the question "is this key under a deleted range?" costs one atomic load when there are
//! none. Otherwise they stand in a vector under a lock, cut into disjoint fragments for searching. The fragments
//! are rebuilt when a reader asks, not when a range is added; a handful of new ranges is looked at one by one
//! instead, so that adding and reading by turns does not rebuild each time.

use std::sync::Arc;

use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::{Fragmented, RangeTombstone, Seq};

/// Memory that one range is taken to need beside its keys: vector slots, allocation headers, its fragments.
const RANGE_OVERHEAD: u64 = 256;
/// Ranges that are looked at one by one before a rebuild is worth it.
const TAIL_MAX: usize = 32;

struct State {
    all: Vec<RangeTombstone>,
    /// Of the first `covered` ones.
    fragmented: Arc<Fragmented>,
    covered: usize,
}

/// See the module's header.
pub(super) struct Ranges {
    /// Length of `all`, to be asked without the lock.
    count: AtomicU64,
    bytes: AtomicU64,
    state: RwLock<State>,
}

impl Ranges {
    /// None.
    pub fn new() -> Self {
        let fragmented = Arc::new(Fragmented::new(Vec::new()));
        Self {
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            state: RwLock::new(State { all: Vec::new(), fragmented, covered: 0 }),
        }
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
        state.all.push(range);
        self.count.store(state.all.len() as u64, Ordering::Release);
    }

    /// The newest one over `key` with a sequence of at most `read_seq`.
    #[inline]
    pub fn newest_covering(&self, key: &[u8], read_seq: Seq) -> Option<Seq> {
        if self.count() == 0 { None } else { self.search(key, read_seq) }
    }

    fn search(&self, key: &[u8], read_seq: Seq) -> Option<Seq> {
        {
            let state = self.state.read();
            let tail = &state.all[state.covered..];
            if tail.len() <= TAIL_MAX {
                let in_tail = tail.iter().filter(|range| range.seq <= read_seq && range.contains(key));
                return in_tail
                    .map(|range| range.seq)
                    .max()
                    .max(state.fragmented.newest_covering(key, read_seq));
            }
        }
        self.fragmented().newest_covering(key, read_seq)
    }

    /// All that were added before the call, for searching and iterating.
    pub fn fragmented(&self) -> Arc<Fragmented> {
        {
            let state = self.state.read();
            if state.covered == state.all.len() {
                return state.fragmented.clone();
            }
        }
        let mut state = self.state.write();
        if state.covered < state.all.len() {
            state.fragmented = Arc::new(Fragmented::new(state.all.clone()));
            state.covered = state.all.len();
        }
        state.fragmented.clone()
    }
}
