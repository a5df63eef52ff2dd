//! Salvages a damaged database into a new directory, and says what may be missing.
//!
//! The directory gets its name when the salvage is done ([`new_directory`](super::new_directory)).

use std::io::ErrorKind;
use std::path::Path;

use holdfast::blocking::block_on;
use holdfast::env::linux::LinuxEnv;
use holdfast::escaped::escape;
use holdfast::{
    KeyExtent, LostExtent, RepairOptions, RepairProgress, RepairReport, Seq, Structure, UncertainRange,
};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value as Json, json};

use super::new_directory::NewDirectory;
use crate::cli::Database;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Bytes;
use crate::visible::path_text;

pub(super) fn repair(
    database: &Database,
    into: &Path,
    strict: bool,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let total = super::directory_bytes(&database.path)?;
    let place = NewDirectory::beside(into, &database.path)?;
    must_be_readable(&database.path)?;
    let report = place.fill(|unfinished| {
        let bytes = Bytes::start("repairing");
        let mut tell = |now: RepairProgress| bytes.at(now.bytes_done, total);
        let options = RepairOptions { strict };
        let report =
            block_on(holdfast::repair(LinuxEnv::new(), &database.path, unfinished, options, &mut tell));
        bytes.finish();
        Ok(report?)
    })?;
    if out.as_json() {
        out.say("", object(&report))?;
    } else {
        print(&report, into, strict, out)?;
    }
    Ok(if report.is_complete() { Exit::Good } else { Exit::Problem })
}

/// Refuses a directory with a file that this user may not read: what is in it would count as lost, and is not.
fn must_be_readable(dir: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error| Failure::io(path.display().to_string(), error);
    for entry in std::fs::read_dir(dir).map_err(|error| failed(dir, error))? {
        let path = entry.map_err(|error| failed(dir, error))?.path();
        // Opening another kind of thing, such as a pipe, might wait for ever.
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            continue;
        }
        match std::fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(failed(&path, error)),
            // Whatever else is wrong with a file, the salvage tells.
            _ => {}
        }
    }
    Ok(())
}

fn print(report: &RepairReport, into: &Path, strict: bool, out: &mut Output) -> Result<(), Failure> {
    out.line(match report.structure {
        Structure::InForce => "the list of files is whole",
        Structure::Newest => "the list of files in force could not be used; the newest readable one was",
        Structure::Lost => "the list of files is lost; each file was judged by itself",
    })?;
    for lost in &report.lost {
        out.line(format_args!("lost: {}", shown_loss(lost)))?;
    }
    for range in &report.uncertain {
        let (keyspace, keys, through) =
            (escape(range.keyspace.as_bytes()), shown_keys(&range.keys), range.through);
        let outcome = if strict { "left out" } else { "kept; --strict leaves them out" };
        out.line(format_args!(
            "uncertain: in keyspace {keyspace}, {keys} may lack a newer value or delete, up to commit {through}: {outcome}"
        ))?;
    }
    for keyspace in &report.keyspaces {
        let made_up = if keyspace.name_is_made_up { " (its name was lost)" } else { "" };
        out.line(format_args!(
            "keyspace {}{made_up}: {} keys, {}",
            escape(keyspace.name.as_bytes()),
            HumanCount(keyspace.keys),
            HumanBytes(keyspace.bytes)
        ))?;
    }
    let verdict = if report.is_complete() { "nothing was lost" } else { "see above for what may be missing" };
    out.line(format_args!("salvaged up to commit {} into {}: {verdict}", report.last_seq, into.display()))
}

fn shown_loss(lost: &LostExtent) -> String {
    let (file, offset, what) = (lost.file.display(), lost.offset, &lost.what);
    let mut text = match lost.len {
        0 => format!("{file} at byte {offset}: {what}"),
        len => format!("{len} bytes of {file} from byte {offset}: {what}"),
    };
    if let Some(keyspace) = &lost.keyspace {
        text += &format!("; keyspace {}", escape(keyspace.as_bytes()));
    }
    if let Some(keys) = &lost.keys {
        text += &format!("; {}", shown_keys(keys));
    }
    if let Some((first, last)) = lost.seqs {
        // Which was the last, nobody knows.
        text += &match last < Seq::LIMIT {
            true => format!("; commits {first} to {last}"),
            false => format!("; commits from {first} on"),
        };
    }
    text
}

fn shown_keys(keys: &KeyExtent) -> String {
    match &keys.end {
        Some(end) => format!("keys from \"{}\" to before \"{}\"", escape(&keys.start), escape(end)),
        None => format!("keys from \"{}\" on", escape(&keys.start)),
    }
}

fn object(report: &RepairReport) -> Json {
    let keys =
        |keys: &KeyExtent| json!({ "start": escape(&keys.start), "end": keys.end.as_deref().map(escape) });
    let lost = |lost: &LostExtent| {
        json!({
            "file": path_text(&lost.file), "offset": lost.offset, "bytes": lost.len, "what": lost.what,
            "keyspace": lost.keyspace, "keys": lost.keys.as_ref().map(keys),
            "seqs": lost.seqs.map(|(first, last)| [first.get(), last.get()]),
        })
    };
    let uncertain = |range: &UncertainRange| json!({ "keyspace": range.keyspace, "keys": keys(&range.keys), "through_seq": range.through.get() });
    let keyspaces: Vec<Json> = report
        .keyspaces
        .iter()
        .map(|keyspace| {
            json!({
                "keyspace": keyspace.name, "name_is_made_up": keyspace.name_is_made_up,
                "keys": keyspace.keys, "bytes": keyspace.bytes,
            })
        })
        .collect();
    json!({
        "complete": report.is_complete(),
        "structure": format!("{:?}", report.structure),
        "last_seq": report.last_seq.get(),
        "keyspaces": keyspaces,
        "lost": report.lost.iter().map(lost).collect::<Vec<_>>(),
        "uncertain": report.uncertain.iter().map(uncertain).collect::<Vec<_>>(),
    })
}
