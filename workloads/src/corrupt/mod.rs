//! Every bit, sector and file of a small database harmed, one at a time: whatever is harmed, no answer may be wrong.
//!
//! Reading order: [`world`] is the machine in memory, [`mod@build`] makes the two databases, [`harm`] lists what is done to
//! them, [`ask`] asks what is left of them, [`judge`](mod@judge) gives the verdict, [`mend`] makes harms that no checksum shows, to prove that the judge can fail.

pub mod ask;
pub mod build;
pub mod harm;
pub mod judge;
pub mod mend;
pub mod world;

pub use build::{Subject, build};
pub use harm::Harm;
pub use judge::{Verdict, baseline, judge};
