//! Numbers for files, given once.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::FileNo;

/// The next free file number of a database. Shared by all that make files.
///
/// A number is not written down when it is given, only with the next edit. So an opening must start beyond every
/// number in the directory that it may have given as well as beyond the manifest's.
#[derive(Debug)]
pub struct FileNumbers {
    next: AtomicU64,
}

impl FileNumbers {
    /// Gives `next` first.
    pub fn new(next: FileNo) -> Self {
        Self { next: AtomicU64::new(next.get()) }
    }

    /// A number that nobody else gets. It does not wrap: openings begin below [`FileNo::LIMIT`], and it would take longer
    /// than the world lasts to come from there to the end. The edit that names a number beyond is refused.
    pub fn take(&self) -> FileNo {
        FileNo::new(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// No number at or beyond this one was given.
    pub fn next(&self) -> FileNo {
        FileNo::new(self.next.load(Ordering::Relaxed))
    }
}
