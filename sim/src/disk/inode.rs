//! One file of the simulated disk: what readers see, what is durable, and every change between the two.
//!
//! `content` and `size` are the page cache's view; `durable` and `durable_size` are the medium's. `changes` and
//! `sizes` hold, in the order they were made, what separates them. A sync moves a prefix over; a `dsync` write
//! moves only itself.
//!
//! **What one sector can hold.** A sector is written whole, and with everything the page cache has for it at that
//! moment. So its possible contents after a power loss are its durable content, and its content after each further
//! unsynced change that touches it. [`Inode::survive`] therefore lets each change survive in a set of sectors and
//! gives each sector its content as of the last change that survived there.
//!
//! Invariants: a byte that was made durable is never reached by an older change (a `dsync` write clips them); no
//! change reaches past the size the file had after it.

use std::ops::Range;

use holdfast::env::IoErrorKind;

use super::content::{Content, PAGE};
use super::last_survivor::LastSurvivor;
use super::survivors::{Survival, SurvivorChoice, UnsyncedContent};

/// The unit in which a write is torn, in bytes.
pub const SECTOR: u64 = 512;

/// By which way bytes reach the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    Cached,
    Direct,
}

/// What a change does to its range.
#[derive(Clone)]
pub(crate) enum ChangeKind {
    Write(Box<[u8]>),
    Zero,
    /// Gives room back. What shares a page with bytes that stay is [`ChangeKind::Erase`] on a real file system.
    Punch,
    /// Zeros in the pages at the ends of a punched range, which stay: written as bytes are.
    Erase,
}

/// One unsynced change of content.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) kind: ChangeKind,
    pub(crate) route: Route,
}

impl Change {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// The sectors it touches.
    pub(crate) fn sectors(&self) -> Range<u64> {
        self.offset / SECTOR..self.end().div_ceil(SECTOR)
    }

    /// What is asked about it at a power loss.
    pub(super) fn question(&self, file: u64) -> UnsyncedContent {
        let sectors = self.sectors();
        UnsyncedContent {
            file,
            number: self.number,
            offset: self.offset,
            len: self.len,
            sectors: sectors.end - sectors.start,
            is_zero: !matches!(self.kind, ChangeKind::Write(_)),
            is_hole: !self.is_written(),
        }
    }

    /// Carries out the part of the change that lies in `clip`.
    pub(crate) fn apply(&self, content: &mut Content, clip: &Range<u64>) {
        let from = self.offset.max(clip.start);
        let until = self.end().min(clip.end);
        if from >= until {
            return;
        }
        match &self.kind {
            ChangeKind::Write(bytes) => {
                let part = memory(from - self.offset)..memory(until - self.offset);
                content.write(from, &bytes[part]);
            }
            ChangeKind::Zero => content.zero(from, until - from),
            ChangeKind::Punch | ChangeKind::Erase => content.punch(from, until - from),
        }
    }

    /// True if it is a part of a hole.
    pub(super) fn is_punched(&self) -> bool {
        matches!(self.kind, ChangeKind::Punch | ChangeKind::Erase)
    }

    /// True if it reaches the medium as bytes do, and false if the journal has it.
    pub(super) fn is_written(&self) -> bool {
        !matches!(self.kind, ChangeKind::Punch)
    }

    /// What of the change lies in these sectors, if anything does.
    pub(super) fn part_in(&self, sectors: &Range<u64>) -> Option<Self> {
        let (from, until) = (self.offset.max(sectors.start * SECTOR), self.end().min(sectors.end * SECTOR));
        let kind = match &self.kind {
            _ if from >= until => return None,
            ChangeKind::Write(bytes) => {
                ChangeKind::Write(bytes[memory(from - self.offset)..memory(until - self.offset)].into())
            }
            other => other.clone(),
        };
        Some(Self { number: self.number, offset: from, len: until - from, kind, route: self.route })
    }

    /// What is left of the change outside of `range`.
    fn outside(self, range: &Range<u64>, into: &mut Vec<Self>) {
        if self.end() <= range.start || self.offset >= range.end {
            into.push(self);
            return;
        }
        for (from, until) in [(self.offset, range.start), (range.end, self.end())] {
            if from >= until {
                continue;
            }
            let kind = match &self.kind {
                ChangeKind::Write(bytes) => {
                    ChangeKind::Write(bytes[memory(from - self.offset)..memory(until - self.offset)].into())
                }
                other => other.clone(),
            };
            into.push(Self { number: self.number, offset: from, len: until - from, kind, route: self.route });
        }
    }
}

fn memory(value: u64) -> usize {
    usize::try_from(value).expect("a simulated write fits memory")
}

/// One file.
#[derive(Clone, Default)]
pub(crate) struct Inode {
    pub(crate) content: Content,
    pub(crate) size: u64,
    pub(crate) durable: Content,
    pub(crate) durable_size: u64,
    pub(crate) changes: Vec<Change>,
    /// Number and value of each unsynced change of size.
    pub(crate) sizes: Vec<(u64, u64)>,
    /// A sync failed once, so the page cache may differ from the medium without any change in between.
    diverged: bool,
    /// What stood in `before_pages` before the last write of each, for stale reads.
    before: Content,
    before_pages: std::collections::BTreeSet<u64>,
    /// Sectors that cannot be read until they are written again.
    pub(crate) lost_sectors: std::collections::BTreeSet<u64>,
    /// Numbers of changes whose bytes could not be written, and whose sizes may be among `sizes`.
    pub(super) failed_growth: std::collections::BTreeSet<u64>,
    /// A direct write failed like this, and the next sync tells of it once more.
    pub(crate) tells_again: Option<IoErrorKind>,
    /// Names in the page cache's view of the directories.
    pub(crate) links: u64,
    /// Open handles of living processes.
    pub(crate) opens: u64,
    /// Durable names, and names in unsynced directory changes.
    pub(crate) anchors: u64,
    /// Pages written but not yet charged against the capacity (delayed allocation).
    pub(crate) delayed_pages: u64,
}

impl Inode {
    /// Remembers what a change is about to write over.
    pub(crate) fn keep_before(&mut self, change: &Change) {
        self.before.share(&self.content, change.offset, change.len);
        self.before_pages.extend(change.offset / PAGE..change.end().div_ceil(PAGE));
    }

    /// True if a part of the range was written since what stands before writes is remembered.
    pub(crate) fn has_before(&self, range: &Range<u64>) -> bool {
        self.before_pages.range(range.start / PAGE..range.end.div_ceil(PAGE)).next().is_some()
    }

    /// Reads what stood there before the last write of each page, as far as it is remembered.
    pub(crate) fn read_before(&self, offset: u64, into: &mut [u8]) {
        self.content.read(offset, into);
        let end = offset + into.len() as u64;
        for page in self.before_pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let (from, until) = ((page * PAGE).max(offset), ((page + 1) * PAGE).min(end));
            self.before.read(from, &mut into[memory(from - offset)..memory(until - offset)]);
        }
    }

    /// Writes into the page cache what no sync will find.
    pub(crate) fn pretend(&mut self, change: &Change) {
        change.apply(&mut self.content, &(0..u64::MAX));
        self.size = self.size.max(change.end());
        self.diverged = true;
    }

    /// Flips a bit at rest: for readers, and on the medium if the byte is there.
    pub(crate) fn rot(&mut self, offset: u64, bit: u32) {
        let flip = |content: &mut Content| {
            let mut byte = [0];
            content.read(offset, &mut byte);
            content.write(offset, &[byte[0] ^ 1 << (bit % 8)]);
        };
        flip(&mut self.content);
        if offset < self.durable_size {
            flip(&mut self.durable);
        }
    }

    /// Makes a change in the page cache and notes it as unsynced.
    pub(crate) fn change(&mut self, change: Change) {
        if !self.lost_sectors.is_empty() {
            let written = change.offset.div_ceil(SECTOR)..change.end() / SECTOR;
            self.lost_sectors.retain(|sector| !written.contains(sector));
        }
        change.apply(&mut self.content, &(0..u64::MAX));
        if change.end() > self.size {
            self.size = change.end();
            self.sizes.push((change.number, self.size));
        }
        self.changes.push(change);
    }

    /// Sets the size in the page cache's view and notes it as unsynced. Bytes cut off are gone for good.
    pub(crate) fn resize(&mut self, number: u64, size: u64) {
        if size < self.size {
            let len = self.size - size;
            let kind = ChangeKind::Punch;
            self.content.cut(size);
            self.changes.push(Change { number, offset: size, len, kind, route: Route::Cached });
        }
        if size != self.size {
            self.size = size;
            self.sizes.push((number, size));
        }
    }

    /// Sets the size to what it is. A file system notes it without the bytes that made it so.
    pub(crate) fn set_size_again(&mut self, number: u64) {
        if !self.sizes.is_empty() {
            self.sizes.push((number, self.size));
        }
    }

    /// True if the unsynced writes came by the other route. All of them came by one, so the last one answers.
    pub(crate) fn is_mixed_by(&self, route: Route) -> bool {
        let mut writes =
            self.changes.iter().rev().filter(|change| matches!(change.kind, ChangeKind::Write(_)));
        writes.next().is_some_and(|change| change.route != route)
    }

    /// Number of the last change, 0 if everything is synced.
    pub(crate) fn last_number(&self) -> u64 {
        let content = self.changes.last().map_or(0, |change| change.number);
        content.max(self.sizes.last().map_or(0, |size| size.0))
    }

    /// True if a change up to this one is not durable yet.
    pub(crate) fn is_unsynced_up_to(&self, last: u64) -> bool {
        let content = self.changes.first().map(|change| change.number);
        let size = self.sizes.first().map(|size| size.0);
        content.into_iter().chain(size).any(|first| first <= last)
    }

    /// Makes every change up to `watermark` durable.
    pub(crate) fn settle(&mut self, watermark: u64) {
        let synced = self.changes.partition_point(|change| change.number <= watermark);
        let is_all = synced == self.changes.len();
        for change in self.changes.drain(..synced) {
            if is_all && !self.diverged {
                self.durable.share(&self.content, change.offset, change.len);
            } else if is_all && matches!(change.kind, ChangeKind::Write(_)) {
                // A sector goes to the medium with everything the page cache has for it.
                let sectors = change.sectors();
                let mut bytes = vec![0; memory((sectors.end - sectors.start) * SECTOR)];
                self.content.read(sectors.start * SECTOR, &mut bytes);
                self.durable.write(sectors.start * SECTOR, &bytes);
            } else {
                change.apply(&mut self.durable, &(0..u64::MAX));
            }
        }
        let sizes = self.sizes.partition_point(|size| size.0 <= watermark);
        let last = self.sizes.drain(..sizes).next_back();
        if let Some((_, size)) = last {
            self.set_durable_size(size);
        }
    }

    /// Makes the write `number` durable and nothing else, except what shares its sectors.
    pub(crate) fn settle_only(&mut self, number: u64) {
        let Some(last) = self.changes.iter().rposition(|change| change.number == number) else {
            return;
        };
        let (mut start, mut end) = (u64::MAX, 0);
        for change in self.changes.iter().filter(|change| change.number == number) {
            start = start.min(change.offset);
            end = end.max(change.end());
        }
        if last == 0 && self.changes.len() == 1 && !self.diverged {
            self.durable.share(&self.content, start, end - start);
            self.changes.clear();
        } else {
            let sectors = start / SECTOR * SECTOR..end.div_ceil(SECTOR) * SECTOR;
            for change in &self.changes[..=last] {
                change.apply(&mut self.durable, &sectors);
            }
            let mut kept = Vec::with_capacity(self.changes.len());
            for (position, change) in self.changes.drain(..).enumerate() {
                if position <= last {
                    change.outside(&sectors, &mut kept);
                } else {
                    kept.push(change);
                }
            }
            self.changes = kept;
        }
        // The size that makes the bytes readable goes with them; a smaller one can no longer survive.
        if let Some((_, size)) = self.sizes.iter().copied().find(|size| size.0 == number) {
            self.set_durable_size(size);
            self.sizes.retain(|size| size.0 > number);
        } else if end > self.durable_size {
            self.durable_size = end;
        }
        self.sizes.retain(|size| size.0 > number || size.1 >= end);
    }

    pub(super) fn set_durable_size(&mut self, size: u64) {
        if size < self.durable_size {
            self.durable.cut(size);
        }
        self.durable_size = size;
    }

    /// Lets a legal subset of the changes up to `watermark` reach the medium, and forgets the others.
    pub(crate) fn survive(&mut self, watermark: u64, file: u64, choice: &mut dyn SurvivorChoice) {
        let count = self.changes.partition_point(|change| change.number <= watermark);
        let changes: Vec<Change> = self.changes.drain(..count).collect();
        let mut last = LastSurvivor::default();
        for (position, change) in changes.iter().enumerate() {
            let sectors = change.sectors();
            match choice.content(&change.question(file)) {
                Survival::Gone => {}
                Survival::Whole => last.set(sectors, position),
                Survival::Torn(runs) => {
                    for run in runs {
                        let start = (sectors.start + run.start).min(sectors.end);
                        let end = (sectors.start + run.end).min(sectors.end);
                        last.set(start..end, position);
                    }
                }
            }
        }
        for (position, change) in changes.iter().enumerate() {
            last.each_from(&change.sectors(), position, |sectors| {
                change.apply(&mut self.durable, &(sectors.start * SECTOR..sectors.end * SECTOR));
            });
        }
        self.survive_sizes(watermark, file, choice);
    }

    fn survive_sizes(&mut self, watermark: u64, file: u64, choice: &mut dyn SurvivorChoice) {
        let count = self.sizes.partition_point(|size| size.0 <= watermark);
        if count > 0 {
            let mut candidates = vec![self.durable_size];
            candidates.extend(self.sizes.drain(..count).map(|size| size.1));
            candidates.dedup();
            let pick = choice.size(file, &candidates).min(candidates.len() - 1);
            self.set_durable_size(candidates[pick]);
        }
        self.durable.cut(self.durable_size);
    }

    /// A sync up to `watermark` failed: part of it reached the medium, the rest never will.
    pub(crate) fn fail_sync(
        &mut self,
        watermark: u64,
        file: u64,
        choice: &mut dyn SurvivorChoice,
        reads_old: bool,
    ) {
        let count = self.changes.partition_point(|change| change.number <= watermark);
        let touched: Vec<(u64, u64)> =
            self.changes[..count].iter().map(|change| (change.offset, change.len)).collect();
        self.survive(watermark, file, choice);
        self.diverged = true;
        if reads_old {
            self.read_old(&touched);
        }
    }

    /// The `dsync` write `number` failed: the same for it alone.
    pub(crate) fn fail_only(
        &mut self,
        number: u64,
        file: u64,
        choice: &mut dyn SurvivorChoice,
        reads_old: bool,
    ) {
        let is_it = |change: &Change| change.number == number;
        let Some(position) = self.changes.iter().position(is_it) else {
            return;
        };
        let touched = (self.changes[position].offset, self.changes[position].len);
        // Alone, the change survives or not by the same rules; then the others come back.
        let change = self.changes.remove(position);
        let others = std::mem::replace(&mut self.changes, vec![change]);
        let size = self.sizes.iter().position(|size| size.0 == number).map(|size| self.sizes.remove(size));
        let other_sizes = std::mem::replace(&mut self.sizes, size.into_iter().collect());
        self.survive(u64::MAX, file, choice);
        self.changes = others;
        self.sizes = other_sizes;
        self.diverged = true;
        if reads_old {
            self.read_old(&[touched]);
        }
    }

    /// The page cache may differ from the medium from now on.
    pub(super) fn diverge(&mut self) {
        self.diverged = true;
    }

    /// Lets ranges read what the medium has, and what was changed since.
    pub(super) fn read_old(&mut self, ranges: &[(u64, u64)]) {
        for (offset, len) in ranges {
            self.content.share(&self.durable, *offset, *len);
        }
        self.content.cut(self.size);
        for change in &self.changes {
            change.apply(&mut self.content, &(0..self.size));
        }
    }

    /// The page cache is gone: what is on the medium is all there is.
    pub(crate) fn forget_cache(&mut self) {
        self.content = self.durable.clone();
        self.size = self.durable_size;
        self.changes.clear();
        self.sizes.clear();
        self.diverged = false;
        self.tells_again = None;
        self.failed_growth.clear();
        self.opens = 0;
        self.delayed_pages = 0;
    }
}
