//! `mutants`: planted bugs.

use std::io::IsTerminal;
use std::time::Duration;

use holdfast_crashlab::mutants::{Caught, Progress, Search};
use holdfast_crashlab::workshop::repository_of;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::console::stop_on_signal;
use crate::arguments::MutantArgs;

/// Every mutant that is asked for; true if all of them are caught.
pub(crate) fn run(arguments: &MutantArgs) -> Result<bool, String> {
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
