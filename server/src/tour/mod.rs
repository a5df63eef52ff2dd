//! The tour: the main job of an embedded store on real data, shown step by step, with nothing asked.
//!
//! In a fresh directory it imports every assigned Unicode character, runs queries and transactions, kills its own
//! writer process in the middle of acknowledged commits, recovers, proves that nothing acknowledged was lost and that a
//! flipped bit is caught. Each claim is checked as it is made: if one does not hold, the tour says so and ends with 1.

mod crash;
mod damage;
mod queries;
mod records;
mod teller;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::blocking::Db;
use holdfast::{MetricValue, Options, Summary};
use indicatif::HumanBytes;

use crate::commands::{Scratch, directory_bytes, machine, nanoseconds, verify_directory};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::quoted::quoted;
use crate::visible::path_text;
use teller::Teller;

/// Past commits that stay readable, in all openings of the tour.
const RETAIN_COMMITS: u64 = 1000;

fn options() -> Options {
    Options { retain_commits: RETAIN_COMMITS, ..Options::default() }
}

/// Runs the tour; the database stays in `keep` if that is given.
///
/// # Errors
/// A claim that did not hold, or what the kernel or the operating system said.
pub(crate) fn run(keep: Option<&Path>, out: &mut Output) -> Result<Exit, Failure> {
    let started = Instant::now();
    let scratch = Scratch::make("holdfast-tour-", &std::env::temp_dir())?;
    let dir = match keep {
        Some(dir) => absolute(dir)?,
        None => scratch.path().join("db"),
    };
    let mut teller = Teller::new(out);
    teller.begin("A new database")?;
    let db = open_new(&dir)?;
    teller.line(format_args!("opened {}", dir.display()))?;
    teller.fact("directory", path_text(&dir));
    teller.end()?;

    records::import(&db, &mut teller)?;
    queries::look_up(&db, &mut teller)?;
    queries::transactions(&db, &mut teller)?;
    let figures = figures(&db);
    db.close()?;
    crash::kill_and_recover(&dir, scratch.writer(), &mut teller)?;
    damage::flip_bits(&dir, scratch.path(), &mut teller)?;
    finish(&dir, keep, figures, started.elapsed(), &mut teller)?;
    Ok(Exit::Good)
}

fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(dir).map_err(|error| Failure::io(dir.display().to_string(), error))
}

fn open_new(dir: &Path) -> Result<Db, Failure> {
    let has_something = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if has_something {
        let shown = dir.display();
        return Err(Failure::WrongUse(format!("{shown} is not empty; the tour wants a new directory")));
    }
    Ok(Db::open(dir, options())?)
}

/// How often something was done, and how long it took.
struct Figure {
    /// For people.
    name: &'static str,
    /// What the names of its facts begin with.
    fact: &'static str,
    summary: Summary,
}

/// What the kernel measured in this process.
fn figures(db: &Db) -> Vec<Figure> {
    let metrics = db.metrics();
    let timings = [
        ("commits, most of 6,000 entries", "commit", "holdfast_commit_ns"),
        ("durable appends to the log", "sync", "holdfast_sync_ns"),
        ("look-ups of a key", "get", "holdfast_get_ns"),
    ];
    let mut figures = Vec::new();
    for (name, fact, metric) in timings {
        if let Some(MetricValue::Histogram(summary)) = metrics.get(metric).map(|metric| &metric.value) {
            figures.push(Figure { name, fact, summary: *summary });
        }
    }
    figures
}

fn finish(
    dir: &Path,
    keep: Option<&Path>,
    figures: Vec<Figure>,
    elapsed: Duration,
    teller: &mut Teller<'_>,
) -> Result<(), Failure> {
    teller.begin("In figures")?;
    let report = verify_directory(dir)?;
    teller.must(report.is_good(), "the database verifies after all this")?;
    let files = directory_bytes(dir)?;
    teller.line(format_args!("{:<32} {}", "machine", machine()))?;
    teller.fact("machine", machine());
    for Figure { name, fact, summary } in figures {
        let (half, most) = (nanoseconds(summary.p50_ns), nanoseconds(summary.p99_ns));
        let count = summary.count;
        teller.line(format_args!("{name:<32} {count}, half within {half}, 99 % within {most}"))?;
        teller.fact(&format!("{fact}_count"), count);
        teller.fact(&format!("{fact}_p50_ns"), summary.p50_ns);
        teller.fact(&format!("{fact}_p99_ns"), summary.p99_ns);
    }
    teller.line(format_args!("{:<32} {}, verified", "all files", HumanBytes(files)))?;
    teller.fact("file_bytes", files);
    teller.line(format_args!("{:<32} {:.1} s", "the whole tour", elapsed.as_secs_f64()))?;
    teller.fact("elapsed_ms", elapsed.as_millis() as u64);
    if cfg!(debug_assertions) {
        teller.line("(a build that checks itself; `cargo run --release` shows the speed)")?;
    }
    teller.end()?;

    teller.begin("What to try next")?;
    let db = match keep {
        Some(dir) => quoted(dir),
        None => {
            teller.line("The database was temporary and is gone. To keep one:\n")?;
            teller.line("  holdfast tour --keep tour-db\n")?;
            "tour-db".to_string()
        }
    };
    for suggestion in [
        format!("holdfast scan {db} -k by_script --key-format tuple --prefix '(\"Runic\")' --limit 5"),
        format!("holdfast get {db} 🦀"),
        format!("holdfast export {db} characters.csv --key-column character --key-format raw"),
        format!("holdfast shell {db} -k notes"),
        format!("holdfast stats {db}"),
        "holdfast bench".to_string(),
    ] {
        teller.line(format_args!("  {suggestion}"))?;
    }
    teller.line(
        "\nTo embed it, see README.md and kernel/examples; `cargo doc --open -p holdfast-db` is the guide.",
    )?;
    teller.end()
}
