//! What became of each transaction: whether its writes count, under which number, and until when.
//!
//! A transaction that wrote is in effect if it was told so, if it is known to be ([`Resolved`]), or if another
//! transaction saw a value of its. One whose end was not told and of which nothing was seen *may* be in effect: a
//! deletion leaves nothing that could be seen. What is not in effect counts as a reader only: also a transaction that
//! is refused in the end was promised its view while it ran.

use super::resolved::Resolved;
use crate::history::{Ending, History, Operation, Promise, TxnNo, Value};

/// Whether the writes of a transaction count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// It has none.
    None,
    /// Nobody can tell.
    Maybe,
    /// It has all of it, but nobody can tell its place in the order of commits.
    Unplaced,
    /// It has all of it, at this place in the order of commits.
    Placed(u64),
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// Whether its writes count.
    pub effect: Effect,
    /// The last opening in which they were there.
    pub last_opening: u32,
    /// From when on they may have been seen.
    pub committing: u64,
    /// Until when it read and was not known to be over.
    pub ended: u64,
    /// Its client was told how it ended.
    pub is_told: bool,
    /// It reads at one moment and commits at another: nothing promised that they are the same.
    pub is_split: bool,
}

impl Standing {
    /// True if what it wrote was there in this opening, as far as crashes are concerned.
    pub(super) fn is_there(&self, opening: u32) -> bool {
        opening <= self.last_opening
    }
}

/// What became of every transaction of `history`.
pub(super) fn standings(history: &History, resolved: &Resolved) -> Vec<Standing> {
    let seen = seen(history);
    let all = (0..).zip(&history.transactions);
    all.map(|(number, transaction)| {
        let effect = effect(history, number, resolved, seen[number as usize]);
        let is_in_effect = matches!(effect, Effect::Unplaced | Effect::Placed(_));
        let reads = transaction.promise != Promise::Batch
            && transaction.operations.iter().any(|operation| !operation.is_write());
        Standing {
            effect,
            last_opening: resolved.last_opening(number).unwrap_or(u32::MAX),
            committing: transaction.committing.unwrap_or(transaction.began),
            ended: transaction.ended.unwrap_or(u64::MAX),
            is_told: transaction.ended.is_some() && transaction.ending != Ending::Unknown,
            is_split: is_in_effect && reads && transaction.promise != Promise::Serializable,
        }
    })
    .collect()
}

fn effect(history: &History, number: TxnNo, resolved: &Resolved, seen: bool) -> Effect {
    let transaction = &history.transactions[number as usize];
    if !transaction.writes() || resolved.is_void(number) {
        return Effect::None;
    }
    match (&transaction.ending, resolved.number(number)) {
        (Ending::Conflict | Ending::Refused(_), _) => Effect::None,
        (&Ending::Committed(seq), _) | (Ending::Unknown, Some(seq)) => Effect::Placed(seq),
        (Ending::Unknown, None) if seen || resolved.last_opening(number).is_some() => Effect::Unplaced,
        (Ending::Unknown, None) => Effect::Maybe,
    }
}

/// Of each transaction: whether another one saw a value of its.
fn seen(history: &History) -> Vec<bool> {
    let mut seen = vec![false; history.transactions.len()];
    for (number, transaction) in (0..).zip(&history.transactions) {
        let mut note = |value: &Value| {
            if value.stamp.txn != number
                && let Some(seen) = seen.get_mut(value.stamp.txn as usize)
            {
                *seen = true;
            }
        };
        for operation in &transaction.operations {
            match operation {
                Operation::Get { found: Some(value), .. } => note(value),
                Operation::Scan { found, .. } => found.iter().for_each(|(_, value)| note(value)),
                _ => {}
            }
        }
    }
    seen
}
