//! Owned, aligned memory for I/O.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Alignment of every [`Buf`] in bytes; enough for direct I/O on any device we know.
pub const BUF_ALIGN: usize = 4096;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(4096))]
struct Page([u8; BUF_ALIGN]);

/// A byte buffer whose start is aligned to [`BUF_ALIGN`]. It owns its memory and travels with the operation
/// that uses it.
#[derive(Clone, Default)]
pub struct Buf {
    pages: Vec<Page>,
    len: usize,
}

impl Buf {
    /// `len` zero bytes. O(len).
    pub fn zeroed(len: usize) -> Self {
        Self { pages: vec![Page([0; BUF_ALIGN]); len.div_ceil(BUF_ALIGN)], len }
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::zeroed(bytes.len());
        buf.copy_from_slice(bytes);
        buf
    }

    /// Bytes that fit without a new allocation.
    pub fn capacity(&self) -> usize {
        self.pages.len() * BUF_ALIGN
    }

    /// Changes the length; new bytes are zero or what an earlier, longer use left there, so overwrite them.
    /// Keeps the allocation.
    pub fn resize(&mut self, len: usize) {
        let pages = len.div_ceil(BUF_ALIGN);
        if pages > self.pages.len() {
            self.pages.resize(pages, Page([0; BUF_ALIGN]));
        }
        self.len = len;
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.pages)[..self.len]
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.pages)[..self.len]
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len)
    }
}
