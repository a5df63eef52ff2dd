//! The process that the tour kills: many threads move money, and each tells what was acknowledged.
//!
//! ```text
//! balances  (account)                        -> amount, u64 little-endian
//! ledger    (round, thread, number)          -> from, to, amount: three u64 little-endian
//! ```
//!
//! A transaction takes an amount from one account, gives it to another and writes the next entry of its thread's
//! ledger: three keys in two keyspaces. After `commit` has returned, and not before, the line `thread number` goes to
//! standard output, which is a pipe that outlives this process. It never ends by itself, except when the pipe closes.

use std::io::Write;

use holdfast::blocking::{Db, TypedKeyspace};
use holdfast::{Error, Isolation, TransactionOptions};

use crate::cli::Database;
use crate::exit::{Exit, Failure};

pub(super) const BALANCES: &str = "balances";
pub(super) const LEDGER: &str = "ledger";
pub(super) const ACCOUNTS: u64 = 32;
pub(super) const MONEY: u64 = 1000;
pub(super) const THREADS: u64 = 8;

pub(super) type Balances = TypedKeyspace<(u64,), u64>;
pub(super) type Ledger = TypedKeyspace<(u64, u64, u64), Vec<u8>>;

/// Writes until it is killed.
///
/// # Errors
/// What the kernel says, or a pipe that was closed.
pub(crate) fn write_for_ever(database: &Database, round: u64) -> Result<Exit, Failure> {
    let db = Db::open(&database.path, super::options())?;
    let balances: Balances = db.keyspace(BALANCES)?.typed();
    let ledger: Ledger = db.keyspace(LEDGER)?.typed();
    std::thread::scope(|scope| {
        let (db, balances, ledger) = (&db, &balances, &ledger);
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || write(db, balances, ledger, round, thread)))
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a writing thread does not panic"))
    })?;
    Ok(Exit::Good)
}

fn write(db: &Db, balances: &Balances, ledger: &Ledger, round: u64, thread: u64) -> Result<(), Failure> {
    for number in 0.. {
        while let Err(error) = transfer(db, balances, ledger, (round, thread, number)) {
            if !matches!(error, Error::Conflict(_)) {
                return Err(error.into());
            }
        }
        // One write of a short line: a pipe takes it whole or not at all.
        let line = format!("{thread} {number}\n");
        let told = std::io::stdout().lock().write_all(line.as_bytes());
        told.map_err(|error| Failure::io("the pipe", error))?;
    }
    Ok(())
}

fn transfer(db: &Db, balances: &Balances, ledger: &Ledger, entry: (u64, u64, u64)) -> holdfast::Result<()> {
    let (_, thread, number) = entry;
    let from = (number.wrapping_mul(7) + thread * 5) % ACCOUNTS;
    let to = (from + 1 + number % (ACCOUNTS - 1)) % ACCOUNTS;
    let mut txn = db.begin(TransactionOptions { isolation: Isolation::Serializable, ..Default::default() });
    let has = balances.get_in(&txn, &(from,))?.unwrap_or(0);
    let amount = has.min(1 + number % 10);
    let gets = balances.get_in(&txn, &(to,))?.unwrap_or(0);
    balances.put_in(&mut txn, &(from,), &(has - amount))?;
    balances.put_in(&mut txn, &(to,), &(gets + amount))?;
    ledger.put_in(&mut txn, &entry, &[from, to, amount].map(u64::to_le_bytes).concat())?;
    txn.commit()?;
    Ok(())
}
