//! Every key that a history names, numbered in order, so that oracles work with numbers instead of bytes.
//!
//! A key that no operation names cannot tell anything about the history, so the keys inside a range are those of them
//! that some operation names elsewhere.

use std::ops::{Bound, Range};
use std::sync::Arc;

use holdfast::escaped::escape;

use crate::history::{Cell, History, Interval, Operation};

/// The keys of a history, in order of keyspace and key.
pub(super) struct Cells<'a> {
    sorted: Vec<(u32, &'a [u8])>,
}

impl<'a> Cells<'a> {
    /// Those that `history` names.
    pub(super) fn of(history: &'a History) -> Self {
        let mut sorted = Vec::new();
        for operation in history.transactions.iter().flat_map(|transaction| &transaction.operations) {
            match operation {
                Operation::Get { cell, .. } | Operation::Put { cell, .. } | Operation::Delete { cell } => {
                    sorted.push((cell.keyspace, &*cell.key));
                }
                Operation::Scan { keyspace, found, .. } => {
                    sorted.extend(found.iter().map(|(key, _)| (*keyspace, &**key)));
                }
                Operation::DeleteRange { .. } => {}
            }
        }
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The number of a key that an operation names.
    pub(super) fn number(&self, keyspace: u32, key: &[u8]) -> usize {
        self.sorted.binary_search(&(keyspace, key)).expect("every key of an operation is numbered")
    }

    /// The same.
    pub(super) fn of_cell(&self, cell: &Cell) -> usize {
        self.number(cell.keyspace, &cell.key)
    }

    /// The numbers of the keys in an interval.
    pub(super) fn within(&self, keyspace: u32, interval: &Interval) -> Range<usize> {
        let below = |key: &Arc<[u8]>| self.sorted.partition_point(|cell| *cell < (keyspace, &**key));
        let through = |key: &Arc<[u8]>| self.sorted.partition_point(|cell| *cell <= (keyspace, &**key));
        let start = match &interval.start {
            Bound::Included(key) => below(key),
            Bound::Excluded(key) => through(key),
            Bound::Unbounded => self.sorted.partition_point(|cell| cell.0 < keyspace),
        };
        let end = match &interval.end {
            Bound::Included(key) => through(key),
            Bound::Excluded(key) => below(key),
            Bound::Unbounded => self.sorted.partition_point(|cell| cell.0 <= keyspace),
        };
        start..end.max(start)
    }

    /// The key of a number.
    pub(super) fn cell(&self, number: usize) -> Cell {
        let (keyspace, key) = self.sorted[number];
        Cell { keyspace, key: Arc::from(key) }
    }

    /// A key for people; the keyspace only where there are several.
    pub(super) fn name(&self, number: usize) -> String {
        let (keyspace, key) = self.sorted[number];
        let is_only = self.sorted.iter().all(|cell| cell.0 == keyspace);
        if is_only { escape(key) } else { format!("{} of keyspace {keyspace}", escape(key)) }
    }
}
