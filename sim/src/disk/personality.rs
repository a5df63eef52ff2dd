//! Which file system a disk behaves like: what a sync makes durable, what a power loss may leave, and what a failed
//! sync leaves to be read.
//!
//! | | strict | ext4 | xfs | btrfs |
//! |---|---|---|---|---|
//! | a sync of a file makes durable | bytes, size | and every change of names up to the last one of the file | the same | its own names, and what they need |
//! | a sync of a directory | its names | every change of names up to its last one | the same | its names, and what they need |
//! | names after a power loss | each any binding since | a prefix of all changes of all directories | the same | the same |
//! | a rename | may leave both names or none | whole or not at all | the same | the same |
//! | a size that grew by a write | with zeros | only over bytes that are there | the same | the same |
//! | truncate, zero and punch | any part | whole, in their order among the names | the same | the same |
//! | a file renamed over another | | its bytes come with the rename | | |
//! | a torn write | any sectors | any sectors | any sectors | whole pages |
//! | a failed sync of a file | a part; old or new bytes are read | a part, size and names; the new bytes are read | the same | nothing; the old bytes and size are read |
//! | a failed sync of a directory | each name old or new for good | no change until the power is lost | no call at all until then | as ext4 |
//!
//! `sync_data` takes the name of a file along only if the file was created since; `sync_all` takes each name that it
//! was given. A journal holds names, explicit sizes, zeroed and punched ranges in one order. What is not modelled: that
//! a commit may take along more than it must, the removal of a name as a change of the file that had it, fast commits,
//! and `noatime`, `data=writeback`, `nobarrier` and `nodatacow` mounts.
//!
//! Sources: Rebello et al., "Can Applications Recover from fsync Failures?" (USENIX ATC 2020); Pillai et al., "All File
//! Systems Are Not Created Equal" (OSDI 2014); Mohan, "File System Crash-Recovery Guarantees" (linux-fsdevel, March
//! 2019), and the answers to it on strictly ordered metadata; Chinner, "metadata operation reordering regards to crash"
//! (linux-kernel, September 2018: xfs, ext4 and btrfs keep the order); the kernel's documentation "ext4 General
//! Information" (`auto_da_alloc`, `data=ordered`) and "Journal (jbd2)"; Btrfs commits "tree logging unlink/rename fixes"
//! (12fcfd22fe5b) and "sync log after logging new name" (d4682ba03ef6).

use holdfast::env::IoErrorKind;
use serde::{Deserialize, Serialize};

use super::directory::InodeNumber;
use super::survivors::{Drawn, NothingSurvives, Survival, SurvivorChoice, UnsyncedContent};
use super::{DiskState, Refusal};

/// Which file system a disk behaves like.
///
/// All but `Strict` keep the order of changes of names over the whole disk, so that a power loss leaves a prefix of
/// them with every rename whole; make a new file's name durable with its sync; never expose zeros below a size that a
/// write made; and know what a failed sync leaves to be read. After a failed sync of a directory their journal has
/// failed: changes are refused until the power is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Personality {
    /// The adversary: everything that the interface allows. What is right here is right on every other.
    #[default]
    Strict,
    /// ext4 with `data=ordered` and delayed allocation: the bytes of a file that was renamed over another come with the
    /// rename; after a failed sync the new bytes are read, and size and names are durable.
    Ext4,
    /// XFS: as ext4, but a rename brings no bytes, and a failed journal shuts everything down, reads included.
    Xfs,
    /// Btrfs with copy on write: pages are never torn, a sync takes the file's own names along and nobody else's, and a
    /// failed one leaves what was there before, to be read too.
    Btrfs,
}

impl DiskState {
    pub(super) fn is_strict(&self) -> bool {
        self.personality == Personality::Strict
    }

    /// Refuses what a file system whose journal failed refuses: changes, and on XFS everything.
    pub(crate) fn refuse_after_abort(&self, changes: bool) -> Result<(), Refusal> {
        match (self.is_aborted, self.personality) {
            (true, Personality::Xfs) => {
                Err((IoErrorKind::Medium, "the file system shut down: a write of its journal failed"))
            }
            (true, _) if changes => {
                Err((IoErrorKind::Permission, "the file system is read-only: a write of its journal failed"))
            }
            _ => Ok(()),
        }
    }

    /// A sync of a file completed.
    pub(crate) fn sync_done(&mut self, inode: InodeNumber, watermark: u64, whole: bool) {
        if self.is_strict() {
            return self.settle(inode, watermark);
        }
        let metadata = self.metadata_due(inode, watermark);
        self.settle(inode, watermark);
        self.settle_names_of(inode, watermark, metadata, whole);
    }

    /// A `dsync` write completed.
    pub(crate) fn dsync_done(&mut self, inode: InodeNumber, number: u64) {
        if self.is_strict() {
            return self.settle_only(inode, number);
        }
        let metadata = self.size_due(inode, number);
        self.settle_only(inode, number);
        self.settle_names_of(inode, number, metadata, false);
    }

    /// A sync of a file failed under another personality than `strict`.
    pub(super) fn fail_sync_as_real(&mut self, inode: InodeNumber, whole: bool) {
        if self.is_aborted {
            return;
        }
        let before = self.file(inode).content.allocated_pages();
        let watermark = self.next_number - 1;
        if self.personality == Personality::Btrfs {
            let file = self.file_mut(inode);
            file.fail_sync(watermark, inode, &mut NothingSurvives, true);
            file.take_durable_size();
        } else {
            let metadata = self.metadata_due(inode, watermark);
            let mut stream = self.take_failed_syncs();
            let mut choice = MetadataSurvives(Drawn::new(&mut stream));
            self.file_mut(inode).fail_sync(watermark, inode, &mut choice, false);
            self.failed_syncs = stream;
            self.settle_names_of(inode, watermark, metadata, whole);
        }
        self.account(inode, before, false);
    }

    /// The `dsync` write `number` failed under another personality than `strict`.
    pub(super) fn fail_only_as_real(&mut self, inode: InodeNumber, number: u64, is_direct: bool) {
        if self.personality == Personality::Btrfs {
            let file = self.file_mut(inode);
            file.fail_only(number, inode, &mut NothingSurvives, true);
            file.take_durable_size();
        } else {
            let mut stream = self.take_failed_syncs();
            let mut choice = MetadataSurvives(Drawn::new(&mut stream));
            self.file_mut(inode).fail_only(number, inode, &mut choice, is_direct);
            self.failed_syncs = stream;
        }
    }
}

/// Bytes survive by choice, sizes and ranges without bytes in any case: they went through the journal.
struct MetadataSurvives<'a>(Drawn<'a>);

impl SurvivorChoice for MetadataSurvives<'_> {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        if change.is_zero { Survival::Whole } else { self.0.content(change) }
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        candidates.len() - 1
    }

    fn name(&mut self, directory: u64, name: &str, candidates: &[Option<u64>]) -> usize {
        self.0.name(directory, name, candidates)
    }
}
