//! Reads and walks: now, in snapshots, in the past and in transactions.

use std::collections::BTreeMap;
use std::ops::Bound;

use holdfast::{Cursor, Error, Keyspace, Scan, Seq, Snapshot, Value};

use super::transacting::OpenTransaction;
use super::{Defect, Report, Session, said, slot_of};
use crate::case::{Shape, View, Walk};
use crate::oracle::{Bytes, Effect, Interval, TransactionModel, is_empty};

pub(super) struct OpenCursor {
    pub(super) cursor: Cursor,
    pub(super) expected: std::vec::IntoIter<(Vec<u8>, Bytes)>,
    pub(super) interval: Interval,
    pub(super) reverse: bool,
    pub(super) left: Option<u64>,
    pub(super) ended: bool,
    /// The transaction that it reads for, and its entry among the ranges read once there is one.
    pub(super) reader: Option<(u64, Option<usize>)>,
    pub(super) keyspace: holdfast::KeyspaceId,
}

impl Session {
    /// The sequence that a view reads at, and the own writes laid over it.
    fn eyes(&self, view: View) -> (u64, Option<&TransactionModel>) {
        match view {
            View::InSnapshot(slot) if self.snapshots[slot_of(slot)].is_some() => {
                let snapshot = self.snapshots[slot_of(slot)].as_ref();
                (snapshot.map_or(0, |snapshot| snapshot.seq().get()), None)
            }
            View::InTransaction(slot) if self.transactions[slot_of(slot)].is_some() => {
                let model = self.transactions[slot_of(slot)].as_ref().map(|open| &open.model);
                (model.map_or(0, |model| model.read_seq), model)
            }
            _ => (self.run().oracle.last(), None),
        }
    }

    fn expected_get(&self, view: View, keyspace: &Keyspace, key: &[u8]) -> Option<Bytes> {
        let (seq, own) = self.eyes(view);
        let committed = self.run().oracle.get(keyspace.id(), key, seq);
        let own = own.into_iter().flat_map(|model| &model.own);
        own.filter(|effect| effect.keyspace() == keyspace.id()).fold(
            committed,
            |found, effect| match effect {
                Effect::Put(_, at, value) if at[..] == *key => Some(value.clone()),
                Effect::Delete(_, at) if at[..] == *key => None,
                Effect::DeleteRange(_, start, end) if start[..] <= *key && *key < end[..] => None,
                _ => found,
            },
        )
    }

    pub(super) async fn get(&mut self, view: View, keyspace: u8, key: u16) -> Result<(), Report> {
        let key = self.key(key);
        let Some(keyspace) = self.keyspace(keyspace).cloned() else { return Ok(()) };
        let expected = self.expected_get(view, &keyspace, &key);
        let found: Option<Value> = match self.reader(view) {
            Reader::Snapshot(snapshot) => snapshot.get(&keyspace, &key).await,
            Reader::Transaction(open) => open.txn.get(&keyspace, &key).await,
            Reader::Now => keyspace.get(&key).await,
        }
        .map_err(said)?;
        self.run().counts.reads += 1;
        if let View::InTransaction(slot) = view
            && let Some(open) = &mut self.transactions[slot_of(slot)]
        {
            let covers = |effect: &Effect| match effect {
                Effect::Put(_, at, _) | Effect::Delete(_, at) => *at == key,
                Effect::DeleteRange(_, start, end) => *start <= key && key < *end,
            };
            let own = open.model.own.iter().filter(|effect| effect.keyspace() == keyspace.id());
            if !own.into_iter().any(covers) {
                open.model.points.insert((keyspace.id(), key.clone()));
            }
        }
        match found.as_deref() == expected.as_deref() {
            true => Ok(()),
            false => Err(format!(
                "{} is {:?}, but must be {:?}",
                key.escape_ascii(),
                found.as_deref().map(short),
                expected.as_deref().map(short)
            )),
        }
    }

    fn reader(&self, view: View) -> Reader<'_> {
        let reader = match view {
            View::Now => None,
            View::InSnapshot(_) if self.run().defect == Defect::ReadsTheNewest => None,
            View::InSnapshot(slot) => self.snapshots[slot_of(slot)].as_ref().map(Reader::Snapshot),
            View::InTransaction(slot) => self.transactions[slot_of(slot)].as_ref().map(Reader::Transaction),
        };
        reader.unwrap_or(Reader::Now)
    }

    fn interval(&self, walk: &Walk) -> Interval {
        let bound = |key: u16, included: bool| match included {
            true => Bound::Included(self.key(key)),
            false => Bound::Excluded(self.key(key)),
        };
        match walk.shape {
            Shape::Everything => (Bound::Unbounded, Bound::Unbounded),
            Shape::Prefix(key, len) => {
                let mut prefix = self.key(key);
                prefix.truncate(usize::from(len));
                let after = match prefix.iter().rposition(|byte| *byte < 0xff) {
                    Some(at) => Bound::Excluded([&prefix[..at], &[prefix[at] + 1]].concat()),
                    None => Bound::Unbounded,
                };
                (Bound::Included(prefix), after)
            }
            Shape::Between(a, a_included, b, b_included) => (bound(a, a_included), bound(b, b_included)),
            Shape::After(key) if walk.reverse => (Bound::Unbounded, bound(key, false)),
            Shape::After(key) => (bound(key, false), Bound::Unbounded),
        }
    }

    fn scan_of(&self, walk: &Walk) -> Scan {
        let mut scan = match walk.shape {
            Shape::Prefix(key, len) => {
                let mut prefix = self.key(key);
                prefix.truncate(usize::from(len));
                Scan::prefix(prefix)
            }
            Shape::Between(..) => Scan::range::<Vec<u8>>(self.interval(walk)),
            Shape::Everything | Shape::After(_) => Scan::all(),
        };
        if walk.reverse {
            scan = scan.reverse();
        }
        if let Shape::After(key) = walk.shape {
            scan = scan.after(self.key(key));
        }
        match walk.limit {
            Some(limit) => scan.limit(u64::from(limit)),
            None => scan,
        }
    }

    fn expected_walk(&self, view: View, keyspace: &Keyspace, walk: &Walk) -> Vec<(Vec<u8>, Bytes)> {
        let (seq, own) = self.eyes(view);
        let interval = self.interval(walk);
        let mut found = self.run().oracle.range(keyspace.id(), &interval, seq);
        for effect in own.into_iter().flat_map(|model| &model.own) {
            if effect.keyspace() == keyspace.id() {
                overlay(&mut found, &interval, effect);
            }
        }
        let limit = walk.limit.map_or(usize::MAX, usize::from);
        match walk.reverse {
            true => found.into_iter().rev().take(limit).collect(),
            false => found.into_iter().take(limit).collect(),
        }
    }

    async fn cursor(&mut self, view: View, keyspace: u8, walk: Walk) -> Result<Option<OpenCursor>, Report> {
        let Some(keyspace) = self.keyspace(keyspace).cloned() else { return Ok(None) };
        let expected = self.expected_walk(view, &keyspace, &walk);
        let scan = self.scan_of(&walk);
        let cursor = match self.reader(view) {
            Reader::Snapshot(snapshot) => snapshot.scan(&keyspace, scan).await,
            Reader::Transaction(open) => open.txn.scan(&keyspace, scan).await,
            Reader::Now => keyspace.scan(scan).await,
        }
        .map_err(said)?;
        let reader = self.eyes(view).1.map(|model| (model.serial, None));
        let interval = self.interval(&walk);
        let left = if is_empty(&interval) { Some(0) } else { walk.limit.map(u64::from) };
        Ok(Some(OpenCursor {
            cursor,
            expected: expected.into_iter(),
            interval,
            reverse: walk.reverse,
            left,
            ended: false,
            reader,
            keyspace: keyspace.id(),
        }))
    }

    pub(super) async fn scan(&mut self, view: View, keyspace: u8, walk: Walk) -> Result<(), Report> {
        if let Some(mut cursor) = self.cursor(view, keyspace, walk).await? {
            self.advance(&mut cursor, usize::MAX).await?;
        }
        Ok(())
    }

    pub(super) async fn open_cursor(
        &mut self,
        slot: u8,
        view: View,
        keyspace: u8,
        walk: Walk,
    ) -> Result<(), Report> {
        if let Some(cursor) = self.cursor(view, keyspace, walk).await? {
            self.cursors[slot_of(slot)] = Some(cursor);
        }
        Ok(())
    }

    pub(super) async fn step_cursor(&mut self, slot: u8, count: u8) -> Result<(), Report> {
        let Some(mut cursor) = self.cursors[slot_of(slot)].take() else { return Ok(()) };
        self.advance(&mut cursor, usize::from(count)).await?;
        self.cursors[slot_of(slot)] = Some(cursor);
        Ok(())
    }

    /// Takes up to `count` entries and compares them; what is read counts for the cursor's transaction.
    async fn advance(&mut self, open: &mut OpenCursor, count: usize) -> Result<(), Report> {
        for _ in 0..count {
            let found = open.cursor.next().await.map_err(said)?;
            let found = found.map(|entry| (entry.key.to_vec(), entry.value.to_vec()));
            self.run().counts.reads += 1;
            let expected = open.expected.next();
            let equal = match (&found, &expected) {
                (Some((a, x)), Some((b, y))) => a == b && x[..] == y[..],
                (None, None) => true,
                _ => false,
            };
            if !equal {
                let shown = |key: &[u8], value: &[u8]| format!("{} = {}", key.escape_ascii(), short(value));
                return Err(format!(
                    "the walk gives {:?}, but must give {:?}",
                    found.as_ref().map(|(key, value)| shown(key, value)),
                    expected.as_ref().map(|(key, value)| shown(key, value))
                ));
            }
            if open.ended || open.left == Some(0) {
                return Ok(());
            }
            self.note(open, found.as_ref().map(|(key, _)| key));
            open.left = open.left.map(|left| left - u64::from(found.is_some()));
            if found.is_none() {
                open.ended = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The transaction of a cursor has read up to this key, or to the end.
    fn note(&mut self, open: &mut OpenCursor, key: Option<&Vec<u8>>) {
        let Some((serial, slot)) = &mut open.reader else { return };
        let mut transactions = self.transactions.iter_mut().flatten();
        let Some(reader) = transactions.find(|transaction| transaction.model.serial == *serial) else {
            return;
        };
        let ranges = &mut reader.model.ranges;
        let at = *slot.get_or_insert_with(|| {
            ranges.push((open.keyspace, open.interval.clone()));
            ranges.len() - 1
        });
        let mut read = open.interval.clone();
        if let Some(key) = key {
            let reached = Bound::Included(key.clone());
            if open.reverse { read.0 = reached } else { read.1 = reached }
        }
        ranges[at].1 = read;
    }

    pub(super) fn take_past(&mut self, slot: u8, back: u16) -> Result<(), Report> {
        let last = self.run().oracle.last();
        let asked = last.saturating_sub(u64::from(back));
        let later = self.run().oracle.commits_after(asked);
        let retained = self.case.settings.retain;
        match self.db.at(Seq::new(asked)) {
            Ok(snapshot) if snapshot.seq().get() == asked => self.snapshots[slot_of(slot)] = Some(snapshot),
            Ok(snapshot) => return Err(format!("asked for {asked}, got {}", snapshot.seq())),
            Err(Error::TooOld { asked: echoed, oldest }) => {
                if echoed.get() != asked || oldest.get() <= asked || later <= retained {
                    return Err(format!(
                        "{asked} of {last}, {later} commits ago, is too old, though {retained} are retained; the \
                         oldest is {oldest}"
                    ));
                }
                let readable = self.db.at(oldest).map_err(said)?;
                self.snapshots[slot_of(slot)] = Some(readable);
            }
            Err(error) => return Err(said(error)),
        }
        if !matches!(self.db.at(Seq::new(last + 1)), Err(Error::Invalid(_))) {
            return Err("a sequence of the future can be read".into());
        }
        Ok(())
    }
}

enum Reader<'a> {
    Now,
    Snapshot(&'a Snapshot),
    Transaction(&'a OpenTransaction),
}

fn overlay(found: &mut BTreeMap<Vec<u8>, Bytes>, interval: &Interval, effect: &Effect) {
    use std::ops::RangeBounds;
    match effect {
        Effect::Put(_, key, value) if interval.contains(key) => {
            drop(found.insert(key.clone(), value.clone()))
        }
        Effect::Put(..) => {}
        Effect::Delete(_, key) => drop(found.remove(key)),
        Effect::DeleteRange(_, start, end) => found.retain(|key, _| key < start || key >= end),
    }
}

fn short(value: &[u8]) -> String {
    format!("{} bytes {:?}", value.len(), &value[..value.len().min(8)])
}
