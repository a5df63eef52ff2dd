//! Deleted ranges, and the question that readers ask of many of them.
//!
//! A tombstone `[start, end) @ seq` hides every entry of a key in the range whose `Seq` is smaller than `seq`.
//! An entry of the same `Seq` is not hidden: a commit's puts stand above its own range deletes.
//!
//! Overlapping tombstones are cut at each other's ends into pieces that do not overlap:
//!
//! ```text
//!   a───────────────e @3            [a,c) @3
//!         c───────────────g @7  →   [c,e) @7 @3
//!                                   [e,g) @7
//! ```
//!
//! so that "which is the newest that covers this key, as of this `Seq`" is two binary searches.
//!
//! Invariants of [`Fragmented`]: pieces are sorted, not empty, and do not overlap; each has at least one `Seq`,
//! strictly descending; two pieces that touch differ in their `Seq`s, so every set has one representation.

use std::collections::BTreeMap;
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

/// A range and every commit that deleted all of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// First key deleted.
    pub start: Arc<[u8]>,
    /// First key no longer deleted; greater than `start`.
    pub end: Arc<[u8]>,
    /// The commits, newest first; at least one.
    pub seqs: Box<[Seq]>,
}

/// Any number of range tombstones, cut so that no two pieces overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fragmented {
    pieces: Vec<Piece>,
}

impl Fragmented {
    /// Cuts `tombstones`, given in any order; empty ranges count for nothing.
    ///
    /// O(n log n) and the size of the result, which is quadratic when n ranges all overlap at different ends.
    pub fn new(tombstones: Vec<RangeTombstone>) -> Self {
        // At each boundary, which commits begin (+1) and end (-1) to cover what follows.
        let mut boundaries: BTreeMap<Arc<[u8]>, Vec<(Seq, i64)>> = BTreeMap::new();
        for tombstone in tombstones.into_iter().filter(|t| t.start < t.end) {
            boundaries.entry(tombstone.start).or_default().push((tombstone.seq, 1));
            boundaries.entry(tombstone.end).or_default().push((tombstone.seq, -1));
        }
        // One commit may cover a key twice, so the open ranges are counted.
        let mut open: BTreeMap<Seq, i64> = BTreeMap::new();
        let mut pieces = Vec::new();
        let mut from: Option<Arc<[u8]>> = None;
        for (boundary, changes) in boundaries {
            if let Some(start) = from.take_if(|_| !open.is_empty()) {
                push_piece(
                    &mut pieces,
                    Piece { start, end: Arc::clone(&boundary), seqs: open.keys().rev().copied().collect() },
                );
            }
            for (seq, change) in changes {
                let count = open.entry(seq).or_default();
                *count += change;
                if *count == 0 {
                    open.remove(&seq);
                }
            }
            from = Some(boundary);
        }
        assert!(open.is_empty(), "every range that begins ends");
        Self { pieces }
    }

    /// From pieces as [`Fragmented::pieces`] gave them; `None` if they break an invariant.
    pub fn from_pieces(pieces: Vec<Piece>) -> Option<Self> {
        let whole = |piece: &Piece| {
            piece.start < piece.end && !piece.seqs.is_empty() && piece.seqs.is_sorted_by(|a, b| a > b)
        };
        let follows = |a: &Piece, b: &Piece| a.end < b.start || (a.end == b.start && a.seqs != b.seqs);
        (pieces.iter().all(whole) && pieces.is_sorted_by(follows)).then_some(Self { pieces })
    }

    /// The pieces in key order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// True if nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Number of (piece, commit) pairs: what [`Fragmented::iter`] yields.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.seqs.len()).sum()
    }

    /// The newest commit not after `read_seq` that deleted `key`. O(log n).
    pub fn newest_covering(&self, key: &[u8], read_seq: Seq) -> Option<Seq> {
        let piece = self.piece_at(key)?;
        let newer = piece.seqs.partition_point(|seq| *seq > read_seq);
        piece.seqs.get(newer).copied()
    }

    /// The piece that covers `key`. O(log n). While keys are read in order it answers for all keys to its end.
    pub fn piece_at(&self, key: &[u8]) -> Option<&Piece> {
        let after = self.pieces.partition_point(|piece| *piece.start <= *key);
        self.pieces[..after].last().filter(|piece| *key < *piece.end)
    }

    /// Each piece as a tombstone for each of its commits: by start, then newest first.
    pub fn iter(&self) -> impl Iterator<Item = RangeTombstone> + '_ {
        self.pieces.iter().flat_map(|piece| {
            piece.seqs.iter().map(|seq| RangeTombstone {
                start: Arc::clone(&piece.start),
                end: Arc::clone(&piece.end),
                seq: *seq,
            })
        })
    }

    /// What of it lies in `[start, end)`; no `end` is the end of all keys.
    #[must_use]
    pub fn clip(&self, start: &[u8], end: Option<&[u8]>) -> Self {
        let first = self.pieces.partition_point(|piece| *piece.end <= *start);
        let mut pieces = Vec::new();
        for piece in &self.pieces[first..] {
            if end.is_some_and(|end| *piece.start >= *end) {
                break;
            }
            let mut piece = piece.clone();
            if *piece.start < *start {
                piece.start = start.into();
            }
            if let Some(end) = end.filter(|end| *piece.end > **end) {
                piece.end = end.into();
            }
            if piece.start < piece.end {
                pieces.push(piece);
            }
        }
        Self { pieces }
    }

    /// Bytes on the heap, for the memory budget. A key shared by two pieces counts twice.
    pub fn heap_bytes(&self) -> u64 {
        let piece_bytes = |p: &Piece| size_of::<Piece>() + p.start.len() + p.end.len() + p.seqs.len() * 8;
        self.pieces.iter().map(piece_bytes).sum::<usize>() as u64
    }
}

/// Appends `piece`, grown into the last one if they touch and say the same.
fn push_piece(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last) if last.end == piece.start && last.seqs == piece.seqs => last.end = piece.end,
        _ => pieces.push(piece),
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

    quickcheck::quickcheck! {
        fn answers_as_the_uncut_list_does(raw: Vec<(u8, u8, u8)>) -> bool {
            let all = tombstones(&raw);
            let cut = Fragmented::new(all.clone());
            let again: Vec<RangeTombstone> = cut.iter().collect();
            assert_eq!(Fragmented::from_pieces(cut.pieces().to_vec()).as_ref(), Some(&cut));
            assert_eq!(Fragmented::new(again.clone()), cut);
            assert_eq!((cut.len(), cut.is_empty()), (again.len(), again.is_empty()));
            for key in 0..55u8 {
                for seq in (0..13).map(Seq::new) {
                    assert_eq!(cut.newest_covering(&[key], seq), naive(&all, &[key], seq));
                    assert_eq!(cut.newest_covering(&[key, 0], seq), naive(&all, &[key, 0], seq));
                }
            }
            true
        }

        fn a_clip_answers_inside_and_is_silent_outside(raw: Vec<(u8, u8, u8)>, start: u8, end: Option<u8>) -> bool {
            let all = tombstones(&raw);
            let (start, end) = (start % 50, end.map(|end| end % 50));
            let end_key = end.map(|end| [end]);
            let clip = Fragmented::new(all.clone()).clip(&[start], end_key.as_ref().map(|end| &end[..]));
            assert!(Fragmented::from_pieces(clip.pieces().to_vec()).is_some());
            (0..55u8).all(|key| {
                let inside = key >= start && end.is_none_or(|end| key < end);
                let expected = if inside { naive(&all, &[key], Seq::MAX) } else { None };
                clip.newest_covering(&[key], Seq::MAX) == expected
            })
        }
    }

    #[test]
    fn pieces_that_break_a_rule_are_refused() {
        let piece = |start: &[u8], end: &[u8], seqs: &[u64]| Piece {
            start: start.into(),
            end: end.into(),
            seqs: seqs.iter().map(|seq| Seq::new(*seq)).collect(),
        };
        assert!(Fragmented::from_pieces(vec![piece(b"b", b"b", &[1])]).is_none());
        assert!(Fragmented::from_pieces(vec![piece(b"a", b"b", &[])]).is_none());
        assert!(Fragmented::from_pieces(vec![piece(b"a", b"b", &[1, 1])]).is_none());
        assert!(Fragmented::from_pieces(vec![piece(b"a", b"c", &[1]), piece(b"b", b"d", &[2])]).is_none());
        assert!(Fragmented::from_pieces(vec![piece(b"a", b"b", &[1]), piece(b"b", b"d", &[1])]).is_none());
    }
}
