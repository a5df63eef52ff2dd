//! `ci/corrupt`: harms a small database in every way and demands that no answer is wrong. See `--help`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use holdfast_workloads::corrupt::{Harm, Subject, Verdict, build, harm, judge};
use holdfast_workloads::{Report, SelfTest};

/// Memory that one case may hold at once.
const BYTES_MAX: isize = 64 << 20;
/// Time that one case may take.
const TIME_MAX: Duration = Duration::from_secs(10);

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static HELD_MAX: Cell<isize> = const { Cell::new(0) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Counts what each thread holds.
struct Counting;

fn count(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = HELD_MAX.try_with(|most| most.set(most.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; every call goes to the system's")]
// SAFETY: every request is passed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Harms a database of at most 256 KiB in every way, one harm at a time, and demands that no answer is wrong.
///
/// The database (two keyspaces, at least three levels, range deletes, lz4) is harmed once as it was closed, once as it was
/// killed right after an acknowledged commit: every bit flipped; every sector zeroed, swapped, put back to earlier
/// contents; every file cut at every length, removed, exchanged. Opening is refused, or reads fail, or every answer is
/// right and verification names the harm or lists the bytes as unused. Anything else, a panic, more than 10 s or more than
/// 64 MiB fails.
#[derive(Parser)]
#[command(name = "corrupt")]
struct Arguments {
    /// Every 61st bit and a sample of lengths, instead of all.
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
    minutes: Option<u64>,
    /// Go on at this case.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Threads; all cores if not given.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            told(info);
        }
    }));
    let subjects = match [true, false].map(build) {
        [Ok(closed), Ok(killed)] => [closed, killed],
        [closed, killed] => {
            for error in [closed.err(), killed.err()].into_iter().flatten() {
                eprintln!("corrupt: {error}");
            }
            return ExitCode::FAILURE;
        }
    };
    if arguments.self_test {
        return self_test(&subjects[0], arguments.json);
    }
    run(&subjects, &arguments)
}

/// Counts by (database, file kind, harm, verdict).
type Counts = BTreeMap<(&'static str, &'static str, &'static str, &'static str), u64>;

fn run(subjects: &[Subject], arguments: &Arguments) -> ExitCode {
    let mut report = Report::new("corrupt", arguments.json);
    let cases: Vec<(&Subject, Harm)> = subjects
        .iter()
        .flat_map(|subject| harm::all(subject, arguments.quick).into_iter().map(move |harm| (subject, harm)))
        .collect();
    for subject in subjects {
        let bytes: usize = subject.image.values().map(Vec::len).sum();
        let (files, levels) = (subject.image.len(), subject.levels);
        report.say(&format!("{}: {files} files, {bytes} bytes, {levels} levels", subject.name));
    }
    let began = Instant::now();
    let deadline = arguments.minutes.map(|minutes| began + Duration::from_secs(minutes * 60));
    let next = AtomicUsize::new(arguments.from);
    let outcome = Mutex::new((Counts::new(), Vec::<String>::new()));
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(&cases, &next, deadline, &outcome));
        }
    });
    let done = next.load(Ordering::Relaxed).min(cases.len());
    let (counts, wrong) = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for ((subject, kind, harm, verdict), count) in &counts {
        report.figure(&format!("{subject} {kind} {harm}: {verdict}"), *count as f64, "cases");
    }
    for what in wrong {
        report.wrong(what);
    }
    let judged = done.saturating_sub(arguments.from) as f64;
    report.figure("cases", judged, "cases");
    report.at_least("cases a second", judged / began.elapsed().as_secs_f64(), "/s", 500.0);
    if done < cases.len() {
        report.say(&format!("out of time: {done} of {} cases; go on with --from {done}", cases.len()));
    }
    report.finish()
}

fn work(
    cases: &[(&Subject, Harm)],
    next: &AtomicUsize,
    deadline: Option<Instant>,
    outcome: &Mutex<(Counts, Vec<String>)>,
) {
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let Some((subject, harm)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
        let Some(verdict) = case(subject, harm) else { continue };
        let mut outcome = outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (subject.name, kind_of(harm.file()), harm.kind(), verdict.name());
        *outcome.0.entry(key).or_default() += 1;
        if let Verdict::Wrong(what) = verdict {
            let mut shown = format!("{harm:?}");
            shown.truncate(200);
            outcome.1.push(format!("{} {shown}: {what}", subject.name));
        }
    }
}

/// The verdict over one harm; `None` if it changes nothing.
fn case(subject: &Subject, harm: &Harm) -> Option<Verdict> {
    let harmed = harm.apply(&subject.image)?;
    let began = Instant::now();
    let before = HELD.get();
    HELD_MAX.set(before);
    QUIET.set(true);
    let verdict = catch_unwind(AssertUnwindSafe(|| judge(subject, harm, &harmed)));
    QUIET.set(false);
    let held = HELD_MAX.get() - before;
    Some(match verdict {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Verdict::Wrong(format!("panic: {}", text.unwrap_or_default()))
        }
        Ok(_) if held > BYTES_MAX => Verdict::Wrong(format!("{held} bytes allocated")),
        Ok(_) if began.elapsed() > TIME_MAX => Verdict::Wrong(format!("took {:?}", began.elapsed())),
        Ok(verdict) => verdict,
    })
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

/// Harms that no checksum can show: the judge must notice each.
fn self_test(subject: &Subject, json: bool) -> ExitCode {
    let mut test = SelfTest::new("corrupt", json);
    let mut told_otherwise = Subject {
        contents: subject.contents.clone(),
        image: subject.image.clone(),
        earlier: BTreeMap::new(),
        unused: BTreeMap::new(),
        before_last: None,
        ..*subject
    };
    let harmless = Harm::Remove { file: "LOCK".into() };
    let wrongs = |subject: &Subject| match case(subject, &harmless) {
        Some(Verdict::Wrong(what)) => vec![what],
        _ => Vec::new(),
    };
    if let Some(value) = told_otherwise
        .contents
        .get_mut("accounts")
        .and_then(|known| known.values_mut().find_map(|value| value.as_mut()))
    {
        value[0] ^= 1;
    }
    test.planted("a value differs by one bit and its checksum says nothing", &wrongs(&told_otherwise));
    told_otherwise.contents = subject.contents.clone();
    told_otherwise.last_seq += 1;
    test.planted("an acknowledged commit is missing", &wrongs(&told_otherwise));
    told_otherwise.last_seq = subject.last_seq;
    if let Some(known) = told_otherwise.contents.get_mut("accounts") {
        known.insert(b"zzz".to_vec(), Some(b"never written".to_vec()));
    }
    test.planted("a key is missing", &wrongs(&told_otherwise));
    test.finish()
}
