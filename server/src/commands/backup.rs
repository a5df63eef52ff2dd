//! Backup and restore: whole copies, checked on their way and verified before they count.
//!
//! The kernel copies: bytes, each checked as it passes, with the sequences of all commits and the past that is kept. If
//! another process has the database open, it copies beside that. Both commands end with a verification of the copy as
//! it then stands on the disk.
//!
//! A copy gets its name when it is whole ([`new_directory`](super::new_directory)).

use std::path::Path;

use holdfast::blocking::{Db, ReadOnlyDb};
use holdfast::{BackupProgress, CheckpointInfo, Error};
use indicatif::HumanBytes;
use serde_json::json;

use super::new_directory::NewDirectory;
use super::upkeep::verify_directory;
use crate::cli::{Database, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Bytes;
use crate::store::{Store, open_to_look, options_of_all};
use crate::visible::path_text;

pub(super) fn backup(
    database: &Database,
    global: &Global,
    into: &Path,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let place = NewDirectory::beside(into, &database.path)?;
    // Nobody who wants to write has to wait until the copy is done.
    let store = open_to_look(database, global)?;
    let info = place.fill(|unfinished| {
        let info = showing_progress("copying", |tell| match &store {
            Store::Open(db) => db.backup_with(unfinished, tell),
            Store::Beside(looking) => looking.backup_with(unfinished, tell),
        })?;
        store.close()?;
        verify_copy(unfinished)?;
        Ok(info)
    })?;
    let seq = info.seq;
    tell(into, &info, &format!("backed up commit {seq}"), json!({ "seq": seq.get() }), out)
}

pub(super) fn restore(from: &Path, global: &Global, into: &Path, out: &mut Output) -> Result<Exit, Failure> {
    let place = NewDirectory::beside(into, from)?;
    let backup = Db::open_read_only(from, options_of_all(global)).map_err(|error| unrestored(from, error))?;
    let info = place.fill(|unfinished| {
        let restored =
            showing_progress("restoring", |tell| ReadOnlyDb::backup_with(&backup, unfinished, tell));
        let info = restored.map_err(|error| unrestored(from, error))?;
        verify_copy(unfinished)?;
        Ok(info)
    })?;
    let seq = info.seq;
    let object = json!({ "restored": path_text(into), "seq": seq.get() });
    tell(into, &info, &format!("restored commit {seq}"), object, out)
}

/// Why a backup cannot be restored.
fn unrestored(from: &Path, error: Error) -> Failure {
    match error {
        Error::Corrupt { .. } => Failure::Problem(format!(
            "the backup {} is damaged, and nothing was restored: {error}",
            from.display()
        )),
        other => other.into(),
    }
}

/// Runs a copy that tells how far it is.
fn showing_progress(
    what: &'static str,
    copy: impl FnOnce(&mut (dyn FnMut(&BackupProgress) + Send)) -> holdfast::Result<CheckpointInfo>,
) -> holdfast::Result<CheckpointInfo> {
    let bytes = Bytes::start(what);
    let copied = copy(&mut |now| bytes.at(now.bytes_done, now.bytes_total));
    bytes.finish();
    copied
}

fn tell(
    dir: &Path,
    info: &CheckpointInfo,
    text: &str,
    mut object: serde_json::Value,
    out: &mut Output,
) -> Result<Exit, Failure> {
    object["bytes"] = json!(info.bytes);
    let bytes = HumanBytes(info.bytes);
    out.say(format_args!("{text}: {bytes} in {}, verified", dir.display()), object)?;
    Ok(Exit::Good)
}

/// Verifies every byte of a copy.
fn verify_copy(dir: &Path) -> Result<(), Failure> {
    let report = verify_directory(dir)?;
    match report.problems.first() {
        None => Ok(()),
        Some(first) => Err(Failure::Problem(format!(
            "the copy came out damaged and is not kept: {} at byte {}: {}",
            first.file.display(),
            first.offset,
            first.what
        ))),
    }
}
