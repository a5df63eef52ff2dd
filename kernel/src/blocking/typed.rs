//! Typed keyspaces of the blocking API.

use std::ops::RangeBounds;

use super::{Snapshot, Txn, block_on};
use crate::error::Result;
use crate::key::{DecodeKey, EncodeKey};
use crate::types::Seq;
use crate::{StoredValue, TypedScan};

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

    /// Removes every key in `start..end`; durable when it returns.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::delete_range`].
    pub fn delete_range(&self, start: &K, end: &K) -> Result<Seq> {
        block_on(self.typed.delete_range(start, end))
    }

    /// Removes every key in `start..end` within a transaction.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::delete_range_in`].
    pub fn delete_range_in(&self, txn: &mut Txn, start: &K, end: &K) -> Result<()> {
        self.typed.delete_range_in(&mut txn.txn, start, end)
    }

    /// Removes every key that begins with the elements of `prefix`; durable when it returns.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::delete_with_prefix`].
    pub fn delete_with_prefix(&self, prefix: &(impl EncodeKey + ?Sized)) -> Result<Seq> {
        block_on(self.typed.delete_with_prefix(prefix))
    }

    /// Removes every key that begins with the elements of `prefix` within a transaction.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::delete_with_prefix_in`].
    pub fn delete_with_prefix_in(&self, txn: &mut Txn, prefix: &(impl EncodeKey + ?Sized)) -> Result<()> {
        self.typed.delete_with_prefix_in(&mut txn.txn, prefix)
    }

    /// A walk as of now: over a range or a prefix, either way, with a limit, from where a page ended.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("holdfast-typed-blocking-{}", std::process::id()));
    /// use holdfast::{Options, TypedScan, blocking::Db};
    /// let db = Db::open(&dir, Options::default())?;
    /// let scores = db.default_keyspace()?.typed::<(String, u64), ()>();
    /// for score in [17, 42, 8, 23] {
    ///     scores.put(&("chess".into(), score), &())?;
    /// }
    /// let best = scores.scan(TypedScan::prefix(&("chess",)).reverse().limit(2))?;
    /// let best: Vec<u64> = best.map(|entry| Ok(entry?.0.1)).collect::<holdfast::Result<_>>()?;
    /// assert_eq!(best, [42, 23]);
    ///
    /// // In a transaction, which sees its own writes.
    /// let mut txn = db.begin(Default::default());
    /// scores.delete_range_in(&mut txn, &("chess".into(), 0), &("chess".into(), 20))?;
    /// assert_eq!(scores.scan_in(&txn, TypedScan::all())?.count(), 2);
    /// assert_eq!(scores.scan(TypedScan::all())?.count(), 4);
    /// txn.rollback();
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::scan`].
    pub fn scan(&self, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.scan(scan)).map(TypedCursor::new)
    }

    /// The same as a transaction sees it, its own writes included.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::scan_in`].
    pub fn scan_in(&self, txn: &Txn, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.scan_in(&txn.txn, scan)).map(TypedCursor::new)
    }

    /// The same as of a snapshot.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::scan_at`].
    pub fn scan_at(&self, snapshot: &Snapshot, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.scan_at(&snapshot.snapshot, scan)).map(TypedCursor::new)
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

    /// The same as of a snapshot.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::range_at`].
    pub fn range_at(&self, snapshot: &Snapshot, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.range_at(&snapshot.snapshot, bounds)).map(TypedCursor::new)
    }

    /// Every key that begins with the elements of `prefix`, a tuple shorter than `K`.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::with_prefix`].
    pub fn with_prefix(&self, prefix: &(impl EncodeKey + ?Sized)) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.with_prefix(prefix)).map(TypedCursor::new)
    }

    /// About how many bytes a range takes up.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::approximate_size`].
    pub fn approximate_size(&self, scan: TypedScan<K>) -> Result<u64> {
        block_on(self.typed.approximate_size(scan))
    }

    /// About how many entries stand in a range.
    ///
    /// # Errors
    /// As [`crate::TypedKeyspace::approximate_count`].
    pub fn approximate_count(&self, scan: TypedScan<K>) -> Result<u64> {
        block_on(self.typed.approximate_count(scan))
    }
}

/// A walk that decodes, as an iterator; it ends after the first error.
pub struct TypedCursor<K, V> {
    cursor: Option<crate::TypedCursor<K, V>>,
}

impl<K, V> TypedCursor<K, V> {
    pub(super) fn new(cursor: crate::TypedCursor<K, V>) -> Self {
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
