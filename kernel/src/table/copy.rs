//! Copies a finished table, byte for byte, and checks every byte on its way ([`passage`](super::passage)).
//!
//! The source is read once, piece by piece; each piece is judged before it is written. A copy is worth nothing before
//! [`TableCopy::step`] has said that it is done: then it is whole and durable, though its name is not. What is copied is
//! what was in memory when it was judged, so a disk that gives other bytes at a second read cannot come in between.

use std::path::PathBuf;
use std::sync::Arc;

use super::meta::TableMeta;
use super::passage::{Passage, Refused};
use crate::env::{Buf, Env, File, OpenOptions};
use crate::error::{Error, Result};
use crate::record::{READ_CHUNK, read_full, write_full};

/// A table on its way.
pub(crate) struct TableCopy<'a> {
    source: Arc<dyn File>,
    /// Of the source, for what is wrong with it.
    from: PathBuf,
    copy: Arc<dyn File>,
    to: PathBuf,
    passage: Passage<'a>,
    bytes: u64,
    done: u64,
    buf: Buf,
}

impl<'a> TableCopy<'a> {
    /// Begins to copy the table that the manifest describes as `meta` and that `source`, the file `from`, holds, into
    /// the new file `to`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the source if it has another length; what the disk answers, `AlreadyExists` included.
    pub(crate) async fn begin(
        env: &dyn Env,
        source: Arc<dyn File>,
        from: PathBuf,
        to: PathBuf,
        meta: &'a TableMeta,
    ) -> Result<Self> {
        let bytes = source.len().await?;
        if bytes != meta.bytes {
            let what = format!("the file has {bytes} bytes, the manifest says {}", meta.bytes);
            return Err(Error::corrupt_at(&from, bytes.min(meta.bytes), what));
        }
        let copy = env.disk().open(&to, OpenOptions::create()).await?;
        let passage = Passage::new(meta);
        Ok(Self { source, from, copy, to, passage, bytes, done: 0, buf: Buf::default() })
    }

    /// Copies the next piece and gives its length; `None` once the copy is whole and its bytes are durable.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the source and the offset of what is not as it was written, [`Error::NewerFormat`]
    /// likewise; what the disks answer. The copy is then good for nothing but to be removed.
    pub(crate) async fn step(&mut self) -> Result<Option<u64>> {
        if self.done == self.bytes {
            self.passage.finish().map_err(|refused| self.named(refused))?;
            self.copy.sync_all().await?;
            return Ok(None);
        }
        let wanted = (self.bytes - self.done).min(READ_CHUNK as u64) as usize;
        let (outcome, read) =
            read_full(&*self.source, self.done, wanted, std::mem::take(&mut self.buf)).await;
        outcome?;
        if read.len() != wanted {
            let at = self.done + read.len() as u64;
            return Err(Error::corrupt_at(&self.from, at, "the file became shorter while it was read"));
        }
        self.passage.take(&read).map_err(|refused| self.named(refused))?;
        let (outcome, back) = write_full(&*self.copy, &self.to, self.done, read).await;
        outcome?;
        self.buf = back;
        self.done += wanted as u64;
        Ok(Some(wanted as u64))
    }

    fn named(&self, refused: Refused) -> Error {
        refused.why.in_file(&self.from, refused.base)
    }
}
