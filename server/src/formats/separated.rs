//! Rows of separated fields, split as RFC 4180 has them, and what that does not allow refused.
//!
//! ```text
//! a,"b ""c"", d"      a quoted field begins and ends with a quotation mark; within it, one is written as two
//! a,"b"c              refused: something stands behind the quotation mark that ends the field
//! a,b"c               refused: a quotation mark within a field that does not begin with one
//! a,"b                refused at the end of the input: nobody can say how many rows the field took up
//! ```
//!
//! A splitter that guesses what such a row was meant to say (as libraries for CSV do, by dropping the mark or by taking
//! the rest of the file into one field) changes data without a word, so this one is our own. Lenient is only what cannot
//! be meant otherwise: a row ends with a line feed, a carriage return or both, the last one also without; blank lines
//! are passed over, and so is a byte order mark at the very beginning. Behind a quotation mark it is data.
//!
//! A row of too many fields is refused at the first that is one too many, so that a file of nothing but delimiters takes
//! no more memory than another. Of a refused row the rest of its line is passed over unread, so that the next line can be tried.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::io::{self, BufRead, Chain, Cursor, Read};

use super::COLUMNS_MAX;

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The fields of one row, without their quotation marks.
#[derive(Default)]
pub(super) struct Fields {
    bytes: Vec<u8>,
    /// Where each field ends in `bytes`.
    ends: Vec<usize>,
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}

/// Why there is no row.
pub(super) enum Unsplit {
    /// The row that begins on `line` is bad in its field of this index; the next one can be read.
    Row { line: u64, field: usize, what: String },
    /// The quoted field that begins on `line` has no end.
    Rest { line: u64, field: usize, what: String },
    /// The input failed.
    Io(io::Error),
}

pub(super) struct Rows<R> {
    /// What of the first bytes was read to look for a byte order mark and was none, then the input.
    input: Chain<Cursor<Vec<u8>>, R>,
    begun: bool,
    splitter: Splitter,
}

impl<R: BufRead> Rows<R> {
    pub(super) fn new(input: R, delimiter: u8, row_bytes_max: usize) -> Self {
        let input = Cursor::new(Vec::new()).chain(input);
        Self { input, begun: false, splitter: Splitter::new(delimiter, row_bytes_max) }
    }

    /// Reads the next row into `fields` and gives the line on which it begins; `None` at the end of the input.
    pub(super) fn read(&mut self, fields: &mut Fields) -> Result<Option<u64>, Unsplit> {
        if !self.begun {
            self.pass_byte_order_mark().map_err(Unsplit::Io)?;
            self.begun = true;
        }
        self.splitter.begin_row(fields);
        loop {
            let chunk = match self.input.fill_buf() {
                Ok([]) => return self.splitter.at_end(fields),
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Unsplit::Io(error)),
            };
            let mut used: usize = 0;
            let mut outcome = Step::More;
            for byte in chunk {
                used = used.saturating_add(1);
                outcome = self.splitter.step(*byte, fields);
                if !matches!(outcome, Step::More) {
                    break;
                }
            }
            self.input.consume(used);
            match outcome {
                Step::More => {}
                Step::RowEnds => return self.splitter.row(),
                Step::TooLong => return Err(self.splitter.endless(fields)),
            }
        }
    }

    fn pass_byte_order_mark(&mut self) -> io::Result<()> {
        let (first, rest) = self.input.get_mut();
        rest.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(first.get_mut())?;
        if first.get_ref() == BYTE_ORDER_MARK {
            first.get_mut().clear();
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first byte of a row.
    RowBegins,
    /// Behind a delimiter.
    FieldBegins,
    /// In a field without quotation marks.
    Plain,
    /// Between the quotation marks of a field.
    Quoted,
    /// Behind a quotation mark in a quoted field: its end, or the first of two.
    Closed,
    /// In what is left of a line whose row is refused.
    Refused,
}

enum Step {
    More,
    RowEnds,
    /// A quoted field makes the row longer than any may be.
    TooLong,
}

struct Splitter {
    delimiter: u8,
    row_bytes_max: usize,
    state: State,
    /// Of the next byte, from 1.
    line: u64,
    /// True if the last byte was a carriage return; a line feed behind it belongs to the same line break.
    is_behind_return: bool,
    row_line: u64,
    row_bytes: usize,
    /// Line on which the quoted field began.
    quote_line: u64,
    refused: Option<(usize, String)>,
}

impl Splitter {
    fn new(delimiter: u8, row_bytes_max: usize) -> Self {
        Self {
            delimiter,
            row_bytes_max,
            state: State::RowBegins,
            line: 1,
            is_behind_return: false,
            row_line: 1,
            row_bytes: 0,
            quote_line: 1,
            refused: None,
        }
    }

    fn begin_row(&mut self, fields: &mut Fields) {
        fields.bytes.clear();
        fields.ends.clear();
        self.state = State::RowBegins;
        self.row_bytes = 0;
        self.refused = None;
    }

    fn step(&mut self, byte: u8, fields: &mut Fields) -> Step {
        let line = self.line;
        let is_break = matches!(byte, b'\n' | b'\r');
        if is_break && !(byte == b'\n' && self.is_behind_return) {
            self.line = self.line.saturating_add(1);
        }
        self.is_behind_return = byte == b'\r';
        if self.state == State::RowBegins {
            if is_break {
                return Step::More;
            }
            self.row_line = line;
        }
        self.row_bytes = self.row_bytes.saturating_add(1);
        if self.row_bytes > self.row_bytes_max && self.state != State::Refused {
            if matches!(self.state, State::Quoted | State::Closed) {
                return Step::TooLong;
            }
            self.refuse(fields, format!("the row is longer than {} bytes", self.row_bytes_max));
        }
        match self.state {
            State::Quoted if byte == b'"' => self.state = State::Closed,
            State::Quoted => fields.bytes.push(byte),
            State::Closed if byte == b'"' => {
                fields.bytes.push(byte);
                self.state = State::Quoted;
            }
            State::Refused if is_break => return Step::RowEnds,
            State::Refused => {}
            _ if is_break || byte == self.delimiter => {
                fields.ends.push(fields.bytes.len());
                self.state = State::FieldBegins;
                if is_break {
                    return Step::RowEnds;
                }
                if fields.len() >= COLUMNS_MAX {
                    self.refuse(fields, format!("one field more than the {COLUMNS_MAX} that a row may have"));
                }
            }
            State::RowBegins | State::FieldBegins if byte == b'"' => {
                self.state = State::Quoted;
                self.quote_line = line;
            }
            State::Closed => self.refuse(
                fields,
                "something stands behind the quotation mark that ends the field; within a quoted field a quotation \
                 mark is written as two"
                    .to_string(),
            ),
            State::Plain if byte == b'"' => self.refuse(
                fields,
                "a quotation mark stands within a field that does not begin with one; quote the field, and write \
                 each quotation mark in it as two"
                    .to_string(),
            ),
            State::RowBegins | State::FieldBegins | State::Plain => {
                fields.bytes.push(byte);
                self.state = State::Plain;
            }
        }
        Step::More
    }

    fn refuse(&mut self, fields: &Fields, what: String) {
        self.refused = Some((fields.len(), what));
        self.state = State::Refused;
    }

    fn row(&mut self) -> Result<Option<u64>, Unsplit> {
        match self.refused.take() {
            Some((field, what)) => Err(Unsplit::Row { line: self.row_line, field, what }),
            None => Ok(Some(self.row_line)),
        }
    }

    fn at_end(&mut self, fields: &mut Fields) -> Result<Option<u64>, Unsplit> {
        match self.state {
            State::RowBegins => Ok(None),
            State::Quoted => Err(Unsplit::Rest {
                line: self.quote_line,
                field: fields.len(),
                what: "the quotation mark that begins this field is never closed, so what follows cannot be told \
                       from it"
                    .to_string(),
            }),
            State::Refused => self.row(),
            State::FieldBegins | State::Plain | State::Closed => {
                fields.ends.push(fields.bytes.len());
                self.row()
            }
        }
    }

    fn endless(&self, fields: &Fields) -> Unsplit {
        let what = format!(
            "the record has no end within {} bytes; is a quotation mark never closed?",
            self.row_bytes_max
        );
        Unsplit::Rest { line: self.quote_line, field: fields.len(), what }
    }
}
