//! Opening a database for a command, and one way to read it whichever way it was opened.
//!
//! A command that only reads should neither write nor be in anybody's way. So it looks at the database read-only, with
//! [`open_to_look`]: without the lock, and beside a process that has it open. Only what a crash left in the log is
//! recovered once, by an opening that is closed at once, or each look would read it again, and might show what the
//! next power loss takes back.
//!
//! An opening writes, if only a new log. Where it cannot (another process has the lock, the directory may not be written
//! to, the disk is full) or must not (the database is another user's, see [`owner`](crate::owner)) a command that reads
//! goes on with a look.
//!
//! Every opening keeps the same number of past commits (`--retain-commits`), for an opening with fewer would let the
//! others go, and `--at` would find nothing.

use holdfast::blocking::{
    Cursor, Db, Keyspace, ReadOnlyDb, ReadOnlyKeyspace, ReadOnlySnapshot, Snapshot, Txn,
};
use holdfast::env::IoErrorKind;
use holdfast::{Error, KeyspaceInfo, KeyspaceOptions, Metrics, Options, Scan, Seq, Value};

use crate::cli::{Database, Global, KeyBounds};
use crate::exit::{Failure, in_words};
use crate::owner::OtherOwner;
use crate::stderr;

/// A database opened by a command that reads.
pub enum Store {
    /// Opened as any database is.
    Open(Db),
    /// A look at a database, without its lock and without writing.
    Beside(ReadOnlyDb),
}

/// What a command reads from: one keyspace as one reader sees it.
pub enum View<'a> {
    /// The newest commit.
    Now(Keyspace),
    /// One commit, by a snapshot.
    Past(Snapshot, Keyspace),
    /// A transaction's view.
    Within(&'a Txn, &'a Keyspace),
    /// What was committed when the look began, or was last refreshed.
    Beside(ReadOnlyKeyspace),
    /// One commit of such a look.
    PastBeside(ReadOnlySnapshot, ReadOnlyKeyspace),
}

/// How many commits are kept readable by a command that writes, if it is not told.
const RETAIN_COMMITS: u64 = 1000;
/// The most that the kernel can be asked for: who only reads lets go of nothing that others keep.
const RETAIN_ALL: u64 = 1 << 40;

/// The settings with which a command opens a database to write.
pub fn options(global: &Global, create: bool) -> Options {
    Options { create_if_missing: create, retain_commits: retained(global), ..options_of_all(global) }
}

/// How many commits a command that writes keeps readable.
pub fn retained(global: &Global) -> u64 {
    global.retain_commits.unwrap_or(RETAIN_COMMITS)
}

/// The settings with which a command opens a database to read.
fn options_to_read(global: &Global) -> Options {
    let retain_commits = global.retain_commits.unwrap_or(RETAIN_ALL);
    Options { create_if_missing: false, retain_commits, ..options_of_all(global) }
}

/// The settings with which each command opens whatever it opens.
pub fn options_of_all(global: &Global) -> Options {
    let defaults = Options::default();
    Options { memory_limit_bytes: global.memory_limit.unwrap_or(defaults.memory_limit_bytes), ..defaults }
}

/// Opens for writing, and says so if it is another user's. With `create` it is made if it is not there.
///
/// # Errors
/// What the kernel says, [`Error::Locked`] among it.
pub fn open_to_write(database: &Database, global: &Global, create: bool) -> Result<Db, Failure> {
    let opened = Db::open(&database.path, options(global, create));
    let db = opened.map_err(|error| unopened(database, global, create, error))?;
    if let Some(other) = OtherOwner::of(&database.path) {
        other.tell_writing(&database.path, global.json);
    }
    Ok(db)
}

/// Why an opening to write failed. Of a database that could not even be made nothing is kept, whatever the kernel says of
/// those that there are.
fn unopened(database: &Database, global: &Global, create: bool, error: Error) -> Failure {
    let why = match &error {
        Error::DiskFull(full) | Error::CommitUnknown(full) => format!("disk full: {full}"),
        _ => return error.into(),
    };
    let look = || Db::open_read_only(&database.path, options_to_read(global));
    match create && matches!(look(), Err(Error::NotFound { .. })) {
        true => Failure::NotMade { dir: database.path.clone(), why },
        false => error.into(),
    }
}

/// Closes after commits, all of which are acknowledged. They stand in the log, so what fails now takes nothing from them:
/// it is a warning, and no reason to tell of a failure, after which they would be made a second time.
pub fn close_written(db: Db, global: &Global) {
    if let Err(error) = db.close() {
        let why = match error {
            // Nothing has to be tried again, as the kernel would have it.
            Error::DiskFull(full) => format!("disk full: {full}"),
            other => Failure::from(other).to_string(),
        };
        let what = format!(
            "closing the database did not finish: {why}; what was committed is durable in the log, and the next opening \
             does the rest"
        );
        stderr::warning(global.json, &what);
    }
}

/// Opens for reading what only an opening has, such as the counters; where it cannot or must not write, a look.
///
/// # Errors
/// What the kernel says.
pub fn open_to_read(database: &Database, global: &Global) -> Result<Store, Failure> {
    if OtherOwner::of(&database.path).is_some() {
        return open_to_watch(database, global);
    }
    match Db::open(&database.path, options_to_read(global)) {
        Err(Error::Locked(_)) => open_to_watch(database, global),
        Err(Error::Io(error)) if error.kind == IoErrorKind::Permission => open_to_watch(database, global),
        Err(Error::DiskFull(error)) => {
            let store = open_to_watch(database, global)?;
            let what = format!("the disk is full ({error}): reading without opening; free some space");
            stderr::note(global.json, &what);
            Ok(store)
        }
        outcome => Ok(Store::Open(outcome?)),
    }
}

/// Looks, without the lock. What a crash left in the log is recovered first, unless the database is another user's.
///
/// # Errors
/// What the kernel says.
pub fn open_to_look(database: &Database, global: &Global) -> Result<Store, Failure> {
    // What a look refuses, such as a log too long for it, or damage, the opening mends or reports.
    if let Ok(look) = Db::open_read_only(&database.path, options_to_read(global))
        && look.keyspaces().iter().all(|info| info.memtable_entries == 0)
    {
        return Ok(Store::Beside(look));
    }
    match open_to_read(database, global)? {
        Store::Open(db) => {
            // A look needs the recovery and not the tidying, which a full disk may refuse.
            close_written(db, global);
            open_to_watch(database, global)
        }
        look => Ok(look),
    }
}

/// Opens for looking on, without the lock, so that whoever wants to write can do so meanwhile.
///
/// # Errors
/// What the kernel says.
pub fn open_to_watch(database: &Database, global: &Global) -> Result<Store, Failure> {
    let look = Db::open_read_only(&database.path, options_to_read(global));
    Ok(Store::Beside(look.map_err(|error| unseen(database, error))?))
}

/// Why a look failed. What only an opening mends, its owner has to.
fn unseen(database: &Database, error: Error) -> Failure {
    match (error, OtherOwner::of(&database.path)) {
        (Error::Invalid(what), Some(other)) if what.contains("the log holds more than") => {
            let what = in_words(&what);
            Failure::Problem(format!("{what}; {} recovers it, and can read it then", other.hint()))
        }
        (error, _) => error.into(),
    }
}

/// The keyspace that the command works in; with `create` it is made if it is not there.
///
/// # Errors
/// [`Error::Invalid`] naming those that there are.
pub fn keyspace(db: &Db, global: &Global, create: bool) -> Result<Keyspace, Failure> {
    match db.keyspace(&global.keyspace) {
        Err(Error::Invalid(_)) if create => {
            Ok(db.create_keyspace(&global.keyspace, KeyspaceOptions::default())?)
        }
        outcome => Ok(outcome?),
    }
}

impl Store {
    /// The keyspace that the command reads, now or as of commit `at`.
    ///
    /// # Errors
    /// No such keyspace; [`Error::TooOld`]; a past that is in the future.
    pub fn view(&self, global: &Global, at: Option<u64>) -> Result<View<'static>, Failure> {
        match self {
            Self::Open(db) => {
                let keyspace = keyspace(db, global, false)?;
                match at {
                    Some(seq) => Ok(View::Past(db.at(Seq::new(seq))?, keyspace)),
                    None => Ok(View::Now(keyspace)),
                }
            }
            Self::Beside(look) => {
                let keyspace = look.keyspace(&global.keyspace)?;
                match at {
                    Some(seq) => Ok(View::PastBeside(look.at(Seq::new(seq))?, keyspace)),
                    None => Ok(View::Beside(keyspace)),
                }
            }
        }
    }

    /// All keyspaces.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn keyspaces(&self) -> Result<Vec<KeyspaceInfo>, Failure> {
        match self {
            Self::Open(db) => Ok(db.keyspaces()?),
            Self::Beside(looking) => Ok(looking.keyspaces()),
        }
    }

    /// About how many entries stand in a range, without reading it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn approximate_count(&self, global: &Global, bounds: KeyBounds) -> Result<u64, Failure> {
        Ok(match self {
            Self::Open(db) => keyspace(db, global, false)?.approximate_count(bounds),
            Self::Beside(look) => look.keyspace(&global.keyspace)?.approximate_count(bounds),
        }?)
    }

    /// Everything that is counted.
    pub fn metrics(&self) -> Metrics {
        match self {
            Self::Open(db) => db.metrics(),
            Self::Beside(looking) => looking.metrics(),
        }
    }

    /// True if this is a look, without the lock.
    pub fn is_beside(&self) -> bool {
        match self {
            Self::Open(_) => false,
            Self::Beside(_) => true,
        }
    }

    /// Moves a look to the state of now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn refresh(&self) -> Result<(), Failure> {
        match self {
            Self::Open(_) => Ok(()),
            Self::Beside(looking) => Ok(looking.refresh().map(|_| ())?),
        }
    }

    /// Ends the work with the database.
    ///
    /// # Errors
    /// What closing gave.
    pub fn close(self) -> Result<(), Failure> {
        match self {
            Self::Open(db) => Ok(db.close()?),
            Self::Beside(_) => Ok(()),
        }
    }
}

impl View<'_> {
    /// The value of `key`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, Failure> {
        Ok(match self {
            Self::Now(keyspace) => keyspace.get(key),
            Self::Past(snapshot, keyspace) => snapshot.get(keyspace, key),
            Self::Within(txn, keyspace) => txn.get(keyspace, key),
            Self::Beside(keyspace) => keyspace.get(key),
            Self::PastBeside(snapshot, keyspace) => snapshot.get(keyspace, key),
        }?)
    }

    /// A walk.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn scan(&self, scan: Scan) -> Result<Cursor, Failure> {
        Ok(match self {
            Self::Now(keyspace) => keyspace.scan(scan),
            Self::Past(snapshot, keyspace) => snapshot.scan(keyspace, scan),
            Self::Within(txn, keyspace) => txn.scan(keyspace, scan),
            Self::Beside(keyspace) => keyspace.scan(scan),
            Self::PastBeside(snapshot, keyspace) => snapshot.scan(keyspace, scan),
        }?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use holdfast::env::IoError;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn of_a_database_that_could_not_be_made_nothing_is_said_to_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let full = || {
            Error::DiskFull(IoError {
                kind: IoErrorKind::Full,
                operation: "write",
                path: "CURRENT.tmp".into(),
                offset: None,
                detail: "No space left on device".into(),
            })
        };
        let cli = Cli::parse_from(["holdfast", "verify", path.to_str().unwrap()]);
        let Command::Verify { db } = cli.command else { unreachable!("it is a verify") };
        let said = |create| {
            let failure = unopened(&db, &cli.global, create, full());
            assert_eq!(failure.exit(), crate::exit::Exit::Problem);
            failure.message(false).unwrap()
        };
        assert!(said(true).contains("no database could be made in") && !said(true).contains("is kept"));
        assert!(
            said(true).contains("disk full: write of CURRENT.tmp") && said(true).contains("free some space")
        );
        assert!(said(false).contains("what was acknowledged is kept"));
        Db::open(&path, options(&cli.global, true)).unwrap().close().unwrap();
        assert!(said(true).contains("what was acknowledged is kept"));
    }
}
