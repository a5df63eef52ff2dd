//! An entry without its value, and the order of entries.

use std::cmp::Ordering;

use super::{OpKind, Seq};

/// One version of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The commit that wrote it.
    pub seq: Seq,
    /// Put or delete.
    pub kind: OpKind,
}

impl EntryRef<'_> {
    /// Key ascending, then `Seq` descending.
    #[inline]
    pub fn order(&self, other: &EntryRef<'_>) -> Ordering {
        self.key.cmp(other.key).then_with(|| other.seq.cmp(&self.seq))
    }
}
