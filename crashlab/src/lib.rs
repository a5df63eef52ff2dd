//! Seeds in, verdicts out.
//!
//! ```text
//! seed -> draw -> plan -> run -> verdict
//!                  ^  \-> file, shrink, report
//! ```
//! A **plan** is everything that a seed decided: what clients do, which faults strike and when, where the process dies.
//! It is plain data, so it can be cut down and kept. A **run** carries a plan out in the simulated world and judges what
//! was seen. The same plan gives the same run, event for event: at one commit in every build, on every machine.

pub mod fault;
pub mod plan;
pub mod draw;
mod excuses;
mod stage;
mod marks;
mod panics;
mod lanes;
pub mod run;
pub mod determinism;
pub mod sweep;
pub mod shrink;
pub mod report;
pub mod application;
pub mod explore;
pub mod real;
pub mod workshop;
pub mod mutants;
pub mod bisect;

/// The commit that this was built of, with `+dirty` behind it if something was changed since; `unknown` if that is not known.
pub const COMMIT: &str = env!("CRASHLAB_COMMIT");

pub use draw::Choice;
pub use plan::Plan;
pub use run::{Verdict, Watch, run, run_watched};
