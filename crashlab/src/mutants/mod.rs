//! Planted bugs: how many seeds it takes until each of them is caught.
//!
//! ```text
//! patch -> copy of the sources -> its own crashlab -> sweeps from many starting points -> seeds needed
//! ```
//! A mutant is caught from a starting point if one of the seeds from there on fails, up to a limit; how many that took is
//! its cost there. Median and 95th percentile are over all starting points. Which faults it takes is read from the first
//! failing plan after that was shrunk: everything that is still in it is needed.
//!
//! Exploring draws nothing: a mutant is caught by a crash point after which something is wrong. What the harness fails over,
//! or cannot decide, catches nothing.
//!
//! The copy holds what is not committed too, but for files that git does not know. What was found is kept in `kept.json`
//! with git's hash of all that was built and with the patch's text, so that a run that was cut off goes on, and a commit that
//! changes neither costs nothing.

mod patch;
mod results;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use patch::Mutant;
pub use results::{Basis, Caught, Results};

use crate::workshop::{Workshop, git, hashes_of, snapshot_of};

/// Which mutants, and how hard to look.
#[derive(Clone, Debug)]
pub struct Search {
    /// The root of the repository.
    pub repository: PathBuf,
    /// Where the patches are.
    pub patches: PathBuf,
    /// Names or parts of them; all if empty.
    pub only: Vec<String>,
    /// The how-manieth of how many parts, from 1; every mutant belongs to one part.
    pub shard: (u64, u64),
    /// Only so many of those that are known to be caught by few seeds, chosen by the commit.
    pub pick: Option<usize>,
    /// The first failing plan of each is shrunk, which says what it needs.
    pub shrink: bool,
    /// Nothing is drawn: each is looked for by [`Explore`](crate::explore::Explore), two crashes deep, with so many
    /// survivor sets.
    pub explore: Option<u64>,
    /// No mutant is begun after so long.
    pub budget: Option<Duration>,
    /// Starting points of each.
    pub starts: u64,
    /// Seeds from each starting point, at most.
    pub seeds_max: u64,
    /// Do all again that was done before.
    pub again: bool,
}

/// Starting points lie so far apart.
const START_DISTANCE: u64 = 100_000;
/// A mutant that is caught by no more seeds than this, mostly, is a quick one.
const QUICK_SEEDS: u64 = 50;

/// How far a search is.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A mutant is planted and built.
    Building(&'a Mutant),
    /// So many starting points of it are done.
    Sweeping(&'a Mutant, u64),
    /// It is done, now or by an earlier run.
    Done(&'a Mutant, &'a Caught),
}

impl Search {
    /// The mutants that are asked for, in the order of their names, out of all patches.
    ///
    /// # Errors
    /// A patch whose header is not as it must be, with its file; or nothing to search for.
    pub fn mutants(&self) -> Result<Vec<Mutant>, String> {
        let (part, parts) = self.shard;
        if part == 0 || part > parts {
            return Err(format!("there is no part {part} of {parts}; parts count from 1"));
        }
        let all = Mutant::load_all(&self.patches)?;
        let asked = |mutant: &Mutant| {
            self.only.is_empty() || self.only.iter().any(|part| mutant.name.contains(part.as_str()))
        };
        let chosen: Vec<Mutant> = all.into_iter().filter(asked).collect();
        let of_part = |(at, _): &(usize, Mutant)| *at as u64 % parts == part - 1;
        let chosen: Vec<Mutant> =
            chosen.into_iter().enumerate().filter(of_part).map(|(_, mutant)| mutant).collect();
        let chosen = match self.pick {
            Some(count) => self.picked(chosen, count)?,
            None => chosen,
        };
        if chosen.is_empty() {
            return Err("no mutant is among those that are asked for".to_owned());
        }
        Ok(chosen)
    }

    /// Starting points and seeds from each; exploring has neither.
    fn effort(&self) -> (u64, u64) {
        if self.explore.is_some() { (1, 0) } else { (self.starts, self.seeds_max) }
    }

    /// Quick mutants, other ones at each commit and always the same ones at one commit.
    fn picked(&self, mut mutants: Vec<Mutant>, count: usize) -> Result<Vec<Mutant>, String> {
        let commit = git(&self.repository, &["rev-parse", "HEAD"])?;
        mutants.retain(|mutant| mutant.seeds.is_some_and(|seeds| seeds <= QUICK_SEEDS));
        mutants.sort_by_cached_key(|mutant| crc32fast::hash(format!("{commit} {}", mutant.name).as_bytes()));
        mutants.truncate(count);
        Ok(mutants)
    }

    /// Looks for each mutant. Gives what was found, of those only that were done.
    ///
    /// # Errors
    /// What keeps the sources from being copied, or cargo from being started. A patch that does not apply or build is the
    /// trouble of its own mutant.
    pub fn run(&self, stop: &AtomicBool, mut told: impl FnMut(Progress<'_>)) -> Result<Vec<Caught>, String> {
        let mutants = self.mutants()?;
        let workshop = Workshop::prepare(&self.repository, "mutants", "mutants")?;
        let snapshot = snapshot_of(&self.repository)?;
        workshop.check_out(&snapshot)?;
        let sources = hashes_of(&self.repository, &snapshot, env!("CRASHLAB_SOURCES").split(' '))?;
        let file = self.repository.join("target/mutants/kept.json");
        let mut results = Results::load(&file)?;
        let began = Instant::now();
        let mut found = Vec::new();
        for mutant in &mutants {
            let is_late = self.budget.is_some_and(|budget| began.elapsed() >= budget);
            let (starts, seeds_max) = self.effort();
            let (sources, patch, explore) = (sources.clone(), mutant.text.clone(), self.explore);
            let basis = Basis { sources, patch, starts, seeds_max, explore };
            let known = results.of(&mutant.name, &basis).filter(|_| !self.again);
            let is_shrunk = |known: &Caught| known.shrunk.is_some() || known.seeds.is_empty();
            let is_enough = |known: &&Caught| self.explore.is_some() || !self.shrink || is_shrunk(known);
            let caught = match known.filter(is_enough) {
                Some(known) => known.clone(),
                None if is_late || stop.load(Ordering::Relaxed) => continue,
                None => {
                    let caught = self.look_for(mutant, &workshop, stop, &mut told)?;
                    if stop.load(Ordering::Relaxed) {
                        continue;
                    }
                    results.keep(&basis, &caught, &file)?;
                    caught
                }
            };
            told(Progress::Done(mutant, &caught));
            found.push(caught);
        }
        Ok(found)
    }

    fn look_for(
        &self,
        mutant: &Mutant,
        workshop: &Workshop,
        stop: &AtomicBool,
        told: &mut impl FnMut(Progress<'_>),
    ) -> Result<Caught, String> {
        told(Progress::Building(mutant));
        let (starts, seeds_max) = self.effort();
        let mut caught = Caught::new(mutant, starts, seeds_max);
        let began = Instant::now();
        if let Err(error) = workshop.plant(&mutant.file) {
            (caught.missed, caught.trouble) = (starts, Some(error));
            return Ok(caught);
        }
        let built = workshop.build()?;
        caught.build_seconds = began.elapsed().as_secs();
        let program = match built {
            Ok(program) => program,
            Err(error) => {
                caught.trouble = Some(format!("it does not build: {error}"));
                return Ok(caught);
            }
        };
        if let Some(sets) = self.explore {
            caught.note_exploring(workshop.explore(&program, sets));
            return Ok(caught);
        }
        for start in 0..self.starts {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            told(Progress::Sweeping(mutant, start));
            let first = start * START_DISTANCE;
            match workshop.sweep(&program, first, self.seeds_max) {
                Ok(None) => caught.missed += 1,
                Ok(Some(failure)) => {
                    caught.seeds.push(failure.seed - first + 1);
                    if caught.violation.is_none() {
                        match self.shrink.then(|| workshop.shrink(&program, &failure)) {
                            None => {}
                            Some(Ok(shrunk)) => {
                                caught.faults = shrunk.needs.clone();
                                caught.shrunk = Some(shrunk);
                            }
                            Some(Err(error)) => caught.trouble = Some(error),
                        }
                        caught.violation = Some(failure.violation);
                    }
                }
                Err(trouble) => {
                    caught.missed += 1;
                    caught.trouble = Some(trouble);
                    break;
                }
            }
        }
        caught.sum_up();
        Ok(caught)
    }
}
