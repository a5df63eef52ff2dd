//! The whole database against an ordered map of versions.
//!
//! A case is a list of operations with its settings, drawn from a seed: puts, deletes, range deletes and batches over
//! three keyspaces at mixed durabilities, concurrent commits, reads and walks (now, in snapshots, in the past, in
//! transactions), cursors held open, keyspaces created and dropped, flush, compaction, and between them closing,
//! dropping, kills and power losses, also in the middle of an operation and of the recovery that follows. Every answer
//! is compared with the [oracle](oracle), and after every opening the whole database is.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `HOLDFAST_MODEL_CASES` | number of cases on the simulated disk | 60 |
//! | `HOLDFAST_MODEL_SEED` | seed of the first case; each further one counts up | 1 |
//! | `HOLDFAST_MODEL_JOBS` | threads | the machine's cores |
//! | `HOLDFAST_MODEL_SHRINK` | runs spent on shrinking a failure | 400 |
//! | `HOLDFAST_MODEL_LOG` | lines of the simulator's log to print when a case fails | 0 |
//!
//! Every case opens its database again at least three times, and one that does not fails; of all together means of
//! flushes, compactions, levels and conflicts are demanded.
//!
//! A failure prints its seed and the shrunk case as a test that can be pasted into [`found`].

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "seeds come from whoever runs the test, who is told how long it took"
)]
mod case;
mod drive;
mod explore;
mod found;
mod oracle;
mod place;

use case::Case;
use drive::Defect;
use explore::{Budget, Means, explore, run_case};

fn number_from(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")),
        Err(_) => default,
    }
}

#[test]
fn random_operations_agree_with_a_map_of_versions() {
    let budget = Budget {
        first_seed: number_from("HOLDFAST_MODEL_SEED", 1),
        cases: number_from("HOLDFAST_MODEL_CASES", 60),
        jobs: number_from(
            "HOLDFAST_MODEL_JOBS",
            std::thread::available_parallelism().map_or(2, |cores| cores.get() as u64),
        ),
        shrinks: number_from("HOLDFAST_MODEL_SHRINK", 400),
    };
    println!("{} cases from seed {}", budget.cases, budget.first_seed);
    let began = std::time::Instant::now();
    let means = explore(&budget).unwrap_or_else(|failure| panic!("{failure}"));
    let took = began.elapsed().as_millis() as u64;
    println!("{means}\n{} ms in all, {} ms a case", took, took / budget.cases.max(1));
    if budget.cases >= 20 {
        let Means { flushes, compactions, levels, conflicts, .. } = means;
        assert!(flushes >= 200, "fewer than 2 flushes in a case on average: the cases are too tame");
        assert!(compactions >= 100, "less than 1 compaction in a case on average: the cases are too tame");
        assert!(conflicts > 0, "hardly a transaction met a conflict: the cases are too tame");
        // The mean is near 2.2, of which a few cases may fall short by chance.
        assert!(
            levels >= 200 || budget.cases < 60,
            "fewer than 2 levels in a case on average: the cases are too tame"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..4 {
        let hash = || run_case(&Case::of_seed(seed), Defect::None).expect("this seed is fine").hash;
        assert_eq!(hash(), hash());
    }
}

/// The harness can fail: each defect, planted between it and the database, is reported within a few cases.
#[test]
fn planted_defects_are_reported() {
    for defect in [
        Defect::LosesWrite,
        Defect::TearsBatch,
        Defect::SkipsCheck,
        Defect::SkipsSync,
        Defect::ForgetsRangeDelete,
        Defect::ReadsTheNewest,
    ] {
        let reported = (1..=40).find_map(|seed| run_case(&Case::of_seed(seed), defect).err());
        let report = reported.unwrap_or_else(|| panic!("{defect:?} went unnoticed"));
        println!("{defect:?}: {report}");
    }
}

#[test]
fn random_operations_agree_on_a_real_directory() {
    let cases = number_from("HOLDFAST_MODEL_REAL_CASES", 4);
    for seed in 1..=cases {
        let case = Case::of_seed(seed).shortened(400);
        if let Err(report) = explore::run_on_real_directory(&case) {
            panic!("seed {seed} on a real directory: {report}\n{}", case.as_test());
        }
    }
}
