//! Carries a plan out in the simulated world, and judges what was seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast::Error;
use holdfast_sim::plan::options;
use holdfast_sim::{AtEvent, Detail, FaultClass, LogLine, SimOptions, World};
use holdfast_workloads::history::{History, Milestone};
use holdfast_workloads::oracle::model::Rules;
use holdfast_workloads::oracle::{Violation, Wrong};
use holdfast_workloads::storm::{Counts, Ended, Stage, Storm};

use crate::fault::Replacing;
use crate::marks::Marks;
use crate::panics::{ask_guarded, violation_of};
use crate::plan::Plan;
pub use crate::stage::Effects;
use crate::stage::SimStage;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was wrong; empty if nothing was.
    pub violations: Vec<Violation>,
    /// What was counted.
    pub counts: Counts,
    /// Hash over every event of the run with its content.
    pub hash: u64,
    /// Number of events.
    pub events: u64,
    /// Simulated time, in nanoseconds.
    pub simulated_ns: u64,
    /// Kills and power losses.
    pub crashes: u64,
    /// How often each fault class fired.
    pub fired: Vec<(FaultClass, u64)>,
    /// How often what it did was met: read, or recovered through, or taken as an answer by a process that went on.
    pub met: Vec<(FaultClass, u64)>,
    /// How many errors it explained.
    pub detected: BTreeMap<FaultClass, u64>,
    /// What came of disks that were replaced.
    pub replacements: BTreeMap<Replacing, Effects>,
    /// How often each coverage mark was hit.
    pub marks: BTreeMap<String, u64>,
    /// The database refused to open for damage, as it should: the run ended there.
    pub refused: bool,
    /// The model gave up on the way: too many commits of unknown outcome at once.
    pub undecided: bool,
    /// Choices of the scheduler.
    pub choices: u64,
    /// What the scheduler picked each time, if it was asked for.
    pub schedule: Vec<u32>,
    /// The trace hash before each event and after the last one, if they were asked for.
    pub hashes: Vec<u64>,
    /// The last lines of the event log, if one was asked for.
    pub log: Vec<LogLine>,
    /// What clients saw.
    pub history: Arc<History>,
}

impl Verdict {
    /// Why nothing much was shown, if so.
    pub fn idle_for(&self) -> Option<&'static str> {
        idle_for(&self.counts, self.undecided, self.refused)
    }
}

/// Why a storm showed nothing much, if so.
pub(crate) fn idle_for(counts: &Counts, undecided: bool, refused: bool) -> Option<&'static str> {
    if undecided {
        Some("undecided")
    } else if counts.acknowledged < ACKNOWLEDGED_MIN {
        Some(if refused { "refused early" } else { "few writes" })
    } else if counts.read_since_opening == 0 {
        Some("nothing read after the last recovery")
    } else {
        None
    }
}

/// Writes that must be acknowledged for a run to show something.
const ACKNOWLEDGED_MIN: u64 = 100;
/// Attempts to open a database that is refused for a passing reason, before the faults are taken away.
const ATTEMPTS: u32 = 3;
/// Openings after which a run is cut off: no plan needs so many.
const OPENINGS_MAX: u32 = 200;
/// Simulated time after which a run hangs: a hundred times what the longest ones take.
const TIME_LIMIT_NS: u64 = 1_000_000_000_000;

/// How a run is looked at. None of it changes what happens.
#[derive(Clone, Copy, Default, Debug)]
pub struct Watch {
    /// Lines of the event log that are kept, the last ones.
    pub log_events: usize,
    /// The run ends at this event, the first column of the event log. What was seen until then is not judged.
    pub until: Option<u64>,
    /// A debugger is stopped at this event, by SIGTRAP. Without one the program ends.
    pub break_at: Option<u64>,
    /// The trace hash is kept at every event.
    pub record_hashes: bool,
    /// The scheduler's picks are kept.
    pub record_schedule: bool,
}

/// What a run that was to end at an event panics with.
const ENDED_AS_ASKED: &str = "the run ends at the event that was asked for";

fn at_event(watch: &Watch) -> Option<AtEvent> {
    let end: fn() = || panic!("{ENDED_AS_ASKED}");
    // Where a debugger stops: one frame up is the event.
    let trap: fn() = || drop(signal_hook::low_level::raise(signal_hook::consts::SIGTRAP));
    let of = |number: Option<u64>, call| number.map(|number| AtEvent { number, call });
    of(watch.break_at, trap).or(of(watch.until, end))
}

/// Runs a plan. If the simulation itself fails, by a busy loop, a dead end, a run without end or a panic of the kernel,
/// that is a violation like any other.
pub fn run(plan: &Plan) -> Verdict {
    run_watched(plan, Watch::default())
}

/// The same, looked at.
pub fn run_watched(plan: &Plan, watch: Watch) -> Verdict {
    let options = SimOptions {
        log_events: watch.log_events,
        at_event: at_event(&watch),
        time_limit_ns: TIME_LIMIT_NS,
        record_schedule: watch.record_schedule,
        record_hashes: watch.record_hashes,
        ..options(plan.seed, plan.rare_one_in, &plan.disk, (plan.plain_schedule, &plan.schedule))
    };
    let storm = Storm::new(plan.settings, plan.script.clone());
    let marks = Marks::default();
    let (living, plan_of_it, counting) = (Arc::clone(&storm), Arc::new(plan.clone()), marks.clone());
    let outcome = holdfast_sim::try_run(options, move |world| async move {
        let counting = tracing::subscriber::set_default(counting);
        let lived = live(&world, &plan_of_it, &living).await;
        drop(counting);
        lived
    });
    let counts = storm.counts();
    let (history, violations) = storm.take();
    let (outcome, panic) = match outcome {
        Ok(outcome) => (outcome, None),
        Err(failed) if failed.message() == ENDED_AS_ASKED => {
            (failed.until.map(|()| Lived { is_cut_off: true, ..Lived::default() }), None)
        }
        Err(failed) => {
            let violation = violation_of(&failed);
            (failed.until.map(|()| Lived::default()), Some(violation))
        }
    };
    let Lived { refused, lied_in, detected, replacements, is_cut_off } = outcome.result;
    let mut verdict = Verdict {
        violations,
        counts,
        hash: outcome.hash,
        events: outcome.events,
        simulated_ns: outcome.simulated_ns,
        crashes: outcome.crashes.kills + outcome.crashes.power_losses,
        fired: outcome.faults,
        met: outcome.faults_met,
        detected,
        replacements,
        marks: marks.take(),
        refused,
        undecided: false,
        choices: outcome.choices,
        schedule: outcome.schedule,
        hashes: outcome.hashes,
        log: outcome.log,
        history: Arc::new(history),
    };
    verdict.violations.extend(panic);
    if is_cut_off {
        return verdict;
    }
    verdict.judge(lied_in, plan);
    verdict
}

impl Verdict {
    /// The line of the event log that the first violation points at: the last one that names a transaction of it, or else
    /// the last of all.
    pub fn guilty_line(&self) -> Option<usize> {
        let violation = self.violations.first()?.to_string();
        let transactions: Vec<&str> = words_of(&violation).filter(|word| is_transaction(word)).collect();
        let names_one = |line: &LogLine| {
            line.detail == Detail::Note && words_of(&line.text).any(|word| transactions.contains(&word))
        };
        self.log.iter().rposition(names_one).or(self.log.len().checked_sub(1))
    }

    /// Asks the oracles, unless something is known to be wrong already.
    fn judge(&mut self, lied_in: Option<usize>, plan: &Plan) {
        let fired = |class| self.fired.iter().any(|(of, count)| *of == class && *count > 0);
        let rules = Rules {
            suffix_may_be_lost_from: lied_in,
            flushed_may_be_lost: fired(FaultClass::SyncError),
            numbers_leap_little: plan.rare_one_in > 0,
            numbers_may_be_skipped: fired(FaultClass::NoSpace)
                || fired(FaultClass::SyncError)
                || fired(FaultClass::WriteError)
                || fired(FaultClass::ShortWrite),
            narrow_window: plan.settings.narrow_window,
        };
        let answer = ask_guarded(&self.history, rules, std::mem::take(&mut self.violations));
        self.violations = answer.violations;
        self.undecided = answer.is_undecided;
    }
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric())
}

fn is_transaction(word: &str) -> bool {
    word.strip_prefix('T')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[derive(Default)]
struct Lived {
    refused: bool,
    /// The opening, counted from 0, in or before which the disk first lied about what is durable.
    lied_in: Option<usize>,
    detected: BTreeMap<FaultClass, u64>,
    replacements: BTreeMap<Replacing, Effects>,
    /// It ended at an event, as asked.
    is_cut_off: bool,
}

/// All lives of the one process, from the first opening to a last one in calm.
async fn live(world: &World, plan: &Arc<Plan>, storm: &Arc<Storm>) -> Lived {
    let process = world.process("db");
    let stage = Arc::new(SimStage::new(process.clone(), Arc::clone(plan), Arc::clone(storm)));
    let (mut refused, mut attempts, mut lied_in) = (false, 0, None);
    for opening in 0..=OPENINGS_MAX {
        if opening == OPENINGS_MAX {
            storm.wrong(Wrong::Unavailable, format!("after {opening} openings the script is not over"));
            break;
        }
        stage.replace_disk(opening);
        stage.opening_begins(opening);
        let seen: Arc<dyn Stage> = stage.clone();
        let openings = usize::try_from(storm.counts().openings).unwrap_or(usize::MAX);
        let ended = process.run(Arc::clone(storm).live(seen)).await;
        if lied_in.is_none() && stage.excuses().may_have_lost_suffix() {
            lied_in = Some(openings);
        }
        match ended {
            _ if storm.is_lost() => break,
            Ok(Ok(Ended::Finished)) if stage.is_calm() => break,
            Ok(Ok(ended)) => {
                attempts = 0;
                if ended == Ended::Finished {
                    // A last look, with the power gone in between and nothing going wrong any more.
                    stage.lose_power();
                    stage.restart();
                    stage.calm();
                }
            }
            Ok(Err(error)) => {
                attempts += 1;
                let is_lasting = matches!(error, Error::Corrupt { .. } | Error::NotFound { .. });
                if attempts > ATTEMPTS {
                    refused = is_lasting || stage.is_calm();
                    if refused {
                        break;
                    }
                    // A file system that gave up comes back with the machine.
                    stage.lose_power();
                    stage.restart();
                    stage.calm();
                    attempts = 0;
                    continue;
                }
                // The process may well try again itself: nothing of the attempt is in its way.
                if attempts % 2 == 0 {
                    stage.restart();
                    storm.passes(Milestone::Killed);
                }
            }
            Err(_) => {
                stage.note_death();
                stage.restart();
            }
        }
    }
    let (detected, replacements) = (stage.excuses().detected(), stage.replacements());
    Lived { refused, lied_in, detected, replacements, is_cut_off: false }
}
