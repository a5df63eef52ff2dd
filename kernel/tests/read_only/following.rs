//! Beside a writer that goes on: what a view shows, when it is stale, and what a refresh makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast::env::linux::{LinuxEnv, block_on};
use holdfast::{
    Db, Durability, Error, Options, ReadOnlyDb, ReadOnlyKeyspace, ReadOnlySnapshot, Result, Scan, Seq,
};
use holdfast_sim::{FaultClass, Trigger};

use super::{DIR, check, commit, create, existing, look};
use crate::support::flaky::Flaky;
use crate::support::settings::{forty_tables, options, tiny};
use crate::support::unwritable::Unwritable;

#[test]
fn a_reader_follows_a_writer_that_flushes_and_compacts() {
    for seed in 0..8 {
        let outcome = holdfast_sim::run(seed, move |world| async move {
            let writing = world.process("writer");
            let reading = world.process_on("reader", "writer");
            let acknowledged = Arc::new(AtomicU64::new(0));
            let stop = Arc::new(AtomicBool::new(false));
            let (count, stopping, env) = (acknowledged.clone(), stop.clone(), writing.env());
            let durability = [Durability::Sync, Durability::Flush][seed as usize % 2];
            let writer = writing.spawn("writer", async move {
                let db = create(env.clone()).await?;
                let mut n = 0;
                while !stopping.load(Ordering::Acquire) {
                    n += 1;
                    assert_eq!(commit(&db, n, durability).await?, Seq::new(n));
                    count.store(n, Ordering::Release);
                    if n.is_multiple_of(700) {
                        db.compact().await?;
                    }
                }
                let flushes = db.metrics().number("holdfast_flushes_total");
                let compactions = db.metrics().number("holdfast_compactions_total");
                db.close().await?;
                Ok::<_, Error>((n, flushes, compactions))
            });
            world.sleep(20_000_000).await;
            let env = reading.env();
            let (seen, stopping) = (acknowledged.clone(), stop.clone());
            let reader = reading.run(async move {
                let before = seen.load(Ordering::Acquire);
                let view = Db::open_read_only_in(env.clone(), DIR, existing()).await?;
                assert!(view.last_seq() >= Seq::new(before));
                let mut stale = 0u64;
                for round in 0..60u64 {
                    match check(&view).await {
                        Ok(_) => {}
                        Err(Error::Stale(_)) => stale += 1,
                        Err(other) => return Err(other),
                    }
                    env.sleep_until(env.now().after(round * 40_000)).await;
                    let (seq, before) = (view.last_seq(), seen.load(Ordering::Acquire));
                    assert!(seq <= view.refresh().await?, "a view does not go back");
                    assert!(view.last_seq() >= Seq::new(before), "what was acknowledged is in view");
                }
                let still = view.keyspace("left")?.scan(Scan::prefix("0")).await?;
                let n = view.last_seq().get();
                stopping.store(true, Ordering::Release);
                Ok((view, still, n, stale))
            });
            let (view, mut still, n, stale) = reader.await.unwrap().unwrap();
            let (commits, flushes, compactions) = writer.await.unwrap().unwrap();
            let last = reading.run(async move {
                // A cursor stays where it was; the view moves to the end.
                assert_eq!(still.count().await?, n);
                view.refresh().await?;
                check(&view).await
            });
            assert_eq!(last.await.unwrap().unwrap(), commits);
            (commits, flushes, compactions, stale)
        });
        let (commits, flushes, compactions, _) = outcome.result;
        assert!(commits > 500 && flushes > 5 && compactions > 2, "{:?}", outcome.result);
    }
}

#[test]
fn tables_that_went_away_make_a_view_stale_and_a_refresh_heals_it() {
    let outcome = holdfast_sim::run(23, |world| async move {
        let (writing, reading) = (world.process("writer"), world.process_on("reader", "writer"));
        let env = writing.env();
        let db = writing.run(forty_tables(env, options()));
        let db = db.await.unwrap().unwrap();
        let env = reading.env();
        let few = Options { open_files_max: 16, ..existing() };
        let view = reading.run(async move { Db::open_read_only_in(env, DIR, few).await });
        let view = view.await.unwrap().unwrap();
        let tables: u64 = view.keyspaces().iter().map(|keyspace| keyspace.levels[0].tables).sum();
        assert_eq!(tables, 40);
        let compacted = writing.run({
            let db = db.clone();
            async move {
                db.compact().await?;
                db.wait_idle().await
            }
        });
        compacted.await.unwrap().unwrap();
        world.sleep(50_000_000).await;
        let counts = reading.run(async move {
            let keyspace = view.keyspace("many")?;
            let (mut good, mut stale) = (0u64, 0u64);
            for n in 0..40u64 {
                match keyspace.get(format!("{n:03}")).await {
                    Ok(Some(value)) => {
                        assert_eq!(value[..], n.to_le_bytes());
                        good += 1;
                    }
                    Ok(None) => panic!("a missing table is not a missing key"),
                    Err(Error::Stale(what)) => {
                        assert!(what.ends_with(".table"), "{what}");
                        stale += 1;
                    }
                    Err(other) => return Err(other),
                }
            }
            view.refresh().await?;
            for n in 0..40u64 {
                let value = keyspace.get(format!("{n:03}")).await?.unwrap();
                assert_eq!(value[..], n.to_le_bytes());
            }
            Ok((good, stale))
        });
        let counts = counts.await.unwrap().unwrap();
        drop(db);
        counts
    });
    let (good, stale) = outcome.result;
    assert!(good > 0 && stale > 0, "{good} good, {stale} stale");
}

#[test]
fn another_database_in_the_same_directory_is_not_taken_for_the_same() {
    holdfast_sim::run(28, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let made = process.run(async move {
            let db = create(env.clone()).await?;
            for n in 1..=20 {
                commit(&db, n, Durability::Sync).await?;
            }
            db.close().await?;
            let view = Db::open_read_only_in(env.clone(), DIR, existing()).await?;
            let other = Db::open_in(env, "/other", options()).await?;
            other.create_keyspace("left", tiny()).await?;
            other.create_keyspace("right", tiny()).await?;
            for n in 1..=40 {
                commit(&other, n, Durability::Sync).await?;
            }
            other.close().await?;
            Ok::<_, Error>(view)
        });
        let view = made.await.unwrap().unwrap();
        let disk = process.disk();
        for entry in disk.list(DIR) {
            disk.remove_file(format!("{DIR}/{}", entry.name));
        }
        for entry in disk.list("/other") {
            let bytes = disk.read_file(format!("/other/{}", entry.name));
            disk.write_file(format!("{DIR}/{}", entry.name), &bytes);
        }
        let judged = process.run(async move {
            let refreshed = view.refresh().await;
            assert!(matches!(&refreshed, Err(Error::Stale(what)) if what.contains("/db")), "{refreshed:?}");
            assert_eq!(check(&view).await?, 20, "the view stays as it was");
            Ok::<_, Error>(())
        });
        judged.await.unwrap().unwrap();
        let fresh = look(&process, existing()).await.unwrap();
        assert_eq!(fresh.last_seq(), Seq::new(40));
    });
}

/// The answers of the disk to one refresh come late; others that begin meanwhile are quick, and see more.
#[test]
fn of_refreshes_side_by_side_none_takes_the_view_back() {
    for seed in 0..4 {
        holdfast_sim::run(seed, move |world| async move {
            let (writing, reading) = (world.process("writer"), world.process_on("reader", "writer"));
            let env = writing.env();
            let made = writing.run(async move {
                let db = create(env).await?;
                commit(&db, 1, Durability::Flush).await?;
                Ok::<_, Error>(db)
            });
            let db = made.await.unwrap().unwrap();
            let (env, reads) = Flaky::over(reading.env(), ".log");
            let view = reading.run(async move { Db::open_read_only_in(env, DIR, existing()).await });
            let view = view.await.unwrap().unwrap();
            let refresh = |view: &ReadOnlyDb| {
                let view = view.clone();
                reading.spawn("refresh", async move { view.refresh().await })
            };
            reads.late_ns.store(50_000_000, Ordering::Relaxed);
            let late = refresh(&view);
            world.sleep(20_000_000).await;
            reads.late_ns.store(0, Ordering::Relaxed);
            let mut quick = Vec::new();
            for n in 2..=40 {
                let db = db.clone();
                writing.run(async move { commit(&db, n, Durability::Flush).await }).await.unwrap().unwrap();
                quick.push(refresh(&view));
                world.sleep(2_000_000).await;
            }
            let mut shown = vec![late.await.unwrap().unwrap()];
            for quick in quick {
                shown.push(quick.await.unwrap().unwrap());
            }
            assert!(
                shown.is_sorted(),
                "seed {seed}: one after another, in the order of their calls: {shown:?}"
            );
            assert_eq!((shown.last(), view.last_seq()), (Some(&Seq::new(40)), Seq::new(40)), "seed {seed}");
        });
    }
}

#[test]
fn on_a_real_disk_beside_the_writer_and_without_the_right_to_write() {
    let dir = std::env::temp_dir().join(format!("holdfast-read-only-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    block_on(async {
        let db = Db::open_in(LinuxEnv::new(), &dir, options()).await.unwrap();
        db.create_keyspace("left", tiny()).await.unwrap();
        db.create_keyspace("right", tiny()).await.unwrap();
        let view = Db::open_read_only(&dir, existing()).await.unwrap();
        for n in 1..=300 {
            commit(&db, n, if n % 20 == 0 { Durability::Sync } else { Durability::Flush }).await.unwrap();
            if n % 50 == 0 {
                assert_eq!(view.refresh().await.unwrap(), Seq::new(n));
                assert_eq!(check(&view).await.unwrap(), n);
            }
        }
        let second = Db::open(&dir, existing()).await.map(drop);
        assert!(matches!(second, Err(Error::Locked(_))), "{second:?}");
        db.close().await.unwrap();
        let names = || -> Vec<(std::ffi::OsString, u64)> {
            let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
            let mut all: Vec<_> = entries.map(|e| (e.file_name(), e.metadata().unwrap().len())).collect();
            all.sort();
            all
        };
        let before = names();
        let mut permissions = std::fs::metadata(&dir).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&dir, permissions.clone()).unwrap();
        // The root user may write all the same, so the world refuses it too: that holds for everybody.
        let (env, refused) = Unwritable::over(LinuxEnv::new());
        let view = Db::open_read_only_in(env.clone(), &dir, existing()).await.unwrap();
        assert_eq!(check(&view).await.unwrap(), 300);
        assert_eq!(view.refresh().await.unwrap(), Seq::new(300));
        assert_eq!(refused.load(Ordering::Relaxed), 0, "a reader does not even try to write");
        assert!(Db::open_in(env, &dir, existing()).await.is_err(), "but a writer cannot do without");
        assert!(refused.load(Ordering::Relaxed) > 0);
        assert_eq!(names(), before);
        #[expect(clippy::permissions_set_readonly_false, reason = "the directory is removed next")]
        permissions.set_readonly(false);
        std::fs::set_permissions(&dir, permissions).unwrap();
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

/// What `left` shows of commit `n`: one number a commit.
async fn check_past(past: &ReadOnlySnapshot, left: &ReadOnlyKeyspace, n: u64) -> Result<()> {
    assert_eq!(past.seq(), Seq::new(n));
    assert_eq!(past.scan(left, Scan::prefix("0").reverse()).await?.count().await?, n);
    let newest = past.get(left, "newest").await?.map(|value| value.to_vec());
    assert_eq!(newest, (n > 0).then(|| n.to_le_bytes().to_vec()));
    assert_eq!(past.get(left, format!("{:08}", n + 1)).await?, None);
    Ok(())
}

#[test]
fn a_look_beside_the_writer_reads_every_past_that_the_writer_keeps() {
    const KEPT: u64 = 60;
    for seed in 0..6 {
        let outcome = holdfast_sim::run(seed, |world| async move {
            let (writing, reading) = (world.process("writer"), world.process_on("reader", "writer"));
            let env = writing.env();
            let keeping = Options { retain_commits: KEPT, ..options() };
            let writer = writing.spawn("writer", async move {
                let db = Db::open_in(env, DIR, keeping).await?;
                db.create_keyspace("left", tiny()).await?;
                db.create_keyspace("right", tiny()).await?;
                for n in 1..=900 {
                    commit(&db, n, Durability::Sync).await?;
                    if n % 300 == 0 {
                        db.compact().await?;
                    }
                }
                Ok::<_, Error>(db)
            });
            world.sleep(20_000_000).await;
            let env = reading.env();
            let counts = reading.run(async move {
                let view = Db::open_read_only_in(env.clone(), DIR, existing()).await?;
                let (mut read, mut refused, mut held) = (0u64, 0u64, None);
                for _ in 0..40 {
                    let n = view.refresh().await?.get();
                    let Ok(left) = view.keyspace("left") else { continue };
                    assert!(matches!(view.at(Seq::new(n + 1)), Err(Error::Invalid(what)) if what.contains("refresh")));
                    for back in [0, 1, 7, KEPT / 2, KEPT, KEPT + 1, 3 * KEPT, 8 * KEPT] {
                        let Some(asked) = n.checked_sub(back) else { continue };
                        let past = match view.at(Seq::new(asked)) {
                            Ok(past) => past,
                            Err(Error::TooOld { asked: named, oldest }) => {
                                assert_eq!(named, Seq::new(asked));
                                assert!(asked < oldest.get() && oldest.get() + KEPT <= n, "{oldest} of {n}");
                                refused += 1;
                                continue;
                            }
                            Err(other) => return Err(other),
                        };
                        check_past(&past, &left, asked).await?;
                        read += 1;
                        // Held over the refreshes to come.
                        held.get_or_insert((past, left.clone(), asked));
                    }
                    env.sleep_until(env.now().after(500_000)).await;
                }
                let (past, left, asked) = held.unwrap();
                check_past(&past, &left, asked).await?;
                Ok((view, read, refused))
            });
            let (view, read, refused) = counts.await.unwrap().unwrap();
            let db = writer.await.unwrap().unwrap();
            let range = || "00000850".."00000890";
            let theirs = writing.run(async move {
                let right = db.keyspace("right")?;
                let (part, all) =
                    (right.approximate_count(range()).await?, right.approximate_size::<&str>(..).await?);
                Ok::<_, Error>((part, all))
            });
            let theirs = theirs.await.unwrap().unwrap();
            let ours = reading.run(async move {
                view.refresh().await?;
                let right = view.keyspace("right")?;
                let (part, all) =
                    (right.approximate_count(range()).await?, right.approximate_size::<&str>(..).await?);
                Ok::<_, Error>((part, all))
            });
            assert_eq!(ours.await.unwrap().unwrap(), theirs);
            assert!(theirs.1 > 100 * 40, "{theirs:?}");
            (read, refused)
        });
        let (read, refused) = outcome.result;
        assert!(read > 100 && refused > 10, "{read} read, {refused} refused");
    }
}

/// A commit that met a full disk in its sync may stand whole in the log. A look shows it as long as nobody can know
/// better; once there is room it is gone, though nobody writes.
fn a_commit_of_unknown_outcome(seed: u64) -> bool {
    holdfast_sim::run(seed, |world| async move {
        let (writing, reading) = (world.process("writer"), world.process_on("reader", "writer"));
        let (env, disk) = (writing.env(), writing.disk());
        disk.set_full_in_sync(true);
        let db = writing.run(create(env)).await.unwrap().unwrap();
        let (db, refused) = {
            let disk = disk.clone();
            let run = writing.run(async move {
                commit(&db, 1, Durability::Sync).await.unwrap();
                disk.inject(FaultClass::NoSpace, Trigger::From(1));
                let refused = commit(&db, 2, Durability::Sync).await.unwrap_err();
                (db, refused)
            });
            run.await.unwrap()
        };
        assert!(matches!(refused, Error::CommitUnknown(_)), "{refused}");
        let view = look(&reading, existing()).await.unwrap();
        let last_seq = |view: &ReadOnlyDb| view.last_seq().get();
        let stands = last_seq(&view) == 2;
        world.sleep(3_000_000_000).await;
        let look_again = |view: ReadOnlyDb| reading.run(async move { view.refresh().await.map(|_| view) });
        let view = look_again(view).await.unwrap().unwrap();
        // The header that would end it may have landed, refused as it was.
        assert!(last_seq(&view) == 1 || stands);
        disk.clear_faults();
        world.sleep(3_000_000_000).await;
        let view = look_again(view).await.unwrap().unwrap();
        assert_eq!(last_seq(&view), 1, "it never happened");
        let checked = writing.run(async move {
            // The sequence of the one that never happened is not given again.
            assert_eq!(commit(&db, 2, Durability::Sync).await.unwrap(), Seq::new(3));
            db.close().await
        });
        checked.await.unwrap().unwrap();
        let view = look_again(view).await.unwrap().unwrap();
        assert_eq!(last_seq(&view), 3);
        stands
    })
    .result
}

#[test]
fn a_commit_of_unknown_outcome_is_shown_until_there_is_room() {
    let stood = (0..8).filter(|seed| a_commit_of_unknown_outcome(*seed)).count();
    assert!(stood > 1, "only {stood} of 8 stood there whole");
}
