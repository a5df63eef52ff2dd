//! The verdict over one harmed database: does it answer right, or say that it cannot?

use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Db, Error, Scan, verify};

use super::build::{Contents, Subject, options};
use super::harm::Harm;
use super::world::{Image, MemoryWorld};

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
    let world = MemoryWorld::new(harmed);
    let env = Arc::clone(&world) as Arc<dyn Env>;
    let answer = match world.run(ask(env, &subject.contents, subject.last_seq)) {
        Ok(answer) => answer,
        Err(stuck) => Answer::Wrong(stuck),
    };
    match answer {
        Answer::Refused => Verdict::Refused,
        Answer::ReadError => Verdict::ReadError,
        Answer::Wrong(_) if harm.is_excused(subject, harmed) => Verdict::Excused,
        Answer::Wrong(what) => Verdict::Wrong(what),
        Answer::Right => notice(subject, harm, harmed),
    }
}

enum Answer {
    Refused,
    ReadError,
    Right,
    Wrong(String),
}

/// A harm that changes no answer must be named by verification, or concern bytes that nothing depends on.
fn notice(subject: &Subject, harm: &Harm, harmed: &Image) -> Verdict {
    let name = harm.file();
    let is_empty = |image: &Image| image.get(name).is_none_or(Vec::is_empty);
    if is_empty(&subject.image) {
        return Verdict::Unused;
    }
    let changed = |(file, bytes): (&String, &Vec<u8>)| {
        let now = harmed.get(file).map_or(&[][..], |now| &now[..]);
        (0..bytes.len()).all(|at| now.get(at) == Some(&bytes[at]) || subject.is_unused(file, at))
    };
    if subject.image.iter().all(changed) {
        return Verdict::Unused;
    }
    let world = MemoryWorld::new(harmed);
    let report = world.run(verify(Arc::clone(&world) as Arc<dyn Env>, "/db", |_| ()));
    match report {
        Ok(Ok(report)) if !report.is_good() => Verdict::Named,
        Ok(Err(_)) => Verdict::Named,
        _ if harm.is_excused(subject, harmed) => Verdict::Excused,
        Ok(Ok(_)) => Verdict::Wrong("no answer is wrong, but verification does not notice the harm".into()),
        Err(stuck) => Verdict::Wrong(format!("verification: {stuck}")),
    }
}

async fn ask(env: Arc<dyn Env>, contents: &Contents, last_seq: u64) -> Answer {
    let db = match Db::open_in(env, "/db", options()).await {
        Ok(db) => db,
        Err(Error::Busy(what)) => return Answer::Wrong(format!("opening was put off: {what}")),
        Err(_) => return Answer::Refused,
    };
    match compare(&db, contents, last_seq).await {
        Ok(true) => Answer::Right,
        Ok(false) => Answer::ReadError,
        Err(what) => Answer::Wrong(what),
    }
}

/// `Ok(false)` if some read failed and every other answer is right.
async fn compare(db: &Db, contents: &Contents, last_seq: u64) -> Result<bool, String> {
    if db.last_seq().get() < last_seq {
        return Err(format!("the newest commit is {}, not {last_seq}", db.last_seq()));
    }
    let names: Vec<String> = db.keyspaces().map_err(in_words)?.into_iter().map(|k| k.name).collect();
    if !names.iter().eq(contents.keys()) && names.len() != contents.len() {
        return Err(format!("the keyspaces are {names:?}"));
    }
    let mut all_read = true;
    let snapshot = db.snapshot();
    for (name, known) in contents {
        let keyspace = db.keyspace(name).map_err(in_words)?;
        let mut live = Vec::new();
        for (key, value) in known {
            match keyspace.get(key).await {
                Ok(found) if found.as_deref() == value.as_deref() => {}
                Ok(found) => {
                    return Err(format!("get {name}/{key:?} gives {found:?}, not {value:?}"));
                }
                Err(error) => all_read &= !is_read_error(error)?,
            }
            live.extend(value.as_ref().map(|value| (key.clone(), value.clone())));
        }
        let scans = [(Scan::all(), false), (Scan::all().reverse(), true)];
        for (scan, reverse) in scans {
            let mut cursor = match snapshot.scan(&keyspace, scan).await {
                Ok(cursor) => cursor,
                Err(error) => {
                    all_read &= !is_read_error(error)?;
                    continue;
                }
            };
            match cursor.collect().await {
                Ok(mut found) => {
                    if reverse {
                        found.reverse();
                    }
                    if found != live {
                        return Err(format!(
                            "a scan of {name} gives {} rows, not {}",
                            found.len(),
                            live.len()
                        ));
                    }
                }
                Err(error) => all_read &= !is_read_error(error)?,
            }
        }
        match keyspace.scan(Scan::prefix("key00")).await {
            Ok(mut cursor) => match cursor.count().await {
                Ok(count) => {
                    let expected = live.iter().filter(|(key, _)| key.starts_with(b"key00")).count();
                    if count != expected as u64 {
                        return Err(format!("{name} counts {count}, not {expected}"));
                    }
                }
                Err(error) => all_read &= !is_read_error(error)?,
            },
            Err(error) => all_read &= !is_read_error(error)?,
        }
    }
    Ok(all_read)
}

fn in_words(error: Error) -> String {
    format!("the error is of the wrong kind: {error}")
}

/// True for an error that says what is wrong with the disk.
fn is_read_error(error: Error) -> Result<bool, String> {
    match error {
        Error::Corrupt { .. } | Error::Io(_) | Error::NewerFormat { .. } => Ok(true),
        other => Err(in_words(other)),
    }
}
