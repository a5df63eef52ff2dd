//! Verification: whatever is changed in any file is named, or lies where nothing depends on it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::flaky::Flaky;
use crate::support::settings;
use holdfast::env::linux::{LinuxEnv, block_on};
use holdfast::env::{Env, TaskClass};
use holdfast::{Compression, Db, Error, FileVerdict, KeyspaceOptions, Options, Result, VerifyReport};
use holdfast_sim::{FaultClass, Process, SimDisk, Trigger};

const DIR: &str = "/db";
const SECTOR: usize = 512;

fn options() -> Options {
    Options { reserve_bytes: 4096, ..settings::options() }
}

fn tiny() -> KeyspaceOptions {
    KeyspaceOptions { block_bytes: 1 << 10, compression: vec![Compression::Lz4], ..settings::tiny() }
}

async fn fill(env: Arc<dyn Env>, dir: &Path) -> Result<Db> {
    let db = Db::open_in(env, dir, options()).await?;
    let second = db.create_keyspace("second", tiny()).await?;
    let first = db.create_keyspace("first", tiny()).await?;
    for n in 0..700u64 {
        first.put(format!("{:05}", n * 7919 % 1000), format!("{n}").repeat(20)).await?;
        if n % 90 == 0 {
            second.delete_range(format!("{n:05}"), format!("{:05}", n + 50)).await?;
        }
        second.put(format!("{n:05}"), n.to_le_bytes()).await?;
    }
    db.wait_idle().await?;
    for n in 0..20u64 {
        first.put(format!("{n:05}"), "last").await?;
    }
    Ok(db)
}

/// A database closed cleanly, or killed right after an acknowledged commit.
async fn database(process: &Process, close: bool) {
    let env = process.env();
    let filled = process.run(async move {
        let db = fill(env, Path::new(DIR)).await?;
        let tables: u64 = db.keyspaces()?.iter().flat_map(|k| k.levels).map(|level| level.tables).sum();
        let deep = db.keyspaces()?.iter().any(|k| k.levels[1..].iter().any(|level| level.tables > 0));
        assert!(tables >= 3 && deep, "{tables} tables");
        if close { db.close().await } else { Ok(()) }
    });
    filled.await.unwrap().unwrap();
    process.restart();
}

async fn verify(process: &Process) -> Result<VerifyReport> {
    let env = process.env();
    process.run(async move { holdfast::verify(env, DIR, |_| ()).await }).await.unwrap()
}

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

/// Files with their bytes.
fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(DIR).into_iter().map(|entry| entry.name);
    names.map(|name| (name.clone(), disk.read_file(path(&name)))).collect()
}

/// The report names the file at or near this offset, or nothing depends on the byte.
fn judge(report: &Result<VerifyReport>, name: &str, offset: u64, what: &str) -> bool {
    let report = match report {
        Ok(report) => report,
        Err(error) => panic!("{what} in {name} at {offset}: verify itself failed: {error}"),
    };
    let named = report.problems.iter().any(|problem| problem.file.ends_with(name));
    assert!(named || report.is_unused(name, offset), "{what} in {name} at {offset} goes unnoticed");
    named
}

#[test]
fn a_sound_database_is_good_and_every_byte_is_accounted_for() {
    for close in [true, false] {
        holdfast_sim::run(1, move |world| async move {
            let process = world.process("db");
            database(&process, close).await;
            let before = process.disk().snapshot().hash();
            let report = verify(&process).await.unwrap();
            assert!(report.is_good() && report.is_sound(), "{:?}", report.problems);
            assert_eq!(report.last_seq.map(holdfast::Seq::get), Some(700 + 700 + 8 + 20));
            assert_eq!(process.disk().snapshot().hash(), before, "nothing is written");
            let mut checked = 0;
            for (name, bytes) in files(&process.disk()) {
                let file = report.file(&name).unwrap();
                let expected = match name.as_str() {
                    "LOCK" | "RESERVE" => FileVerdict::Empty,
                    // What the process was making, or had no time to remove.
                    _ if file.verdict == FileVerdict::Leftover => FileVerdict::Leftover,
                    _ => FileVerdict::Good,
                };
                assert_eq!((file.verdict, file.bytes), (expected, bytes.len() as u64), "{name}");
                for part in &file.unused {
                    assert!(part.start <= part.end && part.end <= file.bytes, "{name}: {part:?}");
                }
                if file.verdict == FileVerdict::Good {
                    checked += file.bytes;
                    assert!(!report.is_unused(&name, 0), "the beginning of {name} matters");
                }
            }
            assert!(report.bytes_checked >= checked, "{} of {checked}", report.bytes_checked);
        });
    }
}

#[test]
fn a_clean_close_leaves_no_needless_file() {
    // Which task ends last while closing is a matter of the schedule, and so of the seed.
    for seed in 1..=12 {
        holdfast_sim::run(seed, |world| async move {
            let process = world.process("db");
            database(&process, true).await;
            let report = verify(&process).await.unwrap();
            let left: Vec<_> =
                report.files.iter().filter(|file| file.verdict == FileVerdict::Leftover).collect();
            assert!(left.is_empty(), "{left:?}");
        });
    }
}

#[test]
fn every_sector_flipped_zeroed_or_swapped_is_named_or_unused() {
    for close in [true, false] {
        let outcome = holdfast_sim::run(7, move |world| async move {
            let process = world.process("db");
            database(&process, close).await;
            let disk = process.disk();
            let (mut named, mut unused) = (0u64, 0u64);
            for (name, bytes) in files(&disk) {
                let sectors = bytes.chunks(SECTOR).enumerate();
                for (number, sector) in sectors {
                    let offset = (number * SECTOR) as u64;
                    let is_zero = sector.iter().all(|byte| *byte == 0);
                    // Rooms of zeros are all alike: a few of their sectors stand for the others.
                    if is_zero && !number.is_multiple_of(97) {
                        continue;
                    }
                    let mut damages = vec![("a flipped bit", sector.to_vec())];
                    let bit = world.random_below(sector.len() as u64 * 8) as usize;
                    damages[0].1[bit / 8] ^= 1 << (bit % 8);
                    if !is_zero {
                        damages.push(("zeros", vec![0; sector.len()]));
                    }
                    let other =
                        bytes.chunks(SECTOR).nth((number + 1) % bytes.len().div_ceil(SECTOR)).unwrap();
                    if other != sector && other.len() == sector.len() {
                        damages.push(("another sector", other.to_vec()));
                    }
                    for (what, damage) in damages {
                        disk.corrupt(path(&name), offset, sector.len(), |at| at.copy_from_slice(&damage));
                        let report = verify(&process).await;
                        disk.corrupt(path(&name), offset, sector.len(), |at| at.copy_from_slice(sector));
                        let at = match what {
                            "a flipped bit" => offset + bit as u64 / 8,
                            _ => offset,
                        };
                        match judge(&report, &name, at, what) {
                            true => named += 1,
                            false => unused += 1,
                        }
                    }
                }
            }
            assert!(verify(&process).await.unwrap().is_good(), "all was put back");
            (named, unused)
        });
        let (named, unused) = outcome.result;
        assert!(named > 300 && unused > 0, "{named} named, {unused} unused");
    }
}

#[test]
fn files_cut_removed_exchanged_and_strange_ones_are_named() {
    holdfast_sim::run(11, |world| async move {
        let process = world.process("db");
        database(&process, false).await;
        let disk = process.disk();
        let all = files(&disk);
        let whole = verify(&process).await.unwrap();
        for (name, bytes) in &all {
            for len in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                if len < bytes.len() {
                    disk.write_file(path(name), &bytes[..len]);
                    judge(&verify(&process).await, name, len as u64, "a cut");
                }
            }
            let needless = whole.is_unused(name, 0);
            disk.write_file(path(name), &[bytes.as_slice(), b"x"].concat());
            let longer = verify(&process).await.unwrap();
            assert!(!longer.is_good() || needless, "{name} grew");
            disk.remove_file(path(name));
            match (verify(&process).await, name.as_str()) {
                (Ok(report), _) if needless => assert!(report.is_good()),
                (Ok(report), "CURRENT") => assert!(!report.is_good()),
                (Ok(report), _) => {
                    assert!(!report.is_good());
                    assert!(report.problems.iter().any(|problem| problem.file.ends_with(name)), "{name}");
                    let missing = report.file(name).is_none_or(|file| file.verdict == FileVerdict::Missing);
                    assert!(missing || name.ends_with(".manifest"), "{name}: {:?}", report.file(name));
                }
                (Err(error), _) => panic!("{name}: {error}"),
            }
            disk.write_file(path(name), bytes);
        }
        for (a, bytes_a) in &all {
            for (b, bytes_b) in all.iter().filter(|(b, bytes)| b > a && bytes != bytes_a) {
                if whole.is_unused(a, 0) && whole.is_unused(b, 0) {
                    continue;
                }
                disk.write_file(path(a), bytes_b);
                disk.write_file(path(b), bytes_a);
                let report = verify(&process).await.unwrap();
                assert!(!report.is_sound(), "{a} and {b} exchanged");
                disk.write_file(path(a), bytes_a);
                disk.write_file(path(b), bytes_b);
            }
        }
        disk.write_file(path("0000009999.table"), b"left behind");
        disk.write_file(path("CURRENT.tmp"), b"half");
        disk.write_file(path("notes.txt"), b"mine");
        let report = verify(&process).await.unwrap();
        assert!(report.is_good());
        let verdict = |name| report.file(name).unwrap().verdict;
        assert_eq!(verdict("0000009999.table"), FileVerdict::Leftover);
        assert_eq!(verdict("CURRENT.tmp"), FileVerdict::Leftover);
        assert_eq!(verdict("notes.txt"), FileVerdict::Foreign);
    });
}

#[test]
fn a_damaged_table_does_not_hide_another() {
    holdfast_sim::run(13, |world| async move {
        let process = world.process("db");
        database(&process, true).await;
        let disk = process.disk();
        let whole = verify(&process).await.unwrap();
        let tables: Vec<String> = whole
            .files
            .into_iter()
            .filter(|file| file.verdict == FileVerdict::Good && file.name.ends_with(".table"))
            .map(|file| file.name)
            .collect();
        for name in &tables {
            disk.flip_bit(path(name), 700, 3);
        }
        let report = verify(&process).await.unwrap();
        assert_eq!(report.problems.len(), tables.len(), "{:?}", report.problems);
        assert!(report.problems.iter().all(|problem| !problem.harmless && problem.offset < 2048));
        assert!(tables.iter().all(|name| report.file(name).unwrap().verdict == FileVerdict::Damaged));
        // Without a manifest each table is still judged by itself.
        let current = disk.read_file(path("CURRENT"));
        disk.flip_bit(path(&tables[0]), 700, 3);
        disk.flip_bit(path("CURRENT"), 40, 0);
        let report = verify(&process).await.unwrap();
        assert_eq!(report.file(&tables[0]).unwrap().verdict, FileVerdict::Good);
        assert_eq!(report.file(&tables[1]).unwrap().verdict, FileVerdict::Damaged);
        assert!(report.files.iter().any(|file| file.verdict == FileVerdict::Unchecked));
        disk.write_file(path("CURRENT"), &current);
        disk.remove_file(path("CURRENT"));
        let nothing = verify(&process).await.unwrap();
        assert!(!nothing.is_good(), "{nothing:?}");
    });
}

#[test]
fn beside_a_busy_writer_nothing_is_wrong() {
    let outcome = holdfast_sim::run(17, |world| async move {
        let process = world.process("db");
        let other = world.process_on("verifier", "db");
        let env = process.env();
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let writer = process.spawn("writer", async move {
            let db = fill(env.clone(), Path::new(DIR)).await?;
            let keyspace = db.keyspace("first")?;
            let (checker, ended) = (db.clone(), stop.clone());
            let own = async move {
                let mut looks = 0;
                while !ended.load(Ordering::Acquire) {
                    let report = checker.verify().await.unwrap();
                    assert!(report.is_good(), "{:?}", report.problems);
                    looks += 1;
                }
                assert!(looks > 3, "{looks}");
            };
            let task = env.spawn("own verify", TaskClass::Foreground, Box::pin(own)).unwrap();
            let mut n = 0u64;
            while !stop.load(Ordering::Acquire) {
                n += 1;
                keyspace.put(format!("{:05}", n % 500), format!("{n}").repeat(30)).await?;
                if n.is_multiple_of(400) {
                    db.compact().await?;
                }
            }
            while !task.is_finished() {
                env.sleep_until(env.now().after(1_000_000)).await;
            }
            db.close().await?;
            Ok::<_, Error>(n)
        });
        world.sleep(300_000_000).await;
        for _ in 0..25 {
            let report = verify(&other).await.unwrap();
            assert!(report.is_good(), "{:?}", report.problems);
            world.sleep(3_000_000).await;
        }
        done.store(true, Ordering::Release);
        writer.await.unwrap().unwrap()
    });
    assert!(outcome.result > 500, "{} commits", outcome.result);
}

#[test]
fn what_is_no_database_is_said() {
    holdfast_sim::run(19, |world| async move {
        let process = world.process("db");
        assert!(matches!(verify(&process).await, Err(Error::NotFound { .. })));
        process.disk().create_dir_all(DIR);
        assert!(matches!(verify(&process).await, Err(Error::NotFound { .. })));
        assert!(process.disk().list(DIR).is_empty());
    });
}

#[test]
fn on_a_real_disk() {
    let dir = std::env::temp_dir().join(format!("holdfast-verify-test-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    block_on(async {
        let db = fill(LinuxEnv::new(), &dir).await.unwrap();
        let mut told = 0;
        let report = db.verify_with(|progress| told = progress.bytes_checked).await.unwrap();
        assert!(report.is_good(), "{:?}", report.problems);
        assert_eq!(told, report.bytes_checked);
        db.close().await.unwrap();
        let table = report.files.iter().find(|file| file.name.ends_with(".table")).unwrap();
        let path = dir.join(&table.name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[600] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        let report = holdfast::verify(LinuxEnv::new(), &dir, |_| ()).await.unwrap();
        assert_eq!(report.problems.len(), 1);
        assert_eq!(report.problems[0].file, path);
        assert_eq!(report.file(&table.name).unwrap().verdict, FileVerdict::Damaged);
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_old_current_does_not_make_a_database_into_nothing() {
    // What the database came to before its CURRENT went back to the day of its creation.
    async fn come_to(env: Arc<dyn Env>, how_far: u32) -> Result<()> {
        let db = Db::open_in(env.clone(), DIR, Options::default()).await?;
        match how_far {
            0 => return db.default_keyspace()?.put("key", "value").await.map(drop),
            1 => drop(db.create_keyspace("empty", tiny()).await?),
            _ => db.default_keyspace()?.put("key", "value").await.map(drop)?,
        }
        db.close().await
    }
    for how_far in 0..3 {
        holdfast_sim::run(u64::from(how_far), move |world| async move {
            let process = world.process("db");
            let env = process.env();
            process.run(async move { come_to(env, how_far).await }).await.unwrap().unwrap();
            process.restart();
            let env = process.env();
            let disk = process.disk();
            let begun = process.run(async move {
                env.disk().create_dir(Path::new("/other")).await.unwrap();
                holdfast::manifest::begin_creation(&*env, Path::new("/other"), 1).await
            });
            begun.await.unwrap().unwrap();
            let (now, before) = (disk.read_file(path("CURRENT")), disk.read_file("/other/CURRENT"));
            disk.write_file(path("CURRENT"), &before);
            let snapshot = files(&disk);
            let env = process.env();
            let open = || Db::open_in(env.clone(), DIR, Options::default());
            let opened = process.run(open()).await.unwrap();
            assert!(matches!(opened, Err(Error::Corrupt { file, .. }) if file.ends_with("CURRENT")));
            let report = verify(&process).await.unwrap();
            assert!(report.problems.iter().any(|problem| problem.file.ends_with("CURRENT")));
            assert!(files(&disk) == snapshot, "nothing is touched");
            disk.write_file(path("CURRENT"), &now);
            let db = process.run(open()).await.unwrap().unwrap();
            assert_eq!(db.keyspaces().unwrap().len(), if how_far == 1 { 2 } else { 1 });
        });
    }
}

/// Who cannot open a file cannot say that it is damaged.
#[test]
fn a_want_of_descriptors_is_no_damage() {
    holdfast_sim::run(3, |world| async move {
        let process = world.process("db");
        database(&process, true).await;
        let (mut refused, mut nth) = (0, 1);
        loop {
            process.disk().inject(FaultClass::TooManyFiles, Trigger::Once(nth));
            match verify(&process).await {
                Err(Error::TooManyFiles(_)) => refused += 1,
                Ok(report) => {
                    assert!(report.is_good(), "open {nth}: {:?}", report.problems);
                    break;
                }
                Err(other) => panic!("open {nth}: {other}"),
            }
            nth += 1;
        }
        assert!(refused >= 4, "only {refused} openings, fewer than there are kinds of files");
    });
}

/// A table that is gone when its turn comes is missing only if the manifest of that moment names it. While the manifest
/// cannot be read, nobody knows: what is reported is the manifest, if it stays so.
#[test]
fn a_table_that_is_gone_is_not_missing_before_the_manifest_says_so() {
    for failing in [0, 1, u32::MAX] {
        holdfast_sim::run(23, move |world| async move {
            let process = world.process("db");
            database(&process, true).await;
            let disk = process.disk();
            let mut tables = files(&disk).into_iter().filter(|(name, _)| name.ends_with(".table"));
            let (gone, bytes) = tables.next_back().unwrap();
            let (env, reads) = Flaky::over(process.env(), ".manifest");
            let (name, removing) = (gone.clone(), disk.clone());
            let report = process.run(async move {
                let tell = |progress: &holdfast::VerifyProgress| {
                    if progress.file.ends_with(".table") && removing.exists(path(&name)) {
                        removing.remove_file(path(&name));
                        reads.failing.store(failing, Ordering::Relaxed);
                    }
                };
                holdfast::verify(env, DIR, tell).await
            });
            let report = report.await.unwrap().unwrap();
            let [problem] = &report.problems[..] else { panic!("{failing}: {:?}", report.problems) };
            let verdict = report.file(&gone).unwrap().verdict;
            if failing == u32::MAX {
                assert_eq!(verdict, FileVerdict::Unchecked);
                assert!(problem.file.to_string_lossy().ends_with(".manifest"), "{problem:?}");
                assert!(problem.what.starts_with("cannot be read"), "{problem:?}");
            } else {
                assert_eq!(verdict, FileVerdict::Missing);
                assert!(problem.file.ends_with(&gone) && problem.what.contains("missing"), "{problem:?}");
            }
            disk.write_file(path(&gone), &bytes);
            assert!(verify(&process).await.unwrap().is_good());
        });
    }
}
