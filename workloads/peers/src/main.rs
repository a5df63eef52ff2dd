//! Holdfast beside other embedded stores: bulk load, durable commits by one and eight writers, look-ups, ranges.
//!
//! `ci/peers` builds and runs it. Every row runs all stores in turn, several rounds, in a rotating order, and shows
//! the median of each and its ratio to the best. Nothing but a wrong answer fails: after the timed part everything that
//! a store holds is compared with what was written.

mod contents;
mod store;
mod stores;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contents::{Contents, LIMITS};
use store::{Failure, KEY_LEN, STORES, Store};

const VALUE_LEN: usize = 100;
const BATCH: u64 = 1000;
/// How many commit at once, row by row.
const WRITERS: [u64; 2] = [1, 8];
/// A row slower than this many times the best is a miss.
const RATIO_MAX: f64 = 3.0;

struct Settings {
    records: u64,
    commits: u64,
    rounds: usize,
    memory_bytes: u64,
    dir: PathBuf,
    json: bool,
    self_test: bool,
}

const HELP: &str = "Compares Holdfast with fjall and redb in one run.

Usage: holdfast-peers [--records N] [--commits N] [--rounds N] [--memory-mib N] [--dir DIR] [--json] [--self-test]

  --records N     records to load (default 1000000, 16-byte keys, 100-byte values, random order)
  --commits N     durable single commits per row (default 20000)
  --rounds N      rounds, the median counts (default 3)
  --memory-mib N  memory for each store (default 256)
  --dir DIR       where the stores are made (default: the directory for temporary files)
  --self-test     stores that lose, swap or leave out records must be found out";

fn settings() -> Result<Settings, Failure> {
    let mut settings = Settings {
        records: 1_000_000,
        commits: 20_000,
        rounds: 3,
        memory_bytes: 256 << 20,
        dir: std::env::temp_dir(),
        json: false,
        self_test: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--records" => settings.records = value()?.parse()?,
            "--commits" => settings.commits = value()?.parse()?,
            "--rounds" => settings.rounds = value()?.parse::<usize>()?.max(1),
            "--memory-mib" => settings.memory_bytes = value()?.parse::<u64>()? << 20,
            "--dir" => settings.dir = value()?.into(),
            "--json" => settings.json = true,
            "--self-test" => settings.self_test = true,
            "--help" | "-h" => {
                println!("{HELP}");
                std::process::exit(0);
            }
            other => return Err(format!("unknown argument {other}; see --help").into()),
        }
    }
    settings.records = settings.records.next_multiple_of(BATCH);
    Ok(settings)
}

/// A well-mixed number from a counter (the finaliser of splitmix64, a bijection).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn key(n: u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&mix(n).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// Incompressible bytes that follow from the key.
fn value(n: u64) -> Vec<u8> {
    (0..VALUE_LEN as u64).map(|at| mix(n ^ (at << 32)) as u8).collect()
}

/// Rates of one store, by row.
fn measure(store: &dyn Store, settings: &Settings) -> Result<Vec<(String, f64)>, Failure> {
    let mut rows = Vec::new();
    let mut rate =
        |row: String, count: u64, took: Duration| rows.push((row, count as f64 / took.as_secs_f64()));
    let began = Instant::now();
    for batch in 0..settings.records / BATCH {
        store.load(&mut (0..BATCH).map(|n| batch * BATCH + n).map(|n| (key(n), value(n))))?;
    }
    store.settle()?;
    rate("bulk load, records/s".into(), settings.records, began.elapsed());
    for writers in WRITERS {
        let each = settings.commits / writers;
        let began = Instant::now();
        std::thread::scope(|scope| -> Result<(), Failure> {
            let threads: Vec<_> = (0..writers)
                .map(|writer| {
                    scope.spawn(move || {
                        committed(writers, writer, each).try_for_each(|n| store.put(&key(n), &value(n)))
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a writer panicked")?)
        })?;
        rate(format!("durable commits/s, {writers} writers"), each * writers, began.elapsed());
    }
    let reads = settings.records.min(500_000);
    let began = Instant::now();
    for n in 0..reads {
        let n = mix(n ^ 0xabcd) % settings.records;
        let mut len = 0;
        if !store.get(&key(n), &mut |value| len = touch(value))? || len != VALUE_LEN {
            return Err(format!("{}: record {n} is gone or wrong", store.name()).into());
        }
    }
    rate("random reads/s".into(), reads, began.elapsed());
    for (limit, count) in LIMITS.into_iter().zip([reads / 10, reads / 50]) {
        let began = Instant::now();
        for n in 0..count {
            let n = mix(n ^ 0x1234) % settings.records;
            let (mut sum, mut found) = (0, 0);
            store.range(&key(n), limit, &mut |_, value| {
                sum += touch(value);
                found += 1;
            })?;
            if found == 0 || sum != found * VALUE_LEN {
                return Err(format!("{}: a range from record {n} is wrong", store.name()).into());
            }
        }
        rate(format!("ranges of {limit}/s"), count, began.elapsed());
    }
    let of_commits = WRITERS.into_iter().flat_map(|writers| {
        (0..writers).flat_map(move |writer| committed(writers, writer, settings.commits / writers))
    });
    Contents::of((0..settings.records).chain(of_commits)).check(store)?;
    Ok(rows)
}

/// Numbers of the records that one of some writers commits.
fn committed(writers: u64, writer: u64, count: u64) -> impl Iterator<Item = u64> {
    let base = (1 << 40) + (writers << 32) + (writer << 24);
    base..base + count
}

/// The length of a value, whose memory is looked at, so that no store may answer without having it.
fn touch(value: &[u8]) -> usize {
    std::hint::black_box(value.first());
    value.len()
}

/// A fresh directory, removed with everything in it when dropped.
struct Fresh(PathBuf);

impl Fresh {
    fn new(parent: &Path, name: &str) -> Result<Self, Failure> {
        let dir = parent.join(format!("holdfast-peers-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(settings: &Settings) -> Result<bool, Failure> {
    let mut rates: Vec<Vec<Vec<f64>>> = vec![Vec::new(); STORES.len()];
    let mut names = Vec::new();
    for round in 0..settings.rounds {
        for turn in 0..STORES.len() {
            let which = (turn + round) % STORES.len();
            let (name, open) = STORES[which];
            let fresh = Fresh::new(&settings.dir, name)?;
            let store = open(&fresh.0, settings.memory_bytes)?;
            eprintln!("round {} of {}: {name}", round + 1, settings.rounds);
            let rows = measure(&*store, settings)?;
            names = rows.iter().map(|(row, _)| row.clone()).collect();
            rates[which].push(rows.into_iter().map(|(_, rate)| rate).collect());
        }
    }
    Ok(show(settings, &names, &rates))
}

/// Prints the table; true if no row of ours is slower than the limit.
fn show(settings: &Settings, names: &[String], rates: &[Vec<Vec<f64>>]) -> bool {
    let mut all_met = true;
    let mut json = Vec::new();
    if !settings.json {
        print!("{:30}", "row");
        STORES.iter().for_each(|(name, _)| print!(" {name:>14}"));
        println!(" {:>16} {:>7}", "best / holdfast", "target");
    }
    for (row, name) in names.iter().enumerate() {
        let medians: Vec<f64> =
            rates.iter().map(|rounds| median(rounds.iter().map(|rows| rows[row]).collect())).collect();
        let ratio = medians.iter().copied().fold(0.0, f64::max) / medians[0];
        let met = ratio <= RATIO_MAX;
        all_met &= met;
        if settings.json {
            let stores: Vec<String> = STORES
                .iter()
                .zip(&medians)
                .map(|((store, _), rate)| format!("\"{store}\":{rate:.0}"))
                .collect();
            json.push(format!(
                "{{\"row\":\"{name}\",{},\"ratio\":{ratio:.2},\"met\":{met}}}",
                stores.join(",")
            ));
        } else {
            print!("{name:30}");
            medians.iter().for_each(|rate| print!(" {rate:>14.0}"));
            println!(" {ratio:>16.2} {:>7}", if met { "met" } else { "missed" });
        }
    }
    if settings.json {
        println!("[{}]", json.join(",\n "));
    }
    all_met
}

/// What a store does wrong that must be found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Defect {
    /// Every thousandth record is lost.
    Loses,
    /// Every thousandth record has the value of the one before it, of the same length.
    Swaps,
    /// A look-up gives the right length and wrong bytes.
    Garbles,
    /// A range begins one entry late.
    BeginsLate,
    /// A range gives its entries in the reverse order.
    Reverses,
}

/// A store with a defect.
struct Defective(Box<dyn Store>, Defect);

impl Store for Defective {
    fn name(&self) -> &'static str {
        "defective"
    }

    fn load(&self, entries: &mut dyn Iterator<Item = ([u8; KEY_LEN], Vec<u8>)>) -> Result<(), Failure> {
        match self.1 {
            Defect::Loses => {
                self.0.load(&mut entries.enumerate().filter(|(at, _)| at % 1000 != 0).map(|(_, entry)| entry))
            }
            Defect::Swaps => {
                let mut before = Vec::new();
                self.0.load(&mut entries.enumerate().map(|(at, (key, value))| {
                    let given = if at % 1000 == 1 { before.clone() } else { value.clone() };
                    before = value;
                    (key, given)
                }))
            }
            _ => self.0.load(entries),
        }
    }

    fn settle(&self) -> Result<(), Failure> {
        self.0.settle()
    }

    fn put(&self, key: &[u8; KEY_LEN], value: &[u8]) -> Result<(), Failure> {
        self.0.put(key, value)
    }

    fn get(&self, key: &[u8; KEY_LEN], see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        match self.1 {
            Defect::Garbles => self.0.get(key, &mut |value| see(&vec![0; value.len()])),
            _ => self.0.get(key, see),
        }
    }

    fn range(
        &self,
        start: &[u8; KEY_LEN],
        limit: usize,
        see: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        let mut entries = Vec::new();
        self.0.range(start, limit + 1, &mut |key, value| entries.push((key.to_vec(), value.to_vec())))?;
        match self.1 {
            Defect::BeginsLate if entries.len() > 1 => drop(entries.remove(0)),
            _ => entries.truncate(limit),
        }
        if self.1 == Defect::Reverses {
            entries.reverse();
        }
        entries.iter().for_each(|(key, value)| see(key, value));
        Ok(())
    }
}

fn self_test(settings: &Settings) -> Result<(), Failure> {
    let small = Settings { records: 20_000, commits: 80, dir: settings.dir.clone(), ..*settings };
    for defect in [Defect::Loses, Defect::Swaps, Defect::Garbles, Defect::BeginsLate, Defect::Reverses] {
        let fresh = Fresh::new(&settings.dir, "self-test")?;
        let store = Defective(STORES[0].1(&fresh.0, settings.memory_bytes)?, defect);
        match measure(&store, &small) {
            Err(found) => println!("self-test: {defect:?} was found: {found}"),
            Ok(_) => return Err(format!("self-test: {defect:?} passed").into()),
        }
    }
    // And what is right passes, or the defects would prove nothing.
    for (name, open) in STORES {
        let fresh = Fresh::new(&settings.dir, "self-test")?;
        measure(&*open(&fresh.0, settings.memory_bytes)?, &small)?;
        println!("self-test: {name} is right");
    }
    Ok(())
}

fn main() {
    let outcome = settings().and_then(|settings| match settings.self_test {
        true => self_test(&settings).map(|()| true),
        false => run(&settings),
    });
    match outcome {
        Ok(true) => {}
        // A missed target is a figure, not a failure.
        Ok(false) => eprintln!("at least one row is slower than {RATIO_MAX} times the best"),
        Err(failure) => {
            eprintln!("peers: {failure}");
            std::process::exit(1);
        }
    }
}
