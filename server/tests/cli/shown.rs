//! What people and programs see: nothing that disturbs a terminal, the words of the command line, plain numbers.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{line, piped, run};
use serde_json::Value as Json;
use tempfile::tempdir;

/// Clears the screen, and turns the letters round.
const EVIL: &str = "e\u{1b}[2J\u{202e}vil";
const SHOWN: &str = r"e\x1b[2J\xe2\x80\xaevil";

#[track_caller]
fn shows_it_harmless(dir: &Path, arguments: &[&str]) {
    let run = run(dir, arguments);
    let said = format!("{}{}", run.out, run.err);
    assert!(said.contains(SHOWN), "{arguments:?} does not name it: {said:?}");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "{arguments:?}: {said:?}");
}

#[test]
fn names_keys_and_paths_cannot_disturb_a_terminal() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    run(dir, ["keyspaces", "db", "--create", "e\u{1b}[31m"]).good();
    assert!(line(dir, "keyspaces db").good().contains(r"e\x1b[31m  at most"));
    for arguments in [
        &["keyspaces", "db", "--create", EVIL][..],
        &["keyspaces", "db"],
        &["stats", "db"],
        &["get", "db", "k", "-k", "no such"],
        &["get", "db", EVIL],
        &["get", "db", EVIL, "--key-format", "hex"],
        &["get", "db", "k", "-k", &format!("{EVIL}no")],
        &["get", EVIL, "k"],
        &["verify", EVIL],
        &["import", "db", EVIL, "--format", "csv"],
        &["backup", "db", EVIL],
        &["backup", "db", EVIL],
        &["stats", EVIL],
        &["restore", EVIL, EVIL],
        &["keyspaces", "db", "--drop", EVIL],
    ] {
        shows_it_harmless(dir, arguments);
    }
    // The parser of arguments leaves out what it knows to be harmful, and shows the rest.
    let said = run(dir, ["scan", "db", &format!("--{EVIL}")]).refused(2);
    assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}') && said.contains("vil"), "{said:?}");
    let said = piped(dir, "shell db", &format!("get {EVIL}\n")).refused(1);
    assert!(!said.contains('\u{1b}') && said.contains(SHOWN), "{said:?}");
    // A line feed in a name cannot begin a line of its own.
    run(dir, ["keyspaces", "db", "--create", "a\nhint: b"]).good();
    assert!(!line(dir, "keyspaces db").good().contains("\nhint"));
    assert!(!run(dir, ["get", "db", "a\nhint: b"]).refused(1).contains("\nhint: b"));
    let long = "k".repeat(60_000);
    let said = run(dir, ["get", "db", &long]).refused(1);
    assert!(said.contains(&format!("no key {}… (60000 bytes)", "k".repeat(64))), "{said}");
    assert!(run(dir, ["get", "db", &long, "--key-format", "hex"]).refused(2).len() < 300);
}

#[test]
fn errors_speak_of_flags_and_commands() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("empty")).unwrap();
    line(dir, "put db k v --create").good();
    for n in 0..5 {
        line(dir, &format!("put db k {n} --retain-commits 0")).good();
    }
    let api_words = ["create_if_missing", "refresh", "retain_commits", "opening, or", "open_files_max"];
    for (command, code, word) in [
        ("get none k", 2, "--create"),
        ("get empty k", 2, "--create"),
        ("get db k --at 99", 2, "stats"),
        ("get db k --at 1", 1, "--retain-commits"),
    ] {
        let said = line(dir, command).refused(code);
        assert!(said.contains(word) && !api_words.iter().any(|api| said.contains(api)), "{command}: {said}");
    }
    std::fs::write(dir.join("afile"), "mine").unwrap();
    let said = line(dir, "verify afile").refused(2);
    assert_eq!(said, line(dir, "stats afile").refused(2));
    let said = line(dir, "keyspaces db --drop default").refused(2);
    assert!(said.contains("belongs to every database") && said.contains("delete DB --prefix ''"), "{said}");
    assert_eq!(line(dir, "get db k").good(), "4\n");
}

#[test]
fn a_delete_of_nothing_says_so() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    for range in ["--prefix x", "--from l", "--from a --to b", "--from k --to k"] {
        let said = line(dir, &format!("delete db {range}")).good();
        assert_eq!(said, "nothing to delete: no key lies in the range\n", "{range}");
        assert_eq!(line(dir, &format!("delete db {range} --json")).json()[0]["deleted"], false, "{range}");
    }
    assert!(piped(dir, "shell db", "delete --prefix x\n").good().contains("nothing to delete"));
    let said = &line(dir, "delete db --from k --json").json()[0];
    assert!(said["deleted"] == true && said["seq"] == 2, "{said}");
    assert_eq!(line(dir, "count db").good(), "0\n");
}

#[test]
fn numbers_in_json_are_plain() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    line(dir, "compact db").good();
    let said = line(dir, "stats db --json").good();
    assert!(!said.contains("thousandths"), "{said}");
    let metrics = serde_json::from_str::<Json>(&said).unwrap()["metrics"].clone();
    assert!(metrics.as_object().unwrap().iter().any(|(_, value)| value.is_f64()), "{metrics}");

    let measures = line(dir, "bench --rows 1000 --time 100ms --json").json();
    for measure in ["durable commits, 1 writer", "durable commits, 8 writers"] {
        let found = measures.iter().find(|found| found["measure"] == measure).unwrap();
        assert!(found["p50_ns"].as_u64().unwrap() > 0, "{found}");
        assert!(found["p50_ns"].as_u64() <= found["p99_ns"].as_u64(), "{found}");
    }
    let gets = measures.iter().find(|found| found["measure"] == "random gets, 1 reader").unwrap();
    assert!(gets["p50_ns"].as_u64().unwrap() > 0 && gets["per_s"].as_u64().unwrap() > 0, "{gets}");
}

#[test]
fn a_progress_line_shows_whole_rows_a_second() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let rows: String = (0..50_000).map(|n| format!("{{\"key\":\"{n}\",\"value\":\"v\"}}\n")).collect();
    std::fs::write(dir.join("rows.jsonl"), rows).unwrap();
    // It gives its command a terminal.
    let terminal = Command::new("script")
        .args(["-qec", &format!("'{}' import db rows.jsonl", env!("CARGO_BIN_EXE_holdfast")), "typescript"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(terminal.stdout).unwrap();
    assert!(said.contains("rows, ") && said.contains(" rows/s, "), "{said:?}");
    assert_eq!(said.matches("/s").count(), said.matches(" rows/s").count(), "{said:?}");
}
