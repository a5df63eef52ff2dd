//! Dropping a database and opening it again in the same process: the next opening waits until the tasks of the one
//! before have ended, and finds everything that was acknowledged. The same for openings that were themselves dropped
//! at every place where they wait, by an empty directory and by one that must be recovered.

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use crate::support::scene::{DIR, Scratch, simulate, small_keyspace, small_options, within};
use holdfast::blocking::block_on;
use holdfast::env::{Env, SharedDir};
use holdfast::manifest::{FileNumbers, Found, ManifestWriter, Version, load};
use holdfast::types::FileNo;
use holdfast::{Db, Durability, Error, Options, Result, Scan, Seq, WriteBatch};
use holdfast_sim::{FaultClass, Personality, Process, SimOptions, Trigger, World};

/// Commits numbered keys; every seventh leaves work for flush and compaction behind.
async fn add(db: &Db, numbers: std::ops::Range<u64>) -> Result<()> {
    let keyspace = match db.keyspace("numbers") {
        Ok(keyspace) => keyspace,
        Err(_) => db.create_keyspace("numbers", small_keyspace()).await?,
    };
    for number in numbers {
        let mut batch = WriteBatch::new();
        batch.put(keyspace.id(), &number.to_be_bytes(), &[number as u8; 700])?;
        let durability = if number % 2 == 0 { Durability::Sync } else { Durability::Flush };
        db.write(batch, durability).await?;
    }
    Ok(())
}

async fn count(db: &Db) -> Result<u64> {
    let Ok(keyspace) = db.keyspace("numbers") else { return Ok(0) };
    let all = keyspace.scan(Scan::all()).await?.collect().await?;
    for (at, (key, value)) in all.iter().enumerate() {
        assert_eq!((key.as_slice(), value.len()), (&(at as u64).to_be_bytes()[..], 700));
    }
    Ok(all.len() as u64)
}

/// Open, look, write, drop, and again, with no pause in between.
async fn open_write_drop(env: Arc<dyn Env>, rounds: u64, step: u64) {
    for round in 0..rounds {
        let db = Db::open_in(env.clone(), DIR, small_options()).await.expect("the one before has ended");
        assert_eq!(count(&db).await.unwrap(), round * step);
        add(&db, round * step..(round + 1) * step).await.unwrap();
        if round % 3 == 0 {
            // Dropped with the call under way, whose work goes on in a task.
            let mut flush = Box::pin(db.compact());
            let polled =
                std::future::poll_fn(|context| Poll::Ready(flush.as_mut().poll(context).is_pending()));
            assert!(polled.await, "a compaction takes time");
        }
        drop(db);
    }
    let db = Db::open_in(env, DIR, small_options()).await.unwrap();
    assert_eq!(count(&db).await.unwrap(), rounds * step);
    assert!(db.verify().await.unwrap().is_good());
    db.close().await.unwrap();
}

#[test]
fn drop_and_open_again_at_once() {
    for seed in 0..40 {
        simulate(seed, move |_, process| async move {
            within(&process, move |env| open_write_drop(env, 12, 1 + seed % 9)).await;
        });
    }
}

#[test]
fn a_second_handle_is_refused_and_the_first_goes_on() {
    simulate(1, |world, process| async move {
        let first = within(&process, |env| Db::open_in(env, DIR, small_options())).await.unwrap();
        let began = world.now();
        let second = within(&process, |env| Db::open_in(env, DIR, small_options())).await;
        assert!(matches!(second, Err(Error::Locked(_))));
        assert!(world.now().since(began) < 10_000_000_000, "the wait has an end");
        within(&process, |_| async move {
            add(&first, 0..3).await.unwrap();
            first.close().await.unwrap();
        })
        .await;
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, small_options()).await.unwrap();
            assert_eq!(count(&db).await.unwrap(), 3);
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn drop_and_open_again_at_once_on_a_real_disk() {
    let scratch = Scratch::new("reopen");
    let dir = scratch.path().join("db");
    for round in 0..40u64 {
        let db = block_on(Db::open(&dir, small_options())).expect("the one before has ended");
        block_on(async {
            assert_eq!(count(&db).await.unwrap(), round * 5);
            add(&db, round * 5..round * 5 + 5).await.unwrap();
        });
        drop(db);
    }
    let other = block_on(Db::open(&dir, small_options())).unwrap();
    // A real second handle, in a process that has one.
    assert!(matches!(block_on(Db::open(&dir, small_options())), Err(Error::Locked(_))));
    block_on(other.close()).unwrap();
}

/// Opens, works, ends, and opens again, which must not wait for whatever a task sleeps for.
async fn ends_at_once<W, F>(world: &World, process: &Process, options: Options, close: bool, work: W)
where
    W: FnOnce(Db) -> F + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let opening = options.clone();
    let db = within(process, move |env| Db::open_in(env, DIR, opening)).await.unwrap();
    let worker = db.clone();
    within(process, move |_| work(worker)).await.unwrap();
    world.sleep(1_000_000_000).await;
    let began = world.now();
    within(process, move |_| async move { if close { db.close().await.unwrap() } else { drop(db) } }).await;
    let next = within(process, move |env| Db::open_in(env, DIR, options)).await.unwrap();
    let took_ns = world.now().since(began);
    assert!(took_ns < 1_000_000_000, "open again after {took_ns} ns");
    within(process, move |_| async move { drop(next) }).await;
}

#[test]
fn a_log_that_settles_slowly_holds_nobody_up() {
    for close in [false, true] {
        simulate(3, move |world, process| async move {
            let slow = Options { seal_idle_us: 60_000_000, buffered_flush_us: 60_000_000, ..small_options() };
            ends_at_once(&world, &process, slow, close, |db| async move {
                db.default_keyspace()?.put("k", "v").await.map(drop)
            })
            .await;
        });
    }
}

#[test]
fn background_work_that_is_ahead_of_its_pace_holds_nobody_up() {
    simulate(3, |world, process| async move {
        let slow = Options { background_bytes_per_s: 64 << 10, ..Options::default() };
        ends_at_once(&world, &process, slow, false, |db| async move {
            let keyspace = db.default_keyspace()?;
            for number in 0..2u64 {
                keyspace.put(number.to_be_bytes(), vec![number as u8; 8 << 20]).await?;
            }
            // Begun and let go: its work is a task's.
            let mut flush = Box::pin(db.flush());
            let polled =
                std::future::poll_fn(|context| Poll::Ready(flush.as_mut().poll(context).is_pending()));
            assert!(polled.await, "a flush takes time");
            Ok(())
        })
        .await;
    });
}

/// Polls an opening so often, drops it, and opens again at once; true if it completed before.
async fn dropped_opening(process: &Process, polls: u64, least: u64) -> bool {
    within(process, move |env| async move {
        let mut opening = Some(Box::pin(Db::open_in(env.clone(), DIR, small_options())));
        let mut left = polls;
        let completed = std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(false);
            }
            left -= 1;
            let opening = opening.as_mut().expect("it is there until the end");
            let done = opening.as_mut().poll(context).is_ready();
            if done || left == 0 { Poll::Ready(done) } else { Poll::Pending }
        })
        .await;
        drop(opening.take());
        let db =
            Db::open_in(env.clone(), DIR, small_options()).await.expect("a dropped opening is no obstacle");
        assert_eq!(count(&db).await.unwrap(), least, "after {polls} polls");
        add(&db, least..least + 4).await.unwrap();
        db.close().await.unwrap();
        let db = Db::open_in(env, DIR, small_options()).await.unwrap();
        assert_eq!(count(&db).await.unwrap(), least + 4);
        assert!(db.verify().await.unwrap().is_good(), "after {polls} polls");
        db.close().await.unwrap();
        completed
    })
    .await
}

#[test]
fn an_opening_dropped_at_every_await() {
    for (commits, with_tables) in [(0u64, false), (23, false), (23, true)] {
        for polls in 0.. {
            let options = SimOptions { time_limit_ns: 600_000_000_000, ..SimOptions::new(polls) };
            let completed = holdfast_sim::run(options, move |world| async move {
                let process = world.process("db");
                if commits > 0 {
                    let db = within(&process, move |env| async move {
                        let options = Options { memtable_bytes: 1 << 20, ..small_options() };
                        let db = Db::open_in(env, DIR, options).await?;
                        add(&db, 0..commits / 2).await?;
                        if with_tables {
                            db.compact().await?;
                        }
                        add(&db, commits / 2..commits).await?;
                        Ok::<_, Error>(db)
                    });
                    let db = db.await.unwrap();
                    process.kill();
                    drop(db);
                    process.restart();
                }
                dropped_opening(&process, polls, commits).await
            });
            if completed.result {
                assert!(polls > 10, "an opening waits more often than {polls} times");
                break;
            }
        }
    }
}

/// A crash that takes `Buffered` commits makes numbers leap, since a reader may have seen them; what is retained is
/// counted in commits all the same, and a copy goes on counting.
#[test]
fn the_past_survives_a_leap_of_numbers() {
    const RETAINED: u64 = 10;
    let options = || Options { retain_commits: RETAINED, ..small_options() };
    simulate(3, move |_, process| async move {
        let mut made: Vec<(u64, u64)> = Vec::new();
        for round in 0..6u64 {
            let opened = within(&process, move |env| Db::open_in(env, DIR, options())).await;
            let seqs = within(&process, move |_| async move {
                let db = opened?;
                let keyspace = db.default_keyspace()?;
                let mut seqs = Vec::new();
                for number in 0..3 {
                    let value = round * 3 + number;
                    seqs.push((keyspace.put("k", value.to_be_bytes()).await?.get(), value));
                }
                if round % 2 == 0 {
                    db.compact().await?;
                }
                let mut batch = WriteBatch::new();
                batch.put(keyspace.id(), b"k", b"lost")?;
                db.write(batch, Durability::Buffered).await?;
                Ok::<_, Error>(seqs)
            });
            made.extend(seqs.await.unwrap());
            process.power_loss();
            process.restart();
        }
        assert!(made.last().unwrap().0 - made[0].0 > 1 << 20, "numbers leapt: {made:?}");
        let recent = made[made.len() - RETAINED as usize..].to_vec();
        within(&process, move |env| async move {
            let db = Db::open_in(env.clone(), DIR, options()).await.unwrap();
            db.flush().await.unwrap();
            db.compact().await.unwrap();
            let info = db.checkpoint("/copy").await.unwrap();
            assert_eq!(info.seq, db.last_seq());
            let copy = Db::open_in(env, "/copy", options()).await.unwrap();
            copy.compact().await.unwrap();
            for db in [db, copy] {
                let keyspace = db.default_keyspace().unwrap();
                for (seq, value) in &recent {
                    let past =
                        db.at(Seq::new(*seq)).unwrap_or_else(|error| panic!("{seq} of {recent:?}: {error}"));
                    let found = past.get(&keyspace, "k").await.unwrap().unwrap();
                    assert_eq!(found[..], value.to_be_bytes());
                }
                let newest = keyspace.put("k", "after").await.unwrap();
                assert!(newest.get() > recent.last().unwrap().0);
                db.close().await.unwrap();
            }
        })
        .await;
    });
}

/// What a power loss leaves of `commits` that asked for no durability: the newest commit can be read by its number, and
/// so can as many before it as are to be retained.
async fn past_after_a_power_loss(
    process: Process,
    commits: u64,
    pause_ns: u64,
    retained: u64,
) -> Result<u64> {
    let options = move || Options { retain_commits: retained, ..small_options() };
    let wrote = within(&process, move |env| async move {
        let db = Db::open_in(env.clone(), DIR, options()).await?;
        let keyspace = db.create_keyspace("numbers", small_keyspace()).await?;
        for number in 1..=commits {
            let mut batch = WriteBatch::new();
            batch.put(keyspace.id(), b"newest", &number.to_be_bytes())?;
            batch.put(keyspace.id(), &number.to_be_bytes(), &[7; 300])?;
            assert_eq!(db.write(batch, Durability::Buffered).await?, Seq::new(number));
            env.sleep_until(env.now().after(pause_ns)).await;
        }
        Ok::<_, Error>(db)
    });
    let db = wrote.await?;
    process.power_loss();
    process.restart();
    drop(db);
    within(&process, move |env| async move {
        let db = Db::open_in(env, DIR, options()).await?;
        let last = db.last_seq().get();
        assert!(last <= commits);
        db.compact().await?;
        let Ok(keyspace) = db.keyspace("numbers") else { return Ok(0) };
        for number in last.saturating_sub(retained).max(1)..=last {
            let past = db.at(Seq::new(number)).unwrap_or_else(|error| panic!("{number} of {last}: {error}"));
            let found = past.get(&keyspace, "newest").await?.unwrap();
            assert_eq!(found[..], number.to_be_bytes(), "at {number} of {last}");
        }
        Ok(commits - last)
    })
    .await
}

#[test]
fn a_power_loss_takes_no_past_from_the_commits_that_it_leaves() {
    let mut lost = 0;
    for seed in 0..60 {
        for retained in [0, 20] {
            lost += simulate(seed, move |_, process| {
                past_after_a_power_loss(process, 200 + 2 * seed, 1000 * (seed % 20), retained)
            })
            .unwrap();
        }
    }
    assert!(lost > 100, "{lost} commits were lost");
}

/// An earlier kernel counted the horizon back from commits that a power loss then took.
#[test]
fn a_horizon_beyond_the_newest_commit_is_the_newest_commit() {
    simulate(5, |_, process| async move {
        let made = within(&process, |env| async move {
            let db = Db::open_in(env.clone(), DIR, small_options()).await?;
            for number in 1..=20u64 {
                db.default_keyspace()?.put("k", number.to_be_bytes()).await?;
            }
            db.close().await?;
            let Found::Database(loaded) = load(&*env, Path::new(DIR)).await? else {
                panic!("it was just made")
            };
            let version = Version { retained_from: Seq::new(23), ..loaded.version };
            let numbers = Arc::new(FileNumbers::new(FileNo::new(1000)));
            let mut writer =
                ManifestWriter::create(env, SharedDir::new(DIR), loaded.database, numbers, version).await?;
            writer.install_current().await
        });
        made.await.unwrap();
        let looked = within(&process, |env| async move {
            let view = Db::open_read_only_in(env.clone(), DIR, small_options()).await?;
            view.at(view.last_seq())?;
            assert!(
                matches!(view.at(Seq::new(19)), Err(Error::TooOld { oldest, .. }) if oldest == Seq::new(20))
            );
            let db = Db::open_in(env, DIR, small_options()).await?;
            let past = db.at(db.last_seq())?;
            let found = past.get(&db.default_keyspace()?, "k").await?.unwrap();
            assert_eq!((past.seq(), &found[..]), (Seq::new(20), &20u64.to_be_bytes()[..]));
            assert!(
                matches!(db.at(Seq::new(19)), Err(Error::TooOld { oldest, .. }) if oldest == Seq::new(20))
            );
            db.close().await
        });
        looked.await.unwrap();
    });
}

/// A commit whose sync fails is in the page cache, where a look from beside finds it; then the power goes.
#[test]
fn the_number_of_a_commit_that_was_only_seen_from_beside_is_not_given_again() {
    let mut seen_from_beside = 0;
    for seed in 0..20 {
        let options = SimOptions { personality: Personality::Ext4, ..SimOptions::new(seed) };
        let outcome = holdfast_sim::run(options, |world| async move {
            let process = world.process("db");
            let disk = process.disk();
            let (kept, seen) = within(&process, move |env| async move {
                let db = Db::open_in(env.clone(), DIR, small_options()).await?;
                let kept = db.default_keyspace()?.put("k", "kept").await?;
                disk.inject_on(FaultClass::SyncError, ".log", Trigger::Once(1));
                let failed = db.default_keyspace()?.put("k", "lost").await;
                assert!(matches!(failed, Err(Error::Stopped(_))), "{failed:?}");
                let look = Db::open_read_only_in(env, DIR, small_options()).await?;
                Ok::<_, Error>((kept, look.last_seq()))
            })
            .await
            .unwrap();
            process.power_loss();
            process.restart();
            let (found, next) = within(&process, |env| async move {
                let db = Db::open_in(env, DIR, small_options()).await?;
                let found = db.last_seq();
                let next = db.default_keyspace()?.put("k", "next").await?;
                db.close().await?;
                Ok::<_, Error>((found, next))
            })
            .await
            .unwrap();
            assert!(found >= kept && next > seen, "{kept} {seen} {found} {next}");
            u32::from(seen > kept && found == kept)
        });
        seen_from_beside += outcome.result;
    }
    assert!(seen_from_beside > 0, "no look saw what was lost");
}

/// What a flush or a shrink lets go of the log is all that told of some commits: how many there were, and when.
#[test]
fn commits_and_their_time_outlive_the_log_that_told_of_them() {
    simulate(12, |_, process| async move {
        let (last_seq, time) = within(&process, |env| async move {
            let db = Db::open_in(env.clone(), DIR, small_options()).await.unwrap();
            add(&db, 0..20).await.unwrap();
            db.flush().await.unwrap();
            let Found::Database(told) = load(&*env, Path::new(DIR)).await.unwrap() else {
                unreachable!("it is one")
            };
            let time = told.version.last_timestamp;
            assert!(time.get() > 0, "the flush told the time");
            let dropped = db.create_keyspace("dropped", small_keyspace()).await.unwrap();
            let mut last_seq = db.last_seq();
            for number in 0..5u64 {
                last_seq = dropped.put(number.to_be_bytes(), b"acknowledged").await.unwrap();
            }
            db.drop_keyspace(&dropped).await.unwrap();
            db.compact().await.unwrap();
            (last_seq, time)
        })
        .await;
        process.kill();
        process.restart();
        within(&process, move |env| async move {
            let Found::Database(told) = load(&*env, Path::new(DIR)).await.unwrap() else {
                unreachable!("it is one")
            };
            assert!(told.version.last_timestamp > time, "the shrink told the time");
            let demanding = Options { at_least: last_seq.get(), ..small_options() };
            let db = Db::open_in(env, DIR, demanding).await.unwrap();
            assert_eq!((db.last_seq(), count(&db).await.unwrap()), (last_seq, 20));
            db.close().await.unwrap();
        })
        .await;
    });
}
