//! A queue with several consumers, of which each job is done by exactly one.
//!
//! A consumer takes the first job and records it as done in one serializable transaction over two keyspaces. Two that
//! saw the same first job conflict; the loser runs again and sees the next one. No lock, no lease, no lost job.

use holdfast::blocking::{Db, Keyspace};
use holdfast::key::EncodeKey;
use holdfast::{Durability, Error, KeyspaceOptions, Options, Result, Scan, WriteBatch};

const JOBS: u64 = 200;
const CONSUMERS: u64 = 3;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("holdfast-queue-{}", std::process::id()));
    let db = Db::open(&dir, Options::default())?;
    let waiting = db.create_keyspace("waiting", KeyspaceOptions::default())?;
    let done = db.create_keyspace("done", KeyspaceOptions::default())?;

    // All jobs arrive at once, or none: a batch is one commit.
    let mut batch = WriteBatch::new();
    for number in 0..JOBS {
        // Tuple keys sort as numbers do: job 10 comes after job 9.
        batch.put(&waiting, &number.encode_key(), format!("job {number}").as_bytes())?;
    }
    let seq = db.write(batch, Durability::Sync)?;
    println!("{JOBS} jobs arrived with commit {seq}");

    let shares: Result<Vec<u64>> = std::thread::scope(|scope| {
        let (db, waiting, done) = (&db, &waiting, &done);
        let consumers: Vec<_> =
            (0..CONSUMERS).map(|id| scope.spawn(move || consume(db, waiting, done, id))).collect();
        consumers.into_iter().map(|consumer| consumer.join().expect("a consumer does not panic")).collect()
    });
    let shares = shares?;
    println!("the consumers did {shares:?} of them");

    assert_eq!(shares.iter().sum::<u64>(), JOBS);
    assert_eq!(waiting.scan(Scan::all())?.count()?, 0);
    assert_eq!(done.scan(Scan::all())?.count()?, JOBS);
    db.close()?;
    std::fs::remove_dir_all(&dir).expect("the example's own directory can be removed");
    Ok(())
}

/// Takes jobs until none is left, and tells how many.
fn consume(db: &Db, waiting: &Keyspace, done: &Keyspace, consumer: u64) -> Result<u64> {
    let mut jobs = 0;
    loop {
        match take_one(db, waiting, done, consumer) {
            Ok(true) => jobs += 1,
            Ok(false) => return Ok(jobs),
            Err(Error::Conflict(_)) => {}
            Err(other) => return Err(other),
        }
    }
}

fn take_one(db: &Db, waiting: &Keyspace, done: &Keyspace, consumer: u64) -> Result<bool> {
    let mut txn = db.begin(Default::default());
    let mut first = txn.scan(waiting, Scan::all().limit(1))?;
    let Some(job) = first.next()? else { return Ok(false) };
    txn.delete(waiting, job.key)?;
    txn.put(done, job.key, format!("consumer {consumer}"))?;
    txn.commit()?;
    Ok(true)
}
