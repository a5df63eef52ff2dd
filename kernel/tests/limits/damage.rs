//! A damaged table with writes going on for long: compaction goes around it, and everything else stays right.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Db, Durability, Error, Keyspace, KeyspaceOptions, Options, WriteBatch};
use holdfast_sim::{FaultClass, Process, Trigger};

use super::noise;
use crate::support::scene::{DIR, simulate, small_keyspace, small_options, within};

const LEVEL0_TABLES: u32 = 4;
/// Rounds of writes, each of which adds a table to level 0.
const ROUNDS: u64 = 100;
/// Ten that gather, and three more for each factor of three in what is left behind.
const LEVEL0_BOUND: u64 = 20;

async fn open(env: Arc<dyn Env>) -> (Db, Keyspace) {
    // Memtables large enough that a round of writes is one flush.
    let options = Options { memory_limit_bytes: 64 << 20, memtable_bytes: 1 << 20, ..small_options() };
    let options = Options { log_bytes_max: 8 << 20, ..options };
    let db = Db::open_in(env, DIR, options).await.unwrap();
    let keyspace = match db.keyspace("k") {
        Ok(keyspace) => keyspace,
        Err(_) => {
            let small = small_keyspace();
            let options = KeyspaceOptions { level0_tables: LEVEL0_TABLES, level1_bytes: 1 << 20, ..small };
            db.create_keyspace("k", options).await.unwrap()
        }
    };
    (db, keyspace)
}

fn tables(process: &Process) -> Vec<String> {
    let names = process.disk().list(DIR).into_iter().map(|entry| entry.name);
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".table")).collect();
    names.sort();
    names
}

fn level0(db: &Db) -> (u64, u64) {
    let all = db.keyspaces().unwrap();
    let levels = &all.iter().find(|keyspace| keyspace.name == "k").unwrap().levels;
    (levels[0].tables, levels[0].bytes)
}

/// What must be there, by key; `None` is what was deleted.
type Expected = BTreeMap<u64, Option<Vec<u8>>>;

/// Writes `ROUNDS` tables of keys that `choose` gives, and deletes of some; level 0 must stay small all the time.
async fn write_on(db: &Db, keyspace: &Keyspace, choose: impl Fn(u64, u64) -> u64) -> Expected {
    let mut expected = Expected::new();
    for round in 0..ROUNDS {
        let mut batch = WriteBatch::new();
        let mut written = Expected::new();
        for n in 0..24u64 {
            let key = choose(round, n);
            let value = (n % 7 != 3).then(|| noise(200, round * 1000 + n + 1));
            written.insert(key, value);
        }
        for (key, value) in &written {
            match value {
                Some(value) => batch.put(keyspace.id(), &key.to_be_bytes(), value).unwrap(),
                None => batch.delete(keyspace.id(), &key.to_be_bytes()).unwrap(),
            };
        }
        db.write(batch, Durability::Sync).await.unwrap();
        expected.extend(written);
        db.flush().await.unwrap();
        db.wait_idle().await.unwrap();
        let (tables, _) = level0(db);
        assert!(tables <= LEVEL0_BOUND, "round {round}: {tables} tables in level 0");
    }
    check(keyspace, &expected).await;
    expected
}

async fn check(keyspace: &Keyspace, expected: &Expected) {
    for (key, value) in expected {
        let found = keyspace.get(key.to_be_bytes()).await;
        let found = found.unwrap_or_else(|error| panic!("key {key}, which was written later: {error}"));
        assert!(found.as_deref() == value.as_deref(), "key {key}");
    }
}

/// Three tables of level 0, of which the one made `damaged`th is damaged, then writes all over their range.
fn damaged_in_level0(seed: u64, damaged: usize) {
    simulate(seed, move |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await;
            for round in 0..3u64 {
                for n in 0..40u64 {
                    keyspace.put((n * 5).to_be_bytes(), noise(200, 77 + round * 100 + n)).await.unwrap();
                }
                db.flush().await.unwrap();
            }
            db.wait_idle().await.unwrap();
            assert_eq!(level0(&db).0, 3);
            db.close().await.unwrap();
        })
        .await;
        let names = tables(&process);
        assert_eq!(names.len(), 3);
        process.disk().flip_bit(format!("{DIR}/{}", names[damaged]), 2000, 3);
        within(&process, |env| async move {
            let (db, keyspace) = open(env.clone()).await;
            let expected = write_on(&db, &keyspace, |round, n| (round * 31 + n * 17) % 200).await;
            db.close().await.unwrap();
            let (db, keyspace) = open(env).await;
            check(&keyspace, &expected).await;
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn level0_stays_small_above_its_damaged_oldest_table() {
    damaged_in_level0(21, 0);
}

#[test]
fn level0_stays_small_around_a_damaged_table_in_its_middle() {
    damaged_in_level0(22, 1);
}

#[test]
fn level0_stays_small_below_its_damaged_newest_table() {
    damaged_in_level0(23, 2);
}

#[test]
fn what_lies_beside_a_damaged_table_of_level0_goes_down() {
    simulate(24, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await;
            for n in 100..120u64 {
                keyspace.put(n.to_be_bytes(), noise(200, n)).await.unwrap();
            }
            db.flush().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
        process.disk().flip_bit(format!("{DIR}/{}", tables(&process)[0]), 2000, 3);
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await;
            // First beside the damaged range only, then on both sides of it.
            write_on(&db, &keyspace, |round, n| round * 24 + n + 200).await;
            let (_, bytes) = level0(&db);
            assert!(bytes < 40_000, "{bytes} bytes stay in level 0");
            write_on(&db, &keyspace, |round, n| if n == 9 { 110 } else { (round * 13 + n * 29) % 1000 })
                .await;
            let (_, bytes) = level0(&db);
            // Of half a million bytes. They go down once they are half as large as what they are merged with.
            assert!(bytes < 250_000, "{bytes} bytes stay in level 0");
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_damaged_table_of_a_deeper_level_holds_back_its_range_only() {
    simulate(25, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await;
            for n in 0..1000u64 {
                keyspace.put(n.to_be_bytes(), noise(200, n + 1)).await.unwrap();
            }
            db.compact().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
        let names = tables(&process);
        assert!(names.len() > 8, "{names:?}");
        process.disk().flip_bit(format!("{DIR}/{}", names[names.len() / 2]), 2000, 3);
        within(&process, |env| async move {
            let (db, keyspace) = open(env.clone()).await;
            let expected = write_on(&db, &keyspace, |round, n| (round * 131 + n * 41) % 1000).await;
            // Once all keys were written several times: of a tenth of them level 0 holds one version, and a few tables
            // wait to be merged.
            let (_, bytes) = level0(&db);
            assert!(bytes < 80_000, "{bytes} bytes stay in level 0");
            db.close().await.unwrap();
            let (db, keyspace) = open(env).await;
            check(&keyspace, &expected).await;
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_medium_error_that_passes_takes_no_table_out_of_compaction() {
    simulate(26, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await;
            for round in 0..3u64 {
                for n in 0..40u64 {
                    keyspace.put(n.to_be_bytes(), noise(200, round * 100 + n + 1)).await.unwrap();
                }
                db.flush().await.unwrap();
            }
            db.close().await.unwrap();
        })
        .await;
        let oldest = tables(&process)[0].clone();
        process.disk().inject_on(FaultClass::ReadError, &oldest, Trigger::Once(1));
        within(&process, move |env| async move {
            let (db, keyspace) = open(env).await;
            for n in 0..40u64 {
                keyspace.put(n.to_be_bytes(), noise(200, 1000 + n)).await.unwrap();
            }
            db.flush().await.unwrap();
            db.wait_idle().await.unwrap();
            assert_eq!(level0(&db).0, 0, "everything goes down once the error has passed");
            db.close().await.unwrap();
        })
        .await;
        process.disk().clear_faults();
        // One that stays is an answer of `compact`, and the table is left out.
        let only = tables(&process).pop().unwrap();
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await;
            keyspace.put(20u64.to_be_bytes(), "new").await.unwrap();
            db.flush().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
        process.disk().inject_on(FaultClass::ReadError, &only, Trigger::From(1));
        within(&process, move |env| async move {
            let (db, _) = open(env).await;
            let compacted = db.compact().await;
            assert!(matches!(&compacted, Err(Error::Io(io)) if io.path.ends_with(&only)), "{compacted:?}");
            // And stays one: what is left out already is no reason to say that all was compacted.
            let again = db.compact().await;
            assert!(matches!(&again, Err(Error::Io(io)) if io.path.ends_with(&only)), "{again:?}");
            db.close().await.unwrap();
        })
        .await;
    });
}

/// A table that goes away before it was ever opened is an input of every compaction, and reading it fails with an error
/// that no medium gives. It is left out like a damaged one: writers, those of other keyspaces too, do not wait for it.
#[test]
fn a_table_that_went_away_holds_no_writer_back_for_ever() {
    simulate(27, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await;
            for n in 0..40u64 {
                keyspace.put(n.to_be_bytes(), noise(200, n + 1)).await.unwrap();
            }
            db.flush().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
        let disk = process.disk();
        let gone = tables(&process).pop().unwrap();
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await;
            disk.remove_file(format!("{DIR}/{gone}"));
            let other = db.create_keyspace("other", small_keyspace()).await.unwrap();
            for round in 0..60u64 {
                for n in 1000..1010u64 {
                    keyspace.put(n.to_be_bytes(), noise(200, round * 100 + n)).await.unwrap();
                }
                other.put("x", "y").await.unwrap();
                db.flush().await.unwrap();
            }
            let (tables, _) = level0(&db);
            assert!(tables <= LEVEL0_BOUND, "{tables} tables stay in level 0");
            let compacted = db.compact().await;
            assert!(matches!(&compacted, Err(Error::Io(io)) if io.path.ends_with(&gone)), "{compacted:?}");
            assert!(db.close().await.is_ok());
        })
        .await;
    });
}

/// One write error in the output of a compaction gives that job up, but not the keyspace: the job is done later, though
/// nothing else happens.
#[test]
fn a_compaction_that_was_given_up_is_tried_again() {
    simulate(28, |world, process| async move {
        let disk = process.disk();
        within(&process, |env| async move {
            let (db, keyspace) = open(env.clone()).await;
            for round in 0..u64::from(LEVEL0_TABLES) {
                for n in 0..40u64 {
                    keyspace.put(n.to_be_bytes(), noise(200, round * 100 + n)).await.unwrap();
                }
                if round + 1 == u64::from(LEVEL0_TABLES) {
                    // The second table from here on is the compaction's.
                    disk.inject_on(FaultClass::WriteError, ".table", Trigger::Once(2));
                }
                db.flush().await.unwrap();
            }
            env.sleep_until(env.now().after(5_000_000_000)).await;
            assert_eq!(disk.faults_fired(FaultClass::WriteError), 1);
            assert_eq!(level0(&db).0, 0, "the compaction was not tried again");
            db.close().await.unwrap();
        })
        .await;
        drop(world);
    });
}
