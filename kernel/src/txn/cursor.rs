//! A walk over a range as one reader sees it, with a transaction's own writes laid over.

use std::sync::Arc;

use super::ledger::Ledger;
use super::overlay::KeyspaceOverlay;
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::tree::{Direction, VisibleIter};
use crate::types::{KeyspaceId, Value};

/// A key and its value, valid until the cursor moves.
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    cursor: &'a Cursor,
}

impl Entry<'_> {
    /// The value as one that may be kept when the cursor moves on: it borrows its block, without a copy.
    pub fn pinned_value(&self) -> Value {
        match &self.cursor.own_value {
            Some(value) => value.clone(),
            None => self.cursor.base.pinned_value(),
        }
    }
}

impl std::fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\" = b\"{}\"", self.key.escape_ascii(), self.value.escape_ascii())
    }
}

/// Where a serializable transaction notes how far its cursor has read.
pub(crate) struct Tracker {
    pub ledger: Arc<Mutex<Ledger>>,
    pub keyspace: KeyspaceId,
    /// This cursor's entry in the keyspace's ranges, once it has read anything.
    pub slot: Option<usize>,
}

/// A walk over a range in one direction. It shows the reader's view as of its creation and survives flush,
/// compaction and the drop of its keyspace.
pub struct Cursor {
    base: VisibleIter,
    /// Entries that may still be shown; 0 at the end and after an error.
    left: u64,
    own: Option<Arc<KeyspaceOverlay>>,
    tracker: Option<Tracker>,
    /// Over own writes only: the key shown or hidden last.
    after: Option<Vec<u8>>,
    /// The value, if the transaction's own; then `after` is its key.
    own_value: Option<Value>,
    /// Over own writes only: true if `base` stands on an entry that was not shown yet.
    base_waits: bool,
    base_ended: bool,
    failed: Option<Error>,
}

impl Cursor {
    pub(crate) fn new(
        base: VisibleIter,
        limit: Option<u64>,
        own: Option<Arc<KeyspaceOverlay>>,
        tracker: Option<Tracker>,
    ) -> Self {
        Self {
            base,
            left: limit.unwrap_or(u64::MAX),
            own,
            tracker,
            after: None,
            own_value: None,
            base_waits: false,
            base_ended: false,
            failed: None,
        }
    }

    /// The next entry, `None` at the end of the range or of the limit. Amortised O(log sources) and no copy of the
    /// value. The future may be dropped, as `select!` and timeouts do: then the next call goes on where this one began.
    ///
    /// # Errors
    /// Corruption or a failed read of a table in the way; in a serializable transaction, what [`Txn::get`] gives if
    /// what it has read takes up too much memory. Every later call gives the same error.
    ///
    /// [`Txn::get`]: crate::Txn::get
    pub async fn next(&mut self) -> Result<Option<Entry<'_>>> {
        if self.left == 0 {
            return self.failed.clone().map_or(Ok(None), Err);
        }
        let found = match &self.own {
            None => self.base.next().await,
            Some(own) => {
                let own = own.clone();
                self.step_over_own(&own).await
            }
        };
        let noted = found.and_then(|found| self.note(found).map(|()| found));
        let found = match noted {
            Ok(found) => found,
            Err(error) => {
                (self.left, self.failed) = (0, Some(error.clone()));
                return Err(error);
            }
        };
        if !found {
            self.left = 0;
            return Ok(None);
        }
        self.left -= 1;
        Ok(Some(Entry { key: self.key(), value: self.value(), cursor: self }))
    }

    fn key(&self) -> &[u8] {
        match (&self.own_value, &self.after) {
            (Some(_), Some(key)) => key,
            _ => self.base.key(),
        }
    }

    fn value(&self) -> &[u8] {
        match &self.own_value {
            Some(value) => value,
            None => self.base.value(),
        }
    }

    /// Everything that is left, copied out. If the future is dropped, so is what it had taken.
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

    /// Counts what is left without keeping it. If the future is dropped, what it had counted is gone from the cursor.
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
    async fn step_over_own(&mut self, own: &KeyspaceOverlay) -> Result<bool> {
        self.own_value = None;
        loop {
            self.fill_base(own).await?;
            let point = own.next_point(self.base.range(), self.after.as_deref(), self.base.direction());
            if !self.base_ended && point.is_none_or(|(key, _)| self.comes_first(self.base.key(), key)) {
                replace(&mut self.after, self.base.key());
                self.base_waits = false;
                return Ok(true);
            }
            let Some((key, value)) = point else { return Ok(false) };
            if !self.base_ended && self.base.key() == key {
                self.base_waits = false;
            }
            replace(&mut self.after, key);
            if let Some(value) = value {
                self.own_value = Some(value.clone());
                return Ok(true);
            }
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

    fn comes_first(&self, a: &[u8], b: &[u8]) -> bool {
        match self.base.direction() {
            Direction::Forward => a < b,
            Direction::Backward => a > b,
        }
    }

    /// Extends the range that the transaction has read up to the entry found, or to the range's end.
    fn note(&mut self, found: bool) -> Result<()> {
        let Some(mut tracker) = self.tracker.take() else { return Ok(()) };
        let reached = found.then(|| self.key());
        let Tracker { ledger, keyspace, slot } = &mut tracker;
        let (range, direction) = (self.base.range(), self.base.direction());
        let noted = ledger.lock().note_range(*keyspace, slot, range, reached, direction);
        self.tracker = Some(tracker);
        noted
    }
}

/// Puts a copy of `key` in its place, in the memory of the one before.
fn replace(place: &mut Option<Vec<u8>>, key: &[u8]) {
    let place = place.get_or_insert_default();
    place.clear();
    place.extend_from_slice(key);
}
