//! Limits and pressure: what is large goes through whole, what is too much gets a retriable error that leaves no
//! trace, and once the cause is gone everything works again by itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub mod flaky;
    pub mod scene;
}

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use holdfast::blocking::block_on;
use holdfast::env::{Env, IoErrorKind};
use holdfast::{
    Db, Durability, Error, KEY_LEN_MAX, Keyspace, KeyspaceOptions, Options, Result, Scan, Seq,
    TransactionOptions, WriteBatch,
};
use holdfast_sim::{FaultClass, Process, Trigger, World};
use support::flaky::Flaky;
use support::scene::{DIR, Scratch, simulate, small_keyspace, small_options, within};

async fn open(env: Arc<dyn Env>) -> Result<(Db, Keyspace)> {
    let db = Db::open_in(env, DIR, small_options()).await?;
    let keyspace = match db.keyspace("k") {
        Ok(keyspace) => keyspace,
        Err(_) => db.create_keyspace("k", small_keyspace()).await?,
    };
    Ok((db, keyspace))
}

async fn opened(process: &Process) -> (Db, Keyspace) {
    within(process, open).await.unwrap()
}

/// Puts numbered keys until one is refused; gives the number and the refusal.
async fn put_until_refused(keyspace: &Keyspace, from: u64) -> (u64, Error) {
    for number in from.. {
        if let Err(error) = keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await {
            return (number, error);
        }
        assert!(number < from + 5_000, "nothing is ever refused");
    }
    unreachable!("the loop has no end");
}

async fn check_numbers(keyspace: &Keyspace, count: u64) {
    let all = keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap();
    assert_eq!(all.len() as u64, count);
    for (number, (key, value)) in all.iter().enumerate() {
        assert_eq!((&key[..], &value[..]), (&(number as u64).to_be_bytes()[..], &[number as u8; 1000][..]));
    }
}

#[test]
fn a_full_memory_gives_busy_and_recovers_by_itself() {
    simulate(1, |world: World, process| async move {
        let (db, keyspace) = opened(&process).await;
        let disk = process.disk();
        // Flushes find no descriptor, so memtables wait in memory.
        disk.inject_on(FaultClass::TooManyFiles, ".table", Trigger::From(1));
        let (accepted, error) = within(&process, {
            let keyspace = keyspace.clone();
            move |_| async move { put_until_refused(&keyspace, 0).await }
        })
        .await;
        assert!(matches!(error, Error::Busy(_)), "{error}");
        assert!(error.is_retriable() && error.to_string().contains("try again"), "{error}");
        assert!(accepted > 3, "{accepted} commits before the pressure");
        let still = keyspace.clone();
        within(&process, move |_| async move { check_numbers(&still, accepted).await }).await;
        disk.clear_faults();
        world.sleep(1_000_000_000).await;
        within(&process, move |_| async move {
            for number in accepted..accepted + 20 {
                keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await.unwrap();
            }
            check_numbers(&keyspace, accepted + 20).await;
            db.wait_idle().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
    });
}

/// Commits of a life.
const LIFE: u64 = 40;

/// The life of a database; what may fail fails with a retriable error and is tried again.
async fn life(env: Arc<dyn Env>, refusals: Arc<Mutex<Vec<Error>>>) {
    let refused = |error: Error| {
        assert!(error.is_retriable(), "{error}");
        refusals.lock().unwrap().push(error);
    };
    let (db, keyspace) = loop {
        match open(env.clone()).await {
            Ok(opened) => break opened,
            Err(error) => refused(error),
        }
    };
    for number in 0..LIFE {
        while let Err(error) = keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await {
            refused(error);
        }
        if number == LIFE / 2 {
            while let Err(error) = db.flush().await {
                refused(error);
            }
        }
    }
    while let Err(error) = db.compact().await {
        refused(error);
    }
    loop {
        match keyspace.get(3u64.to_be_bytes()).await {
            Ok(value) => break assert!(value.is_some()),
            Err(error) => refused(error),
        }
    }
    loop {
        match keyspace.scan(Scan::all()).await {
            Ok(mut cursor) => match cursor.collect().await {
                Ok(all) => break assert_eq!(all.len() as u64, LIFE),
                Err(error) => refused(error),
            },
            Err(error) => refused(error),
        }
    }
    if let Err(error) = db.close().await {
        refused(error);
    }
}

/// Runs a life in which the n-th call of a class is refused, for each n; true if none was left to refuse.
fn refuse_nth(class: FaultClass, part: &'static str, n: u64) -> (bool, Vec<Error>) {
    simulate(n, move |_, process| async move {
        process.disk().inject_on(class, part, Trigger::Once(n));
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let env = process.env();
        process.run(life(env, refusals.clone())).await.unwrap();
        let fired = process.disk().faults_fired(class);
        process.disk().clear_faults();
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await.unwrap();
            check_numbers(&keyspace, LIFE).await;
            assert!(db.verify().await.unwrap().is_good());
            db.close().await.unwrap();
        })
        .await;
        let refusals = std::mem::take(&mut *refusals.lock().unwrap());
        (fired == 0, refusals)
    })
}

#[test]
fn too_many_open_files_at_every_opening_of_a_file() {
    let mut told = 0;
    for n in 1..10_000 {
        let (over, refusals) = refuse_nth(FaultClass::TooManyFiles, "", n);
        for error in &refusals {
            assert!(matches!(error, Error::TooManyFiles(_)), "at opening {n}: {error}");
            let said = error.to_string();
            assert!(
                said.contains("ulimit -n") && said.contains("open_files_max") && said.contains(DIR),
                "{said}"
            );
        }
        told += refusals.len();
        if over {
            assert!(n > 10, "a life opens more than {n} files");
            assert!(told > 0, "nobody was ever told");
            return;
        }
    }
    panic!("a life opens no end of files");
}

#[test]
fn refused_tasks_at_every_start() {
    for n in 1..100 {
        let (over, refusals) = refuse_nth(FaultClass::SpawnRefused, "", n);
        if over {
            assert!(n > 5, "an opening starts more than {n} tasks");
            return;
        }
        assert_eq!(refusals.len(), 1, "task {n}");
        assert!(matches!(&refusals[0], Error::Busy(why) if why.contains("holdfast-")), "{}", refusals[0]);
    }
    panic!("a life starts no end of tasks");
}

#[test]
fn without_descriptors_the_log_waits_and_reads_go_on() {
    simulate(3, |world: World, process| async move {
        let (db, keyspace) = opened(&process).await;
        let disk = process.disk();
        // Without tables the log cannot be cut, and without files it cannot grow.
        disk.inject_on(FaultClass::TooManyFiles, ".log", Trigger::From(1));
        disk.inject_on(FaultClass::TooManyFiles, ".table", Trigger::From(1));
        let writer = keyspace.clone();
        let (accepted, error) =
            within(&process, move |_| async move { put_until_refused(&writer, 0).await }).await;
        assert!(matches!(error, Error::TooManyFiles(_) | Error::Busy(_)), "{error}");
        let reader = keyspace.clone();
        within(&process, move |_| async move { check_numbers(&reader, accepted).await }).await;
        disk.clear_faults();
        world.sleep(1_000_000_000).await;
        within(&process, move |_| async move {
            keyspace.put(accepted.to_be_bytes(), [accepted as u8; 1000]).await.unwrap();
            check_numbers(&keyspace, accepted + 1).await;
            db.close().await.unwrap();
        })
        .await;
    });
}

/// Bytes that no compression makes small.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn batches_larger_than_memtable_and_segment_are_whole_after_a_crash() {
    for cut in [None, Some(20), Some(60), Some(150)] {
        simulate(4, move |_, process| async move {
            let (db, keyspace) = opened(&process).await;
            let before = process.io_calls();
            if let Some(cut) = cut {
                process.crash_at(before + cut, holdfast_sim::Crash::PowerLoss);
            }
            let acknowledged = Arc::new(Mutex::new(0u64));
            let counting = acknowledged.clone();
            let outcome = process.run(async move {
                // A memtable holds 4 KiB and a segment 64 KiB.
                for round in 1..=6u64 {
                    let mut batch = WriteBatch::new();
                    for number in 0..300u64 {
                        batch.put(keyspace.id(), &number.to_be_bytes(), &[round as u8; 1000]).unwrap();
                    }
                    batch.put(keyspace.id(), &400u64.to_be_bytes(), &noise(1 << 20, round)).unwrap();
                    db.write(batch, Durability::Sync).await.unwrap();
                    *counting.lock().unwrap() = round;
                }
            });
            assert_eq!(outcome.await.is_err(), cut.is_some(), "the crash came in time");
            process.restart();
            let least = *acknowledged.lock().unwrap();
            within(&process, move |env| async move {
                let (db, keyspace) = open(env).await.unwrap();
                let all = keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap();
                let round = all.first().map_or(0, |(_, value)| u64::from(value[0]));
                assert!(round >= least, "round {least} was acknowledged, {round} is there");
                if round > 0 {
                    assert_eq!(all.len(), 301, "a batch is whole");
                    assert!(all[..300].iter().all(|(_, value)| value[..] == [round as u8; 1000]));
                    assert!(all[300].1[..] == noise(1 << 20, round)[..], "the large value of its own round");
                }
                db.close().await.unwrap();
            })
            .await;
        });
    }
}

#[test]
fn the_longest_keys_live_in_memory_and_in_tables() {
    simulate(5, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env.clone()).await.unwrap();
            let key = |last: u8| {
                let mut key = vec![7u8; KEY_LEN_MAX];
                key[KEY_LEN_MAX - 1] = last;
                key
            };
            for last in 0..6 {
                keyspace.put(key(last), [last]).await.unwrap();
            }
            keyspace.delete_range(key(2), key(4)).await.unwrap();
            for step in 0..4 {
                let forward = keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap();
                let found: Vec<u8> = forward.iter().map(|(key, _)| key[KEY_LEN_MAX - 1]).collect();
                assert_eq!(found, [0, 1, 4, 5], "step {step}");
                let mut backward = keyspace
                    .scan(Scan::range(key(1)..=key(5)).reverse())
                    .await
                    .unwrap()
                    .collect()
                    .await
                    .unwrap();
                backward.reverse();
                assert_eq!(backward[..], forward[1..], "step {step}");
                assert!(keyspace.get(key(5)).await.unwrap().is_some_and(|value| value == [5]));
                assert!(keyspace.get(key(3)).await.unwrap().is_none());
                match step {
                    0 => db.flush().await.unwrap(),
                    1 => db.compact().await.unwrap(),
                    _ => {}
                }
            }
            db.close().await.unwrap();
            let (db, keyspace) = open(env).await.unwrap();
            assert!(keyspace.get(key(4)).await.unwrap().is_some_and(|value| value == [4]));
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_read_error_that_passes_is_not_noticed() {
    simulate(6, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env.clone()).await.unwrap();
            for number in 0..50u64 {
                keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await.unwrap();
            }
            db.compact().await.unwrap();
            db.close().await.unwrap();
            for suffix in [".table", ".manifest", ".log", "CURRENT"] {
                let (flaky, reads) = Flaky::over(env.clone(), suffix);
                reads.failing.store(1, Ordering::Relaxed);
                let (db, keyspace) = open(flaky).await.unwrap_or_else(|error| panic!("{suffix}: {error}"));
                for number in 0..50u64 {
                    reads.failing.store(1, Ordering::Relaxed);
                    let value = keyspace.get(number.to_be_bytes()).await.unwrap();
                    assert!(value.is_some_and(|value| value[..] == [number as u8; 1000]));
                }
                assert!(reads.failed.load(Ordering::Relaxed) > 0, "{suffix} was read");
                // One that does not pass is an answer, and after it the same read works.
                if suffix == ".table" {
                    db.compact().await.unwrap();
                    db.close().await.unwrap();
                    let (flaky, reads) = Flaky::over(env.clone(), suffix);
                    let (db, keyspace) = open(flaky).await.unwrap();
                    reads.failing.store(u32::MAX, Ordering::Relaxed);
                    let error = keyspace.get(7u64.to_be_bytes()).await.unwrap_err();
                    assert!(matches!(&error, Error::Io(io) if io.kind == IoErrorKind::Transient), "{error}");
                    assert!(error.is_retriable() && error.to_string().contains(".table"), "{error}");
                    reads.failing.store(0, Ordering::Relaxed);
                    assert!(keyspace.get(7u64.to_be_bytes()).await.unwrap().is_some());
                    db.close().await.unwrap();
                } else {
                    db.close().await.unwrap();
                }
            }
        })
        .await;
    });
}

/// Tables of disjoint ranges in the deepest level, nothing cached.
async fn ranges(process: &Process) -> (Db, Keyspace) {
    within(process, |env| async move {
        let (db, keyspace) = open(env.clone()).await.unwrap();
        for number in 0..100u64 {
            keyspace.put(number.to_be_bytes(), noise(1000, number + 1)).await.unwrap();
        }
        db.compact().await.unwrap();
        db.close().await.unwrap();
        open(env).await.unwrap()
    })
    .await
}

/// Which of the hundred keys can be read; what the others say.
async fn readable(keyspace: &Keyspace) -> (Vec<u64>, Vec<Error>) {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for number in 0..100u64 {
        match keyspace.get(number.to_be_bytes()).await {
            Ok(value) => {
                assert!(value.is_some_and(|value| value[..] == noise(1000, number + 1)), "key {number}");
                good.push(number);
            }
            Err(error) => errors.push(error),
        }
    }
    (good, errors)
}

#[test]
fn a_read_error_ends_one_read_and_names_the_place() {
    simulate(7, |_, process| async move {
        let (db, keyspace) = ranges(&process).await;
        let disk = process.disk();
        let tables: Vec<String> =
            disk.list(DIR).into_iter().map(|e| e.name).filter(|name| name.ends_with(".table")).collect();
        assert!(tables.len() > 3, "{tables:?}");
        let bad = tables[tables.len() / 2].clone();
        disk.inject_on(FaultClass::ReadError, &bad, Trigger::From(1));
        let reading = keyspace.clone();
        let (good, errors) = within(&process, move |_| async move { readable(&reading).await }).await;
        assert!(good.len() > 50 && !errors.is_empty(), "{} good, {} errors", good.len(), errors.len());
        for error in errors {
            assert!(matches!(&error, Error::Io(io) if io.offset.is_some()), "{error}");
            assert!(error.to_string().contains(&bad) && error.to_string().contains("at byte"), "{error}");
        }
        disk.clear_faults();
        within(&process, move |_| async move {
            assert_eq!(readable(&keyspace).await.0.len(), 100, "it was the disk, and the disk is well again");
            keyspace.put("new", "value").await.unwrap();
            db.compact().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn damage_in_one_table_ends_only_its_range() {
    simulate(8, |_, process| async move {
        let (db, keyspace) = ranges(&process).await;
        let disk = process.disk();
        let tables: Vec<String> =
            disk.list(DIR).into_iter().map(|e| e.name).filter(|name| name.ends_with(".table")).collect();
        let bad = tables[tables.len() / 2].clone();
        let path = format!("{DIR}/{bad}");
        disk.flip_bit(&path, 2000, 3);
        within(&process, move |_| async move {
            let (good, errors) = readable(&keyspace).await;
            assert!(good.len() > 50 && !errors.is_empty(), "{} good, {} errors", good.len(), errors.len());
            for error in errors {
                assert!(matches!(&error, Error::Corrupt { .. }), "{error}");
                assert!(error.to_string().contains(&bad) && error.to_string().contains("repair"), "{error}");
            }
            // Writes everywhere, and background work beside the damage, go on.
            for round in 0..3u64 {
                for number in (0..100u64).chain(200..300) {
                    let beside = [&number.to_be_bytes()[..], &[round as u8]].concat();
                    keyspace.put(beside, [3; 1000]).await.unwrap();
                }
                db.flush().await.unwrap();
            }
            let compacted = db.compact().await;
            assert!(
                matches!(&compacted, Err(Error::Corrupt { file, .. }) if file.ends_with(&bad)),
                "{compacted:?}"
            );
            let again = readable(&keyspace).await.0;
            assert_eq!(again, good, "as many keys as before");
            let mut beyond = keyspace.scan(Scan::range(200u64.to_be_bytes()..)).await.unwrap();
            assert_eq!(beyond.collect().await.unwrap().len(), 300);
            let whole = match keyspace.scan(Scan::all()).await {
                Ok(mut cursor) => cursor.collect().await.map(drop),
                Err(error) => Err(error),
            };
            assert!(matches!(whole, Err(Error::Corrupt { .. })), "a walk over the damage says so");
            let report = db.verify().await.unwrap();
            assert!(!report.is_good() && format!("{report:?}").contains(&bad));
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn the_least_memtable_holds_every_load() {
    let scratch = Scratch::new("least-memtable");
    let db = holdfast::blocking::Db::open(scratch.path().join("db"), small_options()).unwrap();
    let keyspaces: Vec<_> = (0..6)
        .map(|number| db.create_keyspace(&format!("k{number}"), KeyspaceOptions::default()).unwrap())
        .collect();
    for round in 0..40u64 {
        let mut batch = WriteBatch::new();
        for (at, keyspace) in keyspaces.iter().enumerate() {
            // From nothing to several memtables' worth.
            let len = [0, 1, 100, 4096, 9000, 70_000][(round as usize + at) % 6];
            batch.put(keyspace.id(), &round.to_be_bytes(), &noise(len, round + 1)).unwrap();
        }
        db.write(batch, Durability::Flush).unwrap();
    }
    db.compact().unwrap();
    for (at, keyspace) in keyspaces.iter().enumerate() {
        for round in 0..40u64 {
            let len = [0, 1, 100, 4096, 9000, 70_000][(round as usize + at) % 6];
            let value = keyspace.get(round.to_be_bytes()).unwrap().unwrap();
            assert!(value[..] == noise(len, round + 1)[..]);
        }
    }
    db.close().unwrap();
}

#[test]
fn a_value_of_many_mebibytes_on_a_real_disk() {
    let scratch = Scratch::new("large-value");
    let dir = scratch.path().join("db");
    let value = noise(48 << 20, 9);
    let db = holdfast::blocking::Db::open(&dir, Options::default()).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    keyspace.put("large", &value).unwrap();
    keyspace.put("small", "v").unwrap();
    assert!(keyspace.get("large").unwrap().is_some_and(|found| found[..] == value[..]));
    drop((db, keyspace));
    // Out of the log, and out of a table.
    for compact in [false, true] {
        let db = holdfast::blocking::Db::open(&dir, Options::default()).unwrap();
        let keyspace = db.default_keyspace().unwrap();
        if compact {
            db.compact().unwrap();
        }
        assert!(keyspace.get("large").unwrap().is_some_and(|found| found[..] == value[..]));
        assert_eq!(keyspace.scan(Scan::all()).unwrap().collect().unwrap().len(), 2);
        db.close().unwrap();
    }
}

#[test]
fn eight_committers_on_a_real_disk_stand_in_one_order() {
    const COMMITTERS: u64 = 8;
    const COMMITS: u64 = 60;
    let scratch = Scratch::new("committers");
    let dir = scratch.path().join("db");
    let db = block_on(Db::open(&dir, Options::default())).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    let mut history: Vec<(Seq, u64, u64)> = std::thread::scope(|scope| {
        let committers: Vec<_> = (0..COMMITTERS)
            .map(|who| {
                let (db, keyspace) = (&db, &keyspace);
                scope.spawn(move || {
                    let mut done = Vec::new();
                    let mut last = Seq::ZERO;
                    while done.len() < COMMITS as usize {
                        let committed = block_on(async {
                            let mut txn = db.begin(TransactionOptions::default());
                            let before = txn.get(keyspace, "counter").await.unwrap();
                            let before = before.map_or(0, |v| u64::from_be_bytes(v[..8].try_into().unwrap()));
                            txn.put(keyspace, "counter", (before + 1).to_be_bytes()).unwrap();
                            txn.put(keyspace, [who as u8], (done.len() as u64).to_be_bytes()).unwrap();
                            txn.commit().await.map(|seq| (seq, before + 1))
                        });
                        match committed {
                            Ok((seq, counter)) => {
                                assert!(seq > last, "a committer's own commits ascend");
                                last = seq;
                                done.push((seq, counter, who));
                            }
                            Err(Error::Conflict(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                    done
                })
            })
            .collect();
        committers.into_iter().flat_map(|committer| committer.join().unwrap()).collect()
    });
    history.sort_unstable();
    assert!(history.windows(2).all(|pair| pair[0].0 < pair[1].0), "each commit has a sequence of its own");
    let counters: Vec<u64> = history.iter().map(|one| one.1).collect();
    assert_eq!(counters, (1..=COMMITTERS * COMMITS).collect::<Vec<_>>(), "each saw the one before it");
    drop((db, keyspace));
    // As after a kill: everything was acknowledged, so everything is there.
    let db = holdfast::blocking::Db::open(&dir, Options::default()).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    let counter = keyspace.get("counter").unwrap().unwrap();
    assert_eq!(counter[..], (COMMITTERS * COMMITS).to_be_bytes());
    assert_eq!(db.last_seq(), history.last().unwrap().0);
    db.close().unwrap();
}

/// A gauge of memory by its purpose; all of it without one.
fn memory(db: &Db, purpose: Option<&str>) -> u64 {
    let text = db.metrics().to_prometheus();
    let name = match purpose {
        Some(purpose) => format!("holdfast_memory_bytes{{purpose=\"{purpose}\"}} "),
        None => "holdfast_memory_used_bytes ".to_string(),
    };
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
}

#[test]
fn memtables_count_in_the_one_budget() {
    simulate(9, |_, process| async move {
        within(&process, |env| async move {
            let options = Options { memtable_bytes: 1 << 20, ..small_options() };
            let db = Db::open_in(env, DIR, options).await.unwrap();
            let keyspace = db.default_keyspace().unwrap();
            for number in 0..200u64 {
                keyspace.put(number.to_be_bytes(), noise(1000, number)).await.unwrap();
            }
            keyspace.delete_range("x", "y").await.unwrap();
            let told: u64 = db.keyspaces().unwrap().iter().map(|info| info.memtable_bytes).sum();
            assert!(told > 200_000, "{told}");
            assert_eq!(memory(&db, Some("memtable")), told);
            assert!(memory(&db, None) >= told);
            // A value that was read from a memtable keeps its memory, which counts on after the flush.
            let value = keyspace.get(7u64.to_be_bytes()).await.unwrap().unwrap();
            db.flush().await.unwrap();
            db.wait_idle().await.unwrap();
            assert_eq!(memory(&db, Some("memtable")), 0);
            assert!(memory(&db, Some("pinned")) > 200_000, "{}", memory(&db, Some("pinned")));
            assert!(value[..] == noise(1000, 7));
            drop(value);
            assert!(memory(&db, Some("pinned")) < 100_000, "{}", memory(&db, Some("pinned")));
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn many_small_keyspaces_stay_within_the_memory() {
    simulate(10, |_, process| async move {
        within(&process, |env| async move {
            const LIMIT: u64 = 8 << 20;
            let options = Options {
                memory_limit_bytes: LIMIT,
                memtable_bytes: 2 << 20,
                log_segment_bytes_max: 16 << 20,
                log_bytes_max: 1 << 30,
                ..small_options()
            };
            let db = Db::open_in(env, DIR, options).await.unwrap();
            let mut keyspaces = Vec::new();
            for number in 0..40 {
                let name = format!("k{number}");
                keyspaces.push(db.create_keyspace(&name, KeyspaceOptions::default()).await.unwrap());
            }
            // Three times the memory, and no keyspace ever fills a memtable.
            let mut most = 0;
            for round in 0..60u64 {
                let mut batch = WriteBatch::new();
                for keyspace in &keyspaces {
                    batch.put(keyspace.id(), &round.to_be_bytes(), &noise(10_000, round)).unwrap();
                }
                db.write(batch, Durability::Flush).await.unwrap();
                most = most.max(memory(&db, None));
            }
            assert!(most < LIMIT, "{most} of {LIMIT} bytes were in use");
            for keyspace in &keyspaces {
                assert_eq!(keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap().len(), 60);
            }
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn transactions_share_half_of_the_memory() {
    simulate(11, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await.unwrap();
            let mut open: Vec<holdfast::Txn> = Vec::new();
            let refused = 'full: loop {
                assert!(open.len() < 100, "nothing is ever refused");
                let mut txn = db.begin(TransactionOptions::default());
                for number in 0..10u64 {
                    let key = (open.len() as u64 * 100 + number).to_be_bytes();
                    if let Err(error) = txn.put(&keyspace, key, vec![1; 100_000]) {
                        break 'full error;
                    }
                }
                open.push(txn);
            };
            assert!(matches!(refused, Error::Busy(_)) && refused.is_retriable(), "{refused}");
            assert!(refused.to_string().contains("memory_limit_bytes"), "{refused}");
            assert_eq!(open.len(), 4, "each holds a megabyte, all four of the eight");
            assert!(memory(&db, Some("transaction")) <= 4 << 20);
            // Writers are not hindered, nor are those who are under way.
            keyspace.put("k", "v").await.unwrap();
            for txn in open {
                txn.commit().await.unwrap();
            }
            assert_eq!(memory(&db, Some("transaction")), 0);
            let mut txn = db.begin(TransactionOptions::default());
            txn.put(&keyspace, "k", vec![2; 3 << 20]).unwrap();
            txn.commit().await.unwrap();
            assert_eq!(keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap().len(), 41);
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn values_that_readers_hold_push_out_the_cache_and_then_the_writers() {
    simulate(12, |_, process| async move {
        within(&process, |env| async move {
            let options = Options { memtable_bytes: 1 << 20, ..small_options() };
            let db = Db::open_in(env, DIR, options).await.unwrap();
            let keyspace = db.default_keyspace().unwrap();
            for number in 0..100u64 {
                keyspace.put(number.to_be_bytes(), noise(100_000, number)).await.unwrap();
            }
            db.compact().await.unwrap();
            let mut held = Vec::new();
            for number in 0..100u64 {
                held.push(keyspace.get(number.to_be_bytes()).await.unwrap().unwrap());
            }
            assert!(memory(&db, Some("pinned")) > 4 << 20);
            let refused = keyspace.put("k", "v").await.and(keyspace.put("k", "v").await);
            assert!(matches!(&refused, Err(Error::Busy(_))), "{refused:?}");
            assert!(memory(&db, Some("cache")) < 1 << 20, "{}", memory(&db, Some("cache")));
            for (number, value) in held.iter().enumerate() {
                assert!(value[..] == noise(100_000, number as u64), "{number}");
            }
            drop(held);
            keyspace.put("k", "v").await.unwrap();
            assert!(keyspace.get("k").await.unwrap().is_some_and(|value| value == "v"));
            db.close().await.unwrap();
        })
        .await;
    });
}
