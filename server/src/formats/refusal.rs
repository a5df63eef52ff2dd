//! Why a file cannot be read: a bad record, a file that is not of this format at all, or an input that failed.
//!
//! The readers know lines and fields; the name of the file is added by who opened it.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::fmt;

/// So many characters of a reason are kept; it may quote the input, which may be large.
const WHAT_CHARS_MAX: usize = 1000;

/// Input that is not what its layout says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadInput {
    /// Line in the file, counted from 1.
    pub line: u64,
    /// The field or column that is meant, if it is known.
    pub field: Option<String>,
    /// What is wrong with it: one line, of bounded length.
    pub what: String,
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "line {}, field {field}: {}", self.line, self.what),
            None => write!(f, "line {}: {}", self.line, self.what),
        }
    }
}

impl BadInput {
    /// A record that begins on `line` and is refused as a whole.
    pub fn new(line: u64, what: impl Into<String>) -> Self {
        Refusal::whole(what).on(line)
    }
}

/// Why reading gives no record.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// One record is bad. What follows it can be read.
    #[error("{0}")]
    Line(BadInput),
    /// Neither this nor what follows can be read: the first row gives no usable names or is at odds with most others,
    /// or a quoted field has no end.
    #[error("{0}")]
    File(BadInput),
    /// The input failed.
    #[error("{0}")]
    Io(std::io::Error),
}

/// What is wrong with a record, from those who do not know its line.
#[derive(Debug)]
pub(super) struct Refusal {
    field: Option<String>,
    what: String,
}

impl Refusal {
    /// The record as a whole is meant.
    pub(super) fn whole(what: impl Into<String>) -> Self {
        Self { field: None, what: what.into() }
    }

    /// One field is meant.
    pub(super) fn field(name: &str, what: impl Into<String>) -> Self {
        Self { field: Some(one_line(name)), what: what.into() }
    }

    pub(super) fn on(self, line: u64) -> BadInput {
        BadInput { line, field: self.field, what: one_line(&self.what) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = one_line(&self.what);
        match &self.field {
            Some(field) => write!(f, "field {field}: {what}"),
            None => f.write_str(&what),
        }
    }
}

/// Text from the input as part of a message: no line breaks or other control characters, and not without end.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == WHAT_CHARS_MAX {
            line.push('…');
            break;
        }
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        let bad = Refusal::field("a\tb", format!("is\n{}", "x".repeat(5000))).on(7);
        let said = bad.to_string();
        assert!(said.starts_with(r"line 7, field a\tb: is\nxxx") && said.ends_with("xx…"), "{said}");
        assert!(said.chars().count() < 1100);
        assert_eq!(BadInput::new(1, "bad").to_string(), "line 1: bad");
    }
}
