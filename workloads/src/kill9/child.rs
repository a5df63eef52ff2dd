//! The process that is killed: opens the database and writes until it dies.
//!
//! Lines to the parent, beside those of [`phases`](crate::phases):
//! ```text
//! R                                      the database is open, the writers start
//! A <writer> <number> <seq>              the transaction was acknowledged: `commit` returned
//! X <text>                               something failed that should not
//! ```

use std::path::Path;

use holdfast::env::linux::block_on;
use holdfast::{
    Compression, Db, Durability, Error, Isolation, Keyspace, KeyspaceOptions, Options, TransactionOptions,
};

use super::record::{COUNTERS, KEPT, KEYSPACES, RANGE_EVERY, Record};
use crate::phases::{PhaseTeller, tell};
use crate::random::{Random, mix};

/// A defect that the child is told to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// Acknowledges a transaction that it never commits.
    UnkeptPromise,
    /// Leaves one keyspace out of a transaction.
    HalfTransaction,
}

/// Options so small that flushes, compactions and manifest switches follow each other closely.
pub fn options() -> Options {
    Options {
        memory_limit_bytes: 8 << 20,
        memtable_bytes: 96 << 10,
        log_segment_bytes_max: 256 << 10,
        log_bytes_max: 1 << 20,
        ..Options::default()
    }
}

fn keyspace_options(index: usize) -> KeyspaceOptions {
    KeyspaceOptions {
        block_bytes: 1 << 10,
        table_bytes: 64 << 10,
        level1_bytes: 128 << 10,
        level_ratio: 4,
        compression: vec![if index == 0 { Compression::Lz4 } else { Compression::None }],
        ..KeyspaceOptions::default()
    }
}

/// The keyspace of this name, made if it is not there.
///
/// # Errors
/// What the database says.
pub async fn keyspace(db: &Db, name: &str, index: usize) -> holdfast::Result<Keyspace> {
    match db.keyspace(name) {
        Err(Error::Invalid(_)) => db.create_keyspace(name, keyspace_options(index)).await,
        found => found,
    }
}

/// The life of the child. It ends only by being killed, or by a failure that it tells.
pub fn run(dir: &Path, seed: u64, writers: u32, plant: Option<Plant>) {
    PhaseTeller::install(true);
    let db = match block_on(Db::open(dir, options())) {
        Ok(db) => db,
        Err(error) => return tell(&format!("X opening: {error}")),
    };
    let parts = block_on(async {
        let mut keyspaces = Vec::new();
        for (index, name) in KEYSPACES.iter().enumerate() {
            keyspaces.push(keyspace(&db, name, index).await?);
        }
        let counters = keyspace(&db, COUNTERS, 1).await?;
        holdfast::Result::Ok((keyspaces, counters))
    });
    let (keyspaces, counters) = match parts {
        Ok(parts) => parts,
        Err(error) => return tell(&format!("X keyspaces: {error}")),
    };
    tell("R");
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let life = Writer { db: &db, keyspaces: &keyspaces, counters: &counters, writer, writers, seed };
            scope.spawn(move || {
                if let Err(error) = life.run(plant.filter(|_| writer == 0)) {
                    tell(&format!("X writer {writer}: {error}"));
                }
            });
        }
    });
}

struct Writer<'a> {
    db: &'a Db,
    keyspaces: &'a [Keyspace],
    counters: &'a Keyspace,
    writer: u32,
    writers: u32,
    seed: u64,
}

impl Writer<'_> {
    fn run(&self, plant: Option<Plant>) -> holdfast::Result<()> {
        let mut random = Random::new(mix(self.seed ^ u64::from(self.writer)));
        let mut number = block_on(counter(self.counters, self.writer))?;
        for round in 0u64.. {
            number += 1;
            // A defect shows only if the process lives long enough to have it.
            let plant = plant.filter(|_| round == 20);
            if plant == Some(Plant::UnkeptPromise) {
                tell(&format!("A {} {number} {}", self.writer, self.db.last_seq().get() + 1_000_000));
                number -= 1;
                std::thread::sleep(std::time::Duration::from_secs(60));
            }
            let durability = if random.one_in(2) { Durability::Sync } else { Durability::Flush };
            let seq = block_on(self.transaction(number, durability, plant))?;
            tell(&format!("A {} {number} {seq}", self.writer));
            if plant == Some(Plant::HalfTransaction) {
                std::thread::sleep(std::time::Duration::from_secs(60));
            }
        }
        Ok(())
    }

    async fn transaction(
        &self,
        number: u64,
        durability: Durability,
        plant: Option<Plant>,
    ) -> holdfast::Result<u64> {
        let isolation = Isolation::Snapshot;
        let mut txn = self.db.begin(TransactionOptions { isolation, durability });
        let mut seen = Vec::new();
        for writer in 0..self.writers {
            let bytes = txn.get(self.counters, writer.to_be_bytes()).await?;
            seen.push(bytes.map_or(0, |bytes| number_of(&bytes)));
        }
        let record = Record { writer: self.writer, number, read_at: txn.read_seq().get(), seen };
        for (index, keyspace) in self.keyspaces.iter().enumerate() {
            if plant != Some(Plant::HalfTransaction) || index != 1 {
                txn.put(keyspace, Record::key(self.writer, number), record.encode(index))?;
            }
            let Some(old) = number.checked_sub(KEPT) else { continue };
            if number.is_multiple_of(RANGE_EVERY) {
                txn.delete_range(keyspace, Record::key(self.writer, 0), Record::key(self.writer, old + 1))?;
            } else {
                txn.delete(keyspace, Record::key(self.writer, old))?;
            }
        }
        txn.put(self.counters, self.writer.to_be_bytes(), number.to_le_bytes())?;
        Ok(txn.commit().await?.get())
    }
}

/// The counter of a writer; 0 before its first transaction.
///
/// # Errors
/// What the database says.
pub async fn counter(counters: &Keyspace, writer: u32) -> holdfast::Result<u64> {
    Ok(counters.get(writer.to_be_bytes()).await?.map_or(0, |bytes| number_of(&bytes)))
}

/// A counter's bytes as a number; a value of another length is no counter.
fn number_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(u64::MAX, u64::from_le_bytes)
}
