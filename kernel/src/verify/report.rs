//! What a verification says.

use std::path::{Path, PathBuf};

use crate::env::IoErrorKind;
use crate::error::{Error, Result};
use crate::types::Seq;

/// The result of a verification.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    /// Every file of the directory, and every file that should be there, by name.
    pub files: Vec<FileReport>,
    /// Everything that is wrong, in the order in which it was found.
    pub problems: Vec<Problem>,
    /// The newest commit, if log and manifest are sound.
    pub last_seq: Option<Seq>,
    /// Bytes read and checked.
    pub bytes_checked: u64,
}

/// What is known of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileReport {
    /// Its name in the directory.
    pub name: String,
    /// What became of it.
    pub verdict: FileVerdict,
    /// Its length in bytes; 0 if it is missing or a directory.
    pub bytes: u64,
    /// Parts of it on which nothing depends: a change there can go unnoticed and does no harm.
    pub unused: Vec<UnusedRegion>,
}

/// The verdict over a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum FileVerdict {
    /// Every byte that matters is what was written.
    Good,
    /// Something in it is wrong; see the problems.
    Damaged,
    /// It should be there and is not.
    Missing,
    /// It could not be judged, since the manifest cannot be read.
    Unchecked,
    /// Ours, and in use, but its content means nothing: `LOCK`, `RESERVE`.
    Empty,
    /// Ours, but nothing names it (any more): a crash left it, or it is being made. The next opening removes it.
    Leftover,
    /// Not ours. It is never touched.
    Foreign,
}

/// A part of a file on which nothing depends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnusedRegion {
    /// Offset of its first byte.
    pub start: u64,
    /// Offset behind its last byte.
    pub end: u64,
    /// Why nothing depends on it.
    pub why: &'static str,
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file, or the directory if it concerns several.
    pub file: PathBuf,
    /// Where in it, as exactly as can be told.
    pub offset: u64,
    /// What was expected or found.
    pub what: String,
    /// True if nothing depends on these bytes: no read will fail, but the disk is not to be trusted.
    pub harmless: bool,
}

/// How far a verification is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyProgress {
    /// The file being read.
    pub file: String,
    /// Bytes checked so far. May pass `bytes_total` if files were looked at again beside a live writer.
    pub bytes_checked: u64,
    /// Bytes of all files as of the beginning.
    pub bytes_total: u64,
}

impl VerifyReport {
    /// True if nothing is wrong, not even where it does no harm.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// True if nothing is wrong with any byte that something depends on.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| problem.harmless)
    }

    /// What is known of the file of this name.
    pub fn file(&self, name: &str) -> Option<&FileReport> {
        self.files.iter().find(|file| file.name == name)
    }

    /// True if nothing depends on the byte at `offset` of the file of this name, be it there or cut off.
    pub fn is_unused(&self, name: &str, offset: u64) -> bool {
        let Some(file) = self.file(name) else { return false };
        let whole = matches!(file.verdict, FileVerdict::Empty | FileVerdict::Leftover | FileVerdict::Foreign);
        whole || file.unused.iter().any(|part| (part.start..part.end).contains(&offset))
    }
}

impl Problem {
    /// From the error that shows it; `dir` stands for the file if the error names none.
    ///
    /// # Errors
    /// The error itself if it speaks of who looks, not of the file: one who may not read it, or who has no descriptor
    /// left. Such a file is neither good nor damaged, and the whole cannot be judged.
    pub(super) fn of(error: &Error, dir: &Path, harmless: bool) -> Result<Self> {
        let (file, offset, what) = match error {
            Error::TooManyFiles(_) => return Err(error.clone()),
            Error::Io(io) if io.kind == IoErrorKind::Permission => return Err(error.clone()),
            Error::Corrupt { file, offset, what } => (file.clone(), *offset, what.clone()),
            Error::NewerFormat { file, what } => {
                (file.clone(), 0, format!("{what}; it was written by a newer version"))
            }
            Error::Io(io) | Error::DiskFull(io) => {
                (io.path.clone(), io.offset.unwrap_or(0), format!("cannot be read: {io}"))
            }
            other => (dir.to_path_buf(), 0, other.to_string()),
        };
        Ok(Self { file, offset, what, harmless })
    }

    /// The name of the file, empty if it is the directory itself.
    pub(super) fn name_in(&self, dir: &Path) -> String {
        let name = self.file.strip_prefix(dir).ok().and_then(Path::to_str);
        name.unwrap_or_default().to_string()
    }
}
