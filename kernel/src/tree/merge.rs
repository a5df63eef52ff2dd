//! Many sorted sources as one: raw entries, every version, in order.
//!
//! A binary heap of source numbers, ordered by the entry each source stands on; ties (which only a damaged or
//! replayed database could have) go to the newer source, and sources are given newest first. `next` costs one
//! source step and O(log sources) comparisons.
//!
//! A merge walks in one direction between seeks.

use super::source::Source;
use crate::error::Result;
use crate::types::{OpKind, Seq, Value};

/// Versions of one key that are stepped over before a seek is tried.
const STEPS_BEFORE_SEEK: u32 = 8;

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

    /// One entry further in the direction of the last seek.
    pub async fn advance(&mut self) -> Result<()> {
        let Some(&top) = self.heap.first() else { return Ok(()) };
        let source = &mut self.sources[top];
        match self.direction {
            Direction::Forward => source.next().await?,
            Direction::Backward => source.prev().await?,
        }
        self.settle_top();
        Ok(())
    }

    /// To the first entry whose key sorts after `key`, walking forward.
    pub async fn seek_after(&mut self, key: &[u8]) -> Result<()> {
        self.seek(key, Seq::ZERO).await?;
        self.skip_past(key).await
    }

    /// Forward only: past every entry of `key`. Sources already past it are not touched. A few versions are stepped
    /// over, many are jumped by a seek, so that one hot key does not cost a step for each of its versions.
    pub async fn skip_past(&mut self, key: &[u8]) -> Result<()> {
        debug_assert_eq!(self.direction, Direction::Forward);
        let mut steps = 0;
        while self.valid() && self.key() == key {
            if steps == STEPS_BEFORE_SEEK && self.seq() > Seq::ZERO {
                let top = self.heap[0];
                self.sources[top].seek(key, Seq::ZERO).await?;
                self.settle_top();
                steps = 0;
                continue;
            }
            self.advance().await?;
            steps += 1;
        }
        Ok(())
    }

    pub fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    fn top(&self) -> &Source {
        &self.sources[self.heap[0]]
    }

    pub fn key(&self) -> &[u8] {
        self.top().key()
    }

    pub fn seq(&self) -> Seq {
        self.top().seq()
    }

    pub fn kind(&self) -> OpKind {
        self.top().kind()
    }

    pub fn value(&self) -> &[u8] {
        self.top().value()
    }

    pub fn pinned_value(&self) -> Value {
        self.top().pinned_value()
    }

    fn rebuild(&mut self, direction: Direction) {
        self.direction = direction;
        self.heap.clear();
        self.heap.extend((0..self.sources.len()).filter(|&at| self.sources[at].valid()));
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
    }

    /// After the top source moved: drops it if it ended, then restores the heap.
    fn settle_top(&mut self) {
        if !self.sources[self.heap[0]].valid() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
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
        let (left, right) = (&self.sources[a], &self.sources[b]);
        let order = left.key().cmp(right.key()).then_with(|| right.seq().cmp(&left.seq()));
        let order = match self.direction {
            Direction::Forward => order,
            Direction::Backward => order.reverse(),
        };
        order.then(a.cmp(&b)).is_lt()
    }
}
