//! The load on a small disk, and the ledger of what it was promised.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::env::linux::block_on;
use holdfast::{Db, Durability, Error, Keyspace, KeyspaceOptions, Options, Scan, WriteBatch};
use holdfast_workloads::Report;
use holdfast_workloads::random::{fill, mix};

use crate::PATIENCE;

/// Bytes of each value.
const VALUE_BYTES: usize = 4000;
const RESUME_MS: f64 = 1000.0;

/// A database and the ledger of what was acknowledged.
pub struct Load {
    pub db: Db,
    keyspace: Keyspace,
    dir: PathBuf,
    options: Options,
    /// Acknowledged numbers, and how often the value was written.
    pub kept: BTreeMap<u64, u64>,
    next: u64,
    /// Commits refused so late that they may have landed; the next that succeeds makes them never have happened.
    pub unknown: u64,
}

impl Load {
    /// Opens or creates a database with one keyspace.
    pub fn open(dir: &Path, options: Options) -> Result<Self, String> {
        let opened = block_on(async {
            let db = Db::open(dir, options.clone()).await?;
            let keyspace = match db.keyspace("load") {
                Ok(keyspace) => keyspace,
                Err(_) => db.create_keyspace("load", KeyspaceOptions::default()).await?,
            };
            Ok((db, keyspace))
        });
        let (db, keyspace) = opened.map_err(|error: Error| format!("opening: {error}"))?;
        Ok(Self { db, keyspace, dir: dir.to_path_buf(), options, kept: BTreeMap::new(), next: 0, unknown: 0 })
    }

    /// The same, closed and opened again.
    pub fn reopen(self) -> Result<Self, String> {
        let (dir, options, kept) = (self.dir.clone(), self.options.clone(), self.kept.clone());
        let (next, unknown) = (self.next, self.unknown);
        self.close()?;
        let opened = Self::open(&dir, options)?;
        Ok(Self { kept, next, unknown, ..opened })
    }

    /// Closes the database; a last flush that finds no room is no failure.
    pub fn close(self) -> Result<(), String> {
        drop(self.keyspace);
        match block_on(self.db.close()) {
            // The last flush found no room; what it was to write stands in the log.
            Ok(()) | Err(Error::DiskFull(_)) => Ok(()),
            Err(error) => Err(format!("closing: {error}")),
        }
    }

    fn record(number: u64, version: u64) -> ([u8; 8], Vec<u8>) {
        let mut value = vec![0; VALUE_BYTES];
        fill(number ^ (version << 48), &mut value);
        (mix(number).to_be_bytes(), value)
    }

    fn put(&self, number: u64) -> holdfast::Result<()> {
        let (key, value) = Self::record(number, 0);
        let mut batch = WriteBatch::new();
        batch.put(self.keyspace.id(), &key, &value)?;
        block_on(self.db.write(batch, Durability::Sync)).map(drop)
    }

    /// Removes an acknowledged record without a word to the ledger.
    pub fn lose_one(&mut self) -> Result<(), String> {
        let number = self.next;
        self.next += 1;
        self.put(number).map_err(|error| error.to_string())?;
        self.kept.insert(number, 0);
        let removed = block_on(self.keyspace.delete(Self::record(number, 0).0));
        removed.map(drop).map_err(|error| error.to_string())
    }

    /// Puts records until there are `count` more or the disk is full, and gives how many were acknowledged. A number
    /// that was refused is never used again, so it must never be seen.
    pub fn fill_up(&mut self, count: u64, report: &mut Report) -> Result<u64, String> {
        let mut written = 0;
        let mut refused_in_a_row = 0;
        while written < count {
            let number = self.next;
            self.next += 1;
            match self.put(number) {
                Ok(()) => {
                    self.kept.insert(number, 0);
                    written += 1;
                    refused_in_a_row = 0;
                }
                // The disk is full when it stays full for a while: compaction may have given some room back.
                Err(error @ (Error::DiskFull(_) | Error::CommitUnknown(_))) => {
                    self.unknown += u64::from(matches!(error, Error::CommitUnknown(_)));
                    refused_in_a_row += 1;
                    if refused_in_a_row >= 40 {
                        return Ok(written);
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(Error::Busy(_)) => report.say("  busy: flush and compaction are behind"),
                Err(error) => return Err(format!("a write on a filling disk gave: {error}")),
            }
        }
        Ok(written)
    }

    /// Tries again and again, as a caller would, until a commit succeeds.
    pub fn resume(&mut self, when: &str, patience: Duration, report: &mut Report) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let number = self.next;
            self.next += 1;
            match self.put(number) {
                Ok(()) => {
                    self.kept.insert(number, 0);
                    report.at_most(
                        &format!("writes resume {when}"),
                        began.elapsed().as_secs_f64() * 1e3,
                        "ms",
                        RESUME_MS,
                    );
                    return Ok(());
                }
                Err(Error::DiskFull(_) | Error::CommitUnknown(_)) if began.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(format!("{when} writes did not resume: {error}")),
            }
        }
    }

    /// Removes three quarters of the keys, key by key in commits of a hundred.
    pub fn remove_most(&mut self, report: &mut Report) -> Result<(), String> {
        let gone: Vec<u64> = self.kept.keys().copied().filter(|number| number % 4 != 0).collect();
        for part in gone.chunks(100) {
            let mut batch = WriteBatch::new();
            for number in part {
                let key = Self::record(*number, 0).0;
                batch.delete(self.keyspace.id(), &key).map_err(|error| error.to_string())?;
            }
            let began = Instant::now();
            loop {
                match block_on(self.db.write(batch.clone(), Durability::Sync)) {
                    Ok(_) => break,
                    Err(Error::DiskFull(_) | Error::CommitUnknown(_)) if began.elapsed() < PATIENCE => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => return Err(format!("removing keys: {error}")),
                }
            }
            for number in part {
                self.kept.remove(number);
            }
        }
        report.figure("removed keys", gone.len() as f64, "");
        Ok(())
    }

    /// Compacts, with patience while there is no room.
    pub fn compact(&self, report: &mut Report) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match block_on(self.db.compact()) {
                Ok(()) => return Ok(()),
                Err(Error::DiskFull(_)) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => {
                    report.wrong(format!("keys were removed, but compaction found no room: {error}"));
                    return Ok(());
                }
            }
        }
    }

    /// Exactly the acknowledged records, by scan and by get.
    pub fn verify(&self, when: &str, report: &mut Report) -> Result<(), String> {
        let outcome: holdfast::Result<()> = block_on(async {
            let mut found = BTreeMap::new();
            let mut cursor = self.keyspace.scan(Scan::all()).await?;
            while let Some(entry) = cursor.next().await? {
                found.insert(entry.key.to_vec(), entry.value.to_vec());
            }
            for (number, version) in &self.kept {
                let (key, value) = Self::record(*number, *version);
                let scanned = found.remove(&key[..]);
                let got = self.keyspace.get(key).await?;
                report.check(scanned.as_ref() == Some(&value), || {
                    format!("{when}: LOST: the scan does not give record {number} as acknowledged")
                });
                report.check(got.as_deref() == Some(&value[..]), || {
                    format!("{when}: LOST: get does not give record {number} as acknowledged")
                });
            }
            report.check(found.is_empty(), || {
                format!("{when}: {} records are there that were never acknowledged, or removed", found.len())
            });
            Ok(())
        });
        outcome.map_err(|error| format!("reading {when}: {error}"))
    }
}
