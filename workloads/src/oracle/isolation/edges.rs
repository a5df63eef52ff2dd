//! From versions and reads to the graph, and what is wrong with single reads on the way there.
//!
//! A read of a value gives a dependency on its writer and an anti-dependency on whoever made the next version. A read
//! of nothing may be of the time before the first version or of any deletion. It gives an anti-dependency on the
//! version after the last deletion that it may have seen: whichever it saw, it came before that one. What commits were
//! asked for only after the reader had ended it cannot have seen. A dependency on a deletion it gives only where every
//! other possibility would contradict real time, and the reader was promised real time: then either that is what it
//! saw, or real time is violated.

use super::graph::{Edge, Graph, Kind, NOBODY, Point};
use super::naming::Names;
use super::standing::{Effect, Standing};
use super::versions::{NOWHERE, Version, Versions};
use crate::history::{History, Operation, Promise, TxnNo, Value};
use crate::oracle::cells::Cells;
use crate::oracle::reads::{Read, Reader};
use crate::oracle::{Violation, Wrong};

/// How far a search for a version that refutes all earlier ones goes.
const REFUTING_STEPS: usize = 16;

/// Makes the graph of a history.
pub(super) struct Edges<'a> {
    history: &'a History,
    cells: &'a Cells<'a>,
    standings: &'a [Standing],
    versions: &'a Versions,
    owners: Vec<TxnNo>,
    /// Of each transaction, the point where it reads and the one where it commits.
    points: Vec<(Point, Point)>,
    edges: Vec<Edge>,
}

impl<'a> Edges<'a> {
    /// The graph; what is wrong with single reads goes to `violations`.
    pub(super) fn graph(
        history: &'a History,
        cells: &'a Cells<'a>,
        standings: &'a [Standing],
        versions: &'a Versions,
        violations: &mut Vec<Violation>,
    ) -> Graph {
        let mut edges = Self {
            history,
            cells,
            standings,
            versions,
            owners: Vec::new(),
            points: Vec::new(),
            edges: Vec::new(),
        };
        edges.add_points();
        for key in 0..cells.len() {
            edges.add_writes(key);
        }
        let mut reader = Reader::new(history, cells);
        let mut reads = Vec::new();
        for txn in (0..).take(history.transactions.len()) {
            reader.reads_of(txn, &mut reads);
            for read in &reads {
                match read.found {
                    Some(value) => edges.add_found(txn, read, value, violations),
                    None => edges.add_absent(txn, read),
                }
            }
        }
        edges.add_real_time();
        Graph::new(edges.owners, &edges.edges)
    }

    fn add_points(&mut self) {
        for (txn, standing) in (0..).zip(self.standings) {
            let read = self.point(txn);
            let commit = if standing.is_split { self.point(txn) } else { read };
            if standing.is_split {
                self.edge(read, commit, Kind::Within, NOWHERE as usize, (0, 0));
            }
            self.points.push((read, commit));
        }
    }

    fn point(&mut self, owner: TxnNo) -> Point {
        self.owners.push(owner);
        Point::try_from(self.owners.len() - 1).expect("fewer than 2^32 points")
    }

    fn edge(&mut self, from: Point, to: Point, kind: Kind, key: usize, operations: (u32, u32)) {
        let key = u32::try_from(key).expect("fewer than 2^32 keys");
        self.edges.push(Edge { from, to, kind, key, operations });
    }

    fn promise(&self, txn: TxnNo) -> Promise {
        self.history.transactions[txn as usize].promise
    }

    fn opening(&self, txn: TxnNo) -> u32 {
        self.history.transactions[txn as usize].opening
    }

    fn standing(&self, txn: TxnNo) -> &'a Standing {
        &self.standings[txn as usize]
    }

    /// Each version comes after the last one before it that was still there.
    fn add_writes(&mut self, key: usize) {
        let ordered = &self.versions.of_key[key].ordered;
        for (place, version) in ordered.iter().enumerate() {
            let opening = self.opening(version.txn);
            let mut before = ordered[..place].iter().rev();
            let Some(before) = before.find(|before| self.standing(before.txn).is_there(opening)) else {
                continue;
            };
            let (read, commit) = self.points[version.txn as usize];
            // Who was promised that the first committer wins has the version that it replaces in its view. Two
            // deletions are not compared: they do not disturb each other.
            let is_checked = self.promise(version.txn) == Promise::Snapshot
                && !(before.is_deletion() && version.is_deletion());
            let to = if is_checked { read } else { commit };
            let from = self.points[before.txn as usize].1;
            self.edge(from, to, Kind::WriteWrite, key, (before.operation, version.operation));
        }
    }

    fn add_found(&mut self, txn: TxnNo, read: &Read<'a>, value: &'a Value, violations: &mut Vec<Violation>) {
        let stamp = value.stamp;
        if stamp.txn == txn {
            return;
        }
        if let Some((wrong, why)) = self.wrong_with(txn, read, value) {
            let names = Names { history: self.history, cells: self.cells };
            violations.push(Violation { wrong, what: names.wrong_read(txn, read, value, why) });
            return;
        }
        if self.promise(txn) == Promise::Batch {
            return;
        }
        let operations = (stamp.operation, read.operation);
        let (from, to) = (self.points[stamp.txn as usize].1, self.points[txn as usize].0);
        self.edge(from, to, Kind::WriteRead, read.key, operations);
        if let Some(place) = self.versions.place(stamp.txn, stamp.operation)
            && let Some(next) = self.next(txn, read.key, place + 1)
        {
            let is_range = read.is_scan && next.is_deletion();
            self.add_read_write(txn, read, &next, is_range);
        }
    }

    /// What is wrong with seeing this value, in words that follow "which".
    fn wrong_with(&self, txn: TxnNo, read: &Read<'_>, value: &Value) -> Option<(Wrong, &'static str)> {
        let stamp = value.stamp;
        let writer = self.history.transactions.get(stamp.txn as usize);
        let is_written = match writer.and_then(|writer| writer.operations.get(stamp.operation as usize)) {
            Some(Operation::Put { value, .. }) => {
                value.stamp == stamp && self.cells.key(stamp.txn, stamp.operation) == read.key
            }
            _ => false,
        };
        if !is_written {
            return Some((Wrong::Garbage, "no operation wrote there"));
        }
        let standing = self.standing(stamp.txn);
        if standing.effect == Effect::None {
            return Some((Wrong::DirtyRead, "is of a transaction without effect"));
        }
        if !standing.is_there(self.opening(txn)) {
            return Some((Wrong::DirtyRead, "an earlier crash had taken"));
        }
        let is_final = self.versions.is_final(stamp.txn, stamp.operation);
        (!is_final).then_some((Wrong::IntermediateRead, "its own transaction wrote over before it committed"))
    }

    fn add_absent(&mut self, txn: TxnNo, read: &Read<'a>) {
        let opening = self.opening(txn);
        let reader = self.standing(txn);
        let of_key = &self.versions.of_key[read.key];
        let is_candidate = |deleter: TxnNo| {
            let standing = self.standing(deleter);
            deleter != txn
                && standing.committing < reader.ended
                && standing.is_there(opening)
                && self.opening(deleter) <= opening
        };
        if self.promise(txn) == Promise::Batch
            || of_key.loose_deletions.iter().any(|deleter| is_candidate(*deleter))
        {
            return;
        }
        let mut until = of_key.visible_from.partition_point(|from| *from < reader.ended);
        let mut seen = None;
        while let Some(last) = until.checked_sub(1)
            && of_key.deleted_at[last] != NOWHERE
        {
            let place = of_key.deleted_at[last] as usize;
            if is_candidate(of_key.ordered[place].txn) {
                seen = Some(place);
                break;
            }
            until = place;
        }
        if let Some(next) = self.next(txn, read.key, seen.map_or(0, |place| place + 1)) {
            self.add_read_write(txn, read, &next, read.is_scan);
        }
        if let Some(place) = seen
            && self.is_only_deletion(txn, read.key, place)
        {
            let deletion = of_key.ordered[place];
            let (from, to) = (self.points[deletion.txn as usize].1, self.points[txn as usize].0);
            self.edge(from, to, Kind::Inferred, read.key, (deletion.operation, read.operation));
        }
    }

    /// True if by real time nothing before this deletion can be what the reader found missing.
    fn is_only_deletion(&self, txn: TxnNo, key: usize, place: usize) -> bool {
        let of_key = &self.versions.of_key[key];
        let earlier = place.checked_sub(1).map_or(NOWHERE, |before| of_key.deleted_at[before]);
        let first = if earlier == NOWHERE { 0 } else { earlier as usize + 1 };
        let transaction = &self.history.transactions[txn as usize];
        is_promised_real_time(transaction.promise)
            && of_key.ordered[first..=place].iter().rev().take(REFUTING_STEPS).any(|version| {
                let standing = self.standing(version.txn);
                standing.is_told
                    && standing.ended < transaction.began
                    && standing.is_there(transaction.opening)
            })
    }

    /// The first version from `place` on that came after what the reader saw there.
    fn next(&self, txn: TxnNo, key: usize, place: usize) -> Option<Version> {
        let opening = self.opening(txn);
        let mut later = self.versions.of_key[key].ordered.get(place..)?.iter();
        later.find(|version| self.standing(version.txn).is_there(opening)).copied()
    }

    fn add_read_write(&mut self, txn: TxnNo, read: &Read<'_>, next: &Version, is_range: bool) {
        // What comes after an own version follows from that one.
        if next.txn != txn {
            let kind = if is_range { Kind::RangeReadWrite } else { Kind::ReadWrite };
            let (from, to) = (self.points[txn as usize].0, self.points[next.txn as usize].1);
            self.edge(from, to, kind, read.key, (read.operation, next.operation));
        }
    }

    fn add_real_time(&mut self) {
        let mut ends: Vec<(u64, TxnNo)> = (0..)
            .zip(self.standings)
            .filter(|(txn, standing): &(TxnNo, _)| {
                // A process beside the writer may see what the writer shows nobody yet.
                standing.is_told && self.history.transactions[*txn as usize].promise != Promise::Past
            })
            .map(|(txn, standing)| (standing.ended, txn))
            .collect();
        ends.sort_unstable();
        let mut moments: Vec<Point> = Vec::with_capacity(ends.len());
        for (_, txn) in &ends {
            let moment = self.point(NOBODY);
            self.edge(self.points[*txn as usize].1, moment, Kind::RealTime, NOWHERE as usize, (0, 0));
            if let Some(before) = moments.last() {
                self.edge(*before, moment, Kind::RealTime, NOWHERE as usize, (0, 0));
            }
            moments.push(moment);
        }
        for (txn, transaction) in self.history.transactions.iter().enumerate() {
            let ended = ends.partition_point(|(ended, _)| *ended < transaction.began);
            if is_promised_real_time(transaction.promise)
                && let Some(last) = ended.checked_sub(1)
            {
                let to = self.points[txn].0;
                self.edge(moments[last], to, Kind::RealTime, NOWHERE as usize, (0, 0));
            }
        }
    }
}

/// True if whoever is promised this reads what was there when it began, or later.
fn is_promised_real_time(promise: Promise) -> bool {
    matches!(promise, Promise::Serializable | Promise::View)
}
