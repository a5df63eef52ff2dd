//! Import of files.
//!
//! An import reads its input twice. The first pass checks every line and writes nothing, so a bad line stops it before
//! the database is touched; the second loads it in transactions of bounded size. What cannot be read twice (standard
//! input, a pipe) is first copied into a temporary file. With `--skip-bad-lines` one pass is enough: bad lines are
//! counted and left out.
//!
//! The batches are committed without waiting for the disk, and synced once at the end: the import is durable when the
//! command says so, and a crash before leaves whole batches.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use holdfast::blocking::{Db, Keyspace};
use holdfast::{Durability, WriteBatch};
use serde_json::json;

use super::note;
use crate::cli::{Database, Global};
use crate::exit::{Exit, Failure};
use crate::formats::{self, Layout, Record};
use crate::output::Output;
use crate::progress::{Progress, Summary};
use crate::store::{keyspace, open_to_write};

/// A batch is committed when it holds this many bytes, however few rows these are.
const BATCH_BYTES_MAX: usize = 8 << 20;
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
        let mut input = self.open_input()?;
        let rows_total = match self.skip_bad_lines {
            true => None,
            false => Some(self.check(&mut input)?),
        };
        let db = open_to_write(&self.db, global, true)?;
        let keyspace = keyspace(&db, global, true)?;
        let (summary, skipped) = self.load(&mut input, &db, &keyspace, rows_total)?;
        let seq = db.sync()?;
        db.close()?;
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

    /// The input as a file that can be read twice.
    fn open_input(&self) -> Result<File, Failure> {
        let name = self.file.display().to_string();
        let failed = |error| Failure::io(name.clone(), error);
        let spool = |mut from: Box<dyn std::io::Read>| {
            let mut copy = tempfile::tempfile()?;
            std::io::copy(&mut from, &mut copy)?;
            copy.rewind()?;
            Ok(copy)
        };
        if self.file == Path::new("-") {
            return spool(Box::new(std::io::stdin().lock())).map_err(failed);
        }
        let file = File::open(&self.file).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::WrongUse(format!("{name} is a directory, not a file")));
        }
        if metadata.is_file() { Ok(file) } else { spool(Box::new(file)).map_err(failed) }
    }

    /// Reads all of it and writes nothing; gives the number of rows.
    fn check(&self, input: &mut File) -> Result<u64, Failure> {
        let mut progress = Progress::start("checking", None);
        for record in formats::read(BufReader::new(&*input), &self.layout) {
            record?;
            progress.add(1);
        }
        let failed = |error| Failure::io(self.file.display().to_string(), error);
        input.rewind().map_err(failed)?;
        Ok(progress.finish().rows)
    }

    fn load(
        &self,
        input: &mut File,
        db: &Db,
        keyspace: &Keyspace,
        rows_total: Option<u64>,
    ) -> Result<(Summary, u64), Failure> {
        let mut progress = Progress::start("importing", rows_total);
        let (mut batch, mut skipped) = (WriteBatch::new(), 0);
        for record in formats::read_on(BufReader::new(&*input), &self.layout) {
            let Record { key, value } = match record {
                Ok(record) => record,
                Err(Failure::BadLine(bad)) if self.skip_bad_lines => {
                    skipped += 1;
                    if skipped <= BAD_LINES_SHOWN {
                        note(format_args!("left out: {bad}"));
                    }
                    continue;
                }
                // It was read well before, so somebody is writing the file.
                Err(Failure::BadLine(bad)) => {
                    return Err(Failure::Problem(format!("the file changed while it was imported: {bad}")));
                }
                Err(other) => return Err(other),
            };
            batch.put(keyspace.id(), &key, &value).map_err(holdfast::Error::from)?;
            progress.add(1);
            if batch.len() as u64 >= self.batch_rows || batch.byte_size() >= BATCH_BYTES_MAX {
                db.write(std::mem::take(&mut batch), Durability::Buffered)?;
            }
        }
        db.write(batch, Durability::Buffered)?;
        Ok((progress.finish(), skipped))
    }
}
