//! `real`: a real directory.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;

use holdfast_crashlab::COMMIT;
use holdfast_crashlab::real::{PLAN_NAME, Real};
use holdfast_workloads::Random;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::console::{program, stop_on_signal};
use crate::arguments::RealArgs;

/// Storms on a real directory; true if nothing was wrong.
pub(crate) fn run(arguments: &RealArgs) -> Result<bool, String> {
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
        all["commit"] = COMMIT.into();
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
        println!("  commit: {COMMIT}");
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
