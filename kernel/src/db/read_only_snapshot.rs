//! A read-only view of one commit, from beside the writer.

use std::sync::Arc;

use super::read_only::Shared;
use super::{ReadOnlyKeyspace, Scan};
use crate::error::{Error, Result};
use crate::read_only::View;
use crate::tree::VisibleIter;
use crate::txn::Cursor;
use crate::types::{Seq, Value};

/// One commit of a [`ReadOnlyDb`](super::ReadOnlyDb). It shows the same whatever is refreshed meanwhile, and holds the
/// memory and the open files of the view that it was taken from. Cloning gives another handle to the same commit.
///
/// The writer does not know of it: a table that was not open when the view began (more than `open_files_max` of them)
/// may be gone when it is first needed, which gives `Stale`.
#[derive(Clone)]
pub struct ReadOnlySnapshot {
    shared: Arc<Shared>,
    view: Arc<View>,
    seq: Seq,
}

impl ReadOnlySnapshot {
    pub(super) fn newest(shared: Arc<Shared>) -> Self {
        let view = shared.view();
        let seq = view.seq;
        Self { shared, view, seq }
    }

    pub(super) fn at(shared: Arc<Shared>, seq: Seq) -> Result<Self> {
        let view = shared.view();
        if seq > view.seq {
            return Err(Error::Invalid(format!(
                "sequence {seq} is in the future of this view: its newest commit is {}; refresh to see later ones",
                view.seq
            )));
        }
        if seq < view.retained_from {
            return Err(Error::TooOld { asked: seq, oldest: view.retained_from });
        }
        Ok(Self { shared, view, seq })
    }

    /// The commit it shows.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The value of `key` as of this commit.
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::get`]; `Invalid` if the keyspace belongs to another opening or did not exist in the view.
    pub async fn get(&self, keyspace: &ReadOnlyKeyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let tables = &self.shared.looker.tables;
        crate::tree::get(keyspace.of(&self.shared, &self.view.state)?, tables, key.as_ref(), self.seq).await
    }

    /// A walk over a range as of this commit.
    ///
    /// # Errors
    /// As [`ReadOnlySnapshot::get`], from the cursor too.
    pub async fn scan(&self, keyspace: &ReadOnlyKeyspace, scan: Scan) -> Result<Cursor> {
        let walk = scan.into_walk();
        let (of, tables) = (keyspace.of(&self.shared, &self.view.state)?, &self.shared.looker.tables);
        let base = VisibleIter::new(of, tables, walk.range, self.seq, walk.direction).await?;
        Ok(Cursor::new(base, walk.limit, None, None))
    }
}
