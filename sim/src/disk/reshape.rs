//! What changes a file's room and size without bytes of a caller: zeroed and punched ranges, reserved blocks, truncation.

use super::content::PAGE;
use super::directory::InodeNumber;
use super::inode::{Change, ChangeKind, Route};
use super::{DiskState, Refusal, WriteMode, Written};
use crate::fault::FaultClass;
use holdfast::env::IoErrorKind;

impl DiskState {
    /// Makes the range read as zeros by written blocks.
    pub(crate) fn zero(
        &mut self,
        inode: InodeNumber,
        name: &str,
        offset: u64,
        len: u64,
        mode: WriteMode,
    ) -> Result<Written, Refusal> {
        self.refuse_after_abort(true)?;
        if self.faults.fires(FaultClass::WriteError, name) {
            return Err((IoErrorKind::Medium, "injected write error"));
        }
        self.reserve_for_write(inode, name, offset, len, WriteMode { dsync: true, ..mode })?;
        let number = self.number();
        self.heal(inode, offset, len);
        if len > 0 {
            let change = Change { number, offset, len, kind: ChangeKind::Zero, route: mode.route };
            self.make_change(inode, change, false);
        }
        Ok(Written { count: 0, number })
    }

    /// Gives blocks back; never changes the size.
    pub(crate) fn punch(&mut self, inode: InodeNumber, offset: u64, len: u64) {
        let left = self.file(inode).size.saturating_sub(offset);
        let number = self.number();
        for (offset, len, kind) in self.punched(offset, len, left) {
            let change = Change { number, offset, len, kind, route: Route::Cached };
            self.make_change(inode, change, false);
        }
    }

    /// The parts of a punched range, as far as the file goes, which has `left` bytes from there: a real file system gives
    /// back whole pages, one with the file's end among them, and writes zeros into those at the ends.
    fn punched(&self, offset: u64, len: u64, left: u64) -> Vec<(u64, u64, ChangeKind)> {
        let end = offset.saturating_add(len);
        let (first, last) = (offset.next_multiple_of(PAGE).min(end), end / PAGE * PAGE);
        let parts = if self.is_strict() {
            vec![(offset, end, ChangeKind::Punch)]
        } else if first >= last {
            vec![(offset, end, ChangeKind::Erase)]
        } else {
            vec![
                (offset, first, ChangeKind::Erase),
                (first, last, ChangeKind::Punch),
                (last, end, ChangeKind::Erase),
            ]
        };
        let until = offset.saturating_add(left);
        let clipped = parts.into_iter().map(|(start, end, kind)| (start, end.min(until), kind));
        let with_len = clipped.map(|(start, end, kind)| (start, end.saturating_sub(start), kind));
        with_len.filter(|(_, len, _)| *len > 0).collect()
    }

    /// Reserves blocks and extends the size.
    pub(crate) fn allocate(
        &mut self,
        inode: InodeNumber,
        name: &str,
        offset: u64,
        len: u64,
    ) -> Result<(), Refusal> {
        self.refuse_after_abort(true)?;
        let mode = WriteMode { route: Route::Cached, dsync: true, late: None };
        self.reserve_for_write(inode, name, offset, len, mode)?;
        let before = self.file(inode).content.allocated_pages();
        let number = self.number();
        let file = self.file_mut(inode);
        file.content.allocate(offset, len);
        file.durable.allocate(offset, len);
        if offset + len > file.size {
            file.resize(number, offset + len);
        }
        self.account(inode, before, false);
        Ok(())
    }

    /// Sets the size.
    pub(crate) fn truncate(&mut self, inode: InodeNumber, len: u64) {
        let before = self.file(inode).content.allocated_pages();
        let number = self.number();
        let (is_same, is_strict) = (len == self.file(inode).size, self.is_strict());
        let page_end = len.next_multiple_of(PAGE).min(self.file(inode).size);
        let number = if page_end > len && !is_strict {
            // The rest of the last page is zeroed by a write, which may come before the size.
            let erased = Change {
                number,
                offset: len,
                len: page_end - len,
                kind: ChangeKind::Erase,
                route: Route::Cached,
            };
            self.make_change(inode, erased, false);
            self.number()
        } else {
            number
        };
        let file = self.file_mut(inode);
        if is_same && !is_strict {
            file.set_size_again(number);
        } else {
            file.resize(number, len);
        }
        self.account(inode, before, false);
    }
}
