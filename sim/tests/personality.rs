//! What real file systems promise and `strict` does not: order of names, renames, new names with their file's sync, no
//! zeros, and what a failed sync leaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::env::{Buf, Env, File, IoErrorKind, OpenOptions};
use holdfast_sim::{
    EverythingSurvives, FaultClass, NothingSurvives, Odometer, Outcome, Personality, Process, SECTOR,
    SimOptions, Trigger, World,
};
use quickcheck::quickcheck;

const REAL: [Personality; 3] = [Personality::Ext4, Personality::Xfs, Personality::Btrfs];

/// Runs `body` with one process on a disk of this personality.
fn on<T, F, Fut>(personality: Personality, seed: u64, body: F) -> Outcome<T>
where
    T: Send + 'static,
    F: FnOnce(World, Process, Arc<dyn Env>) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let options = SimOptions { personality, ..SimOptions::new(seed) };
    holdfast_sim::run(options, |world| async move {
        let process = world.process("db");
        let env = process.env();
        body(world, process, env).await
    })
}

async fn create(env: &Arc<dyn Env>, path: &str) -> Arc<dyn File> {
    env.disk().open(Path::new(path), OpenOptions::create()).await.unwrap()
}

async fn write(file: &Arc<dyn File>, offset: u64, byte: u8, len: usize) {
    let mut buf = Buf::zeroed(len);
    buf.fill(byte);
    file.write_at(offset, buf).await.0.unwrap();
}

fn lose_everything_unsynced(world: &World, process: &Process) {
    world.set_survivors(Some(Box::new(NothingSurvives)));
    process.power_loss();
    process.restart();
}

#[test]
fn a_sync_of_a_new_file_makes_its_name_and_those_above_durable() {
    for personality in [Personality::Strict, Personality::Ext4, Personality::Xfs, Personality::Btrfs] {
        for whole in [false, true] {
            on(personality, 1, move |world, process, env| async move {
                env.disk().create_dir(Path::new("/x")).await.unwrap();
                env.disk().create_dir(Path::new("/x/y")).await.unwrap();
                let file = create(&env, "/x/y/new").await;
                write(&file, 0, 1, 700).await;
                let synced = if whole { file.sync_all().await } else { file.sync_data().await };
                synced.unwrap();
                create(&env, "/x/after").await;
                lose_everything_unsynced(&world, &process);
                let is_real = personality != Personality::Strict;
                assert_eq!(process.disk().exists("/x/y/new"), is_real, "{personality:?}");
                assert!(!process.disk().exists("/x/after"));
                if is_real {
                    assert_eq!(process.disk().read_file("/x/y/new"), [1; 700]);
                }
            });
        }
    }
}

#[test]
fn a_journal_takes_earlier_names_of_others_along_and_a_log_does_not() {
    for (personality, along) in
        [(Personality::Ext4, true), (Personality::Xfs, true), (Personality::Btrfs, false)]
    {
        on(personality, 2, move |world, process, env| async move {
            process.disk().write_file("/removed", b"x");
            create(&env, "/other").await;
            env.disk().remove(Path::new("/removed")).await.unwrap();
            let file = create(&env, "/synced").await;
            file.sync_all().await.unwrap();
            lose_everything_unsynced(&world, &process);
            assert!(process.disk().exists("/synced"));
            assert_eq!(process.disk().exists("/other"), along, "{personality:?}");
            assert_eq!(process.disk().exists("/removed"), !along, "{personality:?}");
        });
    }
}

#[test]
fn a_sync_of_bytes_alone_leaves_a_new_name_of_an_old_file_to_chance() {
    for personality in REAL {
        for whole in [false, true] {
            on(personality, 3, move |world, process, env| async move {
                process.disk().write_file("/old", &[1; 512]);
                let file = env.disk().open(Path::new("/old"), OpenOptions::write()).await.unwrap();
                env.disk().rename(Path::new("/old"), Path::new("/new")).await.unwrap();
                write(&file, 0, 2, 512).await;
                let synced = if whole { file.sync_all().await } else { file.sync_data().await };
                synced.unwrap();
                lose_everything_unsynced(&world, &process);
                let name = if whole { "/new" } else { "/old" };
                assert_eq!(process.disk().list("/").len(), 1, "{personality:?}: a rename is one thing");
                assert_eq!(process.disk().read_file(name), [2; 512], "{personality:?}");
            });
        }
    }
}

#[test]
fn a_sync_of_a_directory_keeps_a_rename_into_another_one_whole() {
    for personality in REAL {
        on(personality, 4, move |world, process, env| async move {
            process.disk().create_dir_all("/from");
            process.disk().create_dir_all("/to");
            process.disk().write_file("/from/file", b"bytes");
            env.disk().rename(Path::new("/from/file"), Path::new("/to/file")).await.unwrap();
            env.disk().sync_dir(Path::new("/to")).await.unwrap();
            lose_everything_unsynced(&world, &process);
            assert!(process.disk().exists("/to/file") && !process.disk().exists("/from/file"));
        });
    }
}

#[test]
fn a_file_renamed_over_another_brings_its_bytes_on_ext4() {
    for (personality, brings) in [(Personality::Ext4, true), (Personality::Xfs, false)] {
        on(personality, 5, move |world, process, env| async move {
            process.disk().write_file("/a", &[1; 600]);
            let file = create(&env, "/b").await;
            write(&file, 0, 2, 600).await;
            env.disk().rename(Path::new("/b"), Path::new("/a")).await.unwrap();
            env.disk().sync_dir(Path::new("/")).await.unwrap();
            lose_everything_unsynced(&world, &process);
            let expected: &[u8] = if brings { &[2; 600] } else { &[] };
            assert_eq!(process.disk().read_file("/a"), expected, "{personality:?}");
        });
    }
}

/// The names and whose they are.
type Names = BTreeMap<String, u64>;

fn seen(process: &Process) -> Names {
    let disk = process.disk();
    let name = |entry: holdfast::env::DirEntry| {
        let identity = disk.read_file(format!("/{}", entry.name)).try_into().map(u64::from_le_bytes);
        (entry.name, identity.unwrap())
    };
    disk.list("/").into_iter().map(name).collect()
}

/// Changes names by steps; gives the names after each operation, and how many operations are durable.
async fn change_names(env: Arc<dyn Env>, mut names: Names, steps: Vec<(u8, u8, u8)>) -> (Vec<Names>, usize) {
    let path = |number: u8| PathBuf::from(format!("/{}", number % 4));
    let key = |number: u8| (number % 4).to_string();
    let (mut states, mut durable) = (vec![names.clone()], 0);
    for (number, (what, from, to)) in steps.into_iter().enumerate() {
        let (has_from, has_to) = (names.contains_key(&key(from)), names.contains_key(&key(to)));
        match what % 6 {
            0 | 1 if !has_from => {
                let file = env.disk().open(&path(from), OpenOptions::create()).await.unwrap();
                let identity = number as u64 + 100 * u64::from(what);
                file.write_at(0, Buf::copy_of(&identity.to_le_bytes())).await.0.unwrap();
                file.sync_all().await.unwrap();
                names.insert(key(from), identity);
                states.push(names.clone());
                durable = states.len() - 1;
                continue;
            }
            2 if has_from => {
                env.disk().remove(&path(from)).await.unwrap();
                names.remove(&key(from));
            }
            3 if has_from && names.get(&key(from)) != names.get(&key(to)) => {
                env.disk().rename(&path(from), &path(to)).await.unwrap();
                let moved = names.remove(&key(from)).unwrap();
                names.insert(key(to), moved);
            }
            4 if has_from && !has_to => {
                env.disk().hard_link(&path(from), &path(to)).await.unwrap();
                names.insert(key(to), names[&key(from)]);
            }
            5 => {
                env.disk().sync_dir(Path::new("/")).await.unwrap();
                durable = states.len() - 1;
                continue;
            }
            _ => continue,
        }
        states.push(names.clone());
    }
    (states, durable)
}

async fn name_rounds(world: World, rounds: Vec<Vec<(u8, u8, u8)>>) -> bool {
    let process = world.process("db");
    let mut names = Names::new();
    for steps in rounds {
        let (states, durable) = process.run(change_names(process.env(), names, steps)).await.unwrap();
        process.power_loss();
        process.restart();
        names = seen(&process);
        if !states[durable..].contains(&names) {
            return false;
        }
    }
    true
}

quickcheck! {
    /// A sync of a new file counts as one of the directory here, since a journal takes everything along.
    fn a_power_loss_leaves_a_prefix_of_all_changes(seed: u64, rounds: Vec<Vec<(u8, u8, u8)>>) -> bool {
        [Personality::Ext4, Personality::Xfs].into_iter().all(|personality| {
            let options = SimOptions { personality, ..SimOptions::new(seed) };
            let rounds = rounds.clone();
            holdfast_sim::run(options, |world| name_rounds(world, rounds)).result
        })
    }

    fn appended_bytes_are_never_zeros(seed: u64, lengths: Vec<u16>) -> bool {
        REAL.into_iter().all(|personality| is_free_of_zeros(personality, seed, lengths.clone()))
    }
}

/// Appends ones, loses power in between, and looks for anything else.
fn is_free_of_zeros(personality: Personality, seed: u64, lengths: Vec<u16>) -> bool {
    on(personality, seed, |_, process, _| async move {
        process.disk().write_file("/a", b"");
        for lengths in lengths.chunks(3) {
            let file = process.env().disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
            for len in lengths {
                let end = file.len().await.unwrap();
                write(&file, end, 1, usize::from(*len % 5000)).await;
            }
            drop(file);
            process.power_loss();
            process.restart();
            if process.disk().read_file("/a").iter().any(|byte| *byte != 1) {
                return false;
            }
        }
        true
    })
    .result
}

#[test]
fn strict_exposes_zeros_and_reorders_names() {
    assert!((0..20).any(|seed| !is_free_of_zeros(Personality::Strict, seed, vec![4000, 3000, 2000])));
    let steps = vec![(0, 0, 0), (5, 0, 0), (3, 0, 1), (3, 1, 2), (2, 2, 0)];
    let is_prefix = |seed| {
        let rounds = vec![steps.clone()];
        holdfast_sim::run(seed, |world| name_rounds(world, rounds)).result
    };
    assert!((0..20).any(|seed| !is_prefix(seed)));
}

#[test]
fn every_prefix_of_the_journal_is_met() {
    for personality in REAL {
        let found = on(personality, 6, |world, process, env| async move {
            process.disk().write_file("/a", &1u64.to_le_bytes());
            process.disk().write_file("/b", &2u64.to_le_bytes());
            env.disk().rename(Path::new("/a"), Path::new("/c")).await.unwrap();
            env.disk().rename(Path::new("/b"), Path::new("/a")).await.unwrap();
            env.disk().remove(Path::new("/c")).await.unwrap();
            process.kill();
            let start = process.disk().snapshot();
            let mut found = Vec::new();
            let mut odometer = Odometer::new(4);
            loop {
                process.disk().restore(&start);
                process.restart();
                world.survivors_from(&mut odometer, || process.power_loss());
                found.push(
                    seen(&process).into_iter().map(|(name, identity)| format!("{name}{identity}")).collect(),
                );
                if !odometer.advance() {
                    return found;
                }
            }
        });
        let found: Vec<Vec<String>> = found.result;
        assert_eq!(
            found,
            [vec!["a1", "b2"], vec!["b2", "c1"], vec!["a2", "c1"], vec!["a2"]],
            "{personality:?}"
        );
    }
}

#[test]
fn a_truncate_before_a_durable_name_is_durable() {
    for (personality, is_there) in
        [(Personality::Ext4, true), (Personality::Xfs, true), (Personality::Btrfs, false)]
    {
        on(personality, 7, move |world, process, env| async move {
            process.disk().write_file("/a", &[1; 2000]);
            let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
            file.truncate(700).await.unwrap();
            create(&env, "/b").await.sync_all().await.unwrap();
            lose_everything_unsynced(&world, &process);
            let len = if is_there { 700 } else { 2000 };
            assert_eq!(process.disk().read_file("/a"), vec![1; len], "{personality:?}");
        });
    }
}

#[test]
fn pages_are_torn_but_not_under_copy_on_write() {
    for personality in [Personality::Ext4, Personality::Xfs, Personality::Btrfs] {
        let torn = (0..40)
            .filter(|seed| {
                on(personality, *seed, |_, process, env| async move {
                    process.disk().write_file("/a", &[1; 8192]);
                    let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
                    write(&file, 0, 2, 8192).await;
                    process.power_loss();
                    let found = process.disk().read_file("/a");
                    found.chunks(4096).any(|page| page.iter().any(|byte| *byte != page[0]))
                })
                .result
            })
            .count();
        assert_eq!(torn > 0, personality != Personality::Btrfs, "{personality:?}: {torn} torn");
    }
}

/// What is read, what is durable, and which size both have, after an overwrite and an append whose sync failed.
fn after_a_failed_sync(personality: Personality, seed: u64) -> (Vec<u8>, Vec<u8>, bool) {
    on(personality, seed, |world, process, env| async move {
        process.disk().write_file("/a", &[1; 512]);
        let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
        write(&file, 0, 2, 512).await;
        write(&file, 512, 3, 512).await;
        create(&env, "/b").await;
        file.truncate(1024).await.unwrap();
        process.disk().inject(FaultClass::SyncError, Trigger::Once(1));
        assert_eq!(file.sync_all().await.unwrap_err().kind, IoErrorKind::Medium);
        let (result, buf) = file.read_at(0, Buf::zeroed(4096)).await;
        let seen = buf[..result.unwrap()].to_vec();
        file.sync_all().await.unwrap();
        world.set_survivors(Some(Box::new(EverythingSurvives)));
        drop(file);
        process.power_loss();
        (seen, process.disk().read_file("/a"), process.disk().exists("/b"))
    })
    .result
}

#[test]
fn a_failed_sync_leaves_what_the_file_system_leaves() {
    let both = [vec![2; 512], vec![3; 512]].concat();
    for personality in [Personality::Ext4, Personality::Xfs] {
        let mut lost = 0;
        for seed in 0..30 {
            let (seen, kept, _) = after_a_failed_sync(personality, seed);
            assert_eq!(seen, both, "{personality:?}: the page cache has the new bytes, marked clean");
            assert_eq!(kept.len(), 1024, "the size went through the journal");
            assert!(kept.chunks(512).zip([[1, 2], [0, 3]]).all(|(sector, may)| may.contains(&sector[0])));
            lost += u32::from(kept != both);
        }
        assert!((5..30).contains(&lost), "{lost}");
    }
    for seed in 0..30 {
        let (seen, kept, _) = after_a_failed_sync(Personality::Btrfs, seed);
        assert_eq!((seen, kept), (vec![1; 512], vec![1; 512]), "what was there before");
    }
}

#[test]
fn a_failed_sync_of_a_directory_ends_all_changes_until_the_power_is_lost() {
    for personality in REAL {
        on(personality, 8, move |world, process, env| async move {
            process.disk().write_file("/a", &[1; 512]);
            let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
            create(&env, "/b").await;
            process.disk().inject(FaultClass::SyncError, Trigger::Once(1));
            let failed = env.disk().sync_dir(Path::new("/")).await.unwrap_err();
            assert_eq!(failed.kind, IoErrorKind::Medium);
            let refused =
                if personality == Personality::Xfs { IoErrorKind::Medium } else { IoErrorKind::Permission };
            let kinds = [
                env.disk().sync_dir(Path::new("/")).await.unwrap_err().kind,
                file.write_at(0, Buf::zeroed(10)).await.0.unwrap_err().kind,
                file.sync_all().await.unwrap_err().kind,
                file.truncate(1).await.unwrap_err().kind,
                env.disk().remove(Path::new("/a")).await.unwrap_err().kind,
                env.disk().open(Path::new("/c"), OpenOptions::create()).await.err().unwrap().kind,
            ];
            assert_eq!(kinds, [refused; 6], "{personality:?}");
            let read = file.read_at(0, Buf::zeroed(10)).await.0;
            assert_eq!(read.is_err(), personality == Personality::Xfs, "{personality:?}");
            drop(file);
            world.set_survivors(Some(Box::new(EverythingSurvives)));
            process.power_loss();
            process.restart();
            assert!(!process.disk().exists("/b"), "the commit failed");
            create(&process.env(), "/b").await.sync_all().await.unwrap();
        });
    }
}

/// A little of everything, for its hash.
async fn work(process: Process) {
    for round in 0..3u64 {
        let env = process.env();
        let run = process.run(async move {
            let options = if round == 0 { OpenOptions::create() } else { OpenOptions::write() };
            let Ok(file) = env.disk().open(Path::new("/a"), options).await else {
                return;
            };
            for number in 0..20 {
                write(&file, number * 700, number as u8, 1400).await;
                create(&env, &format!("/{round}-{number}")).await;
                match number % 5 {
                    1 => file.sync_data().await.unwrap(),
                    3 => drop(file.truncate(number * 300).await),
                    _ => env.disk().rename(Path::new("/a"), Path::new("/a")).await.unwrap(),
                }
            }
        });
        run.await.unwrap();
        process.power_loss();
        process.restart();
    }
}

#[test]
fn a_seed_is_one_history_under_every_personality() {
    for seed in 0..5 {
        let mut hashes = std::collections::BTreeSet::new();
        for personality in [Personality::Strict, Personality::Ext4, Personality::Xfs, Personality::Btrfs] {
            let run = move || on(personality, seed, |_, process, _| work(process));
            let (first, second) = (run(), std::thread::spawn(run).join().unwrap());
            assert_eq!((first.hash, first.events), (second.hash, second.events));
            hashes.insert(first.hash);
        }
        assert!(hashes.len() > 2, "personalities differ");
        let plain = holdfast_sim::run(seed, |world| async move { work(world.process("db")).await });
        assert!(hashes.contains(&plain.hash), "strict is what there was");
    }
    assert_eq!((SECTOR, SimOptions::new(0).personality), (512, Personality::Strict));
}
