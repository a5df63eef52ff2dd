//! A walk over a range, in the blocking API.

use super::block_on;
use crate::Entry;
use crate::error::Result;
use crate::types::Value;

/// A walk over a range; see [`crate::Cursor`].
///
/// [`Cursor::next`] lends the entry and copies nothing. `for entry in cursor` works too, with keys that are copied
/// and values that borrow their block.
pub struct Cursor {
    cursor: crate::Cursor,
}

impl From<crate::Cursor> for Cursor {
    fn from(cursor: crate::Cursor) -> Self {
        Self { cursor }
    }
}

impl Cursor {
    /// The next entry, `None` at the end of the range or of the limit.
    ///
    /// # Errors
    /// As [`crate::Cursor::next`].
    #[expect(
        clippy::should_implement_trait,
        reason = "it lends the entry, which Iterator cannot; IntoIterator stands beside it"
    )]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>> {
        block_on(self.cursor.next())
    }

    /// Everything that is left, copied out.
    ///
    /// # Errors
    /// As [`crate::Cursor::next`].
    pub fn collect(&mut self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        block_on(self.cursor.collect())
    }

    /// Counts what is left without keeping it.
    ///
    /// # Errors
    /// As [`crate::Cursor::next`].
    pub fn count(&mut self) -> Result<u64> {
        block_on(self.cursor.count())
    }
}

impl IntoIterator for Cursor {
    type Item = Result<(Vec<u8>, Value)>;
    type IntoIter = Entries;

    fn into_iter(self) -> Entries {
        Entries { cursor: Some(self) }
    }
}

/// The entries of a [`Cursor`] as an iterator; it ends after the first error.
pub struct Entries {
    cursor: Option<Cursor>,
}

impl Iterator for Entries {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.cursor.as_mut()?.next();
        let found =
            entry.map(|entry| entry.map(|entry| (entry.key.to_vec(), entry.pinned_value()))).transpose();
        if !matches!(found, Some(Ok(_))) {
            self.cursor = None;
        }
        found
    }
}
