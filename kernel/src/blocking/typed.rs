//! Typed keyspaces of the blocking API.

use std::ops::RangeBounds;

use super::{Snapshot, Txn, block_on};
use crate::StoredValue;
use crate::error::Result;
use crate::key::{DecodeKey, EncodeKey};
use crate::types::Seq;

/// A keyspace whose keys and values have types; see [`crate::TypedKeyspace`].
pub struct TypedKeyspace<K, V> {
    typed: crate::TypedKeyspace<K, V>,
}

impl<K, V> Clone for TypedKeyspace<K, V> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone() }
    }
}

impl<K, V> TypedKeyspace<K, V> {
    pub(super) fn new(typed: crate::TypedKeyspace<K, V>) -> Self {
        Self { typed }
    }
}

impl<K: EncodeKey + DecodeKey, V: StoredValue> TypedKeyspace<K, V> {
    /// The value of `key`.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::get`].
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        block_on(self.typed.get(key))
    }

    /// The value of `key` as a transaction sees it.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::get_in`].
    pub fn get_in(&self, txn: &Txn, key: &K) -> Result<Option<V>> {
        block_on(self.typed.get_in(&txn.txn, key))
    }

    /// The value of `key` as of a snapshot.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::get_at`].
    pub fn get_at(&self, snapshot: &Snapshot, key: &K) -> Result<Option<V>> {
        block_on(self.typed.get_at(&snapshot.snapshot, key))
    }

    /// Sets the value of `key`; durable when it returns.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::put`].
    pub fn put(&self, key: &K, value: &V) -> Result<Seq> {
        block_on(self.typed.put(key, value))
    }

    /// Sets the value of `key` within a transaction.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::put_in`].
    pub fn put_in(&self, txn: &mut Txn, key: &K, value: &V) -> Result<()> {
        self.typed.put_in(&mut txn.txn, key, value)
    }

    /// Removes `key`; durable when it returns.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::delete`].
    pub fn delete(&self, key: &K) -> Result<Seq> {
        block_on(self.typed.delete(key))
    }

    /// Removes `key` within a transaction.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::delete_in`].
    pub fn delete_in(&self, txn: &mut Txn, key: &K) -> Result<()> {
        self.typed.delete_in(&mut txn.txn, key)
    }

    /// Everything within bounds, in key order.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::range`].
    pub fn range(&self, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.range(bounds)).map(TypedCursor::new)
    }

    /// The same as a transaction sees it.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::range_in`].
    pub fn range_in(&self, txn: &Txn, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.range_in(&txn.txn, bounds)).map(TypedCursor::new)
    }

    /// Every key that begins with the elements of `prefix`, a tuple shorter than `K`.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::with_prefix`].
    pub fn with_prefix(&self, prefix: &impl EncodeKey) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.with_prefix(prefix)).map(TypedCursor::new)
    }
}

/// A walk that decodes, as an iterator; it ends after the first error.
pub struct TypedCursor<K, V> {
    cursor: Option<crate::TypedCursor<K, V>>,
}

impl<K, V> TypedCursor<K, V> {
    fn new(cursor: crate::TypedCursor<K, V>) -> Self {
        Self { cursor: Some(cursor) }
    }
}

impl<K: DecodeKey, V: StoredValue> Iterator for TypedCursor<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = block_on(self.cursor.as_mut()?.next()).transpose();
        if !matches!(found, Some(Ok(_))) {
            self.cursor = None;
        }
        found
    }
}
