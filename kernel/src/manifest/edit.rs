//! An edit: changes that take effect together.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::Change;
use super::fields::next_field;
use crate::codec::Reader;
use crate::record::Unreadable;

/// Changes that take effect together, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edit {
    /// The changes.
    pub changes: Vec<Change>,
}

impl From<Vec<Change>> for Edit {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes }
    }
}

impl Edit {
    /// Its stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for change in &self.changes {
            change.encode(&mut out);
        }
        out
    }

    /// Reads its stored form.
    ///
    /// # Errors
    /// The bytes are bad, or hold a required change of a kind that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let mut changes = Vec::new();
        while let Some(mut field) = next_field(&mut reader)? {
            changes.extend(Change::decode(&mut field)?);
        }
        Ok(Self { changes })
    }
}
