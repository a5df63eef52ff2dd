//! A look at a database beside its writer, in the blocking API.

use std::path::Path;

use super::{Cursor, block_on};
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
}
