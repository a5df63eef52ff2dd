//! Input from outside that has no end of its own to rely on: a value from a file or a pipe, a line of a script.
//!
//! Somebody gives `/dev/zero`, or a file without line feeds. So of each no more is read than what a database could take,
//! and one byte, which shows that there is more.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

use crate::exit::{Failure, bytes_in_words};

/// What a file holds; of `-`, what standard input gives.
///
/// # Errors
/// [`Failure::WrongUse`] if there are more bytes than `bytes_max`; what the operating system says.
pub(super) fn value(file: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let is_standard_input = file == Path::new("-");
    let name = if is_standard_input { "standard input".into() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let wanted = bytes_max.saturating_add(1);
    let read = if is_standard_input {
        io::stdin().lock().take(wanted).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(wanted).read_to_end(&mut bytes))
    };
    match read {
        Ok(read) if read as u64 <= bytes_max => Ok(bytes),
        Ok(_) => Err(Failure::WrongUse(format!(
            "{name} holds too much for a value: key and value together may have at most {}; split it over several keys",
            bytes_in_words(bytes_max)
        ))),
        Err(error) => Err(Failure::io(name, error)),
    }
}

/// Reads a line without its line feed into `line`; false at the end of the input. Of a line over `bytes_max` that many
/// bytes are read and one, which makes it too long for [`text`].
///
/// # Errors
/// What the operating system says.
pub(super) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, bytes_max: u64) -> io::Result<bool> {
    line.clear();
    let read = input.by_ref().take(bytes_max.saturating_add(1)).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}

/// The text of a line that was read so.
///
/// # Errors
/// [`Failure::WrongUse`] if it is over `bytes_max` bytes, or not UTF-8.
pub(super) fn text(line: &[u8], bytes_max: u64) -> Result<&str, Failure> {
    if line.len() as u64 > bytes_max {
        return Err(Failure::WrongUse(format!(
            "the line is longer than {}, the most that key and value together may have; for a value that is long only as \
             text there are `holdfast put --file` and `holdfast import`",
            bytes_in_words(bytes_max)
        )));
    }
    std::str::from_utf8(line).map_err(|bad| not_utf8(Some(bad.valid_up_to())))
}

/// A line of other bytes, the first of them at `at` if that is known.
pub(super) fn not_utf8(at: Option<usize>) -> Failure {
    let at = at.map_or(String::new(), |at| format!(" at byte {at}"));
    Failure::WrongUse(format!("the line is not UTF-8{at}; write other bytes as escapes, such as \\xff"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_could_be_of_use() {
        let endless = value(Path::new("/dev/zero"), 5000).unwrap_err().to_string();
        assert!(
            endless.starts_with("/dev/zero holds too much for a value: key and value together"),
            "{endless}"
        );
        let mut input = io::BufReader::with_capacity(3, b"a\r\n\n12345\n".chain(io::repeat(0)));
        let mut line = Vec::new();
        for wanted in [&b"a\r"[..], b"", b"12345"] {
            assert!(read_line(&mut input, &mut line, 5).unwrap());
            assert!(line == wanted && text(&line, 5).is_ok(), "{line:?}");
        }
        assert!(read_line(&mut input, &mut line, 5).unwrap());
        assert_eq!(line, [0; 6]);
        assert!(text(&line, 5).unwrap_err().to_string().starts_with("the line is longer than 5 bytes"));
        assert!(!read_line(&mut &b""[..], &mut line, 5).unwrap());
    }
}
