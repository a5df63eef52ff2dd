//! What is large, or many at once, goes through whole: batches, keys, values, committers.

use std::sync::{Arc, Mutex};

use holdfast::blocking::block_on;
use holdfast::{
    Db, Durability, Error, KEY_LEN_MAX, KeyspaceOptions, Options, Scan, Seq, TransactionOptions, WriteBatch,
};

use super::{noise, open, opened};
use crate::support::scene::{DIR, Scratch, simulate, small_options, within};

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

/// A queue that deletes its beginning again and again, while every version is kept: each range overlaps all others.
#[test]
fn range_deletes_that_all_overlap_take_room_in_proportion() {
    const RANGES: u64 = 6_000;
    let options = || Options {
        memory_limit_bytes: 32 << 20,
        memtable_bytes: 4 << 20,
        retain_commits: 1 << 30,
        ..Options::default()
    };
    let key = |number: u64| number.to_be_bytes();
    simulate(8, move |_, process| async move {
        within(&process, move |env| async move {
            let db = Db::open_in(env, DIR, options()).await.unwrap();
            let queue = db.default_keyspace().unwrap();
            for number in 1..=RANGES {
                let mut batch = WriteBatch::new();
                batch.put(queue.id(), &key(number), b"job").unwrap();
                batch.delete_range(queue.id(), &[], &key(number - 1)).unwrap();
                db.write(batch, Durability::Buffered).await.unwrap();
                if number % 16 == 0 {
                    assert_eq!(queue.get(key(number - 2)).await.unwrap(), None, "it was deleted");
                    assert!(queue.get(key(number - 1)).await.unwrap().is_some(), "it was not");
                }
            }
            db.sync().await.unwrap();
        })
        .await;
        process.kill();
        process.restart();
        within(&process, move |env| async move {
            let db = Db::open_in(env, DIR, options()).await.unwrap();
            let queue = db.default_keyspace().unwrap();
            for round in 0..2 {
                let left = queue.scan(Scan::all()).await.unwrap().collect().await.unwrap();
                assert!(left.iter().map(|(key, _)| &key[..]).eq([key(RANGES - 1), key(RANGES)]));
                for number in [1, 2, 1_000, RANGES - 1] {
                    let then = db.at(Seq::new(number)).unwrap();
                    let count = then.scan(&queue, Scan::all()).await.unwrap().count().await.unwrap();
                    assert_eq!(count, number.min(2), "as of commit {number}");
                }
                if round == 0 {
                    db.compact().await.unwrap();
                }
            }
            let tables: u64 = db.keyspaces().unwrap().iter().map(|keyspace| keyspace.table_bytes()).sum();
            assert!(tables < RANGES * 200, "{tables} bytes in tables");
            db.close().await.unwrap();
        })
        .await;
    });
}
