//! A quick self-measure: what this machine and this disk give with this store.
//!
//! It measures only ourselves, with default options but for `--memory-limit`, in a fresh directory that is removed at the end, also by an
//! interruption. Keys are 16 bytes in an order without pattern, values 100 bytes that do not compress.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast::blocking::{Db, Keyspace};
use holdfast::{Durability, Scan, WriteBatch};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value as Json, json};

use super::scratch::Scratch;
use super::stats::nanoseconds;
use super::upkeep::directory_bytes;
use crate::cli::{BENCH_ROWS_MAX, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::store::options_of_all;

const VALUE_BYTES: usize = 100;
const BATCH_ROWS: u64 = 1000;
const WRITERS: [u64; 2] = [1, 8];
/// Rows that are loaded have smaller numbers than those that are committed one by one.
const FIRST_COMMITTED: u64 = 1 << 40;
const _: () = assert!(BENCH_ROWS_MAX < FIRST_COMMITTED);

pub(super) fn run(
    dir: Option<&Path>,
    global: &Global,
    rows: u64,
    time: Duration,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let scratch = Scratch::make("holdfast-bench-", dir.unwrap_or(Path::new(".")))?;
    out.say(format_args!("machine  {}", machine()), json!({ "measure": "machine", "machine": machine() }))?;
    if cfg!(debug_assertions) {
        out.line("this build checks itself; `cargo build --release` is what to measure")?;
    }
    let db = Db::open(scratch.path(), options_of_all(global))?;
    let keyspace = db.default_keyspace()?;
    for writers in WRITERS {
        let name = if writers == 1 { "durable commits, 1 writer" } else { "durable commits, 8 writers" };
        let (rate, times_ns) = commits(&keyspace, writers, time)?;
        let at = |part: usize| times_ns.get(times_ns.len() * part / 100).map_or(0, |ns| *ns);
        let (p50_ns, p99_ns) = (at(50), at(99));
        let more = format!("half within {}, 99 % within {}", nanoseconds(p50_ns), nanoseconds(p99_ns));
        tell(name, rate, &more, json!({ "p50_ns": p50_ns, "p99_ns": p99_ns }), out)?;
    }
    tell("load, rows", load(&db, &keyspace, rows)?, "durable at the end", json!({}), out)?;
    let reads = gets(&keyspace, rows, time)?;
    let p50_ns = half_of("holdfast_get_ns", &db);
    tell(
        "random gets, 1 reader",
        reads,
        &format!("half within {}", nanoseconds(p50_ns)),
        json!({ "p50_ns": p50_ns }),
        out,
    )?;
    tell("scan forward, rows", scan(&keyspace, Scan::all())?, "", json!({}), out)?;
    tell("scan backward, rows", scan(&keyspace, Scan::all().reverse())?, "", json!({}), out)?;
    db.close()?;
    let bytes = directory_bytes(scratch.path())?;
    out.say(
        format_args!("files after a clean close  {}", HumanBytes(bytes)),
        json!({ "measure": "files after a clean close", "bytes": bytes }),
    )?;
    Ok(Exit::Good)
}

/// Tells a rate, with `more` of it for people, and the times that it stands for in `object`.
fn tell(name: &str, per_s: u64, more: &str, mut object: Json, out: &mut Output) -> Result<(), Failure> {
    object["measure"] = json!(name);
    object["per_s"] = json!(per_s);
    out.say(format_args!("{name:<28} {:>12} /s  {more}", HumanCount(per_s).to_string()), object)?;
    out.flush()
}

fn half_of(histogram: &str, db: &Db) -> u64 {
    match db.metrics().get(histogram).map(|metric| metric.value.clone()) {
        Some(holdfast::MetricValue::Histogram(summary)) => summary.p50_ns,
        _ => 0,
    }
}

/// A number without pattern for each number: a bijection on 64 bits.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&scattered(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn value(number: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    for (word, at) in value.chunks_mut(8).zip(1u64..) {
        let bytes = scattered(number.wrapping_mul(31).wrapping_add(at)).to_le_bytes();
        word.copy_from_slice(&bytes[..word.len()]);
    }
    value
}

fn per_s(count: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Commits one row at a time, each durable, for some time; gives how long each took in nanoseconds, ascending.
fn commits(keyspace: &Keyspace, writers: u64, time: Duration) -> Result<(u64, Vec<u64>), Failure> {
    let (stop, next) = (AtomicBool::new(false), AtomicU64::new(writers * FIRST_COMMITTED));
    let started = Instant::now();
    let all: Result<Vec<Vec<u64>>, holdfast::Error> = std::thread::scope(|scope| {
        let write = || {
            let mut times_ns = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                keyspace.put(key(number), value(number))?;
                times_ns.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            Ok(times_ns)
        };
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("a writer does not panic")).collect()
    });
    let mut times_ns = all?.concat();
    times_ns.sort_unstable();
    Ok((per_s(times_ns.len() as u64, started.elapsed()), times_ns))
}

fn load(db: &Db, keyspace: &Keyspace, rows: u64) -> Result<u64, Failure> {
    let started = Instant::now();
    let mut progress = Progress::start("loading", Some(rows));
    let mut batch = WriteBatch::new();
    for number in 0..rows {
        batch.put(keyspace.id(), &key(number), &value(number)).map_err(holdfast::Error::from)?;
        if batch.len() as u64 == BATCH_ROWS {
            db.write(std::mem::take(&mut batch), Durability::Buffered)?;
            progress.add(BATCH_ROWS);
        }
    }
    db.write(batch, Durability::Buffered)?;
    db.sync()?;
    progress.finish();
    Ok(per_s(rows, started.elapsed()))
}

fn gets(keyspace: &Keyspace, rows: u64, time: Duration) -> Result<u64, Failure> {
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < time {
        for _ in 0..64 {
            let number = scattered(count) % rows;
            let found = keyspace.get(key(number))?;
            if found.is_none_or(|found| found != value(number)) {
                return Err(Failure::Problem(format!("row {number} was loaded, but is not there as it was")));
            }
            count += 1;
        }
    }
    Ok(per_s(count, started.elapsed()))
}

fn scan(keyspace: &Keyspace, scan: Scan) -> Result<u64, Failure> {
    let started = Instant::now();
    let count = keyspace.scan(scan)?.count()?;
    Ok(per_s(count, started.elapsed()))
}

/// Processor, number of cores, operating system: what figures are worth nothing without.
pub(crate) fn machine() -> String {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}
