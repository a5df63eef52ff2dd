//! What was found of each mutant, kept between runs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Mutant;
use crate::workshop::Shrunk;

/// How hard a mutant was to catch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Caught {
    /// Its name.
    pub name: String,
    /// At least half of the starting points led to it.
    pub caught: bool,
    /// Starting points.
    pub starts: u64,
    /// Those from which no seed failed, up to the limit.
    pub missed: u64,
    /// Seeds from a starting point, at most; 0 if it was explored.
    pub seeds_max: u64,
    /// Seeds that it took, one entry for each starting point that led to it.
    pub seeds: Vec<u64>,
    /// Their median over all starting points; none if it lies beyond the limit.
    pub seeds_median: Option<u64>,
    /// Their 95th percentile, likewise.
    pub seeds_p95: Option<u64>,
    /// Fault classes and kinds of crashes that are left in the first failing plan when it is shrunk.
    pub faults: Vec<String>,
    /// What shrinking that plan came to.
    pub shrunk: Option<Shrunk>,
    /// What was wrong first.
    pub violation: Option<String>,
    /// What kept it from being judged.
    pub trouble: Option<String>,
    /// How long building it took.
    pub build_seconds: u64,
}

impl Caught {
    pub(super) fn new(mutant: &Mutant, starts: u64, seeds_max: u64) -> Self {
        Self {
            name: mutant.name.clone(),
            caught: false,
            starts,
            missed: 0,
            seeds_max,
            seeds: Vec::new(),
            seeds_median: None,
            seeds_p95: None,
            faults: Vec::new(),
            shrunk: None,
            violation: None,
            trouble: None,
            build_seconds: 0,
        }
    }

    /// Notes what exploring found, which is one try of everything.
    pub(super) fn note_exploring(&mut self, found: Result<Option<String>, String>) {
        match found {
            Ok(Some(violation)) => {
                self.caught = true;
                self.violation = Some(violation);
            }
            Ok(None) => self.missed = 1,
            Err(trouble) => (self.missed, self.trouble) = (1, Some(trouble)),
        }
    }

    /// Counts percentiles over what was found.
    pub(super) fn sum_up(&mut self) {
        self.seeds.sort_unstable();
        // One that was not tried, for the program hung before, has missed too.
        self.missed = self.starts.saturating_sub(self.seeds.len() as u64);
        let all = self.starts;
        // The least number of seeds that is enough for so many in a hundred starting points.
        let enough_for = |percent: u64| {
            let needed = (all * percent).div_ceil(100).max(1);
            usize::try_from(needed - 1).ok().and_then(|at| self.seeds.get(at).copied())
        };
        (self.seeds_median, self.seeds_p95) = (enough_for(50), enough_for(95));
        self.caught = self.seeds_median.is_some();
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    patch: String,
    caught: Caught,
}

/// Everything found at one commit.
#[derive(Serialize, Deserialize)]
pub struct Results {
    commit: String,
    mutants: BTreeMap<String, Kept>,
}

impl Results {
    /// What the file holds of this commit; nothing if it is of another one.
    ///
    /// # Errors
    /// A file that cannot be read or is no such file.
    pub fn load(file: &Path, commit: &str) -> Result<Self, String> {
        let nothing = Self { commit: commit.to_owned(), mutants: BTreeMap::new() };
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(nothing),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        let results: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}; remove it to begin anew", file.display()))?;
        Ok(if results.commit == commit { results } else { nothing })
    }

    /// What is known of a mutant that was looked for as hard.
    pub fn of(&self, mutant: &Mutant, starts: u64, seeds_max: u64) -> Option<&Caught> {
        let kept = self.mutants.get(&key(&mutant.name, starts, seeds_max))?;
        (kept.patch == mutant.text).then_some(&kept.caught)
    }

    /// Adds what was found, and writes all of it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn keep(&mut self, mutant: &Mutant, caught: &Caught, file: &Path) -> Result<(), String> {
        let kept = Kept { patch: mutant.text.clone(), caught: caught.clone() };
        self.mutants.insert(key(&mutant.name, caught.starts, caught.seeds_max), kept);
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        let unfinished = file.with_extension("json.tmp");
        let written = std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, file));
        written.map_err(|error| format!("{}: {error}", file.display()))
    }
}

fn key(name: &str, starts: u64, seeds_max: u64) -> String {
    format!("{name}, {starts} x {seeds_max}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(seeds: &[u64], missed: u64) -> Caught {
        let mutant = Mutant {
            name: "name".to_owned(),
            breaks: String::new(),
            reveals: Vec::new(),
            workload: String::new(),
            seeds: None,
            file: "name.patch".into(),
            text: "text".to_owned(),
        };
        let mut caught = Caught { missed, ..Caught::new(&mutant, seeds.len() as u64 + missed, 2000) };
        caught.seeds = seeds.to_vec();
        caught.sum_up();
        caught
    }

    #[test]
    fn a_start_that_missed_counts_as_beyond_the_limit() {
        let all = caught(&(1..=20).rev().collect::<Vec<_>>(), 0);
        assert_eq!((all.caught, all.seeds_median, all.seeds_p95), (true, Some(10), Some(19)));
        let most = caught(&[5; 12], 8);
        assert_eq!((most.caught, most.seeds_median, most.seeds_p95), (true, Some(5), None));
        let few = caught(&[5; 9], 11);
        assert_eq!((few.caught, few.seeds_median, few.seeds_p95), (false, None, None));
        let hung = Caught { seeds: vec![5], missed: 1, ..caught(&[], 20) };
        let hung = {
            let mut hung = hung;
            hung.sum_up();
            hung
        };
        assert_eq!((hung.caught, hung.seeds_median, hung.missed), (false, None, 19));
        let none = caught(&[], 20);
        assert_eq!((none.caught, none.seeds_median), (false, None));
    }
}
