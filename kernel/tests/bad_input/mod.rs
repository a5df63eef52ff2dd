//! Wrong requests: each has an error of its own that says what is wrong and what to do, and changes nothing.
//!
//! What an opening refuses is judged by the whole disk, names and bytes, before and after; what an open database
//! refuses by the whole disk once it is idle, and by what its readers see.

mod directories;
mod options;
mod real_disk;
mod requests;

use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Db, Durability, Error, Options, Result, WriteBatch};
use holdfast_sim::Process;

use crate::support::scene::{DIR, assert_same, image, small_keyspace, small_options, within};

/// A database of two keyspaces with tables, and commits that only the log holds.
async fn make(env: Arc<dyn Env>) -> Result<Db> {
    let db = Db::open_in(env, DIR, small_options()).await?;
    let second = db.create_keyspace("second", small_keyspace()).await?;
    for number in 0..40u64 {
        let mut batch = WriteBatch::new();
        batch.put(&db.default_keyspace()?, &number.to_be_bytes(), &[1; 100])?;
        batch.put(&second, &number.to_be_bytes(), &[2; 100])?;
        db.write(batch, Durability::Sync).await?;
    }
    db.compact().await?;
    for number in 40..50u64 {
        second.put(number.to_be_bytes(), [3; 100]).await?;
    }
    Ok(db)
}

/// Makes the database and kills its process, so that tables, log and manifest all count.
async fn made(process: &Process) {
    let db = within(process, make).await.unwrap();
    process.kill();
    drop(db);
    process.restart();
}

/// Both kinds of opening are refused and leave every byte of the disk alone; the error of the writing one.
async fn refused(process: &Process, dir: &str, options: Options) -> Error {
    let before = image(&process.disk());
    let open = |read_only: bool| {
        let (dir, options) = (dir.to_string(), options.clone());
        within(process, move |env| async move {
            if read_only {
                Db::open_read_only_in(env, dir, options).await.err()
            } else {
                Db::open_in(env, dir, options).await.err()
            }
        })
    };
    let error = open(false).await.expect("the opening is refused");
    assert_same(&before, &image(&process.disk()), &error.to_string());
    let beside = open(true).await.expect("so is a look at it");
    assert_same(&before, &image(&process.disk()), &beside.to_string());
    error
}

#[track_caller]
fn says(error: &Error, words: &[&str]) {
    let said = error.to_string();
    for word in words {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
}
