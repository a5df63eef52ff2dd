//! Import of a file.
//!
//! An import reads its input twice. The first pass checks every line and writes nothing, so a bad line stops it before
//! the database is touched; the second loads it in transactions of bounded size. What cannot be read twice (standard
//! input, a pipe) is first copied into a temporary file ([`spool`](super::spool)). With `--skip-bad-lines` bad lines are
//! counted and left out; the first pass then only looks whether the first row of a CSV file fits the others. For JSON
//! Lines there is nothing to look for, so it is read once, and never copied.
//!
//! A record over a limit of the kernel is a bad line too, so the second pass meets none. Every record that could be
//! put alone can be imported, whatever the size of batches: what is collected is committed before a record with which
//! it would grow too large.
//!
//! The batches are committed without waiting for the disk, and synced once at the end: the import is durable when the
//! command says so, and a crash before leaves whole batches. The time it tells is that of all this, to the close.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::blocking::{Db, Keyspace};
use holdfast::{Durability, Options, WriteBatch};
use serde_json::json;

use super::note_as;
use super::spool::{Behind, copy_lines};
use crate::cli::{Database, Global};
use crate::exit::{Exit, Failure, InputError, in_words};
use crate::formats::{self, BadInput, Format, Layout, ReadError, Record};
use crate::output::Output;
use crate::progress::{Progress, Summary};
use crate::store::{self, close_written, keyspace, open_to_write};
use crate::visible::path_text;

/// A batch is committed before it would hold more bytes than this, however few rows these are; a larger row goes alone.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long a batch waits, and between two attempts, for flush and compaction to catch up.
const BUSY_PATIENCE: Duration = Duration::from_secs(600);
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// So many bad lines are shown; the others are only counted.
const BAD_LINES_SHOWN: u64 = 10;

/// An import as it was asked for.
pub(super) struct Import {
    pub db: Database,
    pub file: PathBuf,
    pub layout: Layout,
    pub batch_rows: u64,
    pub skip_bad_lines: bool,
}

impl Import {
    pub(super) fn run(&self, global: &Global, out: &mut Output) -> Result<Exit, Failure> {
        let started = Instant::now();
        let options = store::options(global, true);
        let mut input = self.open_input()?;
        let rows_total = match self.skip_bad_lines {
            true => {
                if self.reads_twice() {
                    self.check_first_row(&mut input)?;
                }
                None
            }
            false => Some(self.check(&mut input, &options)?),
        };
        let mut records = self.records(&input, &options).peekable();
        // A file that is not of this format at all is known by its first record, before anything is made.
        if matches!(records.peek(), Some(Err(failure)) if !matches!(failure, Failure::BadLine(_))) {
            records.next().transpose()?;
        }
        let db = open_to_write(&self.db, global, true)?;
        let keyspace = keyspace(&db, global, true)?;
        let mut loading = Loading::start(&db, &keyspace, self.batch_rows, rows_total);
        let loaded = self.load(records, &mut loading, out.as_json());
        let (rows, skipped) = loaded.inspect_err(|_| loading.tell_what_is_there(out.as_json()))?;
        let seq = db.sync()?;
        close_written(db, global);
        let summary = Summary { rows, elapsed: started.elapsed() };
        let skipped_text =
            if self.skip_bad_lines { format!(", {skipped} bad lines left out") } else { String::new() };
        out.say(
            format_args!("imported {summary}{skipped_text}"),
            json!({
                "rows": summary.rows,
                "skipped": skipped,
                "seq": seq.get(),
                "elapsed_ms": summary.elapsed.as_millis() as u64,
                "rows_per_s": summary.rows_per_s(),
            }),
        )?;
        Ok(Exit::Good)
    }

    fn name(&self) -> String {
        if self.file == Path::new("-") { "standard input".into() } else { path_text(&self.file) }
    }

    fn reads_twice(&self) -> bool {
        !self.skip_bad_lines || self.layout.format == Format::Csv
    }

    /// The input as a file that can be read as often as it has to be.
    fn open_input(&self) -> Result<File, Failure> {
        let name = self.name();
        let failed = |error| Failure::io(name.clone(), error);
        if self.file == Path::new("-") {
            let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
            return self.readable(File::from(input));
        }
        let file = File::open(&self.file).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::WrongUse(format!("{name} is a directory, not a file")));
        }
        if metadata.is_file() { Ok(file) } else { self.readable(file) }
    }

    /// What can be read only once: itself if that is enough, else a copy without a name.
    fn readable(&self, from: File) -> Result<File, Failure> {
        if !self.reads_twice() {
            return Ok(from);
        }
        let place = std::env::temp_dir();
        // One error for both sides of the copy, so it names both.
        let failed =
            |error| Failure::io(format!("copying {} into {} (TMPDIR)", self.name(), place.display()), error);
        let mut copy = tempfile::tempfile_in(&place).map_err(failed)?;
        let behind = if self.skip_bad_lines { Behind::Read } else { Behind::Unread };
        let (mut from, mut into) = (BufReader::new(from), BufWriter::new(&mut copy));
        let copied = copy_lines(&mut from, &mut into, formats::RECORD_BYTES_MAX, behind);
        copied.and_then(|()| into.flush()).map_err(failed)?;
        drop(into);
        copy.rewind().map_err(failed)?;
        Ok(copy)
    }

    /// The records, each judged by the limits of the database too. Goes on after each [`Failure::BadLine`].
    fn records<'a>(
        &'a self,
        input: &'a File,
        options: &'a Options,
    ) -> impl Iterator<Item = Result<Record, Failure>> + 'a {
        let file = self.name();
        formats::read_on(BufReader::new(input), &self.layout).map(move |row| {
            let row = row.map_err(|error| unread(&file, error))?;
            match options.check_put(&row.record.key, &row.record.value) {
                Ok(()) => Ok(row.record),
                Err(holdfast::Error::Invalid(what)) => {
                    let bad = BadInput::new(row.line, in_words(&what));
                    Err(Failure::BadLine(InputError { file: file.clone(), bad }))
                }
                Err(other) => Err(other.into()),
            }
        })
    }

    /// Reads all of it and writes nothing; gives the number of rows.
    fn check(&self, input: &mut File, options: &Options) -> Result<u64, Failure> {
        let mut progress = Progress::start("checking", None);
        for record in self.records(input, options) {
            record?;
            progress.add(1);
        }
        input.rewind().map_err(|error| Failure::io(self.name(), error))?;
        Ok(progress.finish())
    }

    /// Refuses a file that would lose most of its rows for the sake of its first, before anything is made.
    fn check_first_row(&self, input: &mut File) -> Result<(), Failure> {
        formats::check_first_row(BufReader::new(&*input), &self.layout)
            .map_err(|error| unread(&self.name(), error))?;
        input.rewind().map_err(|error| Failure::io(self.name(), error))
    }

    /// Loads the records; gives their number and that of the bad lines left out.
    fn load(
        &self,
        records: impl Iterator<Item = Result<Record, Failure>>,
        loading: &mut Loading<'_>,
        as_json: bool,
    ) -> Result<(u64, u64), Failure> {
        let mut skipped = 0;
        for record in records {
            match record {
                Ok(record) => loading.add(&record)?,
                Err(Failure::BadLine(bad)) if self.skip_bad_lines => {
                    skipped += 1;
                    if skipped <= BAD_LINES_SHOWN {
                        tell_left_out(&bad, as_json);
                    }
                }
                // It was read well before, so somebody is writing the file.
                Err(Failure::BadLine(bad) | Failure::BadFile(bad)) if !self.skip_bad_lines => {
                    return Err(Failure::Problem(format!("the file changed while it was imported: {bad}")));
                }
                Err(other) => return Err(other),
            }
        }
        Ok((loading.finish()?, skipped))
    }
}

/// Why the file of this name gives no record.
fn unread(file: &str, error: ReadError) -> Failure {
    let named = |bad| InputError { file: file.to_string(), bad };
    match error {
        ReadError::Line(bad) => Failure::BadLine(named(bad)),
        ReadError::File(bad) => Failure::BadFile(named(bad)),
        ReadError::Io(error) => Failure::io(file, error),
    }
}

/// Rows on their way into the database.
struct Loading<'a> {
    db: &'a Db,
    keyspace: &'a Keyspace,
    batch_rows: u64,
    batch: WriteBatch,
    progress: Progress,
    rows_committed: u64,
}

impl<'a> Loading<'a> {
    fn start(db: &'a Db, keyspace: &'a Keyspace, batch_rows: u64, rows_total: Option<u64>) -> Self {
        let progress = Progress::start("importing", rows_total);
        Self { db, keyspace, batch_rows, batch: WriteBatch::new(), progress, rows_committed: 0 }
    }

    fn add(&mut self, record: &Record) -> Result<(), Failure> {
        let bytes = WriteBatch::put_byte_size(&record.key, &record.value).map_err(holdfast::Error::from)?;
        if self.batch.byte_size().saturating_add(bytes) > BATCH_BYTES_MAX {
            self.commit()?;
        }
        self.batch.put(self.keyspace.id(), &record.key, &record.value).map_err(holdfast::Error::from)?;
        self.progress.add(1);
        if self.batch.len() as u64 >= self.batch_rows {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let rows = self.batch.len() as u64;
        if rows > 0 {
            if self.batch.byte_size() > BATCH_BYTES_MAX {
                // Such a row fills much of the memory that there is; what waits there goes to the disk first.
                self.db.flush()?;
            }
            self.write_with_patience()?;
            self.rows_committed += rows;
        }
        Ok(())
    }

    /// Writes the batch. Where flush and compaction are behind the kernel refuses it after half a minute; nobody is better
    /// off if an import then begins again.
    fn write_with_patience(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        let began = Instant::now();
        loop {
            // What is refused is gone, so a copy goes.
            match self.db.write(batch.clone(), Durability::Buffered) {
                Err(holdfast::Error::Busy(_)) if began.elapsed() < BUSY_PATIENCE => {
                    self.db.flush()?;
                    std::thread::sleep(BUSY_PAUSE);
                }
                outcome => return Ok(outcome.map(drop)?),
            }
        }
    }

    fn finish(&mut self) -> Result<u64, Failure> {
        self.commit()?;
        Ok(self.progress.finish())
    }

    /// After a failure: what the database may hold now.
    fn tell_what_is_there(&self, as_json: bool) {
        let rows = self.rows_committed;
        if rows == 0 {
            return;
        }
        let text = format!(
            "the import stopped; up to {rows} rows of it are there, and it may be run again: rows then replace themselves"
        );
        note_as(as_json, &text, json!({ "note": "stopped", "rows_at_most": rows }));
    }
}

fn tell_left_out(bad: &InputError, as_json: bool) {
    let mut object = json!({ "note": "left out", "error": bad.to_string() });
    bad.add_place(&mut object);
    note_as(as_json, &format!("left out: {bad}"), object);
}
