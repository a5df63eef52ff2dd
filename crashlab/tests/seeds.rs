//! Seeds pass, and one seed is one run, whoever runs beside it.

use std::sync::atomic::AtomicBool;

use holdfast_crashlab::Choice;
use holdfast_crashlab::sweep::Sweep;

fn sweep(start: u64, seeds: u64, jobs: usize) -> (Vec<String>, u64) {
    let sweep = Sweep { start, seeds, time: None, first: false, jobs, choice: Choice::default() };
    let summary = sweep.run(&AtomicBool::new(false), |_| ());
    assert_eq!(summary.seeds, seeds);
    let failed =
        summary.failures.iter().map(|failure| format!("seed {}: {}", failure.seed, failure.violation));
    (failed.collect(), summary.digest())
}

#[test]
fn seeds_pass_and_are_the_same_with_any_number_of_jobs() {
    let (failed, alone) = sweep(0, 60, 1);
    assert!(failed.is_empty(), "{failed:#?}");
    let (_, beside_others) = sweep(0, 60, 8);
    assert_eq!(alone, beside_others);
}
