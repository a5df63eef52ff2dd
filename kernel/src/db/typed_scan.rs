//! What to walk over in a typed keyspace, and the walk.

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use super::typed::decode_value;
use super::{Scan, StoredValue};
use crate::error::{Error, Result};
use crate::key::{DecodeKey, EncodeKey, prefix_range};
use crate::txn::Cursor;

/// A range of typed keys to walk over: [`Scan`] with keys of type `K`. Starts forward and without a limit.
///
/// ```
/// # holdfast::blocking::block_on(async {
/// # let dir = std::env::temp_dir().join(format!("holdfast-typed-scan-{}", std::process::id()));
/// use holdfast::{Db, Options, TypedScan};
/// let db = Db::open(&dir, Options::default()).await?;
/// let readings = db.default_keyspace()?.typed::<(String, u64), i32>();
/// for hour in 0..5 {
///     readings.put(&("attic".into(), hour), &(20 + hour as i32)).await?;
/// }
/// // The last two of one room, newest first.
/// let of_attic = TypedScan::prefix(&("attic",));
/// let last = readings.scan(of_attic.clone().reverse().limit(2)).await?.collect().await?;
/// assert_eq!(last, [(("attic".into(), 4), 24), (("attic".into(), 3), 23)]);
///
/// // Pages: each begins behind the last key of the one before.
/// let mut page = readings.scan(of_attic.clone().limit(2)).await?.collect().await?;
/// let mut hours = Vec::new();
/// while let Some((last, _)) = page.last().cloned() {
///     hours.extend(page.iter().map(|((_, hour), _)| *hour));
///     page = readings.scan(of_attic.clone().limit(2).after(&last)).await?.collect().await?;
/// }
/// assert_eq!(hours, [0, 1, 2, 3, 4]);
/// # db.close().await?;
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), holdfast::Error>(()) }).unwrap();
/// ```
pub struct TypedScan<K> {
    scan: Scan,
    types: PhantomData<fn() -> K>,
}

impl<K> Clone for TypedScan<K> {
    fn clone(&self) -> Self {
        Self::new(self.scan.clone())
    }
}

impl<K> std::fmt::Debug for TypedScan<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedScan").field(&self.scan).finish()
    }
}

impl<K> Default for TypedScan<K> {
    fn default() -> Self {
        Self::all()
    }
}

impl<K> TypedScan<K> {
    fn new(scan: Scan) -> Self {
        Self { scan, types: PhantomData }
    }

    /// Every key.
    pub fn all() -> Self {
        Self::new(Scan::all())
    }

    /// The keys that begin with the elements of `prefix`, a tuple shorter than `K`; see
    /// [`prefix_range`](crate::key::prefix_range).
    pub fn prefix(prefix: &(impl EncodeKey + ?Sized)) -> Self {
        let (start, end) = prefix_range(prefix);
        Self::new(Scan::range(start..end))
    }

    /// From the greatest key to the least.
    #[must_use]
    pub fn reverse(self) -> Self {
        Self::new(self.scan.reverse())
    }

    /// At most this many entries.
    #[must_use]
    pub fn limit(self, limit: u64) -> Self {
        Self::new(self.scan.limit(limit))
    }

    pub(super) fn into_scan(self) -> Scan {
        self.scan
    }
}

impl<K: EncodeKey> TypedScan<K> {
    /// The keys within bounds. Bounds in the wrong order give nothing.
    pub fn range(bounds: impl RangeBounds<K>) -> Self {
        let encode = |bound: Bound<&K>| bound.map(EncodeKey::encode_key);
        Self::new(Scan::range((encode(bounds.start_bound()), encode(bounds.end_bound()))))
    }

    /// Goes on behind `key`, in the direction of the walk (so call [`TypedScan::reverse`] first): for pages, give the
    /// last key of the page before.
    #[must_use]
    pub fn after(self, key: &K) -> Self {
        Self::new(self.scan.after(key.encode_key()))
    }
}

/// A walk that decodes.
pub struct TypedCursor<K, V> {
    cursor: Cursor,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: DecodeKey, V: StoredValue> TypedCursor<K, V> {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self { cursor, types: PhantomData }
    }

    /// The next entry, `None` at the end of the range or of the limit.
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

    /// Everything that is left.
    ///
    /// # Errors
    /// As [`TypedCursor::next`].
    pub async fn collect(&mut self) -> Result<Vec<(K, V)>> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await? {
            all.push(entry);
        }
        Ok(all)
    }

    /// Counts what is left without decoding it.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub async fn count(&mut self) -> Result<u64> {
        self.cursor.count().await
    }
}
