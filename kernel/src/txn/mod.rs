//! Transactions: reads at one `Seq`, writes kept aside, one check and one batch at commit.
//!
//! ```text
//!            T1 begins at 7        T2 commits x as 8        T1 commits
//! reads x    x@7                                            Serializable: conflict, x was read and has changed
//! writes x                                                  Snapshot too: conflict, first committer wins
//! reads [a,c) then T2 puts b                                Serializable: conflict, a phantom
//! ```
//! A transaction that wrote nothing commits without a check: all its reads are of one `Seq`, so it stands there in
//! the serial order.

mod cursor;
mod ledger;
mod overlay;

use cursor::Tracker;
pub use cursor::{Cursor, Entry};
use ledger::OwnLedger;
use overlay::{Overlay, Own};

use crate::commit::{Check, OutcomeToken, Teller};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::{Durability, Isolation};
use crate::tree::{Direction, KeyRange, SnapshotGuard};
use crate::types::{KEY_LEN_MAX, KeyspaceId, Seq, VALUE_LEN_MAX, Value};

/// What is asked of a range walk.
pub(crate) struct Walk {
    pub range: KeyRange,
    pub direction: Direction,
    pub limit: Option<u64>,
}

/// A transaction under way.
pub(crate) struct Transaction {
    snapshot: SnapshotGuard,
    isolation: Isolation,
    durability: Durability,
    own: Overlay,
    ledger: OwnLedger,
    teller: Option<Teller>,
}

impl Transaction {
    pub fn begin(engine: &Engine, isolation: Isolation, durability: Durability) -> Self {
        Self {
            snapshot: engine.snapshots.register(&engine.published),
            isolation,
            durability,
            own: Overlay::default(),
            ledger: OwnLedger::new(engine),
            teller: None,
        }
    }

    pub fn read_seq(&self) -> Seq {
        self.snapshot.seq()
    }

    pub async fn get(&self, engine: &Engine, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Value>> {
        check_key(key)?;
        match self.own.get(keyspace, key) {
            Own::Here(value) => return Ok(Some(value.clone())),
            Own::Gone => return Ok(None),
            Own::Unknown => {}
        }
        if self.isolation == Isolation::Serializable {
            self.ledger.lock().note_point(keyspace, key)?;
        }
        let state = engine.published.load();
        engine.get(&state, keyspace, key, self.read_seq()).await
    }

    pub async fn walk(&self, engine: &Engine, keyspace: KeyspaceId, walk: Walk) -> Result<Cursor> {
        let state = engine.published.load();
        let Walk { range, direction, limit } = walk;
        let base = engine.walk(&state, keyspace, range, self.read_seq(), direction).await?;
        let tracker = (self.isolation == Isolation::Serializable).then(|| Tracker {
            ledger: self.ledger.clone(),
            keyspace,
            slot: None,
        });
        Ok(Cursor::new(base, limit, self.own.keyspace(keyspace), tracker))
    }

    pub fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key)?;
        check_value(value)?;
        self.make_room(key.len() + value.len())?;
        self.own.put(keyspace, key, value);
        Ok(())
    }

    pub fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        check_key(key)?;
        self.make_room(key.len())?;
        self.own.delete(keyspace, key);
        Ok(())
    }

    pub fn delete_range(&mut self, keyspace: KeyspaceId, start: &[u8], end: &[u8]) -> Result<()> {
        check_key(start)?;
        check_key(end)?;
        if start >= end {
            return Err(Error::Invalid("the start of a range must sort before its end".into()));
        }
        self.make_room(start.len() + end.len())?;
        self.own.delete_range(keyspace, start, end);
        Ok(())
    }

    fn make_room(&self, more: usize) -> Result<()> {
        self.ledger.lock().take(more as u64)
    }

    /// A token of its outcome.
    pub fn outcome_token(&mut self) -> OutcomeToken {
        self.teller.get_or_insert_default().token()
    }

    pub async fn commit(mut self, engine: &Engine) -> Result<Seq> {
        let teller = self.teller.take();
        if self.own.is_empty() {
            let outcome = engine.gate.check_read().map(|()| self.read_seq());
            if let Some(teller) = teller {
                teller.tell(&outcome.clone().map(Some));
            }
            return outcome;
        }
        let batch = self.own.to_batch()?;
        let reads = match self.isolation {
            Isolation::Serializable => Some(self.ledger.lock().take_reads()),
            Isolation::Snapshot => None,
        };
        let check = Check { view: self.snapshot, reads };
        engine.commit(batch, Some(check), self.durability, teller).await
    }
}

fn check_key(key: &[u8]) -> Result<()> {
    if key.len() <= KEY_LEN_MAX {
        return Ok(());
    }
    Err(Error::Invalid(format!("the key has {} bytes, over the limit of {KEY_LEN_MAX}", key.len())))
}

fn check_value(value: &[u8]) -> Result<()> {
    if value.len() <= VALUE_LEN_MAX {
        return Ok(());
    }
    Err(Error::Invalid(format!("the value has {} bytes, over the limit of {VALUE_LEN_MAX}", value.len())))
}
