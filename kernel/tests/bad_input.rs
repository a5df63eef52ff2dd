//! Wrong requests: each has an error of its own that says what is wrong and what to do, and changes nothing.
//!
//! What an opening refuses is judged by the whole disk, names and bytes, before and after; what an open database
//! refuses by the whole disk once it is idle, and by what its readers see.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub mod scene;
}

use std::path::Path;
use std::sync::Arc;

use holdfast::codec::checksum;
use holdfast::env::{Env, IoErrorKind};
use holdfast::{
    Db, Durability, Error, KEY_LEN_MAX, KEYSPACE_NAME_LEN_MAX, KeyspaceOptions, Options, Result, Scan, Seq,
    VALUE_LEN_MAX, WriteBatch,
};
use holdfast_sim::{Process, World};
use support::scene::{
    DIR, Image, Scratch, assert_same, image, real_image, simulate, small_keyspace, small_options, within,
};

/// A database of two keyspaces with tables, and commits that only the log holds.
async fn make(env: Arc<dyn Env>) -> Result<Db> {
    let db = Db::open_in(env, DIR, small_options()).await?;
    let second = db.create_keyspace("second", small_keyspace()).await?;
    for number in 0..40u64 {
        let mut batch = WriteBatch::new();
        batch.put((&db.default_keyspace()?).into(), &number.to_be_bytes(), &[1; 100])?;
        batch.put((&second).into(), &number.to_be_bytes(), &[2; 100])?;
        db.write(batch, Durability::Sync).await?;
    }
    db.compact().await?;
    for number in 40..50u64 {
        second.put(number.to_be_bytes(), [3; 100]).await?;
    }
    Ok(db)
}

/// Makes the database and kills its process, so that tables, log and manifest all count.
async fn made(process: &Process) {
    let db = within(process, make).await.unwrap();
    process.kill();
    drop(db);
    process.restart();
}

/// Both kinds of opening are refused and leave every byte of the disk alone; the error of the writing one.
async fn refused(process: &Process, dir: &str, options: Options) -> Error {
    let before = image(&process.disk());
    let open = |read_only: bool| {
        let (dir, options) = (dir.to_string(), options.clone());
        within(process, move |env| async move {
            if read_only {
                Db::open_read_only_in(env, dir, options).await.err()
            } else {
                Db::open_in(env, dir, options).await.err()
            }
        })
    };
    let error = open(false).await.expect("the opening is refused");
    assert_same(&before, &image(&process.disk()), &error.to_string());
    let beside = open(true).await.expect("so is a look at it");
    assert_same(&before, &image(&process.disk()), &beside.to_string());
    error
}

#[track_caller]
fn says(error: &Error, words: &[&str]) {
    let said = error.to_string();
    for word in words {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
}

#[test]
fn a_directory_without_a_database() {
    simulate(1, |_, process| async move {
        let existing = Options { create_if_missing: false, ..small_options() };
        let disk = process.disk();

        let error = refused(&process, DIR, existing.clone()).await;
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        says(&error, &[DIR, "does not exist", "create_if_missing"]);

        disk.create_dir_all(DIR);
        let error = refused(&process, DIR, existing.clone()).await;
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        says(&error, &[DIR, "empty", "create_if_missing"]);

        let error = refused(&process, "/no/such", small_options()).await;
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        says(&error, &["/no/such", "parent", "create it"]);

        disk.write_file("/db/thesis.txt", b"mine");
        for options in [existing, small_options()] {
            let error = refused(&process, DIR, options).await;
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            says(&error, &[DIR, "thesis.txt", "new directory"]);
        }

        disk.write_file("/file", b"mine");
        let error = refused(&process, "/file", small_options()).await;
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        says(&error, &["/file", "not a directory"]);
    });
}

#[test]
fn a_foreign_file_beside_a_database_is_left_alone() {
    simulate(2, |_, process| async move {
        made(&process).await;
        process.disk().write_file("/db/notes.txt", b"mine");
        process.disk().create_dir_all("/db/pictures");
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, small_options()).await.unwrap();
            assert_eq!(
                db.keyspace("second")
                    .unwrap()
                    .scan(Scan::all())
                    .await
                    .unwrap()
                    .collect()
                    .await
                    .unwrap()
                    .len(),
                50
            );
            db.compact().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
        assert_eq!(process.disk().read_file("/db/notes.txt"), b"mine");
        assert!(process.disk().exists("/db/pictures"));
    });
}

/// The same header sector, valid in all but the format version, which is a later one.
fn of_a_later_version(bytes: &mut [u8], identity_at: usize, covered: usize) {
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    let sum = checksum(&[&bytes[identity_at..identity_at + 8], &0u64.to_le_bytes(), &bytes[..covered]]);
    bytes[covered..covered + 4].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn a_newer_format_is_named_file_by_file() {
    simulate(3, |_, process| async move {
        made(&process).await;
        let disk = process.disk();
        let whole = disk.snapshot();
        let names: Vec<String> = disk.list(DIR).into_iter().map(|entry| entry.name).collect();
        let mut kinds = std::collections::BTreeSet::new();
        for name in names {
            let kind = name.rsplit('.').next().unwrap().to_string();
            if !["CURRENT", "manifest", "log", "table"].contains(&kind.as_str())
                || !kinds.insert(kind.clone())
            {
                continue;
            }
            let path = Path::new(DIR).join(&name);
            if kind == "table" {
                let fields = disk.read_file(&path)[12..16].try_into().unwrap();
                let covered = 24 + u32::from_le_bytes(fields) as usize;
                disk.corrupt(&path, 0, covered + 4, |bytes| of_a_later_version(bytes, 16, covered));
                let before = image(&disk);
                let error = within(&process, |env| async move {
                    let view = Db::open_read_only_in(env, DIR, small_options()).await?;
                    for keyspace in ["default", "second"] {
                        view.keyspace(keyspace)?.scan(Scan::all()).await?.collect().await?;
                    }
                    Ok(())
                })
                .await
                .unwrap_err();
                assert_same(&before, &image(&disk), "a look");
                assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
                says(&error, &[&name, "99", "newer version"]);
            } else {
                disk.corrupt(&path, 0, 512, |bytes| of_a_later_version(bytes, 12, 508));
                let error = refused(&process, DIR, small_options()).await;
                assert!(matches!(error, Error::NewerFormat { .. }), "{name}: {error}");
                says(&error, &[&name, "99", "newer version"]);
            }
            process.restart();
            disk.restore(&whole);
        }
        assert_eq!(kinds.len(), 4, "{kinds:?}");
    });
}

#[test]
fn a_missing_file_is_named() {
    simulate(4, |_, process| async move {
        made(&process).await;
        let disk = process.disk();
        let whole = disk.snapshot();
        let mut refusals = 0;
        for entry in disk.list(DIR) {
            let path = Path::new(DIR).join(&entry.name);
            disk.remove_file(&path);
            if ["LOCK", "RESERVE"].contains(&entry.name.as_str()) {
                // Nothing is told by them, and nothing lost with them.
                within(&process, |env| async move {
                    let db = Db::open_in(env, DIR, small_options()).await.unwrap();
                    db.close().await.unwrap();
                })
                .await;
            } else if is_needed(&process, &entry.name).await {
                let error = refused(&process, DIR, small_options()).await;
                assert!(matches!(error, Error::Corrupt { .. }), "{}: {error}", entry.name);
                says(&error, &[&entry.name, "missing", "holdfast repair"]);
                refusals += 1;
            }
            process.restart();
            disk.restore(&whole);
        }
        assert!(refusals >= 4, "only {refusals} files were needed");
    });
}

/// A file that was let go but not yet removed when the process died is needed by nobody.
async fn is_needed(process: &Process, name: &str) -> bool {
    if !name.ends_with(".log") {
        return true;
    }
    let report = within(process, |env| async move { holdfast::verify(env, DIR, |_| ()).await }).await;
    report.is_err() || report.is_ok_and(|report| !report.is_good())
}

#[test]
fn a_database_in_use_is_locked_and_usable_once_it_is_not() {
    simulate(5, |world: World, process| async move {
        let held = within(&process, make).await.unwrap();
        let other = world.process_on("other", "db");
        world.sleep(1_000_000_000).await;
        let before = image(&process.disk());
        let error = within(&other, |env| Db::open_in(env, DIR, small_options())).await.err().unwrap();
        assert!(matches!(&error, Error::Locked(dir) if dir == Path::new(DIR)), "{error}");
        says(&error, &[DIR, "locked", "read-only"]);
        assert_same(&before, &image(&process.disk()), "locked");
        within(&process, |_| async move { held.close().await }).await.unwrap();
        within(&other, |env| async move { Db::open_in(env, DIR, small_options()).await?.close().await })
            .await
            .unwrap();
    });
}

#[test]
fn fewer_commits_than_demanded() {
    simulate(6, |_, process| async move {
        let demanding = |at_least| Options { at_least, ..small_options() };
        // Wiped: no directory, an empty one. Neither may be made into a new database in silence.
        for _ in 0..2 {
            let error = refused(&process, DIR, demanding(7)).await;
            says(&error, &[DIR, "at_least", "7"]);
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            process.disk().create_dir_all(DIR);
        }
        // An older copy of itself.
        let db = within(&process, make).await.unwrap();
        let newest = db.last_seq().get();
        process.kill();
        drop(db);
        process.restart();
        let error = refused(&process, DIR, demanding(newest + 1)).await;
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        says(&error, &["at_least", &newest.to_string(), &(newest + 1).to_string(), "older copy"]);
        let reached = within(&process, move |env| async move {
            let db = Db::open_in(env, DIR, demanding(newest)).await?;
            let reached = db.last_seq().get();
            db.close().await?;
            Ok::<_, Error>(reached)
        });
        assert_eq!(reached.await.unwrap(), newest);
    });
}

/// One option out of its range: how, its name, and what the refusal must say besides.
type Bad<O> = (fn(&mut O), &'static str, &'static str);

const BAD_OPTIONS: [Bad<Options>; 23] = [
    (|o| o.memory_limit_bytes = (8 << 20) - 1, "memory_limit_bytes", "8388608"),
    (|o| o.memory_limit_bytes = (1 << 40) + 1, "memory_limit_bytes", "1099511627776"),
    (|o| o.memtable_bytes = (4 << 10) - 1, "memtable_bytes", "4096"),
    (|o| o.memtable_bytes = (1 << 30) + 1, "memtable_bytes", "1073741824"),
    (|o| o.memtable_bytes = (2 << 20) + 1, "memtable_bytes", "memory_limit_bytes"),
    (|o| o.log_segment_bytes_max = (64 << 10) - 1, "log_segment_bytes_max", "65536"),
    (|o| o.log_segment_bytes_max = (1 << 30) + 1, "log_segment_bytes_max", "1073741824"),
    (|o| o.log_bytes_max = o.log_segment_bytes_max * 2 - 1, "log_bytes_max", "log_segment_bytes_max"),
    (|o| o.retain_commits = (1 << 40) + 1, "retain_commits", "1099511627776"),
    (|o| o.background_bytes_per_s = 1, "background_bytes_per_s", "65536"),
    (|o| o.compactions_max = 0, "compactions_max", "1"),
    (|o| o.compactions_max = 65, "compactions_max", "64"),
    (|o| o.open_files_max = 15, "open_files_max", "16"),
    (|o| o.open_files_max = (1 << 20) + 1, "open_files_max", "1048576"),
    (|o| o.transaction_bytes_max = (64 << 10) - 1, "transaction_bytes_max", "65536"),
    (|o| o.transaction_bytes_max = (4 << 30) + 1, "transaction_bytes_max", "4294967296"),
    (|o| o.conflict_window_bytes = (64 << 10) - 1, "conflict_window_bytes", "65536"),
    (|o| o.conflict_window_bytes = (64 << 30) + 1, "conflict_window_bytes", "68719476736"),
    (|o| o.reserve_bytes = (1 << 30) + 1, "reserve_bytes", "1073741824"),
    (|o| o.seal_idle_us = 99, "seal_idle_us", "100"),
    (|o| o.seal_idle_us = 60_000_001, "seal_idle_us", "60000000"),
    (|o| o.buffered_flush_us = 99, "buffered_flush_us", "100"),
    (|o| o.buffered_flush_us = 60_000_001, "buffered_flush_us", "60000000"),
];

#[test]
fn an_option_out_of_its_range() {
    simulate(7, |_, process| async move {
        for with_database in [false, true] {
            if with_database {
                made(&process).await;
            }
            for (spoil, name, bound) in BAD_OPTIONS {
                let mut options = small_options();
                spoil(&mut options);
                let error = refused(&process, DIR, options).await;
                assert!(matches!(error, Error::Invalid(_)), "{name}: {error}");
                says(&error, &[name, bound]);
            }
        }
    });
}

const BAD_KEYSPACE_OPTIONS: [Bad<KeyspaceOptions>; 14] = [
    (|o| o.block_bytes = 255, "block_bytes", "256"),
    (|o| o.block_bytes = (1 << 20) + 1, "block_bytes", "1048576"),
    (|o| o.table_bytes = (16 << 10) - 1, "table_bytes", "16384"),
    (|o| o.table_bytes = (1 << 30) + 1, "table_bytes", "1073741824"),
    (|o| o.filter_bits_per_key = 33, "filter_bits_per_key", "32"),
    (|o| o.compression = Vec::new(), "compression", "1"),
    (|o| o.compression = vec![holdfast::Compression::None; 9], "compression", "8"),
    (|o| o.level0_tables = 0, "level0_tables", "1"),
    (|o| o.level0_tables = 65, "level0_tables", "64"),
    (|o| o.level1_bytes = (16 << 10) - 1, "level1_bytes", "16384"),
    (|o| o.level1_bytes = (1 << 40) + 1, "level1_bytes", "1099511627776"),
    (|o| o.level_ratio = 1, "level_ratio", "2"),
    (|o| o.level_ratio = 33, "level_ratio", "32"),
    (|o| o.block_bytes = 0, "block_bytes", "256"),
];

/// Lets everything settle, so that two images differ only by what stands between them.
async fn settle(world: &World, process: &Process, db: &Db) {
    let db = db.clone();
    within(process, |_| async move { db.wait_idle().await }).await.unwrap();
    world.sleep(1_000_000_000).await;
}

#[test]
fn requests_over_a_limit_change_nothing() {
    simulate(8, |world, process| async move {
        let db = within(&process, |env| async move {
            let db = make(env).await?;
            db.close().await?;
            Ok::<_, Error>(())
        });
        db.await.unwrap();
        let options =
            Options { transaction_bytes_max: 128 << 10, memory_limit_bytes: 64 << 20, ..small_options() };
        let db = within(&process, |env| Db::open_in(env, DIR, options)).await.unwrap();
        settle(&world, &process, &db).await;
        let (before, seq) = (image(&process.disk()), db.last_seq());
        let asking = db.clone();
        within(&process, move |_| async move {
            over_limits(&asking).await;
            bad_keyspaces(&asking).await;
        })
        .await;
        settle(&world, &process, &db).await;
        assert_eq!(db.last_seq(), seq);
        assert_same(&before, &image(&process.disk()), "refused requests");
        within(&process, |_| async move {
            // All that is allowed still goes.
            let keyspace = db.keyspace("second")?;
            keyspace.put(vec![7; KEY_LEN_MAX], "longest").await?;
            assert!(keyspace.get(vec![7; KEY_LEN_MAX]).await?.is_some_and(|value| value == "longest"));
            db.close().await
        })
        .await
        .unwrap();
    });
}

async fn over_limits(db: &Db) {
    let keyspace = db.keyspace("second").unwrap();
    let id = keyspace.id();
    let long_key = vec![7u8; KEY_LEN_MAX + 1];
    // Never touched: the pages of a zeroed allocation cost nothing until then.
    let long_value = vec![0u8; VALUE_LEN_MAX + 1];
    let key_limit = KEY_LEN_MAX.to_string();
    let value_limit = VALUE_LEN_MAX.to_string();
    let is = |result: Result<Seq>, words: &[&str]| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        says(&error, words);
    };
    is(keyspace.put(&long_key, "v").await, &["key", &key_limit, "65537"]);
    is(keyspace.delete(&long_key).await, &["key", &key_limit]);
    is(keyspace.delete_range("a", &long_key).await, &["range", &key_limit]);
    is(keyspace.delete_range("b", "a").await, &["range", "start", "end"]);
    is(keyspace.delete_range("a", "a").await, &["range", "start", "end"]);
    is(keyspace.put("k", &long_value).await, &["value", &value_limit]);
    is(keyspace.put("k", vec![1; 128 << 10]).await, &["transaction_bytes_max", "131072"]);

    let mut batch = WriteBatch::new();
    assert!(batch.put(id, &long_key, b"").is_err() && batch.put(id, b"k", &long_value).is_err());
    assert!(batch.delete(id, &long_key).is_err() && batch.delete_range(id, b"b", b"a").is_err());
    assert!(batch.is_empty(), "what was refused is not in the batch");
    batch.put(id, b"k", &vec![1; 128 << 10]).unwrap();
    is(db.write(batch, Durability::Sync).await, &["transaction_bytes_max", "131072"]);
    let mut batch = WriteBatch::new();
    batch.put(id, b"half", b"of it").unwrap();
    batch.put(holdfast::KeyspaceId::new(77), b"k", b"v").unwrap();
    is(db.write(batch, Durability::Sync).await, &["keyspace", "77"]);
    assert!(keyspace.get("half").await.unwrap().is_none());

    let mut txn = db.begin(Default::default());
    is(txn.put(&keyspace, &long_key, "v").map(|()| Seq::ZERO), &["key", &key_limit]);
    is(txn.put(&keyspace, "k", &long_value).map(|()| Seq::ZERO), &["value", &value_limit]);
    is(txn.delete(&keyspace, &long_key).map(|()| Seq::ZERO), &["key", &key_limit]);
    is(txn.delete_range(&keyspace, "b", "a").map(|()| Seq::ZERO), &["start", "end"]);
    let error = txn.get(&keyspace, &long_key).await.map(|_| Seq::ZERO);
    is(error, &["key", &key_limit]);
    let mut held = 0u32;
    let over = loop {
        match txn.put(&keyspace, held.to_be_bytes(), [1; 1000]) {
            Ok(()) => held += 1,
            Err(error) => break error,
        }
    };
    is(Err(over), &["transaction", "131072", "transaction_bytes_max"]);
    assert!(held > 64, "{held} of 1004 bytes fit 128 KiB");
    // What was refused is not in the transaction, and what it holds is still there.
    assert!(txn.get(&keyspace, held.to_be_bytes()).await.unwrap().is_none());
    assert!(txn.get(&keyspace, (held - 1).to_be_bytes()).await.unwrap().is_some());
    drop(txn);
}

async fn bad_keyspaces(db: &Db) {
    for (spoil, name, bound) in BAD_KEYSPACE_OPTIONS {
        let mut options = small_keyspace();
        spoil(&mut options);
        let error = db.create_keyspace("third", options).await.err().unwrap();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        says(&error, &[name, bound]);
    }
    let long_name = "x".repeat(KEYSPACE_NAME_LEN_MAX + 1);
    for (name, word) in [("", "has 0"), (&long_name, "has 256"), ("second", "exists already")] {
        let error = db.create_keyspace(name, small_keyspace()).await.err().unwrap();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        says(&error, &[word]);
    }
    let error = db.keyspace("thrid").err().unwrap();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    says(&error, &["thrid", "default", "second"]);
}

#[test]
fn a_dropped_keyspace_and_a_foreign_one() {
    simulate(9, |world, process| async move {
        let other = world.process("other");
        let foreign = within(&other, make).await.unwrap();
        let db = within(&process, make).await.unwrap();
        within(&process, move |_| async move {
            let stranger = foreign.keyspace("second").unwrap();
            let gone = db.keyspace("second").unwrap();
            let mut before = db.begin(Default::default());
            before.put(&gone, "k", "v").unwrap();
            let mut cursor = gone.scan(Scan::all()).await.unwrap();
            db.drop_keyspace(&gone).await.unwrap();
            let seq = db.last_seq();

            let mut errors = vec![
                db.drop_keyspace(&gone).await.err(),
                gone.get("k").await.err(),
                gone.scan(Scan::all()).await.err(),
                gone.put("k", "v").await.err(),
                gone.delete("k").await.err(),
                gone.delete_range("a", "b").await.err(),
                gone.options().err(),
                gone.approximate_size::<&str>(..).await.err(),
                db.snapshot().get(&gone, "k").await.err(),
                before.commit().await.err(),
            ];
            for error in errors.drain(..) {
                let error = error.expect("the keyspace is gone");
                assert!(matches!(error, Error::Invalid(_)), "{error}");
                says(&error, &["keyspace", &gone.id().to_string()]);
            }
            let mut txn = db.begin(Default::default());
            for error in [
                db.drop_keyspace(&stranger).await.err(),
                txn.put(&stranger, "k", "v").err(),
                txn.get(&stranger, "k").await.err(),
                db.snapshot().get(&stranger, "k").await.err(),
            ] {
                let error = error.expect("it belongs to another database");
                assert!(matches!(error, Error::Invalid(_)), "{error}");
                says(&error, &["second", "another opening"]);
            }
            assert_eq!(db.last_seq(), seq);
            // What was open when it was dropped goes on.
            let mut rest = 0;
            while cursor.next().await.unwrap().is_some() {
                rest += 1;
            }
            assert_eq!(rest, 50);
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn the_past_and_the_future() {
    simulate(10, |_, process| async move {
        within(&process, |env| async move {
            let options = Options { retain_commits: 5, ..small_options() };
            let db = Db::open_in(env, DIR, options).await.unwrap();
            let keyspace = db.default_keyspace().unwrap();
            for number in 1..=20u64 {
                keyspace.put("k", number.to_be_bytes()).await.unwrap();
            }
            db.compact().await.unwrap();
            let newest = db.last_seq();
            let Err(error) = db.at(newest.next()) else { panic!("the future is readable") };
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            says(&error, &[&newest.next().to_string(), &newest.to_string(), "future"]);
            let mut oldest_said = None;
            for seq in 0..=newest.get() {
                match db.at(Seq::new(seq)) {
                    Ok(past) => {
                        let value = past.get(&keyspace, "k").await.unwrap();
                        let number = seq - (newest.get() - 20);
                        assert!(value.is_some_and(|value| value == number.to_be_bytes()[..]), "at {seq}");
                        let oldest: Seq = oldest_said.expect("something is too old");
                        assert!(Seq::new(seq) >= oldest, "{seq} is older than {oldest}");
                    }
                    Err(Error::TooOld { asked, oldest }) => {
                        assert_eq!((asked, newest.get() - 5), (Seq::new(seq), oldest.get()));
                        says(&Error::TooOld { asked, oldest }, &[&oldest.to_string(), "retain_commits"]);
                        assert!(asked < oldest);
                        oldest_said = Some(oldest);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_closed_database_says_so() {
    simulate(11, |world, process| async move {
        let db = within(&process, make).await.unwrap();
        let left = within(&process, move |_| async move {
            let keyspace = db.default_keyspace().unwrap();
            let snapshot = db.snapshot();
            let mut txn = db.begin(Default::default());
            let reader = db.begin(Default::default());
            txn.put(&keyspace, "k", "v").unwrap();
            let mut cursor = keyspace.scan(Scan::all()).await.unwrap();
            let value = keyspace.get(3u64.to_be_bytes()).await.unwrap().expect("it was put");
            db.clone().close().await.unwrap();
            let mut batch = WriteBatch::new();
            batch.put(keyspace.id(), b"k", b"v").unwrap();
            for (what, error) in [
                ("get", keyspace.get("k").await.err()),
                ("scan", keyspace.scan(Scan::all()).await.err()),
                ("put", keyspace.put("k", "v").await.err()),
                ("delete", keyspace.delete("k").await.err()),
                ("delete_range", keyspace.delete_range("a", "b").await.err()),
                ("write", db.write(batch, Durability::Buffered).await.err()),
                ("write of nothing", db.write(WriteBatch::new(), Durability::Sync).await.err()),
                ("snapshot get", snapshot.get(&keyspace, "k").await.err()),
                ("snapshot scan", snapshot.scan(&keyspace, Scan::all()).await.err()),
                ("txn get", txn.get(&keyspace, "absent").await.err()),
                ("txn commit", txn.commit().await.err()),
                ("commit without writes", reader.commit().await.err()),
                ("keyspace", db.keyspace("second").err()),
                ("default_keyspace", db.default_keyspace().err()),
                ("keyspaces", db.keyspaces().err()),
                ("create_keyspace", db.create_keyspace("x", small_keyspace()).await.err()),
                ("drop_keyspace", db.drop_keyspace(&keyspace).await.err()),
                ("sync", db.sync().await.err()),
                ("flush", db.flush().await.err()),
                ("compact", db.compact().await.err()),
                ("wait_idle", db.wait_idle().await.err()),
                ("checkpoint", db.checkpoint("/copy").await.err()),
                ("backup", db.backup("/copy").await.err()),
                ("verify", db.verify().await.err()),
                ("close", db.clone().close().await.err()),
                ("approximate_size", keyspace.approximate_size::<&str>(..).await.err()),
            ] {
                let error = error.unwrap_or_else(|| panic!("{what} works on a closed database"));
                assert!(matches!(error, Error::Closed), "{what}: {error}");
                says(&error, &["closed", "open"]);
            }
            // A value is its own, and a cursor ends or goes on, but never lies.
            assert_eq!(value.len(), 100);
            while let Ok(Some(entry)) = cursor.next().await {
                assert_eq!(entry.value.len(), 100);
            }
            (db, keyspace)
        })
        .await;
        assert!(!process.disk().exists("/copy"));
        // Handles that are left over do not keep the directory.
        let before = image(&process.disk());
        world.sleep(1_000_000_000).await;
        assert_same(&before, &image(&process.disk()), "after closing");
        within(&process, |env| async move { Db::open_in(env, DIR, small_options()).await?.close().await })
            .await
            .unwrap();
        drop(left);
    });
}

#[test]
fn a_full_set_of_refusals_on_a_real_disk() {
    let scratch = Scratch::new("bad-input");
    let dir = scratch.path().join("db");
    let open = |options: Options| holdfast::blocking::Db::open(&dir, options);
    let existing = Options { create_if_missing: false, ..small_options() };
    let same =
        |before: &Image, what: &Error| assert_same(before, &real_image(scratch.path()), &what.to_string());

    let nothing = real_image(scratch.path());
    let error = open(existing.clone()).err().unwrap();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    same(&nothing, &error);
    let error = open(Options { at_least: 1, ..small_options() }).err().unwrap();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    same(&nothing, &error);
    let error = holdfast::blocking::Db::open(dir.join("deeper"), small_options()).err().unwrap();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    same(&nothing, &error);

    let db = open(small_options()).unwrap();
    db.default_keyspace().unwrap().put("k", "v").unwrap();
    db.close().unwrap();
    let whole = real_image(scratch.path());
    let error = holdfast::blocking::Db::open(dir.join("CURRENT"), small_options()).err().unwrap();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    says(&error, &["CURRENT", "not a directory"]);
    same(&whole, &error);

    let at = |name: &str| {
        let ends = |path: &&std::path::PathBuf| path.to_string_lossy().ends_with(name);
        whole.keys().find(ends).unwrap_or_else(|| panic!("there is no {name}")).clone()
    };
    for name in [".manifest", ".log", ".table"] {
        let path = at(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let before = real_image(scratch.path());
        let error = open(small_options()).err().unwrap();
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error}");
        says(&error, &[name, "missing"]);
        same(&before, &error);
        std::fs::write(&path, bytes).unwrap();
    }
    let db = open(existing).unwrap();
    assert!(db.default_keyspace().unwrap().get("k").unwrap().is_some_and(|value| value == "v"));
    db.close().unwrap();
}

/// Permissions bind everybody but the superuser, so this asks the system first whether they bind us.
#[test]
fn a_read_only_directory_on_a_real_disk() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("read-only-directory");
    let dir = scratch.path().join("db");
    let db = holdfast::blocking::Db::open(&dir, small_options()).unwrap();
    db.default_keyspace().unwrap().put("k", "v").unwrap();
    db.close().unwrap();
    let all = |mode: u32, files: u32| {
        for path in real_image(&dir).keys() {
            std::fs::set_permissions(path, PermissionsExt::from_mode(files)).unwrap();
        }
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
    };
    all(0o555, 0o444);
    let before = real_image(&dir);
    let superuser = std::fs::write(dir.join("probe"), b"").is_ok();
    drop(std::fs::remove_file(dir.join("probe")));
    if !superuser {
        let error = holdfast::blocking::Db::open(&dir, small_options()).err().unwrap();
        assert!(matches!(&error, Error::Io(io) if io.kind == IoErrorKind::Permission), "{error}");
        says(&error, &[&dir.display().to_string()]);
    }
    let view = holdfast::blocking::Db::open_read_only(&dir, small_options()).unwrap();
    let value = view.keyspace("default").unwrap().get("k").unwrap();
    assert!(value.is_some_and(|value| value == "v"));
    drop(view);
    assert_same(&before, &real_image(&dir), "a look at a read-only directory");
    all(0o755, 0o644);
}
