//! Deleted ranges, and the question that readers ask of many of them.
//!
//! A tombstone `[start, end) @ seq` hides every entry of a key in the range whose `Seq` is smaller than `seq`.
//! An entry of the same `Seq` is not hidden: a commit's puts stand above its own range deletes.
//!
//! "Which is the newest that covers this key, as of this `Seq`?" is answered by a segment tree (Bentley 1977) over the
//! ends of all tombstones. Each stands in the few nodes that make it up, and a key is covered by what stands in the
//! nodes above its leaf:
//!
//! ```text
//! [a,g) @3   [c,g) @7                      1: -
//!                              2: @3                3: @7 @3
//! leaves                     [a,c)                [c,g)
//! ```
//!
//! so that n tombstones take O(n log n) memory however they overlap. (To cut them at each other's ends into disjoint
//! pieces, each with all its `Seq`s, takes O(n²) where all overlap, as they do in a queue that deletes its beginning
//! again and again.)
//!
//! Invariants of [`RangeTombstones`]: ranges are not empty; those of one `Seq` neither overlap nor touch; they are
//! sorted by start, then newest first. So every set has one representation.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Seq;

/// One deleted range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeTombstone {
    /// First key deleted.
    pub start: Arc<[u8]>,
    /// First key no longer deleted; greater than `start`.
    pub end: Arc<[u8]>,
    /// The commit that deleted it.
    pub seq: Seq,
}

impl RangeTombstone {
    /// True if `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && *key < *self.end
    }
}

/// Any number of range tombstones, made ready for searching.
#[derive(Clone, Debug, Default)]
pub struct RangeTombstones {
    list: Vec<RangeTombstone>,
    /// Every start and end once, ascending. Two neighbours are the ends of a leaf.
    bounds: Vec<Arc<[u8]>>,
    /// What stands in node `n` is `seqs[begins[n]..begins[n + 1]]`. Node 1 is the root, 2n and 2n + 1 are below n, and
    /// the leaves come last.
    begins: Vec<usize>,
    /// Newest first within a node.
    seqs: Vec<Seq>,
}

impl PartialEq for RangeTombstones {
    fn eq(&self, other: &Self) -> bool {
        // The rest follows from the list.
        self.list == other.list
    }
}

impl Eq for RangeTombstones {}

impl RangeTombstones {
    /// Of `tombstones`, given in any order; empty ranges count for nothing. O(n log n) in time and memory.
    pub fn new(mut tombstones: Vec<RangeTombstone>) -> Self {
        tombstones.retain(|tombstone| tombstone.start < tombstone.end);
        tombstones.sort_unstable_by(|a, b| (a.seq, &a.start).cmp(&(b.seq, &b.start)));
        // Those of one commit that overlap or touch are one.
        tombstones.dedup_by(|next, last| {
            let joins = next.seq == last.seq && next.start <= last.end;
            if joins && last.end < next.end {
                last.end = Arc::clone(&next.end);
            }
            joins
        });
        tombstones.sort_unstable_by(|a, b| (&a.start, b.seq).cmp(&(&b.start, a.seq)));
        Self::of(tombstones)
    }

    /// From a list as [`RangeTombstones::list`] gave it; `None` if it breaks an invariant.
    pub fn from_list(list: Vec<RangeTombstone>) -> Option<Self> {
        let set = Self::new(list.clone());
        (set.list == list).then_some(set)
    }

    /// Builds the tree over a list that keeps the invariants.
    fn of(list: Vec<RangeTombstone>) -> Self {
        let mut bounds: Vec<Arc<[u8]>> =
            list.iter().flat_map(|t| [Arc::clone(&t.start), Arc::clone(&t.end)]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let leaves = bounds.len().saturating_sub(1);
        let place = |bound: &Arc<[u8]>| bounds.partition_point(|other| other < bound);
        let mut newest_first: Vec<(Seq, usize, usize)> =
            list.iter().map(|t| (t.seq, place(&t.start), place(&t.end))).collect();
        newest_first.sort_unstable_by(|a, b| b.cmp(a));
        let mut begins = vec![0; 2 * leaves + 1];
        for (_, from, to) in &newest_first {
            each_node(leaves, *from, *to, |node| begins[node] += 1);
        }
        let mut begin = 0;
        for slot in &mut begins {
            begin += std::mem::replace(slot, begin);
        }
        let mut seqs = vec![Seq::ZERO; begin];
        let mut free = begins.clone();
        for (seq, from, to) in newest_first {
            each_node(leaves, from, to, |node| {
                seqs[free[node]] = seq;
                free[node] += 1;
            });
        }
        Self { list, bounds, begins, seqs }
    }

    /// All of them, by start, then newest first.
    pub fn list(&self) -> &[RangeTombstone] {
        &self.list
    }

    /// True if nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The first key deleted, and the first behind which nothing is.
    pub fn extent(&self) -> Option<(&[u8], &[u8])> {
        Some((self.bounds.first()?, self.bounds.last()?))
    }

    /// The newest commit not after `read_seq` that deleted `key`. O(log² n).
    pub fn newest_covering(&self, key: &[u8], read_seq: Seq) -> Option<Seq> {
        let after = self.bounds.partition_point(|bound| **bound <= *key);
        if after == 0 || after == self.bounds.len() {
            return None;
        }
        let leaves = self.bounds.len() - 1;
        let mut node = leaves + after - 1;
        let mut newest = None;
        while node > 0 {
            let seqs = &self.seqs[self.begins[node]..self.begins[node + 1]];
            let newer = seqs.partition_point(|seq| *seq > read_seq);
            newest = newest.max(seqs.get(newer).copied());
            node /= 2;
        }
        newest
    }

    /// What is left for readers who cannot tell commits of one stripe apart: over each key, of each stripe, the newest.
    /// Stripes must not fall while `Seq`s rise. At most twice as many, and O(n log n).
    #[must_use]
    pub fn folded(&self, stripe: impl Fn(Seq) -> u64) -> Self {
        let mut by_age: Vec<&RangeTombstone> = self.list.iter().collect();
        by_age.sort_unstable_by_key(|tombstone| tombstone.seq);
        let mut left = Vec::with_capacity(by_age.len());
        for group in by_age.chunk_by(|a, b| stripe(a.seq) == stripe(b.seq)) {
            match group {
                [only] => left.push((*only).clone()),
                _ => newest_over_each_key(group, &mut left),
            }
        }
        Self::new(left)
    }

    /// Bytes on the heap, for the memory budget.
    pub fn heap_bytes(&self) -> u64 {
        let keys: usize = self.list.iter().map(|tombstone| tombstone.start.len() + tombstone.end.len()).sum();
        let bytes = keys
            + size_of_val(&self.list[..])
            + size_of_val(&self.bounds[..])
            + size_of_val(&self.begins[..])
            + size_of_val(&self.seqs[..]);
        bytes as u64
    }
}

/// The nodes that together make up leaves `from..to`.
fn each_node(leaves: usize, from: usize, to: usize, mut visit: impl FnMut(usize)) {
    let (mut from, mut to) = (from + leaves, to + leaves);
    while from < to {
        if from % 2 == 1 {
            visit(from);
            from += 1;
        }
        if to % 2 == 1 {
            to -= 1;
            visit(to);
        }
        (from, to) = (from / 2, to / 2);
    }
}

/// Adds to `left`, for every key that `group` covers, the newest over it.
fn newest_over_each_key(group: &[&RangeTombstone], left: &mut Vec<RangeTombstone>) {
    let mut ends: Vec<(&Arc<[u8]>, bool, Seq)> =
        group.iter().flat_map(|t| [(&t.start, true, t.seq), (&t.end, false, t.seq)]).collect();
    ends.sort_unstable();
    let mut open: BTreeSet<Seq> = BTreeSet::new();
    let mut piece: Option<RangeTombstone> = None;
    for at_one_key in ends.chunk_by(|a, b| a.0 == b.0) {
        for (_, begins, seq) in at_one_key {
            if *begins {
                open.insert(*seq)
            } else {
                open.remove(seq)
            };
        }
        let (key, newest) = (at_one_key[0].0, open.last().copied());
        if piece.as_ref().map(|piece| piece.seq) == newest {
            continue;
        }
        if let Some(piece) = piece.take() {
            left.push(RangeTombstone { end: Arc::clone(key), ..piece });
        }
        // The end is set when it is known.
        piece = newest.map(|seq| RangeTombstone { start: Arc::clone(key), end: Arc::clone(key), seq });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstones(raw: &[(u8, u8, u8)]) -> Vec<RangeTombstone> {
        raw.iter()
            .map(|(start, len, seq)| RangeTombstone {
                start: Arc::from([start % 40]),
                end: Arc::from([(start % 40).saturating_add(len % 9)]),
                seq: Seq::new(u64::from(seq % 12)),
            })
            .collect()
    }

    fn naive(all: &[RangeTombstone], key: &[u8], read_seq: Seq) -> Option<Seq> {
        all.iter().filter(|t| t.contains(key) && t.seq <= read_seq).map(|t| t.seq).max()
    }

    /// Of the wide and deep ones that the small sample above never makes.
    fn nested(count: u64) -> Vec<RangeTombstone> {
        let range = |n: u64| RangeTombstone {
            start: Arc::from((count - n).to_be_bytes()),
            end: Arc::from((count + n + 1).to_be_bytes()),
            seq: Seq::new(n + 1),
        };
        (0..count).map(range).collect()
    }

    quickcheck::quickcheck! {
        fn answers_as_the_plain_list_does(raw: Vec<(u8, u8, u8)>) -> bool {
            let all = tombstones(&raw);
            let set = RangeTombstones::new(all.clone());
            assert_eq!(RangeTombstones::from_list(set.list().to_vec()).as_ref(), Some(&set));
            assert_eq!((set.len(), set.is_empty()), (set.list().len(), set.list().is_empty()));
            let ends = set.list().iter().flat_map(|t| [&t.start, &t.end]);
            assert_eq!(set.extent(), ends.clone().min().zip(ends.max()).map(|(a, b)| (&**a, &**b)));
            for key in 0..55u8 {
                for seq in (0..13).map(Seq::new) {
                    assert_eq!(set.newest_covering(&[key], seq), naive(&all, &[key], seq));
                    assert_eq!(set.newest_covering(&[key, 0], seq), naive(&all, &[key, 0], seq));
                }
            }
            true
        }

        fn a_set_has_one_representation(raw: Vec<(u8, u8, u8)>, cut: u8) -> bool {
            let all = tombstones(&raw);
            let cut: Arc<[u8]> = Arc::from([cut % 50]);
            let halves = all.iter().flat_map(|t| {
                let middle = cut.clone().clamp(t.start.clone(), t.end.clone());
                [RangeTombstone { end: middle.clone(), ..t.clone() }, RangeTombstone { start: middle, ..t.clone() }]
            });
            RangeTombstones::new(halves.rev().collect()) == RangeTombstones::new(all)
        }

        fn folding_keeps_the_newest_of_each_stripe(raw: Vec<(u8, u8, u8)>, width: u8) -> bool {
            let all = tombstones(&raw);
            let width = u64::from(width % 6) + 1;
            let stripe = |seq: Seq| seq.get() / width;
            let set = RangeTombstones::new(all.clone());
            let folded = set.folded(stripe);
            assert!(folded.len() <= 2 * set.len());
            assert_eq!(folded.folded(stripe), folded);
            (0..55u8).all(|key| {
                // Readers stand at the ends of stripes.
                let ends = (0..13).map(|at| Seq::new(at * width + width - 1));
                let over: Vec<u64> =
                    folded.list().iter().filter(|t| t.contains(&[key])).map(|t| stripe(t.seq)).collect();
                let once = over.iter().collect::<BTreeSet<_>>().len() == over.len();
                once && ends.into_iter().all(|at| folded.newest_covering(&[key], at) == naive(&all, &[key], at))
            })
        }
    }

    #[test]
    fn nested_ranges_take_memory_in_proportion() {
        let set = RangeTombstones::new(nested(20_000));
        assert_eq!(set.len(), 20_000);
        assert!(set.heap_bytes() < 20_000 * 500, "{} bytes", set.heap_bytes());
        for n in [0u64, 1, 777, 19_999] {
            // Over the key at distance n from the middle lie all ranges from number n on.
            let key = (20_000 - n).to_be_bytes();
            assert_eq!(set.newest_covering(&key, Seq::MAX), Some(Seq::new(20_000)));
            assert_eq!(set.newest_covering(&key, Seq::new(n + 1)), Some(Seq::new(n + 1)));
            assert_eq!(set.newest_covering(&key, Seq::new(n)), None);
        }
        let folded = set.folded(|_| 0);
        assert_eq!(folded.list(), &nested(20_000)[19_999..]);
    }

    #[test]
    fn lists_that_break_a_rule_are_refused() {
        let one = |start: &[u8], end: &[u8], seq: u64| RangeTombstone {
            start: start.into(),
            end: end.into(),
            seq: Seq::new(seq),
        };
        let bad = |list: &[RangeTombstone]| RangeTombstones::from_list(list.to_vec()).is_none();
        assert!(bad(&[one(b"b", b"b", 1)]));
        assert!(bad(&[one(b"b", b"a", 1)]));
        assert!(bad(&[one(b"a", b"c", 1), one(b"b", b"d", 1)]), "they overlap");
        assert!(bad(&[one(b"a", b"b", 1), one(b"b", b"d", 1)]), "they touch");
        assert!(bad(&[one(b"b", b"c", 1), one(b"a", b"d", 2)]), "not by start");
        assert!(bad(&[one(b"a", b"c", 1), one(b"a", b"d", 2)]), "not newest first");
        assert!(!bad(&[one(b"a", b"d", 2), one(b"a", b"c", 1), one(b"d", b"e", 1)]));
    }
}
