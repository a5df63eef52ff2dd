//! The smallest plan that still fails in the same way: same oracle, same kind of wrong.
//!
//! First whole steps, faults and crashes go, by delta debugging ([`reduce`]): halves, then quarters, down to single ones.
//! Then what is left is made plainer: actions within steps, lengths, patience, settings. Both again until nothing
//! changes. Last comes the schedule: if the plan does not fail when the task that waited longest always runs, the picks
//! that were drawn are written down as so many overrides of that, and those go likewise. In the end no single step, action,
//! fault, crash, replaced disk or schedule override can go.
//!
//! What is tried next if nothing succeeds is known, so several candidates run side by side. Taken is the first in order that
//! fails as it must, so the plan that comes out does not depend on how many they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_sim::reduce::{self, smaller, without_places};
use holdfast_workloads::oracle::Wrong;
use holdfast_workloads::storm::Settings;
use holdfast_workloads::storm::script::{Action, Call};

use crate::determinism::run_again;
use crate::lanes;
use crate::plan::{At, DiskPlan, Plan, Substitute};
use crate::run::{Watch, run, run_watched};

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// What is wrong with it.
    pub violation: String,
    /// Runs that it took.
    pub runs: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Nothing single can go any more; false if the time was over before.
    pub is_minimal: bool,
}

/// How plans are run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// Once.
    Once,
    /// Twice, and they must do the same.
    Twice,
}

/// What a plan fails with; `None` if it passes.
fn failure(plan: &Plan, runs: Runs) -> Option<(Wrong, String)> {
    let verdict = run(plan);
    let apart = || (runs == Runs::Twice).then(|| run_again(plan, verdict.hash)).flatten();
    let violation = verdict.violations.first().cloned().or_else(apart)?;
    Some((violation.wrong, violation.to_string()))
}

/// What a plan fails with, and how it has to be run for that.
fn first_failure(plan: &Plan) -> Option<(Runs, Wrong, String)> {
    let of = |runs| failure(plan, runs).map(|(wrong, violation)| (runs, wrong, violation));
    of(Runs::Once).or_else(|| of(Runs::Twice))
}

/// Shrinks a plan that fails, for at most so long, with so many runs at once. `told` is called with each smaller plan.
/// `None` if it passes.
pub fn shrink(plan: &Plan, time: Duration, jobs: usize, told: impl FnMut(&Plan)) -> Option<Shrunk> {
    let (how, wrong, violation) = first_failure(plan)?;
    let mut search = Search {
        best: plan.clone(),
        how,
        wrong,
        violation,
        runs: 1,
        began: Instant::now(),
        time,
        jobs,
        told,
    };
    let mut is_minimal = false;
    while !search.is_over() {
        let before = search.best.clone();
        search.cut_units(steps_of, without_steps);
        search.cut_units(events_of, without_events);
        search.cut_units(actions_of, without_actions);
        search.simplify();
        if search.best == before && !search.write_schedule_down() {
            is_minimal = !search.is_over();
            break;
        }
    }
    let Search { best, violation, runs, began, .. } = search;
    Some(Shrunk { plan: best, violation, runs, elapsed: began.elapsed(), is_minimal })
}

/// Tries a plan without each single step, action, fault, crash, replaced disk and schedule override, so many at once. Gives
/// how many there are and those without which it still fails in the same way, in words. `None` if it passes.
pub fn removable(plan: &Plan, jobs: usize) -> Option<(usize, Vec<String>)> {
    let (how, wrong, _) = first_failure(plan)?;
    let steps = steps_of(plan)
        .into_iter()
        .map(|unit| (format!("step {} of client {}", unit.1, unit.0), without_steps(plan, &[unit])));
    let actions = actions_of(plan).into_iter().map(|unit| {
        let what = format!("action {} of step {} of client {}", unit.2, unit.1, unit.0);
        (what, without_actions(plan, &[unit]))
    });
    let events = events_of(plan).into_iter().map(|unit| (format!("{unit:?}"), without_events(plan, &[unit])));
    let all: Vec<_> = steps.chain(actions).chain(events).collect();
    let can_go = |smaller: &Plan| failure(smaller, how).is_some_and(|(of, _)| of == wrong);
    let idle = Mutex::new(BTreeSet::new());
    lanes::run(
        all.len() as u64,
        jobs,
        false,
        || false,
        |number| {
            let can_go = can_go(&all[place(number)].1);
            if can_go {
                idle.lock().unwrap_or_else(PoisonError::into_inner).insert(place(number));
            }
            can_go
        },
    );
    let idle = idle.into_inner().unwrap_or_else(PoisonError::into_inner);
    Some((all.len(), idle.into_iter().map(|at| all[at].0.clone()).collect()))
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("a place in a list")
}

/// A change that makes a plan plainer, or leaves it as it is.
type Edit = Box<dyn Fn(&mut Plan) + Sync>;

struct Search<T> {
    best: Plan,
    how: Runs,
    wrong: Wrong,
    violation: String,
    runs: u64,
    began: Instant,
    time: Duration,
    jobs: usize,
    told: T,
}

impl<T: FnMut(&Plan)> Search<T> {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.time
    }

    /// Keeps a plan if it fails in the same way.
    fn try_plan(&mut self, plan: &Plan) -> bool {
        self.first_kept(1, |_| plan.clone()).is_some()
    }

    /// Keeps the first of so many plans that fails in the same way, and gives its number.
    fn first_kept(&mut self, count: usize, candidate: impl Fn(usize) -> Plan + Sync) -> Option<usize> {
        let (kept, ran) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        let (best, how, expected, began, time) = (&self.best, self.how, self.wrong, self.began, self.time);
        let number = lanes::run(
            count as u64,
            self.jobs,
            true,
            || began.elapsed() >= time,
            |number| {
                let plan = candidate(place(number));
                if plan == *best {
                    return false;
                }
                let failed = failure(&plan, how).filter(|(wrong, _)| *wrong == expected);
                ran.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                failed.is_some_and(|(_, violation)| {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.insert(number, (plan, violation)).is_none()
                })
            },
        );
        // What ran beside the first one for nothing would not have run alone.
        let ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.runs += ran.iter().filter(|ran| number.is_none_or(|first| **ran <= first)).count() as u64;
        let (number, (plan, violation)) =
            kept.into_inner().unwrap_or_else(PoisonError::into_inner).pop_first()?;
        (self.best, self.violation) = (plan, violation);
        (self.told)(&self.best);
        Some(place(number))
    }

    /// Lets units go, many at a time at first.
    fn cut_units<U: Copy + PartialEq + Sync>(
        &mut self,
        units: fn(&Plan) -> Vec<U>,
        without: fn(&Plan, &[U]) -> Plan,
    ) {
        let mut best = self.best.clone();
        reduce::cut_ahead(&mut best, units, |plan, cuts| {
            let number = self.first_kept(cuts.len(), |number| without(plan, cuts[number]))?;
            Some((number, self.best.clone()))
        });
    }

    /// Makes plainer what cannot go: each change is one of what the ones before it have left.
    fn simplify(&mut self) {
        let edits = plainer(&self.best);
        let mut from = 0;
        while from < edits.len() {
            let best = self.best.clone();
            let candidate = |number: usize| {
                let mut plan = best.clone();
                edits[from + number](&mut plan);
                plan
            };
            match self.first_kept(edits.len() - from, candidate) {
                Some(number) => from += number + 1,
                None => return,
            }
        }
    }

    /// Puts what the scheduler drew into the plan, where it can go piece by piece. False if it stands there.
    fn write_schedule_down(&mut self) -> bool {
        if self.best.plain_schedule {
            return false;
        }
        let drawn = run_watched(&self.best, Watch { record_schedule: true, ..Watch::default() }).schedule;
        let picks = (0..).zip(drawn).filter(|(_, pick)| *pick > 0).collect();
        self.try_plan(&Plan { plain_schedule: true, schedule: picks, ..self.best.clone() })
    }
}

/// What may be plainer in a plan, in the order in which it is tried. None of it adds or removes a step, a fault or a crash,
/// so all of it fits a plan that others of these have changed.
fn plainer(plan: &Plan) -> Vec<Edit> {
    let mut edits = plainer_wholes();
    edits.extend(
        PLAINER_SETTINGS
            .map(|set| -> Edit { Box::new(move |plan| set(&mut plan.settings, Settings::PLAIN)) }),
    );
    for (index, crash) in plan.crashes.iter().enumerate() {
        edits.extend(
            smaller(crash.calls, 0)
                .into_iter()
                .map(|calls| -> Edit { Box::new(move |plan| lower(&mut plan.crashes[index].calls, calls)) }),
        );
    }
    for (index, fault) in plan.faults.iter().enumerate() {
        edits.extend(
            smaller(fault.nth, 1)
                .into_iter()
                .map(|nth| -> Edit { Box::new(move |plan| lower(&mut plan.faults[index].nth, nth)) }),
        );
        edits.push(Box::new(move |plan| plan.faults[index].lasting = false));
    }
    for (index, replacement) in plan.replacements.iter().enumerate() {
        edits.push(Box::new(move |plan| plan.replacements[index].demand = false));
        edits.extend(smaller(replacement.opening.into(), 1).into_iter().map(|opening| -> Edit {
            let opening = u32::try_from(opening).unwrap_or(1);
            Box::new(move |plan| lower(&mut plan.replacements[index].opening, opening))
        }));
    }
    edits.extend(steps_of(plan).into_iter().map(|(client, step)| -> Edit {
        Box::new(move |plan| plan.script.clients[client][step].patience = None)
    }));
    edits.extend(actions_of(plan).into_iter().map(|(client, step, action)| -> Edit {
        Box::new(move |plan| {
            let actions = actions_mut(&mut plan.script.clients[client][step].call);
            match actions.and_then(|all| all.get_mut(action)) {
                Some(Action::Put(_, _, len)) => lower(len, 8),
                Some(Action::Scan(_, walk)) => walk.hold = None,
                _ => {}
            }
        })
    }));
    edits
}

/// Puts a smaller number in place of a greater one: of several that are tried the least stays.
fn lower<N: PartialOrd>(number: &mut N, to: N) {
    if to < *number {
        *number = to;
    }
}

fn plainer_wholes() -> Vec<Edit> {
    vec![
        Box::new(|plan| {
            while plan.script.clients.last().is_some_and(Vec::is_empty) {
                plan.script.clients.pop();
            }
        }),
        Box::new(|plan| {
            plan.plain_schedule = true;
            plan.schedule.clear();
        }),
        Box::new(|plan| plan.rare_one_in = 0),
        Box::new(|plan| plan.disk = DiskPlan::default()),
        Box::new(|plan| plan.wall_drift_ppm = 0),
        Box::new(|plan| plan.settings = Settings::PLAIN),
    ]
}

/// Each makes one of the settings plain.
const PLAINER_SETTINGS: [fn(&mut Settings, Settings); 15] = [
    |of, plain| of.compress = plain.compress,
    |of, plain| of.filter_bits = plain.filter_bits,
    |of, plain| of.retain = plain.retain,
    |of, plain| of.narrow_window = plain.narrow_window,
    |of, plain| of.scarce_memory = plain.scarce_memory,
    |of, plain| of.direct = plain.direct,
    |of, plain| of.paranoid = plain.paranoid,
    |of, plain| of.compactions = plain.compactions,
    |of, plain| of.large_transactions = plain.large_transactions,
    |of, plain| of.block_bytes = plain.block_bytes,
    |of, plain| of.memtable_kib = plain.memtable_kib,
    |of, plain| of.table_kib = plain.table_kib,
    |of, plain| of.level0_tables = plain.level0_tables,
    |of, plain| of.level_ratio = plain.level_ratio,
    |of, plain| of.segment_kib = plain.segment_kib,
];

fn steps_of(plan: &Plan) -> Vec<(usize, usize)> {
    let clients = plan.script.clients.iter().enumerate();
    clients.flat_map(|(client, steps)| (0..steps.len()).map(move |step| (client, step))).collect()
}

/// Whatever was anchored to a step that goes comes with the next one of its client.
fn without_steps(plan: &Plan, cut: &[(usize, usize)]) -> Plan {
    let mut plan = plan.clone();
    let is_cut = |client: usize, step: usize| cut.contains(&(client, step));
    let moved = |at: At| match at {
        At::Step { client, step } => {
            let before = (0..step as usize).filter(|step| !is_cut(client as usize, *step)).count();
            At::Step { client, step: u32::try_from(before).unwrap_or(step) }
        }
        At::Opening(opening) => At::Opening(opening),
    };
    plan.crashes.iter_mut().for_each(|crash| crash.at = moved(crash.at));
    plan.faults.iter_mut().for_each(|fault| fault.at = moved(fault.at));
    for replacement in &mut plan.replacements {
        if let Substitute::CopyOf(at) = &mut replacement.by {
            *at = moved(*at);
        }
    }
    for (client, steps) in plan.script.clients.iter_mut().enumerate() {
        let mut step = 0;
        steps.retain(|_| {
            step += 1;
            !is_cut(client, step - 1)
        });
    }
    plan
}

/// A fault, a crash, a replaced disk or a schedule override.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PlannedEvent {
    Crash(usize),
    Fault(usize),
    Replacement(usize),
    Override(usize),
}

fn events_of(plan: &Plan) -> Vec<PlannedEvent> {
    let crashes = (0..plan.crashes.len()).map(PlannedEvent::Crash);
    let faults = (0..plan.faults.len()).map(PlannedEvent::Fault);
    let replacements = (0..plan.replacements.len()).map(PlannedEvent::Replacement);
    let overrides = (0..plan.schedule.len()).map(PlannedEvent::Override);
    crashes.chain(faults).chain(replacements).chain(overrides).collect()
}

fn without_events(plan: &Plan, cut: &[PlannedEvent]) -> Plan {
    Plan {
        crashes: without_places(&plan.crashes, |index| cut.contains(&PlannedEvent::Crash(index))),
        faults: without_places(&plan.faults, |index| cut.contains(&PlannedEvent::Fault(index))),
        replacements: without_places(&plan.replacements, |index| {
            cut.contains(&PlannedEvent::Replacement(index))
        }),
        schedule: without_places(&plan.schedule, |index| cut.contains(&PlannedEvent::Override(index))),
        ..plan.clone()
    }
}

fn actions_mut(call: &mut Call) -> Option<&mut Vec<Action>> {
    match call {
        Call::Transact { actions, .. } | Call::Batch { actions, .. } | Call::Read { actions, .. } => {
            Some(actions)
        }
        _ => None,
    }
}

fn actions_of(plan: &Plan) -> Vec<(usize, usize, usize)> {
    let steps = steps_of(plan).into_iter();
    let of_step = |(client, step): (usize, usize)| {
        let count = match &plan.script.clients[client][step].call {
            Call::Transact { actions, .. } | Call::Batch { actions, .. } | Call::Read { actions, .. } => {
                actions.len()
            }
            _ => 0,
        };
        (0..count).map(move |action| (client, step, action))
    };
    steps.flat_map(of_step).collect()
}

fn without_actions(plan: &Plan, cut: &[(usize, usize, usize)]) -> Plan {
    let mut plan = plan.clone();
    for (client, steps) in plan.script.clients.iter_mut().enumerate() {
        for (step, of) in steps.iter_mut().enumerate() {
            let mut action = 0;
            if let Some(actions) = actions_mut(&mut of.call) {
                actions.retain(|_| {
                    action += 1;
                    !cut.contains(&(client, step, action - 1))
                });
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Choice, plan};

    #[test]
    fn anchors_move_with_the_steps_before_them() {
        let mut plan = plan(1, &Choice::default());
        plan.crashes.truncate(1);
        plan.crashes[0].at = At::Step { client: 0, step: 5 };
        let cut = without_steps(&plan, &[(0, 0), (0, 4), (0, 5), (0, 6)]);
        assert_eq!(cut.crashes[0].at, At::Step { client: 0, step: 3 });
        assert_eq!(cut.script.clients[0][3], plan.script.clients[0][7]);
        assert_eq!(cut.script.steps() + 4, plan.script.steps());
    }

    #[test]
    fn no_change_takes_back_what_another_has_made_plainer() {
        for seed in 0..8 {
            let mut plan = plan(seed, &Choice::default());
            let edits = plainer(&plan);
            edits.iter().for_each(|edit| edit(&mut plan));
            let plain = plan.clone();
            edits.iter().for_each(|edit| edit(&mut plan));
            assert_eq!(plan, plain, "once all are made, none changes anything");
            assert!(plan.crashes.iter().all(|crash| crash.calls == 0));
            assert!(plan.faults.iter().all(|fault| fault.nth <= 1 && !fault.lasting));
            assert!(plan.script.clients.iter().flatten().all(|step| step.patience.is_none()));
            assert_eq!(
                (plan.settings, plan.disk, plan.rare_one_in),
                (Settings::PLAIN, DiskPlan::default(), 0)
            );
        }
    }

    #[test]
    fn every_unit_can_go_alone() {
        let plan = plan(3, &Choice::default());
        assert!(
            steps_of(&plan)
                .iter()
                .all(|unit| without_steps(&plan, &[*unit]).script.steps() + 1 == plan.script.steps())
        );
        assert!(events_of(&plan).iter().all(|unit| without_events(&plan, &[*unit]) != plan));
        assert!(actions_of(&plan).iter().all(|unit| {
            without_actions(&plan, &[*unit]).script.operations() + 1 == plan.script.operations()
        }));
    }
}
