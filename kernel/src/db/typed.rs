//! A keyspace whose keys and values have types.
//!
//! ```
//! # holdfast::blocking::block_on(async {
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
//! # std::fs::remove_dir_all(&dir).unwrap();
//! # Ok::<(), holdfast::Error>(()) }).unwrap();
//! ```

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use super::{Keyspace, Scan, Snapshot, Txn};
use crate::error::{Error, Result};
use crate::key::{DecodeKey, EncodeKey, prefix_range};
use crate::txn::Cursor;
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

    /// Everything within bounds, in key order.
    ///
    /// # Errors
    /// As [`Keyspace::scan`].
    pub async fn range(&self, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        Ok(TypedCursor::new(self.keyspace.scan(range_of(bounds)).await?))
    }

    /// The same as a transaction sees it.
    ///
    /// # Errors
    /// As [`Keyspace::scan`].
    pub async fn range_in(&self, txn: &Txn, bounds: impl RangeBounds<K>) -> Result<TypedCursor<K, V>> {
        Ok(TypedCursor::new(txn.scan(&self.keyspace, range_of(bounds)).await?))
    }

    /// Every key that begins with the elements of `prefix`, a tuple shorter than `K`.
    ///
    /// # Errors
    /// As [`Keyspace::scan`].
    pub async fn with_prefix(&self, prefix: &impl EncodeKey) -> Result<TypedCursor<K, V>> {
        let (start, end) = prefix_range(prefix);
        Ok(TypedCursor::new(self.keyspace.scan(Scan::range(start..end)).await?))
    }

    fn decode_value(&self, bytes: Option<&[u8]>) -> Result<Option<V>> {
        bytes.map(decode_value).transpose()
    }
}

fn range_of<K: EncodeKey>(bounds: impl RangeBounds<K>) -> Scan {
    let encode = |bound: Bound<&K>| bound.map(EncodeKey::encode_key);
    Scan::range((encode(bounds.start_bound()), encode(bounds.end_bound())))
}

fn decode_value<V: StoredValue>(bytes: &[u8]) -> Result<V> {
    let bad =
        || Error::Invalid(format!("a value of {} bytes is no {}", bytes.len(), std::any::type_name::<V>()));
    V::from_bytes(bytes).ok_or_else(bad)
}

/// A walk that decodes.
pub struct TypedCursor<K, V> {
    cursor: Cursor,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: DecodeKey, V: StoredValue> TypedCursor<K, V> {
    fn new(cursor: Cursor) -> Self {
        Self { cursor, types: PhantomData }
    }

    /// The next entry.
    ///
    /// # Errors
    /// As [`Cursor::next`]; `Invalid` if the stored bytes are no `K` or `V`.
    pub async fn next(&mut self) -> Result<Option<(K, V)>> {
        let Some(entry) = self.cursor.next().await? else { return Ok(None) };
        let key = K::decode_key(entry.key).map_err(|bad| {
            Error::Invalid(format!(
                "key {} is no {}: {bad}",
                crate::escaped::escape(entry.key),
                std::any::type_name::<K>()
            ))
        })?;
        Ok(Some((key, decode_value(entry.value)?)))
    }
}
