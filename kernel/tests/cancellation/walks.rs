//! A walk goes on where a step began whose future was dropped.

use std::sync::Arc;
use std::task::Poll;

use holdfast::env::Env;
use holdfast::{
    Cursor, Db, Durability, KeyspaceOptions, Options, Result, Scan, Seq, TransactionOptions, WriteBatch,
};
use holdfast_sim::World;

use super::{Stage, options, options_of_run};
use crate::support::scene::{DIR, small_keyspace, within};

/// Polls `future` a number of times; `None` if that was not enough, and then it is dropped.
async fn within_polls<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What a walk goes over, some in each block.
const ROWS: u64 = 1500;
/// The row of many versions.
const HOT: u64 = 700;

type Row = (Vec<u8>, Vec<u8>);

async fn row(cursor: &mut Cursor) -> Result<Option<Row>> {
    Ok(cursor.next().await?.map(|entry| (entry.key.to_vec(), entry.value.to_vec())))
}

/// Rows in a deeper level, of one row forty versions in tables above it and in memory, and nothing cached. Gives the
/// sequence before the versions.
async fn cold_rows(env: &Arc<dyn Env>) -> (Stage, Seq) {
    let options = || Options { retain_commits: 1000, ..options() };
    let db = Db::open_in(env.clone(), DIR, options()).await.unwrap();
    let first =
        db.create_keyspace("rows", KeyspaceOptions { level0_tables: 8, ..small_keyspace() }).await.unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..ROWS {
        batch.put(first.id(), &n.to_be_bytes(), &[n as u8; 200]).unwrap();
    }
    let before = db.write(batch, Durability::Sync).await.unwrap();
    db.compact().await.unwrap();
    for n in 0..40u64 {
        first.put(HOT.to_be_bytes(), [n as u8; 100]).await.unwrap();
        if n % 10 == 5 {
            db.flush().await.unwrap();
        }
    }
    db.close().await.unwrap();
    let db = Db::open_in(env.clone(), DIR, options()).await.unwrap();
    let first = db.keyspace("rows").unwrap();
    (Stage { second: first.clone(), first, db }, before)
}

/// Walks with one cursor, and drops each of its steps after some polls, up to three times, before it is taken to its
/// end. Gives how many were dropped.
fn a_walk_dropped_at_each_step(polls: u32, scan: fn() -> Scan, in_transaction: bool) -> u64 {
    holdfast_sim::run(options_of_run(u64::from(polls)), move |world: World| async move {
        let process = world.process("db");
        within(&process, move |env| async move {
            let (stage, before) = cold_rows(&env).await;
            let past = stage.db.at(before).unwrap();
            let mut txn = stage.db.begin(TransactionOptions::default());
            txn.put(&stage.first, (HOT + 1).to_be_bytes(), "own").unwrap();
            txn.delete(&stage.first, (HOT + 2).to_be_bytes()).unwrap();
            let cursor = || async {
                if in_transaction {
                    txn.scan(&stage.first, scan()).await
                } else {
                    past.scan(&stage.first, scan()).await
                }
            };
            let (mut rows, mut dropped) = (Vec::new(), 0);
            let mut walked = cursor().await.unwrap();
            loop {
                let mut found = None;
                for _ in 0..3 {
                    found = within_polls(polls, row(&mut walked)).await;
                    if found.is_some() {
                        break;
                    }
                    dropped += 1;
                }
                let found = match found {
                    Some(found) => found,
                    None => row(&mut walked).await,
                };
                let Some(found) = found.unwrap() else { break };
                rows.push(found);
            }
            let expected = cursor().await.unwrap().collect().await.unwrap();
            assert!(expected.len() as u64 >= ROWS - 5, "{} rows", expected.len());
            assert_eq!(rows, expected, "a walk whose steps were dropped after {polls} polls");
            dropped
        })
        .await
    })
    .result
}

#[test]
fn a_walk_goes_on_where_a_dropped_step_began() {
    let scans: [fn() -> Scan; 4] = [
        Scan::all,
        || Scan::all().reverse(),
        || Scan::range(2u64.to_be_bytes()..(ROWS - 2).to_be_bytes()),
        || Scan::range(2u64.to_be_bytes()..(ROWS - 2).to_be_bytes()).reverse(),
    ];
    for scan in scans {
        for in_transaction in [false, true] {
            let dropped: Vec<u64> =
                (1..6).map(|polls| a_walk_dropped_at_each_step(polls, scan, in_transaction)).collect();
            assert!(dropped[0] > 20 && dropped[1] > 0, "only {dropped:?} steps had to wait");
        }
    }
}
