//! What the kernel tells through `tracing`: each change of state and each slow operation, in the words that the module
//! `events` promises, and nothing above `debug` that stands in no table there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "this program uses its own part of the scenes")]
mod support {
    pub mod scene;
}

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Once;

use holdfast::events::SLOW_TARGET;
use holdfast::{Db, Durability, Error, Keyspace, Options, Result, Scan, WriteBatch};
use holdfast_sim::{FaultClass, LatencyModel, Process, SimOptions, Trigger, World};
use support::scene::{DIR, small_keyspace, small_options, within};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// An event as a listener gets it.
#[derive(Clone, Debug)]
struct Told {
    level: Level,
    target: String,
    message: String,
    fields: BTreeMap<String, String>,
}

impl Told {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or_else(|_| panic!("{name} of {self:?} is a number"))
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").unwrap();
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name().to_string(), text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_string(), value.to_string());
    }
}

thread_local! {
    /// A simulated run has its thread to itself, so its events do too.
    static TOLD: RefCell<Vec<Told>> = const { RefCell::new(Vec::new()) };
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("holdfast")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut told = Told {
            level: *metadata.level(),
            target: metadata.target().to_string(),
            message: String::new(),
            fields: BTreeMap::new(),
        };
        event.record(&mut told);
        TOLD.with_borrow_mut(|all| all.push(told));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs a script in a process of a fresh world and gives what was told meanwhile; demands that all of it is documented.
fn listen<F>(options: SimOptions, script: impl FnOnce(World, Process) -> F + Send + 'static) -> Vec<Told>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
    let outcome = holdfast_sim::run(options, |world| async move {
        let process = world.process("db");
        script(world, process).await.unwrap();
        // Dropped handles let their tasks end.
        TOLD.take()
    });
    let told = outcome.result;
    for told in &told {
        let row = format!("//! | `{}` | {}", told.message, told.level.as_str().to_lowercase());
        let promised = include_str!("../src/events.rs");
        assert!(
            promised.contains(&row) || told.target == SLOW_TARGET,
            "not in the table of events: {told:?}"
        );
    }
    told
}

fn messages(told: &[Told]) -> BTreeSet<&str> {
    told.iter().map(|told| &*told.message).collect()
}

fn count(told: &[Told], message: &str) -> usize {
    told.iter().filter(|told| told.message == message).count()
}

async fn put(db: &Db, keyspace: &Keyspace, n: u64) -> Result<()> {
    let mut batch = WriteBatch::new();
    batch.put(keyspace.id(), &n.to_be_bytes(), &[n as u8; 700])?;
    db.write(batch, Durability::Flush).await.map(drop)
}

/// Everything that can be slow, and every change of state that needs no fault.
async fn live(process: &Process, options: Options) -> Result<()> {
    within(process, |env| async move {
        let db = Db::open_in(env.clone(), DIR, options.clone()).await?;
        let keyspace = db.create_keyspace("numbers", small_keyspace()).await?;
        for n in 0..300 {
            put(&db, &keyspace, n).await?;
        }
        keyspace.put("last", "one").await?;
        db.sync().await?;
        db.compact().await?;
        db.wait_idle().await?;
        let view = Db::open_read_only_in(env.clone(), DIR, options.clone()).await?;
        assert_eq!(view.last_seq(), db.last_seq());
        db.close().await?;

        // No table is open, so these wait for the disk. A walk begins with the tables of level 0.
        let db = Db::open_in(env, DIR, options).await?;
        let keyspace = db.keyspace("numbers")?;
        keyspace.put("last", "two").await?;
        db.flush().await?;
        assert_eq!(keyspace.scan(Scan::all().reverse().limit(3)).await?.count().await?, 3);
        assert!(keyspace.get(7u64.to_be_bytes()).await?.is_some());
        db.drop_keyspace(&keyspace).await?;
        for n in 0..200 {
            // Each is two edits, so that the manifest moves to a new file.
            let short = db.create_keyspace(&format!("short-lived-{n:060}"), small_keyspace()).await?;
            db.drop_keyspace(&short).await?;
        }
        drop(db);
        Ok(())
    })
    .await
}

#[test]
fn each_change_of_state_and_each_slow_operation_is_told() {
    let options = Options { slow_operation_us: 1, ..small_options() };
    let told = listen(SimOptions::new(1), |_, process| async move { live(&process, options).await });
    let heard = messages(&told);
    for expected in [
        "creating a database",
        "database open",
        "database closed",
        "the last handle was dropped without a close",
        "read-only view",
        "keyspace created",
        "keyspace dropped",
        "manifest switched",
        "memtable flushed",
        "compacted",
        "slow operation",
    ] {
        assert!(heard.contains(expected), "nobody told that: {expected}");
    }
    let made: Vec<&str> = told
        .iter()
        .filter(|told| told.message == "keyspace created")
        .map(|told| told.field("keyspace"))
        .collect();
    assert_eq!((made[0], made[1], made.len()), ("default", "numbers", 202));
    assert_eq!(count(&told, "keyspace dropped"), 201);
    let moved =
        told.iter().find(|told| told.message == "manifest switched" && !told.field("before").is_empty());
    assert!(moved.unwrap().field("file").ends_with(".manifest"));

    let slow: Vec<&Told> = told.iter().filter(|told| told.target == SLOW_TARGET).collect();
    let mut kinds = BTreeSet::new();
    for told in slow {
        let what = told.field("what");
        assert_eq!((told.message.as_str(), told.number("limit_us")), ("slow operation", 1));
        assert!(told.number("elapsed_us") > 1, "{told:?}");
        let (place, level) = match what {
            "get" | "scan" => (told.field("keyspace") == "numbers", Level::WARN),
            "flush" | "compaction" => (told.field("keyspace") == "numbers", Level::INFO),
            "log sync" => (told.field("file").ends_with(".log"), Level::WARN),
            "table opening" => (told.field("file").ends_with(".table"), Level::WARN),
            "manifest sync" => (told.field("file").ends_with(".manifest"), Level::WARN),
            "opening" | "read-only view" => (told.field("file") == DIR, Level::INFO),
            "commit" => (told.number("seq") > 0, Level::WARN),
            "stall" => (true, Level::WARN),
            other => panic!("{other} is no operation of the table"),
        };
        assert!(place, "{told:?}");
        assert_eq!(told.level, level, "{told:?}");
        kinds.insert(what);
    }
    for expected in [
        "get",
        "scan",
        "table opening",
        "commit",
        "log sync",
        "manifest sync",
        "flush",
        "compaction",
        "opening",
        "read-only view",
    ] {
        assert!(kinds.contains(expected), "no slow {expected} among {kinds:?}");
    }
}

#[test]
fn nothing_is_slow_under_the_limit_or_without_one() {
    for slow_operation_us in [0, 3_600_000_000] {
        let options = Options { slow_operation_us, ..small_options() };
        let told = listen(SimOptions::new(2), |_, process| async move { live(&process, options).await });
        assert!(told.len() > 400);
        assert_eq!(told.iter().find(|told| told.target == SLOW_TARGET).map(|told| told.field("what")), None);
    }
}

#[test]
fn a_full_disk_is_told_once_and_so_is_its_end() {
    let options = small_options();
    let told = listen(SimOptions::new(3), |world, process| async move {
        let disk = process.disk();
        within(&process, move |env| async move {
            let db = Db::open_in(env, DIR, options).await?;
            let keyspace = db.default_keyspace()?;
            disk.inject_on(FaultClass::NoSpace, ".table", Trigger::From(1));
            for n in 0..8 {
                put(&db, &keyspace, n).await?;
            }
            // The log has room of its own all the while, and its keeper says so after each of these.
            for n in 0..30u64 {
                keyspace.put(n.to_be_bytes(), "small").await?;
                world.sleep(50_000_000).await;
            }
            assert!(disk.faults_fired(FaultClass::NoSpace) > 10, "the flush tried again and again");
            disk.clear_faults();
            db.wait_idle().await.or_else(|error| match error {
                Error::DiskFull(_) => Ok(()),
                other => Err(other),
            })?;
            world.sleep(200_000_000).await;
            db.wait_idle().await?;
            db.close().await
        })
        .await
    });
    let full = "disk full; trying again until there is room";
    let story: Vec<(&str, &str)> = told
        .iter()
        .filter(|told| [full, "the disk has room again"].contains(&&*told.message))
        .map(|told| (&*told.message, told.field("job")))
        .collect();
    assert_eq!(story, [(full, "flush"), ("the disk has room again", "flush")]);
    assert!(
        messages(&told).is_superset(&["giving the disk reserve free", "disk reserve taken again"].into())
    );
}

#[test]
fn a_torn_tail_is_told_by_the_opening_that_cuts_it_and_by_no_look() {
    let told = listen(SimOptions::new(7), |_, process| async move {
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, small_options()).await?;
            let keyspace = db.default_keyspace()?;
            for n in 0..3 {
                put(&db, &keyspace, n).await?;
            }
            Ok::<_, Error>(())
        })
        .await?;
        process.restart();
        // The last group has two sectors, and the second of them is not written yet.
        let disk = process.disk();
        let logs = disk.list(DIR).into_iter().map(|entry| format!("{DIR}/{}", entry.name));
        let (log, last) = logs
            .filter(|path| path.ends_with(".log"))
            .filter_map(|path| {
                let bytes = disk.read_file(&path);
                let last = bytes.chunks(512).rposition(|sector| sector.iter().any(|byte| *byte != 0))?;
                (last > 8).then_some((path, last as u64))
            })
            .next_back()
            .unwrap();
        disk.corrupt(&log, last * 512, 512, |bytes| bytes.fill(0));
        within(&process, |env| async move {
            for _ in 0..2 {
                let view = Db::open_read_only_in(env.clone(), DIR, small_options()).await?;
                assert_eq!(view.last_seq().get(), 2);
            }
            let db = Db::open_in(env, DIR, small_options()).await?;
            assert_eq!(db.default_keyspace()?.scan(Scan::all()).await?.count().await?, 2);
            db.close().await
        })
        .await
    });
    let torn = "the log's tail is torn: a write was under way";
    let at = |message| told.iter().position(|told| told.message == message).unwrap();
    assert_eq!(count(&told, torn), 1);
    assert!(at("read-only view") < at(torn));
    let told = &told[at(torn)];
    assert!(told.field("file").ends_with(".log") && told.number("offset") > 4096, "{told:?}");
}

#[test]
fn missing_descriptors_are_told_once_and_so_is_their_end() {
    let options = small_options();
    let told = listen(SimOptions::new(6), |world, process| async move {
        let disk = process.disk();
        within(&process, move |env| async move {
            let db = Db::open_in(env, DIR, options).await?;
            let keyspace = db.default_keyspace()?;
            disk.inject_on(FaultClass::TooManyFiles, ".table", Trigger::From(1));
            for n in 0..8 {
                put(&db, &keyspace, n).await?;
            }
            world.sleep(10_000_000_000).await;
            let tries = disk.faults_fired(FaultClass::TooManyFiles);
            assert!((8..20).contains(&tries), "{tries} tries in ten seconds, at growing pauses");
            // Whoever waits for the flush is told, and the flush goes on trying.
            assert!(matches!(db.flush().await, Err(Error::TooManyFiles(_))));
            assert!(matches!(db.wait_idle().await, Err(Error::TooManyFiles(_))));
            disk.clear_faults();
            db.flush().await?;
            db.wait_idle().await?;
            db.close().await
        })
        .await
    });
    let (begun, over) =
        ("background work must wait; trying again until it can go on", "background work goes on");
    let story: Vec<(&str, &str)> = told
        .iter()
        .filter(|told| [begun, over].contains(&&*told.message))
        .map(|told| (&*told.message, told.field("job")))
        .collect();
    assert_eq!(story, [(begun, "flush"), (over, "flush")]);
}

#[test]
fn a_full_disk_is_told_once_by_all_compactions_together() {
    let options = Options { compactions_max: 3, ..small_options() };
    let told = listen(SimOptions::new(5), |world, process| async move {
        let disk = process.disk();
        within(&process, move |env| async move {
            let db = Db::open_in(env, DIR, options).await?;
            let keyspace = db.create_keyspace("numbers", small_keyspace()).await?;
            for _ in 0..3 {
                put(&db, &keyspace, 0).await?;
                db.flush().await?;
            }
            db.wait_idle().await?;
            put(&db, &keyspace, 0).await?;
            db.flush().await?;
            // The compaction that is due now has read nothing yet.
            disk.inject_on(FaultClass::NoSpace, ".table", Trigger::From(1));
            world.sleep(1_000_000_000).await;
            assert!(disk.faults_fired(FaultClass::NoSpace) > 10, "the compaction tried again and again");
            disk.clear_faults();
            world.sleep(1_000_000_000).await;
            db.wait_idle().await?;
            db.close().await
        })
        .await
    });
    let full = "disk full; trying again until there is room";
    let turns = [full, "the disk has room again"].map(|message| {
        let turn = told.iter().filter(|told| told.message == message);
        turn.map(|told| told.field("job").to_string()).collect::<Vec<_>>()
    });
    assert_eq!(turns, [["compaction"], ["compaction"]]);
}

#[test]
fn writers_that_are_held_back_are_told_of_from_the_first_to_the_last() {
    let latency = LatencyModel { sync_ns: 40_000_000, ..LatencyModel::default() };
    let options = small_options();
    let told = listen(SimOptions { latency, ..SimOptions::new(4) }, |_, process| async move {
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, options).await?;
            let keyspace = db.default_keyspace()?;
            for n in 0..200 {
                put(&db, &keyspace, n).await?;
            }
            db.wait_idle().await?;
            db.close().await
        })
        .await
    });
    let turns: Vec<&str> =
        told.iter().map(|told| &*told.message).filter(|message| message.starts_with("writers ")).collect();
    assert!(turns.contains(&"writers are slowed down") && turns.contains(&"writers must wait"), "{turns:?}");
    assert_eq!(turns.last(), Some(&"writers go on"));
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "only changes are told: {turns:?}");
    assert!(told.iter().any(|told| told.field("what") == "stall" && told.number("elapsed_us") > 100_000));
}
