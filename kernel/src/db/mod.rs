//! The public API: handles over one open database. Wiring, no algorithm.

mod keyspace;
mod read_only;
mod read_only_snapshot;
mod safety;
mod scan;
mod snapshot;
mod status;
mod transaction;
mod typed;
mod typed_read_only;
mod typed_scan;

use std::path::Path;
use std::sync::Arc;

pub use keyspace::Keyspace;
pub use read_only::{ReadOnlyDb, ReadOnlyKeyspace};
pub use read_only_snapshot::ReadOnlySnapshot;
pub use scan::Scan;
pub use snapshot::Snapshot;
pub use status::{KeyspaceInfo, LevelInfo};
pub use transaction::{TransactionOptions, Txn};
pub use typed::{StoredValue, TypedKeyspace};
pub use typed_read_only::TypedReadOnlyKeyspace;
pub use typed_scan::{TypedCursor, TypedScan};

use crate::engine::Engine;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::events::{SlowLimit, Timed, Where};
use crate::maintenance::Maintenance;
use crate::manifest::Change;
use crate::options::{Durability, KeyspaceOptions, Options};
use crate::recovery;
use crate::types::{KeyspaceId, OpKind, Seq, WriteBatch};

/// Name of the keyspace that every database has.
pub const DEFAULT_KEYSPACE: &str = "default";

/// Longest keyspace name in bytes.
pub const KEYSPACE_NAME_LEN_MAX: usize = 255;

/// What all handles of one opening share. When the last of them goes, background work ends without a further write.
pub(crate) struct Shared {
    pub engine: Arc<Engine>,
    maintenance: Maintenance,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.maintenance.abandon(&self.engine);
    }
}

/// An open database. Cloning gives another handle to the same opening.
///
/// Closing is [`Db::close`]. Dropping the last handle without it does no I/O and is, for the data, the same as killing
/// the process: every `Sync` and `Flush` commit is kept. The next opening waits until the tasks have ended.
#[derive(Clone)]
pub struct Db {
    shared: Arc<Shared>,
}

impl Db {
    /// Opens the database in `dir`, or creates one there if the directory is missing or empty.
    ///
    /// Opening replays what the log holds beyond the tables, writes it anew, and only then accepts commits.
    ///
    /// # Errors
    /// - `Invalid`: an option out of range, a directory with foreign files, fewer commits than `at_least` demands;
    /// - `NotFound`: no database there, and `create_if_missing` is off;
    /// - `Locked`: another process has it open, or this one has and did not drop its last handle for some seconds;
    /// - `Corrupt`: damage in log or manifest, naming file and offset; nothing was changed;
    /// - `NewerFormat`: a newer version wrote it;
    /// - `DiskFull`, `TooManyFiles`, `Io`: the disk's word.
    pub async fn open_in(env: Arc<dyn Env>, dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        options.validate()?;
        let slow = SlowLimit::new(options.slow_operation_us);
        let (dir, began) = (dir.as_ref(), slow.begin(&*env));
        let recovered = recovery::open(env, dir, options).await?;
        let maintenance = Maintenance::start(&recovered.engine, recovered.parts)?;
        let db = Self { shared: Arc::new(Shared { engine: recovered.engine, maintenance }) };
        if db.engine().published.load().by_name(DEFAULT_KEYSPACE).is_none() {
            db.create_keyspace(DEFAULT_KEYSPACE, KeyspaceOptions::default()).await?;
        }
        slow.judge_since(began, &*db.engine().env, Timed::Opening, Where::File(dir));
        Ok(db)
    }

    /// [`Db::open_in`] on this machine's disks.
    ///
    /// # Errors
    /// As [`Db::open_in`].
    pub async fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::open_in(crate::env::linux::LinuxEnv::new(), dir, options).await
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// The keyspace of this name.
    ///
    /// # Errors
    /// `Invalid` if there is none.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        self.engine().gate.check_read()?;
        let state = self.engine().published.load();
        match state.by_name(name) {
            Some(keyspace) => Ok(Keyspace::new(self.shared.clone(), keyspace.id, keyspace.name.clone())),
            None => {
                let names: Vec<&str> = state.keyspaces.values().map(|keyspace| &*keyspace.name).collect();
                Err(Error::Invalid(format!("there is no keyspace {name:?}; there are: {}", names.join(", "))))
            }
        }
    }

    /// The keyspace that every database has, named `default`.
    ///
    /// # Errors
    /// `Closed`; `Invalid` if it was dropped.
    pub fn default_keyspace(&self) -> Result<Keyspace> {
        self.keyspace(DEFAULT_KEYSPACE)
    }

    /// Creates a keyspace; durable when it returns.
    ///
    /// # Errors
    /// `Invalid` if the name is empty, longer than [`KEYSPACE_NAME_LEN_MAX`], or taken, or an option is out of range;
    /// `Closed`. [`DiskFull`](Error::DiskFull), `TooManyFiles`, [`Stopped`](Error::Stopped): it is not there, and may be at
    /// the next opening.
    pub async fn create_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        options.validate()?;
        if name.is_empty() || name.len() > KEYSPACE_NAME_LEN_MAX {
            return Err(Error::Invalid(format!(
                "a keyspace name has 1 to {KEYSPACE_NAME_LEN_MAX} bytes, this one has {}",
                name.len()
            )));
        }
        self.engine().gate.check()?;
        let wanted: Arc<str> = name.into();
        let created = wanted.clone();
        self.engine()
            .door
            .change_with(move |version| {
                if version.keyspace_named(&created).is_some() {
                    return Err(Error::Invalid(format!("keyspace {created:?} exists already")));
                }
                let id = KeyspaceId::new(version.next_keyspace_id);
                Ok(vec![Change::CreateKeyspace { id, name: created.to_string(), options }])
            })
            .await?;
        self.keyspace(&wanted)
    }

    /// Drops a keyspace with everything in it. Open cursors and the values they gave stay readable.
    ///
    /// # Errors
    /// `Invalid` if it was dropped already or belongs to another database; `Closed`. [`DiskFull`](Error::DiskFull),
    /// `TooManyFiles`, [`Stopped`](Error::Stopped): it is still there, and may be gone at the next opening.
    pub async fn drop_keyspace(&self, keyspace: &Keyspace) -> Result<()> {
        let id = self.id_of(keyspace)?;
        self.engine().gate.check()?;
        let gone = keyspace.dropped();
        self.engine()
            .door
            .change_with(move |version| match version.keyspaces.get(&id) {
                Some(_) => Ok(vec![Change::DropKeyspace { id }]),
                None => Err(gone),
            })
            .await?;
        self.engine().judge_pressure();
        Ok(())
    }

    pub(crate) fn id_of(&self, keyspace: &Keyspace) -> Result<KeyspaceId> {
        keyspace.id_in(&self.shared)
    }

    /// Begins a transaction at the newest visible commit.
    pub fn begin(&self, options: TransactionOptions) -> Txn {
        Txn::begin(self.shared.clone(), options)
    }

    /// A read-only view of the newest visible commit. While it lives its versions are kept.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::newest(self.shared.clone())
    }

    /// A read-only view as of commit `seq`.
    ///
    /// # Errors
    /// `TooOld`, naming the oldest that can be read (option `retain_commits`); `Invalid` if `seq` is in the future.
    pub fn at(&self, seq: Seq) -> Result<Snapshot> {
        Snapshot::at(self.shared.clone(), seq)
    }

    /// The newest visible commit.
    pub fn last_seq(&self) -> Seq {
        self.engine().published.visible()
    }

    /// Commits a batch as one: all of it or nothing, over all its keyspaces. It is checked against nobody.
    ///
    /// # Errors
    /// `Invalid` if it names an unknown keyspace, is of another database, or is over `transaction_bytes_max`; `DiskFull`,
    /// `TooManyFiles`, `Busy`, `Io`, `Closed`. In all of these nothing was written, nor will it be.
    /// [`CommitUnknown`](Error::CommitUnknown), [`Stopped`](Error::Stopped): the batch may appear, whole, at the next
    /// opening. Whoever needs to learn the outcome after losing this future takes a [`Txn`] and its
    /// [`outcome_token`](Txn::outcome_token).
    pub async fn write(&self, mut batch: WriteBatch, durability: Durability) -> Result<Seq> {
        let here = self.database_id();
        if let Some(made_for) = batch.database().filter(|made_for| *made_for != here) {
            return Err(Error::Invalid(format!(
                "the batch was made with keyspaces of database {made_for:016x}, and this is database {here:016x}"
            )));
        }
        self.engine().check_size(&batch)?;
        if batch.is_empty() {
            self.engine().gate.check()?;
            return Ok(self.last_seq());
        }
        batch.normalise();
        debug_assert!(batch.iter().all(|op| op.kind != OpKind::DeleteRange || op.key < op.value));
        self.engine().commit(batch, None, durability, None).await
    }

    /// Makes every commit so far durable, and returns the newest.
    ///
    /// # Errors
    /// `Stopped` if the sync failed: what was not durable before may be lost. `DiskFull`, `TooManyFiles`, `Io`: it is not
    /// durable yet, and the next sync tries again. `Closed`.
    pub async fn sync(&self) -> Result<Seq> {
        self.engine().gate.check()?;
        self.engine().committer.submit(crate::commit::Work::Sync).await
    }

    /// Writes all memtables into tables and waits for it. Every commit before it is durable then, `Buffered` ones too.
    ///
    /// # Errors
    /// `DiskFull`, `Stopped`, `Closed`; `TooManyFiles`, or `Io` of a passing kind, once it has been refused for two
    /// seconds. What could not be written is tried again in the background.
    pub async fn flush(&self) -> Result<()> {
        self.shared.maintenance.flush_all(self.engine()).await
    }

    /// Merges everything down to the deepest level, dropping every version and delete that no reader needs, and gives
    /// the idle log's space back. Writes go on meanwhile.
    ///
    /// # Errors
    /// `Corrupt` or `Io` for a table that is damaged or cannot be read: the others are compacted all the same, and it is
    /// left out, and told again, until the next opening. `DiskFull`, `TooManyFiles`, `Stopped`, `Closed`: not everything is
    /// compacted; what is stays so.
    pub async fn compact(&self) -> Result<()> {
        self.shared.maintenance.compact_all(self.engine()).await
    }

    /// Waits until no flush or compaction is running or due.
    ///
    /// # Errors
    /// `DiskFull`, `Stopped`, `Closed`; `TooManyFiles`, or `Io` of a passing kind, once it has been refused for two
    /// seconds. What could not be done is tried again in the background.
    pub async fn wait_idle(&self) -> Result<()> {
        self.shared.maintenance.wait_idle(self.engine()).await
    }

    /// Writes what is in memory into tables, seals the log and closes. Handles that remain give `Closed`.
    ///
    /// A flush that the disk or the system refuses is not waited for without end: what is in memory is in the log too,
    /// and the next opening finds it there.
    ///
    /// # Errors
    /// What the last flush or the seal gave (`DiskFull` at once, `TooManyFiles` after two seconds of it); the database
    /// is closed all the same, its directory free, and every acknowledged commit kept.
    pub async fn close(self) -> Result<()> {
        self.shared.maintenance.close(&self.shared.engine).await
    }
}
