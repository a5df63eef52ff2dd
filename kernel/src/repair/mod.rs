//! Salvage: what is provably good of a damaged database goes into a new directory. The original is only read.
//!
//! ```text
//! 1 structure   CURRENT and manifest; else the newest manifest; else every file by itself
//! 2 tables      each block whose checksum holds, into sorted tables of the new directory
//! 3 log         each whole group, through memtables, into sorted tables too
//! 4 assembly    per keyspace one merge of all these, newest version of each key, into the deepest level
//! 5 switch      one manifest, then CURRENT: before that the new directory is no database
//! ```
//!
//! **What is proved.** A version is taken only from bytes whose checksum names this file and this place, so every value
//! returned is one that the key once had. Whether it is the *newest* cannot be known where something is lost that may
//! have held a newer version or a delete. Those ranges are told ([`UncertainRange`]) with the greatest `Seq` that may be
//! missing: a version at or above that `Seq` is the newest even there. With [`RepairOptions::strict`] what is not
//! provably the newest is left out: the range counts as deleted at that `Seq`.
//!
//! Invariants:
//! - nothing is created, written, renamed or locked by a new file in the original directory;
//! - without an uncertain range over a key, what the new database says of it is what the original last acknowledged;
//! - nothing outside the lost extents is missing (but, if the manifest is lost, what dropped keyspaces left comes back);
//! - where an edit of the manifest is lost, everything is uncertain: it may have made a keyspace, or dropped one; and
//!   where a file is missing, or a needed log segment is in another use, so is everything, for an edit that let it go is
//!   lost, or may be;
//! - memory is bounded by one memtable, one block of each of 64 tables, what a search for blocks keeps (about 10 MB), and
//!   the largest transaction.

mod assemble;
mod log;
mod structure;
mod tables;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use structure::Structure;

use crate::env::{DirLock, Env, IoErrorKind, LockKind, make_directory};
use crate::error::{Error, Result};
use crate::types::{Seq, file_name};
use assemble::{Assembly, Owner};
use structure::Plan;

/// What a repair should do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RepairOptions {
    /// Leave out what is not provably the newest version of its key. Default false.
    pub strict: bool,
}

/// How far a repair is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepairProgress {
    /// Files read so far.
    pub files_done: u64,
    /// Files to read.
    pub files: u64,
    /// Bytes of them read so far.
    pub bytes_done: u64,
}

/// Keys from `start` on, before `end`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyExtent {
    /// First key.
    pub start: Vec<u8>,
    /// First key behind; `None` for the end of the keyspace.
    pub end: Option<Vec<u8>>,
}

impl KeyExtent {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// True if `key` lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.end.as_ref().is_none_or(|end| *key < **end)
    }
}

/// Bytes of the original that could not be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostExtent {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many bytes, those included that are missing from a file that was cut or removed.
    pub len: u64,
    /// What they were and what is wrong, in words.
    pub what: String,
    /// Name of the keyspace, if they belonged to one that is known.
    pub keyspace: Option<String>,
    /// The keys they may have held; `None` if they held no entries.
    pub keys: Option<KeyExtent>,
    /// The commits they may have held: first and last.
    pub seqs: Option<(Seq, Seq)>,
}

/// Keys of which a newer version or a delete may be missing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UncertainRange {
    /// Name of the keyspace in the new database.
    pub keyspace: String,
    /// Which keys.
    pub keys: KeyExtent,
    /// The greatest commit that may be missing: versions at or above are the newest all the same.
    pub through: Seq,
}

/// A keyspace of the new database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairedKeyspace {
    /// Its name.
    pub name: String,
    /// The name was made up, for the manifest that held it is lost.
    pub name_is_made_up: bool,
    /// Keys it holds.
    pub keys: u64,
    /// Bytes of its tables.
    pub bytes: u64,
}

/// What a repair found and made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairReport {
    /// How the list of files was known.
    pub structure: Structure,
    /// The keyspaces made.
    pub keyspaces: Vec<RepairedKeyspace>,
    /// What could not be used, in the order it was met.
    pub lost: Vec<LostExtent>,
    /// Where the result may be out of date; with `strict` those versions were left out.
    pub uncertain: Vec<UncertainRange>,
    /// Tables read.
    pub tables: u64,
    /// Log segments read.
    pub log_segments: u64,
    /// Transactions taken from the log.
    pub batches: u64,
    /// The newest commit found.
    pub last_seq: Seq,
}

impl RepairReport {
    /// True if nothing was lost: the new database says what the original said.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty() && self.uncertain.is_empty()
    }
}

/// Salvages the database in `source` into the new or empty directory `target`. The original is only read.
///
/// Works whatever is damaged or missing. Reads each file of the original once, and writes what it takes twice.
///
/// # Errors
/// `NotFound` if `source` holds no file of a database; `Locked` if a process has it open; `Io` or `TooManyFiles` if it
/// cannot be told whether one has; `Invalid` if `target` is not empty or is `source`; `NewerFormat`; `DiskFull` and `Io`
/// for the target. After an error `target` holds files but is no database.
pub async fn repair(
    env: Arc<dyn Env>,
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    options: RepairOptions,
    progress: &mut (dyn FnMut(RepairProgress) + Send),
) -> Result<RepairReport> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let source_lock = lock_source(&*env, source).await?;
    let plan = Plan::read(&env, source).await?;
    let target_lock = prepare_target(&*env, source, target).await?;
    let mut assembly = Assembly::new(env.clone(), target, &plan);
    let mut progress = Progress {
        tell: progress,
        now: RepairProgress { files_done: 0, files: plan.files_to_read(), bytes_done: 0 },
    };
    for table in &plan.tables {
        tables::salvage(&plan, table, &mut assembly, &mut progress).await?;
        progress.file(table.bytes);
    }
    log::salvage(&plan, &mut assembly, &mut progress).await?;
    if assembly.is_all_uncertain(&plan) {
        progress.more_files(plan.newer.len() as u64);
        for table in &plan.newer {
            tables::salvage(&plan, table, &mut assembly, &mut progress).await?;
            progress.file(table.bytes);
        }
    }
    let report = assembly.finish(&plan, options).await?;
    tracing::info!(
        source = %source.display(),
        target = %target.display(),
        lost = report.lost.len(),
        uncertain = report.uncertain.len(),
        "salvage finished"
    );
    drop((source_lock, target_lock));
    Ok(report)
}

/// What is told to the caller.
struct Progress<'a> {
    tell: &'a mut (dyn FnMut(RepairProgress) + Send),
    now: RepairProgress,
}

impl Progress<'_> {
    fn more_files(&mut self, more: u64) {
        self.now.files += more;
    }

    fn file(&mut self, bytes: u64) {
        self.now.files_done += 1;
        self.now.bytes_done += bytes;
        (self.tell)(self.now);
    }
}

/// Keeps writers out through a lock file that is there; none is made. Only what proves that nobody can write there, or
/// that this user may not ask, counts as no writer.
async fn lock_source(env: &dyn Env, source: &Path) -> Result<Option<Box<dyn DirLock>>> {
    let path = source.join(file_name::LOCK);
    match env.disk().metadata(&path).await {
        Ok(metadata) if !metadata.is_dir => {}
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind, IoErrorKind::NotFound | IoErrorKind::Permission) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    match env.disk().lock(source, file_name::LOCK, LockKind::Shared).await {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if matches!(error.kind, IoErrorKind::Locked | IoErrorKind::LockedHere) => {
            Err(Error::Locked(source.to_path_buf()))
        }
        // A read-only copy cannot be locked and has no writer; and some file systems have no locks.
        Err(error) if matches!(error.kind, IoErrorKind::Permission | IoErrorKind::Unsupported) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn prepare_target(env: &dyn Env, source: &Path, target: &Path) -> Result<Box<dyn DirLock>> {
    let disk = env.disk();
    // By where they lead: a path has many spellings.
    if disk.resolve(target).await?.starts_with(disk.resolve(source).await?) {
        return Err(Error::Invalid(format!(
            "repair writes into a new directory of its own, but {} lies in the original, {}",
            target.display(),
            source.display()
        )));
    }
    match disk.list(target).await {
        Ok(entries) if entries.iter().all(|entry| entry.name == file_name::LOCK) => {}
        Ok(entries) => {
            let held = entries.first().map_or("", |entry| &entry.name);
            return Err(Error::Invalid(format!("{} is not empty: it holds {held:?}", target.display())));
        }
        Err(error) if error.kind == IoErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    make_directory(disk, target).await?;
    match disk.lock(target, file_name::LOCK, LockKind::Exclusive).await {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind == IoErrorKind::Locked => Err(Error::Locked(target.to_path_buf())),
        Err(error) => Err(error.into()),
    }
}

/// An uncertain range before its keyspace has a name; `None` is every keyspace.
struct Mark {
    owner: Option<Owner>,
    keys: KeyExtent,
    through: Seq,
}

/// The smallest key behind `key`.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
