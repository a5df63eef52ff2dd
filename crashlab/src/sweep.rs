//! Many seeds, side by side, and what they come to together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast::check::MARKS;
use holdfast_workloads::oracle::Violation;
use serde_json::{Value, json};

use crate::determinism::run_again;
use crate::draw::{Choice, plan};
use crate::fault::{Replacing, name_of};
use crate::run::{Effects, Verdict, run};

/// Which seeds, and how long.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The first seed.
    pub start: u64,
    /// How many.
    pub seeds: u64,
    /// No seed is begun after so long.
    pub time: Option<Duration>,
    /// No seed is begun after one has failed.
    pub first: bool,
    /// Seeds at once; at least 1.
    pub jobs: usize,
    /// What they draw from.
    pub choice: Choice,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was wrong first.
    pub violation: Violation,
}

/// One in so many seeds that pass is run twice, and must do the same; each that fails is.
const AGAIN_ONE_IN: u64 = 16;

/// What one figure is over all seeds.
#[derive(Clone, Copy, Debug)]
struct Spread {
    sum: u64,
    least: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { sum: 0, least: u64::MAX }
    }
}

impl Spread {
    fn add(&mut self, number: u64) {
        self.sum += number;
        self.least = self.least.min(number);
    }
}

/// What a sweep came to.
#[derive(Default, Debug)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Those that failed, by seed.
    pub failures: Vec<Failure>,
    /// Seeds that showed nothing much, by why.
    pub idle: BTreeMap<&'static str, u64>,
    operations: u64,
    crashes: u64,
    /// Simulated time in which somebody waited for an answer.
    busy_ns: u128,
    elapsed: Duration,
    refused: u64,
    undecided: u64,
    faults: BTreeMap<&'static str, Effects>,
    marks: BTreeMap<String, u64>,
    /// By how many seeds each was hit.
    mark_seeds: BTreeMap<String, u64>,
    hashes: BTreeMap<u64, u64>,
    work: BTreeMap<&'static str, Spread>,
    /// Seeds that showed nothing much, and why.
    idle_seeds: BTreeMap<u64, &'static str>,
}

impl Sweep {
    /// Runs the seeds. `told` is called after each one with how many are done, and `stop` ends the sweep early.
    pub fn run(&self, stop: &AtomicBool, told: impl Fn(&Summary) + Sync) -> Summary {
        let (next, began) = (AtomicU64::new(0), Instant::now());
        let (summary, has_failed) = (Mutex::new(Summary::default()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let is_late = self.time.is_some_and(|time| began.elapsed() >= time);
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let is_enough = stop.load(Ordering::Relaxed) || has_failed.load(Ordering::Relaxed);
                        if number >= self.seeds || is_late || is_enough {
                            return;
                        }
                        let seed = self.start.wrapping_add(number);
                        let plan = plan(seed, &self.choice);
                        let mut verdict = run(&plan);
                        if !verdict.violations.is_empty() || seed % AGAIN_ONE_IN == 0 {
                            verdict.violations.extend(run_again(&plan, verdict.hash));
                        }
                        let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                        summary.add(seed, verdict);
                        has_failed.fetch_or(self.first && !summary.failures.is_empty(), Ordering::Relaxed);
                        summary.elapsed = began.elapsed();
                        told(&summary);
                    }
                });
            }
        });
        let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
        summary.elapsed = began.elapsed();
        summary.failures.sort_by_key(|failure| failure.seed);
        summary
    }
}

impl Summary {
    fn add(&mut self, seed: u64, verdict: Verdict) {
        self.seeds += 1;
        if let Some(violation) = verdict.violations.first() {
            self.failures.push(Failure { seed, violation: violation.clone() });
        }
        let counts = &verdict.counts;
        if let Some(why) = verdict.idle_for() {
            *self.idle.entry(why).or_default() += 1;
            self.idle_seeds.insert(seed, why);
        }
        self.refused += u64::from(verdict.refused);
        self.undecided += u64::from(verdict.undecided);
        self.operations += counts.operations;
        self.crashes += verdict.crashes;
        self.busy_ns += u128::from(verdict.simulated_ns.saturating_sub(counts.idle_ns));
        // One process has no network, whose faults can never fire.
        let of_disk = verdict.fired.iter().zip(&verdict.met).filter(|((class, _), _)| !class.is_of_network());
        for ((class, fired), (_, met)) in of_disk {
            let effects = self.faults.entry(name_of(*class)).or_default();
            effects.fired += fired;
            effects.met += met;
            effects.detected += verdict.detected.get(class).copied().unwrap_or(0);
        }
        for way in Replacing::ALL {
            let of_seed = verdict.replacements.get(&way).copied().unwrap_or_default();
            let effects = self.faults.entry(way.name()).or_default();
            effects.fired += of_seed.fired;
            effects.met += of_seed.met;
            effects.detected += of_seed.detected;
        }
        for (mark, count) in verdict.marks {
            *self.mark_seeds.entry(mark.clone()).or_default() += 1;
            *self.marks.entry(mark).or_default() += count;
        }
        self.hashes.insert(seed, verdict.hash);
        for (name, number) in [
            ("operations", counts.operations),
            ("acknowledged", counts.acknowledged),
            ("conflicts", counts.conflicts),
            ("refused_calls", counts.refused),
            ("entries_read", counts.read),
            ("flushes", counts.flushes),
            ("compactions", counts.compactions),
            ("levels", counts.levels),
            ("openings", counts.openings),
            ("crashes", verdict.crashes),
            ("futures_dropped", counts.dropped),
            ("events", verdict.events),
        ] {
            self.work.entry(name).or_default().add(number);
        }
    }

    /// One hash over the hashes of all seeds, in their order.
    pub fn digest(&self) -> u64 {
        self.hashes.iter().fold(0x6372_6173_686c_6162, |digest, (seed, hash)| {
            let mixed = (digest ^ seed.rotate_left(32) ^ hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ (mixed >> 29)
        })
    }

    /// The marks that no seed hit.
    pub fn missing_marks(&self) -> Vec<&'static str> {
        MARKS.iter().copied().filter(|mark| !self.marks.contains_key(*mark)).collect()
    }

    fn per_second(&self, count: u128) -> u64 {
        let ns = self.elapsed.as_nanos().max(1);
        u64::try_from(count * 1_000_000_000 / ns).unwrap_or(u64::MAX)
    }

    /// Simulated time in which a client or an opening waited for an answer, over real time.
    fn time_ratio(&self) -> u64 {
        u64::try_from(self.busy_ns / self.elapsed.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Value {
        let of_fault = |(name, of): (&&'static str, &Effects)| {
            (*name, json!({ "fired": of.fired, "met": of.met, "detected": of.detected }))
        };
        let faults: BTreeMap<_, _> = self.faults.iter().map(of_fault).collect();
        let seeds = self.seeds.max(1);
        let work: BTreeMap<_, _> = self
            .work
            .iter()
            .map(|(name, spread)| (*name, json!({ "mean": spread.sum / seeds, "least": spread.least })))
            .collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|failure| json!({ "seed": failure.seed, "violation": failure.violation.to_string() }))
            .collect();
        json!({
            "seeds": self.seeds,
            "violations": self.failures.len(),
            "failures": failures,
            "idle": self.idle.values().sum::<u64>(),
            "idle_for": self.idle,
            "idle_seeds": self.idle_seeds,
            "refused_openings": self.refused,
            "undecided": self.undecided,
            "seconds": self.elapsed.as_secs(),
            "seeds_per_s": self.per_second(u128::from(self.seeds)),
            "ops_per_s": self.per_second(u128::from(self.operations)),
            "crashes_per_s": self.per_second(u128::from(self.crashes)),
            "time_ratio": self.time_ratio(),
            "faults": faults,
            "marks": { "hit": self.marks, "seeds": self.mark_seeds, "all": MARKS.len(), "missing": self.missing_marks() },
            "work": work,
            "digest": format!("{:016x}", self.digest()),
        })
    }

    /// Everything, for people.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} seeds in {} s: {} failed, {} idle, {} ended at a refused opening, {} undecided\n{} seeds/s, {} operations/s, \
             {} crashes/s, simulated time {} times as fast\n",
            self.seeds,
            self.elapsed.as_secs(),
            self.failures.len(),
            self.idle.values().sum::<u64>(),
            self.refused,
            self.undecided,
            self.per_second(u128::from(self.seeds)),
            self.per_second(u128::from(self.operations)),
            self.per_second(u128::from(self.crashes)),
            self.time_ratio(),
        );
        let list = |entries: Vec<String>| entries.join(", ");
        let of_work = |(name, spread): (&&str, &Spread)| {
            format!("{name} {} (at least {})", spread.sum / self.seeds.max(1), spread.least)
        };
        let of_idle = |(why, count): (&&str, &u64)| format!("{why} {count}");
        text.push_str(&format!("idle: {}\n", list(self.idle.iter().map(of_idle).collect())));
        text.push_str(&format!("a seed: {}\n", list(self.work.iter().map(of_work).collect())));
        let of_fault =
            |(name, of): (&&str, &Effects)| format!("{name} {}/{}/{}", of.fired, of.met, of.detected);
        text.push_str(&format!(
            "faults (fired/met/errors that it explains): {}\n",
            list(self.faults.iter().map(of_fault).collect())
        ));
        let missing = self.missing_marks();
        text.push_str(&format!("marks: {} of {} hit", MARKS.len() - missing.len(), MARKS.len()));
        if !missing.is_empty() {
            text.push_str(&format!("; missing: {}", missing.join(", ")));
        }
        text.push_str(&format!("\ndigest: {:016x}\n", self.digest()));
        text
    }
}
