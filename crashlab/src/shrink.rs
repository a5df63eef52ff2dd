//! The smallest plan that still fails in the same way: same oracle, same kind of wrong.
//!
//! First whole steps, faults and crashes go, by delta debugging ([`reduce`]): halves, then quarters, down to single ones.
//! Then what is left is made plainer: actions within steps, lengths, patience, settings. Both again until nothing
//! changes. Last comes the schedule: if the plan does not fail when the task that waited longest always runs, the picks
//! that were drawn are written down as so many overrides of that, and those go likewise. In the end no single step, action,
//! fault, crash, replaced disk or schedule override can go.

use std::time::{Duration, Instant};

use holdfast_sim::reduce::{self, smaller, without_places};
use holdfast_workloads::oracle::Wrong;
use holdfast_workloads::storm::Settings;
use holdfast_workloads::storm::script::{Action, Call};

use crate::determinism::run_again;
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

/// Shrinks a plan that fails, for at most so long. `told` is called with each smaller plan. `None` if it passes.
pub fn shrink(plan: &Plan, time: Duration, told: impl FnMut(&Plan)) -> Option<Shrunk> {
    let (how, wrong, violation) = first_failure(plan)?;
    let mut search =
        Search { best: plan.clone(), how, wrong, violation, runs: 1, began: Instant::now(), time, told };
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

/// Tries a plan without each single step, action, fault, crash, replaced disk and schedule override. Gives how many there are and those
/// without which it still fails in the same way, in words. `None` if it passes.
pub fn removable(plan: &Plan) -> Option<(usize, Vec<String>)> {
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
    let idle = all.iter().filter(|(_, smaller)| can_go(smaller)).map(|(what, _)| what.clone()).collect();
    Some((all.len(), idle))
}

struct Search<T> {
    best: Plan,
    how: Runs,
    wrong: Wrong,
    violation: String,
    runs: u64,
    began: Instant,
    time: Duration,
    told: T,
}

impl<T: FnMut(&Plan)> Search<T> {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.time
    }

    /// Keeps a plan if it fails in the same way.
    fn try_plan(&mut self, plan: Plan) -> bool {
        if plan == self.best || self.is_over() {
            return false;
        }
        self.runs += 1;
        match failure(&plan, self.how) {
            Some((wrong, violation)) if wrong == self.wrong => {
                self.best = plan;
                self.violation = violation;
                (self.told)(&self.best);
                true
            }
            _ => false,
        }
    }

    /// Lets units go, many at a time at first.
    fn cut_units<U: Copy + PartialEq>(
        &mut self,
        units: fn(&Plan) -> Vec<U>,
        without: fn(&Plan, &[U]) -> Plan,
    ) {
        let mut best = self.best.clone();
        reduce::cut(&mut best, units, without, |plan| self.try_plan(plan.clone()));
    }

    /// Puts what the scheduler drew into the plan, where it can go piece by piece. False if it stands there.
    fn write_schedule_down(&mut self) -> bool {
        if self.best.plain_schedule {
            return false;
        }
        let drawn = run_watched(&self.best, Watch { record_schedule: true, ..Watch::default() }).schedule;
        let picks = (0..).zip(drawn).filter(|(_, pick)| *pick > 0).collect();
        self.try_plan(Plan { plain_schedule: true, schedule: picks, ..self.best.clone() })
    }

    /// Makes plainer what cannot go.
    fn simplify(&mut self) {
        for plain in plainer_wholes(&self.best) {
            self.try_plan(plain);
        }
        for settings in plainer_settings(self.best.settings) {
            self.try_plan(Plan { settings, ..self.best.clone() });
        }
        for index in 0..self.best.crashes.len() {
            for calls in smaller(self.best.crashes[index].calls, 0) {
                let mut plan = self.best.clone();
                plan.crashes[index].calls = calls;
                if self.try_plan(plan) {
                    break;
                }
            }
        }
        for index in 0..self.best.faults.len() {
            for nth in smaller(self.best.faults[index].nth, 1) {
                let mut plan = self.best.clone();
                plan.faults[index].nth = nth;
                if self.try_plan(plan) {
                    break;
                }
            }
            let mut plan = self.best.clone();
            plan.faults[index].lasting = false;
            self.try_plan(plan);
        }
        for index in 0..self.best.replacements.len() {
            let mut plan = self.best.clone();
            plan.replacements[index].demand = false;
            self.try_plan(plan);
            for opening in smaller(self.best.replacements[index].opening.into(), 1) {
                let mut plan = self.best.clone();
                plan.replacements[index].opening = u32::try_from(opening).unwrap_or(1);
                if self.try_plan(plan) {
                    break;
                }
            }
        }
        for (client, step) in steps_of(&self.best) {
            let mut plan = self.best.clone();
            plan.script.clients[client][step].patience = None;
            self.try_plan(plan);
        }
        for (client, step, action) in actions_of(&self.best) {
            let mut plan = self.best.clone();
            let actions = actions_mut(&mut plan.script.clients[client][step].call);
            match actions.and_then(|all| all.get_mut(action)) {
                Some(Action::Put(_, _, len)) if *len > 8 => *len = 8,
                Some(Action::Scan(_, walk)) => walk.hold = None,
                _ => continue,
            }
            self.try_plan(plan);
        }
    }
}

fn plainer_wholes(plan: &Plan) -> Vec<Plan> {
    let mut fewer_clients = plan.clone();
    while fewer_clients.script.clients.last().is_some_and(Vec::is_empty) {
        fewer_clients.script.clients.pop();
    }
    vec![
        fewer_clients,
        Plan { plain_schedule: true, schedule: Vec::new(), ..plan.clone() },
        Plan { rare_one_in: 0, ..plan.clone() },
        Plan { disk: DiskPlan::default(), ..plan.clone() },
        Plan { wall_drift_ppm: 0, ..plan.clone() },
        Plan { settings: Settings::PLAIN, ..plan.clone() },
    ]
}

/// The settings with one of them plain.
fn plainer_settings(settings: Settings) -> Vec<Settings> {
    let plain = Settings::PLAIN;
    vec![
        Settings { compress: plain.compress, ..settings },
        Settings { filter_bits: plain.filter_bits, ..settings },
        Settings { retain: plain.retain, ..settings },
        Settings { narrow_window: plain.narrow_window, ..settings },
        Settings { scarce_memory: plain.scarce_memory, ..settings },
        Settings { direct: plain.direct, ..settings },
        Settings { paranoid: plain.paranoid, ..settings },
        Settings { compactions: plain.compactions, ..settings },
        Settings { large_transactions: plain.large_transactions, ..settings },
        Settings { block_bytes: plain.block_bytes, ..settings },
        Settings { memtable_kib: plain.memtable_kib, ..settings },
        Settings { table_kib: plain.table_kib, ..settings },
        Settings { level0_tables: plain.level0_tables, ..settings },
        Settings { level_ratio: plain.level_ratio, ..settings },
        Settings { segment_kib: plain.segment_kib, ..settings },
    ]
}

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
