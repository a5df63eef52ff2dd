//! The header of a file: magic, version, identity, tagged fields, checksum. One sector, so that it is replaced in
//! one step. Layout: see the module.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::{HEADER_REGION, SECTOR, Unreadable};
use crate::codec::{BadBytes, Reader, checksum};
use crate::types::FileId;

const REQUIRED: u8 = 1;
const SUM_AT: usize = SECTOR - 4;

/// Collects the fields of a header.
#[derive(Clone, Debug)]
pub struct HeaderWriter {
    magic: [u8; 8],
    version: u32,
    id: FileId,
    fields: Vec<u8>,
}

impl HeaderWriter {
    /// A header without fields.
    pub fn new(magic: &[u8; 8], version: u32, id: FileId) -> Self {
        Self { magic: *magic, version, id, fields: Vec::new() }
    }

    /// Adds a field that every reader must understand.
    #[must_use]
    pub fn required(mut self, tag: u8, body: &[u8]) -> Self {
        self.fields.extend_from_slice(&[tag, REQUIRED]);
        self.fields.extend_from_slice(&(body.len() as u16).to_le_bytes());
        self.fields.extend_from_slice(body);
        self
    }

    /// The header sector.
    pub fn sector(&self) -> [u8; SECTOR] {
        let mut bytes = Vec::with_capacity(SECTOR);
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.id.get().to_le_bytes());
        bytes.extend_from_slice(&(self.fields.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.fields);
        assert!(bytes.len() <= SUM_AT, "a header fits one sector");
        bytes.resize(SUM_AT, 0);
        let sum = header_checksum(self.id, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let mut out = [0; SECTOR];
        out.copy_from_slice(&bytes);
        out
    }
}

/// A header that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The file's identity.
    pub id: FileId,
    fields: Vec<(u8, bool, Vec<u8>)>,
}

impl FileHeader {
    /// Reads a whole header region: the sector, and zeros.
    pub fn decode_region(
        bytes: &[u8],
        magic: &[u8; 8],
        version: u32,
        known: &[u8],
    ) -> Result<Self, Unreadable> {
        if bytes.len() != HEADER_REGION {
            return Err(BadBytes { what: "file header: the file is too short", at: bytes.len() }.into());
        }
        let (sector, rest) = bytes.split_at_checked(SECTOR).unwrap_or_default();
        if let Some(at) = rest.iter().position(|byte| *byte != 0) {
            let what = "file header: bytes that must be zero are not";
            return Err(BadBytes { what, at: at.saturating_add(SECTOR) }.into());
        }
        Self::decode(sector, magic, version, known)
    }

    /// Reads a header sector written under `version` or an older one. `known` lists the tags the caller
    /// understands; a required field with another one refuses.
    pub fn decode(bytes: &[u8], magic: &[u8; 8], version: u32, known: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        if reader.take(8, "file header")? != magic {
            return Err(BadBytes { what: "file header: not a file of this kind", at: 0 }.into());
        }
        let found = reader.u32("file header version")?;
        let id = FileId::new(reader.u64("file header identity")?);
        let covered = bytes.get(..SUM_AT).unwrap_or_default();
        let sum = Reader::new(bytes.get(SUM_AT..).unwrap_or_default()).u32("file header checksum")?;
        if bytes.len() != SECTOR || sum != header_checksum(id, covered) {
            return Err(BadBytes { what: "file header: checksum does not match", at: SUM_AT }.into());
        }
        if found > version {
            return Err(Unreadable::Newer(format!("format version {found}, known up to {version}")));
        }
        let len = reader.u32("file header fields")? as usize;
        let fields = decode_fields(reader.take(len, "file header fields")?)?;
        if let Some((tag, ..)) = fields.iter().find(|(tag, required, _)| *required && !known.contains(tag)) {
            return Err(Unreadable::Newer(format!("unknown required header field {tag}")));
        }
        Ok(Self { id, fields })
    }

    /// The body of a field, if it is there.
    pub fn field(&self, tag: u8) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.0 == tag).map(|field| field.2.as_slice())
    }

    /// A field that holds one number and must be there.
    pub fn number(&self, tag: u8, what: &'static str) -> Result<u64, BadBytes> {
        let mut reader = Reader::new(self.field(tag).ok_or(BadBytes { what, at: 0 })?);
        let value = reader.u64(what)?;
        reader.finish(what)?;
        Ok(value)
    }
}

fn decode_fields(bytes: &[u8]) -> Result<Vec<(u8, bool, Vec<u8>)>, BadBytes> {
    let mut reader = Reader::new(bytes);
    let mut fields = Vec::new();
    while !reader.is_empty() {
        let tag = reader.u8("header field")?;
        let flags = reader.u8("header field")?;
        let len = reader.u16("header field")?;
        fields.push((tag, flags & REQUIRED != 0, reader.take(usize::from(len), "header field")?.to_vec()));
    }
    Ok(fields)
}

fn header_checksum(id: FileId, covered: &[u8]) -> u32 {
    checksum(&[&id.get().to_le_bytes(), &0u64.to_le_bytes(), covered])
}
