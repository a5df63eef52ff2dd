//! The tour ends well, says what it must, and keeps its database when asked.

use crate::support::{line, run};
use tempfile::tempdir;

#[test]
fn the_tour_in_json_and_what_it_leaves() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let sections = line(dir, "tour --json --keep kept").json();
    let facts = |title: &str| {
        let section = sections.iter().find(|section| section["section"].as_str().unwrap().starts_with(title));
        section.unwrap_or_else(|| panic!("{title}: {sections:?}"))["facts"].clone()
    };
    let data = facts("Real data");
    assert!(data["characters"].as_u64().unwrap() > 100_000);
    let killed = facts("kill -9");
    assert_eq!(killed["lost"], 0);
    for round in ["round_0", "round_1", "round_2"] {
        assert_eq!((&killed[round]["signal"], &killed[round]["wait_status"]), (&9.into(), &9.into()));
        assert!(killed[round]["pid"].as_u64().unwrap() > 0);
        assert!(killed[round]["found"].as_u64() >= killed[round]["acknowledged"].as_u64());
    }
    let figures = facts("In figures");
    for name in ["commit_count", "commit_p50_ns", "commit_p99_ns", "sync_p99_ns", "get_p50_ns", "file_bytes"]
    {
        assert!(figures[name].as_u64().unwrap() > 0, "{name}: {figures}");
    }
    let names =
        sections.iter().filter_map(|section| section["facts"].as_object()).flat_map(|facts| facts.keys());
    for name in names {
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
    }
    let flipped = facts("A flipped bit");
    assert!(flipped["table"]["caught"] == true && flipped["manifest"]["caught"] == true);

    assert_eq!(line(dir, "count kept").good().trim(), data["characters"].to_string());
    assert!(line(dir, "get kept 🦀").good().contains("\"CRAB\""));
    let runes = ["count", "kept", "-k", "by_script", "--key-format", "tuple", "--prefix", "(\"Runic\")"];
    assert_eq!(run(dir, runes).good(), "86\n");
    line(dir, "verify kept").good();
    line(dir, "tour --keep kept").refused(2);

    // What it recommends must work too.
    line(dir, "export kept characters.csv --key-column character --key-format raw").good();
    line(dir, "import again characters.csv --key-column character --key-format raw").good();
    line(dir, "export again again.csv --key-column character --key-format raw").good();
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert!(read("characters.csv") == read("again.csv"));
}
