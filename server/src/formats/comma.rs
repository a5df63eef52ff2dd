//! CSV, with any single-byte delimiter. What is kept and what is normalised stands in the [module header](super).

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use super::columns::{Columns, no_key_column};
use super::refusal::Refusal;
use super::separated::{BYTE_ORDER_MARK, Fields, Rows, Unsplit};
use super::{Layout, ReadError, Record, Row, inexpressible, must_make_key, output_failed};
use crate::exit::Failure;

/// Names of the columns of pairs.
const PAIR: [&str; 2] = [KEY, "value"];
const KEY: &str = "key";

pub(super) struct Reader<'a, R> {
    rows: Rows<R>,
    layout: &'a Layout,
    /// Known once the first row was read.
    names: Option<Vec<String>>,
    fields: Fields,
}

impl<'a, R: BufRead> Reader<'a, R> {
    pub(super) fn new(input: R, layout: &'a Layout, record_bytes_max: usize) -> Self {
        let rows = Rows::new(input, layout.delimiter, record_bytes_max);
        Self { rows, layout, names: None, fields: Fields::default() }
    }

    fn read(&mut self) -> Result<Option<Row>, ReadError> {
        if self.names.is_none() && self.layout.header {
            // Without names no row can be read.
            let of_file = |error| match error {
                ReadError::Line(bad) => ReadError::File(bad),
                other => other,
            };
            let Some(line) = self.read_fields().map_err(of_file)? else { return Ok(None) };
            let texts = texts(&self.fields, &[]).map_err(|refusal| ReadError::File(refusal.on(line)))?;
            let names = texts.into_iter().map(str::to_string).collect();
            self.names = Some(check_names(names, self.layout)?);
        }
        let Some(line) = self.read_fields()? else { return Ok(None) };
        if self.names.is_none() {
            self.names = Some(check_names(numbers(self.fields.len()), self.layout)?);
        }
        let names = self.names.as_deref().unwrap_or_default();
        match record(&self.fields, names, self.layout) {
            Ok(record) => Ok(Some(Row { line, record })),
            Err(refusal) => Err(ReadError::Line(refusal.on(line))),
        }
    }

    /// Reads the fields of the next row and gives its line.
    fn read_fields(&mut self) -> Result<Option<u64>, ReadError> {
        let names = self.names.as_deref().unwrap_or_default();
        self.rows.read(&mut self.fields).map_err(|unsplit| match unsplit {
            Unsplit::Row { line, field, what } => {
                ReadError::Line(Refusal::field(&name_of(field, names), what).on(line))
            }
            // It is not one bad line: how many rows were taken into the field is not known.
            Unsplit::Rest { line, field, what } => {
                ReadError::File(Refusal::field(&name_of(field, names), what).on(line))
            }
            Unsplit::Io(error) => ReadError::Io(error),
        })
    }
}

/// Refuses a file of which the first row alone is wrong. That row says how many fields all others must have, so each
/// of them would be bad, and whoever leaves bad lines out would keep nearly nothing of a good file, without an error.
/// It is taken to be wrong if more rows agree with each other on another number of fields than agree with it.
///
/// Reads all of the input, and keeps one row of it. What else is wrong is left to a reader.
pub(super) fn check_first_row(
    input: impl BufRead,
    layout: &Layout,
    record_bytes_max: usize,
) -> Result<(), ReadError> {
    let mut rows = Rows::new(input, layout.delimiter, record_bytes_max);
    let mut fields = Fields::default();
    let mut first = None;
    // By number of fields, how many rows have it, and on which line the first of them begins.
    let mut tally: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    loop {
        match rows.read(&mut fields) {
            Ok(Some(line)) => {
                first.get_or_insert((line, fields.len()));
                let (count, _) = tally.entry(fields.len()).or_insert((0, line));
                *count = count.saturating_add(1);
            }
            // Without names no row can be read.
            Err(Unsplit::Row { .. }) if first.is_none() && layout.header => return Ok(()),
            Err(Unsplit::Row { .. }) => {}
            Ok(None) | Err(Unsplit::Rest { .. }) => break,
            Err(Unsplit::Io(error)) => return Err(ReadError::Io(error)),
        }
    }
    let Some((first_line, fields)) = first else { return Ok(()) };
    let agreeing = tally.get(&fields).map_or(0, |(count, _)| *count);
    match tally.iter().max_by_key(|(_, (count, _))| *count) {
        Some((others, (count, line))) if *count > agreeing => {
            let role = if layout.header {
                "has the names of the columns"
            } else {
                "says how many columns there are"
            };
            let what = format!(
                "{fields} fields, but {count} rows have {others}, the first of them on line {line}; the first row {role}, \
                 so mend or remove it, or say by --delimiter what separates fields"
            );
            Err(ReadError::File(Refusal::whole(what).on(first_line)))
        }
        _ => Ok(()),
    }
}

/// How a message calls a field: by the name of its column, or by its number if that is not known.
fn name_of(field: usize, names: &[String]) -> String {
    names.get(field).cloned().unwrap_or_else(|| field.saturating_add(1).to_string())
}

/// The fields as text; `names` as far as they are known.
fn texts<'a>(fields: &'a Fields, names: &[String]) -> Result<Vec<&'a str>, Refusal> {
    let text = |(number, field)| {
        std::str::from_utf8(field).map_err(|_| {
            let what = "not UTF-8; binary data needs the escaped or hex format";
            Refusal::field(&name_of(number, names), what)
        })
    };
    fields.iter().enumerate().map(text).collect()
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

fn record(fields: &Fields, names: &[String], layout: &Layout) -> Result<Record, Refusal> {
    if fields.len() != names.len() {
        let what = format!("{} fields, but the first row has {}", fields.len(), names.len());
        return Err(Refusal::whole(what));
    }
    let texts = texts(fields, names)?;
    let fields = names.iter().map(String::as_str).zip(texts);
    if layout.key_columns.is_empty() {
        let mut record = Record::default();
        for (name, field) in fields {
            let (notation, place) =
                if name == KEY { (layout.key, &mut record.key) } else { (layout.value, &mut record.value) };
            *place = notation.parse(field).map_err(|what| Refusal::field(name, what))?;
        }
        return Ok(record);
    }
    record_of_columns(fields, layout)
}

/// What a row is whose columns have these names and texts.
fn record_of_columns<'a>(
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    layout: &Layout,
) -> Result<Record, Refusal> {
    let columns = Columns::of_text(fields).map_err(|error| Refusal::whole(error.to_string()))?;
    let key = columns.key(layout)?;
    let value = serde_json::to_vec(&columns).map_err(|error| Refusal::whole(error.to_string()))?;
    Ok(Record { key, value })
}

/// The names that columns have in a file without a header.
fn numbers(columns: usize) -> Vec<String> {
    (1..=columns).map(|number| number.to_string()).collect()
}

pub(super) struct Writer<'a, W> {
    output: W,
    layout: &'a Layout,
    /// Of the first record; all others must have the same.
    names: Option<Vec<String>>,
    line: Vec<u8>,
    is_first_row: bool,
}

impl<'a, W: Write> Writer<'a, W> {
    pub(super) fn new(output: W, layout: &'a Layout) -> Self {
        Self { output, layout, names: None, line: Vec::new(), is_first_row: true }
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
        let names: Vec<String> = columns.names().map(str::to_string).collect();
        let fields: Vec<String> = columns.fields().collect();
        let numbered = if self.layout.header { Vec::new() } else { numbers(names.len()) };
        let names_read = if self.layout.header { &names } else { &numbered };
        let row = names_read.iter().map(String::as_str).zip(fields.iter().map(String::as_str));
        must_make_key(key, record_of_columns(row, self.layout), self.layout)?;
        self.write_names(key, names)?;
        self.write_row(&fields)
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
        self.line.clear();
        let mut is_first = true;
        for field in fields {
            if !is_first {
                self.line.push(self.layout.delimiter);
            }
            self.push_field(field.as_ref(), is_first && self.is_first_row);
            is_first = false;
        }
        if self.line.is_empty() {
            // One empty field; bare, it would be a blank line, which is no row.
            self.line.extend_from_slice(b"\"\"");
        }
        self.line.push(b'\n');
        self.is_first_row = false;
        self.output.write_all(&self.line).map_err(output_failed)
    }

    fn push_field(&mut self, field: &[u8], is_first_of_file: bool) {
        let delimiter = self.layout.delimiter;
        // What begins a file as a byte order mark does would be taken for one.
        let must_be_quoted =
            field.iter().any(|byte| matches!(byte, b'"' | b'\n' | b'\r') || *byte == delimiter)
                || (is_first_of_file && field.starts_with(BYTE_ORDER_MARK));
        if !must_be_quoted {
            return self.line.extend_from_slice(field);
        }
        self.line.push(b'"');
        for byte in field {
            if *byte == b'"' {
                self.line.push(b'"');
            }
            self.line.push(*byte);
        }
        self.line.push(b'"');
    }

    pub(super) fn finish(mut self) -> Result<W, Failure> {
        // An export of pairs without records still says what its columns would be.
        if self.names.is_none() && self.layout.key_columns.is_empty() {
            self.write_names(&[], PAIR.map(String::from).to_vec())?;
        }
        Ok(self.output)
    }
}
