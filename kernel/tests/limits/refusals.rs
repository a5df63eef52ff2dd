//! The system refuses descriptors or tasks: the work waits or is answered with an error that can be tried again.

use std::sync::{Arc, Mutex};

use holdfast::env::Env;
use holdfast::{Durability, Error, Options, Scan, WriteBatch};
use holdfast_sim::{FaultClass, Trigger, World};

use super::{check_numbers, open, open_with, opened, put_until_refused};
use crate::support::scene::{DIR, simulate, small_options, within};

/// Commits of a life.
const LIFE: u64 = 40;

/// The life of a database; what may fail fails with a retriable error and is tried again.
async fn life(env: Arc<dyn Env>, refusals: Arc<Mutex<Vec<Error>>>) {
    let refused = |error: Error| {
        assert!(error.is_retriable(), "{error}");
        refusals.lock().unwrap().push(error);
    };
    let (db, keyspace) = loop {
        match open(env.clone()).await {
            Ok(opened) => break opened,
            Err(error) => refused(error),
        }
    };
    for number in 0..LIFE {
        while let Err(error) = keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await {
            refused(error);
        }
        if number == LIFE / 2 {
            while let Err(error) = db.flush().await {
                refused(error);
            }
        }
    }
    while let Err(error) = db.compact().await {
        refused(error);
    }
    loop {
        match keyspace.get(3u64.to_be_bytes()).await {
            Ok(value) => break assert!(value.is_some()),
            Err(error) => refused(error),
        }
    }
    loop {
        match keyspace.scan(Scan::all()).await {
            Ok(mut cursor) => match cursor.collect().await {
                Ok(all) => break assert_eq!(all.len() as u64, LIFE),
                Err(error) => refused(error),
            },
            Err(error) => refused(error),
        }
    }
    if let Err(error) = db.close().await {
        refused(error);
    }
}

/// Runs a life in which the n-th call of a class is refused, for each n; true if none was left to refuse.
fn refuse_nth(class: FaultClass, part: &'static str, n: u64) -> (bool, Vec<Error>) {
    simulate(n, move |_, process| async move {
        process.disk().inject_on(class, part, Trigger::Once(n));
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let env = process.env();
        process.run(life(env, refusals.clone())).await.unwrap();
        let fired = process.disk().faults_fired(class);
        process.disk().clear_faults();
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await.unwrap();
            check_numbers(&keyspace, LIFE).await;
            assert!(db.verify().await.unwrap().is_good());
            db.close().await.unwrap();
        })
        .await;
        let refusals = std::mem::take(&mut *refusals.lock().unwrap());
        (fired == 0, refusals)
    })
}

#[test]
fn too_many_open_files_at_every_opening_of_a_file() {
    let mut told = 0;
    for n in 1..10_000 {
        let (over, refusals) = refuse_nth(FaultClass::TooManyFiles, "", n);
        for error in &refusals {
            assert!(matches!(error, Error::TooManyFiles(_)), "at opening {n}: {error}");
            let said = error.to_string();
            assert!(
                said.contains("ulimit -n") && said.contains("open_files_max") && said.contains(DIR),
                "{said}"
            );
        }
        told += refusals.len();
        if over {
            assert!(n > 10, "a life opens more than {n} files");
            assert!(told > 0, "nobody was ever told");
            return;
        }
    }
    panic!("a life opens no end of files");
}

#[test]
fn refused_tasks_at_every_start() {
    for n in 1..100 {
        let (over, refusals) = refuse_nth(FaultClass::SpawnRefused, "", n);
        if over {
            assert!(n > 5, "an opening starts more than {n} tasks");
            return;
        }
        assert_eq!(refusals.len(), 1, "task {n}");
        assert!(matches!(&refusals[0], Error::Busy(why) if why.contains("holdfast-")), "{}", refusals[0]);
    }
    panic!("a life starts no end of tasks");
}

#[test]
fn without_descriptors_the_log_waits_and_reads_go_on() {
    simulate(3, |world: World, process| async move {
        let (db, keyspace) = opened(&process).await;
        let disk = process.disk();
        // Without tables the log cannot be cut, and without files it cannot grow.
        disk.inject_on(FaultClass::TooManyFiles, ".log", Trigger::From(1));
        disk.inject_on(FaultClass::TooManyFiles, ".table", Trigger::From(1));
        let writer = keyspace.clone();
        let (accepted, error) =
            within(&process, move |_| async move { put_until_refused(&writer, 0).await }).await;
        assert!(matches!(error, Error::TooManyFiles(_) | Error::Busy(_)), "{error}");
        let reader = keyspace.clone();
        within(&process, move |_| async move { check_numbers(&reader, accepted).await }).await;
        disk.clear_faults();
        world.sleep(1_000_000_000).await;
        within(&process, move |_| async move {
            keyspace.put(accepted.to_be_bytes(), [accepted as u8; 1000]).await.unwrap();
            check_numbers(&keyspace, accepted + 1).await;
            db.close().await.unwrap();
        })
        .await;
    });
}

/// Writers that are held back until memory is flushed do not wait for what the system refuses.
#[test]
fn writers_are_told_what_keeps_the_flush() {
    simulate(4, |world: World, process| async move {
        let (db, keyspace) = opened(&process).await;
        let disk = process.disk();
        disk.inject_on(FaultClass::TooManyFiles, ".table", Trigger::From(1));
        let writer = keyspace.clone();
        // Memtables wait in memory until it is full.
        let accepted = within(&process, move |env| async move {
            let (accepted, error) = put_until_refused(&writer, 0).await;
            assert!(
                matches!(error, Error::TooManyFiles(_)) && error.to_string().contains(".table"),
                "{error}"
            );
            assert!(error.is_retriable() && accepted > 3, "{accepted} commits before the pressure");
            check_numbers(&writer, accepted).await;
            let began = env.now();
            let (again, error) = put_until_refused(&writer, accepted).await;
            assert!(matches!(error, Error::TooManyFiles(_)), "{error}");
            assert_eq!(again, accepted);
            let waited_ns = env.now().since(began);
            assert!(waited_ns < CLOSE_NS_MAX, "{waited_ns} ns");
            accepted
        })
        .await;
        disk.clear_faults();
        world.sleep(2_000_000_000).await;
        within(&process, move |_| async move {
            keyspace.put(accepted.to_be_bytes(), [accepted as u8; 1000]).await.unwrap();
            check_numbers(&keyspace, accepted + 1).await;
            db.close().await.unwrap();
        })
        .await;
    });
}

/// The longest that a close may take when it is refused what it needs.
const CLOSE_NS_MAX: u64 = 5_000_000_000;

/// What becomes of the process after a close that gave an error.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// It opens the database again while it still has the handle that it closed.
    OpensAgain,
    LosesPower,
}

/// Fills tables and a memtable, lets the class refuse every call on files of that name from then on, and closes.
fn close_while_refused(class: FaultClass, part: &'static str, tables: u64, then: Then) -> Error {
    simulate(5, move |world: World, process| async move {
        // Nothing but the close makes the last commit durable.
        let options = Options { seal_idle_us: 60_000_000, buffered_flush_us: 60_000_000, ..small_options() };
        let (db, keyspace) = within(&process, move |env| open_with(env, options)).await.unwrap();
        let disk = process.disk();
        let writing = db.clone();
        let last = within(&process, move |_| async move {
            for number in 0..tables {
                keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await.unwrap();
                writing.flush().await.unwrap();
            }
            let mut batch = WriteBatch::new();
            batch.put(&keyspace, &tables.to_be_bytes(), &[tables as u8; 1000]).unwrap();
            writing.write(batch, Durability::Buffered).await.unwrap()
        })
        .await;
        disk.inject_on(class, part, Trigger::From(1));
        let (began, fired) = (world.now(), disk.faults_fired(class));
        let closing = db.clone();
        let error = within(&process, move |_| async move { closing.close().await }).await.unwrap_err();
        let (took_ns, tries) = (world.now().since(began), disk.faults_fired(class) - fired);
        assert!(took_ns < CLOSE_NS_MAX, "the close took {took_ns} ns");
        assert!(tries < 30, "{tries} tries in {took_ns} ns");
        let again = db.clone();
        let again = within(&process, move |_| async move { again.close().await }).await;
        assert!(matches!(again, Err(Error::Closed)), "{again:?}");
        disk.clear_faults();
        if then == Then::LosesPower {
            process.power_loss();
            process.restart();
        }
        // The directory is free although a handle is left, nothing is lost, and the close counts as one: it gave back
        // the numbers that it had reserved.
        within(&process, move |env| async move {
            let (db, keyspace) = open(env).await.unwrap();
            check_numbers(&keyspace, tables + 1).await;
            assert!(db.verify().await.unwrap().is_good());
            let next = keyspace.put((tables + 1).to_be_bytes(), [tables as u8 + 1; 1000]).await.unwrap();
            assert_eq!(next, last.next());
            db.close().await.unwrap();
        })
        .await;
        drop(db);
        error
    })
}

#[test]
fn a_close_without_descriptors_ends_with_the_error_and_keeps_everything() {
    for part in ["", ".table"] {
        for (tables, then) in [(0, Then::OpensAgain), (3, Then::OpensAgain), (3, Then::LosesPower)] {
            let error = close_while_refused(FaultClass::TooManyFiles, part, tables, then);
            assert!(matches!(error, Error::TooManyFiles(_)) && error.is_retriable(), "{error}");
        }
    }
}

#[test]
fn a_close_on_a_full_disk_ends_with_the_error_and_keeps_everything() {
    for part in ["", ".table"] {
        for (tables, then) in [(0, Then::OpensAgain), (3, Then::OpensAgain), (3, Then::LosesPower)] {
            let error = close_while_refused(FaultClass::NoSpace, part, tables, then);
            assert!(matches!(error, Error::DiskFull(_)), "{error}");
        }
    }
}

/// Whoever waits for slow work must not be told of a refusal that ended before.
#[test]
fn a_refusal_that_is_over_is_forgotten() {
    simulate(5, |world: World, process| async move {
        let options =
            Options { background_bytes_per_s: 64 << 10, memtable_bytes: 1 << 20, ..small_options() };
        let (db, keyspace) = within(&process, move |env| open_with(env, options)).await.unwrap();
        let disk = process.disk();
        disk.inject_on(FaultClass::TooManyFiles, ".table", Trigger::From(1));
        let (flushing, writer) = (db.clone(), keyspace.clone());
        let refused = within(&process, move |_| async move {
            writer.put(0u64.to_be_bytes(), [0; 1000]).await.unwrap();
            flushing.flush().await
        });
        assert!(matches!(refused.await, Err(Error::TooManyFiles(_))));
        disk.clear_faults();
        world.sleep(2_000_000_000).await;
        let began = world.now();
        within(&process, move |_| async move {
            for number in 1..300u64 {
                keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await.unwrap();
            }
            db.flush().await.unwrap();
            check_numbers(&keyspace, 300).await;
            db.close().await.unwrap();
        })
        .await;
        let took_ns = world.now().since(began);
        assert!(took_ns > 4_000_000_000, "{took_ns} ns: the work was too short to tell");
    });
}

/// The lock is given up last: nothing of a closed database moves any more, whatever was under way.
#[test]
fn a_close_waits_for_its_tasks() {
    let mut cut_short = 0;
    for seed in 0..24u64 {
        cut_short += simulate(seed, move |world: World, process| async move {
            let (db, keyspace) = opened(&process).await;
            let disk = process.disk();
            let closing = db.clone();
            within(&process, move |_| async move {
                for number in 0..60u64 {
                    keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await.unwrap();
                }
                closing.flush().await.unwrap();
            })
            .await;
            let compacting = db.clone();
            let compaction = process.spawn("compact", async move { compacting.compact().await });
            world.sleep(20_000 * (seed / 2)).await;
            if seed % 2 == 1 {
                disk.inject_on(FaultClass::TooManyFiles, ".table", Trigger::From(1));
            }
            let closing = db.clone();
            let closed = within(&process, move |_| async move { closing.close().await }).await;
            let calls = process.io_calls();
            assert!(closed.is_ok() || seed % 2 == 1, "{closed:?}");
            world.sleep(3_000_000_000).await;
            assert_eq!(process.io_calls(), calls, "seed {seed}: calls after the close");
            disk.clear_faults();
            let compacted = compaction.await;
            drop(db);
            u64::from(matches!(compacted, Ok(Err(Error::Closed))))
        });
    }
    assert!(cut_short > 4, "{cut_short} closes met a compaction under way");
}
