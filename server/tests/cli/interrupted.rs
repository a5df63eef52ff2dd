//! What is interrupted leaves nothing half done: no file has the final name before it is whole.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::support::{holdfast, line, with_signals};
use tempfile::tempdir;

const ROWS: u32 = 300_000;

fn fill(dir: &Path) {
    let text: String =
        (0..ROWS).map(|n| format!("{{\"key\":\"{n:06}\",\"value\":\"some text\"}}\n")).collect();
    std::fs::write(dir.join("in.jsonl"), text).unwrap();
    line(dir, "import db in.jsonl").good();
}

/// Exports to `out.jsonl` and sends the signal as soon as the file has been begun.
fn interrupted(dir: &Path, signals: &str, signal: &str) -> ExitStatus {
    let mut export = with_signals(dir, signals);
    let mut child = export
        .args(["export", "db", "out.jsonl"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    signal_when(&mut child, signal, |_| dir.join("out.jsonl.unfinished").exists())
}

/// Sends the signal as soon as `is_time`, which is given the process's number, says so.
fn signal_when(child: &mut Child, signal: &str, is_time: impl Fn(u32) -> bool) -> ExitStatus {
    let began = Instant::now();
    while !is_time(child.id()) {
        assert!(child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
    assert!(sent.success());
    child.wait().unwrap()
}

/// The process that this one has started, if there is one.
fn child_of(process: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// False if the process has ended, be it that nobody has asked how.
fn is_alive(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn an_interrupted_export_leaves_no_half_file_under_its_name() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fill(dir);
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let ended = interrupted(dir, &format!("--default-signal={signal}"), signal);
        assert_eq!(ended.signal(), Some(number));
        assert!(!dir.join("out.jsonl").exists() && !dir.join("out.jsonl.unfinished").exists(), "{signal}");
    }
    // As under nohup.
    assert!(interrupted(dir, "--ignore-signal=HUP", "HUP").success());
    std::fs::remove_file(dir.join("out.jsonl")).unwrap();
    assert_eq!(interrupted(dir, "--default-signal=TERM", "KILL").signal(), Some(9));
    assert!(!dir.join("out.jsonl").exists());
    let said = line(dir, "export db out.jsonl").refused(2);
    assert!(said.contains("out.jsonl.unfinished is left") && said.contains("remove it"), "{said}");
    std::fs::remove_file(dir.join("out.jsonl.unfinished")).unwrap();
    line(dir, "export db out.jsonl").good();
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert!(read("out.jsonl") == read("in.jsonl"));
    assert!(!dir.join("out.jsonl.unfinished").exists());
}

#[test]
fn an_export_that_fails_or_loses_its_name_harms_nothing() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k \\xff --create").good();
    line(dir, "export db out.jsonl --value-format raw").refused(2);
    line(dir, "export none out.jsonl").refused(2);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "only the database is there");
    let said = line(dir, "export db no/such/out.jsonl").refused(2);
    assert!(said.contains("no/such/out.jsonl: ") && said.contains("hint: check the name"), "{said}");

    fill(dir);
    let mut child = holdfast(dir).args(["export", "db", "out.jsonl"]).stderr(Stdio::piped()).spawn().unwrap();
    while !dir.join("out.jsonl.unfinished").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    std::fs::write(dir.join("out.jsonl"), "mine").unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(2) && said.contains("out.jsonl appeared meanwhile"), "{said}");
    assert_eq!(std::fs::read(dir.join("out.jsonl")).unwrap(), b"mine");
    let whole = std::fs::read_to_string(dir.join("out.jsonl.unfinished")).unwrap();
    assert_eq!(whole.lines().count() as u32, ROWS + 1);
}

#[test]
fn an_interrupted_measurement_or_tour_leaves_nothing() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let entries = || std::fs::read_dir(dir).unwrap().count();
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        for command in ["bench", "tour"] {
            let mut run = with_signals(dir, &format!("--default-signal={signal}"));
            run.arg(command).env("TMPDIR", dir).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = run.spawn().unwrap();
            let ended = signal_when(&mut child, signal, |_| entries() > 0);
            assert_eq!(ended.signal(), Some(number), "{command}");
            assert_eq!(entries(), 0, "{command} {signal}");
        }
    }
    // While another process writes for it.
    let mut run = with_signals(dir, "--default-signal=TERM");
    let mut child = run.arg("tour").env("TMPDIR", dir).stdout(Stdio::null()).spawn().unwrap();
    let writer = std::cell::Cell::new(None);
    let ended = signal_when(&mut child, "TERM", |tour| {
        writer.set(child_of(tour));
        writer.get().is_some()
    });
    assert_eq!(ended.signal(), Some(15));
    assert!(!is_alive(writer.get().unwrap()) && entries() == 0);
    let said = line(dir, "bench --rows 10000000001").refused(2);
    assert!(said.contains("at most 10000000000"), "{said}");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_that_leaves_nothing() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fill(dir);
    let before = std::fs::read_dir(dir).unwrap().count();
    for command in ["export db out.jsonl", "backup db out", "repair db out", "restore db out"] {
        // So many blocks of 512 bytes or 1 KiB, by the shell's choice.
        let limited = format!("ulimit -f 64; exec \"$0\" {command} --json");
        let ended = Command::new("env")
            .args(["--default-signal=XFSZ", "sh", "-c", &limited, env!("CARGO_BIN_EXE_holdfast")])
            .current_dir(dir)
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1), "{command}: {ended:?}");
        let said: serde_json::Value = serde_json::from_slice(&ended.stderr).unwrap();
        assert!(said["error"].as_str().unwrap().contains("File too large"), "{command}: {said}");
        assert!(said["hint"].as_str().unwrap().contains("ulimit -f"), "{command}: {said}");
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), before, "{command} left something");
    }
    line(dir, "verify db").good();
}

#[test]
fn a_reader_that_goes_away_ends_an_export_quietly() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fill(dir);
    let script = "\"$0\" export db - --format jsonl 2>err | head -n 1; echo ${PIPESTATUS[0]}";
    let ended = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_holdfast")])
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(said, "{\"key\":\"000000\",\"value\":\"some text\"}\n0\n");
    assert_eq!(std::fs::read(dir.join("err")).unwrap(), b"");
}
