//! A key without a type known beforehand: what any key decodes to.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::encode::{append_descending, append_escaped, append_integer};
use super::{DecodeKey, EncodeKey, Id, KeyReader, tag};
use crate::codec::BadBytes;

/// One element of a key.
///
/// A whole key is `Vec<Element>`, written and read by [`EncodeKey`] and [`DecodeKey`]. Tuples nested deeper than
/// [`DEPTH_MAX`](super::DEPTH_MAX) encode, but do not decode.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// Nothing; sorts first.
    Null,
    /// `false` sorts before `true`.
    Bool(bool),
    /// Any integer type.
    Integer(i128),
    /// A float; -0.0 is stored as 0.0 and every NaN as one that sorts above infinity.
    Float(f64),
    /// Any bytes.
    Bytes(Vec<u8>),
    /// UTF-8, sorted by code point.
    Text(String),
    /// Sixteen bytes.
    Id(Id),
    /// A nested tuple.
    Tuple(Vec<Element>),
    /// An element in descending order. Descending twice is ascending, and read back as such.
    Descending(Box<Element>),
}

impl EncodeKey for Element {
    fn append_element(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(tag::NULL),
            Self::Bool(value) => value.append_element(out),
            Self::Integer(value) => append_integer(*value, out),
            Self::Float(value) => value.append_element(out),
            Self::Bytes(bytes) => append_escaped(tag::BYTES, bytes, out),
            Self::Text(text) => append_escaped(tag::TEXT, text.as_bytes(), out),
            Self::Id(id) => id.append_element(out),
            Self::Tuple(elements) => elements.append_element(out),
            Self::Descending(element) => append_descending(out, |out| element.append_element(out)),
        }
    }
}

impl EncodeKey for [Element] {
    fn append_element(&self, out: &mut Vec<u8>) {
        out.push(tag::TUPLE);
        self.append_key(out);
        out.push(tag::END);
    }

    fn append_key(&self, out: &mut Vec<u8>) {
        for element in self {
            element.append_element(out);
        }
    }
}

impl EncodeKey for Vec<Element> {
    fn append_element(&self, out: &mut Vec<u8>) {
        self.as_slice().append_element(out);
    }

    fn append_key(&self, out: &mut Vec<u8>) {
        self.as_slice().append_key(out);
    }
}

impl DecodeKey for Element {
    fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
        Ok(match reader.peek_tag()? {
            tag::NULL => {
                reader.take_null()?;
                Self::Null
            }
            tag::FALSE | tag::TRUE => Self::Bool(reader.boolean()?),
            0x10..=0x30 => Self::Integer(reader.integer()?),
            tag::FLOAT => Self::Float(reader.float()?),
            tag::BYTES => Self::Bytes(reader.bytes()?),
            tag::TEXT => Self::Text(reader.text()?),
            tag::ID => Self::Id(reader.id()?),
            tag::TUPLE => Self::Tuple(reader.nested(read_until_end)?),
            // Behind the inversion the tag is below `DESCENDING`, so this recursion ends.
            tag::DESCENDING.. => Self::Descending(Box::new(reader.descending(Self::read_element)?)),
            _ => return Err(reader.bad("key element has an unknown tag")),
        })
    }
}

impl DecodeKey for Vec<Element> {
    fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
        reader.nested(read_until_end)
    }

    fn read_key(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
        let mut elements = Vec::new();
        while !reader.at_end() {
            elements.push(Element::read_element(reader)?);
        }
        Ok(elements)
    }
}

fn read_until_end(reader: &mut KeyReader<'_>) -> Result<Vec<Element>, BadBytes> {
    let mut elements = Vec::new();
    while reader.peek_tag()? != tag::END {
        elements.push(Element::read_element(reader)?);
    }
    Ok(elements)
}
