//! Backups as a user makes them: beside a writer, with the past; and cut off in the middle.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{holdfast, image, line, run, with_signals};
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

/// Begins a backup and does `what` to its process once it has begun to write tables. What it said, if that was in time.
fn disturbed(dir: &Path, name: &str, what: impl FnOnce(&Child)) -> Option<String> {
    let mut backup = with_signals(dir, "--default-signal=INT,TERM")
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
    what(&backup);
    let ended = backup.wait_with_output().unwrap();
    (!ended.status.success()).then(|| String::from_utf8(ended.stderr).unwrap())
}

/// As [`disturbed`], by a signal.
fn cut_off(dir: &Path, name: &str, signal: &str) -> Option<String> {
    disturbed(dir, name, |backup| {
        // It fails if the backup has ended by itself.
        let process = backup.id().to_string();
        let _ = Command::new("kill").args([signal, &process]).stderr(Stdio::null()).status().unwrap();
    })
}

/// A database of 64 MiB.
fn fill(dir: &Path) {
    let row: Vec<u8> = (0..16u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(dir.join("row"), &row).unwrap();
    for key in ["a", "b", "c", "d"] {
        run(dir, ["put", "db", key, "--file", "row", "--create"]).good();
    }
}

#[test]
fn a_backup_that_is_cut_off_has_no_name() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fill(dir);
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

#[test]
fn a_backup_whose_name_is_taken_meanwhile_leaves_nothing() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    fill(dir);
    let mut names = (0..20).map(|n| format!("copy{n}"));
    let taken = names.find_map(|name| {
        let take = |_: &Child| {
            // It fails if the backup has ended by itself.
            let mine = dir.join(&name);
            drop(std::fs::create_dir(&mine).and_then(|()| std::fs::write(mine.join("thesis.txt"), "mine")));
        };
        disturbed(dir, &name, take).map(|said| (name.clone(), said))
    });
    let (name, said) = taken.expect("one name in twenty is taken before 64 MiB are copied and verified");
    assert!(said.contains(&name) && said.contains("hint: choose another name"), "{said}");
    assert!(!dir.join(format!("{name}.unfinished")).exists(), "{said}");
    assert_eq!(std::fs::read_dir(dir.join(&name)).unwrap().count(), 1, "what took the name is as it was");
}

#[test]
fn what_cannot_be_the_name_of_a_copy_is_refused_before_anything_is_made() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    line(dir, "put db k v --create").good();
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::os::unix::fs::symlink("empty", dir.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
    let entries = || std::fs::read_dir(dir).unwrap().count();
    let before = (entries(), image(&dir.join("db")));
    let (too_long, longest) = ("n".repeat(245), "n".repeat(244));
    let far_too_long = "n".repeat(300);
    let refused = |command: &str, words: &str| {
        let said = line(dir, command).refused(2);
        assert!(said.contains(words), "{command}: {said}");
        assert!(before == (entries(), image(&dir.join("db"))), "{command} changed something");
    };
    for command in ["backup", "repair", "restore"] {
        for link in ["link", "link/", "dangling", "empty/../link"] {
            refused(&format!("{command} db {link}"), "symbolic link");
        }
        refused(&format!("{command} db {too_long}"), "too long: 244 bytes are allowed");
        refused(&format!("{command} db {far_too_long}"), "too long: 244 bytes are allowed");
    }
    refused(&format!("export db {too_long} --format csv"), "too long: 244 bytes are allowed");
    refused("export db dangling --format csv", "exists already");
    refused("put dangling k v --create", "symbolic link to nowhere, which is not there");
    refused(&format!("put {far_too_long} k v --create"), "too long: 255 bytes are allowed");
    line(dir, &format!("backup db {longest}")).good();
    line(dir, &format!("get {longest} k")).good();
}
