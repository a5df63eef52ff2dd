//! The escape syntax: any bytes as one line of readable text, and back.
//!
//! ```text
//! \\  backslash     \n  line feed     \r  carriage return     \t  tab     \0  zero byte
//! \xNN  any other byte, two lower-case hexadecimal digits
//! ```
//!
//! Everything else stands for itself: printable ASCII, and well-formed UTF-8, so that text in any language stays
//! readable. Escaped byte by byte are bytes that are not UTF-8, and characters that would disturb the line or
//! deceive its reader: control characters (U+0000 to U+001F, U+007F to U+009F), line and paragraph separators
//! (U+2028, U+2029), marks that reorder text (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069) and the
//! byte order mark (U+FEFF). This list is fixed; it does not follow the Unicode version of the compiler, so a
//! file escaped by one release is escaped alike by the next.
//!
//! `unescape(escape(b)) == b` for all bytes. Going back is lenient: upper-case digits, escapes that were not
//! needed, and `\"` for a quotation mark are understood.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::fmt;

/// Text that is not in the escape syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEscape {
    /// What is wrong.
    pub what: &'static str,
    /// Byte position of the faulty backslash in the text.
    pub at: usize,
}

impl fmt::Display for BadEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.what, self.at)
    }
}

impl std::error::Error for BadEscape {}

/// Any bytes as text without line breaks or control characters.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\0' => out.push_str("\\0"),
                _ if is_disturbing(c) => push_hex(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => out.push(c),
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

/// The bytes that `text` stands for.
///
/// # Errors
/// [`BadEscape`] naming the place of a backslash that no known escape follows.
pub fn unescape(text: &str) -> Result<Vec<u8>, BadEscape> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, behind @ ..] = rest {
        let bad = |what| BadEscape { what, at: bytes.len().saturating_sub(rest.len()) };
        let (value, behind) = match (byte, behind) {
            (b'\\', [b'\\', behind @ ..]) => (b'\\', behind),
            (b'\\', [b'n', behind @ ..]) => (b'\n', behind),
            (b'\\', [b'r', behind @ ..]) => (b'\r', behind),
            (b'\\', [b't', behind @ ..]) => (b'\t', behind),
            (b'\\', [b'0', behind @ ..]) => (0, behind),
            (b'\\', [b'"', behind @ ..]) => (b'"', behind),
            (b'\\', [b'x', high, low, behind @ ..]) => {
                (hex_byte(*high, *low).ok_or_else(|| bad(BAD_HEX))?, behind)
            }
            (b'\\', [b'x', ..]) => return Err(bad(BAD_HEX)),
            (b'\\', [_, ..]) => return Err(bad("unknown escape; \\\\ \\n \\r \\t \\0 \\xNN are known")),
            (b'\\', []) => return Err(bad("the text ends in a single backslash")),
            (plain, behind) => (*plain, behind),
        };
        out.push(value);
        rest = behind;
    }
    Ok(out)
}

const BAD_HEX: &str = "\\x is not followed by two hexadecimal digits";

/// The byte that two hexadecimal digits stand for.
pub(super) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

fn is_disturbing(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push_str("\\x");
        for digit in [byte >> 4, byte & 15] {
            out.extend(char::from_digit(digit.into(), 16));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn any_bytes_come_back(bytes: Vec<u8>) -> bool {
            let text = escape(&bytes);
            !text.chars().any(is_disturbing) && unescape(&text) == Ok(bytes)
        }

        fn any_text_comes_back(text: String) -> bool {
            unescape(&escape(text.as_bytes())) == Ok(text.into_bytes())
        }

        fn any_text_is_understood_or_refused_at_a_backslash(parts: Vec<(u8, char)>) -> bool {
            let text: String = parts.iter().flat_map(|(n, c)| {
                [['\\', 'x', '0', 'n', 'f', '"'].get(usize::from(n % 8)).copied().unwrap_or(*c)]
            }).collect();
            match unescape(&text) {
                Ok(bytes) => unescape(&escape(&bytes)) == Ok(bytes),
                Err(bad) => text.as_bytes().get(bad.at) == Some(&b'\\') && bad.to_string().contains("at byte"),
            }
        }
    }

    #[test]
    fn every_single_byte_comes_back() {
        for byte in 0..=255 {
            assert_eq!(unescape(&escape(&[byte])), Ok(vec![byte]));
        }
    }

    #[test]
    fn readable_stays_readable() {
        assert_eq!(escape("Größe 大小 😀 \"q\"".as_bytes()), "Größe 大小 😀 \"q\"");
        assert_eq!(escape(b"a\\b\n\r\t\0\x07\xff\xc3"), r"a\\b\n\r\t\0\x07\xff\xc3");
        assert_eq!(escape("\u{202e}evil\u{85}".as_bytes()), r"\xe2\x80\xaeevil\xc2\x85");
    }

    #[test]
    fn refusals_name_the_place() {
        assert_eq!(unescape(r"ab\q").unwrap_err().at, 2);
        assert_eq!(unescape(r"ab\\\x4").unwrap_err().at, 4);
        assert_eq!(unescape("ab\\").unwrap_err().at, 2);
        assert_eq!(unescape("\\x+1").unwrap_err().at, 0);
        assert_eq!(unescape("\\xé").unwrap_err().at, 0);
    }
}
