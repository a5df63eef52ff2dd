//! Recovery of long logs: how fast, in how much memory, and does every interrupted recovery end in the same state?
//!
//! A child fills the log, keeping everything in memtables, and tells a hash of what its readers see at several
//! commits; then it is killed. Other children open the directory; some are killed at a random moment of it, and start
//! again from what is left. At the end keys, values and commits must hash to what the first child saw. The child that
//! fills a log of 2 GiB needs about 3 GiB of memory; those that recover it must do with less than 300 MiB.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use holdfast::env::linux::block_on;
use holdfast::{
    Compression, Db, Durability, Error, Keyspace, KeyspaceOptions, Options, Scan, Seq, WriteBatch,
};
use holdfast_workloads::phases::{PhaseTeller, tell};
use holdfast_workloads::random::{fill, mix};
use holdfast_workloads::scratch::peak_memory_bytes;
use holdfast_workloads::{Random, Report, Scratch, SelfTest};

const KEYSPACES: u64 = 4;
const BATCH: u64 = 16;
/// Enough that every commit of a run stays readable.
const RETAIN: u64 = 1 << 30;

/// Fills a log, kills the writer, and measures and judges its recovery.
#[derive(Parser)]
#[command(after_help = "Examples:\n  biglog\n  biglog --log-mib 256 --cycles 5\n  biglog --self-test")]
struct Arguments {
    /// Size of the long log in MiB.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u64).range(16..=4096))]
    log_mib: u64,
    /// How often the recovery of the long log is killed before it may end.
    #[arg(long, default_value_t = 4)]
    kills: u64,
    /// How often a small log is made, and its recovery killed again and again.
    #[arg(long, default_value_t = 8)]
    cycles: u64,
    /// Seed of every choice; drawn and printed if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Directory under which the databases are made, instead of the system's temporary directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Plant defects and succeed only if each is reported.
    #[arg(long)]
    self_test: bool,
    /// Be the child that fills the log of this directory.
    #[arg(long, hide = true)]
    write: Option<PathBuf>,
    /// Be a child that opens this directory.
    #[arg(long, hide = true)]
    open: Option<PathBuf>,
    /// Operations for the writing child.
    #[arg(long, hide = true, default_value_t = 0)]
    operations: u64,
    /// Bytes of each value.
    #[arg(long, hide = true, default_value_t = 0)]
    value_bytes: u64,
    /// Commits to hash the state at.
    #[arg(long, hide = true, value_delimiter = ',')]
    hash_at: Vec<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let child = match (&arguments.write, &arguments.open) {
        (Some(dir), _) => Some(be_writer(dir, &arguments)),
        (_, Some(dir)) => Some(be_opener(dir, &arguments)),
        _ => None,
    };
    if let Some(outcome) = child {
        if let Err(error) = outcome {
            tell(&format!("error {error}"));
            return ExitCode::from(1);
        }
        // Waits to be killed: a database that is closed has no log to recover.
        std::thread::sleep(Duration::from_secs(3600));
        return ExitCode::SUCCESS;
    }
    let seed = arguments.seed.unwrap_or_else(|| Random::fresh_seed() >> 16);
    if arguments.self_test {
        return self_test(&arguments, seed);
    }
    let mut report = Report::new("biglog", arguments.json);
    report.say(&format!("biglog: seed {seed}"));
    if let Err(failure) = run(&arguments, seed, &mut report) {
        report.wrong(failure);
    }
    report.finish()
}

fn run(arguments: &Arguments, seed: u64, report: &mut Report) -> Result<(), String> {
    let mut random = Random::new(seed);
    let scratch = Scratch::new("biglog", arguments.dir.as_deref()).map_err(|error| error.to_string())?;
    report.say("50,000 unflushed entries:");
    let load = Load { operations: 50_000, value_bytes: 100, hashes: 4 };
    let dir = scratch.path().join("entries");
    let told = load.write(&dir)?;
    let recovered = load.recover(&dir, &told, None, report)?;
    report.at_most("recovery of 50,000 entries", recovered.open_s() * 1e3, "ms", 1000.0);
    drop(std::fs::remove_dir_all(&dir));

    report.say("small logs, recoveries killed again and again:");
    let load = Load { operations: 60_000, value_bytes: 400, hashes: 6 };
    let mut kills = 0;
    for _ in 0..arguments.cycles {
        let dir = scratch.path().join("small");
        let told = load.write(&dir)?;
        for _ in 0..3 {
            let life = Duration::from_micros(random.below(400_000));
            kills += u64::from(load.open_and_kill(&dir, life)?);
        }
        load.recover(&dir, &told, None, report)?;
        drop(std::fs::remove_dir_all(&dir));
    }
    report.figure("recoveries killed before they ended", kills as f64, "");

    report.say(&format!("a log of {} MiB:", arguments.log_mib));
    let load = Load { operations: (arguments.log_mib << 20) / 1100, value_bytes: 1000, hashes: 2 };
    let dir = scratch.path().join("long");
    // A recovery that ends before its kill leaves nothing to measure: then all is done again, with earlier kills.
    let mut bytes_a_us = 300.0;
    let (told, log_bytes) = loop {
        let began = Instant::now();
        let told = load.write(&dir)?;
        let log_bytes = told.number("log_bytes");
        let latest_us = (log_bytes / bytes_a_us) as u64;
        let lives = (0..arguments.kills).map(|_| Duration::from_micros(random.below(latest_us)));
        let mut kills = 0;
        for life in lives {
            if !load.open_and_kill(&dir, life)? {
                break;
            }
            kills += 1;
        }
        if kills == arguments.kills {
            report.figure("filling it, and the kills", began.elapsed().as_secs_f64(), "s");
            report.figure("log", log_bytes / 1_048_576.0, "MiB");
            report.figure("recoveries killed before they ended", kills as f64, "");
            break (told, log_bytes);
        }
        report.say(&format!(
            "  a recovery ended before kill {} came: once more, with earlier kills",
            kills + 1
        ));
        std::fs::remove_dir_all(&dir).map_err(|error| error.to_string())?;
        bytes_a_us *= 2.0;
    };
    let recovered = load.recover(&dir, &told, None, report)?;
    report.figure("recovery", recovered.open_s(), "s");
    report.at_least("recovery: rate", log_bytes / 1e6 / recovered.open_s(), "MB/s", 100.0);
    report.at_most(
        "recovery: peak memory (VmHWM)",
        recovered.number("peak_at_open") / 1_048_576.0,
        "MiB",
        300.0,
    );
    report.at_least("recovery: progress events", recovered.number("progress"), "", 1.0);
    Ok(())
}

/// What a log is filled with.
struct Load {
    operations: u64,
    value_bytes: u64,
    hashes: u64,
}

/// `name value` lines of a child.
struct Told(HashMap<String, String>);

impl Told {
    fn number(&self, name: &str) -> f64 {
        self.0.get(name).and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    }

    fn open_s(&self) -> f64 {
        self.number("open_us") / 1e6
    }
}

impl Load {
    /// Commits whose states are compared.
    fn hash_at(&self) -> Vec<u64> {
        let commits = self.operations / BATCH;
        (1..=self.hashes).map(|part| commits * part / self.hashes).collect()
    }

    fn start(&self, mode: &str, dir: &Path) -> Result<Child, String> {
        let hash_at: Vec<String> = self.hash_at().iter().map(u64::to_string).collect();
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg(mode).arg(dir).args(["--hash-at", &hash_at.join(",")]);
        command.args(["--operations", &self.operations.to_string()]);
        command.args(["--value-bytes", &self.value_bytes.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().map_err(|error| format!("starting a child: {error}"))
    }

    /// Fills a log and kills the writer.
    fn write(&self, dir: &Path) -> Result<Told, String> {
        listen(self.start("--write", dir)?)
    }

    /// Opens, and kills after a while. True if the kill came before the recovery had ended.
    fn open_and_kill(&self, dir: &Path, life: Duration) -> Result<bool, String> {
        let mut child = self.start("--open", dir)?;
        std::thread::sleep(life);
        child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
        let pipe = child.stdout.take().ok_or("the child has no pipe")?;
        let lines: Vec<String> = BufReader::new(pipe).lines().map_while(Result::ok).collect();
        if let Some(error) = lines.iter().find(|line| line.starts_with("error")) {
            return Err(format!("an opening that was to be killed failed before: {error}"));
        }
        Ok(!lines.iter().any(|line| line.starts_with("open_us")))
    }

    /// Opens to the end and compares all hashes with those that `told` names.
    fn recover(
        &self,
        dir: &Path,
        told: &Told,
        defect: Option<&str>,
        report: &mut Report,
    ) -> Result<Told, String> {
        let recovered = listen(self.start("--open", dir)?)?;
        for seq in self.hash_at() {
            let name = format!("hash_at_{seq}");
            let (before, after) = (told.0.get(&name), recovered.0.get(&name));
            report.check(before.is_some() && before == after, || {
                format!(
                    "the state at commit {seq} was {before:?} before the kill and is {after:?} after it {}",
                    defect.unwrap_or_default()
                )
            });
        }
        let (before, after) = (told.0.get("last_seq"), recovered.0.get("last_seq"));
        report.check(before == after, || format!("the newest commit was {before:?} and is {after:?}"));
        Ok(recovered)
    }
}

/// Reads a child's lines up to `done`, then kills it.
fn listen(mut child: Child) -> Result<Told, String> {
    let pipe = child.stdout.take().ok_or("the child has no pipe")?;
    let mut told = HashMap::new();
    let mut outcome = Err("the child ended without a word".to_string());
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("error", error)) => outcome = Err(error.to_string()),
            Some((name, value)) => drop(told.insert(name.to_string(), value.to_string())),
            None if line == "done" => {
                outcome = Ok(());
                break;
            }
            None => {}
        }
    }
    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
    outcome.map(|()| Told(told))
}

fn be_writer(dir: &Path, arguments: &Arguments) -> holdfast::Result<()> {
    let options = Options {
        memory_limit_bytes: 64 << 30,
        memtable_bytes: 1 << 30,
        log_bytes_max: 1 << 40,
        retain_commits: RETAIN,
        ..Options::default()
    };
    block_on(async {
        let db = Db::open(dir, options).await?;
        let mut keyspaces = Vec::new();
        for index in 0..KEYSPACES {
            let plain =
                KeyspaceOptions { compression: vec![Compression::None], ..KeyspaceOptions::default() };
            keyspaces.push(db.create_keyspace(&format!("k{index}"), plain).await?);
        }
        let mut number = 0;
        while number < arguments.operations / BATCH * BATCH {
            let mut batch = WriteBatch::new();
            for _ in 0..BATCH {
                operation(number, arguments, &keyspaces, &mut batch)?;
                number += 1;
            }
            db.write(batch, Durability::Flush).await?;
        }
        db.sync().await?;
        tell(&format!("log_bytes {}", db.metrics().number("holdfast_log_bytes_written_total")));
        let flushes = db.metrics().number("holdfast_flushes_total");
        if flushes > 0 {
            return Err(Error::Invalid(format!("{flushes} memtables were flushed, so the log is not whole")));
        }
        tell_hashes(&db, &keyspaces, &arguments.hash_at).await
    })?;
    tell("done");
    Ok(())
}

/// Each key is written twice; every 37th operation deletes a key, every 1009th a short range.
fn operation(
    number: u64,
    arguments: &Arguments,
    keyspaces: &[Keyspace],
    batch: &mut WriteBatch,
) -> holdfast::Result<()> {
    let keyspace = keyspaces[(number % KEYSPACES) as usize].id();
    let keys = arguments.operations / 2;
    let key = |number: u64| {
        let mut key = mix(number % keys).to_be_bytes().to_vec();
        key.extend_from_slice(&(number % keys).to_be_bytes());
        key
    };
    if number.is_multiple_of(1009) {
        let start = mix(number);
        let end = start.saturating_add(u64::MAX / 100_000).max(start | 1);
        batch.delete_range(keyspace, &start.to_be_bytes(), &[&end.to_be_bytes()[..], &[0xff]].concat())?;
        return Ok(());
    }
    if number.is_multiple_of(37) {
        batch.delete(keyspace, &key(mix(number)))?;
        return Ok(());
    }
    let mut value = vec![0; arguments.value_bytes as usize];
    fill(number, &mut value);
    batch.put(keyspace, &key(number), &value)?;
    Ok(())
}

fn be_opener(dir: &Path, arguments: &Arguments) -> holdfast::Result<()> {
    let seen = PhaseTeller::install(false);
    block_on(async {
        let began = Instant::now();
        let db = Db::open(dir, Options { retain_commits: RETAIN, ..Options::default() }).await?;
        tell(&format!("open_us {}", began.elapsed().as_micros()));
        tell(&format!("peak_at_open {}", peak_memory_bytes()));
        tell(&format!("progress {}", seen.progress.load(std::sync::atomic::Ordering::Relaxed)));
        let keyspaces: holdfast::Result<Vec<Keyspace>> =
            (0..KEYSPACES).map(|index| db.keyspace(&format!("k{index}"))).collect();
        tell_hashes(&db, &keyspaces?, &arguments.hash_at).await
    })?;
    tell("done");
    Ok(())
}

/// Tells the newest commit, and a hash of all keys and values as of each commit asked for.
async fn tell_hashes(db: &Db, keyspaces: &[Keyspace], hash_at: &[u64]) -> holdfast::Result<()> {
    tell(&format!("last_seq {}", db.last_seq()));
    for &seq in hash_at {
        let snapshot = db.at(Seq::new(seq))?;
        let mut hash = seq;
        let mut add = |bytes: &[u8]| {
            hash = mix(hash ^ bytes.len() as u64);
            for chunk in bytes.chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                hash = mix(hash ^ u64::from_le_bytes(word));
            }
        };
        let mut count = 0u64;
        for keyspace in keyspaces {
            let mut cursor = snapshot.scan(keyspace, Scan::all()).await?;
            while let Some(entry) = cursor.next().await? {
                add(entry.key);
                add(entry.value);
                count += 1;
            }
        }
        tell(&format!("hash_at_{seq} {hash:016x}/{count}"));
    }
    Ok(())
}

/// A bit flipped in the log, and a log that lacks its last part, must each be reported.
fn self_test(arguments: &Arguments, seed: u64) -> ExitCode {
    let mut test = SelfTest::new("biglog", arguments.json);
    for (name, defect) in [("a flipped bit in the log", true), ("a commit after the state was noted", false)]
    {
        let mut report = Report::silent("biglog");
        if let Err(failure) = one_planted(arguments, seed, defect, &mut report) {
            eprintln!("{name}: the self-test could not run: {failure}");
            return ExitCode::from(2);
        }
        test.planted(name, report.wrongs());
    }
    test.finish()
}

fn one_planted(arguments: &Arguments, seed: u64, flip: bool, report: &mut Report) -> Result<(), String> {
    let mut random = Random::new(seed);
    let scratch =
        Scratch::new("biglog-self-test", arguments.dir.as_deref()).map_err(|error| error.to_string())?;
    let load = Load { operations: 5_000, value_bytes: 100, hashes: 2 };
    let dir = scratch.path().join("db");
    let told = load.write(&dir)?;
    if flip {
        flip_a_bit(&dir, &mut random).map_err(|error| error.to_string())?;
    } else {
        let options = Options { retain_commits: RETAIN, ..Options::default() };
        block_on(async {
            let db = Db::open(&dir, options).await?;
            db.keyspace("k1")?.put("foreign", "value").await?;
            db.close().await
        })
        .map_err(|error| error.to_string())?;
    }
    if let Err(refused) = load.recover(&dir, &told, Some("(planted)"), report) {
        report.wrong(refused);
    }
    Ok(())
}

/// Flips a bit in the used part of the log's first large segment.
fn flip_a_bit(dir: &Path, random: &mut Random) -> std::io::Result<()> {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    let mut bytes = std::fs::read(&logs[0])?;
    let at = 8192 + random.below(bytes.len() as u64 / 2) as usize;
    bytes[at] ^= 1 << random.below(8);
    std::fs::write(&logs[0], bytes)
}
