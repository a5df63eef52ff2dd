//! Many seeds, side by side, and what they come to together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast::check::MARKS;
use holdfast_workloads::oracle::{Violation, Wrong};
use serde_json::{Value, json};

use crate::determinism::run_again;
use crate::draw::{Choice, plan};
use crate::fault::{Replacing, name_of};
use crate::lanes;
use crate::plan::Plan;
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
    /// No seed is begun behind one that has failed. Told is the lowest one, whatever was under way beside it.
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
    /// Beside that, two runs of it did not do the same.
    pub differs: Option<Violation>,
}

impl Failure {
    fn of(seed: u64, violations: &[Violation]) -> Option<Self> {
        let (violation, others) = violations.split_first()?;
        let differs = others.iter().find(|other| other.wrong == Wrong::NotDeterministic);
        Some(Self { seed, violation: violation.clone(), differs: differs.cloned() })
    }

    /// True if it takes two runs to see all of it.
    pub fn takes_two_runs(&self) -> bool {
        self.differs.is_some() || self.violation.wrong == Wrong::NotDeterministic
    }
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
        let (began, summary) = (Instant::now(), Mutex::new(Summary::default()));
        let is_over =
            || stop.load(Ordering::Relaxed) || self.time.is_some_and(|time| began.elapsed() >= time);
        lanes::run(self.seeds, self.jobs, self.first, is_over, |number| {
            let seed = self.start.wrapping_add(number);
            let plan = plan(seed, &self.choice);
            let mut verdict = run(&plan);
            if !verdict.violations.is_empty() || seed % AGAIN_ONE_IN == 0 {
                verdict.violations.extend(run_again(&plan, verdict.hash));
            }
            let has_failed = !verdict.violations.is_empty();
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.add(seed, &plan, verdict);
            summary.elapsed = began.elapsed();
            told(&summary);
            has_failed
        });
        let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
        summary.elapsed = began.elapsed();
        summary.failures.sort_by_key(|failure| failure.seed);
        if self.first {
            summary.failures.truncate(1);
        }
        summary
    }
}

/// Single reads and walks that the model could compare: their view is known. It compares none of a history that it has
/// given up.
fn reads_judged(verdict: &Verdict) -> u64 {
    if verdict.undecided {
        return 0;
    }
    let viewing = verdict.history.transactions.iter().filter(|transaction| transaction.view.is_some());
    let reads = viewing.flat_map(|transaction| &transaction.operations);
    reads.filter(|operation| !operation.is_write()).count() as u64
}

impl Summary {
    fn add(&mut self, seed: u64, plan: &Plan, verdict: Verdict) {
        self.seeds += 1;
        self.failures.extend(Failure::of(seed, &verdict.violations));
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
        let reads_judged = reads_judged(&verdict);
        for (mark, count) in verdict.marks {
            *self.mark_seeds.entry(mark.clone()).or_default() += 1;
            *self.marks.entry(mark).or_default() += count;
        }
        self.hashes.insert(seed, verdict.hash);
        for (name, number) in [
            ("operations_planned", plan.script.operations()),
            ("crashes_planned", plan.crashes_with_recovery()),
            ("operations_acknowledged", counts.operations),
            ("commits_acknowledged", counts.acknowledged),
            ("conflicts", counts.conflicts),
            ("refused_calls", counts.refused),
            ("reads_judged", reads_judged),
            ("entries_read", counts.read),
            ("flushes", counts.flushes),
            ("compactions", counts.compactions),
            ("deepest_level", counts.deepest_level),
            ("openings", counts.openings),
            // The first opening finds nothing to recover.
            ("recoveries", counts.openings.saturating_sub(1)),
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

    /// A line for each seed, in their order: the seed, and the hash of its run.
    pub fn hashes(&self) -> String {
        self.hashes.iter().map(|(seed, hash)| format!("{seed} {hash:016x}\n")).collect()
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
        let of_work = |(name, spread): (&&'static str, &Spread)| {
            let mean = (spread.sum * 100 / self.seeds.max(1)) as f64 / 100.0;
            (*name, json!({ "mean": mean, "min": spread.least }))
        };
        let work: BTreeMap<_, _> = self.work.iter().map(of_work).collect();
        let of_failure = |failure: &Failure| {
            json!({
                "seed": failure.seed,
                "wrong": failure.violation.wrong,
                "violation": failure.violation.to_string(),
                "not_deterministic": failure.differs.as_ref().map(ToString::to_string),
            })
        };
        let failures: Vec<Value> = self.failures.iter().map(of_failure).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_fails_and_differs_tells_both() {
        let violation = |wrong, what: &str| Violation { wrong, what: what.to_owned() };
        let lost = violation(Wrong::LostWrite, "T1");
        let differs = violation(Wrong::NotDeterministic, "event 3");
        let both = [lost.clone(), violation(Wrong::Phantom, "T2"), differs.clone()];
        let failure = Failure::of(9, &both).expect("something is wrong");
        assert!(failure.takes_two_runs());
        assert_eq!((failure.violation.clone(), failure.differs.clone()), (lost.clone(), Some(differs)));
        assert!(!Failure::of(9, &both[..2]).expect("something is wrong").takes_two_runs());
        assert!(Failure::of(9, &both[2..]).expect("something is wrong").takes_two_runs());
        assert!(Failure::of(9, &[]).is_none());
        let summary = Summary { seeds: 1, failures: vec![failure], ..Summary::default() };
        let told = &summary.to_json()["failures"][0];
        assert_eq!(
            (told["violation"].as_str(), told["wrong"].as_str()),
            (Some("lost acknowledged write: T1"), Some("lost_write"))
        );
        assert_eq!(told["not_deterministic"], "not deterministic: event 3");
    }
}
