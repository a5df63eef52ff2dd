//! A tiny database of versions that keeps its promises, unless it is told which one to break.
//!
//! A few clients take turns at single steps, so that their transactions overlap; keys are few, so that they meet.
//! Letters are plain keys, and "z" holds a list that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::super::Resolved;
use crate::Random;
use crate::history::{
    Body, Cell, Durable, Ending, History, Interval, Operation, Promise, Stamp, TxnNo, Value,
};

const KEYS: u64 = 6;
const LIST: u8 = b'z';

/// What the database does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Defect {
    /// Nothing.
    None,
    /// A refused transaction has its effect nevertheless.
    RefusedHasEffect,
    /// Of two writes to a key in one transaction the first stays.
    FirstWriteStays,
    /// The first key of a commit becomes visible only with the next commit.
    TornCommit,
    /// Reads show the newest version instead of the view.
    NoView,
    /// The first committer does not win.
    NoWriteCheck,
    /// What a serializable transaction read by key is not checked.
    NoKeyCheck,
    /// What a serializable transaction walked over is not checked.
    NoRangeCheck,
    /// Range deletions are checked against nothing.
    NoDeletedRangeCheck,
    /// Transactions begin at a view that is not the newest.
    StaleView,
    /// Commits are told each other's numbers.
    SwappedNumbers,
    /// A crash takes commits, and a view of the next opening still shows some of them.
    GhostAfterCrash,
}

#[derive(Clone, Default)]
struct Writes {
    keys: BTreeMap<u8, Option<Value>>,
    ranges: Vec<(u8, u8)>,
}

impl Writes {
    fn touches(&self, key: u8) -> bool {
        self.keys.contains_key(&key) || self.deletes(key)
    }

    /// The keys that it wrote as such; what is only within a range that it deleted is not among them.
    fn single(&self) -> impl Iterator<Item = u8> {
        let keys = self.keys.iter();
        keys.filter(|(key, value)| value.is_some() || !self.deletes(**key)).map(|(key, _)| *key)
    }

    fn deletes(&self, key: u8) -> bool {
        self.ranges.iter().any(|range| range.0 <= key && key <= range.1)
    }
}

struct Active {
    txn: TxnNo,
    promise: Promise,
    view: u64,
    writes: Writes,
    read_keys: BTreeSet<u8>,
    read_ranges: Vec<(u8, u8)>,
}

struct Commit {
    seq: u64,
    visible: u64,
    txn: TxnNo,
    writes: Writes,
}

/// Runs transactions and notes what they see.
pub(super) struct Executor {
    pub history: History,
    pub resolved: Resolved,
    random: Random,
    defect: Defect,
    opening: u32,
    commits: Vec<Commit>,
    ghosts: Vec<Commit>,
    seq: u64,
}

impl Executor {
    /// What `steps` steps of a few clients give.
    pub(super) fn run(seed: u64, steps: u32, defect: Defect) -> Self {
        let mut executor = Self {
            history: History::default(),
            resolved: Resolved::default(),
            random: Random::new(seed),
            defect,
            opening: 0,
            commits: Vec::new(),
            ghosts: Vec::new(),
            seq: 0,
        };
        let mut clients: Vec<Option<Active>> = (0..4).map(|_| None).collect();
        for _ in 0..steps {
            let client = executor.random.below(4) as usize;
            clients[client] = match clients[client].take() {
                None => Some(executor.begin(client as u32)),
                Some(active) if executor.random.one_in(4) => executor.finish(active),
                Some(mut active) => {
                    executor.step(&mut active);
                    Some(active)
                }
            };
            if executor.random.one_in(150) {
                executor.crash();
                clients.fill_with(|| None);
            }
        }
        executor
    }

    fn is(&mut self, defect: Defect, one_in: u64) -> bool {
        self.defect == defect && self.random.one_in(one_in)
    }

    fn begin(&mut self, client: u32) -> Active {
        let promises = [
            Promise::Serializable,
            Promise::Serializable,
            Promise::Serializable,
            Promise::Snapshot,
            Promise::View,
            Promise::Batch,
        ];
        let promise = promises[self.random.below(6) as usize];
        let txn = self.history.begin(client, self.opening, promise, Durable::Buffered);
        let behind = if self.is(Defect::StaleView, 2) { 3 } else { 0 };
        let view = self.commits.len().checked_sub(1 + behind).map_or(0, |at| self.commits[at].seq);
        self.history.of(txn).view = Some(view);
        let writes = Writes::default();
        Active { txn, promise, view, writes, read_keys: BTreeSet::new(), read_ranges: Vec::new() }
    }

    fn key(&mut self) -> u8 {
        b'a' + self.random.below(KEYS) as u8
    }

    fn step(&mut self, active: &mut Active) {
        let kinds = match active.promise {
            Promise::View | Promise::Past => 0..5,
            Promise::Batch => 5..9,
            Promise::Snapshot | Promise::Serializable => 0..10,
        };
        let kind = kinds.start + self.random.below(kinds.end - kinds.start);
        let key = self.key();
        let other = self.key();
        let (low, high) = (key.min(other), key.max(other));
        match kind {
            0..=2 => {
                active.read_keys.insert(key);
                let found = self.see(active, key);
                self.history.did(active.txn, Operation::Get { cell: cell(key), found });
            }
            3..=4 => self.scan(active, low, high),
            5..=6 => {
                let operation = self.history.of(active.txn).operations.len() as u32;
                let stamp = Stamp { txn: active.txn, operation };
                let value = Value { stamp, body: Body::Filler(4) };
                self.history.did(active.txn, Operation::Put { cell: cell(key), value: value.clone() });
                if self.defect == Defect::FirstWriteStays && active.writes.keys.contains_key(&key) {
                    return;
                }
                active.writes.keys.insert(key, Some(value));
            }
            7 => {
                self.history.did(active.txn, Operation::Delete { cell: cell(key) });
                active.writes.keys.insert(key, None);
            }
            8 => {
                let interval = interval(low, high);
                self.history.did(active.txn, Operation::DeleteRange { keyspace: 1, interval });
                (low..=high).for_each(|key| {
                    active.writes.keys.insert(key, None);
                });
                active.writes.ranges.push((low, high));
            }
            _ => self.append(active),
        }
    }

    fn scan(&mut self, active: &mut Active, low: u8, high: u8) {
        let reverse = self.random.one_in(2);
        let mut keys: Vec<u8> = (low..=high).collect();
        if reverse {
            keys.reverse();
        }
        let entries = keys.iter().filter_map(|key| Some((cell(*key).key, self.see(active, *key)?)));
        let mut found: Vec<_> = entries.collect();
        let complete = found.len() < 2 || !self.random.one_in(3);
        if !complete {
            found.pop();
        }
        let (mut start, mut end) = (low, high);
        if !complete && let Some((key, _)) = found.last() {
            let last = if reverse { &mut start } else { &mut end };
            *last = key[0];
        }
        active.read_ranges.push((start, end));
        let interval = interval(low, high);
        self.history.did(active.txn, Operation::Scan { keyspace: 1, interval, reverse, found, complete });
    }

    fn append(&mut self, active: &mut Active) {
        active.read_keys.insert(LIST);
        let found = self.see(active, LIST);
        self.history.did(active.txn, Operation::Get { cell: cell(LIST), found: found.clone() });
        let mut list = match found.map(|value| value.body) {
            Some(Body::List(list)) => list.to_vec(),
            _ => Vec::new(),
        };
        let operation = self.history.of(active.txn).operations.len() as u32;
        let stamp = Stamp { txn: active.txn, operation };
        list.push(active.txn * 100 + operation);
        let value = Value { stamp, body: Body::List(Arc::from(list)) };
        self.history.did(active.txn, Operation::Put { cell: cell(LIST), value: value.clone() });
        active.writes.keys.insert(LIST, Some(value));
    }

    fn see(&self, active: &Active, key: u8) -> Option<Value> {
        if let Some(own) = active.writes.keys.get(&key) {
            return own.clone();
        }
        if active.view == 0 && self.defect != Defect::NoView {
            return None;
        }
        let ghosts = if active.txn.is_multiple_of(3) { &self.ghosts[..] } else { &[] };
        let visible = |commit: &&Commit| self.defect == Defect::NoView || commit.visible <= active.view;
        let seen = self.commits.iter().chain(ghosts).rev().filter(visible);
        seen.filter_map(|commit| commit.writes.keys.get(&key)).next()?.clone()
    }

    fn conflicts(&self, active: &Active) -> bool {
        let writes = &active.writes;
        let deletes = |key: u8| self.defect != Defect::NoDeletedRangeCheck && writes.deletes(key);
        self.commits.iter().filter(|commit| commit.seq > active.view).any(|commit| {
            let theirs = &commit.writes;
            let on_writes = self.defect != Defect::NoWriteCheck
                && (theirs.single().any(deletes) || writes.single().any(|key| theirs.touches(key)));
            let on_keys =
                self.defect != Defect::NoKeyCheck && active.read_keys.iter().any(|key| theirs.touches(*key));
            let on_ranges = self.defect != Defect::NoRangeCheck
                && active.read_ranges.iter().any(|range| {
                    let is_deletion = |key: u8| theirs.deletes(key);
                    let is_unchecked =
                        |key: u8| self.defect == Defect::NoDeletedRangeCheck && is_deletion(key);
                    (range.0..=range.1).any(|key| theirs.touches(key) && !is_unchecked(key))
                });
            match active.promise {
                Promise::Serializable => on_writes || on_keys || on_ranges,
                Promise::Snapshot => on_writes,
                Promise::View | Promise::Past | Promise::Batch => false,
            }
        })
    }

    fn finish(&mut self, active: Active) -> Option<Active> {
        let txn = active.txn;
        if self.random.one_in(12) {
            if self.is(Defect::RefusedHasEffect, 2) {
                self.apply(active);
            }
            self.history.ends(txn, Ending::Refused("rolled back".to_owned()));
            return None;
        }
        self.history.commits(txn);
        let is_unknown = self.random.one_in(12);
        let is_writer = !active.writes.keys.is_empty();
        if is_writer && self.conflicts(&active) {
            if self.is(Defect::RefusedHasEffect, 2) {
                self.apply(active);
            }
            let ending = if is_unknown { Ending::Unknown } else { Ending::Conflict };
            self.history.ends(txn, ending);
            return None;
        }
        let view = active.view;
        let number = if is_writer { self.apply(active) } else { view };
        if !is_unknown {
            self.history.ends(txn, Ending::Committed(number));
        } else if is_writer && self.random.one_in(2) {
            self.resolved.takes_effect(txn, number);
        }
        None
    }

    fn apply(&mut self, active: Active) -> u64 {
        self.seq += 2;
        let swapped = if self.defect == Defect::SwappedNumbers { 4 * (self.seq / 2 % 2) } else { 0 };
        let visible = self.seq;
        let mut writes = active.writes;
        if self.is(Defect::TornCommit, 3)
            && writes.keys.len() > 1
            && let Some((key, value)) = writes.keys.pop_first()
        {
            let late = Writes { keys: BTreeMap::from([(key, value)]), ranges: Vec::new() };
            self.commits.push(Commit { seq: self.seq, visible: visible + 1, txn: active.txn, writes: late });
        }
        self.commits.push(Commit { seq: self.seq, visible, txn: active.txn, writes });
        self.seq + swapped
    }

    /// Takes the newest commits, some or none.
    fn crash(&mut self) {
        let kept = self.commits.len() - self.random.below(self.commits.len().min(6) as u64 + 1) as usize;
        let lost = self.commits.split_off(kept);
        for commit in &lost {
            if self.commits.iter().all(|kept| kept.txn != commit.txn) {
                self.resolved.is_lost_after(commit.txn, self.opening);
            }
        }
        self.ghosts = if self.defect == Defect::GhostAfterCrash { lost } else { Vec::new() };
        for ghost in &mut self.ghosts {
            ghost.visible = 0;
        }
        self.opening += 1;
        self.history.tick();
    }
}

fn cell(key: u8) -> Cell {
    Cell { keyspace: 1, key: Arc::from([key]) }
}

fn interval(low: u8, high: u8) -> Interval {
    Interval { start: Bound::Included(Arc::from([low])), end: Bound::Included(Arc::from([high])) }
}
