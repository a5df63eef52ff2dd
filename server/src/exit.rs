//! How a run ends: exit codes, and failures sorted by them.
//!
//! ```text
//! 0  good         the command did what was asked
//! 1  problem      it looked, and what it found is bad or missing: no such key, a conflict, corruption, a full disk
//! 2  wrong use    the arguments, options or input cannot be served as they are; change them
//! ```
//!
//! A script can thus tell "the database has a problem" from "I called it wrongly". A reader that goes away early
//! (`holdfast scan … | head`) is no failure: the run ends quietly with 0.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use holdfast::Options;
use holdfast::env::{IoError, IoErrorKind};
use serde_json::{Value as Json, json};

use crate::formats::BadInput;
use crate::quoted::quoted;
use crate::visible::{beginning, visible};

/// The longest name of a file or directory, in bytes, on the file systems of Linux.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// What to do about a limit on the size of files.
const FILE_TOO_LARGE: &str =
    "raise the limit on the size of files (`ulimit -f`), or choose another file system";
/// How the kernel's errors show that one: they carry the system's words, and the number behind them.
const FILE_TOO_LARGE_SAID: &str = "(os error 27)";

/// The end of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Did what was asked.
    Good = 0,
    /// Found a problem.
    Problem = 1,
    /// Was asked wrongly.
    WrongUse = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The kernel refused or failed.
    #[error("{}", of_a_command(.0))]
    Kernel(holdfast::Error),
    /// An input or output file failed.
    #[error("{what}: {error}")]
    Io {
        /// The file or stream.
        what: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// Something was found that is bad or missing.
    #[error("{0}")]
    Problem(String),
    /// Arguments or input that cannot be served.
    #[error("{0}")]
    WrongUse(String),
    /// A database was to be made, and there is none.
    #[error("no database could be made in {}: {why}", dir.display())]
    NotMade {
        /// Its directory.
        dir: PathBuf,
        /// What the disk said.
        why: String,
    },
    /// Something failed that had made a part of a new directory.
    #[error("{failure}; what was made so far is left in {}: remove it (rm -r {}) and run this again", left.display(), quoted(left))]
    Unfinished {
        /// What failed.
        failure: Box<Self>,
        /// The directory.
        left: PathBuf,
    },
    /// A line of a script for the shell. Where in a script a failure stands says nothing about how the shell was
    /// called, so each ends the run with 1.
    #[error("line {line}, `{text}`: {failure}")]
    InScript {
        /// Its number, from 1.
        line: u64,
        /// Its beginning.
        text: String,
        /// What it gave.
        failure: Box<Self>,
    },
    /// A line of an input that is not what its layout says, or that no database could take.
    #[error("{0}")]
    BadLine(InputError),
    /// An input of which no line, or no further one, can be read as its layout says.
    #[error("{0}")]
    BadFile(InputError),
}

/// What is wrong with a file, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}, {bad}")]
pub struct InputError {
    /// The file or stream.
    pub file: String,
    /// What is wrong with which line of it.
    pub bad: BadInput,
}

impl InputError {
    /// The place, as members of a JSON object.
    pub fn add_place(&self, object: &mut Json) {
        object["file"] = json!(self.file);
        object["line"] = json!(self.bad.line);
        object["field"] = json!(self.bad.field);
    }
}

impl Failure {
    /// An I/O error with the name of what failed.
    pub fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self::Io { what: what.into(), error }
    }

    /// The code the run ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unfinished { failure, .. } => failure.exit(),
            Self::Kernel(holdfast::Error::Invalid(_) | holdfast::Error::NotFound { .. }) => Exit::WrongUse,
            Self::Io { error, .. } if error.kind() == io::ErrorKind::BrokenPipe => Exit::Good,
            Self::Io { error, .. } if is_wrong_name(error.kind()) => Exit::WrongUse,
            Self::Kernel(_) | Self::Io { .. } | Self::Problem(_) | Self::NotMade { .. } => Exit::Problem,
            Self::InScript { .. } => Exit::Problem,
            Self::WrongUse(_) | Self::BadLine(_) | Self::BadFile(_) => Exit::WrongUse,
        }
    }

    /// What to do next, where the error does not say it by itself.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unfinished { failure, .. } | Self::InScript { failure, .. } => failure.hint(),
            Self::Kernel(holdfast::Error::NotFound { .. }) => Some(
                "check the directory's name; `holdfast import` and `holdfast put --create` make a new database",
            ),
            Self::Kernel(holdfast::Error::Locked(_)) => Some(
                "end the other process first; get, scan, count, export, stats, keyspaces, verify, backup and restore \
                 look at it beside the other process",
            ),
            Self::NotMade { .. } => Some(
                "free some space, then run it again; what this attempt left in the directory is no database, and the next \
                 one takes its place",
            ),
            Self::Kernel(holdfast::Error::TooManyFiles(_)) => Some("raise the limit by `ulimit -n`"),
            Self::Kernel(holdfast::Error::Stopped(what)) if what.contains(FILE_TOO_LARGE_SAID) => {
                Some(FILE_TOO_LARGE)
            }
            Self::Kernel(holdfast::Error::Stopped(_)) => {
                Some("`holdfast verify` shows whether the disk is sound; then run it again")
            }
            Self::Kernel(holdfast::Error::Invalid(what)) if what.contains(" is in the future") => {
                Some("`holdfast stats` shows the newest commit, the last that --at can name")
            }
            Self::Kernel(holdfast::Error::TooOld { .. }) => Some(
                "every opening keeps as many commits as its --retain-commits says; give the same to all commands",
            ),
            Self::BadLine(_) => {
                Some("nothing was written; mend the line, or leave bad ones out by --skip-bad-lines")
            }
            Self::BadFile(_) => Some("mend the file, or the options that say what it looks like"),
            Self::Io { error, .. } => next_step(error.kind()),
            Self::Kernel(holdfast::Error::Io(error)) if error.detail.contains(FILE_TOO_LARGE_SAID) => {
                Some(FILE_TOO_LARGE)
            }
            Self::Kernel(holdfast::Error::Io(error)) => next_step_of_database(error.kind),
            Self::Kernel(holdfast::Error::DiskFull(_)) => Some("what was acknowledged is kept"),
            Self::Kernel(holdfast::Error::CommitUnknown(_)) => {
                Some("free some space, look for what it wrote, and run it again if that is missing")
            }
            Self::Kernel(holdfast::Error::Stale(_)) => {
                Some("another process rewrites the database meanwhile; run it again")
            }
            _ => None,
        }
    }

    /// What standard error gets, `None` if nothing needs saying; with `as_json`, one JSON object.
    pub fn message(&self, as_json: bool) -> Option<String> {
        match self.exit() {
            Exit::Good => None,
            exit if as_json => {
                let error = self.to_string();
                let mut said = json!({ "error": error, "exit": exit as u8, "hint": self.hint() });
                if let Self::BadLine(input) | Self::BadFile(input) = self {
                    input.add_place(&mut said);
                }
                Some(said.to_string())
            }
            _ => {
                let error = visible(&format!("error: {self}"));
                Some(self.hint().map_or(error.clone(), |hint| format!("{error}\nhint: {hint}")))
            }
        }
    }
}

impl From<holdfast::Error> for Failure {
    fn from(error: holdfast::Error) -> Self {
        let misnamed = match &error {
            holdfast::Error::Io(error) => misnamed(error),
            _ => None,
        };
        misnamed.unwrap_or(Self::Kernel(error))
    }
}

/// What of a path is not as it should be: Linux says so of the whole path, and in few words, so it is looked for.
fn misnamed(error: &IoError) -> Option<Failure> {
    let path = &error.path;
    let shown = path.display();
    match error.kind {
        IoErrorKind::AlreadyExists if error.operation == "create_dir" => {
            let target = std::fs::read_link(path).ok()?;
            Some(Failure::WrongUse(format!(
                "{shown} is a symbolic link to {}, which is not there; make that directory first, or remove the link",
                target.display()
            )))
        }
        IoErrorKind::Other => {
            if let Some(file) = path.ancestors().skip(1).find(|part| part.is_file()) {
                let file = file.display();
                return Some(Failure::WrongUse(format!(
                    "{shown}: {file} is a file, not a directory; check the name"
                )));
            }
            if let Some(name) = path.iter().find(|name| name.len() > NAME_BYTES_MAX) {
                return Some(Failure::WrongUse(format!(
                    "the name {} is too long: {NAME_BYTES_MAX} bytes are allowed; check the name",
                    beginning(&name.to_string_lossy())
                )));
            }
            (error.operation == "lock" && path.is_dir()).then(|| {
                Failure::Problem(format!(
                    "{shown} is a directory, but the lock of a database is a file; remove or rename that directory, \
                     nothing of the database is in it"
                ))
            })
        }
        _ => None,
    }
}

/// The kernel's words, save where they are for a program: a command has ended, and has flags instead of options. What
/// to do instead the [hint](Failure::hint) says.
fn of_a_command(error: &holdfast::Error) -> String {
    use holdfast::Error;
    match error {
        Error::Stale(what) => format!("a file that was still to be read is gone: {what}"),
        Error::NotFound { path, what } => {
            let what = what.split("; check its name").next().unwrap_or_default();
            format!("{} holds no database: {what}", path.display())
        }
        Error::Locked(path) => format!("{} is locked by another process", path.display()),
        Error::TooOld { asked, oldest } => {
            format!("sequence {asked} is no longer kept; the oldest readable is {oldest}")
        }
        Error::TooManyFiles(error) => format!("too many open files: {error}"),
        Error::CommitUnknown(error) => format!(
            "disk full in the middle of a commit: {error}; it may be there, whole, at the next opening; what was \
             acknowledged is kept"
        ),
        Error::Stopped(what) => format!("writes stopped: {what}; every acknowledged commit is kept"),
        Error::Invalid(what) => {
            format!("invalid: {}", in_words(what.strip_suffix("; refresh to see later ones").unwrap_or(what)))
        }
        other => in_words(&other.to_string()),
    }
}

/// What the kernel says without the name of an option that no command has, and with the flag for one that each has.
pub(crate) fn in_words(what: &str) -> String {
    let bytes_max = Options::default().transaction_bytes_max;
    what.replace(&format!("{bytes_max} (option transaction_bytes_max)"), &bytes_in_words(bytes_max))
        .replace("the option memory_limit_bytes", "--memory-limit")
        .replace("memory_limit_bytes", "--memory-limit")
}

/// A number of bytes, as a limit is told.
pub(crate) fn bytes_in_words(bytes: u64) -> String {
    let mib = bytes >> 20;
    if mib << 20 == bytes && mib > 0 {
        format!("{mib} MiB ({bytes} bytes)")
    } else {
        format!("{bytes} bytes")
    }
}

/// True if another name would help.
fn is_wrong_name(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        AlreadyExists, DirectoryNotEmpty, InvalidFilename, IsADirectory, NotADirectory, NotFound,
    };
    matches!(
        kind,
        NotFound | AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory | InvalidFilename
    )
}

/// What to do about an error of the operating system.
fn next_step(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::NotFound => {
            "check the name, and that its directory is there; a relative name starts at the current directory"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            "choose another name, or remove what has this one"
        }
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            "check the name: a directory stands where a file is wanted, or a file where a directory is, or it is too long"
        }
        io::ErrorKind::PermissionDenied => {
            "check by `ls -ld` who may read and write the file and its directory, or run it as another user"
        }
        io::ErrorKind::ReadOnlyFilesystem => "choose a place on a file system that can be written",
        io::ErrorKind::FileTooLarge => FILE_TOO_LARGE,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, then run it again",
        _ => return None,
    })
}

/// What to do when a file of the database fails.
fn next_step_of_database(kind: IoErrorKind) -> Option<&'static str> {
    match kind {
        IoErrorKind::Permission => Some(
            "`ls -l` and `mount` show who may read and write there; run it as a user who may, or on a copy",
        ),
        IoErrorKind::NotFound => Some("check the name; `holdfast verify` shows whether a file is missing"),
        IoErrorKind::Medium => Some(
            "the disk fails: keep a copy of what can be read, and see the system's log (`dmesg`); \
             `holdfast repair` salvages into a new directory",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_sorted_by_what_to_do() {
        let broken = Failure::io("standard output", io::ErrorKind::BrokenPipe.into());
        assert_eq!((broken.exit(), broken.message(true)), (Exit::Good, None));
        let missing = Failure::io("data.csv", io::ErrorKind::NotFound.into());
        assert_eq!(missing.exit(), Exit::WrongUse);
        assert!(missing.message(false).is_some_and(|text| text.starts_with("error: data.csv: ")));
        let denied = Failure::io("data.csv", io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.exit(), Exit::Problem);
        assert!(denied.message(false).is_some_and(|text| text.contains("\nhint: ")));
        let bad = BadInput { line: 3, field: Some("id".into()), what: "no".into() };
        let bad = Failure::BadLine(InputError { file: "data.csv".into(), bad });
        assert_eq!(
            (bad.exit(), bad.to_string().as_str()),
            (Exit::WrongUse, "data.csv, line 3, field id: no")
        );
        let said: Json = serde_json::from_str(&bad.message(true).unwrap()).unwrap();
        assert!(
            said["file"] == "data.csv" && said["line"] == 3 && said["field"] == "id" && said["exit"] == 2
        );
        let invalid = Failure::from(holdfast::Error::Invalid("option x".into()));
        assert_eq!(invalid.exit(), Exit::WrongUse);
        let failure = Box::new(Failure::Problem("the disk is full".into()));
        let unfinished = Failure::Unfinished { failure, left: "a monday.unfinished".into() };
        assert_eq!(unfinished.exit(), Exit::Problem);
        assert!(
            unfinished.to_string().ends_with("remove it (rm -r 'a monday.unfinished') and run this again")
        );
        let corrupt =
            holdfast::Error::Corrupt { file: "1.table".into(), offset: 7, what: "a \"quoted\" sum".into() };
        let corrupt = Failure::from(corrupt);
        assert_eq!(corrupt.exit(), Exit::Problem);
        let said: serde_json::Value = serde_json::from_str(&corrupt.message(true).unwrap()).unwrap();
        assert!(said["error"].as_str().unwrap().contains("1.table at byte 7") && said["exit"] == 1);
    }
}
