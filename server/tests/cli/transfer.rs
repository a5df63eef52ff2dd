//! Import and export: byte-identical there and back, and nothing half-done after a bad line.

use std::path::Path;

use crate::support::{line, piped};
use tempfile::tempdir;

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn csv_with_delimiter_and_no_header_comes_back() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let normal =
        "0041;LATIN CAPITAL LETTER A;Lu\n00E9;\"with; and \"\"quotes\"\"\";\n0BEB;TAMIL DIGIT FIVE;Nd\n";
    // Not in normal form: another order, a line twice, no last line feed.
    let text = "0BEB;TAMIL DIGIT FIVE;Nd\n0041;OLD;\n00E9;\"with; and \"\"quotes\"\"\";\n0041;LATIN CAPITAL LETTER A;Lu";
    std::fs::write(dir.join("in.csv"), text).unwrap();
    let layout = "--delimiter ; --no-header --key-column 1";
    let said = line(dir, &format!("import db in.csv {layout}")).good();
    assert!(said.starts_with("imported 4 rows in "), "{said}");
    assert_eq!(line(dir, "count db").good(), "3\n");
    line(dir, &format!("export db out.csv {layout}")).good();
    assert_eq!(read(dir, "out.csv"), normal);
    line(dir, &format!("import again out.csv {layout}")).good();
    assert_eq!(line(dir, &format!("export again - --format csv {layout}")).good(), normal);
}

#[test]
fn json_lines_come_back() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let normal = "{\"key\":\"\\\\0\\\\xff\",\"value\":\"\"}\n{\"key\":\"a\",\"value\":\"ü\\\\n\"}\n";
    piped(dir, "import db - --format jsonl", normal).good();
    assert_eq!(line(dir, "export db - --format jsonl").good(), normal);
    line(dir, "export db out.jsonl").good();
    assert!(line(dir, "export db out.jsonl").refused(2).contains("out.jsonl"));
    assert_eq!(read(dir, "out.jsonl"), normal);

    let table = "{\"id\": 2, \"name\":\"b\"}\n{\"id\": 10, \"name\":\"a\"}\n";
    std::fs::write(dir.join("table.jsonl"), table).unwrap();
    let layout = "-k table --key-format tuple --key-column id";
    line(dir, &format!("import db table.jsonl {layout}")).good();
    assert_eq!(line(dir, &format!("export db - --format jsonl {layout}")).good(), table);
    assert_eq!(line(dir, "scan db -k table --key-format tuple --keys-only").good(), "(2)\n(10)\n");
}

#[test]
fn a_bad_line_stops_with_nothing_done() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let mut text: String = (0..5000).map(|n| format!("{{\"key\":\"{n}\",\"value\":\"\"}}\n")).collect();
    text += "{\"key\":\"bad\"}\n{\"key\":\"good\",\"value\":\"\"}\n";
    std::fs::write(dir.join("in.jsonl"), &text).unwrap();
    let said = line(dir, "import db in.jsonl --batch-rows 10").refused(2);
    assert!(said.contains("in.jsonl, line 5001: ") && said.contains("--skip-bad-lines"), "{said}");
    assert!(!dir.join("db").exists(), "nothing was made");
    let said = piped(dir, "import db - --format jsonl", &text).refused(2);
    assert!(said.contains("standard input, line 5001: "), "{said}");
    assert!(!dir.join("db").exists(), "nothing was made");

    line(dir, "put db there before --create").good();
    line(dir, "import db in.jsonl").refused(2);
    assert_eq!(line(dir, "scan db").good(), "there\tbefore\n");

    let skipping = line(dir, "import db in.jsonl --skip-bad-lines --json");
    let note: serde_json::Value = serde_json::from_str(&skipping.err).expect(&skipping.err);
    assert!(note["note"] == "left out" && note["file"] == "in.jsonl" && note["line"] == 5001, "{note}");
    assert!(note["error"].is_string() && note["field"].is_null(), "{note}");
    let said = skipping.json();
    assert_eq!((&said[0]["rows"], &said[0]["skipped"]), (&5001.into(), &1.into()));
    assert_eq!(line(dir, "count db").good(), "5002\n");
}

#[test]
fn bad_csv_is_named_or_skipped() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("in.csv"), "key,value\na,1\nb\nc,3\n").unwrap();
    assert!(line(dir, "import db in.csv").refused(2).contains("line 3: 1 fields"));
    let skipping = line(dir, "import db in.csv --skip-bad-lines");
    assert_eq!(skipping.err, "left out: in.csv, line 3: 1 fields, but the first row has 2\n");
    assert!(skipping.good().contains("1 bad lines left out"));
    assert_eq!(line(dir, "scan db").good(), "a\t1\nc\t3\n");
    // Without usable names no row can be read: that is not one bad line.
    std::fs::write(dir.join("names.csv"), "x,x\na,1\n").unwrap();
    assert!(line(dir, "import db names.csv --skip-bad-lines").refused(2).contains("two columns"));
    std::fs::write(dir.join("bytes.csv"), b"\xff,x\na,1\n").unwrap();
    assert!(line(dir, "import db bytes.csv --skip-bad-lines").refused(2).contains("not UTF-8"));
    assert!(line(dir, "import new names.csv --skip-bad-lines").code == 2 && !dir.join("new").exists());
    let said = line(dir, "import db missing.csv").refused(2);
    assert!(said.contains("missing.csv: ") && said.contains("hint: check the name"), "{said}");
    assert!(line(dir, "import db in.unknown").refused(2).contains("--format"));
}

#[test]
fn a_key_column_that_is_not_there_is_told_with_those_that_are() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("in.csv"), "id,name\n1,Ada\n").unwrap();
    std::fs::write(dir.join("in.jsonl"), "{\"id\":1,\"name\":\"Ada\"}\n").unwrap();
    for command in ["import db in.csv --key-column nope", "import db in.jsonl --key-column nope"] {
        let said = line(dir, command).refused(2);
        assert!(said.contains(", line 1: there is no key column nope; there are: id, name"), "{said}");
        assert!(!dir.join("db").exists(), "nothing was made");
    }
    // Every row of such a table is bad alike, so none is left out in silence.
    line(dir, "import db in.csv --key-column nope --skip-bad-lines").refused(2);
}
