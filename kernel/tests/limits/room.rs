//! Opening on a full disk: it writes anew what the log holds, and where that finds no room it leaves things as they were.

use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Db, Durability, Error, KeyspaceOptions, Options, Scan, WriteBatch};
use holdfast_sim::{Crash, FaultClass, Trigger};

use super::noise;
use crate::support::scene::{DIR, simulate, small_keyspace, small_options, within};

const VALUES: u64 = 60;

fn options() -> Options {
    Options { memtable_bytes: 2 << 20, reserve_bytes: 256 << 10, ..Options::default() }
}

async fn open(env: Arc<dyn Env>) -> Result<Db, Error> {
    Db::open_in(env, DIR, options()).await
}

/// Name of a table whose number an edit counted, but none named as a table: that of the newest log segment.
fn below_the_next_number(disk: &holdfast_sim::SimDisk) -> String {
    let names = disk.list(DIR).into_iter().map(|entry| entry.name);
    names.filter_map(|name| Some(format!("{}.table", name.strip_suffix(".log")?))).max().unwrap()
}

#[test]
fn an_opening_that_finds_no_room_leaves_none_of_its_work_and_says_what_it_needs() {
    simulate(9, |_, process| async move {
        // 600 KB in each of two keyspaces, in the log alone.
        within(&process, |env| async move {
            let db = open(env).await.unwrap();
            for name in ["one", "two"] {
                let keyspace = db.create_keyspace(name, Default::default()).await.unwrap();
                for number in 0..VALUES {
                    keyspace.put(number.to_be_bytes(), noise(10_000, number + 1)).await.unwrap();
                }
            }
        })
        .await;
        process.kill();
        process.restart();
        let disk = process.disk();
        let used = |disk: &holdfast_sim::SimDisk| {
            let files = disk.list(DIR).into_iter().filter(|entry| entry.name != "RESERVE");
            files.map(|entry| disk.metadata(format!("{DIR}/{}", entry.name)).unwrap().len).sum::<u64>()
        };
        disk.set_capacity(u64::MAX >> 1, 1000);
        let taken = (u64::MAX >> 1) - disk.free_space().bytes;
        // Room for one of the two tables.
        disk.set_capacity(taken + (700 << 10), 1000);
        let before = used(&disk);
        for _ in 0..4 {
            let refused = within(&process, |env| async move { open(env).await.map(drop) }).await.unwrap_err();
            let words = refused.to_string();
            assert!(matches!(refused, Error::DiskFull(_)), "{words}");
            assert!(words.contains("opening writes anew what the log holds, about 2 MiB"), "{words}");
            assert_eq!(used(&disk), before, "nothing is left of the attempt");
        }
        // What a process was at when the disk was full is in the way, until an opening needs the room.
        disk.set_capacity(taken + (1800 << 10), 1000);
        let in_the_way = ["0000000099.table".to_string(), below_the_next_number(&disk)];
        for name in &in_the_way {
            disk.write_file(format!("{DIR}/{name}"), &noise(750 << 10, 99));
        }
        within(&process, |env| async move {
            let db = open(env).await.unwrap();
            for name in ["one", "two"] {
                let keyspace = db.keyspace(name).unwrap();
                let all = keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap();
                let expected =
                    (0..VALUES).map(|number| (number.to_be_bytes().to_vec(), noise(10_000, number + 1)));
                assert!(all.into_iter().eq(expected));
            }
            db.close().await.unwrap();
        })
        .await;
        for name in in_the_way {
            assert!(!disk.exists(format!("{DIR}/{name}")));
        }
    });
}

/// The process dies at the `call`-th disk call of a compaction; the next opening finds the disk nearly full, and the power
/// goes at its `at`-th call. False if the compaction was done before.
fn dies_in_a_compaction_and_in_a_nearly_full_opening(call: u64, at: u64) -> bool {
    simulate(1000 * call + at, move |_, process| async move {
        let db = within(&process, |env| async move {
            let db = open(env).await.unwrap();
            let keyspace = db.default_keyspace().unwrap();
            for round in 0..3 {
                for number in 0..VALUES / 2 {
                    keyspace.put(number.to_be_bytes(), noise(2_000, number + round)).await.unwrap();
                }
                db.flush().await.unwrap();
            }
            db
        })
        .await;
        process.crash_at(process.io_calls() + call, Crash::Kill);
        let compacted = process.run(async move { db.compact().await }).await;
        if compacted.is_ok() {
            return false;
        }
        process.restart();
        let disk = process.disk();
        disk.set_capacity(u64::MAX >> 1, 1000);
        let taken = (u64::MAX >> 1) - disk.free_space().bytes;
        disk.set_capacity(taken + (300 << 10), 1000);
        process.crash_at(process.io_calls() + at, Crash::PowerLoss);
        let env = process.env();
        if process.run(async move { open(env).await.map(drop) }).await.is_ok() {
            process.cancel_crash();
            process.power_loss();
        }
        process.restart();
        disk.set_capacity(u64::MAX >> 1, 1000);
        within(&process, |env| async move {
            let db = open(env)
                .await
                .unwrap_or_else(|error| panic!("killed at {call}, power lost at {at}: {error}"));
            let keyspace = db.default_keyspace().unwrap();
            let all = keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap();
            let expected =
                (0..VALUES / 2).map(|number| (number.to_be_bytes().to_vec(), noise(2_000, number + 2)));
            assert!(all.into_iter().eq(expected), "killed at {call}, power lost at {at}");
            db.close().await.unwrap();
        })
        .await;
        true
    })
}

#[test]
fn an_opening_on_a_nearly_full_disk_removes_nothing_that_a_power_loss_may_name_again() {
    for at in [4, 8, 12, 20, 30] {
        let calls = (1..).find(|call| !dies_in_a_compaction_and_in_a_nearly_full_opening(*call, at)).unwrap();
        assert!(calls > 20, "the compaction had only {calls} calls");
    }
}

/// Whether a `Buffered` commit outlives a kill twenty seconds later, though no segment could be made meanwhile.
fn buffered_commit_is_kept(can_make_segments: bool) -> bool {
    simulate(5, move |world, process| async move {
        let disk = process.disk();
        within(&process, |env| async move {
            // Nothing is flushed, so the log alone meets the full disk.
            let options = Options { memtable_bytes: 1 << 20, ..small_options() };
            let db = Db::open_in(env.clone(), DIR, options).await.unwrap();
            let keyspace = db.default_keyspace().unwrap();
            let pause = async |seconds: u64| env.sleep_until(env.now().after(seconds * 1_000_000_000)).await;
            keyspace.put("first", "1").await.unwrap();
            pause(2).await;
            if !can_make_segments {
                disk.set_capacity(1 << 40, 0);
            }
            // Enough to take the waiting segment, so that another is wanted.
            for number in 0..5u64 {
                keyspace.put(number.to_be_bytes(), noise(14_000, number + 1)).await.unwrap();
            }
            pause(2).await;
            let mut batch = WriteBatch::new();
            batch.put(keyspace.id(), b"buffered", b"acknowledged").unwrap();
            db.write(batch, Durability::Buffered).await.unwrap();
            pause(20).await;
            // Dropped with the process, like everything else.
            std::mem::forget(db);
        })
        .await;
        process.kill();
        process.disk().set_capacity(1 << 40, 1 << 40);
        process.restart();
        drop(world);
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, small_options()).await.unwrap();
            db.default_keyspace().unwrap().get("buffered").await.unwrap().is_some()
        })
        .await
    })
}

#[test]
fn a_buffered_commit_reaches_the_system_in_time_though_no_segment_can_be_made() {
    assert!(buffered_commit_is_kept(true));
    assert!(buffered_commit_is_kept(false));
}

/// What a compaction made waits for room in the manifest, and goes on when there is some; whoever asked for it learns why
/// it is not done.
#[test]
fn a_compaction_that_cannot_be_listed_is_not_waited_for_without_end() {
    simulate(5, |_, process| async move {
        let disk = process.disk();
        within(&process, move |env| async move {
            let db = Db::open_in(env.clone(), DIR, small_options()).await.unwrap();
            let keyspace = db.create_keyspace("one", small_keyspace()).await.unwrap();
            for number in 0..VALUES {
                keyspace.put(number.to_be_bytes(), noise(500, number + 1)).await.unwrap();
            }
            db.flush().await.unwrap();
            db.wait_idle().await.unwrap();
            keyspace.put(0u64.to_be_bytes(), "newer").await.unwrap();
            db.flush().await.unwrap();
            db.wait_idle().await.unwrap();
            // An edit takes room where overwriting copies.
            disk.set_copy_on_write(true);
            disk.inject_on(FaultClass::NoSpace, ".manifest", Trigger::From(1));
            for _ in 0..2 {
                let began = env.now();
                let refused = db.compact().await.unwrap_err();
                assert!(
                    matches!(&refused, Error::DiskFull(full) if full.to_string().contains(".manifest")),
                    "{refused}"
                );
                assert!(env.now().since(began) < 1_000_000_000);
            }
            disk.clear_faults();
            db.compact().await.unwrap();
            for number in 1..VALUES {
                assert_eq!(
                    keyspace.get(number.to_be_bytes()).await.unwrap().unwrap(),
                    noise(500, number + 1)
                );
            }
            assert_eq!(keyspace.get(0u64.to_be_bytes()).await.unwrap().unwrap(), "newer");
            let infos = db.keyspaces().unwrap();
            let levels = &infos.iter().find(|info| info.name == "one").unwrap().levels;
            assert_eq!(levels.iter().filter(|level| level.tables > 0).count(), 1, "{levels:?}");
            assert!(db.verify().await.unwrap().is_good());
            db.close().await.unwrap();
        })
        .await;
    });
}

/// A compaction that once found no room and went on is not taken for one that finds none.
#[test]
fn a_want_of_room_that_is_over_does_not_end_the_wait_for_a_compaction() {
    simulate(6, |_, process| async move {
        let disk = process.disk();
        within(&process, move |env| async move {
            // A second for all of it.
            let options = Options { background_bytes_per_s: 128 << 10, ..small_options() };
            let db = Db::open_in(env.clone(), DIR, options).await.unwrap();
            let table_bytes = 64 << 10;
            for name in ["one", "two"] {
                let settings = KeyspaceOptions { table_bytes, level0_tables: 8, ..small_keyspace() };
                let keyspace = db.create_keyspace(name, settings).await.unwrap();
                for number in 0..200 {
                    keyspace.put(u64::to_be_bytes(number), noise(1000, number + 1)).await.unwrap();
                }
            }
            db.flush().await.unwrap();
            db.wait_idle().await.unwrap();
            disk.set_copy_on_write(true);
            disk.inject_on(FaultClass::NoSpace, ".manifest", Trigger::Once(1));
            let began = env.now();
            db.compact().await.unwrap();
            assert_eq!(disk.faults_fired(FaultClass::NoSpace), 1);
            let waited_ns = env.now().since(began);
            assert!(waited_ns > 400_000_000, "only {waited_ns} ns: nobody would have asked");
            db.close().await.unwrap();
        })
        .await;
    });
}

/// Nor is one that does well, and whose first tables are not listed yet, taken for the one before it that found none.
#[test]
fn a_compaction_is_waited_for_though_a_background_one_found_no_room_just_before() {
    simulate(7, |_, process| async move {
        let disk = process.disk();
        within(&process, move |env| async move {
            // Two tables of 200 KB over the same keys: a single compaction, of seconds.
            let options =
                Options { memtable_bytes: 1 << 20, background_bytes_per_s: 128 << 10, ..small_options() };
            let db = Db::open_in(env.clone(), DIR, options).await.unwrap();
            let settings = KeyspaceOptions { table_bytes: 1 << 20, level0_tables: 2, ..small_keyspace() };
            let keyspace = db.create_keyspace("one", settings).await.unwrap();
            for round in 0..2 {
                for number in 0..200 {
                    keyspace.put(u64::to_be_bytes(number), noise(1000, number + round)).await.unwrap();
                }
                db.flush().await.unwrap();
            }
            disk.inject_on(FaultClass::NoSpace, ".table", Trigger::From(1));
            while disk.faults_fired(FaultClass::NoSpace) == 0 {
                env.sleep_until(env.now().after(1_000_000)).await;
            }
            disk.clear_faults();
            let began = env.now();
            db.compact().await.unwrap();
            let waited_ns = env.now().since(began);
            assert!(waited_ns > 400_000_000, "only {waited_ns} ns: nobody would have asked");
            db.close().await.unwrap();
        })
        .await;
    });
}
