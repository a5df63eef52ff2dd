//! What somebody whose test fails is told: what was wrong, how to run it again, and what to do next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plan::{Plan, Target};
use super::record::Record;
use super::run::{Body, Watch, run};
use super::shrink::shrink;
use super::variables::{PLAN, Variables};

/// Lines of the event log that a hang is told with, if no number was asked for.
const LINES_OF_HANG: usize = 20;
/// A run that hung once is given so long the second time.
const PATIENCE_AGAIN: Duration = Duration::from_secs(5);
/// How long a plan is shrunk at most.
const SHRINK_TIME: Duration = Duration::from_secs(120);
/// Lines in which the first difference of two runs is looked for.
const LINES_COMPARED: usize = 1_000_000;

/// Prints a line; `cargo test` shows it for a test that fails, and with `--nocapture`.
pub(super) fn print(text: &str) {
    println!("{text}");
}

/// A run that failed.
pub(super) struct Failed<'a> {
    pub(super) plan: &'a Plan,
    pub(super) record: &'a Record,
    pub(super) body: &'a Body,
    pub(super) variables: &'a Variables,
    /// Where the plan is, if it is in a file already.
    pub(super) file: Option<&'a Path>,
}

impl Failed<'_> {
    /// Runs it again, keeps its plan, and says what to do.
    pub(super) fn words(&self) -> String {
        let Self { plan, record, variables, .. } = self;
        let Some(failure) = &record.failure else { return String::new() };
        let is_hang = failure.kind == "hang";
        let mut text = format!("seed {} fails: {failure}\n", plan.seed);
        let lines = if is_hang { variables.trace.max(LINES_OF_HANG) } else { variables.trace };
        let patience = if is_hang { PATIENCE_AGAIN.min(variables.patience) } else { variables.patience };
        let again = run(plan, self.body, Watch { log_events: lines.max(1), patience });
        if again.hash != record.hash && !is_hang || failure.kind == "not deterministic" {
            text.push_str(&self.not_deterministic());
        }
        if lines > 0 {
            text.push_str(&self::lines(&again, lines));
        }
        let file = match self.file {
            Some(file) => file.to_owned(),
            None => match kept_in(plan, "") {
                Ok(file) => file,
                Err(wrong) => return format!("{text}  the plan cannot be kept: {wrong}\n"),
            },
        };
        if self.file.is_none() {
            text.push_str(&format!("  again:  {}\n", again_line(plan)));
        }
        text.push_str(&format!("  plan:   {}={} {}\n", PLAN, file.display(), cargo_line(&plan.test)));
        if variables.shrink && !is_hang {
            text.push_str(&self.shrunk());
        } else {
            text.push_str(&format!(
                "  shrink: crashlab shrink {} -o small.json   (or HOLDFAST_SIM_SHRINK=1 before the first line)\n  \
                 look:   crashlab report {} -o report.html\n",
                file.display(),
                file.display()
            ));
        }
        text
    }

    fn shrunk(&self) -> String {
        let watch = Watch { log_events: 0, patience: self.variables.patience };
        let fails = |plan: &Plan| run(plan, self.body, watch).failure;
        let Some(shrunk) = shrink(self.plan, SHRINK_TIME, fails, |_| ()) else {
            return "  shrink: it passes when it is run again\n".to_owned();
        };
        let file = match kept_in(&shrunk.plan, "-small") {
            Ok(file) => file,
            Err(wrong) => return format!("  shrink: the plan cannot be kept: {wrong}\n"),
        };
        format!(
            "  shrunk: {} operations and {} faults and crashes to {} and {}, in {} runs{}\n          {}: {}\n  again:  \
             {PLAN}={} {}\n  look:   crashlab report {} -o report.html\n",
            self.plan.operations(),
            self.plan.faults.len() + self.plan.crashes.len(),
            shrunk.plan.operations(),
            shrunk.plan.faults.len() + shrunk.plan.crashes.len(),
            shrunk.runs,
            if shrunk.is_minimal { "; none of them can go" } else { "; the time was over" },
            file.display(),
            shrunk.failure,
            file.display(),
            cargo_line(&self.plan.test),
            file.display()
        )
    }

    fn not_deterministic(&self) -> String {
        let watch = Watch { log_events: LINES_COMPARED, patience: self.variables.patience };
        let (one, other) = (run(self.plan, self.body, watch), run(self.plan, self.body, watch));
        not_deterministic(&first_difference(&one, &other))
    }
}

/// # Errors
/// In words: a second run does something else.
pub(super) fn demand_the_same(plan: &Plan, record: &Record, body: &Body, watch: Watch) -> Result<(), String> {
    let again = run(plan, body, watch);
    if again.hash == record.hash {
        return Ok(());
    }
    let watch = Watch { log_events: LINES_COMPARED, ..watch };
    let (one, other) = (run(plan, body, watch), run(plan, body, watch));
    Err(format!("seed {}\n{}", plan.seed, not_deterministic(&first_difference(&one, &other))))
}

fn not_deterministic(difference: &str) -> String {
    format!(
        "  NOT DETERMINISTIC: the same plan did two different things, so what it shows cannot be trusted.\n{difference}  \
         Usual causes: a static that an earlier run has changed, random states that ask the processor or an address \
         (`ahash`, `hashbrown`'s default, `rand` 0.8), `select!` without `biased;`, anything sorted by address, the answer \
         of another process.\n"
    )
}

/// Where two event logs part.
fn first_difference(one: &Record, other: &Record) -> String {
    let at = one.log.iter().zip(&other.log).position(|(one, other)| one != other);
    match at {
        Some(at) => format!("  the first event that differs:\n    {}\n    {}\n", one.log[at], other.log[at]),
        None if one.log.len() != other.log.len() => {
            format!("  one of them has {} events, the other {}\n", one.events, other.events)
        }
        None => "  the two runs made for comparison are the same: it does not happen each time\n".to_owned(),
    }
}

/// What a run came to, in a line.
pub(super) fn words_of(record: &Record) -> String {
    let fired: Vec<String> = record.fired.iter().map(|(class, count)| format!("{class} {count}")).collect();
    format!(
        "{} steps, {} lives, {} kills, {} power losses, {} checks held{}; faults: {}; hash {} over {} events",
        record.steps,
        record.lives,
        record.kills,
        record.power_losses,
        record.checks,
        if record.refused { ", ended by lasting damage" } else { "" },
        if fired.is_empty() { "none".to_owned() } else { fired.join(", ") },
        record.hash,
        record.events
    )
}

/// The last lines of the event log.
pub(super) fn lines(record: &Record, count: usize) -> String {
    let from = record.log.len().saturating_sub(count);
    record.log[from..].iter().map(|line| format!("    {line}\n")).collect()
}

/// How the seed is run again.
fn again_line(plan: &Plan) -> String {
    format!("HOLDFAST_SIM_SEED={} {}", plan.seed, cargo_line(&plan.test))
}

fn cargo_line(test: &Target) -> String {
    let mut line = "cargo test".to_owned();
    if test.binary.components().any(|part| part.as_os_str() == "release") {
        line.push_str(" --release");
    }
    line.push_str(&format!(" -p {}", test.package));
    if !test.features.is_empty() {
        line.push_str(&format!(" --features {}", test.features.join(",")));
    }
    line.push_str(&format!(" {} -- --exact", test.name));
    line
}

/// Keeps a plan beside what cargo has built.
fn kept_in(plan: &Plan, suffix: &str) -> Result<PathBuf, String> {
    let built = plan.test.binary.ancestors().find(|folder| folder.ends_with("deps"));
    let target = built.and_then(Path::parent).and_then(Path::parent);
    let folder = target.unwrap_or(Path::new("target")).join("holdfast-sim");
    let name = plan.test.name.replace("::", "-");
    let file = folder.join(format!("{name}-{}{suffix}.json", plan.seed));
    plan.save(&file)?;
    Ok(file)
}
