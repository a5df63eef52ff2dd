//! Ten million records in little memory: how fast, how large on disk, and is every value right?
//!
//! Records of 16 + 100 bytes, which do not compress and follow from their number, are written in random order by
//! several writers with a memory limit of 256 MiB. Then the database becomes idle and is closed, is measured, opened,
//! scanned and verified; nine tenths are deleted, it is compacted, closed, measured and verified again. The order is
//! a bijection of the numbers, so nothing of the data is kept in the program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use holdfast::env::linux::block_on;
use holdfast::{Compression, Db, Durability, Keyspace, KeyspaceOptions, Options, Scan, WriteBatch};
use holdfast_workloads::random::{fill, mix};
use holdfast_workloads::scratch::{bytes_of, bytes_of_kind, peak_memory_bytes, reset_peak_memory};
use holdfast_workloads::{Report, Scratch, SelfTest};

const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
const RECORD_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;
const MEMORY_LIMIT: u64 = 256 << 20;
/// Of so many records one stays.
const ONE_STAYS_IN: u64 = 10;
const KEYSPACE: &str = "records";

/// Writes many records in random order within a small memory limit, and verifies every one of them.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  scale\n  scale --records 1000000 --batch 1 --writers 8\n  scale --self-test"
)]
struct Arguments {
    /// Number of records.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000_000))]
    records: u64,
    /// Records in each commit.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    /// Number of concurrent writers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    writers: u64,
    /// Directory under which the database is made, instead of the system's temporary directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Plant defects and succeed only if each is reported.
    #[arg(long)]
    self_test: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.self_test {
        return self_test(&arguments);
    }
    let mut report = Report::new("scale", arguments.json);
    report.say(&format!(
        "scale: {} records of {KEY_BYTES} + {VALUE_BYTES} bytes, {} writers, {} a commit, memory limit {} MiB",
        arguments.records,
        arguments.writers,
        arguments.batch,
        MEMORY_LIMIT >> 20
    ));
    if let Err(failure) = run(&arguments, &mut report, |_| Ok(())) {
        report.wrong(failure);
    }
    report.finish()
}

/// What the database is opened with.
fn options() -> Options {
    Options { memory_limit_bytes: MEMORY_LIMIT, ..Options::default() }
}

/// The record of a number: a key that looks like chance and the value that belongs to it.
fn record(number: u64) -> ([u8; KEY_BYTES], [u8; VALUE_BYTES]) {
    let (mut key, mut value) = ([0; KEY_BYTES], [0; VALUE_BYTES]);
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    fill(number, &mut value);
    (key, value)
}

/// The number that a key and its value are the record of.
fn number_of(key: &[u8], value: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(key.get(8..)?.try_into().ok()?);
    let (expected, content) = record(number);
    (expected == key && content == value).then_some(number)
}

fn stays(number: u64) -> bool {
    number.is_multiple_of(ONE_STAYS_IN)
}

/// The whole run; `defect` may spoil the database once it is loaded.
fn run(
    arguments: &Arguments,
    report: &mut Report,
    defect: impl FnOnce(&Keyspace) -> holdfast::Result<()>,
) -> Result<(), String> {
    let scratch = Scratch::new("scale", arguments.dir.as_deref()).map_err(|error| error.to_string())?;
    let dir = scratch.path().join("db");
    let said = |what: &str| {
        let what = what.to_string();
        move |error: holdfast::Error| format!("{what}: {error}")
    };
    // Counts from here; where the system refuses, from the start of the process, which is more.
    drop(reset_peak_memory());
    let db = block_on(Db::open(&dir, options())).map_err(said("opening"))?;
    let plain = KeyspaceOptions { compression: vec![Compression::None], ..KeyspaceOptions::default() };
    let keyspace = block_on(db.create_keyspace(KEYSPACE, plain)).map_err(said("creating a keyspace"))?;
    let put = |number, batch: &mut WriteBatch| {
        let (key, value) = record(number);
        batch.put(keyspace.id(), &key, &value)?;
        Ok(())
    };
    let took = in_batches(arguments, put, &db)?;
    say_rate(report, "load", arguments.records, took);
    defect(&keyspace).map_err(said("planting"))?;
    let began = Instant::now();
    block_on(db.wait_idle()).map_err(said("becoming idle"))?;
    report.figure("until idle", began.elapsed().as_secs_f64(), "s");
    say_work(report, &db);
    drop(keyspace);
    close(db, report)?;
    let data = arguments.records * RECORD_BYTES;
    say_size(report, &dir, data, 1.25)?;
    let db = reopen(&dir, report)?;
    let keyspace = db.keyspace(KEYSPACE).map_err(said("keyspace"))?;
    scan(&keyspace, arguments.records, |_| true, report)?;
    let gone = arguments.records - arguments.records.div_ceil(ONE_STAYS_IN);
    let delete = |number, batch: &mut WriteBatch| {
        if !stays(number) {
            batch.delete(keyspace.id(), &record(number).0)?;
        }
        Ok(())
    };
    let took = in_batches(arguments, delete, &db)?;
    say_rate(report, "delete", gone, took);
    let began = Instant::now();
    block_on(db.compact()).map_err(said("compacting"))?;
    report.figure("compact", began.elapsed().as_secs_f64(), "s");
    scan(&keyspace, arguments.records, stays, report)?;
    drop(keyspace);
    close(db, report)?;
    say_size(report, &dir, (arguments.records - gone) * RECORD_BYTES, 1.3)?;
    let db = reopen(&dir, report)?;
    let keyspace = db.keyspace(KEYSPACE).map_err(said("keyspace"))?;
    scan(&keyspace, arguments.records, stays, report)?;
    drop(keyspace);
    close(db, report)?;
    report.at_most("peak memory (VmHWM)", peak_memory_bytes() as f64 / 1_048_576.0, "MiB", 400.0);
    Ok(())
}

/// Visits every number once, in a random order, in commits of the size asked for.
fn in_batches(
    arguments: &Arguments,
    add: impl Fn(u64, &mut WriteBatch) -> holdfast::Result<()> + Sync,
    db: &Db,
) -> Result<Duration, String> {
    let began = Instant::now();
    let order = Order::new(arguments.records);
    let next = AtomicU64::new(0);
    let outcome: Result<(), String> = std::thread::scope(|scope| {
        let writer = || -> holdfast::Result<()> {
            loop {
                let first = next.fetch_add(arguments.batch, Ordering::Relaxed);
                if first >= arguments.records {
                    return Ok(());
                }
                let mut batch = WriteBatch::new();
                for place in first..(first + arguments.batch).min(arguments.records) {
                    add(order.number_at(place), &mut batch)?;
                }
                block_on(write(db, batch))?;
            }
        };
        let writers: Vec<_> = (0..arguments.writers).map(|_| scope.spawn(writer)).collect();
        for writer in writers {
            let ended = writer.join().map_err(|_| "a writer panicked".to_string())?;
            ended.map_err(|error| format!("writing: {error}"))?;
        }
        Ok(())
    });
    outcome.map(|()| began.elapsed())
}

/// Commits, again if the database asks for patience.
async fn write(db: &Db, batch: WriteBatch) -> holdfast::Result<()> {
    loop {
        match db.write(batch.clone(), Durability::Flush).await {
            Err(holdfast::Error::Busy(_)) => {}
            outcome => return outcome.map(drop),
        }
    }
}

/// An order of the numbers below a count that looks like chance: a four-round Feistel network over the next even
/// power of two, walked until it falls below the count.
struct Order {
    count: u64,
    half_bits: u32,
}

impl Order {
    fn new(count: u64) -> Self {
        let bits = 64 - (count.max(4) - 1).leading_zeros();
        Self { count, half_bits: bits.div_ceil(2) }
    }

    fn number_at(&self, place: u64) -> u64 {
        let mut number = place;
        loop {
            number = self.step(number);
            if number < self.count {
                return number;
            }
        }
    }

    fn step(&self, number: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for round in 1..=4 {
            (left, right) = (right, left ^ (mix(right ^ (round << 56)) & mask));
        }
        (left << self.half_bits) | right
    }
}

/// Reads everything and verifies that exactly the records that should be there are.
fn scan(
    keyspace: &Keyspace,
    records: u64,
    expected: impl Fn(u64) -> bool,
    report: &mut Report,
) -> Result<(), String> {
    let began = Instant::now();
    let mut found = vec![0u64; records.div_ceil(64) as usize];
    let mut count = 0u64;
    let outcome: holdfast::Result<()> = block_on(async {
        let mut cursor = keyspace.scan(Scan::all()).await?;
        let mut before: Vec<u8> = Vec::new();
        while let Some(entry) = cursor.next().await? {
            count += 1;
            report.check(*before < *entry.key, || format!("the scan is out of order at record {count}"));
            before.clear();
            before.extend_from_slice(entry.key);
            match number_of(entry.key, entry.value).filter(|number| *number < records && expected(*number)) {
                Some(number) => found[(number / 64) as usize] |= 1 << (number % 64),
                None => report
                    .wrong(format!("key {:02x?} should not be there, or not with this value", entry.key)),
            }
        }
        Ok(())
    });
    outcome.map_err(|error| format!("scanning: {error}"))?;
    let took = began.elapsed();
    let missing = (0..records)
        .filter(|number| expected(*number) && found[(number / 64) as usize] & (1 << (number % 64)) == 0)
        .count();
    report.check(missing == 0, || format!("{missing} records are missing"));
    say_rate(report, "scan and verify", count, took);
    Ok(())
}

fn close(db: Db, report: &mut Report) -> Result<(), String> {
    let began = Instant::now();
    block_on(db.close()).map_err(|error| format!("closing: {error}"))?;
    report.figure("close", began.elapsed().as_secs_f64() * 1e3, "ms");
    Ok(())
}

fn reopen(dir: &Path, report: &mut Report) -> Result<Db, String> {
    let began = Instant::now();
    let db = block_on(Db::open(dir, options())).map_err(|error| format!("opening: {error}"))?;
    report.at_most("open", began.elapsed().as_secs_f64() * 1e3, "ms", 1000.0);
    Ok(db)
}

fn say_rate(report: &mut Report, what: &str, records: u64, took: Duration) {
    let rate = records as f64 / took.as_secs_f64().max(1e-9);
    report.figure(what, took.as_secs_f64(), "s");
    report.figure(&format!("{what}: rate"), rate, "/s");
}

fn say_size(report: &mut Report, dir: &Path, data: u64, target: f64) -> Result<(), String> {
    let bytes = bytes_of(dir).map_err(|error| error.to_string())?;
    report.figure("all files", bytes as f64 / 1_048_576.0, "MiB");
    for ending in ["table", "log", "manifest"] {
        let part = bytes_of_kind(dir, ending).map_err(|error| error.to_string())?;
        report.figure(&format!("files of kind {ending}"), part as f64 / 1_048_576.0, "MiB");
    }
    report.at_most("all files for each byte of data", bytes as f64 / data as f64, "", target);
    Ok(())
}

fn say_work(report: &mut Report, db: &Db) {
    let metrics = db.metrics();
    let written = metrics.number("holdfast_flush_bytes_written_total")
        + metrics.number("holdfast_compaction_bytes_written_total");
    report.figure("written by flush and compaction", written as f64 / 1_048_576.0, "MiB");
    report.figure("peak memory so far (VmHWM)", peak_memory_bytes() as f64 / 1_048_576.0, "MiB");
}

/// A record changed, one removed and one added behind the program's back must each be reported.
fn self_test(arguments: &Arguments) -> ExitCode {
    let small = Arguments {
        records: 20_000,
        batch: 50,
        writers: 2,
        dir: arguments.dir.clone(),
        json: arguments.json,
        self_test: true,
    };
    let mut test = SelfTest::new("scale", arguments.json);
    type Defect = fn(&Keyspace) -> holdfast::Result<()>;
    let changed: Defect = |keyspace| block_on(keyspace.put(record(40).0, [7; VALUE_BYTES])).map(drop);
    let removed: Defect = |keyspace| block_on(keyspace.delete(record(50).0)).map(drop);
    let added: Defect = |keyspace| block_on(keyspace.put([9; KEY_BYTES], record(60).1)).map(drop);
    for (name, defect) in
        [("a changed value", changed), ("a lost record", removed), ("a foreign record", added)]
    {
        let mut report = Report::silent("scale");
        if let Err(failure) = run(&small, &mut report, defect) {
            eprintln!("{name}: the self-test could not run: {failure}");
            return ExitCode::from(2);
        }
        test.planted(name, report.wrongs());
    }
    test.finish()
}
