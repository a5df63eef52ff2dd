//! What is known about a history beside what its clients were told.
//!
//! A client whose commit ended in "unknown" does not know whether it took effect, and a client whose commit was
//! acknowledged does not know that a crash took it later, as its promise allowed. Who watches the whole run may: from
//! the ledger of what each opening kept, from the commit numbers of a feed, or from a simulator that sees everything.
//! An end that nobody tells is judged by what was seen: see `standing`.
//!
//! **Losses.** A crash takes a suffix of commits. What it took legally was there for the transactions of the openings
//! up to that crash, and they are judged with it: their reads of it were right in their time, and so were its own. For
//! every later opening it has never been: versions made later follow on those that stayed, readers that come later do
//! not come before it, and seeing it is a dirty read. The history is then a tree of branches, and no edge leads from
//! one branch into another that ended before, so a loss alone never makes a cycle.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::TxnNo;

/// What became of transactions, where more is known than their clients were told.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    numbers: BTreeMap<TxnNo, u64>,
    void: BTreeSet<TxnNo>,
    lost: BTreeMap<TxnNo, u32>,
}

impl Resolved {
    /// A transaction whose end was not told is in effect, with this number in the order of commits.
    pub fn takes_effect(&mut self, transaction: TxnNo, number: u64) {
        self.numbers.insert(transaction, number);
    }

    /// A transaction whose end was not told never had an effect.
    pub fn has_no_effect(&mut self, transaction: TxnNo) {
        self.void.insert(transaction);
    }

    /// A commit was there until the end of opening `last`, and then a crash took it, as its promise allows.
    pub fn is_lost_after(&mut self, transaction: TxnNo, last: u32) {
        self.lost.insert(transaction, last);
    }

    pub(super) fn number(&self, transaction: TxnNo) -> Option<u64> {
        self.numbers.get(&transaction).copied()
    }

    pub(super) fn is_void(&self, transaction: TxnNo) -> bool {
        self.void.contains(&transaction)
    }

    pub(super) fn last_opening(&self, transaction: TxnNo) -> Option<u32> {
        self.lost.get(&transaction).copied()
    }
}
