//! Disks that are replaced, devices and processes with limits, clocks that run wrong, and the plain cases of a power
//! loss: size without data, data without size, names that are lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use holdfast::env::{Buf, Env, File, IoErrorKind, LockKind, OpenOptions};
use holdfast_sim::{
    FaultClass, IopsLimit, Process, SimOptions, Survival, SurvivorChoice, Trigger, UnsyncedContent, World,
};

async fn create(env: &Arc<dyn Env>, path: &str) -> Arc<dyn File> {
    env.disk().open(Path::new(path), OpenOptions::create()).await.unwrap()
}

async fn write(file: &Arc<dyn File>, offset: u64, bytes: &[u8]) {
    file.write_at(offset, Buf::copy_of(bytes)).await.0.unwrap();
}

/// Puts a file in place whose bytes and name are durable.
async fn durable(process: &Process, path: &str, bytes: &[u8]) {
    let env = process.env();
    let file = create(&env, path).await;
    write(&file, 0, bytes).await;
    file.sync_all().await.unwrap();
    env.disk().sync_dir(Path::new("/")).await.unwrap();
}

#[test]
fn a_wiped_disk_is_empty_and_works() {
    holdfast_sim::run(1, |world| async move {
        let process = world.process("db");
        process.disk().set_capacity(1 << 20, 10);
        let before = process.disk().free_space();
        durable(&process, "/a", &[1; 5000]).await;
        let copy = process.disk().keep_copy();
        process.kill();
        process.disk().wipe();
        assert!(process.disk().list("/").is_empty());
        assert_eq!(process.disk().free_space(), before, "the capacity is the place's");
        process.restart();
        durable(&process, "/a", &[2; 10]).await;
        process.power_loss();
        assert_eq!(process.disk().read_file("/a"), [2; 10]);
        process.disk().swap_for_older_copy(copy);
        assert_eq!(process.disk().read_file("/a"), [1; 5000]);
    });
}

#[test]
fn an_older_copy_has_what_was_durable_then() {
    holdfast_sim::run(2, |world| async move {
        let process = world.process("db");
        let env = process.env();
        durable(&process, "/a", b"first").await;
        let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
        write(&file, 0, b"never").await;
        create(&env, "/unsynced").await;
        assert_eq!(process.disk().keep_copy(), 0);
        file.sync_all().await.unwrap();
        assert_eq!((process.disk().keep_copy(), process.disk().copies()), (1, 2));
        drop(file);
        durable(&process, "/b", b"later").await;
        process.kill();
        for _ in 0..2 {
            process.disk().swap_for_older_copy(0);
            assert_eq!(process.disk().read_file("/a"), b"first");
            assert!(!process.disk().exists("/unsynced") && !process.disk().exists("/b"));
            process.disk().swap_for_older_copy(1);
            assert_eq!(process.disk().read_file("/a"), b"never");
        }
        process.restart();
        durable(&process, "/b", b"anew").await;
        process.power_loss();
        assert_eq!(process.disk().read_file("/b"), b"anew");
    });
}

#[test]
#[should_panic(expected = "wipe: a living process has files open; kill it first")]
fn a_disk_in_use_is_not_wiped() {
    holdfast_sim::run(3, |world| async move {
        let env = world.process("db").env();
        let _file = create(&env, "/a").await;
        world.disk("db").wipe();
    });
}

#[test]
#[should_panic(expected = "swap_for_older_copy: a living process holds a lock; kill it first")]
fn a_locked_disk_is_not_replaced() {
    holdfast_sim::run(3, |world| async move {
        let env = world.process("db").env();
        world.disk("db").keep_copy();
        let _lock = env.disk().lock(Path::new("/"), "LOCK", LockKind::Shared).await.unwrap();
        world.disk("db").swap_for_older_copy(0);
    });
}

#[test]
#[should_panic(expected = "there is no copy 1; 1 were kept by keep_copy")]
fn a_copy_that_was_not_kept_is_told() {
    holdfast_sim::run(3, |world| async move {
        world.disk("db").keep_copy();
        world.disk("db").swap_for_older_copy(1);
    });
}

/// Simulated nanoseconds that 40 reads of the device and 40 of the page cache take.
async fn reads(world: &World) -> (u64, u64) {
    let env = world.process("db").env();
    let mut taken = [0, 0];
    for (cached, options) in [(0, OpenOptions::read().direct()), (1, OpenOptions::read())] {
        let file = env.disk().open(Path::new("/a"), options).await.unwrap();
        let start = env.now();
        for _ in 0..40 {
            file.read_at(0, Buf::zeroed(512)).await.0.unwrap();
        }
        taken[cached] = env.now().since(start);
    }
    (taken[0], taken[1])
}

#[test]
fn a_device_with_a_limit_serves_so_many_calls_a_second() {
    holdfast_sim::run(4, |world| async move {
        world.disk("db").write_file("/a", &[1; 512]);
        let free = reads(&world).await;
        assert!(free.0 < 2_000_000, "{free:?}");
        let limit = IopsLimit { calls_per_second: 100, burst: 10 };
        world.disk("db").set_iops_limit(Some(limit));
        let limited = reads(&world).await;
        // An open and forty reads, of which ten pass at once; the open of the cached reads waits its turn too.
        assert!((300_000_000..330_000_000).contains(&limited.0), "{limited:?}");
        assert!(limited.1 < 1_000_000, "the page cache is not limited: {limited:?}");
        world.disk("db").set_iops_limit(None);
        assert!(reads(&world).await.0 < 2_000_000);
    });
}

#[test]
fn calls_that_wait_for_the_device_wait_in_a_queue() {
    let mut options = SimOptions::new(5);
    options.iops_limit = Some(IopsLimit { calls_per_second: 1000, burst: 1 });
    holdfast_sim::run(options, |world| async move {
        world.disk("db").write_file("/a", &[1; 512]);
        let process = world.process("db");
        let start = world.now();
        let mut tasks = Vec::new();
        for _ in 0..10 {
            let env = process.env();
            tasks.push(process.spawn("sync", async move {
                env.disk().sync_dir(Path::new("/")).await.unwrap();
                env.now()
            }));
        }
        let mut ends = Vec::new();
        for task in tasks {
            ends.push(task.await.unwrap().since(start));
        }
        ends.sort_unstable();
        for (turn, end) in ends.iter().enumerate() {
            let waits = turn as u64 * 1_000_000;
            assert!((waits..waits + 100_000).contains(end), "{ends:?}");
        }
    });
}

#[test]
fn a_process_has_at_most_so_many_open_files() {
    holdfast_sim::run(6, |world| async move {
        let (process, other) = (world.process_on("db", "disk"), world.process_on("other", "disk"));
        let env = process.env();
        process.set_open_files_max(Some(2));
        let first = create(&env, "/1").await;
        let _second = create(&env, "/2").await;
        let third = env.disk().open(Path::new("/3"), OpenOptions::create()).await;
        assert_eq!(third.err().unwrap().kind, IoErrorKind::TooManyFiles);
        assert!(!process.disk().exists("/3"));
        create(&other.env(), "/3").await;
        drop(first);
        let _again = create(&env, "/4").await;
        process.set_open_files_max(Some(0));
        let refused = env.disk().open(Path::new("/1"), OpenOptions::read()).await;
        assert_eq!(refused.err().unwrap().kind, IoErrorKind::TooManyFiles);
        process.set_open_files_max(None);
        assert!(env.disk().open(Path::new("/1"), OpenOptions::read()).await.is_ok());
    });
}

#[test]
fn a_wall_clock_drifts_in_parts_per_million_and_keeps_what_it_drifted() {
    const HOUR: u64 = 3_600_000_000_000;
    holdfast_sim::run(7, |world| async move {
        let (fast, slow) = (world.process("fast"), world.process("slow"));
        let error = |process: &Process| {
            let shows = i128::from(process.env().wall_now().get());
            shows - i128::from(holdfast_sim::WALL_START_US) - i128::from(world.now().0 / 1000)
        };
        world.sleep(HOUR).await;
        assert_eq!((error(&fast), error(&slow)), (0, 0), "not unless it is asked for");
        fast.set_wall_drift_ppm(50);
        slow.set_wall_drift_ppm(-200);
        assert_eq!((error(&fast), error(&slow)), (0, 0), "setting it moves nothing");
        world.sleep(HOUR).await;
        assert_eq!((error(&fast), error(&slow)), (180_000, -720_000));
        fast.set_wall_drift_ppm(0);
        slow.set_wall_drift_ppm(100);
        world.sleep(HOUR).await;
        assert_eq!((error(&fast), error(&slow)), (180_000, -360_000));
        slow.set_wall_offset_us(7);
        assert_eq!(error(&slow), 7);
        slow.set_wall_drift_ppm(-1_000_000);
        let stopped = slow.env().wall_now();
        world.sleep(HOUR).await;
        assert_eq!(slow.env().wall_now(), stopped);
    });
}

#[test]
#[should_panic(expected = "-1000001 runs backwards; -1000000 stops the clock")]
fn a_wall_clock_does_not_run_backwards() {
    holdfast_sim::run(7, |world| async move { world.process("db").set_wall_drift_ppm(-1_000_001) });
}

/// Answers the same to every question of its kind.
struct Fixed {
    content: Survival,
    new_size: bool,
    new_names: bool,
}

impl SurvivorChoice for Fixed {
    fn content(&mut self, _: &UnsyncedContent) -> Survival {
        self.content.clone()
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        if self.new_size { candidates.len() - 1 } else { 0 }
    }

    fn name(&mut self, _: u64, _: &str, candidates: &[Option<u64>]) -> usize {
        if self.new_names { candidates.len() - 1 } else { 0 }
    }
}

/// What is left of a file of one durable sector of ones, to which a sector of twos was appended without a sync, after
/// a power loss by `choice`; and after it was then extended by a third sector of threes.
fn after_an_append(choice: Fixed) -> (Vec<u8>, Vec<u8>) {
    holdfast_sim::run(8, |world| async move {
        let process = world.process("db");
        process.disk().write_file("/a", &[1; 512]);
        let file = process.env().disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
        write(&file, 512, &[2; 512]).await;
        drop(file);
        world.set_survivors(Some(Box::new(choice)));
        process.power_loss();
        process.restart();
        let left = process.disk().read_file("/a");
        let file = process.env().disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
        write(&file, 1024, &[3; 512]).await;
        (left, process.disk().read_file("/a"))
    })
    .result
}

fn sectors(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [*byte; 512]).collect()
}

#[test]
fn a_power_loss_may_keep_the_size_without_the_data() {
    let (left, extended) =
        after_an_append(Fixed { content: Survival::Gone, new_size: true, new_names: false });
    assert_eq!(left, sectors(&[1, 0]), "zeros are exposed");
    assert_eq!(extended, sectors(&[1, 0, 3]));
}

#[test]
fn a_power_loss_may_keep_the_data_without_the_size() {
    let (left, extended) =
        after_an_append(Fixed { content: Survival::Whole, new_size: false, new_names: false });
    assert_eq!(left, sectors(&[1]), "nothing shows of it");
    assert_eq!(extended, sectors(&[1, 0, 3]), "and never will: what lies beyond the size reads as zeros");
    let (left, _) = after_an_append(Fixed { content: Survival::Whole, new_size: true, new_names: false });
    assert_eq!(left, sectors(&[1, 2]));
}

#[test]
fn a_power_loss_may_lose_each_kind_of_name() {
    for new_names in [false, true] {
        holdfast_sim::run(9, move |world| async move {
            let process = world.process("db");
            for name in ["/removed", "/renamed", "/replaced", "/linked"] {
                process.disk().write_file(name, name.as_bytes());
            }
            let env = process.env();
            let disk = env.disk();
            create(&env, "/created").await.sync_all().await.unwrap();
            disk.create_dir(Path::new("/directory")).await.unwrap();
            disk.remove(Path::new("/removed")).await.unwrap();
            disk.rename(Path::new("/renamed"), Path::new("/replaced")).await.unwrap();
            disk.hard_link(Path::new("/linked"), Path::new("/link")).await.unwrap();
            world.set_survivors(Some(Box::new(Fixed {
                content: Survival::Whole,
                new_size: true,
                new_names,
            })));
            process.power_loss();
            let disk = process.disk();
            for name in ["/created", "/directory", "/link"] {
                assert_eq!(disk.exists(name), new_names, "{name}");
            }
            for name in ["/removed", "/renamed"] {
                assert_eq!(disk.exists(name), !new_names, "{name}");
            }
            let kept = if new_names { "/renamed" } else { "/replaced" };
            assert_eq!(disk.read_file("/replaced"), kept.as_bytes());
        });
    }
}

#[test]
fn a_bit_that_flips_in_a_hole_takes_room_and_gives_it_back() {
    holdfast_sim::run(3, |world| async move {
        let process = world.process("db");
        process.disk().set_capacity(1 << 20, 10);
        let room = process.disk().free_space();
        let env = process.env();
        for by_read in [false, true] {
            let file = create(&env, "/sparse").await;
            file.truncate(64 << 10).await.unwrap();
            if by_read {
                process.disk().inject(FaultClass::BitRot, Trigger::Once(1));
                assert_eq!(file.read_at(0, Buf::zeroed(512)).await.0.unwrap(), 512);
            } else {
                process.disk().flip_bit("/sparse", 5000, 3);
            }
            assert!(process.disk().free_space().bytes < room.bytes);
            drop(file);
            env.disk().remove(Path::new("/sparse")).await.unwrap();
            assert_eq!(process.disk().free_space(), room);
        }
    });
}
