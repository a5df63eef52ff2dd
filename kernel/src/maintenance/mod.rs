//! Background work: who does what, how it is woken, and how it ends.
//!
//! | task | does | woken by |
//! |---|---|---|
//! | structure | serves the manifest's door | a change asked for |
//! | commit | runs commit groups whose leader went away, and controls of the log for background tasks | an orphan |
//! | log | makes segments ahead, removes old ones | a segment taken or let go |
//! | seal | flushes `Buffered` commits, seals the idle log | the first commit after a seal |
//! | flush | frozen memtable → table; freezes what pins the log's oldest part | a freeze |
//! | compaction | picks and runs jobs | a flush, a compaction |
//! | cleaner | deletes tables that no state lists | the last reader leaving |
//!
//! Flush, compaction and cleaner run at background priority, raised while writers are held back. No background task
//! leads a commit group ([`Committer::delegate`](crate::commit::Committer::delegate)).
//!
//! On a full disk a task says so once, gives the reserve free, and tries again every 50 ms; so writes resume by
//! themselves within a fraction of a second of the space appearing. What the system refuses otherwise is tried again at
//! growing pauses ([`refusals`](crate::refusals)). Whoever waits for the work, a writer or a close too, gets the error and
//! not an endless wait.

mod cleaner;
mod compacting;
mod flushing;
mod keeper;
mod reserve;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

pub(crate) use reserve::Reserve;

use crate::check::mark;
use crate::commit::Work;
use crate::engine::Engine;
use crate::env::{BoxFuture, IoErrorKind, Nanos, TaskClass};
use crate::error::{Error, Result};
use crate::manifest::door::Note;
use crate::manifest::{Change, ManifestWriter, Version};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, Notify, either, oneshot};
use crate::table::TableMeta;
use crate::tree::Memory;
use crate::types::KeyspaceId;
use crate::types::file_name::{self, FileKind};

/// How long background work waits before it tries again what found no room.
pub(crate) const RETRY_NS: u64 = 50_000_000;
/// How often waiters look again by themselves, should a wake-up be missed.
const LOOK_AGAIN_NS: u64 = 5_000_000;
/// A full disk that an earlier try met may have room by now, and a try may be doing well: whoever waits is told when one
/// was refused so long after the wait began.
const FULL_LASTING_NS: u64 = 4 * RETRY_NS;

/// What the tasks share beside the engine.
pub(crate) struct Crew {
    pub stop: AtomicBool,
    /// Something was flushed, compacted or given up.
    pub progress: Notify,
    pub compaction_wanted: Notify,
    /// Cuts pauses short when the crew stops.
    pub stopped: Notify,
    pub compaction: Mutex<compacting::Agenda>,
    pub reserve: Reserve,
    /// A flush or compaction under way.
    pub working: AtomicU64,
    running: AtomicU64,
    ended: Notify,
}

impl Crew {
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The tasks of one opening.
pub(crate) struct Maintenance {
    crew: Arc<Crew>,
}

/// Parts that only the tasks need.
pub(crate) struct Parts {
    pub manifest: ManifestWriter,
    pub reserve: Reserve,
}

impl Maintenance {
    /// Starts all tasks.
    ///
    /// # Errors
    /// `Busy` if the system refuses a thread; the tasks that were started end.
    pub fn start(engine: &Arc<Engine>, parts: Parts) -> Result<Self> {
        let crew = Arc::new(Crew {
            stop: AtomicBool::new(false),
            progress: Notify::new(),
            compaction_wanted: Notify::new(),
            stopped: Notify::new(),
            compaction: Mutex::new(compacting::Agenda::default()),
            reserve: parts.reserve,
            working: AtomicU64::new(0),
            running: AtomicU64::new(0),
            ended: Notify::new(),
        });
        let maintenance = Self { crew };
        if let Err(error) = maintenance.start_tasks(engine, parts.manifest) {
            maintenance.abandon(engine);
            return Err(error);
        }
        Ok(maintenance)
    }

    fn start_tasks(&self, engine: &Arc<Engine>, mut manifest: ManifestWriter) -> Result<()> {
        let crew = &self.crew;
        let follower = {
            let (published, graveyard) = (engine.published.clone(), engine.graveyard.clone());
            Box::new(move |version: &Arc<_>, note: &Note| {
                let flushed = note.flushed.clone().and_then(|memory| memory.downcast().ok());
                published.update(|state| Some(state.following(version, flushed.as_ref(), &graveyard)));
            })
        };
        manifest.report_slow(engine.slow());
        engine.tables.report_slow(engine.options.slow_operation_us);
        let structure = engine.door.clone().serve(manifest, follower, engine.gate.clone());
        self.start_task(engine, "holdfast-manifest", TaskClass::Foreground, Box::pin(structure))?;
        self.start_task(
            engine,
            "holdfast-commit",
            TaskClass::Foreground,
            Box::pin(keeper::orphans(engine.clone(), crew.clone())),
        )?;
        self.start_task(
            engine,
            "holdfast-log",
            TaskClass::Foreground,
            Box::pin(keeper::keep_segments(engine.clone(), crew.clone())),
        )?;
        self.start_task(
            engine,
            "holdfast-seal",
            TaskClass::Foreground,
            Box::pin(keeper::keep_sealed(engine.clone(), crew.clone())),
        )?;
        self.start_task(
            engine,
            "holdfast-flush",
            TaskClass::Background,
            Box::pin(flushing::run(engine.clone(), crew.clone())),
        )?;
        for _ in 0..engine.options.compactions_max {
            let task = compacting::run(engine.clone(), crew.clone());
            self.start_task(engine, "holdfast-compact", TaskClass::Background, Box::pin(task))?;
        }
        self.start_task(
            engine,
            "holdfast-clean",
            TaskClass::Background,
            Box::pin(cleaner::run(engine.clone(), crew.clone())),
        )
    }

    fn start_task(
        &self,
        engine: &Arc<Engine>,
        name: &'static str,
        class: TaskClass,
        future: BoxFuture<'static, ()>,
    ) -> Result<()> {
        let crew = self.crew.clone();
        crew.running.fetch_add(1, Ordering::AcqRel);
        let counted = Box::pin(async move {
            let _ended = Ended(crew);
            future.await;
        });
        let task = engine.env.spawn(name, class, counted).map_err(|refused| {
            Error::Busy(format!("the system refused to start the task {name}: {}", refused.detail))
        })?;
        if class == TaskClass::Background {
            engine.urgency.add(task);
        }
        Ok(())
    }

    /// Ends all tasks without waiting and without a further write; for the drop of the last handle.
    pub fn abandon(&self, engine: &Engine) {
        if engine.gate.close() {
            tracing::info!(dir = %engine.dir.display(), "the last handle was dropped without a close");
        }
        self.stop_tasks(engine);
        engine.door.close();
    }

    fn stop_tasks(&self, engine: &Engine) {
        self.crew.stop.store(true, Ordering::Release);
        engine.pace.stop();
        // Each of these has one waiter, for whom a permit is stored if it is not waiting yet. Compaction tasks wake
        // each other as they end.
        engine.changed.notify_one();
        engine.graveyard.changed.notify_one();
        engine.committer.orphans.arrived.notify_one();
        engine.committer.segments_changed.notify_one();
        engine.committer.unsealed.notify_one();
        self.crew.compaction_wanted.notify_one();
        self.crew.stopped.notify_all();
        self.crew.progress.notify_all();
        engine.urgency.end();
    }

    /// Freezes and flushes everything, and waits for it. Every commit before it is durable then.
    pub async fn flush_all(&self, engine: &Engine) -> Result<()> {
        let _waiting = engine.urgency.wait();
        let last = engine.published.visible();
        let state = engine.published.load();
        for &id in state.keyspaces.keys() {
            engine.committer.delegate(Work::Freeze(id)).await?;
        }
        // What is frozen after this is not waited for, or writers could keep the caller here for ever.
        let newest_frozen: BTreeMap<KeyspaceId, Weak<Memory>> = engine
            .published
            .load()
            .keyspaces
            .values()
            .filter_map(|keyspace| Some((keyspace.id, Arc::downgrade(keyspace.frozen.first()?))))
            .collect();
        self.wait_until(engine, &["flush"], move |engine| {
            let state = engine.published.load();
            newest_frozen.iter().all(|(id, awaited)| {
                let Some(keyspace) = state.keyspace(*id) else { return true };
                !keyspace.frozen.iter().any(|memory| std::ptr::eq(Arc::as_ptr(memory), awaited.as_ptr()))
            })
        })
        .await?;
        // Commits to a keyspace that was dropped since are in no memtable, but they have a number.
        if engine.committer.durable_seq() < last {
            engine.committer.delegate(Work::Sync).await?;
        }
        Ok(())
    }

    /// Compacts every keyspace fully, and waits for it.
    pub async fn compact_all(&self, engine: &Engine) -> Result<()> {
        engine.gate.check()?;
        let _waiting = engine.urgency.wait();
        self.flush_all(engine).await?;
        let ids: Vec<_> = engine.published.load().keyspaces.keys().copied().collect();
        let answers: Vec<_> = {
            let mut agenda = self.crew.compaction.lock();
            ids.into_iter().map(|id| agenda.ask(id)).collect()
        };
        self.crew.compaction_wanted.notify_one();
        for answer in answers {
            self.wait_for_compaction(engine, answer).await?;
        }
        self.shrink_log(engine).await
    }

    /// Waits for the answer of a compaction that was asked for; not for ever if it is made and cannot be listed.
    async fn wait_for_compaction(
        &self,
        engine: &Engine,
        mut answer: oneshot::Receiver<Result<()>>,
    ) -> Result<()> {
        let began = engine.env.now();
        loop {
            let progress = self.crew.progress.notified();
            if let Some(outcome) = answer.try_take() {
                return outcome.unwrap_or_else(|_| Err(engine.gate.why_unanswered()));
            }
            let now = engine.env.now();
            if let Some(full) = engine.disk_full_again("compaction", began.after(FULL_LASTING_NS)) {
                mark!("compaction_not_awaited");
                return Err(Error::DiskFull(full));
            }
            if let Some(refused) = engine.refusals.lasting(&["compaction"], began) {
                return Err(refused);
            }
            either(progress, engine.env.sleep_until(now.after(LOOK_AGAIN_NS))).await;
        }
    }

    /// Waits until nothing is running or due, and needless files are gone.
    pub async fn wait_idle(&self, engine: &Engine) -> Result<()> {
        let _waiting = engine.urgency.wait();
        let crew = self.crew.clone();
        self.wait_until(engine, &["flush", "compaction"], move |engine| {
            let state = engine.published.load();
            let due = compacting::is_due(engine, &crew, &state);
            if due {
                // A reader that leaves makes deletes droppable and tells nobody: that would cost every transaction.
                crew.compaction_wanted.notify_one();
            }
            crew.working.load(Ordering::Acquire) == 0
                && state.keyspaces.values().all(|keyspace| keyspace.frozen.is_empty())
                && engine.graveyard.is_clear()
                && !due
        })
        .await
    }

    /// Waits for what `jobs` bring about; not for ever if they cannot.
    async fn wait_until(
        &self,
        engine: &Engine,
        jobs: &[&'static str],
        done: impl Fn(&Engine) -> bool,
    ) -> Result<()> {
        let began = engine.env.now();
        loop {
            if done(engine) {
                return Ok(());
            }
            if let Some(why) = engine.gate.stopped() {
                return Err(Error::Stopped(why));
            }
            if self.crew.stopping() {
                return Err(Error::Closed);
            }
            if let Some(full) = engine.disk_full() {
                return Err(Error::DiskFull(full));
            }
            let now = engine.env.now();
            if let Some(refused) = engine.refusals.lasting(jobs, began) {
                return Err(refused);
            }
            let again = now.after(LOOK_AGAIN_NS);
            either(self.crew.progress.notified(), engine.env.sleep_until(again)).await;
        }
    }

    /// Flushes, seals, ends all tasks, and lets go of the directory.
    pub async fn close(&self, engine: &Arc<Engine>) -> Result<()> {
        if !engine.gate.close() {
            return Err(Error::Closed);
        }
        let mut result = match engine.gate.stopped() {
            Some(why) => Err(Error::Stopped(why)),
            None => self.flush_all(engine).await,
        };
        engine.pace.stop();
        if engine.gate.stopped().is_none() {
            let sealed = self.seal_log(engine).await;
            result = result.and(sealed);
        }
        self.stop_tasks(engine);
        engine.door.close();
        while self.crew.running.load(Ordering::Acquire) > 0 {
            let again = engine.env.now().after(LOOK_AGAIN_NS);
            either(self.crew.ended.notified(), engine.env.sleep_until(again)).await;
        }
        // The cleaner may have ended before the compaction that made the last tables needless.
        cleaner::clear(engine).await;
        engine.lock.lock().take();
        tracing::info!(dir = %engine.dir.display(), "database closed");
        result
    }

    /// Gives the space of the log back, as far as no memtable needs it.
    async fn shrink_log(&self, engine: &Engine) -> Result<()> {
        match engine.committer.delegate(Work::Shrink).await {
            // A log that finds no room to shrink, or no descriptor for the segment to go on in, stays as it is.
            Ok(_) | Err(Error::DiskFull(_) | Error::TooManyFiles(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn seal_log(&self, engine: &Arc<Engine>) -> Result<()> {
        self.shrink_log(engine).await?;
        engine.committer.delegate(Work::Close).await?;
        engine.committer.segments.remove_released().await?;
        let (last_seq, last_timestamp) = (engine.published.visible(), engine.committer.last_timestamp());
        // What is left of the reservation is given back, but never a number that was shown and lost.
        let last_given = engine.committer.last_given();
        // A commit that was refused after it got its time is in the manifest already: shrinking the log told the clock's.
        let decide = move |version: &Version| {
            let told = [Change::LastSeq(last_seq), Change::LastTimestamp(last_timestamp)];
            let mut changes: Vec<_> =
                told.into_iter().filter_map(|change| version.still_news(change)).collect();
            changes.extend([Change::SeqReserved { until: last_given }, Change::CleanClose]);
            Ok(changes)
        };
        engine.door.change_with(decide).await?;
        Ok(())
    }
}

/// A piece of background work under way; idleness waits for it.
pub(crate) struct Working<'a> {
    crew: &'a Crew,
}

impl<'a> Working<'a> {
    fn begin(crew: &'a Crew) -> Self {
        crew.working.fetch_add(1, Ordering::AcqRel);
        Self { crew }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.crew.working.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts a task out when its future ends or is dropped.
struct Ended(Arc<Crew>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_one();
    }
}

/// What a background task does about an error.
pub(crate) enum Reaction {
    /// Wait so many nanoseconds and try again.
    Retry(u64),
    /// Give this piece of work up; it is logged.
    GiveUp,
    /// End: the database is closing or has stopped.
    End,
}

/// Judges the error of a background job; notes a full disk and gives the reserve free.
pub(crate) async fn react(engine: &Engine, crew: &Crew, job: &'static str, error: &Error) -> Reaction {
    match error {
        Error::Closed => Reaction::End,
        Error::Stopped(why) => {
            engine.gate.stop(why);
            crew.progress.notify_all();
            Reaction::End
        }
        Error::DiskFull(full) => {
            mark!("background_disk_full");
            engine.note_disk_full(job, full);
            crew.reserve.release(&*engine.env).await;
            engine.throttle.eased.notify_all();
            crew.progress.notify_all();
            Reaction::Retry(RETRY_NS)
        }
        Error::TooManyFiles(_) | Error::Busy(_) => refused(engine, crew, job, error),
        Error::Io(io) if io.kind == IoErrorKind::Transient => refused(engine, crew, job, error),
        error => {
            tracing::error!(job, %error, "background work given up");
            Reaction::GiveUp
        }
    }
}

fn refused(engine: &Engine, crew: &Crew, job: &'static str, error: &Error) -> Reaction {
    mark!("background_refused");
    let pause_ns = engine.refusals.note(job, error, engine.env.now());
    crew.progress.notify_all();
    Reaction::Retry(pause_ns)
}

/// Asks the door for changes that list finished tables, until it is certain whether they were made. A refusal for want
/// of room may yet count at the next opening, so what the changes name is kept and the same changes are asked for again.
///
/// # Errors
/// Whether it was made is unknown, unless [`is_certainly_not_made`].
pub(crate) async fn list_tables(
    engine: &Engine,
    crew: &Crew,
    job: &'static str,
    keyspace: KeyspaceId,
    note: &Note,
    changes: &[Change],
) -> Result<Arc<Version>> {
    loop {
        let asked = changes.to_vec();
        let decide = move |version: &Version| {
            if !version.keyspaces.contains_key(&keyspace) {
                return Ok(Vec::new());
            }
            Ok(asked.into_iter().filter_map(|change| version.still_news(change)).collect())
        };
        let error = match engine.door.change_noting(note.clone(), decide).await {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        match react(engine, crew, job, &error).await {
            Reaction::Retry(pause_ns) if !crew.stopping() => {
                mark!("tables_listed_again");
                pause_unless_stopped(engine, crew, pause_ns).await;
            }
            _ => return Err(error),
        }
    }
}

/// True if the change that gave `error` was certainly not made and never will be: what it names may be removed. An
/// earlier refusal of the same change for want of room may yet count, so a door that is not settled says nothing.
pub(crate) fn is_certainly_not_made(engine: &Engine, error: &Error) -> bool {
    match error {
        Error::Invalid(_) => true,
        Error::Closed => engine.door.is_settled(),
        _ => false,
    }
}

/// Removes finished tables that no manifest can list.
pub(crate) async fn remove_tables(engine: &Engine, tables: &[TableMeta]) {
    for table in tables {
        // What cannot be removed now is an orphan, and the next opening removes it.
        drop(engine.env.disk().remove(&file_name::path(&engine.dir, FileKind::Table, table.no)).await);
    }
}

/// Waits a little, or until the crew stops.
pub(crate) async fn pause_unless_stopped(engine: &Engine, crew: &Crew, nanos: u64) {
    // Made before the question: whoever stops the crew wakes those who listen, and leaves no permit.
    let stopped = crew.stopped.notified();
    if !crew.stopping() {
        let deadline = engine.env.now().after(nanos);
        either(stopped, engine.env.sleep_until(deadline)).await;
    }
}

/// Waits a little, or until woken.
pub(crate) async fn pause(engine: &Engine, wake: &Notify, nanos: u64) {
    let deadline: Nanos = engine.env.now().after(nanos);
    either(wake.notified(), engine.env.sleep_until(deadline)).await;
}
