//! What each read should have seen, and what it means that it did not.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Judge, is_survey};
use crate::history::{Cell, Ending, Entry, Interval, Operation, Transaction, TxnNo, Value};
use crate::oracle::{Violation, Wrong};

/// Views tried for a read that was not told its own; with more between them it is not judged.
const VIEWS_MAX: u64 = 256;

impl Judge<'_> {
    /// Judges the reads of an opening with views from one on, and the first look of the next opening, which found the
    /// commits up to `found`.
    pub(super) fn reads_of(&self, number: usize, found: Option<u64>, from: u64) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for reader in &self.openings[number].transactions {
            // The first look at what the opening before left was judged with that.
            let is_first = self.openings[number].transactions.first() == Some(reader);
            if is_first && number > 0 && is_survey(self.of(*reader)) {
                continue;
            }
            let transaction = self.of(*reader);
            if transaction.view_at_most.or(transaction.view).is_none_or(|view| view < from) {
                continue;
            }
            wrong.extend(self.judge_reader(*reader));
            if !wrong.is_empty() {
                return wrong;
            }
        }
        if found.is_some()
            && let Some(survey) = self.openings[number + 1].transactions.first()
            && is_survey(self.of(*survey))
        {
            wrong.extend(self.judge_reader(*survey));
        }
        wrong
    }

    fn judge_reader(&self, reader: TxnNo) -> Option<Violation> {
        let transaction = self.of(reader);
        let view = transaction.view?;
        if self.blurred.iter().any(|(first, end)| (*first..*end).contains(&view)) {
            return None;
        }
        let last = transaction.view_at_most.unwrap_or(view);
        let Some(commits) = last.checked_sub(view) else {
            let who = format!("T{reader} (client {})", who(transaction.client));
            let what = format!("{who}: commit {view} was the newest when it began, and {last} when it ended");
            return Some(Violation { wrong: Wrong::OrderViolated, what });
        };
        if commits > VIEWS_MAX {
            return None;
        }
        let mut wrong = None;
        for view in view..=last {
            wrong = self.judge_view(reader, transaction, view);
            if wrong.is_none() {
                break;
            }
        }
        wrong
    }

    fn judge_view(&self, reader: TxnNo, transaction: &Transaction, view: u64) -> Option<Violation> {
        let mut own: Vec<&Operation> = Vec::new();
        for operation in &transaction.operations {
            let wrong = match operation {
                Operation::Get { cell, .. } if self.is_open(cell, view) && !writes(&own, cell) => None,
                Operation::Get { cell, found } => {
                    let expected = self.expected(&own, cell, view);
                    (found.as_ref() != expected)
                        .then(|| self.difference(&own, cell, expected, found.as_ref(), view))
                }
                Operation::Scan { keyspace, interval, reverse, found, complete } => {
                    self.judge_scan(&own, (*keyspace, interval, *reverse), (found, *complete), view)
                }
                write => {
                    own.push(write);
                    None
                }
            };
            if let Some((wrong, what)) = wrong {
                let wrong = self.name(wrong, transaction, &what.cell, view);
                let who = format!("T{reader} (client {}, view {view})", who(transaction.client));
                return Some(Violation { wrong, what: format!("{who}: {}", what.text) });
            }
        }
        None
    }

    /// What a key is to a reader with these writes of its own.
    fn expected<'b>(&'b self, own: &[&'b Operation], cell: &Cell, view: u64) -> Option<&'b Value> {
        for write in own.iter().rev() {
            match write {
                Operation::Put { cell: at, value } if at == cell => return Some(value),
                Operation::Delete { cell: at } if at == cell => return None,
                Operation::DeleteRange { keyspace, interval }
                    if *keyspace == cell.keyspace && interval.contains(&cell.key) =>
                {
                    return None;
                }
                _ => {}
            }
        }
        self.versions.at(cell, view).and_then(|(_, value)| value)
    }

    fn judge_scan(
        &self,
        own: &[&Operation],
        (keyspace, interval, reverse): (u32, &Interval, bool),
        (found, complete): (&[Entry], bool),
        view: u64,
    ) -> Option<(Wrong, Difference)> {
        let mut expected: BTreeMap<&Arc<[u8]>, &Value> =
            self.versions.range(keyspace, interval, view).into_iter().collect();
        for write in own {
            match write {
                Operation::Put { cell, value }
                    if cell.keyspace == keyspace && interval.contains(&cell.key) =>
                {
                    expected.insert(&cell.key, value);
                }
                Operation::Delete { cell } if cell.keyspace == keyspace => drop(expected.remove(&cell.key)),
                Operation::DeleteRange { keyspace: of, interval } if *of == keyspace => {
                    expected.retain(|key, _| !interval.contains(key));
                }
                _ => {}
            }
        }
        let is_judged = |key: &Arc<[u8]>| {
            let cell = Cell { keyspace, key: Arc::clone(key) };
            !self.is_open(&cell, view) || writes(own, &cell)
        };
        let found: Vec<&Entry> = found.iter().filter(|(key, _)| is_judged(key)).collect();
        let mut expected: Vec<(&Arc<[u8]>, &Value)> =
            expected.into_iter().filter(|(key, _)| is_judged(key)).collect();
        if reverse {
            expected.reverse();
        }
        if !complete {
            expected.truncate(found.len());
        }
        let mut differing = expected
            .iter()
            .map(Some)
            .chain(std::iter::repeat(None))
            .zip(found.iter().map(Some).chain(std::iter::repeat(None)));
        let longer = expected.len().max(found.len());
        let (one, other) =
            differing.by_ref().take(longer).find(|(expected, found)| match (expected, found) {
                (Some((a, x)), Some((b, y))) => *a != b || *x != y,
                _ => true,
            })?;
        let cell = |key: &Arc<[u8]>| Cell { keyspace, key: Arc::clone(key) };
        // Of two different keys the one that comes first in the walk is missing, or should not be there.
        let missing_first = match (one, other) {
            (Some((a, _)), Some((b, _))) if *a != b => Some((*a < b) != reverse),
            _ => None,
        };
        let (wrong, difference) = match (one, other, missing_first) {
            (Some((key, expected)), _, Some(true)) | (Some((key, expected)), None, None) => {
                self.difference(own, &cell(key), Some(expected), None, view)
            }
            (_, Some((key, found)), Some(false)) | (None, Some((key, found)), None) => {
                self.difference(own, &cell(key), None, Some(found), view)
            }
            (Some((key, expected)), Some((_, found)), None) => {
                self.difference(own, &cell(key), Some(expected), Some(found), view)
            }
            _ => return None,
        };
        let is_plain = wrong == Wrong::NonRepeatableRead
            && (one.is_none() || other.is_none() || missing_first.is_some());
        Some((if is_plain { Wrong::Phantom } else { wrong }, difference))
    }

    fn difference(
        &self,
        own: &[&Operation],
        cell: &Cell,
        expected: Option<&Value>,
        found: Option<&Value>,
        view: u64,
    ) -> (Wrong, Difference) {
        let wrong = self.kind(own, cell, expected, found, view);
        let text = format!(
            "key {} of keyspace {} is {}, but must be {}",
            cell.key.escape_ascii(),
            cell.keyspace,
            self.shown(found),
            self.shown(expected)
        );
        (wrong, Difference { cell: cell.clone(), text })
    }

    fn kind(
        &self,
        own: &[&Operation],
        cell: &Cell,
        expected: Option<&Value>,
        found: Option<&Value>,
        view: u64,
    ) -> Wrong {
        let is_own = |value: &Value| {
            own.iter().any(|write| matches!(write, Operation::Put { value: written, .. } if written == value))
        };
        if expected.is_some_and(is_own) {
            return Wrong::OwnWriteLost;
        }
        let Some(found) = found else { return Wrong::LostWrite };
        let writer = self.history.transactions.get(found.stamp.txn as usize);
        let written = writer.and_then(|writer| writer.operations.get(found.stamp.operation as usize));
        match (writer, written) {
            (Some(writer), Some(Operation::Put { cell: at, value })) if at == cell && value == found => {
                match &writer.ending {
                    Ending::Conflict | Ending::Refused(_) => return Wrong::DirtyRead,
                    Ending::Committed(_) | Ending::Unknown => {}
                }
                let later = &writer.operations[found.stamp.operation as usize + 1..];
                let again = |write: &Operation| matches!(write, Operation::Put { cell: at, .. } | Operation::Delete { cell: at } if at == cell);
                if later.iter().any(again) {
                    return Wrong::IntermediateRead;
                }
            }
            _ => return Wrong::Garbage,
        }
        let of_found = self.placed.get(&found.stamp.txn).copied();
        match (self.versions.at(cell, view), of_found) {
            (Some((deleted, None)), Some(seq)) if seq < deleted => Wrong::ResurrectedDelete,
            (Some((newer, Some(_))), Some(seq)) if seq < newer => Wrong::LostWrite,
            _ => Wrong::NonRepeatableRead,
        }
    }

    /// A read that misses a write whose transaction the reader has seen otherwise saw half of it.
    fn name(&self, wrong: Wrong, reader: &Transaction, cell: &Cell, view: u64) -> Wrong {
        if !matches!(wrong, Wrong::LostWrite | Wrong::NonRepeatableRead | Wrong::Phantom) {
            return wrong;
        }
        let Some((seq, _)) = self.versions.at(cell, view) else { return wrong };
        let saw = |value: &Value| self.placed.get(&value.stamp.txn) == Some(&seq);
        let is_half = reader.operations.iter().any(|operation| match operation {
            Operation::Get { found, .. } => found.as_ref().is_some_and(saw),
            Operation::Scan { found, .. } => found.iter().any(|(_, value)| saw(value)),
            _ => false,
        });
        if is_half { Wrong::HalfTransaction } else { wrong }
    }

    fn shown(&self, value: Option<&Value>) -> String {
        let Some(value) = value else { return "absent".to_owned() };
        let number = match self.placed.get(&value.stamp.txn) {
            Some(seq) => format!("commit {seq}"),
            None => "no commit".to_owned(),
        };
        format!("{:?} written by T{} ({number})", value.body, value.stamp.txn)
    }
}

/// True if one of these writes says what a key is.
fn writes(own: &[&Operation], cell: &Cell) -> bool {
    own.iter().any(|write| match write {
        Operation::Put { cell: at, .. } | Operation::Delete { cell: at } => at == cell,
        Operation::DeleteRange { keyspace, interval } => {
            *keyspace == cell.keyspace && interval.contains(&cell.key)
        }
        Operation::Get { .. } | Operation::Scan { .. } => false,
    })
}

/// Where a read differs, and in words how.
pub(super) struct Difference {
    cell: Cell,
    text: String,
}

fn who(client: u32) -> String {
    if client == crate::history::SURVEYOR { "surveyor".to_owned() } else { client.to_string() }
}
