//! Read-only openings: beside a live writer, over what a kill left, and never a byte written.

mod following;
mod left_behind;

use std::sync::Arc;

use crate::support::settings::{options, tiny};
use holdfast::env::Env;
use holdfast::{Db, Durability, Error, Options, ReadOnlyDb, Result, Scan, Seq, WriteBatch};
use holdfast_sim::Process;

const DIR: &str = "/db";

async fn create(env: Arc<dyn Env>) -> Result<Db> {
    let db = Db::open_in(env, DIR, options()).await?;
    db.create_keyspace("left", tiny()).await?;
    db.create_keyspace("right", tiny()).await?;
    Ok(db)
}

/// Commit `n` puts its number in both keyspaces and takes an old number out of the right one.
async fn commit(db: &Db, n: u64, durability: Durability) -> Result<Seq> {
    let (left, right) = (db.keyspace("left")?.id(), db.keyspace("right")?.id());
    let mut batch = WriteBatch::new();
    batch.put(left, format!("{n:08}").as_bytes(), &n.to_le_bytes())?;
    batch.put(left, b"newest", &n.to_le_bytes())?;
    batch.put(right, format!("{n:08}").as_bytes(), &[n as u8; 40])?;
    if n > 100 {
        batch.delete(right, format!("{:08}", n - 100).as_bytes())?;
    }
    db.write(batch, durability).await
}

/// Thirty durable commits, and a process that ends without closing.
async fn leave_thirty(process: &Process) {
    let env = process.env();
    let filled = process.run(async move {
        let db = create(env).await?;
        for n in 1..=30 {
            commit(&db, n, Durability::Sync).await?;
        }
        Ok::<_, Error>(())
    });
    filled.await.unwrap().unwrap();
    process.restart();
}

/// Everything the view shows is exactly what `last_seq` commits make. `None` if a table went away.
async fn check(view: &ReadOnlyDb) -> Result<u64> {
    let n = view.last_seq().get();
    let (left, right) = (view.keyspace("left")?, view.keyspace("right")?);
    let numbers = left.scan(Scan::prefix("0")).await?.collect().await?;
    assert_eq!(numbers.len() as u64, n, "the left keyspace at {n}");
    assert!(numbers.iter().zip(1u64..).all(|((_, value), n)| value[..] == n.to_le_bytes()));
    let newest = left.get("newest").await?;
    assert_eq!(newest.map(|value| value.to_vec()), (n > 0).then(|| n.to_le_bytes().to_vec()));
    let kept = right.scan(Scan::all().reverse()).await?.collect().await?;
    assert_eq!(kept.len() as u64, n.min(100), "the right keyspace at {n}");
    for ((key, value), n) in kept.iter().zip((1..=n).rev()) {
        assert_eq!(
            (key[..].to_vec(), value[..].to_vec()),
            (format!("{n:08}").into_bytes(), vec![n as u8; 40])
        );
    }
    Ok(n)
}

fn existing() -> Options {
    Options { create_if_missing: false, ..options() }
}

async fn look(process: &Process, options: Options) -> Result<ReadOnlyDb> {
    let env = process.env();
    process.run(async move { Db::open_read_only_in(env, DIR, options).await }).await.unwrap()
}
