//! The directory of a database is there after a power loss, however its making was cut off.

use crate::support::scene::small_options;
use holdfast::env::{IoErrorKind, OpenOptions, SharedDir};
use holdfast::{Db, Error};
use holdfast_sim::{Crash, FaultClass, Process, Trigger};

/// Opens, and writes one key.
async fn write(process: &Process, dir: &'static str) -> Result<(), Error> {
    let env = process.env();
    let done = process.run(async move {
        let db = Db::open_in(env, dir, small_options()).await?;
        db.default_keyspace()?.put("key", "value").await?;
        Ok(())
    });
    // A process that dies has written nothing that was acknowledged.
    done.await.unwrap_or(Err(Error::Closed))
}

/// What the key is after the power has gone.
async fn after_power_loss(process: &Process, dir: &'static str) -> Option<Vec<u8>> {
    process.power_loss();
    process.restart();
    let env = process.env();
    let read = process.run(async move {
        let db = Db::open_in(env, dir, small_options()).await.unwrap();
        db.default_keyspace().unwrap().get("key").await.unwrap().map(|value| value.to_vec())
    });
    read.await.unwrap()
}

#[test]
fn a_database_made_after_a_kill_at_any_call_outlives_the_power() {
    for calls in 1..40 {
        holdfast_sim::run(calls, move |world| async move {
            world.set_survivors(Some(Box::new(holdfast_sim::NothingSurvives)));
            let process = world.process("db");
            process.crash_at(calls, Crash::Kill);
            let first = write(&process, "/db").await;
            process.cancel_crash();
            process.restart();
            if first.is_err() {
                write(&process, "/db").await.unwrap();
            }
            assert_eq!(after_power_loss(&process, "/db").await.as_deref(), Some(&b"value"[..]), "{calls}");
        });
    }
}

#[test]
fn a_database_made_after_a_failed_sync_outlives_the_power() {
    for nth in 1..12 {
        holdfast_sim::run(nth, move |world| async move {
            world.set_survivors(Some(Box::new(holdfast_sim::NothingSurvives)));
            let process = world.process("db");
            process.disk().inject(FaultClass::SyncError, Trigger::Once(nth));
            let first = write(&process, "/db").await;
            process.disk().clear_faults();
            process.restart();
            if first.is_err() {
                write(&process, "/db").await.unwrap();
            }
            assert_eq!(after_power_loss(&process, "/db").await.as_deref(), Some(&b"value"[..]), "{nth}");
        });
    }
}

#[test]
fn a_relative_path_is_as_durable_as_an_absolute_one() {
    holdfast_sim::run(1, |world| async move {
        world.set_survivors(Some(Box::new(holdfast_sim::NothingSurvives)));
        let process = world.process("db");
        write(&process, "db").await.unwrap();
        assert_eq!(after_power_loss(&process, "db").await.as_deref(), Some(&b"value"[..]));
    });
}

#[test]
fn a_sync_behind_a_failed_one_is_not_believed_for_entries_made_before() {
    holdfast_sim::run(1, |world| async move {
        world.set_survivors(Some(Box::new(holdfast_sim::NothingSurvives)));
        let process = world.process("db");
        let (env, disk) = (process.env(), process.disk());
        disk.create_dir_all("/db");
        let ran = process.run(async move {
            let dir = SharedDir::new("/db");
            let create = async |name| env.disk().open(&dir.join(name), OpenOptions::create()).await.map(drop);
            let (first, second) = (dir.begin_entries(), dir.begin_entries());
            create("first").await.unwrap();
            create("second").await.unwrap();
            disk.inject(FaultClass::SyncError, Trigger::Once(1));
            assert_eq!(dir.sync(env.disk(), first).await.unwrap_err().kind, IoErrorKind::Medium);
            let behind = dir.sync(env.disk(), second).await.unwrap_err();
            assert_eq!(behind.kind, IoErrorKind::Medium);
            assert!(behind.to_string().contains("one failed since the entry was made"), "{behind}");
            let third = dir.begin_entries();
            create("third").await.unwrap();
            dir.sync(env.disk(), third).await.unwrap();
            // Dropped under way: nobody knows how it ended.
            let fourth = dir.begin_entries();
            create("fourth").await.unwrap();
            let mut dropped = Box::pin(dir.sync(env.disk(), fourth));
            std::future::poll_fn(|context| {
                assert!(dropped.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(dropped);
            assert_eq!(dir.sync(env.disk(), fourth).await.unwrap_err().kind, IoErrorKind::Other);
        });
        ran.await.unwrap();
        process.power_loss();
        let disk = process.disk();
        assert_eq!(
            [disk.exists("/db/first"), disk.exists("/db/second"), disk.exists("/db/third")],
            [false, false, true]
        );
    });
}
