//! Runs redb on the simulated disk. See the package's README.

mod backend;
mod storm;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use backend::Wrong;
use storm::{Kind, Verdict};

/// Runs redb through seeded storms on the simulated disk, and judges what it said by the oracles of the workloads.
#[derive(Parser)]
#[command(
    name = "holdfast-redb-storm",
    after_help = "Examples:\n  \
        holdfast-redb-storm                                     every kind of fault, 1,000 seeds each\n  \
        holdfast-redb-storm --kind crashes --start 17 --seeds 1 one seed again\n  \
        holdfast-redb-storm --self-test                         adapters made wrong on purpose must be caught\n\n\
        Exit codes: 0 nothing is wrong, 1 something is, 2 it makes no sense."
)]
struct Arguments {
    /// What goes wrong beside crashes; may be given more than once. Every kind if not given.
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Vec<Kind>,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    start: u64,
    /// Seeds of each kind.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Seeds at once.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Runs on an adapter that is wrong on purpose.
    #[arg(long, value_enum, value_name = "HOW", conflicts_with = "self_test")]
    wrong: Option<Wrong>,
    /// Demands that every adapter made wrong on purpose is caught, and that a seed is the same twice.
    #[arg(long)]
    self_test: bool,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Failing seeds that are told in words.
const TOLD_MAX: usize = 5;

/// What the seeds of one kind came to.
struct Sum {
    kind: Kind,
    seeds: u64,
    all: Verdict,
    failed: Vec<(u64, String)>,
}

impl Sum {
    fn of(kind: Kind) -> Self {
        Self { kind, seeds: 0, all: Verdict::default(), failed: Vec::new() }
    }

    fn add(&mut self, seed: u64, verdict: Verdict) {
        self.seeds += 1;
        let all = &mut self.all;
        all.openings += verdict.openings;
        all.crashes += verdict.crashes;
        all.acknowledged += verdict.acknowledged;
        all.unknown += verdict.unknown;
        all.entries_read += verdict.entries_read;
        all.fired += verdict.fired;
        all.refused += verdict.refused;
        all.undecided += verdict.undecided;
        all.unfinished += verdict.unfinished;
        if let Some(violation) = verdict.violations.into_iter().next() {
            self.failed.push((seed, violation));
            self.failed.sort();
        }
    }

    fn json(&self) -> serde_json::Value {
        let all = &self.all;
        json!({
            "kind": name(self.kind), "seeds": self.seeds, "violations": self.failed.len(), "openings": all.openings,
            "crashes": all.crashes, "acknowledged": all.acknowledged, "unknown": all.unknown,
            "entries_read": all.entries_read, "fired": all.fired, "refused": all.refused, "undecided": all.undecided,
            "unfinished": all.unfinished,
            "failed": self.failed.iter().map(|(seed, what)| json!({"seed": seed, "what": what})).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let all = &self.all;
        let mut text = format!(
            "{}: {} seeds, {} failed; {} openings, {} crashes, {} commits acknowledged, {} of unknown outcome, {} entries \
             read, {} faults, {} calls refused, {} files left unfinished, {} undecided\n",
            name(self.kind),
            self.seeds,
            self.failed.len(),
            all.openings,
            all.crashes,
            all.acknowledged,
            all.unknown,
            all.entries_read,
            all.fired,
            all.refused,
            all.unfinished,
            all.undecided
        );
        for (seed, what) in self.failed.iter().take(TOLD_MAX) {
            text.push_str(&format!(
                "  seed {seed}: {what}\n    again: --kind {} --start {seed} --seeds 1\n",
                name(self.kind)
            ));
        }
        text
    }
}

fn name(kind: impl ValueEnum) -> String {
    kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.self_test {
        return self_test(&arguments);
    }
    let kinds = if arguments.kind.is_empty() { Kind::ALL.to_vec() } else { arguments.kind.clone() };
    let sums: Vec<Sum> =
        kinds.into_iter().map(|kind| sweep(&arguments, kind, arguments.wrong, false)).collect();
    if arguments.json {
        println!("{}", json!({"kinds": sums.iter().map(Sum::json).collect::<Vec<_>>()}));
    } else {
        sums.iter().for_each(|sum| print!("{}", sum.text()));
    }
    ExitCode::from(u8::from(sums.iter().any(|sum| !sum.failed.is_empty())))
}

/// All seeds of a kind; with `first_only` none is begun after one has failed.
fn sweep(arguments: &Arguments, kind: Kind, wrong: Option<Wrong>, first_only: bool) -> Sum {
    let bar = ProgressBar::new(arguments.seeds);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} seeds {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(name(kind));
    let (next, has_failed, sum) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Sum::of(kind)));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds || (first_only && has_failed.load(Ordering::Relaxed)) {
                        return;
                    }
                    let seed = arguments.start.wrapping_add(number);
                    let verdict = storm::run(seed, kind, wrong);
                    has_failed.fetch_or(!verdict.violations.is_empty(), Ordering::Relaxed);
                    sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(seed, verdict);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn self_test(arguments: &Arguments) -> ExitCode {
    let mut is_good = true;
    for wrong in Wrong::value_variants() {
        let sum = sweep(arguments, Kind::Crashes, Some(*wrong), true);
        let caught = sum.failed.first();
        is_good &= caught.is_some();
        match caught {
            Some((seed, what)) => println!("ok     {} is caught: seed {seed}: {what}", name(*wrong)),
            None => println!("FAILED {} is not caught in {} seeds", name(*wrong), sum.seeds),
        }
    }
    let differs = (arguments.start..arguments.start.saturating_add(20)).find(|seed| {
        storm::run(*seed, Kind::Crashes, None).hash != storm::run(*seed, Kind::Crashes, None).hash
    });
    is_good &= differs.is_none();
    match differs {
        None => println!("ok     20 seeds did the same twice"),
        Some(seed) => println!("FAILED seed {seed} did two different things"),
    }
    ExitCode::from(u8::from(!is_good))
}
