//! Compaction: merges tables down the levels, so that reads ask few of them and dead versions give their space back.
//!
//! [`pick`] decides, and [`level0`] for level 0, as pure functions of a state; [`retain`] judges versions; [`run`] carries a job out in slices;
//! nothing is changed until the edit it gives is durable in the manifest.

pub(crate) mod pace;
pub(crate) mod pick;
mod level0;
pub(crate) mod retain;
pub(crate) mod rewrite;
pub(crate) mod run;
