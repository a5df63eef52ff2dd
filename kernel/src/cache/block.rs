//! A block in memory: the decoded bytes of one block of a file, immutable, counted in the budget.
//!
//! The bytes start on a cache line, so that a filter line of 64 bytes is one line of the processor's cache. A
//! block says how many bytes it really holds on the heap; its [`Charge`] counts them as `Cache` while the block
//! cache holds it and as `Pinned` otherwise, whoever else does.

use std::fmt;
use std::sync::Arc;

use super::budget::{Budget, Charge, Purpose};
use crate::env::Buf;
use crate::types::ValueOwner;

const LINE_BYTES: usize = 64;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; LINE_BYTES]);

enum Memory {
    /// Memory of its own, no larger than needed.
    Lines(Vec<Line>),
    /// The buffer that a large block was read into, to save the copy.
    Read(Buf),
}

/// Immutable bytes of one block.
pub struct Block {
    memory: Memory,
    start: usize,
    len: usize,
    charge: Charge,
}

impl Block {
    /// A block of `len` bytes which `fill` writes; they are zero before. O(len).
    ///
    /// # Errors
    /// What `fill` answers.
    pub fn filled<E>(
        budget: &Arc<Budget>,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut lines = vec![Line([0; LINE_BYTES]); len.div_ceil(LINE_BYTES)];
        fill(&mut bytemuck::cast_slice_mut(&mut lines)[..len])?;
        let heap_bytes = lines.capacity() * LINE_BYTES;
        Ok(Self::new(budget, Memory::Lines(lines), heap_bytes, 0, len))
    }

    /// A copy of `bytes`, for tests, models and the fuzzer.
    #[cfg(any(test, loom, fuzzing))]
    pub fn copy_of(budget: &Arc<Budget>, bytes: &[u8]) -> Self {
        let Ok(block) = Self::filled(budget, bytes.len(), |to| {
            to.copy_from_slice(bytes);
            Ok::<(), std::convert::Infallible>(())
        });
        block
    }

    /// The bytes of `buf` from `start` on, without a copy. The whole buffer stays alive, and counts.
    ///
    /// # Panics
    /// If `start` lies beyond the end.
    pub fn from_buf(budget: &Arc<Budget>, buf: Buf, start: usize) -> Self {
        assert!(start <= buf.len(), "a block starts inside its buffer");
        let (heap_bytes, len) = (buf.capacity(), buf.len() - start);
        Self::new(budget, Memory::Read(buf), heap_bytes, start, len)
    }

    fn new(budget: &Arc<Budget>, memory: Memory, heap_bytes: usize, start: usize, len: usize) -> Self {
        let bytes = heap_bytes + size_of::<Self>();
        Self { memory, start, len, charge: budget.charge(Purpose::Pinned, bytes as u64) }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let all: &[u8] = match &self.memory {
            Memory::Lines(lines) => bytemuck::cast_slice(lines),
            Memory::Read(buf) => buf,
        };
        &all[self.start..self.start + self.len]
    }

    /// Bytes on the heap, the bookkeeping included: what the budget counts.
    pub fn heap_bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// Counts the block under another purpose from now on.
    pub fn count_as(&self, purpose: Purpose) {
        self.charge.move_to(purpose);
    }

    /// The block as what a value borrows from.
    pub(crate) fn into_owner(self: Arc<Self>) -> Arc<dyn ValueOwner> {
        self
    }
}

impl ValueOwner for Block {
    fn slice(&self, start: usize, len: usize) -> &[u8] {
        self.bytes().get(start..start.saturating_add(len)).unwrap_or_default()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len)
    }
}
