//! Backups: bytes of their own, checked on their way, with the past; beside commits, and beside another process.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::settings::{self, forty_tables, tiny};
use holdfast::env::Env;
use holdfast::env::linux::LinuxEnv;
use holdfast::{
    BackupProgress, CheckpointInfo, Db, Durability, Error, KeyspaceOptions, Options, ReadOnlyDb, Result,
    Scan, Seq, WriteBatch, blocking,
};
use holdfast_sim::{Crash, FaultClass, Process, Trigger};

const DIR: &str = "/db";
const TARGET: &str = "/copy";
/// Past commits that are kept.
const RETAINED: u64 = 40;

fn options() -> Options {
    Options { retain_commits: RETAINED, ..settings::options() }
}

fn existing() -> Options {
    Options { create_if_missing: false, ..options() }
}

async fn create(env: Arc<dyn Env>, dir: &Path) -> Result<Db> {
    let db = Db::open_in(env, dir, options()).await?;
    db.create_keyspace("a", tiny()).await?;
    db.create_keyspace("b", KeyspaceOptions { level0_tables: 3, ..tiny() }).await?;
    Ok(db)
}

/// What commit `n` does: a number in two keyspaces, an old one removed, now and then a whole range.
async fn commit(db: &Db, n: u64, durability: Durability) -> Result<Seq> {
    let (a, b) = (db.keyspace("a")?.id(), db.keyspace("b")?.id());
    let mut batch = WriteBatch::new();
    batch.put(a, format!("{:06}", n % 50).as_bytes(), &n.to_le_bytes())?;
    batch.put(b, b"newest", &n.to_le_bytes())?;
    batch.put(b, format!("{n:06}").as_bytes(), &[n as u8; 60])?;
    if n.is_multiple_of(5) {
        batch.delete(a, format!("{:06}", (n + 7) % 50).as_bytes())?;
    }
    if n.is_multiple_of(40) {
        let range = (format!("{:06}", n - 40), format!("{:06}", n - 10));
        batch.delete_range(b, range.0.as_bytes(), range.1.as_bytes())?;
    }
    db.write(batch, durability).await
}

type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The same in plain maps.
fn model(commits: u64) -> Content {
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    for n in 1..=commits {
        let value = n.to_le_bytes().to_vec();
        a.insert(format!("{:06}", n % 50).into_bytes(), value.clone());
        b.insert(b"newest".to_vec(), value);
        b.insert(format!("{n:06}").into_bytes(), vec![n as u8; 60]);
        if n.is_multiple_of(5) {
            a.remove(format!("{:06}", (n + 7) % 50).as_bytes());
        }
        if n.is_multiple_of(40) {
            let range = format!("{:06}", n - 40).into_bytes()..format!("{:06}", n - 10).into_bytes();
            b.retain(|key, _| !range.contains(key));
        }
    }
    Content::from([("a".into(), a), ("b".into(), b), ("default".into(), BTreeMap::new())])
}

/// What the database held at commit `seq`.
async fn content(db: &Db, seq: u64) -> Result<Content> {
    let snapshot = db.at(Seq::new(seq))?;
    let mut all = Content::new();
    for keyspace in db.keyspaces()? {
        let mut cursor = snapshot.scan(&db.keyspace(&keyspace.name)?, Scan::all()).await?;
        all.insert(keyspace.name, cursor.collect().await?.into_iter().collect());
    }
    Ok(all)
}

/// Opens the backup and judges it: every commit up to `seq`, the past, the keyspaces; and it is a database of its own.
async fn judge(env: Arc<dyn Env>, dir: &str, seq: u64) -> Result<()> {
    assert!(holdfast::verify(env.clone(), dir, |_| ()).await?.is_good());
    let copy = Db::open_in(env, dir, existing()).await?;
    assert_eq!(copy.last_seq(), Seq::new(seq));
    for past in [0, 1, 2, 7, 20, RETAINED - 1, RETAINED] {
        let seq = seq.saturating_sub(past).max(1);
        assert_eq!(content(&copy, seq).await?, model(seq), "at {seq}");
    }
    if seq > 2 * RETAINED {
        let forgotten = copy.at(Seq::new(seq - RETAINED - 1)).map(drop);
        assert!(matches!(forgotten, Err(Error::TooOld { .. })), "{forgotten:?}");
    }
    assert_eq!(copy.keyspace("b")?.options()?, KeyspaceOptions { level0_tables: 3, ..tiny() });
    assert_eq!(commit(&copy, seq + 1, Durability::Sync).await?, Seq::new(seq + 1), "it goes on from there");
    copy.compact().await?;
    assert_eq!(content(&copy, seq + 1).await?, model(seq + 1));
    copy.close().await
}

/// Notes what is told and judges that it makes sense.
fn watch(told: &mut Vec<BackupProgress>) -> impl FnMut(&BackupProgress) + Send {
    |now| {
        assert!(now.bytes_done <= now.bytes_total, "{now:?}");
        told.push(*now);
    }
}

fn check_told(told: &[BackupProgress], info: &CheckpointInfo) {
    let last = told.last().unwrap();
    assert_eq!((last.bytes_done, last.bytes_total), (info.bytes, info.bytes));
    assert_eq!(info.bytes_written, info.bytes, "nothing is shared");
    assert!(told.len() as u64 > info.tables, "{} tables, {} times told", info.tables, told.len());
}

#[test]
fn a_backup_holds_a_prefix_of_the_commits_and_their_past_while_writers_go_on() {
    for seed in 0..4 {
        let outcome = holdfast_sim::run(seed, |world| async move {
            let process = world.process("db");
            let env = process.env();
            process.run(busy_backups(env)).await.unwrap().unwrap()
        });
        assert!(outcome.result.iter().any(|info| info.tables > 4), "{:?}", outcome.result);
    }
}

async fn busy_backups(env: Arc<dyn Env>) -> Result<Vec<CheckpointInfo>> {
    let db = create(env.clone(), Path::new(DIR)).await?;
    let (done, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writer = {
        let (db, done, stop, acknowledged) = (db.clone(), done.clone(), stop.clone(), acknowledged.clone());
        async move {
            let mut n = 0;
            while !stop.load(Ordering::Acquire) {
                n += 1;
                assert_eq!(commit(&db, n, Durability::Sync).await.unwrap(), Seq::new(n));
                acknowledged.store(n, Ordering::Release);
            }
            done.store(true, Ordering::Release);
        }
    };
    let task = env.spawn("writer", holdfast::env::TaskClass::Foreground, Box::pin(writer)).unwrap();
    let mut made = Vec::new();
    for round in 0..5u64 {
        env.sleep_until(env.now().after(1_000_000 * (1 + round * 4))).await;
        let target = format!("{TARGET}{round}");
        let before = acknowledged.load(Ordering::Acquire);
        let mut told = Vec::new();
        let info = db.backup_with(&target, watch(&mut told)).await?;
        assert!(info.seq >= Seq::new(before), "what was acknowledged before is in it");
        check_told(&told, &info);
        for entry in env.disk().list(Path::new(&target)).await? {
            let path = Path::new(&target).join(&entry.name);
            assert_eq!(env.disk().metadata(&path).await?.links, 1, "{} is not shared", entry.name);
        }
        judge(env.clone(), &target, info.seq.get()).await?;
        made.push(info);
    }
    stop.store(true, Ordering::Release);
    while !done.load(Ordering::Acquire) {
        env.sleep_until(env.now().after(1_000_000)).await;
    }
    drop(task);
    let last = acknowledged.load(Ordering::Acquire);
    assert_eq!(content(&db, last).await?, model(last), "the original did not notice");
    db.close().await?;
    Ok(made)
}

#[test]
fn beside_a_process_that_writes_compacts_and_deletes() {
    for seed in 0..4 {
        let outcome = holdfast_sim::run(seed, move |world| async move {
            let writing = world.process("writer");
            let reading = world.process_on("reader", "writer");
            let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let (count, stopping, env) = (acknowledged.clone(), stop.clone(), writing.env());
            let durability = [Durability::Sync, Durability::Flush][seed as usize % 2];
            let writer = writing.spawn("writer", async move {
                let db = create(env.clone(), Path::new(DIR)).await?;
                let mut n = 0;
                while !stopping.load(Ordering::Acquire) {
                    n += 1;
                    assert_eq!(commit(&db, n, durability).await?, Seq::new(n));
                    count.store(n, Ordering::Release);
                    if n.is_multiple_of(300) {
                        db.compact().await?;
                    }
                }
                let compactions = db.metrics().number("holdfast_compactions_total");
                db.close().await?;
                Ok::<_, Error>((n, compactions))
            });
            world.sleep(20_000_000).await;
            let env = reading.env();
            let seen = acknowledged.clone();
            let reader = reading.run(async move {
                let view = Db::open_read_only_in(env.clone(), DIR, existing()).await?;
                for round in 0..6u64 {
                    env.sleep_until(env.now().after(round * 3_000_000)).await;
                    let before = seen.load(Ordering::Acquire);
                    view.refresh().await?;
                    let (target, mut told) = (format!("{TARGET}{round}"), Vec::new());
                    let info = view.backup_with(&target, watch(&mut told)).await?;
                    assert!(info.seq >= Seq::new(before), "what was acknowledged is in it");
                    check_told(&told, &info);
                    judge(env.clone(), &target, info.seq.get()).await?;
                }
                Ok::<_, Error>(())
            });
            reader.await.unwrap().unwrap();
            stop.store(true, Ordering::Release);
            writer.await.unwrap().unwrap()
        });
        let (commits, compactions) = outcome.result;
        assert!(commits > 300 && compactions > 2, "{commits} commits, {compactions} compactions");
    }
}

#[test]
fn tables_that_went_away_make_the_backup_look_again() {
    holdfast_sim::run(23, |world| async move {
        let (writing, reading) = (world.process("writer"), world.process_on("reader", "writer"));
        let env = writing.env();
        let db = writing.run(forty_tables(env, options()));
        let db = db.await.unwrap().unwrap();
        let env = reading.env();
        let few = Options { open_files_max: 16, ..existing() };
        let view = reading.run(async move { Db::open_read_only_in(env, DIR, few).await });
        let view = view.await.unwrap().unwrap();
        let compacted = writing.run({
            let db = db.clone();
            async move {
                for n in 40..45u64 {
                    db.keyspace("many")?.put(format!("{n:03}"), n.to_le_bytes()).await?;
                }
                db.compact().await?;
                db.wait_idle().await
            }
        });
        compacted.await.unwrap().unwrap();
        world.sleep(50_000_000).await;
        let env = reading.env();
        let backed_up = reading.run(async move {
            let (before, mut told) = (view.last_seq(), Vec::new());
            let info = view.backup_with(TARGET, watch(&mut told)).await?;
            check_told(&told, &info);
            assert_eq!((before, info.seq, view.last_seq()), (Seq::new(40), Seq::new(45), Seq::new(40)));
            let tables = env.disk().list(Path::new(TARGET)).await?;
            let tables = tables.iter().filter(|entry| entry.name.ends_with(".table")).count();
            assert_eq!(tables as u64, info.tables, "what another look made needless is gone");
            let copy = Db::open_in(env, TARGET, existing()).await?;
            let found = copy.keyspace("many")?.scan(Scan::all()).await?.collect().await?;
            assert!(found.iter().map(|(_, value)| &value[..]).eq((0..45u64).map(u64::to_le_bytes)));
            copy.close().await
        });
        backed_up.await.unwrap().unwrap();
        drop(db);
    });
}

/// A database with tables in several levels and something in memory, left as a kill leaves it.
async fn prepare(process: &Process, commits: u64) {
    let env = process.env();
    let made = process.run(async move {
        let db = create(env, Path::new(DIR)).await?;
        for n in 1..=commits {
            commit(&db, n, Durability::Sync).await?;
        }
        db.wait_idle().await
    });
    made.await.unwrap().unwrap();
    process.kill();
    process.restart();
}

/// Where a backup is made from.
enum Source {
    Open(Db),
    Beside(ReadOnlyDb),
}

impl Source {
    async fn open(env: Arc<dyn Env>, beside: bool) -> Result<Self> {
        if beside {
            return Ok(Self::Beside(Db::open_read_only_in(env, DIR, existing()).await?));
        }
        let db = Db::open_in(env.clone(), DIR, existing()).await?;
        db.wait_idle().await?;
        // The log is sealed, segments are made: nothing but the backup works.
        env.sleep_until(env.now().after(500_000_000)).await;
        Ok(Self::Open(db))
    }

    async fn backup(&self) -> Result<CheckpointInfo> {
        match self {
            Self::Open(db) => db.backup(TARGET).await,
            Self::Beside(view) => view.backup(TARGET).await,
        }
    }
}

async fn empty_target(env: &dyn Env) -> Result<()> {
    for entry in env.disk().list(Path::new(TARGET)).await? {
        env.disk().remove(&Path::new(TARGET).join(entry.name)).await?;
    }
    Ok(())
}

#[test]
fn damage_in_a_table_is_named_and_nothing_is_left() {
    for beside in [false, true] {
        let outcome = holdfast_sim::run(4, move |world| async move {
            let process = world.process("db");
            prepare(&process, 400).await;
            let (env, disk) = (process.env(), process.disk());
            let run = process.run(async move {
                let source = Source::open(env.clone(), beside).await?;
                // The tables that the original lists are those that the copy shares with it by name.
                source.backup().await?;
                let names = disk.list(TARGET).into_iter().map(|entry| entry.name);
                let shared = |name: &String| name.ends_with(".table") && disk.exists(format!("{DIR}/{name}"));
                let tables: Vec<String> = names.filter(shared).collect();
                empty_target(&*env).await?;
                let mut tried = 0u64;
                for name in &tables {
                    let path = format!("{DIR}/{name}");
                    let len = disk.read_file(&path).len() as u64;
                    // Header, blocks, and the very end; the places move from table to table.
                    for at in [3, 17, len - 1, len - 400].into_iter().chain((tried % 97..len).step_by(149)) {
                        disk.flip_bit(&path, at, (at % 8) as u32);
                        match source.backup().await {
                            Err(Error::Corrupt { file, offset, what }) => {
                                assert_eq!(file, Path::new(&path), "{what}");
                                assert!(offset <= at, "byte {at} is named at {offset}: {what}");
                            }
                            other => panic!("byte {at} of {name} is damaged, and it says {other:?}"),
                        }
                        assert!(disk.list(TARGET).is_empty(), "{:?}", disk.list(TARGET));
                        disk.flip_bit(&path, at, (at % 8) as u32);
                        tried += 1;
                    }
                }
                disk.inject_on(FaultClass::ReadError, ".table", Trigger::Once(2));
                let unreadable = source.backup().await;
                assert!(matches!(&unreadable, Err(Error::Io(io)) if io.offset.is_some()), "{unreadable:?}");
                assert!(disk.list(TARGET).is_empty());
                source.backup().await?;
                drop(source);
                judge(env, TARGET, 400).await?;
                Ok::<_, Error>((tables.len(), tried))
            });
            run.await.unwrap().unwrap()
        });
        let (tables, tried) = outcome.result;
        assert!(tables >= 2 && tried > 40, "{tables} tables, {tried} places");
    }
}

/// What stands in the target: a whole backup of all commits, or something that is refused.
async fn judge_target(env: Arc<dyn Env>, commits: u64) -> Result<bool> {
    match Db::open_in(env.clone(), TARGET, existing()).await {
        Ok(copy) => {
            copy.close().await?;
            judge(env, TARGET, commits).await?;
            Ok(true)
        }
        Err(Error::NotFound { .. }) => Ok(false),
        Err(Error::Invalid(what)) => {
            assert!(what.contains("unfinished checkpoint or backup"), "{what}");
            Ok(false)
        }
        Err(other) => panic!("an interrupted backup must say so, and says {other}"),
    }
}

#[test]
fn a_crash_at_any_call_leaves_a_whole_backup_or_none() {
    const COMMITS: u64 = 120;
    for (crash, beside) in [(Crash::Kill, false), (Crash::PowerLoss, false), (Crash::PowerLoss, true)] {
        let outcome = holdfast_sim::run(3, move |world| async move {
            let process = world.process("db");
            prepare(&process, COMMITS).await;
            let image = process.disk().snapshot();
            let (mut whole, mut none) = (0u64, 0u64);
            for call in 1.. {
                process.kill();
                process.disk().restore(&image);
                process.restart();
                let env = process.env();
                let opened = process.run(async move { Source::open(env, beside).await });
                let source = opened.await.unwrap().unwrap();
                process.crash_at(process.io_calls() + call, crash);
                let made = process.run(async move { (source.backup().await, source) });
                let finished = match made.await {
                    Ok((made, source)) => {
                        process.cancel_crash();
                        assert_eq!(made.unwrap().seq, Seq::new(COMMITS));
                        drop(source);
                        true
                    }
                    Err(_) => false,
                };
                process.restart();
                let env = process.env();
                let judged = process.run(async move {
                    let db = Db::open_in(env.clone(), DIR, existing()).await?;
                    assert_eq!(content(&db, COMMITS).await?, model(COMMITS), "the original keeps everything");
                    db.close().await?;
                    judge_target(env, COMMITS).await
                });
                match judged.await.unwrap().unwrap() {
                    true => whole += 1,
                    false => {
                        assert!(!finished, "a backup that was acknowledged is there");
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
        assert!(calls > 30 && whole >= 1 && none > 25, "{calls} calls, {whole} whole, {none} none");
    }
}

#[test]
fn on_a_real_disk_with_rows_larger_than_any_buffer() {
    let base = std::env::temp_dir().join(format!("holdfast-backup-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&base);
    std::fs::create_dir_all(&base).unwrap();
    let db = blocking::Db::open(base.join("db"), existing_or_new()).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    let large: Vec<u8> = (0..5u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    keyspace.put("in a table", &large).unwrap();
    db.flush().unwrap();
    keyspace.put("in memory", &large).unwrap();
    keyspace.put("in memory", "small").unwrap();
    let view = blocking::ReadOnlyDb::from(
        blocking::block_on(Db::open_read_only_in(LinuxEnv::new(), base.join("db"), existing())).unwrap(),
    );
    for (name, made) in [("near", db.backup(base.join("near"))), ("beside", view.backup(base.join("beside")))]
    {
        let info = made.unwrap();
        assert_eq!((info.seq, info.bytes), (Seq::new(3), info.bytes_written), "{name}");
        for entry in std::fs::read_dir(base.join(name)).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().nlink(), 1);
        }
        let copy = blocking::Db::open(base.join(name), existing()).unwrap();
        let found = copy.default_keyspace().unwrap();
        assert!(found.get("in a table").unwrap().unwrap() == large[..]);
        assert!(found.get("in memory").unwrap().unwrap() == b"small"[..]);
        let before = copy.at(Seq::new(2)).unwrap();
        assert!(before.get(&found, "in memory").unwrap().unwrap() == large[..]);
        assert_ne!(copy.asynchronous().database_id(), db.asynchronous().database_id());
        copy.close().unwrap();
    }
    std::os::unix::fs::symlink("db", base.join("link")).unwrap();
    for (target, why) in [
        ("near", "empty or a new directory"),
        ("db/inside", "lies in the original"),
        ("near/../db/./inside", "lies in the original"),
        ("link/inside", "lies in the original"),
    ] {
        let refused = db.backup(base.join(target));
        assert!(matches!(&refused, Err(Error::Invalid(what)) if what.contains(why)), "{refused:?}");
    }
    assert!(!base.join("db/inside").exists());
    db.close().unwrap();
    std::fs::remove_dir_all(&base).unwrap();
}

fn existing_or_new() -> Options {
    Options { create_if_missing: true, ..existing() }
}
