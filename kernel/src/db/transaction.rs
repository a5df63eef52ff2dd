//! The transaction handle.

use std::sync::Arc;

use super::{Keyspace, Scan, Shared};
use crate::commit::OutcomeToken;
use crate::error::Result;
use crate::options::{Durability, Isolation};
use crate::txn::{Cursor, Transaction};
use crate::types::{Seq, Value};

/// How a transaction runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransactionOptions {
    /// What it is protected from; default serializable.
    pub isolation: Isolation,
    /// What its commit promises; default survives power loss.
    pub durability: Durability,
}

/// A transaction: one consistent view, writes that nobody else sees before [`Txn::commit`]. Dropping it rolls back.
///
/// Committing consumes it, so using it afterwards does not compile:
/// ```compile_fail
/// # async fn f(db: holdfast::Db) -> holdfast::Result<()> {
/// let txn = db.begin(Default::default());
/// txn.commit().await?;
/// txn.commit().await?;
/// # Ok(()) }
/// ```
pub struct Txn {
    shared: Arc<Shared>,
    transaction: Transaction,
}

impl Txn {
    pub(crate) fn begin(shared: Arc<Shared>, options: TransactionOptions) -> Self {
        let transaction = Transaction::begin(&shared.engine, options.isolation, options.durability);
        Self { shared, transaction }
    }

    /// The commit it reads at.
    pub fn read_seq(&self) -> Seq {
        self.transaction.read_seq()
    }

    /// The value of `key` as this transaction sees it, its own writes included.
    ///
    /// At [`Isolation::Serializable`] the key is remembered until the transaction ends, found or not: its bytes and
    /// about 80 more, unless it was read before.
    ///
    /// # Errors
    /// As [`Keyspace::get`]. At `Serializable` also what [`Txn::put`] gives if what was read and written takes up too
    /// much: `Invalid` over `transaction_bytes_max`, `Busy` over half of `memory_limit_bytes` in all open transactions.
    /// The transaction is as it was before.
    pub async fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let id = keyspace.id_in(&self.shared)?;
        let found = self.transaction.get(&self.shared.engine, id, key.as_ref()).await;
        found.map_err(|error| keyspace.name_if_dropped(error))
    }

    /// A walk over a range as this transaction sees it as of now, its own writes included. What the cursor has walked
    /// over counts as read: one range, however many entries lie in it, remembered as [`Txn::get`] remembers a key.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; each step of the cursor as [`Txn::get`].
    pub async fn scan(&self, keyspace: &Keyspace, scan: Scan) -> Result<Cursor> {
        let id = keyspace.id_in(&self.shared)?;
        let cursor = self.transaction.walk(&self.shared.engine, id, scan.into_walk()).await;
        cursor.map_err(|error| keyspace.name_if_dropped(error))
    }

    /// Sets the value of `key` within the transaction.
    ///
    /// # Errors
    /// `Invalid` if key, value or the whole transaction is over its limit; `Busy` if open transactions together hold
    /// half of `memory_limit_bytes`.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let id = keyspace.id_in(&self.shared)?;
        self.transaction.put(id, key.as_ref(), value.as_ref())
    }

    /// Removes `key` within the transaction.
    ///
    /// # Errors
    /// As [`Txn::put`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        let id = keyspace.id_in(&self.shared)?;
        self.transaction.delete(id, key.as_ref())
    }

    /// Removes every key in `start..end` within the transaction. It conflicts with every concurrent write inside.
    ///
    /// # Errors
    /// As [`Txn::put`]; `Invalid` if `start` does not sort before `end`.
    pub fn delete_range(
        &mut self,
        keyspace: &Keyspace,
        start: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
    ) -> Result<()> {
        let id = keyspace.id_in(&self.shared)?;
        self.transaction.delete_range(id, start.as_ref(), end.as_ref())
    }

    /// A token that tells what became of this transaction, also to someone who lost the future of its commit: a task
    /// that was cancelled, a connection that broke. Take it before [`Txn::commit`]; as many as needed.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { holdfast::env::linux::block_on(async {
    /// # let dir = std::env::temp_dir().join(format!("holdfast-token-{}", std::process::id()));
    /// # let db = holdfast::Db::open(&dir, holdfast::Options::default()).await?;
    /// # let keyspace = db.default_keyspace()?;
    /// let mut txn = db.begin(Default::default());
    /// txn.put(&keyspace, b"order/7", b"paid")?;
    /// let token = txn.outcome_token();
    /// drop(txn.commit()); // never polled: nothing was queued
    /// assert_eq!(token.wait().await?, None);
    /// # db.close().await?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }) }
    /// ```
    pub fn outcome_token(&mut self) -> OutcomeToken {
        self.transaction.outcome_token()
    }

    /// Commits, and gives the commit's place in the order; for a transaction without writes, the place it read at.
    ///
    /// Dropping the future before the commit was queued rolls back; later the commit happens or fails whole, and
    /// [`Txn::outcome_token`] tells which.
    ///
    /// # Errors
    /// `Conflict` if another was first: run the whole transaction again. `Invalid` if a keyspace was dropped; `DiskFull`,
    /// `TooManyFiles`, `Busy`, `Io`, `Closed`. In all of these nothing was written, nor will it be.
    /// [`CommitUnknown`](crate::Error::CommitUnknown), [`Stopped`](crate::Error::Stopped): the transaction may appear,
    /// whole, at the next opening; its token says the same.
    pub async fn commit(self) -> Result<Seq> {
        self.transaction.commit(&self.shared.engine).await
    }

    /// Drops all writes. The same as dropping the transaction.
    pub fn rollback(self) {}
}
