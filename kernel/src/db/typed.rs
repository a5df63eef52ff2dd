//! A keyspace whose keys and values have types.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> { holdfast::blocking::block_on(async {
//! # let dir = std::env::temp_dir().join(format!("holdfast-typed-{}", std::process::id()));
//! use holdfast::{Db, Options, key::Descending};
//! let db = Db::open(&dir, Options::default()).await?;
//! // Newest first within each user.
//! let visits = db.default_keyspace()?.typed::<(String, Descending<u64>), String>();
//! visits.put(&("ada".into(), Descending(1)), &"/".into()).await?;
//! visits.put(&("ada".into(), Descending(2)), &"/docs".into()).await?;
//! let mut of_ada = visits.with_prefix(&("ada",)).await?;
//! let newest = of_ada.next().await?;
//! assert_eq!(newest, Some((("ada".into(), Descending(2)), "/docs".into())));
//! # db.close().await?;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(()) }) }
//! ```

use std::marker::PhantomData;
use std::ops::RangeBounds;

use super::{Keyspace, Snapshot, Txn, TypedCursor, TypedScan};
use crate::error::{Error, Result};
use crate::key::{DecodeKey, EncodeKey, prefix_range};
use crate::types::Seq;

/// A value that can be stored.
pub trait StoredValue: Sized {
    /// Its bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// From its bytes; `None` if they are not those of such a value.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl StoredValue for Vec<u8> {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl StoredValue for String {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl StoredValue for () {
    fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

macro_rules! stored_number {
    ($($number:ty),*) => {$(
        impl StoredValue for $number {
            fn to_bytes(&self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$number>::from_le_bytes)
            }
        }
    )*};
}
stored_number!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64);

/// A view of a [`Keyspace`] with keys of type `K`, in the order of [`key`](crate::key), and values of type `V`.
pub struct TypedKeyspace<K, V> {
    keyspace: Keyspace,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for TypedKeyspace<K, V> {
    fn clone(&self) -> Self {
        Self::new(self.keyspace.clone())
    }
}

impl<K, V> TypedKeyspace<K, V> {
    pub(crate) fn new(keyspace: Keyspace) -> Self {
        Self { keyspace, types: PhantomData }
    }

    /// The keyspace below.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }
}

impl<K: EncodeKey + DecodeKey, V: StoredValue> TypedKeyspace<K, V> {
    /// The value of `key`.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; `Invalid` if the stored bytes are no `V`.
    pub async fn get(&self, key: &K) -> Result<Option<V>> {
        self.decode_value(self.keyspace.get(key.encode_key()).await?.as_deref())
    }

    /// The value of `key` as a transaction sees it.
    ///
    /// # Errors
    /// As [`TypedKeyspace::get`].
    pub async fn get_in(&self, txn: &Txn, key: &K) -> Result<Option<V>> {
        self.decode_value(txn.get(&self.keyspace, key.encode_key()).await?.as_deref())
    }

    /// The value of `key` as of a snapshot.
    ///
    /// # Errors
    /// As [`TypedKeyspace::get`].
    pub async fn get_at(&self, snapshot: &Snapshot, key: &K) -> Result<Option<V>> {
        self.decode_value(snapshot.get(&self.keyspace, key.encode_key()).await?.as_deref())
    }

    /// Sets the value of `key`; durable when it returns.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn put(&self, key: &K, value: &V) -> Result<Seq> {
        self.keyspace.put(key.encode_key(), value.to_bytes()).await
    }

    /// Sets the value of `key` within a transaction.
    ///
    /// # Errors
    /// As [`Txn::put`].
    pub fn put_in(&self, txn: &mut Txn, key: &K, value: &V) -> Result<()> {
        txn.put(&self.keyspace, key.encode_key(), value.to_bytes())
    }

    /// Removes `key`; durable when it returns.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn delete(&self, key: &K) -> Result<Seq> {
        self.keyspace.delete(key.encode_key()).await
    }

    /// Removes `key` within a transaction.
    ///
    /// # Errors
    /// As [`Txn::put`].
    pub fn delete_in(&self, txn: &mut Txn, key: &K) -> Result<()> {
        txn.delete(&self.keyspace, key.encode_key())
    }

    /// Removes every key in `start..end`, in constant time; durable when it returns.
    ///
    /// # Errors
    /// As [`Keyspace::delete_range`].
    pub async fn delete_range(&self, start: &K, end: &K) -> Result<Seq> {
        self.keyspace.delete_range(start.encode_key(), end.encode_key()).await
    }

    /// Removes every key in `start..end` within a transaction. It conflicts with every concurrent write inside.
    ///
    /// # Errors
    /// As [`Txn::delete_range`].
    pub fn delete_range_in(&self, txn: &mut Txn, start: &K, end: &K) -> Result<()> {
        txn.delete_range(&self.keyspace, start.encode_key(), end.encode_key())
    }

    /// Removes every key that begins with the elements of `prefix`, in constant time; durable when it returns.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { holdfast::blocking::block_on(async {
    /// # let dir = std::env::temp_dir().join(format!("holdfast-typed-delete-{}", std::process::id()));
    /// # use holdfast::{Db, Options, TypedScan};
    /// # let db = Db::open(&dir, Options::default()).await?;
    /// let visits = db.default_keyspace()?.typed::<(String, u64), ()>();
    /// for user in ["ada", "bob"] {
    ///     for day in 0..10 {
    ///         visits.put(&(user.into(), day), &()).await?;
    ///     }
    /// }
    /// visits.delete_with_prefix(&("ada",)).await?;
    /// visits.delete_range(&("bob".into(), 0), &("bob".into(), 7)).await?;
    /// let left = visits.scan(TypedScan::all()).await?.collect().await?;
    /// assert_eq!(left.iter().map(|((_, day), _)| *day).collect::<Vec<_>>(), [7, 8, 9]);
    /// # db.close().await?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::delete_range`].
    pub async fn delete_with_prefix(&self, prefix: &(impl EncodeKey + ?Sized)) -> Result<Seq> {
        let (start, end) = prefix_range(prefix);
        self.keyspace.delete_range(start, end).await
    }

    /// Removes every key that begins with the elements of `prefix` within a transaction.
    ///
    /// # Errors
    /// As [`Txn::delete_range`].
    pub fn delete_with_prefix_in(&self, txn: &mut Txn, prefix: &(impl EncodeKey + ?Sized)) -> Result<()> {
        let (start, end) = prefix_range(prefix);
        txn.delete_range(&self.keyspace, start, end)
    }

    /// A walk as of now: over a range or a prefix, either way, with a limit, from where a page ended.
    ///
    /// # Errors
    /// As [`Keyspace::scan`].
    pub async fn scan(&self, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        Ok(TypedCursor::new(self.keyspace.scan(scan.into_scan()).await?))
    }

    /// The same as a transaction sees it, its own writes included. What the cursor has walked over counts as read.
    ///
    /// # Errors
    /// As [`Txn::scan`].
    pub async fn scan_in(&self, txn: &Txn, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        Ok(TypedCursor::new(txn.scan(&self.keyspace, scan.into_scan()).await?))
    }

    /// The same as of a snapshot.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { holdfast::blocking::block_on(async {
    /// # let dir = std::env::temp_dir().join(format!("holdfast-typed-at-{}", std::process::id()));
    /// # use holdfast::{Db, Options, TypedScan};
    /// # let db = Db::open(&dir, Options::default()).await?;
    /// let stock = db.default_keyspace()?.typed::<(String,), u64>();
    /// stock.put(&("nails".into(),), &100).await?;
    /// stock.put(&("screws".into(),), &50).await?;
    /// let yesterday = db.snapshot();
    /// stock.delete(&("nails".into(),)).await?;
    /// let then = stock.scan_at(&yesterday, TypedScan::all().reverse()).await?.collect().await?;
    /// assert_eq!(then, [(("screws".into(),), 50), (("nails".into(),), 100)]);
    /// assert_eq!(stock.scan(TypedScan::all()).await?.count().await?, 1);
    /// # drop(yesterday);
    /// # db.close().await?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub async fn scan_at(&self, snapshot: &Snapshot, scan: TypedScan<K>) -> Result<TypedCursor<K, V>> {
        Ok(TypedCursor::new(snapshot.scan(&self.keyspace, scan.into_scan()).await?))
    }

    /// Everything within bounds, in key order: [`TypedKeyspace::scan`] of a [`TypedScan::range`].
    ///
    /// # Errors
    /// As [`Keyspace::scan`].
    pub async fn range(&self, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        self.scan(TypedScan::range(bounds)).await
    }

    /// The same as a transaction sees it.
    ///
    /// # Errors
    /// As [`Txn::scan`].
    pub async fn range_in(&self, txn: &Txn, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        self.scan_in(txn, TypedScan::range(bounds)).await
    }

    /// The same as of a snapshot.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub async fn range_at(
        &self,
        snapshot: &Snapshot,
        bounds: impl RangeBounds<K>,
    ) -> Result<TypedCursor<K, V>> {
        self.scan_at(snapshot, TypedScan::range(bounds)).await
    }

    /// Every key that begins with the elements of `prefix`, a tuple shorter than `K`.
    ///
    /// # Errors
    /// As [`Keyspace::scan`].
    pub async fn with_prefix(&self, prefix: &(impl EncodeKey + ?Sized)) -> Result<TypedCursor<K, V>> {
        self.scan(TypedScan::prefix(prefix)).await
    }

    /// About how many bytes a range takes up, a limit or a direction aside; see [`Keyspace::approximate_size`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn approximate_size(&self, scan: TypedScan<K>) -> Result<u64> {
        Ok(self.keyspace.extent(scan.into_scan()).await?.bytes)
    }

    /// About how many entries stand in a range, a limit or a direction aside; see [`Keyspace::approximate_count`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn approximate_count(&self, scan: TypedScan<K>) -> Result<u64> {
        Ok(self.keyspace.extent(scan.into_scan()).await?.entries)
    }

    fn decode_value(&self, bytes: Option<&[u8]>) -> Result<Option<V>> {
        bytes.map(decode_value).transpose()
    }
}

/// The value of these bytes.
///
/// # Errors
/// `Invalid` if they are not those of a `V`.
pub(super) fn decode_value<V: StoredValue>(bytes: &[u8]) -> Result<V> {
    let bad =
        || Error::Invalid(format!("a value of {} bytes is no {}", bytes.len(), std::any::type_name::<V>()));
    V::from_bytes(bytes).ok_or_else(bad)
}
