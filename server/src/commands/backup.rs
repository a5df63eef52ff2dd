//! Backup and restore: whole copies, verified before they count.
//!
//! A backup is a checkpoint of the database whose tables are then copied, where the checkpoint only linked them, so that
//! damage to the original cannot reach it. Both commands end with a verification of every byte of the copy. If another
//! process has the database open, its newest state is copied record by record instead, which reads and so checks every
//! block just as well.

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
    let (seq, shared) = match open_to_read(database, global)? {
        Store::Open(db) => {
            let info = db.checkpoint(into)?;
            unlink_from_original(into)?;
            db.close()?;
            (info.seq, false)
        }
        Store::Beside(looking) => (copy_records(&looking, into)?, true),
    };
    let how = if shared { ", taken beside the process that has it open" } else { "" };
    verified(into, &format!("backed up commit {seq}{how}"), json!({ "seq": seq.get() }), out)
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
    verified(into, "restored", json!({ "restored": into }), out)
}

fn verified(
    dir: &Path,
    text: &str,
    mut object: serde_json::Value,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let report = verify_directory(dir)?;
    if !report.is_good() {
        let first = report.problems.first().map_or(String::new(), |problem| problem.what.clone());
        return Err(Failure::Problem(format!(
            "the copy in {} is damaged and must not be used: {first}",
            dir.display()
        )));
    }
    let bytes: u64 = report.files.iter().map(|file| file.bytes).sum();
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
