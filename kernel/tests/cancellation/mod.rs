//! Cancellation: every public future is dropped at every place where it can wait, and nothing comes of it.
//!
//! A future is polled k times and dropped, for k from 0 on until it completes before that; each k in a world of its
//! own, once with nobody else there and once beside other committers. Afterwards what it was about is whole or absent,
//! everything else is as it was, no reader stays registered, the same call works when made again, the database closes
//! and opens, and the next opening finds the same. A hang is found by the simulator, which ends a run in which nothing
//! can go on.

mod walks;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::support::scene::{DIR, small_keyspace, small_options, within};
use holdfast::env::{BoxFuture, Env};
use holdfast::{Db, Durability, Error, Keyspace, Options, Result, Scan, TransactionOptions, WriteBatch};
use holdfast_sim::{Process, SimOptions, World};

/// Pairs that are there before, in tables and in the log.
const PAIRS: u64 = 30;
/// The pair that the operation under test writes.
const NEW: u64 = 1000;
/// More polls than any operation here takes.
const POLLS_MAX: u32 = 5000;

/// Polls a future a number of times, then drops it where it stands.
struct Dropped<T> {
    future: Option<BoxFuture<'static, T>>,
    polls: u32,
}

impl<T> Future for Dropped<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if self.polls > 0 {
            self.polls -= 1;
            let future = self.future.as_mut().expect("it is not polled after its end");
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
        }
        if self.polls == 0 {
            self.future = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

fn dropped<T>(polls: u32, future: impl Future<Output = T> + Send + 'static) -> Dropped<T> {
    Dropped { future: Some(Box::pin(future)), polls }
}

/// The two keyspaces of which each pair stands in both.
#[derive(Clone)]
struct Stage {
    db: Db,
    first: Keyspace,
    second: Keyspace,
}

impl Stage {
    async fn open(env: Arc<dyn Env>) -> Result<Self> {
        let db = Db::open_in(env, DIR, options()).await?;
        let second = match db.keyspace("second") {
            Ok(second) => second,
            Err(_) => db.create_keyspace("second", small_keyspace()).await?,
        };
        Ok(Self { first: db.default_keyspace()?, second, db })
    }

    fn pair(&self, number: u64) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for keyspace in [&self.first, &self.second] {
            batch.put(keyspace.id(), &number.to_be_bytes(), &[number as u8; 200]).expect("within all limits");
        }
        batch
    }

    async fn fill(&self) -> Result<()> {
        for number in 0..PAIRS {
            self.db.write(self.pair(number), Durability::Sync).await?;
            if number == PAIRS / 2 {
                self.db.compact().await?;
            }
        }
        Ok(())
    }

    /// The numbers that are there, after checking that each is there whole.
    async fn numbers(&self) -> Vec<u64> {
        let view = self.db.snapshot();
        let mut first = view.scan(&self.first, Scan::all()).await.expect("reads go on");
        let first = first.collect().await.expect("reads go on");
        let mut second = view.scan(&self.second, Scan::all()).await.expect("reads go on");
        assert_eq!(first, second.collect().await.expect("reads go on"), "a pair is whole or absent");
        let number = |(key, value): &(Vec<u8>, _)| {
            let number = u64::from_be_bytes(key[..].try_into().expect("a key is a number"));
            assert!(*value == vec![number as u8; 200], "value of {number}");
            number
        };
        first.iter().map(number).collect()
    }
}

fn options() -> Options {
    Options { retain_commits: 3, ..small_options() }
}

/// What an operation may leave behind.
#[derive(Clone, Copy, PartialEq)]
enum Effect {
    /// Nothing that a reader sees.
    None,
    /// The new pair, whole or not at all.
    Pair,
    /// The pairs below 10, gone or all there, in both keyspaces.
    Deletes,
}

/// One public call, as often as it is asked for.
struct Operation {
    name: &'static str,
    effect: Effect,
    call: fn(Stage) -> BoxFuture<'static, Result<()>>,
}

macro_rules! operation {
    ($name:literal, $effect:ident, |$stage:ident| $body:block) => {
        Operation {
            name: $name,
            effect: Effect::$effect,
            call: |$stage: Stage| Box::pin(async move { $body }),
        }
    };
}

const OPERATIONS: &[Operation] = &[
    operation!("commit", Pair, |stage| { commit(&stage, TransactionOptions::default()).await }),
    operation!("commit at Buffered", Pair, |stage| {
        let options = TransactionOptions { durability: Durability::Buffered, ..Default::default() };
        commit(&stage, options).await
    }),
    operation!("write", Pair, |stage| { stage.db.write(stage.pair(NEW), Durability::Sync).await.map(drop) }),
    operation!("write at Flush", Pair, |stage| {
        stage.db.write(stage.pair(NEW), Durability::Flush).await.map(drop)
    }),
    operation!("delete ranges", Deletes, |stage| {
        let mut txn = stage.db.begin(TransactionOptions::default());
        for keyspace in [&stage.first, &stage.second] {
            txn.delete_range(keyspace, 0u64.to_be_bytes(), 10u64.to_be_bytes())?;
        }
        txn.commit().await.map(drop)
    }),
    operation!("put and delete what nobody sees", None, |stage| {
        let scratch = match stage.db.keyspace("scratch") {
            Ok(scratch) => scratch,
            Err(_) => stage.db.create_keyspace("scratch", small_keyspace()).await?,
        };
        scratch.put("k", "v").await?;
        scratch.delete("k").await?;
        scratch.delete_range("a", "z").await.map(drop)
    }),
    operation!("get", None, |stage| {
        for number in [0, PAIRS / 2, PAIRS - 1, NEW + 1] {
            stage.first.get(number.to_be_bytes()).await?;
            stage.db.snapshot().get(&stage.second, number.to_be_bytes()).await?;
        }
        Ok(())
    }),
    operation!("scan", None, |stage| {
        let mut cursor = stage.first.scan(Scan::all()).await?;
        while cursor.next().await?.is_some() {}
        stage.second.scan(Scan::all().reverse().limit(20)).await?.collect().await.map(drop)
    }),
    operation!("reads of a transaction", None, |stage| {
        let mut txn = stage.db.begin(TransactionOptions::default());
        txn.put(&stage.first, 3u64.to_be_bytes(), "own")?;
        txn.get(&stage.second, 4u64.to_be_bytes()).await?;
        let mut cursor = txn.scan(&stage.first, Scan::all()).await?;
        while cursor.next().await?.is_some() {}
        Ok(())
    }),
    operation!("approximate size", None, |stage| {
        let bounds = 3u64.to_be_bytes()..20u64.to_be_bytes();
        stage.first.approximate_size(bounds).await.map(drop)
    }),
    operation!("sync", None, |stage| { stage.db.sync().await.map(drop) }),
    operation!("flush", None, |stage| { stage.db.flush().await }),
    operation!("compact", None, |stage| { stage.db.compact().await }),
    operation!("wait_idle", None, |stage| { stage.db.wait_idle().await }),
    operation!("verify", None, |stage| {
        let report = stage.db.verify().await?;
        assert!(report.is_good(), "{report:?}");
        Ok(())
    }),
    operation!("create and drop a keyspace", None, |stage| {
        let third = match stage.db.keyspace("third") {
            Ok(third) => third,
            Err(_) => stage.db.create_keyspace("third", small_keyspace()).await?,
        };
        stage.db.drop_keyspace(&third).await
    }),
];

async fn commit(stage: &Stage, options: TransactionOptions) -> Result<()> {
    let mut txn = stage.db.begin(options);
    let seen = txn.get(&stage.first, 1u64.to_be_bytes()).await?;
    assert!(seen.is_some(), "it was put before");
    for keyspace in [&stage.first, &stage.second] {
        txn.put(keyspace, NEW.to_be_bytes(), [NEW as u8; 200])?;
    }
    txn.commit().await.map(drop)
}

fn options_of_run(seed: u64) -> SimOptions {
    SimOptions { time_limit_ns: 600_000_000_000, ..SimOptions::new(seed) }
}

/// Others who commit meanwhile, so that the operation waits for them or leads them.
async fn others(process: &Process, stage: &Stage) -> Vec<holdfast_sim::Join<u64>> {
    let spawned = (1..=3u64).map(|who| {
        let stage = stage.clone();
        process.spawn("other", async move {
            for step in 0..8 {
                let written = stage.db.write(stage.pair(2000 + who * 100 + step), Durability::Sync).await;
                written.expect("nothing stops the others");
            }
            8
        })
    });
    spawned.collect()
}

/// One run; true if the operation completed within `polls`.
fn run(operation: &'static Operation, polls: u32, crowded: bool) -> bool {
    holdfast_sim::run(options_of_run(u64::from(polls) + 1), move |world: World| async move {
        let process = world.process("db");
        let stage = within(&process, |env| async move {
            let stage = Stage::open(env.clone()).await?;
            stage.fill().await?;
            // Opened anew, so that nothing is cached.
            stage.db.close().await?;
            let stage = Stage::open(env).await?;
            stage.db.write(stage.pair(PAIRS), Durability::Sync).await?;
            Ok::<_, Error>(stage)
        });
        let stage = stage.await.expect("no fault was asked for");
        let others = if crowded { others(&process, &stage).await } else { Vec::new() };
        let crowd = others.len() as u64 * 8;
        let call = (operation.call)(stage.clone());
        let outcome = process.run(dropped(polls, call)).await.expect("alive");
        let completed = outcome.is_some();
        if let Some(outcome) = outcome {
            outcome.unwrap_or_else(|error| panic!("{}: {error}", operation.name));
        }
        for other in others {
            assert_eq!(other.await.expect("alive"), 8);
        }
        let what = format!("{} after {polls} polls", operation.name);
        judge(&process, stage, operation, completed, crowd, &what).await;
        completed
    })
    .result
}

async fn judge(
    process: &Process,
    stage: Stage,
    operation: &'static Operation,
    completed: bool,
    crowd: u64,
    what: &str,
) {
    let what = what.to_string();
    within(process, move |env| async move {
        // Behind everything that was queued before; what was to happen has happened.
        stage.db.sync().await.unwrap();
        assert_eq!(stage.db.oldest_reader().1, 0, "{what}: a reader stays registered");
        let before = stage.numbers().await;
        check(&before, operation.effect, completed, crowd, &what);
        // The same again, to its end.
        (operation.call)(stage.clone()).await.unwrap_or_else(|error| panic!("{what}, again: {error}"));
        let after = stage.numbers().await;
        check(&after, operation.effect, true, crowd, &what);
        stage.db.write(stage.pair(3000), Durability::Sync).await.unwrap();
        stage.db.flush().await.unwrap();
        stage.db.compact().await.unwrap();
        let last = stage.numbers().await;
        assert_eq!(stage.db.oldest_reader().1, 0, "{what}: a reader stays registered");
        stage.db.close().await.unwrap();
        let stage = Stage::open(env).await.unwrap();
        assert_eq!(stage.numbers().await, last, "{what}: another opening sees something else");
        assert!(stage.db.verify().await.unwrap().is_good(), "{what}");
        stage.db.close().await.unwrap();
    })
    .await;
}

/// The pairs of before, those of the others, and the operation's own: whole, or not at all.
fn check(numbers: &[u64], effect: Effect, done: bool, crowd: u64, what: &str) {
    let count = |range: std::ops::Range<u64>| numbers.iter().filter(|number| range.contains(number)).count();
    let low = count(0..10);
    let deleted = effect == Effect::Deletes && low == 0;
    assert!(deleted || low == 10, "{what}: {low} of 10 are left");
    assert_eq!(count(10..PAIRS + 1) as u64, PAIRS + 1 - 10, "{what}");
    assert_eq!(count(2000..3000) as u64, crowd, "{what}");
    let new = count(NEW..NEW + 1) == 1;
    assert!(!new || effect == Effect::Pair, "{what}");
    if done {
        assert_eq!((new, deleted), (effect == Effect::Pair, effect == Effect::Deletes), "{what}");
    }
}

fn every_poll(operation: &'static Operation, crowded: bool) -> u32 {
    let polls = (0..POLLS_MAX).find(|polls| run(operation, *polls, crowded));
    polls.unwrap_or_else(|| panic!("{} never ends", operation.name))
}

#[test]
fn every_call_dropped_at_every_await() {
    for operation in OPERATIONS {
        let polls = every_poll(operation, false);
        println!("{}: {polls} polls", operation.name);
    }
}

#[test]
fn every_call_dropped_at_every_await_beside_other_committers() {
    for operation in OPERATIONS {
        let polls = every_poll(operation, true);
        println!("{}: {polls} polls", operation.name);
    }
}

/// A call that ends the database or makes another one, dropped after some polls; true if it completed.
fn ending(
    polls: u32,
    call: fn(Stage) -> BoxFuture<'static, Result<()>>,
    judge: fn(Stage, Arc<dyn Env>, bool) -> BoxFuture<'static, ()>,
) -> bool {
    holdfast_sim::run(options_of_run(u64::from(polls) + 1), move |world: World| async move {
        let process = world.process("db");
        let stage = within(&process, |env| async move {
            let stage = Stage::open(env).await?;
            stage.fill().await?;
            stage.db.write(stage.pair(PAIRS), Durability::Sync).await?;
            Ok::<_, Error>(stage)
        });
        let stage = stage.await.expect("no fault was asked for");
        let outcome = process.run(dropped(polls, call(stage.clone()))).await.expect("alive");
        let completed = outcome.is_some();
        if let Some(outcome) = outcome {
            outcome.unwrap();
        }
        within(&process, move |env| judge(stage, env, completed)).await;
        within(&process, |env| async move {
            let stage = Stage::open(env).await.expect("the directory is free");
            assert!(stage.numbers().await.starts_with(&(0..=PAIRS).collect::<Vec<_>>()));
            assert!(stage.db.verify().await.unwrap().is_good());
            stage.db.close().await.unwrap();
        })
        .await;
        completed
    })
    .result
}

#[test]
fn a_close_dropped_at_every_await() {
    let polls = (0..POLLS_MAX).find(|polls| {
        ending(
            *polls,
            |stage| Box::pin(async move { stage.db.clone().close().await }),
            |stage, _, completed| {
                Box::pin(async move {
                    // Closed from the first poll on, or not at all; and the handles that are left keep nothing open.
                    match stage.db.write(stage.pair(PAIRS + 1), Durability::Sync).await {
                        Ok(_) => assert!(!completed),
                        Err(Error::Closed) => {}
                        Err(other) => panic!("{other}"),
                    }
                    match stage.db.clone().close().await {
                        Ok(()) => assert!(!completed),
                        Err(Error::Closed) => {}
                        Err(other) => panic!("{other}"),
                    }
                    drop(stage);
                })
            },
        )
    });
    assert!(polls.is_some_and(|polls| polls > 3), "a close waits more often than {polls:?} times");
}

#[test]
fn a_checkpoint_dropped_at_every_await() {
    let polls = (0..POLLS_MAX).find(|polls| {
        ending(
            *polls,
            |stage| Box::pin(async move { stage.db.checkpoint("/copy").await.map(drop) }),
            |stage, env, completed| Box::pin(judge_copy(stage, env, completed)),
        )
    });
    assert!(polls.is_some_and(|polls| polls > 10), "a checkpoint waits more often than {polls:?} times");
}

#[test]
fn a_backup_dropped_at_every_await() {
    let polls = (0..POLLS_MAX).find(|polls| {
        ending(
            *polls,
            |stage| Box::pin(async move { stage.db.backup("/copy").await.map(drop) }),
            |stage, env, completed| Box::pin(judge_copy(stage, env, completed)),
        )
    });
    assert!(polls.is_some_and(|polls| polls > 15), "a backup waits more often than {polls:?} times");
}

/// Whole, or refused by every opening, or not there; and the original goes on.
async fn judge_copy(stage: Stage, env: Arc<dyn Env>, completed: bool) {
    let existing = Options { create_if_missing: false, ..options() };
    match Db::open_in(env.clone(), "/copy", existing.clone()).await {
        Ok(copy) => {
            let all = copy.default_keyspace().unwrap().scan(Scan::all()).await.unwrap().collect().await;
            assert_eq!(all.unwrap().len() as u64, PAIRS + 1);
            copy.close().await.unwrap();
        }
        Err(Error::NotFound { .. }) => assert!(!completed),
        Err(Error::Invalid(why)) => {
            assert!(!completed && why.contains("unfinished checkpoint"), "{why}");
        }
        Err(other) => panic!("{other}"),
    }
    stage.db.write(stage.pair(PAIRS + 1), Durability::Sync).await.unwrap();
    stage.db.compact().await.unwrap();
    stage.db.checkpoint("/again").await.unwrap();
    let again = Db::open_in(env, "/again", existing).await.unwrap();
    let all = again.keyspace("second").unwrap().scan(Scan::all()).await.unwrap().collect().await;
    assert_eq!(all.unwrap().len() as u64, PAIRS + 2);
    again.close().await.unwrap();
    assert_eq!(stage.db.oldest_reader().1, 0);
    stage.db.close().await.unwrap();
}

#[test]
fn a_look_from_beside_dropped_at_every_await() {
    let polls = (0..POLLS_MAX).find(|polls| {
        let polls = *polls;
        holdfast_sim::run(options_of_run(u64::from(polls) + 1), move |world: World| async move {
            let process = world.process("db");
            let beside = world.process_on("beside", "db");
            let stage = within(&process, |env| async move {
                let stage = Stage::open(env).await?;
                stage.fill().await?;
                Ok::<_, Error>(stage)
            });
            let stage = stage.await.unwrap();
            let env = beside.env();
            let look = async move {
                let view = Db::open_read_only_in(env, DIR, options()).await?;
                let before = view.keyspace("second")?.scan(Scan::all()).await?.collect().await?.len();
                view.refresh().await?;
                view.backup("/beside").await?;
                Ok::<_, Error>(before)
            };
            let seen = beside.run(dropped(polls, look)).await.unwrap();
            let completed = seen.map(|seen| assert_eq!(seen.unwrap() as u64, PAIRS)).is_some();
            within(&process, move |_| async move {
                stage.db.write(stage.pair(PAIRS), Durability::Sync).await.unwrap();
                stage.db.compact().await.unwrap();
                stage.db.close().await.unwrap();
            })
            .await;
            let view = within(&beside, |env| Db::open_read_only_in(env, DIR, options())).await.unwrap();
            within(&beside, move |_| async move {
                let all = view.keyspace("second").unwrap().scan(Scan::all()).await.unwrap().collect().await;
                assert_eq!(all.unwrap().len() as u64, PAIRS + 1);
            })
            .await;
            completed
        })
        .result
    });
    assert!(polls.is_some_and(|polls| polls > 10), "a look waits more often than {polls:?} times");
}
