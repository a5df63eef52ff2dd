//! Picks compactions and runs them, one keyspace at a time; full compactions that were asked for come first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{
    Crew, RETRY_NS, Reaction, Working, is_certainly_not_made, list_tables, pause_unless_stopped, react,
    remove_tables,
};
use crate::check::{Phase, mark};
use crate::compaction::pick::{self, Job, LAST_LEVEL};
use crate::compaction::rewrite::{Made, Workshop};
use crate::compaction::run as job_run;
use crate::engine::Engine;
use crate::env::{IoErrorKind, Nanos};
use crate::error::{Error, Result};
use crate::events::{Timed, Where};
use crate::manifest::Change;
use crate::manifest::door::Note;
use crate::options::LEVELS;
use crate::sync::{Notified, either, oneshot};
use crate::tree::{KeyspaceState, State, TableHandle};
use crate::types::file_name::{self, FileKind};
use crate::types::{FileNo, KeyspaceId};

/// A table that so many jobs could not read is as good as damaged.
const UNREADABLE_MAX: u32 = 3;

/// A keyspace whose job failed for a reason that nobody waits out is left alone for so long. Not for ever: writers may
/// be waiting for that very job, so that nothing else changes any more.
const GIVEN_UP_NS: u64 = 1_000_000_000;

/// Where jobs of a keyspace go on, per level.
type Cursor = [Vec<u8>; LEVELS];

/// What the compaction tasks agree on.
pub(crate) struct Agenda {
    /// Keyspaces that a task works on.
    busy: BTreeSet<KeyspaceId>,
    cursors: BTreeMap<KeyspaceId, Cursor>,
    /// `None` once no task is left to serve it.
    asked: Option<VecDeque<Asked>>,
    /// Keyspaces whose last job failed: left alone until then, or until something changes.
    given_up: BTreeMap<KeyspaceId, Nanos>,
}

struct Asked {
    keyspace: KeyspaceId,
    answer: oneshot::Sender<Result<()>>,
}

impl Default for Agenda {
    fn default() -> Self {
        Self {
            busy: BTreeSet::new(),
            cursors: BTreeMap::new(),
            asked: Some(VecDeque::new()),
            given_up: BTreeMap::new(),
        }
    }
}

impl Agenda {
    /// Something changed: keyspaces that were given up are worth another try.
    pub fn try_again(&mut self) {
        self.given_up.clear();
    }

    /// Asks for a full compaction of a keyspace.
    pub fn ask(&mut self, keyspace: KeyspaceId) -> oneshot::Receiver<Result<()>> {
        let (answer, answered) = oneshot::channel();
        if let Some(asked) = self.asked.as_mut() {
            // One that nobody waits for any more would do nothing that this one does not.
            asked.retain(|asked| asked.keyspace != keyspace || !asked.answer.is_closed());
            asked.push_back(Asked { keyspace, answer });
        }
        answered
    }
}

/// The task.
pub(crate) async fn run(engine: Arc<Engine>, crew: Arc<Crew>) {
    loop {
        let wanted = crew.compaction_wanted.notified();
        if crew.stopping() {
            break;
        }
        if let Some((asked, working)) = next_asked(&crew) {
            let outcome = compact_fully(&engine, &crew, asked.keyspace).await;
            release(&crew, asked.keyspace);
            drop(working);
            let _ = asked.answer.send(outcome);
            crew.progress.notify_all();
            continue;
        }
        let Some((keyspace, job, working)) = next_job(&engine, &crew) else {
            // Another task may be at the very job that lacks room.
            if crew.compaction.lock().busy.is_empty() {
                engine.note_room_for("compaction");
                engine.refusals.note_over("compaction");
            }
            wait_for_work(&engine, &crew, wanted).await;
            continue;
        };
        let outcome = run_job(&engine, &crew, &keyspace, &job).await;
        advance_cursor(&crew, &job);
        release(&crew, keyspace.id);
        engine.judge_pressure();
        let reaction = match outcome {
            Ok(()) => {
                engine.note_room("compaction");
                engine.refusals.note_over("compaction");
                None
            }
            Err(error) => Some(after_failure(&engine, &crew, &job, &error).await),
        };
        // Whoever waits for idleness may count the files then: the inputs that were replaced are let go first.
        drop((keyspace, job));
        drop(working);
        crew.progress.notify_all();
        match reaction {
            Some(Reaction::End) => break,
            Some(Reaction::Retry(pause_ns)) => pause_unless_stopped(&engine, &crew, pause_ns).await,
            Some(Reaction::GiveUp) | None => {}
        }
    }
    // Whoever still waits for a full compaction learns that it will not happen.
    let unanswered = crew.compaction.lock().asked.take();
    drop(unanswered);
    crew.progress.notify_all();
    crew.compaction_wanted.notify_one();
}

/// Waits until a compaction is wanted, or a keyspace was left alone for long enough.
async fn wait_for_work(engine: &Engine, crew: &Crew, wanted: Notified<'_>) {
    let again = crew.compaction.lock().given_up.values().min().copied();
    match again {
        Some(again) => either(wanted, engine.env.sleep_until(again)).await,
        None => wanted.await,
    }
}

fn next_asked(crew: &Crew) -> Option<(Asked, Working<'_>)> {
    let mut agenda = crew.compaction.lock();
    let at = agenda.asked.iter().flatten().position(|asked| !agenda.busy.contains(&asked.keyspace))?;
    let asked = agenda.asked.as_mut()?.remove(at)?;
    agenda.busy.insert(asked.keyspace);
    Some((asked, Working::begin(crew)))
}

/// What is due, taken: at every moment it is seen as due or as worked on.
fn next_job<'a>(engine: &Engine, crew: &'a Crew) -> Option<(Arc<KeyspaceState>, Job, Working<'a>)> {
    let state = engine.published.load();
    let mut agenda = crew.compaction.lock();
    let now = engine.env.now();
    agenda.given_up.retain(|_, again| *again > now);
    let (keyspace, job) = due(engine, &agenda, &state)?;
    agenda.busy.insert(keyspace.id);
    Some((keyspace, job, Working::begin(crew)))
}

/// The first job due in any keyspace that nobody works on.
fn due(engine: &Engine, agenda: &Agenda, state: &State) -> Option<(Arc<KeyspaceState>, Job)> {
    let readers = engine.readers();
    let now = engine.env.now();
    let nothing_busy = |_: &TableHandle| false;
    state
        .keyspaces
        .values()
        .filter(|keyspace| !agenda.busy.contains(&keyspace.id))
        .filter(|keyspace| agenda.given_up.get(&keyspace.id).is_none_or(|again| *again <= now))
        .find_map(|keyspace| {
            let fresh = Cursor::default();
            let cursor = agenda.cursors.get(&keyspace.id).unwrap_or(&fresh);
            pick::pick(keyspace, &readers, &nothing_busy, cursor).map(|job| (keyspace.clone(), job))
        })
}

/// True if a compaction is asked for or due.
pub(crate) fn is_due(engine: &Engine, crew: &Crew, state: &State) -> bool {
    let agenda = crew.compaction.lock();
    agenda.asked.iter().flatten().next().is_some() || due(engine, &agenda, state).is_some()
}

fn release(crew: &Crew, keyspace: KeyspaceId) {
    crew.compaction.lock().busy.remove(&keyspace);
    crew.compaction_wanted.notify_one();
}

fn advance_cursor(crew: &Crew, job: &Job) {
    let largest = job.upper.iter().map(|table| table.meta().largest.to_vec()).max().unwrap_or_default();
    let mut agenda = crew.compaction.lock();
    agenda.cursors.entry(job.keyspace).or_default()[job.level] = largest;
}

/// Runs one job up to the answer of the manifest.
async fn run_job(engine: &Arc<Engine>, crew: &Crew, keyspace: &Arc<KeyspaceState>, job: &Job) -> Result<()> {
    let began = engine.env.now();
    let _phase = Phase::begin("compaction");
    let readers = engine.readers();
    let made = match job.is_move() {
        true => {
            mark!("compaction_moved");
            None
        }
        false => {
            let next_file_no = || engine.next_file_no();
            let workshop = Workshop {
                env: &engine.env,
                dir: &engine.dir,
                next_file_no: &next_file_no,
                pace: &engine.pace,
            };
            Some(job_run::run(&workshop, &engine.tables, keyspace, job, &readers).await?)
        }
    };
    let mut changes =
        made.as_ref().map_or_else(|| job_run::move_changes(job), |made| job_run::changes(job, made));
    changes.push(Change::RetainedFrom(readers.kept_from()));
    let tables = made.as_ref().map_or(&[][..], |made| &made.tables);
    let listed = list_tables(engine, crew, "compaction", keyspace.id, &Note::default(), &changes).await;
    let needless = match &listed {
        Ok(version) => !version.keyspaces.contains_key(&keyspace.id),
        Err(error) => is_certainly_not_made(engine, error),
    };
    if needless {
        mark!("compaction_needless");
        remove_tables(engine, tables).await;
    }
    listed?;
    count(engine, job, made.as_ref());
    let elapsed_ns = engine.env.now().since(began);
    tracing::info!(
        keyspace = &*keyspace.name,
        reason = ?job.reason,
        from = job.level,
        to = job.output_level,
        inputs = job.inputs().count(),
        bytes = job.input_bytes(),
        elapsed_us = elapsed_ns / 1000,
        "compacted"
    );
    engine.slow().judge(elapsed_ns, Timed::Compaction, Where::Keyspace(&keyspace.name));
    Ok(())
}

fn count(engine: &Engine, job: &Job, made: Option<&Made>) {
    let recorder = &engine.recorder;
    recorder.compactions.add(1);
    if let Some(made) = made {
        recorder.compaction_bytes_read.add(job.input_bytes());
        recorder.compaction_bytes_written.add(made.tables.iter().map(|table| table.bytes).sum());
        recorder.versions_dropped.add(made.versions_dropped);
    }
}

async fn after_failure(engine: &Arc<Engine>, crew: &Crew, job: &Job, error: &Error) -> Reaction {
    if let Some(table) = damaged(job, error) {
        // What the disk cannot read now it may read later; what it read and is wrong stays so.
        if matches!(error, Error::Io(_)) && table.note_unreadable() < UNREADABLE_MAX {
            mark!("compaction_input_unreadable");
            tracing::warn!(%error, table = table.meta().no.get(), "a table could not be read; compaction tries again");
            return Reaction::Retry(RETRY_NS);
        }
        mark!("compaction_input_corrupt");
        tracing::error!(%error, table = table.meta().no.get(), "a damaged table is left out of compaction from now on");
        table.quarantine(error.clone());
        // Writers that wait for a job which is never done go on.
        engine.judge_pressure();
        return Reaction::GiveUp;
    }
    let reaction = react(engine, crew, "compaction", error).await;
    if matches!(reaction, Reaction::GiveUp) {
        mark!("compaction_given_up");
        let again = engine.env.now().after(GIVEN_UP_NS);
        crew.compaction.lock().given_up.insert(job.keyspace, again);
    }
    reaction
}

/// The input that the error names, if it is not one that the next try may not meet: descriptors may be out, a call
/// interrupted.
fn damaged<'a>(job: &'a Job, error: &Error) -> Option<&'a Arc<TableHandle>> {
    let file = match error {
        Error::Corrupt { file, .. } => file,
        Error::Io(io) if io.kind != IoErrorKind::Transient => &io.path,
        _ => return None,
    };
    let (kind, no): (FileKind, FileNo) = file_name::parse(file.file_name()?.to_str()?)?;
    job.inputs().find(|table| kind == FileKind::Table && table.meta().no == no)
}

/// Pushes every level down until only the deepest holds tables, then rewrites those that lay there before and hold deletes
/// or old versions: they may have been kept for a reader who is gone. A damaged table that had to be left out is an error,
/// whoever found the damage.
async fn compact_fully(engine: &Arc<Engine>, crew: &Crew, id: KeyspaceId) -> Result<()> {
    let mut failure = None;
    let nothing_busy = |_: &TableHandle| false;
    // By number, so that the files of tables that are rewritten can go.
    let before: BTreeSet<FileNo> = match engine.published.load().keyspace(id) {
        Some(keyspace) => keyspace.levels[LAST_LEVEL].iter().map(|table| table.meta().no).collect(),
        None => return Ok(()),
    };
    for level in 0..LAST_LEVEL {
        loop {
            let state = engine.published.load();
            let Some(keyspace) = state.keyspace(id) else { return Ok(()) };
            let Some(job) = pick::push_down(keyspace, level, &nothing_busy) else { break };
            run_asked(engine, crew, keyspace, &job, &mut failure).await?;
        }
    }
    for no in before {
        let state = engine.published.load();
        let Some(keyspace) = state.keyspace(id) else { return Ok(()) };
        let listed = keyspace.levels[LAST_LEVEL].iter().find(|table| table.meta().no == no);
        let Some(table) = listed.filter(|table| !table.is_quarantined()) else { continue };
        if !table.meta().holds_something_old() {
            continue;
        }
        let job = pick::rewrite(keyspace, LAST_LEVEL, table.clone());
        run_asked(engine, crew, keyspace, &job, &mut failure).await?;
    }
    let state = engine.published.load();
    let left_out = || state.keyspace(id)?.tables().find_map(|table| table.damage());
    failure.or_else(left_out).map_or(Ok(()), Err)
}

/// Runs a job of a full compaction; one whose input cannot be read is tried again. A damaged input is left out and
/// remembered, everything else ends it.
async fn run_asked(
    engine: &Arc<Engine>,
    crew: &Crew,
    keyspace: &Arc<KeyspaceState>,
    job: &Job,
    failure: &mut Option<Error>,
) -> Result<()> {
    loop {
        let outcome = run_job(engine, crew, keyspace, job).await;
        engine.judge_pressure();
        crew.progress.notify_all();
        match outcome {
            Err(error) if damaged(job, &error).is_some() => {
                if let Reaction::Retry(pause_ns) = after_failure(engine, crew, job, &error).await {
                    pause_unless_stopped(engine, crew, pause_ns).await;
                    continue;
                }
                failure.get_or_insert(error);
                return Ok(());
            }
            Ok(()) => {
                engine.note_room("compaction");
                engine.refusals.note_over("compaction");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}
