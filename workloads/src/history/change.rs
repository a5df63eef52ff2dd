//! What can happen to a history, as a value.
//!
//! A history that has to outlive the process of its clients is told to somebody outside, change by change and each
//! before it takes effect, and made anew from what was told. Times are not told: they follow from the order.

use serde::{Deserialize, Serialize};

use super::{Durable, Ending, History, Milestone, Operation, Promise, TxnNo};

/// One change of a history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The next transaction begins.
    Begins {
        /// Which client's.
        client: u32,
        /// In which opening.
        opening: u32,
        /// What is promised to it.
        promise: Promise,
        /// How durable its commit is to be.
        durable: Durable,
    },
    /// It reads the state of this commit, or of a later one.
    Views(TxnNo, u64),
    /// It reads the state of this commit at the latest.
    ViewsAtMost(TxnNo, u64),
    /// A read of it was given up.
    Blurs(TxnNo),
    /// It did this.
    Did(TxnNo, Operation),
    /// Its commit is asked for.
    Commits(TxnNo),
    /// Its client was told this at the end.
    Ends(TxnNo, Ending),
    /// Something happened beside transactions.
    Passes(Milestone),
}

impl Change {
    /// True if a history has what it changes.
    pub fn fits(&self, history: &History) -> bool {
        let txn = match self {
            Self::Begins { .. } | Self::Passes(_) => return true,
            Self::Views(txn, _) | Self::ViewsAtMost(txn, _) | Self::Blurs(txn) => txn,
            Self::Did(txn, _) | Self::Commits(txn) | Self::Ends(txn, _) => txn,
        };
        (*txn as usize) < history.transactions.len()
    }
}

impl History {
    /// Makes a change, which [fits](Change::fits).
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Begins { client, opening, promise, durable } => {
                self.begin(client, opening, promise, durable);
            }
            Change::Views(txn, view) => self.of(txn).view = Some(view),
            Change::ViewsAtMost(txn, view) => self.of(txn).view_at_most = Some(view),
            Change::Blurs(txn) => self.of(txn).blurred = true,
            Change::Did(txn, operation) => drop(self.did(txn, operation)),
            Change::Commits(txn) => self.commits(txn),
            Change::Ends(txn, ending) => self.ends(txn, ending),
            Change::Passes(milestone) => self.passes(milestone),
        }
    }
}
