//! The commands that take plans of applications as well as our own.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use holdfast_crashlab::application::{self, Place, shown};
use holdfast_crashlab::report::page;
use holdfast_sim::testing::plan::Plan;
use holdfast_sim::testing::{PLAN, shrink};
use indicatif::ProgressBar;
use serde_json::json;

/// Why `history` refuses one.
pub(crate) const NO_HISTORY: &str =
    "the plan of an application has no history: what its clients saw only its own checks know";

/// True if an argument is a file with a plan of an application.
pub(crate) fn is_plan(what: &str) -> bool {
    what.parse::<u64>().is_err() && application::is_plan(Path::new(what))
}

/// How a plan is run again.
pub(crate) struct Replay<'a> {
    /// Last lines of the event log that are told.
    pub(crate) lines: usize,
    /// It is to stop at an event.
    pub(crate) is_to_stop: bool,
    /// Where the plan is written.
    pub(crate) save: Option<&'a Path>,
    /// Once more, which must do the same.
    pub(crate) twice: bool,
    pub(crate) as_json: bool,
}

/// Runs it again.
pub(crate) fn replay(file: &Path, asked: &Replay<'_>) -> Result<bool, String> {
    if asked.is_to_stop {
        return Err(
            "the run of an application cannot be stopped at an event; --trace shows how it went".to_owned()
        );
    }
    let plan = Plan::load(file)?;
    if let Some(save) = asked.save {
        plan.save(save)?;
    }
    let place = Place::new()?;
    let record = place.run(&plan, asked.lines)?;
    let again = if asked.twice { Some(place.run(&plan, 0)?) } else { None };
    let differs =
        again.filter(|again| (&again.hash, again.events) != (&record.hash, record.events)).map(|again| {
            let (hash, events) = (&again.hash, again.events);
            format!("not deterministic: a second run has hash {hash} over {events} events")
        });
    let violations: Vec<String> = record.failure.iter().map(ToString::to_string).chain(differs).collect();
    if asked.as_json {
        println!(
            "{}",
            json!({ "hash": record.hash, "events": record.events, "violation": violations.first() })
        );
        return Ok(violations.is_empty());
    }
    record.log.iter().for_each(|line| println!("{line}"));
    println!(
        "{} steps, {} lives, {} kills, {} power losses, {} checks held",
        record.steps, record.lives, record.kills, record.power_losses, record.checks
    );
    println!("hash {} over {} events", record.hash, record.events);
    violations.iter().for_each(|violation| println!("WRONG: {violation}"));
    if violations.is_empty() {
        println!("nothing is wrong");
    }
    Ok(violations.is_empty())
}

/// Writes the page of its run.
pub(crate) fn report(file: &Path, output: &Path, lines: usize, as_json: bool) -> Result<bool, String> {
    let plan = Plan::load(file)?;
    let record = Place::new()?.run(&plan, lines)?;
    let text = page(&shown(&plan, &record));
    std::fs::write(output, text).map_err(|error| format!("{}: {error}", output.display()))?;
    if as_json {
        let violation = record.failure.as_ref().map(ToString::to_string);
        println!("{}", crate::written::report_json((record.log.len(), record.events), output, violation));
        return Ok(record.failure.is_none());
    }
    println!("{} lines of {} events in {}", record.log.len(), record.events, output.display());
    record.failure.iter().for_each(|failure| println!("WRONG: {failure}"));
    Ok(record.failure.is_none())
}

/// Tries it without each single part.
pub(crate) fn check_shrunk(file: &Path, as_json: bool) -> Result<bool, String> {
    let (plan, place) = (Plan::load(file)?, Place::new()?);
    place.run(&plan, 0)?;
    let found = shrink::removable(&plan, |plan| place.failure(plan));
    let (tried, idle) = found.ok_or("the plan passes")?;
    Ok(super::shrink::tell_removable(tried, &idle, as_json))
}

/// Finds the smallest plan that still fails in the same way.
pub(crate) fn shrink_to(file: &Path, output: &Path, time: Duration, as_json: bool) -> Result<bool, String> {
    let (plan, place) = (Plan::load(file)?, Place::new()?);
    // What cannot be run at all is told as such, and not as a plan that passes.
    place.run(&plan, 0)?;
    let bar = if std::io::stderr().is_terminal() && !as_json {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let events = |plan: &Plan| plan.faults.len() + plan.crashes.len();
    let found = shrink::shrink(
        &plan,
        time,
        |plan| place.failure(plan),
        |smaller| {
            bar.set_message(format!(
                "{} operations, {} faults and crashes",
                smaller.operations(),
                events(smaller)
            ));
            bar.tick();
        },
    );
    bar.finish_and_clear();
    let Some(found) = found else { return Err("the plan passes: there is nothing to shrink".to_owned()) };
    found.plan.save(output)?;
    let (before, after) = (plan.operations(), found.plan.operations());
    if as_json {
        println!(
            "{}",
            json!({
                "operations_before": before, "operations_after": after, "faults_before": plan.faults.len(),
                "faults_after": found.plan.faults.len(), "crashes_before": plan.crashes.len(),
                "crashes_after": found.plan.crashes.len(), "overrides_before": plan.schedule.len(),
                "overrides_after": found.plan.schedule.len(), "seconds": found.elapsed.as_secs(), "runs": found.runs,
                "minimal": found.is_minimal, "violation": found.failure.to_string(), "plan": output,
            })
        );
        return Ok(false);
    }
    println!("WRONG: {}", found.failure);
    println!(
        "{before} operations and {} faults and crashes shrunk to {after} and {}, in {} runs and {} s{}",
        events(&plan),
        events(&found.plan),
        found.runs,
        found.elapsed.as_secs(),
        if found.is_minimal { "; none of them can go" } else { "; the time was over" }
    );
    println!("  again: crashlab replay {} --trace", output.display());
    println!("  look:  crashlab report {} -o {}", output.display(), output.with_extension("html").display());
    let whole = output.canonicalize().unwrap_or_else(|_| output.to_owned());
    println!("  test:  {PLAN}={} cargo test -p {} {}", whole.display(), plan.test.package, plan.test.name);
    println!("  keep:  copy it to the folder that `#[holdfast_sim::test(plans = \"…\")]` names");
    Ok(false)
}
