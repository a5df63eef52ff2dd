//! JSON Lines: one object a line. What is kept and what is normalised stands in the [module header](super).

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::io::{BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use super::columns::Columns;
use super::refusal::Refusal;
use super::{Layout, ReadError, Record, Row, inexpressible, must_make_key, output_failed};
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
    record_bytes_max: usize,
    line: u64,
    buffer: Vec<u8>,
}

impl<'a, R: BufRead> Reader<'a, R> {
    pub(super) fn new(input: R, layout: &'a Layout, record_bytes_max: usize) -> Self {
        Self { input, layout, record_bytes_max, line: 0, buffer: Vec::new() }
    }

    /// Reads a line into the buffer, `false` at the end of the input. Of one that is too long the rest is passed over.
    fn read_line(&mut self) -> Result<bool, ReadError> {
        self.buffer.clear();
        let limit = self.record_bytes_max as u64;
        let mut line = self.input.by_ref().take(limit.saturating_add(1));
        if line.read_until(b'\n', &mut self.buffer).map_err(ReadError::Io)? == 0 {
            return Ok(false);
        }
        self.line = self.line.saturating_add(1);
        if self.buffer.len() <= self.record_bytes_max || self.buffer.ends_with(b"\n") {
            return Ok(true);
        }
        self.input.skip_until(b'\n').map_err(ReadError::Io)?;
        Err(ReadError::Line(Refusal::whole(format!("longer than {limit} bytes")).on(self.line)))
    }
}

impl<R: BufRead> Iterator for Reader<'_, R> {
    type Item = Result<Row, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read_line() {
                Ok(true) => (),
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            let mut line = self.buffer.as_slice();
            if self.line == 1 {
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                let (line, record) = (self.line, record(line, self.layout));
                let row = record.map(|record| Row { line, record });
                return Some(row.map_err(|refusal| ReadError::Line(refusal.on(line))));
            }
        }
    }
}

/// What stands on a line, without the spaces around it.
fn record(line: &[u8], layout: &Layout) -> Result<Record, Refusal> {
    // An array of two strings would otherwise pass for a pair.
    if !line.starts_with(b"{") {
        return Err(Refusal::whole("not the expected JSON: a row is an object, {…} (at column 1)"));
    }
    if layout.key_columns.is_empty() {
        let pair: Pair<'_> = serde_json::from_slice(line).map_err(|error| without_line(&error))?;
        let parsed = |name, parsed: Result<_, String>| parsed.map_err(|what| Refusal::field(name, what));
        return Ok(Record {
            key: parsed("key", layout.key.parse(&pair.key))?,
            value: parsed("value", layout.value.parse(&pair.value))?,
        });
    }
    let columns = Columns::parse(line).map_err(|error| without_line(&error))?;
    Ok(Record { key: columns.key(layout)?, value: line.to_vec() })
}

/// The message with its column, but without "line 1": the parser sees one line at a time.
fn without_line(error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    Refusal::whole(format!("not the expected JSON: {what} (at column {})", error.column()))
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
            if value.contains(&b'\n') || value.trim_ascii() != value {
                let what = "the value is not one line with a JSON object and nothing around it";
                return Err(inexpressible(key, what));
            }
            must_make_key(key, record(value, self.layout), self.layout)?;
            value.to_vec()
        };
        self.output.write_all(&line).and_then(|()| self.output.write_all(b"\n")).map_err(output_failed)
    }

    pub(super) fn finish(self) -> W {
        self.output
    }
}
