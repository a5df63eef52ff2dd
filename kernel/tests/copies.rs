//! What is true of every copy, be it a checkpoint, a backup, or a backup beside another process's writer: it is durable
//! when it is acknowledged, holds nothing that a crash takes from the original, and counts on where the original was.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::flaky::Flaky;
use crate::support::settings::{self, tiny};
use holdfast::env::Env;
use holdfast::manifest::{Found, Loaded, load};
use holdfast::{CheckpointInfo, Db, Durability, Error, KeyspaceId, Options, Result, Scan, Seq, WriteBatch};
use holdfast_sim::{FaultClass, Process, Trigger};

const DIR: &str = "/db";
const TARGET: &str = "/copies/one";
/// Past commits that are kept.
const RETAINED: u64 = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Checkpoint,
    Backup,
    Beside,
}

const KINDS: [Kind; 3] = [Kind::Checkpoint, Kind::Backup, Kind::Beside];

fn options() -> Options {
    Options { retain_commits: RETAINED, ..settings::options() }
}

fn existing() -> Options {
    Options { create_if_missing: false, ..options() }
}

async fn copy(env: Arc<dyn Env>, db: &Db, kind: Kind) -> Result<CheckpointInfo> {
    match kind {
        Kind::Checkpoint => db.checkpoint(TARGET).await,
        Kind::Backup => db.backup(TARGET).await,
        Kind::Beside => Db::open_read_only_in(env, DIR, existing()).await?.backup(TARGET).await,
    }
}

async fn put(db: &Db, n: u64, durability: Durability) -> Result<Seq> {
    let keyspace = db.keyspace("numbers")?.id();
    let mut batch = WriteBatch::new();
    batch.put(keyspace, b"newest", &n.to_be_bytes())?;
    batch.put(keyspace, &n.to_be_bytes(), &[n as u8; 100])?;
    db.write(batch, durability).await
}

/// A database of 300 commits in several tables, and the directory for copies of it.
async fn create(process: &Process) -> Db {
    process.disk().create_dir_all("/copies");
    let env = process.env();
    let made = process.run(async move {
        let db = Db::open_in(env, DIR, options()).await?;
        db.create_keyspace("numbers", tiny()).await?;
        for n in 1..=300 {
            assert_eq!(put(&db, n, Durability::Sync).await?, Seq::new(n));
        }
        db.wait_idle().await?;
        Ok::<_, Error>(db)
    });
    made.await.unwrap().unwrap()
}

/// Every commit up to the newest is there, whole.
async fn check(db: &Db) -> Result<u64> {
    let newest = db.last_seq().get();
    let keyspace = db.keyspace("numbers")?;
    assert_eq!(keyspace.get("newest").await?.unwrap()[..], newest.to_be_bytes());
    let all = keyspace.scan(Scan::prefix([0])).await?.collect().await?;
    assert!(all.iter().map(|(key, _)| &key[..]).eq((1..=newest).map(u64::to_be_bytes)), "{newest}");
    Ok(newest)
}

#[test]
fn the_power_may_go_the_moment_a_copy_is_acknowledged() {
    let mut lost = 0;
    for (kind, seed) in KINDS.into_iter().flat_map(|kind| (0..12).map(move |seed| (kind, seed))) {
        let outcome = holdfast_sim::run(seed, move |world| async move {
            let process = world.process("db");
            let db = create(&process).await;
            let env = process.env();
            let copied = process.run(async move {
                for n in 301..=340 {
                    put(&db, n, [Durability::Buffered, Durability::Flush][n as usize % 2]).await?;
                }
                let info = copy(env, &db, kind).await?;
                put(&db, 341, Durability::Buffered).await?;
                Ok::<_, Error>((info, db))
            });
            let (info, db) = copied.await.unwrap().unwrap();
            process.power_loss();
            process.restart();
            drop(db);
            let env = process.env();
            let judged = process.run(async move {
                let copy = Db::open_in(env.clone(), TARGET, existing()).await?;
                assert_eq!(check(&copy).await?, info.seq.get(), "{kind:?}, seed {seed}");
                copy.close().await?;
                check(&Db::open_in(env, DIR, existing()).await?).await
            });
            let left = judged.await.unwrap().unwrap();
            (info.seq.get(), left)
        });
        let (copied, left) = outcome.result;
        // What a look shows is what could be read: see the header of `checkpoint`.
        assert!(
            left >= copied || kind == Kind::Beside,
            "{kind:?}, seed {seed}: {copied} copied, {left} left"
        );
        assert!(
            copied == 340 || kind == Kind::Beside && copied >= 300,
            "{kind:?}, seed {seed}: {copied} copied"
        );
        lost += 341 - left;
    }
    assert!(lost > 12, "{lost} commits were lost");
}

#[test]
fn the_power_may_go_the_moment_a_copy_has_failed() {
    for (kind, seed) in KINDS.into_iter().flat_map(|kind| (0..25).map(move |seed| (kind, seed))) {
        holdfast_sim::run(seed, move |world| async move {
            let process = world.process("db");
            let db = create(&process).await;
            let (env, disk) = (process.env(), process.disk());
            let failed = process.run(async move {
                // Every table stands in the target and is durable, its name too.
                disk.inject_on(FaultClass::NoSpace, ".manifest", Trigger::Once(1));
                let failed = copy(env, &db, kind).await;
                disk.clear_faults();
                (failed, db)
            });
            let (failed, db) = failed.await.unwrap();
            assert!(matches!(failed, Err(Error::DiskFull(_))), "{kind:?}: {failed:?}");
            assert!(process.disk().list(TARGET).is_empty());
            process.power_loss();
            process.restart();
            drop(db);
            let (env, disk) = (process.env(), process.disk());
            let opened = process.run(async move { Db::open_in(env, TARGET, existing()).await.map(drop) });
            let left: Vec<_> = disk.list(TARGET).into_iter().map(|entry| entry.name).collect();
            match opened.await.unwrap() {
                Err(Error::NotFound { .. }) => assert_eq!(left, [""; 0]),
                Err(Error::Invalid(what)) => {
                    assert!(what.contains("unfinished checkpoint or backup"), "{what}")
                }
                other => panic!("{kind:?}, seed {seed}: {other:?}, {left:?}"),
            }
        });
    }
}

async fn manifest(env: &dyn Env, dir: &str) -> Result<Loaded> {
    match load(env, Path::new(dir)).await? {
        Found::Database(loaded) => Ok(loaded),
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_times_and_horizon_go_on_in_a_copy() {
    for kind in KINDS {
        holdfast_sim::run(7, move |world| async move {
            let process = world.process("db");
            let db = create(&process).await;
            // The clock of the copy's machine is behind.
            process.set_wall_offset_us(3_600_000_000);
            let env = process.env();
            let copied = process.run(async move {
                let gone = db.create_keyspace("dropped", tiny()).await?;
                db.drop_keyspace(&gone).await?;
                let dropped = gone.id();
                db.compact().await?;
                let written = env.wall_now();
                put(&db, 301, Durability::Sync).await?;
                let oldest = match db.at(Seq::new(1)).map(drop) {
                    Err(Error::TooOld { oldest, .. }) => oldest,
                    other => panic!("it was compacted: {other:?}"),
                };
                let info = copy(env.clone(), &db, kind).await?;
                db.close().await?;
                assert_eq!(info.seq, Seq::new(301));
                Ok::<_, Error>((dropped, written, oldest))
            });
            let (dropped, written, oldest) = copied.await.unwrap().unwrap();
            process.set_wall_offset_us(0);
            let env = process.env();
            let judged = process.run(async move {
                let times = manifest(&*env, TARGET).await?.version.last_timestamp;
                assert!(times >= written, "{kind:?}: {times:?} goes on from {written:?}");
                let horizon = manifest(&*env, TARGET).await?.version.retained_from;
                assert!(horizon >= oldest && horizon.get() + RETAINED <= 301, "{kind:?}: {horizon}");
                // Whoever asks for more than is there does not get it.
                let greedy = Options { retain_commits: 1000, ..existing() };
                let copy = Db::open_in(env, TARGET, greedy).await?;
                for seq in 1..horizon.get() {
                    let past = copy.at(Seq::new(seq)).map(drop);
                    assert!(matches!(past, Err(Error::TooOld { .. })), "{kind:?} at {seq}: {past:?}");
                }
                for seq in horizon.get()..=301 {
                    let past = copy.at(Seq::new(seq))?;
                    let found = past.get(&copy.keyspace("numbers")?, "newest").await?.unwrap();
                    assert_eq!(found[..], seq.to_be_bytes(), "{kind:?} at {seq}");
                }
                let fresh: KeyspaceId = copy.create_keyspace("fresh", tiny()).await?.id();
                assert!(
                    fresh > dropped,
                    "{kind:?}: the number {dropped} of a dropped keyspace is given to {fresh}"
                );
                assert_eq!(put(&copy, 302, Durability::Sync).await?, Seq::new(302));
                copy.close().await
            });
            judged.await.unwrap().unwrap();
        });
    }
}

/// A copy that found the directory empty is held up until another has begun in it, or has ended.
#[test]
fn a_copy_that_comes_late_gives_way_to_one_that_began_meanwhile() {
    for (kind, late_ns) in
        KINDS.into_iter().flat_map(|kind| [300_000, 1_000_000, 50_000_000].map(|ns| (kind, ns)))
    {
        holdfast_sim::run(late_ns, move |world| async move {
            let process = world.process("db");
            let db = create(&process).await;
            let (late_env, reads) = Flaky::over(process.env(), "copies");
            let opened = process.run({
                let env = late_env.clone();
                async move {
                    let late = Db::open_in(env, "/late", options()).await?;
                    late.default_keyspace()?.put("of another", "database").await?;
                    Ok::<_, Error>(late)
                }
            });
            let late = opened.await.unwrap().unwrap();
            reads.late_ns.store(late_ns, Ordering::Relaxed);
            let late = process.spawn("late", async move { late.backup(TARGET).await });
            world.sleep(100_000).await;
            let env = process.env();
            let copied = process.run(async move { copy(env, &db, kind).await });
            let copied = copied.await.unwrap();
            let refused = late.await.unwrap();
            let says = |what: &str| {
                what.contains("another checkpoint or backup") || what.contains("a new directory")
            };
            let (winner, commits) = match (&copied, &refused) {
                (Ok(info), Err(Error::Invalid(what))) if says(what) => (info, 300),
                (Err(Error::Invalid(what)), Ok(info)) if says(what) && late_ns < 50_000_000 => (info, 1),
                _ => panic!("{kind:?}, {late_ns} ns late: {copied:?} and {refused:?}"),
            };
            assert_eq!(winner.seq, Seq::new(commits));
            let env = process.env();
            let judged = process.run(async move {
                let copy = Db::open_in(env, TARGET, existing()).await?;
                match commits {
                    1 => assert!(copy.default_keyspace()?.get("of another").await?.is_some()),
                    _ => assert_eq!(check(&copy).await?, commits),
                }
                copy.close().await
            });
            judged.await.unwrap().unwrap();
        });
    }
}
