//! Looking after a database: compact, verify, repair.

use std::path::Path;
use std::time::Instant;

use holdfast::blocking::block_on;
use holdfast::env::linux::LinuxEnv;
use holdfast::{FileVerdict, KeyspaceInfo, Problem, VerifyReport};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value as Json, json};

use crate::cli::{Database, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Bytes;
use crate::stderr;
use crate::store::{open_to_write, retained};
use crate::visible::path_text;

pub(super) fn compact(database: &Database, global: &Global, out: &mut Output) -> Result<Exit, Failure> {
    let db = open_to_write(database, global, false)?;
    let started = Instant::now();
    db.compact()?;
    let old = old_in_tables(&db.keyspaces()?);
    db.close()?;
    let bytes = directory_bytes(&database.path)?;
    let elapsed = started.elapsed();
    let retained = retained(global);
    let past = match retained {
        0 => String::new(),
        _ => format!(", with the past of the latest {} commits", HumanCount(retained)),
    };
    out.say(
        format_args!("compacted to {}{past} in {:.2} s", HumanBytes(bytes), elapsed.as_secs_f64()),
        json!({
            "bytes": bytes,
            "retain_commits": retained,
            "deletes_kept": old.deletes,
            "superseded_bytes_kept": old.superseded_bytes,
            "elapsed_ms": elapsed.as_millis() as u64,
        }),
    )?;
    if retained > 0 && (old.deletes > 0 || old.superseded_bytes > 0) {
        let what = "what was deleted or overwritten lately still takes room, for --at can read it; \
                    `holdfast compact --retain-commits 0` lets it go";
        stderr::note(global.json, what);
    }
    Ok(Exit::Good)
}

/// What tables hold of the past.
struct Old {
    /// Of keys and of ranges.
    deletes: u64,
    /// Keys and values of versions that were overwritten, before compression.
    superseded_bytes: u64,
}

/// A compaction of everything leaves nothing old but what somebody may still read.
fn old_in_tables(keyspaces: &[KeyspaceInfo]) -> Old {
    let levels = keyspaces.iter().flat_map(|keyspace| &keyspace.levels);
    levels.fold(Old { deletes: 0, superseded_bytes: 0 }, |old, level| Old {
        deletes: old.deletes.saturating_add(level.deletes).saturating_add(level.range_tombstones),
        superseded_bytes: old.superseded_bytes.saturating_add(level.superseded_bytes),
    })
}

/// Refuses a file, in the words that an opening has for it.
pub(super) fn must_be_directory(path: &Path) -> Result<(), Failure> {
    if path.exists() && !path.is_dir() {
        let what = format!("{} is a file, not a directory; give a directory", path.display());
        return Err(holdfast::Error::Invalid(what).into());
    }
    Ok(())
}

/// Bytes of all files in a directory.
pub(crate) fn directory_bytes(dir: &Path) -> Result<u64, Failure> {
    let failed = |error| Failure::io(dir.display().to_string(), error);
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        bytes += entry.and_then(|entry| entry.metadata()).map_err(failed)?.len();
    }
    Ok(bytes)
}

pub(super) fn verify(database: &Database, out: &mut Output) -> Result<Exit, Failure> {
    must_be_directory(&database.path)?;
    let report = verify_directory(&database.path)?;
    tell_verified(&report, out)?;
    Ok(if report.is_good() { Exit::Good } else { Exit::Problem })
}

/// Checks every file of a database, showing how far it is.
pub(crate) fn verify_directory(dir: &Path) -> Result<VerifyReport, Failure> {
    let bytes = Bytes::start("verifying");
    let report = block_on(holdfast::verify(LinuxEnv::new(), dir, |now| {
        bytes.at(now.bytes_checked, now.bytes_total);
    }));
    bytes.finish();
    Ok(report?)
}

fn tell_verified(report: &VerifyReport, out: &mut Output) -> Result<(), Failure> {
    for problem in &report.problems {
        let harmless = if problem.harmless { " (harmless: nothing depends on these bytes)" } else { "" };
        out.line(format_args!(
            "{} at byte {}: {}{harmless}",
            problem.file.display(),
            problem.offset,
            problem.what
        ))?;
    }
    let leftovers = report.files.iter().filter(|file| file.verdict == FileVerdict::Leftover);
    for file in leftovers {
        out.line(format_args!("{} is left over; the next opening removes it", file.name))?;
    }
    let files = report.files.len();
    let checked = HumanBytes(report.bytes_checked);
    let is_no_file = |problem: &Problem| problem.what.contains("no regular file");
    let first =
        if report.problems.iter().any(is_no_file) { "move away what is no regular file, then " } else { "" };
    let verdict = match (report.is_good(), report.is_sound()) {
        (true, _) => "good".to_string(),
        (_, true) => format!("{} harmless problems", report.problems.len()),
        _ => format!("{} problems; {first}`holdfast repair` salvages what is good", report.problems.len()),
    };
    let files_as_json: Vec<Json> = report
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "verdict": format!("{:?}", file.verdict), "bytes": file.bytes }))
        .collect();
    let problems: Vec<Json> = report
        .problems
        .iter()
        .map(|problem| {
            json!({
                "file": path_text(&problem.file), "offset": problem.offset, "what": problem.what,
                "harmless": problem.harmless,
            })
        })
        .collect();
    out.say(
        format_args!("{files} files, {checked} checked: {verdict}"),
        json!({
            "good": report.is_good(),
            "sound": report.is_sound(),
            "last_seq": report.last_seq.map(holdfast::Seq::get),
            "bytes_checked": report.bytes_checked,
            "problems": problems,
            "files": files_as_json,
        }),
    )
}
