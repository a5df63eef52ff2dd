//! The smallest plan of an application that still fails in the same way.
//!
//! Steps, faults, crashes and schedule overrides go by delta debugging ([`reduce`]); then what is left
//! is made plainer: settings, disk, call numbers. Both again until nothing changes, so that in the end no single step,
//! fault, crash or override can go.

use std::time::{Duration, Instant};

use super::plan::{DiskPlan, Plan};
use super::record::Failure;
use super::settings::Settings;
use crate::reduce;

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// What is wrong with it.
    pub failure: Failure,
    /// Runs that it took.
    pub runs: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Nothing single can go any more; false if the time was over before.
    pub is_minimal: bool,
}

/// Shrinks a plan for at most so long. `fails` runs a plan and says what is wrong with it; `told` is called with each
/// smaller plan. `None` if the plan passes.
pub fn shrink(
    plan: &Plan,
    time: Duration,
    fails: impl FnMut(&Plan) -> Option<Failure>,
    told: impl FnMut(&Plan),
) -> Option<Shrunk> {
    let mut fails = fails;
    let failure = fails(plan)?;
    let mut search = Search { failure, runs: 1, began: Instant::now(), time, fails, told };
    let (mut best, mut is_minimal) = (plan.clone(), false);
    while !search.is_over() {
        let before = best.clone();
        reduce::cut(&mut best, steps_of, without_steps, |plan| search.fails_as_before(plan));
        reduce::cut(&mut best, events_of, without_events, |plan| search.fails_as_before(plan));
        search.simplify(&mut best);
        if best == before && !search.is_over() {
            is_minimal = true;
            break;
        }
    }
    let Search { failure, runs, began, .. } = search;
    Some(Shrunk { plan: best, failure, runs, elapsed: began.elapsed(), is_minimal })
}

/// Tries a plan without each single step, fault, crash and schedule override. Gives how many there are and those without
/// which it still fails in the same way, in words. `None` if it passes.
pub fn removable(
    plan: &Plan,
    mut fails: impl FnMut(&Plan) -> Option<Failure>,
) -> Option<(usize, Vec<String>)> {
    let kind = fails(plan)?.kind;
    let steps = steps_of(plan).into_iter().map(|step| {
        let what = format!("step {} of {}", step.1, step.0);
        (what, without_steps(plan, &[step]))
    });
    let events =
        events_of(plan).into_iter().map(|event| (format!("{event:?}"), without_events(plan, &[event])));
    let all: Vec<(String, Plan)> = steps.chain(events).collect();
    let mut can_go = |smaller: &Plan| fails(smaller).is_some_and(|failure| failure.kind == kind);
    let idle = all.iter().filter(|(_, smaller)| can_go(smaller)).map(|(what, _)| what.clone()).collect();
    Some((all.len(), idle))
}

struct Search<F, T> {
    failure: Failure,
    runs: u64,
    began: Instant,
    time: Duration,
    fails: F,
    told: T,
}

impl<F: FnMut(&Plan) -> Option<Failure>, T: FnMut(&Plan)> Search<F, T> {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.time
    }

    fn fails_as_before(&mut self, plan: &Plan) -> bool {
        if self.is_over() {
            return false;
        }
        self.runs += 1;
        match (self.fails)(plan) {
            Some(failure) if failure.kind == self.failure.kind => {
                self.failure = failure;
                (self.told)(plan);
                true
            }
            _ => false,
        }
    }

    fn keep_if_it_fails(&mut self, best: &mut Plan, plan: Plan) -> bool {
        let is_kept = plan != *best && self.fails_as_before(&plan);
        if is_kept {
            *best = plan;
        }
        is_kept
    }

    /// Makes plainer what cannot go.
    fn simplify(&mut self, best: &mut Plan) {
        let plain = Plan { rare_one_in: 0, ..best.clone() };
        self.keep_if_it_fails(best, plain);
        let plain = Plan { plain_schedule: true, schedule: Vec::new(), ..best.clone() };
        self.keep_if_it_fails(best, plain);
        let plain = Plan { disk: DiskPlan::default(), ..best.clone() };
        self.keep_if_it_fails(best, plain);
        let plain = Plan { settings: Settings::PRODUCTION, ..best.clone() };
        self.keep_if_it_fails(best, plain);
        for index in 0..best.crashes.len() {
            for calls in reduce::smaller(best.crashes[index].calls, 1) {
                let mut plan = best.clone();
                plan.crashes[index].calls = calls;
                if self.keep_if_it_fails(best, plan) {
                    break;
                }
            }
        }
        for index in 0..best.faults.len() {
            for nth in reduce::smaller(best.faults[index].nth, 1) {
                let mut plan = best.clone();
                plan.faults[index].nth = nth;
                if self.keep_if_it_fails(best, plan) {
                    break;
                }
            }
            let mut plan = best.clone();
            plan.faults[index].lasting = false;
            self.keep_if_it_fails(best, plan);
        }
    }
}

fn steps_of(plan: &Plan) -> Vec<(String, u64)> {
    let of_name = |(name, steps): (&String, &Vec<u64>)| {
        let name = name.clone();
        steps.clone().into_iter().map(move |step| (name.clone(), step)).collect::<Vec<_>>()
    };
    plan.steps.iter().flat_map(of_name).collect()
}

fn without_steps(plan: &Plan, cut: &[(String, u64)]) -> Plan {
    let mut plan = plan.clone();
    for (name, steps) in &mut plan.steps {
        steps.retain(|step| !cut.iter().any(|(of, number)| of == name && number == step));
    }
    plan
}

/// A fault, a crash or a schedule override.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PlannedEvent {
    Crash(usize),
    Fault(usize),
    Override(usize),
}

fn events_of(plan: &Plan) -> Vec<PlannedEvent> {
    let crashes = (0..plan.crashes.len()).map(PlannedEvent::Crash);
    let faults = (0..plan.faults.len()).map(PlannedEvent::Fault);
    let overrides = (0..plan.schedule.len()).map(PlannedEvent::Override);
    crashes.chain(faults).chain(overrides).collect()
}

fn without_events(plan: &Plan, cut: &[PlannedEvent]) -> Plan {
    Plan {
        crashes: reduce::without_places(&plan.crashes, |at| cut.contains(&PlannedEvent::Crash(at))),
        faults: reduce::without_places(&plan.faults, |at| cut.contains(&PlannedEvent::Fault(at))),
        schedule: reduce::without_places(&plan.schedule, |at| cut.contains(&PlannedEvent::Override(at))),
        ..plan.clone()
    }
}
