//! Each fault fires when asked for, does what it says, and ends.

use std::path::Path;
use std::sync::Arc;

use holdfast::env::{Buf, Env, File, IoErrorKind, IoResult, OpenOptions, TaskClass};
use holdfast_sim::{
    EverythingSurvives, FailedSync, FaultClass, NothingSurvives, Outcome, Process, Ratio, SimOptions,
    Trigger, World,
};
use quickcheck::quickcheck;

async fn create(env: &Arc<dyn Env>, path: &str) -> IoResult<Arc<dyn File>> {
    env.disk().open(Path::new(path), OpenOptions::create()).await
}

async fn write(file: &Arc<dyn File>, offset: u64, byte: u8, len: usize) -> IoResult<usize> {
    let mut buf = Buf::zeroed(len);
    buf.fill(byte);
    file.write_at(offset, buf).await.0
}

async fn read(file: &Arc<dyn File>, offset: u64, len: usize) -> IoResult<Vec<u8>> {
    let (result, buf) = file.read_at(offset, Buf::zeroed(len)).await;
    result.map(|count| buf[..count].to_vec())
}

fn kind<T>(result: IoResult<T>) -> Option<IoErrorKind> {
    result.err().map(|error| error.kind)
}

/// Runs `body` with one process, its environment, and a file `/a` of 4096 ones that is durable.
fn with_file<F, Fut>(options: impl Into<SimOptions>, body: F) -> Outcome<()>
where
    F: FnOnce(World, Process, Arc<dyn Env>, Arc<dyn File>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    holdfast_sim::run(options, |world| async move {
        let process = world.process("db");
        process.disk().write_file("/a", &[1; 4096]);
        let env = process.env();
        let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.expect("it is there");
        body(world, process, env, file).await;
    })
}

#[test]
fn read_errors_fire_once_or_last() {
    let outcome = with_file(1, |_, process, _, file| async move {
        process.disk().inject(FaultClass::ReadError, Trigger::Once(2));
        assert_eq!(kind(read(&file, 0, 10).await), None);
        assert_eq!(kind(read(&file, 0, 10).await), Some(IoErrorKind::Medium));
        assert_eq!(kind(read(&file, 0, 10).await), None);
        process.disk().inject_on(FaultClass::ReadError, "a", Trigger::From(1));
        process.disk().inject_on(FaultClass::WriteError, "other", Trigger::From(1));
        for _ in 0..3 {
            assert_eq!(kind(read(&file, 0, 10).await), Some(IoErrorKind::Medium));
        }
        assert_eq!(kind(write(&file, 0, 2, 10).await), None, "another file's fault");
        process.disk().clear_faults();
        assert_eq!(kind(read(&file, 0, 10).await), None);
    });
    assert_eq!(outcome.fired(FaultClass::ReadError), 4);
}

#[test]
fn a_write_error_writes_nothing() {
    let outcome = with_file(1, |_, process, _, file| async move {
        process.disk().inject(FaultClass::WriteError, Trigger::Once(1));
        assert_eq!(kind(write(&file, 0, 2, 4096).await), Some(IoErrorKind::Medium));
        assert_eq!(process.disk().read_file("/a"), [1; 4096]);
        assert_eq!(kind(write(&file, 0, 2, 4096).await), None);
    });
    assert_eq!(outcome.fired(FaultClass::WriteError), 1);
}

#[test]
fn short_reads_and_writes_are_short_and_rates_are_rates() {
    let outcome = with_file(3, |_, process, _, file| async move {
        process.disk().set_fault_rate(FaultClass::ShortRead, Ratio::new(1, 2));
        process.disk().set_fault_rate(FaultClass::ShortWrite, Ratio::new(1, 2));
        let mut short = (0, 0);
        for _ in 0..100 {
            let read = read(&file, 0, 4096).await.expect("no error");
            assert!(!read.is_empty() && read.iter().all(|byte| *byte == 1));
            short.0 += u32::from(read.len() < 4096);
            let taken = write(&file, 0, 1, 4096).await.expect("no error");
            assert!(taken > 0);
            short.1 += u32::from(taken < 4096);
        }
        assert!((25..=75).contains(&short.0) && (25..=75).contains(&short.1), "{short:?}");
    });
    assert!(outcome.fired(FaultClass::ShortWrite) > 25);
}

#[test]
fn a_failed_sync_is_never_made_good_by_the_next() {
    for (policy, byte) in [(FailedSync::ReadsNew, 2), (FailedSync::ReadsOld, 1)] {
        let mut lost = 0;
        for seed in 0..30 {
            let mut options = SimOptions::new(seed);
            options.failed_sync = policy;
            let outcome = with_file_value(options, move |world, process, file| async move {
                write(&file, 0, 2, 4096).await.expect("no fault yet");
                process.disk().inject(FaultClass::SyncError, Trigger::Once(1));
                assert_eq!(kind(file.sync_data().await), Some(IoErrorKind::Medium));
                let durable = process.disk().read_durable("/a");
                let seen = read(&file, 0, 4096).await.expect("no fault");
                if byte == 2 {
                    assert_eq!(seen, [2; 4096], "the page cache still has the new bytes");
                } else {
                    assert_eq!(seen, durable, "the page cache has what is on the medium");
                }
                file.sync_data().await.expect("the next sync says that all is well");
                assert_eq!(
                    process.disk().read_durable("/a"),
                    durable,
                    "but nothing reached the medium by it"
                );
                // Even when everything unsynced survives: these pages are clean, and gone.
                world.set_survivors(Some(Box::new(EverythingSurvives)));
                process.power_loss();
                assert_eq!(process.disk().read_file("/a"), durable);
                u32::from(durable != [2; 4096])
            });
            lost += outcome.result;
        }
        assert!((10..30).contains(&lost), "{lost} of 30 failed syncs lost something");
    }
}

fn with_file_value<T, F, Fut>(options: SimOptions, body: F) -> Outcome<T>
where
    T: Send + 'static,
    F: FnOnce(World, Process, Arc<dyn File>) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    holdfast_sim::run(options, |world| async move {
        let process = world.process("db");
        process.disk().write_file("/a", &[1; 4096]);
        let env = process.env();
        let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.expect("it is there");
        body(world, process, file).await
    })
}

#[test]
fn a_failed_dsync_write_does_not_touch_its_neighbours() {
    for seed in 0..30 {
        with_file(seed, |_, process, env, _| async move {
            let options = OpenOptions::write().direct().dsync();
            let file = env.disk().open(Path::new("/a"), options).await.expect("it is there");
            process.disk().inject(FaultClass::SyncError, Trigger::Once(2));
            let (first, second) = (write(&file, 0, 2, 1024).await, write(&file, 1024, 3, 1024).await);
            assert_eq!((kind(first), kind(second)), (None, Some(IoErrorKind::Medium)));
            file.sync_data().await.expect("the fault is over");
            let before = process.disk().read_durable("/a");
            process.power_loss();
            let after = process.disk().read_file("/a");
            assert_eq!(after, before, "what the failed write left was decided when it failed");
            assert_eq!(after[..1024], [2; 1024], "the write before it is durable");
            assert!(after[1024..2048].chunks(512).all(|sector| sector == [1; 512] || sector == [3; 512]));
            assert_eq!(after[2048..], [1; 2048]);
        });
    }
}

#[test]
fn a_failed_sync_of_a_directory_decides_its_names_for_good() {
    let mut lost = 0;
    for seed in 0..20 {
        let outcome = holdfast_sim::run(seed, |world| async move {
            let process = world.process("db");
            let env = process.env();
            create(&env, "/new").await.expect("free");
            process.disk().inject(FaultClass::SyncError, Trigger::Once(1));
            assert_eq!(kind(env.disk().sync_dir(Path::new("/")).await), Some(IoErrorKind::Medium));
            env.disk().sync_dir(Path::new("/")).await.expect("the fault is over");
            assert!(process.disk().exists("/new"), "it is still seen");
            world.set_survivors(Some(Box::new(EverythingSurvives)));
            process.power_loss();
            !process.disk().exists("/new")
        });
        lost += u32::from(outcome.result);
    }
    assert!((1..20).contains(&lost), "{lost} of 20 names were lost");
}

#[test]
fn a_full_disk_refuses_every_kind_of_growth_and_recovers() {
    with_file(4, |_, process, env, file| async move {
        let disk = process.disk();
        disk.set_capacity(3 * 4096, 100);
        write(&file, 4096, 2, 4096).await.expect("there is room for a second page");
        write(&file, 8192, 2, 4096).await.expect("and for a third");
        assert_eq!(disk.free_space().bytes, 0);
        assert_eq!(kind(write(&file, 12288, 2, 1).await), Some(IoErrorKind::Full));
        write(&file, 0, 3, 4096).await.expect("overwriting needs no room");
        assert_eq!(kind(file.allocate(12288, 4096).await), Some(IoErrorKind::Full));
        assert_eq!(kind(file.zero_range(12288, 4096).await), Some(IoErrorKind::Full));
        assert_eq!(kind(create(&env, "/b").await), Some(IoErrorKind::Full));
        let (from, to) = (Path::new("/a"), Path::new("/b"));
        assert_eq!(kind(env.disk().hard_link(from, to).await), Some(IoErrorKind::Full));
        assert_eq!(kind(env.disk().rename(from, to).await), Some(IoErrorKind::Full));
        assert_eq!(kind(env.disk().create_dir(to).await), Some(IoErrorKind::Full));
        file.punch_hole(4096, 4096).await.expect("no fault");
        assert_eq!(disk.free_space().bytes, 4096);
        assert_eq!(read(&file, 4096, 4096).await.expect("no fault"), [0; 4096]);
        env.disk().rename(from, to).await.expect("there is room again");
        disk.set_capacity(1 << 30, 1);
        assert_eq!(kind(create(&env, "/c").await), Some(IoErrorKind::Full), "no inode is left");
        disk.set_capacity(1 << 30, 2);
        create(&env, "/c").await.expect("one inode is left");
        drop(file);
        env.disk().remove(to).await.expect("it is there");
        assert_eq!((disk.free_space().bytes, disk.free_space().inodes), (1 << 30, 1));
    });
}

#[test]
fn an_open_file_keeps_its_space_until_it_is_closed() {
    with_file(4, |_, process, env, file| async move {
        process.disk().set_capacity(4096 * 10, 10);
        env.disk().remove(Path::new("/a")).await.expect("it is there");
        assert_eq!(process.disk().free_space().bytes, 4096 * 9);
        assert_eq!(read(&file, 0, 4096).await.expect("an open file can be read"), [1; 4096]);
        drop(file);
        assert_eq!(process.disk().free_space().bytes, 4096 * 10);
    });
}

#[test]
fn with_delayed_allocation_the_sync_learns_of_a_full_disk() {
    with_file(5, |world, process, _, file| async move {
        process.disk().set_delayed_allocation(true);
        process.disk().set_capacity(2 * 4096, 10);
        write(&file, 4096, 2, 3 * 4096).await.expect("a cached write learns nothing");
        assert_eq!(kind(file.sync_data().await), Some(IoErrorKind::Full));
        process.disk().set_capacity(1 << 30, 10);
        file.sync_data().await.expect("there is room now");
        write(&file, 0, 9, 100).await.expect("there is room");
        file.sync_data().await.expect("there is room");
        world.set_survivors(Some(Box::new(NothingSurvives)));
        process.power_loss();
        assert_eq!(process.disk().read_file("/a")[..100], [9; 100], "later syncs are good");
    });
}

#[test]
fn a_durable_write_that_is_full_in_its_sync_may_be_there() {
    let mut whole = 0;
    for seed in 0..40 {
        let found = holdfast_sim::run(seed, |world| async move {
            let process = world.process("db");
            process.disk().write_file("/a", &[1; 4096]);
            process.disk().sync_everything();
            let options = OpenOptions::write().direct().dsync();
            let file = process.env().disk().open(Path::new("/a"), options).await.expect("it is there");
            process.disk().inject(FaultClass::NoSpace, Trigger::From(1));
            assert_eq!(kind(write(&file, 0, 2, 1024).await), None, "overwriting needs no room");
            process.disk().set_full_in_sync(true);
            assert_eq!(kind(write(&file, 0, 3, 1024).await), Some(IoErrorKind::Full));
            let seen = read(&file, 0, 4096).await.expect("it can be read");
            process.power_loss();
            let kept = process.disk().read_file("/a");
            assert!(seen == kept, "what a direct read sees is on the medium");
            [kept[0], kept[512]]
        })
        .result;
        assert!(found.iter().all(|byte| [2, 3].contains(byte)), "{found:?}");
        whole += u64::from(found == [3, 3]);
    }
    assert!((5..36).contains(&whole), "{whole} of 40 writes were whole");
}

#[test]
fn space_runs_out_at_an_exact_call() {
    let outcome = with_file(6, |_, process, env, file| async move {
        process.disk().inject(FaultClass::NoSpace, Trigger::Once(2));
        write(&file, 4096, 2, 100).await.expect("the first allocating call");
        write(&file, 0, 2, 100).await.expect("overwriting allocates nothing");
        assert_eq!(kind(create(&env, "/b").await), Some(IoErrorKind::Full));
        create(&env, "/b").await.expect("the fault is over");
    });
    assert_eq!(outcome.fired(FaultClass::NoSpace), 1);
}

#[test]
fn opens_and_spawns_are_refused() {
    let outcome = with_file(7, |_, process, env, _| async move {
        process.disk().inject(FaultClass::TooManyFiles, Trigger::Once(2));
        create(&env, "/b").await.expect("the first open");
        assert_eq!(kind(create(&env, "/c").await), Some(IoErrorKind::TooManyFiles));
        assert!(!process.disk().exists("/c"), "a refused open creates nothing");
        create(&env, "/c").await.expect("the fault is over");
        process.disk().inject_on(FaultClass::SpawnRefused, "flush", Trigger::Once(1));
        assert!(env.spawn("compaction", TaskClass::Background, Box::pin(async {})).is_ok());
        assert!(env.spawn("flush", TaskClass::Background, Box::pin(async {})).is_err());
        assert!(env.spawn("flush", TaskClass::Background, Box::pin(async {})).is_ok());
    });
    assert_eq!(outcome.fired(FaultClass::TooManyFiles) + outcome.fired(FaultClass::SpawnRefused), 2);
}

#[test]
fn rare_branches_are_off_until_asked_for() {
    let outcome = with_file(8, |world, _, env, _| async move {
        assert!((0..100).all(|_| !env.rare("branch")));
        world.set_rare(Ratio::new(1, 4));
        let taken = (0..400).filter(|_| env.rare("branch")).count();
        assert!((50..150).contains(&taken), "{taken}");
    });
    assert!(outcome.rare_taken >= 50);
}

#[test]
fn direct_io_is_aligned_and_never_mixed() {
    let outcome = with_file(9, |_, process, env, file| async move {
        let options = OpenOptions::write().direct();
        let direct = env.disk().open(Path::new("/a"), options).await.expect("it is there");
        assert_eq!(kind(write(&direct, 100, 2, 512).await), Some(IoErrorKind::Unsupported));
        assert_eq!(kind(write(&direct, 512, 2, 100).await), Some(IoErrorKind::Unsupported));
        assert_eq!(kind(read(&direct, 1, 512).await), Some(IoErrorKind::Unsupported));
        write(&file, 0, 2, 512).await.expect("cached");
        assert_eq!(kind(write(&direct, 512, 3, 512).await), Some(IoErrorKind::Other));
        file.sync_data().await.expect("no fault");
        write(&direct, 512, 3, 512).await.expect("nothing cached is unsynced");
        assert_eq!(kind(write(&file, 0, 2, 512).await), Some(IoErrorKind::Other));
        assert_eq!(process.disk().mixed_writes(), 2);
        let read_only = env.disk().open(Path::new("/a"), OpenOptions::read()).await.expect("it is there");
        assert_eq!(kind(write(&read_only, 0, 1, 1).await), Some(IoErrorKind::Permission));
    });
    assert_eq!(outcome.mixed_writes, 2);
}

#[test]
fn bytes_rot_and_images_come_back() {
    with_file(10, |_, process, _, file| async move {
        let disk = process.disk();
        let image = disk.snapshot();
        disk.flip_bit("/a", 17, 3);
        disk.corrupt("/a", 100, 4, |bytes| bytes.fill(0xee));
        let rotten = read(&file, 0, 4096).await.expect("rot gives no error");
        assert_eq!((rotten[17], &rotten[100..104]), (1 ^ 8, &[0xee; 4][..]));
        assert_ne!(disk.snapshot().hash(), image.hash());
        process.power_loss();
        assert_eq!(disk.read_file("/a"), rotten, "rot survives");
        disk.restore(&image);
        assert_eq!(disk.read_file("/a"), [1; 4096]);
        assert_eq!(disk.snapshot().hash(), image.hash());
        disk.remove_file("/a");
        disk.create_dir_all("/x/y");
        assert_eq!(disk.list("/").len(), 1);
    });
}

quickcheck! {
    /// A late write, an early one, or one whose future was dropped: a kill leaves it whole or not at all, and what
    /// was acknowledged is there.
    fn a_kill_leaves_whole_writes(seed: u64, offsets: Vec<u8>) -> bool {
        with_file(seed, |world, process, env, _| async move {
            let options = OpenOptions::write().direct();
            let file = env.disk().open(Path::new("/a"), options).await.expect("it is there");
            let mut expected = vec![1; 4096];
            for offset in &offsets {
                let offset = usize::from(*offset % 8) * 512;
                write(&file, offset as u64, 2, 512).await.expect("no fault");
                expected[offset..offset + 512].fill(2);
            }
            drop(file.write_at(0, Buf::copy_of(&[3; 1024])));
            world.sleep(world.random_below(30_000)).await;
            process.kill();
            world.sleep(1_000_000).await;
            let found = process.disk().read_file("/a");
            assert!(found[..1024] == [3; 1024] || found[..1024] == expected[..1024]);
            assert_eq!(found[1024..], expected[1024..]);
        });
        true
    }
}
