//! A handle to one keyspace, with the operations that need no transaction.

use std::ops::RangeBounds;
use std::sync::Arc;

use super::{Scan, Shared, TypedKeyspace};
use crate::error::{Error, Result};
use crate::options::{Durability, KeyspaceOptions};
use crate::tree::{Extent, extent};
use crate::txn::Cursor;
use crate::types::{BatchKeyspace, KeyspaceId, Seq, Value, WriteBatch};

/// An independent ordered map inside a database. Cloning gives another handle.
///
/// Reads see the newest visible commit; each write is a commit of its own. For more than one operation at once use
/// a [`Txn`](super::Txn), a [`WriteBatch`] or a [`Snapshot`](super::Snapshot).
#[derive(Clone)]
pub struct Keyspace {
    shared: Arc<Shared>,
    id: KeyspaceId,
    name: Arc<str>,
}

impl Keyspace {
    pub(crate) fn new(shared: Arc<Shared>, id: KeyspaceId, name: Arc<str>) -> Self {
        Self { shared, id, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, never used again after a drop. A [`WriteBatch`] takes it too, but is safer with the handle.
    pub fn id(&self) -> KeyspaceId {
        self.id
    }

    pub(crate) fn id_in(&self, shared: &Arc<Shared>) -> Result<KeyspaceId> {
        if Arc::ptr_eq(&self.shared, shared) {
            return Ok(self.id);
        }
        Err(Error::Invalid(format!("keyspace {:?} belongs to another opening of a database", self.name)))
    }

    pub(super) fn dropped(&self) -> Error {
        Error::Invalid(format!("keyspace {:?} (number {}) was dropped", self.name, self.id))
    }

    /// Below this handle a keyspace that was dropped has only a number; here it has its name.
    pub(super) fn name_if_dropped(&self, error: Error) -> Error {
        let is_gone = || self.shared.engine.published.load().keyspace(self.id).is_none();
        if matches!(error, Error::Invalid(_)) && is_gone() { self.dropped() } else { error }
    }

    /// The value of `key`, `None` if it has none.
    ///
    /// # Errors
    /// `Corrupt` or `Io` naming file and offset; `Invalid` if the keyspace was dropped; `Closed`.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let engine = &self.shared.engine;
        let (state, seq) = engine.now();
        engine.get(&state, self.id, key.as_ref(), seq).await.map_err(|error| self.name_if_dropped(error))
    }

    /// A walk over a range as of now.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn scan(&self, scan: Scan) -> Result<Cursor> {
        let engine = &self.shared.engine;
        let (state, seq) = engine.now();
        let walk = scan.into_walk();
        let base = engine.walk(&state, self.id, walk.range, seq, walk.direction).await;
        let base = base.map_err(|error| self.name_if_dropped(error))?;
        Ok(Cursor::new(base, walk.limit, None, None))
    }

    /// Sets the value of `key`; durable when it returns.
    ///
    /// # Errors
    /// `Invalid` over a limit or if the keyspace was dropped; `DiskFull`, `TooManyFiles`, `Busy`, `Io`, `Closed`. In all of
    /// these nothing was written, nor will it be. [`CommitUnknown`](Error::CommitUnknown), [`Stopped`](Error::Stopped):
    /// this write may appear, whole, at the next opening.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Seq> {
        let mut batch = WriteBatch::new();
        batch.put(self.id, key.as_ref(), value.as_ref())?;
        self.commit(batch).await
    }

    /// Removes `key`; durable when it returns. Removing what is not there is fine.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Seq> {
        let mut batch = WriteBatch::new();
        batch.delete(self.id, key.as_ref())?;
        self.commit(batch).await
    }

    /// Removes every key in `start..end`, in constant time; durable when it returns.
    ///
    /// # Errors
    /// As [`Keyspace::put`]; `Invalid` if `start` does not sort before `end`.
    pub async fn delete_range(&self, start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<Seq> {
        let mut batch = WriteBatch::new();
        batch.delete_range(self.id, start.as_ref(), end.as_ref())?;
        self.commit(batch).await
    }

    async fn commit(&self, mut batch: WriteBatch) -> Result<Seq> {
        self.shared.engine.check_size(&batch)?;
        batch.normalise();
        let outcome = self.shared.engine.commit(batch, None, Durability::Sync, None).await;
        outcome.map_err(|error| self.name_if_dropped(error))
    }

    /// About how many bytes the keys of a range take up: of files, so compressed, for what stands in tables, and of
    /// keys and values for what is in memory yet. Nothing of the range itself is read: at most two index blocks for each
    /// table that a bound falls into.
    ///
    /// Old versions, deletes and what they hide count until a compaction drops them. Each table that a bound falls
    /// into errs by at most one data block (option `block_bytes`, or one larger value) at that bound, and by
    /// its index and filter blocks; everything else is exact.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn approximate_size<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        Ok(self.extent(Scan::range(range)).await?.bytes)
    }

    /// About how many entries stand in a range; costs as little as [`Keyspace::approximate_size`].
    ///
    /// Entries are versions, deletes among them, so without many overwrites it is about the number of keys, and
    /// after a full compaction without older readers and of a range without bounds exactly that. A
    /// table that a bound falls into is taken to hold its entries evenly: it errs by as many as its blocks differ
    /// in density, at most by all it has.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn approximate_count<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        Ok(self.extent(Scan::range(range)).await?.entries)
    }

    pub(super) async fn extent(&self, scan: Scan) -> Result<Extent> {
        let engine = &self.shared.engine;
        engine.gate.check_read()?;
        let state = engine.published.load();
        let keyspace = state.keyspace(self.id).ok_or_else(|| self.dropped())?;
        extent(keyspace, &engine.tables, &scan.into_walk().range).await
    }

    /// The options in force.
    ///
    /// # Errors
    /// `Invalid` if the keyspace was dropped.
    pub fn options(&self) -> Result<KeyspaceOptions> {
        let state = self.shared.engine.published.load();
        let keyspace = state.keyspace(self.id).ok_or_else(|| self.dropped())?;
        Ok((*keyspace.options).clone())
    }

    /// A view with typed keys and values.
    pub fn typed<K, V>(&self) -> TypedKeyspace<K, V> {
        TypedKeyspace::new(self.clone())
    }
}

impl From<&Keyspace> for BatchKeyspace {
    fn from(keyspace: &Keyspace) -> Self {
        Self::of_database(keyspace.id, keyspace.shared.engine.database_id)
    }
}

impl From<&Keyspace> for KeyspaceId {
    fn from(keyspace: &Keyspace) -> Self {
        keyspace.id
    }
}
