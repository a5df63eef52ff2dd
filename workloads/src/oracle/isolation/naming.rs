//! A name for each cycle, and words for what was seen.
//!
//! The names follow Adya. Of cycles with one anti-dependency those with a name of their own come first: the reader
//! overwrote what it had not seen (lost update), or it saw a part of what a transaction wrote and not the rest.

use super::graph::{Edge, Graph, Kind};
use super::versions::Versions;
use crate::history::{Ending, History, Operation, TxnNo, Value};
use crate::oracle::cells::Cells;
use crate::oracle::reads::Read;
use crate::oracle::{Violation, Wrong};

/// Says what happened.
pub(super) struct Names<'a> {
    /// In this history.
    pub history: &'a History,
    /// To these keys.
    pub cells: &'a Cells<'a>,
}

/// A step from one transaction to the next.
struct Step {
    from: TxnNo,
    to: TxnNo,
    edge: Edge,
}

impl Names<'_> {
    /// A cycle as a violation.
    pub(super) fn cycle(&self, graph: &Graph, versions: &Versions, cycle: &[Edge]) -> Violation {
        let steps = steps(graph, cycle);
        let wrong = wrong(versions, &steps);
        let mut members: Vec<TxnNo> = steps.iter().map(|step| step.from).collect();
        members.sort_unstable();
        members.dedup();
        let members: Vec<String> = members.into_iter().map(|txn| self.member(txn)).collect();
        let mut what = format!("no order of {} explains that", members.join(", "));
        for step in &steps {
            what.push_str("\n  ");
            what.push_str(&self.step(step));
        }
        Violation { wrong, what }
    }

    fn member(&self, txn: TxnNo) -> String {
        let transaction = &self.history.transactions[txn as usize];
        let ending = match &transaction.ending {
            Ending::Committed(seq) => format!("committed as {seq}"),
            Ending::Conflict => "conflict".to_owned(),
            Ending::Refused(_) => "refused".to_owned(),
            Ending::Unknown => "unknown end".to_owned(),
        };
        format!("T{txn} ({:?}, {ending})", transaction.promise)
    }

    fn client(&self, txn: TxnNo) -> String {
        let client = self.history.transactions.get(txn as usize).map(|transaction| transaction.client);
        client.map_or(format!("T{txn}"), |client| format!("T{txn} (client {client})"))
    }

    fn step(&self, step: &Step) -> String {
        let (from, to) = (self.client(step.from), step.to);
        let (first, second) = step.edge.operations;
        if step.edge.kind == Kind::RealTime {
            return format!("{from} ended before T{to} began (real time)");
        }
        let key = self.cells.name(step.edge.key as usize);
        let (kind, what) = match step.edge.kind {
            Kind::WriteWrite => ("ww", format!("before T{to} {} it", self.did(to, second))),
            Kind::WriteRead => ("wr", format!("and T{to} {} that", self.did(to, second))),
            Kind::ReadWrite => ("rw", format!("before T{to} {} it", self.did(to, second))),
            Kind::Inferred => ("wr by real time", format!("and T{to} {} that", self.did(to, second))),
            _ => ("rw, range", format!("before T{to} {} it", self.did(to, second))),
        };
        let did = self.did(step.from, first);
        format!("{from} {did} {key} {what} ({kind}; operations {first} and {second})")
    }

    fn did(&self, txn: TxnNo, operation: u32) -> &'static str {
        match self.history.transactions[txn as usize].operations.get(operation as usize) {
            Some(Operation::Get { .. }) | None => "read",
            Some(Operation::Scan { .. }) => "scanned over",
            Some(Operation::Put { .. }) => "wrote",
            Some(Operation::Delete { .. }) => "deleted",
            Some(Operation::DeleteRange { .. }) => "deleted a range with",
        }
    }

    /// A read that is wrong by itself.
    pub(super) fn wrong_read(&self, txn: TxnNo, read: &Read<'_>, value: &Value, why: &str) -> String {
        let (reader, key) = (self.client(txn), self.cells.name(read.key));
        let did = self.did(txn, read.operation);
        let writer = self.client(value.stamp.txn);
        let (at, by) = (read.operation, value.stamp.operation);
        let told = match self.history.transactions.get(value.stamp.txn as usize).map(|writer| &writer.ending)
        {
            Some(Ending::Conflict) => ", which was told of a conflict",
            Some(Ending::Refused(_)) => ", which was refused",
            _ => "",
        };
        format!(
            "{reader} {did} {key} in operation {at} and saw the value of operation {by} of {writer}{told}: one that {why}"
        )
    }
}

/// The cycle as steps between transactions: moments and the points of one transaction drawn together.
fn steps(graph: &Graph, cycle: &[Edge]) -> Vec<Step> {
    let is_start = |edge: &Edge| edge.kind != Kind::Within && graph.owner(edge.from).is_some();
    let start = cycle.iter().position(is_start).unwrap_or(0);
    let mut steps = Vec::new();
    let mut from = None;
    for at in 0..cycle.len() {
        let edge = cycle[(start + at) % cycle.len()];
        if edge.kind == Kind::Within {
            continue;
        }
        from = from.or(graph.owner(edge.from));
        if let (Some(first), Some(to)) = (from, graph.owner(edge.to)) {
            steps.push(Step { from: first, to, edge });
            from = None;
        }
    }
    steps
}

/// What kind of wrong a cycle is.
fn wrong(versions: &Versions, steps: &[Step]) -> Wrong {
    let kinds = || steps.iter().map(|step| step.edge.kind);
    if kinds().any(|kind| kind == Kind::RealTime) {
        return Wrong::OrderViolated;
    }
    let single = match kinds().filter(|kind| kind.is_read_write()).count() {
        0 if kinds().all(|kind| kind == Kind::WriteWrite) => return Wrong::DirtyWrite,
        0 => return Wrong::CircularInformation,
        1 => steps.iter().position(|step| step.edge.kind.is_read_write()),
        _ if kinds().any(|kind| kind == Kind::RangeReadWrite) => return Wrong::PhantomSkew,
        _ => return Wrong::WriteSkew,
    };
    let Some(at) = single else { return Wrong::ReadSkew };
    let unseen = &steps[at];
    let before = &steps[(at + steps.len() - 1) % steps.len()];
    let key = unseen.edge.key as usize;
    let place = |txn: TxnNo| versions.of_key[key].ordered.iter().position(|version| version.txn == txn);
    let is_after_unseen = |txn: TxnNo| place(txn).is_some_and(|place_of| Some(place_of) >= place(unseen.to));
    if place(unseen.from).is_some() && is_after_unseen(unseen.from) {
        return Wrong::LostUpdate;
    }
    let is_read = matches!(before.edge.kind, Kind::WriteRead | Kind::Inferred);
    if is_read && is_after_unseen(before.from) {
        let is_same_key = before.edge.key as usize == key;
        return if is_same_key { Wrong::NonRepeatableRead } else { Wrong::HalfTransaction };
    }
    Wrong::ReadSkew
}
