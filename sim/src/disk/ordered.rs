//! One file at a power loss under a personality that keeps order: what may be left of its bytes and its size.
//!
//! Writes survive by choice, in whole pages where the file system copies on write; zeros that are written are writes.
//! Where no zeros are exposed, a size that a write made survives only if every sector by which the file grew to it has
//! survived with the bytes that it grew by. A write that makes a file grow over several pages may be there up to the end
//! of any of them. Sizes that were set and punched pages go through the journal: what is before its [`Cut`] is there,
//! what is behind it is not, and each is there whole.

use std::ops::Range;

use super::content::PAGE;
use super::inode::{Change, Inode, SECTOR};
use super::last_survivor::LastSurvivor;
use super::personality::Failed;
use super::survivors::{Survival, SurvivorChoice};

/// Ends of pages of one write up to which its file may have grown.
const PAGES_ON_THE_WAY_MAX: u64 = 32;

/// Where the journal was cut: changes up to `after` are there, changes from `before` on are not.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) after: u64,
    pub(super) before: u64,
}

/// What a file system adds to these rules.
#[derive(Clone, Copy)]
pub(super) struct Ways {
    /// It copies on write: of a page all sectors survive, or none.
    pub(super) whole_pages: bool,
    /// It notes a size when the bytes are on their way, and not when they are there: zeros show where they are not.
    pub(super) exposes_zeros: bool,
}

impl Inode {
    /// Lets a legal subset of the unsynced changes reach the medium, and forgets the others.
    pub(super) fn survive_ordered(
        &mut self,
        file: u64,
        choice: &mut dyn SurvivorChoice,
        cut: Cut,
        ways: Ways,
    ) {
        let changes = std::mem::take(&mut self.changes);
        let mut survived: Vec<Vec<Range<u64>>> = Vec::with_capacity(changes.len());
        let mut written = LastSurvivor::default();
        for (position, change) in changes.iter().enumerate() {
            let sets_size = !change.is_written() && self.sizes.iter().any(|size| size.0 == change.number);
            let answer = if sets_size { Survival::Gone } else { choice.content(&change.question(file)) };
            let runs = runs_of(change, answer, ways.whole_pages);
            if change.is_written() {
                runs.iter().for_each(|run| written.set(run.clone(), position));
            }
            survived.push(runs);
        }
        let (size_number, size) = self.survive_size(file, choice, cut, &changes, &|number, grown| {
            ways.exposes_zeros || self.covers_growth(&changes, &written, number, grown)
        });
        let mut last = LastSurvivor::default();
        for (position, (change, runs)) in changes.iter().zip(survived).enumerate() {
            if change.is_written() {
                runs.into_iter().for_each(|run| last.set(run, position));
                continue;
            }
            let sets_size = self.sizes.iter().any(|size| size.0 == change.number);
            let is_there = change.number <= size_number
                || change.number <= cut.after
                || !sets_size && !runs.is_empty() && change.number < cut.before;
            if is_there {
                last.set(change.sectors(), position);
            }
        }
        for (position, change) in changes.iter().enumerate() {
            last.each_from(&change.sectors(), position, |sectors| {
                change.apply(&mut self.durable, &(sectors.start * SECTOR..sectors.end * SECTOR));
            });
        }
        self.sizes.clear();
        self.set_durable_size(size);
        self.durable.cut(self.durable_size);
    }

    /// Chooses among the legal sizes; gives the one chosen, and the number of its change, 0 for the durable one.
    fn survive_size(
        &self,
        file: u64,
        choice: &mut dyn SurvivorChoice,
        cut: Cut,
        changes: &[Change],
        is_covered: &dyn Fn(u64, u64) -> bool,
    ) -> (u64, u64) {
        // A size whose bytes could not be written waits for no journal either.
        let by_write = |number: u64| {
            self.failed_growth.contains(&number)
                || changes.iter().any(|change| change.is_written() && change.number == number)
        };
        let was_set = |number: u64| number > 0 && !by_write(number);
        let must =
            self.sizes.iter().map(|size| size.0).filter(|number| was_set(*number) && *number <= cut.after);
        let floor = must.max().unwrap_or(0);
        let cannot =
            self.sizes.iter().map(|size| size.0).find(|number| was_set(*number) && *number >= cut.before);
        let ceiling = cannot.unwrap_or(u64::MAX);
        let mut candidates = vec![(0, self.durable_size)];
        let on_the_way = self.sizes_on_the_way(changes, &by_write);
        candidates.extend(on_the_way.into_iter().filter(|(number, size)| is_covered(*number, *size)));
        candidates.extend(self.sizes_of_holes(changes));
        candidates.sort_by_key(|candidate| candidate.0);
        candidates.retain(|(number, _)| *number < ceiling);
        // Where the bytes for a later size are missing, the last size that was set is the least that is there.
        if candidates.iter().any(|(number, _)| *number >= floor) {
            candidates.retain(|(number, _)| *number >= floor);
        } else {
            candidates = self.sizes.iter().copied().filter(|size| size.0 == floor).collect();
        }
        if candidates.len() < 2 {
            return candidates.first().copied().unwrap_or((0, self.durable_size));
        }
        let sizes: Vec<u64> = candidates.iter().map(|candidate| candidate.1).collect();
        candidates[choice.size(file, &sizes).min(sizes.len() - 1)]
    }

    /// True if the bytes are there with which writes made the file grow to this size, up to the change of this number.
    fn covers_growth(&self, changes: &[Change], written: &LastSurvivor, number: u64, size: u64) -> bool {
        let sizes_before = self.sizes.iter().filter(|other| other.0 <= number).map(|other| other.1);
        let least = sizes_before.fold(self.durable_size, u64::min);
        let grew = |change: &Change| change.number <= number && self.size_before(change.number).is_some();
        let mut all = changes.iter().enumerate().filter(|(_, change)| change.is_written() && grew(change));
        all.all(|(position, change)| {
            let sectors = change.sectors();
            let grown = sectors.start.max(least / SECTOR)..sectors.end.min(size.div_ceil(SECTOR));
            written.covers(&grown, position)
        })
    }

    /// The size before the change of this number, if that is an unsynced change of the size.
    fn size_before(&self, number: u64) -> Option<u64> {
        let place = self.sizes.iter().position(|size| size.0 == number)?;
        Some(place.checked_sub(1).map_or(self.durable_size, |before| self.sizes[before].1))
    }

    /// Every unsynced size with the number of its change, and before one that a write made the ends of the pages that it
    /// grew over: a page goes to the medium with the size that it needs before the next one does.
    fn sizes_on_the_way(&self, changes: &[Change], by_write: &dyn Fn(u64) -> bool) -> Vec<(u64, u64)> {
        let mut all = Vec::with_capacity(self.sizes.len());
        for (number, size) in &self.sizes {
            if by_write(*number) {
                let before = self.size_before(*number).unwrap_or(self.durable_size);
                let offsets =
                    changes.iter().filter(|change| change.number == *number).map(|change| change.offset);
                let ends = pages_grown_over(before, offsets.min().unwrap_or(before), *size);
                all.extend(ends.map(|end| (*number, end)));
            }
            all.push((*number, *size));
        }
        all
    }

    /// Where holes end that were punched before a size was durable. A file system that punches notes so much of the size
    /// at once, without the bytes.
    fn sizes_of_holes(&self, changes: &[Change]) -> Vec<(u64, u64)> {
        let punched = changes.iter().filter(|change| change.is_punched());
        let in_growth = |hole: &Change| {
            let sizes = self.sizes.iter().filter(|size| size.0 < hole.number).map(|size| size.1);
            let is_set = self.sizes.iter().any(|size| size.0 == hole.number);
            !is_set && hole.end() > self.durable_size && sizes.max().is_some_and(|size| hole.end() < size)
        };
        punched.filter(|hole| in_growth(hole)).map(|hole| (hole.number, hole.end())).collect()
    }

    /// Number of the last change up to `watermark` that goes through the journal: of the size, or without bytes.
    pub(super) fn last_metadata(&self, watermark: u64) -> u64 {
        let sizes = self.sizes.iter().map(|size| size.0);
        let ranges = self.changes.iter().filter(|change| !change.is_written()).map(|change| change.number);
        sizes.chain(ranges).filter(|number| *number <= watermark).max().unwrap_or(0)
    }

    /// Bytes could not be written: each change of them survives in a part or not, and is forgotten. A size that one of
    /// them made stays to be synced, unless the file system notes it only with the bytes, and they are not all there.
    pub(super) fn fail_bytes(
        &mut self,
        failed: &Failed,
        file: u64,
        choice: &mut dyn SurvivorChoice,
        whole_pages: bool,
        forgets_size: bool,
    ) {
        let is_failed =
            |change: &Change| change.is_written() && (failed.first..=failed.last).contains(&change.number);
        let mut last = LastSurvivor::default();
        let mut parts = Vec::new();
        for (position, change) in self.changes.iter().enumerate().filter(|(_, change)| is_failed(change)) {
            let runs = runs_of(change, choice.content(&change.question(file)), whole_pages);
            let kept: u64 = runs.iter().map(|run| run.end - run.start).sum();
            let is_whole = kept == change.sectors().end - change.sectors().start;
            if let Some(place) = self.sizes.iter().position(|size| size.0 == change.number)
                && forgets_size
                && !is_whole
            {
                // So far as pages of it were written, zeros before its first byte among them, the size is noted.
                let before = place.checked_sub(1).map_or(self.durable_size, |before| self.sizes[before].1);
                let mut candidates = vec![before];
                candidates.extend(pages_grown_over(before, change.offset, self.sizes[place].1));
                let pick = choice.size(file, &candidates).min(candidates.len() - 1);
                if pick == 0 {
                    self.sizes.remove(place);
                } else {
                    self.sizes[place].1 = candidates[pick];
                }
            }
            if whole_pages {
                // Copied on write, they are nowhere to be found before the next sync tells where they are.
                parts.extend(runs.into_iter().filter_map(|run| change.part_in(&run)));
            } else {
                runs.into_iter().for_each(|run| last.set(run, position));
            }
        }
        for (position, change) in self.changes.iter().enumerate().filter(|(_, change)| is_failed(change)) {
            last.each_from(&change.sectors(), position, |sectors| {
                change.apply(&mut self.durable, &(sectors.start * SECTOR..sectors.end * SECTOR));
            });
        }
        let (gone, kept): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut self.changes).into_iter().partition(is_failed);
        self.changes = kept;
        self.changes.extend(parts);
        self.changes.sort_by_key(|change| change.number);
        self.failed_growth.extend(gone.iter().map(|change| change.number));
        self.diverge();
        if failed.reads_old {
            let ranges: Vec<(u64, u64)> = gone.iter().map(|change| (change.offset, change.len)).collect();
            self.read_old(&ranges);
        }
    }

    /// After a failed sync of which nothing came through and which the page cache forgot, too: the size is what it was.
    pub(super) fn take_durable_size(&mut self) {
        self.size = self.sizes.last().map_or(self.durable_size, |size| size.1);
        self.content.cut(self.size);
    }
}

/// The ends of pages that go to the medium when a write from `offset` makes a file grow from `before` to `size`, but for the
/// last one: those that it writes, and the one in which the file ended, for its rest is filled with zeros. A hole between
/// them is not written. Of a long write, ends at even distances stand for all.
fn pages_grown_over(before: u64, offset: u64, size: u64) -> impl Iterator<Item = u64> {
    let end = before.next_multiple_of(PAGE);
    let filled = (end > before && end < size).then_some(end);
    let first = (offset.max(before) / PAGE + 1).max(end / PAGE + u64::from(filled.is_some()));
    let last = size.div_ceil(PAGE);
    let step = last.saturating_sub(first).div_ceil(PAGES_ON_THE_WAY_MAX).max(1);
    let written = (first..last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    filled.into_iter().chain(written.map(|page| page * PAGE))
}

/// The sectors that survive of a change. Of a page that survives at all under copy on write, all sectors do.
fn runs_of(change: &Change, survival: Survival, whole_pages: bool) -> Vec<Range<u64>> {
    let sectors = change.sectors();
    let runs = match survival {
        Survival::Gone => Vec::new(),
        Survival::Whole => vec![sectors.clone()],
        Survival::Torn(runs) => runs
            .into_iter()
            .map(|run| {
                (sectors.start + run.start).min(sectors.end)..(sectors.start + run.end).min(sectors.end)
            })
            .filter(|run| !run.is_empty())
            .collect(),
    };
    if !whole_pages {
        return runs;
    }
    let in_page = PAGE / SECTOR;
    runs.into_iter().map(|run| run.start / in_page * in_page..run.end.div_ceil(in_page) * in_page).collect()
}
