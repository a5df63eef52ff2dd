//! A directory in which several tasks make files, and which of its entries are durable.
//!
//! ```text
//! flush        makes 8 ──── sync_dir: failed, and neither 8 nor 9 will ever be durable
//! compaction        makes 9 ──────────── sync_dir: done, and that says nothing of 9
//! ```
//! A failed sync drops all that it was to make durable, and whoever syncs next is told that there is nothing left to do
//! (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020). Of a file that is one task's matter;
//! a directory is everybody's.
//!
//! Invariant: an entry is durable if a sync that began after it was made has ended well, and no sync of the directory has
//! failed since before it was made. Syncs come one after another, so none ends well behind one that has failed and not
//! said so yet. One whose future is dropped counts as failed.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, IoError, IoErrorKind, IoResult};
use crate::check::mark;
use crate::sync::{Mutex, Semaphore};

/// See the module's documentation. Stands for its path wherever one is asked for.
#[derive(Debug)]
pub struct SharedDir {
    path: PathBuf,
    turn: Arc<Semaphore>,
    syncs: Mutex<Syncs>,
}

#[derive(Debug, Default)]
struct Syncs {
    failed: u64,
    last_failure: Option<IoError>,
    is_under_way: bool,
}

/// Entries about to be made in a [`SharedDir`].
#[derive(Clone, Copy, Debug)]
#[must_use = "entries become durable by a sync"]
pub struct NewEntries {
    failed_before: u64,
}

impl SharedDir {
    /// The directory at `path`. All who make files in it side by side share one of these.
    pub fn new(path: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), turn: Arc::new(Semaphore::new(1)), syncs: Mutex::default() })
    }

    /// To be called before the first of the entries is made.
    pub fn begin_entries(&self) -> NewEntries {
        NewEntries { failed_before: self.syncs.lock().failed }
    }

    /// Makes entries durable. Waits for its turn.
    ///
    /// # Errors
    /// What the disk says, of this sync or of one that failed since the entries were begun: they may be gone after a
    /// crash, whatever a later sync says.
    pub async fn sync(&self, disk: &dyn Disk, entries: NewEntries) -> IoResult<()> {
        let _turn = self.turn.acquire(1).await;
        if std::mem::replace(&mut self.syncs.lock().is_under_way, true) {
            self.note_failure(self.failure(IoErrorKind::Other, "it was abandoned midway"));
        }
        let outcome = disk.sync_dir(&self.path).await;
        self.syncs.lock().is_under_way = false;
        if let Err(error) = outcome {
            self.note_failure(error.clone());
            return Err(error);
        }
        match &*self.syncs.lock() {
            Syncs { failed, last_failure: Some(failure), .. } if *failed != entries.failed_before => {
                mark!("directory_sync_not_believed");
                let why = format!("one failed since the entry was made: {}", failure.detail);
                Err(self.failure(failure.kind, &why))
            }
            _ => Ok(()),
        }
    }

    fn note_failure(&self, failure: IoError) {
        let mut syncs = self.syncs.lock();
        syncs.failed = syncs.failed.saturating_add(1);
        syncs.last_failure = Some(failure);
    }

    fn failure(&self, kind: IoErrorKind, why: &str) -> IoError {
        IoError { kind, operation: "sync_dir", path: self.path.clone(), offset: None, detail: why.to_owned() }
    }
}

impl Deref for SharedDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}
