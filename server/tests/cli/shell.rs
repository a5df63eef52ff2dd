//! The shell: conversations through pipes, scripts, and what a terminal gets.

use std::io::{BufRead, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{ask, converse, line, piped};
use tempfile::tempdir;

#[test]
fn the_shell_answers_each_line_and_what_it_answered_lasts() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let (mut shell, mut input, mut results) = converse(dir);
    assert!(ask(&mut input, &mut results, "put k v").starts_with("commit "));
    assert_eq!(ask(&mut input, &mut results, "get k"), "v\n");
    assert!(ask(&mut input, &mut results, "begin\nput k w\nput l w\ncommit").starts_with("reading as of"));
    let mut committed = String::new();
    results.read_line(&mut committed).unwrap();
    assert!(committed.starts_with("commit "), "{committed}");
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert_eq!(line(dir, "scan db").good(), "k\tw\nl\tw\n");
}

#[test]
fn a_script_whose_results_nobody_reads_does_not_pass_for_done() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    for (first, rest, code, words) in [
        ("get k", "get k\n", 0, ""),
        ("get k", "get k\n\n# the end\nquit\nput k w\n", 0, ""),
        ("get k", "get k\nput k w\n", 1, "error: line 3, `put k w`: standard output was closed before"),
        ("begin", "put k w\nget k\n", 1, "1 statements that wrote were rolled back"),
    ] {
        let (mut shell, mut input, mut results) = converse(dir);
        ask(&mut input, &mut results, first);
        drop(results);
        input.write_all(rest.as_bytes()).unwrap();
        drop(input);
        let mut said = String::new();
        shell.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(shell.wait().unwrap().code(), Some(code), "{rest}: {said}");
        assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{rest}: {said}");
        assert_eq!(line(dir, "get db k").good(), "v\n", "{rest}");
    }
}

#[test]
fn a_scan_gives_a_script_all_rows_and_a_terminal_what_it_can_show() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let rows: String = (0..101).map(|n| format!("{{\"key\":\"{n:03}\",\"value\":\"v\"}}\n")).collect();
    piped(dir, "import db - --format jsonl", &rows).good();
    let script = piped(dir, "shell db", "scan --keys-only\n");
    assert_eq!(script.err, "");
    assert_eq!(script.good().lines().count(), 101);
    assert_eq!(piped(dir, "shell db", "scan --limit 2 --reverse --keys-only\n").good(), "100\n099\n");
    assert!(piped(dir, "shell db", "scan --limit 0\n").refused(1).contains("at least 1"));

    let on_terminal = |statement: &str| -> Vec<String> {
        // It gives its command a terminal, and copies what comes to its own standard output.
        let mut terminal = Command::new("script")
            .args(["-qec", &format!("'{}' shell db", env!("CARGO_BIN_EXE_holdfast")), "typescript"])
            .current_dir(dir)
            .env("XDG_STATE_HOME", dir.join("state"))
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        terminal.stdin.take().unwrap().write_all(format!("{statement}\nquit\n").as_bytes()).unwrap();
        let ended = terminal.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success(), "{said}");
        // On so plain a terminal the first row stands behind the prompt.
        said.lines().map(|line| line.trim_start_matches("default> ").trim_end().to_string()).collect()
    };
    let has = |said: &[String], wanted: &str| said.iter().any(|line| line == wanted);
    let said = on_terminal("scan --keys-only");
    assert!(has(&said, "000") && has(&said, "099") && !has(&said, "100"), "{said:?}");
    assert!(has(&said, "note: … more rows than the first 100; --limit N shows N"), "{said:?}");
    for statement in
        ["scan --keys-only --from 001", "scan --keys-only --limit 101", "scan -n 100 --keys-only"]
    {
        let said = on_terminal(statement);
        assert!(
            has(&said, "099") && !said.iter().any(|line| line.contains("more rows")),
            "{statement}: {said:?}"
        );
    }
}

#[test]
fn comments_and_blank_lines_are_passed_over_whatever_they_hold() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let script = "# it's a comment\n\n \t\r\n  # \"\nput k v\n";
    assert_eq!(piped(dir, "shell db", script).good(), "commit 1\n");
    assert!(piped(dir, "shell db", "get it's\n").refused(1).contains("not closed"));
}

#[test]
fn help_says_what_it_lists_and_json_has_it_too() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let said = piped(dir, "shell db", "help\n").good();
    assert!(
        said.starts_with("Commands; `help COMMAND` tells more:\n") && said.contains("\n  rollback "),
        "{said}"
    );
    assert!(piped(dir, "shell db", "help get\n").good().contains("--at"), "{said}");
    let told = piped(dir, "shell db --json", "help\n").json();
    assert_eq!(told[0]["help"].as_str().unwrap(), said.trim_end());
}

#[test]
fn within_a_transaction_ranges_are_deleted_as_outside() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let rows = "put a 1\nput b 2\nput \\xff\\xff 3\n";
    let left = |script: &str| {
        let ended = piped(dir, "shell db", &format!("{rows}begin\n{script}\ncommit\nscan --keys-only\n"));
        let said = ended.good();
        std::fs::remove_dir_all(dir.join("db")).unwrap();
        said.lines().skip(4).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(left("put c 4\ndelete --prefix ''"), ["commit 4"]);
    assert_eq!(left("delete --from b"), ["commit 4", "a"]);
    assert_eq!(left("delete --from b --to c"), ["commit 4", "a", r"\xff\xff"]);
    assert_eq!(left(r"delete --prefix \xff"), ["commit 4", "a", "b"]);
    let nothing = "nothing to delete: no key lies in the range";
    assert_eq!(left("delete --from a --to a")[0], nothing);
    assert_eq!(left(r"delete --from \xff\xff\x00")[0], nothing);
    assert_eq!(
        left("delete --from a --to a\nrollback\ndelete --from a --to a\nbegin")[..3],
        [nothing, "rolled back", nothing]
    );
    assert_eq!(left("delete --from x --to z")[1..], ["a", "b", r"\xff\xff"]);
    assert_eq!(piped(dir, "shell db", "begin\ndelete --prefix ''\n").good().lines().nth(1), Some(nothing));
}

#[test]
fn ctrl_c_on_a_terminal_is_answered_at_once() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let mut terminal = Command::new("script")
        .args(["-qec", &format!("'{}' shell db", env!("CARGO_BIN_EXE_holdfast")), "typescript"])
        .current_dir(dir)
        .env("XDG_STATE_HOME", dir.join("state"))
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = output.read(&mut bytes) {
            let _ = tell.send(String::from_utf8_lossy(&bytes[..read]).into_owned());
        }
    });
    let mut said = String::new();
    let mut wait_for = |wanted: &str| {
        while !said.contains(wanted) {
            match told.recv_timeout(Duration::from_secs(20)) {
                Ok(more) => said += &more,
                Err(_) => return Err(said.clone()),
            }
        }
        Ok(())
    };
    // The prompt comes when the terminal takes single keys, of which Ctrl-C then is one.
    wait_for("default> ").unwrap();
    input.write_all(b"\x03").unwrap();
    let answered = wait_for("Ctrl-D ends the shell)");
    input.write_all(b"quit\r").unwrap();
    assert!(terminal.wait().unwrap().success());
    reader.join().unwrap();
    answered.expect("nothing else was entered");
}
