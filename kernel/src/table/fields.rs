//! Tagged fields: how headers, properties and table descriptions grow without a new format version.
//!
//! ```text
//! fields := field*                       to the end of the bytes
//! field  := varint(tag << 1 | required)  bytes(value)        tags strictly ascending
//! ```
//!
//! A reader that does not know a field skips it if it is optional and refuses the file, naming it, if it is
//! required. `bytes` is a varint length and as many bytes.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::Path;

use crate::codec::{BadBytes, Reader, put_bytes, put_varint};
use crate::error::Error;
use crate::types::KeyspaceId;

/// Why bytes could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// They are not what any version writes.
    Bad(BadBytes),
    /// A newer version wrote them.
    Newer(String),
}

impl From<BadBytes> for Unreadable {
    fn from(bad: BadBytes) -> Self {
        Self::Bad(bad)
    }
}

impl Unreadable {
    /// The error for bytes that begin at `base` of `file`.
    pub(crate) fn in_file(self, file: &Path, base: u64) -> Error {
        match self {
            Self::Bad(bad) => Error::corrupt(file, base, &bad),
            Self::Newer(what) => Error::NewerFormat { file: file.to_path_buf(), what },
        }
    }
}

/// Whether a reader may skip a field that it does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// It may.
    Optional,
    /// It must refuse the file.
    Required,
}

/// Appends a field.
pub(crate) fn put_field(out: &mut Vec<u8>, tag: u32, need: Need, value: &[u8]) {
    put_varint(out, u64::from(tag) << 1 | u64::from(need == Need::Required));
    put_bytes(out, value);
}

/// Appends a required field that holds a number.
pub(crate) fn put_number(out: &mut Vec<u8>, tag: u32, value: u64) {
    let mut bytes = Vec::with_capacity(10);
    put_varint(&mut bytes, value);
    put_field(out, tag, Need::Required, &bytes);
}

/// Appends an optional field that names the keyspace a table belongs to.
pub(crate) fn put_keyspace(out: &mut Vec<u8>, tag: u32, keyspace: KeyspaceId) {
    let mut bytes = Vec::with_capacity(5);
    put_varint(&mut bytes, u64::from(keyspace.get()));
    put_field(out, tag, Need::Optional, &bytes);
}

/// The keyspace that such a field names; `None` if it names none that could be.
pub(crate) fn read_keyspace(field: &Field<'_>) -> Option<KeyspaceId> {
    let number = field.number("keyspace of a table").ok()?;
    u32::try_from(number).ok().map(KeyspaceId::new)
}

/// A field as found.
pub(crate) struct Field<'a> {
    pub(crate) tag: u64,
    pub(crate) need: Need,
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    /// The value as a number.
    pub(crate) fn number(&self, what: &'static str) -> Result<u64, BadBytes> {
        let mut reader = Reader::new(self.value);
        let number = reader.varint(what)?;
        reader.finish(what)?;
        Ok(number)
    }

    /// What to do about a field that the reader does not know.
    pub(crate) fn unknown(&self, place: &str) -> Result<(), Unreadable> {
        match self.need {
            Need::Optional => Ok(()),
            Need::Required => {
                Err(Unreadable::Newer(format!("required {place} field {} is unknown", self.tag)))
            }
        }
    }
}

/// Gives each field of `bytes` to `take`.
pub(crate) fn read_fields(
    bytes: &[u8],
    mut take: impl FnMut(Field<'_>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut reader = Reader::new(bytes);
    let mut previous = None;
    while !reader.is_empty() {
        let start = reader.position();
        let head = reader.varint("field tag")?;
        let need = if head & 1 == 1 { Need::Required } else { Need::Optional };
        let tag = head >> 1;
        if previous.is_some_and(|previous| previous >= tag) {
            return Err(BadBytes { what: "fields out of order", at: start }.into());
        }
        previous = Some(tag);
        take(Field { tag, need, value: reader.bytes("field value")? })?;
    }
    Ok(())
}
