//! Runs cases, many of them on several threads, shrinks the one that fails, and sums up.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};

use holdfast::env::linux::block_on;
use holdfast_sim::{Ratio, SimOptions, World};
use quickcheck::Arbitrary;

use crate::case::{Case, REOPENINGS_MIN};
use crate::drive::{Counts, Defect, Ended, Report, Run, live};
use crate::number_from;
use crate::place::Place;

/// How much to explore.
pub struct Budget {
    pub first_seed: u64,
    pub cases: u64,
    pub jobs: u64,
    /// Runs spent on shrinking.
    pub shrinks: u64,
}

/// What a good case did.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub counts: Counts,
    pub crashes: u64,
    pub hash: u64,
}

/// Means over all cases, in hundredths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Means {
    pub flushes: u64,
    pub compactions: u64,
    pub levels: u64,
    pub conflicts: u64,
    pub reopenings: u64,
    pub crashes: u64,
    pub operations: u64,
    pub commits: u64,
    pub reads: u64,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "means of a case:")?;
        for (name, mean) in [
            ("operations", self.operations),
            ("commits", self.commits),
            ("reads", self.reads),
            ("flushes", self.flushes),
            ("compactions", self.compactions),
            ("levels", self.levels),
            ("conflicts", self.conflicts),
            ("reopenings", self.reopenings),
            ("crashes", self.crashes),
        ] {
            write!(f, " {name} {}.{:02}", mean / 100, mean % 100)?;
        }
        Ok(())
    }
}

/// Runs one case in a simulated world of its own.
///
/// # Errors
/// The first violation, or the panic that ended it.
pub fn run_case(case: &Case, defect: Defect) -> Result<Summary, Report> {
    let mut options = SimOptions::new(case.seed);
    options.time_limit_ns = 300_000_000_000;
    options.log_events = number_from("HOLDFAST_MODEL_LOG", 0) as usize;
    if case.settings.rare > 0 {
        options.rare = Ratio::new(1, case.settings.rare);
    }
    let case = Arc::new(case.clone());
    let run = move || holdfast_sim::run(options, move |world| simulate(world, case, defect));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome.result.map(|counts| Summary {
            counts,
            crashes: outcome.crashes.kills + outcome.crashes.power_losses,
            hash: outcome.hash,
        }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

async fn simulate(world: World, case: Arc<Case>, defect: Defect) -> Result<Counts, Report> {
    let process = world.process("db");
    let run = Arc::new(Mutex::new(Run::new(defect)));
    loop {
        let place = Place::Simulated(process.clone());
        match process.run(live(place, case.clone(), run.clone())).await {
            Ok(Ok(Ended::OpenAgain)) => {}
            Ok(Ok(Ended::Finished)) => break,
            Ok(Err(report)) => {
                world.log_lines().iter().for_each(|line| println!("{line}"));
                return Err(report);
            }
            Err(_died) => {
                let mut run = run.lock().expect("nobody panicked");
                let end = run.planned;
                run.oracle.ended(end);
                drop(run);
                process.restart();
            }
        }
    }
    let counts = run.lock().expect("nobody panicked").counts;
    Ok(counts)
}

/// Runs one case in a fresh directory of this machine, where every death is a drop.
///
/// # Errors
/// The first violation.
pub fn run_on_real_directory(case: &Case) -> Result<Counts, Report> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("holdfast-model-{}-{number}", std::process::id());
    let dir: PathBuf = std::env::temp_dir().join(name);
    let case = Arc::new(case.clone());
    let run = Arc::new(Mutex::new(Run::new(Defect::None)));
    let outcome = loop {
        match block_on(live(Place::Real(dir.clone()), case.clone(), run.clone())) {
            Ok(Ended::OpenAgain) => {}
            Ok(Ended::Finished) => break Ok(run.lock().expect("nobody panicked").counts),
            Err(report) => break Err(report),
        }
    };
    if outcome.is_ok() {
        std::fs::remove_dir_all(&dir).map_err(|error| error.to_string())?;
    }
    outcome
}

/// Runs all cases of a budget.
///
/// # Errors
/// The text to show for the first failure: seed, report, shrunk case; or the seed of a case that was too tame.
pub fn explore(budget: &Budget) -> Result<Means, String> {
    let next = AtomicU64::new(0);
    let sum = Mutex::new((0u64, Counts::default(), 0u64));
    let failure: Mutex<Option<(Case, Fault)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..budget.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= budget.cases || failure.lock().expect("no panic").is_some() {
                        return;
                    }
                    let case = Case::of_seed(budget.first_seed.wrapping_add(number));
                    match run_drawn(&case) {
                        Ok(summary) => add(&mut sum.lock().expect("no panic"), &summary),
                        Err(fault) => {
                            failure.lock().expect("no panic").get_or_insert((case, fault));
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner().expect("no panic") {
        None => Ok(means(&sum.into_inner().expect("no panic"))),
        Some((case, Fault::Violation(report))) => Err(describe(&case, &report, budget.shrinks)),
        Some((case, Fault::Tame(reopenings))) => Err(format!(
            "seed {} opened its database again {reopenings} times only, but every case must do so {REOPENINGS_MIN} \
             times: mend `Case::of_seed`",
            case.seed
        )),
    }
}

/// What is wrong with a case that was drawn.
enum Fault {
    /// The database broke a promise.
    Violation(Report),
    /// The case asks less of the database than it must. Nothing is gained by shrinking it.
    Tame(u64),
}

/// Runs a case as it was drawn, which a shrunk one is not: of that nothing is asked but its violation.
fn run_drawn(case: &Case) -> Result<Summary, Fault> {
    let summary = run_case(case, Defect::None).map_err(Fault::Violation)?;
    match summary.counts.reopenings() {
        reopenings if reopenings < REOPENINGS_MIN => Err(Fault::Tame(reopenings)),
        _ => Ok(summary),
    }
}

fn add(sum: &mut (u64, Counts, u64), summary: &Summary) {
    let (cases, counts, crashes) = sum;
    *cases += 1;
    *crashes += summary.crashes;
    let more = &summary.counts;
    counts.flushes += more.flushes;
    counts.compactions += more.compactions;
    counts.levels += more.levels;
    counts.conflicts += more.conflicts;
    counts.commits += more.commits;
    counts.openings += more.openings;
    counts.reads += more.reads;
    counts.operations += more.operations;
}

fn means((cases, counts, crashes): &(u64, Counts, u64)) -> Means {
    let mean = |sum: u64| sum * 100 / (*cases).max(1);
    Means {
        flushes: mean(counts.flushes),
        compactions: mean(counts.compactions),
        levels: mean(counts.levels),
        conflicts: mean(counts.conflicts),
        // The first opening of a case found nothing.
        reopenings: mean(counts.openings.saturating_sub(*cases)),
        crashes: mean(*crashes),
        operations: mean(counts.operations),
        commits: mean(counts.commits),
        reads: mean(counts.reads),
    }
}

fn describe(case: &Case, report: &str, shrinks: u64) -> String {
    let (small, last_report, runs) = quietly(|| shrink(case, report, shrinks));
    format!(
        "seed {} fails: {report}\n\nafter {runs} runs of shrinking, {} of {} operations are left and fail with: \
         {last_report}\nPaste into kernel/tests/model/found.rs:\n\n{}",
        case.seed,
        small.operations.0.len(),
        case.operations.0.len(),
        small.as_test()
    )
}

/// Greedy: the first smaller case that still fails is gone on with.
fn shrink(case: &Case, report: &str, shrinks: u64) -> (Case, Report, u64) {
    let (mut case, mut report, mut runs) = (case.clone(), report.to_string(), 0);
    'smaller: loop {
        for candidate in case.shrink() {
            if runs >= shrinks {
                return (case, report, runs);
            }
            runs += 1;
            if let Err(again) = run_case(&candidate, Defect::None)
                && kind_of(&again) == kind_of(&report)
            {
                (case, report) = (candidate, again);
                continue 'smaller;
            }
        }
        return (case, report, runs);
    }
}

/// What a report says, without the place and the numbers: a smaller case must fail in the same way.
fn kind_of(report: &str) -> String {
    let what = report.rsplit("}: ").next().unwrap_or(report).rsplit("): ").next().unwrap_or(report);
    what.chars().filter(|c| c.is_alphabetic()).take(16).collect()
}

/// Panics of other cases than the one reported would only bury it.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static QUIET: AtomicBool = AtomicBool::new(false);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.load(Ordering::Relaxed) {
                loud(panic);
            }
        }));
    });
    QUIET.store(true, Ordering::Relaxed);
    let result = work();
    QUIET.store(false, Ordering::Relaxed);
    result
}
