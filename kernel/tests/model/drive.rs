//! Carries out the operations of a case and compares every answer with the oracle.
//!
//! The steps run inside the process that they may end, so what outlives it stands in a shared [`Run`]: the oracle, the
//! place in the list, what is counted. One call of [`live`] is one opening.

use std::sync::{Arc, Mutex, MutexGuard};

use holdfast::env::Env;
use holdfast::{Db, Error, Keyspace, Metric, MetricValue, Scan, Snapshot};

use crate::case::{Case, Operation, Settings};
use crate::oracle::{Contents, End, Oracle};
use crate::place::Place;

mod reading;
mod transacting;
mod writing;

use reading::OpenCursor;
use transacting::OpenTransaction;

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
    /// The first is one of them.
    pub openings: u64,
    pub reads: u64,
    pub operations: u64,
}

impl Counts {
    /// Openings of what an earlier one wrote.
    pub fn reopenings(&self) -> u64 {
        self.openings.saturating_sub(1)
    }
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
    lock(&run).counts.openings += 1;
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

fn slot_of(number: u8) -> usize {
    usize::from(number) % SLOTS
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
