//! Backup and restore: whole copies, checked on their way and verified before they count.
//!
//! The kernel copies: bytes, each checked as it passes, with the sequences of all commits and the past that is kept. If
//! another process has the database open, it copies beside that. Both commands end with a verification of the copy as
//! it then stands on the disk.
//!
//! A copy is made beside its place and gets its name last, so what has that name is whole: an interrupted one is left
//! as `NAME.unfinished`, which no command opens.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use holdfast::blocking::{Db, ReadOnlyDb};
use holdfast::{BackupProgress, CheckpointInfo, Error, Options};
use indicatif::HumanBytes;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::upkeep::verify_directory;
use crate::cli::{Database, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Bytes;
use crate::store::{Store, open_to_look};

pub(super) fn backup(
    database: &Database,
    global: &Global,
    into: &Path,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let place = Place::beside(into)?;
    // Nobody who wants to write has to wait until the copy is done.
    let store = open_to_look(database, global)?;
    let info = place.fill(|unfinished| {
        let info = showing_progress("copying", |tell| match &store {
            Store::Open(db) => db.backup_with(unfinished, tell),
            Store::Beside(looking) => looking.backup_with(unfinished, tell),
        })?;
        store.close()?;
        Ok(info)
    })?;
    let seq = info.seq;
    tell(into, &info, &format!("backed up commit {seq}"), json!({ "seq": seq.get() }), out)
}

pub(super) fn restore(from: &Path, into: &Path, out: &mut Output) -> Result<Exit, Failure> {
    let place = Place::beside(into)?;
    let backup = Db::open_read_only(from, Options::default()).map_err(|error| unrestored(from, error))?;
    let info = place.fill(|unfinished| {
        let restored =
            showing_progress("restoring", |tell| ReadOnlyDb::backup_with(&backup, unfinished, tell));
        restored.map_err(|error| unrestored(from, error))
    })?;
    let seq = info.seq;
    let object = json!({ "restored": into, "seq": seq.get() });
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

/// Where a copy is made, and where it belongs.
struct Place<'a> {
    unfinished: PathBuf,
    into: &'a Path,
}

impl<'a> Place<'a> {
    /// Checks that both are free, and that there is a directory to make them in.
    fn beside(into: &'a Path) -> Result<Self, Failure> {
        let wrong = |what: String| Err(Failure::WrongUse(what));
        let Some(name) = into.file_name() else {
            return wrong(format!("{} names no directory; give a new one", into.display()));
        };
        let mut unfinished = name.to_os_string();
        unfinished.push(".unfinished");
        let place = Self { unfinished: into.with_file_name(unfinished), into };
        if place.unfinished.symlink_metadata().is_ok() {
            return Err(place.left_over());
        }
        match std::fs::read_dir(into).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return wrong(format!("{} is not empty; give a new directory", into.display())),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::io(into.display().to_string(), error));
            }
            _ => {}
        }
        let parent = place.parent();
        if !parent.is_dir() {
            let (parent, into) = (parent.display(), into.display());
            return wrong(format!("there is no directory {parent} to make {into} in; create it first"));
        }
        Ok(place)
    }

    /// Has the copy made by `copy`, verifies it, and gives it its name, durably.
    fn fill(
        &self,
        copy: impl FnOnce(&Path) -> Result<CheckpointInfo, Failure>,
    ) -> Result<CheckpointInfo, Failure> {
        // Whoever makes the directory owns it: a second run at the same time is told that it is there.
        std::fs::create_dir(&self.unfinished).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => self.left_over(),
            _ => Failure::io(self.unfinished.display().to_string(), error),
        })?;
        say_what_a_signal_leaves(self.unfinished.clone())?;
        let filled = copy(&self.unfinished).and_then(|info| {
            verify_copy(&self.unfinished)?;
            self.take()?;
            Ok(info)
        });
        filled.map_err(|failure| {
            // The kernel removes what it made, if it can; then the directory is empty and goes too.
            let gone = std::fs::remove_dir(&self.unfinished);
            match gone.is_err() && self.unfinished.symlink_metadata().is_ok() {
                true => Failure::Unfinished { failure: Box::new(failure), left: self.unfinished.clone() },
                false => failure,
            }
        })
    }

    fn take(&self) -> Result<(), Failure> {
        let renamed = std::fs::rename(&self.unfinished, self.into);
        renamed.map_err(|error| Failure::io(self.into.display().to_string(), error))?;
        let synced = File::open(self.parent()).and_then(|dir| dir.sync_all());
        synced.map_err(|error| Failure::io(self.parent().display().to_string(), error))
    }

    fn parent(&self) -> &Path {
        let parent = self.into.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    fn left_over(&self) -> Failure {
        let left = self.unfinished.display();
        Failure::WrongUse(format!(
            "{left} is left over from a run that was interrupted, or is being filled by one that is under way; \
             if none is, remove it (rm -r {left}) and run this again"
        ))
    }
}

/// From now on Ctrl-C and a request to terminate say what is left, if it is, then end the process as they always do.
fn say_what_a_signal_leaves(unfinished: PathBuf) -> Result<(), Failure> {
    let failed = |error| Failure::io("watching for signals", error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let watching = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if unfinished.exists() {
                let left = unfinished.display();
                super::note(format_args!(
                    "interrupted; {left} is left: remove it (rm -r {left}) and run this again"
                ));
            }
            let _ = emulate_default_handler(signal);
        }
    });
    watching.map(drop).map_err(failed)
}

/// Verifies every byte of a copy.
fn verify_copy(dir: &Path) -> Result<(), Failure> {
    let report = verify_directory(dir)?;
    match report.problems.first() {
        None => Ok(()),
        Some(first) => Err(Failure::Problem(format!(
            "the copy in {} is damaged and must not be used: {} at byte {}: {}",
            dir.display(),
            first.file.display(),
            first.offset,
            first.what
        ))),
    }
}
