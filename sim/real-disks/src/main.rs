//! Checks the simulated disk against ext4, xfs and btrfs. See the package's README.

mod draw;
mod file_system;
mod sequence;
mod wrong;
mod device;
mod fuse;
mod rig;
mod perform;
mod record;
mod cut;
mod seen;
mod model;
mod judge;
mod kinds;
mod check;
mod ways;
mod known;
mod failures;
mod self_test;
mod report;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use draw::Draw;
use failures::Failure;
use file_system::FileSystem;
use report::{OfFileSystem, Report};
use rig::Rig;
use sequence::Sequence;
use wrong::Wrong;

/// Checks the simulated disk against real file systems.
///
/// Runs sequences of file operations on loop-mounted file systems over a device that records writes and flushes, cuts
/// the record at random legal points, mounts what is left, and asks whether the personality of the simulated disk
/// allows what is seen. The same device refuses chosen writes and flushes, and everything that can be noticed
/// afterwards is compared with the model too. Needs root, /dev/fuse, loop devices and the programs that make the file
/// systems.
#[derive(Parser)]
#[command(
    name = "holdfast-real-disks",
    after_help = "Examples:\n  \
        holdfast-real-disks                                        all three, 200 sequences of 12 states each\n  \
        holdfast-real-disks --file-system xfs --first 41 --sequences 1   one sequence again\n  \
        holdfast-real-disks --self-test                            models made wrong on purpose must be caught\n\n\
        Exit codes: 0 the model holds, 1 it does not, 2 the check could not be made, 3 interrupted."
)]
struct Arguments {
    /// Only this one; may be given more than once.
    #[arg(long, value_enum, value_name = "NAME")]
    file_system: Vec<FileSystem>,
    /// Seed of the first sequence.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first: u64,
    /// Sequences for each file system.
    #[arg(long, value_name = "N", default_value_t = 200)]
    sequences: u64,
    /// States of each sequence.
    #[arg(long, value_name = "N", default_value_t = 12)]
    cuts: u64,
    /// Failures of the device tried with each sequence.
    #[arg(long, value_name = "N", default_value_t = 2)]
    failures: u64,
    /// Judges by a model that is made wrong on purpose.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "self_test")]
    model_wrong: Option<Wrong>,
    /// Demands that every model made wrong on purpose is caught on every file system.
    #[arg(long)]
    self_test: bool,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("cannot listen for signal {signal}: {error}");
            return ExitCode::from(2);
        }
    }
    match run(&arguments, &stop) {
        Ok(report) => {
            if arguments.json {
                println!("{}", report.json());
                if !report.is_good() {
                    eprint!("{}", report.text());
                }
            } else {
                print!("{}", report.text());
            }
            let is_interrupted = stop.load(Ordering::Relaxed);
            ExitCode::from(if is_interrupted { 3 } else { u8::from(!report.is_good()) })
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments, stop: &AtomicBool) -> Result<Report, String> {
    let all = FileSystem::value_variants();
    let file_systems = if arguments.file_system.is_empty() { all } else { &arguments.file_system };
    let mut report = Report::new();
    for file_system in file_systems {
        let rig = Rig::new(*file_system)?;
        report.file_systems.push(check_one(arguments, *file_system, &rig, stop)?);
    }
    Ok(report)
}

fn check_one(
    arguments: &Arguments,
    file_system: FileSystem,
    rig: &Rig,
    stop: &AtomicBool,
) -> Result<OfFileSystem, String> {
    let fresh = rig.device.base();
    let mut found = OfFileSystem::new(file_system);
    let bar = progress(file_system, arguments.sequences);
    for seed in arguments.first..arguments.first.saturating_add(arguments.sequences) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let sequence = Sequence::of(seed, file_system);
        let states = check::states(rig, &fresh, file_system, &sequence, arguments.cuts)?;
        let mut failed = Vec::new();
        let mut draw = Draw::new(seed ^ 0xfa11);
        for _ in 0..arguments.failures {
            let Some(failure) = Failure::draw(&sequence, &mut draw) else { break };
            if let Some(noticed) = failures::notice(rig, &fresh, &failure)? {
                failed.push((failure, noticed));
            }
        }
        if arguments.self_test {
            self_test::add(&mut found.self_test, file_system, &sequence, &states, &failed)?;
        } else {
            found.states.add(check::judge(file_system, &sequence, &states, arguments.model_wrong)?);
            for (failure, noticed) in &failed {
                found.failures.add(failures::judge(file_system, failure, noticed, arguments.model_wrong)?);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    found.finish();
    Ok(found)
}

fn progress(file_system: FileSystem, sequences: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:5} {wide_bar} {pos}/{len} sequences, {eta} left");
    let bar = ProgressBar::new(sequences).with_message(file_system.name());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
