//! `ci/corrupt`: harms a small database in every way and demands that no answer is wrong. See `--help`.

mod meter;
mod self_test;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use holdfast_workloads::Report;
use holdfast_workloads::corrupt::{Harm, Subject, Verdict, baseline, build, harm, judge};

use meter::{LIMITS, Watch, measured};
use tally::Tally;

/// Cases between two savings of the state.
const BATCH: usize = 4096;
/// The exit code of a run that found nothing wrong but has not come to its end.
const UNFINISHED: u8 = 3;

/// Harms a database of at most 256 KiB in every way, one harm at a time, and demands that no answer is wrong.
///
/// The database (two keyspaces, at least three levels, range deletes, lz4, a retained past) is harmed once as it was
/// closed, once as it was killed right after an acknowledged commit: every bit flipped; every sector zeroed, swapped, put
/// back to earlier contents; every file cut at every length, removed, exchanged. Opening is refused, or reads fail and
/// name the harmed file, or every answer is right and verification names the harm or lists the bytes as unused. Of what
/// opens, all but seven of eight flips, lengths and swaps live on: they are written to, flushed, compacted, killed and
/// opened again, and asked everything anew. Anything else, a panic, more than 10 s or more than 64 MiB fails. Counted apart is what one disk cannot know: the newest
/// unsealed group of the log is what it was before, and every answer that of a moment before.
///
/// Exit codes: 0 every answer was right, 1 one was wrong, 3 out of time before the end.
#[derive(Parser)]
#[command(
    name = "corrupt",
    after_help = "Examples:\n  ci/corrupt --quick\n  ci/corrupt --state progress.json --minutes 30\n  ci/corrupt --self-test"
)]
struct Arguments {
    /// Every 61st bit and a sample of lengths and swaps, instead of all.
    #[arg(long)]
    quick: bool,
    /// Plant defects and demand that each is reported.
    #[arg(long)]
    self_test: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Stop after so many minutes and say where to go on.
    #[arg(long)]
    minutes: Option<f64>,
    /// Keep in this file what was counted, and go on from there.
    #[arg(long, conflicts_with = "from")]
    state: Option<PathBuf>,
    /// Go on at this case.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Stop after so many cases.
    #[arg(long)]
    count: Option<usize>,
    /// Threads; all cores if not given.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    meter::silence_panics();
    let outcome = subjects().and_then(|subjects| match arguments.self_test {
        true => self_test::run(&subjects, arguments.json),
        false => run(&subjects, &arguments),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("corrupt: {error}");
        ExitCode::FAILURE
    })
}

/// The database closed, and the database killed; unharmed, each answers everything right.
fn subjects() -> Result<[Subject; 2], String> {
    let subjects = [build(true)?, build(false)?];
    subjects.iter().try_for_each(baseline)?;
    Ok(subjects)
}

/// One harm to one of the databases.
type Case<'a> = (&'a Subject, Harm);

fn run(subjects: &[Subject], arguments: &Arguments) -> Result<ExitCode, String> {
    let mut report = Report::new("corrupt", arguments.json);
    let cases: Vec<Case<'_>> = subjects
        .iter()
        .flat_map(|subject| harm::all(subject, arguments.quick).into_iter().map(move |harm| (subject, harm)))
        .collect();
    for subject in subjects {
        let bytes: usize = subject.image.values().map(|bytes| bytes.len()).sum();
        report.say(&format!(
            "{}: {} files, {bytes} bytes, {}",
            subject.name,
            subject.image.len(),
            subject.shape
        ));
    }
    let mut tally = Tally::load(arguments.state.as_deref(), arguments.quick, cases.len())?;
    tally.done = tally.done.max(arguments.from);
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    let watch = Watch::begin(jobs);
    let began = Instant::now();
    let time = arguments.minutes.map(|minutes| Duration::from_secs_f64(minutes.max(0.0) * 60.0));
    let end = arguments.count.map_or(cases.len(), |count| cases.len().min(tally.done.saturating_add(count)));
    while tally.done < end && time.is_none_or(|time| began.elapsed() < time) {
        let batch = tally.done..end.min(tally.done + BATCH);
        let batch_began = Instant::now();
        judge_all(&cases, batch.clone(), arguments.quick, &watch, &mut tally);
        tally.done = batch.end;
        tally.seconds += batch_began.elapsed().as_secs_f64();
        tally.save()?;
    }
    tally.tell(&mut report);
    let is_over = tally.done >= cases.len();
    if !is_over {
        report.say(&format!("unfinished: {} of {} cases; go on with --from {0}", tally.done, tally.total));
    }
    let is_good = report.wrongs().is_empty();
    let code = report.finish();
    Ok(if is_good && !is_over { ExitCode::from(UNFINISHED) } else { code })
}

/// Judges the cases of one batch on all threads.
fn judge_all(
    cases: &[Case<'_>],
    batch: std::ops::Range<usize>,
    quick: bool,
    watch: &Watch,
    tally: &mut Tally,
) {
    let next = AtomicUsize::new(batch.start);
    let tally = Mutex::new(tally);
    let work = |job: usize| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((subject, harm)) = cases.get(number).filter(|_| number < batch.end) else { return };
            watch.at(job, Some(words(subject, harm, number, quick)));
            let verdict =
                harm.apply(&subject.image).map(|harmed| measured(LIMITS, || judge(subject, harm, &harmed)));
            watch.at(job, None);
            let Some(verdict) = verdict else { continue };
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            let (kind, verb) = (kind_of(harm.file()), harm.kind());
            tally.count(format!("{} {kind} {verb}: {}", subject.name, verdict.name()));
            if let Verdict::Wrong(what) = verdict {
                tally.wrong(format!("{}: {what}", words(subject, harm, number, quick)));
            }
        }
    };
    std::thread::scope(|scope| {
        for job in 0..watch.jobs() {
            let work = &work;
            scope.spawn(move || work(job));
        }
    });
}

/// A case, and how to do it again.
fn words(subject: &Subject, harm: &Harm, number: usize, quick: bool) -> String {
    let quick = if quick { "--quick " } else { "" };
    format!("{} {harm} (ci/corrupt {quick}--from {number} --count 1)", subject.name)
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or(name, |(_, suffix)| suffix) {
        "manifest" => "manifest",
        "log" => "log",
        "table" => "table",
        "CURRENT" => "CURRENT",
        "LOCK" => "LOCK",
        _ => "other",
    }
}
