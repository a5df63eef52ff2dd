//! What a transaction has read, and the memory that its reads and writes take up together.
//!
//! A serializable transaction remembers every key it asked for and every range it walked, or its commit could not be
//! checked. That is memory like that of its writes, so both are counted as one, in the one budget and against the same
//! limits; what would go beyond them is refused and leaves the transaction as it was.
//!
//! The budget is asked for a little more than is needed, so that most reads ask nobody. Cursors share the ledger with
//! their transaction and may outlive it: once it has ended they note nothing any more.

use std::ops::{Bound, Deref};
use std::sync::Arc;

use crate::cache::{Budget, Charge, Purpose};
use crate::check::mark;
use crate::conflict::{Range, ReadSet};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::tree::{Direction, KeyRange};
use crate::types::KeyspaceId;

/// What a key that was read takes up beside its bytes: its vector, its part of a tree's node, its allocation.
const POINT_BYTES: u64 = 80;
/// The same of a range.
const RANGE_BYTES: u64 = 160;
/// The budget is asked for one part in so many more than is needed ...
const AHEAD_PART: u64 = 8;
/// ... but for no more than this.
const AHEAD_BYTES_MAX: u64 = 16 << 10;

/// The ledger of one transaction.
pub(crate) struct Ledger {
    reads: ReadSet,
    /// Of keys and values written, overwritten ones included, and of what is noted as read.
    bytes: u64,
    /// At least `bytes`, and never over `bytes_max`.
    charge: Charge,
    budget: Arc<Budget>,
    bytes_max: u64,
    ended: bool,
}

/// The ledger as its transaction holds it: when this goes, the transaction has ended.
pub(crate) struct OwnLedger(Arc<Mutex<Ledger>>);

impl OwnLedger {
    pub fn new(engine: &Engine) -> Self {
        Self(Arc::new(Mutex::new(Ledger {
            reads: ReadSet::default(),
            bytes: 0,
            charge: engine.budget.charge(Purpose::Transaction, 0),
            budget: engine.budget.clone(),
            bytes_max: engine.options.transaction_bytes_max,
            ended: false,
        })))
    }
}

impl Deref for OwnLedger {
    type Target = Arc<Mutex<Ledger>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for OwnLedger {
    fn drop(&mut self) {
        let reads = {
            let mut ledger = self.0.lock();
            ledger.ended = true;
            ledger.charge.resize(0);
            std::mem::take(&mut ledger.reads)
        };
        // Perhaps large, so not under the lock.
        drop(reads);
    }
}

impl Ledger {
    /// Makes room for `more` bytes of keys and values to be written.
    ///
    /// # Errors
    /// `Invalid` if the transaction is over its own limit then, `Busy` if all open ones together are.
    pub fn take(&mut self, more: u64) -> Result<()> {
        self.exchange(0, more)
    }

    /// Notes that `key` was asked for.
    ///
    /// # Errors
    /// As [`Ledger::take`]; then it is not noted.
    pub fn note_point(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        if !self.reads.keyspaces.entry(keyspace).or_default().points.insert(key.to_vec()) {
            return Ok(());
        }
        let taken = self.take(POINT_BYTES + key.len() as u64);
        if taken.is_err()
            && let Some(reads) = self.reads.keyspaces.get_mut(&keyspace)
        {
            reads.points.remove(key);
        }
        taken
    }

    /// Notes that a cursor over `range` has come to the key `reached`, or without one to its end. `slot` is the cursor's
    /// place among the ranges, once it has read anything.
    ///
    /// # Errors
    /// As [`Ledger::take`]; then it is not noted.
    pub fn note_range(
        &mut self,
        keyspace: KeyspaceId,
        slot: &mut Option<usize>,
        range: &KeyRange,
        reached: Option<&[u8]>,
        direction: Direction,
    ) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let ranges = &self.reads.keyspaces.entry(keyspace).or_default().ranges;
        let before = slot.and_then(|slot| ranges.get(slot)).map_or(0, range_bytes);
        let reached_len = reached.map(|key| key.len() as u64);
        let (start, end) = match direction {
            Direction::Forward => (bound_len(&range.start), reached_len.unwrap_or(bound_len(&range.end))),
            Direction::Backward => (reached_len.unwrap_or(bound_len(&range.start)), bound_len(&range.end)),
        };
        self.exchange(before, RANGE_BYTES + start + end)?;
        let ranges = &mut self.reads.keyspaces.entry(keyspace).or_default().ranges;
        let slot = *slot.get_or_insert_with(|| {
            ranges.push(match direction {
                Direction::Forward => (range.start.clone(), Bound::Unbounded),
                Direction::Backward => (Bound::Unbounded, range.end.clone()),
            });
            ranges.len() - 1
        });
        if let Some((start, end)) = ranges.get_mut(slot) {
            match direction {
                Direction::Forward => move_to(end, reached, &range.end),
                Direction::Backward => move_to(start, reached, &range.start),
            }
        }
        Ok(())
    }

    /// What was read, for the check at commit; the bytes count on until the transaction ends.
    pub fn take_reads(&mut self) -> ReadSet {
        std::mem::take(&mut self.reads)
    }

    /// Counts `after` bytes in place of `before`.
    fn exchange(&mut self, before: u64, after: u64) -> Result<()> {
        let bytes = self.bytes - before + after;
        if bytes > self.charge.bytes() {
            self.make_room(bytes)?;
        }
        self.bytes = bytes;
        Ok(())
    }

    fn make_room(&mut self, bytes: u64) -> Result<()> {
        let limit = self.bytes_max;
        if bytes > limit {
            return Err(Error::Invalid(format!(
                "the transaction would hold {bytes} bytes of writes and of what it has read, over the limit of {limit} (option \
                 transaction_bytes_max); split it, walk ranges, each of which counts once, or read from a snapshot what \
                 needs no check"
            )));
        }
        let half = self.budget.limit() / 2;
        let others = self.budget.used_by(Purpose::Transaction).saturating_sub(self.charge.bytes());
        if others + bytes > half {
            mark!("transactions_over_budget");
            return Err(Error::Busy(format!(
                "open transactions would hold {} bytes, over the half of memory_limit_bytes that they may share ({half}), \
                 {bytes} of them this one; end some, or raise the limit",
                others + bytes
            )));
        }
        let ahead = (bytes / AHEAD_PART).min(AHEAD_BYTES_MAX);
        self.charge.resize((bytes + ahead).min(limit).min(half - others));
        Ok(())
    }
}

fn range_bytes((start, end): &Range) -> u64 {
    RANGE_BYTES + bound_len(start) + bound_len(end)
}

fn bound_len(bound: &Bound<Vec<u8>>) -> u64 {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => key.len() as u64,
        Bound::Unbounded => 0,
    }
}

/// Moves a bound to `reached`, in the memory of the key before, or to the `last` that it can have.
fn move_to(bound: &mut Bound<Vec<u8>>, reached: Option<&[u8]>, last: &Bound<Vec<u8>>) {
    match (reached, bound) {
        (Some(reached), Bound::Included(key)) => {
            key.clear();
            key.extend_from_slice(reached);
        }
        (Some(reached), bound) => *bound = Bound::Included(reached.to_vec()),
        (None, bound) => bound.clone_from(last),
    }
}
