//! What was found of each mutant, kept between runs with all that it depends on.
//!
//! A result counts only for the same basis: the same sources, patch and effort. Those of another basis stay in the file,
//! and count again when the sources are once more what they were.

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

/// What a result depends on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Basis {
    /// Git's hash of everything that is built, and of how, by path.
    pub sources: BTreeMap<String, String>,
    /// The patch, all of it.
    pub patch: String,
    /// Starting points.
    pub starts: u64,
    /// Seeds from each, at most.
    pub seeds_max: u64,
    /// Survivor sets, if it was explored.
    pub explore: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    basis: Basis,
    caught: Caught,
}

/// Everything found so far, by the names of the mutants.
#[derive(Default, Serialize, Deserialize)]
pub struct Results {
    mutants: BTreeMap<String, Vec<Kept>>,
}

impl Results {
    /// What the file holds; nothing if it is not there.
    ///
    /// # Errors
    /// A file that cannot be read or is no such file.
    pub fn load(file: &Path) -> Result<Self, String> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}; remove it to begin anew", file.display()))
    }

    /// What is known of a mutant on this basis.
    pub fn of(&self, name: &str, basis: &Basis) -> Option<&Caught> {
        let kept = self.mutants.get(name)?.iter().find(|kept| kept.basis == *basis)?;
        Some(&kept.caught)
    }

    /// Adds what was found to what the file holds by now, and writes all of it.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn keep(&mut self, basis: &Basis, caught: &Caught, file: &Path) -> Result<(), String> {
        *self = Self::load(file)?;
        let of_name = self.mutants.entry(caught.name.clone()).or_default();
        of_name.retain(|kept| kept.basis != *basis);
        of_name.push(Kept { basis: basis.clone(), caught: caught.clone() });
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        let unfinished = file.with_extension("json.tmp");
        let written = std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, file));
        written.map_err(|error| format!("{}: {error}", file.display()))
    }
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

    #[test]
    fn a_result_counts_for_its_own_basis_and_the_others_stay() {
        let folder = std::env::temp_dir().join(format!("crashlab-results-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let file = folder.join("kept.json");
        let basis = Basis {
            sources: [("kernel/src".to_owned(), "1".to_owned())].into(),
            patch: "text".to_owned(),
            starts: 20,
            seeds_max: 2000,
            explore: None,
        };
        let others = [
            Basis { sources: [("kernel/src".to_owned(), "2".to_owned())].into(), ..basis.clone() },
            Basis { patch: "other text".to_owned(), ..basis.clone() },
            Basis { starts: 1, ..basis.clone() },
            Basis { seeds_max: 500, ..basis.clone() },
            Basis { explore: Some(16), ..basis.clone() },
        ];
        let (few, many) = (caught(&[1; 20], 0), caught(&[9; 20], 0));
        let mut results = Results::load(&file).expect("nothing is there");
        results.keep(&basis, &few, &file).expect("it is written");
        for other in &others {
            let known = Results::load(&file).expect("it is read");
            assert_eq!(known.of("name", other), None, "{other:?}");
            // Another program, which has read the file when it was empty, drops nothing of it.
            Results::default().keep(other, &many, &file).expect("it is written");
        }
        let known = Results::load(&file).expect("it is read");
        assert_eq!(known.of("name", &basis), Some(&few));
        assert!(others.iter().all(|other| known.of("name", other) == Some(&many)));
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
