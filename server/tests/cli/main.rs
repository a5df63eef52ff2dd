//! The built binary, driven as a user drives it.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod backup;
mod commands;
mod help;
mod interrupted;
mod log;
mod names;
mod reading;
mod refusals;
mod shell;
mod shown;
mod support;
mod tour;
mod transfer;
mod upkeep;
