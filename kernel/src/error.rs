//! One error enum, sorted by what the caller does next.

use std::path::PathBuf;

use crate::codec::BadBytes;
use crate::env::{IoError, IoErrorKind};
use crate::types::{BadOp, Seq};

/// Result of the public API.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Each variant is a different thing to do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another transaction was first. Nothing was written: run the transaction again.
    #[error("conflict: {0}; run the transaction again")]
    Conflict(Conflict),

    /// Memory or back-pressure limit reached. Nothing was written, nor will it be: wait a little and try again.
    #[error("busy: {0}; try again later")]
    Busy(String),

    /// No room on the disk. A commit that is given this was not written and never will be. A keyspace that was to be
    /// created or dropped stays as it is in this opening; should the process end before a later change of structure
    /// succeeds, the next opening may find it created or dropped all the same.
    ///
    /// In an open database reads go on, and writes succeed again once there is room. An opening needs room too, for a
    /// new log and manifest: until there is some, [`Db::open_read_only`](crate::Db::open_read_only) reads without any.
    #[error("disk full: {0}; free some space and try again")]
    DiskFull(IoError),

    /// The disk turned out to be full while a commit was made durable, so it may have landed. Only where writes are
    /// copied or allocated late (btrfs, quotas, network disks) does this happen; elsewhere a commit that finds no room is
    /// given [`Error::DiskFull`].
    ///
    /// No reader of this opening sees the commit, and the next commit that succeeds in it, or a
    /// [`Db::sync`](crate::Db::sync), settles that it never happened: so to try it again until it succeeds does it once.
    /// Should this opening end before that, the commit may be there at the next, whole: look for what it wrote before it
    /// is done again, if doing it twice would do harm. Until it is settled, which is tried as long as the database is
    /// open, a [`ReadOnlyDb`](crate::ReadOnlyDb) of another process may show it.
    #[error(
        "disk full in the middle of a commit: {0}; free some space and try again: once that succeeds, it was done once"
    )]
    CommitUnknown(IoError),

    /// The process ran out of file descriptors. Nothing was written, nor will it be: raise the limit, or lower
    /// `open_files_max`.
    #[error("too many open files: {0}; raise `ulimit -n` or lower the option open_files_max")]
    TooManyFiles(IoError),

    /// The request cannot be served as asked: a limit, a wrong option, a name that does not exist. Fix the call.
    #[error("invalid: {0}")]
    Invalid(String),

    /// The asked-for past is no longer kept.
    #[error("sequence {asked} is no longer kept; the oldest readable is {oldest} (option retain_commits)")]
    TooOld {
        /// What was asked for.
        asked: Seq,
        /// The oldest that can still be read.
        oldest: Seq,
    },

    /// Bytes on disk are not what was written. Report it; `holdfast verify` tells the extent and
    /// `holdfast repair` salvages what is provably good into a new directory.
    #[error("corrupt: {} at byte {offset}: {what}; `holdfast verify` shows the extent, `holdfast repair` salvages", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was expected and what was found.
        what: String,
    },

    /// The disk failed. A read may be tried again. A commit that is given this was not written and never will be: no
    /// file could be made for it, and it may be tried again too. Where a write or a sync of it failed it is given
    /// [`Error::Stopped`].
    #[error("I/O error: {0}")]
    Io(IoError),

    /// The database takes no more writes in this opening: a sync or write failed, and nothing that follows could
    /// be trusted. Reads go on. Close and reopen: recovery keeps every acknowledged commit.
    ///
    /// Of what is given this error itself nobody knows: at the next opening a commit is there whole or not at all, a
    /// keyspace created or dropped or not. In this opening no reader sees the commit. Reopen, and look for what it wrote
    /// before it is done again, if doing it twice would do harm.
    #[error("writes stopped: {0}; close and reopen the database, every acknowledged commit is kept")]
    Stopped(String),

    /// Another process, or another handle of this one, has the directory open for writing.
    #[error("{} is locked by another process, or open in this one already; use a read-only opening, or close the other", .0.display())]
    Locked(PathBuf),

    /// There is no database in the directory, and `create_if_missing` is off.
    #[error("{} holds no database: {what}", path.display())]
    NotFound {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        what: String,
    },

    /// A newer version wrote this file.
    #[error("{}: {what}; it was written by a newer version of Holdfast", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The unknown version or required field.
        what: String,
    },

    /// A read-only view lost a file to the live writer. Call `refresh`.
    #[error("stale view: {0} went away; call refresh()")]
    Stale(String),

    /// The database, or this handle, was closed. Nothing was written, nor will it be.
    #[error("the database is closed; open it again")]
    Closed,
}

/// Which check failed at commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// A key that was read or written here was written by a later commit.
    #[error("key {key:?} of keyspace {keyspace} was written by commit {by}")]
    Key {
        /// Name of the keyspace.
        keyspace: String,
        /// The key, in the escape syntax, cut at 64 bytes.
        key: String,
        /// Who wrote it.
        by: Seq,
    },
    /// A range that was read or deleted here was written into by a later commit.
    #[error("a range of keyspace {keyspace} was written into by commit {by}")]
    Range {
        /// Name of the keyspace.
        keyspace: String,
        /// Who wrote it.
        by: Seq,
    },
    /// The transaction began before the window of remembered commits.
    #[error(
        "the transaction began at {began}, before the remembered window that starts at {oldest} (option conflict_window_bytes)"
    )]
    WindowExceeded {
        /// The transaction's read sequence.
        began: Seq,
        /// Oldest remembered.
        oldest: Seq,
    },
}

impl Error {
    /// A corruption found in `file` by a codec that was given the bytes starting at `base`.
    pub(crate) fn corrupt(file: impl Into<PathBuf>, base: u64, bad: &BadBytes) -> Self {
        Self::Corrupt {
            file: file.into(),
            offset: base.saturating_add(bad.at as u64),
            what: bad.what.to_string(),
        }
    }

    /// A corruption described in words.
    pub(crate) fn corrupt_at(file: impl Into<PathBuf>, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.into(), offset, what: what.into() }
    }

    /// True if the same call may succeed when simply repeated.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Conflict(_)
            | Self::Busy(_)
            | Self::DiskFull(_)
            | Self::CommitUnknown(_)
            | Self::TooManyFiles(_) => true,
            Self::Io(error) => error.kind == IoErrorKind::Transient,
            _ => false,
        }
    }
}

impl From<BadOp> for Error {
    fn from(bad: BadOp) -> Self {
        Self::Invalid(bad.to_string())
    }
}

impl From<IoError> for Error {
    /// Sorts a disk error. What a failed *sync* means is decided by the caller, not here.
    fn from(error: IoError) -> Self {
        match error.kind {
            IoErrorKind::Full | IoErrorKind::Quota => Self::DiskFull(error),
            IoErrorKind::TooManyFiles => Self::TooManyFiles(error),
            _ => Self::Io(error),
        }
    }
}
