//! Export of a keyspace into a file, as of one moment.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use holdfast::Scan;
use serde_json::json;

use crate::cli::{Database, Global, Range};
use crate::exit::{Exit, Failure};
use crate::formats::{self, Layout};
use crate::output::Output;
use crate::progress::Progress;
use crate::store::open_to_read;

pub(super) fn export(
    database: &Database,
    file: &Path,
    layout: &Layout,
    range: &Range,
    at: Option<u64>,
    global: &Global,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let scan = Scan::range::<Vec<u8>>(range.bounds(global)?);
    let store = open_to_read(database, global)?;
    let mut cursor = store.view(global, at)?.scan(scan)?;
    let to_stdout = file == Path::new("-");
    let name = if to_stdout { "standard output".to_string() } else { file.display().to_string() };
    let failed = |error| Failure::io(name.clone(), error);
    let sink: Box<dyn Write> = if to_stdout {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(File::create_new(file).map_err(failed)?)
    };
    let mut writer = formats::Writer::new(BufWriter::with_capacity(1 << 16, sink), layout);
    let mut progress = Progress::start("exporting", None);
    let written = (|| {
        while let Some(entry) = cursor.next()? {
            writer.write(entry.key, entry.value)?;
            progress.add(1);
        }
        writer.finish()
    })();
    if let Err(failure) = written {
        if !to_stdout {
            // Half an export under its final name would pass for a whole one.
            let _ = std::fs::remove_file(file);
        }
        return Err(failure);
    }
    let summary = progress.finish();
    drop(cursor);
    store.close()?;
    if to_stdout {
        return Ok(Exit::Good);
    }
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
