//! Commands that read: they write nothing, stand in nobody's way, and say why something cannot be shown.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use holdfast::{Durability, Options, WriteBatch};

use crate::support::{holdfast, image, line, piped};
use tempfile::tempdir;

const READING: [&str; 6] = [
    "get db k",
    "scan db",
    "count db",
    "count db --approximate",
    "count db --approximate --from a",
    "keyspaces db",
];

/// A shell that has the database open and has put key `k`.
fn shell(dir: &Path) -> (Child, ChildStdin) {
    let mut shell =
        holdfast(dir).args(["shell", "db"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"put k v\n").unwrap();
    let written = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        line(dir, "get db k").code == 0
    });
    assert!(written, "the shell wrote");
    (shell, input)
}

#[test]
fn reading_writes_nothing() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    let before = image(dir);
    for command in READING {
        line(dir, command).good();
        assert!(before == image(dir), "{command} changed something");
    }
}

#[test]
fn a_crash_is_recovered_by_the_first_that_reads() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let (mut shell, input) = shell(dir);
    shell.kill().unwrap();
    shell.wait().unwrap();
    drop(input);
    let crashed = image(dir);
    assert_eq!(line(dir, "scan db").good(), "k\tv\n");
    let recovered = image(dir);
    assert!(crashed != recovered, "what was shown is safe in tables");
    for command in READING {
        line(dir, command).good();
        assert!(recovered == image(dir), "{command} changed something");
    }
}

/// Who opens after a crash decides what of the past is kept; a command that reads lets nothing go.
#[test]
fn a_reading_command_keeps_the_past_that_another_kept() {
    const COMMITS: usize = 1100;
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let mut shell = holdfast(dir);
    let mut shell = shell
        .args(["shell", "db", "--retain-commits", "100000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    let mut answers = BufReader::new(shell.stdout.take().unwrap()).lines();
    let puts: String = (1..=COMMITS).map(|n| format!("put k {n}\n")).collect();
    let writer = std::thread::spawn(move || {
        input.write_all(puts.as_bytes()).unwrap();
        input
    });
    assert!(answers.by_ref().take(COMMITS).all(|answer| answer.unwrap().starts_with("commit ")));
    shell.kill().unwrap();
    shell.wait().unwrap();
    drop(writer.join());
    assert_eq!(line(dir, "get db k").good(), format!("{COMMITS}\n"));
    assert_eq!(line(dir, "get db k --at 1").good(), "1\n");
    assert_eq!(line(dir, "get db k --at 1 --retain-commits 100000").good(), "1\n");
    line(dir, "put db k last").good();
    assert!(
        line(dir, "get db k --at 1").refused(1).contains("no longer kept"),
        "a command that writes keeps 1000"
    );
}

#[test]
fn a_database_of_another_user_is_read_without_a_trace() {
    const OTHER: u32 = 54_321;
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let (mut shell, input) = shell(dir);
    shell.kill().unwrap();
    shell.wait().unwrap();
    drop(input);
    match chown(dir.join("db"), Some(OTHER), None) {
        Ok(()) => {}
        // Only root can give it away; to everybody else it stays their own, and no command says anything.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let said = line(dir, "put db k w");
            assert_eq!((said.code, said.err.as_str()), (0, ""));
            return;
        }
        Err(error) => panic!("{error}"),
    }
    let crashed = image(dir);
    for command in READING.into_iter().chain(["stats db", "verify db", "export db - --format jsonl"]) {
        let read = line(dir, command);
        assert_eq!((read.code, read.err.as_str()), (0, ""), "{command}");
        assert!(crashed == image(dir), "{command} changed something");
    }
    assert_eq!(line(dir, "get db k").good(), "v\n");
    line(dir, "backup db copy").good();
    assert_ne!(dir.join("copy").metadata().unwrap().uid(), OTHER, "a copy belongs to who makes it");
    std::fs::remove_dir_all(dir.join("copy")).unwrap();
    assert!(crashed == image(dir), "the backup changed something");

    for command in ["put db k w", "delete db k", "compact db"] {
        let said = line(dir, command);
        let hint = format!("`sudo -u '#{OTHER}' holdfast …`");
        assert!(said.code == 0 && said.err.contains(&hint), "{command}: {}", said.err);
        assert!(
            said.err.starts_with(&format!("note: db belongs to user {OTHER}, and this writes to it as "))
        );
    }
    assert!(crashed != image(dir));
}

#[test]
fn a_paused_scan_locks_nobody_out() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let value = "v".repeat(200);
    let text: String =
        (0..20_000).map(|n| format!("{{\"key\":\"{n:05}\",\"value\":\"{value}\"}}\n")).collect();
    piped(dir, "import db - --format jsonl", &text).good();
    let mut scan = holdfast(dir).args(["scan", "db"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(scan.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("00000\t"));
    // Far more than a pipe holds is still to come, so the scan stands still.
    line(dir, "put db 00001 new").good();
    line(dir, "delete db --from 1").good();
    line(dir, "compact db").good();
    assert!(scan.try_wait().unwrap().is_none(), "the scan is under way");
    // It shows the state of its beginning, to the end.
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    assert_eq!(rest.len(), 19_999);
    assert_eq!(rest[0], format!("00001\t{value}"));
    assert!(scan.wait().unwrap().success());
}

#[test]
fn the_past_is_readable_beside_a_writer() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let (mut shell, input) = shell(dir);
    for command in ["get db k --at 1", "scan db --at 1", "count db --at 1"] {
        line(dir, command).good();
    }
    let said = line(dir, "get db k --at 4000").refused(2);
    assert!(said.contains("4000") && said.contains("future"), "{said}");
    drop(input);
    assert!(shell.wait().unwrap().success());
    line(dir, "get db k --at 1").good();
}

/// What a writer keeps in memory may be more than a command has by default; its advice must be one that can be followed.
#[test]
fn a_log_longer_than_the_memory_of_a_reader_needs_a_flag_that_there_is() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let options = Options { memory_limit_bytes: 1 << 30, memtable_bytes: 256 << 20, ..Options::default() };
    let db = holdfast::blocking::Db::open(dir.join("db"), options).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    for n in 0..9 {
        let mut batch = WriteBatch::new();
        batch.put(keyspace.id(), format!("k{n}").as_bytes(), &vec![n; 8 << 20]).unwrap();
        db.write(batch, Durability::Flush).unwrap();
    }
    for command in ["count db", "get db k", "stats db"] {
        let said = line(dir, command).refused(2);
        assert!(said.contains("raise --memory-limit to at least twice"), "{command}: {said}");
        assert!(said.contains("67108864 bytes") && !said.contains("memory_limit_bytes"), "{command}: {said}");
        line(dir, &format!("{command} --memory-limit 64MiB")).refused(2);
    }
    assert_eq!(line(dir, "count db --memory-limit 256MiB").good(), "9\n");
    assert_eq!(line(dir, "--memory-limit 268435456 count db").good(), "9\n");
    line(dir, "stats db --memory-limit 1GiB").good();
    db.close().unwrap();
    assert_eq!(line(dir, "count db --memory-limit 64MiB").good(), "9\n");
}

#[test]
fn a_database_that_is_removed_while_it_is_watched_was_not_asked_for_wrongly() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    let mut watching = holdfast(dir)
        .args(["stats", "db", "--watch", "100ms", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(watching.stdout.take().unwrap());
    shown.read_line(&mut String::new()).unwrap();
    std::fs::rename(dir.join("db"), dir.join("elsewhere")).unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut shown, &mut std::io::sink()));
    let ended = watching.wait_with_output().unwrap();
    reader.join().unwrap().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("no database any more") && !said.contains("--create"), "{said}");
}
