//! Names in the log tree of btrfs.

use std::path::Path;
use std::sync::Arc;

use holdfast::env::{Env, OpenOptions};
use holdfast_sim::{Personality, Process};

use crate::{create, on, write};

#[test]
fn names_of_files_in_the_log_of_btrfs_may_come_before_earlier_ones_of_others() {
    let found = on(Personality::Btrfs, 11, |_, process, env| async move {
        process.disk().write_file("/a", b"a");
        let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
        file.sync_data().await.unwrap();
        create(&env, "/other").await;
        env.disk().rename(Path::new("/a"), Path::new("/b")).await.unwrap();
        drop(file);
        process.kill();
        let start = process.disk().snapshot();
        let mut found = std::collections::BTreeSet::new();
        for _ in 0..100 {
            process.disk().restore(&start);
            process.power_loss();
            let names: Vec<String> = process.disk().list("/").into_iter().map(|entry| entry.name).collect();
            found.insert(names.join(" "));
        }
        found.into_iter().collect::<Vec<_>>()
    });
    assert_eq!(found.result, ["a", "a other", "b", "b other"]);
}

/// The names that power losses leave on btrfs after `work`.
fn names_left<F, Fut>(work: F) -> Vec<String>
where
    F: FnOnce(Process, Arc<dyn Env>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let found = on(Personality::Btrfs, 12, |_, process, env| async move {
        work(process.clone(), env).await;
        process.kill();
        let start = process.disk().snapshot();
        let mut found = std::collections::BTreeSet::new();
        for _ in 0..300 {
            process.disk().restore(&start);
            process.power_loss();
            let named = |entry: holdfast::env::DirEntry| {
                let bytes = process.disk().read_file(format!("/{}", entry.name));
                format!("{}{}", entry.name, String::from_utf8(bytes).unwrap())
            };
            let names: Vec<String> = process.disk().list("/").into_iter().map(named).collect();
            found.insert(names.join(" "));
        }
        found.into_iter().collect::<Vec<_>>()
    });
    found.result
}

#[test]
fn each_file_in_the_log_of_btrfs_stands_for_itself() {
    let found = names_left(|process, env| async move {
        for name in ["/a", "/b"] {
            process.disk().write_file(name, b"");
            let file = env.disk().open(Path::new(name), OpenOptions::write()).await.unwrap();
            file.sync_data().await.unwrap();
        }
        env.disk().rename(Path::new("/a"), Path::new("/c")).await.unwrap();
        env.disk().rename(Path::new("/b"), Path::new("/d")).await.unwrap();
    });
    assert_eq!(found, ["a b", "a d", "b c", "c d"]);
}

#[test]
fn a_free_name_in_the_log_of_btrfs_needs_nobody_to_have_left_it() {
    let found = names_left(|process, env| async move {
        process.disk().write_file("/b", b"1");
        env.disk().rename(Path::new("/b"), Path::new("/a")).await.unwrap();
        env.disk().remove(Path::new("/a")).await.unwrap();
        let file = create(&env, "/a").await;
        write(&file, 0, b'2', 1).await;
        file.sync_all().await.unwrap();
    });
    assert_eq!(found, ["a2", "a2 b1"]);
}

#[test]
fn a_file_renamed_over_another_and_removed_may_leave_the_other_on_btrfs() {
    let found = names_left(|process, env| async move {
        process.disk().write_file("/a", b"1");
        process.disk().write_file("/b", b"2");
        let file = env.disk().open(Path::new("/b"), OpenOptions::write()).await.unwrap();
        env.disk().rename(Path::new("/b"), Path::new("/a")).await.unwrap();
        file.sync_all().await.unwrap();
        env.disk().remove(Path::new("/a")).await.unwrap();
    });
    assert_eq!(found, ["", "a1", "a2"]);
}
