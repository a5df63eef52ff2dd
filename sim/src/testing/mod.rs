//! Your own application in the simulated world, from `cargo test`.
//!
//! ```no_run
//! use holdfast::{Options, Result};
//! use holdfast_sim::testing::World;
//!
//! #[holdfast_sim::test(seeds = 200, faults = "all")]
//! async fn what_was_told_is_there(world: World) -> Result<()> {
//!     // Beside the machine: what clients were told. No crash takes it.
//!     let told = world.outside::<std::sync::atomic::AtomicU64>();
//!
//!     let db = world.open("/counter", Options::default()).await?;
//!     let numbers = db.default_keyspace()?.typed::<String, u64>();
//!     world
//!         .check("nothing that was told is lost", async {
//!             let found = numbers.get(&"n".to_owned()).await?.unwrap_or(0);
//!             assert!(found >= told.load(std::sync::atomic::Ordering::Relaxed));
//!             Ok::<_, holdfast::Error>(())
//!         })
//!         .await?;
//!     for step in world.steps("count", 30) {
//!         numbers.put(&"n".to_owned(), &(step.number() + 1)).await?;
//!         told.store(step.number() + 1, std::sync::atomic::Ordering::Relaxed);
//!     }
//!     db.close().await
//! }
//! # fn main() {}
//! ```
//!
//! The function is the application's `main`: it runs on a simulated machine, is dropped wherever it is when the machine
//! crashes, and runs from its beginning when that starts again. A run of a seed:
//!
//! ```text
//! life 0 -> crash -> life 1 -> crash -> … -> the function returns -> power loss -> a last life in calm
//! ```
//! 1. A first run in which nothing goes wrong, the rehearsal, tells the steps; a seed then draws a [`Plan`](plan::Plan):
//!    options of the database, a disk, crashes and faults that are anchored to steps.
//! 2. A life ends by a crash, by an error, or by the function's return. An error must be one that a fault explains: a call
//!    refused in this life, or lasting damage of a file that the error names. Any panic fails the run, caught or not.
//! 3. In the end the power goes once more, and the function runs in calm, without faults, with those steps that are
//!    left: it must return `Ok`, and a [`World::check`] must have been made in it.
//!
//! What may be used inside, and what happens if something else is, stands in `sim/GUIDE.md`.
//!
//! # Faults
//!
//! `faults = "…"` says which classes a seed may draw from. Crashes, kills and power losses, are there in any case.
//!
//! | word | classes | what a check may demand |
//! |---|---|---|
//! | `none` | none | every commit acknowledged at `Durability::Sync` is there, whole, in commit order; after a kill those at `Flush` too |
//! | `all` | every class after which that stays true: errors and short counts of reads, writes and syncs, full disks, too many open files, refused tasks, stalls, clock jumps; and lost sectors and flipped bits in the database's own files, which are refused and never returned as data | the same, of what can be read: an error from the database is an answer. A failed sync may take `Flush` commits |
//! | `lossy` | `all`, and stale reads, phantom and misdirected writes, syncs that lie | only that what is there is a prefix of commit order, once [`World::may_have_lost`] is true |
//! | `sync_error,no_space`, … | these, by the names of [`FaultClass::name`](crate::FaultClass::name) | that of the weakest class named |
//!
//! A quarter of all seeds draw no faults but crashes, half of them only classes that damage nothing, a quarter any of
//! them. Damage strikes files whose names end as those of a database do; errors strike all files.
//! After lasting damage a database may refuse to open for good. Then the run ends there, and counts as `refused`.
//!
//! # Settings of a test, and of a run
//!
//! `#[holdfast_sim::test(seeds = 200, faults = "all", plans = "tests/plans")]`, each of which may be left out: `seeds`
//! is 100, `faults` is `all`. Every plan in the folder `plans`, relative to the package, is run before the seeds; one
//! whose test the program does not have fails.
//!
//! | variable | what it does |
//! |---|---|
//! | `HOLDFAST_SIM_SEED=17` | runs this seed only, twice |
//! | `HOLDFAST_SIM_PLAN=file.json` | runs this plan only, twice |
//! | `HOLDFAST_SIM_SEEDS=1000`, `HOLDFAST_SIM_START=500` | that many seeds, from that one on |
//! | `HOLDFAST_SIM_SHRINK=1` | what fails is shrunk to a smallest plan that fails in the same way |
//! | `HOLDFAST_SIM_TRACE=60` | prints so many last lines of the event log of what fails |
//! | `HOLDFAST_SIM_JOBS=1` | seeds at once; one for each core if not given |
//! | `HOLDFAST_SIM_PATIENCE=60` | seconds of real time after which a run is given up as hanging |
//! | `HOLDFAST_SIM_RECORD=file.json` | with a seed or a plan: writes what the run came to, for `crashlab` |
//! | `HOLDFAST_SIM_LINES=1000` | so many last lines of the event log go into the record |

mod attribute;
mod draw;
mod faults;
mod panics;
pub mod plan;
mod record;
mod run;
mod settings;
pub mod shrink;
mod stage;
mod sweep;
mod tell;
mod trespass;
mod variables;
mod world;

pub use attribute::{Ending, Test};
pub use record::{Failure, Record};
pub use settings::Settings;
pub use variables::{LINES, PLAN, RECORD};
pub use world::{Step, Steps, World};
