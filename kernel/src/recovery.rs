//! Recovery: from files to a live engine, and one switch in between.
//!
//! ```text
//! 1 lock the directory, read CURRENT and the manifest it names            nothing is changed up to here
//! 2 replay the log from the manifest's log start into memtables
//! 3 flush them into new tables, make a new log segment                    files under fresh names only
//! 4 write a new manifest that lists all of it, then CURRENT by rename     the switch
//! 5 remove what the new manifest does not list
//! ```
//! Invariants:
//! - Bytes that could be read are not trusted to be durable: everything replayed is written anew and synced before
//!   the switch, and no commit is accepted before the switch.
//! - Until the switch nothing that existed is overwritten, renamed, truncated or deleted, but tables that no edit of the
//!   manifest ever named, where a nearly full disk cannot spare them; so recovery may be cut off anywhere, any number of times, and the next one starts
//!   from the same files.
//! - The logical state (keys, versions, `Seq`) is the same by every path.
//! - Numbers found in the directory are never given again, orphans included; but one that is out of the manifest's reach
//!   was never given: its file is foreign.
//! - A directory is only ever made into a database if it was empty: creation begins with a `CURRENT` that says so.

mod replayer;
mod room;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::cache::{BlockCache, Budget};
use crate::check::{Phase, mark};
use crate::clock::HybridClock;
use crate::commit::{Committer, Desk, DeskOptions, DeskStart, Segments, Skipped, reserve_beyond};
use crate::compaction::pace::Pace;
use crate::conflict::RecentWrites;
use crate::engine::Engine;
use crate::env::{DirEntry, DirLock, Disk, Env, IoErrorKind, LockKind, SharedDir, make_directory};
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::maintenance::{Parts, Reserve};
use crate::manifest::door::Door;
use crate::manifest::{self, Change, Edit, FileNumbers, Found, Loaded, ManifestWriter, Version};
use crate::metrics::Recorder;
use crate::options::Options;
use crate::reapply::{self, Progress};
use crate::refusals::Refusals;
use crate::sync::{Mutex, Notify};
use crate::tree::{Graveyard, Published, SnapshotRegistry, State, Tables, Throttle};
use crate::types::file_name::{self, COPYING, CURRENT, CURRENT_TMP, FileKind, LOCK, RESERVE};
use crate::types::{FileId, FileNo, Lsn, Seq};
use crate::urgency::Urgency;
use crate::wal::{Predecessor, Replayed, SegmentMaker, Spares, Wal, WalStart};

use replayer::Replayer;

/// How long an opening waits for an earlier one of the same process whose last handle is gone. Its tasks end at their
/// next step, so this is the time of the longest one: to write and sync a part of a table on a slow disk.
const PREDECESSOR_WAIT_NS: u64 = 5_000_000_000;
/// How often it looks.
const PREDECESSOR_POLL_NS: u64 = 1_000_000;

/// A live engine and what only its tasks need.
pub(crate) struct Recovered {
    pub engine: Arc<Engine>,
    pub parts: Parts,
}

/// Opens or creates the database in `dir`; the options are valid.
///
/// # Errors
/// As [`Db::open_in`](crate::Db::open_in).
pub(crate) async fn open(env: Arc<dyn Env>, dir: &Path, options: Options) -> Result<Recovered> {
    let began = env.now();
    look(&*env, dir, &options).await?;
    let lock = take_lock(&*env, dir).await?;
    // Looked at again under the lock: another process may have changed it in between.
    let found = look(&*env, dir, &options).await?;
    let opening = Opening::new(env, dir, options, lock);
    let _phase = Phase::begin("recovery");
    let recovered = match found {
        Found::Nothing => opening.create(None).await?,
        Found::Unfinished { database } => opening.create(Some(database)).await?,
        Found::Database(loaded) => opening.recover(loaded).await?,
    };
    let engine = &recovered.engine;
    let elapsed_us = engine.env.now().since(began) / 1000;
    tracing::info!(dir = %dir.display(), seq = engine.published.visible().get(), elapsed_us, "database open");
    Ok(recovered)
}

/// Looks at the directory without changing anything in an existing one.
async fn look(env: &dyn Env, dir: &Path, options: &Options) -> Result<Found> {
    let disk = env.disk();
    let missing = |what: &str| Error::NotFound { path: dir.to_path_buf(), what: what.to_string() };
    let mut is_durable = false;
    let entries = match disk.list(dir).await {
        Ok(entries) => entries,
        Err(error) if error.kind == IoErrorKind::NotFound => {
            if !options.create_if_missing {
                return Err(missing(
                    "the directory does not exist; check its name, or set create_if_missing",
                ));
            }
            demand_nothing(dir, options)?;
            create_directory(disk, dir).await?;
            is_durable = true;
            Vec::new()
        }
        Err(error) => {
            if disk.metadata(dir).await.is_ok_and(|metadata| !metadata.is_dir) {
                let what = format!("{} is a file, not a directory; give a directory", dir.display());
                return Err(Error::Invalid(what));
            }
            return Err(error.into());
        }
    };
    let has_current = entries.iter().any(|entry| entry.name == CURRENT);
    // What a copy was begun with is foreign too, but `load` has a better word for it.
    let is_foreign = |entry: &&DirEntry| !is_ours(entry) && entry.name != COPYING;
    if let Some(foreign) = entries.iter().find(is_foreign).filter(|_| !has_current) {
        return Err(Error::Invalid(format!(
            "{} is no database and not empty: it holds {:?}; give an empty or a new directory",
            dir.display(),
            foreign.name
        )));
    }
    let found = manifest::load(env, dir).await?;
    if !matches!(found, Found::Database(_)) {
        if !options.create_if_missing {
            return Err(missing("the directory is empty; check its name, or set create_if_missing"));
        }
        demand_nothing(dir, options)?;
        if !is_durable {
            create_directory(disk, dir).await?;
        }
    }
    Ok(found)
}

/// A wiped directory is never made into a new database in silence.
fn demand_nothing(dir: &Path, options: &Options) -> Result<()> {
    if options.at_least == 0 {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{} holds no database, but option at_least demands commit {}: its disk was wiped, or it is another directory",
        dir.display(),
        options.at_least
    )))
}

async fn create_directory(disk: &dyn Disk, dir: &Path) -> Result<()> {
    match make_directory(disk, dir).await {
        Err(error) if error.kind == IoErrorKind::NotFound => {
            let what = "the parent directory does not exist either; create it first";
            Err(Error::NotFound { path: dir.to_path_buf(), what: what.to_string() })
        }
        made => Ok(made?),
    }
}

fn is_ours(entry: &DirEntry) -> bool {
    let name = entry.name.as_str();
    let known = [CURRENT, CURRENT_TMP, LOCK, RESERVE].contains(&name);
    !entry.is_dir && (known || file_name::parse(name).is_some())
}

/// A table that the manifest names must be there, in its full length.
pub(crate) async fn check_tables(disk: &dyn Disk, dir: &Path, version: &Version) -> Result<()> {
    for table in version.keyspaces.values().flat_map(|keyspace| keyspace.tables()).map(|(_, table)| table) {
        let path = file_name::path(dir, FileKind::Table, table.no);
        match disk.metadata(&path).await {
            Ok(metadata) if metadata.len == table.bytes => {}
            Ok(metadata) => {
                let what =
                    format!("the table has {} bytes, but the manifest says {}", metadata.len, table.bytes);
                return Err(Error::corrupt_at(path, metadata.len.min(table.bytes), what));
            }
            Err(error) if error.kind == IoErrorKind::NotFound => {
                return Err(Error::corrupt_at(path, 0, "the manifest names this table, but it is missing"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What the caller knows to have been acknowledged must be there.
pub(crate) fn check_demands(options: &Options, progress: &Progress) -> Result<()> {
    if progress.last_seq.get() >= options.at_least {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the newest commit is {}, but option at_least demands {}: the directory is an older copy, or its disk lost \
         acknowledged writes",
        progress.last_seq, options.at_least
    )))
}

/// Takes the directory's lock, or waits for an earlier opening of this process that is just ending.
///
/// Dropping the last handle does no I/O, so it cannot wait for its tasks; and the lock must outlive them, or the edit
/// of a manifest, or the removal of a table that it replaced, could happen under the hands of the next opening. So the
/// lock goes when the last task has ended, which is soon, and it is the next opening that waits.
async fn take_lock(env: &dyn Env, dir: &Path) -> Result<Box<dyn DirLock>> {
    let began = env.now();
    loop {
        match env.disk().lock(dir, LOCK, LockKind::Exclusive).await {
            Ok(lock) => return Ok(lock),
            Err(error) if error.kind == IoErrorKind::LockedHere => {
                let now = env.now();
                if now.since(began) >= PREDECESSOR_WAIT_NS {
                    return Err(Error::Locked(dir.to_path_buf()));
                }
                mark!("opening_waited");
                env.sleep_until(now.after(PREDECESSOR_POLL_NS)).await;
            }
            Err(error) if error.kind == IoErrorKind::Locked => return Err(Error::Locked(dir.to_path_buf())),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Everything an opening collects before there is an engine.
struct Opening {
    env: Arc<dyn Env>,
    dir: Arc<SharedDir>,
    options: Options,
    lock: Box<dyn DirLock>,
    budget: Arc<Budget>,
    tables: Arc<Tables>,
    graveyard: Arc<Graveyard>,
    pace: Arc<Pace>,
    numbers: Arc<FileNumbers>,
}

impl Opening {
    fn new(env: Arc<dyn Env>, dir: &Path, options: Options, lock: Box<dyn DirLock>) -> Self {
        let budget = Arc::new(Budget::new(options.memory_limit_bytes));
        let cache = Arc::new(BlockCache::new(options.memory_limit_bytes / 2, budget.clone()));
        let dir = SharedDir::new(dir);
        Self {
            tables: Tables::new(
                env.clone(),
                dir.to_path_buf(),
                cache,
                options.paranoid_checks,
                options.open_files_max,
            ),
            graveyard: Arc::new(Graveyard::default()),
            // An opening is in a hurry: the limit on background bytes begins with the engine.
            pace: Arc::new(Pace::new(env.clone(), 0)),
            numbers: Arc::new(FileNumbers::new(FileNo::new(1))),
            env,
            dir,
            options,
            lock,
            budget,
        }
    }

    fn disk(&self) -> &dyn Disk {
        self.env.disk()
    }

    async fn create(mut self, begun: Option<u64>) -> Result<Recovered> {
        self.begin_numbers(FileNo::new(1)).await?;
        let database_id = match begun {
            Some(database_id) => database_id,
            None => {
                let database_id = self.env.random_u64();
                manifest::begin_creation(&*self.env, &self.dir, database_id).await?;
                database_id
            }
        };
        let log = LogStart { epoch: 1, base: Lsn::ZERO, predecessor: None };
        tracing::info!(dir = %self.dir.display(), database_id, "creating a database");
        self.switch(database_id, &Version::default(), Vec::new(), log, Progress::default()).await
    }

    async fn recover(mut self, loaded: Loaded) -> Result<Recovered> {
        if loaded.torn {
            let (file, offset) = (self.name_of(FileKind::Manifest, loaded.no), loaded.unused_from);
            tracing::warn!(file, offset, "the manifest's tail is torn: an edit was under way");
        }
        let version = &loaded.version;
        self.begin_numbers(version.next_file_no).await?;
        check_tables(self.disk(), &self.dir, version).await?;
        self.make_room_if_tight(&loaded).await;
        let mut replayer = Replayer::new(&self, version);
        let replayed = match self.replay(version, &mut replayer).await {
            Ok(replayed) => replayed,
            // An opening that is refused leaves nothing behind.
            Err(refused) => {
                let need = replayer.room();
                replayer.remove_made().await;
                return Err(room::name_need(refused, need));
            }
        };
        let (changes, progress) = replayer.finish();
        if let Some((no, torn)) = replayed.torn {
            let (file, offset) = (self.name_of(FileKind::Log, no), torn.offset);
            tracing::warn!(file, offset, "the log's tail is torn: a write was under way");
        }
        tracing::info!(batches = replayed.batches, end = replayed.end.get(), torn = ?replayed.torn, "log replayed");
        let log = next_log(version, &replayed)?;
        self.switch(loaded.database, version, changes, log, progress).await
    }

    /// Brings what the log holds into tables.
    async fn replay(&self, version: &Version, replayer: &mut Replayer<'_>) -> Result<Replayed> {
        let replayed =
            reapply::replay_log(&self.env, &self.dir, version, self.options.direct_log, replayer).await?;
        check_demands(&self.options, &replayer.log.progress)?;
        replayer.flush_all().await?;
        Ok(replayed)
    }

    fn name_of(&self, kind: FileKind, no: FileNo) -> String {
        file_name::path(&self.dir, kind, no).display().to_string()
    }

    /// Never gives a number again that the manifest or the directory knows.
    async fn begin_numbers(&mut self, next: FileNo) -> Result<()> {
        let entries = self.disk().list(&self.dir).await?;
        let found = entries.iter().filter_map(|entry| file_name::parse(&entry.name)).map(|(_, no)| no);
        let ours = found.filter(|no| file_name::is_within_reach(*no, next));
        self.numbers = Arc::new(FileNumbers::new(ours.map(FileNo::next).fold(next, FileNo::max)));
        Ok(())
    }

    /// Makes the new log and manifest, switches to them, and puts the engine together.
    async fn switch(
        self,
        database_id: u64,
        version: &Version,
        mut changes: Vec<Change>,
        log: LogStart,
        progress: Progress,
    ) -> Result<Recovered> {
        let mut version = version.clone();
        version.retain_no_later_than(progress.last_seq);
        let spares = Arc::new(Spares::new(self.options.log_segment_bytes_max));
        let maker = SegmentMaker::new(self.env.clone(), self.dir.clone(), &self.options);
        let wal = self.start_log(&maker, &spares, &log, &mut changes).await?;
        for no in version.log_segments.keys() {
            changes.push(Change::RemoveLogSegment { no: *no });
        }
        for keyspace in version.keyspaces.values() {
            changes.push(Change::KeyspaceFlushed { keyspace: keyspace.id, lsn: log.base });
        }
        changes.push(Change::LogStart { lsn: log.base });
        changes.push(Change::Epoch(log.epoch));
        changes.push(Change::LastSeq(progress.last_seq));
        let (last, given) = (progress.last_seq, version.seq_reserved.max(progress.last_seq));
        changes.push(Change::SeqReserved { until: reserve_beyond(&*self.env, given) });
        changes.push(Change::RetainedFrom(progress.retained_from.min(progress.last_seq)));
        if given > last {
            // Some of them a reader may have seen, so the next commit comes behind them.
            mark!("recovery_seq_gap");
            changes.push(Change::SeqGap { after: last, until: given });
        }
        changes.push(Change::LastTimestamp(progress.last_timestamp));
        // Before the edit is applied: it names files made since the last one.
        changes.insert(0, Change::NextFileNo(self.numbers.next()));
        let version =
            version.apply(&Edit::from(changes)).map_err(|refused| Error::Invalid(refused.to_string()))?;
        let (env, numbers) = (self.env.clone(), self.numbers.clone());
        let mut writer = ManifestWriter::create(env, self.dir.clone(), database_id, numbers, version).await?;
        writer.install_current().await?;
        let version = writer.version().clone();
        let manifest_no = writer.file().0;
        self.sweep(&version, manifest_no).await?;
        let reserve = Reserve::new(&self.dir, self.options.reserve_bytes);
        reserve.look(self.disk()).await;
        reserve.restore(&*self.env).await;
        let engine = self.assemble(database_id, &version, (wal, spares, maker), &progress, given);
        Ok(Recovered { engine, parts: Parts { manifest: writer, reserve } })
    }

    async fn start_log(
        &self,
        maker: &SegmentMaker,
        spares: &Arc<Spares>,
        log: &LogStart,
        changes: &mut Vec<Change>,
    ) -> Result<Wal> {
        let size =
            spares.wanted().ok_or_else(|| Error::Invalid("a fresh log already has segments".into()))?;
        let (no, id) = (self.numbers.take(), FileId::new(self.env.random_u64()));
        let segment = maker.make(no, id, size).await?;
        changes.push(Change::AddLogSegment { no, id });
        let LogStart { epoch, base, predecessor } = *log;
        let (env, spares) = (self.env.clone(), spares.clone());
        Wal::start(WalStart { env, spares, epoch, base, predecessor, segment }).await
    }

    /// Removes files of ours that the manifest in force does not list. Nothing depends on its success.
    async fn sweep(&self, version: &Version, manifest_no: FileNo) -> Result<()> {
        let mut listed = BTreeSet::from([(FileKind::Manifest, manifest_no)]);
        listed.extend(version.log_segments.keys().map(|no| (FileKind::Log, *no)));
        let tables =
            version.keyspaces.values().flat_map(|keyspace| keyspace.tables()).map(|(_, table)| table);
        listed.extend(tables.map(|table| (FileKind::Table, table.no)));
        for entry in self.disk().list(&self.dir).await? {
            let (is_needed, is_given) = match file_name::parse(&entry.name) {
                // Every number in the directory that may have been given has been counted.
                Some((kind, no)) => (listed.contains(&(kind, no)), no < version.next_file_no),
                None => (entry.name != CURRENT_TMP, true),
            };
            if !is_ours(&entry) || !is_given {
                tracing::warn!(name = entry.name, "a foreign file stands in the database directory");
                continue;
            }
            if is_needed {
                continue;
            }
            mark!("recovery_orphan_removed");
            if let Err(error) = self.disk().remove(&self.dir.join(&entry.name)).await {
                tracing::warn!(%error, "a needless file could not be removed; the next opening will try again");
            }
        }
        Ok(())
    }

    fn assemble(
        self,
        database_id: u64,
        version: &Arc<Version>,
        (wal, spares, maker): (Wal, Arc<Spares>, SegmentMaker),
        progress: &Progress,
        given: Seq,
    ) -> Arc<Engine> {
        let Self { env, dir, options, lock, budget, tables, graveyard, numbers, .. } = self;
        let state = State::default().following(version, None, &graveyard);
        let visible = progress.last_seq;
        let published = Arc::new(Published::new(Arc::new(state), visible));
        let snapshots = SnapshotRegistry::new(version.retained_from);
        let (gate, throttle, recorder) =
            (Arc::<Gate>::default(), Arc::<Throttle>::default(), Arc::<Recorder>::default());
        let (door, changed) = (Door::new(), Arc::new(Notify::new()));
        let segments = Segments::new(env.clone(), maker, spares.clone(), door.clone(), numbers.clone());
        let desk = Desk::new(DeskStart {
            wal,
            spares,
            clock: HybridClock::after(progress.last_timestamp),
            recent: RecentWrites::new(visible, options.conflict_window_bytes),
            last_seq: given,
            reserved: version.seq_reserved,
            cache: tables.cache().clone(),
            options: DeskOptions {
                memtable_bytes: options.memtable_bytes,
                slow_operation_us: options.slow_operation_us,
            },
        });
        let committer = Committer::new(
            env.clone(),
            published.clone(),
            snapshots.clone(),
            gate.clone(),
            throttle.clone(),
            recorder.clone(),
            door.clone(),
            segments,
            Skipped::new(version.seq_gaps.clone()),
            changed.clone(),
            desk,
        );
        Arc::new(Engine {
            pace: Arc::new(Pace::new(env.clone(), options.background_bytes_per_s)),
            cache: tables.cache().clone(),
            lock: Mutex::new(Some(lock)),
            urgency: Urgency::default(),
            disk_full: Mutex::new(None),
            refusals: Refusals::default(),
            env,
            dir,
            options,
            database_id,
            published,
            snapshots,
            gate,
            throttle,
            committer,
            door,
            tables,
            budget,
            recorder,
            graveyard,
            changed,
            numbers,
        })
    }
}

/// Where the new log begins.
struct LogStart {
    epoch: u32,
    base: Lsn,
    predecessor: Option<Predecessor>,
}

fn next_log(version: &Version, replayed: &Replayed) -> Result<LogStart> {
    let last = version.epoch.max(replayed.epoch_max);
    // Four thousand million openings: only a forged manifest or segment says so.
    let epoch = last.checked_add(1).ok_or_else(|| {
        Error::Invalid(format!(
            "opening number {last} was the last that the format can count; `holdfast repair` begins anew"
        ))
    })?;
    Ok(LogStart { epoch, base: replayed.next_base, predecessor: replayed.last })
}
