//! Walks the entries of an entry block in both directions.
//!
//! Forward, a key is the previous one cut and continued. Backward, one restart interval at a time is decoded into
//! memory of the cursor and handed out from its end, so a step back costs about as much as one forward.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::ops::Range;
use std::sync::Arc;

use super::search::{Entry, Found, Layout};
use crate::cache::Block;
use crate::codec::BadBytes;
use crate::types::{EntryRef, OpKind, Seq};

/// What the cursor stands on, beside the key.
#[derive(Clone, Copy)]
struct Place {
    /// Offset of the entry in keys, and of the next.
    at: usize,
    next: usize,
    /// Offset in values, and length.
    value_at: usize,
    value_len: usize,
    seq: Seq,
    kind: OpKind,
}

impl Place {
    #[inline]
    fn of(at: usize, entry: &Entry<'_>, value_at: usize) -> Self {
        let Entry { next, value_len, seq, kind, .. } = *entry;
        Self { at, next, value_at, value_len, seq, kind }
    }
}

/// A decoded entry of the interval before the cursor.
struct Behind {
    place: Place,
    key: Range<usize>,
}

/// A position in one block, or none.
pub(in crate::table) struct EntryCursor {
    block: Arc<Block>,
    layout: Layout,
    place: Option<Place>,
    key: Vec<u8>,
    /// The entries of the interval just before `place`, oldest first, and their keys.
    behind: Vec<Behind>,
    behind_keys: Vec<u8>,
}

impl EntryCursor {
    /// A cursor that stands nowhere yet.
    pub(in crate::table) fn new(block: Arc<Block>) -> Result<Self, BadBytes> {
        let layout = Layout::decode(block.bytes())?;
        Ok(Self { block, layout, place: None, key: Vec::new(), behind: Vec::new(), behind_keys: Vec::new() })
    }

    /// Takes up another block, keeping the memory.
    pub(in crate::table) fn replace(&mut self, block: Arc<Block>) -> Result<(), BadBytes> {
        self.place = None;
        self.behind.clear();
        self.layout = Layout::decode(block.bytes())?;
        self.block = block;
        Ok(())
    }

    /// True if the cursor stands on an entry.
    #[inline]
    pub(in crate::table) fn valid(&self) -> bool {
        self.place.is_some()
    }

    /// The key; empty if there is no entry, as all that follow.
    #[inline]
    pub(in crate::table) fn key(&self) -> &[u8] {
        if self.valid() { &self.key } else { &[] }
    }

    #[inline]
    pub(in crate::table) fn seq(&self) -> Seq {
        self.place.map_or(Seq::ZERO, |place| place.seq)
    }

    #[inline]
    pub(in crate::table) fn kind(&self) -> OpKind {
        self.place.map_or(OpKind::Delete, |place| place.kind)
    }

    /// Where the value stands in the block's content.
    #[inline]
    pub(in crate::table) fn value_range(&self) -> Range<usize> {
        match self.place {
            Some(place) => self.layout.value(place.value_at, place.value_len).unwrap_or_default(),
            None => 0..0,
        }
    }

    #[inline]
    pub(in crate::table) fn value(&self) -> &[u8] {
        self.block.bytes().get(self.value_range()).unwrap_or_default()
    }

    pub(in crate::table) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    pub(in crate::table) fn seek_first(&mut self) -> Result<(), BadBytes> {
        self.behind.clear();
        self.go_to(0, 0)
    }

    pub(in crate::table) fn seek_last(&mut self) -> Result<(), BadBytes> {
        self.behind.clear();
        let (at, value_at) = self.layout.restart(self.block.bytes(), usize::MAX);
        self.step_back_from(at, value_at)
    }

    /// To the first entry not before (`key`, `seq`), or nowhere.
    pub(in crate::table) fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), BadBytes> {
        self.behind.clear();
        self.place = None;
        let Some(Found { at, entry, value_at, .. }) = self.layout.find(self.block.bytes(), key, seq)? else {
            return Ok(());
        };
        self.layout.value(value_at, entry.value_len)?;
        self.key.clear();
        self.key.extend_from_slice(key.get(..entry.shared).unwrap_or_default());
        self.key.extend_from_slice(entry.suffix);
        self.place = Some(Place::of(at, &entry, value_at));
        Ok(())
    }

    /// To the entry after; nowhere if this was the last, or if the cursor stood nowhere.
    #[inline]
    pub(in crate::table) fn next(&mut self) -> Result<(), BadBytes> {
        let Some(place) = self.place else { return Ok(()) };
        self.behind.clear();
        self.go_to(place.next, place.value_at.saturating_add(place.value_len))
    }

    /// [`EntryCursor::next`] if that stays in the block; false, and nothing moved, if this is the last entry. Standing
    /// nowhere it stays there.
    #[inline]
    pub(in crate::table) fn next_within(&mut self) -> Result<bool, BadBytes> {
        match self.place {
            Some(place) if self.layout.ends_at(place.next) => Ok(false),
            _ => self.next().map(|()| true),
        }
    }

    /// [`EntryCursor::prev`] if that stays in the block; false, and nothing moved, if this is the first entry.
    #[inline]
    pub(in crate::table) fn prev_within(&mut self) -> Result<bool, BadBytes> {
        match self.place {
            Some(place) if place.at == 0 => Ok(false),
            _ => self.prev().map(|()| true),
        }
    }

    /// The entry that the cursor stands on, without its value.
    #[inline]
    pub(in crate::table) fn entry(&self) -> Option<EntryRef<'_>> {
        self.place.map(|place| EntryRef { key: &self.key, seq: place.seq, kind: place.kind })
    }

    /// To the entry before; nowhere if this was the first, or if the cursor stood nowhere.
    pub(in crate::table) fn prev(&mut self) -> Result<(), BadBytes> {
        let Some(place) = self.place else { return Ok(()) };
        self.step_back_from(place.at, place.value_at)
    }

    /// Stands on the entry at `at`, whose key continues the one held; nowhere at the end of keys.
    #[inline]
    fn go_to(&mut self, at: usize, value_at: usize) -> Result<(), BadBytes> {
        self.place = None;
        let keys = self.layout.keys(self.block.bytes());
        if at >= keys.len() {
            return Ok(());
        }
        let entry = self.layout.entry(keys, at)?;
        if entry.shared > self.key.len() {
            return Err(BadBytes { what: "key shares more than there is", at });
        }
        self.layout.value(value_at, entry.value_len)?;
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(entry.suffix);
        self.place = Some(Place::of(at, &entry, value_at));
        Ok(())
    }

    /// Stands on the entry before the one at `at`.
    fn step_back_from(&mut self, at: usize, value_at: usize) -> Result<(), BadBytes> {
        self.place = None;
        if at == 0 {
            return Ok(());
        }
        if self.behind.is_empty() {
            self.decode_interval_before(at, value_at)?;
        }
        if let Some(behind) = self.behind.pop() {
            self.key.clear();
            self.key.extend_from_slice(self.behind_keys.get(behind.key).unwrap_or_default());
            self.place = Some(behind.place);
        }
        Ok(())
    }

    fn decode_interval_before(&mut self, end: usize, value_end: usize) -> Result<(), BadBytes> {
        let restart = self.layout.restart_behind(self.block.bytes(), end);
        let (at, value_at) = self.layout.restart(self.block.bytes(), restart);
        self.behind_keys.clear();
        let mut behind = std::mem::take(&mut self.behind);
        self.go_to(at, value_at)?;
        while let Some(place) = self.place.filter(|place| place.at < end) {
            let start = self.behind_keys.len();
            self.behind_keys.extend_from_slice(&self.key);
            behind.push(Behind { place, key: start..self.behind_keys.len() });
            self.go_to(place.next, place.value_at.saturating_add(place.value_len))?;
        }
        self.place = None;
        self.behind = behind;
        match self.behind.last().map(|last| last.place) {
            Some(last) if last.next == end && last.value_at.saturating_add(last.value_len) == value_end => {
                Ok(())
            }
            _ => Err(BadBytes { what: "restarts contradict the entries", at: end }),
        }
    }
}
