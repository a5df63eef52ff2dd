//! The commands that write down what a run was: its page, and the history of its clients.

use std::path::Path;

use holdfast_crashlab::plan::Plan;
use holdfast_crashlab::report;
use holdfast_crashlab::run::{Watch, run, run_watched};
use holdfast_workloads::dbcop;
use serde_json::json;

/// Writes the page of a run; true if nothing was wrong in it.
pub(crate) fn report(plan: &Plan, output: &Path, lines: usize, as_json: bool) -> Result<bool, String> {
    let verdict = run_watched(plan, Watch { log_events: lines, ..Watch::default() });
    let page = report::page(&report::Shown::of(plan, &verdict));
    std::fs::write(output, page).map_err(|error| format!("{}: {error}", output.display()))?;
    let violation = verdict.violations.first().map(ToString::to_string);
    if as_json {
        println!("{}", report_json((verdict.log.len(), verdict.events), output, violation));
        return Ok(verdict.violations.is_empty());
    }
    println!("{} lines of {} events in {}", verdict.log.len(), verdict.events, output.display());
    verdict.violations.iter().for_each(|violation| println!("WRONG: {violation}"));
    Ok(verdict.violations.is_empty())
}

/// What a page shows, for programs.
pub(crate) fn report_json(
    (lines, events): (usize, u64),
    page: &Path,
    violation: Option<String>,
) -> serde_json::Value {
    json!({ "lines": lines, "events": events, "page": page, "violation": violation })
}

/// Writes what clients saw; true if nothing was wrong.
pub(crate) fn history(plan: &Plan, output: &Path, flags: bool, as_json: bool) -> Result<bool, String> {
    let verdict = run(plan);
    let form = if flags { dbcop::Form::Flags } else { dbcop::Form::Tagged };
    let info = format!("holdfast, seed {}, workload {}", plan.seed, plan.workload.name());
    let text = dbcop::file(&verdict.history, form, &info).to_string();
    std::fs::write(output, text).map_err(|error| format!("{}: {error}", output.display()))?;
    let transactions = verdict.history.transactions.len();
    if as_json {
        let violation = verdict.violations.first().map(ToString::to_string);
        println!("{}", json!({ "transactions": transactions, "history": output, "violation": violation }));
        return Ok(verdict.violations.is_empty());
    }
    println!("{transactions} transactions in {}", output.display());
    verdict.violations.iter().for_each(|violation| println!("WRONG: {violation}"));
    Ok(verdict.violations.is_empty())
}
