//! The one memory budget: who holds how many bytes, against one limit.
//!
//! Everything that grows with the data (memtables, cached blocks, pinned index tops, transaction buffers, blocks
//! that readers hold) takes a [`Charge`] for its heap bytes and gives it back by dropping it. The budget only
//! counts; a charge never fails and never waits. Who gives way when it is over:
//!
//! | who | gives way how |
//! |---|---|
//! | block cache | keeps less, down to a sixteenth of its share |
//! | transactions | all together may take half; what is more gets `Busy` at once |
//! | memtables | the largest is frozen when the active ones together hold a quarter, or too much is held in all |
//! | writers | slow down, then wait, then get `Busy` (`tree/stall`) |
//!
//! Invariant: the count of a purpose is the sum of its live charges. While a charge moves between purposes its
//! bytes may for an instant be counted twice, never not at all, so `used` errs on the careful side.

use std::fmt;
use std::sync::Arc;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Bug, planted};

/// What memory is held for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Purpose {
    /// Memtables, active and frozen.
    Memtable = 0,
    /// Blocks in the block cache, and its slots.
    Cache = 1,
    /// What an open table keeps: its top index and range tombstones.
    TableMeta = 2,
    /// What open transactions have written and read.
    Transaction = 3,
    /// Blocks that are not, or no longer, in the cache but that a value or iterator still holds.
    Pinned = 4,
}

impl Purpose {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Memtable, Self::Cache, Self::TableMeta, Self::Transaction, Self::Pinned];
}

/// Counts bytes by [`Purpose`]. Shared by everything that holds memory for one opening of a database.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    used: [AtomicU64; Purpose::ALL.len()],
}

impl Budget {
    /// A budget of `limit_bytes`, nothing used yet.
    pub fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, used: Purpose::ALL.map(|_| AtomicU64::new(0)) }
    }

    /// Counts `bytes` until the charge is dropped. Never fails: being over the limit is for writers to act on.
    pub fn charge(self: &Arc<Self>, purpose: Purpose, bytes: u64) -> Charge {
        self.counter(purpose as u32).fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: Arc::clone(self), bytes, purpose: AtomicU32::new(purpose as u32) }
    }

    /// Bytes in use for all purposes together.
    pub fn used(&self) -> u64 {
        self.used.iter().map(|counter| counter.load(Ordering::Relaxed)).fold(0, u64::saturating_add)
    }

    /// Bytes in use for one purpose.
    pub fn used_by(&self, purpose: Purpose) -> u64 {
        self.counter(purpose as u32).load(Ordering::Relaxed)
    }

    /// Bytes in use that do not leave on request, as those of the cache do.
    pub fn held(&self) -> u64 {
        self.used().saturating_sub(self.used_by(Purpose::Cache))
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit_bytes
    }

    fn counter(&self, purpose: u32) -> &AtomicU64 {
        &self.used[purpose as usize]
    }
}

/// Bytes counted in a [`Budget`] for as long as this lives.
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
    purpose: AtomicU32,
}

impl Charge {
    /// Bytes counted.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts the bytes under another purpose from now on. Callers that race leave the count right, and the
    /// charge at the purpose of whoever came last.
    pub fn move_to(&self, purpose: Purpose) {
        self.budget.counter(purpose as u32).fetch_add(self.bytes, Ordering::Relaxed);
        let old = if planted(Bug::BudgetMovesInTwoSteps) {
            let old = self.purpose.load(Ordering::Relaxed);
            self.purpose.store(purpose as u32, Ordering::Relaxed);
            old
        } else {
            self.purpose.swap(purpose as u32, Ordering::Relaxed)
        };
        self.budget.counter(old).fetch_sub(self.bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` in place of what was counted before.
    pub fn resize(&mut self, bytes: u64) {
        let counter = self.budget.counter(self.purpose.load(Ordering::Relaxed));
        if bytes >= self.bytes {
            counter.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            counter.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let purpose = self.purpose.load(Ordering::Relaxed);
        self.budget.counter(purpose).fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Charge({} bytes)", self.bytes)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        /// Whatever is charged, moved, resized and dropped: each count is the sum of its live charges.
        fn counts_are_the_sum_of_live_charges(steps: Vec<(u8, u8, u16)>) -> bool {
            let budget = Arc::new(Budget::new(1 << 16));
            let mut live: Vec<(Charge, Purpose)> = Vec::new();
            for (action, pick, bytes) in steps {
                let purpose = Purpose::ALL[pick as usize % Purpose::ALL.len()];
                let at = if live.is_empty() { None } else { Some(bytes as usize % live.len()) };
                match (action % 4, at) {
                    (1, Some(at)) => {
                        live[at].0.move_to(purpose);
                        live[at].1 = purpose;
                    }
                    (2, Some(at)) => live[at].0.resize(u64::from(pick) * 7),
                    (3, Some(at)) => drop(live.swap_remove(at)),
                    _ => live.push((budget.charge(purpose, u64::from(bytes)), purpose)),
                }
                for purpose in Purpose::ALL {
                    let sum: u64 = live.iter().filter(|l| l.1 == purpose).map(|l| l.0.bytes()).sum();
                    assert_eq!(budget.used_by(purpose), sum);
                }
                assert_eq!(budget.used(), live.iter().map(|l| l.0.bytes()).sum::<u64>());
            }
            drop(live);
            budget.used() == 0
        }
    }
}
