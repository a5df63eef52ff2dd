//! `sweep`: many seeds.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::Ordering;

use holdfast_crashlab::COMMIT;
use holdfast_crashlab::draw::plan;
use holdfast_crashlab::sweep::{Summary, Sweep};
use indicatif::{ProgressBar, ProgressStyle};

use super::console::{program, silence_panics, stop_on_signal};

/// True if no seed fails. The plans of those that do go to one place, and all hashes to another.
pub(crate) fn run(
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
    let crashlab = program();
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
            println!("  commit: {COMMIT}");
        }
    }
    if as_json {
        let mut all = summary.to_json();
        all["commit"] = COMMIT.into();
        println!("{all}");
    } else {
        if stop.load(Ordering::Relaxed) {
            println!("stopped early");
        }
        print!("{}", summary.to_text());
    }
    Ok(summary.failures.is_empty())
}
