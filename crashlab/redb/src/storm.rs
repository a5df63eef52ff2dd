//! A seeded storm: redb does transactions while its machine crashes and its disk fails, and everything that it said goes
//! into a history of Holdfast's workloads.
//!
//! ```text
//! opening: arm faults and a crash -> open -> check_integrity -> read everything -> transactions -> crash, or close
//! ```
//! Two tables are the history's keyspaces 1 and 2. A third has the number of the last commit, which every transaction
//! counts up: so what an opening finds is a number, and everything else must be what the history has at that number.

use std::ops::Bound;
use std::sync::Arc;

use clap::ValueEnum;
use holdfast::env::OpenOptions;
use holdfast_sim::{
    Crash, FaultClass, LatencyModel, Personality, Process, Ratio, SimDisk, SimOptions, Trigger, World,
};
use holdfast_workloads::Random;
use holdfast_workloads::history::{
    Body, Cell, Durable, Ending, Entry, History, Interval, Milestone, Operation, Promise, SURVEYOR, Stamp,
    TxnNo, Value,
};
use holdfast_workloads::oracle::model::{self, Rules};
use holdfast_workloads::oracle::{Violation, Wrong as Broken};
use holdfast_workloads::storm::value;
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError, WriteTransaction,
};

use crate::backend::{Backend, Wrong, now};

/// What goes wrong in a run, beside crashes with torn and lost writes, and short counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Kind {
    /// Nothing more.
    Crashes,
    /// Reads and writes fail, and the disk is full.
    Refused,
    /// Syncs fail. The machine loses its power before the file is opened again.
    FailedSync,
    /// Syncs fail, and the file is opened again by the same system.
    FailedSyncReopened,
    /// Bits flip while nobody has the file open; each opening checks.
    Rot,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Crashes, Self::Refused, Self::FailedSync, Self::FailedSyncReopened, Self::Rot];
}

/// What a run came to.
#[derive(Clone, Default, Debug)]
pub struct Verdict {
    pub violations: Vec<String>,
    pub hash: u64,
    pub openings: u64,
    pub crashes: u64,
    pub acknowledged: u64,
    pub unknown: u64,
    pub entries_read: u64,
    pub fired: u64,
    pub refused: u64,
    pub undecided: u64,
    /// Files that a crash left in the middle of their making, and that could not be opened.
    pub unfinished: u64,
}

const FILE: &str = "/redb";
const OPENINGS: u32 = 7;
const KEYS: u64 = 40;
const ROOM: u64 = 1 << 40;
type Bytes = &'static [u8];
const TABLES: [(u32, TableDefinition<'static, Bytes, Bytes>); 2] =
    [(1, TableDefinition::new("a")), (2, TableDefinition::new("b"))];
const NUMBER: TableDefinition<'static, (), u64> = TableDefinition::new("number");

/// Runs a seed.
pub fn run(seed: u64, kind: Kind, wrong: Option<Wrong>) -> Verdict {
    let mut random = Random::new(seed);
    let like = [Personality::Strict, Personality::Ext4, Personality::Xfs, Personality::Btrfs];
    let options = SimOptions {
        personality: *random.of(&like),
        latency: LatencyModel {
            cached_ns: 0,
            read_ns: 0,
            write_ns: 0,
            sync_ns: 0,
            directory_ns: 0,
            per_kib_ns: 0,
            ready: Ratio::ALWAYS,
            late: Ratio::NEVER,
            slice_per_kib_ns: 0,
            stall_ns: 0,
        },
        ..SimOptions::new(seed)
    };
    let outcome = holdfast_sim::try_run(options, move |world| async move {
        let mut storm = Storm::new(&world, random, kind, wrong);
        storm.run();
        storm.verdict
    });
    match outcome {
        Ok(outcome) => Verdict { hash: outcome.hash, ..outcome.result },
        Err(failed) => Verdict {
            violations: vec![format!("panic: {}", failed.message())],
            hash: failed.until.hash,
            ..Verdict::default()
        },
    }
}

struct Storm {
    process: Process,
    disk: SimDisk,
    random: Random,
    kind: Kind,
    wrong: Option<Wrong>,
    history: History,
    opening: u32,
    /// The history has no opening of it yet.
    fired_before: u64,
    is_calm: bool,
    has_rotten: bool,
    /// A sync has failed since the power was last lost.
    sync_has_failed: bool,
    crash: Option<Crash>,
    verdict: Verdict,
}

/// Why something did not come to its end.
enum Stop {
    /// The process is dead.
    Dead,
    /// redb refused, and a fault explains it.
    Refused,
}

type Step<T> = Result<T, Stop>;

impl Storm {
    fn new(world: &World, random: Random, kind: Kind, wrong: Option<Wrong>) -> Self {
        let process = world.process("redb");
        let disk = process.disk();
        disk.set_capacity(ROOM, 1 << 32);
        Self {
            process,
            disk,
            random,
            kind,
            wrong,
            history: History::default(),
            opening: 0,
            fired_before: 0,
            is_calm: false,
            has_rotten: false,
            sync_has_failed: false,
            crash: None,
            verdict: Verdict::default(),
        }
    }

    fn run(&mut self) {
        self.history.passes(Milestone::Creating(1));
        for life in 0..OPENINGS {
            self.is_calm = life + 1 == OPENINGS;
            self.arm();
            let ended = self.live();
            let is_damaged = self.has_rotten && matches!(ended, Err(Stop::Refused));
            self.end();
            if !self.verdict.violations.is_empty() || is_damaged {
                break;
            }
        }
        let rules = Rules { suffix_may_be_lost: self.has_rotten, ..Rules::default() };
        let judgment = model::judge(&self.history, rules);
        self.verdict.undecided = u64::from(judgment.is_undecided);
        self.verdict.violations.extend(judgment.violations.iter().map(Violation::to_string));
        self.verdict.fired = self.fired();
    }

    fn fired(&self) -> u64 {
        FaultClass::ALL.into_iter().map(|class| self.disk.faults_fired(class)).sum()
    }

    fn arm(&mut self) {
        self.disk.clear_faults();
        self.disk.set_capacity(ROOM, 1 << 32);
        self.process.cancel_crash();
        self.fired_before = self.fired();
        self.crash = None;
        if self.is_calm {
            return;
        }
        for class in [FaultClass::ShortRead, FaultClass::ShortWrite] {
            self.strike(class, 100);
        }
        match self.kind {
            Kind::Refused => {
                for class in [FaultClass::ReadError, FaultClass::WriteError, FaultClass::TransientRead] {
                    if self.random.one_in(3) {
                        self.strike(class, 120);
                    }
                }
                if self.random.one_in(2) {
                    let used = ROOM - self.disk.free_space().bytes.min(ROOM);
                    self.disk.set_capacity(used + (self.random.below(1000) << 10), 1 << 32);
                }
            }
            Kind::FailedSync | Kind::FailedSyncReopened => self.strike(FaultClass::SyncError, 30),
            Kind::Crashes | Kind::Rot => {}
        }
        if self.random.below(4) > 0 {
            let crash = *self.random.of(&[Crash::Kill, Crash::PowerLoss, Crash::PowerLoss]);
            let reach = *self.random.of(&[20, 150, 600]);
            self.process.crash_at(self.process.io_calls() + 1 + self.random.below(reach), crash);
            self.crash = Some(crash);
        }
    }

    fn strike(&mut self, class: FaultClass, reach: u64) {
        self.disk.inject(class, Trigger::Once(1 + self.random.below(reach)));
    }

    /// One opening ends: by the crash that came, or because nothing was left to do.
    fn end(&mut self) {
        let has_failed =
            self.disk.faults_fired(FaultClass::SyncError) > 0 && self.fired() > self.fired_before;
        self.sync_has_failed |= has_failed;
        let came = self.crash.filter(|_| !self.process.is_alive());
        let must_lose_power = self.sync_has_failed && self.kind != Kind::FailedSyncReopened;
        self.verdict.crashes += u64::from(came.is_some());
        let is_power_loss = came == Some(Crash::PowerLoss) || must_lose_power || self.random.one_in(4);
        if is_power_loss {
            if came != Some(Crash::PowerLoss) {
                self.process.power_loss();
            }
            self.sync_has_failed = false;
        }
        // A database that was closed is not told to have kept what was not durable.
        self.history.passes(if is_power_loss { Milestone::PowerLost } else { Milestone::Killed });
        self.process.restart();
        if self.kind == Kind::Rot && !self.is_calm && self.disk.exists(FILE) && self.random.one_in(2) {
            let len = self.disk.read_file(FILE).len() as u64;
            if len > 0 {
                self.disk.flip_bit(FILE, self.random.below(len), self.random.below(8) as u32);
                self.has_rotten = true;
            }
        }
    }

    fn wrong(&mut self, wrong: Broken, what: String) {
        self.verdict.violations.push(format!("{wrong}: {what}"));
    }

    /// redb refuses something: its process is dead, or a fault explains it, or it is wrong.
    fn refused(&mut self, doing: &str, error: impl std::fmt::Display) -> Stop {
        if !self.process.is_alive() {
            return Stop::Dead;
        }
        self.verdict.refused += 1;
        if !(self.fired() > self.fired_before || self.has_rotten || self.sync_has_failed) {
            self.wrong(Broken::Unavailable, format!("{doing}: {error}, though no fault explains it"));
        }
        Stop::Refused
    }

    fn live(&mut self) -> Step<()> {
        let mut db = self.open()?;
        self.check(&mut db)?;
        let base = self.survey(&db)?;
        let mut reader: Option<(ReadTransaction, u64)> = None;
        let mut number = base;
        for _ in 0..10 + self.random.below(40) {
            match self.random.below(12) {
                0 => {
                    drop(reader.take());
                    if let Err(error) = db.compact() {
                        return Err(self.refused("compact", error));
                    }
                }
                1 => {
                    if let Some((read, view)) = reader.take() {
                        self.read_all(&read, view, (0, Promise::Past))?;
                    }
                    let read = db.begin_read().map_err(|error| self.refused("begin_read", error))?;
                    reader = Some((read, number));
                }
                _ => number = self.transact(&db, number)?,
            }
        }
        if let Some((read, view)) = reader.take() {
            self.read_all(&read, view, (0, Promise::Past))?;
        }
        if self.is_calm || self.random.one_in(2) {
            self.check(&mut db)?;
        }
        db.close().map_err(|error| self.refused("close", error))
    }

    fn open(&mut self) -> Step<Database> {
        let env = self.process.env();
        let is_there = self.disk.exists(FILE);
        let options = if is_there { OpenOptions::write() } else { OpenOptions::create() };
        let file = match now(env.disk().open(FILE.as_ref(), options)) {
            Some(Ok(file)) => file,
            Some(Err(error)) => return Err(self.refused("open", error)),
            None => return Err(Stop::Dead),
        };
        match now(env.disk().sync_dir("/".as_ref())) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(self.refused("sync of the directory", error)),
            None => return Err(Stop::Dead),
        }
        let mut builder = Database::builder();
        builder.set_cache_size(*self.random.of(&[0, 64 << 10, 8 << 20]));
        builder.set_check_integrity_on_open(self.kind == Kind::Rot);
        match builder.create_with_backend(Backend::new(file, self.wrong)) {
            Ok(db) => Ok(db),
            Err(_) if self.process.is_alive() && is_there && self.verdict.openings == 0 => {
                // A crash cut off its making. Nothing was acknowledged: whoever meets it takes the file away.
                self.verdict.unfinished += 1;
                match now(env.disk().remove(FILE.as_ref())) {
                    Some(Ok(())) => Err(Stop::Refused),
                    Some(Err(error)) => Err(self.refused("remove", error)),
                    None => Err(Stop::Dead),
                }
            }
            Err(error) => Err(self.refused("open", error)),
        }
    }

    /// What a crash has left must be whole.
    fn check(&mut self, db: &mut Database) -> Step<()> {
        match db.check_integrity() {
            Ok(true) => Ok(()),
            Ok(false) if self.has_rotten => Ok(()),
            Ok(false) => {
                self.wrong(Broken::Structure, "check_integrity found something and mended it".to_owned());
                Err(Stop::Refused)
            }
            Err(DatabaseError::Storage(StorageError::Corrupted(what))) if !self.has_rotten => {
                self.wrong(Broken::Structure, format!("check_integrity: {what}"));
                Err(Stop::Refused)
            }
            Err(error) => Err(self.refused("check_integrity", error)),
        }
    }

    fn survey(&mut self, db: &Database) -> Step<u64> {
        let read = db.begin_read().map_err(|error| self.refused("begin_read", error))?;
        let base = match read.open_table(NUMBER) {
            Ok(table) => match table.get(()) {
                Ok(found) => found.map_or(0, |found| found.value()),
                Err(error) => return Err(self.refused("read", error)),
            },
            Err(TableError::TableDoesNotExist(_)) => 0,
            Err(error) => return Err(self.refused("open_table", error)),
        };
        self.history.passes(Milestone::Opened(base, vec![(0, 1), (1, 2)]));
        self.verdict.openings += 1;
        self.opening = u32::try_from(self.verdict.openings - 1).unwrap_or(u32::MAX);
        self.read_all(&read, base, (SURVEYOR, Promise::View))?;
        Ok(base)
    }

    fn begin(&mut self, client: u32, promise: Promise, durable: Durable, view: u64) -> TxnNo {
        let txn = self.history.begin(client, self.opening, promise, durable);
        self.history.of(txn).view = Some(view);
        txn
    }

    /// Everything that stands in a view.
    fn read_all(&mut self, read: &ReadTransaction, view: u64, (client, promise): (u32, Promise)) -> Step<()> {
        let txn = self.begin(client, promise, Durable::Buffered, view);
        for (keyspace, definition) in TABLES {
            let found = match read.open_table(definition) {
                Ok(table) => self.walk(&table, &Interval::ALL)?,
                Err(TableError::TableDoesNotExist(_)) => Vec::new(),
                Err(error) => return Err(self.refused("open_table", error)),
            };
            let scan =
                Operation::Scan { keyspace, interval: Interval::ALL, reverse: false, found, complete: true };
            self.history.did(txn, scan);
        }
        self.history.ends(txn, Ending::Committed(view));
        Ok(())
    }

    fn walk(&mut self, table: &impl ReadableTable<Bytes, Bytes>, interval: &Interval) -> Step<Vec<Entry>> {
        let bounds = (bound(&interval.start), bound(&interval.end));
        let walk = table.range::<&[u8]>(bounds).map_err(|error| self.refused("range", error))?;
        let mut found = Vec::new();
        for entry in walk {
            let (key, value) = entry.map_err(|error| self.refused("range", error))?;
            found.push((Arc::from(key.value()), self.decoded(value.value())?));
        }
        self.verdict.entries_read += found.len() as u64;
        Ok(found)
    }

    fn decoded(&mut self, bytes: &[u8]) -> Step<Value> {
        value::decode(bytes).ok_or_else(|| {
            self.wrong(Broken::Garbage, format!("a value of {} bytes that nobody wrote", bytes.len()));
            Stop::Refused
        })
    }

    /// A transaction of a few operations. Gives the number of the last commit.
    fn transact(&mut self, db: &Database, number: u64) -> Step<u64> {
        let mut write = db.begin_write().map_err(|error| self.refused("begin_write", error))?;
        let is_durable = self.random.below(3) > 0;
        let durability = if is_durable { Durability::Immediate } else { Durability::None };
        write.set_durability(durability).map_err(|error| self.refused("set_durability", error))?;
        write.set_two_phase_commit(self.random.one_in(4));
        write.set_quick_repair(self.random.one_in(4));
        let durable = if is_durable { Durable::Sync } else { Durable::Buffered };
        let txn = self.begin(0, Promise::Serializable, durable, number);
        if let Err(stop) = self.operate(&write, txn, number) {
            self.history.ends(txn, Ending::Refused("an operation failed".to_owned()));
            return Err(stop);
        }
        if self.random.one_in(8) {
            self.history.ends(txn, Ending::Refused("rolled back".to_owned()));
            return write.abort().map(|()| number).map_err(|error| self.refused("abort", error));
        }
        self.history.commits(txn);
        match write.commit() {
            Ok(()) => {
                self.history.ends(txn, Ending::Committed(number + 1));
                self.verdict.acknowledged += 1;
                Ok(number + 1)
            }
            Err(error) => {
                self.verdict.unknown += 1;
                Err(self.refused("commit", error))
            }
        }
    }

    fn operate(&mut self, write: &WriteTransaction, txn: TxnNo, number: u64) -> Step<()> {
        let mut counter = write.open_table(NUMBER).map_err(|error| self.refused("open_table", error))?;
        let before = counter.insert((), number + 1).map_err(|error| self.refused("insert", error))?;
        let before = before.map_or(0, |before| before.value());
        if before != number {
            let what = format!("a transaction behind commit {number} finds commit {before}");
            self.wrong(Broken::OrderViolated, what);
            return Err(Stop::Refused);
        }
        let mut tables = Vec::new();
        for (keyspace, definition) in TABLES {
            let table = write.open_table(definition).map_err(|error| self.refused("open_table", error))?;
            tables.push((keyspace, table));
        }
        for nth in 0..1 + self.random.below(6) {
            let at = self.random.below(2) as usize;
            let (keyspace, key) = (tables[at].0, self.key());
            let table = &mut tables[at].1;
            let cell = Cell { keyspace, key: Arc::clone(&key) };
            // The first one writes, for the oracle counts only commits that do.
            let operation = match if nth == 0 { u64::MAX } else { self.random.below(10) } {
                0 | 1 => {
                    let found = table.get(&*key).map_err(|error| self.refused("get", error))?;
                    let found = found.map(|found| self.decoded(found.value())).transpose()?;
                    Operation::Get { cell, found }
                }
                2 => {
                    let interval = self.interval();
                    let found = self.walk(table, &interval)?;
                    Operation::Scan { keyspace, interval, reverse: false, found, complete: true }
                }
                3 => {
                    let interval = self.interval();
                    let bounds = (bound(&interval.start), bound(&interval.end));
                    let gone = table.retain_in::<&[u8], _>(bounds, |_, _| false);
                    gone.map_err(|error| self.refused("retain_in", error))?;
                    Operation::DeleteRange { keyspace, interval }
                }
                4 | 5 => {
                    table.remove(&*key).map_err(|error| self.refused("remove", error))?;
                    Operation::Delete { cell }
                }
                _ => {
                    let len = *self.random.of(&[0, 8, 100, 1000, 5000, 40_000]);
                    let operation = u32::try_from(self.history.of(txn).operations.len()).unwrap_or(u32::MAX);
                    let value = Value { stamp: Stamp { txn, operation }, body: Body::Filler(len) };
                    let bytes = value::encode(&value);
                    table.insert(&*key, bytes.as_slice()).map_err(|error| self.refused("insert", error))?;
                    Operation::Put { cell, value }
                }
            };
            self.history.did(txn, operation);
        }
        Ok(())
    }

    fn key(&mut self) -> Arc<[u8]> {
        Arc::from(format!("key {:02}", self.random.below(KEYS)).as_bytes())
    }

    fn interval(&mut self) -> Interval {
        let (one, other) = (self.key(), self.key());
        let (start, end) = if one <= other { (one, other) } else { (other, one) };
        Interval { start: Bound::Included(start), end: Bound::Included(end) }
    }
}

fn bound(bound: &Bound<Arc<[u8]>>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &**key)
}
