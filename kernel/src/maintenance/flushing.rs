//! Flushes frozen memtables, and freezes what keeps the log from being cut.

use std::sync::Arc;

use super::{
    Crew, Reaction, Working, is_certainly_not_made, list_tables, pause_unless_stopped, react, remove_tables,
};
use crate::check::{Phase, mark};
use crate::commit::Work;
use crate::compaction::rewrite::Workshop;
use crate::engine::Engine;
use crate::error::Result;
use crate::events::{Timed, Where};
use crate::flush;
use crate::manifest::Change;
use crate::manifest::door::Note;
use crate::sync::atomic::Ordering;
use crate::tree::{KeyspaceState, Memory, State};
use crate::types::Lsn;

/// On a small or nearly full disk a memtable takes at most one part in so many of the free space: what waits in
/// memory must find room when it is flushed, and so must the compactions that it brings about.
const FREE_SHARE: u64 = 4;
/// But not less than this, unless the option says so.
const FREEZE_BYTES_MIN: u64 = 1 << 20;

/// The task.
pub(crate) async fn run(engine: Arc<Engine>, crew: Arc<Crew>) {
    fit_memtables(&engine).await;
    loop {
        let changed = engine.changed.notified();
        if crew.stopping() {
            return;
        }
        let state = engine.published.load();
        let Some((keyspace, memory)) = oldest_frozen(&state) else {
            engine.note_room_for("flush");
            engine.refusals.note_over("flush");
            cut_log(&engine, &state).await;
            // A state held here would keep tables that a compaction replaces from being removed.
            drop(state);
            changed.await;
            continue;
        };
        let working = Working::begin(&crew);
        let outcome = flush_one(&engine, &crew, &keyspace, &memory).await;
        drop((keyspace, memory));
        drop(state);
        drop(working);
        match outcome {
            Ok(()) => {
                engine.note_room("flush");
                engine.refusals.note_over("flush");
                fit_memtables(&engine).await;
                crew.reserve.restore(&*engine.env).await;
                engine.judge_pressure();
                crew.compaction.lock().try_again();
                crew.compaction_wanted.notify_one();
                crew.progress.notify_all();
            }
            Err(error) => match react(&engine, &crew, "flush", &error).await {
                Reaction::Retry(pause_ns) => pause_unless_stopped(&engine, &crew, pause_ns).await,
                Reaction::GiveUp => {
                    // A memtable cannot be given up: what it holds is only in the log, which must not grow for ever.
                    engine.gate.stop(&format!("flush failed: {error}"));
                    crew.progress.notify_all();
                    return;
                }
                Reaction::End => return,
            },
        }
    }
}

/// Lets memtables grow as far as the disk has room for them.
async fn fit_memtables(engine: &Engine) {
    let most = engine.options.memtable_bytes;
    // A disk that does not say how much is free is taken to have enough.
    let share = engine.env.disk().free_space(&engine.dir).await.map_or(most, |free| free.bytes / FREE_SHARE);
    let bytes = share.max(FREEZE_BYTES_MIN).min(most);
    engine.committer.freeze_bytes.store(bytes, Ordering::Relaxed);
}

/// The frozen memtable with the oldest log position, over all keyspaces.
fn oldest_frozen(state: &State) -> Option<(Arc<KeyspaceState>, Arc<Memory>)> {
    state
        .keyspaces
        .values()
        .filter_map(|keyspace| keyspace.frozen.last().map(|memory| (keyspace.clone(), memory.clone())))
        .min_by_key(|(keyspace, memory)| (memory.first_lsn(), keyspace.id))
}

async fn flush_one(
    engine: &Arc<Engine>,
    crew: &Crew,
    keyspace: &Arc<KeyspaceState>,
    memory: &Arc<Memory>,
) -> Result<()> {
    let began = engine.env.now();
    let _phase = Phase::begin("flush");
    let readers = engine.readers();
    let next_file_no = || engine.next_file_no();
    let workshop =
        Workshop { env: &engine.env, dir: &engine.dir, next_file_no: &next_file_no, pace: &engine.pace };
    let made = flush::run(&workshop, keyspace, memory, &readers).await?;
    // Log before table: freezing sealed the log at the memtable's end, so every byte below it is durable already.
    let start = log_start_without(engine, memory);
    let mut changes = flush::changes(keyspace, memory, &made);
    changes.push(Change::LogStart { lsn: start });
    // The log that told of these commits may go, and compaction may drop every entry that bears their numbers.
    changes.push(Change::LastSeq(memory.end_seq()));
    // A later one than theirs does no harm.
    changes.push(Change::LastTimestamp(engine.committer.last_timestamp()));
    // Its leaps in the numbers go with the log.
    changes.extend(engine.committer.skipped.untold(memory.end_seq()));
    changes.push(Change::RetainedFrom(readers.kept_from()));
    let note = Note { flushed: Some(memory.clone()) };
    let listed = list_tables(engine, crew, "flush", keyspace.id, &note, &changes).await;
    let needless = match &listed {
        Ok(version) => !version.keyspaces.contains_key(&keyspace.id),
        Err(error) => is_certainly_not_made(engine, error),
    };
    if needless {
        mark!("flush_needless");
        remove_tables(engine, &made.tables).await;
        return listed.map(drop);
    }
    engine.committer.skipped.note_told(memory.end_seq(), listed?.retained_from);
    let bytes: u64 = made.tables.iter().map(|table| table.bytes).sum();
    engine.recorder.flushes.add(1);
    engine.recorder.flush_bytes_written.add(bytes);
    engine.recorder.versions_dropped.add(made.versions_dropped);
    let elapsed_ns = engine.env.now().since(began);
    tracing::info!(keyspace = &*keyspace.name, bytes, elapsed_us = elapsed_ns / 1000, "memtable flushed");
    engine.slow().judge(elapsed_ns, Timed::Flush, Where::Keyspace(&keyspace.name));
    engine.committer.delegate(Work::Release(start)).await?;
    engine.committer.segments_changed.notify_one();
    Ok(())
}

/// The log position below which nothing is needed once `flushed` is in a table. Never beyond its end: what comes
/// after is needed by nobody if its keyspace was dropped, but need not be durable either.
fn log_start_without(engine: &Engine, flushed: &Arc<Memory>) -> Lsn {
    let end = flushed.end_lsn();
    let state = engine.published.load();
    let pinned = state
        .keyspaces
        .values()
        .flat_map(|keyspace| keyspace.memories())
        .filter(|memory| !Arc::ptr_eq(memory, flushed))
        .filter_map(|memory| memory.first_lsn())
        .min();
    pinned.map_or(end, |pinned| pinned.min(end))
}

/// Freezes the keyspace that pins the oldest part of a log that has grown too large.
async fn cut_log(engine: &Arc<Engine>, state: &State) {
    let pinning = state
        .keyspaces
        .values()
        .filter_map(|keyspace| keyspace.pinned_lsn().map(|lsn| (lsn, keyspace.id)))
        .min();
    let Some((lsn, id)) = pinning else { return };
    if engine.committer.end_lsn().since(lsn) > engine.options.log_bytes_max {
        mark!("memtable_frozen_for_log");
        tracing::info!(keyspace = id.get(), "freezing the keyspace that pins the oldest log segment");
        // A refusal shows up again at the next look.
        let _ = engine.committer.delegate(Work::Freeze(id)).await;
    }
}
