//! The commands, as a user calls them: results, JSON, exit codes, what a refusal says.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{ask, converse, holdfast, line, piped, run};
use tempfile::tempdir;

#[test]
fn put_get_scan_count_delete() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db user:1 Ada --create").good();
    line(dir, "put db user:2 Grace").good();
    run(dir, ["put", "db", r"bin\x00", "--value-format", "hex", "00ff"]).good();
    assert_eq!(line(dir, "get db user:1").good(), "Ada\n");
    assert_eq!(line(dir, "scan db").good(), "bin\\0\t\\0\\xff\nuser:1\tAda\nuser:2\tGrace\n");
    assert_eq!(line(dir, "scan db --prefix user: --reverse --keys-only").good(), "user:2\nuser:1\n");
    assert_eq!(line(dir, "scan db --from user: --limit 1").good(), "user:1\tAda\n");
    assert_eq!(line(dir, "count db --prefix user:").good(), "2\n");
    assert_eq!(line(dir, "count db --approximate").good(), "at most 3\n");
    assert_eq!(line(dir, "count db --approximate --prefix zzz").good(), "about 0\n");
    assert_eq!(line(dir, "count db --approximate --from a --json").json()[0]["count_about"], 3);
    assert_eq!(line(dir, "count db --approximate --at 1").code, 2);
    line(dir, "delete db user:1").good();
    line(dir, "delete db --from user:").good();
    assert_eq!(line(dir, "scan db --keys-only").good(), "bin\\0\n");
    line(dir, "delete db --prefix zzz").good();
    assert_eq!(line(dir, "count db").good(), "1\n");
    assert!(line(dir, "get db user:1").refused(1).contains("there is no key user:1"));
}

#[test]
fn values_pass_as_they_are() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let bytes: Vec<u8> = (0..=255).collect();
    std::fs::write(dir.join("in"), &bytes).unwrap();
    line(dir, "put db k --file in --create").good();
    let got = holdfast(dir).args(["get", "db", "k", "--value-format", "raw"]).output().unwrap();
    assert_eq!(got.stdout, bytes);
    assert!(line(dir, "get db k --value-format raw --json").refused_as_json(2).contains("not UTF-8"));
}

#[test]
fn the_past_stays_readable() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let first = line(dir, "put db k old --create --json").json();
    let seq = first[0]["seq"].as_u64().unwrap();
    line(dir, "put db k new").good();
    line(dir, "compact db").good();
    assert_eq!(line(dir, &format!("get db k --at {seq}")).good(), "old\n");
    assert_eq!(line(dir, &format!("scan db --at {seq}")).good(), "k\told\n");
    assert_eq!(line(dir, "get db k").good(), "new\n");
    assert!(line(dir, "get db k --at 99999").refused(2).contains("future"));
    line(dir, "put db k newer --retain-commits 0").good();
    assert!(line(dir, &format!("get db k --at {seq}")).refused(1).contains("no longer kept"));
}

#[test]
fn refusals_have_codes_and_say_what_to_do() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    for command in [
        "get db k",
        "scan db",
        "count db",
        "put db k v",
        "delete db k",
        "stats db",
        "compact db",
        "verify db",
    ] {
        let said = line(dir, command).refused(2);
        assert!(said.contains("db holds no database"), "{command}: {said}");
        assert!(!dir.join("db").exists(), "{command} made something");
    }
    assert!(line(dir, "get db k").refused(2).contains("hint: "));
    line(dir, "put db k v --create").good();
    assert!(line(dir, "get db k -k other").refused(2).contains("there are: default"));
    assert!(line(dir, "get db \\q").refused(2).contains("unknown escape"));
    assert!(line(dir, "get db").code == 2 && line(dir, "frobnicate").code == 2);
    std::fs::create_dir(dir.join("foreign")).unwrap();
    std::fs::write(dir.join("foreign/file"), "x").unwrap();
    line(dir, "put foreign k v --create").refused(2);
    assert_eq!(std::fs::read_dir(dir.join("foreign")).unwrap().count(), 1);
    let said = line(dir, "get none k --json").refused_as_json(2);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(said["exit"] == 2 && said["error"].is_string() && said["hint"].is_string());
}

#[test]
fn wrong_use_is_json_when_asked() {
    let here = std::path::Path::new(".");
    for (command, words, hint) in [
        ("--json get db", "required arguments were not provided: <KEY>", "--help"),
        ("get db --json -x", "unexpected argument '-x'", "use '-- -x'"),
        ("scan db --limit 0 --json", "invalid value '0'", "--help"),
        ("--json", "no command", "--help"),
        ("frobnicate --json", "frobnicate", "--help"),
    ] {
        let said = line(here, command).refused_as_json(2);
        let said: serde_json::Value = serde_json::from_str(&said).expect(&said);
        let text = |field: &str| said[field].as_str().expect(field).to_string();
        assert!(text("error").contains(words) && text("hint").contains(hint), "{command}: {said}");
        assert_eq!(said["exit"], 2);
    }
    assert!(line(here, "get db -- --json x").refused(2).contains("Usage: "));
    assert!(line(here, "--help --json").good().contains("Commands:"));
}

#[test]
fn keys_may_begin_with_a_dash() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db -5 -7 --create").good();
    line(dir, "put db -- -k -v").good();
    assert_eq!(line(dir, "get db -5").good(), "-7\n");
    assert_eq!(line(dir, "get db -- -k").good(), "-v\n");
    assert_eq!(line(dir, "scan db --prefix -k").good(), "-k\t-v\n");
    assert_eq!(line(dir, "count db --from -5 --to -k").good(), "1\n");
    assert!(line(dir, "delete db -x").refused(2).contains("to pass '-x' as a value, use '-- -x'"));
    line(dir, "delete db -5").good();
    line(dir, "delete db -- -k").good();
    assert_eq!(line(dir, "count db").good(), "0\n");

    let script = "put -5 -7\nget -5\nput -- -k -v\nget -- -k\nscan --prefix -k\ndelete -5\ncount\n";
    let said = piped(dir, "shell db", script).good();
    let results: Vec<&str> = said.lines().filter(|line| !line.starts_with("commit ")).collect();
    assert_eq!(results, ["-7", "-v", "-k\t-v", "1"]);
    assert!(piped(dir, "shell db", "get -x\n").refused(1).contains("use '-- -x'"));
    // So may names of keyspaces.
    line(dir, "keyspaces db --create -x").good();
    line(dir, "put db k v -k -x").good();
    assert_eq!(line(dir, "get db k --keyspace -x").good(), "v\n");
    assert_eq!(piped(dir, "shell db", "use -- -x\nget k\nuse --create -5\ncount\n").good(), "v\n0\n");
    line(dir, "keyspaces db --drop -x").good();
    assert!(line(dir, "get db k -k -x").refused(2).contains("there are: default, -5"));
}

#[test]
fn a_float_out_of_range_is_no_key() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db (inf) v --create --key-format tuple").good();
    for command in ["get db (1e400)", "put db (1e400) v", "delete db --prefix (1e400)"] {
        let said = line(dir, &format!("{command} --key-format tuple")).refused(2);
        assert!(said.contains("1e400 is out of range") && said.contains("inf"), "{said}");
    }
    assert_eq!(line(dir, "count db").good(), "1\n");
}

#[test]
fn results_are_json_when_asked() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db a 1 --create").good();
    line(dir, "put db b 2").good();
    let rows = line(dir, "scan db --json").json();
    assert_eq!(rows[1], serde_json::json!({ "key": "b", "value": "2" }));
    assert_eq!(line(dir, "get db a --json").json()[0]["value"], "1");
    assert_eq!(line(dir, "count db --json").json()[0]["count"], 2);
    let stats = line(dir, "stats db --json").json();
    assert!(stats[0]["last_sequence"].as_u64().unwrap() >= 2);
    assert_eq!(stats[0]["keyspaces"][0]["keyspace"], "default");
    assert!(stats[0]["metrics"]["holdfast_commit_ns"]["count"].is_u64());
    let checked = line(dir, "verify db --json").json();
    assert!(checked[0]["good"] == true && checked[0]["problems"].as_array().unwrap().is_empty());
    assert!(line(dir, "stats db --prometheus").good().contains("# TYPE holdfast_commit_ns summary"));
}

#[test]
fn gauges_are_the_databases_and_counters_the_openings() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let text: String = (0..5000).map(|n| format!("{{\"key\":\"{n:04}\",\"value\":\"v\"}}\n")).collect();
    piped(dir, "import db - --format jsonl", &text).good();
    line(dir, "compact db").good();
    let seq = line(dir, "put db 0000 w --json").json()[0]["seq"].as_u64().unwrap();
    let tables: Vec<_> = std::fs::read_dir(dir.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == "table"))
        .collect();
    let bytes: u64 = tables.iter().map(|table| table.metadata().unwrap().len()).sum();
    let said = line(dir, "stats db --prometheus").good();
    // The sum over all levels, or the one value without labels.
    let sum = |name: &str| -> u64 {
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let samples: Vec<&str> = said.lines().filter(of_name).collect();
        assert!(!samples.is_empty(), "{name}: {said}");
        samples.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    assert_eq!(sum("holdfast_level_bytes"), bytes);
    assert_eq!(sum("holdfast_level_tables"), tables.len() as u64);
    assert_eq!(sum("holdfast_level_entries"), 5001);
    assert_eq!(sum("holdfast_last_sequence"), seq);
    assert!(sum("holdfast_read_amplification") >= 2, "{said}");
    assert!(said.contains("\nholdfast_space_amplification_ratio 1."), "{said}");
    assert_eq!(sum("holdfast_commits_total"), 0, "this opening has committed nothing");
    let help = line(dir, "stats --help").good();
    assert!(help.contains("counters and times are this process's"), "{help}");
}

#[test]
fn keyspaces_are_made_and_dropped() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    line(dir, "keyspaces db --create users").good();
    line(dir, "put db ada 1 -k users").good();
    let names = |dir| -> Vec<String> {
        let rows = line(dir, "keyspaces db --json").json();
        rows.iter().map(|row| row["keyspace"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(dir), ["default", "users"]);
    assert!(line(dir, "keyspaces db --create users").refused(2).contains("exists already"));
    line(dir, "keyspaces db --drop users").good();
    assert_eq!(names(dir), ["default"]);
}

#[test]
fn the_shell_runs_scripts_with_transactions() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let script = "# a comment\nput a 1\nbegin\nput b 2\nput 'c d' \"3\"\ndelete a\ncount\nrollback\ncount\n\
        begin --snapshot\nput b 4\ncommit\nscan\n";
    let out = piped(dir, "shell db", script).good();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[2..5], ["2", "rolled back", "1"]);
    assert_eq!(lines[lines.len() - 2..], ["a\t1", "b\t4"]);
    let failed = piped(dir, "shell db", "put z 1\nbegin\nput y 1\nget nothing\nput x 1\n");
    let said = failed.refused(1);
    assert!(
        said.contains("error: line 4, `get nothing`: there is no key nothing in keyspace default\n"),
        "{said}"
    );
    assert!(said.starts_with("note: the input ended within a transaction: 1 statements"), "{said}");
    assert_eq!(line(dir, "scan db --keys-only").good(), "a\nb\nz\n");
    assert!(piped(dir, "shell db", "commit\n").refused(1).contains("no transaction is open"));
    assert!(piped(dir, "shell db", "help\n").good().contains("rollback"));
    assert!(piped(dir, "shell db", "gte k\n").refused(1).contains("unrecognized"));
}

#[test]
fn a_script_that_ends_within_a_transaction_has_lost_something() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    for script in [
        "put z 1\nbegin\nput y 1\ndelete z\n",
        "begin\nput y 1\ndelete z\nquit\n",
        "begin\ndelete --prefix z",
    ] {
        let said = piped(dir, "shell db", script).refused(1);
        assert!(said.contains("rolled back") && said.contains("`commit`"), "{script}: {said}");
    }
    assert_eq!(line(dir, "scan db").good(), "z\t1\n");
    let read_only = piped(dir, "shell db", "begin\nget z\n");
    assert!(read_only.err.starts_with("note: the input ended within a transaction: 0 "), "{}", read_only.err);
    read_only.good();
    let ended = piped(dir, "shell db", "begin\nput y 1\ncommit\nbegin\nput x 1\nrollback\n");
    assert_eq!(ended.err, "");
    ended.good();
    let said = piped(dir, "shell db --json", "begin\nput x 1\n");
    let json: serde_json::Value = serde_json::from_str(said.err.trim()).expect(&said.err);
    assert!(
        said.code == 1 && json["exit"] == 1 && json["error"].as_str().unwrap().contains("1 statements"),
        "{json}"
    );
}

#[test]
fn a_line_of_other_bytes_is_named() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("script"), b"put a 1\r\nput k \xff\xfe\nput b 2\n").unwrap();
    let ended = holdfast(dir)
        .args(["shell", "db"])
        .stdin(std::fs::File::open(dir.join("script")).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: line 2, `put k ") && said.contains("not UTF-8 at byte 6"), "{said}");
    assert_eq!(line(dir, "scan db").good(), "a\t1\n", "what stands before it was done, what follows was not");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let text: String = (0..20_000).map(|n| format!("{{\"key\":\"{n:05}\",\"value\":\"v\"}}\n")).collect();
    piped(dir, "import db - --format jsonl", &text).good();
    for command in ["scan db", "export db - --format csv"] {
        let mut child = holdfast(dir)
            .args(command.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        drop(reader);
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]), "{command}");
    }
}

#[test]
fn reading_goes_on_beside_a_writer() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    let (mut writer, mut input, mut results) = converse(dir);
    assert!(ask(&mut input, &mut results, "put k2 v2").starts_with("commit "));
    assert_eq!(line(dir, "get db k2").good(), "v2\n");
    assert_eq!(line(dir, "count db").good(), "2\n");
    assert!(line(dir, "put db k3 v3").refused(1).contains("locked by another process"));
    assert_eq!(line(dir, "stats db --json").json()[0]["read_only"], true);
    line(dir, "verify db").good();
    drop(input);
    assert!(writer.wait().unwrap().success());
}

#[test]
fn watching_locks_nobody_out() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    let mut watcher = holdfast(dir)
        .args(["stats", "db", "--watch", "100ms", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut last_seq = || -> u64 {
        let line = lines.find(|line| !line.as_ref().unwrap().is_empty()).unwrap().unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        said["last_sequence"].as_u64().unwrap()
    };
    let before = last_seq();
    line(dir, "put db k2 v").good();
    assert!((0..100).any(|_| last_seq() > before), "the watcher sees the new commit");
    drop(lines);
    let ended = watcher.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn backup_restore_and_repair() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    for number in 0..20 {
        run(dir, ["put", "db", &format!("key{number:02}"), "value", "--create"]).good();
    }
    line(dir, "compact db").good();
    line(dir, "backup db monday").good();
    assert!(!dir.join("monday.unfinished").exists(), "a whole backup has its name");
    std::fs::create_dir(dir.join("tuesday.unfinished")).unwrap();
    let left = line(dir, "backup db tuesday").refused(2);
    assert!(
        left.contains("tuesday.unfinished is left over") && left.contains("rm -r tuesday.unfinished"),
        "{left}"
    );
    assert!(!dir.join("tuesday").exists());
    assert!(line(dir, "backup db monday").refused(2).contains("not empty"));
    line(dir, "put db key99 later").good();
    line(dir, "restore monday again").good();
    assert_eq!(line(dir, "count again").good(), "20\n");
    assert!(line(dir, "restore monday again").refused(2).contains("not empty"));

    let table = std::fs::read_dir(dir.join("again")).unwrap().map(|entry| entry.unwrap().path());
    let table =
        table.into_iter().find(|path| path.extension().is_some_and(|suffix| suffix == "table")).unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.windows(5).position(|window| window == b"value").unwrap();
    bytes[middle] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    let run = line(dir, "verify again");
    assert!(run.code == 1 && run.out.contains(table.file_name().unwrap().to_str().unwrap()), "{}", run.out);
    assert!(line(dir, "scan again").refused(1).contains("corrupt"));
    assert!(line(dir, "repair again again/inside").refused(2).contains("in the directory of the original"));
    assert!(!dir.join("again/inside").exists());
    assert_eq!(line(dir, "repair again saved").code, 1);
    line(dir, "verify saved").good();
    let refused = line(dir, "restore again other").refused(1);
    assert!(refused.contains("nothing was restored"), "{refused}");
    assert!(refused.contains(table.file_name().unwrap().to_str().unwrap()), "{refused}");
    assert!(line(dir, "backup again other").refused(1).contains("corrupt"));
    assert!(
        !dir.join("other").exists() && !dir.join("other.unfinished").exists(),
        "nothing is left to remove"
    );
    assert!(line(dir, "backup monday no/such/parent").refused(2).contains("create it first"));
    assert_eq!(line(dir, "scan monday --limit 1").good(), "key00\tvalue\n");
}

/// Runs it with so many open files at most, `script` on standard input; true if it warned that closing failed. What it
/// did then it must have told as done.
fn closes_badly(dir: &Path, files: u32, command: &str, script: &str) -> bool {
    let limited = format!("ulimit -n {files}; printf '{script}' | exec \"$0\" {command} --json");
    let ended = Command::new("sh")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_holdfast")])
        .current_dir(dir)
        .env("HOLDFAST_LOG", "off")
        .output()
        .unwrap();
    let (done, said) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    let is_warned = said.contains("closing the database did not finish");
    if ended.status.success() {
        let told: serde_json::Value = serde_json::from_str(&done).expect(&done);
        assert!(told["seq"].is_u64() || told["created"] == "people", "{command}: {done}");
        assert!(said.is_empty() || said.contains("is durable in the log"), "{command}: {said}");
    } else {
        assert!(done.is_empty() && !is_warned, "{command}: {done}{said}");
    }
    if command.starts_with("put") {
        let is_there = line(dir, &format!("get db {files}")).code == 0;
        assert_eq!(is_there, ended.status.success(), "{command} with {files} files: {said}");
    }
    is_warned
}

#[test]
fn what_is_committed_is_told_as_done_even_if_closing_fails() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db k v --create").good();
    std::fs::write(dir.join("rows"), "{\"key\":\"row\",\"value\":\"v\"}\n").unwrap();
    // Where files run out depends on how many an opening holds: before the commit, or after it.
    let files = (6..24).find(|files| closes_badly(dir, *files, &format!("put db {files} v"), ""));
    let files = files.expect("some limit lets a commit pass and stops the closing");
    for command in ["import db rows --format jsonl", "delete db --prefix k", "keyspaces db --create people"] {
        closes_badly(dir, files, command, "");
    }
    closes_badly(dir, files, "shell db", "put shell v\\n");
}

impl crate::support::Run {
    /// Standard error of a run with `--json` that must have ended with this code.
    #[track_caller]
    fn refused_as_json(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self.err
    }
}
