//! `explore`: every crash of short scripts.

use std::io::IsTerminal;
use std::time::Duration;

use holdfast_crashlab::explore::{Explore, SECTORS_MAX};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::console::{cores, silence_panics, stop_on_signal};
use crate::arguments::ExploreArgs;

/// Every crash of short scripts; true if the database comes through all of them.
pub(crate) fn run(arguments: ExploreArgs) -> Result<bool, String> {
    let explore = Explore {
        scripts: arguments.script,
        depth: arguments.depth,
        sets: arguments.sets,
        recoveries: arguments.recoveries,
        seed: arguments.seed,
        first: arguments.first,
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
        all["bounds"] = json!(bounds);
        all["seconds"] = json!(seconds);
        println!("{all}");
    } else {
        for bad in &found.wrong {
            println!("WRONG: {}, power loss at call {}: {}", bad.script, bad.call, bad.violation);
        }
        println!(
            "{} crash points, {} survivor sets, {} different images, {} judged: {} good, {} bad, {} undecided, in {seconds} s",
            found.crash_points,
            found.survivor_sets,
            found.images,
            found.judged,
            found.good(),
            found.bad,
            found.undecided
        );
        println!("bounds: {bounds}");
        if found.left > 0 {
            println!("{} crash points were not begun", found.left);
        }
    }
    Ok(found.is_good())
}
