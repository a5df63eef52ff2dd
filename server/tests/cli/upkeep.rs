//! Looking after a database: what compaction frees, and what it says of the rest; what cannot be verified.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::{image, line, piped, run};
use tempfile::tempdir;

#[test]
fn compaction_keeps_the_past_and_says_how_to_let_it_go() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let rows: String = (0..20_000u32)
        .map(|n| format!("{{\"key\":\"{n:05}\",\"value\":\"{:08x}\"}}\n", n.wrapping_mul(2_654_435_761)))
        .collect();
    let table_bytes = || line(dir, "keyspaces db --json").json()[0]["table_bytes"].as_u64().unwrap();
    piped(dir, "import db - --format jsonl", &rows).good();
    assert_eq!(run(dir, ["count", "db", "--prefix", ""]).good(), "20000\n");
    let filled = run(dir, ["stats", "db", "--json"]).json()[0]["last_sequence"].clone();
    run(dir, ["delete", "db", "--prefix", ""]).good();

    let kept = line(dir, "compact db --json");
    let note: serde_json::Value = serde_json::from_str(kept.err.trim()).expect(&kept.err);
    assert!(note["note"].as_str().unwrap().contains("--retain-commits 0"), "{note}");
    let kept = kept.json().remove(0);
    assert_eq!(kept["retain_commits"], 1000);
    assert!(kept["bytes"].as_u64().unwrap() > table_bytes() && table_bytes() > 0, "{kept}");
    assert!(kept["deletes_kept"].as_u64().unwrap() > 0, "{kept}");
    assert_eq!(line(dir, &format!("count db --at {filled}")).good(), "20000\n");
    let said = line(dir, "compact db");
    assert!(said.err.contains("note: ") && said.err.contains("--retain-commits 0"), "{}", said.err);
    assert!(said.good().contains("with the past of the latest 1,000 commits"));

    let freed = line(dir, "compact db --retain-commits 0 --json");
    assert_eq!(freed.err, "");
    let freed = freed.json().remove(0);
    assert!(freed["deletes_kept"] == 0 && freed["retain_commits"] == 0, "{freed}");
    assert_eq!(table_bytes(), 0, "all of it is gone");
    let said = line(dir, "compact db");
    assert_eq!(said.err, "", "there is nothing left to let go");
    line(dir, &format!("count db --at {filled}")).refused(1);
}

#[test]
fn compaction_lets_overwritten_values_go_once_their_past_is_given_up() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    for n in 0..5u8 {
        std::fs::write(dir.join("value"), noise(100_000, n)).unwrap();
        run(dir, ["put", "db", "key", "--file", "value", "--create"]).good();
    }
    let compacted = |options: &str| line(dir, &format!("compact db --json {options}"));
    // Not `bytes`, which counts the log's spare segments too: how many there are is a matter of timing.
    let table_bytes = || line(dir, "keyspaces db --json").json()[0]["table_bytes"].as_u64().unwrap();
    let kept = compacted("");
    assert!(kept.err.contains("overwritten lately still takes room"), "{}", kept.err);
    let kept = kept.json().remove(0);
    assert_eq!(kept["superseded_bytes_kept"], 4 * (100_000 + 3));
    assert!((500_000..550_000).contains(&table_bytes()), "{}", table_bytes());
    // The tables lie where they would stay: what they hold of the past is reason enough to write them anew.
    let freed = compacted("--retain-commits 0");
    assert_eq!(freed.err, "");
    let freed = freed.json().remove(0);
    assert_eq!(freed["superseded_bytes_kept"], 0);
    assert!((100_000..110_000).contains(&table_bytes()), "{}", table_bytes());
}

/// Bytes that nothing compresses.
fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Runs a copy of the binary as a user whom permissions bind; all may go where it is.
fn as_nobody(dir: &Path, arguments: &[&str]) -> std::process::Output {
    const NOBODY: u32 = 65_534;
    let program = dir.join("holdfast");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_holdfast"), &program).unwrap();
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).env_remove("HOLDFAST_LOG");
    // Only root can become somebody else, and only root has to.
    if std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t") {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

#[test]
fn what_may_not_be_read_is_not_damaged() {
    let scratch = tempdir().unwrap();
    let dir = scratch.path();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    // All may make something here, and find the binary.
    mode(dir, 0o777);
    line(dir, "put db k v --create").good();
    let files: Vec<_> = image(&dir.join("db")).into_keys().collect();
    files.iter().for_each(|file| mode(file, 0o644));
    assert!(as_nobody(dir, &["verify", "db"]).status.success());
    for ending in ["CURRENT", ".manifest", ".log", ".table"] {
        let file = files.iter().find(|file| file.to_string_lossy().ends_with(ending)).unwrap();
        mode(file, 0o000);
        for arguments in [&["verify", "db"][..], &["repair", "db", "saved"]] {
            let refused = as_nobody(dir, arguments);
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(refused.status.code() == Some(1) && refused.stdout.is_empty(), "{ending}: {said}");
            let name = file.file_name().unwrap().to_str().unwrap();
            for word in [name, "Permission denied", "hint: ", "`ls -l"] {
                assert!(said.contains(word), "{ending}: no {word:?} in {said}");
            }
            assert!(!said.contains("repair"), "{ending}: {said}");
        }
        assert!(!dir.join("saved").exists() && !dir.join("saved.unfinished").exists(), "{ending}");
        mode(file, 0o644);
    }
}
