//! A cursor over the entries of one table, in both directions.
//!
//! It stands on an entry of the top index, one of the partition under that, and one of the data block under that.
//! Versions and deletes are all shown: what a reader may see is decided above. An error leaves the cursor standing
//! nowhere.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::sync::Arc;

use super::block::EntryCursor;
use super::frame::{Handle, Role};
use super::reader::{TableReader, decode_handle, decode_partition};
use crate::error::Result;
use crate::types::{EntryRef, Seq, Value};

/// A position in a table, or none. Entries are ordered by key ascending, then `Seq` descending.
pub(crate) struct TableIter {
    table: Arc<TableReader>,
    fill_cache: bool,
    /// Made at the first use, so that making an iterator cannot fail.
    top: Option<EntryCursor>,
    partition: Level,
    data: Level,
}

/// One level of the path, with the handle of the block that its cursor is in.
#[derive(Default)]
struct Level {
    handle: Handle,
    cursor: Option<EntryCursor>,
}

/// Where to go in a block that was just entered.
#[derive(Clone, Copy)]
enum Target<'a> {
    First,
    Last,
    /// The first entry not before this.
    AtOrAfter(&'a [u8], Seq),
}

impl TableIter {
    pub(super) fn new(table: Arc<TableReader>, fill_cache: bool) -> Self {
        Self { table, fill_cache, top: None, partition: Level::default(), data: Level::default() }
    }

    /// To the first entry not before (`key`, `seq`): the newest version of `key` that `seq` may see, else the first of a
    /// later key.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) naming file and offset, as all that move.
    pub(crate) async fn seek(&mut self, key: &[u8], seq: Seq) -> Result<()> {
        let target = Target::AtOrAfter(key, seq);
        self.go_top(target)?;
        if self.enter(target).await? && !self.valid() {
            // The target falls between the last entry of the block and its separator.
            self.step_block(Target::First).await?;
        }
        Ok(())
    }

    /// To the first entry of all.
    pub(crate) async fn seek_first(&mut self) -> Result<()> {
        self.go_top(Target::First)?;
        self.enter(Target::First).await.map(drop)
    }

    /// To the last entry of all.
    pub(crate) async fn seek_last(&mut self) -> Result<()> {
        self.go_top(Target::Last)?;
        self.enter(Target::Last).await.map(drop)
    }

    /// To the last entry whose key is smaller than `key`: the oldest version of the greatest such key.
    pub(crate) async fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.seek(key, Seq::MAX).await?;
        if self.valid() { self.prev().await } else { self.seek_last().await }
    }

    /// To the following entry; nowhere after the last.
    #[inline]
    pub(crate) async fn next(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.data.cursor else { return Ok(()) };
        let moved = cursor.next();
        if moved.is_ok() && cursor.valid() {
            return Ok(());
        }
        self.judge(self.data.handle, moved)?;
        self.step_block(Target::First).await
    }

    /// To the preceding entry; nowhere before the first.
    #[inline]
    pub(crate) async fn prev(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.data.cursor else { return Ok(()) };
        let moved = cursor.prev();
        if moved.is_ok() && cursor.valid() {
            return Ok(());
        }
        self.judge(self.data.handle, moved)?;
        self.step_block(Target::Last).await
    }

    /// [`TableIter::next`] if that needs no other block; false, and nothing moved, if it does.
    ///
    /// # Errors
    /// As all that move, except that nothing is read.
    #[inline]
    pub(crate) fn next_within(&mut self) -> Result<bool> {
        let Some(cursor) = &mut self.data.cursor else { return Ok(true) };
        let moved = cursor.next_within();
        if let Ok(moved) = moved { Ok(moved) } else { self.judge(self.data.handle, moved) }
    }

    /// [`TableIter::prev`] if that needs no other block; false, and nothing moved, if it does.
    ///
    /// # Errors
    /// As [`TableIter::next_within`].
    #[inline]
    pub(crate) fn prev_within(&mut self) -> Result<bool> {
        let Some(cursor) = &mut self.data.cursor else { return Ok(true) };
        let moved = cursor.prev_within();
        if let Ok(moved) = moved { Ok(moved) } else { self.judge(self.data.handle, moved) }
    }

    /// What the cursor stands on, without its value.
    #[inline]
    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        self.data.cursor.as_ref().and_then(EntryCursor::entry)
    }

    /// True if the cursor stands on an entry.
    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.data.cursor.as_ref().is_some_and(EntryCursor::valid)
    }

    /// The value; empty for a delete.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.data.cursor.as_ref().map_or(&[], EntryCursor::value)
    }

    /// The value as one that may be kept: it holds the block.
    pub(crate) fn pinned_value(&self) -> Value {
        match &self.data.cursor {
            Some(cursor) => {
                let range = cursor.value_range();
                Value::borrowed(Arc::clone(cursor.block()).into_owner(), range.start, range.len())
            }
            None => Value::owned(Vec::new()),
        }
    }

    /// Moves in the top index.
    fn go_top(&mut self, target: Target<'_>) -> Result<()> {
        let handle = self.table.footer.top_index;
        if self.top.is_none() {
            let cursor = EntryCursor::new(Arc::clone(&self.table.top_index));
            self.top = Some(self.table.located(handle, cursor)?);
        }
        match &mut self.top {
            Some(top) => {
                let moved = go(top, target);
                self.judge(handle, moved)
            }
            None => Ok(()),
        }
    }

    /// Goes down from the top index's entry to `target`. False if the top index stands nowhere, and so does this then.
    async fn enter(&mut self, target: Target<'_>) -> Result<bool> {
        let Some(top) = self.top.as_ref().filter(|top| top.valid()) else {
            self.data.cursor = None;
            return Ok(false);
        };
        let partition = self.table.located(self.table.footer.top_index, decode_partition(top.value()))?;
        self.enter_level(partition.index, Role::Index, target).await?;
        if !self.partition.cursor.as_ref().is_some_and(EntryCursor::valid) {
            self.data.cursor = None;
            return Err(self.table.corrupt(partition.index, "the index partition contradicts its separator"));
        }
        self.enter_data(target).await?;
        Ok(true)
    }

    /// Goes down from the partition's entry.
    async fn enter_data(&mut self, target: Target<'_>) -> Result<()> {
        let value = self.partition.cursor.as_ref().map_or(&[][..], EntryCursor::value);
        let decoded = decode_handle(value);
        let handle = self.judge(self.partition.handle, decoded)?;
        self.enter_level(handle, Role::Data, target).await
    }

    /// Enters the block at `handle`, which may be the one that the level is in already.
    async fn enter_level(&mut self, handle: Handle, role: Role, target: Target<'_>) -> Result<()> {
        let level = if role == Role::Data { &mut self.data } else { &mut self.partition };
        if level.handle != handle || level.cursor.is_none() {
            // While the block is loaded, and if that fails, the cursor stands nowhere.
            let cursor = level.cursor.take();
            let loaded = self.table.load(handle, role, self.fill_cache).await;
            if loaded.is_err() {
                self.data.cursor = None;
            }
            let block = loaded?;
            let entered = match cursor {
                Some(mut cursor) => cursor.replace(block).map(|()| cursor),
                None => EntryCursor::new(block),
            };
            let cursor = self.judge(handle, entered)?;
            let level = if role == Role::Data { &mut self.data } else { &mut self.partition };
            *level = Level { handle, cursor: Some(cursor) };
        }
        let level = if role == Role::Data { &mut self.data } else { &mut self.partition };
        let moved = level.cursor.as_mut().map_or(Ok(()), |cursor| go(cursor, target));
        self.judge(handle, moved)
    }

    /// To the first entry of the following data block, or the last of the preceding one.
    async fn step_block(&mut self, target: Target<'_>) -> Result<()> {
        let forward = matches!(target, Target::First);
        let Some(partition) = &mut self.partition.cursor else { return Ok(()) };
        let moved = if forward { partition.next() } else { partition.prev() };
        let inside = partition.valid();
        self.judge(self.partition.handle, moved)?;
        if inside {
            return self.enter_data(target).await;
        }
        let Some(top) = &mut self.top else { return Ok(()) };
        let moved = if forward { top.next() } else { top.prev() };
        self.judge(self.table.footer.top_index, moved)?;
        self.enter(target).await.map(drop)
    }

    /// Passes a result on; after an error the cursor stands nowhere.
    fn judge<T>(
        &mut self,
        handle: Handle,
        result: std::result::Result<T, crate::codec::BadBytes>,
    ) -> Result<T> {
        if result.is_err() {
            self.data.cursor = None;
        }
        self.table.located(handle, result)
    }
}

fn go(cursor: &mut EntryCursor, target: Target<'_>) -> std::result::Result<(), crate::codec::BadBytes> {
    match target {
        Target::First => cursor.seek_first(),
        Target::Last => cursor.seek_last(),
        Target::AtOrAfter(key, seq) => cursor.seek(key, seq),
    }
}
