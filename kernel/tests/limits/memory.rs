//! The one memory budget: what counts in it, and what happens when it is used up.

use holdfast::{
    Db, Durability, Error, Isolation, KeyspaceOptions, Options, Scan, TransactionOptions, WriteBatch,
};

use super::{noise, open};
use crate::support::scene::{DIR, simulate, small_options, within};

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
fn what_serializable_transactions_read_counts_and_is_bounded() {
    simulate(13, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await.unwrap();
            let mut txn = db.begin(TransactionOptions::default());
            txn.put(&keyspace, "own", "v").unwrap();
            // The same key again and again is one key, and one walk is one range.
            for _ in 0..1_000 {
                assert_eq!(txn.get(&keyspace, "missing").await.unwrap(), None);
            }
            assert_eq!(txn.scan(&keyspace, Scan::prefix("o")).await.unwrap().count().await.unwrap(), 1);
            assert!(memory(&db, Some("transaction")) < 1_000, "{}", memory(&db, Some("transaction")));
            // Half of the memory is four mebibytes, and a key of eight bytes takes ninety.
            let mut read = 0u64;
            let refused = loop {
                match txn.get(&keyspace, read.to_be_bytes()).await {
                    Ok(found) => assert_eq!(found, None),
                    Err(error) => break error,
                }
                read += 1;
                assert!(read < 100_000, "nothing is ever refused");
            };
            assert!(read > 40_000, "{read}");
            assert!(matches!(refused, Error::Busy(_)), "{refused}");
            assert!(refused.to_string().contains("memory_limit_bytes"), "{refused}");
            assert!((3 << 20..=4 << 20).contains(&memory(&db, Some("transaction"))));
            // Walks are refused too, at their first step and ever after; reads without a check are not.
            let other = db.begin(TransactionOptions::default());
            let mut cursor = other.scan(&keyspace, Scan::all()).await.unwrap();
            for _ in 0..2 {
                assert!(matches!(cursor.next().await, Err(Error::Busy(_))));
            }
            let unchecked = TransactionOptions { isolation: Isolation::Snapshot, ..Default::default() };
            assert_eq!(db.begin(unchecked).get(&keyspace, "k").await.unwrap(), None);
            // What was refused was not read, so it makes no conflict; what was read does.
            keyspace.put(read.to_be_bytes(), "v").await.unwrap();
            txn.commit().await.unwrap();
            assert_eq!(memory(&db, Some("transaction")), 0);
            let mut txn = db.begin(TransactionOptions::default());
            txn.put(&keyspace, "own", "w").unwrap();
            assert_eq!(txn.get(&keyspace, "missing").await.unwrap(), None);
            keyspace.put("missing", "v").await.unwrap();
            assert!(matches!(txn.commit().await, Err(Error::Conflict(_))));
            // A cursor that outlives its transaction holds nothing of it.
            let txn = db.begin(TransactionOptions::default());
            let mut cursor = txn.scan(&keyspace, Scan::all()).await.unwrap();
            assert!(cursor.next().await.unwrap().is_some());
            assert!(memory(&db, Some("transaction")) > 0);
            drop(txn);
            assert_eq!(memory(&db, Some("transaction")), 0);
            assert!(cursor.next().await.unwrap().is_some());
            assert_eq!(memory(&db, Some("transaction")), 0);
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_transaction_reads_no_more_than_its_own_limit() {
    simulate(14, |_, process| async move {
        within(&process, |env| async move {
            let options = Options { transaction_bytes_max: 64 << 10, ..small_options() };
            let db = Db::open_in(env, DIR, options).await.unwrap();
            let keyspace = db.default_keyspace().unwrap();
            keyspace.put("k", "v").await.unwrap();
            let mut txn = db.begin(TransactionOptions::default());
            txn.put(&keyspace, "own", vec![1; 32 << 10]).unwrap();
            let mut walks = 0;
            let refused = loop {
                let mut cursor = txn.scan(&keyspace, Scan::prefix("k").reverse()).await.unwrap();
                if let Err(error) = cursor.next().await {
                    break error;
                }
                walks += 1;
                assert!(walks < 1_000, "nothing is ever refused");
            };
            assert!(walks > 100, "{walks}");
            assert!(matches!(refused, Error::Invalid(_)), "{refused}");
            assert!(refused.to_string().contains("65536 (option transaction_bytes_max)"), "{refused}");
            assert!(matches!(txn.put(&keyspace, "more", vec![1; 1 << 10]), Err(Error::Invalid(_))));
            txn.commit().await.unwrap();
            assert_eq!(keyspace.get("own").await.unwrap().unwrap().len(), 32 << 10);
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
