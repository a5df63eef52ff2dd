//! The ways that a failed sync may have gone, and the answers about its bytes that what was seen suggests.
//!
//! The model is the judge of every answer; here they are only guessed. A sector of a failed write is on the medium if it is
//! seen there once the power is gone. What no size shows is guessed both ways, and how far a size is noted by every place.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast::sync::Mutex;
use holdfast_sim::{SECTOR, Survival, SurvivorChoice, SyncFailure, UnsyncedContent};

use crate::file_system::FileSystem;
use crate::model::Images;
use crate::seen::Seen;
use crate::sequence::bytes_of;

/// How far a size may be noted, in places among the candidates.
const SIZES_TRIED: usize = 9;

/// Which way a failed sync went.
#[derive(Clone, Copy, Default)]
pub struct Way {
    journal_fails: bool,
    cache_forgets: bool,
    takes_along: bool,
    nothing_to_do: bool,
}

impl Way {
    /// All that differ.
    pub fn all(file_system: FileSystem) -> Vec<Self> {
        let fails = Self { journal_fails: true, ..Self::default() };
        let along = Self { takes_along: true, ..Self::default() };
        let mut all = vec![Self::default(), along, fails];
        if file_system == FileSystem::Btrfs {
            let forgets = Self { cache_forgets: true, ..Self::default() };
            let forgets_along = Self { takes_along: true, ..forgets };
            all.extend([forgets, forgets_along, Self { nothing_to_do: true, ..fails }]);
        }
        all
    }
}

/// A way, and what of the bytes is there.
#[derive(Clone)]
pub struct Answers {
    way: Way,
    /// By the number of the change; gone if there is none.
    content: BTreeMap<u64, Survival>,
    size: usize,
}

impl Answers {
    /// Nothing of the bytes is there.
    pub fn new(way: Way) -> Self {
        Self { way, content: BTreeMap::new(), size: 0 }
    }
}

/// What the model asked.
#[derive(Default)]
pub struct Asked {
    content: Vec<UnsyncedContent>,
    sizes: usize,
    /// Of each change the operation whose bytes it wrote; none for zeros.
    writers: BTreeMap<u64, u16>,
    /// What was durable of the file before.
    before: Vec<u8>,
}

impl Asked {
    /// Looks up whose bytes the changes are, and what stood there before.
    pub fn learn(
        &mut self,
        images: &Images,
        files: &BTreeMap<String, u64>,
        before: &BTreeMap<String, Vec<u8>>,
    ) {
        for change in self.content.iter().filter(|change| !change.is_zero) {
            if let Some((number, _)) = images.maker(change.number) {
                self.writers.insert(change.number, number);
            }
        }
        let file = self.content.first().map(|change| change.file);
        let path = files.iter().find(|(_, number)| Some(**number) == file);
        self.before = path.and_then(|(path, _)| before.get(path).cloned()).unwrap_or_default();
    }

    /// Answers that one of these views suggests.
    pub fn guesses<'a>(
        &self,
        first: &Answers,
        file_system: FileSystem,
        views: impl Iterator<Item = &'a Seen>,
    ) -> Vec<Answers> {
        let mut contents = vec![BTreeMap::new()];
        for view in views {
            for file in view.files.values() {
                for (hidden, parts) in [(false, false), (true, false), (false, true), (true, true)] {
                    let guess = self.content_in(&file.bytes, file_system, hidden, parts);
                    if !contents.contains(&guess) {
                        contents.push(guess);
                    }
                }
            }
        }
        let sizes = if self.sizes == 0 { 1 } else { SIZES_TRIED };
        let all = contents.into_iter().flat_map(|content| {
            (0..sizes).map(move |size| Answers { way: first.way, content: content.clone(), size })
        });
        all.collect()
    }

    /// Which sectors of the changes these bytes show. What lies behind them is there if `hidden`; with `parts`, what else
    /// stands in a sector is no matter, for other changes that are not asked about may have put it there.
    fn content_in(
        &self,
        seen: &[u8],
        file_system: FileSystem,
        hidden: bool,
        parts: bool,
    ) -> BTreeMap<u64, Survival> {
        let unit = if file_system == FileSystem::Btrfs { 4096 } else { SECTOR };
        let reach = self.content.iter().map(|change| change.offset + change.len).max().unwrap_or(0);
        let mut kept: BTreeMap<u64, Vec<std::ops::Range<u64>>> = BTreeMap::new();
        for start in (0..reach.div_ceil(unit)).map(|place| place * unit) {
            let end = (start + unit).min(seen.len() as u64);
            let wanted = seen.get(start as usize..end.max(start) as usize).unwrap_or_default();
            let mut holds = part_of(&self.before, start, unit);
            let mut last = None;
            for change in &self.content {
                if change.offset >= start + unit || start >= change.offset + change.len {
                    continue;
                }
                self.apply(change, &mut holds, start);
                let until = (change.offset + change.len).min(start + wanted.len() as u64);
                let own = (change.offset.max(start) - start) as usize..until.saturating_sub(start) as usize;
                let shows_own = !own.is_empty() && holds.get(own.clone()) == wanted.get(own);
                if parts && shows_own || (hidden || !wanted.is_empty()) && holds.starts_with(wanted) {
                    last = Some(change);
                }
            }
            if let Some(change) = last {
                let first = change.offset / SECTOR;
                let count = (change.offset + change.len).div_ceil(SECTOR) - first;
                let run =
                    (start / SECTOR).saturating_sub(first)..((start + unit) / SECTOR - first).min(count);
                kept.entry(change.number).or_default().push(run);
            }
        }
        kept.into_iter().map(|(number, runs)| (number, Survival::Torn(runs))).collect()
    }

    fn apply(&self, change: &UnsyncedContent, holds: &mut [u8], start: u64) {
        let from = change.offset.max(start);
        let until = (change.offset + change.len).min(start + holds.len() as u64);
        let part = &mut holds[(from - start) as usize..(until - start) as usize];
        match self.writers.get(&change.number) {
            Some(number) => part.copy_from_slice(&bytes_of(*number, from, until - from)),
            None => part.fill(0),
        }
    }
}

fn part_of(bytes: &[u8], start: u64, unit: u64) -> Vec<u8> {
    let from = (start as usize).min(bytes.len());
    let mut part = bytes[from..bytes.len().min(from + unit as usize)].to_vec();
    part.resize(unit as usize, 0);
    part
}

/// Gives the answers to the model, and notes what it asks.
pub struct Answering {
    pub answers: Answers,
    pub told: Arc<Mutex<Asked>>,
}

impl SurvivorChoice for Answering {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        self.told.lock().content.push(*change);
        self.answers.content.get(&change.number).cloned().unwrap_or(Survival::Gone)
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        self.told.lock().sizes += 1;
        self.answers.size.min(candidates.len() - 1)
    }

    fn name(&mut self, _: u64, _: &str, _: &[Option<u64>]) -> usize {
        0
    }

    fn failed(&mut self, way: SyncFailure) -> Option<bool> {
        let Way { journal_fails, cache_forgets, takes_along, nothing_to_do } = self.answers.way;
        Some(match way {
            SyncFailure::JournalFails => journal_fails,
            SyncFailure::CacheForgets => cache_forgets,
            SyncFailure::TakesAlong => takes_along,
            SyncFailure::NothingToDo => nothing_to_do,
        })
    }
}
