//! The command line: commands, options, and what they are when not given.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use holdfast_crashlab::draw::Choice;
use holdfast_crashlab::fault::{Replacing, names, of_name, of_one_process};
use holdfast_workloads::storm::Workload;

/// The version, and the commit that it was built of.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), ", commit ", env!("CRASHLAB_COMMIT"));

/// Runs the Holdfast kernel through simulated storms, and repeats, shrinks and explains what fails.
#[derive(Parser)]
#[command(version, long_version = LONG_VERSION, after_help = "Exit codes: 0 nothing wrong, 1 a violation, 2 wrong use.")]
pub(crate) struct Program {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Runs many seeds side by side.
    #[command(
        after_help = "Examples:\n  crashlab sweep --seeds 10000\n  crashlab sweep --workload bank --faults \
                            sync_error,no_space --time 60\n  crashlab sweep --seeds 1000 --hashes one.txt"
    )]
    Sweep {
        /// How many seeds.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        start: u64,
        /// Seeds at once; one for each core if not given.
        #[arg(long)]
        jobs: Option<usize>,
        /// No seed is begun after so many seconds.
        #[arg(long)]
        time: Option<u64>,
        /// No seed is begun after one has failed.
        #[arg(long)]
        first: bool,
        /// Where the plans of failing seeds are kept.
        #[arg(long, default_value = "target/crashlab")]
        keep: PathBuf,
        /// Write a line for each seed to this file: the seed, and the hash of its run.
        #[arg(long, value_name = "FILE")]
        hashes: Option<PathBuf>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: ChoiceArgs,
    },
    /// Runs one seed or plan again.
    #[command(after_help = "Examples:\n  crashlab replay 4711\n  crashlab replay failing.json --trace\n  \
                      crashlab replay 4711 --until 2300 --lines 40\n  gdb -ex run --args crashlab replay 4711 --break 2300")]
    Replay {
        /// A seed, or a file with a plan.
        what: String,
        /// Print the last lines of the event log.
        #[arg(long)]
        trace: bool,
        /// How many lines that are.
        #[arg(long, default_value_t = 200)]
        lines: usize,
        /// End at this event, the first column of the trace, and print what led there.
        #[arg(long, conflicts_with = "break_at")]
        until: Option<u64>,
        /// Stop a debugger at this event, by SIGTRAP.
        #[arg(long = "break", value_name = "EVENT")]
        break_at: Option<u64>,
        /// Write the plan to this file.
        #[arg(long)]
        save: Option<PathBuf>,
        /// Run it once more, and name the first event in which the runs differ, if any does.
        #[arg(long, conflicts_with_all = ["until", "break_at"])]
        twice: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: ChoiceArgs,
    },
    /// Plants each known bug and counts the seeds until it is caught.
    #[command(
        after_help = "Builds a copy of the sources in target/mutants for each bug in crashlab/mutants. What was done \
                      before with the same sources is not done again.\n\nExamples:\n  crashlab mutants\n  crashlab \
                      mutants --only write-skew --starts 5\n  crashlab mutants --shard 2/5 --budget 3000 --json"
    )]
    Mutants(MutantArgs),
    /// Cuts the power at every disk call of short scripts and judges every survivor set.
    #[command(
        after_help = "It ends with 0 only if every image was judged good; one of which the model cannot tell is told as \
                      undecided.\n\nExamples:\n  crashlab explore\n  crashlab explore --script compaction --depth 2 --sets 256 --time 600"
    )]
    Explore(ExploreArgs),
    /// Finds the commit since which a plan fails.
    #[command(
        after_help = "Builds each revision on the way in target/bisect and runs the plan with its own crashlab. One that does \
                      not build or does not know the plan is skipped.\n\nExamples:\n  crashlab bisect small.json --good \
                      v0.1.0"
    )]
    Bisect {
        /// A file with a plan that fails.
        plan: PathBuf,
        /// A revision at which it passes.
        #[arg(long)]
        good: String,
        /// A later one at which it fails.
        #[arg(long, default_value = "HEAD")]
        bad: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Writes one page that shows a run: lanes, disk, and the way to what went wrong.
    #[command(after_help = "Examples:\n  crashlab report small.json -o small.html")]
    Report {
        /// A seed, or a file with a plan.
        what: String,
        /// Where the page is written.
        #[arg(short, long, default_value = "report.html")]
        output: PathBuf,
        /// Lines of the event log that it shows, the last ones.
        #[arg(long, default_value_t = 200_000)]
        lines: usize,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: ChoiceArgs,
    },
    /// Writes what clients saw, in dbcop's raw JSON format, for outside checkers.
    #[command(after_help = "Examples:\n  crashlab history 4711 -o history.json")]
    History {
        /// A seed, or a file with a plan.
        what: String,
        /// Where it is written.
        #[arg(short, long)]
        output: PathBuf,
        /// Write events as dbcop was published with, and as other checkers read them.
        #[arg(long)]
        flags: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: ChoiceArgs,
    },
    /// Runs the same scripts on a real directory and kills the real process.
    #[command(
        after_help = "A round is a kill and the opening after it. Each seed has the script and the settings that it has in the \
                      simulator. The directory must be empty, new, or of a former run; what failed is kept in it.\n\nExamples:\n  \
                      crashlab real /mnt/disk/real --rounds 100\n  crashlab real /tmp/real --seed 4711 --workload bank --json"
    )]
    Real(RealArgs),
    /// Is the process that is killed.
    #[command(hide = true)]
    RealLife {
        /// The directory of the run.
        run: PathBuf,
        /// Look at everything when the script is over.
        #[arg(long)]
        calm: bool,
    },
    /// Finds the smallest plan that still fails in the same way.
    #[command(
        after_help = "Examples:\n  crashlab shrink 4711 -o small.json\n  crashlab shrink small.json --check"
    )]
    Shrink {
        /// A seed, or a file with a plan.
        what: String,
        /// Where the plan is written.
        #[arg(short, long, default_value = "shrunk.json")]
        output: PathBuf,
        /// Stop after so many seconds.
        #[arg(long, default_value_t = 120)]
        time: u64,
        /// Runs at once; one for each core if not given. The plan that comes out is the same. Those of an application run one
        /// by one.
        #[arg(long)]
        jobs: Option<usize>,
        /// Change nothing: try the plan without each single operation, fault, crash and schedule override, and say which of
        /// them can go.
        #[arg(long)]
        check: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: ChoiceArgs,
    },
}

/// What is run on a real directory.
#[derive(Args)]
pub(crate) struct RealArgs {
    /// The directory.
    pub(crate) dir: PathBuf,
    /// How many rounds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) rounds: u64,
    /// The first seed; drawn and printed if not given.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Workloads, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) workload: Vec<String>,
    /// Operations of clients in each seed.
    #[arg(long, default_value_t = Choice::default().operations)]
    pub(crate) operations: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl RealArgs {
    /// What the same seeds draw from in the simulator.
    pub(crate) fn choice(&self) -> Result<Choice, String> {
        Ok(Choice { faults: Vec::new(), ..self.args().choice()? })
    }

    /// As it has to be given again.
    pub(crate) fn again(&self) -> String {
        self.args().again()
    }

    fn args(&self) -> ChoiceArgs {
        let (workload, operations) = (self.workload.clone(), self.operations);
        ChoiceArgs { workload, faults: vec!["all".to_owned()], operations }
    }
}

/// Which planted bugs, and how hard to look for them.
#[derive(Args)]
pub(crate) struct MutantArgs {
    /// Names, or parts of them, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// The folder of the patches, instead of crashlab/mutants.
    #[arg(long)]
    pub(crate) patches: Option<PathBuf>,
    /// Only the i-th of n parts of them, as i/n.
    #[arg(long, default_value = "1/1", value_parser = shard)]
    pub(crate) shard: (u64, u64),
    /// Only so many, chosen by the commit among those that few seeds catch.
    #[arg(long)]
    pub(crate) pick: Option<usize>,
    /// Do not shrink what is found: which faults it takes is not told then.
    #[arg(long)]
    pub(crate) no_shrink: bool,
    /// Look for each by exploring short scripts two crashes deep, with so many survivor sets, instead of by seeds.
    #[arg(long, value_name = "SETS")]
    pub(crate) explore: Option<u64>,
    /// No mutant is begun after so many seconds.
    #[arg(long)]
    pub(crate) budget: Option<u64>,
    /// Starting points of each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) starts: u64,
    /// Seeds from each starting point, at most.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) seeds: u64,
    /// Do again what was done before with the same sources.
    #[arg(long)]
    pub(crate) again: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not of the form 2/5"))
}

/// Which crashes to try.
#[derive(Args)]
pub(crate) struct ExploreArgs {
    /// Scripts, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) script: Vec<String>,
    /// Crashes behind one another: 2 crashes the recovery too.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    pub(crate) depth: u32,
    /// Survivor sets of each crash point in order, at most, and as many drawn where there are more.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) sets: u64,
    /// Images of each crash point whose recovery is crashed too.
    #[arg(long, default_value_t = 2)]
    pub(crate) recoveries: u64,
    /// Decides the schedule and what is drawn.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// No crash point is begun behind one at which something is wrong with the database.
    #[arg(long)]
    pub(crate) first: bool,
    /// No crash point is begun after so many seconds.
    #[arg(long)]
    pub(crate) time: Option<u64>,
    /// Crash points at once; one for each core if not given.
    #[arg(long)]
    pub(crate) jobs: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What seeds draw from; a seed means the same plan only with the same of these.
#[derive(Args)]
pub(crate) struct ChoiceArgs {
    /// Workloads, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) workload: Vec<String>,
    /// Fault classes, separated by commas, or `all`, or `none`.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub(crate) faults: Vec<String>,
    /// Operations of clients in each seed.
    #[arg(long, default_value_t = Choice::default().operations)]
    pub(crate) operations: u64,
}

impl ChoiceArgs {
    pub(crate) fn choice(&self) -> Result<Choice, String> {
        let workload = |name: &String| {
            let known = || Workload::ALL.map(Workload::name).join(", ");
            Workload::of_name(name)
                .ok_or_else(|| format!("there is no workload {name:?}; there are {}", known()))
        };
        let workloads: Vec<Workload> = self.workload.iter().map(workload).collect::<Result<_, _>>()?;
        let workloads = if workloads.is_empty() { Workload::ALL.to_vec() } else { workloads };
        let (faults, replacing) = match &self.faults[..] {
            [one] if one == "all" => (of_one_process(), Replacing::ALL.to_vec()),
            [one] if one == "none" => (Vec::new(), Vec::new()),
            several => {
                let known = || names().collect::<Vec<_>>().join(", ");
                let is_known = |name: &str| of_name(name).is_some() || Replacing::of_name(name).is_some();
                if let Some(name) = several.iter().find(|name| !is_known(name)) {
                    return Err(format!("there is no fault class {name:?}; there are {}", known()));
                }
                let classes = several.iter().filter_map(|name| of_name(name)).collect();
                (classes, several.iter().filter_map(|name| Replacing::of_name(name)).collect())
            }
        };
        Ok(Choice { workloads, faults, replacing, operations: self.operations.max(1) })
    }

    /// As it has to be given again.
    pub(crate) fn again(&self) -> String {
        let mut text = String::new();
        if !self.workload.is_empty() {
            text.push_str(&format!(" --workload {}", self.workload.join(",")));
        }
        if self.faults != ["all"] {
            text.push_str(&format!(" --faults {}", self.faults.join(",")));
        }
        if self.operations != Choice::default().operations {
            text.push_str(&format!(" --operations {}", self.operations));
        }
        text
    }
}
