//! The rules of storage, one test each, on the simulated disk: crashes at every disk call, failed syncs, full disks.
//!
//! The common script creates a database and a keyspace, commits numbered pairs that must stay together, flushes,
//! compacts and closes. After whatever happened to it a fresh opening must show a prefix of the pairs, whole, with
//! every acknowledged one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast::env::Env;
use holdfast::{
    Db, Durability, Error, KeyspaceOptions, Options, Result, Scan, TransactionOptions, WriteBatch,
};
use holdfast_sim::{Crash, FaultClass, Process, Ratio, SimOptions, Trigger, World};

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

/// Larger and larger, so that a longer run of pairs meets every kind of allocation.
fn value_of(number: u64) -> Vec<u8> {
    vec![number as u8; 300 + 100 * number as usize]
}

/// Commits pair `number`: the same value under one key of each of two keyspaces.
async fn put_pair(db: &Db, number: u64) -> Result<()> {
    let mut batch = WriteBatch::new();
    let value = value_of(number);
    for name in ["default", "second"] {
        batch.put(db.keyspace(name)?.id(), &number.to_be_bytes(), &value)?;
    }
    db.write(batch, Durability::Sync).await.map(drop)
}

/// The script; `acknowledged` counts the pairs whose commit returned.
async fn script(env: Arc<dyn Env>, acknowledged: Arc<AtomicU64>) -> Result<()> {
    let db = Db::open_in(env, "/db", options()).await?;
    work(&db, &acknowledged).await?;
    db.close().await
}

async fn work(db: &Db, acknowledged: &AtomicU64) -> Result<()> {
    if db.keyspace("second").is_err() {
        db.create_keyspace("second", small_keyspace()).await?;
    }
    for number in acknowledged.load(Ordering::Relaxed)..PAIRS {
        put_pair(db, number).await?;
        acknowledged.store(number + 1, Ordering::Relaxed);
        if number == PAIRS / 3 {
            db.flush().await?;
        }
        if number == PAIRS * 2 / 3 {
            db.compact().await?;
        }
    }
    Ok(())
}

/// The script, which after a failure that stops writes checks that reads go on.
async fn script_with_reads(env: Arc<dyn Env>, acknowledged: Arc<AtomicU64>) -> Result<()> {
    let db = Db::open_in(env, "/db", options()).await?;
    let outcome = work(&db, &acknowledged).await;
    if let Err(Error::Stopped(_)) = outcome {
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        assert_eq!(pairs_in(&db).await.expect("reads go on"), acknowledged, "a failed commit is not visible");
        if db.keyspace("second").is_ok() {
            let again = put_pair(&db, acknowledged).await;
            assert!(matches!(again, Err(Error::Stopped(_))), "a second answer is never believed: {again:?}");
        }
    }
    outcome?;
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
        assert_eq!(*value, value_of(at as u64));
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

/// The k-th sync, or write, of the script fails, for every k: what was being written is refused, reads go on, and a
/// reopening after a power loss has all that was acknowledged.
fn failing_call(class: FaultClass, call: u64) -> (bool, bool) {
    let run = holdfast_sim::run(call, move |world: World| async move {
        let process = world.process("db");
        let acknowledged = Arc::new(AtomicU64::new(0));
        process.disk().inject(class, Trigger::Once(call));
        let outcome =
            process.run(script_with_reads(process.env(), acknowledged.clone())).await.expect("alive");
        let fired = process.disk().faults_fired(class) > 0;
        process.disk().clear_faults();
        if call.is_multiple_of(2) {
            process.power_loss()
        } else {
            process.kill()
        }
        process.restart();
        judge(&process, acknowledged.load(Ordering::Relaxed)).await;
        (matches!(outcome, Err(Error::Stopped(_))), fired)
    });
    run.result
}

#[test]
fn after_a_failed_sync_or_write_a_reopening_has_all_that_was_acknowledged() {
    for class in [FaultClass::SyncError, FaultClass::WriteError] {
        let (mut calls, mut stopped) = (0, 0);
        loop {
            let (stops, fired) = failing_call(class, calls + 1);
            stopped += u64::from(stops);
            if !fired {
                break;
            }
            calls += 1;
        }
        assert!(calls > 60, "only {calls} calls failed by {class:?}");
        assert!(stopped > 10, "only {stopped} of {calls} failures by {class:?} stopped the database");
    }
}

/// Short reads and writes are no errors: the rest follows, and nobody notices.
#[test]
fn short_reads_and_writes_change_nothing() {
    for class in [FaultClass::ShortRead, FaultClass::ShortWrite] {
        for seed in 0..8 {
            holdfast_sim::run(seed, move |world: World| async move {
                let process = world.process("db");
                let acknowledged = Arc::new(AtomicU64::new(0));
                process.disk().set_fault_rate(class, Ratio::new(1, 3));
                process
                    .run(script(process.env(), acknowledged.clone()))
                    .await
                    .expect("alive")
                    .expect("no failure");
                assert!(process.disk().faults_fired(class) > 0);
                judge(&process, PAIRS).await;
            });
        }
    }
}

/// Opening on a disk that is full from the k-th allocation on: it works, or says so and leaves everything for later.
#[test]
fn opening_on_a_full_disk_works_or_says_so_and_loses_nothing() {
    let mut refused = 0;
    for call in 1..40 {
        refused += holdfast_sim::run(SimOptions::new(call), move |world: World| async move {
            let process = world.process("db");
            let acknowledged = Arc::new(AtomicU64::new(0));
            process.crash_at(400, Crash::Kill);
            let _ = process.run(script(process.env(), acknowledged.clone())).await;
            process.restart();
            process.disk().inject(FaultClass::NoSpace, Trigger::From(call));
            let env = process.env();
            let least = acknowledged.load(Ordering::Relaxed);
            let opening = process.run(async move {
                match Db::open_in(env, "/db", options()).await {
                    Ok(db) => {
                        assert!(pairs_in(&db).await.expect("reads") >= least);
                        false
                    }
                    Err(Error::DiskFull(_)) => true,
                    Err(error) => panic!("a full disk is DiskFull, not {error}"),
                }
            });
            let refused = opening.await.expect("alive");
            process.disk().clear_faults();
            process.power_loss();
            process.restart();
            judge(&process, least).await;
            u64::from(refused)
        })
        .result;
    }
    assert!((1..39).contains(&refused), "{refused} of the openings were refused");
}

/// What needs room, beside names.
#[derive(Clone, Copy, PartialEq)]
enum NeedsRoom {
    Growth,
    Sync,
    EveryWrite,
}

/// Writes pairs while the disk refuses as `trigger` says, and gives whether a commit met it, and whether anything did.
/// Nothing acknowledged is lost, reads go on, and within a simulated second of relief writes work again by themselves.
fn full_disk(trigger: Trigger, needs: NeedsRoom) -> (bool, bool) {
    let run = holdfast_sim::run(SimOptions::new(7), move |world: World| async move {
        let process = world.process("db");
        let (env, disk) = (process.env(), process.disk());
        disk.set_delayed_allocation(needs == NeedsRoom::Sync);
        disk.set_copy_on_write(needs == NeedsRoom::EveryWrite);
        let run = process.run(async move {
            let db = Db::open_in(env.clone(), "/db", options()).await.expect("there is room");
            db.create_keyspace("second", small_keyspace()).await.expect("there is room");
            disk.inject(FaultClass::NoSpace, trigger);
            let (mut written, mut refused) = (0, false);
            while written < 30 && !refused {
                match put_pair(&db, written).await {
                    Ok(()) => written += 1,
                    Err(Error::DiskFull(_)) => refused = true,
                    // It meets the disk in the sync of its own write.
                    Err(Error::CommitUnknown(_)) if needs != NeedsRoom::Growth => refused = true,
                    Err(error) => panic!("a full disk is DiskFull, not {error}"),
                }
                assert_eq!(pairs_in(&db).await.expect("reads go on"), written);
            }
            let fired = disk.faults_fired(FaultClass::NoSpace) > 0;
            disk.clear_faults();
            env.sleep_until(env.now().after(1_000_000_000)).await;
            put_pair(&db, written).await.expect("writes resume by themselves");
            assert_eq!(pairs_in(&db).await.expect("reads"), written + 1);
            db.flush().await.expect("background work resumes too");
            (written + 1, refused, fired)
        });
        let (least, refused, fired) = run.await.expect("alive");
        process.power_loss();
        process.restart();
        judge(&process, least).await;
        (refused, fired)
    });
    run.result
}

/// The disk is full at the k-th call that needs room, or from it on, for every k that the run makes.
fn full_disk_at_every_call(needs: NeedsRoom) {
    for trigger in [Trigger::From, Trigger::Once] {
        let (mut calls, mut refused) = (0, 0);
        loop {
            let (commit, any) = full_disk(trigger(calls + 1), needs);
            refused += u64::from(commit);
            if !any {
                break;
            }
            calls += 1;
        }
        assert!(calls > 100, "only {calls} allocations were refused");
        let persistent = trigger(1) == Trigger::From(1);
        assert!(refused > 50 || !persistent, "of {calls} full disks only {refused} were met by a commit");
    }
}

#[test]
fn a_full_disk_at_every_allocation_refuses_writes_and_resumes() {
    full_disk_at_every_call(NeedsRoom::Growth);
}

#[test]
fn a_full_disk_where_allocation_is_delayed_refuses_writes_and_resumes() {
    full_disk_at_every_call(NeedsRoom::Sync);
}

#[test]
fn a_full_disk_where_writes_are_copied_refuses_writes_and_resumes() {
    full_disk_at_every_call(NeedsRoom::EveryWrite);
}

/// When the process ends that met a full disk in the sync of a durable write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// When the commit was refused.
    AtOnce,
    /// When the commit was tried again, and was refused again, while the disk is full.
    RefusedAgain,
    /// When there was room again, and another commit was acknowledged in its place.
    Resumed,
}

/// Writes pairs while the disk finds no room in the sync of durable writes, from the k-th such call on. Gives the answer
/// of the first commit that was refused, and how many pairs the next opening finds beyond those acknowledged.
fn refused_in_the_sync(call: u64, ends: Ends) -> Option<(Error, u64)> {
    let run = holdfast_sim::run(SimOptions::new(call), move |world: World| async move {
        let process = world.process("db");
        let (env, disk) = (process.env(), process.disk());
        disk.set_full_in_sync(true);
        let run = process.run(async move {
            let db = Db::open_in(env, "/db", options()).await.expect("there is room");
            db.create_keyspace("second", small_keyspace()).await.expect("there is room");
            disk.inject(FaultClass::NoSpace, Trigger::From(call));
            let mut acknowledged = 0;
            let refused = loop {
                match put_pair(&db, acknowledged).await {
                    Ok(()) if acknowledged == 30 => return (db, acknowledged, None),
                    Ok(()) => acknowledged += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(
                pairs_in(&db).await.expect("reads go on"),
                acknowledged,
                "a refused commit is not visible"
            );
            if ends == Ends::RefusedAgain {
                let again = put_pair(&db, acknowledged).await.expect_err("there is no room");
                assert!(matches!(again, Error::DiskFull(_)), "nothing was written of a later one: {again}");
            }
            if ends == Ends::Resumed {
                disk.clear_faults();
                let default = db.default_keyspace().expect("it is there");
                default.put("resumed", "").await.expect("there is room again");
                default.delete("resumed").await.expect("there is room again");
            }
            (db, acknowledged, Some(refused))
        });
        let (db, acknowledged, refused) = run.await.expect("alive");
        process.disk().clear_faults();
        if call.is_multiple_of(2) {
            process.kill()
        } else {
            process.power_loss()
        }
        drop(db);
        process.restart();
        let found = judge(&process, acknowledged).await;
        refused.map(|refused| (refused, found - acknowledged))
    });
    run.result
}

/// `DiskFull`: it never appears. `CommitUnknown`: it may appear, whole, unless another commit succeeded before.
#[test]
fn a_commit_that_a_full_disk_refused_appears_only_if_it_is_said_to_be_unknown() {
    for ends in [Ends::AtOnce, Ends::RefusedAgain, Ends::Resumed] {
        let (mut certain, mut unknown, mut appeared, mut calls) = (0, 0, 0, 0);
        while let Some((refused, found)) = refused_in_the_sync(calls + 1, ends) {
            calls += 1;
            match refused {
                Error::DiskFull(_) => {
                    assert_eq!(found, 0, "call {calls}: it never appears");
                    certain += 1;
                }
                Error::CommitUnknown(_) => {
                    assert!(found <= u64::from(ends != Ends::Resumed), "call {calls}: {found} appeared");
                    unknown += 1;
                    appeared += found;
                }
                error => panic!("call {calls}: neither full nor unknown: {error}"),
            }
        }
        assert!(calls > 20, "only {calls} calls were refused");
        assert!(certain > 1 && unknown > 1, "of {calls} refusals {certain} were certain, {unknown} were not");
        assert!(appeared > 1 || ends == Ends::Resumed, "only {appeared} of {unknown} appeared");
    }
}

/// Eight committers meet a full disk with groups that outgrow the conflict window, again and again. Once there is room
/// the next transaction commits: a commit that never was conflicts with nobody.
#[test]
fn after_a_full_disk_transactions_commit_again() {
    holdfast_sim::run(3, |world: World| async move {
        let process = world.process("db");
        let options = Options {
            conflict_window_bytes: 64 << 10,
            memory_limit_bytes: 64 << 20,
            memtable_bytes: 8 << 20,
            ..options()
        };
        let env = process.env();
        let db = process.run(Db::open_in(env, "/db", options)).await.expect("alive").expect("there is room");
        process.disk().inject(FaultClass::NoSpace, Trigger::From(1));
        let committers: Vec<_> = (0..8u64)
            .map(|writer| {
                let db = db.clone();
                process.spawn("committer", async move {
                    let keyspace = db.default_keyspace().expect("it is there");
                    let mut refused = 0;
                    for number in 0..20u64 {
                        let mut txn = db.begin(TransactionOptions::default());
                        let key = [writer.to_be_bytes(), number.to_be_bytes()].concat();
                        txn.put(&keyspace, key, vec![writer as u8; 40_000]).expect("a small transaction");
                        match txn.commit().await {
                            Ok(_) => {}
                            Err(Error::DiskFull(_)) => refused += 1,
                            // The members of one group are more than the window holds.
                            Err(Error::Conflict(_)) => {}
                            Err(error) => panic!("a full disk is DiskFull, not {error}"),
                        }
                    }
                    refused
                })
            })
            .collect();
        let mut refused = 0;
        for committer in committers {
            refused += committer.await.expect("alive");
        }
        assert!(refused > 20, "{refused} commits were refused");
        process.disk().clear_faults();
        world.sleep(1_000_000_000).await;
        let committing = process.run(async move {
            let keyspace = db.default_keyspace().expect("it is there");
            for number in 0..50u64 {
                let mut txn = db.begin(TransactionOptions::default());
                txn.put(&keyspace, number.to_be_bytes(), "there is room").expect("a small transaction");
                txn.commit().await.expect("nobody else commits");
            }
        });
        committing.await.expect("alive");
    });
}
