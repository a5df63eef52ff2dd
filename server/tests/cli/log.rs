//! What the kernel reports: on standard error, at the level that was asked for, as text or as JSON.

use crate::support::{holdfast, line, piped};
use tempfile::tempdir;

const MEMBERS: [&str; 5] = ["fields", "level", "message", "target", "time"];

#[test]
fn warnings_are_shown_and_more_when_asked() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create --log error").good();
    std::fs::write(dir.join("db/notes.txt"), "mine").unwrap();
    let warned = line(dir, "put db k w");
    assert!(warned.err.contains("warning: a foreign file stands in"), "{}", warned.err);
    assert!(warned.err.contains(" name=notes.txt\n") && !warned.err.contains("info: "), "{}", warned.err);
    assert!(warned.good().starts_with("commit "));
    assert_eq!(line(dir, "put db k w --log off").err, "");

    let told = line(dir, "put db k w --log info");
    assert!(told.err.contains(" info: database open dir=db elapsed_us="), "{}", told.err);
    // A time, in UTC, stands first.
    assert!(
        told.err.lines().all(|line| line.get(..28).is_some_and(|time| time.ends_with("Z "))),
        "{}",
        told.err
    );
    let told = holdfast(dir).args(["put", "db", "k", "w"]).env("HOLDFAST_LOG", "info").output().unwrap();
    assert!(String::from_utf8(told.stderr).unwrap().contains("info: database open"));
    // What is typed counts for more.
    let told =
        holdfast(dir).args(["put", "db", "k", "w", "--log", "off"]).env("HOLDFAST_LOG", "info").output();
    assert!(told.unwrap().stderr.is_empty());
    // Empty is as good as not there.
    let told = holdfast(dir).args(["put", "db", "k", "w"]).env("HOLDFAST_LOG", "").output().unwrap();
    assert!(
        String::from_utf8(told.stderr).unwrap().starts_with("warning: a foreign file")
            && told.status.success()
    );
    let told = holdfast(dir).args(["put", "db", "k", "w", "--log", "off"]).env("HOLDFAST_LOG", "").output();
    assert!(told.unwrap().stderr.is_empty());
    let told = holdfast(dir).args(["put", "db", "k", "w"]).env("HOLDFAST_LOG", "loud").output().unwrap();
    assert_eq!(told.status.code(), Some(2));
    assert!(line(dir, "put db k w --log loud").refused(2).contains("possible values: off, error, warn"));
}

#[test]
fn under_json_each_event_is_an_object() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create --log error").good();
    std::fs::write(dir.join("db/notes.txt"), "mine").unwrap();
    let told = line(dir, "put db k w --json --log info");
    let events: Vec<serde_json::Value> =
        told.err.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for event in &events {
        assert!(event.as_object().unwrap().keys().eq(&MEMBERS), "{event}");
        assert!(event["target"].as_str().unwrap().starts_with("holdfast"), "{event}");
    }
    let open = events.iter().find(|event| event["message"] == "database open").expect("it says so");
    assert!(
        open["level"] == "info" && open["fields"]["dir"] == "db" && open["fields"]["seq"].is_u64(),
        "{open}"
    );
    let foreign = events.iter().find(|event| event["fields"]["name"] == "notes.txt").expect("it says so");
    assert_eq!(foreign["level"], "warn");
    assert_eq!(told.json().len(), 1, "standard output has the result only");
}

#[test]
fn a_recovery_is_told_of() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let mut writer = holdfast(dir)
        .args(["shell", "db"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut input = writer.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"put k v\n").unwrap();
    let written = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        line(dir, "get db k").code == 0
    });
    assert!(written, "the shell wrote");
    writer.kill().unwrap();
    writer.wait().unwrap();
    let told = line(dir, "put db k2 v2 --log info");
    assert!(told.err.contains("info: log replayed batches="), "{}", told.err);
    told.good();
    assert_eq!(piped(dir, "shell db", "scan\n").good(), "k\tv\nk2\tv2\n");
}
