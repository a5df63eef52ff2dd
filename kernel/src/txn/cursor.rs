//! A walk over a range as one reader sees it, with a transaction's own writes laid over.

use std::ops::Bound;
use std::sync::Arc;

use super::overlay::KeyspaceOverlay;
use crate::conflict::ReadSet;
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::tree::{Direction, KeyRange, VisibleIter};
use crate::types::{KeyspaceId, Value};

/// A key and its value, valid until the cursor moves.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; clone it to keep it (that pins its block, [`Value::detach`] copies it out).
    pub value: &'a Value,
}

/// Where a serializable transaction notes how far its cursor has read.
pub(crate) struct Tracker {
    pub reads: Arc<Mutex<ReadSet>>,
    pub keyspace: KeyspaceId,
    /// This cursor's entry in the keyspace's ranges, once it has read anything.
    pub slot: Option<usize>,
}

/// A walk over a range in one direction. It shows the reader's view as of its creation and survives flush,
/// compaction and the drop of its keyspace.
pub struct Cursor {
    base: VisibleIter,
    range: KeyRange,
    direction: Direction,
    left: Option<u64>,
    own: Option<Arc<KeyspaceOverlay>>,
    tracker: Option<Tracker>,
    /// True if `base` stands on an entry that was not shown yet.
    base_waits: bool,
    base_ended: bool,
    current: Option<(Vec<u8>, Value)>,
    ended: bool,
    failed: Option<Error>,
}

impl Cursor {
    pub(crate) fn new(
        base: VisibleIter,
        range: KeyRange,
        direction: Direction,
        limit: Option<u64>,
        own: Option<Arc<KeyspaceOverlay>>,
        tracker: Option<Tracker>,
    ) -> Self {
        Self {
            base,
            range,
            direction,
            left: limit,
            own,
            tracker,
            base_waits: false,
            base_ended: false,
            current: None,
            ended: false,
            failed: None,
        }
    }

    /// The next entry, `None` at the end of the range or of the limit. Amortised O(log sources) and no copy of the
    /// value.
    ///
    /// # Errors
    /// Corruption or a failed read of a table in the way; every later call gives the same error.
    pub async fn next(&mut self) -> Result<Option<Entry<'_>>> {
        if self.ended || self.left == Some(0) {
            return Ok(None);
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let found = match self.step().await {
            Ok(found) => found,
            Err(error) => {
                self.failed = Some(error.clone());
                return Err(error);
            }
        };
        self.note(found);
        if !found {
            self.ended = true;
            return Ok(None);
        }
        self.left = self.left.map(|left| left - 1);
        Ok(self.current.as_ref().map(|(key, value)| Entry { key, value }))
    }

    /// Everything that is left, copied out.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub async fn collect(&mut self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await? {
            all.push((entry.key.to_vec(), entry.value.to_vec()));
        }
        Ok(all)
    }

    /// Counts what is left without keeping it.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub async fn count(&mut self) -> Result<u64> {
        let mut count = 0;
        while self.next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// Moves to the next entry that neither own deletes nor own puts of the same key hide.
    async fn step(&mut self) -> Result<bool> {
        let after = self.current.take().map(|(key, _)| key);
        let Some(own) = self.own.clone() else {
            if !self.base.next().await? {
                return Ok(false);
            }
            self.take_base(after);
            return Ok(true);
        };
        let mut after = after;
        loop {
            self.fill_base(&own).await?;
            let point = own.next_point(&self.range, after.as_deref(), self.direction);
            let Some((key, value)) = point else {
                if self.base_ended {
                    return Ok(false);
                }
                self.take_base(after);
                return Ok(true);
            };
            if !self.base_ended && self.comes_first(self.base.key(), key) {
                self.take_base(after);
                return Ok(true);
            }
            if !self.base_ended && self.base.key() == key {
                self.base_waits = false;
            }
            let key = key.to_vec();
            if let Some(value) = value {
                self.current = Some((key, value.clone()));
                return Ok(true);
            }
            after = Some(key);
        }
    }

    /// Puts `base` on its next entry outside the own deleted ranges, unless it waits on one.
    async fn fill_base(&mut self, own: &KeyspaceOverlay) -> Result<()> {
        while !self.base_waits && !self.base_ended {
            self.base_ended = !self.base.next().await?;
            self.base_waits = !self.base_ended && !own.is_deleted(self.base.key());
        }
        Ok(())
    }

    fn take_base(&mut self, reuse: Option<Vec<u8>>) {
        let mut key = reuse.unwrap_or_default();
        key.clear();
        key.extend_from_slice(self.base.key());
        self.current = Some((key, self.base.value().clone()));
        self.base_waits = false;
    }

    fn comes_first(&self, a: &[u8], b: &[u8]) -> bool {
        match self.direction {
            Direction::Forward => a < b,
            Direction::Backward => a > b,
        }
    }

    /// Extends the range that the transaction has read up to the entry found, or to the range's end.
    fn note(&mut self, found: bool) {
        let Some(tracker) = self.tracker.as_mut() else { return };
        let mut reads = tracker.reads.lock();
        let ranges = &mut reads.keyspaces.entry(tracker.keyspace).or_default().ranges;
        let slot = *tracker.slot.get_or_insert_with(|| {
            ranges.push((self.range.start.clone(), self.range.end.clone()));
            ranges.len() - 1
        });
        let Some((start, end)) = ranges.get_mut(slot) else { return };
        match (&self.current, found, self.direction) {
            (Some((key, _)), true, Direction::Forward) => *end = Bound::Included(key.clone()),
            (Some((key, _)), true, Direction::Backward) => *start = Bound::Included(key.clone()),
            _ => (*start, *end) = (self.range.start.clone(), self.range.end.clone()),
        }
    }
}
