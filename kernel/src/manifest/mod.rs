//! The manifest: the durable list of files and keyspaces. The one door for structure.
//!
//! ```text
//! CURRENT              one sector: database identity, state, and which manifest is in force
//! NNNNNNNNNN.manifest  header region | group: snapshot | group: edit | seal | group: edit | seal | ... zeros
//! ```
//!
//! The framing is the log's ([`crate::record`]): each edit is one frame in a group of its own, at a position of the
//! manifest's own that starts at 0. `CURRENT` says how far the manifest was durable when it came into force.
//!
//! Invariants:
//! 1. An edit is durable before [`ManifestWriter::append`] returns, and the seal behind it vouches for it: that the
//!    newest edit is gone shows as corruption and not as a tear. A later edit vouches for every earlier one.
//! 2. What an edit names is durable before the edit is: table and name synced, log below its entries synced.
//! 3. The version in memory is the durable one, always. An edit that failed has changed nothing in memory; what it
//!    named must be kept until the writer is settled again ([`ManifestWriter::is_settled`]).
//! 4. An opening never appends to a manifest that it found: it writes a new one with the whole state, makes it
//!    durable with its name, and replaces `CURRENT`. The old one is removed only after that.
//! 5. No other numbered file exists before `CURRENT` does. So a directory with files of ours and without `CURRENT`
//!    is damaged, and is never taken for a new one.

mod change;
mod creation;
mod current;
pub mod door;
mod edit;
mod fields;
mod file;
mod load;
mod numbers;
mod salvage;
mod snapshot;
mod version;
mod writer;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

pub use change::Change;
pub use current::{begin_checkpoint, begin_creation, is_unfinished_checkpoint};
pub use edit::Edit;
pub use load::{Found, Loaded, load};
pub use numbers::FileNumbers;
pub(crate) use salvage::salvage;
pub use version::{Keyspace, Refused, Version};
pub use writer::ManifestWriter;
