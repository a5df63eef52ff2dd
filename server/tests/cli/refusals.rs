//! What the program refuses: the exit code, what standard error says as text and as JSON, and that nothing changed.

use std::path::Path;

use crate::support::{holdfast, image, line, piped, run};
use tempfile::tempdir;

/// Runs a command that must be refused in both ways of output, with this code, these words, and no change.
#[track_caller]
fn refused(dir: &Path, command: &str, code: i32, words: &[&str]) {
    let before = image(dir);
    let said = line(dir, command).refused(code);
    let as_json = line(dir, &format!("{command} --json"));
    assert_eq!(as_json.code, code, "{command}: {}", as_json.err);
    assert!(as_json.out.is_empty(), "{command}: {}", as_json.out);
    let json: serde_json::Value = serde_json::from_str(as_json.err.trim()).expect(&as_json.err);
    assert_eq!(json["exit"], code, "{command}");
    assert!(json["hint"].is_string() || json["hint"].is_null(), "{command}: {json}");
    let error = json["error"].as_str().expect("an error is text");
    assert!(said.starts_with(&format!("error: {error}")), "{command}: {said} against {error}");
    for word in words {
        assert!(said.contains(word), "{command} does not say {word:?}: {said}");
    }
    assert!(before == image(dir), "{command} changed something");
}

/// A database of one key, closed.
fn made(dir: &Path) {
    line(dir, "put db k v --create").good();
}

const COMMANDS: [&str; 7] =
    ["get db k", "scan db", "count db", "put db k w", "delete db k", "compact db", "stats db"];

#[test]
fn a_directory_that_is_no_database() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    for command in COMMANDS {
        refused(dir, command, 2, &["db", "no database", "does not exist", "hint: "]);
    }
    std::fs::create_dir(dir.join("db")).unwrap();
    for command in COMMANDS {
        refused(dir, command, 2, &["db", "no database", "empty", "hint: "]);
    }
    std::fs::write(dir.join("db/thesis.txt"), "mine").unwrap();
    for command in COMMANDS.into_iter().chain(["put db k v --create"]) {
        refused(dir, command, 2, &["db", "thesis.txt"]);
    }
    std::fs::write(dir.join("file"), "mine").unwrap();
    refused(dir, "put file k v --create", 2, &["file", "not a directory"]);
    refused(dir, "put no/such k v --create", 2, &["no/such", "parent"]);
}

#[test]
fn a_file_that_is_missing_or_damaged() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    made(dir);
    for suffix in ["CURRENT", ".manifest", ".log", ".table"] {
        let all = image(dir);
        let (path, bytes) = all.iter().find(|(path, _)| path.to_string_lossy().ends_with(suffix)).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::remove_file(path).unwrap();
        refused(dir, "put db k w", 1, &["corrupt", name, "missing", "holdfast repair"]);
        refused(dir, "get db k", 1, &["corrupt", name, "missing", "holdfast repair"]);
        let mut harmed = bytes.clone();
        let middle = if suffix == ".table" { harmed.len() / 2 } else { 100 };
        harmed[middle] ^= 4;
        std::fs::write(path, harmed).unwrap();
        // A table is looked at when it is read; all else when the database is opened.
        let command = if suffix == ".table" { "verify db" } else { "put db k w" };
        let harmed = line(dir, command);
        assert_eq!(harmed.code, 1, "{suffix}: {}{}", harmed.out, harmed.err);
        assert!(
            format!("{}{}", harmed.out, harmed.err).contains(name),
            "{suffix}: {}{}",
            harmed.out,
            harmed.err
        );
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(line(dir, "get db k").good(), "v\n");
}

#[test]
fn names_keys_and_times_that_are_not_there() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    made(dir);
    // An opening writes even when its command reads, so what is compared is what a reader sees.
    for (command, code, words) in [
        ("get db nothing", 1, &["no key", "nothing"][..]),
        ("get db k -k nowhere", 2, &["nowhere", "there are: default"]),
        ("put db k w -k nowhere", 2, &["nowhere", "there are: default"]),
        ("keyspaces db --create default", 2, &["default", "exists already"]),
        ("keyspaces db --drop nowhere", 2, &["nowhere"]),
        ("get db k --at 4000", 2, &["4000", "future"]),
        ("get db \\q", 2, &["escape"]),
    ] {
        let said = line(dir, command).refused(code);
        for word in words {
            assert!(said.contains(word), "{command} does not say {word:?}: {said}");
        }
        let as_json = line(dir, &format!("{command} --json"));
        let json: serde_json::Value = serde_json::from_str(as_json.err.trim()).expect(&as_json.err);
        assert!(
            as_json.code == code && json["exit"] == code && json["error"].is_string(),
            "{command}: {json}"
        );
        assert_eq!(line(dir, "scan db").good(), "k\tv\n", "{command}");
    }
}

#[test]
fn keys_and_transactions_over_their_limits() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    made(dir);
    let longest = "x".repeat(65_536);
    run(dir, ["put", "db", &longest, "v"]).good();
    assert_eq!(run(dir, ["get", "db", &longest]).good(), "v\n");
    run(dir, ["delete", "db", &longest]).good();
    let too_long = format!("{longest}x");
    for arguments in [vec!["put", "db", &too_long, "v"], vec!["delete", "db", &too_long]] {
        let said = run(dir, &arguments).refused(2);
        assert!(said.contains("65537") && said.contains("65536"), "{said}");
    }
    // Over the limit of what is committed at once, 64 MiB.
    // With one byte less it could be a value, but not with a key beside it.
    for (bytes, words) in
        [((64 << 20) + 1, "large holds too much for a value"), (64 << 20, "key and value need")]
    {
        std::fs::File::create(dir.join("large")).unwrap().set_len(bytes).unwrap();
        for command in ["put db large --file large", "put new large --file large --create"] {
            let said = line(dir, command).refused(2);
            assert!(said.contains(words) && said.contains("64 MiB (67108864 bytes)"), "{said}");
            assert!(!said.contains("option") && !dir.join("new").exists(), "{said}");
        }
    }
    let said = piped(dir, "shell db", &format!("begin\nput {too_long} v\ncommit\n")).refused(1);
    assert!(said.contains("65537"), "{said}");
    assert_eq!(line(dir, "scan db").good(), "k\tv\n");
}

#[test]
fn input_without_end_is_refused_at_the_limit() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    made(dir);
    let endless = |arguments: &str| {
        let zeros = std::fs::File::open("/dev/zero").unwrap();
        let ended = holdfast(dir).args(arguments.split(' ')).stdin(zeros).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    for (command, name) in
        [("put db z --file -", "standard input"), ("put db z --file /dev/zero", "/dev/zero")]
    {
        let (code, said) = endless(command);
        assert_eq!(code, Some(2), "{said}");
        let words =
            "holds too much for a value: key and value together may have at most 64 MiB (67108864 bytes)";
        assert!(said.starts_with(&format!("error: {name} {words}")), "{said}");
    }
    // Each failure within a script ends it with 1.
    let (code, said) = endless("shell db");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("error: line 1, `") && said.contains("longer than 64 MiB (67108864 bytes)"),
        "{said}"
    );
    assert!(said.len() < 1000, "{said}");
    let said = piped(dir, "shell db", &"x".repeat(1 << 20)).refused(1);
    assert!(said.contains("unrecognized subcommand") && said.len() < 2000, "{said}");
    assert_eq!(line(dir, "scan db").good(), "k\tv\n");
}

#[test]
fn what_the_system_refuses_is_named_with_what_to_do() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    made(dir);
    std::fs::write(dir.join("file"), "mine").unwrap();
    for (command, code, words) in [
        ("put db k --file nope", 2, &["nope", "No such file", "check the name"][..]),
        ("put db k --file db", 2, &["db: ", "directory", "check the name"]),
        ("put db k --file file/x", 2, &["file/x", "Not a directory", "check the name"]),
        ("import db nope.csv", 2, &["nope.csv", "check the name"]),
        ("restore nope again", 2, &["nope"]),
        ("repair nope saved", 2, &["nope", "check the name"]),
        ("tour --keep file", 2, &["file"]),
        ("get file/db k", 2, &["file/db", "file is a file, not a directory", "check the name"]),
        ("put file/db k v --create", 2, &["file/db", "file is a file, not a directory", "check the name"]),
        ("verify file/db", 2, &["file/db", "file is a file, not a directory", "check the name"]),
        ("stats file", 2, &["file", "not a directory"]),
    ] {
        refused(dir, command, code, words);
    }
    std::fs::remove_file(dir.join("db/LOCK")).unwrap();
    std::fs::create_dir(dir.join("db/LOCK")).unwrap();
    refused(dir, "put db k v", 1, &["db/LOCK is a directory", "remove or rename"]);
    assert_eq!(line(dir, "get db k").good(), "v\n");
    assert!(line(dir, "bench --dir nope").refused(2).contains("check the name"));
}

#[test]
fn a_newer_format_is_said_to_be_newer() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    made(dir);
    let path = dir.join("db/CURRENT");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    let sum = holdfast::codec::checksum(&[&bytes[12..20], &0u64.to_le_bytes(), &bytes[..508]]);
    bytes[508..512].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    for command in COMMANDS {
        refused(dir, command, 1, &["CURRENT", "99", "newer version of Holdfast"]);
    }
}
