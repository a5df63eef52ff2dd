//! Flips single bits in a copy of the database, and shows that none of them is ever taken for data.

use std::path::{Path, PathBuf};

use holdfast::blocking::Db;
use holdfast::{Error, Scan};

use super::teller::Teller;
use crate::commands::verify_directory;
use crate::exit::Failure;

pub(super) fn flip_bits(dir: &Path, scratch: &Path, teller: &mut Teller<'_>) -> Result<(), Failure> {
    teller.begin("A flipped bit is an error, never an answer")?;
    let copy = scratch.join("damaged");
    // In a table data stand from the start; in a manifest behind a header with reserved room.
    for (suffix, eighths) in [("table", 4), ("manifest", 7)] {
        copy_files(dir, &copy)?;
        let file = largest(&copy, suffix)?;
        let (offset, bit) = flip_one(&file, eighths)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        teller.line(format_args!("in a copy, bit {bit} of byte {offset} of {name} is flipped:"))?;
        let report = verify_directory(&copy)?;
        let named = report.problems.iter().any(|problem| problem.file == file);
        teller.must(named, format_args!("verify names {name}"))?;
        teller.line(format_args!("  verify    {} problem(s), in {name}", report.problems.len()))?;
        match read_everything(&copy) {
            Err(Failure::Kernel(error @ Error::Corrupt { .. })) => {
                teller.line(format_args!("  reading   {}", without_directory(&error, &copy)))?;
            }
            Err(other) => return Err(other),
            Ok(()) => teller.must(false, format_args!("a flipped bit in {name} is caught"))?,
        }
        teller
            .fact(suffix, serde_json::json!({ "file": name, "offset": offset, "bit": bit, "caught": true }));
        remove(&copy)?;
    }
    teller.end()
}

fn copy_files(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::io(to.display().to_string(), error);
    std::fs::create_dir(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<(), Failure> {
    std::fs::remove_dir_all(dir).map_err(|error| Failure::io(dir.display().to_string(), error))
}

/// The largest file of a kind.
fn largest(dir: &Path, suffix: &str) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::io(dir.display().to_string(), error);
    let mut found: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let bytes = path.metadata().map_err(failed)?.len();
        if path.extension().is_some_and(|found| found == suffix)
            && found.as_ref().is_none_or(|(most, _)| bytes > *most)
        {
            found = Some((bytes, path));
        }
    }
    found.map(|(_, path)| path).ok_or_else(|| Failure::Problem(format!("there is no {suffix} to damage")))
}

/// Flips a bit so many eighths into what the file holds; behind its last byte that is not zero may be room for more.
fn flip_one(file: &Path, eighths: usize) -> Result<(usize, u32), Failure> {
    let failed = |error| Failure::io(file.display().to_string(), error);
    let mut bytes = std::fs::read(file).map_err(failed)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let (offset, bit) = (used / 8 * eighths, 3);
    let Some(byte) = bytes.get_mut(offset) else {
        return Err(Failure::Problem(format!("{} is empty", file.display())));
    };
    *byte ^= 1 << bit;
    std::fs::write(file, bytes).map_err(failed)?;
    Ok((offset, bit))
}

/// Opens the database and reads every record.
fn read_everything(dir: &Path) -> Result<(), Failure> {
    let db = Db::open(dir, super::options())?;
    let read = || -> Result<(), Failure> {
        for info in db.keyspaces()? {
            db.keyspace(&info.name)?.scan(Scan::all())?.count()?;
        }
        Ok(())
    };
    let outcome = read();
    // Its background work would make files while the copy is removed. That it may fail over the damage is no news.
    let _ = db.close();
    outcome
}

fn without_directory(error: &Error, dir: &Path) -> String {
    error.to_string().replace(&format!("{}/", dir.display()), "")
}
