//! The tests of the kernel that touch a disk, simulated or real, as one program: each file is a subject of its own,
//! but linking the kernel and the simulator once costs a fraction of linking them for each.
//!
//! On their own stand `model`, which takes its number of cases from the environment; `linux_env`, which runs
//! itself anew under other limits; and `events`, which subscribes to all events of its process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backup;
mod bad_input;
mod cancellation;
mod checkpoint;
mod copies;
mod directory;
mod extreme_numbers;
mod golden_files;
mod isolation;
mod level0;
mod limits;
mod log_files;
mod manifest_files;
mod outcome_token;
mod ranges;
mod read_only;
mod reopen;
mod repair;
mod repair_keyspaces;
mod repair_edits;
mod repair_log;
mod retention;
mod rules;
mod simulated_world;
mod space;
mod support;
mod typed;
mod verify;
