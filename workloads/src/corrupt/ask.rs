//! Asks a harmed database everything, and lets some of them live on: what was not noticed must not do harm later.
//!
//! A database that opened over its harm is written to, flushed and compacted, killed and opened again. A compaction
//! that meets the harm must fail and name it; one that takes wrong bytes for good ones would seal them under checksums
//! of their own, and one that leaves out what it cannot read would lose rows for ever.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Db, Error, Keyspace, Scan, Seq, Snapshot};

use super::build::{Contents, Known, Truth, options};
use super::harm::Harm;
use super::world::{DIR, Image, MemoryWorld};

/// A row as a cursor collects it.
type Row = (Vec<u8>, Vec<u8>);

/// What a harmed database answers.
pub(super) enum Answer {
    /// It does not open.
    Refused,
    /// Reads of what is harmed failed; everything else is right.
    ReadError,
    /// Everything is right.
    Right,
    /// Something is not, in words.
    Wrong(String),
}

/// What is left of the files after a kill, given those before the opening and those as they were written since.
pub type Kill = fn(&Image, Image) -> Image;

/// What the files answer when they are asked everything; and again after further commits, a flush, a compaction and a
/// kill, if the harm is one of those [`Harm::lives_on`] chooses.
pub(super) fn answer(harm: &Harm, harmed: &Image, truth: &Truth, kill: Kill) -> Answer {
    let world = MemoryWorld::new(harmed);
    let env = Arc::clone(&world) as Arc<dyn Env>;
    let mut asking = Asking { harm, all_read: true };
    let mut after = None;
    let first = world.run(async {
        let db = match open(env).await {
            Ok(Some(db)) => db,
            Ok(None) => return Ok(Answer::Refused),
            Err(what) => return Err(what),
        };
        asking.everything(&db, truth).await?;
        let first = if asking.all_read { Answer::Right } else { Answer::ReadError };
        if harm.lives_on() {
            after = Some(asking.live_on(&db, truth).await.map_err(|what| format!("{LATER}{what}"))?);
        }
        Ok(first)
    });
    let outcome = match (first.and_then(|first| first), after) {
        (Ok(first), Some(truth)) => again(harm, &kill(harmed, world.image()), &truth).map(|()| first),
        (first, _) => first,
    };
    outcome.unwrap_or_else(Answer::Wrong)
}

/// Begins the words for what is wrong only after the database has lived on.
pub const LATER: &str = "after further commits, a flush and a compaction: ";

/// The database that was killed after it had lived on is opened once more.
fn again(harm: &Harm, image: &Image, truth: &Truth) -> Result<(), String> {
    let world = MemoryWorld::new(image);
    let env = Arc::clone(&world) as Arc<dyn Env>;
    let outcome = world.run(async {
        let db = open(env).await?.ok_or("it does not open any more")?;
        Asking { harm, all_read: true }.everything(&db, truth).await
    });
    outcome.and_then(|outcome| outcome).map_err(|what| format!("{LATER}after a kill: {what}"))
}

/// `None` if opening is refused for a good reason.
async fn open(env: Arc<dyn Env>) -> Result<Option<Db>, String> {
    match Db::open_in(env, DIR, options()).await {
        Ok(db) => Ok(Some(db)),
        // A file that is missing or cannot be one of its kind may be named by another that names it.
        Err(Error::Corrupt { .. } | Error::NotFound { .. } | Error::NewerFormat { .. }) => Ok(None),
        Err(other) => Err(format!("opening is refused for no good reason: {other}")),
    }
}

/// True if `path` is one of the files that `harm` touches.
pub(super) fn is_harmed(harm: &Harm, path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| harm.touches(name))
}

/// Compares answers with the truth. A read may fail, if it names the harmed file; everything else must be right.
struct Asking<'a> {
    harm: &'a Harm,
    all_read: bool,
}

impl Asking<'_> {
    async fn everything(&mut self, db: &Db, truth: &Truth) -> Result<(), String> {
        if db.last_seq().get() != truth.last_seq {
            return Err(format!("the newest commit is {}, not {}", db.last_seq(), truth.last_seq));
        }
        let mut names: Vec<String> = db.keyspaces().map_err(in_words)?.into_iter().map(|k| k.name).collect();
        names.sort();
        if !names.iter().eq(truth.contents.keys()) {
            return Err(format!("the keyspaces are {names:?}"));
        }
        for (name, known) in &truth.contents {
            self.gets(&db.keyspace(name).map_err(in_words)?, known).await?;
        }
        let newest = db.snapshot();
        self.scans(db, &newest, &truth.contents, false).await?;
        self.scans(db, &newest, &truth.contents, true).await?;
        self.counts(db, &newest, &truth.contents, "").await?;
        self.counts(db, &newest, &truth.contents, "key00").await?;
        // Snapshots of the past, in one direction each: what differs between directions is asked of the newest.
        for (at, (seq, contents)) in truth.history.iter().enumerate() {
            let snapshot = db.at(Seq::new(*seq)).map_err(in_words)?;
            self.scans(db, &snapshot, contents, at % 2 == 1).await?;
            self.counts(db, &snapshot, contents, "key01").await?;
        }
        Ok(())
    }

    /// Commits to every keyspace, flushes, compacts, and asks everything again; gives what holds from now on.
    async fn live_on(&mut self, db: &Db, truth: &Truth) -> Result<Truth, String> {
        let mut truth = truth.clone();
        for (name, known) in &mut truth.contents {
            let keyspace = db.keyspace(name).map_err(in_words)?;
            let (key, value) = (b"lives on".to_vec(), b"after the harm".to_vec());
            let seq = keyspace.put(&key, &value).await.map_err(in_words)?.get();
            if seq <= truth.last_seq {
                return Err(format!("the commit after {} has number {seq}", truth.last_seq));
            }
            truth.last_seq = seq;
            known.insert(key, Some(value));
        }
        self.read(db.flush().await)?;
        self.read(db.compact().await)?;
        self.read(db.wait_idle().await)?;
        self.everything(db, &truth).await?;
        Ok(truth)
    }

    async fn gets(&mut self, keyspace: &Keyspace, known: &Known) -> Result<(), String> {
        for (key, value) in known {
            match keyspace.get(key).await {
                Ok(found) if found.as_deref() == value.as_deref() => {}
                Ok(found) => {
                    let (name, key) = (keyspace.name(), String::from_utf8_lossy(key));
                    return Err(format!("get {name}/{key} gives {found:?}, not {value:?}"));
                }
                Err(error) => self.failed(error)?,
            }
        }
        Ok(())
    }

    /// Every row of every keyspace.
    async fn scans(
        &mut self,
        db: &Db,
        snapshot: &Snapshot,
        contents: &Contents,
        reverse: bool,
    ) -> Result<(), String> {
        for (name, known) in contents {
            let keyspace = db.keyspace(name).map_err(in_words)?;
            let scan = if reverse { Scan::all().reverse() } else { Scan::all() };
            let Some(mut found) = self.read(rows(snapshot, &keyspace, scan).await)? else { continue };
            if reverse {
                found.reverse();
            }
            let rows = found.iter().map(|(key, value)| (&key[..], &value[..]));
            if !rows.eq(live(known)) {
                let (count, expected, seq) = (found.len(), live(known).count(), snapshot.seq());
                return Err(format!("a scan of {name} at {seq} gives {count} rows, not these {expected}"));
            }
        }
        Ok(())
    }

    /// The number of rows of every keyspace whose keys begin with `prefix`.
    async fn counts(
        &mut self,
        db: &Db,
        snapshot: &Snapshot,
        contents: &Contents,
        prefix: &str,
    ) -> Result<(), String> {
        for (name, known) in contents {
            let keyspace = db.keyspace(name).map_err(in_words)?;
            let scan = if prefix.is_empty() { Scan::all() } else { Scan::prefix(prefix) };
            let Some(count) = self.read(count(snapshot, &keyspace, scan).await)? else { continue };
            let expected = live(known).filter(|(key, _)| key.starts_with(prefix.as_bytes())).count() as u64;
            if count != expected {
                let seq = snapshot.seq();
                return Err(format!("{name}/{prefix}* at {seq} counts {count}, not {expected}"));
            }
        }
        Ok(())
    }

    fn read<T>(&mut self, outcome: holdfast::Result<T>) -> Result<Option<T>, String> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.failed(error).map(|()| None),
        }
    }

    /// Notes that a read failed, for the one good reason.
    fn failed(&mut self, error: Error) -> Result<(), String> {
        match &error {
            Error::Corrupt { file, .. } | Error::NewerFormat { file, .. } if is_harmed(self.harm, file) => {
                self.all_read = false;
                Ok(())
            }
            _ => Err(in_words(error)),
        }
    }
}

/// The keys that are there.
fn live(known: &Known) -> impl Iterator<Item = (&[u8], &[u8])> {
    known.iter().filter_map(|(key, value)| Some((&key[..], value.as_deref()?)))
}

async fn rows(snapshot: &Snapshot, keyspace: &Keyspace, scan: Scan) -> holdfast::Result<Vec<Row>> {
    snapshot.scan(keyspace, scan).await?.collect().await
}

async fn count(snapshot: &Snapshot, keyspace: &Keyspace, scan: Scan) -> holdfast::Result<u64> {
    snapshot.scan(keyspace, scan).await?.count().await
}

fn in_words(error: Error) -> String {
    format!("the error is of the wrong kind, or names the wrong file: {error}")
}
