//! The command line: every command, its arguments and its help.
//!
//! Only shape and limits stand here; what a command does stands elsewhere. The database is the first argument of
//! each command that has one, the global options may stand anywhere. Help is part of the product: each command has
//! examples that a test parses, so that none of them can rot.

mod arguments;
mod wrong_use;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::formats::{Format, Notation};
use crate::log::Level;

pub use arguments::{BENCH_ROWS_MAX, KeyBounds, row_count};
use arguments::{bench_row_count, delimiter, duration, memory_size};
pub use wrong_use::{wrong_use_as_json, wrong_use_as_text};

/// The variable of the environment that stands for --log.
const LOG_VARIABLE: &str = "HOLDFAST_LOG";

/// A transactional store, its tools, and nothing to install.
#[derive(Parser, Clone, Debug)]
#[command(name = "holdfast", version, max_term_width = 110, propagate_version = true)]
#[command(after_help = "Exit codes: 0 good, 1 found a problem, 2 wrong use.\n\
    A database of another user is read without writing anything; a command that writes to it says so.\n\
    Start with `holdfast tour`: it makes a database, fills it, and shows each feature.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// Options that every command takes.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct Global {
    /// Write results, errors and notes as JSON: one object a line.
    ///
    /// Standard output has the results. On standard error an error is {"error", "exit", "hint"}, with "file", "line"
    /// and "field" too if a line of an input is meant; what is no error has a "note". Members that name
    /// a file or directory have what is not UTF-8 in it as \xNN, and a backslash as \\, as keys are escaped.
    #[arg(long, global = true)]
    pub json: bool,
    /// The keyspace to work in.
    #[arg(
        long,
        short = 'k',
        global = true,
        value_name = "NAME",
        default_value = "default",
        allow_hyphen_values = true
    )]
    pub keyspace: String,
    /// How keys are typed and shown.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    pub key_format: Notation,
    /// How values are typed and shown.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    pub value_format: Notation,
    /// Keep the versions of this many latest commits readable by --at; an opening with fewer lets the others go
    /// [default: 1000 for commands that write, and those that read let nothing go].
    #[arg(long, global = true, value_name = "N", hide_short_help = true)]
    pub retain_commits: Option<u64>,
    /// Memory for the database in all: bytes, or a number with MiB or GiB; from 64MiB to 1024GiB. More lets a command
    /// that reads beside a writer hold what of its log is in no table yet, for which half of this is there
    /// [default: 128MiB].
    #[arg(long, global = true, value_name = "BYTES", value_parser = memory_size, hide_short_help = true)]
    pub memory_limit: Option<u64>,
    /// Show what the kernel reports of its work, on standard error: this level and all above it. Default is warn; off
    /// for the tour, which tears logs on purpose.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "LEVEL",
        env = LOG_VARIABLE,
        hide_short_help = true
    )]
    pub log: Option<Level>,
}

/// What to do.
#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Show what Holdfast does, step by step, on a new database with every Unicode character in it.
    #[command(after_help = "Examples:\n  holdfast tour\n  holdfast tour --keep tour-db\n")]
    Tour {
        /// Keep the database in this directory, which must be new or empty. Without it, a temporary one is removed at
        /// the end, also by Ctrl-C, SIGTERM or SIGHUP.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// What the tour kills: writes to a database and tells what was acknowledged.
    #[command(hide = true)]
    TourWriter {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// Number of the round, part of each key.
        round: u64,
    },
    /// Print the value of a key; ends with 1 if there is no such key.
    #[command(after_help = "Examples:\n  holdfast get db user:1\n  \
        holdfast get db -k events --key-format tuple '(\"ada\", 7)'\n  holdfast get db user:1 --at 3\n")]
    Get {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// The key; behind -- if it begins with a dash and is no number.
        #[arg(allow_negative_numbers = true)]
        key: String,
        /// Which past to read.
        #[command(flatten)]
        past: Past,
    },
    /// Store a value under a key.
    ///
    /// A key has at most 64 KiB, key and value together 64 MiB.
    #[command(after_help = "Examples:\n  holdfast put db user:1 Ada\n  \
        holdfast put db user:2 00ff --value-format hex\n  holdfast put new-db user:1 Ada --create\n  \
        holdfast put db photo --file photo.jpg\n")]
    Put {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// The key; behind -- if it begins with a dash and is no number.
        #[arg(allow_negative_numbers = true)]
        key: String,
        /// The value; behind -- if it begins with a dash and is no number.
        #[arg(required_unless_present = "file", conflicts_with = "file", allow_negative_numbers = true)]
        value: Option<String>,
        /// Take the value from a file as it is; - is standard input.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Make the database, and the keyspace, if they are not there.
        #[arg(long)]
        create: bool,
    },
    /// Delete a key, or every key of a range.
    #[command(after_help = "Examples:\n  holdfast delete db user:1\n  \
        holdfast delete db --prefix session:\n  holdfast delete db --from a --to b\n")]
    Delete {
        /// The database.
        #[command(flatten)]
        db: Database,
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
    /// Print the keys and values of a range, in key order.
    #[command(after_help = "Examples:\n  holdfast scan db --prefix user: --limit 10\n  \
        holdfast scan db --from a --to b --reverse\n  holdfast scan db --at 3 --keys-only\n")]
    Scan {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// Which keys.
        #[command(flatten)]
        range: Range,
        /// From the last key to the first.
        #[arg(long, short)]
        reverse: bool,
        /// At most so many.
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
    #[command(after_help = "Examples:\n  holdfast count db\n  holdfast count db --prefix user:\n  \
        holdfast count db --approximate\n  holdfast count db --approximate --prefix user:\n")]
    Count {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// Which keys.
        #[command(flatten)]
        range: Range,
        /// Without reading the keys: of a whole keyspace an upper bound, of a range about how many. Old versions count
        /// too, and of a range deletes.
        #[arg(long, conflicts_with = "at")]
        approximate: bool,
        /// Which past to read.
        #[command(flatten)]
        past: Past,
    },
    /// Load a JSON Lines or CSV file. A bad line stops it before anything is written.
    ///
    /// A line is bad if it is not what the options say, or if its key or value is over a limit: 64 KiB for a key, and
    /// 64 MiB for both together. A row may have at most 65,536 columns, and 1 GiB of text.
    #[command(after_help = "Examples:\n  holdfast import db pairs.jsonl\n  \
        holdfast import db people.csv -k people --key-column id\n  \
        holdfast import db events.jsonl -k events --key-format tuple --key-column user --key-column time\n  \
        holdfast import db UnicodeData.txt -k unicode --format csv --delimiter ';' --no-header --key-column 1\n  \
        zcat big.tsv.gz | holdfast import db - --format csv --delimiter tab\n")]
    Import {
        /// The database; made if it is not there, as is the keyspace.
        #[command(flatten)]
        db: Database,
        /// The file; - is standard input.
        file: PathBuf,
        /// What the file looks like.
        #[command(flatten)]
        file_layout: FileLayout,
        /// Rows a transaction. Each is whole or not there; the import as a whole is not one transaction.
        #[arg(long, value_name = "N", value_parser = row_count, default_value = "10000")]
        batch_rows: u64,
        /// Leave bad lines out, and count them, instead of stopping. Still refused is a CSV file with whose first row
        /// fewer rows agree in their number of fields than agree on another.
        #[arg(long)]
        skip_bad_lines: bool,
    },
    /// Write a keyspace to a JSON Lines or CSV file, as of one moment.
    ///
    /// An import with the same options gives the same keys: a record of which --key-column would make another key is
    /// refused. In CSV, columns that were numbers come back as text.
    ///
    /// The file gets its name last, when it is whole and on the disk. Until then it is FILE.unfinished, which an error,
    /// Ctrl-C, SIGTERM or SIGHUP removes. Any other end, such as a crash, SIGKILL or SIGQUIT, leaves it behind.
    #[command(after_help = "Examples:\n  holdfast export db out.jsonl\n  \
        holdfast export db people-again.csv -k people --key-column id\n  holdfast export db - --format jsonl --prefix user: | head\n")]
    Export {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// The file, which must not exist; - is standard output.
        file: PathBuf,
        /// What the file shall look like.
        #[command(flatten)]
        file_layout: FileLayout,
        /// Which keys.
        #[command(flatten)]
        range: Range,
        /// Which past to read.
        #[command(flatten)]
        past: Past,
    },
    /// Work interactively, transactions included.
    ///
    /// From a file or a pipe it takes a script: one command a line of at most 64 MiB, whose results are written before
    /// the next line is read. The first error ends a script, with 1. A scan gives a script all rows; on a terminal it
    /// stops after 100 and says so, unless --limit is given.
    #[command(after_help = "Examples:\n  holdfast shell db\n  echo 'count' | holdfast shell db\n")]
    Shell {
        /// The database; made if it is not there.
        #[command(flatten)]
        db: Database,
    },
    /// Print what the database holds, and what this opening of it has done.
    #[command(after_help = "Examples:\n  holdfast stats db\n  holdfast stats db --watch 2s\n  \
        holdfast stats db --prometheus\n")]
    Stats {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// Print again and again, so far apart.
        #[arg(long, value_name = "TIME", value_parser = duration, num_args = 0..=1, default_missing_value = "1s")]
        watch: Option<std::time::Duration>,
        /// In the text format of Prometheus. Gauges (sizes, levels, tables, the newest commit) are the database's;
        /// counters and times are this process's, so they begin at 0 each time. Those of a program come from its own
        /// `Db::metrics`.
        #[arg(long, conflicts_with = "watch", conflicts_with = "json")]
        prometheus: bool,
    },
    /// Check every checksum and every rule; ends with 1 if anything is wrong. Changes nothing.
    #[command(after_help = "Examples:\n  holdfast verify db\n  holdfast verify db --json\n")]
    Verify {
        /// The database.
        #[command(flatten)]
        db: Database,
    },
    /// Salvage what is provably good into a new directory; the damaged one stays as it is.
    ///
    /// It is made as INTO.unfinished and gets its name when it is done. An error, Ctrl-C, SIGTERM or SIGHUP removes
    /// what was begun. Any other end, such as a crash, SIGKILL or SIGQUIT, leaves it behind.
    #[command(after_help = "Examples:\n  holdfast repair db db-repaired\n  \
        holdfast repair db db-repaired --strict\n")]
    Repair {
        /// The damaged database.
        #[command(flatten)]
        db: Database,
        /// The directory to make.
        into: PathBuf,
        /// Leave out what may not be the newest version of its key.
        #[arg(long)]
        strict: bool,
    },
    /// Rewrite all tables without what nobody can read any more, and shrink the log.
    ///
    /// The past that --at can read is kept, and with it the room of what was deleted or overwritten in it: the versions
    /// of the 1000 latest commits, or of as many as --retain-commits says. With `--retain-commits 0` only the present
    /// is kept, and the room of all else is free at once.
    #[command(after_help = "Examples:\n  holdfast compact db\n  holdfast compact db --retain-commits 0\n")]
    Compact {
        /// The database.
        #[command(flatten)]
        db: Database,
    },
    /// Make a consistent copy while the database is in use, checking every byte.
    ///
    /// The copy holds every commit up to one, under the same numbers, and the past that --at can read. It is made as
    /// INTO.unfinished and gets its name when it is whole. An error, Ctrl-C, SIGTERM or SIGHUP removes what was begun.
    /// Any other end, such as a crash, SIGKILL or SIGQUIT, leaves it behind.
    #[command(after_help = "Examples:\n  holdfast backup db monday\n")]
    Backup {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// The directory to make.
        into: PathBuf,
    },
    /// Make a database from a backup, checking every byte.
    ///
    /// It is made as INTO.unfinished and gets its name when it is whole. An error, Ctrl-C, SIGTERM or SIGHUP removes
    /// what was begun. Any other end, such as a crash, SIGKILL or SIGQUIT, leaves it behind.
    #[command(after_help = "Examples:\n  holdfast restore monday db-again\n")]
    Restore {
        /// The backup.
        from: PathBuf,
        /// The directory to make.
        into: PathBuf,
    },
    /// List the keyspaces, or make or drop one.
    #[command(after_help = "Examples:\n  holdfast keyspaces db\n  holdfast keyspaces db --create users\n  \
        holdfast keyspaces db --drop people\n")]
    Keyspaces {
        /// The database.
        #[command(flatten)]
        db: Database,
        /// Make a keyspace of this name.
        #[arg(long, value_name = "NAME", conflicts_with = "drop", allow_hyphen_values = true)]
        create: Option<String>,
        /// Drop the keyspace of this name, with everything in it.
        #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
        drop: Option<String>,
    },
    /// Measure this machine and this disk with this store.
    ///
    /// It makes a temporary database, which is removed at the end; Ctrl-C, SIGTERM or SIGHUP removes it too.
    #[command(after_help = "Examples:\n  holdfast bench\n  holdfast bench --dir /mnt/disk --rows 10000000\n")]
    Bench {
        /// Where to make the temporary database; default is the current directory.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Rows to load, 116 bytes each; at most 10_000_000_000.
        #[arg(long, value_name = "N", value_parser = bench_row_count, default_value = "200000")]
        rows: u64,
        /// How long each measurement of commits and look-ups takes.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
        time: std::time::Duration,
    },
    /// Print completions for a shell.
    #[command(after_help = "Examples:\n  holdfast completions bash > holdfast.bash\n")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Reads the arguments of this process.
    ///
    /// # Errors
    /// Why they are no command, or the help that they ask for.
    pub fn read() -> Result<Self, clap::Error> {
        let matches = Self::definition().try_get_matches()?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))
    }

    /// The definition, whose help shows with each command only those global options that mean something to it.
    pub fn definition() -> clap::Command {
        let mut all = Self::command();
        if std::env::var_os(LOG_VARIABLE).is_some_and(|level| level.is_empty()) {
            // Empty is how a script unsets it for one command.
            all = all.mut_arg("log", |log| log.env(None::<&str>));
        }
        // Only then each command has the global options.
        all.build();
        for command in all.get_subcommands_mut() {
            let without = globals_without_meaning(command.get_name());
            let hide = |argument: clap::Arg| {
                let is_hidden = without.contains(&argument.get_id().as_str());
                if is_hidden { argument.hide(true) } else { argument }
            };
            *command = std::mem::take(command).mut_args(hide);
        }
        all
    }

    /// Which events are shown.
    pub fn log_level(&self) -> Level {
        let by_itself = match self.command {
            Command::Tour { .. } | Command::TourWriter { .. } => Level::Off,
            _ => Level::Warn,
        };
        self.global.log.unwrap_or(by_itself)
    }
}

/// Global options that a command takes but does not need.
fn globals_without_meaning(command: &str) -> &'static [&'static str] {
    match command {
        "completions" => {
            &["json", "keyspace", "key_format", "value_format", "retain_commits", "memory_limit", "log"]
        }
        "tour" | "verify" | "repair" => {
            &["keyspace", "key_format", "value_format", "retain_commits", "memory_limit"]
        }
        "bench" | "restore" => &["keyspace", "key_format", "value_format", "retain_commits"],
        "backup" | "compact" | "keyspaces" | "stats" => &["keyspace", "key_format", "value_format"],
        _ => &[],
    }
}

/// The database a command works on.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct Database {
    /// Directory of the database.
    #[arg(value_name = "DB", value_hint = clap::ValueHint::DirPath)]
    pub path: PathBuf,
}

/// Which keys of a keyspace; all of them if nothing is given.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// Keys that begin so; with tuples, whose first elements are these.
    #[arg(long, short, value_name = "KEY", conflicts_with_all = ["from", "to"], allow_hyphen_values = true)]
    pub prefix: Option<String>,
    /// First key.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// First key no longer included.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub to: Option<String>,
}

/// Which past to read; now, if nothing is given.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub struct Past {
    /// As it was after the commit of this sequence number.
    #[arg(long, value_name = "SEQ")]
    pub at: Option<u64>,
}

/// What a file to import or export looks like.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct FileLayout {
    /// Format of the file; by its name if not given, .csv, .tsv or .jsonl.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The key is this column, the value the whole record; repeat it for a tuple of columns. Without it, records are
    /// pairs of key and value.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub key_column: Vec<String>,
    /// What separates fields of CSV: one character, or `tab`.
    #[arg(long, value_name = "CHAR", value_parser = delimiter, allow_hyphen_values = true)]
    pub delimiter: Option<u8>,
    /// CSV without a first row of names; the columns are named 1, 2, ….
    #[arg(long)]
    pub no_header: bool,
}

#[cfg(test)]
mod tests;
