//! Which of several changes of a sector is the last that survives in it: a sector holds its content as of that one.

use std::collections::BTreeMap;
use std::ops::Range;

/// For each sector, the position of the last change that survives there. Later changes are set later, so setting
/// overwrites.
#[derive(Default)]
pub(super) struct LastSurvivor {
    /// Disjoint runs of sectors: start → (end, position).
    runs: BTreeMap<u64, (u64, usize)>,
}

impl LastSurvivor {
    pub(super) fn set(&mut self, sectors: Range<u64>, position: usize) {
        if sectors.is_empty() {
            return;
        }
        let overlapping: Vec<(u64, (u64, usize))> = self
            .runs
            .range(..sectors.end)
            .rev()
            .take_while(|(_, (end, _))| *end > sectors.start)
            .map(|(start, run)| (*start, *run))
            .collect();
        for (start, (end, older)) in overlapping {
            self.runs.remove(&start);
            if start < sectors.start {
                self.runs.insert(start, (sectors.start, older));
            }
            if end > sectors.end {
                self.runs.insert(sectors.end, (end, older));
            }
        }
        self.runs.insert(sectors.start, (sectors.end, position));
    }

    /// True if in every sector a change survived that is the one at `position` or a later one.
    pub(super) fn covers(&self, sectors: &Range<u64>, position: usize) -> bool {
        let mut missing = sectors.end.saturating_sub(sectors.start);
        if missing > 0 {
            self.each_from(sectors, position, |run| missing -= run.end - run.start);
        }
        missing == 0
    }

    /// Calls `visit` with each run inside `sectors` whose last survivor is `position` or later.
    pub(super) fn each_from(&self, sectors: &Range<u64>, position: usize, mut visit: impl FnMut(Range<u64>)) {
        let before = self.runs.range(..sectors.start).next_back();
        for (start, (end, last)) in before.into_iter().chain(self.runs.range(sectors.clone())) {
            let run = (*start).max(sectors.start)..(*end).min(sectors.end);
            if *last >= position && run.start < run.end {
                visit(run);
            }
        }
    }
}
