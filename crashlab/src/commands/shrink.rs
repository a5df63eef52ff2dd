//! `shrink`: the smallest plan that still fails.

use std::fmt;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use holdfast_crashlab::plan::Plan;
use holdfast_crashlab::run::{Watch, run_watched};
use holdfast_crashlab::shrink::{removable, shrink};
use indicatif::ProgressBar;
use serde_json::json;

use super::console::{program, silence_panics};

/// Shrinks a plan into a file; never true, for it fails.
pub(crate) fn shrink_to(
    plan: &Plan,
    output: &Path,
    time: Duration,
    jobs: usize,
    as_json: bool,
) -> Result<bool, String> {
    silence_panics();
    let bar = if std::io::stderr().is_terminal() && !as_json {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let shrunk = shrink(plan, time, jobs, |smaller| {
        bar.set_message(Size::of(smaller).to_string());
        bar.tick();
    });
    bar.finish_and_clear();
    let Some(shrunk) = shrunk else { return Err("the plan passes: there is nothing to shrink".to_owned()) };
    shrunk.plan.save(output)?;
    let test = output.with_extension("rs");
    std::fs::write(&test, shrunk.plan.to_test(output, &shrunk.violation))
        .map_err(|error| format!("{}: {error}", test.display()))?;
    let (before, after) = (Size::of(plan), Size::of(&shrunk.plan));
    if as_json {
        println!(
            "{}",
            json!({
                "operations_before": before.operations, "operations_after": after.operations,
                "faults_before": before.faults, "faults_after": after.faults, "crashes_before": before.crashes,
                "crashes_after": after.crashes, "overrides_before": before.overrides, "overrides_after": after.overrides,
                "seconds": shrunk.elapsed.as_secs(), "runs": shrunk.runs,
                "minimal": shrunk.is_minimal, "violation": shrunk.violation, "plan": output, "test": test,
            })
        );
        return Ok(false);
    }
    println!("WRONG: {}", shrunk.violation);
    println!(
        "{before} shrunk to {after}, in {} runs and {} s{}",
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

/// How much there is in a plan.
#[derive(Clone, Copy)]
struct Size {
    operations: u64,
    /// Replaced disks too.
    faults: usize,
    crashes: usize,
    /// Schedule overrides.
    overrides: usize,
}

impl Size {
    fn of(plan: &Plan) -> Self {
        Self {
            operations: plan.script.operations(),
            faults: plan.faults.len() + plan.replacements.len(),
            crashes: plan.crashes.len(),
            overrides: plan.schedule.len(),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, faults, crashes, overrides } = self;
        write!(
            f,
            "{operations} operations, {faults} faults, {crashes} crashes and {overrides} schedule overrides"
        )
    }
}

/// True if nothing single can go from a plan.
pub(crate) fn check_shrunk(plan: &Plan, jobs: usize, as_json: bool) -> Result<bool, String> {
    silence_panics();
    let Some((tried, idle)) = removable(plan, jobs) else { return Err("the plan passes".to_owned()) };
    Ok(tell_removable(tried, &idle, as_json))
}

/// True if nothing can go.
pub(crate) fn tell_removable(tried: usize, idle: &[String], as_json: bool) -> bool {
    if as_json {
        println!("{}", json!({ "tried": tried, "removable": idle }));
    } else {
        idle.iter().for_each(|unit| println!("it fails without {unit} too"));
        println!("{} of {tried} operations, faults, crashes and schedule overrides can go", idle.len());
    }
    idle.is_empty()
}
