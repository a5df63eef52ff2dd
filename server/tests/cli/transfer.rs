//! Import and export: byte-identical there and back, and nothing half-done after a bad line.

use std::path::Path;
use std::process::Command;

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
    let said = line(dir, "export db out.jsonl").refused(2);
    assert!(said.contains("out.jsonl exists already; choose another name"), "{said}");
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
fn a_first_row_unlike_the_others_does_not_condemn_them_all() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let good: String = (0..50).map(|n| format!("{n},x,y,z\n")).collect();
    std::fs::write(dir.join("in.csv"), format!("a,b,c\n{good}")).unwrap();
    for layout in ["--no-header --key-column 1", "--key-column a"] {
        let said = line(dir, &format!("import db in.csv {layout} --skip-bad-lines")).refused(2);
        let told = "in.csv, line 1: 3 fields, but 50 rows have 4, the first of them on line 2; the first row";
        assert!(said.contains(told) && said.contains("--delimiter"), "{layout}: {said}");
        assert!(!dir.join("db").exists(), "nothing was made");
    }
    let said = piped(
        dir,
        "import db - --format csv --no-header --key-column 1 --skip-bad-lines --json",
        &format!("\na,b,c\n{good}"),
    );
    assert_eq!(said.code, 2, "{}", said.err);
    let said: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert!(said["line"] == 2 && said["file"] == "standard input", "{said}");

    // Rows that agree with the first are as many as those that agree on something else: those are the bad ones.
    std::fs::write(dir.join("half.csv"), "1,b\n2\n3\n4,c\n\"5,d\n").unwrap();
    let layout = "--no-header --key-column 1 --skip-bad-lines";
    let said = line(dir, &format!("import db half.csv {layout}")).refused(2);
    assert!(said.contains("half.csv, line 5, field 1: the quotation mark"), "{said}");
    std::fs::write(dir.join("most.csv"), "1,b\n2\n3\n4,c\n5,d,e\n").unwrap();
    let said = line(dir, &format!("import new most.csv {layout}")).good();
    assert!(said.starts_with("imported 2 rows in ") && said.contains(", 3 bad lines left out"), "{said}");
}

#[test]
fn quotation_marks_in_the_wrong_place_are_told_and_nothing_is_swallowed() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("tail.csv"), "key,value\na,1\nb,\"q\"tail\nc,3\n").unwrap();
    let said = line(dir, "import db tail.csv").refused(2);
    assert!(said.contains("tail.csv, line 3, field value: something stands behind"), "{said}");
    assert!(!dir.join("db").exists(), "nothing was made");
    let skipping = line(dir, "import db tail.csv --skip-bad-lines");
    assert!(skipping.err.starts_with("left out: tail.csv, line 3, field value: "), "{}", skipping.err);
    assert!(skipping.good().contains("1 bad lines left out"));
    assert_eq!(line(dir, "scan db").good(), "a\t1\nc\t3\n");

    std::fs::write(dir.join("open.csv"), "key,value\nd,4\ne,\"5\nf,6\ng,7\n").unwrap();
    let said = line(dir, "import new open.csv").refused(2);
    assert!(
        said.contains("open.csv, line 3, field value: the quotation mark") && said.contains("never closed")
    );
    assert!(!dir.join("new").exists(), "nothing was made");
    // How many rows are in that field nobody knows, so it is not counted as one bad line.
    let skipping = line(dir, "import new open.csv --skip-bad-lines --batch-rows 1");
    let said = skipping.refused(2);
    assert!(
        said.contains("line 3, field value: ") && said.contains("up to 1 rows of it are there"),
        "{said}"
    );
    assert_eq!(line(dir, "count new --from e").good(), "0\n");
}

#[test]
fn a_key_that_begins_as_a_byte_order_mark_does_comes_back() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    line(dir, "put db \u{feff}key value --create").good();
    for layout in ["--no-header", "", "--no-header --key-format raw", "--no-header --key-format hex"] {
        line(dir, &format!("export db out.csv {layout}")).good();
        line(dir, &format!("import again out.csv {layout}")).good();
        assert_eq!(line(dir, "get again \u{feff}key").good(), "value\n", "{layout}");
        assert_eq!(line(dir, "count again").good(), "1\n", "{layout}");
        std::fs::remove_dir_all(dir.join("again")).unwrap();
        std::fs::remove_file(dir.join("out.csv")).unwrap();
    }
    std::fs::write(dir.join("foreign.csv"), "\u{feff}key,value\na,1\n").unwrap();
    std::fs::write(dir.join("bare.csv"), "\u{feff}b,2\n").unwrap();
    line(dir, "import foreign foreign.csv").good();
    line(dir, "import foreign bare.csv --no-header").good();
    assert_eq!(line(dir, "scan foreign").good(), "a\t1\nb\t2\n");
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

#[test]
fn an_export_by_columns_loses_no_record() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let put = |key: &str, value: &str| {
        line(dir, &format!("put db {key} {value} --create")).good();
    };
    put("zzz", r#"{"id":"zzz"}"#);
    for layout in ["--format jsonl", "--format csv"] {
        line(dir, &format!("export db out {layout} --key-column id")).good();
        line(dir, &format!("import again out {layout} --key-column id")).good();
        assert_eq!(line(dir, "scan again").good(), "zzz\t{\"id\":\"zzz\"}\n");
        std::fs::remove_file(dir.join("out")).unwrap();
    }
    put("other", r#"{"id":"zzz"}"#);
    for (column, words) in [
        ("id", "would give it the key zzz instead of other"),
        ("name", "would refuse it: there is no key column name; there are: id"),
    ] {
        for layout in ["--format jsonl", "--format csv"] {
            let said = line(dir, &format!("export db out {layout} --key-column {column}")).refused(2);
            assert!(said.starts_with("error: key \"other\": an import by --key-column"), "{said}");
            assert!(said.contains(words) && said.contains("without --key-column"), "{said}");
            assert!(!dir.join("out").exists() && !dir.join("out.unfinished").exists());
        }
    }
    line(dir, "export db out.csv").good();
    line(dir, "import pairs out.csv").good();
    assert_eq!(line(dir, "scan pairs").good(), line(dir, "scan db").good());
}

fn pair(key: &str, value: &str) -> String {
    format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}\n")
}

/// Key and value of a row may have this many bytes together: 64 MiB, less what a batch keeps of each operation.
const ROW_BYTES_MAX: usize = (64 << 20) - 32;

#[test]
fn rows_over_a_limit_are_found_before_anything_is_written() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let long_key = pair(&"k".repeat(65_537), "v");
    let large_value = pair("large", &"v".repeat(ROW_BYTES_MAX - 4));
    let legal =
        pair(&"k".repeat(65_536), "v") + &pair("", "") + &pair("most", &"v".repeat(ROW_BYTES_MAX - 4));
    std::fs::write(dir.join("long.jsonl"), format!("{legal}{long_key}")).unwrap();
    std::fs::write(dir.join("large.jsonl"), format!("{}{large_value}", pair("a", "b"))).unwrap();
    let said = line(dir, "import db long.jsonl --batch-rows 1").refused(2);
    assert!(said.contains("long.jsonl, line 4: the key has 65537 bytes, but at most 65536"), "{said}");
    assert!(!dir.join("db").exists(), "nothing was made");
    let refused = line(dir, "import db large.jsonl --json");
    let said: serde_json::Value = serde_json::from_str(&refused.err).expect(&refused.err);
    assert!(
        refused.code == 2 && said["exit"] == 2 && said["file"] == "large.jsonl" && said["line"] == 2,
        "{said}"
    );
    assert!(said["error"].as_str().unwrap().ends_with("over the limit of 64 MiB (67108864 bytes)"), "{said}");
    assert!(!dir.join("db").exists(), "nothing was made");

    let skipping = line(dir, "import db long.jsonl --skip-bad-lines");
    assert!(skipping.err.starts_with("left out: long.jsonl, line 4: the key has 65537"), "{}", skipping.err);
    assert!(skipping.good().starts_with("imported 3 rows"));
    line(dir, "import db large.jsonl --skip-bad-lines").good();
    assert_eq!(line(dir, "count db").good(), "4\n");
}

#[test]
fn large_rows_go_in_with_any_batch() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let mut text = String::new();
    for n in 0..2 {
        // What is collected before a large row must not make both together too large.
        (0..70).for_each(|m| text += &pair(&format!("s{n}{m:02}"), &"v".repeat(100 << 10)));
        text += &pair(&format!("l{n}"), &n.to_string().repeat(ROW_BYTES_MAX - 2));
    }
    std::fs::write(dir.join("in.jsonl"), text).unwrap();
    for batch in ["--batch-rows 1", ""] {
        line(dir, &format!("import db in.jsonl {batch}")).good();
        assert_eq!(line(dir, "count db").good(), "142\n");
        assert_eq!(line(dir, "get db l1").good().len(), ROW_BYTES_MAX - 1);
        std::fs::remove_dir_all(dir.join("db")).unwrap();
    }
}

/// Runs it with this line of arguments and little room in memory, `input` on standard input.
fn in_little_room(dir: &Path, arguments: &str, input: &str) -> (Option<i32>, String, String) {
    std::fs::write(dir.join("input"), input).unwrap();
    let limited = format!("ulimit -v 1000000; exec \"$0\" {arguments} < input");
    let program = env!("CARGO_BIN_EXE_holdfast");
    let ended = Command::new("sh").args(["-c", &limited, program]).current_dir(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

#[test]
fn a_row_of_countless_columns_is_a_bad_line_and_takes_no_memory() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let members: Vec<_> = (0..4_000_000).map(|n| format!("\"{n}\":0")).collect();
    let commas = ",".repeat(20_000_000);
    let (csv, jsonl) = ("--format csv --key-column k --json", "--format jsonl --key-column k --json");
    let csv_text = format!("k,v\na,1\n{commas}\nb,2\n");
    let jsonl_text = format!("{{\"k\":\"a\"}}\n{{\"k\":\"\"}}\n{{{}}}\n", members.join(","));
    for (layout, text, kept) in [(csv, csv_text, 2), (jsonl, jsonl_text, 2)] {
        let (code, _, said) = in_little_room(dir, &format!("import db - {layout}"), &text);
        assert_eq!(code, Some(2), "{layout}: {said}");
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(
            said["line"] == 3 && said["error"].as_str().unwrap().contains("more than the 65536"),
            "{said}"
        );
        assert!(!dir.join("db").exists());
        let arguments = format!("import db input {layout} --skip-bad-lines");
        let (code, done, said) = in_little_room(dir, &arguments, &text);
        assert_eq!(code, Some(0), "{layout}: {said}");
        let done: serde_json::Value = serde_json::from_str(&done).unwrap();
        assert!(done["rows"] == kept && done["skipped"] == 1, "{done}");
        std::fs::remove_dir_all(dir.join("db")).unwrap();
    }
    let (code, _, said) = in_little_room(dir, &format!("import db - {csv} --skip-bad-lines"), &commas);
    assert!(code == Some(2) && said.contains("more than the 65536"), "{said}");
}

#[test]
fn json_lines_of_which_bad_ones_are_left_out_are_read_once_without_a_copy() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let text = pair("a", "v") + "bad\n" + &pair("b", "v");
    let arguments = "import db - --format jsonl --skip-bad-lines --json";
    let imported = Command::new("sh")
        .args([
            "-c",
            &format!("printf '%s' \"$1\" | \"$0\" {arguments}"),
            env!("CARGO_BIN_EXE_holdfast"),
            &text,
        ])
        .current_dir(dir)
        .env("TMPDIR", dir.join("nowhere"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&imported.stdout);
    assert!(imported.status.success() && said.contains("\"rows\":2,"), "{imported:?}");
    assert!(said.contains("\"skipped\":1"), "{said}");
}
