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
//!
//! A step that was abandoned midway, because its future was dropped, leaves the sources anywhere; the next step then seeks
//! anew from the last key that was decided, so nothing is passed over.

use std::ops::{Bound, Range};
use std::sync::Arc;

use super::merge::{Direction, Merge};
use super::source::{LevelIter, Source};
use super::state::KeyspaceState;
use super::tables::{TableHandle, Tables};
use crate::error::Result;
use crate::table::TableReader;
use crate::types::{OpKind, RangeTombstones, Seq, Value};

/// Further versions of a key that are stepped over before a seek is tried.
const STEPS_BEFORE_LEAP: u32 = 8;

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
        !self.begins_behind(table) && !self.ends_before(&table.meta().smallest)
    }

    fn begins_behind(&self, table: &TableHandle) -> bool {
        match &self.start {
            Bound::Unbounded => false,
            Bound::Included(start) | Bound::Excluded(start) => table.ends_before(start),
        }
    }

    /// The neighbouring tables of a sorted run that may hold keys of the range.
    fn touched(&self, run: &[Arc<TableHandle>]) -> Range<usize> {
        let from = run.partition_point(|table| self.begins_behind(table));
        let rest = &run[from..];
        from..from + rest.partition_point(|table| !self.ends_before(&table.meta().smallest))
    }
}

/// A table's range tombstones, kept by keeping the table open.
struct TableTombstones {
    handle: Arc<TableHandle>,
    reader: Arc<TableReader>,
}

/// Every range tombstone that may matter for one scan.
struct Tombstones {
    memories: Vec<Arc<RangeTombstones>>,
    level0: Vec<TableTombstones>,
    /// Deeper levels, each sorted and disjoint.
    runs: Vec<Vec<TableTombstones>>,
}

impl Tombstones {
    #[inline]
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
    /// The key at hand.
    key: Vec<u8>,
    place: Place,
    /// Set while a source is moved by a future; found set by the next step if that was dropped.
    under_way: bool,
    /// Backward: the value of `key`. Forward, `merge` still stands on it.
    value: Option<Value>,
}

/// Where a walk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing was sought yet.
    Before,
    /// The sources were sought, and there is no key at hand yet.
    Started,
    /// Backward: not all versions of the key at hand were looked at.
    Deciding,
    /// The key at hand was shown or is hidden; what is left of its versions is to be passed over.
    Decided,
}

/// How far a walk came without reading another block.
enum Walked {
    Found,
    End,
    /// The next entry stands in another block.
    NeedsBlock,
    /// Many versions of one key stand in the way.
    Crowded,
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
        let mut sources = Vec::with_capacity(4);
        let mut tombstones = Tombstones { memories: Vec::new(), level0: Vec::new(), runs: Vec::new() };
        for memory in keyspace.memories().filter(|memory| memory.first_lsn().is_some()) {
            tombstones.memories.extend(memory.table.range_tombstones());
            sources.push(Source::Memtable(memory.table.iter()));
        }
        let [level0, runs @ ..] = &keyspace.levels;
        for handle in level0.iter().filter(|table| range.may_touch(table)) {
            sources.push(Source::Table(Box::new(tables.reader(handle).await?.iter(true))));
        }
        if level0.deletes_ranges {
            tombstones.level0 =
                open_deleting(level0.iter().filter(|table| range.may_touch(table)), tables).await?;
        }
        for run in runs.iter().filter(|run| !run.is_empty()) {
            let touched = range.touched(run);
            if touched.is_empty() {
                continue;
            }
            if run.deletes_ranges {
                let deleting = open_deleting(run[touched.clone()].iter(), tables).await?;
                if !deleting.is_empty() {
                    tombstones.runs.push(deleting);
                }
            }
            let iter = LevelIter::new(run.clone(), touched, tables.clone(), true);
            sources.push(Source::Level(Box::new(iter)));
        }
        Ok(Self {
            merge: Merge::new(sources),
            tombstones,
            range,
            seq,
            direction,
            key: Vec::new(),
            place: Place::Before,
            under_way: false,
            value: None,
        })
    }

    /// What is walked over.
    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Which way.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// To the next visible entry; false at the end of the range. If its future is dropped, nothing is passed over.
    ///
    /// # Errors
    /// Corruption or a failed read of a table in the way.
    pub async fn next(&mut self) -> Result<bool> {
        if self.direction == Direction::Backward {
            return self.next_backward().await;
        }
        if self.under_way || self.place == Place::Before {
            self.under_way = true;
            self.start_forward().await?;
            self.under_way = false;
        }
        loop {
            let walked = self.walk_forward()?;
            self.under_way = true;
            match walked {
                Walked::Found | Walked::End => {
                    self.under_way = false;
                    return Ok(matches!(walked, Walked::Found));
                }
                Walked::NeedsBlock => self.merge.advance().await?,
                Walked::Crowded => self.merge.leap(&self.key).await?,
            }
            self.under_way = false;
        }
    }

    /// The key it stands on; only after `next()` gave true, as the following.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value it stands on.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match self.direction {
            Direction::Forward => self.merge.value(),
            Direction::Backward => self.value.as_deref().unwrap_or_default(),
        }
    }

    /// The value it stands on, as one that may be kept.
    pub fn pinned_value(&self) -> Value {
        let value = match self.direction {
            Direction::Forward => self.merge.pinned_value(),
            Direction::Backward => self.value.clone(),
        };
        value.expect("asked only after next() gave true")
    }

    /// Seeks behind the key at hand, or to the start of the range.
    async fn start_forward(&mut self) -> Result<()> {
        match &self.range.start {
            _ if self.place == Place::Decided => return self.merge.seek(&self.key, Seq::ZERO).await,
            Bound::Unbounded => self.merge.seek_first().await?,
            Bound::Included(start) => self.merge.seek(start, Seq::LIMIT).await?,
            Bound::Excluded(start) => {
                self.key.clone_from(start);
                self.place = Place::Decided;
                return self.merge.seek(start, Seq::ZERO).await;
            }
        }
        self.place = Place::Started;
        Ok(())
    }

    /// Of each key in turn, the first entry that the reader may see decides. Without a future, for most steps stay in
    /// a block.
    #[inline]
    fn walk_forward(&mut self) -> Result<Walked> {
        let mut passed = 0;
        while let Some(entry) = self.merge.entry() {
            if self.place == Place::Decided && entry.key == self.key {
                if passed == STEPS_BEFORE_LEAP && entry.seq > Seq::ZERO {
                    return Ok(Walked::Crowded);
                }
                passed += 1;
            } else if self.range.ends_before(entry.key) {
                return Ok(Walked::End);
            } else if entry.seq <= self.seq {
                self.key.clear();
                self.key.extend_from_slice(entry.key);
                (self.place, passed) = (Place::Decided, 0);
                if entry.kind == OpKind::Put && !self.is_hidden(entry.seq) {
                    return Ok(Walked::Found);
                }
            }
            if !self.merge.advance_within()? {
                return Ok(Walked::NeedsBlock);
            }
        }
        Ok(Walked::End)
    }

    /// Seeks before the key at hand, to it if it is not decided, or to the end of the range.
    async fn start_backward(&mut self) -> Result<()> {
        match (self.place, &self.range.end) {
            (Place::Deciding, _) => self.seek_back_to(&self.key.clone()).await,
            (Place::Decided, _) => self.merge.seek_before(&self.key).await,
            (_, Bound::Unbounded) => self.merge.seek_last().await,
            (_, Bound::Excluded(end)) => self.merge.seek_before(end).await,
            (_, Bound::Included(end)) => self.seek_back_to(&end.clone()).await,
        }?;
        if self.place == Place::Before {
            self.place = Place::Started;
        }
        Ok(())
    }

    /// To the last entry whose key is not after `key`.
    async fn seek_back_to(&mut self, key: &[u8]) -> Result<()> {
        let least_after = [key, &[0]].concat();
        self.merge.seek_before(&least_after).await
    }

    async fn next_backward(&mut self) -> Result<bool> {
        self.value = None;
        if std::mem::replace(&mut self.under_way, true) || self.place == Place::Before {
            self.start_backward().await?;
        }
        let mut found = false;
        while let Some(entry) = self.merge.entry().filter(|_| !found) {
            if self.range.starts_after(entry.key) {
                break;
            }
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.place = Place::Deciding;
            if let Some((written, Some(value))) = self.newest_going_back().await?
                && !self.is_hidden(written)
            {
                self.value = Some(value);
                found = true;
            }
            self.place = Place::Decided;
        }
        self.under_way = false;
        Ok(found)
    }

    /// The newest version of the key at hand that the reader may see, with its value if it is a put. Goes on to the
    /// key before.
    async fn newest_going_back(&mut self) -> Result<Option<(Seq, Option<Value>)>> {
        // Oldest first: the last version that is not in the future decides.
        let mut newest = None;
        for _ in 0..STEPS_BEFORE_LEAP {
            match self.merge.entry().filter(|entry| entry.key == self.key) {
                None => return Ok(newest),
                Some(entry) if entry.seq <= self.seq => newest = Some((entry.seq, self.put_value())),
                Some(_) => {}
            }
            self.merge.advance().await?;
        }
        if self.merge.entry().is_none_or(|entry| entry.key != self.key) {
            return Ok(newest);
        }
        // Many versions: the one is sought from the other side, and then the key before.
        self.merge.seek(&self.key, self.seq).await?;
        let entry = self.merge.entry().filter(|entry| entry.key == self.key);
        newest = entry.map(|entry| (entry.seq, self.put_value()));
        self.merge.seek_before(&self.key).await?;
        Ok(newest)
    }

    /// The value that `merge` stands on, `None` for a delete.
    fn put_value(&self) -> Option<Value> {
        let is_put = self.merge.entry().is_some_and(|entry| entry.kind == OpKind::Put);
        if is_put { self.merge.pinned_value() } else { None }
    }

    #[inline]
    fn is_hidden(&self, written: Seq) -> bool {
        !self.tombstones.is_empty() && self.tombstones.hide(&self.key, written, self.seq)
    }
}

async fn open_deleting(
    touched: impl Iterator<Item = &Arc<TableHandle>>,
    tables: &Tables,
) -> Result<Vec<TableTombstones>> {
    let mut deleting = Vec::new();
    for handle in touched.filter(|handle| handle.meta().range_tombstones > 0) {
        deleting.push(TableTombstones { handle: handle.clone(), reader: tables.reader(handle).await? });
    }
    Ok(deleting)
}
