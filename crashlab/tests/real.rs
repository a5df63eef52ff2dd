//! Storms on a real disk pass, and what is wrong there does not.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use holdfast_crashlab::draw;
use holdfast_crashlab::real::record::FILE_NAME;
use holdfast_crashlab::real::session::{Moment, Session, Verdict};
use holdfast_crashlab::real::{DB_NAME, MARKER_NAME};
use holdfast_crashlab::{Choice, Plan};
use holdfast_workloads::Scratch;
use holdfast_workloads::history::{
    Body, Cell, Change, Durable, Ending, Milestone, Operation, Promise, Stamp, Value,
};
use holdfast_workloads::oracle::Wrong;
use holdfast_workloads::storm::{Line, Settings, Workload};

const PROGRAM: &str = env!("CARGO_BIN_EXE_crashlab");

fn crashlab(arguments: &[&str], dir: &Path) -> Output {
    Command::new(PROGRAM).arg("real").arg(dir).args(arguments).output().expect("it is started")
}

fn scratch() -> Scratch {
    Scratch::new("real-test", None).expect("a temporary directory")
}

#[test]
fn a_few_rounds_pass_and_leave_nothing_behind() {
    let scratch = scratch();
    let dir = scratch.path().join("real");
    let output = crashlab(&["--rounds", "8", "--operations", "300", "--seed", "7", "--json"], &dir);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!((found["rounds"].as_u64(), found["violations"].as_u64()), (Some(8), Some(0)), "{found}");
    assert!(
        found["acknowledged"].as_u64() > Some(40) && found["entries_read"].as_u64() > Some(40),
        "{found}"
    );
    let left: Vec<PathBuf> = names_in(&dir);
    assert_eq!(left, [dir.join(MARKER_NAME)]);
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let scratch = scratch();
    std::fs::write(scratch.path().join("precious"), "x").expect("it is written");
    let output = crashlab(&["--rounds", "1"], scratch.path());
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("name a directory that is empty"), "{said}");
    assert_eq!(names_in(scratch.path()), [scratch.path().join("precious")]);
}

fn names_in(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("a name").path());
    let mut names: Vec<PathBuf> = names.collect();
    names.sort();
    names
}

/// A plan with a log that lasts, so that what was acknowledged last stands in it alone.
fn plan() -> Plan {
    let choice = Choice {
        workloads: vec![Workload::Bank],
        faults: Vec::new(),
        operations: 1000,
        replacing: Vec::new(),
    };
    let mut plan = draw::plan(11, &choice);
    plan.settings = Settings { memtable_kib: 2048, segment_kib: 4096, ..Settings::PLAIN };
    plan.crashes.clear();
    plan
}

/// Lives up to a kill within the script; then something is done to what is left, and the storm goes on.
fn tampered(tamper: impl FnOnce(&Path)) -> Verdict {
    let (scratch, plan, never) = (scratch(), plan(), AtomicBool::new(false));
    let mut session = Session::new(scratch.path(), Path::new(PROGRAM), &plan).expect("it begins");
    let moment = Moment::Steps(plan.script.steps() / 3, Duration::ZERO);
    let death = session.live(moment, &never).expect("a life");
    assert!(death.killed && !death.opening, "{death:?}");
    tamper(scratch.path());
    for moment in [Moment::End, Moment::Calm] {
        if !session.is_lost() {
            session.live(moment, &never).expect("a life");
        }
    }
    session.judge()
}

fn lines_of(run: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(run.join(FILE_NAME)).expect("the record is there");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of it")).collect()
}

#[test]
fn a_storm_that_nobody_tampers_with_is_good() {
    let verdict = tampered(|_| ());
    assert!(verdict.violations.is_empty() && !verdict.undecided, "{:?}", verdict.violations);
    assert!(verdict.counts.acknowledged > 50, "{:?}", verdict.counts);
    let is_kill = |at: &&(u64, Milestone)| at.1 == Milestone::Killed;
    assert_eq!(verdict.history.milestones.iter().filter(is_kill).count(), 1);
}

#[test]
fn a_log_without_its_segments_is_a_violation() {
    let verdict = tampered(|run| {
        let logs = names_in(&run.join(DB_NAME)).into_iter();
        // All of them: the newest one may only be waiting for its use.
        for log in logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
            std::fs::remove_file(log).expect("it is removed");
        }
    });
    assert!(!verdict.violations.is_empty());
}

#[test]
fn a_promise_that_was_not_kept_is_a_violation() {
    let verdict = tampered(|run| {
        let lines = lines_of(run);
        let begins = |line: &&Line| matches!(line, Line::History(Change::Begins { .. }));
        let txn = lines.iter().filter(begins).count() as u32;
        let cell = Cell { keyspace: 0, key: [1].as_slice().into() };
        let value = Value { stamp: Stamp { txn, operation: 0 }, body: Body::Number(1) };
        let changes = [
            Change::Begins { client: 0, opening: 0, promise: Promise::Batch, durable: Durable::Flush },
            Change::Did(txn, Operation::Put { cell, value }),
            Change::Commits(txn),
            Change::Ends(txn, Ending::Committed(1_000_000)),
        ];
        let mut record =
            std::fs::OpenOptions::new().append(true).open(run.join(FILE_NAME)).expect("it is there");
        for change in changes {
            let line = serde_json::to_string(&Line::History(change)).expect("plain data");
            writeln!(record, "{line}").expect("it is written");
        }
    });
    let first = verdict.violations.first().map(|violation| violation.wrong);
    assert_eq!(first, Some(Wrong::LostWrite), "{:?}", verdict.violations);
}

#[test]
fn a_process_that_dies_by_itself_is_a_violation() {
    let (scratch, never) = (scratch(), AtomicBool::new(false));
    let mut session = Session::new(scratch.path(), Path::new("false"), &plan()).expect("it begins");
    session.live(Moment::End, &never).expect("a life");
    let violations = session.judge().violations;
    assert!(violations.iter().any(|violation| violation.wrong == Wrong::Unavailable), "{violations:?}");
    let mut session = Session::new(scratch.path(), Path::new("./none"), &plan()).expect("it begins");
    assert!(session.live(Moment::End, &never).is_err_and(|error| error.contains("./none")));
}
