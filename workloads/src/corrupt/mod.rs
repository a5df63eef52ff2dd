//! Every bit, sector and file of a small database harmed, one at a time: whatever is harmed, no answer may be wrong.

pub mod build;
pub mod harm;
pub mod judge;
pub mod world;

pub use build::{Subject, build};
pub use harm::Harm;
pub use judge::{Verdict, judge};
