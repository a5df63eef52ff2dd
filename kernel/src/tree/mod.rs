//! The tree: what a reader sees of a keyspace, from its memtables down to its deepest level.
//!
//! In reading order: [`state`] is the picture, [`get`] finds one key in it, [`source`] and [`merge`] walk raw entries,
//! [`visible`] turns them into what one reader sees, [`publish`] pairs the state with the visible sequence,
//! [`tables`] opens and closes files, [`extent`](mod@extent) tells about how much a range holds, [`stall`] says when writers must wait.

mod extent;
mod get;
mod merge;
pub(crate) mod publish;
mod source;
mod stall;
mod state;
mod tables;
mod visible;

pub(crate) use extent::{Extent, extent};
pub(crate) use get::get;
pub(crate) use merge::{Direction, Merge};
pub(crate) use publish::{Published, SnapshotGuard, SnapshotRegistry};
pub(crate) use source::{LevelIter, Source};
pub(crate) use stall::{Pressure, Throttle, memory_pressure, pressure};
pub(crate) use state::{KeyspaceState, Level, Memory, State};
pub(crate) use tables::{Graveyard, TableHandle, Tables};
pub use visible::KeyRange;
pub(crate) use visible::VisibleIter;
