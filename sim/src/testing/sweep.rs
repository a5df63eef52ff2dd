//! Many seeds of a test, side by side, and what they come to together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast::sync::Mutex;

use super::plan::Plan;
use super::record::{Failure, Record};
use super::run::{Body, Watch, run};
use crate::fault::FaultClass;

/// Which seeds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    pub(super) start: u64,
    pub(super) count: u64,
    pub(super) jobs: usize,
    pub(super) watch: Watch,
}

/// Every so many seeds one is run twice.
const TWICE_EVERY: u64 = 50;
/// So many seeds without a single fault are too many.
const QUIET_SEEDS_MAX: u64 = 30;

/// What a sweep came to.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) seeds: u64,
    lives: u64,
    checks: u64,
    steps: u64,
    kills: u64,
    power_losses: u64,
    refused: u64,
    fired: BTreeMap<String, u64>,
    /// The failing plan of the least seed among those that were run.
    pub(super) failure: Option<(Plan, Record)>,
}

/// Runs the seeds; none is begun after one has failed.
pub(super) fn sweep(sweep: Sweep, body: &Body, plan_of: &(impl Fn(u64) -> Plan + Sync)) -> Summary {
    let (next, has_failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..sweep.jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= sweep.count || has_failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let plan = plan_of(sweep.start.wrapping_add(number));
                    let mut record = run(&plan, body, sweep.watch);
                    if number % TWICE_EVERY == 0 && record.failure.is_none() {
                        let again = run(&plan, body, sweep.watch);
                        if again.hash != record.hash {
                            let what = "the same seed did two different things".to_owned();
                            record.failure = Some(Failure { kind: "not deterministic".to_owned(), what });
                        }
                    }
                    has_failed.fetch_or(record.failure.is_some(), Ordering::Relaxed);
                    summary.lock().add(plan, record);
                }
            });
        }
    });
    let mut summary = summary.lock();
    std::mem::take(&mut *summary)
}

impl Summary {
    fn add(&mut self, plan: Plan, record: Record) {
        self.seeds += 1;
        self.lives += record.lives;
        self.checks += record.checks;
        self.steps += record.steps;
        self.kills += record.kills;
        self.power_losses += record.power_losses;
        self.refused += u64::from(record.refused);
        for (class, count) in &record.fired {
            *self.fired.entry(class.clone()).or_default() += count;
        }
        let is_first = self.failure.as_ref().is_none_or(|(other, _)| plan.seed < other.seed);
        if record.failure.is_some() && is_first {
            self.failure = Some((plan, record));
        }
    }

    /// In one line.
    pub(super) fn words(&self) -> String {
        let fired: Vec<String> = self.fired.iter().map(|(class, count)| format!("{class} {count}")).collect();
        format!(
            "{} seeds, {} steps, {} lives, {} kills, {} power losses, {} checks held, {} ended by lasting damage; faults: {}",
            self.seeds,
            self.steps,
            self.lives,
            self.kills,
            self.power_losses,
            self.checks,
            self.refused,
            if fired.is_empty() { "none".to_owned() } else { fired.join(", ") }
        )
    }

    /// # Errors
    /// In words: nothing went wrong, or nothing was checked, so that it shows nothing that none failed.
    pub(super) fn demand_that_something_was_shown(&self, classes: &[FaultClass]) -> Result<(), String> {
        let is_short = self.seeds < QUIET_SEEDS_MAX;
        if self.seeds == 0 {
            return Err("no seed was run: nothing was shown".to_owned());
        }
        if self.checks == 0 {
            return Err(format!("{} seeds and not one check: call `World::check`", self.seeds));
        }
        if self.refused == self.seeds {
            return Err("every seed ended by lasting damage before its end".to_owned());
        }
        // The power fails once at the end of each seed, whatever the application does.
        if !is_short && self.kills + self.power_losses <= self.seeds {
            return Err(format!(
                "{} seeds and hardly a crash: the application makes too few disk calls through `World::env`, or declares \
                 no `World::steps`",
                self.seeds
            ));
        }
        if !is_short && !classes.is_empty() && self.fired.is_empty() {
            return Err(format!("{} seeds and not one fault: nothing was shown", self.seeds));
        }
        Ok(())
    }
}
