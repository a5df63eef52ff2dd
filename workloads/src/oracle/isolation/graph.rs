//! The graph in which a cycle is a violation: points of transactions, and what must come before what.
//!
//! A transaction is one point where its promise, or the lack of writes or of reads, makes its reads and its commit one
//! moment; else it is two, with an edge from its reads to its commit. An edge says that its start must come before its
//! end in every order that keeps the promises, and says which operations prove it. Real time is a chain of moments,
//! one for each end that a client was told: transaction → moment of its end → later moments → what began after them.

use crate::history::TxnNo;

/// A point: where a transaction reads, where it commits, or a moment.
pub(super) type Point = u32;

/// The owner of a moment.
pub(super) const NOBODY: TxnNo = TxnNo::MAX;

/// Why one point comes before another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// A transaction reads before it commits.
    Within,
    /// A version of a key comes before another.
    WriteWrite,
    /// A version was read.
    WriteRead,
    /// A version was read before another came after it.
    ReadWrite,
    /// The same, where it was a key that came to a range that was walked, or went.
    RangeReadWrite,
    /// One ended before the other began.
    RealTime,
    /// A deletion was seen: by real time it can have been nothing else.
    Inferred,
}

impl Kind {
    /// True for both kinds of anti-dependency.
    pub(super) fn is_read_write(self) -> bool {
        matches!(self, Self::ReadWrite | Self::RangeReadWrite)
    }
}

/// One point comes before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Edge {
    /// The earlier one.
    pub from: Point,
    /// The later one.
    pub to: Point,
    /// Why.
    pub kind: Kind,
    /// Of which key; no key if it is not about one.
    pub key: u32,
    /// By which operations of the two.
    pub operations: (u32, u32),
}

/// Points, and the edges that leave each.
pub(super) struct Graph {
    /// Whose point it is.
    pub owners: Vec<TxnNo>,
    firsts: Vec<u32>,
    edges: Vec<Edge>,
}

impl Graph {
    /// Of these edges, in their order.
    pub(super) fn new(owners: Vec<TxnNo>, edges: &[Edge]) -> Self {
        let mut firsts = vec![0; owners.len() + 1];
        for edge in edges {
            firsts[edge.from as usize + 1] += 1;
        }
        for point in 0..owners.len() {
            firsts[point + 1] += firsts[point];
        }
        let mut next = firsts.clone();
        let mut sorted = edges.to_vec();
        for edge in edges {
            let slot = &mut next[edge.from as usize];
            sorted[*slot as usize] = *edge;
            *slot += 1;
        }
        Self { owners, firsts, edges: sorted }
    }

    /// How many points there are.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// What leaves a point.
    pub(super) fn leaving(&self, point: Point) -> &[Edge] {
        &self.edges[self.firsts[point as usize] as usize..self.firsts[point as usize + 1] as usize]
    }

    /// The transaction of a point, if it is not a moment.
    pub(super) fn owner(&self, point: Point) -> Option<TxnNo> {
        Some(self.owners[point as usize]).filter(|owner| *owner != NOBODY)
    }
}
