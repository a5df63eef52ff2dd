//! Arguments into values: ranges of keys, layouts of files, numbers with units.

use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use holdfast::key::{parse_tuple, prefix_range};

use super::{FileLayout, Global, Range};
use crate::exit::Failure;
use crate::formats::{Format, Layout, Notation};
use crate::visible::beginning;

/// First and last key of a scan.
pub type KeyBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl Global {
    /// The key that `text` stands for.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] naming what is wrong with the text, and where.
    pub fn key(&self, text: &str) -> Result<Vec<u8>, Failure> {
        let bad = |what| Failure::WrongUse(format!("the key {}: {what}", beginning(text)));
        self.key_format.parse(text).map_err(bad)
    }

    /// The value that `text` stands for.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] naming what is wrong with the text, and where.
    pub fn value(&self, text: &str) -> Result<Vec<u8>, Failure> {
        let bad = |what| Failure::WrongUse(format!("the value {}: {what}", beginning(text)));
        self.value_format.parse(text).map_err(bad)
    }
}

impl Range {
    /// The bounds that the arguments describe.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] if a key cannot be read, or the range starts behind its end.
    pub fn bounds(&self, global: &Global) -> Result<KeyBounds, Failure> {
        if let Some(prefix) = &self.prefix {
            return match global.key_format {
                Notation::Tuple => {
                    let bad = |bad| Failure::WrongUse(format!("the key {}: {bad}", beginning(prefix)));
                    let (start, end) = prefix_range(&parse_tuple(prefix).map_err(bad)?);
                    Ok((Bound::Included(start), Bound::Excluded(end)))
                }
                _ => {
                    let start = global.key(prefix)?;
                    Ok((Bound::Included(start.clone()), behind_prefix(start)))
                }
            };
        }
        let from = self.from.as_deref().map(|from| global.key(from)).transpose()?;
        let to = self.to.as_deref().map(|to| global.key(to)).transpose()?;
        if let (Some(start), Some(end)) = (&from, &to)
            && start > end
        {
            let (from, to) =
                (beginning(self.from.as_deref().unwrap_or("")), beginning(self.to.as_deref().unwrap_or("")));
            return Err(Failure::WrongUse(format!("--from {from} sorts behind --to {to}")));
        }
        Ok((from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded)))
    }
}

/// The smallest key greater than every key that begins with `prefix`.
fn behind_prefix(mut prefix: Vec<u8>) -> Bound<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < 0xff {
            prefix.push(last + 1);
            return Bound::Excluded(prefix);
        }
    }
    Bound::Unbounded
}

impl FileLayout {
    /// The layout of `file`; its name decides what the arguments leave open.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] if the format is neither given nor known from the name, or arguments do not fit it.
    pub fn layout(&self, file: &Path, global: &Global) -> Result<Layout, Failure> {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let by_name = match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Some((Format::Jsonl, b',')),
            "csv" => Some((Format::Csv, b',')),
            "tsv" => Some((Format::Csv, b'\t')),
            _ => None,
        };
        let Some(format) = self.format.or(by_name.map(|(format, _)| format)) else {
            return Err(Failure::WrongUse(format!(
                "the format of {} is not known from its name; give --format jsonl or --format csv",
                file.display()
            )));
        };
        if format == Format::Jsonl && (self.delimiter.is_some() || self.no_header) {
            return Err(Failure::WrongUse("--delimiter and --no-header are for CSV only".into()));
        }
        if self.key_column.len() > 1 && global.key_format != Notation::Tuple {
            return Err(Failure::WrongUse("several --key-column need --key-format tuple".into()));
        }
        Ok(Layout {
            format,
            key: global.key_format,
            value: global.value_format,
            key_columns: self.key_column.clone(),
            delimiter: self.delimiter.or(by_name.map(|(_, delimiter)| delimiter)).unwrap_or(b','),
            header: !self.no_header,
        })
    }
}

/// One ASCII character, or the word `tab`.
///
/// # Errors
/// Why the text is no delimiter.
pub fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        [b'"' | b'\n' | b'\r'] => Err("a quotation mark or line break cannot separate fields".into()),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("a delimiter is one ASCII character, or the word tab".into()),
    }
}

/// A number of rows, at least 1; `_` may group digits.
///
/// # Errors
/// Why the text is no such number.
pub fn row_count(text: &str) -> Result<u64, String> {
    match text.replace('_', "").parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(rows) => Ok(rows),
        Err(error) => Err(format!("not a number of rows: {error}")),
    }
}

/// The most rows that a self-measure loads.
pub const BENCH_ROWS_MAX: u64 = 10_000_000_000;

/// A number of rows for the self-measure, at most [`BENCH_ROWS_MAX`].
///
/// # Errors
/// Why the text is no such number.
pub fn bench_row_count(text: &str) -> Result<u64, String> {
    match row_count(text)? {
        rows if rows > BENCH_ROWS_MAX => Err(format!("it must be at most {BENCH_ROWS_MAX}")),
        rows => Ok(rows),
    }
}

/// A size of memory in bytes, or with its unit: `268435456`, `256MiB`, `2GiB`; from 64 MiB, which hold the largest batch
/// of an import beside four memtables of the usual size, to 1 TiB, the most that the kernel takes.
///
/// # Errors
/// Why the text is no such size.
pub fn memory_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_bytes: u64 = match unit {
        "" => 1,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("a size is a number of bytes, or a number with a unit: 256MiB or 2GiB".into()),
    };
    let bytes = number.replace('_', "").parse().ok().and_then(|number: u64| number.checked_mul(unit_bytes));
    match bytes {
        Some(bytes @ MEMORY_MIN..=MEMORY_MAX) => Ok(bytes),
        _ => Err("it must be between 64MiB and 1024GiB".into()),
    }
}

const MEMORY_MIN: u64 = 64 << 20;
const MEMORY_MAX: u64 = 1 << 40;

/// A time with its unit: `500ms`, `2s`, `1m`; from 100 ms to a day.
///
/// # Errors
/// Why the text is no such time.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("a time is a number with a unit: 500ms, 2s or 1m".into()),
    };
    let time_ms = number.parse().ok().and_then(|number: u64| number.checked_mul(unit_ms));
    match time_ms {
        Some(time_ms @ 100..=86_400_000) => Ok(Duration::from_millis(time_ms)),
        _ => Err("it must be between 100ms and 1440m".into()),
    }
}
