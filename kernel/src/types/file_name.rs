//! Names of the files in a database directory.
//!
//! ```text
//! CURRENT              names the manifest in force; replaced by rename
//! LOCK                 held by the one writing process
//! COPYING              whoever made it is the one to make a copy here
//! RESERVE              real bytes set free when the disk is full
//! 0000000012.manifest  list of files and keyspaces
//! 0000000013.log       log segment
//! 0000000014.table     sorted table
//! CURRENT.tmp          the next CURRENT, being made; belongs to nobody after a crash
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::{Path, PathBuf};

use super::FileNo;

/// The file that names the manifest in force.
pub const CURRENT: &str = "CURRENT";
/// The file the directory lock is taken through.
pub const LOCK: &str = "LOCK";
/// The file by which one of those who want to make a copy in an empty directory wins it, until `CURRENT` is there.
pub const COPYING: &str = "COPYING";
/// The file that is removed when the disk is full.
pub const RESERVE: &str = "RESERVE";
/// The next `CURRENT` while it is being made. Every other name that ends so is somebody else's.
pub const CURRENT_TMP: &str = "CURRENT.tmp";

/// What a numbered file holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    /// The list of files and keyspaces.
    Manifest,
    /// A log segment.
    Log,
    /// A sorted table.
    Table,
}

impl FileKind {
    /// The suffix without its dot.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Log => "log",
            Self::Table => "table",
        }
    }
}

/// How far beyond the next number in the manifest a file of ours may be: what was made since the last edit, generously.
const REACH: u64 = 1 << 32;

/// True if a database may have given this number when the manifest says that `next` is next. A numbered file beyond that
/// is somebody else's, or the counter would follow any stray name to its end.
pub fn is_within_reach(no: FileNo, next: FileNo) -> bool {
    no < FileNo::LIMIT && no.get() < next.get().saturating_add(REACH)
}

/// The path of a numbered file.
pub fn path(dir: &Path, kind: FileKind, no: FileNo) -> PathBuf {
    dir.join(format!("{no:010}.{}", kind.suffix()))
}

/// Kind and number from a name, `None` if it is not a numbered file of ours. Accepts exactly what [`path`] makes.
pub fn parse(name: &str) -> Option<(FileKind, FileNo)> {
    let (digits, suffix) = name.split_once('.')?;
    let kind =
        [FileKind::Manifest, FileKind::Log, FileKind::Table].into_iter().find(|k| k.suffix() == suffix)?;
    let no: u64 = digits.parse().ok()?;
    (format!("{no:010}") == digits).then_some((kind, FileNo::new(no)))
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn a_name_parses_back(no: u64) -> bool {
            let path = path(Path::new("d"), FileKind::Table, FileNo::new(no));
            parse(path.file_name().and_then(|n| n.to_str()).unwrap_or("")) == Some((FileKind::Table, FileNo::new(no)))
        }

        fn any_name_is_judged(name: String) -> bool {
            parse(&name).is_none_or(|(kind, no)| path(Path::new(""), kind, no) == Path::new(&name))
        }
    }
}
