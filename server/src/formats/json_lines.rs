//! JSON Lines: one object a line. What is kept and what is normalised stands in the [module header](super).

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use super::columns::Columns;
use super::{BadInput, Layout, Record, inexpressible, output_failed};
use crate::exit::Failure;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair<'a> {
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    value: std::borrow::Cow<'a, str>,
}

pub(super) struct Reader<'a, R> {
    input: R,
    layout: &'a Layout,
    line: u64,
    buffer: Vec<u8>,
}

impl<'a, R: BufRead> Reader<'a, R> {
    pub(super) fn new(input: R, layout: &'a Layout) -> Self {
        Self { input, layout, line: 0, buffer: Vec::new() }
    }

    fn record(&self, line: &[u8]) -> Result<Record, String> {
        if self.layout.key_columns.is_empty() {
            let pair: Pair<'_> = serde_json::from_slice(line).map_err(|error| without_line(&error))?;
            let key = self.layout.key.parse(&pair.key).map_err(|what| format!("key: {what}"))?;
            let value = self.layout.value.parse(&pair.value).map_err(|what| format!("value: {what}"))?;
            return Ok(Record { key, value });
        }
        let columns = Columns::parse(line).map_err(|error| without_line(&error))?;
        Ok(Record { key: columns.key(self.layout)?, value: line.to_vec() })
    }
}

impl<R: BufRead> Iterator for Reader<'_, R> {
    type Item = Result<Record, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.buffer.clear();
            match self.input.read_until(b'\n', &mut self.buffer) {
                Ok(0) => return None,
                Ok(_) => self.line += 1,
                Err(error) => return Some(Err(Failure::io("reading the input", error))),
            }
            let mut line = self.buffer.as_slice();
            if self.line == 1 {
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                let record = self.record(line);
                return Some(record.map_err(|what| BadInput { line: self.line, what }.into()));
            }
        }
    }
}

/// The message with its column, but without "line 1": the parser sees one line at a time.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("not the expected JSON: {what} (at column {})", error.column())
}

pub(super) struct Writer<'a, W> {
    output: W,
    layout: &'a Layout,
}

impl<'a, W: Write> Writer<'a, W> {
    pub(super) fn new(output: W, layout: &'a Layout) -> Self {
        Self { output, layout }
    }

    pub(super) fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let line = if self.layout.key_columns.is_empty() {
            let shown_key = self.layout.key.format(key).map_err(|what| inexpressible(key, what))?;
            let shown = self.layout.value.format(value).map_err(|what| inexpressible(key, what))?;
            let pair = Pair { key: shown_key, value: shown };
            serde_json::to_vec(&pair).map_err(|error| inexpressible(key, error))?
        } else {
            if value.contains(&b'\n') || Columns::parse(value).is_err() {
                return Err(inexpressible(key, "the value is not one line with a JSON object"));
            }
            value.to_vec()
        };
        self.output.write_all(&line).and_then(|()| self.output.write_all(b"\n")).map_err(output_failed)
    }

    pub(super) fn finish(self) -> W {
        self.output
    }
}
