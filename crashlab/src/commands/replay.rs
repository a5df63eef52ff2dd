//! `replay`: one run, once more.

use std::collections::BTreeSet;

use holdfast_crashlab::determinism::run_again;
use holdfast_crashlab::fault::name_of;
use holdfast_crashlab::plan::Plan;
use holdfast_crashlab::run::{Verdict, Watch, run_watched};
use serde_json::json;

/// Runs it again; true if nothing is wrong.
pub(crate) fn replay(plan: &Plan, watch: Watch, twice: bool, as_json: bool) -> bool {
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
