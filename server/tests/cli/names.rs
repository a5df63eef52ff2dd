//! Names of directories that are no plain words: of other bytes than text, or with what means something to a shell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::support::run;
use tempfile::tempdir;

/// Changes a byte of the value in each table.
fn damage(database: &Path) {
    let tables = std::fs::read_dir(database).unwrap().map(|entry| entry.unwrap().path());
    for table in tables.filter(|path| path.extension() == Some(OsStr::new("table"))) {
        let mut bytes = std::fs::read(&table).unwrap();
        let middle = bytes.windows(5).position(|window| window == b"value").unwrap();
        bytes[middle] ^= 1;
        std::fs::write(&table, bytes).unwrap();
    }
}

#[test]
fn a_name_that_is_no_text_is_told_by_its_escapes() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let name = OsStr::from_bytes;
    let (database, again, saved) = (name(b"d\xff\\b"), name(b"again\xfe"), name(b"saved\xfd"));
    let call = |first: &[&str], names: &[&OsStr], last: &[&str]| {
        let words =
            |words: &[&str]| words.iter().map(|word| name(word.as_bytes()).to_owned()).collect::<Vec<_>>();
        let names = names.iter().map(|name| (*name).to_owned());
        run(dir, words(first).into_iter().chain(names).chain(words(last)))
    };
    call(&["put"], &[database], &["k", "value", "--create"]).good();
    let shown = r"d\xff\\b";
    assert_eq!(call(&["stats"], &[database], &["--json"]).json()[0]["directory"], shown);
    assert!(call(&["restore"], &[database, again], &[]).good().starts_with("restored commit"));
    std::fs::remove_dir_all(dir.join(again)).unwrap();
    assert_eq!(call(&["restore"], &[database, again], &["--json"]).json()[0]["restored"], r"again\xfe");

    damage(&dir.join(database));
    let found = call(&["verify"], &[database], &[]);
    assert!(found.code == 1 && found.out.contains(".table at byte"), "{}{}", found.out, found.err);
    let found = call(&["verify"], &[database], &["--json"]);
    let found: serde_json::Value = serde_json::from_str(&found.out).expect(&found.err);
    assert!(found["problems"][0]["file"].as_str().unwrap().contains(shown), "{found}");
    let salvaged = call(&["repair"], &[database, saved], &["--json"]);
    let salvaged: serde_json::Value = serde_json::from_str(&salvaged.out).expect(&salvaged.err);
    assert!(salvaged["lost"][0]["file"].as_str().unwrap().contains(shown), "{salvaged}");

    let lines = name(b"rows\xff.jsonl");
    std::fs::write(dir.join(lines), "{}\n").unwrap();
    let refused = call(&["import"], &[again, lines], &["--json"]);
    let refused: serde_json::Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(refused["file"], r"rows\xff.jsonl");
}

#[test]
fn a_command_that_is_suggested_can_be_pasted() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    run(dir, ["put", "db", "k", "v", "--create"]).good();
    std::fs::create_dir(dir.join("db copy.unfinished")).unwrap();
    let said = run(dir, ["backup", "db", "db copy"]).refused(2);
    let command = said.split_once("remove it (").unwrap().1.split_once(") and run").unwrap().0;
    assert_eq!(command, "rm -r 'db copy.unfinished'");
    assert!(Command::new("sh").args(["-c", command]).current_dir(dir).status().unwrap().success());
    assert!(dir.join("db").exists());
    run(dir, ["backup", "db", "db copy"]).good();

    let said = run(dir, ["tour", "--keep", "my db"]).good();
    let commands: Vec<_> =
        said.lines().filter(|line| line.trim_start().starts_with("holdfast scan")).collect();
    assert!(commands.len() == 1 && commands[0].contains("holdfast scan 'my db' -k"), "{said}");
}
