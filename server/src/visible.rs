//! Text from outside (names, keys, paths, arguments) on its way to a terminal.
//!
//! A keyspace may be named, and a key may hold, what moves a cursor or changes the order of letters. Such characters are
//! shown as escapes wherever people read: in results, notes and errors. JSON has escapes of its own, and the notation
//! raw is asked for by those who want bytes.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use holdfast::escaped::escape;

/// So many bytes of a key or value stand in a message.
const SHOWN_BYTES_MAX: usize = 64;

/// The text with each control or otherwise disturbing character as an escape. Backslashes stay as they are, for part of
/// the text may be escaped already.
pub fn visible(text: &str) -> String {
    text.split('\\').map(|part| escape(part.as_bytes())).collect::<Vec<_>>().join("\\")
}

/// As [`visible`], line by line: line feeds stay.
pub fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

/// A path as it stands in JSON, with the escapes of keys: a name may hold any bytes, and JSON takes only text.
pub fn path_text(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// A key or value as part of a message: all of it, or its beginning and how long it is.
pub fn beginning(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN_BYTES_MAX {
        return text.into();
    }
    format!("{}… ({} bytes)", &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)], text.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_disturbing_is_left_and_nothing_long() {
        assert_eq!(visible("a\u{1b}[2J\n\u{202e}\\x41é"), r"a\x1b[2J\n\xe2\x80\xae\x41é");
        assert_eq!(visible_lines("a\nb\r"), "a\nb\\r");
        assert_eq!(beginning(&"k".repeat(64)), "k".repeat(64));
        assert_eq!(beginning(&"é".repeat(33)), format!("{}… (66 bytes)", "é".repeat(32)));
        assert_eq!(beginning(&format!("k{}", "é".repeat(40))), format!("k{}… (81 bytes)", "é".repeat(31)));
    }
}
