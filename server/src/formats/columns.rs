//! Records with named columns, and keys made of them.
//!
//! In every notation but tuple there is one key column, and its text, read in that notation, is the key. In the tuple
//! notation each column gives one element, in the order the columns are named: a JSON string gives text, a number
//! without point and exponent an integer, any other number a float, and true, false and null themselves. Fields of
//! CSV are always text.
//!
//! Values are kept as the JSON text they were written as, so that no digit of a number and no order of columns is
//! lost. (`serde_json` can do both by itself, but only by features that change every other user of it in the build.)

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeSet;
use std::fmt;

use holdfast::key::{Element, EncodeKey};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::refusal::Refusal;
use super::{COLUMNS_MAX, Layout, Notation};

/// The columns of one record, in their order; no name occurs twice.
#[derive(Clone, Debug)]
pub(super) struct Columns(Vec<(String, Box<RawValue>)>);

impl Columns {
    /// Reads a JSON object.
    pub(super) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Columns of text.
    pub(super) fn of_text<'a>(
        fields: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, serde_json::Error> {
        fields
            .map(|(name, text)| Ok((name.to_string(), serde_json::value::to_raw_value(text)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Each value as a field of CSV: a string as its text, null as nothing, anything else as JSON.
    pub(super) fn fields(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(_, value)| match Scalar::of(value) {
            Scalar::Text(text) => text,
            Scalar::Null => String::new(),
            _ => value.get().to_string(),
        })
    }

    /// The key that the layout's key columns make.
    pub(super) fn key(&self, layout: &Layout) -> Result<Vec<u8>, Refusal> {
        if layout.key == Notation::Tuple {
            let names = layout.key_columns.iter();
            let elements: Result<Vec<_>, Refusal> = names
                .map(|name| Scalar::of(self.get(name)?).element().map_err(|what| Refusal::field(name, what)))
                .collect();
            return Ok(elements?.encode_key());
        }
        let [name] = layout.key_columns.as_slice() else {
            return Err(Refusal::whole("several key columns need the key format tuple"));
        };
        match Scalar::of(self.get(name)?) {
            Scalar::Text(text) => layout.key.parse(&text),
            Scalar::Number(text) => layout.key.parse(text),
            _ => Err("it is neither a string nor a number; the key format tuple takes more".into()),
        }
        .map_err(|what| Refusal::field(name, what))
    }

    fn get(&self, wanted: &str) -> Result<&RawValue, Refusal> {
        let found = self.0.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| &**value).ok_or_else(|| no_key_column(wanted, self.names()))
    }
}

/// The refusal of a key column that is not among those there are.
pub(super) fn no_key_column<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Refusal {
    let names: Vec<_> = names.collect();
    let there_are = match names.as_slice() {
        [] => "the record has no columns".into(),
        names => format!("there are: {}", names.join(", ")),
    };
    Refusal::whole(format!("there is no key column {wanted}; {there_are}"))
}

/// A JSON value, looked at as far as keys and fields need.
enum Scalar<'a> {
    Null,
    Bool(bool),
    /// As it was written.
    Number(&'a str),
    Text(String),
    Composite,
}

impl<'a> Scalar<'a> {
    fn of(value: &'a RawValue) -> Self {
        let json = value.get();
        match json.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            // A lone surrogate is valid JSON, but no text.
            Some(b'"') => serde_json::from_str(json).map_or(Self::Composite, Self::Text),
            Some(b'[' | b'{') => Self::Composite,
            _ => Self::Number(json),
        }
    }

    fn element(self) -> Result<Element, String> {
        match self {
            Self::Null => Ok(Element::Null),
            Self::Bool(value) => Ok(Element::Bool(value)),
            Self::Text(text) => Ok(Element::Text(text)),
            Self::Number(text) if text.contains(['.', 'e', 'E']) => {
                // Rounded to infinity it would be another key than the one in the file.
                match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(Element::Float(value)),
                    Ok(_) => Err(format!("the float {text} is out of range, -1.8e308 to 1.8e308")),
                    Err(_) => Err(format!("{text} is not a number")),
                }
            }
            Self::Number(text) => {
                text.parse().map(Element::Integer).map_err(|_| format!("{text} does not fit into 128 bits"))
            }
            Self::Composite => Err("an array or object cannot be part of a key".into()),
        }
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ColumnsVisitor)
    }
}

struct ColumnsVisitor;

impl<'de> Visitor<'de> for ColumnsVisitor {
    type Value = Columns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
        let mut columns: Vec<(String, Box<RawValue>)> = Vec::new();
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if columns.len() >= COLUMNS_MAX {
                let what = format_args!("one column more than the {COLUMNS_MAX} that a row may have");
                return Err(A::Error::custom(what));
            }
            let value = map.next_value::<Box<RawValue>>()?;
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
            }
            columns.push((name, value));
        }
        Ok(Columns(columns))
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
