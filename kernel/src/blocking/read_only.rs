//! A look at a database beside its writer, in the blocking API.

use std::ops::RangeBounds;
use std::path::Path;

use super::{Cursor, TypedReadOnlyKeyspace, block_on};
use crate::error::Result;
use crate::options::KeyspaceOptions;
use crate::types::{KeyspaceId, Seq, Value};
use crate::{BackupProgress, CheckpointInfo, KeyspaceInfo, Metrics, Scan};

/// A view of a database that another process may have open for writing; see [`crate::ReadOnlyDb`].
#[derive(Clone)]
pub struct ReadOnlyDb {
    db: crate::ReadOnlyDb,
}

impl From<crate::ReadOnlyDb> for ReadOnlyDb {
    fn from(db: crate::ReadOnlyDb) -> Self {
        Self { db }
    }
}

impl ReadOnlyDb {
    /// Moves to the state of now and gives its newest commit.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyDb::refresh`].
    pub fn refresh(&self) -> Result<Seq> {
        block_on(self.db.refresh())
    }

    /// The newest commit in view, held whatever is refreshed meanwhile.
    pub fn snapshot(&self) -> ReadOnlySnapshot {
        ReadOnlySnapshot { snapshot: self.db.snapshot() }
    }

    /// The view as of commit `seq`.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("holdfast-read-only-blocking-{}", std::process::id()));
    /// use holdfast::{Options, Scan, blocking::Db};
    /// let db = Db::open(&dir, Options::default())?;
    /// let people = db.default_keyspace()?;
    /// let before = people.put("ada", "mathematician")?;
    /// people.put("ada", "programmer")?;
    ///
    /// let look = Db::open_read_only(&dir, Options::default())?;
    /// let people = look.default_keyspace()?;
    /// let then = look.at(before)?.get(&people, "ada")?;
    /// assert!(then.is_some_and(|value| value == "mathematician"));
    /// assert_eq!(look.snapshot().scan(&people, Scan::all())?.collect()?.len(), 1);
    /// assert_eq!(people.typed::<(String,), String>().approximate_count(Default::default())?, 2);
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::ReadOnlyDb::at`].
    pub fn at(&self, seq: Seq) -> Result<ReadOnlySnapshot> {
        Ok(ReadOnlySnapshot { snapshot: self.db.at(seq)? })
    }

    /// Makes a database of its own of what is in view, beside the writer; each byte is checked on its way.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyDb::backup`].
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<CheckpointInfo> {
        block_on(self.db.backup(target))
    }

    /// [`ReadOnlyDb::backup`] that tells how far it is.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyDb::backup`].
    pub fn backup_with(
        &self,
        target: impl AsRef<Path>,
        progress: impl FnMut(&BackupProgress) + Send,
    ) -> Result<CheckpointInfo> {
        block_on(self.db.backup_with(target, progress))
    }

    /// The newest commit in view.
    pub fn last_seq(&self) -> Seq {
        self.db.last_seq()
    }

    /// All keyspaces in view, by number.
    pub fn keyspaces(&self) -> Vec<KeyspaceInfo> {
        self.db.keyspaces()
    }

    /// The keyspace of this name.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyDb::keyspace`].
    pub fn keyspace(&self, name: &str) -> Result<ReadOnlyKeyspace> {
        Ok(ReadOnlyKeyspace { keyspace: self.db.keyspace(name)? })
    }

    /// The keyspace that every database has.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyDb::default_keyspace`].
    pub fn default_keyspace(&self) -> Result<ReadOnlyKeyspace> {
        Ok(ReadOnlyKeyspace { keyspace: self.db.default_keyspace()? })
    }

    /// What can be counted from beside the writer.
    pub fn metrics(&self) -> Metrics {
        self.db.metrics()
    }
}

/// A keyspace of a [`ReadOnlyDb`]; see [`crate::ReadOnlyKeyspace`].
#[derive(Clone)]
pub struct ReadOnlyKeyspace {
    keyspace: crate::ReadOnlyKeyspace,
}

impl ReadOnlyKeyspace {
    /// Its name.
    pub fn name(&self) -> &str {
        self.keyspace.name()
    }

    /// Its number.
    pub fn id(&self) -> KeyspaceId {
        self.keyspace.id()
    }

    /// The options in force.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyKeyspace::options`].
    pub fn options(&self) -> Result<KeyspaceOptions> {
        self.keyspace.options()
    }

    /// The value of `key`, `None` if it has none.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyKeyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        block_on(self.keyspace.get(key))
    }

    /// A walk over a range.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyKeyspace::scan`].
    pub fn scan(&self, scan: Scan) -> Result<Cursor> {
        block_on(self.keyspace.scan(scan)).map(Cursor::from)
    }

    /// About how many bytes the keys of a range take up.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyKeyspace::approximate_size`].
    pub fn approximate_size<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        block_on(self.keyspace.approximate_size(range))
    }

    /// About how many entries stand in a range.
    ///
    /// # Errors
    /// As [`crate::ReadOnlyKeyspace::approximate_count`].
    pub fn approximate_count<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        block_on(self.keyspace.approximate_count(range))
    }

    /// A view with typed keys and values.
    pub fn typed<K, V>(&self) -> TypedReadOnlyKeyspace<K, V> {
        TypedReadOnlyKeyspace::new(self.keyspace.typed())
    }
}

/// One commit of a [`ReadOnlyDb`]; see [`crate::ReadOnlySnapshot`].
#[derive(Clone)]
pub struct ReadOnlySnapshot {
    pub(super) snapshot: crate::ReadOnlySnapshot,
}

impl ReadOnlySnapshot {
    /// The commit it shows.
    pub fn seq(&self) -> Seq {
        self.snapshot.seq()
    }

    /// The value of `key` as of this commit.
    ///
    /// # Errors
    /// As [`crate::ReadOnlySnapshot::get`].
    pub fn get(&self, keyspace: &ReadOnlyKeyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        block_on(self.snapshot.get(&keyspace.keyspace, key))
    }

    /// A walk over a range as of this commit.
    ///
    /// # Errors
    /// As [`crate::ReadOnlySnapshot::scan`].
    pub fn scan(&self, keyspace: &ReadOnlyKeyspace, scan: Scan) -> Result<Cursor> {
        block_on(self.snapshot.scan(&keyspace.keyspace, scan)).map(Cursor::from)
    }
}
