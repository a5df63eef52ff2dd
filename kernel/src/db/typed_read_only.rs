//! A keyspace of a read-only opening whose keys and values have types.
//!
//! ```
//! # holdfast::blocking::block_on(async {
//! # let dir = std::env::temp_dir().join(format!("holdfast-typed-read-only-{}", std::process::id()));
//! use holdfast::{Db, Options, TypedScan};
//! let db = Db::open(&dir, Options::default()).await?;
//! let prices = db.default_keyspace()?.typed::<(String,), u64>();
//! let before = prices.put(&("tea".into(),), &4).await?;
//! prices.put(&("tea".into(),), &5).await?;
//!
//! // Beside the writer, as another process would.
//! let look = Db::open_read_only(&dir, Options::default()).await?;
//! let prices = look.default_keyspace()?.typed::<(String,), u64>();
//! assert_eq!(prices.get(&("tea".into(),)).await?, Some(5));
//! assert_eq!(prices.get_at(&look.at(before)?, &("tea".into(),)).await?, Some(4));
//! assert_eq!(prices.scan(TypedScan::all().limit(10)).await?.count().await?, 1);
//! # db.close().await?;
//! # std::fs::remove_dir_all(&dir).unwrap();
//! # Ok::<(), holdfast::Error>(()) }).unwrap();
//! ```

use std::marker::PhantomData;
use std::ops::RangeBounds;

use super::typed::decode_value;
use super::{ReadOnlyKeyspace, ReadOnlySnapshot, StoredValue, TypedCursor, TypedScan};
use crate::error::Result;
use crate::key::{DecodeKey, EncodeKey};

/// A view of a [`ReadOnlyKeyspace`] with keys of type `K`, in the order of [`key`](crate::key), and values of type `V`:
/// the reading half of a [`TypedKeyspace`](super::TypedKeyspace).
pub struct TypedReadOnlyKeyspace<K, V> {
    keyspace: ReadOnlyKeyspace,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for TypedReadOnlyKeyspace<K, V> {
    fn clone(&self) -> Self {
        Self::new(self.keyspace.clone())
    }
}

impl<K, V> TypedReadOnlyKeyspace<K, V> {
    pub(super) fn new(keyspace: ReadOnlyKeyspace) -> Self {
        Self { keyspace, types: PhantomData }
    }

    /// The keyspace below.
    pub fn keyspace(&self) -> &ReadOnlyKeyspace {
        &self.keyspace
    }
}

impl<K: EncodeKey + DecodeKey, V: StoredValue> TypedReadOnlyKeyspace<K, V> {
    /// The value of `key`.
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::get`]; `Invalid` if the stored bytes are no `V`.
    pub async fn get(&self, key: &K) -> Result<Option<V>> {
        self.keyspace.get(key.encode_key()).await?.as_deref().map(decode_value).transpose()
    }

    /// The value of `key` as of a commit.
    ///
    /// # Errors
    /// As [`ReadOnlySnapshot::get`]; `Invalid` if the stored bytes are no `V`.
    pub async fn get_at(&self, snapshot: &ReadOnlySnapshot, key: &K) -> Result<Option<V>> {
        snapshot.get(&self.keyspace, key.encode_key()).await?.as_deref().map(decode_value).transpose()
    }

    /// A walk over the view: a range or a prefix, either way, with a limit, from where a page ended.
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::scan`].
    pub async fn scan(&self, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        Ok(TypedCursor::new(self.keyspace.scan(scan.into_scan()).await?))
    }

    /// The same as of a commit.
    ///
    /// # Errors
    /// As [`ReadOnlySnapshot::scan`].
    pub async fn scan_at(
        &self,
        snapshot: &ReadOnlySnapshot,
        scan: TypedScan<K>,
    ) -> Result<TypedCursor<K, V>> {
        Ok(TypedCursor::new(snapshot.scan(&self.keyspace, scan.into_scan()).await?))
    }

    /// Everything within bounds, in key order.
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::scan`].
    pub async fn range(&self, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        self.scan(TypedScan::range(bounds)).await
    }

    /// The same as of a commit.
    ///
    /// # Errors
    /// As [`ReadOnlySnapshot::scan`].
    pub async fn range_at(
        &self,
        snapshot: &ReadOnlySnapshot,
        bounds: impl RangeBounds<K>,
    ) -> Result<TypedCursor<K, V>> {
        self.scan_at(snapshot, TypedScan::range(bounds)).await
    }

    /// Every key that begins with the elements of `prefix`, a tuple shorter than `K`.
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::scan`].
    pub async fn with_prefix(&self, prefix: &(impl EncodeKey + ?Sized)) -> Result<TypedCursor<K, V>> {
        self.scan(TypedScan::prefix(prefix)).await
    }

    /// About how many bytes a range takes up, a limit or a direction aside; see
    /// [`ReadOnlyKeyspace::approximate_size`].
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::get`].
    pub async fn approximate_size(&self, scan: TypedScan<K>) -> Result<u64> {
        Ok(self.keyspace.extent(scan.into_scan()).await?.bytes)
    }

    /// About how many entries stand in a range, a limit or a direction aside; see
    /// [`ReadOnlyKeyspace::approximate_count`].
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::get`].
    pub async fn approximate_count(&self, scan: TypedScan<K>) -> Result<u64> {
        Ok(self.keyspace.extent(scan.into_scan()).await?.entries)
    }
}
