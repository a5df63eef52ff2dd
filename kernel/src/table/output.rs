//! Writes a new file front to back, in large pieces.

use std::path::PathBuf;
use std::sync::Arc;

use crate::env::{Buf, File, IoError, IoErrorKind};
use crate::error::Result;

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// The end of a file being made.
pub(super) struct Output {
    file: Arc<dyn File>,
    path: PathBuf,
    /// Where `buf` will be written.
    written: u64,
    buf: Buf,
    filled: usize,
}

impl Output {
    /// Appends to the empty `file`.
    pub(super) fn new(file: Arc<dyn File>, path: PathBuf) -> Self {
        Self { file, path, written: 0, buf: Buf::zeroed(WRITE_BYTES), filled: 0 }
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Appends `bytes`. Writes whenever a piece is full.
    pub(super) async fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(WRITE_BYTES - self.filled));
            self.buf[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == WRITE_BYTES {
                self.write_out().await?;
            }
        }
        Ok(())
    }

    /// Writes what is left and makes the file durable.
    pub(super) async fn finish(&mut self) -> Result<()> {
        self.write_out().await?;
        Ok(self.file.sync_all().await?)
    }

    async fn write_out(&mut self) -> Result<()> {
        let mut buf = std::mem::take(&mut self.buf);
        buf.resize(self.filled);
        while !buf.is_empty() {
            let (result, returned) = self.file.write_at(self.written, buf).await;
            buf = returned;
            let count = match result {
                Ok(0) => return Err(self.wrote_nothing().into()),
                Ok(count) => count.min(buf.len()),
                Err(error) => return Err(error.into()),
            };
            self.written += count as u64;
            let rest = buf.len() - count;
            buf.copy_within(count.., 0);
            buf.resize(rest);
        }
        buf.resize(WRITE_BYTES);
        self.buf = buf;
        self.filled = 0;
        Ok(())
    }

    fn wrote_nothing(&self) -> IoError {
        IoError {
            kind: IoErrorKind::Other,
            operation: "write",
            path: self.path.clone(),
            offset: Some(self.written),
            detail: "wrote no byte and gave no error".into(),
        }
    }
}
