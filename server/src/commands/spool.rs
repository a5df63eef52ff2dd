//! A copy of what can be read only once, for a command that reads it twice.
//!
//! Somebody gives `/dev/zero`, or a stream without line breaks. A reader of records refuses a line that is longer than any
//! record may be as soon as it has read one byte too many, and reads nothing of the rest. So no more of it is copied
//! either, and the reader tells of it as of any other file. A line ends here with a line feed or a carriage return, as in
//! CSV. Of JSON Lines, in which only line feeds count, a little more may be copied so, and is read as it would be anyway.

use std::io::{self, BufRead, Write};

/// What comes behind a line that is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behind {
    /// Nobody will read it: the copy ends with the beginning of that line.
    Unread,
    /// It is read on: only the rest of that line is left out.
    Read,
}

/// Copies lines, of each the first `line_bytes_max` bytes and one, which shows that there are more.
///
/// # Errors
/// What either side says.
pub(super) fn copy_lines(
    from: &mut impl BufRead,
    into: &mut impl Write,
    line_bytes_max: usize,
    behind: Behind,
) -> io::Result<()> {
    let room = line_bytes_max.saturating_add(1);
    let mut line_bytes = 0;
    loop {
        let chunk = match from.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let line_end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let text = line_end.unwrap_or(chunk.len());
        let kept = text.min(room - line_bytes);
        into.write_all(&chunk[..kept])?;
        line_bytes += kept;
        if line_bytes == room && behind == Behind::Unread {
            return Ok(());
        }
        let used = match line_end {
            Some(at) => {
                into.write_all(&chunk[at..=at])?;
                line_bytes = 0;
                at + 1
            }
            None => text,
        };
        from.consume(used);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn copied(input: impl Read, behind: Behind) -> String {
        let mut copy = Vec::new();
        copy_lines(&mut BufReader::with_capacity(3, input), &mut copy, 5, behind).unwrap();
        String::from_utf8(copy).unwrap()
    }

    #[test]
    fn no_more_is_copied_than_a_reader_would_read() {
        for text in ["", "\n", "12345\n\r\n1\n", "12\n345"] {
            assert_eq!(copied(text.as_bytes(), Behind::Unread), text);
            assert_eq!(copied(text.as_bytes(), Behind::Read), text);
        }
        let long = "1\n1234567890\r2\n123456\n3";
        assert_eq!(copied(long.as_bytes(), Behind::Unread), "1\n123456");
        assert_eq!(copied(long.as_bytes(), Behind::Read), "1\n123456\r2\n123456\n3");
        assert_eq!(copied(b"a\n".chain(io::repeat(b'x')), Behind::Unread), "a\nxxxxxx");
    }
}
