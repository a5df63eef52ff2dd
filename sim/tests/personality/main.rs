//! What real file systems promise and `strict` does not: order of names, renames, new names with their file's sync, no
//! zeros, what a failed sync leaves, and names in a log.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::env::{Buf, Env, File, OpenOptions};
use holdfast_sim::{NothingSurvives, Odometer, Outcome, Personality, Process, SECTOR, SimOptions, World};
use quickcheck::quickcheck;

mod btrfs_log;
mod failed_syncs;

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
        let hides_zeros = [Personality::Xfs, Personality::Btrfs];
        hides_zeros.into_iter().all(|personality| is_free_of_zeros(personality, seed, lengths.clone()))
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

/// Which sizes and first bytes of the second page a power loss leaves of a file of one page that grew by two.
fn grown(personality: Personality, by_zeros: bool) -> Vec<(usize, u8)> {
    let found = on(personality, 9, move |_, process, env| async move {
        process.disk().write_file("/a", &[1; 4096]);
        let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
        if by_zeros {
            file.zero_range(4096, 8192).await.unwrap();
        } else {
            write(&file, 4096, 2, 8192).await;
        }
        drop(file);
        process.kill();
        let start = process.disk().snapshot();
        let mut found = std::collections::BTreeSet::new();
        for _ in 0..200 {
            process.disk().restore(&start);
            process.power_loss();
            let bytes = process.disk().read_file("/a");
            found.insert((bytes.len(), bytes.get(4096).copied().unwrap_or(9)));
        }
        found.into_iter().collect()
    });
    found.result
}

#[test]
fn a_write_that_makes_a_file_longer_may_be_there_up_to_the_end_of_a_page() {
    for personality in REAL {
        let zeros = personality == Personality::Ext4;
        let sizes = |first: u8| [(8192, first), (12288, first)];
        let mut expected = vec![(4096, 9)];
        expected.extend(sizes(2));
        if zeros {
            expected.extend(sizes(0));
        }
        expected.sort_unstable();
        assert_eq!(grown(personality, false), expected, "{personality:?}: ext4 notes the size first");
        let by_zeros = [(4096, 9), (8192, 0), (12288, 0)];
        assert_eq!(grown(personality, true), by_zeros, "{personality:?}: zeros are written as bytes are");
    }
}

#[test]
fn a_size_that_is_set_to_what_it_is_does_not_wait_for_the_bytes() {
    for personality in REAL {
        on(personality, 10, move |world, process, env| async move {
            process.disk().write_file("/a", &[1; 4096]);
            let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
            write(&file, 4096, 2, 100).await;
            file.truncate(4196).await.unwrap();
            create(&env, "/b").await.sync_all().await.unwrap();
            lose_everything_unsynced(&world, &process);
            let is_there = personality != Personality::Btrfs;
            let expected = if is_there { [vec![1; 4096], vec![0; 100]].concat() } else { vec![1; 4096] };
            assert_eq!(process.disk().read_file("/a"), expected, "{personality:?}");
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
