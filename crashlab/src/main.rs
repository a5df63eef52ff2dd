//! The program that an engineer with a failing seed lives in.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use holdfast_crashlab::draw::{Choice, plan};
use holdfast_crashlab::fault::{name_of, names, of_name, of_one_process};
use holdfast_crashlab::plan::Plan;
use holdfast_crashlab::run::{Verdict, run};
use holdfast_crashlab::shrink::shrink;
use holdfast_crashlab::sweep::{Summary, Sweep};
use holdfast_workloads::storm::Workload;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// Runs the Holdfast kernel through simulated storms, and repeats, shrinks and explains what fails.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 nothing wrong, 1 a violation, 2 wrong use.")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds side by side.
    #[command(
        after_help = "Examples:\n  crashlab sweep --seeds 10000\n  crashlab sweep --workload bank --faults \
                            sync_error,no_space --time 60"
    )]
    Sweep {
        /// How many seeds.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        start: u64,
        /// Seeds at once; one for each core if not given.
        #[arg(long)]
        jobs: Option<usize>,
        /// No seed is begun after so many seconds.
        #[arg(long)]
        time: Option<u64>,
        /// Where the plans of failing seeds are kept.
        #[arg(long, default_value = "target/crashlab")]
        keep: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: ChoiceArgs,
    },
    /// Runs one seed or plan again.
    #[command(after_help = "Examples:\n  crashlab replay 4711\n  crashlab replay failing.json --trace")]
    Replay {
        /// A seed, or a file with a plan.
        what: String,
        /// Print the last lines of the event log.
        #[arg(long)]
        trace: bool,
        /// How many lines that are.
        #[arg(long, default_value_t = 200)]
        lines: usize,
        /// Write the plan to this file.
        #[arg(long)]
        save: Option<PathBuf>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: ChoiceArgs,
    },
    /// Finds the smallest plan that still fails in the same way.
    #[command(after_help = "Examples:\n  crashlab shrink 4711 -o small.json")]
    Shrink {
        /// A seed, or a file with a plan.
        what: String,
        /// Where the plan is written.
        #[arg(short, long, default_value = "shrunk.json")]
        output: PathBuf,
        /// Stop after so many seconds.
        #[arg(long, default_value_t = 120)]
        time: u64,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: ChoiceArgs,
    },
}

/// What seeds draw from; a seed means the same plan only with the same of these.
#[derive(Args)]
struct ChoiceArgs {
    /// Workloads, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Fault classes, separated by commas, or `all`, or `none`.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    faults: Vec<String>,
    /// Operations of clients in each seed.
    #[arg(long, default_value_t = Choice::default().operations)]
    operations: u64,
}

impl ChoiceArgs {
    fn choice(&self) -> Result<Choice, String> {
        let workload = |name: &String| {
            let known = || Workload::ALL.map(Workload::name).join(", ");
            Workload::of_name(name)
                .ok_or_else(|| format!("there is no workload {name:?}; there are {}", known()))
        };
        let workloads: Vec<Workload> = self.workload.iter().map(workload).collect::<Result<_, _>>()?;
        let workloads = if workloads.is_empty() { Workload::ALL.to_vec() } else { workloads };
        let faults = match &self.faults[..] {
            [one] if one == "all" => of_one_process(),
            [one] if one == "none" => Vec::new(),
            several => {
                let class = |name: &String| {
                    let known = || names().collect::<Vec<_>>().join(", ");
                    of_name(name)
                        .ok_or_else(|| format!("there is no fault class {name:?}; there are {}", known()))
                };
                several.iter().map(class).collect::<Result<_, _>>()?
            }
        };
        Ok(Choice { workloads, faults, operations: self.operations.max(1) })
    }

    /// As it has to be given again.
    fn again(&self) -> String {
        let mut text = String::new();
        if !self.workload.is_empty() {
            text.push_str(&format!(" --workload {}", self.workload.join(",")));
        }
        if self.faults != ["all"] {
            text.push_str(&format!(" --faults {}", self.faults.join(",")));
        }
        if self.operations != Choice::default().operations {
            text.push_str(&format!(" --operations {}", self.operations));
        }
        text
    }
}

fn main() -> ExitCode {
    let outcome = match Program::parse().command {
        Command::Sweep { seeds, start, jobs, time, keep, json, choice } => choice.choice().and_then(|from| {
            let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
            let time = time.map(Duration::from_secs);
            sweep(&Sweep { start, seeds, time, jobs, choice: from }, &keep, &choice.again(), json)
        }),
        Command::Replay { what, trace, lines, save, json, choice } => {
            plan_of(&what, &choice).and_then(|plan| {
                if let Some(save) = save {
                    plan.save(&save)?;
                }
                Ok(replay(&plan, if trace { lines } else { 0 }, json))
            })
        }
        Command::Shrink { what, output, time, json, choice } => plan_of(&what, &choice)
            .and_then(|plan| shrink_to(&plan, &output, Duration::from_secs(time), json)),
    };
    match outcome {
        Ok(is_good) => ExitCode::from(u8::from(!is_good)),
        Err(wrong) => {
            eprintln!("error: {wrong}");
            ExitCode::from(2)
        }
    }
}

/// A seed's plan, or a file's.
fn plan_of(what: &str, choice: &ChoiceArgs) -> Result<Plan, String> {
    match what.parse() {
        Ok(seed) => Ok(plan(seed, &choice.choice()?)),
        Err(_) => Plan::load(Path::new(what)),
    }
}

fn sweep(sweep: &Sweep, keep: &Path, again: &str, as_json: bool) -> Result<bool, String> {
    let stop = Arc::new(AtomicBool::new(false));
    // A second one ends the program, as it does without us.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let hooked = signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        hooked.map_err(|error| format!("signals cannot be caught: {error}"))?;
    }
    silence_panics();
    let bar = if std::io::stderr().is_terminal() && !as_json {
        ProgressBar::new(sweep.seeds)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left {msg}");
    bar.set_style(style.map_err(|error| error.to_string())?);
    let summary = sweep.run(&stop, |summary: &Summary| {
        bar.set_position(summary.seeds);
        if !summary.failures.is_empty() {
            bar.set_message(format!("{} failed", summary.failures.len()));
        }
    });
    bar.finish_and_clear();
    if !summary.failures.is_empty() {
        std::fs::create_dir_all(keep).map_err(|error| format!("{}: {error}", keep.display()))?;
    }
    for failure in &summary.failures {
        let file = keep.join(format!("seed-{}.json", failure.seed));
        plan(failure.seed, &sweep.choice).save(&file)?;
        if !as_json {
            println!("seed {}: {}", failure.seed, failure.violation);
            println!("  again: crashlab replay {}{again}", failure.seed);
            println!("  plan:  crashlab shrink {}", file.display());
        }
    }
    if as_json {
        println!("{}", summary.to_json());
    } else {
        if stop.load(Ordering::Relaxed) {
            println!("stopped early");
        }
        print!("{}", summary.to_text());
    }
    Ok(summary.failures.is_empty())
}

fn replay(plan: &Plan, lines: usize, as_json: bool) -> bool {
    let verdict = run(plan, lines);
    let violations: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
    let hash = format!("{:016x}", verdict.hash);
    if as_json {
        println!("{}", json!({ "hash": hash, "events": verdict.events, "violation": violations.first() }));
        return violations.is_empty();
    }
    verdict.log.iter().for_each(|line| println!("{line}"));
    let counts = &verdict.counts;
    println!(
        "{} operations, {} commits acknowledged, {} openings, {} crashes, {} flushes, {} compactions",
        counts.operations,
        counts.acknowledged,
        counts.openings,
        verdict.crashes,
        counts.flushes,
        counts.compactions
    );
    let fired = verdict.fired.iter().filter(|(_, count)| *count > 0);
    let fired: Vec<String> = fired.map(|(class, count)| format!("{} {count}", name_of(*class))).collect();
    println!("faults that fired: {}", if fired.is_empty() { "none".to_owned() } else { fired.join(", ") });
    println!("hash {hash} over {} events", verdict.events);
    if violations.is_empty() {
        println!("nothing is wrong");
    }
    violations.iter().for_each(|violation| println!("WRONG: {violation}"));
    if lines > 0 {
        tell_history(&verdict, &violations);
    }
    violations.is_empty()
}

/// The transactions that the violations name.
fn tell_history(verdict: &Verdict, violations: &[String]) {
    let words = violations.iter().flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric()));
    let numbers: BTreeSet<usize> = words.filter_map(|word| word.strip_prefix('T')?.parse().ok()).collect();
    let newest = verdict.history.transactions.len().saturating_sub(12);
    for number in numbers.into_iter().chain(newest..verdict.history.transactions.len()) {
        if let Some(transaction) = verdict.history.transactions.get(number) {
            println!("T{number}: {transaction:?}");
        }
    }
    verdict.history.milestones.iter().for_each(|(at, milestone)| println!("{at}: {milestone:?}"));
}

fn shrink_to(plan: &Plan, output: &Path, time: Duration, as_json: bool) -> Result<bool, String> {
    silence_panics();
    let bar = if std::io::stderr().is_terminal() && !as_json {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let events = |plan: &Plan| plan.faults.len() + plan.crashes.len();
    let shrunk = shrink(plan, time, |smaller| {
        bar.set_message(format!(
            "{} operations, {} faults and crashes",
            smaller.script.operations(),
            events(smaller)
        ));
        bar.tick();
    });
    bar.finish_and_clear();
    let Some(shrunk) = shrunk else { return Err("the plan passes: there is nothing to shrink".to_owned()) };
    shrunk.plan.save(output)?;
    let (before, after) = (plan.script.operations(), shrunk.plan.script.operations());
    if as_json {
        println!(
            "{}",
            json!({
                "operations_before": before, "operations_after": after, "faults_before": events(plan),
                "faults_after": events(&shrunk.plan), "seconds": shrunk.elapsed.as_secs(), "runs": shrunk.runs,
                "minimal": shrunk.is_minimal, "violation": shrunk.violation, "plan": output,
            })
        );
        return Ok(false);
    }
    println!("WRONG: {}", shrunk.violation);
    println!(
        "{before} operations and {} faults and crashes shrunk to {after} and {}, in {} runs and {} s{}",
        events(plan),
        events(&shrunk.plan),
        shrunk.runs,
        shrunk.elapsed.as_secs(),
        if shrunk.is_minimal { "; none of them can go" } else { "; the time was over" }
    );
    println!("  again: crashlab replay {} --trace", output.display());
    Ok(false)
}

/// Panics of seeds are verdicts, and are told as such.
fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}
