//! Who decides what survives a power loss or a failed sync.
//!
//! The disk asks a [`SurvivorChoice`] one question for each unsynced change, always in the same order: per file its
//! changes of content in the order they were made, then its size; then name by name the directory entries. Every
//! answer is legal, so an explorer that enumerates answers enumerates exactly the legal survivor sets
//! ([`Odometer`]).

use std::ops::Range;

use crate::log::Detail;
use crate::options::Ratio;
use crate::stream::{Stream, StreamClass};
use crate::trace::{Event, Trace};

/// A change of content that is not durable.
#[derive(Clone, Copy, Debug)]
pub struct UnsyncedContent {
    /// Number of the file, the same in every run of a seed.
    pub file: u64,
    /// Number of the change among all changes of the disk, in the order in which they were made.
    pub number: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Sectors it touches.
    pub sectors: u64,
    /// It makes zeros, so tearing it rarely shows.
    pub is_zero: bool,
    /// It gives room back and writes nothing: a file system with a journal has it whole or not at all.
    pub is_hole: bool,
}

/// What becomes of an unsynced change of content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Survival {
    /// No sector of it reached the medium.
    Gone,
    /// All of it did.
    Whole,
    /// These runs of sectors did, counted from the first sector that it touches.
    Torn(Vec<Range<u64>>),
}

/// A way that a failed sync may go, under every [`Personality`](crate::Personality) but `Strict`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SyncFailure {
    /// It was a write of the journal that failed: nothing changes any more until the power is lost.
    JournalFails,
    /// Nothing of the bytes came through, and the page cache forgot them too.
    CacheForgets,
    /// A `dsync` write took earlier writes of its file along, which failed with it.
    TakesAlong,
    /// A sync after the journal failed says that there is nothing to do.
    NothingToDo,
}

/// Answers for each unsynced change whether it survives. Must not call back into the world.
pub trait SurvivorChoice: Send {
    /// What remains of a change of content.
    fn content(&mut self, change: &UnsyncedContent) -> Survival;

    /// Which size the file has; `candidates[0]` is the durable one, the others in the order they were set.
    fn size(&mut self, file: u64, candidates: &[u64]) -> usize;

    /// What a name is bound to; `candidates[0]` is the durable binding, the others in the order they were made.
    /// `None` is no binding.
    fn name(&mut self, directory: u64, name: &str, candidates: &[Option<u64>]) -> usize;

    /// How many of the changes of names that the journal holds are there, from none to `operations`, in the order in
    /// which they were made. Asked before everything else, and instead of [`Self::name`], under every
    /// [`Personality`](crate::Personality) but `Strict`. All of them, unless said otherwise.
    fn journal(&mut self, operations: usize) -> usize {
        operations
    }

    /// How many are there, in their order, of the changes of names of one file or directory that the prefix leaves out and
    /// that stand in a log of their own. Asked about each that was synced, under
    /// [`Personality::Btrfs`](crate::Personality::Btrfs). As many as the journal would have, unless said otherwise.
    fn log(&mut self, file: u64, operations: usize) -> usize {
        let _ = file;
        self.journal(operations)
    }

    /// Whether a failed sync goes this way; `None`, as unless said otherwise, lets the disk draw it. Asked only of the
    /// choice that [`SimDisk::set_failed_survivors`](crate::SimDisk::set_failed_survivors) was given.
    fn failed(&mut self, way: SyncFailure) -> Option<bool> {
        let _ = way;
        None
    }
}

/// Everything survives, as if it had been synced.
#[derive(Clone, Copy, Debug)]
pub struct EverythingSurvives;

impl SurvivorChoice for EverythingSurvives {
    fn content(&mut self, _: &UnsyncedContent) -> Survival {
        Survival::Whole
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        candidates.len() - 1
    }

    fn name(&mut self, _: u64, _: &str, candidates: &[Option<u64>]) -> usize {
        candidates.len() - 1
    }
}

/// Only what is durable survives.
#[derive(Clone, Copy, Debug)]
pub struct NothingSurvives;

impl SurvivorChoice for NothingSurvives {
    fn content(&mut self, _: &UnsyncedContent) -> Survival {
        Survival::Gone
    }

    fn size(&mut self, _: u64, _: &[u64]) -> usize {
        0
    }

    fn name(&mut self, _: u64, _: &str, _: &[Option<u64>]) -> usize {
        0
    }

    fn journal(&mut self, _: usize) -> usize {
        0
    }
}

/// Draws from a stream. Each power loss draws a temper first, so that nearly everything and nearly nothing
/// survive about as often as a mixture.
pub(crate) struct Drawn<'a> {
    stream: &'a mut Stream,
    survives: Ratio,
}

impl<'a> Drawn<'a> {
    pub(crate) fn new(stream: &'a mut Stream) -> Self {
        let eighths = u32::try_from(stream.below(9)).expect("below 9");
        Self { stream, survives: Ratio::new(eighths, 8) }
    }
}

impl SurvivorChoice for Drawn<'_> {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        if change.sectors > 1 && self.stream.chance(Ratio::new(1, 3)) {
            return Survival::Torn(torn(self.stream, change.sectors));
        }
        if self.stream.chance(self.survives) { Survival::Whole } else { Survival::Gone }
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        self.pick(candidates.len())
    }

    fn name(&mut self, _: u64, _: &str, candidates: &[Option<u64>]) -> usize {
        self.pick(candidates.len())
    }

    fn journal(&mut self, operations: usize) -> usize {
        self.pick(operations + 1)
    }
}

impl Drawn<'_> {
    /// The last candidate when the power loss is mild, any candidate otherwise.
    fn pick(&mut self, candidates: usize) -> usize {
        if self.stream.chance(self.survives) {
            return candidates - 1;
        }
        usize::try_from(self.stream.below(candidates as u64)).expect("an index fits memory")
    }
}

/// Draws from a seed as a power loss does for which nobody decides: for survivor sets of a number, where there are too
/// many to try each.
#[derive(Clone)]
pub struct DrawnSurvivors {
    stream: Stream,
    survives: Ratio,
}

impl DrawnSurvivors {
    /// The answers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut stream = Stream::new(seed, StreamClass::PowerLoss);
        let survives = Drawn::new(&mut stream).survives;
        Self { stream, survives }
    }

    fn drawn(&mut self) -> Drawn<'_> {
        Drawn { stream: &mut self.stream, survives: self.survives }
    }
}

impl SurvivorChoice for DrawnSurvivors {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        self.drawn().content(change)
    }

    fn size(&mut self, file: u64, candidates: &[u64]) -> usize {
        self.drawn().size(file, candidates)
    }

    fn name(&mut self, directory: u64, name: &str, candidates: &[Option<u64>]) -> usize {
        self.drawn().name(directory, name, candidates)
    }

    fn journal(&mut self, operations: usize) -> usize {
        self.drawn().journal(operations)
    }
}

/// Half of the time a prefix, as disks mostly tear; otherwise any subset of up to 64 sectors, or random runs.
fn torn(stream: &mut Stream, sectors: u64) -> Vec<Range<u64>> {
    if stream.chance(Ratio::new(1, 2)) {
        let prefix = 0..stream.below(sectors);
        return vec![prefix];
    }
    if sectors <= 64 {
        return runs_of_mask(stream.next_u64(), sectors);
    }
    (0..=stream.below(8))
        .map(|_| {
            let start = stream.below(sectors);
            start..start + 1 + stream.below(sectors - start)
        })
        .collect()
}

/// The runs of set bits among the lowest `sectors` bits.
fn runs_of_mask(mask: u64, sectors: u64) -> Vec<Range<u64>> {
    (0..sectors).filter(|sector| mask >> sector & 1 == 1).map(|sector| sector..sector + 1).collect()
}

/// Notes each answer in the trace.
pub(crate) struct Traced<'a> {
    pub(crate) choice: &'a mut dyn SurvivorChoice,
    pub(crate) trace: &'a mut Trace,
}

impl SurvivorChoice for Traced<'_> {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        let survival = self.choice.content(change);
        self.trace.event(Event::Survivor, change.file, change.offset);
        match &survival {
            Survival::Gone => self.trace.event(Event::Survivor, 0, change.len),
            Survival::Whole => self.trace.event(Event::Survivor, 1, change.len),
            Survival::Torn(runs) => {
                for run in runs {
                    self.trace.event(Event::Survivor, run.start, run.end);
                }
            }
        }
        self.trace.log_with(|| {
            let UnsyncedContent { file, offset, len, sectors, .. } = *change;
            let runs = match &survival {
                Survival::Gone => Vec::new(),
                Survival::Whole => std::iter::once(0..sectors).collect(),
                Survival::Torn(runs) => runs.clone(),
            };
            let text = format!("survivor: file {file} at {offset}+{len}: {survival:?}");
            (text, Detail::Survivor { file, offset, len, runs })
        });
        survival
    }

    fn size(&mut self, file: u64, candidates: &[u64]) -> usize {
        let pick = self.choice.size(file, candidates);
        self.trace.event(Event::Survivor, file, pick as u64);
        self.trace.log(|| format!("survivor: size of file {file}: {pick} of {candidates:?}"));
        pick
    }

    fn name(&mut self, directory: u64, name: &str, candidates: &[Option<u64>]) -> usize {
        let pick = self.choice.name(directory, name, candidates);
        self.trace.event(Event::Survivor, directory, pick as u64);
        self.trace.bytes(name.as_bytes());
        self.trace.log(|| format!("survivor: name {name}: {pick} of {candidates:?}"));
        pick
    }

    fn journal(&mut self, operations: usize) -> usize {
        let pick = self.choice.journal(operations);
        self.trace.event(Event::Survivor, operations as u64, pick as u64);
        self.trace.log(|| format!("survivor: the first {pick} of {operations} changes of names"));
        pick
    }

    fn log(&mut self, file: u64, operations: usize) -> usize {
        let pick = self.choice.log(file, operations);
        self.trace.event(Event::Survivor, operations as u64, pick as u64);
        self.trace
            .log(|| format!("survivor: the first {pick} of {operations} names of file {file} in the log"));
        pick
    }
}

/// Enumerates survivor sets: each run through the questions uses one row of digits; [`Odometer::advance`] goes to
/// the next row.
///
/// A change of `n` sectors has 2^n answers up to `sectors_max`; a larger one has gone, whole, and the prefixes at
/// `sectors_max` even steps. The number of rows is the product of the answers over all questions.
#[derive(Clone, Debug)]
pub struct Odometer {
    /// Digit and number of answers of each question so far.
    digits: Vec<(u64, u64)>,
    next: usize,
    sectors_max: u64,
}

impl Odometer {
    /// Starts at the row in which nothing survives. `sectors_max` is 1 to 16.
    pub fn new(sectors_max: u64) -> Self {
        Self { digits: Vec::new(), next: 0, sectors_max: sectors_max.clamp(1, 16) }
    }

    /// Goes to the next row and back to the first question. False when all rows were seen.
    pub fn advance(&mut self) -> bool {
        self.digits.truncate(self.next);
        self.next = 0;
        while let Some((digit, answers)) = self.digits.pop() {
            if digit + 1 < answers {
                self.digits.push((digit + 1, answers));
                return true;
            }
        }
        false
    }

    fn answer(&mut self, answers: u64) -> u64 {
        if self.next == self.digits.len() {
            self.digits.push((0, answers));
        }
        let (digit, expected) = self.digits[self.next];
        assert_eq!(answers, expected, "the same questions come in the same order in every row");
        self.next += 1;
        digit
    }
}

impl SurvivorChoice for Odometer {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        if change.sectors <= self.sectors_max {
            let mask = self.answer(1 << change.sectors);
            return match mask {
                0 => Survival::Gone,
                mask => Survival::Torn(runs_of_mask(mask, change.sectors)),
            };
        }
        match self.answer(self.sectors_max + 1) {
            0 => Survival::Gone,
            step if step == self.sectors_max => Survival::Whole,
            step => {
                let prefix = 0..change.sectors * step / self.sectors_max;
                Survival::Torn(vec![prefix])
            }
        }
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        usize::try_from(self.answer(candidates.len() as u64)).expect("an index fits memory")
    }

    fn name(&mut self, _: u64, _: &str, candidates: &[Option<u64>]) -> usize {
        usize::try_from(self.answer(candidates.len() as u64)).expect("an index fits memory")
    }

    fn journal(&mut self, operations: usize) -> usize {
        usize::try_from(self.answer(operations as u64 + 1)).expect("an index fits memory")
    }
}
