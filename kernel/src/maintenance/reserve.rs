//! Real bytes kept aside, so that flush and compaction can free space on a full disk.
//!
//! The file `RESERVE` is written with zeros while there is room, removed when a background job finds none, and made
//! again after one has succeeded. It holds nothing and is never read.

use std::path::{Path, PathBuf};

use crate::check::mark;
use crate::env::{Disk, Env, OpenOptions};
use crate::sync::Mutex;
use crate::types::file_name::RESERVE;

/// The reserve of one database directory.
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: Mutex<bool>,
}

impl Reserve {
    /// `bytes` of 0 keeps none.
    pub fn new(dir: &Path, bytes: u64) -> Self {
        Self { path: dir.join(RESERVE), bytes, held: Mutex::new(false) }
    }

    /// Takes the bytes again if they are not held. Failing is fine: there is no room, which is what they are for.
    pub async fn restore(&self, env: &dyn Env) {
        if self.bytes == 0 || *self.held.lock() {
            return;
        }
        let disk = env.disk();
        let made = match disk.open(&self.path, OpenOptions::create()).await {
            Ok(file) => file.zero_range(0, self.bytes).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            drop(disk.remove(&self.path).await);
        }
        if made.is_ok() {
            mark!("reserve_taken_again");
            tracing::info!(bytes = self.bytes, "disk reserve taken again");
        }
        *self.held.lock() = made.is_ok();
    }

    /// Gives the bytes free.
    pub async fn release(&self, env: &dyn Env) {
        if std::mem::take(&mut *self.held.lock()) {
            mark!("reserve_given_free");
            tracing::warn!(bytes = self.bytes, "giving the disk reserve free");
            drop(env.disk().remove(&self.path).await);
        }
    }

    /// Notes what an opening found.
    pub async fn look(&self, disk: &dyn Disk) {
        let found = disk.metadata(&self.path).await.is_ok_and(|metadata| metadata.len >= self.bytes);
        *self.held.lock() = found;
    }
}
