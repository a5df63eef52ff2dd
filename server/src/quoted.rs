//! A path as a word of a command that somebody may paste into a shell.
//!
//! A message that suggests `rm -r db copy` removes the wrong directory. So a path in a command goes through here, and
//! nowhere else is one put together. The shell is any of POSIX, which knows no `$'\xff'`.
//!
//! ```text
//! db-1.unfinished        db-1.unfinished                    nothing in it means anything to a shell
//! db copy                'db copy'
//! it's                   'it'\''s'
//! -r                     ./-r                               no option of the command
//! a line feed or \xff    "$(printf 'a\012b')"               what a message cannot show as it is
//! ```

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::visible::visible;

/// The path as one word for a POSIX shell.
pub(crate) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let start = if bytes.starts_with(b"-") { "./" } else { "" };
    match path.to_str() {
        Some(text) if !text.is_empty() && text.bytes().all(is_plain) => format!("{start}{text}"),
        // Messages show disturbing characters as escapes, which a shell would not read back.
        Some(text) if visible(text) == text => format!("'{start}{}'", text.replace('\'', r"'\''")),
        _ => printed(start, bytes),
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./,:@+".contains(&byte)
}

/// A substitution that prints these bytes; all but the plainest as octal numbers.
fn printed(start: &str, bytes: &[u8]) -> String {
    let mut word = format!("\"$(printf '{start}");
    for byte in bytes {
        if is_plain(*byte) {
            word.push(char::from(*byte));
        } else {
            let _ = write!(word, "\\{byte:03o}");
        }
    }
    word + "')\""
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for (path, word) in [
            (&b"db-1.unfinished"[..], Some("db-1.unfinished")),
            (b"/tmp/a,b:c@d+e_f", Some("/tmp/a,b:c@d+e_f")),
            (b"db copy", Some("'db copy'")),
            (b"it's", Some(r"'it'\''s'")),
            (b"-r", Some("./-r")),
            (b"- r", Some("'./- r'")),
            (b"", Some("''")),
            (b"~", Some("'~'")),
            (b"$HOME;`id`\"\\*", None),
            ("données 🦀".as_bytes(), None),
            (b"a\nb%s", Some(r#""$(printf 'a\012b\045s')""#)),
            (b"-d\xff'\\ b", None),
            ("a\u{202e}b".as_bytes(), None),
        ] {
            let quoted = quoted(Path::new(OsStr::from_bytes(path)));
            assert!(word.is_none_or(|word| word == quoted), "{quoted}");
            assert_eq!(visible(&quoted), quoted);
            let script = format!("printf %s {quoted}");
            let said = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
            assert_eq!(said.strip_prefix(b"./").unwrap_or(&said), path, "{quoted}");
        }
    }
}
