//! Many sorted sources as one: raw entries, every version, in order.
//!
//! A binary heap of source numbers, ordered by the entry each source stands on; ties (which only a damaged or
//! replayed database could have) go to the newer source, and sources are given newest first. `next` costs one
//! source step and O(log sources) comparisons.
//!
//! A merge walks in one direction between seeks.

use super::source::Source;
use crate::error::Result;
use crate::types::{EntryRef, Seq, Value};

/// Which way a merge walks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// The merge of several sources.
pub(crate) struct Merge {
    sources: Vec<Source>,
    /// Numbers of the sources that stand on an entry; a heap with the next entry on top.
    heap: Vec<usize>,
    direction: Direction,
}

impl Merge {
    /// Merges `sources`, newest first. Seek before reading.
    pub fn new(sources: Vec<Source>) -> Self {
        Self { heap: Vec::with_capacity(sources.len()), sources, direction: Direction::Forward }
    }

    /// To the first entry at or after (`key`, `seq`), walking forward.
    pub async fn seek(&mut self, key: &[u8], seq: Seq) -> Result<()> {
        for source in &mut self.sources {
            source.seek(key, seq).await?;
        }
        self.rebuild(Direction::Forward);
        Ok(())
    }

    /// To the first entry, walking forward.
    pub async fn seek_first(&mut self) -> Result<()> {
        for source in &mut self.sources {
            source.seek_first().await?;
        }
        self.rebuild(Direction::Forward);
        Ok(())
    }

    /// To the last entry, walking backward.
    pub async fn seek_last(&mut self) -> Result<()> {
        for source in &mut self.sources {
            source.seek_last().await?;
        }
        self.rebuild(Direction::Backward);
        Ok(())
    }

    /// To the last entry whose key sorts before `key`, walking backward.
    pub async fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        for source in &mut self.sources {
            source.seek_before(key).await?;
        }
        self.rebuild(Direction::Backward);
        Ok(())
    }

    /// One entry further in the direction of the last seek, if that needs no other block: false, and nothing moved, if
    /// it does. Most steps are taken so, without a future.
    #[inline]
    pub fn advance_within(&mut self) -> Result<bool> {
        let Some(&top) = self.heap.first() else { return Ok(true) };
        let source = &mut self.sources[top];
        let moved = match self.direction {
            Direction::Forward => source.next_within()?,
            Direction::Backward => source.prev_within()?,
        };
        if moved {
            self.settle_top();
        }
        Ok(moved)
    }

    /// One entry further in the direction of the last seek.
    pub async fn advance(&mut self) -> Result<()> {
        if self.advance_within()? {
            return Ok(());
        }
        let Some(&top) = self.heap.first() else { return Ok(()) };
        let source = &mut self.sources[top];
        match self.direction {
            Direction::Forward => source.next().await?,
            Direction::Backward => source.prev().await?,
        }
        self.settle_top();
        Ok(())
    }

    /// Forward only: the source on top leaps to the oldest version of `key`, or behind it, so that one hot key does
    /// not cost a step for each of its versions.
    pub async fn leap(&mut self, key: &[u8]) -> Result<()> {
        debug_assert_eq!(self.direction, Direction::Forward);
        let Some(&top) = self.heap.first() else { return Ok(()) };
        self.sources[top].seek(key, Seq::ZERO).await?;
        self.settle_top();
        Ok(())
    }

    fn top(&self) -> Option<&Source> {
        self.heap.first().map(|&top| &self.sources[top])
    }

    /// What it stands on, without its value.
    #[inline]
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        self.top().and_then(Source::entry)
    }

    /// The value of the entry it stands on; empty for a delete and at the end.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.top().map_or(&[], Source::value)
    }

    /// The value as one that may be kept; `None` at the end.
    pub fn pinned_value(&self) -> Option<Value> {
        self.top().map(Source::pinned_value)
    }

    fn rebuild(&mut self, direction: Direction) {
        self.direction = direction;
        self.heap.clear();
        self.heap.extend((0..self.sources.len()).filter(|&at| self.sources[at].entry().is_some()));
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
    }

    /// After the top source moved: drops it if it ended, then restores the heap.
    #[inline]
    fn settle_top(&mut self) {
        if self.sources[self.heap[0]].entry().is_none() {
            self.heap.swap_remove(0);
        }
        if self.heap.len() > 1 {
            self.sift_down(0);
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut first = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.precedes(self.heap[child], self.heap[first]) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            self.heap.swap(at, first);
            at = first;
        }
    }

    fn precedes(&self, a: usize, b: usize) -> bool {
        let (Some(left), Some(right)) = (self.sources[a].entry(), self.sources[b].entry()) else {
            return false;
        };
        let order = match self.direction {
            Direction::Forward => left.order(&right),
            Direction::Backward => right.order(&left),
        };
        order.then(a.cmp(&b)).is_lt()
    }
}
