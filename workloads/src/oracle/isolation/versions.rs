//! The versions of each key, in order.
//!
//! The last write of a transaction to a key is a version of that key, and so is a deletion, of the key alone or of a
//! range that holds it. They are ordered by the numbers that their commits were told. A key that holds lists which
//! only ever grow tells the order by itself, and is believed more than the numbers: where the two contradict each
//! other, or where neither of two lists begins with the other, the order of commits is violated. Lists are not asked
//! where a key was deleted, where a batch wrote (it cannot append, for it reads nothing), or where a crash took a
//! version, since they may then begin anew.
//!
//! Versions whose place nobody can tell stay outside of the order. Deletions among them are kept aside: whoever finds
//! nothing may have found one of those.

use super::standing::{Effect, Standing};
use crate::history::{Body, History, Operation, Promise, TxnNo};
use crate::oracle::cells::Cells;
use crate::oracle::{Violation, Wrong};

/// No place in the order of versions.
pub(super) const NOWHERE: u32 = u32::MAX;

/// How a version came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    /// By a value.
    Put,
    /// By deleting the key.
    Delete,
    /// By deleting a range.
    DeleteRange,
}

/// What a transaction left at a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    /// Whose.
    pub txn: TxnNo,
    /// Which of its operations.
    pub operation: u32,
    /// How.
    pub made: Made,
}

impl Version {
    /// True if the key is absent in it.
    pub(super) fn is_deletion(&self) -> bool {
        self.made != Made::Put
    }
}

/// The versions of a key.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyVersions {
    /// In order.
    pub ordered: Vec<Version>,
    /// Deletions that may be in effect, at a place that nobody can tell.
    pub loose_deletions: Vec<TxnNo>,
    /// Of each in order: the earliest moment from which any from there on could be seen.
    pub visible_from: Vec<u64>,
    /// Of each in order: the place of the last deletion up to there; `NOWHERE` if there is none.
    pub deleted_at: Vec<u32>,
}

/// The versions of all keys.
pub(super) struct Versions {
    /// By the number of the key.
    pub of_key: Vec<KeyVersions>,
    /// Of each transaction, where its operations begin in `places`.
    firsts: Vec<usize>,
    /// Of each operation that puts: its place among the versions of its key; `NOWHERE` if it has none.
    places: Vec<u32>,
    /// Of each operation: it is the last of its transaction's writes to its key.
    finals: Vec<bool>,
}

impl Versions {
    /// True if this operation is its transaction's last write to the key that it puts.
    pub(super) fn is_final(&self, txn: TxnNo, operation: u32) -> bool {
        self.finals[self.firsts[txn as usize] + operation as usize]
    }

    /// The place of what this operation put, among the versions of its key.
    pub(super) fn place(&self, txn: TxnNo, operation: u32) -> Option<usize> {
        let place = self.places[self.firsts[txn as usize] + operation as usize];
        (place != NOWHERE).then_some(place as usize)
    }

    /// Those of `history`; what is wrong with their order goes to `violations`.
    pub(super) fn of(
        history: &History,
        cells: &Cells<'_>,
        standings: &[Standing],
        violations: &mut Vec<Violation>,
    ) -> Self {
        let mut firsts = Vec::with_capacity(history.transactions.len());
        let mut operations = 0;
        for transaction in &history.transactions {
            firsts.push(operations);
            operations += transaction.operations.len();
        }
        let mut versions = Self {
            of_key: vec![KeyVersions::default(); cells.len()],
            firsts,
            places: vec![NOWHERE; operations],
            finals: vec![false; operations],
        };
        let unplaced = versions.collect(history, cells, standings);
        for (key, aside) in unplaced.into_iter().enumerate() {
            let lists = Lists { history, standings, cells, key };
            lists.order(&mut versions.of_key[key], aside, violations);
            versions.index(key, standings);
        }
        versions
    }

    /// Files the last writes of every transaction, in the order of the numbers; gives those without a number by key.
    fn collect(&mut self, history: &History, cells: &Cells<'_>, standings: &[Standing]) -> Vec<Vec<Version>> {
        let mut unplaced = vec![Vec::new(); cells.len()];
        let number = |txn: TxnNo| match standings[txn as usize].effect {
            Effect::Placed(seq) => (seq, txn),
            _ => (u64::MAX, txn),
        };
        let mut order: Vec<TxnNo> = (0..).take(history.transactions.len()).collect();
        order.sort_by_key(|txn| number(*txn));
        let mut written = vec![0; cells.len()];
        for txn in order {
            let effect = standings[txn as usize].effect;
            let mut file = |key: usize, version: Version| {
                let of_key = &mut self.of_key[key];
                match effect {
                    Effect::Placed(_) => of_key.ordered.push(version),
                    Effect::None => {}
                    _ if version.is_deletion() => of_key.loose_deletions.push(txn),
                    Effect::Maybe => {}
                    Effect::Unplaced => unplaced[key].push(version),
                }
            };
            let first = self.firsts[txn as usize];
            let finals = &mut self.finals[first..];
            last_writes(history, cells, txn, &mut written, |key, version| {
                finals[version.operation as usize] = true;
                file(key, version);
            });
        }
        unplaced
    }

    fn index(&mut self, key: usize, standings: &[Standing]) {
        let of_key = &mut self.of_key[key];
        let mut deleted_at = NOWHERE;
        for (place, version) in (0u32..).zip(&of_key.ordered) {
            if version.is_deletion() {
                deleted_at = place;
            } else {
                self.places[self.firsts[version.txn as usize] + version.operation as usize] = place;
            }
            of_key.deleted_at.push(deleted_at);
        }
        let mut earliest = u64::MAX;
        of_key.visible_from = vec![0; of_key.ordered.len()];
        for (place, version) in of_key.ordered.iter().enumerate().rev() {
            earliest = earliest.min(standings[version.txn as usize].committing);
            of_key.visible_from[place] = earliest;
        }
    }
}

/// Calls `file` with the last write of `txn` to each key. `written` remembers, by key, one more than the transaction
/// that was here last.
fn last_writes(
    history: &History,
    cells: &Cells<'_>,
    txn: TxnNo,
    written: &mut [u32],
    mut file: impl FnMut(usize, Version),
) {
    let operations = &history.transactions[txn as usize].operations;
    for (at, operation) in operations.iter().enumerate().rev() {
        let (keys, made) = match operation {
            Operation::Put { .. } => (one(cells.key(txn, at as u32)), Made::Put),
            Operation::Delete { .. } => (one(cells.key(txn, at as u32)), Made::Delete),
            Operation::DeleteRange { keyspace, interval } => {
                (cells.within(*keyspace, interval), Made::DeleteRange)
            }
            Operation::Get { .. } | Operation::Scan { .. } => continue,
        };
        for key in keys {
            if written[key] != txn + 1 {
                written[key] = txn + 1;
                file(key, Version { txn, operation: at as u32, made });
            }
        }
    }
}

fn one(key: usize) -> std::ops::Range<usize> {
    key..key + 1
}

/// The order that the lists of one key tell.
struct Lists<'a> {
    history: &'a History,
    standings: &'a [Standing],
    cells: &'a Cells<'a>,
    key: usize,
}

impl Lists<'_> {
    /// Orders `versions` and those aside as their lists grow, if they are lists.
    fn order(&self, versions: &mut KeyVersions, aside: Vec<Version>, violations: &mut Vec<Violation>) {
        let mut all: Vec<(usize, Version)> = Vec::new();
        if !versions.loose_deletions.is_empty() {
            return;
        }
        for version in versions.ordered.iter().chain(&aside) {
            let Some(list) = self.list(version) else { return };
            all.push((list.len(), *version));
        }
        all.sort_by_key(|(len, _)| *len);
        for pair in all.windows(2) {
            let (before, after) = (&pair[0].1, &pair[1].1);
            let grows = pair[0].0 < pair[1].0
                && self
                    .list(before)
                    .zip(self.list(after))
                    .is_some_and(|(short, long)| long.starts_with(short));
            if !grows {
                let what = "but of the lists that they wrote neither begins with the other";
                violations.push(self.violated(before, after, what));
                return;
            }
        }
        for pair in all.windows(2) {
            let number = |version: &Version| self.standings[version.txn as usize].effect;
            if let (Effect::Placed(before), Effect::Placed(after)) = (number(&pair[0].1), number(&pair[1].1))
                && before > after
            {
                let what = "but the list of the latter begins with the list of the former";
                violations.push(self.violated(&pair[0].1, &pair[1].1, what));
            }
        }
        versions.ordered = all.into_iter().map(|(_, version)| version).collect();
    }

    /// The list of a version whose list tells its place.
    fn list(&self, version: &Version) -> Option<&[u32]> {
        let transaction = &self.history.transactions[version.txn as usize];
        let is_lost = self.standings[version.txn as usize].last_opening != u32::MAX;
        match transaction.operations.get(version.operation as usize) {
            Some(Operation::Put { value, .. }) if transaction.promise != Promise::Batch && !is_lost => {
                match &value.body {
                    Body::List(list) => Some(list),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn violated(&self, before: &Version, after: &Version, what: &str) -> Violation {
        let name = |version: &Version| {
            let client = self.history.transactions[version.txn as usize].client;
            let told = match self.standings[version.txn as usize].effect {
                Effect::Placed(seq) => format!("commit {seq}"),
                _ => "commit unknown".to_owned(),
            };
            format!("T{} (client {client}, {told}, operation {})", version.txn, version.operation)
        };
        let key = self.cells.name(self.key);
        let what = format!("{} and {} appended to {key}, {what}", name(before), name(after));
        Violation { wrong: Wrong::OrderViolated, what }
    }
}
