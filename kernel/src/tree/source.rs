//! What a merge draws from: a memtable, one table, or a whole level of tables laid end to end.
//!
//! All three walk raw entries, every version of every key, in the order of `types`: key ascending, `Seq` descending
//! (`prev` walks the exact reverse). Range tombstones are not entries; see `visible`.

use std::sync::Arc;

use super::tables::{TableHandle, Tables};
use crate::error::Result;
use crate::memtable::MemtableIter;
use crate::table::TableIter;
use crate::types::{OpKind, Seq, Value};

/// One input of a merge.
pub(crate) enum Source {
    Memtable(MemtableIter),
    Table(Box<TableIter>),
    Level(Box<LevelIter>),
}

/// Dispatches a call to whichever source it is; table sources are awaited.
macro_rules! positioned {
    ($self:ident, $method:ident ( $($argument:expr),* )) => {
        match $self {
            Source::Memtable(iter) => iter.$method($($argument),*),
            Source::Table(iter) => iter.$method($($argument),*),
            Source::Level(iter) => iter.current().$method($($argument),*),
        }
    };
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

    /// True if it stands on an entry.
    pub fn valid(&self) -> bool {
        match self {
            Self::Memtable(iter) => iter.valid(),
            Self::Table(iter) => iter.valid(),
            Self::Level(iter) => iter.valid(),
        }
    }

    pub fn key(&self) -> &[u8] {
        positioned!(self, key())
    }

    pub fn seq(&self) -> Seq {
        positioned!(self, seq())
    }

    pub fn kind(&self) -> OpKind {
        positioned!(self, kind())
    }

    pub fn value(&self) -> &[u8] {
        positioned!(self, value())
    }

    pub fn pinned_value(&self) -> Value {
        positioned!(self, pinned_value())
    }
}

/// The tables of one level below 0: sorted, disjoint, walked as one.
pub(crate) struct LevelIter {
    tables: Vec<Arc<TableHandle>>,
    opener: Arc<Tables>,
    fill_cache: bool,
    at: usize,
    iter: Option<TableIter>,
}

impl LevelIter {
    pub fn new(tables: Vec<Arc<TableHandle>>, opener: Arc<Tables>, fill_cache: bool) -> Self {
        Self { tables, opener, fill_cache, at: 0, iter: None }
    }

    fn valid(&self) -> bool {
        self.iter.as_ref().is_some_and(TableIter::valid)
    }

    fn current(&self) -> &TableIter {
        self.iter.as_ref().expect("read only where valid() said so")
    }

    /// Opens the table at `at`; leaves no iterator past either end.
    async fn open(&mut self, at: usize) -> Result<Option<&mut TableIter>> {
        if at != self.at || self.iter.is_none() {
            self.iter = None;
            self.at = at;
            if let Some(handle) = self.tables.get(at) {
                self.iter = Some(self.opener.reader(handle).await?.iter(self.fill_cache));
            }
        }
        Ok(self.iter.as_mut())
    }

    async fn seek(&mut self, key: &[u8], seq: Seq) -> Result<()> {
        let at = self.tables.partition_point(|table| table.ends_before(key));
        if let Some(iter) = self.open(at).await? {
            iter.seek(key, seq).await?;
            self.skip_forward().await?;
        }
        Ok(())
    }

    async fn seek_first(&mut self) -> Result<()> {
        if let Some(iter) = self.open(0).await? {
            iter.seek_first().await?;
            self.skip_forward().await?;
        }
        Ok(())
    }

    async fn seek_last(&mut self) -> Result<()> {
        let Some(last) = self.tables.len().checked_sub(1) else { return Ok(()) };
        if let Some(iter) = self.open(last).await? {
            iter.seek_last().await?;
            self.skip_backward().await?;
        }
        Ok(())
    }

    async fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let after = self.tables.partition_point(|table| *table.meta().smallest < *key);
        let Some(at) = after.checked_sub(1) else {
            self.iter = None;
            return Ok(());
        };
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
            let Some(before) = self.at.checked_sub(1) else {
                self.iter = None;
                return Ok(());
            };
            if let Some(iter) = self.open(before).await? {
                iter.seek_last().await?;
            }
        }
        Ok(())
    }
}
