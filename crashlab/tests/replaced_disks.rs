//! Disks that are replaced between two openings: what must be refused is, and what must be there is.

use holdfast_crashlab::draw::{self, Choice};
use holdfast_crashlab::fault::Replacing;
use holdfast_crashlab::plan::{At, Crash, CrashKind, Replacement, Substitute};
use holdfast_crashlab::run::{Effects, Verdict};
use holdfast_crashlab::{Plan, run};
use holdfast_workloads::history::{Durable, Milestone};
use holdfast_workloads::storm::Workload;
use holdfast_workloads::storm::script::Call;

/// A script of commits that last, cut by a power loss at its middle; behind that the disk is another one.
fn plan(seed: u64, by: Substitute, demand: bool) -> Plan {
    let choice = Choice {
        workloads: vec![Workload::Register],
        faults: Vec::new(),
        replacing: Vec::new(),
        operations: 300,
    };
    let mut plan = draw::plan(seed, &choice);
    for step in plan.script.clients.iter_mut().flatten() {
        step.patience = None;
        if let Call::Batch { durable, .. } = &mut step.call {
            *durable = Durable::Sync;
        }
    }
    let at = step_at(&plan, 2);
    plan.crashes = vec![Crash { at, calls: 0, kind: CrashKind::PowerLoss }];
    plan.replacements = vec![Replacement { opening: 1, by, demand }];
    plan
}

/// The step of the first client behind so many quarters of them.
fn step_at(plan: &Plan, quarters: u32) -> At {
    let steps = u32::try_from(plan.script.clients[0].len()).expect("few steps");
    At::Step { client: 0, step: steps * quarters / 4 }
}

fn passes(plan: &Plan) -> Verdict {
    let verdict = run(plan);
    assert_eq!(verdict.violations, [], "{}", plan.to_text());
    verdict
}

/// The last commit that each opening found.
fn found(verdict: &Verdict) -> Vec<u64> {
    let opened = |milestone: &Milestone| match milestone {
        Milestone::Opened(last, _) => Some(*last),
        _ => None,
    };
    verdict.history.milestones.iter().filter_map(|(_, milestone)| opened(milestone)).collect()
}

#[test]
fn a_wiped_disk_is_empty_and_no_demand_of_it_is_met() {
    for seed in 0..4 {
        for demand in [false, true] {
            let verdict = passes(&plan(seed, Substitute::Empty, demand));
            let expected = Effects { fired: 1, met: 1, detected: demand.into() };
            assert_eq!(verdict.replacements.get(&Replacing::Wiped), Some(&expected));
            assert_eq!(found(&verdict)[..2], [0, 0]);
        }
    }
}

#[test]
fn an_older_copy_has_what_was_durable_and_no_more() {
    for seed in 0..4 {
        for demand in [false, true] {
            let mut plan = plan(seed, Substitute::Empty, demand);
            plan.replacements[0].by = Substitute::CopyOf(step_at(&plan, 1));
            let verdict = passes(&plan);
            let expected = Effects { fired: 1, met: 1, detected: demand.into() };
            assert_eq!(verdict.replacements.get(&Replacing::OlderCopy), Some(&expected));
            let found = found(&verdict);
            assert!(found[1] > 0, "{found:?}");
        }
    }
}

#[test]
fn a_copy_that_nothing_was_written_after_meets_the_demand() {
    let mut plan = plan(1, Substitute::CopyOf(At::Opening(1)), true);
    plan.replacements[0].opening = 2;
    // The second opening ends before it does anything.
    plan.crashes.push(Crash { at: At::Opening(1), calls: 1, kind: CrashKind::PowerLoss });
    let verdict = passes(&plan);
    let expected = Effects { fired: 1, met: 0, detected: 0 };
    assert_eq!(verdict.replacements.get(&Replacing::OlderCopy), Some(&expected));
}

#[test]
fn a_copy_that_was_never_made_replaces_nothing() {
    let plan = plan(2, Substitute::CopyOf(At::Opening(9)), true);
    assert!(passes(&plan).replacements.is_empty());
}
