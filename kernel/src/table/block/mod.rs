//! The entry block: sorted entries with their values, the content of data blocks and of all index blocks.
//!
//! ```text
//! content  := keys | values | restarts | tail
//! keys     := entry*
//! entry    := varint(shared) varint(suffix length) varint(zigzag(seq - base seq) << 4 | kind)
//!             varint(value length) suffix
//! values   := the values one after another, in the order of the entries
//! restarts := restart*
//! restart  :=  0  8  the first 8 key bytes after the common prefix, zero-padded, as a big-endian number
//!                    (stored little-endian, like every number)
//!              8  4  offset of the entry in keys; its key stands whole (shared = 0)
//!             12  4  offset of its value in values
//! tail     :=  0  8  base seq: the first entry's
//!              8  4  number of entries
//!             12  4  number of restarts
//!             16  4  length of keys
//!             20  2  length of the prefix common to all keys, at most 65,535
//!             22  1  entries from one restart to the next
//!             23  1  layout, 1. Another layout may put a hash index between values and restarts
//! ```
//!
//! Entries ascend by key and, within a key, descend by `Seq`. `shared` is how many leading bytes the key has in
//! common with the one before: all of them, for searches rely on it, but none at a restart.
//!
//! A search compares eight-byte numbers in one short array, decodes the key of a restart only where two such
//! numbers tie, and then walks at most one interval without building a key: knowing how many bytes of the
//! previous key matched, `shared` alone decides most comparisons. Values lie apart, so the walk does not pull
//! them through the processor's cache.
//!
//! In index blocks the key and `Seq` are a separator: not less than the last entry of what it stands for, and less
//! than the first entry of what follows. The kind is 0 there.

mod builder;
mod cursor;
mod search;

pub(super) use builder::{EntryBlockBuilder, common_len};
pub(super) use cursor::EntryCursor;
pub(super) use search::{Layout, check_order, precedes};

const RESTART_BYTES: usize = 16;
const TAIL_BYTES: usize = 24;
const LAYOUT: u8 = 1;
const KIND_BITS: u32 = 4;
const PREFIX_BYTES: usize = 8;

#[cfg(test)]
mod tests;
