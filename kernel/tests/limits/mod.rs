//! Limits and pressure: what is large goes through whole, what is too much gets a retriable error that leaves no
//! trace, and once the cause is gone everything works again by itself.

mod damage;
mod memory;
mod reads;
mod refusals;
mod room;
mod sizes;

use std::sync::Arc;

use crate::support::scene::{DIR, small_keyspace, small_options, within};
use holdfast::env::Env;
use holdfast::{Db, Error, Keyspace, Options, Result, Scan};
use holdfast_sim::Process;

async fn open(env: Arc<dyn Env>) -> Result<(Db, Keyspace)> {
    open_with(env, small_options()).await
}

async fn open_with(env: Arc<dyn Env>, options: Options) -> Result<(Db, Keyspace)> {
    let db = Db::open_in(env, DIR, options).await?;
    let keyspace = match db.keyspace("k") {
        Ok(keyspace) => keyspace,
        Err(_) => db.create_keyspace("k", small_keyspace()).await?,
    };
    Ok((db, keyspace))
}

async fn opened(process: &Process) -> (Db, Keyspace) {
    within(process, open).await.unwrap()
}

/// Puts numbered keys until one is refused; gives the number and the refusal.
async fn put_until_refused(keyspace: &Keyspace, from: u64) -> (u64, Error) {
    for number in from.. {
        if let Err(error) = keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await {
            return (number, error);
        }
        assert!(number < from + 5_000, "nothing is ever refused");
    }
    unreachable!("the loop has no end");
}

async fn check_numbers(keyspace: &Keyspace, count: u64) {
    let all = keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap();
    assert_eq!(all.len() as u64, count);
    for (number, (key, value)) in all.iter().enumerate() {
        assert_eq!((&key[..], &value[..]), (&(number as u64).to_be_bytes()[..], &[number as u8; 1000][..]));
    }
}

/// Bytes that no compression makes small.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
