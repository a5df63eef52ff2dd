//! Histories written by hand, for the tests of the oracles.
//!
//! Operations are noted in the order in which the test calls them, commits take the next number, and a value is known
//! by the stamp that its put gave.

use std::ops::Bound;
use std::sync::Arc;

use crate::history::{
    Body, Cell, Durable, Ending, History, Interval, Operation, Promise, Stamp, TxnNo, Value,
};

/// A history in the making.
#[derive(Default)]
pub(crate) struct Script {
    /// What was written so far.
    pub history: History,
    /// In which opening transactions begin.
    pub opening: u32,
    commits: u64,
}

/// A key of the only keyspace.
pub(crate) fn cell(key: &str) -> Cell {
    Cell { keyspace: 1, key: Arc::from(key.as_bytes()) }
}

/// From one key through another.
pub(crate) fn through(start: &str, end: &str) -> Interval {
    Interval { start: Bound::Included(cell(start).key), end: Bound::Included(cell(end).key) }
}

impl Script {
    pub(crate) fn begin(&mut self, client: u32, promise: Promise) -> TxnNo {
        self.history.begin(client, self.opening, promise, Durable::Sync)
    }

    pub(crate) fn put(&mut self, txn: TxnNo, key: &str) -> Stamp {
        self.put_body(txn, key, Body::Filler(8))
    }

    pub(crate) fn put_list(&mut self, txn: TxnNo, key: &str, list: &[u32]) -> Stamp {
        self.put_body(txn, key, Body::List(Arc::from(list)))
    }

    fn put_body(&mut self, txn: TxnNo, key: &str, body: Body) -> Stamp {
        let operation = self.history.of(txn).operations.len() as u32;
        let stamp = Stamp { txn, operation };
        self.history.did(txn, Operation::Put { cell: cell(key), value: Value { stamp, body } });
        stamp
    }

    pub(crate) fn delete(&mut self, txn: TxnNo, key: &str) {
        self.history.did(txn, Operation::Delete { cell: cell(key) });
    }

    pub(crate) fn delete_range(&mut self, txn: TxnNo, start: &str, end: &str) {
        self.history.did(txn, Operation::DeleteRange { keyspace: 1, interval: through(start, end) });
    }

    pub(crate) fn value(&self, stamp: Stamp) -> Value {
        let writer = &self.history.transactions[stamp.txn as usize];
        match writer.operations.get(stamp.operation as usize) {
            Some(Operation::Put { value, .. }) => value.clone(),
            _ => Value { stamp, body: Body::Filler(8) },
        }
    }

    pub(crate) fn get(&mut self, txn: TxnNo, key: &str, seen: Stamp) {
        let found = Some(self.value(seen));
        self.history.did(txn, Operation::Get { cell: cell(key), found });
    }

    pub(crate) fn miss(&mut self, txn: TxnNo, key: &str) {
        self.history.did(txn, Operation::Get { cell: cell(key), found: None });
    }

    pub(crate) fn scan(&mut self, txn: TxnNo, start: &str, end: &str, seen: &[(&str, Stamp)]) {
        let found = seen.iter().map(|(key, stamp)| (cell(key).key, self.value(*stamp))).collect();
        let interval = through(start, end);
        let scan = Operation::Scan { keyspace: 1, interval, reverse: false, found, complete: true };
        self.history.did(txn, scan);
    }

    /// Commits under the next number.
    pub(crate) fn commit(&mut self, txn: TxnNo) {
        self.commits += 1;
        self.commit_as(txn, self.commits);
    }

    pub(crate) fn commit_as(&mut self, txn: TxnNo, number: u64) {
        self.history.commits(txn);
        self.history.ends(txn, Ending::Committed(number));
    }

    /// Asks for a commit, and is told something else.
    pub(crate) fn end(&mut self, txn: TxnNo, ending: Ending) {
        self.history.commits(txn);
        self.history.ends(txn, ending);
    }

    /// A batch that puts these keys.
    pub(crate) fn batch(&mut self, keys: &[&str]) -> Vec<Stamp> {
        let txn = self.begin(99, Promise::Batch);
        let stamps = keys.iter().map(|key| self.put(txn, key)).collect();
        self.commit(txn);
        stamps
    }
}
