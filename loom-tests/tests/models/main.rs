//! One binary for all models, so that they are linked once. A module per structure.

#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a model fails by panicking")]

mod cache;
mod memtable;
mod publish;
mod queue;
mod waiting;
