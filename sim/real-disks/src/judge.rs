//! Is what was seen something that the model allows? Yes if there are answers to its own questions at a power loss that
//! lead to exactly this.
//!
//! The model asks which prefix of the journal survives, and of each change and size of a file what becomes of it. The
//! judge looks for answers that explain what was seen, and then lets the model lose its power with them: only when names,
//! sizes and bytes come out equal is the state allowed. So a wrong guess of the judge can never pass a state; it can only
//! miss an explanation, and [`crate::check`] demands one for states that the model itself has drawn.
//!
//! The search is short because files do not depend on each other once the journal is cut, and because of two sectors
//! each can be explained alone: by the last change whose outcome is what the sector holds. The latest such change is the
//! best answer, for it lets the size grow the furthest. Changes without bytes go there whole or not at all; all their
//! combinations are tried, and every size.

use std::collections::BTreeMap;

use holdfast_sim::{DiskImage, Process, SECTOR, Survival, SurvivorChoice, UnsyncedContent, World};

use crate::file_system::FileSystem;
use crate::model::{Images, lose};
use crate::seen::{Seen, told};
use crate::sequence::{Operation, bytes_of, writer_of};
use crate::wrong::Wrong;

/// Answers to the model's questions, and a note of what it asked.
#[derive(Clone, Default, Debug)]
pub struct Guide {
    /// Prefix of the changes of names.
    pub journal: usize,
    /// Of each file and directory with names in a log of its own, how many of them; none if there is no answer.
    pub log: BTreeMap<u64, usize>,
    /// Of each file, by the place of the question among those about it; gone if there is none.
    pub content: BTreeMap<(u64, usize), Survival>,
    /// Place among the candidates; the first if there is none.
    pub sizes: BTreeMap<u64, usize>,
    /// How many changes of names could survive.
    pub operations: usize,
    /// How many of each log could, behind this prefix.
    pub logged: BTreeMap<u64, usize>,
    pub questions: BTreeMap<u64, Vec<UnsyncedContent>>,
    pub candidates: BTreeMap<u64, Vec<u64>>,
}

impl SurvivorChoice for Guide {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        let asked = self.questions.entry(change.file).or_default();
        asked.push(*change);
        self.content.get(&(change.file, asked.len() - 1)).cloned().unwrap_or(Survival::Gone)
    }

    fn size(&mut self, file: u64, candidates: &[u64]) -> usize {
        self.candidates.insert(file, candidates.to_vec());
        self.sizes.get(&file).copied().unwrap_or(0)
    }

    fn name(&mut self, _: u64, _: &str, _: &[Option<u64>]) -> usize {
        0
    }

    fn journal(&mut self, operations: usize) -> usize {
        self.operations = operations;
        self.journal
    }

    fn log(&mut self, file: u64, operations: usize) -> usize {
        self.logged.insert(file, operations);
        self.log.get(&file).copied().unwrap_or(0)
    }
}

/// What is judged, and by which rules.
pub struct Judge<'a> {
    pub world: &'a World,
    pub process: &'a Process,
    pub images: &'a Images,
    pub file_system: FileSystem,
    pub wrong: Option<Wrong>,
}

impl Judge<'_> {
    /// Answers by which the model makes of this image what was seen, or why there are none.
    pub fn explain(&self, image: &DiskImage, seen: &Seen) -> Result<Guide, String> {
        let all = Guide { journal: usize::MAX, ..Guide::default() };
        let (asked, _) = lose(self.world, self.process, image, all);
        let most = if self.wrong == Some(Wrong::NamesWait) { 0 } else { asked.operations };
        let mut why = Vec::new();
        let mut names_possible = Vec::new();
        for journal in (0..=most).rev() {
            let mut log = BTreeMap::new();
            loop {
                let guide = Guide { journal, log: log.clone(), ..Guide::default() };
                let (guide, bare) = lose(self.world, self.process, image, guide);
                let logged = guide.logged.clone();
                if bare.has_names_of(seen) {
                    // What is durable shows by different sizes in different places: behind a truncation by the durable
                    // one, behind a dsync write by a later one.
                    let longest = self.longest(image, &guide);
                    let tailed = self.with_tails(&bare);
                    for base in [&bare, &longest, &tailed] {
                        let mut found = guide.clone();
                        match self.explain_files(image, seen, base, &mut found) {
                            Ok(()) => return Ok(found),
                            Err(reason) => {
                                let of = asked.operations;
                                why.push(format!("with {journal} of {of} changes of names: {reason}"));
                            }
                        }
                    }
                } else {
                    names_possible.push(bare.summary());
                }
                if self.wrong == Some(Wrong::NamesWait) || !advance(&mut log, &logged) {
                    break;
                }
            }
        }
        if why.is_empty() {
            names_possible.sort();
            names_possible.dedup();
            return Err(format!(
                "no prefix of the changes gives these names; allowed: {}",
                names_possible.join(" | ")
            ));
        }
        Err(why.join("; "))
    }

    /// What is there when no change of bytes survives, and of each size the greatest: everything that is durable shows.
    fn longest(&self, image: &DiskImage, bare: &Guide) -> Seen {
        let greatest = |candidates: &Vec<u64>| (0..candidates.len()).max_by_key(|place| candidates[*place]);
        let sizes = bare.candidates.iter().filter_map(|(file, all)| Some((*file, greatest(all)?))).collect();
        let guide = Guide { journal: bare.journal, log: bare.log.clone(), sizes, ..Guide::default() };
        lose(self.world, self.process, image, guide).1
    }

    /// The same with what a dsync write took along behind the end of a file, up to the end of its last sector: bytes that
    /// earlier writes left there and that no size shows yet.
    fn with_tails(&self, bare: &Seen) -> Seen {
        let disk = self.process.disk();
        let mut seen = bare.clone();
        for (path, file) in &mut seen.files {
            let number = disk.number_of(format!("/{path}"));
            let len = file.bytes.len();
            let end = len.next_multiple_of(SECTOR as usize);
            let last = writer_of(file.bytes.get(end.saturating_sub(SECTOR as usize)..).unwrap_or_default());
            let before = last.unwrap_or(u16::MAX);
            file.bytes.resize(end, 0);
            for (_, by, operation) in &self.images.changes {
                if let Operation::Write { slot, offset, len: count } = operation
                    && self.images.files.get(slot).copied() == number
                    && *by <= before
                {
                    let (from, until) = ((*offset).max(len as u64), (offset + count).min(end as u64));
                    if from < until {
                        let bytes = bytes_of(*by, from, until - from);
                        file.bytes[from as usize..until as usize].copy_from_slice(&bytes);
                    }
                }
            }
        }
        seen
    }

    fn explain_files(
        &self,
        image: &DiskImage,
        seen: &Seen,
        bare: &Seen,
        guide: &mut Guide,
    ) -> Result<(), String> {
        let disk = self.process.disk();
        let numbers: BTreeMap<&String, u64> = seen
            .files
            .iter()
            .filter(|(path, file)| file.first_name == **path)
            .map(|(path, _)| (path, disk.number_of(format!("/{path}")).unwrap_or(0)))
            .collect();
        let mut answers = guide.clone();
        for (path, number) in numbers {
            let (Some(file), Some(base)) = (seen.files.get(path), bare.files.get(path)) else { continue };
            let found = self.explain_file(image, path, number, &file.bytes, &base.bytes, guide);
            let found = found.map_err(|reason| format!("/{path}: {reason}"))?;
            answers.content.extend(found.content.into_iter().filter(|((file, _), _)| *file == number));
            answers.sizes.extend(found.sizes.into_iter().filter(|(file, _)| *file == number));
        }
        let fresh = Guide {
            content: answers.content,
            sizes: answers.sizes,
            journal: guide.journal,
            log: guide.log.clone(),
            ..Guide::default()
        };
        let (given, made) = lose(self.world, self.process, image, fresh);
        *guide = given;
        if made == *seen { Ok(()) } else { Err("its files are explained alone and not together".to_owned()) }
    }

    /// Looks for answers about one file, given the cut of the journal.
    fn explain_file(
        &self,
        image: &DiskImage,
        path: &str,
        number: u64,
        seen: &[u8],
        base: &[u8],
        guide: &Guide,
    ) -> Result<Guide, String> {
        let events = self.events_of(number, guide);
        let optional: Vec<usize> = (0..events.len()).filter(|at| events[*at].is_hole).collect();
        let mut reason = String::from("no answers lead to it");
        for mask in 0..1u32 << optional.len().min(8) {
            let is_there = |at: usize| {
                optional.iter().position(|other| *other == at).is_none_or(|bit| mask >> bit & 1 == 1)
            };
            let content = match self.explain_sectors(number, seen, base, &events, &is_there) {
                Ok(content) => content,
                Err(why) => {
                    reason = why;
                    continue;
                }
            };
            let fresh = || Guide {
                journal: guide.journal,
                log: guide.log.clone(),
                content: content.clone(),
                ..Guide::default()
            };
            let (asked, made) = lose(self.world, self.process, image, fresh());
            if made.files.get(path).is_some_and(|file| file.bytes == seen) {
                return Ok(asked);
            }
            let candidates = asked.candidates.get(&number).cloned().unwrap_or_default();
            if self.wrong != Some(Wrong::SizeWaits) {
                for pick in (0..candidates.len()).filter(|pick| candidates[*pick] == seen.len() as u64) {
                    let guide = Guide { sizes: BTreeMap::from([(number, pick)]), ..fresh() };
                    let (given, made) = lose(self.world, self.process, image, guide);
                    if made.files.get(path).is_some_and(|file| file.bytes == seen) {
                        return Ok(given);
                    }
                }
            }
            let only = made.files.get(path).map_or(0, |file| file.bytes.len() as u64);
            let sizes = if candidates.is_empty() { vec![only] } else { candidates };
            reason = format!("size {} with these bytes; sizes allowed with them: {sizes:?}", seen.len());
        }
        Err(reason)
    }

    /// The changes of a file that a power loss may take, in their order, those that the model asks no question about
    /// among them: truncations.
    fn events_of(&self, number: u64, guide: &Guide) -> Vec<Event> {
        let asked = guide.questions.get(&number).map_or(&[][..], Vec::as_slice);
        let mut events: Vec<Event> = asked
            .iter()
            .enumerate()
            .map(|(nth, change)| Event {
                change: change.number,
                question: Some(nth),
                offset: change.offset,
                len: change.len,
                writer: self.images.maker(change.number).filter(|_| !change.is_zero).map(|maker| maker.0),
                is_hole: change.is_hole,
            })
            .collect();
        for (change, _, operation) in &self.images.changes {
            let (slot, offset, len) = match operation {
                Operation::Truncate { slot, len } => (slot, *len, u64::MAX / 2 - len),
                _ => continue,
            };
            let is_known = events.iter().any(|event| event.is_hole && event.change == *change);
            if self.images.files.get(slot) == Some(&number) && !is_known {
                events.push(Event {
                    change: *change,
                    question: None,
                    offset,
                    len,
                    writer: None,
                    is_hole: true,
                });
            }
        }
        events.sort_by_key(|event| (event.change, event.question));
        events
    }

    /// What each sector, or each page where the file system copies on write, must have been given last.
    fn explain_sectors(
        &self,
        number: u64,
        seen: &[u8],
        base: &[u8],
        events: &[Event],
        is_there: &dyn Fn(usize) -> bool,
    ) -> Result<BTreeMap<(u64, usize), Survival>, String> {
        let unit = self.unit();
        let reach = events.iter().filter(|event| !event.is_hole).map(|event| event.offset + event.len);
        let reach = reach.max().unwrap_or(0).max(seen.len() as u64).max(base.len() as u64);
        let mut kept: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for start in (0..reach.div_ceil(unit)).map(|place| place * unit) {
            let visible = (seen.len() as u64).clamp(start, start + unit);
            let wanted =
                &seen[start.min(seen.len() as u64) as usize..visible.min(seen.len() as u64) as usize];
            let mut holds = part_of(base, start, unit);
            let mut last = holds.starts_with(wanted).then_some(None);
            for (at, event) in events.iter().enumerate().filter(|(_, event)| event.touches(start, unit)) {
                if event.question.is_none() && !is_there(at) {
                    continue;
                }
                event.apply(&mut holds, start);
                if holds.starts_with(wanted) && is_there(at) {
                    last = Some(Some(at));
                }
            }
            let Some(last) = last else {
                return Err(format!("bytes {start}..{visible} hold what they never held: {}", told(wanted)));
            };
            // A hole is answered as a whole; below it the latest write lets the size grow.
            let writer = (0..=last.unwrap_or(0))
                .rev()
                .find(|at| last.is_some() && !events[*at].is_hole && events[*at].touches(start, unit));
            if let Some(question) = writer.and_then(|at| events[at].question) {
                kept.entry(question).or_default().push(start);
            }
        }
        let asked = events.iter().enumerate();
        let answers = asked.filter_map(|(at, event)| {
            let question = event.question?;
            let answer = if event.is_hole {
                if is_there(at) { Survival::Whole } else { Survival::Gone }
            } else {
                event.survival(kept.get(&question).map_or(&[][..], Vec::as_slice), unit)
            };
            Some((question, answer))
        });
        let answers: BTreeMap<(u64, usize), Survival> =
            answers.map(|(question, answer)| ((number, question), answer)).collect();
        let is_torn = answers.values().any(|answer| matches!(answer, Survival::Torn(_)));
        if is_torn && self.wrong == Some(Wrong::NeverTorn) {
            return Err("a write is torn".to_owned());
        }
        Ok(answers)
    }

    fn unit(&self) -> u64 {
        if self.file_system == FileSystem::Btrfs { 4096 } else { SECTOR }
    }
}

/// The next answers about the logs, each from none to all of it. False when all were tried.
fn advance(answers: &mut BTreeMap<u64, usize>, most: &BTreeMap<u64, usize>) -> bool {
    for (file, most) in most {
        let answer = answers.entry(*file).or_insert(0);
        if *answer < *most {
            *answer += 1;
            return true;
        }
        *answer = 0;
    }
    false
}

/// A change of a file's bytes, or of a range without bytes.
struct Event {
    change: u64,
    /// Place among the questions about the file; `None` if the model asks none.
    question: Option<usize>,
    offset: u64,
    len: u64,
    /// The operation whose bytes it wrote; none for zeros.
    writer: Option<u16>,
    /// It wrote nothing: it is there whole or not at all.
    is_hole: bool,
}

impl Event {
    fn touches(&self, start: u64, unit: u64) -> bool {
        self.offset < start + unit && start < self.offset + self.len
    }

    fn apply(&self, holds: &mut [u8], start: u64) {
        let from = self.offset.max(start);
        let until = (self.offset + self.len).min(start + holds.len() as u64);
        let part = &mut holds[(from - start) as usize..(until - start) as usize];
        match self.writer {
            Some(number) => part.copy_from_slice(&bytes_of(number, from, until - from)),
            None => part.fill(0),
        }
    }

    /// The sectors of it that lie in these units.
    fn survival(&self, units: &[u64], unit: u64) -> Survival {
        let first = self.offset / SECTOR;
        let count = (self.offset + self.len).div_ceil(SECTOR) - first;
        let runs: Vec<std::ops::Range<u64>> = units
            .iter()
            .map(|start| (start / SECTOR).saturating_sub(first)..((start + unit) / SECTOR - first).min(count))
            .collect();
        let kept: u64 = runs.iter().map(|run| run.end - run.start).sum();
        match kept {
            0 => Survival::Gone,
            kept if kept == count => Survival::Whole,
            _ => Survival::Torn(runs),
        }
    }
}

fn part_of(bytes: &[u8], start: u64, unit: u64) -> Vec<u8> {
    let from = (start as usize).min(bytes.len());
    let mut part = bytes[from..bytes.len().min(from + unit as usize)].to_vec();
    part.resize(unit as usize, 0);
    part
}
