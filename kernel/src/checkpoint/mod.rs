//! A checkpoint: a second database that holds exactly what one commit saw, made while writes go on.
//!
//! ```text
//! 1 CURRENT "a checkpoint being made"             from here on the directory is refused, whatever happens
//! 2 one state of the tree, with its sequence s    pins every table in it
//! 3 a hard link for each table                    or a copy, where there are no links to that place
//! 4 one new table for each keyspace's memtables   entries up to s
//! 5 a manifest that lists all of it, no log
//! 6 CURRENT in force, by rename                   the last step
//! ```
//! **One sequence.** The tables of a state hold nothing after the sequence that was read with it, since only whole,
//! published groups are ever frozen; memtables go on growing, so only entries up to s are taken from them. Flushing
//! first would not do: each keyspace would be cut at a moment of its own, a transaction over two of them could be torn,
//! and a busy writer could keep it from ever ending. So nothing of the original is flushed, frozen or held up; what a
//! checkpoint costs is a table's worth of writing for what is in memory.
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
//! Invariants:
//! - Everything is synced, each file with its name, before the directory is put into force.
//! - Commits in the checkpoint are durable in the original too, so it never holds what a crash takes from the original.
//! - A failure removes what was made, `CURRENT` last. A dropped future or a crash leaves a directory that says what
//!   it is and is never opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::mark;
use crate::commit::Work;
use crate::compaction::retain::Readers;
use crate::compaction::rewrite::{self, Plan, Workshop};
use crate::engine::Engine;
use crate::env::{Buf, Env, IoErrorKind, OpenOptions};
use crate::error::{Error, Result};
use crate::manifest::{self, Change, Edit, FileNumbers, ManifestWriter, Version};
use crate::record::{READ_CHUNK, read_full, remove_quietly, write_full};
use crate::table::{BuildOptions, BuildReason, TableMeta};
use crate::tree::{KeyspaceState, Merge, Source, State};
use crate::types::file_name::{self, CURRENT, FileKind};
use crate::types::{Fragmented, Seq};

/// What a checkpoint holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointInfo {
    /// The newest commit in it; it holds every commit up to this one and none after.
    pub seq: Seq,
    /// Number of its tables.
    pub tables: u64,
    /// Bytes of its tables.
    pub bytes: u64,
    /// Bytes among them that were written for it; the rest is shared with the original.
    pub bytes_written: u64,
}

/// Makes a checkpoint in `target`.
///
/// # Errors
/// As [`Db::checkpoint`](crate::Db::checkpoint).
pub(crate) async fn make(engine: &Arc<Engine>, target: &Path) -> Result<CheckpointInfo> {
    engine.gate.check()?;
    prepare(&*engine.env, target).await?;
    let began = engine.env.now();
    let copying = Copying { engine, target: target.to_path_buf() };
    match copying.run().await {
        Ok(info) => {
            let took_us = engine.env.now().since(began) / 1000;
            tracing::info!(target = %target.display(), seq = info.seq.get(), took_us, "checkpoint made");
            Ok(info)
        }
        // The last step may have been done: what stands there may be whole.
        Err(error @ Error::Stopped(_)) => Err(error),
        Err(error) => {
            mark!("checkpoint_abandoned");
            copying.remove_everything().await;
            Err(error)
        }
    }
}

/// Makes sure that there is an empty directory, whose name is durable.
async fn prepare(env: &dyn Env, target: &Path) -> Result<()> {
    let disk = env.disk();
    match disk.list(target).await {
        Ok(entries) => {
            if let Some(found) = entries.first() {
                return Err(Error::Invalid(format!(
                    "a checkpoint is made in an empty or a new directory, but {} holds {:?}",
                    target.display(),
                    found.name
                )));
            }
        }
        Err(error) if error.kind == IoErrorKind::NotFound => disk.create_dir(target).await?,
        Err(error) => return Err(error.into()),
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok(disk.sync_dir(parent.unwrap_or(Path::new("."))).await?)
}

struct Copying<'a> {
    engine: &'a Arc<Engine>,
    target: PathBuf,
}

impl Copying<'_> {
    async fn run(&self) -> Result<CheckpointInfo> {
        let engine = self.engine;
        let database = engine.env.random_u64();
        manifest::begin_checkpoint(&*engine.env, &self.target, database).await?;
        let (state, seq) = engine.now();
        engine.committer.submit(Work::Sync).await?;
        // Later than the state, so its counters are at or beyond what the state needs.
        let version = engine.door.change(Vec::new()).await?;
        let retained = Seq::new(seq.get().saturating_sub(engine.options.retain_commits));
        let retained = retained.max(version.retained_from).min(seq);

        let numbers = Arc::new(FileNumbers::new(version.next_file_no));
        let (mut changes, mut info) = (Vec::new(), CheckpointInfo::empty(seq));
        for keyspace in state.keyspaces.values() {
            changes.push(Change::CreateKeyspace {
                id: keyspace.id,
                name: keyspace.name.to_string(),
                options: (*keyspace.options).clone(),
            });
            self.take_tables(keyspace, &mut changes, &mut info).await?;
            let readers = Readers::new(Vec::new(), seq, retained);
            self.write_memory(keyspace, seq, &readers, &numbers, &mut changes, &mut info).await?;
        }
        engine.env.disk().sync_dir(&self.target).await?;
        changes.extend([
            Change::NextFileNo(numbers.next()),
            Change::NextKeyspaceId(next_keyspace_id(&state, &version)),
            Change::LastSeq(seq),
            Change::SeqReserved { until: seq },
            Change::RetainedFrom(retained),
            Change::LastTimestamp(engine.committer.last_timestamp().max(version.last_timestamp)),
            Change::CleanClose,
        ]);
        let listed = Version::default().apply(&Edit::from(changes));
        let listed = listed.map_err(|refused| Error::Invalid(refused.to_string()))?;
        let env = engine.env.clone();
        let mut writer = ManifestWriter::create(env, &self.target, database, numbers, listed).await?;
        writer.install_current().await?;
        Ok(info)
    }

    /// Gives each table of the state a second name in the target.
    async fn take_tables(
        &self,
        keyspace: &KeyspaceState,
        changes: &mut Vec<Change>,
        info: &mut CheckpointInfo,
    ) -> Result<()> {
        let env = &*self.engine.env;
        for (level, tables) in (0u8..).zip(&keyspace.levels) {
            for table in tables.iter() {
                let meta = table.meta();
                let from = file_name::path(&self.engine.dir, FileKind::Table, meta.no);
                let to = file_name::path(&self.target, FileKind::Table, meta.no);
                match env.disk().hard_link(&from, &to).await {
                    Ok(()) => {}
                    // Another file system, one without links, or a file with too many.
                    Err(error)
                        if matches!(
                            error.kind,
                            IoErrorKind::Unsupported | IoErrorKind::Permission | IoErrorKind::Other
                        ) =>
                    {
                        mark!("checkpoint_copied");
                        copy(env, &from, &to, meta.bytes).await?;
                        info.bytes_written += meta.bytes;
                    }
                    Err(error) => return Err(error.into()),
                }
                info.count(meta);
                changes.push(Change::AddTable { keyspace: keyspace.id, level, table: meta.clone() });
                env.slice(4096).await;
            }
        }
        Ok(())
    }

    /// Writes what is in memory, up to `seq`, into a table of level 0.
    async fn write_memory(
        &self,
        keyspace: &KeyspaceState,
        seq: Seq,
        readers: &Readers,
        numbers: &FileNumbers,
        changes: &mut Vec<Change>,
        info: &mut CheckpointInfo,
    ) -> Result<()> {
        let tombstones = keyspace.memories().map(|memory| memory.table.range_tombstones());
        let tombstones: Vec<_> = tombstones
            .flat_map(|deleted| deleted.iter().filter(|deleted| deleted.seq <= seq).collect::<Vec<_>>())
            .collect();
        let plan = Plan {
            build: BuildOptions::at_level(keyspace.id, &keyspace.options, 0, BuildReason::Flush),
            table_bytes: None,
            readers,
            tombstones: Fragmented::new(tombstones),
            anything_below: &|_, _| true,
            cut_before: &mut rewrite::never_cut,
        };
        let sources = keyspace.memories().map(|memory| Source::Memtable(memory.table.iter_until(seq)));
        let merge = Merge::new(sources.collect());
        let next_file_no = || numbers.take();
        let workshop = Workshop {
            env: &self.engine.env,
            dir: &self.target,
            next_file_no: &next_file_no,
            pace: &self.engine.pace,
        };
        for table in rewrite::rewrite(&workshop, plan, merge).await?.tables {
            info.count(&table);
            info.bytes_written += table.bytes;
            changes.push(Change::AddTable { keyspace: keyspace.id, level: 0, table: Arc::new(table) });
        }
        Ok(())
    }

    /// Gives up: the directory was empty before, so everything in it is ours.
    async fn remove_everything(&self) {
        let disk = self.engine.env.disk();
        let Ok(entries) = disk.list(&self.target).await else { return };
        for entry in entries.iter().filter(|entry| entry.name != CURRENT) {
            remove_quietly(disk, &self.target.join(&entry.name)).await;
        }
        // Without it the rest would look like a damaged database, so it goes last, and only if the rest is gone for
        // certain.
        if disk.sync_dir(&self.target).await.is_ok() {
            remove_quietly(disk, &self.target.join(CURRENT)).await;
        }
    }
}

impl CheckpointInfo {
    fn empty(seq: Seq) -> Self {
        Self { seq, tables: 0, bytes: 0, bytes_written: 0 }
    }

    fn count(&mut self, table: &TableMeta) {
        self.tables += 1;
        self.bytes += table.bytes;
    }
}

/// The manifest may know of a keyspace that was made after the state was taken, and never of fewer.
fn next_keyspace_id(state: &State, version: &Version) -> u32 {
    let last = state.keyspaces.keys().next_back().map_or(0, |id| id.get() + 1);
    version.next_keyspace_id.max(last)
}

/// Copies a finished table; its bytes are durable when it returns, its name is not.
async fn copy(env: &dyn Env, from: &Path, to: &Path, bytes: u64) -> Result<()> {
    let source = env.disk().open(from, OpenOptions::read()).await?;
    let copy = env.disk().open(to, OpenOptions::create()).await?;
    let mut buf = Buf::default();
    let mut done = 0;
    while done < bytes {
        let wanted = (bytes - done).min(READ_CHUNK as u64) as usize;
        let (outcome, read) = read_full(&*source, done, wanted, buf).await;
        outcome?;
        if read.len() != wanted {
            let at = done + read.len() as u64;
            return Err(Error::corrupt_at(from, at, "the table is shorter than the manifest says"));
        }
        let (outcome, back) = write_full(&*copy, to, done, read).await;
        outcome?;
        buf = back;
        done += wanted as u64;
        env.slice(wanted as u64).await;
    }
    Ok(copy.sync_all().await?)
}
