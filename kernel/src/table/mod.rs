//! The immutable sorted file: what a frozen memtable becomes, and what compaction merges.
//!
//! ```text
//! header | ( data block* filter partition? index partition )* | range tombstones | top index | properties | zeros | footer
//! ```
//!
//! The header ([`header`]) begins at byte 0 and the footer ([`footer`]) is the last sector. Every block between
//! them stands in a frame ([`frame`]) whose checksum covers the file's identity and the block's offset too, and the frames
//! leave no gap: each byte of the file is covered by a checksum or checked to be zero.
//!
//! **Reading.** The top index is kept in memory while the table is open; an index partition (about 4 KiB), its filter
//! and the data blocks come through the block cache. All three levels of the index and the data are entry blocks
//! ([`block`]), sorted by key ascending and `Seq` descending. A separator belongs to the block before it, so a search for (key, `Seq`) goes down one
//! path and never to a neighbour:
//!
//! ```text
//! top index        … ("m", 0) → index partition, filter …       first separator not before the target
//!                        ↓ ask the filter of that partition: absent keys end here
//! index partition  … ("kq", 0) → data block …                   first separator not before the target
//!                        ↓
//! data block       … ("kp", 9) → value …                        first entry not before the target
//! ```
//!
//! Versions of one key may lie in two blocks; the separator between them is then (key, `Seq` of the last in the
//! first), and both partitions' filters know the key. Range tombstones lie in a block of their own and are applied
//! by the reader of several tables, not here.
//!
//! Index values are: in the top index, `handle(index partition) handle(filter)`, the latter with length 0 if there
//! is none; in an index partition, `handle(data block)`.
//!
//! Invariants: entries are strictly ordered; a table is never empty; nothing in a finished file ever changes.

mod block;
mod builder;
mod compress;
mod copy;
mod fields;
mod filter;
mod footer;
mod frame;
mod header;
mod input;
mod iter;
mod meta;
mod output;
mod passage;
mod reader;
mod salvage;
mod search;
mod tombstones;
mod verify;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

pub(crate) use builder::{BuildOptions, TableBuilder};
pub(crate) use copy::TableCopy;
pub(crate) use iter::TableIter;
pub use meta::{BuildReason, TableMeta};
pub(crate) use reader::TableReader;
pub(crate) use salvage::{Salvage, Salvaged};

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
