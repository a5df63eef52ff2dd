//! The ranges that remembered commits deleted, made ready for two questions: which commit was the last to delete a range
//! over this key, and which was the last to delete a range that shares a key with this one?
//!
//! The first is what [`RangeTombstones`] answers. For the second, a deleted range that shares a key either covers the
//! range's start or begins behind it; those that begin in a stretch of keys are neighbours in the list, and a tree of
//! maxima over the list gives the newest of them.
//!
//! Invariant: each set is more than twice as large as the next, so an entry is built into O(log n) of them.

use std::ops::Bound;

use crate::types::{RangeTombstone, RangeTombstones, Seq};

/// Ranges that are looked at one by one before a set is worth it.
const TAIL_MAX: usize = 32;

struct Set {
    tombstones: RangeTombstones,
    /// A tree over the list: leaf `i` stands at `len + i`, and each node at `n` has the newest of `2n` and `2n + 1`.
    newest: Vec<Seq>,
}

impl Set {
    fn new(tombstones: Vec<RangeTombstone>) -> Self {
        let tombstones = RangeTombstones::new(tombstones);
        let len = tombstones.len();
        let mut newest = vec![Seq::ZERO; len];
        newest.extend(tombstones.list().iter().map(|tombstone| tombstone.seq));
        for node in (1..len).rev() {
            newest[node] = newest[2 * node].max(newest[2 * node + 1]);
        }
        Self { tombstones, newest }
    }

    /// The newest of those that stand in the list from `from` to before `to`.
    fn newest_between(&self, from: usize, to: usize) -> Option<Seq> {
        let len = self.tombstones.len();
        let (mut from, mut to) = (from + len, to + len);
        let mut newest = None;
        while from < to {
            if from % 2 == 1 {
                newest = newest.max(Some(self.newest[from]));
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                newest = newest.max(Some(self.newest[to]));
            }
            (from, to) = (from / 2, to / 2);
        }
        newest
    }

    fn newest_touching(&self, (start, end): (Bound<&[u8]>, Bound<&[u8]>)) -> Option<Seq> {
        let list = self.tombstones.list();
        let (over_start, from) = match start {
            Bound::Unbounded => (None, 0),
            // An excluded start still shares every key after it, of which there is always one before the end of a
            // deleted range over it unless that is the start's direct successor; calling that a touch is safe.
            Bound::Included(start) | Bound::Excluded(start) => (
                self.tombstones.newest_covering(start, Seq::MAX),
                list.partition_point(|tombstone| *tombstone.start <= *start),
            ),
        };
        let to = match end {
            Bound::Unbounded => list.len(),
            Bound::Included(end) => list.partition_point(|tombstone| *tombstone.start <= *end),
            Bound::Excluded(end) => list.partition_point(|tombstone| *tombstone.start < *end),
        };
        over_start.max(self.newest_between(from, to))
    }
}

/// See the module's header.
#[derive(Default)]
pub(super) struct DeletedRanges {
    sets: Vec<Set>,
    tail: Vec<RangeTombstone>,
}

impl DeletedRanges {
    /// Adds one; [`DeletedRanges::build`] after many.
    pub fn add(&mut self, range: RangeTombstone) {
        self.tail.push(range);
    }

    /// Makes what was added ready for searching, all of it at once. Amortised O(log² n) for each.
    pub fn build(&mut self) {
        if self.tail.len() > TAIL_MAX {
            let mut new = std::mem::take(&mut self.tail);
            while let Some(set) = self.sets.pop_if(|set| set.tombstones.len() <= 2 * new.len()) {
                new.extend_from_slice(set.tombstones.list());
            }
            self.sets.push(Set::new(new));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tail.len() + self.sets.iter().map(|set| set.tombstones.len()).sum::<usize>()
    }

    /// Drops those of commits up to `floor`, but for what stands in sets of which most is left. O(n), and what is left of
    /// the other sets is built anew.
    pub fn forget_through(&mut self, floor: Seq) {
        let is_left = |range: &&RangeTombstone| range.seq > floor;
        self.tail.retain(|range| range.seq > floor);
        let tail = &mut self.tail;
        self.sets.retain(|set| {
            let list = set.tombstones.list();
            let stays = 2 * list.iter().filter(is_left).count() > list.len();
            if !stays {
                tail.extend(list.iter().filter(is_left).cloned());
            }
            stays
        });
        self.build();
    }

    /// The newest commit that deleted a range over `key`. O(log² n).
    pub fn newest_over(&self, key: &[u8]) -> Option<Seq> {
        let in_tail = self.tail.iter().filter(|range| range.contains(key)).map(|range| range.seq).max();
        let in_sets = self.sets.iter().map(|set| set.tombstones.newest_covering(key, Seq::MAX)).max();
        in_tail.max(in_sets.flatten())
    }

    /// The newest commit that deleted a range which may share a key with `range`, which is not empty. O(log² n).
    pub fn newest_touching(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Option<Seq> {
        let in_tail =
            self.tail.iter().filter(|deleted| touches(deleted, range)).map(|deleted| deleted.seq).max();
        let in_sets = self.sets.iter().map(|set| set.newest_touching(range)).max();
        in_tail.max(in_sets.flatten())
    }
}

fn touches(deleted: &RangeTombstone, range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    let starts_in_time = match range.1 {
        Bound::Unbounded => true,
        Bound::Included(end) => *deleted.start <= *end,
        Bound::Excluded(end) => *deleted.start < *end,
    };
    let ends_late_enough = match range.0 {
        Bound::Unbounded => true,
        Bound::Included(start) | Bound::Excluded(start) => *deleted.end > *start,
    };
    starts_in_time && ends_late_enough
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(kind: u8, key: &[u8]) -> Bound<&[u8]> {
        match kind % 3 {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            _ => Bound::Excluded(key),
        }
    }

    quickcheck::quickcheck! {
        fn sets_answer_as_a_plain_list_does(
            deleted: Vec<(u8, u8)>, more: Vec<(u8, u8)>, floor: u8, asked: Vec<(u8, u8, u8, u8)>
        ) -> bool {
            let mut ranges = DeletedRanges::default();
            let mut list = Vec::new();
            let mut next = 1;
            let mut add = |all: &[(u8, u8)], ranges: &mut DeletedRanges, list: &mut Vec<RangeTombstone>| {
                for (a, b) in all {
                    let (start, end) = ([*a.min(b)], [*a.max(b), 0]);
                    let range = RangeTombstone { start: start[..].into(), end: end[..].into(), seq: Seq::new(next) };
                    next += 1;
                    ranges.add(range.clone());
                    list.push(range);
                }
            };
            add(&deleted, &mut ranges, &mut list);
            ranges.build();
            let floor = Seq::new(u64::from(floor));
            ranges.forget_through(floor);
            list.retain(|range| range.seq > floor);
            for _ in 0..3 {
                add(&more, &mut ranges, &mut list);
                ranges.build();
            }
            assert!(ranges.sets.windows(2).all(|pair| pair[0].tombstones.len() > 2 * pair[1].tombstones.len()));
            asked.iter().all(|(a, b, from, to)| {
                let (low, high) = ([*a.min(b)], [*a.max(b)]);
                // What is forgotten may still be named; nobody asks for it.
                let later = |found: Option<Seq>| found.filter(|seq| *seq > floor);
                let over = list.iter().filter(|range| range.contains(&low)).map(|range| range.seq).max();
                let asked = (bound(*from, &low), bound(*to, &high));
                let touching = list.iter().filter(|range| touches(range, asked)).map(|range| range.seq).max();
                let is_empty = low == high && (from % 3 == 2 || to % 3 == 2) && from % 3 > 0 && to % 3 > 0;
                later(ranges.newest_over(&low)) == later(over)
                    && (is_empty || later(ranges.newest_touching(asked)) == later(touching))
            })
        }
    }
}
