//! Room on the disk: what is allocated, what is left, and who is refused.
//!
//! Space is counted in pages of the page cache's view, for files that have a name or an open handle. With delayed
//! allocation a cached write is not charged until its file is synced, so it is the sync that learns of a full disk.

use holdfast::env::{FreeSpace, IoErrorKind};

use super::content::PAGE;
use super::directory::InodeNumber;
use super::inode::Route;
use super::{DiskState, Node, Refusal, WriteMode};
use crate::fault::FaultClass;

const FULL: Refusal = (IoErrorKind::Full, "no space left on the simulated disk");

impl DiskState {
    pub(crate) fn free_space(&self) -> FreeSpace {
        FreeSpace {
            bytes: self.space.capacity_bytes.saturating_sub(self.space.used_pages * PAGE),
            inodes: self.space.capacity_inodes.saturating_sub(self.space.used_inodes),
        }
    }

    /// Sets the capacity; what is stored stays, even above it.
    pub(crate) fn set_capacity(&mut self, bytes: u64, inodes: u64) {
        self.space.capacity_bytes = bytes;
        self.space.capacity_inodes = inodes;
    }

    pub(crate) fn set_delayed_allocation(&mut self, delayed: bool) {
        self.space.delayed_allocation = delayed;
    }

    pub(crate) fn set_copy_on_write(&mut self, copies: bool) {
        self.space.copy_on_write = copies;
    }

    pub(crate) fn set_full_in_sync(&mut self, late: bool) {
        self.space.full_in_sync = late;
    }

    /// Refuses the sync in a `dsync` write, where the disk finds out only then that it is full.
    pub(super) fn refuse_sync_of_write(&mut self, name: &str, mode: WriteMode) -> Result<(), Refusal> {
        if mode.dsync && self.space.full_in_sync { self.refuse_space(name) } else { Ok(()) }
    }

    /// Refuses a call that needs space when an injected fault says so.
    pub(super) fn refuse_space(&mut self, name: &str) -> Result<(), Refusal> {
        if self.faults.fires(FaultClass::NoSpace, name) {
            return Err((IoErrorKind::Full, "injected: no space left"));
        }
        Ok(())
    }

    /// The disk is as full as its capacity says: that is the fault, too.
    fn refuse_as_full(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        self.faults.strike(FaultClass::NoSpace);
        Err(refusal)
    }

    fn is_room(&self, pages: u64) -> bool {
        pages == 0 || pages.saturating_mul(PAGE) <= self.free_space().bytes
    }

    /// Makes sure that the range can be written.
    pub(super) fn reserve_for_write(
        &mut self,
        inode: InodeNumber,
        name: &str,
        offset: u64,
        len: u64,
        mode: WriteMode,
    ) -> Result<(), Refusal> {
        let holes = self.file(inode).content.holes(offset, len);
        let copied = if self.space.copy_on_write { len.div_ceil(PAGE) } else { 0 };
        if holes > 0 || copied > 0 || len > 0 && offset + len > self.file(inode).size {
            self.refuse_space(name)?;
        }
        if !self.puts_off(mode) && !self.is_room(holes.max(copied)) {
            return self.refuse_as_full(FULL);
        }
        Ok(())
    }

    /// True if a write of this kind is charged only by the sync.
    pub(super) fn puts_off(&self, mode: WriteMode) -> bool {
        self.space.delayed_allocation && mode.route == Route::Cached && !mode.dsync
    }

    /// A new directory entry needs room.
    pub(super) fn reserve_for_name(&mut self, name: &str) -> Result<(), Refusal> {
        self.refuse_space(name)?;
        if self.is_room(1) { Ok(()) } else { self.refuse_as_full(FULL) }
    }

    /// A new file needs an inode and a directory entry.
    pub(super) fn reserve_for_inode(&mut self, name: &str) -> Result<(), Refusal> {
        self.reserve_for_name(name)?;
        if self.free_space().inodes == 0 {
            return self.refuse_as_full((IoErrorKind::Full, "no inode left on the simulated disk"));
        }
        Ok(())
    }

    /// Brings the account up to date after the file's allocation changed from `before` pages. Growth is charged,
    /// or put off until the sync.
    pub(super) fn account(&mut self, inode: InodeNumber, before: u64, puts_off: bool) {
        let file = self.file_mut(inode);
        let after = file.content.allocated_pages();
        if after >= before {
            let grown = after - before;
            if puts_off {
                file.delayed_pages += grown;
            } else {
                self.space.used_pages += grown;
            }
        } else {
            let shrunk = before - after;
            let put_off = shrunk.min(file.delayed_pages);
            file.delayed_pages -= put_off;
            self.space.used_pages -= shrunk - put_off;
        }
    }

    /// Charges the pages whose allocation was put off.
    pub(super) fn charge_delayed(&mut self, inode: InodeNumber, name: &str) -> Result<(), Refusal> {
        let pages = self.file(inode).delayed_pages;
        if pages == 0 {
            return Ok(());
        }
        self.refuse_space(name)?;
        if !self.is_room(pages) {
            return self.refuse_as_full(FULL);
        }
        self.file_mut(inode).delayed_pages = 0;
        self.space.used_pages += pages;
        Ok(())
    }

    /// Recounts from nothing; after a power loss and after an image was restored.
    pub(super) fn recount(&mut self) {
        self.space.used_pages = 0;
        self.space.used_inodes = 0;
        for (number, node) in &self.nodes {
            if let Node::File(file) = node {
                if file.links > 0 || file.opens > 0 {
                    self.space.used_pages += file.content.allocated_pages() - file.delayed_pages;
                    self.space.used_inodes += 1;
                }
            } else if *number != super::ROOT {
                self.space.used_inodes += 1;
            }
        }
    }
}
