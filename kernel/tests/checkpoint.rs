//! Checkpoints: exactly one commit's state, whatever is written meanwhile, and nothing half-made is ever opened.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::settings::{options, tiny};
use holdfast::env::Env;
use holdfast::env::linux::{LinuxEnv, block_on};
use holdfast::{CheckpointInfo, Db, Error, Isolation, Options, Result, Scan, Seq, TransactionOptions};
use holdfast_sim::{Crash, FaultClass, Process, SimDisk, Trigger};

const TARGET: &str = "/copy";
const DIR: &str = "/db";

type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

async fn content(db: &Db) -> Result<Content> {
    let mut all = Content::new();
    for keyspace in db.keyspaces()? {
        let mut cursor = db.keyspace(&keyspace.name)?.scan(Scan::all()).await?;
        all.insert(keyspace.name, cursor.collect().await?.into_iter().collect());
    }
    Ok(all)
}

/// What commit `n` does: a number in two keyspaces, an old one removed, now and then a whole range.
async fn commit(db: &Db, n: u64) -> Result<Seq> {
    let (a, b) = (db.keyspace("a")?, db.keyspace("b")?);
    let options = TransactionOptions { isolation: Isolation::Snapshot, ..TransactionOptions::default() };
    let mut txn = db.begin(options);
    txn.put(&a, format!("{:06}", n % 300), n.to_le_bytes())?;
    txn.put(&b, "newest", n.to_le_bytes())?;
    txn.put(&b, format!("{n:06}"), vec![n as u8; 60])?;
    if n.is_multiple_of(5) {
        txn.delete(&a, format!("{:06}", (n + 7) % 300))?;
    }
    if n.is_multiple_of(40) {
        txn.delete_range(&b, format!("{:06}", n - 40), format!("{:06}", n - 10))?;
    }
    txn.commit().await
}

/// The same in plain maps.
fn model(commits: u64) -> Content {
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    for n in 1..=commits {
        let value = n.to_le_bytes().to_vec();
        a.insert(format!("{:06}", n % 300).into_bytes(), value.clone());
        b.insert(b"newest".to_vec(), value);
        b.insert(format!("{n:06}").into_bytes(), vec![n as u8; 60]);
        if n.is_multiple_of(5) {
            a.remove(format!("{:06}", (n + 7) % 300).as_bytes());
        }
        if n.is_multiple_of(40) {
            let range = format!("{:06}", n - 40).into_bytes()..format!("{:06}", n - 10).into_bytes();
            b.retain(|key, _| !range.contains(key));
        }
    }
    Content::from([("a".into(), a), ("b".into(), b), ("default".into(), BTreeMap::new())])
}

async fn create(env: Arc<dyn Env>, dir: &Path) -> Result<Db> {
    let db = Db::open_in(env, dir, options()).await?;
    db.create_keyspace("a", tiny()).await?;
    db.create_keyspace("b", tiny()).await?;
    Ok(db)
}

fn existing() -> Options {
    Options { create_if_missing: false, ..options() }
}

#[test]
fn a_checkpoint_holds_one_commit_while_writers_go_on() {
    for seed in 0..6 {
        let outcome = holdfast_sim::run(seed, |world| async move {
            let process = world.process("db");
            let env = process.env();
            process.run(busy_checkpoints(env)).await.unwrap().unwrap()
        });
        let held_memory = outcome.result.iter().any(|info| info.bytes_written > 0);
        let held_tables = outcome.result.iter().any(|info| info.bytes > info.bytes_written);
        assert!(held_memory && held_tables, "{:?}", outcome.result);
    }
}

async fn busy_checkpoints(env: Arc<dyn Env>) -> Result<Vec<CheckpointInfo>> {
    let db = create(env.clone(), Path::new(DIR)).await?;
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(0u64));
    let writer = {
        let (db, done, stop, acknowledged) = (db.clone(), done.clone(), stop.clone(), acknowledged.clone());
        async move {
            let mut n = 0;
            while !stop.load(Ordering::Acquire) {
                n += 1;
                let seq = commit(&db, n).await.unwrap();
                assert_eq!(seq, Seq::new(n), "one commit, one sequence");
                *acknowledged.lock().unwrap() = n;
            }
            done.store(true, Ordering::Release);
        }
    };
    let task = env.spawn("writer", holdfast::env::TaskClass::Foreground, Box::pin(writer)).unwrap();
    let mut made = Vec::new();
    for round in 0..8u64 {
        env.sleep_until(env.now().after(1_000_000 * (1 + round * 3))).await;
        let target = format!("{TARGET}{round}");
        let before = *acknowledged.lock().unwrap();
        let info = db.checkpoint(&target).await?;
        assert!(info.seq >= Seq::new(before), "what was acknowledged before is in it");
        let copy = Db::open_in(env.clone(), &target, existing()).await?;
        assert_eq!(copy.last_seq(), info.seq);
        assert_eq!(content(&copy).await?, model(info.seq.get()), "checkpoint at {}", info.seq);
        // It is a database of its own.
        copy.default_keyspace()?.put("own", "1").await?;
        copy.compact().await?;
        assert!(copy.verify().await?.is_good());
        copy.close().await?;
        made.push(info);
    }
    stop.store(true, Ordering::Release);
    while !done.load(Ordering::Acquire) {
        env.sleep_until(env.now().after(1_000_000)).await;
    }
    drop(task);
    let last = *acknowledged.lock().unwrap();
    assert_eq!(content(&db).await?, model(last), "the original did not notice");
    db.close().await?;
    Ok(made)
}

/// A database with tables in several levels and something in memory.
async fn prepare(process: &Process, commits: u64) {
    let env = process.env();
    let made = process.run(async move {
        let db = create(env, Path::new(DIR)).await?;
        for n in 1..=commits {
            commit(&db, n).await?;
        }
        db.wait_idle().await?;
        db.close().await
    });
    made.await.unwrap().unwrap();
}

/// What stands in the target: a whole checkpoint with that many commits, or something that is refused.
async fn judge_target(env: Arc<dyn Env>) -> Result<Option<u64>> {
    match Db::open_in(env, TARGET, existing()).await {
        Ok(copy) => {
            let commits = copy.last_seq().get();
            assert_eq!(content(&copy).await?, model(commits));
            copy.close().await?;
            Ok(Some(commits))
        }
        Err(Error::NotFound { .. }) => Ok(None),
        Err(Error::Invalid(what)) => {
            assert!(what.contains("unfinished checkpoint"), "{what}");
            Ok(None)
        }
        Err(other) => panic!("an interrupted checkpoint must say so, and says {other}"),
    }
}

async fn empty_target(env: &dyn Env) -> Result<()> {
    let Ok(entries) = env.disk().list(Path::new(TARGET)).await else { return Ok(()) };
    for entry in entries {
        env.disk().remove(&Path::new(TARGET).join(entry.name)).await?;
    }
    Ok(())
}

#[test]
fn a_crash_at_any_call_leaves_a_whole_checkpoint_or_none() {
    for crash in [Crash::Kill, Crash::PowerLoss] {
        let outcome = holdfast_sim::run(3, move |world| async move {
            let process = world.process("db");
            prepare(&process, 90).await;
            let image = process.disk().snapshot();
            let (mut whole, mut none) = (0u64, 0u64);
            for call in 1.. {
                process.kill();
                process.disk().restore(&image);
                process.restart();
                let env = process.env();
                let opened = process.run({
                    let env = env.clone();
                    async move {
                        let db = Db::open_in(env, DIR, existing()).await?;
                        for n in 91..=100 {
                            commit(&db, n).await?;
                        }
                        db.wait_idle().await?;
                        Ok::<_, Error>(db)
                    }
                });
                let db = opened.await.unwrap().unwrap();
                process.crash_at(process.io_calls() + call, crash);
                let made = process.run(async move {
                    let made = db.checkpoint(TARGET).await;
                    (made, db)
                });
                let finished = match made.await {
                    Ok((made, db)) => {
                        process.cancel_crash();
                        assert_eq!(made.unwrap().seq, Seq::new(100));
                        drop(db);
                        true
                    }
                    Err(_) => false,
                };
                process.restart();
                let env = process.env();
                let judged = process.run(async move {
                    let db = Db::open_in(env.clone(), DIR, existing()).await?;
                    assert_eq!(content(&db).await?, model(100), "the original keeps everything");
                    let found = judge_target(env).await?;
                    db.close().await?;
                    Ok::<_, Error>(found)
                });
                match judged.await.unwrap().unwrap() {
                    Some(commits) => {
                        assert_eq!(commits, 100);
                        whole += 1;
                    }
                    None => {
                        assert!(!finished, "a checkpoint that was acknowledged is there");
                        none += 1;
                    }
                }
                if finished {
                    return (call, whole, none);
                }
            }
            unreachable!("some call is the last")
        });
        let (calls, whole, none) = outcome.result;
        assert!(calls > 30 && whole >= 1 && none > 20, "{calls} calls, {whole} whole, {none} none");
    }
}

#[test]
fn a_failure_at_any_call_removes_what_was_made() {
    for class in [FaultClass::NoSpace, FaultClass::WriteError, FaultClass::SyncError] {
        let outcome = holdfast_sim::run(5, move |world| async move {
            let process = world.process("db");
            prepare(&process, 90).await;
            let image = process.disk().snapshot();
            let mut failures = 0u64;
            for nth in 1..200 {
                process.kill();
                process.disk().restore(&image);
                process.restart();
                let (env, disk) = (process.env(), process.disk());
                let run = process.run(fail_once(env, disk, class, nth));
                match run.await.unwrap().unwrap() {
                    Some(failed) => failures += u64::from(failed),
                    None => return failures,
                }
            }
            unreachable!("a checkpoint ends at last")
        });
        assert!(outcome.result >= 3, "{class:?}: {}", outcome.result);
    }
}

/// A checkpoint with a fault at its `nth` call: whether it failed, `None` if it had no such call.
async fn fail_once(env: Arc<dyn Env>, disk: SimDisk, class: FaultClass, nth: u64) -> Result<Option<bool>> {
    let db = Db::open_in(env.clone(), DIR, existing()).await?;
    for n in 91..=100 {
        commit(&db, n).await?;
    }
    db.wait_idle().await?;
    // The log is sealed, segments are made: nothing but the checkpoint works.
    env.sleep_until(env.now().after(500_000_000)).await;
    let before = disk.faults_fired(class);
    disk.inject(class, Trigger::Once(nth));
    let made = db.checkpoint(TARGET).await;
    disk.clear_faults();
    let failed = match made {
        Ok(info) => {
            assert_eq!(info.seq, Seq::new(100));
            assert_eq!(judge_target(env.clone()).await?, Some(100));
            false
        }
        // Whether the last step was done is unknown, and nothing was removed.
        Err(Error::Stopped(_)) => {
            judge_target(env.clone()).await?;
            true
        }
        Err(error) => {
            assert!(matches!(error, Error::DiskFull(_) | Error::Io(_)), "{error}");
            assert_eq!(judge_target(env.clone()).await?, None);
            let left = env.disk().list(Path::new(TARGET)).await.unwrap_or_default();
            assert!(left.is_empty() || class == FaultClass::SyncError, "{left:?}");
            true
        }
    };
    assert_eq!(db.stopped(), None, "nothing of this stops the original");
    assert_eq!(content(&db).await?, model(100));
    commit(&db, 101).await?;
    db.close().await?;
    Ok((disk.faults_fired(class) > before).then_some(failed))
}

#[test]
fn a_dropped_checkpoint_is_refused_until_it_is_removed() {
    holdfast_sim::run(9, |world| async move {
        let process = world.process("db");
        prepare(&process, 60).await;
        let env = process.env();
        let run = process.run(async move {
            let db = Db::open_in(env.clone(), DIR, existing()).await?;
            commit(&db, 61).await?;
            let mut refused = 0;
            for after_us in (20..3000).step_by(130) {
                let deadline = env.sleep_until(env.now().after(after_us * 1000));
                let mut making = Box::pin(db.checkpoint(TARGET));
                let mut deadline = std::pin::pin!(deadline);
                let made = std::future::poll_fn(|context| match making.as_mut().poll(context) {
                    std::task::Poll::Ready(made) => std::task::Poll::Ready(Some(made)),
                    std::task::Poll::Pending => deadline.as_mut().poll(context).map(|()| None),
                });
                let made = made.await;
                drop(making);
                match made {
                    Some(made) => assert_eq!(made?.seq, Seq::new(61)),
                    None => refused += u64::from(judge_target(env.clone()).await?.is_none()),
                }
                if env.disk().list(Path::new(TARGET)).await.is_ok_and(|found| !found.is_empty()) {
                    let again = db.checkpoint(TARGET).await;
                    assert!(matches!(again, Err(Error::Invalid(_))), "not empty: {again:?}");
                }
                empty_target(&*env).await?;
            }
            assert!(refused >= 3, "{refused}");
            db.close().await
        });
        run.await.unwrap().unwrap();
    });
}

/// Two copies begun `apart_ns` apart into one directory, by one database or by two.
async fn make_two(env: Arc<dyn Env>, backup: bool, apart_ns: u64) -> Result<[Result<CheckpointInfo>; 2]> {
    let make = move |db: Db| async move {
        if backup { db.backup(TARGET).await } else { db.checkpoint(TARGET).await }
    };
    let db = Db::open_in(env.clone(), DIR, existing()).await?;
    commit(&db, 91).await?;
    let (answer, answered) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
    let second = {
        let (db, env, answer, answered) = (db.clone(), env.clone(), answer.clone(), answered.clone());
        async move {
            env.sleep_until(env.now().after(apart_ns)).await;
            let made = make(db).await;
            *answer.lock().unwrap() = Some(made);
            answered.store(true, Ordering::Release);
        }
    };
    let task = env.spawn("second", holdfast::env::TaskClass::Foreground, Box::pin(second)).unwrap();
    let first = make(db.clone()).await;
    while !answered.load(Ordering::Acquire) {
        env.sleep_until(env.now().after(1_000_000)).await;
    }
    drop(task);
    let second = answer.lock().unwrap().take().unwrap();
    db.close().await?;
    Ok([first, second])
}

#[test]
fn of_two_copies_into_one_directory_one_is_whole_and_the_other_refused() {
    let mut contested = 0;
    for (backup, seed) in [true, false].into_iter().flat_map(|backup| (0..40).map(move |seed| (backup, seed)))
    {
        let outcome = holdfast_sim::run(seed, move |world| async move {
            let process = world.process("db");
            prepare(&process, 90).await;
            let env = process.env();
            let run = process.run(async move {
                let made = make_two(env.clone(), backup, seed * 5_000).await?;
                assert_eq!(judge_target(env.clone()).await?, Some(91), "seed {seed}: {made:?}");
                let left: Vec<_> = env.disk().list(Path::new(TARGET)).await?;
                assert!(!left.iter().any(|entry| entry.name == "COPYING"), "seed {seed}: {left:?}");
                Ok::<_, Error>(made)
            });
            run.await.unwrap().unwrap()
        });
        let (whole, refused): (Vec<_>, Vec<_>) = outcome.result.into_iter().partition(Result::is_ok);
        assert_eq!((whole.len(), refused.len()), (1, 1), "seed {seed}: {whole:?} {refused:?}");
        for refusal in refused {
            let Err(Error::Invalid(what)) = refusal else { panic!("seed {seed}: {refusal:?}") };
            contested += u64::from(what.contains("another checkpoint or backup is being made"));
            assert!(what.contains(TARGET), "{what}");
        }
    }
    assert!(contested > 3, "{contested} met before CURRENT was there");
}

#[test]
fn a_directory_that_another_copy_has_taken_is_left_alone() {
    holdfast_sim::run(11, |world| async move {
        let process = world.process("db");
        prepare(&process, 60).await;
        let (env, disk) = (process.env(), process.disk());
        disk.create_dir_all(TARGET);
        disk.write_file(format!("{TARGET}/COPYING"), b"");
        let run = process.run(async move {
            let db = Db::open_in(env.clone(), DIR, existing()).await?;
            for made in [db.checkpoint(TARGET).await, db.backup(TARGET).await] {
                assert!(matches!(&made, Err(Error::Invalid(what)) if what.contains("COPYING")), "{made:?}");
            }
            for opened in [
                Db::open_in(env.clone(), TARGET, options()).await.map(drop),
                Db::open_read_only_in(env.clone(), TARGET, existing()).await.map(drop),
            ] {
                let says = |what: &str| what.contains("unfinished checkpoint or backup");
                assert!(matches!(&opened, Err(Error::Invalid(what)) if says(what)), "{opened:?}");
            }
            db.close().await
        });
        run.await.unwrap().unwrap();
        let left: Vec<_> = disk.list(TARGET).into_iter().map(|entry| entry.name).collect();
        assert_eq!(left, ["COPYING"]);
    });
}

/// The directory is emptied, and a whole database put there, while a copy is made in it: one with the same tables, so that
/// the copy fails at one of them, or one without any, so that it comes to its last step.
#[test]
fn a_copy_whose_directory_was_taken_from_it_touches_nothing_there() {
    for (backup, fresh) in [(true, false), (false, false), (true, true), (false, true)] {
        let outcome = holdfast_sim::run(12, move |world| async move {
            let process = world.process("db");
            prepare(&process, 90).await;
            let (env, disk) = (process.env(), process.disk());
            let made = process.run(async move {
                let db = Db::open_in(env.clone(), DIR, existing()).await?;
                match fresh {
                    true => create(env, Path::new("/other")).await?.close().await?,
                    false => db.checkpoint("/other").await.map(drop)?,
                }
                Ok::<_, Error>(db)
            });
            let db = made.await.unwrap().unwrap();
            disk.create_dir_all(TARGET);
            let copying = process.spawn("copy", async move {
                if backup { db.backup(TARGET).await } else { db.checkpoint(TARGET).await }
            });
            while disk.list(TARGET).iter().all(|entry| !entry.name.ends_with(".table")) {
                world.sleep(10_000).await;
            }
            for entry in disk.list(TARGET) {
                disk.remove_file(format!("{TARGET}/{}", entry.name));
            }
            for entry in disk.list("/other") {
                let bytes = disk.read_file(format!("/other/{}", entry.name));
                disk.write_file(format!("{TARGET}/{}", entry.name), &bytes);
            }
            let refused = copying.await.unwrap();
            let env = process.env();
            let judged = process.run(async move { judge_target(env).await });
            (refused, judged.await.unwrap())
        });
        let (refused, judged) = outcome.result;
        let right = |error: &Error| !fresh || error.to_string().contains("somebody else has changed");
        assert!(refused.as_ref().is_err_and(right), "{refused:?}");
        assert_eq!(judged.unwrap(), Some(if fresh { 0 } else { 90 }), "{refused:?}");
    }
}

#[test]
fn retained_commits_stay_readable_in_the_checkpoint() {
    holdfast_sim::run(2, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let run = process.run(async move {
            let options = Options { retain_commits: 30, ..options() };
            let db = Db::open_in(env.clone(), DIR, options.clone()).await?;
            let keyspace = db.create_keyspace("a", tiny()).await?;
            for n in 1..=200u64 {
                keyspace.put(format!("{:03}", n % 7), n.to_le_bytes()).await?;
                if n % 50 == 0 {
                    db.compact().await?;
                }
            }
            db.checkpoint(TARGET).await?;
            let copy = Db::open_in(env, TARGET, options).await?;
            let keyspace = copy.keyspace("a")?;
            for seq in 170..=200u64 {
                let snapshot = copy.at(Seq::new(seq))?;
                for key in 0..7u64 {
                    let newest = seq - (seq + 7 - key) % 7;
                    let value = snapshot.get(&keyspace, format!("{key:03}")).await?.unwrap();
                    assert_eq!(value[..], newest.to_le_bytes(), "key {key} at {seq}");
                }
            }
            assert!(matches!(copy.at(Seq::new(100)), Err(Error::TooOld { .. })));
            copy.close().await?;
            db.close().await
        });
        run.await.unwrap().unwrap();
    });
}

#[test]
fn on_a_real_disk_tables_are_shared_or_copied() {
    let base = std::env::temp_dir().join(format!("holdfast-checkpoint-{}", std::process::id()));
    let far = Path::new("/dev/shm").join(format!("holdfast-checkpoint-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&base);
    std::fs::create_dir_all(&base).unwrap();
    block_on(async {
        let env = LinuxEnv::new();
        let db = create(env.clone(), &base.join("db")).await.unwrap();
        for n in 1..=150 {
            commit(&db, n).await.unwrap();
        }
        db.wait_idle().await.unwrap();
        let near = db.checkpoint(base.join("near")).await.unwrap();
        assert!(near.tables > 0 && near.bytes_written < near.bytes, "{near:?}");
        commit(&db, 151).await.unwrap();
        if std::fs::create_dir(&far).is_ok() {
            let copied = db.checkpoint(&far).await.unwrap();
            assert_eq!(copied.seq, Seq::new(151));
            let copy = Db::open(&far, existing()).await.unwrap();
            assert_eq!(content(&copy).await.unwrap(), model(151));
            copy.close().await.unwrap();
            std::fs::remove_dir_all(&far).unwrap();
        }
        let refused = db.checkpoint(base.join("db")).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
        let refused = db.checkpoint(base.join("no/such/parent")).await;
        assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");
        db.compact().await.unwrap();
        db.close().await.unwrap();
        let copy = Db::open(base.join("near"), existing()).await.unwrap();
        assert_eq!(content(&copy).await.unwrap(), model(150), "the original's compaction takes nothing away");
        copy.close().await.unwrap();
    });
    std::fs::remove_dir_all(&base).unwrap();
}
