//! A counter that several threads increase at once, and that no crash or race can make lose a step.
//!
//! Reading and writing back in a serializable transaction is enough: of two that read the same number, one gets a
//! conflict and runs again.

use holdfast::blocking::{Db, Keyspace};
use holdfast::{Error, Options, Result};

const THREADS: u64 = 4;
const STEPS: u64 = 250;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("holdfast-counter-{}", std::process::id()));
    let db = Db::open(&dir, Options::default())?;
    let counters = db.default_keyspace()?;

    let retries: Result<Vec<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| count(&db, &counters))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a counting thread does not panic")).collect()
    });
    println!("{THREADS} threads made {STEPS} steps each, {} were run again", retries?.iter().sum::<u64>());

    db.close()?;
    let db = Db::open(&dir, Options::default())?;
    let total = number(db.default_keyspace()?.get("visits")?.as_deref());
    println!("after reopening, the counter stands at {total}");
    assert_eq!(total, THREADS * STEPS);
    db.close()?;
    std::fs::remove_dir_all(&dir).expect("the example's own directory can be removed");
    Ok(())
}

/// Makes all steps of one thread, and tells how often a step had to be run again.
fn count(db: &Db, counters: &Keyspace) -> Result<u64> {
    let mut retries = 0;
    for _ in 0..STEPS {
        while let Err(error) = step(db, counters) {
            match error {
                Error::Conflict(_) => retries += 1,
                other => return Err(other),
            }
        }
    }
    Ok(retries)
}

fn step(db: &Db, counters: &Keyspace) -> Result<()> {
    let mut txn = db.begin(Default::default());
    let next = number(txn.get(counters, "visits")?.as_deref()) + 1;
    txn.put(counters, "visits", next.to_le_bytes())?;
    txn.commit()?;
    Ok(())
}

fn number(stored: Option<&[u8]>) -> u64 {
    stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}
