//! Whether a run is what its plan says and nothing else: it is done again, and the first event that differs is named.

use std::fmt;

use holdfast_sim::LogLine;
use holdfast_workloads::oracle::{Violation, Wrong};

use crate::plan::Plan;
use crate::run::{Watch, run, run_watched};

/// Where two runs of one plan went apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The first event that differs, counted from 1: the first column of the event log.
    pub event: u64,
    /// What one run logged there.
    pub one: String,
    /// What the other did.
    pub other: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, one, other } = self;
        if one == other {
            write!(f, "the content of event {event} differs between two runs: {one}")
        } else {
            write!(f, "event {event} differs between two runs: {one}, or {other}")
        }
    }
}

/// Runs a plan twice and gives where the runs went apart; `None` if they did not.
pub fn difference(plan: &Plan) -> Option<Difference> {
    let watch = Watch { log_events: usize::MAX, record_hashes: true, ..Watch::default() };
    let (one, other) = (run_watched(plan, watch), run_watched(plan, watch));
    // Before the first event both hashes are the same.
    let apart = one.hashes.iter().zip(&other.hashes).position(|(one, other)| one != other);
    let apart = apart.or((one.events != other.events).then(|| one.hashes.len().min(other.hashes.len())));
    let event = apart? as u64;
    Some(Difference { event, one: line_at(&one.log, event), other: line_at(&other.log, event) })
}

/// Runs a plan again that gave this hash. It is a violation if it gives another one.
pub fn run_again(plan: &Plan, hash: u64) -> Option<Violation> {
    if run(plan).hash == hash {
        return None;
    }
    let what = match difference(plan) {
        Some(difference) => difference.to_string(),
        None => "two runs differed, and two more did not".to_owned(),
    };
    Some(Violation { wrong: Wrong::NotDeterministic, what })
}

/// What the log says of an event, or of the last one before it that it says something of.
fn line_at(log: &[LogLine], event: u64) -> String {
    let until = log.partition_point(|line| line.event <= event);
    log[..until].last().map_or_else(|| "nothing".to_owned(), |line| line.to_string().trim().to_owned())
}
