//! How much of the past stays readable: `retain_commits` counts commits, whatever came between them and however the
//! process ended.

use crate::support::scene::{DIR, simulate, small_keyspace, small_options, within};
use holdfast::{Db, Error, Options, Result, Seq};
use holdfast_sim::{FaultClass, Process, Trigger, World};

/// Commits that a full disk refuses; then there is room again.
async fn refuse_commits(world: &World, process: &Process, db: &Db) {
    let disk = process.disk();
    disk.inject_on(FaultClass::NoSpace, "", Trigger::From(1));
    let db = db.clone();
    let tried = within(process, move |_| async move {
        let keyspace = db.default_keyspace().unwrap();
        for _ in 0..20 {
            let refused = keyspace.put("refused", vec![7; 70_000]).await;
            assert!(matches!(refused, Err(Error::DiskFull(_))), "{refused:?}");
        }
    });
    tried.await;
    disk.clear_faults();
    world.sleep(2_000_000_000).await;
}

/// Three commits, then refused ones, for three rounds, and two commits more. Each with its sequence and value.
async fn commits_among_refusals(world: &World, process: &Process, db: &Db, flushed: bool) -> Vec<(u64, u64)> {
    let mut made = Vec::new();
    for round in 0..4u64 {
        let of_round = within(process, {
            let db = db.clone();
            move |_| async move {
                let mut of_round = Vec::new();
                for value in (round * 3..round * 3 + 3).take(if round == 3 { 2 } else { 3 }) {
                    let seq = db.default_keyspace()?.put("k", value.to_be_bytes()).await?;
                    of_round.push((seq.get(), value));
                }
                Ok::<_, Error>(of_round)
            }
        });
        made.extend(of_round.await.unwrap());
        if round == 3 {
            break;
        }
        refuse_commits(world, process, db).await;
        if flushed {
            let db = db.clone();
            within(process, move |_| async move { db.flush().await }).await.unwrap();
        }
    }
    assert!(made.last().unwrap().0 > 60, "numbers leapt: {made:?}");
    made
}

/// The newest commit and `retained` before it can be read; of the others those cannot that a compaction forgot.
async fn judge_past(db: &Db, made: &[(u64, u64)], retained: usize) -> Result<()> {
    let keyspace = db.default_keyspace()?;
    let (forgotten, kept) = made.split_at(made.len() - 1 - retained);
    for (seq, value) in kept {
        let past = db.at(Seq::new(*seq)).unwrap_or_else(|error| panic!("{seq} of {made:?}: {error}"));
        assert_eq!(past.get(&keyspace, "k").await?.unwrap()[..], value.to_be_bytes(), "at {seq} of {made:?}");
    }
    db.compact().await?;
    for (seq, _) in forgotten {
        let asked = db.at(Seq::new(*seq)).map(drop);
        assert!(matches!(asked, Err(Error::TooOld { oldest, .. }) if oldest.get() == kept[0].0), "{asked:?}");
    }
    for (seq, value) in kept {
        let found = db.at(Seq::new(*seq))?.get(&keyspace, "k").await?.unwrap();
        assert_eq!(found[..], value.to_be_bytes(), "at {seq} of {made:?}, compacted");
    }
    Ok(())
}

#[test]
fn refused_commits_use_up_nothing_of_the_past() {
    const RETAINED: usize = 6;
    let options = || Options { retain_commits: RETAINED as u64, memtable_bytes: 1 << 20, ..small_options() };
    for (case, flushed) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true), (3, false)] {
        simulate(case, move |world, process| async move {
            let db = within(&process, move |env| Db::open_in(env, DIR, options())).await.unwrap();
            let made = commits_among_refusals(&world, &process, &db, flushed).await;
            let ours = made.clone();
            let ended = within(&process, move |_| async move {
                match case {
                    0 => db.close().await,
                    3 => judge_past(&db, &ours, RETAINED).await,
                    _ => {
                        drop(db);
                        Ok(())
                    }
                }
            });
            ended.await.unwrap();
            match case {
                1 => process.kill(),
                2 => process.power_loss(),
                _ => {}
            }
            process.restart();
            let judged = within(&process, move |env| async move {
                let view = Db::open_read_only_in(env.clone(), DIR, options()).await?;
                let oldest = made[made.len() - 1 - RETAINED];
                view.at(Seq::new(oldest.0))?;
                view.backup("/beside").await?;
                let db = Db::open_in(env.clone(), DIR, options()).await?;
                db.backup("/backup").await?;
                db.checkpoint("/checkpoint").await?;
                judge_past(&db, &made, RETAINED).await?;
                let view = Db::open_read_only_in(env.clone(), DIR, options()).await?;
                view.backup("/beside it").await?;
                db.close().await?;
                for dir in [DIR, "/beside", "/backup", "/checkpoint", "/beside it"] {
                    let db = Db::open_in(env.clone(), dir, options()).await?;
                    judge_past(&db, &made, RETAINED).await?;
                    let next = db.default_keyspace()?.put("k", 99u64.to_be_bytes()).await?.get();
                    assert!(next > made.last().unwrap().0);
                    let longer = [&made[..], &[(next, 99)]].concat();
                    judge_past(&db, &longer, RETAINED).await?;
                    db.close().await?;
                }
                Ok::<_, Error>(())
            });
            judged.await.unwrap();
        });
    }
}

/// A shrink of the log lets go of all that told of commits to a dropped keyspace, and of the refused ones before them.
#[test]
fn refused_commits_before_ones_to_a_dropped_keyspace_use_up_nothing_of_the_past() {
    const RETAINED: u64 = 5;
    let options = || Options { retain_commits: RETAINED, memtable_bytes: 1 << 20, ..small_options() };
    simulate(31, move |world, process| async move {
        let db = within(&process, move |env| Db::open_in(env, DIR, options())).await.unwrap();
        let made = commits_among_refusals(&world, &process, &db, true).await;
        let flushed = db.clone();
        within(&process, move |_| async move { flushed.flush().await }).await.unwrap();
        refuse_commits(&world, &process, &db).await;
        let oldest = made[made.len() - 4];
        let newest = within(&process, move |_| async move {
            let dropped = db.create_keyspace("dropped", small_keyspace()).await?;
            dropped.put("k", "1").await?;
            let newest = dropped.put("k", "2").await?;
            db.drop_keyspace(&dropped).await?;
            db.compact().await?;
            Ok::<_, Error>(newest)
        });
        let newest = newest.await.unwrap();
        process.power_loss();
        process.restart();
        let judged = within(&process, move |env| async move {
            let db = Db::open_in(env, DIR, options()).await?;
            assert_eq!(db.last_seq(), newest, "of {made:?}");
            db.compact().await?;
            let past = db.at(Seq::new(oldest.0))?;
            let found = past.get(&db.default_keyspace()?, "k").await?.unwrap();
            assert_eq!(found[..], oldest.1.to_be_bytes(), "at {} of {made:?}", oldest.0);
            db.close().await
        });
        judged.await.unwrap();
    });
}
