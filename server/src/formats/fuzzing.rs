//! What `import` reads, under arbitrary bytes: one function for the fuzzer and for the tests, as `holdfast::fuzzing` has
//! for the kernel's decoders. Present in tests and under `--cfg fuzzing` only.
//!
//! ```text
//! input := layout (one byte, see LAYOUTS) | the file
//! ```

use super::{BadInput, Format, Layout, Notation, ReadError, Record, Row, Writer, read, read_on};

fn layouts() -> Vec<Layout> {
    let columns = |format, names: &[&str], key| Layout {
        format,
        key,
        key_columns: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Layout::default()
    };
    let csv = Layout { format: Format::Csv, ..Layout::default() };
    vec![
        Layout::default(),
        Layout { key: Notation::Tuple, value: Notation::Hex, ..Layout::default() },
        Layout { key: Notation::Raw, value: Notation::Raw, ..Layout::default() },
        columns(Format::Jsonl, &["id", "n"], Notation::Tuple),
        columns(Format::Jsonl, &["id"], Notation::Raw),
        csv.clone(),
        Layout { delimiter: b';', header: false, key: Notation::Raw, value: Notation::Raw, ..csv },
        columns(Format::Csv, &["id", "n"], Notation::Tuple),
        Layout { header: false, ..columns(Format::Csv, &["2"], Notation::Escaped) },
    ]
}

/// Reads a file in one of several layouts. Each refusal names a line of the file, reading on gives what reading gave,
/// and records that the layout can express come back as they were.
///
/// # Panics
/// If a promise is broken.
pub fn check(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let layouts = layouts();
    let layout = &layouts[usize::from(*choice) % layouts.len()];
    let all: Vec<Result<Row, ReadError>> = read_on(text, layout).collect();
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
    assert!(all.len() as u64 <= lines, "no more records than lines");
    for item in &all {
        let line = match item {
            Ok(row) => row.line,
            Err(
                ReadError::Line(BadInput { line, what, .. }) | ReadError::File(BadInput { line, what, .. }),
            ) => {
                assert!(!what.is_empty() && !what.contains('\n'), "{what:?}");
                *line
            }
            Err(ReadError::Io(error)) => panic!("memory cannot fail: {error}"),
        };
        assert!((1..=lines).contains(&line), "{item:?}: there are {lines} lines");
    }
    let good: Vec<Row> = all.into_iter().map_while(Result::ok).collect();
    let until: Vec<Row> = read(text, layout).map_while(Result::ok).collect();
    assert_eq!(until, good);
    let records: Vec<Record> = good.into_iter().map(|row| row.record).collect();
    check_written(&records, layout);
}

/// What the layout can express comes back, and is written alike again.
fn check_written(records: &[Record], layout: &Layout) {
    let write = |records: &[Record]| {
        let mut writer = Writer::new(Vec::new(), layout);
        for record in records {
            writer.write(&record.key, &record.value)?;
        }
        writer.finish()
    };
    let Ok(text) = write(records) else { return };
    let again: Result<Vec<Record>, ReadError> =
        read(&text[..], layout).map(|row| row.map(|row| row.record)).collect();
    let again = again.unwrap_or_else(|failure| panic!("{:?}: {failure}", String::from_utf8_lossy(&text)));
    assert_eq!(again, records);
    let twice = write(&again).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(twice, text);
}

/// Files from which a fuzzer should start, one for each layout and some that are refused.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "{\"key\":\"a\",\"value\":\"\\\\x00\"}\n{\"key\":\"b\",\"value\":\"\\u00e9\"}\n",
        "{\"key\":\"(1, \\\"x\\\")\",\"value\":\"00ff\"}\n",
        "{\"value\":\"1\",\"key\":\"k\"}\r\n\n  {\"key\":\"l\",\"value\":\"\"}",
        "{\"id\":\"a\",\"n\":12345678901234567890123456789,\"more\":[1.50,null]}\n{\"n\":1.5,\"id\":null}\n",
        "{ \"id\" : \"x\", \"n\": 1 }\n",
        "key,value\na,\"1,5\"\nb,\"\"\"q\"\"\"\nc,\n",
        "a;1\nb;\"2\r\n\"\n",
        "id,n,text\na,1,\"x\ny\"\nb,,\n",
        "x,1\ny,2\n",
    ];
    let with = |(choice, text): (usize, &&str)| [&[choice as u8], text.as_bytes()].concat();
    let mut seeds: Vec<Vec<u8>> = texts.iter().enumerate().map(with).collect();
    seeds.push([&[0], "\u{feff}{\"key\":\"a\"}".as_bytes()].concat());
    seeds.push([&[5], "\u{feff}value,key\r\n1,a\r\nb\n".as_bytes()].concat());
    seeds.push([&[6], "\"\u{feff}a\";1\n\u{feff}b;2\n".as_bytes()].concat());
    seeds.push([&[5], "key,value\nb,\"q\"tail\nc,3\"\nd,\"4\n".as_bytes()].concat());
    seeds
}
