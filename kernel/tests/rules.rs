//! The rules of storage, one test each, on the simulated disk: crashes at every disk call, and again in the recovery.
//!
//! The common script creates a database and a keyspace, commits numbered pairs that must stay together, flushes,
//! compacts and closes. After whatever happened to it a fresh opening must show a prefix of the pairs, whole, with
//! every acknowledged one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast::env::Env;
use holdfast::{Db, Durability, KeyspaceOptions, Options, Result, Scan, WriteBatch};
use holdfast_sim::{Crash, Process};

const PAIRS: u64 = 12;

fn options() -> Options {
    Options {
        memory_limit_bytes: 8 << 20,
        memtable_bytes: 4 << 10,
        log_segment_bytes_max: 64 << 10,
        log_bytes_max: 128 << 10,
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn small_keyspace() -> KeyspaceOptions {
    KeyspaceOptions {
        block_bytes: 256,
        table_bytes: 16 << 10,
        level0_tables: 1,
        level1_bytes: 16 << 10,
        level_ratio: 2,
        ..KeyspaceOptions::default()
    }
}

/// Commits pair `number`: the same value under one key of each of two keyspaces.
async fn put_pair(db: &Db, number: u64) -> Result<()> {
    let mut batch = WriteBatch::new();
    let value = vec![number as u8; 300];
    for name in ["default", "second"] {
        batch.put(db.keyspace(name)?.id(), &number.to_be_bytes(), &value)?;
    }
    db.write(batch, Durability::Sync).await.map(drop)
}

/// The script; `acknowledged` counts the pairs whose commit returned.
async fn script(env: Arc<dyn Env>, acknowledged: Arc<AtomicU64>) -> Result<()> {
    let db = Db::open_in(env, "/db", options()).await?;
    if db.keyspace("second").is_err() {
        db.create_keyspace("second", small_keyspace()).await?;
    }
    for number in acknowledged.load(Ordering::Relaxed)..PAIRS {
        put_pair(&db, number).await?;
        acknowledged.store(number + 1, Ordering::Relaxed);
        if number == PAIRS / 3 {
            db.flush().await?;
        }
        if number == PAIRS * 2 / 3 {
            db.compact().await?;
        }
    }
    db.close().await
}

/// What a fresh opening shows: the number of pairs, after checking that they are whole and a prefix.
async fn pairs_in(db: &Db) -> Result<u64> {
    let first = db.default_keyspace()?.scan(Scan::all()).await?.collect().await?;
    let second = match db.keyspace("second") {
        Ok(second) => second.scan(Scan::all()).await?.collect().await?,
        Err(_) => Vec::new(),
    };
    assert_eq!(first, second, "a commit over two keyspaces is whole or absent");
    for (at, (key, value)) in first.iter().enumerate() {
        assert_eq!(*key, (at as u64).to_be_bytes(), "what survives is a prefix");
        assert_eq!(*value, vec![at as u8; 300]);
    }
    Ok(first.len() as u64)
}

async fn judge(process: &Process, least: u64) -> u64 {
    let env = process.env();
    let judged = process.run(async move {
        let db = Db::open_in(env, "/db", options()).await.expect("recovery");
        let pairs = pairs_in(&db).await.expect("reads");
        put_pair_if_possible(&db, pairs).await;
        let after = pairs_in(&db).await.expect("reads");
        db.close().await.expect("closing");
        (pairs, after)
    });
    let (pairs, after) = judged.await.expect("nobody killed it");
    assert!(pairs >= least, "{least} pairs were acknowledged, {pairs} survived");
    assert!(after >= pairs);
    pairs
}

/// Writes go on after a recovery.
async fn put_pair_if_possible(db: &Db, number: u64) {
    if db.keyspace("second").is_ok() {
        put_pair(db, number).await.expect("writes go on after a recovery");
    }
}

/// Disk calls of the whole script without a crash.
fn calls_of_the_script(seed: u64) -> u64 {
    holdfast_sim::run(seed, |world| async move {
        let process = world.process("db");
        let acknowledged = Arc::new(AtomicU64::new(0));
        process.run(script(process.env(), acknowledged.clone())).await.expect("alive").expect("no fault");
        assert_eq!(acknowledged.load(Ordering::Relaxed), PAIRS);
        process.io_calls()
    })
    .result
}

/// One run that crashes at `call`, and again at `again` calls into the recovery.
fn crash(seed: u64, call: u64, crash: Crash, again: Option<u64>) {
    holdfast_sim::run(seed, move |world| async move {
        let process = world.process("db");
        let acknowledged = Arc::new(AtomicU64::new(0));
        process.crash_at(call, crash);
        let _ = process.run(script(process.env(), acknowledged.clone())).await;
        process.restart();
        if let Some(again) = again {
            process.crash_at(process.io_calls() + again, crash);
            let _ = process.run(Db::open_in(process.env(), "/db", options())).await;
            process.restart();
        }
        judge(&process, acknowledged.load(Ordering::Relaxed)).await;
    });
}

#[test]
fn a_crash_at_every_disk_call_keeps_what_was_acknowledged() {
    let calls = calls_of_the_script(1);
    assert!(calls > 100, "{calls} calls are too few to be worth it");
    for call in 1..=calls {
        crash(1, call, Crash::PowerLoss, None);
        crash(1, call, Crash::Kill, None);
    }
}

#[test]
fn a_crash_in_the_recovery_from_a_crash_keeps_what_was_acknowledged() {
    let calls = calls_of_the_script(1);
    for call in (1..=calls).step_by(7) {
        for again in (1..60).step_by(5) {
            crash(1, call, if again % 2 == 0 { Crash::Kill } else { Crash::PowerLoss }, Some(again));
        }
    }
}
