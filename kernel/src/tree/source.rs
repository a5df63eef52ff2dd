//! What a merge draws from: a memtable, one table, or a whole level of tables laid end to end.
//!
//! All three walk raw entries, every version of every key, in the order of `types`: key ascending, `Seq` descending
//! (`prev` walks the exact reverse). Range tombstones are not entries; see `visible`.

use std::ops::Range;
use std::sync::Arc;

use super::state::Level;
use super::tables::{TableHandle, Tables};
use crate::error::Result;
use crate::memtable::MemtableIter;
use crate::table::TableIter;
use crate::types::{EntryRef, Seq, Value};

/// One input of a merge.
pub(crate) enum Source {
    Memtable(MemtableIter),
    Table(Box<TableIter>),
    Level(Box<LevelIter>),
}

impl Source {
    /// To the first entry at or after (`key`, `seq`) in entry order.
    pub async fn seek(&mut self, key: &[u8], seq: Seq) -> Result<()> {
        match self {
            Self::Memtable(iter) => iter.seek(key, seq),
            Self::Table(iter) => iter.seek(key, seq).await?,
            Self::Level(iter) => iter.seek(key, seq).await?,
        }
        Ok(())
    }

    /// To the first entry.
    pub async fn seek_first(&mut self) -> Result<()> {
        match self {
            Self::Memtable(iter) => iter.seek_first(),
            Self::Table(iter) => iter.seek_first().await?,
            Self::Level(iter) => iter.seek_first().await?,
        }
        Ok(())
    }

    /// To the last entry.
    pub async fn seek_last(&mut self) -> Result<()> {
        match self {
            Self::Memtable(iter) => iter.seek_last(),
            Self::Table(iter) => iter.seek_last().await?,
            Self::Level(iter) => iter.seek_last().await?,
        }
        Ok(())
    }

    /// To the last entry whose key sorts before `key`.
    pub async fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        match self {
            Self::Memtable(iter) => iter.seek_before(key),
            Self::Table(iter) => iter.seek_before(key).await?,
            Self::Level(iter) => iter.seek_before(key).await?,
        }
        Ok(())
    }

    /// One entry on.
    pub async fn next(&mut self) -> Result<()> {
        match self {
            Self::Memtable(iter) => iter.next(),
            Self::Table(iter) => iter.next().await?,
            Self::Level(iter) => iter.next().await?,
        }
        Ok(())
    }

    /// One entry back.
    pub async fn prev(&mut self) -> Result<()> {
        match self {
            Self::Memtable(iter) => iter.prev(),
            Self::Table(iter) => iter.prev().await?,
            Self::Level(iter) => iter.prev().await?,
        }
        Ok(())
    }

    /// One entry on, if that needs no other block; false, and nothing moved, if it does.
    #[inline]
    pub fn next_within(&mut self) -> Result<bool> {
        match self {
            Self::Memtable(iter) => {
                iter.next();
                Ok(true)
            }
            Self::Table(iter) => iter.next_within(),
            Self::Level(iter) => iter.iter.as_mut().map_or(Ok(true), TableIter::next_within),
        }
    }

    /// One entry back, if that needs no other block; false, and nothing moved, if it does.
    #[inline]
    pub fn prev_within(&mut self) -> Result<bool> {
        match self {
            Self::Memtable(iter) => {
                iter.prev();
                Ok(true)
            }
            Self::Table(iter) => iter.prev_within(),
            Self::Level(iter) => iter.iter.as_mut().map_or(Ok(true), TableIter::prev_within),
        }
    }

    /// What it stands on, without its value; `None` if it stands nowhere.
    #[inline]
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        match self {
            Self::Memtable(iter) => iter.entry(),
            Self::Table(iter) => iter.entry(),
            Self::Level(iter) => iter.iter.as_ref().and_then(TableIter::entry),
        }
    }

    /// The value of the entry it stands on.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match self {
            Self::Memtable(iter) => iter.value(),
            Self::Table(iter) => iter.value(),
            Self::Level(iter) => iter.current().value(),
        }
    }

    /// The value as one that may be kept.
    pub fn pinned_value(&self) -> Value {
        match self {
            Self::Memtable(iter) => iter.pinned_value(),
            Self::Table(iter) => iter.pinned_value(),
            Self::Level(iter) => iter.current().pinned_value(),
        }
    }
}

/// Neighbouring tables of one level below 0: sorted, disjoint, walked as one.
pub(crate) struct LevelIter {
    level: Arc<Level>,
    /// Which of its tables are walked.
    tables: Range<usize>,
    opener: Arc<Tables>,
    fill_cache: bool,
    at: usize,
    iter: Option<TableIter>,
}

impl LevelIter {
    /// Walks `tables` of `level`, which are opened as they are met.
    pub fn new(level: Arc<Level>, tables: Range<usize>, opener: Arc<Tables>, fill_cache: bool) -> Self {
        Self { level, at: tables.start, tables, opener, fill_cache, iter: None }
    }

    fn current(&self) -> &TableIter {
        self.iter.as_ref().expect("asked only while it stands on an entry")
    }

    fn tables(&self) -> &[Arc<TableHandle>] {
        &self.level[self.tables.clone()]
    }

    /// Opens the table at `at`; leaves no iterator past either end.
    async fn open(&mut self, at: usize) -> Result<Option<&mut TableIter>> {
        if at != self.at || self.iter.is_none() {
            self.iter = None;
            self.at = at;
            if self.tables.contains(&at) {
                self.iter = Some(self.opener.reader(&self.level[at]).await?.iter(self.fill_cache));
            }
        }
        Ok(self.iter.as_mut())
    }

    async fn seek(&mut self, key: &[u8], seq: Seq) -> Result<()> {
        let at = self.tables.start + self.tables().partition_point(|table| table.ends_before(key));
        if let Some(iter) = self.open(at).await? {
            iter.seek(key, seq).await?;
            self.skip_forward().await?;
        }
        Ok(())
    }

    async fn seek_first(&mut self) -> Result<()> {
        if let Some(iter) = self.open(self.tables.start).await? {
            iter.seek_first().await?;
            self.skip_forward().await?;
        }
        Ok(())
    }

    async fn seek_last(&mut self) -> Result<()> {
        if self.tables.is_empty() {
            return Ok(());
        }
        if let Some(iter) = self.open(self.tables.end - 1).await? {
            iter.seek_last().await?;
            self.skip_backward().await?;
        }
        Ok(())
    }

    async fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let before = self.tables().partition_point(|table| *table.meta().smallest < *key);
        if before == 0 {
            self.iter = None;
            return Ok(());
        }
        let at = self.tables.start + before - 1;
        if let Some(iter) = self.open(at).await? {
            iter.seek_before(key).await?;
            self.skip_backward().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<()> {
        if let Some(iter) = self.iter.as_mut() {
            iter.next().await?;
            if !iter.valid() {
                self.skip_forward().await?;
            }
        }
        Ok(())
    }

    async fn prev(&mut self) -> Result<()> {
        if let Some(iter) = self.iter.as_mut() {
            iter.prev().await?;
            if !iter.valid() {
                self.skip_backward().await?;
            }
        }
        Ok(())
    }

    /// Moves on through tables until one has an entry; some hold only range tombstones.
    async fn skip_forward(&mut self) -> Result<()> {
        while self.iter.as_ref().is_some_and(|iter| !iter.valid()) {
            if let Some(iter) = self.open(self.at + 1).await? {
                iter.seek_first().await?;
            }
        }
        Ok(())
    }

    async fn skip_backward(&mut self) -> Result<()> {
        while self.iter.as_ref().is_some_and(|iter| !iter.valid()) {
            if self.at == self.tables.start {
                self.iter = None;
                return Ok(());
            }
            if let Some(iter) = self.open(self.at - 1).await? {
                iter.seek_last().await?;
            }
        }
        Ok(())
    }
}
