//! What the programs in `src/bin` have in common: seeded randomness, a report, phases, scratch directories.
//!
//! Each program runs the kernel on a real disk and judges what it answers. Rates and times are printed with their
//! target and recorded as met or missed; only a wrong answer fails a program. With `--self-test` a program plants its
//! own defects and succeeds only if it reports every one of them.

pub mod random;
pub mod report;
pub mod scratch;
pub mod phases;
pub mod kill9;
pub mod corrupt;
pub mod history;
pub mod tpcc;
pub mod dbcop;
pub mod oracle;
pub mod storm;

pub use random::Random;
pub use report::{Report, SelfTest};
pub use scratch::Scratch;
