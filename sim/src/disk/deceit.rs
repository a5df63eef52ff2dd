//! What a device does without a word, and what it refuses to read.
//!
//! ```text
//! refuses      ReadError, TransientRead    this call
//!              LostSector                  a sector, until it is written again
//! alters       BitRot                      a bit at rest, for good
//!              StaleRead, MisdirectedRead  what this reader gets; what is at rest stays
//! lies         PhantomWrite                acknowledged, never on the medium; the page cache shows it until the power goes
//!              MisdirectedWrite            on the medium, elsewhere; its place keeps the old bytes
//!              LyingSync                   acknowledged, nothing durable; an honest sync later makes it so
//! ```
//! Each fault that fires is noted with its file and its range, for an oracle must know whose bytes were lied about. A
//! class fires only where it makes a difference: a file of one sector has no other place to read. What was asked for once and
//! found nothing to strike waits for the next call.

use holdfast::env::IoErrorKind;

use super::directory::InodeNumber;
use super::inode::{Change, Route, SECTOR};
use super::{DiskState, Refusal};
use crate::fault::FaultClass;

impl DiskState {
    /// Refuses a read that the device cannot do.
    pub(super) fn refuse_read(
        &mut self,
        inode: InodeNumber,
        name: &str,
        offset: u64,
        len: u64,
    ) -> Result<(), Refusal> {
        let has_lost = !self.file(inode).lost_sectors.is_empty();
        if self.faults.is_quiet() && !has_lost {
            return Ok(());
        }
        if self.faults.fires(FaultClass::ReadError, name) {
            return Err((IoErrorKind::Medium, "injected read error"));
        }
        if self.faults.fires(FaultClass::TransientRead, name) {
            return Err((IoErrorKind::Transient, "injected read error that passes"));
        }
        let end = (offset + len).min(self.file(inode).size);
        if offset >= end {
            return Ok(());
        }
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        if self.faults.fires(FaultClass::LostSector, name) {
            let sector = sectors.start + self.deceits.below(sectors.end - sectors.start);
            self.file_mut(inode).lost_sectors.insert(sector);
            self.faults.note(FaultClass::LostSector, name, sector * SECTOR, SECTOR);
        }
        match self.file(inode).lost_sectors.range(sectors).next() {
            Some(_) => Err((IoErrorKind::Medium, "injected: a sector is lost")),
            None => Ok(()),
        }
    }

    /// Reads what the device gives, which may not be what stands there. The range lies within the file.
    pub(super) fn read_as_device(&mut self, inode: InodeNumber, name: &str, offset: u64, into: &mut [u8]) {
        let len = into.len() as u64;
        if self.faults.is_quiet() || len == 0 {
            self.file(inode).content.read(offset, into);
            return;
        }
        if self.faults.fires(FaultClass::BitRot, name) {
            let (at, bit) = (offset + self.deceits.below(len), self.deceits.below(8));
            let pages = self.file(inode).content.allocated_pages();
            self.file_mut(inode).rot(at, bit as u32);
            self.account(inode, pages, false);
            self.faults.note(FaultClass::BitRot, name, at, 1);
        }
        if self.file(inode).has_before(&(offset..offset + len))
            && self.faults.fires(FaultClass::StaleRead, name)
        {
            self.file(inode).read_before(offset, into);
            self.faults.note(FaultClass::StaleRead, name, offset, len);
            return;
        }
        if self.file(inode).size > SECTOR && self.faults.fires(FaultClass::MisdirectedRead, name) {
            if let Some((other, at)) = self.elsewhere(inode, name, offset, len) {
                self.file(other).content.read(at, into);
                self.faults.note(FaultClass::MisdirectedRead, name, offset, len);
                return;
            }
            self.faults.take_back(FaultClass::MisdirectedRead);
        }
        self.file(inode).content.read(offset, into);
    }

    /// What becomes of a write on its way to the medium; `None` if it never arrives.
    pub(super) fn as_device_writes(
        &mut self,
        inode: InodeNumber,
        name: &str,
        mut change: Change,
    ) -> Option<Change> {
        if self.faults.is_quiet() {
            return Some(change);
        }
        if self.faults.fires(FaultClass::PhantomWrite, name) {
            self.faults.note(FaultClass::PhantomWrite, name, change.offset, change.len);
            let is_cached = change.route == Route::Cached;
            self.harm(FaultClass::PhantomWrite, inode, change.offset, change.len, is_cached);
            if is_cached {
                let before = self.file(inode).content.allocated_pages();
                self.file_mut(inode).pretend(&change);
                self.account(inode, before, false);
            }
            return None;
        }
        let sectors = self.file(inode).size / SECTOR;
        let needs = change.len.div_ceil(SECTOR);
        if sectors > needs && self.faults.fires(FaultClass::MisdirectedWrite, name) {
            self.faults.note(FaultClass::MisdirectedWrite, name, change.offset, change.len);
            self.harm(FaultClass::MisdirectedWrite, inode, change.offset, change.len, false);
            let own = change.offset / SECTOR;
            let drawn = self.deceits.below(sectors - needs);
            let sector = if drawn >= own { drawn + 1 } else { drawn };
            change.offset = sector * SECTOR;
            self.faults.note(FaultClass::MisdirectedWrite, name, change.offset, change.len);
            self.harm(FaultClass::MisdirectedWrite, inode, change.offset, change.len, false);
        }
        Some(change)
    }

    /// True if a sync that covers this range lies.
    pub(super) fn lies(&mut self, name: &str, offset: u64, len: u64) -> bool {
        let lies = self.faults.fires(FaultClass::LyingSync, name);
        if lies {
            self.faults.note(FaultClass::LyingSync, name, offset, len);
        }
        lies
    }
}
