//! The interactive shell: one command a line, with transactions, history and line editing.
//!
//! On a terminal an error is told and the next line awaited, and a scan without a limit shows what people can read, and
//! that there is more. Otherwise (a script, a pipe) the first error ends the run with its line number and exit code 1. A
//! transaction that is open at the end is rolled back and this is said; if a script loses writes so, it ends with 1 too,
//! for they were surely meant to last.
//!
//! The results of a line are handed on before the next line is read. So another program may hold a conversation through
//! two pipes, and who has read "commit 7" knows it, whatever becomes of this process. If nobody reads the results any
//! more, the script ends: quietly if nothing was left to do, else with 1.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use holdfast::blocking::{Db, Keyspace, Txn};
use holdfast::{Durability, Isolation, Seq, TransactionOptions};
use rustyline::error::ReadlineError;
use serde_json::json;

use super::data::{self, Shown};
use super::{bounded, keyspaces, note, words};
use crate::cli::{Database, Global, Past, Range, row_count};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::stderr;
use crate::store::{self, View, close_written, keyspace, open_to_write};
use crate::visible::visible;

#[derive(Parser)]
#[command(name = "", no_binary_name = true, disable_help_flag = true)]
#[command(help_template = "Commands; `help COMMAND` tells more:\n{subcommands}")]
struct Line {
    #[command(subcommand)]
    statement: Statement,
}

#[derive(Subcommand)]
#[command(disable_help_flag = true)]
enum Statement {
    /// Print the value of a key.
    Get {
        /// The key; behind -- if it begins with a dash and is no number.
        #[arg(allow_negative_numbers = true)]
        key: String,
        /// Which past to read.
        #[command(flatten)]
        past: Past,
    },
    /// Store a value under a key.
    Put {
        /// The key; behind -- if it begins with a dash and is no number.
        #[arg(allow_negative_numbers = true)]
        key: String,
        /// The value; behind -- if it begins with a dash and is no number.
        #[arg(allow_negative_numbers = true)]
        value: String,
    },
    /// Delete a key, or every key of a range.
    Delete {
        /// The key; behind -- if it begins with a dash and is no number.
        #[arg(
            required_unless_present_any = ["prefix", "from", "to"],
            conflicts_with_all = ["prefix", "from", "to"],
            allow_negative_numbers = true
        )]
        key: Option<String>,
        /// Which keys.
        #[command(flatten)]
        range: Range,
    },
    /// Print the keys and values of a range.
    Scan {
        /// Which keys.
        #[command(flatten)]
        range: Range,
        /// From the last key to the first.
        #[arg(long, short)]
        reverse: bool,
        /// At most so many; without it a terminal gets 100, a script all.
        #[arg(long, short = 'n', value_name = "N", value_parser = row_count)]
        limit: Option<u64>,
        /// Leave the values out.
        #[arg(long)]
        keys_only: bool,
        /// Which past to read.
        #[command(flatten)]
        past: Past,
    },
    /// Count the keys of a range.
    Count {
        /// Which keys.
        #[command(flatten)]
        range: Range,
        /// Which past to read.
        #[command(flatten)]
        past: Past,
    },
    /// Begin a transaction; what follows is seen by nobody else before `commit`.
    Begin {
        /// Snapshot isolation instead of serializable.
        #[arg(long)]
        snapshot: bool,
    },
    /// Commit the transaction.
    Commit,
    /// Drop the transaction's writes.
    Rollback,
    /// Work in another keyspace.
    Use {
        /// Its name; behind -- if it begins with a dash and is no number.
        #[arg(allow_negative_numbers = true)]
        name: String,
        /// Make it if it is not there.
        #[arg(long)]
        create: bool,
    },
    /// List the keyspaces.
    Keyspaces,
    /// End the shell.
    #[command(visible_alias = "exit")]
    Quit,
}

/// So many characters are kept of what the parser says of a line.
const MESSAGE_CHARS_MAX: usize = 1000;

/// So many rows a scan without a limit shows on a terminal.
const TERMINAL_ROWS: u64 = 100;

const NOBODY_READS: &str =
    "standard output was closed before; neither this line nor what follows it was done";

struct Session {
    db: Db,
    global: Global,
    is_script: bool,
    keyspace: Keyspace,
    txn: Option<Txn>,
    /// Statements that wrote into the open transaction.
    txn_writes: u64,
}

pub(super) fn run(database: &Database, global: &Global, out: &mut Output) -> Result<Exit, Failure> {
    let db = open_to_write(database, global, true)?;
    let keyspace = keyspace(&db, global, true)?;
    let is_script = !std::io::stdin().is_terminal();
    let mut session = Session { db, global: global.clone(), is_script, keyspace, txn: None, txn_writes: 0 };
    let outcome = match is_script {
        true => session.read_script(std::io::stdin().lock(), out),
        false => session.talk(out),
    };
    let Session { db, keyspace, txn, txn_writes, .. } = session;
    let lost = txn.map(|open| {
        open.rollback();
        format!("the input ended within a transaction: {txn_writes} statements that wrote were rolled back")
    });
    drop(keyspace);
    close_written(db, global);
    match lost {
        Some(lost) if is_script && txn_writes > 0 && is_quiet(&outcome) => {
            return Err(Failure::Problem(format!("{lost}; end it with `commit` or `rollback`")));
        }
        Some(lost) => stderr::note(global.json, &lost),
        None => {}
    }
    outcome?;
    Ok(Exit::Good)
}

impl Session {
    fn talk(&mut self, out: &mut Output) -> Result<(), Failure> {
        let failed = |error: ReadlineError| Failure::Problem(format!("the terminal: {error}"));
        let mut editor = rustyline::DefaultEditor::new().map_err(failed)?;
        let history = history_file();
        if let Some(file) = &history {
            // There is none the first time.
            let _ = editor.load_history(file);
        }
        out.line("`help` lists the commands, `quit` or Ctrl-D ends.")?;
        out.flush()?;
        loop {
            let mark = if self.txn.is_some() { "*" } else { "" };
            let line = {
                let _held = stderr::hold();
                editor.readline(&format!("{}{mark}> ", visible(self.keyspace.name())))
            };
            match line {
                Ok(line) => {
                    // A history that cannot be kept is no reason to stop.
                    let _ = editor.add_history_entry(&line);
                    match self.execute(&line, out) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(failure) => note(failure.message(out.as_json()).unwrap_or_default()),
                    }
                    out.flush()?;
                }
                Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    note(bounded::not_utf8(None).message(out.as_json()).unwrap_or_default());
                }
                Err(ReadlineError::Interrupted) => {
                    out.line("(`quit` or Ctrl-D ends the shell)")?;
                    // Whoever pressed it waits for an answer now, and may not enter another line.
                    out.flush()?;
                }
                Err(ReadlineError::Eof) => break,
                Err(other) => return Err(failed(other)),
            }
        }
        if let Some(file) = &history {
            let _ = editor.save_history(file);
        }
        Ok(())
    }

    fn read_script(&mut self, mut input: impl BufRead, out: &mut Output) -> Result<(), Failure> {
        let bytes_max = store::options(&self.global, true).transaction_bytes_max;
        // Set once nobody reads the results any more.
        let mut closed = Ok(());
        let mut bytes = Vec::new();
        for number in 1.. {
            let read = bounded::read_line(&mut input, &mut bytes, bytes_max);
            if !read.map_err(|error| Failure::io("standard input", error))? {
                break;
            }
            let line = bounded::text(&bytes, bytes_max);
            let done = match (&closed, &line) {
                (Ok(()), _) => line.and_then(|line| self.execute(line, out)),
                (Err(_), Ok(line)) if is_quit(line) => break,
                (Err(_), Ok(line)) if is_blank(line) => continue,
                (Err(_), _) => Err(Failure::Problem(NOBODY_READS.into())),
            };
            match done.and_then(|goes_on| out.flush().map(|()| goes_on)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) if failure.exit() == Exit::Good => closed = Err(failure),
                Err(failure) => {
                    // The failure of the line counts for more than one of its output.
                    let _ = out.flush();
                    let (text, failure) = (beginning(&bytes), Box::new(failure));
                    return Err(Failure::InScript { line: number, text, failure });
                }
            }
        }
        closed
    }

    /// Does what a line says; false if that is to end.
    fn execute(&mut self, line: &str, out: &mut Output) -> Result<bool, Failure> {
        if is_blank(line) {
            return Ok(true);
        }
        let words = words::split(line).map_err(Failure::WrongUse)?;
        let statement = match Line::try_parse_from(words) {
            Ok(line) => line.statement,
            Err(error) if error.use_stderr() => {
                let text = error.to_string();
                let what = text.split("\n\nUsage").next().unwrap_or_default().trim_start_matches("error: ");
                // A message is one line, and a word of the input that it quotes may be long.
                let line = what.split_whitespace().collect::<Vec<_>>().join(" ");
                return Err(Failure::WrongUse(line.chars().take(MESSAGE_CHARS_MAX).collect()));
            }
            Err(help) => {
                let text = help.to_string();
                let text = text.trim_end();
                out.say(text, json!({ "help": text }))?;
                return Ok(true);
            }
        };
        match statement {
            Statement::Quit => return Ok(false),
            Statement::Get { key, past } => {
                let bytes = self.global.key(&key)?;
                data::get_from(&self.view(past.at)?, &self.global, &key, &bytes, out)?;
            }
            Statement::Scan { range, reverse, limit, keys_only, past } => {
                let scan = data::scan_of(&range, &self.global, reverse, limit)?;
                let rows_max = (limit.is_none() && !self.is_script).then_some(TERMINAL_ROWS);
                let shown = data::scan_from(&self.view(past.at)?, scan, rows_max, keys_only, out)?;
                if shown == Shown::Beginning {
                    out.flush()?;
                    let more = format!("… more rows than the first {TERMINAL_ROWS}; --limit N shows N");
                    stderr::note(self.global.json, &more);
                }
            }
            Statement::Count { range, past } => {
                let scan = data::scan_of(&range, &self.global, false, None)?;
                let count = self.view(past.at)?.scan(scan)?.count()?;
                out.say(count, json!({ "count": count }))?;
            }
            Statement::Keyspaces => {
                for info in self.db.keyspaces()? {
                    out.say(keyspaces::line(&info), keyspaces::object(&info))?;
                }
            }
            Statement::Use { name, create } => {
                let global = Global { keyspace: name, ..self.global.clone() };
                self.keyspace = keyspace(&self.db, &global, create)?;
                self.global = global;
            }
            write => self.write(write, out)?,
        }
        Ok(true)
    }

    fn write(&mut self, statement: Statement, out: &mut Output) -> Result<(), Failure> {
        match statement {
            Statement::Put { key, value } => {
                let (key, value) = (self.global.key(&key)?, self.global.value(&value)?);
                match &mut self.txn {
                    Some(txn) => {
                        txn.put(&self.keyspace, key, value)?;
                        self.txn_writes += 1;
                        Ok(())
                    }
                    None => committed(self.keyspace.put(key, value)?, out),
                }
            }
            Statement::Delete { key: Some(key), .. } => {
                let key = self.global.key(&key)?;
                match &mut self.txn {
                    Some(txn) => {
                        txn.delete(&self.keyspace, key)?;
                        self.txn_writes += 1;
                        Ok(())
                    }
                    None => committed(self.keyspace.delete(key)?, out),
                }
            }
            Statement::Delete { key: None, range } => self.delete_range(&range, out),
            Statement::Begin { snapshot } => {
                if self.txn.is_some() {
                    return Err(Failure::WrongUse("a transaction is open; commit it or roll it back".into()));
                }
                let isolation = if snapshot { Isolation::Snapshot } else { Isolation::Serializable };
                let txn = self.db.begin(TransactionOptions { isolation, durability: Durability::Sync });
                let seq = txn.read_seq();
                (self.txn, self.txn_writes) = (Some(txn), 0);
                out.say(format_args!("reading as of commit {seq}"), json!({ "read_seq": seq.get() }))
            }
            Statement::Commit => committed(self.take_txn()?.commit()?, out),
            Statement::Rollback => {
                self.take_txn()?.rollback();
                out.say("rolled back", json!({ "rolled_back": true }))
            }
            _ => unreachable!("statements that read were served before"),
        }
    }

    fn delete_range(&mut self, range: &Range, out: &mut Output) -> Result<(), Failure> {
        let bounds = range.bounds(&self.global)?;
        let Some(txn) = &mut self.txn else {
            let batch = data::delete_batch(&self.keyspace, bounds)?;
            let seq = batch.map(|batch| self.db.write(batch, Durability::Sync)).transpose()?;
            return data::tell_deleted(seq, out);
        };
        if data::delete_range_in(txn, &self.keyspace, bounds)? {
            self.txn_writes += 1;
            return Ok(());
        }
        data::tell_deleted(None, out)
    }

    fn take_txn(&mut self) -> Result<Txn, Failure> {
        self.txn.take().ok_or_else(|| Failure::WrongUse("no transaction is open; `begin` opens one".into()))
    }

    fn view(&self, at: Option<u64>) -> Result<View<'_>, Failure> {
        match (at, &self.txn) {
            (Some(_), Some(_)) => Err(Failure::WrongUse(
                "a transaction reads as of its beginning; --at goes outside of one".into(),
            )),
            (Some(seq), None) => Ok(View::Past(self.db.at(Seq::new(seq))?, self.keyspace.clone())),
            (None, Some(txn)) => Ok(View::Within(txn, &self.keyspace)),
            (None, None) => Ok(View::Now(self.keyspace.clone())),
        }
    }
}

/// True if the end of a run needs no message.
fn is_quiet(outcome: &Result<(), Failure>) -> bool {
    outcome.as_ref().map_or_else(|failure| failure.exit() == Exit::Good, |()| true)
}

/// True of a line that asks for nothing.
fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn is_quit(line: &str) -> bool {
    ["quit", "exit"].contains(&line.trim())
}

fn committed(seq: Seq, out: &mut Output) -> Result<(), Failure> {
    out.say(format_args!("commit {seq}"), json!({ "seq": seq.get() }))
}

/// What is shown of a line: its first characters, on one line.
fn beginning(line: &[u8]) -> String {
    const SHOWN: usize = 60;
    let line = line.trim_ascii();
    // No character has more than four bytes.
    let text = String::from_utf8_lossy(&line[..line.len().min(4 * SHOWN + 4)]);
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Where lines are remembered; nowhere without a home directory.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    let dir = state.join("holdfast");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        super::Line::command().debug_assert();
    }
}
