//! Many random histories: those of a database that keeps its promises are good, and of one that breaks a promise some
//! are soon found to be wrong.

use super::executor::{Defect, Executor};
use crate::oracle::isolation::check;
use crate::oracle::{Violation, Wrong};

/// So many histories a defect may pass before it is caught.
const CASES_MAX: u64 = 60;

fn judged(seed: u64, steps: u32, defect: Defect) -> Vec<Violation> {
    let run = Executor::run(seed, steps, defect);
    check(&run.history, &run.resolved)
}

quickcheck::quickcheck! {
    fn what_keeps_its_promises_is_never_called_wrong(seed: u64, steps: u16) -> bool {
        let found = judged(seed, u32::from(steps % 1500), Defect::None);
        assert_eq!(found, []);
        true
    }

    fn the_same_history_is_judged_alike(seed: u64) -> bool {
        judged(seed, 300, Defect::NoWriteCheck) == judged(seed, 300, Defect::NoWriteCheck)
    }
}

#[track_caller]
fn is_caught(defect: Defect, expected: &[Wrong]) {
    let mut missing = expected.to_vec();
    for seed in 0..CASES_MAX {
        for violation in judged(seed, 400, defect) {
            missing.retain(|wrong| *wrong != violation.wrong);
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("{defect:?} shows no {missing:?} in {CASES_MAX} histories");
}

#[test]
fn every_planted_defect_is_caught() {
    is_caught(Defect::RefusedHasEffect, &[Wrong::DirtyRead]);
    is_caught(Defect::FirstWriteStays, &[Wrong::IntermediateRead]);
    is_caught(Defect::TornCommit, &[Wrong::HalfTransaction]);
    is_caught(Defect::NoView, &[Wrong::NonRepeatableRead, Wrong::HalfTransaction, Wrong::ReadSkew]);
    is_caught(Defect::NoWriteCheck, &[Wrong::LostUpdate]);
    is_caught(Defect::NoKeyCheck, &[Wrong::WriteSkew]);
    is_caught(Defect::NoRangeCheck, &[Wrong::PhantomSkew]);
    is_caught(Defect::NoDeletedRangeCheck, &[Wrong::LostUpdate]);
    is_caught(Defect::StaleView, &[Wrong::OrderViolated]);
    is_caught(Defect::SwappedNumbers, &[Wrong::OrderViolated]);
    is_caught(Defect::GhostAfterCrash, &[Wrong::DirtyRead]);
}
