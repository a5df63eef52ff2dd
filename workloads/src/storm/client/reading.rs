//! Reads, and writes that depend on them.

use std::ops::Bound;
use std::sync::Arc;

use holdfast::{Error, Keyspace, Scan, Txn};

use super::{Client, Doing, Reader, Writer};
use crate::history::{Body, Cell, Durable, Ending, Entry, Interval, Operation, Promise, Value};
use crate::oracle::Wrong;
use crate::storm::script::{Action, Shape, View, Walk};
use crate::storm::value::{decode, longer};
use crate::storm::{BALANCE, Patience, Stopped, Storm, within};

/// Where the queue's elements stand: a letter and their number.
const QUEUE: u8 = b'q';

impl Client {
    pub(super) async fn read(
        &self,
        view: View,
        actions: &[Action],
        patience: Option<Patience>,
    ) -> Result<(), Stopped> {
        let told = self.opening.storm.state().newest_told;
        let (doing, snapshot, least) = match view {
            View::Now => {
                for action in actions {
                    self.read_now(action, patience).await?;
                }
                return Ok(());
            }
            View::Snapshot => {
                let doing = self.begin(Promise::View, Durable::Buffered, patience);
                (doing, self.opening.db.snapshot(), told)
            }
            View::Past(back) => match self.opening.past(back)? {
                Some(snapshot) => (self.begin(Promise::Past, Durable::Buffered, patience), snapshot, 0),
                None => return Ok(()),
            },
            View::PastCommits(back) => match self.opening.past_commit(back)? {
                Some(snapshot) => (self.begin(Promise::Past, Durable::Buffered, patience), snapshot, 0),
                None => return Ok(()),
            },
        };
        self.note_view(&doing, snapshot.seq(), least);
        for action in actions {
            self.look_up(&doing, &Reader::Snapshot(&snapshot), action).await?;
        }
        let seq = snapshot.seq().get();
        self.opening.storm.state().ends(doing.txn, Ending::Committed(seq));
        Ok(())
    }

    /// A read that is not told its view.
    async fn read_now(&self, action: &Action, patience: Option<Patience>) -> Result<(), Stopped> {
        let doing = self.begin(Promise::View, Durable::Buffered, patience);
        let told = self.opening.storm.state().newest_told;
        self.note_view(&doing, self.opening.db.last_seq(), told);
        self.look_up(&doing, &Reader::Now, action).await?;
        let last = self.opening.db.last_seq().get();
        let mut state = self.opening.storm.state();
        state.views_at_most(doing.txn, last);
        state.ends(doing.txn, Ending::Committed(last));
        Ok(())
    }

    async fn look_up(&self, doing: &Doing, reader: &Reader<'_>, action: &Action) -> Result<(), Stopped> {
        match *action {
            Action::Get(slot, key) => self.get(doing, reader, (slot, &self.key(key))).await.map(drop),
            Action::Scan(slot, walk) => self.scan(doing, reader, slot, &walk).await.map(drop),
            Action::Pause(us) => {
                self.pause(us).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads a key. `None` if there is no answer.
    pub(super) async fn get(
        &self,
        doing: &Doing,
        reader: &Reader<'_>,
        (slot, key): (u8, &[u8]),
    ) -> Result<Option<Option<Value>>, Stopped> {
        let Some(keyspace) = self.keyspace(slot) else { return Ok(None) };
        let answer = match reader {
            Reader::Now => within(doing.patience, keyspace.get(key)).await,
            Reader::Snapshot(snapshot) => within(doing.patience, snapshot.get(&keyspace, key)).await,
            Reader::Transaction(txn) => within(doing.patience, txn.get(&keyspace, key)).await,
        };
        let cell = Cell { keyspace: keyspace.id().get(), key: key.into() };
        let Some(found) = self.answer_of(doing, answer, "reading a key")? else { return Ok(None) };
        let storm = &self.opening.storm;
        let found = found.and_then(|bytes| storm.decoded_value(key, &bytes));
        let mut state = storm.state();
        state.counts.read += 1;
        state.counts.read_since_opening += 1;
        state.did(doing.txn, Operation::Get { cell, found: found.clone() });
        Ok(Some(found))
    }

    /// As `answered`; without an answer the transaction is blurred.
    fn answer_of<T>(
        &self,
        doing: &Doing,
        answer: Option<Result<T, Error>>,
        what: &str,
    ) -> Result<Option<T>, Stopped> {
        let answer = self.answered(answer, what)?;
        if answer.is_none() {
            self.opening.storm.state().blurs(doing.txn);
        }
        Ok(answer)
    }

    async fn scan(
        &self,
        doing: &Doing,
        reader: &Reader<'_>,
        slot: u8,
        walk: &Walk,
    ) -> Result<Option<Vec<Entry>>, Stopped> {
        let Some(keyspace) = self.keyspace(slot) else { return Ok(None) };
        let (scan, interval) = self.scan_of(walk);
        self.walk(doing, reader, &keyspace, (scan, interval, walk)).await
    }

    pub(super) async fn walk(
        &self,
        doing: &Doing,
        reader: &Reader<'_>,
        keyspace: &Keyspace,
        (scan, interval, walk): (Scan, Interval, &Walk),
    ) -> Result<Option<Vec<Entry>>, Stopped> {
        let opened = match reader {
            Reader::Now => within(doing.patience, keyspace.scan(scan)).await,
            Reader::Snapshot(snapshot) => within(doing.patience, snapshot.scan(keyspace, scan)).await,
            Reader::Transaction(txn) => within(doing.patience, txn.scan(keyspace, scan)).await,
        };
        let Some(mut cursor) = self.answer_of(doing, opened, "opening a walk")? else { return Ok(None) };
        // Held to the end: what they say must not change by what happens meanwhile.
        let mut entries = Vec::new();
        let steps = walk.steps.map_or(usize::MAX, usize::from);
        let (mut complete, mut patience) = (false, doing.patience);
        let mut hold = walk.hold;
        while entries.len() < steps {
            if let Some(rest) = hold.take_if(|rest| entries.len() >= usize::from(rest.entries)) {
                self.pause(rest.us).await;
            }
            let next = within(patience, async {
                let entry = cursor.next().await?;
                Ok(entry.map(|entry| (entry.key.to_vec(), entry.pinned_value())))
            });
            let next = next.await;
            if next.is_none() && walk.steps.is_none() {
                // The cursor is where it was: the next step passes over nothing.
                self.opening.storm.state().counts.dropped += 1;
                patience = None;
                continue;
            }
            match self.answer_of(doing, next, "a step of a walk")? {
                None => break,
                Some(Some(entry)) => entries.push(entry),
                Some(None) => {
                    complete = walk.limit.is_none_or(|limit| entries.len() < usize::from(limit));
                    break;
                }
            }
        }
        if let Some(rest) = hold {
            self.pause(rest.us).await;
        }
        let storm = &self.opening.storm;
        let found = storm.decoded(entries);
        let mut state = storm.state();
        state.counts.read += found.len() as u64;
        state.counts.read_since_opening += found.len() as u64;
        // Of a walk that found nothing and was given up nothing is known.
        if complete || !found.is_empty() {
            let (keyspace, reverse) = (keyspace.id().get(), walk.reverse);
            let operation = Operation::Scan { keyspace, interval, reverse, found: found.clone(), complete };
            state.did(doing.txn, operation);
        }
        Ok(Some(found))
    }

    fn scan_of(&self, walk: &Walk) -> (Scan, Interval) {
        let (mut scan, interval) = match walk.shape {
            Shape::Everything => (Scan::all(), Interval::ALL),
            Shape::Prefix { key, bytes } => {
                let mut prefix = self.key(key);
                prefix.truncate(usize::from(bytes));
                (Scan::prefix(&prefix), prefix_of(prefix))
            }
            Shape::Between { from, with_from, to, with_to } => {
                let bound = |key: u16, included: bool| match included {
                    true => Bound::Included(self.key(key)),
                    false => Bound::Excluded(self.key(key)),
                };
                let (start, end) = (bound(from, with_from), bound(to, with_to));
                let shared = |bound: &Bound<Vec<u8>>| bound.as_ref().map(|key| Arc::<[u8]>::from(&key[..]));
                let interval = Interval { start: shared(&start), end: shared(&end) };
                (Scan::range::<Vec<u8>>((start, end)), interval)
            }
            Shape::After(key) => {
                let behind = Bound::Excluded(Arc::<[u8]>::from(self.key(key)));
                // Which end `after` moves depends on the direction, so that comes first.
                let (scan, interval) = match walk.reverse {
                    true => (Scan::all().reverse(), Interval { start: Bound::Unbounded, end: behind }),
                    false => (Scan::all(), Interval { start: behind, end: Bound::Unbounded }),
                };
                (scan.after(self.key(key)), interval)
            }
        };
        if walk.reverse {
            scan = scan.reverse();
        }
        if let Some(limit) = walk.limit {
            scan = scan.limit(u64::from(limit));
        }
        (scan, interval)
    }

    /// An action of a transaction that reads, and may write what it read. False if a part of its writes was refused.
    pub(super) async fn act_on_reads(
        &self,
        doing: &Doing,
        txn: &mut Txn,
        action: &Action,
    ) -> Result<bool, Stopped> {
        match *action {
            Action::Move(slot, from, to, amount) => {
                let (from, to) = (self.key(from), self.key(to));
                if from == to {
                    return Ok(true);
                }
                let Some(has) = self.get(doing, &Reader::Transaction(txn), (slot, &from)).await? else {
                    return Ok(true);
                };
                let Some(gets) = self.get(doing, &Reader::Transaction(txn), (slot, &to)).await? else {
                    return Ok(true);
                };
                let (has, gets) = (number_in(has, BALANCE), number_in(gets, BALANCE));
                let amount = i64::from(amount);
                if has < amount {
                    return Ok(true);
                }
                let mut writer = Writer::Transaction(txn);
                Ok(self.put(doing, &mut writer, (slot, from), Body::Number(has - amount))?
                    && self.put(doing, &mut writer, (slot, to), Body::Number(gets + amount))?)
            }
            Action::Append(slot, key) => {
                let key = self.key(key);
                let Some(found) = self.get(doing, &Reader::Transaction(txn), (slot, &key)).await? else {
                    return Ok(true);
                };
                let list = match found.map(|value| value.body) {
                    Some(Body::List(list)) => list,
                    _ => Arc::from([]),
                };
                let list = Body::List(longer(&list, doing.txn));
                self.put(doing, &mut Writer::Transaction(txn), (slot, key), list)
            }
            Action::Increment(slot, key) => {
                let key = self.key(key);
                let Some(found) = self.get(doing, &Reader::Transaction(txn), (slot, &key)).await? else {
                    return Ok(true);
                };
                let number = Body::Number(number_in(found, 0) + 1);
                self.put(doing, &mut Writer::Transaction(txn), (slot, key), number)
            }
            Action::Push(slot) => self.push(doing, txn, slot).await,
            Action::Pop(slot) => self.pop(doing, txn, slot).await,
            Action::Tpcc(profile) => self.enter(doing, txn, &profile).await,
            _ => self.look_up(doing, &Reader::Transaction(txn), action).await.map(|()| true),
        }
    }

    async fn push(&self, doing: &Doing, txn: &mut Txn, slot: u8) -> Result<bool, Stopped> {
        let Some(last) = self.queue_end(doing, txn, slot, true).await? else { return Ok(true) };
        let number = last.map_or(0, |key| element_of(&key) + 1);
        let key = [&[QUEUE][..], &number.to_be_bytes()].concat();
        self.put(doing, &mut Writer::Transaction(txn), (slot, key), Body::Number(i64::from(doing.txn)))
    }

    async fn pop(&self, doing: &Doing, txn: &mut Txn, slot: u8) -> Result<bool, Stopped> {
        let Some(keyspace) = self.keyspace(slot) else { return Ok(true) };
        let Some(Some(key)) = self.queue_end(doing, txn, slot, false).await? else { return Ok(true) };
        let deleted = txn.delete(&keyspace, &key);
        let cell = Cell { keyspace: keyspace.id().get(), key };
        self.note(doing, deleted, Operation::Delete { cell })
    }

    /// The last element of the queue, or the first. `None` if there is no answer.
    async fn queue_end(
        &self,
        doing: &Doing,
        txn: &Txn,
        slot: u8,
        last: bool,
    ) -> Result<Option<Option<Arc<[u8]>>>, Stopped> {
        let Some(keyspace) = self.keyspace(slot) else { return Ok(None) };
        let walk = Walk { reverse: last, limit: Some(1), ..Walk::WHOLE };
        let interval = Interval {
            start: Bound::Included(Arc::from([QUEUE])),
            end: Bound::Excluded(Arc::from([QUEUE + 1])),
        };
        let mut scan = Scan::prefix([QUEUE]).limit(1);
        if last {
            scan = scan.reverse();
        }
        let found = self.walk(doing, &Reader::Transaction(txn), &keyspace, (scan, interval, &walk)).await?;
        let blurred = self.opening.storm.state().of(doing.txn).blurred;
        Ok(found.filter(|_| !blurred).map(|found| found.into_iter().next().map(|(key, _)| key)))
    }
}

/// The keys that begin with these bytes.
pub(super) fn prefix_of(prefix: Vec<u8>) -> Interval {
    let end = match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(at) => Bound::Excluded([&prefix[..at], &[prefix[at] + 1]].concat().into()),
        None => Bound::Unbounded,
    };
    Interval { start: Bound::Included(prefix.into()), end }
}

/// The number of a queue's element.
fn element_of(key: &[u8]) -> u32 {
    key.get(1..5).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn number_in(value: Option<Value>, otherwise: i64) -> i64 {
    match value.map(|value| value.body) {
        Some(Body::Number(number)) => number,
        _ => otherwise,
    }
}

impl Storm {
    /// What some entries say; one that nobody can have written is wrong.
    pub(in crate::storm) fn decoded(&self, entries: Vec<(Vec<u8>, impl AsRef<[u8]>)>) -> Vec<Entry> {
        let decoded = entries.into_iter().filter_map(|(key, bytes)| {
            let value = self.decoded_value(&key, bytes.as_ref())?;
            Some((key.into(), value))
        });
        decoded.collect()
    }

    fn decoded_value(&self, key: &[u8], bytes: &[u8]) -> Option<Value> {
        let value = decode(bytes);
        if value.is_none() {
            let shown = &bytes[..bytes.len().min(24)];
            let what = format!(
                "key {} has {} bytes that nobody wrote: {shown:02x?}",
                key.escape_ascii(),
                bytes.len()
            );
            self.wrong(Wrong::Garbage, what);
        }
        value
    }
}
