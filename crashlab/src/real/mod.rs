//! Storms on a real directory: the simulator's scripts and oracles, a process of their own, and SIGKILL.
//!
//! ```text
//! seed -> plan -> process: storm on a real disk -> record -> oracles
//!                    ^ killed and started again     \-> where the next process goes on
//! ```
//! A seed has the script and the settings that it has in the simulator. When the process is killed is drawn from it too,
//! as so many steps and microseconds, but what it is doing then is up to the machine: a seed that failed has to be run
//! again a few times. The kernel of the system outlives the process, so nothing here loses what was written; what a
//! power loss takes is the simulator's business.

pub mod child;
pub mod record;
pub mod session;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_workloads::oracle::Violation;
use holdfast_workloads::{Random, Scratch};
use serde_json::{Value, json};

use crate::draw::{Choice, lives, plan};
use crate::run::idle_for;
use session::{Death, Moment, Session, Verdict};

/// The plan in the directory of a run.
pub const PLAN_NAME: &str = "plan.json";
/// The database in the directory of a run; copies of it stand beside it.
pub const DB_NAME: &str = "db";
/// What says that a directory is ours.
pub const MARKER_NAME: &str = "CRASHLAB";
const MARKER: &str = "crashlab keeps the runs of its command `real` here, each in a directory of its own.\n";

/// How often, and on which storms.
#[derive(Clone, Debug)]
pub struct Real {
    /// Where.
    pub dir: PathBuf,
    /// Crashlab's own program.
    pub program: PathBuf,
    /// Kills, each followed by an opening.
    pub rounds: u64,
    /// The first seed; the next ones follow until there were enough rounds.
    pub seed: u64,
    /// What seeds draw from.
    pub choice: Choice,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Its kills.
    pub rounds: u64,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// Where all of it is kept.
    pub kept: PathBuf,
}

/// What the storms came to.
#[derive(Clone, Default, Debug)]
pub struct Summary {
    /// Kills.
    pub rounds: u64,
    /// Kills while the process was opening the database.
    pub openings_killed: u64,
    /// Kills that left a line of the record without its end.
    pub lines_cut: u64,
    /// Storms.
    pub seeds: u64,
    /// Storms of which the oracles could not say all.
    pub undecided: u64,
    /// Storms that showed little.
    pub idle: u64,
    /// Openings of the database.
    pub openings: u64,
    /// Calls that were answered.
    pub operations: u64,
    /// Commits with writes that were acknowledged.
    pub acknowledged: u64,
    /// Transactions whose outcome nobody was told.
    pub untold: u64,
    /// Entries that came out of reads.
    pub read: u64,
    /// Conflicts.
    pub conflicts: u64,
    /// Memtables that became tables.
    pub flushes: u64,
    /// Compactions.
    pub compactions: u64,
    /// The storm that failed; it is the last one.
    pub failure: Option<Failure>,
    /// How long all of it took.
    pub elapsed: Duration,
}

/// Lives after which a storm is cut off: no script needs so many.
const LIVES_MAX: u32 = 400;

impl Real {
    /// Runs storms until there were enough rounds, one has failed, or `stop` says so. `told` is called after each life
    /// with what there was so far.
    ///
    /// # Errors
    /// In words: the directory is not ours to use, or a process cannot be run.
    pub fn run(&self, stop: &AtomicBool, told: impl Fn(&Summary)) -> Result<Summary, String> {
        claim(&self.dir)?;
        let (mut summary, began) = (Summary::default(), Instant::now());
        let mut moments = Moments::default();
        for seed in (0..).map(|number| self.seed.wrapping_add(number)) {
            if summary.rounds >= self.rounds || summary.failure.is_some() || stop.load(Ordering::Relaxed) {
                break;
            }
            let scratch = Scratch::new(&format!("seed-{seed}"), Some(&self.dir));
            let mut scratch = scratch.map_err(|error| format!("{}: {error}", self.dir.display()))?;
            let before = summary.rounds;
            let verdict = self.storm(seed, scratch.path(), &mut moments, stop, &mut summary, &told);
            // Somebody will want to look at what went wrong, here as there.
            if verdict.as_ref().map_or(true, |verdict| !verdict.violations.is_empty()) {
                scratch.keep();
            }
            let kept = scratch.path().to_owned();
            let verdict =
                verdict.map_err(|error| format!("{error}; what there is is in {}", kept.display()))?;
            let is_whole = !stop.load(Ordering::Relaxed);
            summary.add(&verdict, is_whole);
            if !verdict.violations.is_empty() {
                let rounds = summary.rounds - before;
                summary.failure = Some(Failure { seed, rounds, violations: verdict.violations, kept });
            }
        }
        summary.elapsed = began.elapsed();
        Ok(summary)
    }

    /// All lives of one storm, from the first opening to a last one in calm.
    fn storm(
        &self,
        seed: u64,
        run: &Path,
        moments: &mut Moments,
        stop: &AtomicBool,
        summary: &mut Summary,
        told: &impl Fn(&Summary),
    ) -> Result<Verdict, String> {
        let plan = plan(seed, &self.choice);
        let (mut random, steps) = (lives(seed), plan.script.steps());
        let mut session = Session::new(run, &self.program, &plan)?;
        for life in 0.. {
            if session.is_over() || session.is_lost() || stop.load(Ordering::Relaxed) {
                break;
            }
            if life == LIVES_MAX {
                session.wrong(format!("after {life} lives the script is not over"))?;
                break;
            }
            let is_enough = summary.rounds >= self.rounds;
            let moment = if is_enough { Moment::End } else { moments.draw(steps, &mut random) };
            let death = session.live(moment, stop)?;
            moments.learn(&death);
            summary.rounds += u64::from(death.killed);
            summary.openings_killed += u64::from(death.opening);
            summary.lines_cut += u64::from(death.cut);
            told(summary);
        }
        if !session.is_lost() && !stop.load(Ordering::Relaxed) {
            session.live(Moment::Calm, stop)?;
        }
        Ok(session.judge())
    }
}

/// Makes the directory ours, if it is not and may be.
fn claim(dir: &Path) -> Result<(), String> {
    let of_dir = |error: std::io::Error| format!("{}: {error}", dir.display());
    if dir.exists() && !dir.is_dir() {
        return Err(format!("{} is not a directory; name one that is empty or not there yet", dir.display()));
    }
    std::fs::create_dir_all(dir).map_err(of_dir)?;
    let marker = dir.join(MARKER_NAME);
    match std::fs::read_to_string(&marker) {
        Ok(text) if text == MARKER => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{}: {error}", marker.display())),
    }
    if std::fs::read_dir(dir).map_err(of_dir)?.next().is_some() {
        return Err(format!(
            "{} holds files that crashlab has not made; name a directory that is empty or not there yet",
            dir.display()
        ));
    }
    std::fs::write(&marker, MARKER).map_err(|error| format!("{}: {error}", marker.display()))
}

/// Draws when processes are killed.
#[derive(Debug)]
struct Moments {
    /// How long an opening takes, as seen so far, in microseconds.
    opening_us: u64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { opening_us: 5000 }
    }
}

/// Longest time from the step that a kill waits for to the kill, in microseconds: a few steps.
const DELAY_US_MAX: u64 = 5000;

impl Moments {
    /// For a script of so many steps.
    fn draw(&self, steps: u64, random: &mut Random) -> Moment {
        if random.one_in(4) {
            return Moment::Opening(Duration::from_micros(random.below(self.opening_us * 5 / 4 + 1)));
        }
        if random.one_in(12) {
            return Moment::End;
        }
        let delay = Duration::from_micros(random.below(DELAY_US_MAX));
        Moment::Steps(random.below(steps / 4 + 1), delay)
    }

    fn learn(&mut self, death: &Death) {
        if let Some(opened_in) = death.opened_in {
            let took = u64::try_from(opened_in.as_micros()).unwrap_or(u64::MAX / 16);
            self.opening_us = (self.opening_us * 7 + took) / 8;
        }
    }
}

impl Summary {
    fn add(&mut self, verdict: &Verdict, is_whole: bool) {
        let counts = &verdict.counts;
        let is_idle = idle_for(counts, verdict.undecided, false).is_some();
        self.seeds += 1;
        self.undecided += u64::from(verdict.undecided);
        self.idle += u64::from(is_whole && is_idle);
        self.openings += counts.openings;
        self.operations += counts.operations;
        self.acknowledged += counts.acknowledged;
        self.untold += verdict.untold;
        self.read += counts.read;
        self.conflicts += counts.conflicts;
        self.flushes += counts.flushes;
        self.compactions += counts.compactions;
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Value {
        let of_failure = |failure: &Failure| {
            let violations: Vec<String> = failure.violations.iter().map(ToString::to_string).collect();
            let (seed, rounds, kept) = (failure.seed, failure.rounds, &failure.kept);
            json!({ "seed": seed, "rounds": rounds, "violations": violations, "kept": kept })
        };
        json!({
            "rounds": self.rounds,
            "violations": u64::from(self.failure.is_some()),
            "failure": self.failure.as_ref().map(of_failure),
            "openings_killed": self.openings_killed,
            "lines_cut": self.lines_cut,
            "seeds": self.seeds,
            "undecided": self.undecided,
            "idle": self.idle,
            "openings": self.openings,
            "operations": self.operations,
            "acknowledged": self.acknowledged,
            "untold": self.untold,
            "entries_read": self.read,
            "conflicts": self.conflicts,
            "flushes": self.flushes,
            "compactions": self.compactions,
            "seconds": self.elapsed.as_secs(),
        })
    }

    /// Everything, for people.
    pub fn to_text(&self) -> String {
        format!(
            "{} rounds on {} scripts in {} s: {} kills inside an opening, {} inside a line of the record\n{} openings, {} \
             operations, {} commits acknowledged, {} untold, {} conflicts, {} entries read, {} flushes, {} compactions\n\
             {} scripts showed little, {} undecided\n",
            self.rounds,
            self.seeds,
            self.elapsed.as_secs(),
            self.openings_killed,
            self.lines_cut,
            self.openings,
            self.operations,
            self.acknowledged,
            self.untold,
            self.conflicts,
            self.read,
            self.flushes,
            self.compactions,
            self.idle,
            self.undecided,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_or_empty_is_taken() {
        let scratch = Scratch::new("claim", None).expect("a temporary directory");
        let dir = scratch.path().join("new/one");
        assert_eq!(claim(&dir), Ok(()));
        assert_eq!(claim(&dir), Ok(()), "it is ours now");
        let theirs = scratch.path().join("theirs");
        std::fs::create_dir(&theirs).expect("it is made");
        std::fs::write(theirs.join("precious"), "x").expect("it is written");
        let refused = claim(&theirs).expect_err("it is not ours");
        assert!(refused.contains("theirs") && refused.contains("empty"), "{refused}");
        std::fs::write(theirs.join(MARKER_NAME), "something else\n").expect("it is written");
        claim(&theirs).expect_err("a file of that name does not make it ours");
        claim(&theirs.join("precious")).expect_err("a file is no directory");
        assert!(theirs.join("precious").exists());
    }

    #[test]
    fn moments_are_of_every_kind_and_follow_their_seed() {
        let (moments, mut random, mut same) = (Moments::default(), lives(7), lives(7));
        let drawn: Vec<Moment> = (0..200).map(|_| moments.draw(400, &mut random)).collect();
        assert!(drawn.iter().all(|moment| moments.draw(400, &mut same) == *moment));
        let count = |of: fn(&Moment) -> bool| drawn.iter().filter(|moment| of(moment)).count();
        assert!(count(|moment| matches!(moment, Moment::Opening(_))) > 20);
        assert!(count(|moment| matches!(moment, Moment::Steps(..))) > 100);
        assert!(count(|moment| matches!(moment, Moment::End)) > 3);
    }
}
