//! One opening: open, look at everything, let the clients go on, and come to an end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast::env::{Env, Nanos};
use holdfast::sync::{Mutex, oneshot};
use holdfast::{Db, Error, Keyspace, Metric, MetricValue, Snapshot};

use super::client::Client;
use super::script::KEYSPACES;
use super::{End, Stage, Stopped, Storm};
use crate::history::{Durable, Ending, Interval, Milestone, Operation, Promise, SURVEYOR};
use crate::oracle::Wrong;

/// How an opening ended, if its process did not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// There is more to do after the next opening.
    OpenAgain,
    /// The script is over.
    Finished,
}

/// An opening under way.
pub(super) struct Opening {
    pub(super) storm: Arc<Storm>,
    pub(super) stage: Arc<dyn Stage>,
    pub(super) env: Arc<dyn Env>,
    pub(super) db: Db,
    pub(super) number: u32,
    is_over: AtomicBool,
    end: Mutex<Option<End>>,
    /// Flushes and compactions of this opening that the counts know of.
    counted: Mutex<(u64, u64)>,
    /// Clients that are at work, and since when there is none.
    at_work: Mutex<(usize, Nanos)>,
}

impl Opening {
    /// No client begins a further step.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// A client asks for nothing until it is at work again.
    pub(super) fn pauses(&self) {
        let mut at_work = self.at_work.lock();
        *at_work = (at_work.0.saturating_sub(1), self.env.now());
    }

    /// A client is at work again.
    pub(super) fn goes_on(&self) {
        let mut at_work = self.at_work.lock();
        if at_work.0 == 0 {
            self.storm.state().counts.idle_ns += self.env.now().since(at_work.1);
        }
        at_work.0 += 1;
    }

    /// See [`Storm::judge`]. Clients of an opening that is about to end may be late, and find it closed.
    pub(super) fn judge(&self, error: &Error, doing: &str) -> Result<(), Stopped> {
        if matches!(error, Error::Closed) && self.is_over() {
            return Ok(());
        }
        self.storm.judge(self.stage.as_ref(), error, doing)
    }

    /// Lets the opening end once each client has ended its step.
    pub(super) fn end_with(&self, end: End) {
        self.end.lock().get_or_insert(end);
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// A keyspace's entries up to its end, or up to what cannot be read.
async fn read_all(snapshot: &Snapshot, keyspace: &Keyspace) -> (Vec<(Vec<u8>, Vec<u8>)>, Result<(), Error>) {
    let mut entries = Vec::new();
    let mut cursor = match snapshot.scan(keyspace, holdfast::Scan::all()).await {
        Ok(cursor) => cursor,
        Err(error) => return (entries, Err(error)),
    };
    loop {
        match cursor.next().await {
            Ok(Some(entry)) => entries.push((entry.key.to_vec(), entry.value.to_vec())),
            Ok(None) => return (entries, Ok(())),
            Err(error) => return (entries, Err(error)),
        }
    }
}

/// How long an opening waits for the lock that the tasks of the last one may still hold: for real ones on a busy machine,
/// too.
const LOCK_WAITS: u32 = 20_000;
const LOCK_WAIT_NS: u64 = 1_000_000;

impl Storm {
    /// One opening. `Err` if the database could not be opened for a reason that a fault explains.
    pub async fn live(self: Arc<Self>, stage: Arc<dyn Stage>) -> Result<Ended, Error> {
        let env = stage.env();
        let db = match self.open(stage.as_ref(), &env).await {
            Ok(db) => db,
            Err(error) => {
                // What explains it is the business of the judge.
                let _ = self.judge(stage.as_ref(), &error, "opening the database");
                return Err(error);
            }
        };
        let number = self.note_opening(&db);
        stage.note(&|| format!("opening {number} finds commit {}", db.last_seq()));
        let storm = Arc::clone(&self);
        let is_over = AtomicBool::new(false);
        let (end, counted, at_work) = (Mutex::new(None), Mutex::new((0, 0)), Mutex::new((0, env.now())));
        let opening = Arc::new(Opening { storm, stage, env, db, number, is_over, end, counted, at_work });
        drop(opening.survey(&opening.db.snapshot()).await);
        opening.run_clients().await;
        let ended = opening.come_to_an_end().await;
        Ok(ended)
    }

    async fn open(&self, stage: &dyn Stage, env: &Arc<dyn Env>) -> Result<Db, Error> {
        let (told, lasting) = {
            let state = self.state();
            (state.newest_told, state.newest_lasting)
        };
        let demanded = if stage.demands() && lasting > 0 {
            self.open_demanding(stage, env, lasting).await?
        } else {
            None
        };
        let db = match demanded {
            Some(db) => db,
            None => self.open_with(stage, env, self.settings.options()).await?,
        };
        if db.last_seq().get() < told {
            stage.meets_replacement(false);
        }
        Ok(db)
    }

    /// Opens what may be another disk as somebody does who knows that a commit must be there. `None` if it is not, and the
    /// database said so: then it is opened, or created, with what there is.
    async fn open_demanding(
        &self,
        stage: &dyn Stage,
        env: &Arc<dyn Env>,
        lasting: u64,
    ) -> Result<Option<Db>, Error> {
        let options = self.settings.options();
        let demanding = holdfast::Options { at_least: lasting, ..options.clone() };
        match self.open_with(stage, env, demanding).await {
            Ok(db) => {
                let last = db.last_seq().get();
                if last < lasting {
                    let what =
                        format!("an opening demanded commit {lasting}, found {last}, and was not refused");
                    self.wrong(Wrong::LostWrite, what);
                }
                return Ok(Some(db));
            }
            Err(Error::Invalid(what)) if what.contains("at_least") => stage.meets_replacement(true),
            Err(error) => return Err(error),
        }
        // What was refused must not have been created on the way.
        match self.open_with(stage, env, holdfast::Options { create_if_missing: false, ..options }).await {
            Ok(db) => {
                let last = db.last_seq().get();
                if last >= lasting {
                    let what =
                        format!("an opening that demanded commit {lasting} was refused, but {last} is there");
                    self.wrong(Wrong::Unavailable, what);
                }
                Ok(Some(db))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn open_with(
        &self,
        stage: &dyn Stage,
        env: &Arc<dyn Env>,
        options: holdfast::Options,
    ) -> Result<Db, Error> {
        let mut waited = 0;
        self.state().opens();
        loop {
            match Db::open_in(Arc::clone(env), stage.dir(), options.clone()).await {
                Err(Error::Locked(_)) if waited < LOCK_WAITS => {
                    waited += 1;
                    env.sleep_until(env.now().after(LOCK_WAIT_NS)).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn note_opening(&self, db: &Db) -> u32 {
        let infos = db.keyspaces().unwrap_or_default();
        let numbered = infos.iter().filter_map(|info| {
            let slot = KEYSPACES.iter().position(|name| *name == info.name)?;
            Some((u8::try_from(slot).ok()?, info.id.get()))
        });
        let keyspaces: Vec<(u8, u32)> = numbered.collect();
        if keyspaces.len() != infos.len() {
            self.wrong(Wrong::Structure, format!("an opening found keyspaces of strange names: {infos:?}"));
        }
        let last = db.last_seq().get();
        let mut state = self.state();
        state.passes(Milestone::Opened(last, keyspaces));
        u32::try_from(state.counts.openings - 1).expect("fewer than 2^32 openings")
    }
}

impl Opening {
    /// Reads everything at a snapshot, for the oracles. Gives the files that were found damaged.
    pub(super) async fn survey(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        let mut damaged = Vec::new();
        let number = {
            let mut state = self.storm.state();
            let number = state.begin(SURVEYOR, self.number, (Promise::View, Durable::Buffered));
            state.views(number, snapshot.seq().get());
            number
        };
        let listed = self.db.keyspaces();
        if let Err(error) = &listed {
            self.storm.wrong(Wrong::Unavailable, format!("the keyspaces cannot be listed: {error}"));
        }
        for info in listed.unwrap_or_default() {
            let keyspace = match self.db.keyspace(&info.name) {
                Ok(keyspace) => keyspace,
                Err(error) => {
                    let what = format!("{} is listed, but cannot be opened: {error}", info.name);
                    self.storm.wrong(Wrong::Structure, what);
                    break;
                }
            };
            let (entries, outcome) = read_all(snapshot, &keyspace).await;
            let found = self.storm.decoded(entries);
            let complete = outcome.is_ok();
            {
                let mut state = self.storm.state();
                state.counts.read += found.len() as u64;
                // One that finds nothing is judged too.
                state.counts.read_since_opening += found.len() as u64 + u64::from(complete);
                let (keyspace, interval) = (info.id.get(), Interval::ALL);
                // Of a walk that found nothing and broke off nothing is known.
                if complete || !found.is_empty() {
                    let scan = Operation::Scan { keyspace, interval, reverse: false, found, complete };
                    state.did(number, scan);
                }
            }
            if let Err(error) = outcome {
                if let Error::Corrupt { file, .. } = &error {
                    damaged.push(file.clone());
                }
                let judged = self.judge(&error, "reading everything");
                // That it must not be readable has been judged too.
                self.storm.state().counts.read_since_opening += 1;
                if judged.is_err() {
                    break;
                }
            }
        }
        let view = snapshot.seq().get();
        self.storm.state().ends(number, Ending::Committed(view));
        damaged
    }

    /// Runs all clients until each has nothing more to do in this opening.
    async fn run_clients(self: &Arc<Self>) {
        let mut running = Vec::new();
        self.at_work.lock().0 = self.storm.script.clients.len();
        for number in 0..self.storm.script.clients.len() {
            let (done, told) = oneshot::channel();
            let client = Client::new(Arc::clone(self), number);
            let future = async move {
                client.run().await;
                client.opening.pauses();
                let _ = done.send(());
            };
            self.stage.spawn("client", Box::pin(future));
            running.push(told);
        }
        for told in running {
            // A client that is dropped takes the process with it.
            let _ = told.await;
        }
    }

    async fn come_to_an_end(self: Arc<Self>) -> Ended {
        self.look();
        // Nothing is under way now.
        let _ = self.look_far_back();
        let end = *self.end.lock();
        let has_more = !self.storm.is_over();
        if !has_more && self.stage.is_calm() && !self.storm.is_lost() {
            self.find_nothing_left().await;
        }
        let ended = if has_more { Ended::OpenAgain } else { Ended::Finished };
        let milestone = match end {
            Some(End::Drop) => Milestone::Killed,
            Some(End::Close) | None => match self.db.clone().close().await {
                Ok(()) => Milestone::Closed,
                Err(error) => {
                    let _ = self.judge(&error, "closing");
                    Milestone::Killed
                }
            },
        };
        let mut state = self.storm.state();
        state.tell_counts();
        state.passes(milestone);
        ended
    }

    /// After the last step: everything works, and nothing is left over.
    async fn find_nothing_left(&self) {
        if let Err(wrong) = self.settle().await {
            self.storm.wrong(Wrong::Unavailable, format!("after the last step: {wrong}"));
            return;
        }
        let (_, readers) = self.db.oldest_reader();
        if readers != 0 {
            self.storm
                .wrong(Wrong::LeakedFile, format!("{readers} readers are registered, but none is left"));
        }
        let of_transactions = |metric: &&Metric| {
            metric.name == "holdfast_memory_bytes" && metric.labels.iter().any(|(_, of)| of == "transaction")
        };
        let metrics = self.db.metrics();
        let charged = metrics.all.iter().find(of_transactions).map(|metric| metric.value.clone());
        if charged != Some(MetricValue::Gauge(0)) {
            let what = format!("{charged:?} bytes are charged to transactions, but none is left");
            self.storm.wrong(Wrong::LeakedFile, what);
        }
        let damaged = self.survey(&self.db.snapshot()).await;
        let Some(named) = self.verify("at the end").await else { return };
        if let Some(file) = damaged.iter().find(|file| !named.contains(file)) {
            let what = format!("verify finds nothing in {}, which a reader found damaged", file.display());
            self.storm.wrong(Wrong::Structure, what);
        }
    }

    async fn settle(&self) -> Result<(), Error> {
        self.db.flush().await?;
        self.db.wait_idle().await
    }

    /// Every checksum and every file; what no fault explains is wrong. Gives the files that it names, if it came to its end.
    pub(super) async fn verify(&self, when: &str) -> Option<Vec<PathBuf>> {
        let report = match self.db.verify().await {
            Ok(report) => report,
            Err(error) => {
                let _ = self.judge(&error, "verifying");
                return None;
            }
        };
        for problem in &report.problems {
            let error = Error::Corrupt { file: problem.file.clone(), offset: 0, what: problem.what.clone() };
            let is_unread =
                problem.what.starts_with("cannot be read") && self.stage.may_be_unreadable(&problem.file);
            if !is_unread && !self.stage.explains(&error) {
                let what = format!("verify, {when}: {}: {}", problem.file.display(), problem.what);
                self.storm.wrong(Wrong::Structure, what);
            }
        }
        Some(report.problems.into_iter().map(|problem| problem.file).collect())
    }

    /// Adds to the counts what happened since the last look.
    pub(super) fn look(&self) {
        // Held from the look on, so that two who look count each thing once.
        let mut counted = self.counted.lock();
        let metrics = self.db.metrics();
        let infos = self.db.keyspaces().unwrap_or_default();
        let deepest = infos.iter().filter_map(|info| info.levels.iter().rposition(|level| level.tables > 0));
        let deepest = deepest.max().map_or(0, |level| level as u64);
        let now = (metrics.number("holdfast_flushes_total"), metrics.number("holdfast_compactions_total"));
        let before = std::mem::replace(&mut *counted, now);
        let mut state = self.storm.state();
        state.counts.flushes += now.0 - before.0;
        state.counts.compactions += now.1 - before.1;
        state.counts.deepest_level = state.counts.deepest_level.max(deepest);
        state.tell_counts();
    }
}
