//! Import and export: JSON Lines and CSV, read and written as streams.
//!
//! Both formats have two shapes.
//!
//! - **Pairs** (the default): a record is a key and a value, each as text in a chosen [`Notation`], so any bytes
//!   can pass. JSON Lines has the object `{"key":"…","value":"…"}`, CSV the columns `key` and `value`.
//! - **Columns** (`--key-column NAME`, repeatable): a record is any object or row; the named columns make the key, and
//!   the value is the whole record as one JSON object: for JSON Lines the line as it was, for CSV an object of
//!   strings in the order of the columns. So a table imported from CSV can be exported as JSON Lines, and the other way
//!   round as long as its key is text: in CSV each value of a record becomes text, and without a header columns lose
//!   their names.
//!
//! An export loses no record: one of which an import with the same options would make another key is refused.
//!
//! # When is import, then export, byte-identical?
//!
//! When the input is in *normal form*. Export always writes it, so exporting what was exported before changes nothing.
//!
//! - Records ascend by key, bytewise, and each key occurs once. Each line ends in a single line feed, the last too;
//!   no blank lines, no byte order mark. The options are the same both times.
//! - Escaped, hexadecimal and tuple text is written as the program writes it: no unneeded escapes, lower-case digits.
//! - JSON Lines, pairs: the object has exactly `key`, then `value`, no spaces outside strings, and strings escape
//!   only `"`, `\` and the characters below U+0020, in the short form where there is one, else as lower-case `\u00xx`.
//!   JSON Lines, columns: nothing more; the line is kept byte for byte, apart from spaces around it.
//! - CSV: a header unless `--no-header`, and a field is quoted only if it must be: it contains the delimiter, a
//!   quotation mark, a line break, is the only, empty field of its row, or begins the file as a byte order mark does.
//!
//! Every refusal of an input names its line and, where it is known, its field; of an output the key. Memory needed is
//! that of one record, whose text may have up to 1 GiB, in up to 65,536 columns.

mod columns;
mod comma;
mod json_lines;
mod notation;
mod refusal;
mod separated;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

use std::io::{BufRead, Write};

use crate::exit::Failure;
use crate::visible::beginning;

pub use notation::Notation;
use refusal::Refusal;
pub use refusal::{BadInput, ReadError};

/// A record's text may have this many bytes, so that a file without line breaks does not take all memory. Over ten
/// times what a transaction takes by default, since text may need several characters for a byte.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 30;

/// A row may have this many fields, and the object on a line this many members: each takes memory of its own, many times
/// that of its text if that is short. A row of a gigabyte is a file with another delimiter, or none, sooner than a table
/// of so many columns.
const COLUMNS_MAX: usize = 1 << 16;

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The key as it stands in the keyspace.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What a file looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Rows of separated fields.
    Csv,
}

/// Format and shape of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// JSON Lines or CSV.
    pub format: Format,
    /// How keys stand in the file.
    pub key: Notation,
    /// How values stand in the file; pairs only.
    pub value: Notation,
    /// Names of the columns that make the key; empty for pairs.
    pub key_columns: Vec<String>,
    /// What separates fields; CSV only.
    pub delimiter: u8,
    /// True if the first row has the names of the columns; CSV only. Without it columns are named 1, 2, ….
    pub header: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            format: Format::Jsonl,
            key: Notation::Escaped,
            value: Notation::Escaped,
            key_columns: Vec::new(),
            delimiter: b',',
            header: true,
        }
    }
}

/// A record as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Line of the file on which it begins, counted from 1.
    pub line: u64,
    /// What stands there.
    pub record: Record,
}

/// The records of `input`, one by one.
///
/// Each item is a record or why there is none; after the first failure nothing more comes.
pub fn read<'a>(
    input: impl BufRead + 'a,
    layout: &'a Layout,
) -> Box<dyn Iterator<Item = Result<Row, ReadError>> + 'a> {
    match layout.format {
        Format::Jsonl => Box::new(until_failure(json_lines::Reader::new(input, layout, RECORD_BYTES_MAX))),
        Format::Csv => Box::new(until_failure(comma::Reader::new(input, layout, RECORD_BYTES_MAX))),
    }
}

/// As [`read`], but goes on after each [`ReadError::Line`], which stands for one record. After any other failure
/// nothing more comes.
pub fn read_on<'a>(
    input: impl BufRead + 'a,
    layout: &'a Layout,
) -> Box<dyn Iterator<Item = Result<Row, ReadError>> + 'a> {
    let fatal =
        |item: &Result<Row, ReadError>| matches!(item, Err(error) if !matches!(error, ReadError::Line(_)));
    let rows: Box<dyn Iterator<Item = Result<Row, ReadError>> + 'a> = match layout.format {
        Format::Jsonl => Box::new(json_lines::Reader::new(input, layout, RECORD_BYTES_MAX)),
        Format::Csv => Box::new(comma::Reader::new(input, layout, RECORD_BYTES_MAX)),
    };
    let mut failed = false;
    Box::new(rows.take_while(move |item| !std::mem::replace(&mut failed, fatal(item))))
}

/// Refuses a file whose first row makes bad lines of more rows than agree with it: one that is read by [`read_on`] would
/// lose them all. Reads it to its end; does nothing for JSON Lines, in which no line depends on another.
///
/// # Errors
/// [`ReadError::File`] naming the first row, or [`ReadError::Io`].
pub fn check_first_row(input: impl BufRead, layout: &Layout) -> Result<(), ReadError> {
    match layout.format {
        Format::Jsonl => Ok(()),
        Format::Csv => comma::check_first_row(input, layout, RECORD_BYTES_MAX),
    }
}

fn until_failure<T, E>(items: impl Iterator<Item = Result<T, E>>) -> impl Iterator<Item = Result<T, E>> {
    items.scan(false, |failed, item| (!std::mem::replace(failed, item.is_err())).then_some(item))
}

/// Writes records as a file of some layout.
pub struct Writer<'a, W: Write> {
    sink: Sink<'a, W>,
}

enum Sink<'a, W: Write> {
    JsonLines(json_lines::Writer<'a, W>),
    Csv(comma::Writer<'a, W>),
}

impl<'a, W: Write> Writer<'a, W> {
    /// Starts a file; `output` should be buffered.
    pub fn new(output: W, layout: &'a Layout) -> Self {
        Self {
            sink: match layout.format {
                Format::Jsonl => Sink::JsonLines(json_lines::Writer::new(output, layout)),
                Format::Csv => Sink::Csv(comma::Writer::new(output, layout)),
            },
        }
    }

    /// Writes one record.
    ///
    /// # Errors
    /// If the layout cannot express the record, naming its key, or the output fails.
    pub fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        match &mut self.sink {
            Sink::JsonLines(writer) => writer.write(key, value),
            Sink::Csv(writer) => writer.write(key, value),
        }
    }

    /// Ends the file and hands back the output, flushed.
    ///
    /// # Errors
    /// If the output fails.
    pub fn finish(self) -> Result<W, Failure> {
        let mut output = match self.sink {
            Sink::JsonLines(writer) => writer.finish(),
            Sink::Csv(writer) => writer.finish()?,
        };
        output.flush().map_err(output_failed)?;
        Ok(output)
    }
}

fn output_failed(error: std::io::Error) -> Failure {
    Failure::io("writing the output", error)
}

/// Refuses a record of columns of which an import by the same layout would make another key, or nothing: of two records
/// that got one key it would keep one, without a word. `made` is what the reader makes of the record as it is written.
fn must_make_key(key: &[u8], made: Result<Record, Refusal>, layout: &Layout) -> Result<(), Failure> {
    let shown = |key: &[u8]| {
        let shown = layout.key.format(key).unwrap_or_else(|_| holdfast::escaped::escape(key).into());
        beginning(&shown).into_owned()
    };
    let column = "give the column that its key is made of";
    let (would, way_out) = match made {
        Ok(record) if record.key == key => return Ok(()),
        Ok(record) => {
            let is_text_only = layout.format == Format::Csv && layout.key == Notation::Tuple;
            let way_out =
                if is_text_only { "fields of CSV are text; --format jsonl keeps numbers" } else { column };
            (format!("give it the key {} instead of {}", shown(&record.key), shown(key)), way_out)
        }
        Err(refusal) => (format!("refuse it: {refusal}"), column),
    };
    let columns = layout.key_columns.join(", ");
    let what = format_args!("an import by --key-column {columns} would {would}; {way_out}");
    Err(inexpressible(key, format_args!("{what}, and without --key-column each key stands beside its value")))
}

/// A record that the layout cannot express.
fn inexpressible(key: &[u8], what: impl std::fmt::Display) -> Failure {
    Failure::WrongUse(format!("key \"{}\": {what}", beginning(&holdfast::escaped::escape(key))))
}

#[cfg(test)]
mod tests;
