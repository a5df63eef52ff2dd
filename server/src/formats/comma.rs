//! CSV, with any single-byte delimiter. What is kept and what is normalised stands in the [module header](super).

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::io::{self, BufRead, Read, Write};

use super::columns::{Columns, no_key_column};
use super::refusal::Refusal;
use super::{Layout, ReadError, Record, Row, inexpressible, output_failed};
use crate::exit::Failure;

/// An input that gives so many bytes and then an error. What the parser has read ahead comes from before, so a record
/// may be a buffer's length longer.
struct Bounded<R> {
    input: R,
    bytes_max: usize,
    bytes_left: usize,
}

impl<R> Bounded<R> {
    fn begin_record(&mut self) {
        self.bytes_left = self.bytes_max;
    }
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes_left == 0 {
            let what = format!("the record has no end within {} bytes", self.bytes_max);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        let bytes = self.input.by_ref().take(self.bytes_left as u64).read(buffer)?;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        Ok(bytes)
    }
}

/// Names of the columns of pairs.
const PAIR: [&str; 2] = [KEY, "value"];
const KEY: &str = "key";

pub(super) struct Reader<'a, R> {
    rows: csv::Reader<Bounded<R>>,
    layout: &'a Layout,
    /// Known once the first row was read.
    names: Option<Vec<String>>,
    row: csv::StringRecord,
}

impl<'a, R: BufRead> Reader<'a, R> {
    pub(super) fn new(input: R, layout: &'a Layout, record_bytes_max: usize) -> Self {
        let rows = csv::ReaderBuilder::new()
            .has_headers(layout.header)
            .delimiter(layout.delimiter)
            .from_reader(Bounded { input, bytes_max: record_bytes_max, bytes_left: record_bytes_max });
        Self { rows, layout, names: None, row: csv::StringRecord::new() }
    }

    fn read(&mut self) -> Result<Option<Row>, ReadError> {
        self.rows.get_mut().begin_record();
        if self.names.is_none() && self.layout.header {
            let line = self.rows.position().line();
            let header = self.rows.headers().map_err(|error| match input_failed(error, &[], line) {
                ReadError::Line(bad) => ReadError::File(bad),
                other => other,
            })?;
            if header.is_empty() {
                return Ok(None);
            }
            let names: Vec<_> = header.iter().map(str::to_string).collect();
            self.names = Some(check_names(names, self.layout)?);
        }
        let names = self.names.as_deref().unwrap_or_default();
        let line = self.rows.position().line();
        if !self.rows.read_record(&mut self.row).map_err(|error| input_failed(error, names, line))? {
            return Ok(None);
        }
        if self.names.is_none() {
            let names = (1..=self.row.len()).map(|number| number.to_string()).collect();
            self.names = Some(check_names(names, self.layout)?);
        }
        let names = self.names.as_deref().unwrap_or_default();
        let record = record(&self.row, names, self.layout);
        let line = self.row.position().map_or(0, csv::Position::line);
        match record {
            Ok(record) => Ok(Some(Row { line, record })),
            Err(refusal) => Err(ReadError::Line(refusal.on(line))),
        }
    }
}

impl<R: BufRead> Iterator for Reader<'_, R> {
    type Item = Result<Row, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Refuses names that could not be kept apart, that are not those of pairs, or that lack a key column.
fn check_names(names: Vec<String>, layout: &Layout) -> Result<Vec<String>, ReadError> {
    // Without names no row can be read, so this is more than one bad line.
    let bad = |refusal: Refusal| Err(ReadError::File(refusal.on(1)));
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    if let Some([twice, _]) = sorted.array_windows().find(|[one, next]| one == next) {
        return bad(Refusal::whole(format!("two columns are named {twice}")));
    }
    if !layout.key_columns.is_empty() {
        return match layout.key_columns.iter().find(|wanted| !names.contains(wanted)) {
            Some(wanted) => bad(no_key_column(wanted, names.iter().map(String::as_str))),
            None => Ok(names),
        };
    }
    if !layout.header && names.len() == PAIR.len() {
        return Ok(PAIR.map(String::from).to_vec());
    }
    if names.len() != PAIR.len() || !PAIR.iter().all(|wanted| names.iter().any(|name| name == wanted)) {
        let found = names.join(", ");
        return bad(Refusal::whole(format!(
            "the columns must be key, value, or --key-column must name others; they are: {found}"
        )));
    }
    Ok(names)
}

fn record(row: &csv::StringRecord, names: &[String], layout: &Layout) -> Result<Record, Refusal> {
    let fields = names.iter().map(String::as_str).zip(row.iter());
    if layout.key_columns.is_empty() {
        let mut record = Record::default();
        for (name, field) in fields {
            let (notation, place) =
                if name == KEY { (layout.key, &mut record.key) } else { (layout.value, &mut record.value) };
            *place = notation.parse(field).map_err(|what| Refusal::field(name, what))?;
        }
        return Ok(record);
    }
    let columns = Columns::of_text(fields).map_err(|error| Refusal::whole(error.to_string()))?;
    let key = columns.key(layout)?;
    let value = serde_json::to_vec(&columns).map_err(|error| Refusal::whole(error.to_string()))?;
    Ok(Record { key, value })
}

/// What `csv` refused; `names` as far as they are known, `line` where it went on reading.
fn input_failed(error: csv::Error, names: &[String], line: u64) -> ReadError {
    let line = error.position().map_or(line, csv::Position::line);
    let refusal = match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let what = format!("{error}; is a quotation mark never closed?");
            return ReadError::File(Refusal::whole(what).on(line));
        }
        csv::ErrorKind::Io(error) => return ReadError::Io(error),
        csv::ErrorKind::Utf8 { err, .. } => {
            let number = err.field().saturating_add(1).to_string();
            let name = names.get(err.field()).unwrap_or(&number);
            Refusal::field(name, "not UTF-8; binary data needs the escaped or hex format")
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Refusal::whole(format!("{len} fields, but the first row has {expected_len}"))
        }
        other => Refusal::whole(format!("{other:?}")),
    };
    ReadError::Line(refusal.on(line))
}

pub(super) struct Writer<'a, W: Write> {
    rows: csv::Writer<W>,
    layout: &'a Layout,
    /// Of the first record; all others must have the same.
    names: Option<Vec<String>>,
}

impl<'a, W: Write> Writer<'a, W> {
    pub(super) fn new(output: W, layout: &'a Layout) -> Self {
        let rows = csv::WriterBuilder::new()
            .delimiter(layout.delimiter)
            .quote_style(csv::QuoteStyle::Necessary)
            .from_writer(output);
        Self { rows, layout, names: None }
    }

    pub(super) fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        if self.layout.key_columns.is_empty() {
            self.write_names(key, PAIR.map(String::from).to_vec())?;
            let shown_key = self.layout.key.format(key).map_err(|what| inexpressible(key, what))?;
            let shown = self.layout.value.format(value).map_err(|what| inexpressible(key, what))?;
            return self.write_row([&*shown_key, &*shown]);
        }
        let columns = Columns::parse(value)
            .map_err(|error| inexpressible(key, format_args!("the value is not a JSON object: {error}")))?;
        self.write_names(key, columns.names().map(str::to_string).collect())?;
        self.write_row(columns.fields())
    }

    fn write_names(&mut self, key: &[u8], names: Vec<String>) -> Result<(), Failure> {
        match &self.names {
            Some(first) if *first == names => Ok(()),
            Some(first) => {
                let (first, these) = (first.join(", "), names.join(", "));
                Err(inexpressible(
                    key,
                    format_args!("its columns are {these}, but the first record's are {first}"),
                ))
            }
            None => {
                if self.layout.header {
                    self.write_row(&names)?;
                }
                self.names = Some(names);
                Ok(())
            }
        }
    }

    fn write_row(&mut self, fields: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<(), Failure> {
        self.rows.write_record(fields).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => output_failed(error),
            other => Failure::WrongUse(format!("writing CSV: {other:?}")),
        })
    }

    pub(super) fn finish(mut self) -> Result<W, Failure> {
        // An export of pairs without records still says what its columns would be.
        if self.names.is_none() && self.layout.key_columns.is_empty() {
            self.write_names(&[], PAIR.map(String::from).to_vec())?;
        }
        self.rows.into_inner().map_err(|error| output_failed(error.into_error()))
    }
}
