//! Backups as a user makes them: beside a writer, with the past; and cut off in the middle.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{holdfast, image, line, run};
use tempfile::tempdir;

/// A database that another process keeps open, until its standard input is closed.
fn hold_open(dir: &Path, script: &str) -> Child {
    let mut shell =
        holdfast(dir).args(["shell", "db"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shell.stdin.as_mut().unwrap().write_all(script.as_bytes()).unwrap();
    shell
}

#[test]
fn beside_a_writer_the_numbers_of_commits_and_the_past_are_kept() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    // A row that is larger than any buffer, half of it in a table and half in the log.
    let large: Vec<u8> = (0..6u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(dir.join("large"), &large).unwrap();
    let seq_of = |arguments: &str| line(dir, arguments).json()[0]["seq"].as_u64().unwrap();
    let first = seq_of("put db k first --create --json");
    line(dir, "put db row --file large").good();
    line(dir, "keyspaces db --create people").good();
    let second = seq_of("put db k second --json");
    let writer = hold_open(dir, "put k third\nput k fourth\n");
    // The shell prints when it ends, so what it wrote tells that it is there. Looking takes no lock from it.
    let written = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let seen = serde_json::from_str::<serde_json::Value>(&line(dir, "verify db --json").out);
        seen.is_ok_and(|seen| seen["last_seq"] == second + 2)
    });
    assert!(written, "the shell opened the database and wrote");

    let made = line(dir, "backup db copy --json").json();
    let newest = made[0]["seq"].as_u64().unwrap();
    assert_eq!(newest, second + 2, "{made:?}");
    assert!(line(dir, "backup db again").good().contains(&format!("backed up commit {newest}")));
    assert!(line(dir, "put db k fifth").refused(1).contains("locked"), "the writer is still there");
    for copy in ["copy", "again"] {
        assert_eq!(line(dir, &format!("get {copy} k")).good(), "fourth\n");
        assert_eq!(line(dir, &format!("get {copy} k --at {first}")).good(), "first\n");
        assert_eq!(line(dir, &format!("get {copy} k --at {second}")).good(), "second\n");
        assert_eq!(line(dir, &format!("get {copy} k --at {}", second + 1)).good(), "third\n");
        let row = holdfast(dir).args(["get", copy, "row", "--value-format", "raw"]).output().unwrap();
        assert!(row.stdout == large, "{} of {} bytes", row.stdout.len(), large.len());
        assert_eq!(line(dir, &format!("keyspaces {copy} --json")).json().len(), 2);
        let next = line(dir, &format!("put {copy} k other --json")).json();
        assert_eq!(next[0]["seq"].as_u64(), Some(newest + 1), "commits are numbered on");
    }
    line(dir, "restore copy restored").good();
    assert_eq!(line(dir, &format!("get restored k --at {first}")).good(), "first\n");
    assert_eq!(line(dir, "get restored k").good(), "other\n");
    assert!(writer.wait_with_output().unwrap().status.success());
}

/// Begins a backup and sends it `signal` once it has begun to write tables. What it said, if that was in time.
fn cut_off(dir: &Path, name: &str, signal: &str) -> Option<String> {
    let mut backup = holdfast(dir)
        .args(["backup", "db", name])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let unfinished = dir.join(format!("{name}.unfinished"));
    let began = Instant::now();
    let writes = || {
        let entries = std::fs::read_dir(&unfinished).ok()?;
        let mut names = entries.filter_map(|entry| entry.ok()).map(|entry| entry.file_name());
        names.find(|name| name.to_string_lossy().ends_with(".table"))
    };
    while writes().is_none() && backup.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "the backup begins to write");
        std::thread::sleep(Duration::from_millis(1));
    }
    // It fails if the backup has ended by itself.
    let _ =
        Command::new("kill").args([signal, &backup.id().to_string()]).stderr(Stdio::null()).status().unwrap();
    let ended = backup.wait_with_output().unwrap();
    (!ended.status.success()).then(|| String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn a_backup_that_is_cut_off_has_no_name() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let row: Vec<u8> = (0..16u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(dir.join("row"), &row).unwrap();
    for key in ["a", "b", "c", "d"] {
        run(dir, ["put", "db", key, "--file", "row", "--create"]).good();
    }
    for signal in ["-INT", "-TERM", "-KILL"] {
        let mut names = (0..20).map(|n| format!("copy{signal}{n}"));
        let cut = names.find_map(|name| cut_off(dir, &name, signal).map(|said| (name, said)));
        let (name, said) = cut.expect("one signal in twenty comes before 64 MiB are copied and verified");
        assert!(!dir.join(&name).exists(), "{name} is not whole and must not be there");
        let left = format!("{name}.unfinished");
        // Nobody can tidy up after SIGKILL, so the next run says what is there.
        assert_eq!(dir.join(&left).exists(), signal == "-KILL", "{said}");
        if signal != "-KILL" {
            assert!(!said.contains("error"), "{said}");
            continue;
        }
        let refused = line(dir, &format!("scan {left}")).refused(2);
        assert!(refused.contains("unfinished checkpoint or backup"), "{refused}");
        let refused = line(dir, &format!("backup db {name}")).refused(2);
        assert!(refused.contains(&format!("rm -r {left}")), "{refused}");
        std::fs::remove_dir_all(dir.join(&left)).unwrap();
        line(dir, &format!("backup db {name}")).good();
        assert_eq!(line(dir, &format!("count {name}")).good(), "4\n");
    }
}

#[test]
fn nothing_is_made_in_the_directory_of_the_original() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    line(dir, "put db k v --create").good();
    std::fs::create_dir(dir.join("other")).unwrap();
    std::os::unix::fs::symlink("db", dir.join("link")).unwrap();
    let absolute = dir.join("db").display().to_string();
    let before = image(dir);
    for original in ["db", "./db", "link", "other/../db", &absolute] {
        for place in ["db/x", "./db/./x", "db/../db/x", "link/x", "other/../link/x", &format!("{absolute}/x")]
        {
            for command in
                [format!("backup {original} {place}"), format!("export {original} {place} --format csv")]
            {
                let said = line(dir, &command).refused(2);
                assert!(said.contains("lies in the directory of the original"), "{command}: {said}");
                assert!(before == image(dir), "{command} changed something");
            }
        }
    }
    for command in
        ["repair link ./db/x", "restore db link/x", "backup db .", "repair db link", "export db db"]
    {
        line(dir, command).refused(2);
        assert!(before == image(dir), "{command} changed something");
    }
    line(dir, "backup db db2").good();
    line(dir, "export db db.jsonl").good();
}

#[test]
fn a_failed_repair_leaves_nothing() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    std::fs::create_dir(dir.join("db")).unwrap();
    std::fs::write(dir.join("db/thesis.txt"), "mine").unwrap();
    let before = image(dir);
    let said = line(dir, "repair db saved");
    assert!(said.code != 0 && before == image(dir), "{}", said.err);
    std::fs::create_dir(dir.join("saved.unfinished")).unwrap();
    assert!(line(dir, "repair db saved").refused(2).contains("rm -r saved.unfinished"));
}
