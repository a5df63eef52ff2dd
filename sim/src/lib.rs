//! The simulated world: a seeded scheduler, clock and disk behind the kernel's `Env`, and a network, with faults,
//! crashes and a trace.
//!
//! ```
//! use holdfast::env::{Buf, OpenOptions};
//!
//! let outcome = holdfast_sim::run(42, |world| async move {
//!     let process = world.process("db");
//!     let env = process.env();
//!     let written = process.run(async move {
//!         let file = env.disk().open("/log".as_ref(), OpenOptions::create()).await?;
//!         file.write_at(0, Buf::copy_of(b"hello")).await.0?;
//!         file.sync_data().await?;
//!         env.disk().sync_dir("/".as_ref()).await
//!     });
//!     written.await.expect("nobody killed it").expect("no fault was asked for");
//!     process.power_loss();
//!     process.disk().read_file("/log")
//! });
//! assert_eq!(outcome.result, b"hello");
//! ```
//!
//! The same seed and options do the same things, in every build and on every thread: [`Outcome::hash`] covers every
//! event with its content. Nothing here uses floating point, the real clock or the real disk.
//!
//! Tests of your own application, under every fault and from `cargo test`, are made by `#[holdfast_sim::test]`: see
//! [`testing`], and `sim/GUIDE.md`. What follows is the world below.
//!
//! What runs inside a process belongs there: use [`Process::run`] and [`Process::spawn`], so that a crash drops it.
//! A future that the test polls itself, with handles of a process that died, waits for ever, and the run fails with
//! "nothing can go on".

// The build script says the same before anything is compiled; this is for builds without it.
#[cfg(not(madsim))]
compile_error!(
    "the simulated world needs madsim's flag; put these two lines into .cargo/config.toml:\n\n[build]\nrustflags = \
     [\"--cfg\", \"madsim\"]\n"
);

mod contract;
mod disk;
mod env;
mod fault;
mod join;
mod log;
mod network;
mod options;
pub mod panics;
pub mod plan;
mod process;
pub mod reduce;
mod run;
mod schedule;
mod state;
mod stream;
pub mod testing;
mod timers;
mod trace;
mod wall;
mod world;

/// Offsets and lengths of direct I/O on a simulated disk are multiples of this.
pub const DIRECT_ALIGNMENT: usize = 512;

pub use contract::FaultCost;
pub use disk::SECTOR;
pub use disk::inspect::{DiskImage, SimDisk};
pub use disk::limits::IopsLimit;
pub use disk::personality::Personality;
pub use disk::survivors::{
    DrawnSurvivors, EverythingSurvives, NothingSurvives, Odometer, Survival, SurvivorChoice, SyncFailure,
    UnsyncedContent,
};
pub use fault::{FaultClass, FiredFault, Trigger};
pub use holdfast_sim_macros::test;
pub use join::{Died, Join};
pub use log::{Detail, LogLine};
pub use network::{
    Address, Connection, Endpoint, LinkModel, Listener, Network, NetworkCounts, NetworkError, NetworkModel,
    ProcessNetwork,
};
pub use options::{AtEvent, FailedSync, LatencyModel, Ratio, ScheduleOverride, SimOptions};
pub use process::{Crash, Process};
pub use run::{Crashes, Failed, Outcome, run, try_run, try_run_within};
pub use wall::WALL_START_US;
pub use world::World;
