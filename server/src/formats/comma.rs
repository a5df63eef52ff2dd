//! CSV, with any single-byte delimiter. What is kept and what is normalised stands in the [module header](super).

use std::io::{BufRead, Write};

use super::columns::Columns;
use super::{BadInput, Layout, Record, inexpressible, output_failed};
use crate::exit::Failure;

/// Names of the columns of pairs.
const PAIR: [&str; 2] = ["key", "value"];

pub(super) struct Reader<'a, R> {
    rows: csv::Reader<R>,
    layout: &'a Layout,
    /// Known once the first row was read.
    names: Option<Vec<String>>,
    row: csv::StringRecord,
}

impl<'a, R: BufRead> Reader<'a, R> {
    pub(super) fn new(input: R, layout: &'a Layout) -> Self {
        let rows = csv::ReaderBuilder::new()
            .has_headers(layout.header)
            .delimiter(layout.delimiter)
            .from_reader(input);
        Self { rows, layout, names: None, row: csv::StringRecord::new() }
    }

    fn read(&mut self) -> Result<Option<Record>, Failure> {
        if self.names.is_none() && self.layout.header {
            let header = self.rows.headers().map_err(|error| match input_failed(error) {
                Failure::BadLine(bad) => Failure::WrongUse(bad.to_string()),
                other => other,
            })?;
            if header.is_empty() {
                return Ok(None);
            }
            let names: Vec<_> = header.iter().map(str::to_string).collect();
            self.names = Some(check_names(names, self.layout)?);
        }
        if !self.rows.read_record(&mut self.row).map_err(input_failed)? {
            return Ok(None);
        }
        if self.names.is_none() {
            let names = (1..=self.row.len()).map(|number| number.to_string()).collect();
            self.names = Some(check_names(names, self.layout)?);
        }
        let names = self.names.as_deref().unwrap_or_default();
        let record = record(&self.row, names, self.layout);
        let line = self.row.position().map_or(0, csv::Position::line);
        record.map(Some).map_err(|what| BadInput { line, what }.into())
    }
}

impl<R: BufRead> Iterator for Reader<'_, R> {
    type Item = Result<Record, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Refuses names that could not be kept apart, or that are not those of pairs.
fn check_names(names: Vec<String>, layout: &Layout) -> Result<Vec<String>, Failure> {
    // Without names no row can be read, so this is more than one bad line.
    let bad = |what: String| Err(Failure::WrongUse(BadInput { line: 1, what }.to_string()));
    if let Some(twice) =
        names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name))
    {
        return bad(format!("two columns are named {twice}"));
    }
    if !layout.key_columns.is_empty() {
        return Ok(names);
    }
    if !layout.header && names.len() == PAIR.len() {
        return Ok(PAIR.map(String::from).to_vec());
    }
    if names.len() != PAIR.len() || !PAIR.iter().all(|wanted| names.iter().any(|name| name == wanted)) {
        let found = names.join(", ");
        return bad(format!(
            "the columns are {found}, but must be key, value; --key-column takes other columns"
        ));
    }
    Ok(names)
}

fn record(row: &csv::StringRecord, names: &[String], layout: &Layout) -> Result<Record, String> {
    let fields = names.iter().map(String::as_str).zip(row.iter());
    if layout.key_columns.is_empty() {
        let mut record = Record::default();
        for (name, field) in fields {
            let (notation, place) = if name == PAIR[0] {
                (layout.key, &mut record.key)
            } else {
                (layout.value, &mut record.value)
            };
            *place = notation.parse(field).map_err(|what| format!("{name}: {what}"))?;
        }
        return Ok(record);
    }
    let columns = Columns::of_text(fields).map_err(|error| error.to_string())?;
    let key = columns.key(layout)?;
    let value = serde_json::to_vec(&columns).map_err(|error| error.to_string())?;
    Ok(Record { key, value })
}

fn input_failed(error: csv::Error) -> Failure {
    let line = error.position().map_or(1, csv::Position::line);
    let what = match error.into_kind() {
        csv::ErrorKind::Io(error) => return Failure::io("reading the input", error),
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("field {} is not UTF-8; binary data needs the escaped or hex format", err.field() + 1)
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, but the first row has {expected_len}")
        }
        other => format!("{other:?}"),
    };
    BadInput { line, what }.into()
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
