//! What the production binary `holdfast` is made of.
//!
//! `main.rs` only joins the parts: it reads the arguments, runs the command and ends with its exit code. The parts
//! stand here, so that tests reach them. Nothing below reads or writes a file of a database by itself, save for the
//! tour, which damages a copy on purpose; backup and restore only give a directory its name.

pub mod cli;
pub mod commands;
pub mod exit;
pub mod formats;
pub mod log;
pub mod output;
mod owner;
pub mod progress;
mod quoted;
pub mod signals;
pub mod stderr;
pub mod store;
pub mod tour;
pub mod unicode;
pub mod visible;
