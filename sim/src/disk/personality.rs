//! Which file system a disk behaves like: what a sync makes durable, what a power loss may leave, and what a failed
//! sync leaves to be read.
//!
//! | | strict | ext4 | xfs | btrfs |
//! |---|---|---|---|---|
//! | a sync of a file makes durable | bytes, size | and every change of names up to the last one of the file | the same | its own names, and what they need |
//! | a sync of a directory | its names | every change of names up to its last one | the same | its names, and what they need |
//! | names after a power loss | each any binding since | a prefix of all changes of all directories | the same | and, of each file that was synced, a prefix of its own |
//! | a rename | may leave both names or none | whole or not at all | the same | the same |
//! | a size that grew by a write | with zeros | with zeros | only over bytes that are there | as xfs |
//! | a write that makes a file longer | to its end | or to the end of a page | the same | the same |
//! | truncate, and whole pages punched | any part | whole, in their order among the names | the same | the same |
//! | a file renamed over another | | its bytes come with the rename | | |
//! | a torn write, of zeros too | any sectors | any sectors | any sectors | whole pages |
//! | bytes that could not be written | a part; old or new are read | a part, and the size if synced again; new are read | a part, and as much of the size | as ext4, or nothing, and old are read |
//! | after a failed write of the journal | | no change until the power is lost | no call at all until then | as ext4, but a sync may say that there is nothing to do if one was tried since the last change |
//!
//! `sync_data` takes the name of a file along only if the file was created since; `sync_all` takes each name that it
//! was given. A failed sync of a directory is a failed write of the journal, one of a file is so in half of the cases. A
//! journal holds names, explicit sizes and punched ranges in one order. All of this is compared with the file systems
//! themselves by `sim/real-disks`. What is not modelled: that a commit must not take along more than is asked, the removal
//! of a name as a change of the file that had it, bytes that could not be written before any sync asked, what btrfs lists
//! after its commit failed, fast commits, and `noatime`, `data=writeback`, `nobarrier` and `nodatacow` mounts.
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
use super::inode::Route;
use super::survivors::{Drawn, NothingSurvives, SyncFailure};
use super::{DiskState, Node, Refusal, WriteMode};

/// Which file system a disk behaves like.
///
/// All but `Strict` keep the order of changes of names over the whole disk, so that a power loss leaves a prefix of
/// them with every rename whole; make a new file's name durable with its sync; and know what a failed sync leaves to be
/// read. After a failed sync of a directory, and half of those of files, their journal has failed: changes are refused
/// until the power is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Personality {
    /// The adversary: everything that the interface allows. What is right here is right on every other.
    #[default]
    Strict,
    /// ext4 with `data=ordered` and delayed allocation: the bytes of a file that was renamed over another come with the
    /// rename; a size may be there before its bytes; after a failed sync the new bytes are read, and the next one makes
    /// size and names durable.
    Ext4,
    /// XFS: as ext4, but a rename brings no bytes, a size never comes before them, and a failed journal shuts everything
    /// down, reads included.
    Xfs,
    /// Btrfs with copy on write: pages are never torn, a sync must take the file's own names along and nobody else's, and
    /// a failed one may leave what was there before, to be read too.
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
        if self.has_no_name_to_log(inode) {
            return;
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
        if self.has_no_name_to_log(inode) {
            return;
        }
        let metadata = self.size_due(inode, number);
        self.settle_only(inode, number);
        self.settle_names_of(inode, number, metadata, false);
    }

    /// True on btrfs for a file that was removed: a sync of it does nothing, and should its name come back, it comes with
    /// what the file was before.
    fn has_no_name_to_log(&self, inode: InodeNumber) -> bool {
        let is_unnamed = matches!(self.nodes.get(&inode), Some(Node::File(file)) if file.links == 0);
        is_unnamed && self.personality == Personality::Btrfs
    }

    /// A sync of a file failed under another personality than `strict`: the journal's write did, or one of bytes.
    pub(super) fn fail_sync_as_real(&mut self, inode: InodeNumber, kind: IoErrorKind) {
        if self.file_mut(inode).tells_again.take().is_some() || self.aborts(kind) {
            return;
        }
        let before = self.file(inode).content.allocated_pages();
        let watermark = self.next_number - 1;
        self.fail_bytes(inode, Failed { first: 0, last: watermark, reads_old: false });
        self.account(inode, before, false);
    }

    /// The `dsync` write `number` failed under another personality than `strict`. `size` is what it was before.
    pub(super) fn fail_only_as_real(
        &mut self,
        inode: InodeNumber,
        number: u64,
        size: u64,
        mode: WriteMode,
        kind: IoErrorKind,
    ) {
        if self.aborts(kind) {
            return;
        }
        // Btrfs sends direct writes through the page cache, and tells of their failure once more.
        let (is_direct, is_btrfs) = (mode.route == Route::Direct, self.personality == Personality::Btrfs);
        let goes_around = is_direct && !is_btrfs;
        let first = if !is_direct && self.goes(SyncFailure::TakesAlong) { 0 } else { number };
        self.fail_bytes(inode, Failed { first, last: number, reads_old: goes_around });
        let file = self.file_mut(inode);
        if is_direct && is_btrfs {
            file.tells_again = Some(kind);
        }
        if goes_around {
            file.size = size;
            file.sizes.retain(|size| size.0 != number);
        }
    }

    /// Whether a failed sync goes this way: in half of the cases, unless somebody decides.
    fn goes(&mut self, way: SyncFailure) -> bool {
        let drawn = self.failed_syncs.below(2) == 1;
        self.failed_choice.as_mut().and_then(|choice| choice.failed(way)).unwrap_or(drawn)
    }

    /// Half of the device's failures strike the journal: nothing changes any more until the power is lost. A full disk
    /// does not.
    fn aborts(&mut self, kind: IoErrorKind) -> bool {
        self.is_aborted =
            self.is_aborted || kind == IoErrorKind::Medium && self.goes(SyncFailure::JournalFails);
        self.is_aborted
    }

    /// A part of some bytes is on the medium, the rest never will be. What the journal has of the file stays to be synced.
    fn fail_bytes(&mut self, inode: InodeNumber, failed: Failed) {
        let reverts = self.personality == Personality::Btrfs && self.goes(SyncFailure::CacheForgets);
        let whole_pages = self.personality == Personality::Btrfs;
        let forgets_size = self.personality == Personality::Xfs;
        let mut stream = self.take_failed_syncs();
        let mut chosen = self.failed_choice.take();
        let file = self.file_mut(inode);
        if reverts {
            let failed = Failed { reads_old: true, ..failed };
            file.fail_bytes(&failed, inode, &mut NothingSurvives, whole_pages, true);
            file.take_durable_size();
        } else {
            let mut drawn = Drawn::new(&mut stream);
            match &mut chosen {
                Some(choice) => file.fail_bytes(&failed, inode, &mut **choice, whole_pages, forgets_size),
                None => file.fail_bytes(&failed, inode, &mut drawn, whole_pages, forgets_size),
            }
        }
        self.failed_choice = chosen;
        self.failed_syncs = stream;
    }

    /// True if a sync of a file system whose journal failed says that there is nothing to do, as btrfs may: it forgets
    /// that the log, which has all of the file or directory since an earlier sync was tried, was never written. What
    /// changed since then it would have to write, and cannot.
    pub(super) fn is_idle_after_abort(&mut self, inode: InodeNumber) -> bool {
        if !self.is_aborted || self.personality != Personality::Btrfs {
            return false;
        }
        let last = match self.nodes.get(&inode) {
            Some(Node::File(file)) => file.last_number(),
            Some(Node::Directory(directory)) => directory.changes.last().map_or(0, |change| change.number),
            None => 0,
        };
        let tried = self.logged.get(&inode).copied().unwrap_or(0);
        last <= tried && self.goes(SyncFailure::NothingToDo)
    }
}

/// Changes whose bytes could not be written.
pub(super) struct Failed {
    pub(super) first: u64,
    pub(super) last: u64,
    /// They went around the page cache, or it forgot them.
    pub(super) reads_old: bool,
}
