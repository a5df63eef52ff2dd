//! Export of a keyspace into a file, as of one moment.
//!
//! A file has its name only when it is whole ([`unfinished`](super::unfinished)). Standard output gets the records as
//! they come, and a reader that goes away early ends the export quietly.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use holdfast::Scan;
use serde_json::json;

use super::new_directory::must_lie_outside;
use super::unfinished::{Unfinished, unfinished_path};
use crate::cli::{Database, Global, Range};
use crate::exit::{Exit, Failure};
use crate::formats::{self, Layout};
use crate::output::Output;
use crate::progress::{Progress, Summary};
use crate::store::open_to_look;

const BUFFER_BYTES: usize = 1 << 16;

/// An export as it was asked for.
pub(super) struct Export {
    pub db: Database,
    pub file: PathBuf,
    pub layout: Layout,
    pub range: Range,
    pub at: Option<u64>,
}

impl Export {
    pub(super) fn run(&self, global: &Global, out: &mut Output) -> Result<Exit, Failure> {
        let started = Instant::now();
        let scan = Scan::range::<Vec<u8>>(self.range.bounds(global)?);
        if self.file == Path::new("-") {
            self.write(scan, global, std::io::stdout().lock())?;
            return Ok(Exit::Good);
        }
        unfinished_path(&self.file, "file")?;
        must_lie_outside(&self.db.path, &self.file)?;
        let unfinished = Unfinished::create(&self.file)?;
        let rows = self.write(scan, global, unfinished.file())?;
        unfinished.finish()?;
        let summary = Summary { rows, elapsed: started.elapsed() };
        out.say(
            format_args!("exported {summary}"),
            json!({
                "rows": summary.rows,
                "elapsed_ms": summary.elapsed.as_millis() as u64,
                "rows_per_s": summary.rows_per_s(),
            }),
        )?;
        Ok(Exit::Good)
    }

    /// Writes every record of the range; gives their number.
    fn write(&self, scan: Scan, global: &Global, sink: impl Write) -> Result<u64, Failure> {
        // Only here is it known where the output goes.
        let named = |failure| match failure {
            Failure::Io { error, .. } => Failure::io(self.name(), error),
            other => other,
        };
        let store = open_to_look(&self.db, global)?;
        let mut cursor = store.view(global, self.at)?.scan(scan)?;
        let mut writer = formats::Writer::new(BufWriter::with_capacity(BUFFER_BYTES, sink), &self.layout);
        let mut progress = Progress::start("exporting", None);
        while let Some(entry) = cursor.next()? {
            writer.write(entry.key, entry.value).map_err(named)?;
            progress.add(1);
        }
        writer.finish().map_err(named)?;
        let rows = progress.finish();
        drop(cursor);
        store.close()?;
        Ok(rows)
    }

    fn name(&self) -> String {
        if self.file == Path::new("-") { "standard output".into() } else { self.file.display().to_string() }
    }
}
