//! The program that an engineer with a failing seed lives in.

mod applications;
mod arguments;
mod written;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arguments::{ChoiceArgs, Command, ExploreArgs, MutantArgs, Program, RealArgs};
use clap::Parser;
use holdfast_crashlab::bisect::bisect;
use holdfast_crashlab::determinism::run_again;
use holdfast_crashlab::draw::plan;
use holdfast_crashlab::explore::{Explore, SECTORS_MAX};
use holdfast_crashlab::fault::name_of;
use holdfast_crashlab::mutants::{Caught, Progress, Search};
use holdfast_crashlab::plan::Plan;
use holdfast_crashlab::real::{PLAN_NAME, Real, child};
use holdfast_crashlab::run::{Verdict, Watch, run_watched};
use holdfast_crashlab::shrink::{removable, shrink};
use holdfast_crashlab::sweep::{Summary, Sweep};
use holdfast_crashlab::workshop::{commit_of, repository_of};
use holdfast_workloads::Random;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

fn main() -> ExitCode {
    let outcome = match Program::parse().command {
        Command::Sweep { seeds, start, jobs, time, first, keep, hashes, json, choice } => {
            choice.choice().and_then(|from| {
                let (jobs, time) = (jobs.unwrap_or_else(cores), time.map(Duration::from_secs));
                let sweep = Sweep { start, seeds, time, first, jobs, choice: from };
                run_sweep(&sweep, (&keep, hashes.as_deref()), &choice.again(), json)
            })
        }
        Command::Replay { what, trace, lines, until, break_at, save, twice, json, .. }
            if applications::is_plan(&what) =>
        {
            let asked = applications::Replay {
                lines: if trace { lines } else { 0 },
                is_to_stop: until.or(break_at).is_some(),
                save: save.as_deref(),
                twice,
                as_json: json,
            };
            applications::replay(Path::new(&what), &asked)
        }
        Command::Replay { what, trace, lines, until, break_at, save, twice, json, choice } => {
            plan_of(&what, &choice).and_then(|plan| {
                if let Some(save) = save {
                    plan.save(&save)?;
                }
                let log_events = if trace || until.is_some() { lines } else { 0 };
                Ok(replay(&plan, Watch { log_events, until, break_at, ..Watch::default() }, twice, json))
            })
        }
        Command::Mutants(arguments) => mutants(&arguments),
        Command::Explore(arguments) => explore(arguments),
        Command::Bisect { plan, good, bad, json } => find_commit(&plan, (&good, &bad), json),
        Command::Report { what, output, lines, json, .. } if applications::is_plan(&what) => {
            applications::report(Path::new(&what), &output, lines, json)
        }
        Command::Report { what, output, lines, json, choice } => {
            plan_of(&what, &choice).and_then(|plan| written::report(&plan, &output, lines, json))
        }
        Command::History { what, .. } if applications::is_plan(&what) => {
            Err("the plan of an application has no history: what its clients saw only its own checks know"
                .to_owned())
        }
        Command::History { what, output, flags, json, choice } => {
            plan_of(&what, &choice).and_then(|plan| written::history(&plan, &output, flags, json))
        }
        Command::Real(arguments) => real(&arguments),
        Command::RealLife { run, calm } => child::live(&run, calm).map(|()| true),
        Command::Shrink { what, output, time, check, json, .. } if applications::is_plan(&what) => {
            match check {
                true => applications::check_shrunk(Path::new(&what), json),
                false => applications::shrink_to(Path::new(&what), &output, Duration::from_secs(time), json),
            }
        }
        Command::Shrink { what, output, time, check, json, choice } => {
            plan_of(&what, &choice).and_then(|plan| match check {
                true => check_shrunk(&plan, json),
                false => shrink_to(&plan, &output, Duration::from_secs(time), json),
            })
        }
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

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Set by Ctrl-C. A second one ends the program, as it does without us.
fn stop_on_signal() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let hooked = signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        hooked.map_err(|error| format!("signals cannot be caught: {error}"))?;
    }
    Ok(stop)
}

/// Every seed of a sweep; the plans of those that fail go to one place, and all hashes to another.
fn run_sweep(
    sweep: &Sweep,
    (keep, hashes): (&Path, Option<&Path>),
    again: &str,
    as_json: bool,
) -> Result<bool, String> {
    let stop = stop_on_signal()?;
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
    if let Some(file) = hashes {
        std::fs::write(file, summary.hashes()).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if !summary.failures.is_empty() {
        std::fs::create_dir_all(keep).map_err(|error| format!("{}: {error}", keep.display()))?;
    }
    let (commit, crashlab) = (commit_of(Path::new(".")), program());
    for failure in &summary.failures {
        let file = keep.join(format!("seed-{}.json", failure.seed));
        let small = keep.join(format!("seed-{}-small.json", failure.seed));
        plan(failure.seed, &sweep.choice).save(&file)?;
        if !as_json {
            println!("seed {}: {}", failure.seed, failure.violation);
            failure.differs.iter().for_each(|differs| println!("  and {differs}"));
            let twice = if failure.takes_two_runs() { " --twice" } else { "" };
            println!("  again:  {crashlab} replay {}{again}{twice}", failure.seed);
            println!("  shrink: {crashlab} shrink {} -o {}", file.display(), small.display());
            println!("  commit: {commit}");
        }
    }
    if as_json {
        let mut all = summary.to_json();
        all["commit"] = commit.into();
        println!("{all}");
    } else {
        if stop.load(Ordering::Relaxed) {
            println!("stopped early");
        }
        print!("{}", summary.to_text());
    }
    Ok(summary.failures.is_empty())
}

fn replay(plan: &Plan, watch: Watch, twice: bool, as_json: bool) -> bool {
    let mut verdict = run_watched(plan, watch);
    if twice {
        verdict.violations.extend(run_again(plan, verdict.hash));
    }
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
    let replaced = verdict.replacements.iter().map(|(way, of)| format!("{} {}", way.name(), of.fired));
    let fired: Vec<String> =
        fired.map(|(class, count)| format!("{} {count}", name_of(*class))).chain(replaced).collect();
    println!("faults that fired: {}", if fired.is_empty() { "none".to_owned() } else { fired.join(", ") });
    println!("hash {hash} over {} events", verdict.events);
    if watch.until.is_some_and(|until| verdict.events >= until) {
        println!("ended there as asked; nothing was judged");
        return true;
    }
    if violations.is_empty() {
        println!("nothing is wrong");
    }
    violations.iter().for_each(|violation| println!("WRONG: {violation}"));
    if watch.log_events > 0 {
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
    let events = |plan: &Plan| plan.faults.len() + plan.replacements.len() + plan.crashes.len();
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
    let test = output.with_extension("rs");
    std::fs::write(&test, shrunk.plan.to_test(output, &shrunk.violation))
        .map_err(|error| format!("{}: {error}", test.display()))?;
    let (before, after) = (plan.script.operations(), shrunk.plan.script.operations());
    if as_json {
        println!(
            "{}",
            json!({
                "operations_before": before, "operations_after": after, "faults_before": events(plan),
                "faults_after": events(&shrunk.plan), "seconds": shrunk.elapsed.as_secs(), "runs": shrunk.runs,
                "minimal": shrunk.is_minimal, "violation": shrunk.violation, "plan": output, "test": test,
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
    let seen = run_watched(&shrunk.plan, Watch { log_events: usize::MAX, ..Watch::default() });
    let guilty = seen.guilty_line().map_or(seen.events, |line| seen.log[line].event);
    let (crashlab, plan) = (program(), output.display());
    println!("  again: {crashlab} replay {plan} --trace");
    println!("  look:  {crashlab} report {plan} -o {}", output.with_extension("html").display());
    println!("  debug: gdb -ex run --args {crashlab} replay {plan} --break {guilty}");
    println!("  test:  cp {} {} crashlab/tests/", output.display(), test.display());
    Ok(false)
}

/// True if nothing single can go from a plan.
fn check_shrunk(plan: &Plan, as_json: bool) -> Result<bool, String> {
    silence_panics();
    let Some((tried, idle)) = removable(plan) else { return Err("the plan passes".to_owned()) };
    Ok(tell_removable(tried, &idle, as_json))
}

/// True if nothing can go.
fn tell_removable(tried: usize, idle: &[String], as_json: bool) -> bool {
    if as_json {
        println!("{}", json!({ "tried": tried, "removable": idle }));
    } else {
        idle.iter().for_each(|unit| println!("it fails without {unit} too"));
        println!("{} of {tried} operations, faults, crashes and schedule overrides can go", idle.len());
    }
    idle.is_empty()
}

/// This program, as it was called.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "crashlab".to_owned())
}

/// Panics of seeds are verdicts, and are told as such.
fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Every mutant that is asked for; true if all of them are caught.
fn mutants(arguments: &MutantArgs) -> Result<bool, String> {
    let here = std::env::current_dir().map_err(|error| format!("the current directory: {error}"))?;
    let repository = repository_of(&here)?;
    let search = Search {
        patches: arguments.patches.clone().unwrap_or_else(|| repository.join("crashlab/mutants")),
        repository,
        only: arguments.only.clone(),
        shard: arguments.shard,
        pick: arguments.pick,
        shrink: !arguments.no_shrink,
        explore: arguments.explore,
        budget: arguments.budget.map(Duration::from_secs),
        starts: arguments.starts,
        seeds_max: arguments.seeds,
        again: arguments.again,
    };
    let stop = stop_on_signal()?;
    let asked = search.mutants()?.len();
    let bar = if std::io::stderr().is_terminal() && !arguments.json {
        ProgressBar::new(asked as u64)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed} {wide_msg}");
    bar.set_style(style.map_err(|error| error.to_string())?);
    let found = search.run(&stop, |progress| match progress {
        Progress::Building(mutant) => bar.set_message(format!("{}: building", mutant.name)),
        Progress::Sweeping(mutant, start) => {
            bar.set_message(format!("{}: start {}", mutant.name, start + 1));
            bar.tick();
        }
        Progress::Done(_, caught) => {
            bar.inc(1);
            if !arguments.json {
                bar.suspend(|| println!("{}", line_of(caught)));
            }
        }
    })?;
    bar.finish_and_clear();
    let caught = found.iter().filter(|mutant| mutant.caught).count();
    if arguments.json {
        println!("{}", json!({ "mutants": found, "asked": asked, "caught": caught }));
    } else {
        println!("{caught} of {asked} caught, {} not done", asked - found.len());
    }
    Ok(caught == asked)
}

fn line_of(mutant: &Caught) -> String {
    let number = |seeds: Option<u64>| seeds.map_or("-".to_owned(), |seeds| seeds.to_string());
    let verdict = if mutant.caught { "caught" } else { "MISSED" };
    let (median, p95) = (number(mutant.seeds_median), number(mutant.seeds_p95));
    let faults = if mutant.faults.is_empty() { "none".to_owned() } else { mutant.faults.join(", ") };
    let mut line = format!("{verdict} {:<44} median {median:>5}  p95 {p95:>5}  needs {faults}", mutant.name);
    if let Some(trouble) = &mutant.trouble {
        line.push_str(&format!("  ({trouble})"));
    }
    line
}

fn find_commit(plan: &Path, between: (&str, &str), as_json: bool) -> Result<bool, String> {
    let here = std::env::current_dir().map_err(|error| format!("the current directory: {error}"))?;
    let found = bisect(&repository_of(&here)?, plan, between, |revision, says| {
        if !as_json {
            println!("{revision} {says:?}");
        }
    })?;
    if as_json {
        println!("{}", json!({ "bad": found.bad, "unknown": found.unknown, "asked": found.asked }));
    } else {
        println!("the plan fails since {}", found.bad);
        found.unknown.iter().for_each(|revision| println!("or since {revision}, which says nothing"));
    }
    Ok(true)
}

/// Storms on a real directory; true if nothing was wrong.
fn real(arguments: &RealArgs) -> Result<bool, String> {
    let itself = std::env::current_exe().map_err(|error| format!("crashlab's own program: {error}"))?;
    let seed = arguments.seed.unwrap_or_else(|| Random::fresh_seed() >> 16);
    let (dir, rounds) = (arguments.dir.clone(), arguments.rounds);
    let choice = arguments.choice()?;
    let stop = stop_on_signal()?;
    let bar = if std::io::stderr().is_terminal() && !arguments.json {
        ProgressBar::new(rounds)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rounds, {elapsed}, {eta} left {msg}");
    bar.set_style(style.map_err(|error| error.to_string())?);
    if !arguments.json {
        println!("seed {seed}");
    }
    let summary = Real { dir, program: itself, rounds, seed, choice }.run(&stop, |summary| {
        bar.set_position(summary.rounds);
        bar.set_message(format!("script {}", summary.seeds + 1));
    })?;
    bar.finish_and_clear();
    if arguments.json {
        let mut all = summary.to_json();
        all["seed"] = json!(seed);
        all["commit"] = commit_of(Path::new(".")).into();
        println!("{all}");
        return Ok(summary.failure.is_none());
    }
    if let Some(failure) = &summary.failure {
        failure.violations.iter().for_each(|violation| println!("WRONG: {violation}"));
        let (dir, again, rounds) = (arguments.dir.display(), arguments.again(), failure.rounds.max(1));
        println!("seed {}, after {} rounds", failure.seed, failure.rounds);
        let crashlab = program();
        println!("  again:  {crashlab} real {dir} --seed {} --rounds {rounds}{again}", failure.seed);
        println!("          a few times: the script is the same, but what a kill meets is up to the machine");
        println!("  in the simulator: {crashlab} replay {}", failure.kept.join(PLAN_NAME).display());
        println!("  kept:   {}", failure.kept.display());
        println!("  commit: {}", commit_of(Path::new(".")));
    }
    if stop.load(Ordering::Relaxed) {
        println!("stopped early");
    }
    print!("{}", summary.to_text());
    if summary.failure.is_none() {
        println!("nothing is wrong");
    }
    Ok(summary.failure.is_none())
}

/// Every crash of short scripts; true if the database comes through all of them.
fn explore(arguments: ExploreArgs) -> Result<bool, String> {
    let explore = Explore {
        scripts: arguments.script,
        depth: arguments.depth,
        sets: arguments.sets,
        recoveries: arguments.recoveries,
        seed: arguments.seed,
        time: arguments.time.map(Duration::from_secs),
        jobs: arguments.jobs.unwrap_or_else(cores),
    };
    let stop = stop_on_signal()?;
    silence_panics();
    let bar = if std::io::stderr().is_terminal() && !arguments.json {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} crash points, {eta} left");
    bar.set_style(style.map_err(|error| error.to_string())?);
    let began = std::time::Instant::now();
    let found = explore.run(&stop, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let (sets, seconds) = (explore.sets, began.elapsed().as_secs());
    let bounds = format!(
        "of each crash point {sets} survivor sets in order, and {sets} drawn where there are more ({} of {} are whole); \
         changes of up to {SECTORS_MAX} sectors torn in every way, longer ones in {SECTORS_MAX} steps; depth {}, with the \
         recoveries of {} images of each crash point and {} survivor sets",
        found.whole,
        found.crash_points,
        explore.depth,
        explore.recoveries,
        sets.div_ceil(16)
    );
    if arguments.json {
        let mut all = serde_json::to_value(&found).map_err(|error| error.to_string())?;
        all["wrong"] = std::mem::replace(&mut all["bad"], json!(found.bad.len()));
        all["bounds"] = json!(bounds);
        all["seconds"] = json!(seconds);
        println!("{all}");
    } else {
        for bad in &found.bad {
            println!("WRONG: {}, power loss at call {}: {}", bad.script, bad.call, bad.violation);
        }
        println!(
            "{} crash points, {} survivor sets, {} different images, {} judged, {} bad, in {seconds} s",
            found.crash_points,
            found.survivor_sets,
            found.images,
            found.judged,
            found.bad.len()
        );
        println!("bounds: {bounds}");
        if found.left > 0 {
            println!("{} crash points were not begun: the time was over", found.left);
        }
    }
    Ok(found.bad.is_empty())
}
