//! Judges the isolation of a whole history: dependency cycles, named as Adya does.
//!
//! Which version a read *should* have shown is judged by the model; here views are not asked for, and commit numbers
//! only for the order of the versions of a key. From what was read and the order of versions follow dependencies: ww
//! (made the next version of), wr (read the version of), rw (read the version before that of). Where nobody can tell,
//! there is no edge, so that every cycle is real; what that leaves out stands with `versions`, `edges` and `standing`.
//!
//! **Promises as points in time.** A transaction *t* reads at a moment r(t) and commits at c(t), r(t) ≤ c(t). A
//! database that keeps its promises gives
//!
//! ```text
//! u -ww-> t   c(u) < c(t); if t is Snapshot c(u) < r(t), else the first committer u would have won against t
//! u -wr-> t   c(u) < r(t)
//! u -rw-> t   r(u) < c(t)
//! ```
//! so a cycle whose points only ascend is a violation, and any other can happen. (Two deletions of a key disturb nobody
//! and are not checked against each other: their ww gives c(u) < c(t) only.) The points of a transaction are
//!
//! | promise | points | since |
//! |---|---|---|
//! | Serializable | r = c | what it read, keys and ranges, is checked against every commit until its own |
//! | Snapshot | r ≤ c | only its writes are checked |
//! | View, Past | r | it writes nothing, so even its rw edges leave where its wr edges arrive |
//! | Batch | c | it reads nothing; nobody checks it, but others are checked against it |
//! | without effect | r | its reads came from a view while it ran; nobody may see what it wrote |
//!
//! Hence *a cycle is allowed if and only if some Snapshot transaction in it is entered and left by rw*: the dangerous
//! structure of Fekete et al. Write skew between two Snapshots is allowed, and between a Snapshot and a Serializable,
//! whose check cannot see it; between two Serializables it is not. A cycle over a View is allowed only if a Snapshot
//! elsewhere in it excuses it: views see a prefix of the order of commits, so a View adds no anomaly of its own.
//!
//! **Real time.** Who is promised Serializable or View reads at or after every end that any client was told before it
//! began. Snapshot and Past are promised one view, not the newest. A cycle that needs such an edge is `OrderViolated`; whoever
//! was not told its end is the start of none, so it may take effect late. Losses by crashes stand with [`Resolved`].
//!
//! Sources: Adya, "Weak Consistency" (thesis, MIT 1999); Adya, Liskov, O'Neil, "Generalized Isolation Level
//! Definitions" (ICDE 2000); Fekete, Liarokapis, O'Neil, O'Neil, Shasha, "Making Snapshot Isolation Serializable"
//! (TODS 2005); Kingsbury, Alvaro, "Elle" (VLDB 2021). Cost: linear in operations and edges, up to the logarithm of a
//! sort; scans and range deletes count as often as the keys that they cover.

mod resolved;
mod standing;
mod versions;
mod graph;
mod edges;
mod cycles;
mod naming;
#[cfg(test)]
mod tests;

pub use resolved::Resolved;

use std::collections::{BTreeMap, BTreeSet};

use cycles::{Allowed, Shortest, knots};
use edges::Edges;
use graph::{Graph, Kind};
use naming::Names;
use standing::{Effect, Standing, standings};
use versions::Versions;

use super::cells::Cells;
use super::{Violation, Wrong};
use crate::history::{History, TxnNo};

/// No more violations than this are told of one history.
pub const VIOLATIONS_MAX: usize = 8;

/// No more than this of what is wrong with single reads or commits in the same way: a cycle says more.
const ALIKE_MAX: usize = 2;

/// What is wrong with the isolation of a history: at most [`VIOLATIONS_MAX`] violations, none if it is good.
pub fn check(history: &History, resolved: &Resolved) -> Vec<Violation> {
    let cells = Cells::of(history);
    let standings = standings(history, resolved);
    let mut violations = twice_given(history, &standings);
    let versions = Versions::of(history, &cells, &standings, &mut violations);
    let graph = Edges::graph(history, &cells, &standings, &versions, &mut violations);
    let mut told = BTreeMap::new();
    violations.retain(|violation| {
        let count = told.entry(violation.wrong).or_insert(0);
        *count += 1;
        *count <= ALIKE_MAX
    });
    add_cycles(&Names { history, cells: &cells }, &graph, &versions, &mut violations);
    violations.truncate(VIOLATIONS_MAX);
    violations
}

/// Commits that were told the same number.
fn twice_given(history: &History, standings: &[Standing]) -> Vec<Violation> {
    let placed = (0..).zip(standings).filter_map(|(txn, standing)| match standing.effect {
        Effect::Placed(seq) => Some((seq, txn)),
        _ => None,
    });
    let mut placed: Vec<(u64, TxnNo)> = placed.collect();
    placed.sort_unstable();
    let same = placed.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    same.map(|pair| {
        let ((seq, first), (_, second)) = (pair[0], pair[1]);
        let client = |txn: TxnNo| history.transactions[txn as usize].client;
        let (one, other) = (client(first), client(second));
        Violation {
            wrong: Wrong::OrderViolated,
            what: format!("T{first} (client {one}) and T{second} (client {other}) both committed as {seq}"),
        }
    })
    .collect()
}

/// Looks for cycles, those of the fewest kinds of edges first, and tells one of each knot. What was found by fewer is
/// not told again as a part of a larger knot.
fn add_cycles(names: &Names<'_>, graph: &Graph, versions: &Versions, violations: &mut Vec<Violation>) {
    let all: Allowed = |_| true;
    if knots(graph, all).is_empty() {
        return;
    }
    let layers: [Allowed; 5] = [
        |kind| kind <= Kind::WriteWrite,
        |kind| kind <= Kind::WriteRead,
        |kind| kind <= Kind::RangeReadWrite,
        |kind| kind <= Kind::RealTime,
        all,
    ];
    let mut explained: BTreeSet<TxnNo> = BTreeSet::new();
    let mut shortest = Shortest::new(graph);
    for allowed in layers {
        for knot in knots(graph, allowed) {
            let members: Vec<TxnNo> = knot.iter().filter_map(|point| graph.owner(*point)).collect();
            if violations.len() >= VIOLATIONS_MAX || members.iter().any(|txn| explained.contains(txn)) {
                continue;
            }
            explained.extend(members);
            let single = if allowed(Kind::ReadWrite) { shortest.single(&knot, allowed) } else { None };
            if let Some(cycle) = single.or_else(|| shortest.any(&knot, allowed)) {
                violations.push(names.cycle(graph, versions, &cycle));
            }
        }
    }
}
