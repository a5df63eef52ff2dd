//! A transaction's own writes, before anybody else sees them.
//!
//! Per keyspace: the newest write of each key, and the ranges deleted, merged where they touch. A range delete takes
//! the points inside it away; a later put stands above it. So a key is: its point if it has one, else gone if a range
//! covers it, else what the database says.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::Result;
use crate::tree::{Direction, KeyRange};
use crate::types::{KeyspaceId, Value, WriteBatch};

/// What the transaction itself says about a key.
pub(crate) enum Own<'a> {
    Unknown,
    Gone,
    Here(&'a Value),
}

/// The writes in one keyspace.
#[derive(Clone, Default)]
pub(crate) struct KeyspaceOverlay {
    points: BTreeMap<Vec<u8>, Option<Value>>,
    /// Start to end (exclusive); neither overlapping nor adjacent.
    deleted: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl KeyspaceOverlay {
    pub fn get(&self, key: &[u8]) -> Own<'_> {
        match self.points.get(key) {
            Some(Some(value)) => Own::Here(value),
            Some(None) => Own::Gone,
            None if self.is_deleted(key) => Own::Gone,
            None => Own::Unknown,
        }
    }

    /// True if a range delete covers `key` (a point may stand above it).
    pub fn is_deleted(&self, key: &[u8]) -> bool {
        self.deleted
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, end)| key < &end[..])
    }

    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        let inside: Vec<Vec<u8>> = self
            .points
            .range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)))
            .map(|(key, _)| key.clone())
            .collect();
        inside.iter().for_each(|key| drop(self.points.remove(key)));
        let (mut start, mut end) = (start.to_vec(), end.to_vec());
        // Everything that starts at or before `end` and ends at or after `start` melts into one range.
        while let Some((other, until)) =
            self.deleted.range::<[u8], _>((Bound::Unbounded, Bound::Included(&end[..]))).next_back()
        {
            if *until < start {
                break;
            }
            let other = other.clone();
            if let Some(until) = self.deleted.remove(&other) {
                end = end.max(until);
            }
            start = start.min(other);
        }
        self.deleted.insert(start, end);
    }

    /// The first own point of `range`, in `direction`, beyond `after`.
    pub fn next_point(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        direction: Direction,
    ) -> Option<(&[u8], Option<&Value>)> {
        let (start, end) = (range.start.as_ref().map(Vec::as_slice), range.end.as_ref().map(Vec::as_slice));
        let bounds = match (direction, after) {
            (_, None) => (start, end),
            (Direction::Forward, Some(after)) => (Bound::Excluded(after), end),
            (Direction::Backward, Some(after)) => (start, Bound::Excluded(after)),
        };
        if is_empty(bounds) {
            return None;
        }
        let mut points = self.points.range::<[u8], _>(bounds);
        let found = match direction {
            Direction::Forward => points.next(),
            Direction::Backward => points.next_back(),
        };
        found.map(|(key, value)| (key.as_slice(), value.as_ref()))
    }
}

fn is_empty(bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match bounds {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start >= end
        }
        _ => false,
    }
}

/// The writes in all keyspaces. A cursor keeps its keyspace's part as it was; writing after that copies it.
#[derive(Clone, Default)]
pub(crate) struct Overlay {
    keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceOverlay>>,
}

impl Overlay {
    pub fn is_empty(&self) -> bool {
        self.keyspaces.is_empty()
    }

    pub fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Own<'_> {
        self.keyspaces.get(&keyspace).map_or(Own::Unknown, |own| own.get(key))
    }

    pub fn keyspace(&self, keyspace: KeyspaceId) -> Option<Arc<KeyspaceOverlay>> {
        self.keyspaces.get(&keyspace).cloned()
    }

    fn of(&mut self, keyspace: KeyspaceId) -> &mut KeyspaceOverlay {
        Arc::make_mut(self.keyspaces.entry(keyspace).or_default())
    }

    pub fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) {
        self.of(keyspace).points.insert(key.to_vec(), Some(Value::owned(value)));
    }

    pub fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        self.of(keyspace).points.insert(key.to_vec(), None);
    }

    pub fn delete_range(&mut self, keyspace: KeyspaceId, start: &[u8], end: &[u8]) {
        self.of(keyspace).delete_range(start, end);
    }

    /// Everything as a batch in canonical form.
    ///
    /// # Errors
    /// `Invalid` if an operation is over a limit.
    pub fn to_batch(&self) -> Result<WriteBatch> {
        let mut batch = WriteBatch::new();
        for (&id, own) in &self.keyspaces {
            for (start, end) in &own.deleted {
                batch.delete_range(id, start, end)?;
            }
            for (key, value) in &own.points {
                match value {
                    Some(value) => batch.put(id, key, value)?,
                    None => batch.delete(id, key)?,
                }
            }
        }
        batch.normalise();
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYSPACE: KeyspaceId = KeyspaceId::new(1);

    quickcheck::quickcheck! {
        fn says_what_was_written_last(writes: Vec<(u8, u8, u8)>) -> bool {
            let mut overlay = Overlay::default();
            let mut model: Vec<Option<Option<u8>>> = vec![None; 16];
            for (at, (kind, a, b)) in writes.iter().enumerate() {
                let (a, b) = (a % 16, b % 16);
                match kind % 3 {
                    0 => {
                        overlay.put(KEYSPACE, &[a], &[at as u8]);
                        model[a as usize] = Some(Some(at as u8));
                    }
                    1 => {
                        overlay.delete(KEYSPACE, &[a]);
                        model[a as usize] = Some(None);
                    }
                    _ => {
                        overlay.delete_range(KEYSPACE, &[a.min(b)], &[a.max(b) + 1]);
                        (a.min(b)..=a.max(b)).for_each(|key| model[key as usize] = Some(None));
                    }
                }
            }
            let gets = (0..16u8).all(|key| match (overlay.get(KEYSPACE, &[key]), model[key as usize]) {
                (Own::Unknown, None) | (Own::Gone, Some(None)) => true,
                (Own::Here(value), Some(Some(at))) => *value == [at],
                _ => false,
            });
            let separate = overlay.keyspace(KEYSPACE).is_none_or(|own| {
                own.deleted.iter().zip(own.deleted.iter().skip(1)).all(|((_, end), (start, _))| end < start)
            });
            gets && separate && overlay.to_batch().is_ok()
        }
    }
}
