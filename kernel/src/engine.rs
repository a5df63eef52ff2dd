//! One open database: the parts that transactions, maintenance and the public API share.
//!
//! No algorithm lives here. The parts are made by `recovery` and wired by `db`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cache::{BlockCache, Budget, Purpose};
use crate::check::mark;
use crate::commit::{Check, Committer, Teller, Work};
use crate::compaction::pace::Pace;
use crate::compaction::retain::Readers;
use crate::env::{DirLock, Env, IoError, Nanos, SharedDir};
use crate::error::{Error, Result};
use crate::events::{SlowLimit, Timed, Where};
use crate::gate::Gate;
use crate::manifest::FileNumbers;
use crate::manifest::door::Door;
use crate::metrics::Recorder;
use crate::options::{Durability, Options};
use crate::refusals::Refusals;
use crate::sync::atomic::Ordering;
use crate::sync::{Mutex, Notify, either};
use crate::tree::{
    Direction, Graveyard, KeyRange, KeyspaceState, Pressure, Published, SnapshotRegistry, State, Tables,
    Throttle, VisibleIter, memory_pressure, pressure,
};
use crate::types::{FileNo, KeyspaceId, Seq, Value, WriteBatch};
use crate::urgency::Urgency;

/// How long a stopped writer waits before it is told that the database is busy.
const STOPPED_WAIT_NS: u64 = 30_000_000_000;
/// How often a stopped writer looks again by itself.
const STOPPED_POLL_NS: u64 = 100_000_000;

/// The parts of an open database.
pub(crate) struct Engine {
    pub env: Arc<dyn Env>,
    pub dir: Arc<SharedDir>,
    pub options: Options,
    pub database_id: u64,
    pub published: Arc<Published<State>>,
    pub snapshots: Arc<SnapshotRegistry>,
    pub gate: Arc<Gate>,
    pub throttle: Arc<Throttle>,
    pub urgency: Urgency,
    pub committer: Arc<Committer>,
    pub door: Arc<Door>,
    pub tables: Arc<Tables>,
    pub cache: Arc<BlockCache>,
    pub budget: Arc<Budget>,
    pub recorder: Arc<Recorder>,
    pub graveyard: Arc<Graveyard>,
    pub pace: Arc<Pace>,
    /// Wakes maintenance.
    pub changed: Arc<Notify>,
    pub numbers: Arc<FileNumbers>,
    /// Set while a background job finds no room.
    pub disk_full: Mutex<Option<FullDisk>>,
    /// What the system refuses background jobs otherwise.
    pub refusals: Refusals,
    /// Held until the last task has ended.
    pub lock: Mutex<Option<Box<dyn DirLock>>>,
}

/// A disk that is full.
pub(crate) struct FullDisk {
    /// What it said first.
    pub error: IoError,
    /// The background jobs that found no room and have not succeeded since, and when each was refused last.
    jobs: BTreeMap<&'static str, Nanos>,
}

impl Engine {
    /// A file number never given before.
    pub fn next_file_no(&self) -> FileNo {
        self.numbers.take()
    }

    /// Who reads what, as of now; for flush and compaction.
    ///
    /// What must stay readable is counted back from the newest commit that no crash takes. Counted from the visible one
    /// it could lie beyond what a crash leaves, and the versions before that would be gone. A memtable is frozen by a
    /// seal of the log, so whatever is in a table or about to be is durable: this keeps no table longer.
    pub fn readers(&self) -> Readers {
        let kept_from = |visible| self.kept_from(self.committer.durable_seq().min(visible));
        let now = self.snapshots.readers(&self.published, kept_from);
        Readers::new(now.registered, now.visible, now.kept_from)
    }

    /// The oldest sequence that `retain_commits` keep readable when `newest` is the newest.
    pub fn kept_from(&self, newest: Seq) -> Seq {
        self.committer.skipped.back(newest, self.options.retain_commits)
    }

    /// Looks again whether writers must be slowed.
    pub fn judge_pressure(&self) {
        self.cache.give_way();
        let verdict = pressure(&self.published.load(), &self.budget);
        self.pace.urgent.store(verdict != Pressure::None, Ordering::Relaxed);
        self.throttle.set(verdict);
        self.urgency.writers(verdict != Pressure::None);
    }

    /// What counts as slow.
    pub fn slow(&self) -> SlowLimit {
        SlowLimit::new(self.options.slow_operation_us)
    }

    /// The error of the full disk, while it is.
    pub fn disk_full(&self) -> Option<IoError> {
        self.disk_full.lock().as_ref().map(|full| full.error.clone())
    }

    /// The error of the full disk if this job met it again at this time or later.
    pub fn disk_full_again(&self, job: &str, since: Nanos) -> Option<IoError> {
        let disk_full = self.disk_full.lock();
        let full = disk_full.as_ref()?;
        full.jobs.get(job).filter(|last| **last >= since).map(|_| full.error.clone())
    }

    /// A background job found no room.
    pub fn note_disk_full(&self, job: &'static str, error: &IoError) {
        let now = self.env.now();
        let mut disk_full = self.disk_full.lock();
        let first = disk_full.is_none();
        let full = disk_full.get_or_insert_with(|| FullDisk { error: error.clone(), jobs: BTreeMap::new() });
        full.jobs.insert(job, now);
        drop(disk_full);
        if first {
            tracing::warn!(job, %error, "disk full; trying again until there is room");
        }
    }

    /// A background job lacks no room, perhaps because it needs none; others still may.
    pub fn note_room_for(&self, job: &'static str) {
        let was_last = |full: &mut FullDisk| full.jobs.remove(job).is_some() && full.jobs.is_empty();
        let full = self.disk_full.lock().take_if(was_last);
        if full.is_some() {
            tracing::info!(job, "the disk has room again");
        }
    }

    /// A background job wrote new tables, so there is room.
    pub fn note_room(&self, job: &'static str) {
        let full = self.disk_full.lock().take();
        if full.is_some() {
            tracing::info!(job, "the disk has room again");
        }
    }

    /// The newest visible state of now.
    pub fn now(&self) -> (Arc<State>, Seq) {
        self.published.read_view()
    }

    /// The value of `key` as of `seq`, counted and timed.
    pub async fn get(&self, state: &State, id: KeyspaceId, key: &[u8], seq: Seq) -> Result<Option<Value>> {
        self.gate.check_read()?;
        let began = self.env.now();
        let keyspace = keyspace(state, id)?;
        let found = crate::tree::get(keyspace, &self.tables, key, seq).await;
        let elapsed_ns = self.env.now().since(began);
        self.recorder.get.record_ns(elapsed_ns);
        self.slow().judge(elapsed_ns, Timed::Get, Where::Keyspace(&keyspace.name));
        if let Ok(Some(value)) = &found {
            self.recorder.user_bytes_read.add((key.len() + value.len()) as u64);
        }
        found
    }

    /// A walk over `range` as of `seq`.
    pub async fn walk(
        &self,
        state: &State,
        id: KeyspaceId,
        range: KeyRange,
        seq: Seq,
        direction: Direction,
    ) -> Result<VisibleIter> {
        self.gate.check_read()?;
        self.cache.give_way();
        let keyspace = keyspace(state, id)?;
        // A walk waits for the disk here only if it must open tables; the clock is left alone for all others.
        let opens =
            !keyspace.levels[0].is_empty() || keyspace.levels.iter().any(|level| level.deletes_ranges);
        let began = if opens { self.slow().begin(&*self.env) } else { None };
        let walk = VisibleIter::new(keyspace, &self.tables, range, seq, direction).await;
        self.slow().judge_since(began, &*self.env, Timed::Scan, Where::Keyspace(&keyspace.name));
        walk
    }

    /// Refuses a batch that is over the limit of what is committed at once.
    pub fn check_size(&self, batch: &WriteBatch) -> Result<()> {
        let (bytes, limit) = (batch.byte_size() as u64, self.options.transaction_bytes_max);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the batch has {bytes} bytes, over the limit of {limit} (option transaction_bytes_max)"
        )))
    }

    /// Commits a batch in canonical form.
    ///
    /// # Errors
    /// `Conflict` if `check` says so; `Invalid` if a keyspace is gone; `DiskFull`, `TooManyFiles`, `Busy`, `Io`, `Closed`:
    /// it was not written and never will be. `CommitUnknown`, `Stopped`: it may appear, whole, at the next opening.
    pub async fn commit(
        &self,
        batch: WriteBatch,
        check: Option<Check>,
        durability: Durability,
        teller: Option<Teller>,
    ) -> Result<Seq> {
        let began = self.env.now();
        let admitted = match self.gate.check() {
            Ok(()) => self.admit().await,
            Err(closed) => Err(closed),
        };
        if let Err(refused) = admitted {
            if let Some(teller) = &teller {
                teller.tell(&Err(refused.clone()));
            }
            return Err(refused);
        }
        let teller = teller.map(Teller::queued);
        let work = Work::Commit { batch: Arc::new(batch), check, durability, teller };
        let outcome = self.committer.submit(work).await;
        if outcome.is_ok() {
            self.recorder.commit.record_ns(self.env.now().since(began));
        }
        outcome
    }

    /// Holds a writer back while flush and compaction are behind.
    async fn admit(&self) -> Result<()> {
        match self.throttle.get() {
            Pressure::None => {
                // A verdict of the leader eases writers without telling.
                self.urgency.writers(false);
                Ok(())
            }
            Pressure::Slow(delay_us) => {
                mark!("write_slowed");
                self.urgency.writers(true);
                let began = self.env.now();
                self.env.sleep_until(began.after(delay_us * 1000)).await;
                self.recorder.stall.record_ns(self.env.now().since(began));
                Ok(())
            }
            Pressure::Stop => {
                mark!("write_stopped");
                self.urgency.writers(true);
                let began = self.env.now();
                let outcome = self.wait_until_eased(began).await;
                let elapsed_ns = self.env.now().since(began);
                if outcome.is_ok() {
                    self.recorder.stall.record_ns(elapsed_ns);
                }
                self.slow().judge(elapsed_ns, Timed::Stall, Where::Database);
                outcome
            }
        }
    }

    fn why_stopped(&self) -> String {
        let (held, limit) = (self.budget.held(), self.budget.limit());
        if held < limit {
            return "flush and compaction are behind the writers".into();
        }
        let of = |purpose| self.budget.used_by(purpose);
        format!(
            "{held} bytes are held, and memory_limit_bytes is {limit}: memtables {}, transactions {}, values and cursors of \
             readers {}",
            of(Purpose::Memtable),
            of(Purpose::Transaction),
            of(Purpose::Pinned)
        )
    }

    async fn wait_until_eased(&self, began: Nanos) -> Result<()> {
        while self.throttle.get() == Pressure::Stop {
            self.gate.check()?;
            if let Some(full) = self.disk_full() {
                let memory = memory_pressure(&self.published.load(), &self.budget);
                mark!("writer_met_full_disk");
                // Where only a compaction lacks room, writers go on: a flush may have all the room it needs.
                return if memory == Pressure::Stop { Err(Error::DiskFull(full)) } else { Ok(()) };
            }
            let is_memory = memory_pressure(&self.published.load(), &self.budget) == Pressure::Stop;
            let awaited: &[&str] = if is_memory { &["flush"] } else { &["flush", "compaction"] };
            if let Some(refused) = self.refusals.lasting(awaited, began) {
                mark!("writer_told_of_refusal");
                return Err(refused);
            }
            let now = self.env.now();
            if now.since(began) > STOPPED_WAIT_NS {
                mark!("memory_over_budget");
                return Err(Error::Busy(self.why_stopped()));
            }
            either(self.throttle.eased.notified(), self.env.sleep_until(now.after(STOPPED_POLL_NS))).await;
            // A verdict is given by whoever changed the state, so of two that change it at once the one that looked
            // first may speak last; with every writer stopped nothing would ever correct it.
            self.judge_pressure();
        }
        Ok(())
    }
}

/// The keyspace of this number.
pub(crate) fn keyspace(state: &State, id: KeyspaceId) -> Result<&Arc<KeyspaceState>> {
    state.keyspace(id).ok_or_else(|| Error::Invalid(format!("keyspace number {id} was dropped")))
}
