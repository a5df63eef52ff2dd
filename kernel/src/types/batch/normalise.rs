//! Bringing a batch into canonical form when it was not built in it.
//!
//! 1. Walk the operations from last to first, collecting the union of the range deletes met so far; a point inside
//!    that union is removed by a later range delete and falls out. What remains of the union are the canonical ranges.
//! 2. Sort the remaining points by keyspace and key, stably, and keep the last of each key.
//! 3. Lay each keyspace's ranges before its points.
//!
//! The position in the list is the age of an operation. This stays true for a batch that was normalised, then
//! appended to, because in canonical form ranges happen before the points that stand behind them.
//!
//! The sort is the standard library's stable merge sort over 32-byte references: it takes runs that are already
//! ascending as they are, and compares the eight bytes of the prefix before it touches the arena.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use super::{OpKind, OpRef, prefix};
use crate::types::KeyspaceId;

/// Brings `ops` into canonical form. Bounds of ranges that were joined are appended to `arena`.
pub(super) fn normalise(arena: &mut Vec<u8>, ops: &mut Vec<OpRef>) {
    let ranges = if ops.iter().any(|op| op.kind == OpKind::DeleteRange) {
        let union = drop_points_under_later_ranges(arena, ops);
        union.into_iter().map(|joined| joined.into_op(arena)).collect()
    } else {
        Vec::new()
    };
    sort_points(arena, ops);
    if !ranges.is_empty() {
        *ops = lay_ranges_first(&ranges, ops);
    }
}

/// A canonical range: its start comes from one operation and its end, perhaps, from another.
struct Joined {
    start: OpRef,
    end: OpRef,
}

impl Joined {
    fn into_op(self, arena: &mut Vec<u8>) -> OpRef {
        if self.start.at == self.end.at {
            return self.start;
        }
        let (start, end) = (self.start, self.end);
        let at = arena.len();
        let end_at = end.at + end.key_len as usize;
        arena.extend_from_within(start.at..start.at + start.key_len as usize);
        arena.extend_from_within(end_at..end_at + end.value_len as usize);
        OpRef { at, value_len: end.value_len, ..start }
    }
}

/// Removes every range from `ops`, and every point that a later range covers; answers the ranges' union, sorted.
fn drop_points_under_later_ranges(arena: &[u8], ops: &mut Vec<OpRef>) -> Vec<Joined> {
    let mut union = Union { arena, ranges: BTreeMap::new() };
    let mut kept = Vec::with_capacity(ops.len());
    for op in ops.iter().rev() {
        if op.kind == OpKind::DeleteRange {
            union.add(op);
        } else if !union.contains(op.keyspace, op.key(arena)) {
            kept.push(*op);
        }
    }
    kept.reverse();
    *ops = kept;
    union.ranges.into_values().collect()
}

/// Disjoint ranges that do not touch, by keyspace and start.
struct Union<'a> {
    arena: &'a [u8],
    ranges: BTreeMap<(KeyspaceId, &'a [u8]), Joined>,
}

impl<'a> Union<'a> {
    fn contains(&self, keyspace: KeyspaceId, key: &'a [u8]) -> bool {
        self.at_or_before(keyspace, key).is_some_and(|range| key < range.end.value(self.arena))
    }

    /// The last range of the keyspace that starts at `key` or before it.
    fn at_or_before(&self, keyspace: KeyspaceId, key: &'a [u8]) -> Option<&Joined> {
        let up_to_key = (Included((keyspace, &[][..])), Included((keyspace, key)));
        self.ranges.range(up_to_key).next_back().map(|(_, range)| range)
    }

    /// Joins the new range with each that it overlaps or touches.
    fn add(&mut self, op: &OpRef) {
        let keyspace = op.keyspace;
        let mut joined = Joined { start: *op, end: *op };
        let start = op.key(self.arena);
        if let Some(before) = self.at_or_before(keyspace, start)
            && start <= before.end.value(self.arena)
        {
            let from = (keyspace, before.start.key(self.arena));
            let earlier = self.ranges.remove(&from).expect("the range was just found");
            joined.start = earlier.start;
            if earlier.end.value(self.arena) > joined.end.value(self.arena) {
                joined.end = earlier.end;
            }
        }
        let from = joined.start.key(self.arena);
        loop {
            let end = joined.end.value(self.arena);
            let within = (Excluded((keyspace, from)), Included((keyspace, end)));
            let Some((&(_, at), _)) = self.ranges.range(within).next() else { break };
            let later = self.ranges.remove(&(keyspace, at)).expect("the range was just found");
            if later.end.value(self.arena) > end {
                joined.end = later.end;
            }
        }
        self.ranges.insert((keyspace, from), joined);
    }
}

/// Sorts points by keyspace and key and keeps the last of each key.
fn sort_points(arena: &[u8], ops: &mut Vec<OpRef>) {
    ops.sort_by(|a, b| {
        (a.keyspace, a.prefix).cmp(&(b.keyspace, b.prefix)).then_with(|| a.key(arena).cmp(b.key(arena)))
    });
    let mut kept: usize = 0;
    for index in 0..ops.len() {
        let op = ops[index];
        debug_assert_eq!(op.prefix, prefix(op.key(arena)));
        let replaces = kept > 0 && {
            let last = &ops[kept - 1];
            (last.keyspace, last.prefix) == (op.keyspace, op.prefix) && last.key(arena) == op.key(arena)
        };
        kept -= usize::from(replaces);
        ops[kept] = op;
        kept += 1;
    }
    ops.truncate(kept);
}

/// Merges two lists that are sorted by keyspace; of one keyspace, ranges come first.
fn lay_ranges_first(ranges: &[OpRef], points: &[OpRef]) -> Vec<OpRef> {
    let mut out = Vec::with_capacity(ranges.len() + points.len());
    let mut points = points.iter().peekable();
    for range in ranges {
        while let Some(point) = points.next_if(|point| point.keyspace < range.keyspace) {
            out.push(*point);
        }
        out.push(*range);
    }
    out.extend(points);
    out
}
