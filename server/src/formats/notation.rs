//! How keys and values are typed and shown: raw, escaped, hexadecimal, or as tuples.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::borrow::Cow;

use holdfast::escaped::{escape, unescape};
use holdfast::key::{DecodeKey, Element, EncodeKey, format_tuple, parse_tuple};

/// A way to write bytes as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Notation {
    /// As they are; in a file they must be UTF-8.
    Raw,
    /// Readable text, with \n, \t, \\ and \xNN for what is not.
    #[default]
    Escaped,
    /// Two hexadecimal digits a byte.
    Hex,
    /// A typed key: (42, "text", 1.5, true, null, x'00ff', desc("z"), (1, 2)).
    Tuple,
}

impl Notation {
    /// The bytes that `text` stands for.
    ///
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn parse(self, text: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Raw => Ok(text.as_bytes().to_vec()),
            Self::Escaped => unescape(text).map_err(|bad| bad.to_string()),
            Self::Hex => parse_hex(text),
            Self::Tuple => {
                parse_tuple(text).map(|elements| elements.encode_key()).map_err(|bad| bad.to_string())
            }
        }
    }

    /// `bytes` as text.
    ///
    /// # Errors
    /// Why this notation cannot express them, and which one can.
    pub fn format(self, bytes: &[u8]) -> Result<Cow<'_, str>, String> {
        match self {
            Self::Raw => std::str::from_utf8(bytes)
                .map(Cow::Borrowed)
                .map_err(|_| "the bytes are not UTF-8; the notations escaped and hex can show them".into()),
            Self::Escaped => Ok(escape(bytes).into()),
            Self::Hex => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()),
            Self::Tuple => Vec::<Element>::decode_key(bytes)
                .map(|elements| format_tuple(&elements).into())
                .map_err(|bad| format!("the bytes are no tuple: {bad}; the notation escaped can show them")),
        }
    }
}

fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    if let Some(at) = text.find(|c: char| !c.is_ascii_hexdigit()) {
        return Err(format!("not a hexadecimal digit (at byte {at})"));
    }
    let odd = || format!("{} hexadecimal digits do not make whole bytes", text.len());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(odd()) };
    let digit = |c: u8| char::from(c).to_digit(16);
    let byte = |&[high, low]: &[u8; 2]| Some((digit(high)? << 4 | digit(low)?) as u8);
    pairs.iter().map(byte).collect::<Option<_>>().ok_or_else(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn bytes_come_back(bytes: Vec<u8>, number: i64, text: String) -> bool {
            let tuple = (number, text.as_str(), bytes.clone()).encode_key();
            let there_and_back = |notation: Notation, bytes: &[u8]| {
                notation.parse(&notation.format(bytes).unwrap()).unwrap() == bytes
            };
            there_and_back(Notation::Escaped, &bytes)
                && there_and_back(Notation::Hex, &bytes)
                && there_and_back(Notation::Tuple, &tuple)
                && there_and_back(Notation::Raw, text.as_bytes())
        }
    }

    #[test]
    fn refusals_say_why() {
        assert!(Notation::Raw.format(b"\xff").unwrap_err().contains("not UTF-8"));
        assert!(Notation::Tuple.format(b"plain").unwrap_err().contains("no tuple"));
        assert_eq!(Notation::Hex.parse("0fé").unwrap_err(), "not a hexadecimal digit (at byte 2)");
        assert!(Notation::Hex.parse("0ff").unwrap_err().contains("whole bytes"));
        assert!(Notation::Escaped.parse("a\\").unwrap_err().contains("at byte 1"));
        assert!(Notation::Tuple.parse("(1,").unwrap_err().contains("at byte 3"));
    }
}
