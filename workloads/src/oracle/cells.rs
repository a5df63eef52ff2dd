//! Every key that a history names, numbered in order, so that oracles work with numbers instead of bytes.
//!
//! A key that no operation names cannot tell anything about the history, so the keys inside a range are those of them
//! that some operation names elsewhere.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::{Bound, Range};
use std::sync::Arc;

use holdfast::escaped::escape;

use crate::history::{Cell, History, Interval, Operation, TxnNo};
use crate::random::mix;

/// A key as it is looked up.
type Key<'a> = (u32, &'a [u8]);

/// The keys of a history, in order of keyspace and key.
pub(super) struct Cells<'a> {
    sorted: Vec<Key<'a>>,
    /// Of each transaction, where its operations begin in `operations`.
    transactions: Vec<usize>,
    /// Of each operation, where its keys begin in `named`.
    operations: Vec<usize>,
    /// The numbers of the keys that operations name, one after another.
    named: Vec<u32>,
}

impl<'a> Cells<'a> {
    /// Those that `history` names.
    pub(super) fn of(history: &'a History) -> Self {
        let mut found = Found::default();
        let (mut transactions, mut operations) = (Vec::new(), Vec::new());
        for transaction in &history.transactions {
            transactions.push(operations.len());
            for operation in &transaction.operations {
                operations.push(found.named.len());
                match operation {
                    Operation::Get { cell, .. }
                    | Operation::Put { cell, .. }
                    | Operation::Delete { cell } => {
                        found.name((cell.keyspace, &cell.key));
                    }
                    Operation::Scan { keyspace, found: entries, .. } => {
                        entries.iter().for_each(|(key, _)| found.name((*keyspace, key)));
                    }
                    Operation::DeleteRange { .. } => {}
                }
            }
        }
        operations.push(found.named.len());
        let (sorted, named) = found.in_order();
        Self { sorted, transactions, operations, named }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The numbers of the keys that an operation names: one, or in a scan as many as it found.
    pub(super) fn named(&self, txn: TxnNo, operation: u32) -> &[u32] {
        let at = self.transactions[txn as usize] + operation as usize;
        &self.named[self.operations[at]..self.operations[at + 1]]
    }

    /// The number of the key of an operation on one key.
    pub(super) fn key(&self, txn: TxnNo, operation: u32) -> usize {
        self.named(txn, operation)[0] as usize
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

/// Keys in the order in which they are met.
#[derive(Default)]
struct Found<'a> {
    numbers: HashMap<Key<'a>, u32, BuildHasherDefault<Mixer>>,
    keys: Vec<Key<'a>>,
    named: Vec<u32>,
}

impl<'a> Found<'a> {
    fn name(&mut self, key: Key<'a>) {
        let next = u32::try_from(self.keys.len()).expect("fewer than 2^32 keys");
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.keys.push(key);
        }
        self.named.push(number);
    }

    /// The keys in their own order, and what was named by their places in it.
    fn in_order(mut self) -> (Vec<Key<'a>>, Vec<u32>) {
        let mut order: Vec<u32> = (0..).take(self.keys.len()).collect();
        order.sort_unstable_by_key(|number| self.keys[*number as usize]);
        let mut places = vec![0; order.len()];
        for (place, number) in (0..).zip(&order) {
            places[*number as usize] = place;
        }
        self.named.iter_mut().for_each(|number| *number = places[*number as usize]);
        (order.into_iter().map(|number| self.keys[number as usize]).collect(), self.named)
    }
}

/// A quick hash for keys that nobody chooses to collide. Nothing depends on the order that it makes.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
