//! Backup and restore: whole copies, verified before they count.
//!
//! A backup is a checkpoint of the database whose tables are then copied, where the checkpoint only linked them, so that
//! damage to the original cannot reach it. Both commands end with a verification of every byte of the copy. If another
//! process has the database open, its newest state is copied record by record instead, which reads and so checks every
//! block just as well; the copy then numbers its commits anew.
//!
//! A backup is made beside its place and gets its name last, so what has that name is whole: an interrupted one is left
//! as `NAME.unfinished`.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use holdfast::blocking::{Db, ReadOnlyDb};
use holdfast::{Durability, Options, Scan, WriteBatch};
use indicatif::HumanBytes;
use serde_json::json;

use super::upkeep::verify_directory;
use crate::cli::{Database, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::store::{Store, open_to_read};

/// Names the manifest in force; written last, so that half a copy is refused.
const CURRENT: &str = "CURRENT";
/// Files that belong to an opening, not to the data.
const NOT_COPIED: [&str; 2] = ["LOCK", "RESERVE"];
const BATCH_BYTES: usize = 4 << 20;

pub(super) fn backup(
    database: &Database,
    global: &Global,
    into: &Path,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let place = Place::beside(into)?;
    let (seq, shared) = match open_to_read(database, global)? {
        Store::Open(db) => {
            let info = db.checkpoint(&place.unfinished)?;
            unlink_from_original(&place.unfinished)?;
            db.close()?;
            (info.seq, false)
        }
        Store::Beside(looking) => (copy_records(&looking, &place.unfinished)?, true),
    };
    let how = if shared { ", record by record beside the process that has it open" } else { "" };
    let bytes = verify_copy(&place.unfinished)?;
    place.take()?;
    tell(into, bytes, &format!("backed up commit {seq}{how}"), json!({ "seq": seq.get() }), out)
}

/// Where a backup is made, and where it belongs.
struct Place<'a> {
    unfinished: PathBuf,
    into: &'a Path,
}

impl<'a> Place<'a> {
    /// Checks that both are free.
    fn beside(into: &'a Path) -> Result<Self, Failure> {
        let wrong = |what: String| Err(Failure::WrongUse(what));
        let Some(name) = into.file_name() else {
            return wrong(format!("{} names no directory; give a new one", into.display()));
        };
        let mut unfinished = name.to_os_string();
        unfinished.push(".unfinished");
        let unfinished = into.with_file_name(unfinished);
        if unfinished.symlink_metadata().is_ok() {
            let left = unfinished.display();
            return wrong(format!("{left} is left over from a backup that was interrupted; remove it first"));
        }
        match std::fs::read_dir(into).map(|mut entries| entries.next().is_some()) {
            Ok(true) => wrong(format!("{} is not empty; give a new directory", into.display())),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io(into.display().to_string(), error))
            }
            _ => Ok(Self { unfinished, into }),
        }
    }

    /// Gives the finished backup its name, durably.
    fn take(&self) -> Result<(), Failure> {
        let renamed = std::fs::rename(&self.unfinished, self.into);
        renamed.map_err(|error| Failure::io(self.into.display().to_string(), error))?;
        let parent = self.into.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))
    }
}

pub(super) fn restore(from: &Path, into: &Path, out: &mut Output) -> Result<Exit, Failure> {
    let source = verify_directory(from)?;
    if !source.is_sound() {
        let problems = source.problems.len();
        return Err(Failure::Problem(format!(
            "the backup {} has {problems} problems; `holdfast verify` shows them, nothing was restored",
            from.display()
        )));
    }
    make_empty(into)?;
    let mut names: Vec<PathBuf> = files_of(from)?;
    names.sort_by_key(|name| name.ends_with(CURRENT));
    for file in names {
        let name = file.file_name().unwrap_or_default();
        if NOT_COPIED.iter().any(|not| name == *not) {
            continue;
        }
        copy_durably(&file, &into.join(name))?;
    }
    sync_directory(into)?;
    let bytes = verify_copy(into)?;
    tell(into, bytes, "restored", json!({ "restored": into }), out)
}

/// Verifies every byte of a copy and gives its size.
fn verify_copy(dir: &Path) -> Result<u64, Failure> {
    let report = verify_directory(dir)?;
    if !report.is_good() {
        let first = report.problems.first().map_or(String::new(), |problem| problem.what.clone());
        return Err(Failure::Problem(format!(
            "the copy in {} is damaged and must not be used: {first}",
            dir.display()
        )));
    }
    Ok(report.files.iter().map(|file| file.bytes).sum())
}

fn tell(
    dir: &Path,
    bytes: u64,
    text: &str,
    mut object: serde_json::Value,
    out: &mut Output,
) -> Result<Exit, Failure> {
    object["bytes"] = json!(bytes);
    out.say(format_args!("{text}: {} in {}, verified", HumanBytes(bytes), dir.display()), object)?;
    Ok(Exit::Good)
}

/// Gives each file of the checkpoint bytes of its own.
fn unlink_from_original(dir: &Path) -> Result<(), Failure> {
    for file in files_of(dir)? {
        let failed = |error| Failure::io(file.display().to_string(), error);
        if file.metadata().map_err(failed)?.nlink() > 1 {
            let copy = file.with_extension("table.tmp");
            copy_durably(&file, &copy)?;
            std::fs::rename(&copy, &file).map_err(failed)?;
        }
    }
    sync_directory(dir)
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::io(dir.display().to_string(), error);
    let entries: Result<Vec<PathBuf>, _> =
        std::fs::read_dir(dir).map_err(failed)?.map(|entry| entry.map(|entry| entry.path())).collect();
    entries.map_err(failed)
}

fn copy_durably(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::copy(from, to)
        .and_then(|_| File::open(to)?.sync_all())
        .map_err(|error| Failure::io(to.display().to_string(), error))
}

fn sync_directory(dir: &Path) -> Result<(), Failure> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| Failure::io(dir.display().to_string(), error))
}

fn make_empty(dir: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::io(dir.display().to_string(), error);
    std::fs::create_dir_all(dir).map_err(failed)?;
    match std::fs::read_dir(dir).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(Failure::WrongUse(format!("{} is not empty; give a new directory", dir.display()))),
    }
}

/// Copies what a look at a live database shows into a new one.
fn copy_records(looking: &ReadOnlyDb, into: &Path) -> Result<holdfast::Seq, Failure> {
    make_empty(into)?;
    let db = Db::open(into, Options::default())?;
    let mut progress = Progress::start("copying", None);
    for info in looking.keyspaces() {
        let from = looking.keyspace(&info.name)?;
        let to = match db.keyspace(&info.name) {
            Ok(found) => found,
            Err(_) => db.create_keyspace(&info.name, info.options.clone())?,
        };
        let mut cursor = from.scan(Scan::all())?;
        let mut batch = WriteBatch::new();
        while let Some(entry) = cursor.next()? {
            batch.put(to.id(), entry.key, entry.value).map_err(holdfast::Error::from)?;
            progress.add(1);
            if batch.byte_size() >= BATCH_BYTES {
                db.write(std::mem::take(&mut batch), Durability::Buffered)?;
            }
        }
        db.write(batch, Durability::Buffered)?;
    }
    db.sync()?;
    db.close()?;
    progress.finish();
    Ok(looking.last_seq())
}
