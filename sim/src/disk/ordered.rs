//! One file at a power loss under a personality that keeps order: what may be left of its bytes and its size.
//!
//! Writes survive by choice, in whole pages where the file system copies on write. A size that a write made survives
//! only if every sector by which the file grew to it has survived with the bytes that it grew by, so that no zeros are
//! exposed. Sizes that were set, zeroed and punched ranges go through the journal: what is before its [`Cut`] is there,
//! what is behind it is not, and each is there whole.

use std::ops::Range;

use super::content::PAGE;
use super::inode::{Change, ChangeKind, Inode, LastSurvivor, SECTOR};
use super::survivors::{Survival, SurvivorChoice};

/// Where the journal was cut: changes up to `after` are there, changes from `before` on are not.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) after: u64,
    pub(super) before: u64,
}

impl Inode {
    /// Lets a legal subset of the unsynced changes reach the medium, and forgets the others.
    pub(super) fn survive_ordered(
        &mut self,
        file: u64,
        choice: &mut dyn SurvivorChoice,
        cut: Cut,
        whole_pages: bool,
    ) {
        let changes = std::mem::take(&mut self.changes);
        let mut survived: Vec<Vec<Range<u64>>> = Vec::with_capacity(changes.len());
        let mut written = LastSurvivor::default();
        for (position, change) in changes.iter().enumerate() {
            let sets_size = !is_write(change) && self.sizes.iter().any(|size| size.0 == change.number);
            let answer = if sets_size { Survival::Gone } else { choice.content(&change.question(file)) };
            let runs = runs_of(change, answer, whole_pages);
            if is_write(change) {
                runs.iter().for_each(|run| written.set(run.clone(), position));
            }
            survived.push(runs);
        }
        let size_number = self.survive_size(file, choice, cut, &changes, &written);
        let mut last = LastSurvivor::default();
        for (position, (change, runs)) in changes.iter().zip(survived).enumerate() {
            if is_write(change) {
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
        let size = self.sizes.iter().find(|size| size.0 == size_number).map(|size| size.1);
        self.sizes.clear();
        self.set_durable_size(size.unwrap_or(self.durable_size));
        self.durable.cut(self.durable_size);
    }

    /// Chooses among the legal sizes; gives the number of the one chosen, 0 for the durable one.
    fn survive_size(
        &self,
        file: u64,
        choice: &mut dyn SurvivorChoice,
        cut: Cut,
        changes: &[Change],
        written: &LastSurvivor,
    ) -> u64 {
        let by_write = |number: u64| changes.iter().any(|change| is_write(change) && change.number == number);
        let was_set = |number: u64| number > 0 && !by_write(number);
        let must =
            self.sizes.iter().map(|size| size.0).filter(|number| was_set(*number) && *number <= cut.after);
        let floor = must.max().unwrap_or(0);
        let cannot =
            self.sizes.iter().map(|size| size.0).find(|number| was_set(*number) && *number >= cut.before);
        let ceiling = cannot.unwrap_or(u64::MAX);
        let is_covered = |(number, size): &(u64, u64)| {
            let sizes_before = self.sizes.iter().filter(|other| other.0 <= *number).map(|other| other.1);
            let least = sizes_before.fold(self.durable_size, u64::min);
            let grown = least / SECTOR..size.div_ceil(SECTOR);
            let grew = |change: &Change| {
                change.number <= *number && self.sizes.iter().any(|other| other.0 == change.number)
            };
            changes.iter().enumerate().filter(|(_, change)| is_write(change) && grew(change)).all(
                |(position, change)| {
                    let sectors = change.sectors();
                    written.covers(&(sectors.start.max(grown.start)..sectors.end.min(grown.end)), position)
                },
            )
        };
        let mut candidates = vec![(0, self.durable_size)];
        candidates.extend(self.sizes.iter().filter(|size| is_covered(size)));
        candidates.retain(|(number, _)| *number < ceiling);
        // Where the bytes for a later size are missing, the last size that was set is the least that is there.
        if candidates.iter().any(|(number, _)| *number >= floor) {
            candidates.retain(|(number, _)| *number >= floor);
        } else {
            candidates = self.sizes.iter().copied().filter(|size| size.0 == floor).collect();
        }
        if candidates.len() < 2 {
            return candidates.first().map_or(0, |candidate| candidate.0);
        }
        let sizes: Vec<u64> = candidates.iter().map(|candidate| candidate.1).collect();
        candidates[choice.size(file, &sizes).min(sizes.len() - 1)].0
    }

    /// Number of the last change up to `watermark` that goes through the journal: of the size, or without bytes.
    pub(super) fn last_metadata(&self, watermark: u64) -> u64 {
        let sizes = self.sizes.iter().map(|size| size.0);
        let ranges = self.changes.iter().filter(|change| !is_write(change)).map(|change| change.number);
        sizes.chain(ranges).filter(|number| *number <= watermark).max().unwrap_or(0)
    }

    /// After a failed sync of which nothing came through: the size is what it was, unless it was changed since.
    pub(super) fn take_durable_size(&mut self) {
        self.size = self.sizes.last().map_or(self.durable_size, |size| size.1);
        self.content.cut(self.size);
    }
}

fn is_write(change: &Change) -> bool {
    matches!(change.kind, ChangeKind::Write(_))
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
