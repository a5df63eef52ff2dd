//! What each command does, by theme.

mod backup;
mod bench;
mod bounded;
mod data;
mod export;
mod import;
mod keyspaces;
mod new_directory;
mod repair;
mod scratch;
mod shell;
mod spool;
mod stats;
mod unfinished;
mod upkeep;
mod words;

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::store::options;
use crate::visible::visible_lines;

pub(crate) use bench::machine;
pub(crate) use scratch::{Scratch, Writer};
pub(crate) use stats::nanoseconds;
pub(crate) use upkeep::{directory_bytes, verify_directory};

/// Runs what the command line asks for.
///
/// # Errors
/// Why it ended early; [`Failure::exit`] is the code to end with.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { command, global } = cli;
    let mut out = Output::new(&global);
    let exit = match command {
        Command::Tour { keep } => crate::tour::run(keep.as_deref(), &mut out)?,
        Command::TourWriter { db, round } => crate::tour::writer::write_for_ever(&db, round)?,
        Command::Get { db, key, past } => data::get(&db, &global, &key, past.at, &mut out)?,
        Command::Put { db, key, value, file, create } => {
            let value = match (value, file) {
                (_, Some(file)) => bounded::value(&file, options(&global, create).transaction_bytes_max)?,
                (value, None) => global.value(&value.unwrap_or_default())?,
            };
            data::put(&db, &global, &key, &value, create, &mut out)?
        }
        Command::Delete { db, key: Some(key), .. } => data::delete(&db, &global, &key, &mut out)?,
        Command::Delete { db, key: None, range } => data::delete_range(&db, &global, &range, &mut out)?,
        Command::Scan { db, range, reverse, limit, keys_only, past } => {
            let scan = data::scan_of(&range, &global, reverse, limit)?;
            data::scan(&db, &global, scan, past.at, keys_only, &mut out)?
        }
        Command::Count { db, range, approximate: true, .. } => {
            data::count_approximately(&db, &global, &range, &mut out)?
        }
        Command::Count { db, range, past, .. } => data::count(&db, &global, &range, past.at, &mut out)?,
        Command::Import { db, file, file_layout, batch_rows, skip_bad_lines } => {
            let layout = file_layout.layout(&file, &global)?;
            let import = import::Import { db, file, layout, batch_rows, skip_bad_lines };
            import.run(&global, &mut out)?
        }
        Command::Export { db, file, file_layout, range, past } => {
            let layout = file_layout.layout(&file, &global)?;
            export::Export { db, file, layout, range, at: past.at }.run(&global, &mut out)?
        }
        Command::Shell { db } => shell::run(&db, &global, &mut out)?,
        Command::Stats { db, watch, prometheus } => {
            stats::run(&db, &global, stats::Show { watch, prometheus }, &mut out)?
        }
        Command::Keyspaces { db, create, drop } => {
            keyspaces::run(&db, &global, create.as_deref(), drop.as_deref(), &mut out)?
        }
        Command::Verify { db } => upkeep::verify(&db, &mut out)?,
        Command::Repair { db, into, strict } => repair::repair(&db, &into, strict, &mut out)?,
        Command::Compact { db } => upkeep::compact(&db, &global, &mut out)?,
        Command::Backup { db, into } => backup::backup(&db, &global, &into, &mut out)?,
        Command::Restore { from, into } => backup::restore(&from, &global, &into, &mut out)?,
        Command::Bench { dir, rows, time } => bench::run(dir.as_deref(), &global, rows, time, &mut out)?,
        Command::Completions { shell } => completions(shell, &mut out)?,
    };
    out.flush()?;
    Ok(exit)
}

fn completions(shell: clap_complete::Shell, out: &mut Output) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "holdfast", &mut script);
    out.bytes(&script)?;
    Ok(Exit::Good)
}

/// A line on standard error, for what is not a result: with `as_json` the object, else the text.
fn note_as(as_json: bool, text: &str, object: serde_json::Value) {
    if as_json { crate::stderr::line(&object.to_string()) } else { note(text) }
}

/// A line on standard error, for what is not a result.
fn note(text: impl std::fmt::Display) {
    crate::stderr::line(&visible_lines(&text.to_string()));
}
