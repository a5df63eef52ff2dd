//! The shell: conversations through pipes, scripts, and what a terminal gets.

use std::io::{BufRead, Read, Write};

use crate::support::{ask, converse, line};
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
