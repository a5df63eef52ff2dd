//! A second database that holds exactly what one commit saw, made while writes go on. A checkpoint shares its tables
//! with the original; a backup has bytes of its own, each of them checked on its way.
//!
//! ```text
//! 1 CURRENT "a checkpoint being made"             from here on the directory is refused, whatever happens
//! 2 one state of the tree, with its sequence s    pins every table in it
//! 3 one new table for each keyspace's memtables   entries up to s
//! 4 each table                                    a hard link; in a backup, or where there are none, a copy
//! 5 a manifest that lists all of it, no log
//! 6 CURRENT in force, by rename                   the last step
//! ```
//! (Of several that want one directory, the first step lets one through: see `target`.)
//!
//! **One sequence.** The tables of a state hold nothing after the sequence that was read with it, since only whole,
//! published groups are ever frozen; memtables go on growing, so only entries up to s are taken from them. Flushing
//! first would not do: each keyspace would be cut at a moment of its own, a transaction over two of them could be torn,
//! and a busy writer could keep it from ever ending. So nothing of the original is flushed, frozen or held up; what a
//! checkpoint costs is a table's worth of writing for what is in memory. That comes first, so that memtables, which count
//! against the writers, are not held for as long as a backup takes.
//!
//! **No log.** The manifest names no segment and needs the log from 0 on, which is how a log that never was reads.
//! Opening writes a fresh one, as every opening does.
//!
//! **An identity of its own.** The copy draws a new database identity. From the first commit after s the two are
//! different histories with the same sequences, and whoever keeps a position (a feed's reader, a replica) must be able
//! to tell them apart. A replica that is to continue the original's history will have to say so explicitly, with the
//! sequence at which it took over. Tables keep their identities, for these stand in every checksum; that is sound
//! because a table never changes.
//!
//! **Beside another process** there is no state that pins tables. What a look at its files found is copied; if it has
//! taken a table away before that was open, the copy goes on with another look, and with the tables that it has already.
//! There steps 3 and 4 change places: memtables are written when every table is there, so never twice.
//!
//! Invariants:
//! - Everything is synced, each file with its name, before the directory is put into force.
//! - Commits in the copy are durable in the original too, so it never holds what a crash takes from the original; but
//!   beside another process it holds what could be read, as the look does.
//! - Damage in a table is never copied in silence: it ends the copy, and the error names the original's file.
//! - A failure removes what was made, `CURRENT` last, and nothing that another copy made. A dropped future or a crash
//!   leaves a directory that says what it is and is never opened.

mod copying;
mod target;

use std::path::Path;
use std::sync::Arc;

use crate::check::mark;
use crate::commit::Work;
use crate::compaction::pace::Pace;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::manifest::Version;
use crate::read_only::{Looker, View};
use crate::tree::State;
use crate::types::{Seq, SeqGaps, Timestamp};
use copying::{Copying, Sharing};
use target::Target;

/// Looks at another process's database in one backup, at most.
const LOOKS_MAX: u32 = 20;

/// What a checkpoint or a backup holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointInfo {
    /// The newest commit in it; it holds every commit up to this one and none after.
    pub seq: Seq,
    /// Number of its tables.
    pub tables: u64,
    /// Bytes of its tables.
    pub bytes: u64,
    /// Bytes among them that were written for it: all of them in a backup. The rest is shared with the original.
    pub bytes_written: u64,
}

/// How far a backup is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackupProgress {
    /// Bytes of tables that were copied or written.
    pub bytes_done: u64,
    /// Bytes that there will be at the end. Those that are only in memory yet are estimated, and beside another process
    /// the number changes if that takes tables away; at the end it is exact.
    pub bytes_total: u64,
}

/// Who is told how far a backup is.
pub(crate) type Tell<'a> = &'a mut (dyn FnMut(&BackupProgress) + Send);

/// What is copied: a state, and what a manifest says beside its tables.
struct Original<'a> {
    state: &'a State,
    seq: Seq,
    /// Versions from here on stay readable.
    retained_from: Seq,
    seq_gaps: &'a SeqGaps,
    last_timestamp: Timestamp,
    next_keyspace_id: u32,
}

/// Makes a checkpoint in `target`.
///
/// # Errors
/// As [`Db::checkpoint`](crate::Db::checkpoint).
pub(crate) async fn checkpoint(engine: &Engine, target: &Path) -> Result<CheckpointInfo> {
    engine.gate.check()?;
    let target = Target::claim(&engine.env, &engine.pace, &engine.dir, target).await?;
    let made = of_engine(engine, &target, Sharing::Links, &mut |_| ()).await;
    target.settle("checkpoint", made).await
}

/// Makes a backup in `target`.
///
/// # Errors
/// As [`Db::backup`](crate::Db::backup).
pub(crate) async fn backup(engine: &Engine, target: &Path, tell: Tell<'_>) -> Result<CheckpointInfo> {
    engine.gate.check()?;
    let target = Target::claim(&engine.env, &engine.pace, &engine.dir, target).await?;
    let made = of_engine(engine, &target, Sharing::Nothing, tell).await;
    target.settle("backup", made).await
}

/// Makes a backup of a database that another process may own, beginning with `view` of it.
///
/// # Errors
/// As [`ReadOnlyDb::backup`](crate::ReadOnlyDb::backup).
pub(crate) async fn backup_beside(
    looker: &Looker,
    view: Arc<View>,
    target: &Path,
    tell: Tell<'_>,
) -> Result<CheckpointInfo> {
    let pace = Pace::new(looker.env.clone(), 0);
    let target = Target::claim(&looker.env, &pace, &looker.dir, target).await?;
    let made = of_view(looker, view, &target, tell).await;
    target.settle("backup", made).await
}

async fn of_engine(
    engine: &Engine,
    target: &Target<'_>,
    sharing: Sharing,
    tell: Tell<'_>,
) -> Result<CheckpointInfo> {
    let (state, seq) = engine.now();
    engine.committer.submit(Work::Sync).await?;
    // Later than the state, so its counters are at or beyond what the state needs.
    let version = engine.door.change(Vec::new()).await?;
    let retained_from = engine.kept_from(seq).max(version.retained_from).min(seq);
    let next_keyspace_id = next_keyspace_id(&state, &version);
    let mut copying = Copying::begin(target, &engine.tables, sharing, tell);
    copying.expect(&state).await;
    copying.write_memories(&state, seq, retained_from, version.next_file_no).await?;
    // Memtables that are held count against the writers, and the tables may take long.
    let tables = state.tables_only();
    drop(state);
    copying.take_tables(&tables).await?;
    let last_timestamp = engine.committer.last_timestamp().max(version.last_timestamp);
    let original = Original {
        state: &tables,
        seq,
        retained_from,
        seq_gaps: &engine.committer.skipped.gaps(),
        last_timestamp,
        next_keyspace_id,
    };
    copying.finish(&original).await
}

async fn of_view(
    looker: &Looker,
    mut view: Arc<View>,
    target: &Target<'_>,
    tell: Tell<'_>,
) -> Result<CheckpointInfo> {
    let mut copying = Copying::begin(target, &looker.tables, Sharing::Nothing, tell);
    let mut looks = 1;
    loop {
        copying.expect(&view.state).await;
        match copying.take_tables(&view.state).await {
            Ok(()) => break,
            Err(Error::Stale(gone)) if looks == LOOKS_MAX => {
                return Err(Error::Busy(format!(
                    "the process that has the database open takes tables away faster than they can be copied (last: \
                     {gone}); back it up while it writes less, or with a greater option open_files_max"
                )));
            }
            Err(Error::Stale(_)) => {}
            Err(error) => return Err(error),
        }
        mark!("backup_looked_again");
        looks += 1;
        view = Arc::new(looker.look(Some(&view)).await?);
    }
    // Nobody here knows how many commits the writer keeps, but whatever it has kept is copied.
    let retained_from = view.retained_from.min(view.seq);
    copying.write_memories(&view.state, view.seq, retained_from, view.next_file_no).await?;
    let original = Original {
        state: &view.state,
        seq: view.seq,
        retained_from,
        seq_gaps: &view.seq_gaps,
        last_timestamp: view.last_timestamp,
        next_keyspace_id: view.next_keyspace_id,
    };
    copying.finish(&original).await
}

/// The manifest may know of a keyspace that was made after the state was taken, and never of fewer.
fn next_keyspace_id(state: &State, version: &Version) -> u32 {
    let last = state.keyspaces.keys().next_back().map_or(0, |id| id.get() + 1);
    version.next_keyspace_id.max(last)
}
