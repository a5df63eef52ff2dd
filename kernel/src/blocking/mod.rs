//! The same API for programs without an asynchronous runtime: every call waits on the calling thread.
//!
//! Nothing is lost by it. A program without a runtime does the kernel's file operations right on the thread that
//! asked, so a read from memory makes no system call and a commit costs its one write. Handles are cheap to clone and
//! may be shared by threads. [`block_on`] runs anything else, and mixing both APIs on one opening is fine:
//! [`Db::asynchronous`] gives the other handle.
//!
//! ```
//! use holdfast::blocking::Db;
//! use holdfast::{Options, Scan};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("holdfast-doc-blocking-{}", std::process::id()));
//! let db = Db::open(&dir, Options::default())?;
//! let people = db.default_keyspace()?;
//! people.put("ada", "mathematician")?;
//! people.put("grace", "admiral")?;
//!
//! // Both or neither, as if nobody else were there.
//! let mut txn = db.begin(Default::default());
//! if txn.get(&people, "ada")?.is_some_and(|value| value == "mathematician") {
//!     txn.put(&people, "ada", "programmer")?;
//!     txn.delete(&people, "grace")?;
//! }
//! txn.commit()?;
//!
//! let mut all = people.scan(Scan::all())?;
//! while let Some(entry) = all.next()? {
//!     println!("{} is a {}", entry.key.escape_ascii(), entry.value.escape_ascii());
//! }
//! assert_eq!(people.scan(Scan::prefix("ad"))?.collect()?, [(b"ada".to_vec(), b"programmer".to_vec())]);
//! db.close()?;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(()) }
//! ```
//!
//! Do not call any of this on a thread of an asynchronous runtime: it would block that thread.

mod cursor;
mod read_only;
mod typed;
mod typed_read_only;

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

pub use crate::env::linux::block_on;
pub use cursor::{Cursor, Entries};
pub use read_only::{ReadOnlyDb, ReadOnlyKeyspace, ReadOnlySnapshot};
pub use typed::{TypedCursor, TypedKeyspace};
pub use typed_read_only::TypedReadOnlyKeyspace;

use crate::env::Env;
use crate::error::Result;
use crate::options::{Durability, KeyspaceOptions, Options};
use crate::types::{BatchKeyspace, KeyspaceId, Seq, Value, WriteBatch};
use crate::{
    BackupProgress, CheckpointInfo, KeyspaceInfo, Metrics, OutcomeToken, Scan, TransactionOptions,
    VerifyProgress, VerifyReport,
};

/// An open database; see [`crate::Db`].
#[derive(Clone)]
pub struct Db {
    db: crate::Db,
}

impl From<crate::Db> for Db {
    fn from(db: crate::Db) -> Self {
        Self { db }
    }
}

impl Db {
    /// Opens the database in `dir`, or creates one there if the directory is missing or empty.
    ///
    /// # Errors
    /// As [`crate::Db::open_in`].
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        block_on(crate::Db::open(dir, options)).map(Self::from)
    }

    /// The same in a world of the caller's choice.
    ///
    /// # Errors
    /// As [`crate::Db::open_in`].
    pub fn open_in(env: Arc<dyn Env>, dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        block_on(crate::Db::open_in(env, dir, options)).map(Self::from)
    }

    /// Looks at the database in `dir`, whether or not another process writes it.
    ///
    /// # Errors
    /// As [`crate::Db::open_read_only_in`].
    pub fn open_read_only(dir: impl AsRef<Path>, options: Options) -> Result<ReadOnlyDb> {
        block_on(crate::Db::open_read_only(dir, options)).map(ReadOnlyDb::from)
    }

    /// The same in a world of the caller's choice.
    ///
    /// # Errors
    /// As [`crate::Db::open_read_only_in`].
    pub fn open_read_only_in(
        env: Arc<dyn Env>,
        dir: impl AsRef<Path>,
        options: Options,
    ) -> Result<ReadOnlyDb> {
        block_on(crate::Db::open_read_only_in(env, dir, options)).map(ReadOnlyDb::from)
    }

    /// The handle whose calls are awaited.
    pub fn asynchronous(&self) -> &crate::Db {
        &self.db
    }

    /// The keyspace of this name.
    ///
    /// # Errors
    /// As [`crate::Db::keyspace`].
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        self.db.keyspace(name).map(Keyspace::from)
    }

    /// The keyspace that every database has.
    ///
    /// # Errors
    /// As [`crate::Db::default_keyspace`].
    pub fn default_keyspace(&self) -> Result<Keyspace> {
        self.db.default_keyspace().map(Keyspace::from)
    }

    /// Creates a keyspace; durable when it returns.
    ///
    /// # Errors
    /// As [`crate::Db::create_keyspace`].
    pub fn create_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        block_on(self.db.create_keyspace(name, options)).map(Keyspace::from)
    }

    /// Drops a keyspace with everything in it.
    ///
    /// # Errors
    /// As [`crate::Db::drop_keyspace`].
    pub fn drop_keyspace(&self, keyspace: &Keyspace) -> Result<()> {
        block_on(self.db.drop_keyspace(&keyspace.keyspace))
    }

    /// All keyspaces, by number.
    ///
    /// # Errors
    /// As [`crate::Db::keyspaces`].
    pub fn keyspaces(&self) -> Result<Vec<KeyspaceInfo>> {
        self.db.keyspaces()
    }

    /// Begins a transaction at the newest visible commit.
    pub fn begin(&self, options: TransactionOptions) -> Txn {
        Txn { txn: self.db.begin(options) }
    }

    /// A read-only view of the newest visible commit.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { snapshot: self.db.snapshot() }
    }

    /// A read-only view as of commit `seq`.
    ///
    /// # Errors
    /// As [`crate::Db::at`].
    pub fn at(&self, seq: Seq) -> Result<Snapshot> {
        Ok(Snapshot { snapshot: self.db.at(seq)? })
    }

    /// The newest visible commit.
    pub fn last_seq(&self) -> Seq {
        self.db.last_seq()
    }

    /// Commits a batch as one.
    ///
    /// # Errors
    /// As [`crate::Db::write`].
    pub fn write(&self, batch: WriteBatch, durability: Durability) -> Result<Seq> {
        block_on(self.db.write(batch, durability))
    }

    /// Makes every commit so far durable, and returns the newest.
    ///
    /// # Errors
    /// As [`crate::Db::sync`].
    pub fn sync(&self) -> Result<Seq> {
        block_on(self.db.sync())
    }

    /// Writes all memtables into tables and waits for it. Every commit before it is durable then, `Buffered` ones too.
    ///
    /// # Errors
    /// As [`crate::Db::flush`].
    pub fn flush(&self) -> Result<()> {
        block_on(self.db.flush())
    }

    /// Merges everything down to the deepest level.
    ///
    /// # Errors
    /// As [`crate::Db::compact`].
    pub fn compact(&self) -> Result<()> {
        block_on(self.db.compact())
    }

    /// Waits until no flush or compaction is running or due.
    ///
    /// # Errors
    /// As [`crate::Db::wait_idle`].
    pub fn wait_idle(&self) -> Result<()> {
        block_on(self.db.wait_idle())
    }

    /// Makes a second database in `target` that holds every commit up to one, while writes go on.
    ///
    /// # Errors
    /// As [`crate::Db::checkpoint`].
    pub fn checkpoint(&self, target: impl AsRef<Path>) -> Result<CheckpointInfo> {
        block_on(self.db.checkpoint(target))
    }

    /// Makes a second database in `target` that shares no byte with this one, while writes go on; each byte is checked
    /// on its way.
    ///
    /// # Errors
    /// As [`crate::Db::backup`].
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<CheckpointInfo> {
        block_on(self.db.backup(target))
    }

    /// [`Db::backup`] that tells how far it is.
    ///
    /// # Errors
    /// As [`crate::Db::backup`].
    pub fn backup_with(
        &self,
        target: impl AsRef<Path>,
        progress: impl FnMut(&BackupProgress) + Send,
    ) -> Result<CheckpointInfo> {
        block_on(self.db.backup_with(target, progress))
    }

    /// Checks every file of this database while it is in use.
    ///
    /// # Errors
    /// As [`crate::Db::verify`].
    pub fn verify(&self) -> Result<VerifyReport> {
        block_on(self.db.verify())
    }

    /// [`Db::verify`] that tells how far it is.
    ///
    /// # Errors
    /// As [`crate::Db::verify`].
    pub fn verify_with(&self, progress: impl FnMut(&VerifyProgress) + Send) -> Result<VerifyReport> {
        block_on(self.db.verify_with(progress))
    }

    /// The oldest commit that is still held for a reader, and how many readers there are.
    pub fn oldest_reader(&self) -> (Option<Seq>, u64) {
        self.db.oldest_reader()
    }

    /// Why writes have stopped, if they have.
    pub fn stopped(&self) -> Option<String> {
        self.db.stopped()
    }

    /// Everything that is counted, as of now.
    pub fn metrics(&self) -> Metrics {
        self.db.metrics()
    }

    /// Writes what is in memory into tables, seals the log and closes.
    ///
    /// # Errors
    /// As [`crate::Db::close`].
    pub fn close(self) -> Result<()> {
        block_on(self.db.close())
    }
}

/// An independent ordered map inside a database; see [`crate::Keyspace`].
#[derive(Clone)]
pub struct Keyspace {
    keyspace: crate::Keyspace,
}

impl From<crate::Keyspace> for Keyspace {
    fn from(keyspace: crate::Keyspace) -> Self {
        Self { keyspace }
    }
}

impl From<&Keyspace> for BatchKeyspace {
    fn from(keyspace: &Keyspace) -> Self {
        keyspace.asynchronous().into()
    }
}

impl From<&Keyspace> for KeyspaceId {
    fn from(keyspace: &Keyspace) -> Self {
        keyspace.id()
    }
}

impl Keyspace {
    /// The handle whose calls are awaited.
    pub fn asynchronous(&self) -> &crate::Keyspace {
        &self.keyspace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.keyspace.name()
    }

    /// Its number, for a [`WriteBatch`].
    pub fn id(&self) -> KeyspaceId {
        self.keyspace.id()
    }

    /// The value of `key`, `None` if it has none.
    ///
    /// # Errors
    /// As [`crate::Keyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        block_on(self.keyspace.get(key))
    }

    /// A walk over a range as of now.
    ///
    /// # Errors
    /// As [`crate::Keyspace::scan`].
    pub fn scan(&self, scan: Scan) -> Result<Cursor> {
        block_on(self.keyspace.scan(scan)).map(Cursor::from)
    }

    /// Sets the value of `key`; durable when it returns.
    ///
    /// # Errors
    /// As [`crate::Keyspace::put`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Seq> {
        block_on(self.keyspace.put(key, value))
    }

    /// Removes `key`; durable when it returns.
    ///
    /// # Errors
    /// As [`crate::Keyspace::delete`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Seq> {
        block_on(self.keyspace.delete(key))
    }

    /// Removes every key in `start..end`; durable when it returns.
    ///
    /// # Errors
    /// As [`crate::Keyspace::delete_range`].
    pub fn delete_range(&self, start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<Seq> {
        block_on(self.keyspace.delete_range(start, end))
    }

    /// About how many bytes the keys of a range take up.
    ///
    /// # Errors
    /// As [`crate::Keyspace::approximate_size`].
    pub fn approximate_size<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        block_on(self.keyspace.approximate_size(range))
    }

    /// About how many entries stand in a range.
    ///
    /// # Errors
    /// As [`crate::Keyspace::approximate_count`].
    pub fn approximate_count<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        block_on(self.keyspace.approximate_count(range))
    }

    /// The options in force.
    ///
    /// # Errors
    /// As [`crate::Keyspace::options`].
    pub fn options(&self) -> Result<KeyspaceOptions> {
        self.keyspace.options()
    }

    /// A view with typed keys and values.
    pub fn typed<K, V>(&self) -> TypedKeyspace<K, V> {
        TypedKeyspace::new(self.keyspace.typed())
    }
}

/// A transaction; see [`crate::Txn`]. Dropping it rolls back.
pub struct Txn {
    txn: crate::Txn,
}

impl Txn {
    /// The commit it reads at.
    pub fn read_seq(&self) -> Seq {
        self.txn.read_seq()
    }

    /// The value of `key` as this transaction sees it, its own writes included.
    ///
    /// # Errors
    /// As [`crate::Txn::get`].
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        block_on(self.txn.get(&keyspace.keyspace, key))
    }

    /// A walk over a range as this transaction sees it, its own writes included.
    ///
    /// # Errors
    /// As [`crate::Txn::scan`].
    pub fn scan(&self, keyspace: &Keyspace, scan: Scan) -> Result<Cursor> {
        block_on(self.txn.scan(&keyspace.keyspace, scan)).map(Cursor::from)
    }

    /// Sets the value of `key` within the transaction.
    ///
    /// # Errors
    /// As [`crate::Txn::put`].
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.txn.put(&keyspace.keyspace, key, value)
    }

    /// Removes `key` within the transaction.
    ///
    /// # Errors
    /// As [`crate::Txn::delete`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.txn.delete(&keyspace.keyspace, key)
    }

    /// Removes every key in `start..end` within the transaction.
    ///
    /// # Errors
    /// As [`crate::Txn::delete_range`].
    pub fn delete_range(
        &mut self,
        keyspace: &Keyspace,
        start: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.txn.delete_range(&keyspace.keyspace, start, end)
    }

    /// A token that tells what became of this transaction; see [`crate::Txn::outcome_token`]. Wait for it with
    /// [`block_on`].
    pub fn outcome_token(&mut self) -> OutcomeToken {
        self.txn.outcome_token()
    }

    /// Commits, and gives the commit's place in the order.
    ///
    /// # Errors
    /// As [`crate::Txn::commit`].
    pub fn commit(self) -> Result<Seq> {
        block_on(self.txn.commit())
    }

    /// Drops all writes.
    pub fn rollback(self) {}
}

/// A read-only view of one commit; see [`crate::Snapshot`].
pub struct Snapshot {
    snapshot: crate::Snapshot,
}

impl Snapshot {
    /// The commit it shows.
    pub fn seq(&self) -> Seq {
        self.snapshot.seq()
    }

    /// The value of `key` as of this view.
    ///
    /// # Errors
    /// As [`crate::Snapshot::get`].
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        block_on(self.snapshot.get(&keyspace.keyspace, key))
    }

    /// A walk over a range as of this view.
    ///
    /// # Errors
    /// As [`crate::Snapshot::scan`].
    pub fn scan(&self, keyspace: &Keyspace, scan: Scan) -> Result<Cursor> {
        block_on(self.snapshot.scan(&keyspace.keyspace, scan)).map(Cursor::from)
    }
}
