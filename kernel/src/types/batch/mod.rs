//! The write batch: puts, deletes and range deletes over several keyspaces that take effect together.
//!
//! Operations are appended to one byte arena and remembered by reference, so that collecting a million of them
//! makes two allocations grow and nothing else. Before a batch is committed it is brought into **canonical form**:
//!
//! ```text
//! keyspaces ascending, each once; within a keyspace
//!   first the range deletes: sorted, neither overlapping nor touching,
//!   then the points (puts and deletes): keys strictly ascending, each key once.
//! ```
//!
//! Meaning of an uncanonical batch: operations happen one after another. A later operation on a key replaces an
//! earlier one; a range delete removes the earlier operations on the keys inside it. In canonical form the points
//! stand *above* the range deletes of their own batch, so no order has to be remembered.
//!
//! Invariants:
//! - `canonical` is true exactly if the operations, as they lie, are in canonical form. It is kept up while
//!   appending, so a single operation, or keys that arrive ascending, are never sorted.
//! - Each operation obeys [`KEY_LEN_MAX`] and [`VALUE_LEN_MAX`], and a range starts before it ends.
//! - Only a canonical batch is iterated or encoded; [`encoding`] has the byte layout.

mod encoding;
mod keyspace;
mod normalise;

use std::fmt;

use super::{KEY_LEN_MAX, KeyspaceId, OpKind, VALUE_LEN_MAX};

pub use encoding::{BatchEncoder, BatchView};
pub use keyspace::BatchKeyspace;

/// Writes over one or more keyspaces that take effect together or not at all.
///
/// Each operation names its keyspace by its handle or by its number. A batch that was given a handle is of that handle's
/// database, and every other refuses it; one of bare numbers is taken by any database that has keyspaces of these
/// numbers, so hand over `&keyspace` where there is a handle.
#[derive(Clone)]
pub struct WriteBatch {
    /// Key and value of each operation, one behind the other, in order of arrival.
    arena: Vec<u8>,
    ops: Vec<OpRef>,
    canonical: bool,
    /// The identity of the database whose handles were given.
    database: Option<u64>,
}

/// One operation, borrowing the bytes of its batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// Where.
    pub keyspace: KeyspaceId,
    /// What.
    pub kind: OpKind,
    /// The key, or the first key of a range delete.
    pub key: &'a [u8],
    /// The value of a put; the first key no longer deleted of a range delete; empty for a delete.
    pub value: &'a [u8],
}

/// Where an operation lies in the arena: key at `at`, value right behind it. 32 bytes.
#[derive(Clone, Copy)]
struct OpRef {
    /// The key's first eight bytes as a big-endian number, zero-padded: decides almost every comparison without
    /// touching the arena.
    prefix: u64,
    at: usize,
    key_len: u32,
    value_len: u32,
    keyspace: KeyspaceId,
    kind: OpKind,
}

/// An operation that a batch does not hold: over a limit, a range that is empty, a keyspace of another database. As an [`Error`](crate::Error) it is
/// `Invalid`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadOp(String);

impl WriteBatch {
    /// An empty batch; allocates nothing.
    pub const fn new() -> Self {
        Self { arena: Vec::new(), ops: Vec::new(), canonical: true, database: None }
    }

    /// An empty batch with room for `ops` operations whose keys and values add up to `bytes`.
    pub fn with_capacity(ops: usize, bytes: usize) -> Self {
        let (arena, ops) = (Vec::with_capacity(bytes), Vec::with_capacity(ops));
        Self { arena, ops, canonical: true, database: None }
    }

    /// Gives `key` the value `value`.
    ///
    /// # Errors
    /// [`BadOp`] if the key is longer than [`KEY_LEN_MAX`] or the value than [`VALUE_LEN_MAX`], or the keyspace is of
    /// another database than one before.
    pub fn put(&mut self, keyspace: impl Into<BatchKeyspace>, key: &[u8], value: &[u8]) -> Result<(), BadOp> {
        Self::put_byte_size(key, value)?;
        let keyspace = self.admit(keyspace.into())?;
        self.push(keyspace, OpKind::Put, key, value);
        Ok(())
    }

    /// What such a [`put`](Self::put) would add to [`byte_size`](Self::byte_size), to be known before it is made.
    ///
    /// # Errors
    /// [`BadOp`] if key or value is longer than it may be.
    pub fn put_byte_size(key: &[u8], value: &[u8]) -> Result<usize, BadOp> {
        check_key("key", key)?;
        if value.len() > VALUE_LEN_MAX {
            return Err(BadOp(format!(
                "the value has {} bytes, but at most {VALUE_LEN_MAX} are possible",
                value.len()
            )));
        }
        Ok(key.len() + value.len() + size_of::<OpRef>())
    }

    /// Removes `key`, which need not exist.
    ///
    /// # Errors
    /// [`BadOp`] if the key is longer than [`KEY_LEN_MAX`], or the keyspace is of another database than one before.
    pub fn delete(&mut self, keyspace: impl Into<BatchKeyspace>, key: &[u8]) -> Result<(), BadOp> {
        check_key("key", key)?;
        let keyspace = self.admit(keyspace.into())?;
        self.push(keyspace, OpKind::Delete, key, &[]);
        Ok(())
    }

    /// Removes every key `k` with `start <= k < end`.
    ///
    /// # Errors
    /// [`BadOp`] if the range is empty or reversed, or a bound is longer than [`KEY_LEN_MAX`], or the keyspace is of
    /// another database than one before.
    pub fn delete_range(
        &mut self,
        keyspace: impl Into<BatchKeyspace>,
        start: &[u8],
        end: &[u8],
    ) -> Result<(), BadOp> {
        check_key("start of the range", start)?;
        check_key("end of the range", end)?;
        if start >= end {
            return Err(BadOp(format!(
                "the range to delete is empty: its start {} is not less than its end {}",
                shown(start),
                shown(end)
            )));
        }
        let keyspace = self.admit(keyspace.into())?;
        self.push(keyspace, OpKind::DeleteRange, start, end);
        Ok(())
    }

    /// The identity of the database that it is for, if a handle told.
    pub(crate) fn database(&self) -> Option<u64> {
        self.database
    }

    fn admit(&mut self, keyspace: BatchKeyspace) -> Result<KeyspaceId, BadOp> {
        match (self.database, keyspace.database) {
            (Some(mine), Some(other)) if mine != other => {
                return Err(BadOp(format!(
                    "keyspace number {} is of database {other:016x}, and the batch holds operations for database {mine:016x}",
                    keyspace.id
                )));
            }
            (None, told) => self.database = told,
            _ => {}
        }
        Ok(keyspace.id)
    }

    /// Number of operations held. Normalising may make it smaller.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of memory in use: keys and values that arrived, replaced ones included, and 32 an operation.
    pub fn byte_size(&self) -> usize {
        self.arena.len() + self.ops.len() * size_of::<OpRef>()
    }

    /// Forgets every operation, and which database it was for, and keeps the memory for the next.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.ops.clear();
        self.canonical = true;
        self.database = None;
    }

    /// True if the operations are in canonical form as they lie. Costs nothing.
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// Brings the batch into canonical form. Costs nothing if it is, else `n log n` comparisons of mostly eight
    /// bytes, plus `n log r` for `r` range deletes. Keys and values are not moved.
    pub fn normalise(&mut self) {
        if !self.canonical {
            normalise::normalise(&mut self.arena, &mut self.ops);
            self.canonical = true;
        }
    }

    /// The operations in canonical order.
    ///
    /// # Panics
    /// If the batch is not canonical: what is iterated here reaches the log and the memtable.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Op<'_>> + DoubleEndedIterator + Clone {
        assert!(self.canonical, "a batch is normalised before it is iterated");
        self.ops.iter().map(|op| op.open(&self.arena))
    }

    /// The operation that arrived as number `index`, counted from 0; after [`normalise`](Self::normalise), the one
    /// that stands there.
    pub fn get(&self, index: usize) -> Option<Op<'_>> {
        self.ops.get(index).map(|op| op.open(&self.arena))
    }

    fn push(&mut self, keyspace: KeyspaceId, kind: OpKind, key: &[u8], value: &[u8]) {
        let op = OpRef {
            prefix: prefix(key),
            at: self.arena.len(),
            key_len: key.len() as u32,
            value_len: value.len() as u32,
            keyspace,
            kind,
        };
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        if self.canonical
            && let Some(last) = self.ops.last()
        {
            self.canonical = may_follow(&last.open(&self.arena), &op.open(&self.arena));
        }
        self.ops.push(op);
    }
}

impl Default for WriteBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ops.iter().map(|op| op.open(&self.arena))).finish()
    }
}

impl fmt::Debug for Op<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}: {}", self.kind, self.keyspace, shown(self.key))?;
        match self.kind {
            OpKind::Put => write!(f, " = {}", shown(self.value)),
            OpKind::DeleteRange => write!(f, " to {}", shown(self.value)),
            OpKind::Delete => Ok(()),
        }
    }
}

impl OpRef {
    fn key<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.at..][..self.key_len as usize]
    }

    fn value<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.at + self.key_len as usize..][..self.value_len as usize]
    }

    fn open<'a>(&self, arena: &'a [u8]) -> Op<'a> {
        Op { keyspace: self.keyspace, kind: self.kind, key: self.key(arena), value: self.value(arena) }
    }
}

/// The one statement of canonical order, used where a batch is built and where its bytes are read: may `next`
/// stand directly behind `last`?
fn may_follow(last: &Op<'_>, next: &Op<'_>) -> bool {
    if last.keyspace != next.keyspace {
        return last.keyspace < next.keyspace;
    }
    match (last.kind == OpKind::DeleteRange, next.kind == OpKind::DeleteRange) {
        (true, true) => last.value < next.key,
        (true, false) => true,
        (false, true) => false,
        (false, false) => last.key < next.key,
    }
}

/// The first eight bytes as a big-endian number, zero-padded: a smaller number means a smaller key.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

fn check_key(what: &str, key: &[u8]) -> Result<(), BadOp> {
    if key.len() <= KEY_LEN_MAX {
        return Ok(());
    }
    Err(BadOp(format!("the {what} has {} bytes, but at most {KEY_LEN_MAX} are possible", key.len())))
}

/// Bytes for a message: escaped, in quotes, cut at 64.
fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..64).unwrap_or(bytes);
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("\"{}{dots}\"", super::escape::escape(cut))
}

#[cfg(test)]
mod tests;
