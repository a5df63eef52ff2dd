//! The scheduler, the clock, processes and their deaths, and that a seed is one history.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast::env::{Buf, Env, LockKind, Nanos, OpenOptions, TaskClass};
use holdfast_sim::{
    Crash, Died, FaultClass, LatencyModel, Outcome, Ratio, ScheduleOverride, SimOptions, World,
};

/// A little of everything: several tasks, cached and direct files, background work, a crash and a restart.
async fn busy_world(world: World) -> u64 {
    let process = world.process("db");
    world.set_rare(Ratio::new(1, 3));
    process.disk().set_fault_rate(FaultClass::ShortRead, Ratio::new(1, 4));
    let mut writers = Vec::new();
    for writer in 0..4u64 {
        let env = process.env();
        writers.push(process.spawn("writer", async move {
            let path = std::path::PathBuf::from(format!("/{writer}"));
            let mut options = OpenOptions::create();
            options.direct = writer % 2 == 0;
            options.dsync = writer < 2;
            let file = env.disk().open(&path, options).await.expect("the name is free");
            for number in 0..20 {
                let mut buf = Buf::zeroed(4096);
                buf.fill(env.random_u64() as u8);
                file.write_at(number * 4096, buf).await.0.expect("no write fault");
                env.slice(4096).await;
                if env.rare("sync") {
                    file.sync_data().await.expect("no sync fault");
                }
                file.read_at(number * 2048 / 512 * 512, Buf::zeroed(4096)).await.0.expect("no read fault");
            }
        }));
    }
    world.sleep(world.random_below(2_000_000)).await;
    process.power_loss();
    let dead = futures_of(writers).await;
    process.restart();
    let listed = process.env().disk().list("/".as_ref()).await.expect("the root is there").len() as u64;
    listed * 100 + dead
}

async fn futures_of(joins: Vec<holdfast_sim::Join<()>>) -> u64 {
    let mut dead = 0;
    for join in joins {
        dead += u64::from(join.await == Err(Died));
    }
    dead
}

#[test]
fn a_seed_is_one_history_on_any_thread() {
    let runs = |seed: u64| -> (Outcome<u64>, Outcome<u64>) {
        let other = std::thread::spawn(move || holdfast_sim::run(seed, busy_world));
        (holdfast_sim::run(seed, busy_world), other.join().expect("it ran"))
    };
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (first, second) = runs(seed);
        assert_eq!((first.hash, first.events, first.result), (second.hash, second.events, second.result));
        assert_eq!((first.io_calls, first.simulated_ns), (second.io_calls, second.simulated_ns));
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 20, "different seeds are different histories");
}

#[test]
fn the_hash_covers_bytes_and_not_only_their_number() {
    let run = |byte: u8| {
        holdfast_sim::run(9, move |world| async move {
            let process = world.process("db");
            let env = process.env();
            let write = process.run(async move {
                let file = env.disk().open("/a".as_ref(), OpenOptions::create()).await.expect("free");
                file.write_at(0, Buf::copy_of(&[byte; 100])).await.0.expect("no fault");
            });
            write.await.expect("alive");
        })
    };
    assert_eq!(run(1).hash, run(1).hash);
    assert_ne!(run(1).hash, run(2).hash);
}

/// Which of five tasks ran, in order.
async fn order_of_tasks(world: World) -> Vec<u64> {
    let order = Arc::new(holdfast::sync::Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..5)
        .map(|number| {
            let order = Arc::clone(&order);
            world.spawn("task", async move { order.lock().push(number) })
        })
        .collect();
    futures_of(tasks).await;
    order.lock().clone()
}

#[test]
fn the_schedule_varies_by_seed_and_can_be_recorded_and_overridden() {
    let orders: std::collections::BTreeSet<Vec<u64>> =
        (0..50).map(|seed| holdfast_sim::run(seed, order_of_tasks).result).collect();
    assert!(orders.len() > 20, "50 seeds gave only {} orders", orders.len());

    let mut options = SimOptions::new(0);
    options.record_schedule = true;
    let recorded = holdfast_sim::run(options, order_of_tasks);
    assert_eq!(recorded.schedule.len() as u64, recorded.choices);
    // Another seed with the recorded schedule does the same.
    let mut options = SimOptions::new(1);
    options.schedule_overrides = (0..)
        .zip(&recorded.schedule)
        .map(|(choice, pick)| ScheduleOverride { choice, pick: *pick })
        .collect();
    assert_eq!(holdfast_sim::run(options, order_of_tasks).result, recorded.result);
}

#[test]
fn a_plain_schedule_lets_who_waited_longest_run_and_overrides_make_any_other_of_it() {
    let plain = |seed| SimOptions { plain_schedule: true, ..SimOptions::new(seed) };
    for seed in 0..10 {
        assert_eq!(holdfast_sim::run(plain(seed), order_of_tasks).result, [0, 1, 2, 3, 4]);
        let recorded =
            holdfast_sim::run(SimOptions { record_schedule: true, ..SimOptions::new(seed) }, order_of_tasks);
        let picks = (0..).zip(&recorded.schedule).filter(|(_, pick)| **pick > 0);
        let schedule_overrides =
            picks.map(|(choice, pick)| ScheduleOverride { choice, pick: *pick }).collect();
        let same = holdfast_sim::run(SimOptions { schedule_overrides, ..plain(seed) }, order_of_tasks);
        assert_eq!((same.result, same.hash), (recorded.result, recorded.hash));
    }
}

#[test]
fn the_hash_of_each_event_can_be_recorded() {
    let recorded = |seed| {
        let options = SimOptions { record_hashes: true, ..SimOptions::new(seed) };
        holdfast_sim::run(options, order_of_tasks)
    };
    let (one, other) = (recorded(1), recorded(2));
    assert_eq!(one.hashes.len() as u64, one.events + 1);
    assert_eq!(one.hashes.last(), Some(&one.hash));
    assert_eq!(one.hashes[0], other.hashes[0]);
    assert_ne!(one.hashes, other.hashes);
    assert_eq!(one.hashes, recorded(1).hashes);
}

#[test]
fn timers_are_exact_instants_and_wall_clocks_can_jump() {
    holdfast_sim::run(5, |world| async move {
        world.sleep(10_000).await;
        assert_eq!(world.now(), Nanos(10_000));
        let process = world.process("db");
        let env = process.env();
        let before = env.wall_now();
        env.sleep_until(Nanos(3_000_000)).await;
        assert_eq!(env.now(), Nanos(3_000_000));
        assert_eq!(env.wall_now().get() - before.get(), 2990);
        process.set_wall_offset_us(-5_000);
        assert_eq!(before.get() - env.wall_now().get(), 2010);
        let start = env.now();
        env.slice(64 * 1024).await;
        assert!(env.now().since(start) >= 64 * 500, "a slice costs simulated time");
    });
}

#[test]
fn a_killed_process_does_nothing_any_more() {
    struct CountsDrop(Arc<AtomicU64>);
    impl Drop for CountsDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&dropped);
    holdfast_sim::run(6, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let file = env.disk().open("/a".as_ref(), OpenOptions::create()).await.expect("free");
        file.write_at(0, Buf::copy_of(b"kept")).await.0.expect("no fault");
        let lock = env.disk().lock("/".as_ref(), "LOCK", LockKind::Exclusive).await.expect("free");
        let guard = CountsDrop(Arc::clone(&counter));
        let task = process.spawn("waits", async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        world.sleep(1000).await;
        process.kill();
        assert_eq!(counter.load(Ordering::Relaxed), 1, "killing drops the tasks at once");
        assert_eq!(task.await, Err(Died));
        process.died().await;
        let calls = process.io_calls();
        let mut write = file.write_at(0, Buf::copy_of(b"late"));
        world.sleep(1_000_000_000).await;
        let woken = std::task::Waker::noop();
        let polled = std::pin::Pin::new(&mut write).poll(&mut std::task::Context::from_waker(woken));
        assert!(polled.is_pending(), "a dead handle never answers");
        assert_eq!(process.disk().read_file("/a"), b"kept", "a kill keeps the page cache");
        assert_eq!(process.io_calls(), calls);
        env.spawn("never", TaskClass::Background, Box::pin(async { unreachable!("its process is dead") }))
            .expect("a dead process is not told");
        process.restart();
        let env = process.env();
        let again = env.disk().lock("/".as_ref(), "LOCK", LockKind::Exclusive).await;
        assert!(again.is_ok(), "death released the lock");
        drop((file, lock));
        let second = env.disk().lock("/".as_ref(), "LOCK", LockKind::Shared).await;
        assert!(second.is_err(), "a dead process's lock guard releases nothing");
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

use std::future::Future;

#[test]
fn locks_exclude_and_share() {
    holdfast_sim::run(7, |world| async move {
        let (first, second) = (world.process_on("a", "disk"), world.process_on("b", "disk"));
        let (one, two) = (first.env(), second.env());
        let shared = one.disk().lock("/".as_ref(), "LOCK", LockKind::Shared).await.expect("free");
        assert!(two.disk().lock("/".as_ref(), "LOCK", LockKind::Shared).await.is_ok());
        assert!(two.disk().lock("/".as_ref(), "LOCK", LockKind::Exclusive).await.is_err());
        drop(shared);
        assert!(two.disk().lock("/".as_ref(), "LOCK", LockKind::Exclusive).await.is_ok());
        second.power_loss();
        assert!(!first.is_alive(), "power is lost for every process of the disk");
    });
}

#[test]
fn some_calls_are_done_at_once_and_others_wait() {
    let counts = holdfast_sim::run(8, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let file = env.disk().open("/a".as_ref(), OpenOptions::create()).await.expect("free");
        let mut counts = (0, 0);
        for _ in 0..100 {
            let mut call = file.write_at(0, Buf::zeroed(100));
            match &mut call {
                holdfast::env::Io::Ready(_) => counts.0 += 1,
                holdfast::env::Io::Waiting(_) => counts.1 += 1,
            }
            call.await.0.expect("no fault");
        }
        counts
    });
    assert!(counts.result.0 > 20 && counts.result.1 > 20, "{:?}", counts.result);
}

fn panic_of(run: impl FnOnce() + Send + 'static) -> String {
    let panic = std::thread::spawn(run).join().expect_err("it must panic");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a panic has a text")
}

#[test]
fn hangs_and_busy_loops_are_named() {
    let hang = panic_of(|| {
        holdfast_sim::run(1, |world| async move {
            let process = world.process("db");
            process.run(std::future::pending::<()>()).await.ok();
        });
    });
    assert!(hang.contains("nothing can go on") && hang.contains("db: task 1 run"), "{hang}");

    let busy = panic_of(|| {
        let mut options = SimOptions::new(1);
        options.polls_per_instant_max = 1000;
        holdfast_sim::run(options, |world| async move {
            let spin = std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                std::task::Poll::<()>::Pending
            });
            world.spawn("spins", spin).await.ok();
        });
    });
    assert!(busy.contains("busy loop") && busy.contains("spins"), "{busy}");

    let calls = panic_of(|| {
        let mut options = SimOptions::new(1);
        options.calls_per_poll_max = 1000;
        options.latency.ready = Ratio::ALWAYS;
        holdfast_sim::run(options, |world| async move {
            let env = world.process("db").env();
            loop {
                env.disk().list("/".as_ref()).await.expect("the root is there");
            }
        });
    });
    assert!(calls.contains("1001 disk calls in one poll"), "{calls}");
}

#[test]
fn the_log_keeps_the_last_lines() {
    let mut options = SimOptions::new(2);
    options.log_events = 3;
    let outcome = holdfast_sim::run(options, |world| async move {
        for number in 0..10 {
            world.trace(&format!("step {number}"));
        }
    });
    assert_eq!(outcome.log.len(), 3);
    assert!(outcome.log[2].to_string().ends_with("step 9"));
}

/// Numbers of acknowledged writes: each is a file that was synced with its name.
async fn acknowledged_files(env: Arc<dyn Env>, acknowledged: Arc<AtomicU64>, files: u64) {
    for number in 0..files {
        let path = std::path::PathBuf::from(format!("/{number}"));
        let file = env.disk().open(&path, OpenOptions::create()).await.expect("free");
        file.write_at(0, Buf::copy_of(&[7; 700])).await.0.expect("no fault");
        file.sync_data().await.expect("no fault");
        env.disk().sync_dir("/".as_ref()).await.expect("no fault");
        acknowledged.store(number + 1, Ordering::Relaxed);
    }
}

#[test]
fn a_crash_can_be_put_at_every_disk_call() {
    for crash in [Crash::Kill, Crash::PowerLoss] {
        for call in 1..=13u64 {
            let outcome = holdfast_sim::run(call, move |world| async move {
                let process = world.process("db");
                process.crash_at(call, crash);
                let acknowledged = Arc::new(AtomicU64::new(0));
                let run = process.run(acknowledged_files(process.env(), Arc::clone(&acknowledged), 3));
                assert_eq!(run.await.is_err(), call <= 12, "three files are 12 calls");
                assert_eq!(process.is_alive(), call > 12);
                let acknowledged = acknowledged.load(Ordering::Relaxed);
                assert_eq!(acknowledged, (call - 1) / 4);
                for number in 0..acknowledged {
                    assert_eq!(process.disk().read_file(format!("/{number}")), [7; 700]);
                }
            });
            assert_eq!(outcome.crashes.kills + outcome.crashes.power_losses, u64::from(call <= 12));
        }
    }
}

#[test]
fn many_runs_one_after_another_work() {
    let mut options = SimOptions::new(0);
    options.latency = LatencyModel { cached_ns: 0, per_kib_ns: 0, ..LatencyModel::default() };
    for seed in 0..200 {
        options.seed = seed;
        assert_eq!(holdfast_sim::run(options.clone(), |world| async move { world.now() }).result, Nanos(0));
    }
}
