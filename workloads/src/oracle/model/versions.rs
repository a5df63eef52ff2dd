//! The ordered map of versions.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::history::{Cell, Interval, Operation, Value};

/// The versions of a key, oldest first, each with the number of its commit. A deletion has no value.
type Chain = Vec<(u64, Option<Value>)>;

/// All versions of all keys, by keyspace.
#[derive(Clone, Default, Debug)]
pub(super) struct Versions(BTreeMap<u32, BTreeMap<Arc<[u8]>, Chain>>);

impl Versions {
    /// Lets a commit take effect; its number is above all so far.
    pub fn apply(&mut self, seq: u64, operations: &[Operation]) {
        for operation in operations {
            match operation {
                Operation::Put { cell, value } => self.set(seq, cell, Some(value.clone())),
                Operation::Delete { cell } => self.set(seq, cell, None),
                Operation::DeleteRange { keyspace, interval } => {
                    for (_, versions) in self.range_mut(*keyspace, interval) {
                        put(versions, seq, None);
                    }
                }
                Operation::Get { .. } | Operation::Scan { .. } => {}
            }
        }
    }

    fn set(&mut self, seq: u64, cell: &Cell, value: Option<Value>) {
        let versions = self.0.entry(cell.keyspace).or_default().entry(Arc::clone(&cell.key)).or_default();
        put(versions, seq, value);
    }

    fn range_mut(
        &mut self,
        keyspace: u32,
        interval: &Interval,
    ) -> impl Iterator<Item = (&Arc<[u8]>, &mut Chain)> {
        let bounds = bounds(interval);
        self.0.entry(keyspace).or_default().range_mut::<[u8], _>(bounds)
    }

    /// Forgets every commit above this one.
    pub fn forget_after(&mut self, seq: u64) {
        for versions in self.0.values_mut().flat_map(BTreeMap::values_mut) {
            let kept = versions.partition_point(|(at, _)| *at <= seq);
            versions.truncate(kept);
        }
    }

    /// The newest version not above a commit, with its number.
    pub fn at(&self, cell: &Cell, seq: u64) -> Option<(u64, Option<&Value>)> {
        newest(self.of(cell), seq)
    }

    /// All versions of a key, oldest first.
    pub fn of(&self, cell: &Cell) -> &[(u64, Option<Value>)] {
        self.0.get(&cell.keyspace).and_then(|keys| keys.get(&cell.key)).map_or(&[], Vec::as_slice)
    }

    /// Every key of an interval that was ever written.
    pub fn keys(&self, keyspace: u32, interval: &Interval) -> Vec<Cell> {
        let Some(keys) = self.0.get(&keyspace) else { return Vec::new() };
        let entries = keys.range::<[u8], _>(bounds(interval));
        entries.map(|(key, _)| Cell { keyspace, key: Arc::clone(key) }).collect()
    }

    /// What stands in an interval, ascending.
    pub fn range(&self, keyspace: u32, interval: &Interval, seq: u64) -> Vec<(&Arc<[u8]>, &Value)> {
        let Some(keys) = self.0.get(&keyspace) else { return Vec::new() };
        let entries = keys.range::<[u8], _>(bounds(interval));
        entries.filter_map(|(key, versions)| Some((key, newest(versions, seq)?.1?))).collect()
    }
}

/// The interval as the map takes it, which panics where an interval holds nothing.
fn bounds(interval: &Interval) -> (Bound<&[u8]>, Bound<&[u8]>) {
    if interval.is_empty() {
        return (Bound::Included(&[]), Bound::Excluded(&[]));
    }
    (interval.start.as_ref().map(|key| &**key), interval.end.as_ref().map(|key| &**key))
}

fn newest(versions: &[(u64, Option<Value>)], seq: u64) -> Option<(u64, Option<&Value>)> {
    let found = versions.iter().rev().find(|(at, _)| *at <= seq)?;
    Some((found.0, found.1.as_ref()))
}

fn put(versions: &mut Chain, seq: u64, value: Option<Value>) {
    match versions.last_mut() {
        Some((last, newest)) if *last == seq => *newest = value,
        _ => versions.push((seq, value)),
    }
}
