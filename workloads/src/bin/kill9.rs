//! Kills a process under eight writers at random instants, again and again on one directory, and proves each time
//! that nothing acknowledged was lost.
//!
//! Acknowledgements travel through a pipe into a ledger in this process, after `commit` returned in the other. Half
//! of the kills come at a random instant; half a random delay after the kernel said that it enters a flush, a
//! compaction, a manifest switch or a recovery, and the pipe tells in which of them each kill fell. What is judged
//! stands in the header of `holdfast_workloads::kill9`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use holdfast::Db;
use holdfast::env::linux::block_on;
use holdfast_workloads::kill9::child::{self, Plant};
use holdfast_workloads::kill9::judge::{Judged, Ledger, judge};
use holdfast_workloads::kill9::session::{self, Death, Moment};
use holdfast_workloads::{Random, Report, Scratch, SelfTest};

/// Phases that enough kills must fall into.
const WINDOWS: [&str; 4] = ["flush", "compaction", "manifest_switch", "recovery"];
/// Longest life of a writer that is killed at random, in microseconds.
const LIFE_US_MAX: u64 = 300_000;

/// Kills a database under load with SIGKILL and judges what it holds afterwards.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  kill9 --rounds 200\n  kill9 --rounds 5 --seed 42 --dir /mnt/disk\n  kill9 --self-test"
)]
struct Arguments {
    /// Number of rounds; each has one kill, or two if the second is to fall into a recovery.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// Seed of every choice; drawn and printed if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Number of concurrent writers.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    writers: u32,
    /// Directory under which the database is made, instead of the system's temporary directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Plant defects and succeed only if each is reported.
    #[arg(long)]
    self_test: bool,
    /// Be the process that is killed, on this directory.
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
    /// A defect for the child to have.
    #[arg(long, hide = true)]
    plant: Option<PlantName>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlantName {
    UnkeptPromise,
    HalfTransaction,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| Random::fresh_seed() >> 16);
    if let Some(dir) = &arguments.child {
        let plant = arguments.plant.map(|plant| match plant {
            PlantName::UnkeptPromise => Plant::UnkeptPromise,
            PlantName::HalfTransaction => Plant::HalfTransaction,
        });
        child::run(dir, seed, arguments.writers, plant);
        return ExitCode::from(1);
    }
    if arguments.self_test {
        return self_test(&arguments, seed);
    }
    let mut report = Report::new("kill9", arguments.json);
    report.say(&format!(
        "kill9: {} rounds, {} writers, seed {seed} (repeat with --seed {seed})",
        arguments.rounds, arguments.writers
    ));
    if let Err(failure) = rounds(&arguments, seed, &mut report) {
        report.wrong(failure);
    }
    report.finish()
}

/// All rounds, on one directory that ages.
fn rounds(arguments: &Arguments, seed: u64, report: &mut Report) -> Result<(), String> {
    let mut scratch = Scratch::new("kill9", arguments.dir.as_deref()).map_err(|error| error.to_string())?;
    let dir = scratch.path().join("db");
    let mut plan = Plan::new(seed);
    let mut ledger = Ledger::new(arguments.writers);
    let (mut judged, mut slowest_open) = (Judged::default(), Duration::ZERO);
    for round in 0..arguments.rounds {
        for moment in plan.round(round) {
            let death = session::run(&dir, plan.random.next_u64(), arguments.writers, None, moment)
                .map_err(|error| error.to_string())?;
            report.check(death.was_killed, || {
                format!("round {round}: the child ended by itself: {}", death.status)
            });
            plan.learn(&death);
            ledger.take(&death.lines, report);
        }
        let close = plan.random.one_in(2);
        let (seen, opened) = open_and_judge(&dir, &mut ledger, report, close)?;
        judged.records += seen.records;
        judged.unacknowledged += seen.unacknowledged;
        slowest_open = slowest_open.max(opened);
        if !report.wrongs().is_empty() {
            scratch.keep();
            return Err(format!("round {round} of seed {seed} failed; the files are in {}", dir.display()));
        }
        if (round + 1) % 20 == 0 {
            report.say(&format!(
                "  round {:>4}: {} kills, {} acknowledged",
                round + 1,
                plan.kills,
                ledger.count()
            ));
        }
    }
    say_totals(&plan, &ledger, judged, slowest_open, arguments.rounds, report);
    Ok(())
}

fn open_and_judge(
    dir: &Path,
    ledger: &mut Ledger,
    report: &mut Report,
    close: bool,
) -> Result<(Judged, Duration), String> {
    let began = Instant::now();
    let db = block_on(Db::open(dir, child::options()))
        .map_err(|error| format!("opening after a kill: {error}"))?;
    let opened = began.elapsed();
    let judged =
        block_on(judge(&db, ledger, report)).map_err(|error| format!("reading after a kill: {error}"))?;
    if close {
        block_on(db.close()).map_err(|error| format!("closing: {error}"))?;
    } else {
        // The same as a kill, for the data; but the tasks of the process must let the directory go.
        drop(db);
        wait_for_lock(dir)?;
    }
    Ok((judged, opened))
}

/// Waits until the tasks of a dropped database have ended.
fn wait_for_lock(dir: &Path) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match block_on(Db::open(dir, child::options())) {
            Ok(db) => return block_on(db.close()).map_err(|error| format!("closing: {error}")),
            Err(holdfast::Error::Locked(_)) if began.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(format!("opening after a drop: {error}")),
        }
    }
}

fn say_totals(
    plan: &Plan,
    ledger: &Ledger,
    judged: Judged,
    slowest_open: Duration,
    rounds: u64,
    report: &mut Report,
) {
    report.figure("kills", plan.kills as f64, "");
    report.figure("transactions acknowledged", ledger.count() as f64, "");
    report.figure("under way at a kill and found", judged.unacknowledged as f64, "");
    report.figure("records verified", judged.records as f64, "");
    report.figure("slowest opening", slowest_open.as_secs_f64() * 1e3, "ms");
    // Two hundred rounds are what the targets are for.
    let target = (rounds / 10).min(20) as f64;
    for window in WINDOWS {
        let hits = plan.hits.get(window).copied().unwrap_or(0) as f64;
        let what = format!("kills inside {window}");
        // Of a few rounds nothing can be demanded, and a target of none would be met by anything.
        if target > 0.0 { report.at_least(&what, hits, "", target) } else { report.figure(&what, hits, "") }
    }
    let edits = plan.hits.get("manifest_edit").copied().unwrap_or(0);
    report.figure("kills inside manifest_edit", edits as f64, "");
}

/// Chooses when to kill, so that every window is hit often.
struct Plan {
    random: Random,
    kills: u64,
    hits: BTreeMap<String, u64>,
    /// Mean length of each phase, in microseconds, as seen so far.
    mean_us: BTreeMap<String, u64>,
}

impl Plan {
    fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), kills: 0, hits: BTreeMap::new(), mean_us: BTreeMap::new() }
    }

    /// The moments of one round: one kill under load and, in some rounds, more during the recovery from it.
    fn round(&mut self, round: u64) -> Vec<Moment> {
        let random = Moment::Running(Duration::from_micros(self.random.below(LIFE_US_MAX)));
        if round.is_multiple_of(2) {
            return vec![random];
        }
        let rarest = WINDOWS.iter().min_by_key(|window| self.hits.get(**window).copied().unwrap_or(0));
        let phase = rarest.copied().unwrap_or("flush");
        let delay =
            Duration::from_micros(self.random.below(self.mean_us.get(phase).copied().unwrap_or(2000).max(1)));
        if phase == "flush" || phase == "compaction" {
            return vec![Moment::Inside { phase, nth: self.random.below(4), delay }];
        }
        // A manifest of usual size is switched once in a thousand edits, but in every recovery.
        let mut moments = vec![random, Moment::Opening { phase, delay }];
        if self.random.one_in(3) {
            let delay = Duration::from_micros(self.random.below(20_000));
            moments.push(Moment::Opening { phase: "recovery", delay });
        }
        moments
    }

    fn learn(&mut self, death: &Death) {
        self.kills += 1;
        for phase in &death.inside {
            *self.hits.entry(phase.clone()).or_default() += 1;
        }
        for (phase, (times, took)) in &death.phases {
            let mean = u64::try_from(took.as_micros()).unwrap_or(u64::MAX) / times.max(&1);
            let known = self.mean_us.entry(phase.clone()).or_insert(mean);
            *known = (*known * 7 + mean) / 8;
        }
    }
}

/// Plants each defect into a short run of its own.
fn self_test(arguments: &Arguments, seed: u64) -> ExitCode {
    let mut test = SelfTest::new("kill9", arguments.json);
    let defects = [
        ("an acknowledgement without a commit", Some(Plant::UnkeptPromise)),
        ("a transaction that leaves out one keyspace", Some(Plant::HalfTransaction)),
        ("a ledger that forgets acknowledgements", None),
    ];
    for (name, plant) in defects {
        let mut report = Report::silent("kill9");
        if let Err(failure) = one_planted(arguments, seed, plant, &mut report) {
            eprintln!("{name}: the self-test could not run: {failure}");
            return ExitCode::from(2);
        }
        test.planted(name, report.wrongs());
    }
    test.finish()
}

fn one_planted(
    arguments: &Arguments,
    seed: u64,
    plant: Option<Plant>,
    report: &mut Report,
) -> Result<(), String> {
    let scratch =
        Scratch::new("kill9-self-test", arguments.dir.as_deref()).map_err(|error| error.to_string())?;
    let dir = scratch.path().join("db");
    let mut ledger = Ledger::new(arguments.writers);
    for (run, plant) in [None, plant].into_iter().enumerate() {
        let moment = Moment::Running(Duration::from_secs(1));
        let death =
            session::run(&dir, seed, arguments.writers, plant, moment).map_err(|error| error.to_string())?;
        ledger.take(&death.lines, report);
        if run == 0 {
            // Without a defect nothing is found.
            open_and_judge(&dir, &mut ledger, report, true)?;
        }
        if !report.wrongs().is_empty() {
            return Err(format!("a run without a defect reports {:?}", report.wrongs()));
        }
    }
    if plant.is_none() {
        ledger.drop_newest(0);
    }
    open_and_judge(&dir, &mut ledger, report, true).map(drop)
}
