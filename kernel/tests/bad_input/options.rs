//! Options out of their ranges, and requests over a limit.

use holdfast::{
    Db, Durability, Error, KEY_LEN_MAX, KEYSPACE_NAME_LEN_MAX, KeyspaceOptions, Options, Result, Seq,
    VALUE_LEN_MAX, WriteBatch,
};
use holdfast_sim::{Process, World};

use super::{made, make, refused, says};
use crate::support::scene::{DIR, assert_same, image, simulate, small_keyspace, small_options, within};

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
