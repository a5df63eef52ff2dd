//! Judges each key by itself, in real time: is it a register on which every operation takes effect at one moment
//! between its start and its end?
//!
//! A history is linearizable if each of its objects is (Herlihy and Wing, "Linearizability", TOPLAS 1990), so keys are
//! judged one at a time. What a transaction did to a key counts as one operation: what it saw of others, and what it
//! left. For transactions over several keys this is necessary and not enough; `isolation` judges the rest.
//!
//! - A commit that was acknowledged took effect between the moment when it was asked for and its end.
//! - One whose end was not told takes effect at any time after it was asked for, or never. If it is not seen it may as
//!   well be never, so only values that somebody saw, and deletions, take part.
//! - A refused transaction counts with its reads only. A value of a transaction that has no effect, or that its own
//!   transaction wrote over, is a dirty read or an intermediate one here too, and is left out of the search.
//!
//! Nothing is known of crashes that lose acknowledged commits: this oracle is for what promises to lose none. The
//! register is empty at first. Undecided keys are told, not called good.

mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use search::{Found, State, Step, search};

use super::cells::Cells;
use super::reads::{Read, Reader};
use super::{Violation, Wrong};
use crate::history::{Cell, Ending, History, Operation, Promise, Stamp, Transaction, TxnNo};

/// So many situations are looked at for one key where the caller has no other wish.
pub const SITUATIONS_MAX: usize = 1 << 18;

/// So many operations are shown of a key that is wrong.
const SHOWN_MAX: usize = 6;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// At most one of each key, and what is wrong with single reads.
    pub violations: Vec<Violation>,
    /// The keys whose search came to the limit.
    pub undecided: Vec<Cell>,
}

/// Judges every key of `history`, each by looking at no more than `situations_max` situations.
pub fn check(history: &History, situations_max: usize) -> Verdict {
    let cells = Cells::of(history);
    let mut verdict = Verdict::default();
    for (key, register) in registers(history, &cells, &mut verdict.violations).into_iter().enumerate() {
        match register.search(situations_max) {
            Found::Order => {}
            Found::Undecided => verdict.undecided.push(cells.cell(key)),
            Found::Stuck { state, next } => {
                let what = register.stuck(history, &cells.name(key), state, &next);
                verdict.violations.push(Violation { wrong: Wrong::OrderViolated, what });
            }
        }
    }
    verdict
}

/// What was done to one key.
#[derive(Default)]
struct Register {
    /// What certainly was, by start, and by whom.
    steps: Vec<(Step, TxnNo)>,
    /// What may have been.
    optional: Vec<(Step, TxnNo)>,
    /// The values by their stamps, numbered from 1.
    values: BTreeMap<Stamp, State>,
    seen: Vec<bool>,
}

impl Register {
    fn state(&mut self, stamp: Stamp) -> State {
        let next = State::try_from(self.values.len() + 1).expect("fewer than 2^32 values");
        *self.values.entry(stamp).or_insert(next)
    }

    fn sees(&mut self, state: State) {
        let at = state as usize;
        self.seen.resize(self.seen.len().max(at + 1), false);
        self.seen[at] = true;
    }

    fn search(&self, limit: usize) -> Found {
        let plain = |steps: &[(Step, TxnNo)]| steps.iter().map(|(step, _)| step.clone()).collect::<Vec<_>>();
        let mut optional = plain(&self.optional);
        let is_seen = |state: State| state == 0 || self.seen.get(state as usize) == Some(&true);
        optional.retain(|step| step.left.is_some_and(is_seen));
        search(&plain(&self.steps), &optional, limit)
    }

    fn stuck(&self, history: &History, key: &str, state: State, next: &[usize]) -> String {
        let value = |state: State| {
            let stamp = self.values.iter().find(|(_, value)| **value == state).map(|(stamp, _)| stamp);
            stamp.map_or("nothing".to_owned(), |stamp| {
                format!("the value of operation {} of T{}", stamp.operation, stamp.txn)
            })
        };
        let mut what =
            format!("no order explains what was done to {key}. It holds {} at best when", value(state));
        for at in next.iter().take(SHOWN_MAX) {
            let (step, txn) = &self.steps[*at];
            let client = history.transactions[*txn as usize].client;
            let saw = step.saw.map(|saw| format!("saw {}", value(saw)));
            let left = step.left.map(|left| format!("left {}", value(left)));
            let did: Vec<String> = saw.into_iter().chain(left).collect();
            let until = if step.to == u64::MAX { "the end".to_owned() } else { step.to.to_string() };
            what.push_str(&format!(
                "\n  T{txn} (client {client}) {} between {} and {until}",
                did.join(" and "),
                step.from
            ));
        }
        what
    }
}

/// The registers by the numbers of their keys.
fn registers(history: &History, cells: &Cells<'_>, violations: &mut Vec<Violation>) -> Vec<Register> {
    let mut registers: Vec<Register> = Vec::new();
    registers.resize_with(cells.len(), Register::default);
    let left: Vec<LastWrites> =
        (0..).zip(&history.transactions).map(|(txn, each)| last_writes(txn, each, cells)).collect();
    let mut reader = Reader::new(history, cells);
    let mut reads = Vec::new();
    for (number, transaction) in (0..).zip(&history.transactions) {
        let mut saw: BTreeMap<usize, Vec<State>> = BTreeMap::new();
        reader.reads_of(number, &mut reads);
        for read in reads.iter().filter(|_| transaction.promise != Promise::Batch) {
            let state = match read.found.map(|value| value.stamp) {
                None => 0,
                Some(stamp) if stamp.txn == number => continue,
                Some(stamp) => match wrong_with(history, &left, read, stamp) {
                    None => registers[read.key].state(stamp),
                    Some((wrong, why)) => {
                        let key = cells.name(read.key);
                        let (at, by, txn) = (read.operation, stamp.operation, stamp.txn);
                        let what = format!(
                            "T{number} (client {}) saw in operation {at} at {key} the value of operation {by} of T{txn}: {why}",
                            transaction.client
                        );
                        violations.push(Violation { wrong, what });
                        continue;
                    }
                },
            };
            registers[read.key].sees(state);
            saw.entry(read.key).or_default().push(state);
        }
        add(&mut registers, number, transaction, saw, &left[number as usize]);
    }
    for register in &mut registers {
        register.steps.sort_by_key(|(step, _)| step.from);
    }
    registers
}

/// Files what a transaction did to each key.
fn add(
    registers: &mut [Register],
    number: TxnNo,
    transaction: &Transaction,
    mut saw: BTreeMap<usize, Vec<State>>,
    left: &LastWrites,
) {
    let (began, ended) = (transaction.began, transaction.ended.unwrap_or(u64::MAX));
    let committing = transaction.committing.unwrap_or(began);
    for (key, operation) in left {
        let register = &mut registers[*key];
        let left = Some(operation.map_or(0, |operation| register.state(Stamp { txn: number, operation })));
        // What it read is one with what it wrote only if it commits.
        let read = |saw: &mut BTreeMap<usize, Vec<State>>| saw.get_mut(key).and_then(Vec::pop);
        match transaction.ending {
            Ending::Committed(_) => {
                let step = Step { from: committing, to: ended, saw: read(&mut saw), left };
                register.steps.push((step, number));
            }
            Ending::Unknown => {
                let step = Step { from: committing, to: u64::MAX, saw: read(&mut saw), left };
                register.optional.push((step, number));
            }
            Ending::Conflict | Ending::Refused(_) => {}
        }
    }
    for (key, states) in saw {
        for state in states {
            let step = Step { from: began, to: ended, saw: Some(state), left: None };
            registers[key].steps.push((step, number));
        }
    }
}

/// The last write of a transaction to each key: the operation that put, or `None` for a deletion.
type LastWrites = BTreeMap<usize, Option<u32>>;

fn last_writes(txn: TxnNo, transaction: &Transaction, cells: &Cells<'_>) -> LastWrites {
    let mut last = BTreeMap::new();
    for (at, operation) in (0u32..).zip(&transaction.operations) {
        match operation {
            Operation::Put { .. } => {
                last.insert(cells.key(txn, at), Some(at));
            }
            Operation::Delete { .. } => {
                last.insert(cells.key(txn, at), None);
            }
            Operation::DeleteRange { keyspace, interval } => {
                last.extend(cells.within(*keyspace, interval).map(|key| (key, None)));
            }
            Operation::Get { .. } | Operation::Scan { .. } => {}
        }
    }
    last
}

/// What is wrong with seeing this value, whatever the order.
fn wrong_with(
    history: &History,
    left: &[LastWrites],
    read: &Read<'_>,
    stamp: Stamp,
) -> Option<(Wrong, &'static str)> {
    let writer = stamp.txn as usize;
    match left.get(writer).and_then(|left| left.get(&read.key)) {
        None => Some((Wrong::Garbage, "nothing was written there")),
        Some(_) if matches!(history.transactions[writer].ending, Ending::Conflict | Ending::Refused(_)) => {
            Some((Wrong::DirtyRead, "that one has no effect"))
        }
        Some(Some(operation)) if *operation == stamp.operation => None,
        Some(_) => Some((Wrong::IntermediateRead, "it did not leave that one there")),
    }
}
