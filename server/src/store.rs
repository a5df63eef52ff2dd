//! Opening a database for a command, and one way to read it whichever way it was opened.
//!
//! A command that only reads opens the database as any other does. If another process has it open, the command looks
//! at it read-only, beside that process, without its lock and without writing; so too if it may not write there.
//!
//! Every opening keeps the same number of past commits (`--retain-commits`), for an opening with fewer would let the
//! others go, and `--at` would find nothing.

use holdfast::blocking::{Cursor, Db, Keyspace, ReadOnlyDb, ReadOnlyKeyspace, Snapshot, Txn};
use holdfast::env::IoErrorKind;
use holdfast::{Error, KeyspaceInfo, KeyspaceOptions, Metrics, Options, Scan, Seq, Value};

use crate::cli::{Database, Global};
use crate::exit::Failure;

/// A database opened by a command that reads.
pub enum Store {
    /// Opened as any database is.
    Open(Db),
    /// A look at a database that another process has open.
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
}

/// The settings with which a command opens a database.
pub fn options(global: &Global, create: bool) -> Options {
    Options { create_if_missing: create, retain_commits: global.retain_commits, ..Options::default() }
}

/// Opens for writing. With `create` it is made if it is not there.
///
/// # Errors
/// What the kernel says, [`Error::Locked`] among it.
pub fn open_to_write(database: &Database, global: &Global, create: bool) -> Result<Db, Failure> {
    Ok(Db::open(&database.path, options(global, create))?)
}

/// Opens for reading, beside another process if need be.
///
/// # Errors
/// What the kernel says.
pub fn open_to_read(database: &Database, global: &Global) -> Result<Store, Failure> {
    match Db::open(&database.path, options(global, false)) {
        Err(Error::Locked(_)) => open_to_watch(database, global),
        Err(Error::Io(error)) if error.kind == IoErrorKind::Permission => open_to_watch(database, global),
        outcome => Ok(Store::Open(outcome?)),
    }
}

/// Opens for looking on, without the lock, so that whoever wants to write can do so meanwhile.
///
/// # Errors
/// What the kernel says.
pub fn open_to_watch(database: &Database, global: &Global) -> Result<Store, Failure> {
    Ok(Store::Beside(Db::open_read_only(&database.path, options(global, false))?))
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
            Self::Beside(_) if at.is_some() => Err(Failure::Problem(
                "another process has the database open; beside it only the newest state can be read, not --at".into(),
            )),
            Self::Beside(looking) => Ok(View::Beside(looking.keyspace(&global.keyspace)?)),
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

    /// Everything that is counted.
    pub fn metrics(&self) -> Metrics {
        match self {
            Self::Open(db) => db.metrics(),
            Self::Beside(looking) => looking.metrics(),
        }
    }

    /// True if another process has the database open and this is a look at it.
    pub fn is_beside(&self) -> bool {
        match self {
            Self::Open(_) => false,
            Self::Beside(_) => true,
        }
    }

    /// Moves a look at another process's database to the state of now.
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
        }?)
    }
}
