//! The judges of a history: each finds one kind of wrong, and names it.
//!
//! ```text
//! history -> isolation      cycles of dependencies, named as Adya does
//!         -> linearizable   each key by itself, in real time
//!         -> model          every read against an ordered map of versions, every opening against what was promised
//!         -> tpcc           what the tables of that workload always keep
//! ```
//! An oracle reads the history and nothing else, so it can be given histories that are wrong in known ways, and its
//! tests do that.

mod cells;
mod reads;
pub mod model;
pub mod isolation;
pub mod linearizable;
pub mod tpcc;
#[cfg(test)]
pub(crate) mod script;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::{History, Milestone};
use model::Rules;

/// What the judges say of a history.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What is wrong; empty if nothing is.
    pub violations: Vec<Violation>,
    /// The model gave up on the way: too many commits of unknown outcome at once.
    pub is_undecided: bool,
}

/// Asks the judges of what one node did: the model, whoever knows what a workload always keeps, and about cycles. Each is
/// asked only if those before it have found nothing.
pub fn ask(history: &History, rules: Rules) -> Answer {
    let judgment = model::judge(history, rules);
    let (mut violations, is_undecided) = (judgment.violations, judgment.is_undecided);
    if violations.is_empty() {
        violations = tpcc::check(history);
    }
    // Of numbers that a disk took back and that were given again the cycles would say nothing.
    let is_replaced = |(_, milestone): &(u64, Milestone)| matches!(milestone, Milestone::Replaced(..));
    let is_taken_back = rules.suffix_may_be_lost_from.is_some() || history.milestones.iter().any(is_replaced);
    if violations.is_empty() && !is_undecided && !is_taken_back {
        violations = isolation::check(history, &judgment.resolved);
    }
    Answer { violations, is_undecided }
}

/// What is wrong with a history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Violation {
    /// What kind of wrong.
    pub wrong: Wrong,
    /// What was promised, what was seen, and by whom.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.wrong, self.what)
    }
}

/// The kinds of wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// A commit that was promised to last is gone.
    LostWrite,
    /// A value that nobody wrote, or other bytes than were written.
    Garbage,
    /// The value of a transaction that did not commit.
    DirtyRead,
    /// A value that its own transaction wrote over before it committed.
    IntermediateRead,
    /// Another version than the one that the reader's view shows.
    NonRepeatableRead,
    /// A key in a range that should not be there, or is missing.
    Phantom,
    /// A part of a transaction without the rest.
    HalfTransaction,
    /// A deleted key that is there again.
    ResurrectedDelete,
    /// Commits in another order than they were acknowledged, or than real time.
    OrderViolated,
    /// A read of its own transaction's writes that does not show them.
    OwnWriteLost,
    /// A cycle of write dependencies (G0).
    DirtyWrite,
    /// A cycle of write and read dependencies (G1c).
    CircularInformation,
    /// A cycle with exactly one anti-dependency (G-single): read skew.
    ReadSkew,
    /// Two transactions read the same version of a key and both wrote it.
    LostUpdate,
    /// A cycle with several anti-dependencies on keys (G2-item).
    WriteSkew,
    /// A cycle with anti-dependencies on ranges (G2).
    PhantomSkew,
    /// A conflict where there was none.
    FalseConflict,
    /// A file that belongs to nothing.
    LeakedFile,
    /// What a workload always keeps, such as a total, does not hold.
    Invariant,
    /// The database's own check found something.
    Structure,
    /// What should have succeeded did not, or did not end.
    Unavailable,
    /// The kernel panicked.
    Panicked,
    /// Two runs of one plan did not do the same.
    NotDeterministic,
    /// No fault of the database: the simulator, a workload or an oracle panicked.
    Harness,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LostWrite => "lost acknowledged write",
            Self::Garbage => "garbage",
            Self::DirtyRead => "dirty read",
            Self::IntermediateRead => "intermediate read",
            Self::NonRepeatableRead => "non-repeatable read",
            Self::Phantom => "phantom",
            Self::HalfTransaction => "half a transaction",
            Self::ResurrectedDelete => "resurrected delete",
            Self::OrderViolated => "order violated",
            Self::OwnWriteLost => "own write lost",
            Self::DirtyWrite => "dirty write (G0)",
            Self::CircularInformation => "circular information flow (G1c)",
            Self::ReadSkew => "read skew (G-single)",
            Self::LostUpdate => "lost update",
            Self::WriteSkew => "write skew (G2-item)",
            Self::PhantomSkew => "phantom skew (G2)",
            Self::FalseConflict => "false conflict",
            Self::LeakedFile => "leaked file",
            Self::Invariant => "invariant broken",
            Self::Structure => "structure broken",
            Self::Unavailable => "unavailable",
            Self::Panicked => "panicked",
            Self::NotDeterministic => "not deterministic",
            Self::Harness => "trouble of the harness",
        })
    }
}
