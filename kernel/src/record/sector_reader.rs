//! Reads the sectors of a file in large pieces, one after another.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::Path;

use super::{HEADER_REGION, READ_CHUNK, read_full};
use crate::env::{Buf, Env, File};
use crate::error::{Error, Result};
use crate::types::Lsn;

/// Goes from the first data sector, which holds position `base`, to a position `end`.
pub struct SectorReader<'a> {
    file: &'a dyn File,
    path: &'a Path,
    base: Lsn,
    next: Lsn,
    end: Lsn,
    buf: Buf,
}

impl<'a> SectorReader<'a> {
    /// The file's length must be a multiple of 4096.
    pub fn new(file: &'a dyn File, path: &'a Path, base: Lsn, end: Lsn) -> Self {
        Self { file, path, base, next: base, end, buf: Buf::default() }
    }

    /// Position and bytes of the next whole sectors, at most 512 KiB; `None` at the end.
    ///
    /// # Errors
    /// What the disk says; [`Error::Corrupt`] if the file ends too early.
    pub async fn next(&mut self, env: &dyn Env) -> Result<Option<(Lsn, &[u8])>> {
        let left = self.end.since(self.next);
        if left == 0 {
            return Ok(None);
        }
        let wanted = left.min(READ_CHUNK as u64) as usize;
        // Direct I/O reads whole blocks, and the file is made of them.
        let len = wanted.next_multiple_of(HEADER_REGION);
        let offset = self.next.since(self.base).saturating_add(HEADER_REGION as u64);
        env.slice(len as u64).await;
        let (outcome, buf) = read_full(self.file, offset, len, std::mem::take(&mut self.buf)).await;
        self.buf = buf;
        outcome?;
        let Some(bytes) = self.buf.get(..wanted) else {
            let at = offset.saturating_add(self.buf.len() as u64);
            return Err(Error::corrupt_at(self.path, at, "the file is shorter than its header says"));
        };
        let start = self.next;
        self.next = start.advance(wanted as u64);
        Ok(Some((start, bytes)))
    }
}
