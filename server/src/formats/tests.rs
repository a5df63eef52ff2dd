//! There and back in every layout, and refusals that name their line.

use std::collections::BTreeMap;

use holdfast::key::{DecodeKey, Element, EncodeKey};
use quickcheck::quickcheck;

use std::io::Read;

use super::*;

const PAIRS_NOTATIONS: [Notation; 2] = [Notation::Escaped, Notation::Hex];

fn import(text: &[u8], layout: &Layout) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
    read(text, layout).map(|row| row.map(|row| (row.record.key, row.record.value))).collect()
}

fn export(records: &BTreeMap<Vec<u8>, Vec<u8>>, layout: &Layout) -> Result<Vec<u8>, Failure> {
    let mut writer = Writer::new(Vec::new(), layout);
    for (key, value) in records {
        writer.write(key, value)?;
    }
    writer.finish()
}

fn layout(format: Format) -> Layout {
    Layout { format, ..Layout::default() }
}

fn by_columns(format: Format, names: &[&str], key: Notation) -> Layout {
    Layout { key, key_columns: names.iter().map(|name| (*name).to_string()).collect(), ..layout(format) }
}

fn refusal(text: &[u8], layout: &Layout) -> String {
    import(text, layout).unwrap_err().to_string()
}

quickcheck! {
    fn any_pairs_come_back(records: BTreeMap<Vec<u8>, Vec<u8>>, choice: u8, header: bool) -> bool {
        let delimiter = *[b',', b';', b'\t'].get(usize::from(choice) % 3).unwrap();
        let notation = PAIRS_NOTATIONS[usize::from(choice / 4) % 2];
        let mut layout = Layout { delimiter, header, key: notation, ..layout(Format::Csv) };
        for format in [Format::Csv, Format::Jsonl] {
            layout.format = format;
            let text = export(&records, &layout).unwrap();
            let back = import(&text, &layout).unwrap();
            if back != records || export(&back, &layout).unwrap() != text {
                return false;
            }
        }
        true
    }

    fn quoted_rows_are_split_as_others_split_them(rows: Vec<Vec<String>>, choice: u8) -> bool {
        let delimiter = *[b',', b';', b'\t'].get(usize::from(choice) % 3).unwrap();
        let quote_style = if choice >= 128 { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let terminator = if choice.is_multiple_of(2) { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let rows: Vec<_> = rows.into_iter().filter(|row| !row.is_empty()).collect();
        let mut text = csv::WriterBuilder::new()
            .delimiter(delimiter)
            .quote_style(quote_style)
            .terminator(terminator)
            .flexible(true)
            .from_writer("\u{feff}".as_bytes().to_vec());
        rows.iter().for_each(|row| text.write_record(row).unwrap());
        let text = text.into_inner().unwrap();
        // The input comes in pieces of any size.
        let input = std::io::BufReader::with_capacity(1 + usize::from(choice) % 7, &text[..]);
        let mut split = separated::Rows::new(input, delimiter, text.len());
        let (mut fields, mut found) = (separated::Fields::default(), Vec::new());
        while split.read(&mut fields).ok().flatten().is_some() {
            found.push(fields.iter().map(|field| String::from_utf8(field.to_vec()).unwrap()).collect::<Vec<_>>());
        }
        found == rows
    }

    fn what_looks_like_a_byte_order_mark_comes_back(tails: Vec<String>, header: bool) -> bool {
        let record = |tail: String| (format!("\u{feff}{tail}").into_bytes(), tail.into_bytes());
        let records: BTreeMap<_, _> = tails.into_iter().map(record).collect();
        let layout = Layout { header, key: Notation::Raw, value: Notation::Raw, ..layout(Format::Csv) };
        import(&export(&records, &layout).unwrap(), &layout).unwrap() == records
    }

    fn text_pairs_pass_raw(records: BTreeMap<String, String>) -> bool {
        let records: BTreeMap<_, _> = records.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect();
        [Format::Csv, Format::Jsonl].into_iter().all(|format| {
            let layout = Layout { key: Notation::Raw, value: Notation::Raw, ..layout(format) };
            import(&export(&records, &layout).unwrap(), &layout).unwrap() == records
        })
    }

    fn a_table_passes_both_formats(rows: BTreeMap<(String, String), (i64, bool)>) -> bool {
        let jsonl = by_columns(Format::Jsonl, &["name", "place"], Notation::Tuple);
        let line = |((name, place), (number, flag)): (&(String, String), &(i64, bool))| {
            serde_json::json!({ "number": number, "place": place, "flag": flag, "name": name }).to_string() + "\n"
        };
        let text: String = rows.iter().map(line).collect();
        let records = import(text.as_bytes(), &jsonl).unwrap();
        // `rows` is sorted as its keys are, so the text is in normal form.
        assert_eq!(export(&records, &jsonl).unwrap(), text.as_bytes());
        let csv = by_columns(Format::Csv, &["name", "place"], Notation::Tuple);
        let table = export(&records, &csv).unwrap();
        let again = import(&table, &csv).unwrap();
        export(&again, &csv).unwrap() == table && again.keys().eq(records.keys())
    }

    fn keys_come_back_from_columns_or_are_refused(records: BTreeMap<u8, (u8, u8)>, choice: u8) -> bool {
        let is_tuple = choice & 1 == 0;
        let header = choice & 2 == 0;
        let name = if header { "id" } else { "2" };
        for format in [Format::Csv, Format::Jsonl] {
            let notation = if is_tuple { Notation::Tuple } else { Notation::Raw };
            let layout = Layout { header, ..by_columns(format, &[name], notation) };
            let mut written = BTreeMap::new();
            for (id, (kind, other)) in &records {
                // Whether the column makes the record's key.
                let (is_number, column, makes_it) = match kind % 8 {
                    0 => (false, format!(r#""{name}":"{}""#, other % 8), id == &(other % 8)),
                    1 => (false, r#""x":"y""#.to_string(), false),
                    2 => (false, format!(r#""{name}":null"#), false),
                    3 | 4 => (true, format!(r#""{name}":{id}"#), !is_tuple || format == Format::Jsonl),
                    _ => (false, format!(r#""{name}":"{id}""#), true),
                };
                let key = match (is_tuple, is_number) {
                    (true, true) => (*id,).encode_key(),
                    (true, false) => (id.to_string().as_str(),).encode_key(),
                    (false, _) => id.to_string().into_bytes(),
                };
                let value = format!(r#"{{"n":1,{column}}}"#).into_bytes();
                let alone = export(&BTreeMap::from([(key.clone(), value.clone())]), &layout);
                assert_eq!(alone.is_ok(), makes_it, "{format:?} {notation:?} {id} {column}");
                if makes_it {
                    written.insert(key, value);
                }
            }
            let back = import(&export(&written, &layout).unwrap(), &layout).unwrap();
            assert!(back.keys().eq(written.keys()) && (format == Format::Csv || back == written));
        }
        true
    }

    fn any_input_is_read_or_refused_by_line(bytes: Vec<u8>, pick: Vec<u8>, is_csv: bool) -> bool {
        let pieces = ["{", "}", "\"key\"", "\"value\"", ":", ",", "\n", "\"", "key", "value", "\\x", "\u{feff}", "1"];
        let mut text: Vec<u8> =
            pick.iter().flat_map(|n| pieces[usize::from(*n) % pieces.len()].bytes()).collect();
        text.extend(bytes);
        let layout = layout(if is_csv { Format::Csv } else { Format::Jsonl });
        import(&text, &layout).map_or_else(|failure| failure.to_string().starts_with("line "), |_| true)
    }
}

#[test]
fn normal_form_is_byte_identical() {
    for (text, layout) in [
        (
            "{\"key\":\"a\",\"value\":\"\\u0001\\\\n\"}\n",
            Layout { value: Notation::Raw, ..layout(Format::Jsonl) },
        ),
        (
            "{\"key\":\"(1, \\\"x\\\")\",\"value\":\"ü\"}\n",
            Layout { key: Notation::Tuple, ..Layout::default() },
        ),
        ("key,value\na,\"1,5\"\nb,\"\"\"q\"\"\"\nc,\n", layout(Format::Csv)),
        ("a;1\nb;2\n", Layout { delimiter: b';', header: false, ..layout(Format::Csv) }),
        ("{ \"n\": 1.50, \"id\" : \"a\" }\n", by_columns(Format::Jsonl, &["id"], Notation::Raw)),
        ("id,n,text\na,1,\"x\ny\"\nb,,\n", by_columns(Format::Csv, &["id"], Notation::Escaped)),
        (
            "{\"z\":\"1\",\"id\":12345678901234567890123456789,\"a\":1.50}\n",
            by_columns(Format::Jsonl, &["id"], Notation::Tuple),
        ),
        ("x,1\ny,2\n", Layout { header: false, ..by_columns(Format::Csv, &["2"], Notation::Raw) }),
        (
            "\"\u{feff}a\",1\n\u{feff}b,2\n",
            Layout { header: false, key: Notation::Raw, value: Notation::Raw, ..layout(Format::Csv) },
        ),
    ] {
        let records = import(text.as_bytes(), &layout).unwrap();
        let exported = export(&records, &layout).unwrap();
        assert_eq!(String::from_utf8(exported).unwrap(), text);
    }
}

#[test]
fn json_types_become_elements() {
    let layout = by_columns(Format::Jsonl, &["a", "b", "c", "d", "e"], Notation::Tuple);
    let text = br#"{"a":170141183460469231731687303715884105727,"b":1.5,"c":null,"d":true,"e":"t"}"#;
    let records = import(text, &layout).unwrap();
    let key = (i128::MAX, 1.5, None::<u8>, true, "t").encode_key();
    assert_eq!(records.keys().collect::<Vec<_>>(), [&key]);
    assert_eq!(Vec::<Element>::decode_key(&key).unwrap().len(), 5);
}

#[test]
fn lenient_where_it_does_no_harm() {
    let text = "\u{feff}\n{\"value\":\"1\",\"key\":\"a\"}\r\n\n  {\"key\":\"b\",\"value\":\"2\"}";
    assert_eq!(import(text.as_bytes(), &layout(Format::Jsonl)).unwrap().len(), 2);
    let text = "\u{feff}value,key\r\n1,a\r\n";
    let records = import(text.as_bytes(), &layout(Format::Csv)).unwrap();
    assert_eq!(records[&b"a"[..]], b"1");
    assert!(import(b"", &layout(Format::Csv)).unwrap().is_empty());
    assert_eq!(export(&BTreeMap::new(), &layout(Format::Csv)).unwrap(), b"key,value\n");
}

#[test]
fn refusals_name_line_and_reason() {
    let jsonl = layout(Format::Jsonl);
    let bad = refusal(b"{\"key\":\"a\",\"value\":\"\"}\n\n{\"key\":\"a\"}\n", &jsonl);
    assert!(bad.starts_with("line 3: ") && bad.contains("missing field `value`"), "{bad}");
    let bad = refusal(br#"{"key":"a\\q","value":""}"#, &jsonl);
    assert!(bad.starts_with("line 1, field key: unknown escape") && bad.contains("at byte 1"), "{bad}");
    let bad = refusal(br#"{"key":"a","value":"","more":1}"#, &jsonl);
    assert!(bad.contains("unknown field `more`") && bad.contains("at column"), "{bad}");
    let bad = refusal(br#"{"id":1}"#, &by_columns(Format::Jsonl, &["name"], Notation::Raw));
    assert_eq!(bad, "line 1: there is no key column name; there are: id");
    let bad = refusal(br#"{"id":1,"id":2}"#, &by_columns(Format::Jsonl, &["id"], Notation::Raw));
    assert!(bad.contains("duplicate field `id`"), "{bad}");
    let bad = refusal(br#"{"id":[1]}"#, &by_columns(Format::Jsonl, &["id"], Notation::Tuple));
    assert!(bad.contains("field id: an array or object"), "{bad}");
    let bad = refusal(br#"{"id":-1e400}"#, &by_columns(Format::Jsonl, &["id"], Notation::Tuple));
    assert!(bad.starts_with("line 1, field id: the float -1e400 is out of range"), "{bad}");
    let bad = refusal(
        br#"{"key":"(1e400)","value":""}"#,
        &Layout { key: Notation::Tuple, ..layout(Format::Jsonl) },
    );
    assert!(bad.starts_with("line 1, field key: the float 1e400 is out of range"), "{bad}");

    let csv = layout(Format::Csv);
    let bad = refusal(b"key,value\na,1\nb\n", &csv);
    assert_eq!(bad, "line 3: 1 fields, but the first row has 2");
    let bad = refusal(b"key,value\na,\"x\ny\"\nb,\\q\n", &csv);
    assert!(bad.starts_with("line 4, field value: unknown escape"), "{bad}");
    let bad = refusal(b"key,value\na,\xff\n", &csv);
    assert!(bad.starts_with("line 2, field value: not UTF-8"), "{bad}");
    assert!(refusal(b"id,name\n1,x\n", &csv).contains("--key-column"));
    let bad = refusal(b"id,id\n1,x\n", &by_columns(Format::Csv, &["id"], Notation::Raw));
    assert!(bad.contains("two columns are named id"), "{bad}");
    // It is said once, not of every line, even where there is none.
    let bad = refusal(b"id,name\n", &by_columns(Format::Csv, &["nope"], Notation::Raw));
    assert_eq!(bad, "line 1: there is no key column nope; there are: id, name");
    let numbered = Layout { header: false, ..by_columns(Format::Csv, &["3"], Notation::Raw) };
    assert!(
        matches!(read(&b"a,b\n"[..], &numbered).next(), Some(Err(ReadError::File(bad))) if bad.what.ends_with("1, 2"))
    );
}

#[test]
fn quotation_marks_that_are_not_csv_are_refused() {
    let csv = layout(Format::Csv);
    let all = |text: &str| -> Vec<String> {
        let told = |row: Result<Row, ReadError>| match row {
            Ok(Row { line, record: Record { key, value } }) => {
                format!("{line} {}={}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value))
            }
            Err(ReadError::Line(bad)) => format!("bad {bad}"),
            Err(ReadError::File(bad)) => format!("end {bad}"),
            Err(ReadError::Io(error)) => panic!("{error}"),
        };
        read_on(text.as_bytes(), &csv).map(told).collect()
    };
    let behind = "something stands behind the quotation mark that ends the field; within a quoted field a quotation \
                  mark is written as two";
    let within = "a quotation mark stands within a field that does not begin with one; quote the field, and write \
                  each quotation mark in it as two";
    let never =
        "the quotation mark that begins this field is never closed, so what follows cannot be told from it";
    for (text, told) in [
        ("key,value\nb,\"q\"tail\nc,3\n", vec![format!("bad line 2, field value: {behind}"), "3 c=3".into()]),
        // What else is in the line belongs to the refused row, whatever marks it has.
        ("key,value\n\"b\"x,\"q\nc,3\n", vec![format!("bad line 2, field key: {behind}"), "3 c=3".into()]),
        ("key,value\nb,q\"q\nc,3\n", vec![format!("bad line 2, field value: {within}"), "3 c=3".into()]),
        ("key,value\nb, \"q\"\n", vec![format!("bad line 2, field value: {within}")]),
        ("key,value\na,1\nb,\"q\nc,3\n", vec!["2 a=1".into(), format!("end line 3, field value: {never}")]),
        ("key,value\n\"b\n\",\"q\nc,3", vec![format!("end line 3, field value: {never}")]),
        ("key,value\n\"\"\"b\"\"\",\"\"\r\n\r\nc,3", vec!["2 \"b\"=".into(), "4 c=3".into()]),
        ("key,\"value\nb,1\n", vec![format!("end line 1, field 2: {never}")]),
        ("k\"ey,value\nb,1\n", vec![format!("end line 1, field 1: {within}")]),
    ] {
        assert_eq!(all(text), told, "{text:?}");
    }
}

#[test]
fn only_objects_are_rows_of_json_lines() {
    for layout in [layout(Format::Jsonl), by_columns(Format::Jsonl, &["key"], Notation::Raw)] {
        for text in ["[\"a\",\"b\"]", "\"a\"", "null", "1", "[]", "x"] {
            let bad = refusal(text.as_bytes(), &layout);
            assert_eq!(bad, "line 1: not the expected JSON: a row is an object, {…} (at column 1)", "{text}");
        }
    }
}

#[test]
fn what_cannot_be_expressed_names_the_key() {
    let record = |key: &[u8], value: &[u8]| BTreeMap::from([(key.to_vec(), value.to_vec())]);
    let raw = Layout { value: Notation::Raw, ..layout(Format::Jsonl) };
    let bad = export(&record(b"k\n", b"\xff"), &raw).unwrap_err().to_string();
    assert!(bad.starts_with(r#"key "k\n": the bytes are not UTF-8"#), "{bad}");
    let table = by_columns(Format::Csv, &["id"], Notation::Raw);
    let bad = export(&record(b"k", b"[1]"), &table).unwrap_err().to_string();
    assert!(bad.contains("not a JSON object"), "{bad}");
    let mut two = record(b"a", br#"{"id":"a"}"#);
    two.append(&mut record(b"b", br#"{"id":"b","more":"1"}"#));
    let bad = export(&two, &table).unwrap_err().to_string();
    assert!(bad.contains("its columns are id, more, but the first record's are id"), "{bad}");
    let lines = by_columns(Format::Jsonl, &["id"], Notation::Raw);
    for value in [&b"{\"id\":\n\"a\"}"[..], b" {\"id\":\"a\"}", b"{\"id\":\"a\"}\r"] {
        let bad = export(&record(b"a", value), &lines).unwrap_err().to_string();
        assert!(
            bad.starts_with(r#"key "a": the value is not one line with a JSON object and nothing"#),
            "{bad}"
        );
    }
    for layout in [lines, table] {
        let bad = export(&record(b"a", br#"{"id":"b"}"#), &layout).unwrap_err().to_string();
        let said =
            r#"key "a": an import by --key-column id would give it the key b instead of a; give the column"#;
        assert!(bad.starts_with(said), "{bad}");
        let bad = export(&record(b"a", br#"{"name":"a"}"#), &layout).unwrap_err().to_string();
        assert!(bad.contains("would refuse it: there is no key column id; there are: name; give"), "{bad}");
    }
    let tuples = by_columns(Format::Csv, &["id"], Notation::Tuple);
    let bad = export(&record(&(7u8,).encode_key(), br#"{"id":7}"#), &tuples).unwrap_err().to_string();
    assert!(bad.contains(r#"the key ("7") instead of (7); fields of CSV are text; --format jsonl"#), "{bad}");
}

#[test]
fn nothing_comes_after_a_failure() {
    let layout = layout(Format::Jsonl);
    let text = b"x\n{\"key\":\"a\",\"value\":\"\"}\n";
    let items: Vec<_> = read(&text[..], &layout).collect();
    assert!(matches!(items.as_slice(), [Err(_)]));
}

/// Real data: commas, quotation marks, line breaks and every script in the key column.
#[test]
fn every_unicode_character_passes_both_formats() {
    let csv = by_columns(Format::Csv, &["character"], Notation::Raw);
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["character", "name", "category", "script"]).unwrap();
    for c in crate::unicode::characters() {
        table.write_record([c.value.to_string().as_str(), &c.name, c.category, c.script]).unwrap();
    }
    let table = table.into_inner().unwrap();
    let records = import(&table, &csv).unwrap();
    assert_eq!(records.len(), crate::unicode::COUNT);
    // UTF-8 sorts as code points do, so the table was in normal form.
    assert!(export(&records, &csv).unwrap() == table);
    let jsonl = by_columns(Format::Jsonl, &["character"], Notation::Raw);
    assert!(import(&export(&records, &jsonl).unwrap(), &jsonl).unwrap() == records);
}

/// Inputs of the fuzz target: the seeds, and what once broke something, as they stand in the clone.
/// `HOLDFAST_WRITE_SEEDS=1` writes the seeds anew.
#[test]
fn every_kept_input_of_the_fuzzer_passes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/import");
    for (index, seed) in fuzzing::seeds().iter().enumerate() {
        let file = folder.join(format!("seed-{index:02}"));
        if std::env::var_os("HOLDFAST_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, seed).unwrap();
        }
        assert!(std::fs::read(&file).unwrap() == *seed, "{} is not what the code makes", file.display());
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        fuzzing::check(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}

quickcheck! {
    fn harmed_files_are_judged(choice: u8, harms: Vec<(u16, u8)>, splice: Vec<(u16, u8)>) -> bool {
        let seeds = fuzzing::seeds();
        let mut bytes = seeds[usize::from(choice) % seeds.len()].clone();
        let telling = b"\"\\,;:{}[]\n\r\xff\xef0a\0";
        for (at, which) in splice {
            bytes.insert(usize::from(at) % (bytes.len() + 1), telling[usize::from(which) % telling.len()]);
        }
        for (at, bits) in harms {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= bits;
        }
        fuzzing::check(&bytes);
        true
    }
}

#[test]
fn a_record_without_end_does_not_take_all_memory() {
    let long = [b"{\"key\":\"".to_vec(), vec![b'k'; 5000], b"\",\"value\":\"\"}\n".to_vec()].concat();
    let text = [&long[..], br#"{"key":"a","value":""}"#].concat();
    let layout = layout(Format::Jsonl);
    let rows: Vec<_> = json_lines::Reader::new(&text[..], &layout, 1000).collect();
    assert!(
        matches!(&rows[0], Err(ReadError::Line(bad)) if bad.line == 1 && bad.what == "longer than 1000 bytes")
    );
    assert!(matches!(&rows[1..], [Ok(row)] if row.line == 2 && row.record.key == b"a"));
    assert!(json_lines::Reader::new(&text[..], &layout, long.len() - 1).all(|row| row.is_ok()));

    let layout = Layout { format: Format::Csv, ..layout };
    let endless = std::io::BufReader::new(b"key,value\na,1\nb,\"".chain(std::io::repeat(b'x')));
    let mut rows = comma::Reader::new(endless, &layout, 100_000);
    assert!(rows.next().is_some_and(|row| row.is_ok()));
    assert!(
        matches!(rows.next(), Some(Err(ReadError::File(bad))) if bad.line == 3 && bad.what.contains("no end"))
    );
    // A line that is too long is one bad row: where the next begins is known.
    let long = [b"key,value\na,".to_vec(), vec![b'x'; 5000], b"\nb,2\n".to_vec()].concat();
    let rows: Vec<_> = comma::Reader::new(&long[..], &layout, 1000).collect();
    assert!(
        matches!(&rows[0], Err(ReadError::Line(bad)) if bad.line == 2 && bad.what.contains("1000 bytes"))
    );
    assert!(matches!(&rows[1..], [Ok(row)] if row.line == 3 && row.record.key == b"b"));
}

#[test]
fn a_row_has_as_many_columns_as_it_may() {
    let csv = |columns: usize| format!("{}\n", vec!["1"; columns].join(","));
    let jsonl = |columns: usize| {
        let members: Vec<_> = (1..=columns).map(|n| format!("\"{n}\":\"1\"")).collect();
        format!("{{{}}}\n", members.join(","))
    };
    let without_header = Layout { header: false, ..by_columns(Format::Csv, &["1"], Notation::Escaped) };
    let of_lines = by_columns(Format::Jsonl, &["1"], Notation::Escaped);
    for (layout, text) in [(&without_header, &csv as &dyn Fn(usize) -> String), (&of_lines, &jsonl)] {
        let most = text(COLUMNS_MAX);
        assert_eq!(import(most.as_bytes(), layout).unwrap().len(), 1);
        let more = most.clone() + &text(COLUMNS_MAX + 1) + &most;
        let said = refusal(more.as_bytes(), layout);
        assert!(said.starts_with("line 2") && said.contains("more than the 65536"), "{said}");
        let rows: Vec<_> = read_on(more.as_bytes(), layout).map(|row| row.is_ok()).collect();
        assert_eq!(rows, [true, false, true]);
    }
}
