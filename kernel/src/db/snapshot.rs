//! A read-only view of one commit.

use std::sync::Arc;

use super::{Keyspace, Scan, Shared};
use crate::error::{Error, Result};
use crate::tree::SnapshotGuard;
use crate::txn::Cursor;
use crate::types::{Seq, Value};

/// A read-only view of the whole database as of one commit. Versions it can see are kept while it lives; `stats`
/// names the oldest.
pub struct Snapshot {
    shared: Arc<Shared>,
    guard: SnapshotGuard,
}

impl Snapshot {
    pub(crate) fn newest(shared: Arc<Shared>) -> Self {
        let guard = shared.engine.snapshots.register(&shared.engine.published);
        Self { shared, guard }
    }

    pub(crate) fn at(shared: Arc<Shared>, seq: Seq) -> Result<Self> {
        let engine = &shared.engine;
        let visible = engine.published.visible();
        if seq > visible {
            return Err(Error::Invalid(format!(
                "sequence {seq} is in the future; the newest commit is {visible}"
            )));
        }
        let guard = engine.snapshots.register_at(seq);
        let guard = guard.map_err(|oldest| Error::TooOld { asked: seq, oldest })?;
        Ok(Self { shared, guard })
    }

    /// The commit it shows.
    pub fn seq(&self) -> Seq {
        self.guard.seq()
    }

    /// The value of `key` as of this view.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let id = keyspace.id_in(&self.shared)?;
        let engine = &self.shared.engine;
        let found = engine.get(&engine.published.load(), id, key.as_ref(), self.seq()).await;
        found.map_err(|error| keyspace.name_if_dropped(error))
    }

    /// A walk over a range as of this view.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn scan(&self, keyspace: &Keyspace, scan: Scan) -> Result<Cursor> {
        let id = keyspace.id_in(&self.shared)?;
        let engine = &self.shared.engine;
        let walk = scan.into_walk();
        let state = engine.published.load();
        let base = engine.walk(&state, id, walk.range, self.seq(), walk.direction).await;
        let base = base.map_err(|error| keyspace.name_if_dropped(error))?;
        Ok(Cursor::new(base, walk.limit, None, None))
    }
}
