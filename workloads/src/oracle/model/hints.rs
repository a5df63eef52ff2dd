//! What reads say of where commits can stand of which nobody was told.
//!
//! ```text
//! somebody sees u's value of a key at view v      u is behind every told write of the key up to v
//! somebody sees another told value, of q, at v    whoever else writes the key is not between q and v
//! somebody sees nothing at v                      whoever puts the key is not between its last told removal and v
//! ```
//! Each holds by itself, so a place that breaks one is wrong whatever the others are. Where what is seen was written by
//! another commit of unknown place nothing is said: that pair is left to the trial.

use std::collections::BTreeMap;

use super::Judge;
use super::commits::walked;
use crate::history::{Cell, Interval, Operation, Transaction, TxnNo};

/// What is said of one commit.
#[derive(Default)]
pub(super) struct Hint {
    /// It stands behind this number.
    pub(super) above: u64,
    /// It does not stand behind the first and up to the second.
    pub(super) not_in: Vec<(u64, u64)>,
}

/// Who writes what, among those that were told.
struct Told<'a> {
    base: u64,
    by_cell: BTreeMap<&'a Cell, Vec<u64>>,
    ranges: Vec<(u64, u32, &'a Interval)>,
    numbers: BTreeMap<TxnNo, u64>,
}

impl Told<'_> {
    /// The last told write of a key up to a view; the opening's base if there is none.
    fn last_write(&self, cell: &Cell, view: u64) -> u64 {
        let of_cell = self.by_cell.get(cell).into_iter().flatten().copied();
        let covers = |range: &&(u64, u32, &Interval)| range.1 == cell.keyspace && range.2.contains(&cell.key);
        let of_ranges = self.ranges.iter().filter(covers).map(|range| range.0);
        of_cell.chain(of_ranges).filter(|seq| *seq <= view).max().unwrap_or(self.base)
    }
}

/// What a commit leaves of a key: a value, nothing, or what was there.
fn leaves(transaction: &Transaction, cell: &Cell) -> Option<bool> {
    transaction.operations.iter().rev().find_map(|operation| match operation {
        Operation::Put { cell: written, .. } if written == cell => Some(true),
        Operation::Delete { cell: written } if written == cell => Some(false),
        Operation::DeleteRange { keyspace, interval }
            if *keyspace == cell.keyspace && interval.contains(&cell.key) =>
        {
            Some(false)
        }
        _ => None,
    })
}

impl Judge<'_> {
    /// What the reads of an opening, and the look at everything after it, say of its commits of unknown place.
    pub(super) fn hints(&self, number: usize, told: &[(u64, TxnNo)], unknown: &[TxnNo]) -> Vec<Hint> {
        let mut hints: Vec<Hint> = unknown.iter().map(|_| Hint::default()).collect();
        let told = self.told_writes(number, told);
        for txn in &self.openings[number].transactions {
            let reader = self.of(*txn);
            if let Some(view) = reader.view {
                let views = (view, reader.view_at_most.unwrap_or(view));
                self.read_hints(*txn, views, &told, unknown, &mut hints);
            }
        }
        if let Some(next) = self.openings.get(number + 1)
            && let Some(survey) = next.transactions.first().filter(|txn| super::is_survey(self.of(**txn)))
        {
            self.read_hints(*survey, (next.base, next.base), &told, unknown, &mut hints);
        }
        hints
    }

    fn told_writes(&self, number: usize, told: &[(u64, TxnNo)]) -> Told<'_> {
        let mut writes = Told {
            base: self.openings[number].base,
            by_cell: BTreeMap::new(),
            ranges: Vec::new(),
            numbers: told.iter().map(|(seq, txn)| (*txn, *seq)).collect(),
        };
        for (seq, txn) in told {
            for operation in &self.history.transactions[*txn as usize].operations {
                match operation {
                    Operation::Put { cell, .. } | Operation::Delete { cell } => {
                        writes.by_cell.entry(cell).or_default().push(*seq);
                    }
                    Operation::DeleteRange { keyspace, interval } => {
                        writes.ranges.push((*seq, *keyspace, interval));
                    }
                    Operation::Get { .. } | Operation::Scan { .. } => {}
                }
            }
        }
        writes
    }

    fn read_hints(
        &self,
        txn: TxnNo,
        views: (u64, u64),
        told: &Told<'_>,
        unknown: &[TxnNo],
        hints: &mut [Hint],
    ) {
        let reader = self.of(txn);
        let mut own: Vec<&Operation> = Vec::new();
        for operation in &reader.operations {
            let is_own = |cell: &Cell| {
                own.iter().any(|write| match write {
                    Operation::Put { cell: written, .. } | Operation::Delete { cell: written } => {
                        written == cell
                    }
                    Operation::DeleteRange { keyspace, interval } => {
                        *keyspace == cell.keyspace && interval.contains(&cell.key)
                    }
                    Operation::Get { .. } | Operation::Scan { .. } => false,
                })
            };
            match operation {
                Operation::Get { cell, found } if !is_own(cell) => {
                    let seen = found.as_ref().map(|value| value.stamp.txn);
                    self.note_seen((cell, seen), views, told, unknown, hints);
                }
                Operation::Get { .. } => {}
                Operation::Scan { keyspace, interval, reverse, found, complete } => {
                    let walked = walked(interval, *reverse, found.last().map(|(key, _)| key), *complete);
                    let of_keyspace = |cell: &&Cell| {
                        cell.keyspace == *keyspace && walked.contains(&cell.key) && !is_own(cell)
                    };
                    let puts = unknown.iter().flat_map(|txn| &self.of(*txn).operations);
                    let mut cells: Vec<&Cell> = puts
                        .filter_map(|operation| match operation {
                            Operation::Put { cell, .. } | Operation::Delete { cell } => Some(cell),
                            _ => None,
                        })
                        .filter(of_keyspace)
                        .collect();
                    cells.sort();
                    cells.dedup();
                    for cell in cells {
                        let seen = found.iter().find(|(key, _)| *key == cell.key);
                        let seen = seen.map(|(_, value)| value.stamp.txn);
                        self.note_seen((cell, seen), views, told, unknown, hints);
                    }
                }
                write => own.push(write),
            }
        }
    }

    /// Somebody who reads between these views found this writer's value of a key, or none.
    fn note_seen(
        &self,
        (cell, seen): (&Cell, Option<TxnNo>),
        (view, at_most): (u64, u64),
        told: &Told<'_>,
        unknown: &[TxnNo],
        hints: &mut [Hint],
    ) {
        if let Some(at) = seen.and_then(|writer| unknown.iter().position(|txn| *txn == writer)) {
            hints[at].above = hints[at].above.max(told.last_write(cell, view));
            return;
        }
        if view != at_most {
            return;
        }
        let left = |txn: &TxnNo| leaves(self.of(*txn), cell);
        let since = match seen {
            Some(writer) => told.numbers.get(&writer).copied().unwrap_or(told.base),
            // Another commit of unknown place may have removed it.
            None if unknown.iter().any(|txn| left(txn) == Some(false)) => return,
            None => told.last_write(cell, view),
        };
        for (hint, txn) in hints.iter_mut().zip(unknown) {
            let shows = match left(txn) {
                Some(true) => true,
                Some(false) => seen.is_some(),
                None => false,
            };
            if shows && since < view {
                hint.not_in.push((since, view));
            }
        }
    }
}
