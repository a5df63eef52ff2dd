//! From every version of every key to what one reader sees.
//!
//! ```text
//!   key   entries, newest first          range tombstone   reader at 5 sees
//!   a     put@7  put@3                                      put@3   (7 is in its future)
//!   b     del@4  put@2                                      nothing
//!   c     put@2                          [c,e)@3            nothing
//!   d     put@5  put@1                   [c,e)@3            put@5   (5 > 3)
//! ```
//! Forward, the first entry of a key with `Seq` ≤ the reader's is its newest visible one; backward it is the last.
//! Every range tombstone the reader may see, from any source, hides older entries.

use std::ops::Bound;
use std::sync::Arc;

use super::merge::{Direction, Merge};
use super::source::{LevelIter, Source};
use super::state::KeyspaceState;
use super::tables::{TableHandle, Tables};
use crate::error::Result;
use crate::table::TableReader;
use crate::types::{Fragmented, OpKind, Seq, Value};

/// A part of the key space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// Where it starts.
    pub start: Bound<Vec<u8>>,
    /// Where it ends.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: Self = Self { start: Bound::Unbounded, end: Bound::Unbounded };

    /// True if no key can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
            _ => false,
        }
    }

    /// True if `key` sorts before the range.
    pub(crate) fn starts_after(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Unbounded => false,
            Bound::Included(start) => key < &start[..],
            Bound::Excluded(start) => key <= &start[..],
        }
    }

    /// True if `key` sorts after the range.
    pub(crate) fn ends_before(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Unbounded => false,
            Bound::Included(end) => key > &end[..],
            Bound::Excluded(end) => key >= &end[..],
        }
    }

    /// True if a table may hold a key of the range.
    pub(crate) fn may_touch(&self, table: &TableHandle) -> bool {
        let before = match &self.start {
            Bound::Unbounded => false,
            Bound::Included(start) | Bound::Excluded(start) => table.ends_before(start),
        };
        !before && !self.ends_before(&table.meta().smallest)
    }
}

/// A table's range tombstones, kept by keeping the table open.
struct TableTombstones {
    handle: Arc<TableHandle>,
    reader: Arc<TableReader>,
}

/// Every range tombstone that may matter for one scan.
struct Tombstones {
    memories: Vec<Arc<Fragmented>>,
    level0: Vec<TableTombstones>,
    /// Deeper levels, each sorted and disjoint.
    runs: Vec<Vec<TableTombstones>>,
}

impl Tombstones {
    fn is_empty(&self) -> bool {
        self.memories.is_empty() && self.level0.is_empty() && self.runs.is_empty()
    }

    /// True if a tombstone visible at `seq` hides an entry of `key` written at `written`.
    fn hide(&self, key: &[u8], written: Seq, seq: Seq) -> bool {
        let newer = |found: Option<Seq>| found.is_some_and(|deleted_at| deleted_at > written);
        let in_table = |table: &TableTombstones| {
            table.handle.meta().max_seq > written
                && table.handle.covers(key)
                && newer(table.reader.range_tombstones().newest_covering(key, seq))
        };
        self.memories.iter().any(|memory| newer(memory.newest_covering(key, seq)))
            || self.level0.iter().any(in_table)
            || self.runs.iter().any(|run| {
                let at = run.partition_point(|table| table.handle.ends_before(key));
                run.get(at).is_some_and(in_table)
            })
    }
}

/// Walks the visible entries of a range in one direction.
pub(crate) struct VisibleIter {
    merge: Merge,
    tombstones: Tombstones,
    range: KeyRange,
    seq: Seq,
    direction: Direction,
    started: bool,
    key: Vec<u8>,
    value: Option<Value>,
}

impl VisibleIter {
    /// A walk over `range` of `keyspace` as of `seq`. Opens the tables that hold range tombstones; seeks nothing yet.
    ///
    /// # Errors
    /// What opening those tables gives.
    pub async fn new(
        keyspace: &KeyspaceState,
        tables: &Arc<Tables>,
        range: KeyRange,
        seq: Seq,
        direction: Direction,
    ) -> Result<Self> {
        let mut sources = Vec::new();
        let mut tombstones = Tombstones { memories: Vec::new(), level0: Vec::new(), runs: Vec::new() };
        for memory in keyspace.memories() {
            let deleted = memory.table.range_tombstones();
            if !deleted.is_empty() {
                tombstones.memories.push(deleted);
            }
            if memory.first_lsn().is_some() {
                sources.push(Source::Memtable(memory.table.iter()));
            }
        }
        for (level, handles) in keyspace.levels.iter().enumerate() {
            let touched: Vec<Arc<TableHandle>> =
                handles.iter().filter(|table| range.may_touch(table)).cloned().collect();
            let deleting = open_deleting(&touched, tables).await?;
            if level == 0 {
                for handle in &touched {
                    sources.push(Source::Table(Box::new(tables.reader(handle).await?.iter(true))));
                }
                tombstones.level0 = deleting;
            } else if !touched.is_empty() {
                sources.push(Source::Level(Box::new(LevelIter::new(touched, tables.clone(), true))));
                if !deleting.is_empty() {
                    tombstones.runs.push(deleting);
                }
            }
        }
        Ok(Self {
            merge: Merge::new(sources),
            tombstones,
            range,
            seq,
            direction,
            started: false,
            key: Vec::new(),
            value: None,
        })
    }

    /// To the next visible entry; false at the end of the range.
    ///
    /// # Errors
    /// Corruption or a failed read of a table in the way.
    pub async fn next(&mut self) -> Result<bool> {
        self.value = None;
        match self.direction {
            Direction::Forward => self.next_forward().await,
            Direction::Backward => self.next_backward().await,
        }
    }

    /// The key it stands on.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value it stands on.
    pub fn value(&self) -> &Value {
        self.value.as_ref().expect("read only after next() gave true")
    }

    async fn next_forward(&mut self) -> Result<bool> {
        if self.started {
            // Seq 0 is after every version of the key that was shown.
            let key = std::mem::take(&mut self.key);
            let skipped = self.merge.skip_past(&key).await;
            self.key = key;
            skipped?;
        } else {
            self.started = true;
            match &self.range.start {
                Bound::Unbounded => self.merge.seek_first().await?,
                Bound::Included(start) => self.merge.seek(start, Seq::LIMIT).await?,
                Bound::Excluded(start) => self.merge.seek_after(start).await?,
            }
        }
        while self.merge.valid() && !self.range.ends_before(self.merge.key()) {
            if self.merge.seq() > self.seq {
                self.merge.advance().await?;
                continue;
            }
            self.key.clear();
            self.key.extend_from_slice(self.merge.key());
            if self.merge.kind() == OpKind::Put && !self.is_hidden(self.merge.seq()) {
                self.value = Some(self.merge.pinned_value());
                return Ok(true);
            }
            let key = std::mem::take(&mut self.key);
            let skipped = self.merge.skip_past(&key).await;
            self.key = key;
            skipped?;
        }
        Ok(false)
    }

    async fn next_backward(&mut self) -> Result<bool> {
        if !self.started {
            self.started = true;
            match &self.range.end {
                Bound::Unbounded => self.merge.seek_last().await?,
                Bound::Excluded(end) => self.merge.seek_before(end).await?,
                Bound::Included(end) => {
                    // The least key after `end`.
                    let mut after = end.clone();
                    after.push(0);
                    self.merge.seek_before(&after).await?;
                }
            }
        }
        while self.merge.valid() && !self.range.starts_after(self.merge.key()) {
            self.key.clear();
            self.key.extend_from_slice(self.merge.key());
            // Oldest first: the last version that is not in the future decides.
            let mut newest = None;
            while self.merge.valid() && self.merge.key() == self.key {
                if self.merge.seq() <= self.seq {
                    let put = self.merge.kind() == OpKind::Put;
                    newest = Some((self.merge.seq(), put.then(|| self.merge.pinned_value())));
                }
                self.merge.advance().await?;
            }
            if let Some((written, Some(value))) = newest
                && !self.is_hidden(written)
            {
                self.value = Some(value);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_hidden(&self, written: Seq) -> bool {
        !self.tombstones.is_empty() && self.tombstones.hide(&self.key, written, self.seq)
    }
}

async fn open_deleting(touched: &[Arc<TableHandle>], tables: &Tables) -> Result<Vec<TableTombstones>> {
    let mut deleting = Vec::new();
    for handle in touched.iter().filter(|handle| handle.meta().range_tombstones > 0) {
        deleting.push(TableTombstones { handle: handle.clone(), reader: tables.reader(handle).await? });
    }
    Ok(deleting)
}
