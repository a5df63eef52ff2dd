//! Carries out the operations of a case and compares every answer with the oracle.
//!
//! The steps run inside the process that they may end, so what outlives it stands in a shared [`Run`]: the oracle, the
//! place in the list, what is counted. One call of [`live`] is one opening.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use holdfast::env::Env;
use holdfast::{
    Conflict, Cursor, Db, Durability, Error, Isolation, Keyspace, Metric, MetricValue, Scan, Seq, Snapshot,
    TransactionOptions, Txn, Value, WriteBatch,
};

use crate::case::{Case, List, Operation, Settings, Shape, View, Walk, Write};
use crate::oracle::{Bytes, Contents, Effect, End, Interval, Oracle, TransactionModel, is_empty};
use crate::place::Place;

/// A violation, in words.
pub type Report = String;

/// A defect planted between the harness and the database, to prove that the harness notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    None,
    /// Every 20th commit never reaches the database, though it is acknowledged.
    LosesWrite,
    /// Every 10th commit arrives without its last write.
    TearsBatch,
    /// Transactions are committed as plain batches, checked against nobody.
    SkipsCheck,
    /// `Sync` commits are only `Buffered`.
    SkipsSync,
    /// Range deletes delete their first key only.
    ForgetsRangeDelete,
    /// Snapshots show the newest commit.
    ReadsTheNewest,
}

/// What is counted over a whole case.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub flushes: u64,
    pub compactions: u64,
    pub levels: u64,
    pub conflicts: u64,
    pub commits: u64,
    pub reopenings: u64,
    pub reads: u64,
    pub operations: u64,
}

/// What outlives the process.
pub struct Run {
    pub oracle: Oracle,
    pub counts: Counts,
    defect: Defect,
    next: usize,
    written: u64,
    serial: u64,
    /// The opening to come dies after so many disk calls.
    pub dies_again: Option<(u64, End)>,
    /// How the process dies if it dies by itself.
    pub planned: End,
}

impl Run {
    pub fn new(defect: Defect) -> Self {
        Self {
            oracle: Oracle::default(),
            counts: Counts::default(),
            defect,
            next: 0,
            written: 0,
            serial: 0,
            dies_again: None,
            planned: End::Killed,
        }
    }
}

/// How an opening came to its end.
pub enum Ended {
    /// There is more to do after the next opening.
    OpenAgain,
    Finished,
}

/// One opening: opens, compares everything, goes on with the list until the opening ends.
pub async fn live(place: Place, case: Arc<Case>, run: Arc<Mutex<Run>>) -> Result<Ended, Report> {
    let env = place.env();
    let again = lock(&run).dies_again.take();
    if let Some((calls, end)) = again {
        lock(&run).planned = end;
        place.die_in(calls, end);
    }
    let db = open(&place, &env, &case.settings).await?;
    place.live_on();
    let contents = everything(&db).await?;
    lock(&run).oracle.opened(db.last_seq().get(), &contents)?;
    lock(&run).counts.reopenings += 1;
    let mut session = Session::new(place, env, case.clone(), run.clone(), db);
    loop {
        let at = {
            let mut run = lock(&run);
            run.next += 1;
            run.counts.operations += 1;
            run.next - 1
        };
        let Some(operation) = case.operations.0.get(at) else { break };
        let step = session.step(operation).await;
        let ended = step.map_err(|report| format!("operation {at}, {operation:?}: {report}"))?;
        if at % 16 == 0 || ended.is_some() {
            session.look();
        }
        if let Some(end) = ended {
            return session
                .end(end)
                .await
                .map_err(|report| format!("operation {at}, {operation:?}: {report}"));
        }
    }
    session.finish().await.map_err(|report| format!("at the end: {report}"))?;
    Ok(Ended::Finished)
}

fn lock(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().expect("no panic while it was held")
}

async fn open(place: &Place, env: &Arc<dyn Env>, settings: &Settings) -> Result<Db, Report> {
    let mut waited = 0;
    loop {
        match Db::open_in(env.clone(), place.dir(), settings.options()).await {
            Ok(db) => return Ok(db),
            // The tasks of a dropped opening hold the lock until they have noticed.
            Err(Error::Locked(_)) if waited < 5000 => {
                waited += 1;
                env.sleep_until(env.now().after(1_000_000)).await;
            }
            Err(error) => return Err(format!("opening failed: {error}")),
        }
    }
}

async fn everything(db: &Db) -> Result<Contents, Report> {
    let mut contents = Contents::new();
    for info in db.keyspaces().map_err(said)? {
        let keyspace = db.keyspace(&info.name).map_err(said)?;
        let entries = keyspace.scan(Scan::all()).await.map_err(said)?.collect().await.map_err(said)?;
        contents.insert(info.name, (info.id, entries.into_iter().collect()));
    }
    Ok(contents)
}

fn said(error: impl std::fmt::Display) -> Report {
    format!("unexpected error: {error}")
}

const NAMES: [&str; 3] = ["default", "alpha", "beta"];
const SLOTS: usize = 3;

struct OpenTransaction {
    txn: Txn,
    model: TransactionModel,
}

struct OpenCursor {
    cursor: Cursor,
    expected: std::vec::IntoIter<(Vec<u8>, Bytes)>,
    interval: Interval,
    reverse: bool,
    left: Option<u64>,
    ended: bool,
    /// The transaction that it reads for, and its entry among the ranges read once there is one.
    reader: Option<(u64, Option<usize>)>,
    keyspace: holdfast::KeyspaceId,
}

struct Session {
    place: Place,
    env: Arc<dyn Env>,
    case: Arc<Case>,
    run: Arc<Mutex<Run>>,
    db: Db,
    keyspaces: [Option<Keyspace>; SLOTS],
    snapshots: [Option<Snapshot>; SLOTS],
    transactions: [Option<OpenTransaction>; SLOTS],
    cursors: [Option<OpenCursor>; SLOTS],
    /// Flushes and compactions that the counts know of this opening.
    counted: (u64, u64),
}

impl Session {
    fn new(place: Place, env: Arc<dyn Env>, case: Arc<Case>, run: Arc<Mutex<Run>>, db: Db) -> Self {
        let keyspaces = NAMES.map(|name| db.keyspace(name).ok());
        Self {
            place,
            env,
            case,
            run,
            db,
            keyspaces,
            snapshots: Default::default(),
            transactions: Default::default(),
            cursors: Default::default(),
            counted: (0, 0),
        }
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        lock(&self.run)
    }

    /// Carries out one operation; `Some` if it ends the opening.
    async fn step(&mut self, operation: &Operation) -> Result<Option<End>, Report> {
        match operation {
            Operation::Commit(writes, durability) => self.commit(writes, *durability).await?,
            Operation::Together(commits) => self.commit_together(commits).await?,
            Operation::Get(view, keyspace, key) => self.get(*view, *keyspace, *key).await?,
            Operation::Scan(view, keyspace, walk) => self.scan(*view, *keyspace, *walk).await?,
            Operation::OpenCursor(slot, view, keyspace, walk) => {
                self.open_cursor(*slot, *view, *keyspace, *walk).await?;
            }
            Operation::StepCursor(slot, count) => self.step_cursor(*slot, *count).await?,
            Operation::TakeSnapshot(slot) => {
                let snapshot = self.db.snapshot();
                let last = self.run().oracle.last();
                if snapshot.seq().get() != last {
                    return Err(format!("a snapshot shows {} instead of {last}", snapshot.seq()));
                }
                self.snapshots[slot_of(*slot)] = Some(snapshot);
            }
            Operation::TakePast(slot, back) => self.take_past(*slot, *back)?,
            Operation::DropSnapshot(slot) => self.snapshots[slot_of(*slot)] = None,
            Operation::Begin(slot, isolation, durability) => self.begin(*slot, *isolation, *durability)?,
            Operation::WriteIn(slot, write) => self.write_in(*slot, *write)?,
            Operation::CommitIn(slot) => self.commit_in(*slot).await?,
            Operation::RollBack(slot) => {
                if let Some(open) = self.transactions[slot_of(*slot)].take() {
                    open.txn.rollback();
                }
            }
            Operation::CreateKeyspace(slot) => self.create_keyspace(*slot).await?,
            Operation::DropKeyspace(slot) => self.drop_keyspace(*slot).await?,
            Operation::FlushAll => {
                let last = self.run().oracle.last();
                self.db.flush().await.map_err(said)?;
                self.run().oracle.synced(last);
            }
            Operation::CompactAll => self.db.compact().await.map_err(said)?,
            Operation::SyncAll => {
                let last = self.run().oracle.last();
                self.db.sync().await.map_err(said)?;
                self.run().oracle.synced(last);
            }
            Operation::Wait(us) => self.env.sleep_until(self.env.now().after(u64::from(*us) * 1000)).await,
            Operation::Close => return Ok(Some(End::Closed)),
            Operation::DropAll => return Ok(Some(End::Killed)),
            Operation::Kill(again) => return Ok(Some(self.die(End::Killed, *again).await)),
            Operation::PowerLoss(again) => return Ok(Some(self.die(End::PowerLost, *again).await)),
            Operation::CrashIn(calls, power) => {
                let end = if *power { End::PowerLost } else { End::Killed };
                self.run().planned = end;
                self.place.die_in(u64::from(*calls).max(1), end);
            }
        }
        Ok(None)
    }

    async fn die(&mut self, end: End, again: u8) -> End {
        self.look();
        {
            let mut run = self.run();
            run.planned = end;
            run.dies_again = (again > 0).then_some((u64::from(again), end));
        }
        self.place.die(end).await
    }

    /// The handles go away, and what the oracle needs to know of it is told.
    async fn end(self, end: End) -> Result<Ended, Report> {
        let Self { db, keyspaces, snapshots, transactions, cursors, run, .. } = self;
        if end == End::Closed {
            let kept = keyspaces[0].clone();
            db.close().await.map_err(said)?;
            if let Some(kept) = kept
                && !matches!(kept.get(b"k").await, Err(Error::Closed))
            {
                return Err("a handle of a closed database answered".into());
            }
        }
        drop((keyspaces, snapshots, transactions, cursors));
        lock(&run).oracle.ended(end);
        Ok(Ended::OpenAgain)
    }

    /// After the last operation: nothing may be left over.
    async fn finish(mut self) -> Result<(), Report> {
        self.place.live_on();
        self.snapshots = Default::default();
        self.transactions = Default::default();
        self.cursors = Default::default();
        let (_, readers) = self.db.oldest_reader();
        if readers != 0 {
            return Err(format!("{readers} readers are registered, but none is left"));
        }
        self.db.flush().await.map_err(said)?;
        self.db.wait_idle().await.map_err(said)?;
        self.look();
        let listed: u64 = self
            .db
            .keyspaces()
            .map_err(said)?
            .iter()
            .flat_map(|info| info.levels)
            .map(|level| level.tables)
            .sum();
        // A thread that was about to let go of an older state may have been interrupted, on a real machine.
        for patience in (0..100).rev() {
            let entries = self.env.disk().list(&self.place.dir()).await.map_err(|error| error.to_string())?;
            let there = entries.iter().filter(|entry| entry.name.ends_with(".table")).count() as u64;
            if listed == there {
                break;
            }
            if patience == 0 || matches!(self.place, Place::Simulated(_)) {
                return Err(format!("{there} tables are in the directory, but {listed} are listed"));
            }
            self.env.sleep_until(self.env.now().after(50_000_000)).await;
        }
        let metrics = self.db.metrics();
        let of_transactions = |metric: &&Metric| {
            metric.name == "holdfast_memory_bytes" && metric.labels.iter().any(|(_, of)| of == "transaction")
        };
        let charged = metrics.all.iter().find(of_transactions).map(|metric| metric.value.clone());
        if charged != Some(MetricValue::Gauge(0)) {
            return Err(format!("{charged:?} bytes are charged to transactions, but none is left"));
        }
        self.db.close().await.map_err(said)
    }

    /// Adds to the counts what happened since the last look.
    fn look(&mut self) {
        let metrics = self.db.metrics();
        let now = (metrics.number("holdfast_flushes_total"), metrics.number("holdfast_compactions_total"));
        let levels = self.db.keyspaces().map_or(0, |infos| {
            let deepest = |info: &holdfast::KeyspaceInfo| info.levels.iter().filter(|l| l.tables > 0).count();
            infos.iter().map(deepest).max().unwrap_or(0) as u64
        });
        let mut run = lock(&self.run);
        run.counts.flushes += now.0 - self.counted.0;
        run.counts.compactions += now.1 - self.counted.1;
        run.counts.levels = run.counts.levels.max(levels);
        drop(run);
        self.counted = now;
    }

    fn keyspace(&self, slot: u8) -> Option<&Keyspace> {
        self.keyspaces[slot_of(slot)].as_ref()
    }

    fn key(&self, index: u16) -> Vec<u8> {
        key_of(index % self.case.settings.keys.max(1))
    }

    /// The write as it is to be; `None` if there is nothing to do.
    fn effect(&self, write: Write) -> Option<Effect> {
        let mut run = self.run();
        run.written += 1;
        match write {
            Write::Put(slot, key, len) => {
                let value = value_of(run.written, usize::from(len));
                Some(Effect::Put(self.keyspace(slot)?.id(), self.key(key), value))
            }
            Write::Delete(slot, key) => Some(Effect::Delete(self.keyspace(slot)?.id(), self.key(key))),
            Write::DeleteRange(slot, a, b) => {
                let (a, b) = (self.key(a), self.key(b));
                let id = self.keyspace(slot)?.id();
                (a != b).then(|| Effect::DeleteRange(id, a.clone().min(b.clone()), a.max(b)))
            }
        }
    }

    fn effects(&self, writes: &List<Write>) -> Vec<Effect> {
        writes.0.iter().filter_map(|write| self.effect(*write)).collect()
    }

    async fn commit(&mut self, writes: &List<Write>, durability: Durability) -> Result<(), Report> {
        let effects = self.effects(writes);
        if effects.is_empty() {
            return Ok(());
        }
        let sent = self.run().oracle.send(effects.clone());
        let (batch, sent_as) = self.batch(&effects, durability)?;
        let seq = self.db.write(batch, sent_as).await.map_err(said)?;
        self.run().counts.commits += 1;
        self.run().oracle.acknowledged(sent, seq.get(), durability)
    }

    async fn commit_together(&mut self, commits: &List<(List<Write>, Durability)>) -> Result<(), Report> {
        let mut sent = Vec::new();
        let mut running: Vec<Pin<Box<dyn Future<Output = holdfast::Result<Seq>> + Send + '_>>> = Vec::new();
        for (writes, durability) in &commits.0 {
            let effects = self.effects(writes);
            if effects.is_empty() {
                continue;
            }
            let (batch, sent_as) = self.batch(&effects, *durability)?;
            sent.push((self.run().oracle.send(effects), *durability));
            running.push(Box::pin(self.db.write(batch, sent_as)));
        }
        let mut answered: BTreeSet<usize> = BTreeSet::new();
        std::future::poll_fn(|context| {
            for (at, commit) in running.iter_mut().enumerate() {
                if answered.contains(&at) {
                    continue;
                }
                if let Poll::Ready(outcome) = commit.as_mut().poll(context) {
                    answered.insert(at);
                    let (number, durability) = sent[at];
                    let judged = outcome.map_err(said).and_then(|seq| {
                        lock(&self.run).counts.commits += 1;
                        lock(&self.run).oracle.acknowledged(number, seq.get(), durability)
                    });
                    if judged.is_err() {
                        return Poll::Ready(judged);
                    }
                }
            }
            if answered.len() == sent.len() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// The batch for some effects, unless a planted defect spoils it.
    fn batch(&self, effects: &[Effect], durability: Durability) -> Result<(WriteBatch, Durability), Report> {
        let defect = self.run().defect;
        let written = self.run().counts.commits;
        let mut batch = WriteBatch::new();
        for (at, effect) in effects.iter().enumerate() {
            let is_last = at + 1 == effects.len();
            match effect {
                _ if defect == Defect::LosesWrite && written % 20 == 19 => {
                    batch.delete(effect.keyspace(), b"lost").map_err(said)?;
                }
                _ if defect == Defect::TearsBatch && written % 10 == 9 && is_last && at > 0 => {}
                Effect::Put(id, key, value) => batch.put(*id, key, value).map_err(said)?,
                Effect::Delete(id, key) => batch.delete(*id, key).map_err(said)?,
                Effect::DeleteRange(id, start, _) if defect == Defect::ForgetsRangeDelete => {
                    batch.delete(*id, start).map_err(said)?;
                }
                Effect::DeleteRange(id, start, end) => batch.delete_range(*id, start, end).map_err(said)?,
            }
        }
        let durability = if defect == Defect::SkipsSync { Durability::Buffered } else { durability };
        Ok((batch, durability))
    }

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

    async fn get(&mut self, view: View, keyspace: u8, key: u16) -> Result<(), Report> {
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

    async fn scan(&mut self, view: View, keyspace: u8, walk: Walk) -> Result<(), Report> {
        if let Some(mut cursor) = self.cursor(view, keyspace, walk).await? {
            self.advance(&mut cursor, usize::MAX).await?;
        }
        Ok(())
    }

    async fn open_cursor(&mut self, slot: u8, view: View, keyspace: u8, walk: Walk) -> Result<(), Report> {
        if let Some(cursor) = self.cursor(view, keyspace, walk).await? {
            self.cursors[slot_of(slot)] = Some(cursor);
        }
        Ok(())
    }

    async fn step_cursor(&mut self, slot: u8, count: u8) -> Result<(), Report> {
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

    fn take_past(&mut self, slot: u8, back: u16) -> Result<(), Report> {
        let last = self.run().oracle.last();
        let asked = last.saturating_sub(u64::from(back));
        let retained = self.case.settings.retain;
        match self.db.at(Seq::new(asked)) {
            Ok(snapshot) if snapshot.seq().get() == asked => self.snapshots[slot_of(slot)] = Some(snapshot),
            Ok(snapshot) => return Err(format!("asked for {asked}, got {}", snapshot.seq())),
            Err(Error::TooOld { asked: echoed, oldest }) => {
                if echoed.get() != asked || oldest.get() <= asked || last - asked <= retained {
                    return Err(format!(
                        "{asked} of {last} is too old, though {retained} are retained; the oldest is {oldest}"
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

    fn begin(&mut self, slot: u8, isolation: Isolation, durability: Durability) -> Result<(), Report> {
        let txn = self.db.begin(TransactionOptions { isolation, durability });
        let serial = {
            let mut run = self.run();
            run.serial += 1;
            let last = run.oracle.last();
            if txn.read_seq().get() != last {
                return Err(format!("a transaction reads at {} instead of {last}", txn.read_seq()));
            }
            run.serial
        };
        let model = TransactionModel {
            serial,
            read_seq: txn.read_seq().get(),
            isolation,
            durability,
            own: Vec::new(),
            points: BTreeSet::new(),
            ranges: Vec::new(),
        };
        self.transactions[slot_of(slot)] = Some(OpenTransaction { txn, model });
        Ok(())
    }

    fn write_in(&mut self, slot: u8, write: Write) -> Result<(), Report> {
        if self.transactions[slot_of(slot)].is_none() {
            return Ok(());
        }
        let Some(effect) = self.effect(write) else { return Ok(()) };
        let keyspace = self.keyspaces.iter().flatten().find(|keyspace| keyspace.id() == effect.keyspace());
        let (Some(keyspace), Some(open)) = (keyspace.cloned(), &mut self.transactions[slot_of(slot)]) else {
            return Ok(());
        };
        match &effect {
            Effect::Put(_, key, value) => open.txn.put(&keyspace, key, value),
            Effect::Delete(_, key) => open.txn.delete(&keyspace, key),
            Effect::DeleteRange(_, start, end) => open.txn.delete_range(&keyspace, start, end),
        }
        .map_err(said)?;
        open.model.own.push(effect);
        Ok(())
    }

    async fn commit_in(&mut self, slot: u8) -> Result<(), Report> {
        let Some(OpenTransaction { txn, model }) = self.transactions[slot_of(slot)].take() else {
            return Ok(());
        };
        if model.own.is_empty() {
            let seq = txn.commit().await.map_err(said)?;
            return match seq.get() == model.read_seq {
                true => Ok(()),
                false => {
                    Err(format!("a commit without writes stands at {seq} instead of {}", model.read_seq))
                }
            };
        }
        let (gone, clashes, far, sent) = {
            let mut run = self.run();
            let gone = model.own.iter().any(|effect| !run.oracle.knows(effect.keyspace()));
            let clashes = run.oracle.conflicts(&model);
            let far = self.case.settings.narrow_window && run.oracle.bytes_after(model.read_seq) > 60 << 10;
            (gone, clashes, far, run.oracle.send(model.own.clone()))
        };
        let outcome = match self.run().defect {
            Defect::SkipsCheck => None,
            _ => Some(()),
        };
        let outcome = match outcome {
            Some(()) => txn.commit().await,
            None => {
                let (batch, durability) = self.batch(&model.own, model.durability)?;
                self.db.write(batch, durability).await
            }
        };
        let mut run = self.run();
        match outcome {
            Ok(_) if gone => Err("a commit into a dropped keyspace was accepted".into()),
            Ok(seq) if clashes => Err(format!("commit {seq} was accepted, but must conflict")),
            Ok(seq) => {
                run.counts.commits += 1;
                run.oracle.acknowledged(sent, seq.get(), model.durability)
            }
            Err(Error::Conflict(conflict)) => {
                run.oracle.refused(sent);
                run.counts.conflicts += 1;
                let exceeded = matches!(conflict, Conflict::WindowExceeded { .. });
                match (clashes, exceeded && far) {
                    (true, _) | (_, true) => Ok(()),
                    _ => Err(format!("refused, though nothing clashes: {conflict}")),
                }
            }
            Err(Error::Invalid(_)) if gone => {
                run.oracle.refused(sent);
                Ok(())
            }
            Err(error) => Err(said(error)),
        }
    }

    async fn create_keyspace(&mut self, slot: u8) -> Result<(), Report> {
        let slot = slot_of(slot);
        let options = self.case.settings.keyspace_options();
        let there = self.keyspaces[slot].is_some();
        if !there {
            self.run().oracle.creating = Some(NAMES[slot].to_string());
        }
        match self.db.create_keyspace(NAMES[slot], options).await {
            Ok(_) if there => Err("a keyspace was created twice".into()),
            Ok(keyspace) => {
                self.run().oracle.created(keyspace.id(), NAMES[slot]);
                self.keyspaces[slot] = Some(keyspace);
                Ok(())
            }
            Err(Error::Invalid(_)) if there => Ok(()),
            Err(error) => Err(said(error)),
        }
    }

    async fn drop_keyspace(&mut self, slot: u8) -> Result<(), Report> {
        // The default keyspace stays: an opening would make it anew.
        let slot = slot_of(slot);
        if slot == 0 {
            return Ok(());
        }
        let Some(keyspace) = self.keyspaces[slot].take() else { return Ok(()) };
        self.run().oracle.dropping = Some(keyspace.id());
        self.db.drop_keyspace(&keyspace).await.map_err(said)?;
        self.run().oracle.dropped(keyspace.id());
        match keyspace.get(b"k").await {
            Err(Error::Invalid(_)) => Ok(()),
            other => Err(format!("a dropped keyspace answered {other:?}")),
        }
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

fn slot_of(number: u8) -> usize {
    usize::from(number) % SLOTS
}

fn short(value: &[u8]) -> String {
    format!("{} bytes {:?}", value.len(), &value[..value.len().min(8)])
}

/// Keys of several shapes: the empty one, long common prefixes, extensions of one another, bytes at both ends.
fn key_of(index: u16) -> Vec<u8> {
    let [high, low] = index.to_be_bytes();
    match index % 5 {
        _ if index == 0 => Vec::new(),
        0 => format!("k{index:03}").into_bytes(),
        1 => format!("k{:03}/x", index - 1).into_bytes(),
        2 => format!("a common prefix that is long/{index}").into_bytes(),
        3 => vec![0xff, 0xff, high, low],
        _ => vec![0, high, low, 0],
    }
}

/// Different for every write; half of them compress.
fn value_of(number: u64, len: usize) -> Bytes {
    let mut value = number.to_le_bytes().to_vec();
    let mut state = number;
    while value.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.push(if number.is_multiple_of(2) { number as u8 } else { (state >> 33) as u8 });
    }
    value.truncate(len.max(8).min(value.len()));
    if len < 8 {
        value.truncate(len);
    }
    value.into()
}
