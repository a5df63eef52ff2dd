//! Every example in the help does what it says: each is run, through a shell, on a database that fits it.

use std::path::Path;
use std::process::Command;

use crate::support::{line, piped, run};
use tempfile::tempdir;

/// They take long or never end by themselves; the tour has a test of its own.
const NOT_RUN: [&str; 3] = ["holdfast tour", "holdfast bench", "--watch"];

fn examples() -> Vec<String> {
    let here = Path::new(".");
    let commands: Vec<String> = line(here, "--help")
        .good()
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_string())
        .filter(|name| name != "help")
        .collect();
    assert!(commands.len() > 15 && !commands.iter().any(|name| name == "tour-writer"), "{commands:?}");
    let mut examples = Vec::new();
    for command in commands {
        let help = run(here, [command.as_str(), "--help"]).good();
        let of_this = help.lines().skip_while(|line| *line != "Examples:").skip(1);
        examples
            .extend(of_this.filter(|line| line.contains("holdfast ")).map(|line| line.trim().to_string()));
    }
    examples
}

fn prepare(dir: &Path) {
    std::fs::write(dir.join("photo.jpg"), b"\xff\xd8\xff").unwrap();
    std::fs::write(dir.join("pairs.jsonl"), "{\"key\":\"p\",\"value\":\"1\"}\n").unwrap();
    std::fs::write(dir.join("people.csv"), "id,name\n1,Ada\n").unwrap();
    std::fs::write(dir.join("events.jsonl"), "{\"user\":\"ada\",\"time\":7}\n").unwrap();
    std::fs::write(dir.join("UnicodeData.txt"), "0041;LATIN CAPITAL LETTER A;Lu\n").unwrap();
    let zip = "printf 'key\\tvalue\\na\\t1\\n' | gzip > big.tsv.gz";
    assert!(Command::new("sh").args(["-c", zip]).current_dir(dir).status().unwrap().success());
    let script = "put user:1 Ada\nput session:1 x\nput a 1\nput b 2\n";
    piped(dir, "shell db", script).good();
    line(dir, "import db people.csv -k people --key-column id").good();
    let tuple = "--key-format tuple --key-column user --key-column time";
    line(dir, &format!("import db events.jsonl -k events {tuple}")).good();
    line(dir, "backup db monday").good();
}

#[test]
fn every_example_runs() {
    let path = Path::new(env!("CARGO_BIN_EXE_holdfast")).parent().unwrap();
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let master = tempdir().unwrap();
    prepare(master.path());
    let mut count = 0;
    for example in examples() {
        if NOT_RUN.iter().any(|not| example.contains(not)) {
            continue;
        }
        let dir = tempdir().unwrap();
        let copied =
            Command::new("cp").arg("-r").arg(master.path()).arg(dir.path().join("w")).status().unwrap();
        assert!(copied.success());
        if example.contains(" backup ") {
            std::fs::remove_dir_all(dir.path().join("w/monday")).unwrap();
        }
        let ended = Command::new("sh")
            .args(["-e", "-c", &example])
            .current_dir(dir.path().join("w"))
            .env("PATH", &path)
            // That the machine is slow is no fault of the example.
            .env("HOLDFAST_LOG", "error")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{example}\n{}\n{said}", ended.status);
        count += 1;
    }
    assert!(count > 30, "{count} examples ran");
}
