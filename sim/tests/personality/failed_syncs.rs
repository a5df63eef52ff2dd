//! What a failed sync leaves on real file systems.

use std::path::Path;

use holdfast::env::{Buf, IoErrorKind, OpenOptions};
use holdfast_sim::{EverythingSurvives, FaultClass, Personality, Trigger};

use crate::{REAL, create, lose_everything_unsynced, on, write};

/// What is read and what is durable after an overwrite and an append whose sync failed, and another sync; `None` if the
/// journal had failed.
fn after_a_failed_sync(personality: Personality, seed: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    on(personality, seed, |world, process, env| async move {
        process.disk().write_file("/a", &[1; 4096]);
        let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
        write(&file, 0, 2, 4096).await;
        write(&file, 4096, 3, 4096).await;
        process.disk().inject(FaultClass::SyncError, Trigger::Once(1));
        assert_eq!(file.sync_all().await.unwrap_err().kind, IoErrorKind::Medium);
        if env.disk().open(Path::new("/b"), OpenOptions::create()).await.is_err() {
            return None;
        }
        let (result, buf) = file.read_at(0, Buf::zeroed(9000)).await;
        let seen = buf[..result.unwrap()].to_vec();
        file.sync_all().await.unwrap();
        world.set_survivors(Some(Box::new(EverythingSurvives)));
        drop(file);
        process.power_loss();
        Some((seen, process.disk().read_file("/a")))
    })
    .result
}

#[test]
fn a_failed_sync_leaves_what_the_file_system_leaves() {
    let (old, both) = (vec![1; 4096], [vec![2; 4096], vec![3; 4096]].concat());
    for personality in REAL {
        let mut counts = [0; 4];
        for seed in 0..80 {
            let Some((seen, kept)) = after_a_failed_sync(personality, seed) else {
                counts[0] += 1;
                continue;
            };
            let reverted = personality == Personality::Btrfs && seen == old;
            assert!(
                seen == both || reverted,
                "{personality:?}: the page cache has the new bytes, marked clean"
            );
            let sectors = kept.chunks(512).zip((0..16).map(|place| if place < 8 { [1, 2] } else { [0, 3] }));
            assert!(sectors.into_iter().all(|(sector, may)| may.contains(&sector[0])));
            assert!(
                personality != Personality::Ext4 || kept.len() == 8192,
                "the size went through the journal"
            );
            counts[1] += u32::from(reverted);
            counts[2] += u32::from(kept.len() < 8192);
            counts[3] += u32::from(kept != both);
        }
        let [aborted, reverted, shorter, lost] = counts;
        assert!((20..60).contains(&aborted), "{personality:?}: the journal failed {aborted} times");
        assert_eq!(reverted > 0, personality == Personality::Btrfs, "{personality:?}");
        assert_eq!(
            shorter > 0,
            personality != Personality::Ext4,
            "{personality:?}: sizes without their bytes"
        );
        assert!(lost > 5, "{personality:?}: {lost}");
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
            for sync in [env.disk().sync_dir(Path::new("/")).await, file.sync_all().await] {
                let is_idle = personality == Personality::Btrfs && sync.is_ok();
                assert!(is_idle || sync.unwrap_err().kind == refused, "{personality:?}");
            }
            let kinds = [
                file.write_at(0, Buf::zeroed(10)).await.0.unwrap_err().kind,
                file.truncate(1).await.unwrap_err().kind,
                env.disk().remove(Path::new("/a")).await.unwrap_err().kind,
                env.disk().open(Path::new("/c"), OpenOptions::create()).await.err().unwrap().kind,
            ];
            assert_eq!(kinds, [refused; 4], "{personality:?}");
            let read = file.read_at(0, Buf::zeroed(10)).await.0;
            let listed = env.disk().list(Path::new("/")).await;
            let is_shut = personality == Personality::Xfs;
            assert_eq!((read.is_err(), listed.is_err()), (is_shut, is_shut), "{personality:?}");
            drop(file);
            process.kill();
            let image = process.disk().snapshot();
            for (everything, is_there) in [(true, true), (false, false)] {
                process.disk().restore(&image);
                if everything {
                    world.set_survivors(Some(Box::new(EverythingSurvives)));
                    process.power_loss();
                } else {
                    lose_everything_unsynced(&world, &process);
                }
                assert_eq!(process.disk().exists("/b"), is_there, "the commit may be on the medium or not");
            }
            create(&process.env(), "/b").await.sync_all().await.unwrap();
        });
    }
}

#[test]
fn btrfs_tells_of_a_full_disk_once_more_and_calls_it_full() {
    on(Personality::Btrfs, 13, |_, process, env| async move {
        process.disk().write_file("/a", &[1; 8192]);
        process.disk().set_full_in_sync(true);
        let options = OpenOptions { direct: true, dsync: true, ..OpenOptions::write() };
        let file = env.disk().open(Path::new("/a"), options).await.unwrap();
        process.disk().inject(FaultClass::NoSpace, Trigger::Once(1));
        let kinds = [
            file.write_at(0, Buf::zeroed(4096)).await.0.unwrap_err().kind,
            file.sync_data().await.unwrap_err().kind,
        ];
        assert_eq!(kinds, [IoErrorKind::Full; 2]);
        file.sync_data().await.unwrap();
        create(&env, "/b").await;
    });
}

#[test]
fn a_sync_after_a_failed_journal_does_not_pass_over_what_no_sync_has_tried() {
    for personality in REAL {
        let mut idle = 0;
        for seed in 0..40 {
            let outcome = on(personality, seed, move |_, process, env| async move {
                let disk = process.disk();
                disk.write_file("/a", &[1; 512]);
                let file = env.disk().open(Path::new("/a"), OpenOptions::write()).await.unwrap();
                create(&env, "/b").await;
                write(&file, 0, 2, 512).await;
                disk.inject(FaultClass::SyncError, Trigger::Once(1));
                env.disk().sync_dir(Path::new("/")).await.unwrap_err();
                file.sync_data().await.unwrap_err();
                env.disk().sync_dir(Path::new("/")).await.is_ok()
            });
            idle += u64::from(outcome.result);
        }
        assert_eq!(idle > 0, personality == Personality::Btrfs, "{personality:?}: {idle} of 40");
    }
}
