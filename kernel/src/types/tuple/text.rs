//! Keys as people type and read them.
//!
//! ```text
//! key     = tuple | element                           a lone element is a key of one
//! tuple   = "(" [ element { "," element } [ "," ] ] ")"
//! element = null | true | false
//!         | 42 | -7                                   integer: digits only, -2^127 to 2^127-1
//!         | 1.5 | 2e10 | inf | -inf | nan             float: has a point or an exponent, or is a word; rounded to
//!                                                     the nearest, but none from 1.8e308 on: infinity is said by name
//!         | "text"                                    in the escape syntax, with \" for a quotation mark
//!         | x'00ff'                                   bytes, two hexadecimal digits each
//!         | id'550e8400-e29b-41d4-a716-446655440000'  sixteen bytes; hyphens are optional
//!         | desc( element )                           in descending order
//!         | tuple                                     nested
//! ```
//!
//! Spaces may stand between any two of these. What [`format_tuple`] writes, [`parse_tuple`] reads back as the same
//! key.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::fmt::{self, Write as _};

use super::{DEPTH_MAX, Element, Id};
use crate::types::escape::{escape, hex_byte, unescape};

/// Text that is not a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTuple {
    /// What is wrong, and what could stand there instead.
    pub what: String,
    /// Byte position in the text.
    pub at: usize,
}

impl fmt::Display for BadTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.what, self.at)
    }
}

impl std::error::Error for BadTuple {}

/// The key that `text` describes.
///
/// # Errors
/// [`BadTuple`] naming what is wrong and where.
pub fn parse_tuple(text: &str) -> Result<Vec<Element>, BadTuple> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.skip_spaces();
    let elements = if parser.rest().starts_with('(') { parser.tuple()? } else { vec![parser.element()?] };
    parser.skip_spaces();
    if parser.rest().is_empty() { Ok(elements) } else { Err(parser.bad("unexpected text behind the key")) }
}

/// A key as text; never contains a line break.
pub fn format_tuple(elements: &[Element]) -> String {
    let mut out = String::new();
    format_elements(elements, &mut out);
    out
}

fn format_elements(elements: &[Element], out: &mut String) {
    out.push('(');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        format_element(element, out);
    }
    out.push(')');
}

fn format_element(element: &Element, out: &mut String) {
    match element {
        Element::Null => out.push_str("null"),
        Element::Bool(value) => push(out, format_args!("{value}")),
        Element::Integer(value) => push(out, format_args!("{value}")),
        Element::Float(value) if value.is_nan() => out.push_str("nan"),
        // Debug keeps a point or an exponent, so a float never reads as an integer.
        Element::Float(value) => push(out, format_args!("{value:?}")),
        Element::Bytes(bytes) => {
            out.push_str("x'");
            bytes.iter().for_each(|byte| push(out, format_args!("{byte:02x}")));
            out.push('\'');
        }
        Element::Text(text) => {
            push(out, format_args!("\"{}\"", escape(text.as_bytes()).replace('"', "\\\"")))
        }
        Element::Id(Id(bytes)) => {
            out.push_str("id'");
            for (index, byte) in bytes.iter().enumerate() {
                let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                push(out, format_args!("{hyphen}{byte:02x}"));
            }
            out.push('\'');
        }
        Element::Tuple(elements) => format_elements(elements, out),
        Element::Descending(element) => {
            out.push_str("desc(");
            format_element(element, out);
            out.push(')');
        }
    }
}

fn push(out: &mut String, what: fmt::Arguments<'_>) {
    let written = out.write_fmt(what);
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Open parentheses of tuples.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Steps over `len` bytes, which stand in `rest`.
    fn step(&mut self, len: usize) {
        self.at = self.at.saturating_add(len);
    }

    fn bad(&self, what: impl Into<String>) -> BadTuple {
        BadTuple { what: what.into(), at: self.at }
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len().saturating_sub(self.rest().trim_start().len());
    }

    /// Steps over `wanted`, if it stands here.
    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        self.step(if found { wanted.len_utf8() } else { 0 });
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), BadTuple> {
        self.skip_spaces();
        if self.take(wanted) {
            return Ok(());
        }
        Err(match self.rest().chars().next() {
            Some(found) => self.bad(format!("expected '{wanted}', found '{}'", found.escape_debug())),
            None => self.bad(format!("expected '{wanted}', but the text ends")),
        })
    }

    fn tuple(&mut self) -> Result<Vec<Element>, BadTuple> {
        // The outermost tuple is the key itself and does not count as nested.
        if self.depth > DEPTH_MAX {
            return Err(self.bad(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.expect('(')?;
        self.depth = self.depth.saturating_add(1);
        let mut elements = Vec::new();
        loop {
            self.skip_spaces();
            if self.take(')') {
                break;
            }
            elements.push(self.element()?);
            self.skip_spaces();
            if !self.take(',') {
                self.expect(')')
                    .map_err(|bad| BadTuple { what: bad.what.replace("')'", "',' or ')'"), ..bad })?;
                break;
            }
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(elements)
    }

    fn element(&mut self) -> Result<Element, BadTuple> {
        self.skip_spaces();
        if self.rest().starts_with('(') {
            return self.tuple().map(Element::Tuple);
        }
        if self.rest().starts_with('"') {
            return self.text().map(Element::Text);
        }
        let start = self.at;
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        let rest = self.rest();
        let word = rest.split(|c| !is_word(c)).next().unwrap_or_default();
        self.step(word.len());
        match word {
            "null" => Ok(Element::Null),
            "true" => Ok(Element::Bool(true)),
            "false" => Ok(Element::Bool(false)),
            "inf" => Ok(Element::Float(f64::INFINITY)),
            "-inf" => Ok(Element::Float(f64::NEG_INFINITY)),
            "nan" => Ok(Element::Float(f64::NAN)),
            "desc" => {
                self.expect('(')?;
                self.skip_spaces();
                // Twice descending is ascending; refusing it also bounds the recursion.
                if self.rest().starts_with("desc") {
                    return Err(self.bad("desc stands directly inside desc"));
                }
                let element = self.element()?;
                self.expect(')')?;
                Ok(Element::Descending(Box::new(element)))
            }
            "x" => self.hex(false).map(Element::Bytes),
            "id" => {
                let bytes = self.hex(true)?;
                let len = bytes.len();
                let what = || BadTuple { what: format!("an id has 16 bytes, not {len}"), at: start };
                bytes.try_into().map(|bytes| Element::Id(Id(bytes))).map_err(|_| what())
            }
            _ => number(word).map_err(|what| BadTuple { what, at: start }),
        }
    }

    /// A string in double quotes.
    fn text(&mut self) -> Result<String, BadTuple> {
        let start = self.at;
        self.step(1);
        let mut is_escaped = false;
        let quoted = self.rest().split_once(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let Some((quoted, _)) = quoted else {
            return Err(BadTuple { what: "the quotation mark is never closed".into(), at: start });
        };
        let bytes = unescape(quoted)
            .map_err(|bad| BadTuple { what: bad.what.into(), at: self.at.saturating_add(bad.at) })?;
        self.step(quoted.len());
        self.step(1);
        String::from_utf8(bytes)
            .map_err(|_| BadTuple { what: "the text is not UTF-8; write bytes as x'…'".into(), at: start })
    }

    /// Hexadecimal digits between single quotes.
    fn hex(&mut self, hyphens: bool) -> Result<Vec<u8>, BadTuple> {
        self.expect('\'')?;
        let mut bytes = Vec::new();
        loop {
            match self.rest().as_bytes() {
                [b'\'', ..] => {
                    self.step(1);
                    return Ok(bytes);
                }
                [b'-', ..] if hyphens => self.step(1),
                [high, low, ..] if let Some(byte) = hex_byte(*high, *low) => {
                    bytes.push(byte);
                    self.step(2);
                }
                [] => return Err(self.bad("the quotation mark is never closed")),
                _ => return Err(self.bad("expected two hexadecimal digits or '")),
            }
        }
    }
}

fn number(word: &str) -> Result<Element, String> {
    if word.is_empty() {
        return Err(
            "expected an element, such as 42, 1.5, \"text\", x'00ff', true, null, desc(…) or (…)".into()
        );
    }
    let digits = word.strip_prefix('-').unwrap_or(word);
    if digits.bytes().all(|c| c.is_ascii_digit()) && !digits.is_empty() {
        let integer = word.parse().map(Element::Integer);
        return integer.map_err(|_| format!("the integer {word} does not fit into 128 bits"));
    }
    if digits.starts_with(|c: char| c.is_ascii_digit())
        && let Ok(value) = word.parse::<f64>()
    {
        // Rounded to infinity it would be another key than the one that was typed.
        return match value.is_finite() {
            true => Ok(Element::Float(value)),
            false => Err(format!(
                "the float {word} is out of range, -1.8e308 to 1.8e308; infinity is written inf or -inf"
            )),
        };
    }
    Err(format!("'{word}' is neither a number nor a known word; text stands in double quotes"))
}
