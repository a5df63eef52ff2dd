//! Where an operation of a batch goes.
//!
//! Numbers of keyspaces are given by each database for itself, so one of another database is most likely the number of
//! some keyspace here too. A handle knows its database; a batch that was made with handles remembers it, and is refused
//! by every other.

use super::super::KeyspaceId;

/// A keyspace as a [`WriteBatch`](super::WriteBatch) takes it: a handle by reference, or a bare number.
///
/// With a handle, such as `&Keyspace`, the batch remembers which database it is for. With a [`KeyspaceId`] it does not,
/// and one of another database writes into whatever keyspace has that number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchKeyspace {
    pub(super) id: KeyspaceId,
    pub(super) database: Option<u64>,
}

impl BatchKeyspace {
    /// A keyspace of the database with this identity.
    pub(crate) const fn of_database(id: KeyspaceId, database: u64) -> Self {
        Self { id, database: Some(database) }
    }
}

impl From<KeyspaceId> for BatchKeyspace {
    fn from(id: KeyspaceId) -> Self {
        Self { id, database: None }
    }
}
