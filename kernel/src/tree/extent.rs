//! About how much stands in a range of keys, without reading it.
//!
//! Memtables are walked, so what they hold is exact. A table that lies inside the range counts whole, from the
//! manifest's word and without a look at the file. One that the range cuts is asked where the bounds stand, which
//! costs at most one index block for each bound; its entries are taken to be spread evenly over its bytes.
//!
//! Error: versions, deletes and entries under a range tombstone count like any other, because telling them apart
//! is reading. Beyond that a table that is cut errs by at most one data block at each bound, and by the index and filter
//! blocks that stand between; its number of entries lies between 0 and all it has.

use std::future::poll_fn;
use std::ops::Bound;
use std::sync::Arc;
use std::task::Poll;

use super::state::KeyspaceState;
use super::tables::{TableHandle, Tables};
use super::visible::KeyRange;
use crate::error::Result;
use crate::memtable::Memtable;
use crate::types::Seq;

/// Entries of a memtable between two chances for others to run.
const STRIDE: u64 = 1024;

/// What stands in a range.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Extent {
    /// Of files for tables, of keys and values for memtables.
    pub bytes: u64,
    pub entries: u64,
}

impl Extent {
    fn add(&mut self, other: Self) {
        // A manifest may claim any number of entries.
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.entries = self.entries.saturating_add(other.entries);
    }
}

/// What `range` takes up in all memtables and tables of a keyspace. O(entries in memtables + tables).
///
/// # Errors
/// Corruption or a failed read of the index of a table that the range cuts.
pub(crate) async fn extent(keyspace: &KeyspaceState, tables: &Tables, range: &KeyRange) -> Result<Extent> {
    let mut extent = Extent::default();
    if range.is_empty() {
        return Ok(extent);
    }
    for memory in keyspace.memories() {
        extent.add(in_memtable(&memory.table, range).await);
    }
    for table in keyspace.tables().filter(|table| range.may_touch(table)) {
        extent.add(in_table(table, tables, range).await?);
    }
    Ok(extent)
}

async fn in_memtable(memtable: &Arc<Memtable>, range: &KeyRange) -> Extent {
    let mut extent = Extent::default();
    let mut iter = memtable.iter();
    match &range.start {
        Bound::Unbounded => iter.seek_first(),
        Bound::Included(start) | Bound::Excluded(start) => iter.seek(start, Seq::MAX),
    }
    while iter.valid() && !range.ends_before(iter.key()) {
        if !range.starts_after(iter.key()) {
            extent.add(Extent { bytes: (iter.key().len() + iter.value().len()) as u64, entries: 1 });
            if extent.entries.is_multiple_of(STRIDE) {
                let_others_run().await;
            }
        }
        iter.next();
    }
    extent
}

async fn in_table(table: &Arc<TableHandle>, tables: &Tables, range: &KeyRange) -> Result<Extent> {
    let meta = table.meta();
    if !range.starts_after(&meta.smallest) && !range.ends_before(&meta.largest) {
        return Ok(Extent { bytes: meta.bytes, entries: meta.entries });
    }
    let reader = tables.reader(table).await?;
    let blocks = reader.blocks();
    let start = match &range.start {
        Bound::Unbounded => blocks.start,
        Bound::Included(key) | Bound::Excluded(key) => reader.approximate_offset(key).await?,
    };
    let end = match &range.end {
        Bound::Unbounded => blocks.end,
        Bound::Included(key) | Bound::Excluded(key) => reader.approximate_offset(key).await?,
    };
    let bytes = end.saturating_sub(start);
    let all = blocks.end.saturating_sub(blocks.start).max(1);
    let entries = u128::from(meta.entries) * u128::from(bytes) / u128::from(all);
    Ok(Extent { bytes, entries: u64::try_from(entries).unwrap_or(meta.entries).min(meta.entries) })
}

/// Gives the executor's other tasks a turn.
async fn let_others_run() {
    let mut had_theirs = false;
    poll_fn(|context| {
        if had_theirs {
            return Poll::Ready(());
        }
        had_theirs = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
