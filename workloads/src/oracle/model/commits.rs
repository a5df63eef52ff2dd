//! Whether each transaction was committed, or refused, as its promise says.

use super::Judge;
use crate::history::{Cell, Ending, Interval, Operation, Promise, Transaction, TxnNo};
use crate::oracle::{Violation, Wrong};

/// What a transaction depends on, or changes.
enum Touched<'a> {
    Key(&'a Cell),
    Range(u32, Interval),
}

impl Touched<'_> {
    fn meets(&self, other: &Touched<'_>) -> bool {
        match (self, other) {
            (Touched::Key(one), Touched::Key(other)) => one == other,
            (Touched::Key(cell), Touched::Range(keyspace, interval))
            | (Touched::Range(keyspace, interval), Touched::Key(cell)) => {
                cell.keyspace == *keyspace && interval.contains(&cell.key)
            }
            (Touched::Range(one, interval), Touched::Range(other, with)) => {
                one == other && overlap(interval, with)
            }
        }
    }
}

/// True if some key may lie in both. It may err towards true where open ends meet.
fn overlap(one: &Interval, other: &Interval) -> bool {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let before = |end: &std::ops::Bound<std::sync::Arc<[u8]>>,
                  start: &std::ops::Bound<std::sync::Arc<[u8]>>| match (end, start) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(end), Included(start)) => end < start,
        (Included(end) | Excluded(end), Included(start) | Excluded(start)) => end <= start,
    };
    !one.is_empty() && !other.is_empty() && !before(&one.end, &other.start) && !before(&other.end, &one.start)
}

fn writes(transaction: &Transaction) -> Vec<Touched<'_>> {
    let touched = transaction.operations.iter().filter_map(|operation| match operation {
        Operation::Put { cell, .. } | Operation::Delete { cell } => Some(Touched::Key(cell)),
        Operation::DeleteRange { keyspace, interval } => Some(Touched::Range(*keyspace, interval.clone())),
        Operation::Get { .. } | Operation::Scan { .. } => None,
    });
    touched.collect()
}

/// What it read of others; a key that it had written itself says nothing of them.
fn reads(transaction: &Transaction) -> Vec<(Touched<'_>, Wrong)> {
    let mut own: Vec<Touched<'_>> = Vec::new();
    let mut read = Vec::new();
    for operation in &transaction.operations {
        match operation {
            Operation::Get { cell, .. } => {
                let key = Touched::Key(cell);
                if !own.iter().any(|write| write.meets(&key)) {
                    read.push((key, Wrong::WriteSkew));
                }
            }
            Operation::Scan { keyspace, interval, reverse, found, complete } => {
                let walked = walked(interval, *reverse, found.last().map(|(key, _)| key), *complete);
                read.push((Touched::Range(*keyspace, walked), Wrong::PhantomSkew));
            }
            Operation::Put { cell, .. } | Operation::Delete { cell } => own.push(Touched::Key(cell)),
            Operation::DeleteRange { keyspace, interval } => {
                own.push(Touched::Range(*keyspace, interval.clone()))
            }
        }
    }
    read
}

/// The part of an interval that a walk came over.
pub(super) fn walked(
    interval: &Interval,
    reverse: bool,
    last: Option<&std::sync::Arc<[u8]>>,
    complete: bool,
) -> Interval {
    let mut walked = interval.clone();
    if let Some(last) = last.filter(|_| !complete) {
        let reached = std::ops::Bound::Included(std::sync::Arc::clone(last));
        if reverse { walked.start = reached } else { walked.end = reached }
    }
    walked
}

impl Judge<'_> {
    /// The first transaction of an opening that was committed or refused against its promise.
    pub(super) fn commits_of_opening(&self, number: usize) -> Option<Violation> {
        let transactions = &self.openings[number].transactions;
        let mut by_number: Vec<(u64, TxnNo)> =
            transactions.iter().filter_map(|txn| Some((*self.placed.get(txn)?, *txn))).collect();
        by_number.sort_unstable();
        transactions.iter().find_map(|txn| {
            let transaction = self.of(*txn);
            let is_checked = matches!(transaction.promise, Promise::Snapshot | Promise::Serializable);
            let view = transaction.view.filter(|_| is_checked)?;
            match (&transaction.ending, self.placed.get(txn).copied()) {
                (_, Some(seq)) => self.judge_commit(*txn, view, seq, &by_number),
                (Ending::Conflict, None) => self.judge_conflict(*txn, view, transactions),
                _ => None,
            }
        })
    }

    /// Nothing that it read or wrote was written between its view and its number.
    fn judge_commit(&self, txn: TxnNo, view: u64, seq: u64, by_number: &[(u64, TxnNo)]) -> Option<Violation> {
        let transaction = self.of(txn);
        let first = by_number.partition_point(|(at, _)| *at <= view);
        let between = &by_number[first..];
        let between = &between[..between.partition_point(|(at, _)| *at < seq)];
        if between.is_empty() {
            return None;
        }
        let mut protected: Vec<(Touched<'_>, Wrong)> =
            writes(transaction).into_iter().map(|write| (write, Wrong::LostUpdate)).collect();
        if transaction.promise == Promise::Serializable {
            protected.extend(reads(transaction));
        }
        for (at, other) in between {
            let written = writes(self.of(*other));
            let hit = protected.iter().find(|(touched, _)| written.iter().any(|write| write.meets(touched)));
            if let Some((_, wrong)) = hit {
                let what = format!(
                    "T{txn} ({:?}) read at {view} and was committed as {seq}, though T{other}, commit {at}, wrote what it \
                     read or wrote",
                    transaction.promise
                );
                return Some(Violation { wrong: *wrong, what });
            }
        }
        None
    }

    /// Somebody else has written, or tried to, what it read or wrote.
    fn judge_conflict(&self, txn: TxnNo, view: u64, transactions: &[TxnNo]) -> Option<Violation> {
        let transaction = self.of(txn);
        if transaction.blurred || self.rules.narrow_window {
            return None;
        }
        let mut touched = writes(transaction);
        if transaction.promise == Promise::Serializable {
            touched.extend(reads(transaction).into_iter().map(|(read, _)| read));
        }
        let ended = transaction.ended.unwrap_or(u64::MAX);
        let could = |other: &&TxnNo| {
            let other_txn = self.of(**other);
            let is_later = self.placed.get(*other).is_none_or(|seq| *seq > view);
            let was_sent = other_txn.committing.is_some_and(|sent| sent < ended);
            **other != txn
                && is_later
                && was_sent
                && writes(other_txn).iter().any(|write| touched.iter().any(|touched| touched.meets(write)))
        };
        let is_false = !transactions.iter().any(|other| could(&other));
        let what = || format!("T{txn}, which read at {view}, was refused for a conflict with nobody");
        is_false.then(|| Violation { wrong: Wrong::FalseConflict, what: what() })
    }
}
