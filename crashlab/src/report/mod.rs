//! One self-contained page that shows a run: lanes of tasks over time, the disk's sectors, the way to what went wrong.
//!
//! ```text
//! page.html    markup, style and script; between the marks below stands the run as JSON
//! run          {"title", "violations", "counts", "lanes": [name], "files": {number: name}, "lines": [line]}
//! line         [event, time in ns, lane, kind, text]
//!              and for what touches a file: [..., file or its name, first byte, bytes, sector runs or 0]
//! kind         one of KINDS, by place
//! ```
//! Nothing is loaded from elsewhere. What a run says is put into the page as JSON in which `<` is escaped, so that no text
//! of it can end the script that it stands in.

use std::collections::BTreeMap;

use holdfast_sim::{Detail, LogLine, SECTOR};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::run::Verdict;

/// Where the run stands in the page.
pub const DATA_BEGINS: &str = "/*run*/";
/// Where it ends.
pub const DATA_ENDS: &str = "/*end*/";

const PAGE: &str = include_str!("page.html");

/// Kinds of lines, as the page knows them.
const KINDS: [&str; 12] = [
    "text",
    "note",
    "read",
    "write",
    "durable write",
    "sync",
    "name",
    "refused",
    "fault",
    "survivor",
    "death",
    "power",
];

/// What is shown of a run.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// What it was a run of.
    pub title: String,
    /// What was wrong, the first before the others.
    pub violations: Vec<String>,
    /// The line that the first violation points at.
    pub guilty: Option<usize>,
    /// Number of events.
    pub events: u64,
    /// Simulated time, in nanoseconds.
    pub simulated_ns: u64,
    /// Operations of clients.
    pub operations: u64,
    /// Openings of the database, or lives of its process.
    pub openings: u64,
    /// Kills and power losses.
    pub crashes: u64,
    /// The hash over all events, in hexadecimal digits.
    pub hash: String,
    /// The event log, or its end.
    pub log: &'a [LogLine],
}

impl<'a> Shown<'a> {
    /// Of a run of a workload.
    pub fn of(plan: &Plan, verdict: &'a Verdict) -> Self {
        Self {
            title: format!("seed {}, workload {}", plan.seed, plan.workload.name()),
            violations: verdict.violations.iter().map(ToString::to_string).collect(),
            guilty: verdict.guilty_line(),
            events: verdict.events,
            simulated_ns: verdict.simulated_ns,
            operations: verdict.counts.operations,
            openings: verdict.counts.openings,
            crashes: verdict.crashes,
            hash: format!("{:016x}", verdict.hash),
            log: &verdict.log,
        }
    }
}

/// The page of a run whose event log was kept.
pub fn page(shown: &Shown<'_>) -> String {
    let run = run_of(shown).to_string().replace('<', "\\u003c");
    PAGE.replacen("/*run*/null/*end*/", &format!("{DATA_BEGINS}{run}{DATA_ENDS}"), 1)
}

/// What the page shows, as data.
pub fn run_of(shown: &Shown<'_>) -> Value {
    let mut lanes = Lanes::default();
    let mut files: BTreeMap<u64, String> = BTreeMap::new();
    let lines: Vec<Value> = shown
        .log
        .iter()
        .map(|line| {
            if let Detail::Call { operation, name, file: Some(file), .. } = &line.detail
                && operation == "open"
            {
                files.insert(*file, name.rsplit('/').next().unwrap_or(name).to_owned());
            }
            line_of(line, lanes.of(line))
        })
        .collect();
    json!({
        "title": shown.title,
        "violations": shown.violations,
        "guilty": shown.guilty,
        "counts": {
            "events": shown.events,
            "lines": shown.log.len(),
            "simulated_ns": shown.simulated_ns,
            "operations": shown.operations,
            "openings": shown.openings,
            "crashes": shown.crashes,
            "hash": shown.hash,
        },
        "sector": SECTOR,
        "kinds": KINDS,
        "lanes": lanes.names,
        "files": files,
        "lines": lines,
    })
}

/// Numbers of lanes: one for each task, in the order in which they first have the turn.
#[derive(Default)]
struct Lanes {
    by_task: BTreeMap<u64, usize>,
    names: Vec<String>,
}

impl Lanes {
    fn of(&mut self, line: &LogLine) -> usize {
        let names = &mut self.names;
        *self.by_task.entry(line.task).or_insert_with(|| {
            names.push(format!("{} {}", line.task, line.task_name));
            names.len() - 1
        })
    }
}

fn kind(name: &str) -> usize {
    KINDS.iter().position(|known| *known == name).unwrap_or(0)
}

fn line_of(line: &LogLine, lane: usize) -> Value {
    let head = |name: &str| (line.event, line.at_ns, lane, kind(name), line.text.as_str());
    match &line.detail {
        Detail::Text => json!(head("text")),
        Detail::Note => json!(head("note")),
        Detail::Died { .. } => json!(head("death")),
        Detail::PowerLost { .. } => json!(head("power")),
        Detail::Call { operation, name, file, offset, len, is_durable, is_refused } => {
            let kind = match &**operation {
                _ if *is_refused => "refused",
                "read" | "len" | "metadata" | "list" | "free_space" => "read",
                "write" | "zero_range" if *is_durable => "durable write",
                "write" | "zero_range" | "punch_hole" | "truncate" | "allocate" => "write",
                "sync_data" | "sync_all" | "sync_dir" => "sync",
                _ => "name",
            };
            let (event, at_ns, lane, kind, text) = head(kind);
            let file = file.map_or_else(|| json!(name), |file| json!(file));
            json!([event, at_ns, lane, kind, text, file, offset, len, 0])
        }
        Detail::Fault { name, offset, len, .. } => {
            let (event, at_ns, lane, kind, text) = head("fault");
            json!([event, at_ns, lane, kind, text, name, offset, len, 0])
        }
        Detail::Survivor { file, offset, len, runs } => {
            let (event, at_ns, lane, kind, text) = head("survivor");
            let runs: Vec<(u64, u64)> = runs.iter().map(|run| (run.start, run.end)).collect();
            json!([event, at_ns, lane, kind, text, file, offset, len, runs])
        }
    }
}
