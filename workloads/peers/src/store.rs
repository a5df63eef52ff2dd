//! What every store must do to be compared: one ordered map, one batch, one durable put.

use std::path::Path;

/// Bytes of a key.
pub const KEY_LEN: usize = 16;

/// The error of whichever store.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A store under comparison. Every durable operation returns only when its write survives a power loss.
pub trait Store: Send + Sync {
    /// Name and version, for the table.
    fn name(&self) -> &'static str;
    /// Writes all entries as one batch; durable after the last [`Store::settle`].
    fn load(&self, entries: &mut dyn Iterator<Item = ([u8; KEY_LEN], Vec<u8>)>) -> Result<(), Failure>;
    /// Makes everything durable and waits for background work.
    fn settle(&self) -> Result<(), Failure>;
    /// One put, durable when it returns.
    fn put(&self, key: &[u8; KEY_LEN], value: &[u8]) -> Result<(), Failure>;
    /// Shows the value to `see`; false if there is none.
    fn get(&self, key: &[u8; KEY_LEN], see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure>;
    /// Shows up to `limit` entries from `start` on, ascending, to `see`: key and value.
    fn range(
        &self,
        start: &[u8; KEY_LEN],
        limit: usize,
        see: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure>;
}

/// Opens a fresh store in an empty directory with a memory budget in bytes.
pub type Open = fn(&Path, u64) -> Result<Box<dyn Store>, Failure>;

/// All stores.
pub const STORES: &[(&str, Open)] = &[
    ("holdfast", crate::stores::Holdfast::open),
    ("fjall", crate::stores::Fjall::open),
    ("redb", crate::stores::Redb::open),
];
