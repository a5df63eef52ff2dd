//! Typed keyspaces of a read-only opening, in the blocking API.

use std::ops::RangeBounds;

use super::{ReadOnlySnapshot, TypedCursor, block_on};
use crate::error::Result;
use crate::key::{DecodeKey, EncodeKey};
use crate::{StoredValue, TypedScan};

/// A keyspace of a read-only opening whose keys and values have types; see [`crate::TypedReadOnlyKeyspace`].
pub struct TypedReadOnlyKeyspace<K, V> {
    typed: crate::TypedReadOnlyKeyspace<K, V>,
}

impl<K, V> Clone for TypedReadOnlyKeyspace<K, V> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone() }
    }
}

impl<K, V> TypedReadOnlyKeyspace<K, V> {
    pub(super) fn new(typed: crate::TypedReadOnlyKeyspace<K, V>) -> Self {
        Self { typed }
    }
}

impl<K: EncodeKey + DecodeKey, V: StoredValue> TypedReadOnlyKeyspace<K, V> {
    /// The value of `key`.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::get`].
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        block_on(self.typed.get(key))
    }

    /// The value of `key` as of a commit.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::get_at`].
    pub fn get_at(&self, snapshot: &ReadOnlySnapshot, key: &K) -> Result<Option<V>> {
        block_on(self.typed.get_at(&snapshot.snapshot, key))
    }

    /// A walk over the view.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::scan`].
    pub fn scan(&self, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.scan(scan)).map(TypedCursor::new)
    }

    /// The same as of a commit.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::scan_at`].
    pub fn scan_at(&self, snapshot: &ReadOnlySnapshot, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.scan_at(&snapshot.snapshot, scan)).map(TypedCursor::new)
    }

    /// Everything within bounds, in key order.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::range`].
    pub fn range(&self, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.range(bounds)).map(TypedCursor::new)
    }

    /// The same as of a commit.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::range_at`].
    pub fn range_at(
        &self,
        snapshot: &ReadOnlySnapshot,
        bounds: impl RangeBounds<K>,
    ) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.range_at(&snapshot.snapshot, bounds)).map(TypedCursor::new)
    }

    /// Every key that begins with the elements of `prefix`, a tuple shorter than `K`.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::with_prefix`].
    pub fn with_prefix(&self, prefix: &(impl EncodeKey + ?Sized)) -> Result<TypedCursor<K, V>> {
        block_on(self.typed.with_prefix(prefix)).map(TypedCursor::new)
    }

    /// About how many bytes a range takes up.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::approximate_size`].
    pub fn approximate_size(&self, scan: TypedScan<K>) -> Result<u64> {
        block_on(self.typed.approximate_size(scan))
    }

    /// About how many entries stand in a range.
    ///
    /// # Errors
    /// As [`crate::TypedReadOnlyKeyspace::approximate_count`].
    pub fn approximate_count(&self, scan: TypedScan<K>) -> Result<u64> {
        block_on(self.typed.approximate_count(scan))
    }
}
