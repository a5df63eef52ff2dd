//! A token of a transaction tells what became of it, whoever lost the future of its commit, and whenever.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::support::scene::{DIR, small_options, within};
use holdfast::env::Env;
use holdfast::{Db, Error, Keyspace, OutcomeToken, Result, TransactionOptions, Txn};
use holdfast_sim::{FaultClass, SimOptions, Trigger, World};

async fn open(env: Arc<dyn Env>) -> Result<(Db, Keyspace)> {
    let db = Db::open_in(env, DIR, small_options()).await?;
    let keyspace = db.default_keyspace()?;
    keyspace.put("read", "before").await?;
    Ok((db, keyspace))
}

fn begin(db: &Db, keyspace: &Keyspace) -> (Txn, OutcomeToken) {
    let mut txn = db.begin(TransactionOptions::default());
    txn.put(keyspace, "written", "by the transaction").unwrap();
    let token = txn.outcome_token();
    (txn, token)
}

/// Polls the commit `polls` times and drops it, while `others` commit too; true if it completed. The token says what
/// a reader then sees.
fn dropped_commit(polls: u32, others: u64) -> bool {
    holdfast_sim::run(SimOptions::new(u64::from(polls) + 1), move |world: World| async move {
        let process = world.process("db");
        let (db, keyspace) = within(&process, open).await.unwrap();
        let crowd: Vec<_> = (0..others)
            .map(|who| {
                let keyspace = keyspace.clone();
                process.spawn("other", async move {
                    for step in 0..6 {
                        keyspace.put(format!("other {who} {step}"), "x").await.unwrap();
                    }
                })
            })
            .collect();
        let completed = within(&process, move |env| async move {
            let (txn, token) = begin(&db, &keyspace);
            // Others commit between its view and its commit, but not what it read or wrote: it has no conflict.
            env.sleep_until(env.now().after(60_000)).await;
            let mut commit = Box::pin(txn.commit());
            let mut returned = None;
            for poll in 0..polls {
                if poll > 0 {
                    env.sleep_until(env.now().after(20_000)).await;
                }
                let again = std::future::poll_fn(|context| match commit.as_mut().poll(context) {
                    Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                    Poll::Pending => Poll::Ready(None),
                });
                returned = again.await;
                if returned.is_some() {
                    break;
                }
            }
            drop(commit);
            let told = token.wait().await.expect("no fault was asked for");
            let seen = keyspace.get("written").await.unwrap().is_some();
            assert_eq!(told.is_some(), seen, "after {polls} polls");
            if let Some(returned) = &returned {
                assert_eq!(told, returned.as_ref().ok().copied(), "both tell the same");
            }
            assert!(polls > 0 || told.is_none(), "nobody queued it");
            db.sync().await.unwrap();
            assert_eq!(keyspace.get("written").await.unwrap().is_some(), seen, "what was told stays true");
            assert_eq!(db.oldest_reader().1, 0);
            returned.is_some()
        })
        .await;
        for other in crowd {
            other.await.unwrap();
        }
        completed
    })
    .result
}

#[test]
fn a_commit_dropped_at_any_await_is_told() {
    for others in [0, 3] {
        let polls = (0..500).find(|polls| dropped_commit(*polls, others));
        assert!(polls.is_some_and(|polls| polls > 1), "a commit waits more often than {polls:?} times");
    }
}

#[test]
fn every_way_to_end_is_told_to_every_token() {
    holdfast_sim::run(7, |world: World| async move {
        let process = world.process("db");
        within(&process, |env| async move {
            let (db, keyspace) = open(env).await.unwrap();

            let (mut txn, first) = begin(&db, &keyspace);
            let second = txn.outcome_token();
            let seq = txn.commit().await.unwrap();
            assert_eq!((first.wait().await.unwrap(), second.wait().await.unwrap()), (Some(seq), Some(seq)));

            let (txn, token) = begin(&db, &keyspace);
            txn.rollback();
            assert_eq!(token.wait().await.unwrap(), None);

            let mut idle = db.begin(TransactionOptions::default());
            let (read_seq, token) = (idle.read_seq(), idle.outcome_token());
            idle.commit().await.unwrap();
            assert_eq!(token.wait().await.unwrap(), Some(read_seq), "without writes it stands where it read");

            let (txn, token) = begin(&db, &keyspace);
            txn.get(&keyspace, "read").await.unwrap();
            keyspace.put("read", "by another").await.unwrap();
            assert!(matches!(txn.commit().await, Err(Error::Conflict(_))));
            assert!(matches!(token.wait().await, Err(Error::Conflict(_))));

            let (mut txn, token) = begin(&db, &keyspace);
            txn.put(&keyspace, "more", "x").unwrap();
            db.clone().close().await.unwrap();
            assert!(matches!(txn.commit().await, Err(Error::Closed)));
            assert!(matches!(token.wait().await, Err(Error::Closed)));
        })
        .await;
    });
}

/// A token outlives its database; then it does not wait for ever.
#[test]
fn a_database_dropped_in_the_middle_of_a_commit_leaves_no_token_waiting() {
    let mut unknown = 0;
    for polls in 1..4 {
        unknown += holdfast_sim::run(polls, move |world: World| async move {
            let process = world.process("db");
            within(&process, move |env| async move {
                let (db, keyspace) = open(env.clone()).await.unwrap();
                let (txn, token) = begin(&db, &keyspace);
                let mut commit = Box::pin(txn.commit());
                let mut returned = false;
                for _ in 0..polls {
                    let mut context = Context::from_waker(Waker::noop());
                    returned = returned || commit.as_mut().poll(&mut context).is_ready();
                }
                drop(commit);
                drop((db, keyspace));
                match token.wait().await {
                    Ok(Some(_)) => 0,
                    Ok(None) => panic!("it was queued"),
                    Err(Error::Stopped(_) | Error::Closed) => u64::from(!returned),
                    Err(other) => panic!("{other}"),
                }
            })
            .await
        })
        .result;
    }
    println!("{unknown} of 3 outcomes are unknown");
}

/// What `Stopped` leaves open the next opening settles: the commit is there whole, or not at all.
#[test]
fn after_a_failed_sync_only_the_next_opening_tells() {
    let (mut there, mut gone) = (0, 0);
    for seed in 0..24 {
        let found = holdfast_sim::run(seed, move |world: World| async move {
            let process = world.process("db");
            let (db, keyspace) = within(&process, open).await.unwrap();
            let disk = process.disk();
            disk.inject_on(FaultClass::SyncError, ".log", Trigger::Once(1));
            within(&process, move |_| async move {
                let (mut txn, token) = begin(&db, &keyspace);
                txn.put(&keyspace, "large", vec![7; 2_000]).unwrap();
                assert!(matches!(txn.commit().await, Err(Error::Stopped(_))));
                assert!(matches!(token.wait().await, Err(Error::Stopped(_))));
                assert_eq!(keyspace.get("written").await.unwrap(), None, "no reader sees it in this opening");
                // What comes later was refused before it reached the log.
                assert!(matches!(keyspace.put("later", "x").await, Err(Error::Stopped(_))));
                assert!(matches!(db.close().await, Err(Error::Stopped(_))));
            })
            .await;
            disk.clear_faults();
            within(&process, |env| async move {
                let db = Db::open_in(env, DIR, small_options()).await.unwrap();
                let keyspace = db.default_keyspace().unwrap();
                let found = keyspace.get("written").await.unwrap().is_some();
                assert_eq!(keyspace.get("large").await.unwrap().is_some(), found, "it is whole");
                assert_eq!(keyspace.get("later").await.unwrap(), None);
                db.close().await.unwrap();
                found
            })
            .await
        })
        .result;
        *(if found { &mut there } else { &mut gone }) += 1;
    }
    assert!(there > 0 && gone > 0, "{there} there, {gone} gone");
}
