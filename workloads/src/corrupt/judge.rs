//! The verdict over one harmed database: does it answer right, or say that it cannot?

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Db, Error, Keyspace, Scan, Seq, Snapshot, verify};

use super::build::{Contents, Known, Subject, Truth, options};
use super::harm::Harm;
use super::world::{DIR, Image, MemoryWorld};

/// What is wrong if nothing else is.
pub const NOT_NOTICED: &str = "no answer is wrong, but verification does not notice the harm";

/// A row as a cursor collects it.
type Row = (Vec<u8>, Vec<u8>);

/// What became of a harm.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Opening was refused.
    Refused,
    /// It opened, and reads of what is harmed failed.
    ReadError,
    /// Every answer is right, and verification names the harm.
    Named,
    /// Every answer is right, and nothing depends on the bytes.
    Unused,
    /// What one disk cannot know: the newest unsealed group of the log is gone.
    Excused,
    /// A wrong answer, or a harm that nobody noticed.
    Wrong(String),
}

impl Verdict {
    /// In one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ReadError => "read error",
            Self::Named => "harmless, named",
            Self::Unused => "harmless, unused",
            Self::Excused => "excused",
            Self::Wrong(_) => "WRONG",
        }
    }
}

/// Judges what `harm` made of `subject`.
pub fn judge(subject: &Subject, harm: &Harm, harmed: &Image) -> Verdict {
    match answer(harm, harmed, &subject.truth) {
        Answer::Refused => Verdict::Refused,
        Answer::ReadError => Verdict::ReadError,
        Answer::Right => notice(subject, harm, harmed),
        Answer::Wrong(_) if is_excused(subject, harm, harmed) => Verdict::Excused,
        Answer::Wrong(what) => Verdict::Wrong(what),
    }
}

/// Says what is wrong with the answers of an unharmed database, before anything is made of those of a harmed one.
///
/// # Errors
/// What is wrong, in words.
pub fn baseline(subject: &Subject) -> Result<(), String> {
    let nothing = Harm::Remove { file: "LOCK".into() };
    match answer(&nothing, &subject.image, &subject.truth) {
        Answer::Right => Ok(()),
        Answer::Wrong(what) => Err(format!("{}, unharmed: {what}", subject.name)),
        Answer::Refused | Answer::ReadError => Err(format!("{}, unharmed: cannot be read", subject.name)),
    }
}

/// True if the newest group of the log is what it was before, which one disk cannot know, and every answer is that of
/// a moment before.
fn is_excused(subject: &Subject, harm: &Harm, harmed: &Image) -> bool {
    let Some((_, truth)) = &subject.before_last else { return false };
    harm.is_excused(subject, harmed) && matches!(answer(harm, harmed, truth), Answer::Right)
}

enum Answer {
    Refused,
    ReadError,
    Right,
    Wrong(String),
}

/// A harm that changes no answer must be named by verification, or concern bytes that nothing depends on.
fn notice(subject: &Subject, harm: &Harm, harmed: &Image) -> Verdict {
    let unchanged = |(file, bytes): (&String, &Arc<Vec<u8>>)| {
        let now = harmed.get(file).map_or(&[][..], |now| &now[..]);
        !harm.touches(file)
            || (0..bytes.len()).all(|at| now.get(at) == Some(&bytes[at]) || subject.is_unused(file, at))
    };
    if subject.image.iter().all(unchanged) {
        return Verdict::Unused;
    }
    let world = MemoryWorld::new(harmed);
    match world.run(verify(Arc::clone(&world) as Arc<dyn Env>, DIR, |_| ())) {
        Ok(Ok(report)) if report.problems.iter().any(|problem| is_harmed(harm, &problem.file)) => {
            Verdict::Named
        }
        Ok(Ok(report)) if report.is_good() => Verdict::Wrong(NOT_NOTICED.into()),
        Ok(Ok(report)) => Verdict::Wrong(format!("verification names the wrong file: {:?}", report.problems)),
        Ok(Err(error)) => Verdict::Wrong(format!("it opens, but verification fails: {error}")),
        Err(stuck) => Verdict::Wrong(format!("verification: {stuck}")),
    }
}

/// True if `path` is one of the files that `harm` touches.
fn is_harmed(harm: &Harm, path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| harm.touches(name))
}

/// What the files answer when they are asked everything.
fn answer(harm: &Harm, harmed: &Image, truth: &Truth) -> Answer {
    let world = MemoryWorld::new(harmed);
    let env = Arc::clone(&world) as Arc<dyn Env>;
    world.run(ask(env, harm, truth)).unwrap_or_else(Answer::Wrong)
}

async fn ask(env: Arc<dyn Env>, harm: &Harm, truth: &Truth) -> Answer {
    let db = match Db::open_in(env, DIR, options()).await {
        Ok(db) => db,
        // A file that is missing or cannot be one of its kind may be named by another that names it.
        Err(Error::Corrupt { .. } | Error::NotFound { .. } | Error::NewerFormat { .. }) => {
            return Answer::Refused;
        }
        Err(other) => return Answer::Wrong(format!("opening is refused for no good reason: {other}")),
    };
    let mut asking = Asking { harm, all_read: true };
    match asking.everything(&db, truth).await {
        Ok(()) if asking.all_read => Answer::Right,
        Ok(()) => Answer::ReadError,
        Err(what) => Answer::Wrong(what),
    }
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
