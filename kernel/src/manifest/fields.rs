//! Tagged fields: how edits and keyspace options grow without a new format version. Unknown optional ones are
//! skipped, unknown required ones refuse by name.
//!
//! ```text
//! fields  := field*                                           to the end of the bytes
//! field   := tag u8 | flags u8 (1 = required) | length varint | body
//! options := fields, each required, each body a u64 but where it says otherwise; one not there has its default:
//!   1 block_bytes   2 table_bytes   3 filter_bits_per_key   4 compression: a byte a level (0 none, 1 LZ4, 2 Zstandard)
//!   5 level0_tables 6 level1_bytes  7 level_ratio
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::codec::{Reader, put_bytes};
use crate::options::{Compression, KeyspaceOptions};
use crate::record::Unreadable;

const REQUIRED: u8 = 1;

/// Appends a field that every reader must understand.
pub(super) fn put_field(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.extend_from_slice(&[tag, REQUIRED]);
    put_bytes(out, body);
}

/// A field as found.
pub(super) struct Field<'a> {
    pub tag: u8,
    pub required: bool,
    pub body: Reader<'a>,
}

/// The next field, `None` at the end.
pub(super) fn next_field<'a>(reader: &mut Reader<'a>) -> Result<Option<Field<'a>>, Unreadable> {
    if reader.is_empty() {
        return Ok(None);
    }
    let tag = reader.u8("field tag")?;
    let flags = reader.u8("field flags")?;
    let body = Reader::new(reader.bytes("field body")?);
    Ok(Some(Field { tag, required: flags & REQUIRED != 0, body }))
}

const BLOCK_BYTES: u8 = 1;
const TABLE_BYTES: u8 = 2;
const FILTER_BITS: u8 = 3;
const COMPRESSION: u8 = 4;
const LEVEL0_TABLES: u8 = 5;
const LEVEL1_BYTES: u8 = 6;
const LEVEL_RATIO: u8 = 7;

/// Appends the options of a keyspace.
pub(super) fn put_options(out: &mut Vec<u8>, options: &KeyspaceOptions) {
    let number = |out: &mut Vec<u8>, tag, value: u64| put_field(out, tag, &value.to_le_bytes());
    number(out, BLOCK_BYTES, options.block_bytes.into());
    number(out, TABLE_BYTES, options.table_bytes);
    number(out, FILTER_BITS, options.filter_bits_per_key.into());
    let compression: Vec<u8> = options.compression.iter().map(|kind| compression_to_u8(*kind)).collect();
    put_field(out, COMPRESSION, &compression);
    number(out, LEVEL0_TABLES, options.level0_tables.into());
    number(out, LEVEL1_BYTES, options.level1_bytes);
    number(out, LEVEL_RATIO, options.level_ratio.into());
}

/// Reads the options of a keyspace; a field that is not there keeps its default.
pub(super) fn decode_options(reader: &mut Reader<'_>) -> Result<KeyspaceOptions, Unreadable> {
    let mut options = KeyspaceOptions::default();
    while let Some(mut field) = next_field(reader)? {
        let body = &mut field.body;
        match field.tag {
            BLOCK_BYTES => options.block_bytes = narrow(body)?,
            TABLE_BYTES => options.table_bytes = body.u64("keyspace option")?,
            FILTER_BITS => options.filter_bits_per_key = narrow(body)?,
            COMPRESSION => {
                options.compression =
                    body.rest().iter().map(|kind| compression_from_u8(*kind)).collect::<Result<_, _>>()?;
            }
            LEVEL0_TABLES => options.level0_tables = narrow(body)?,
            LEVEL1_BYTES => options.level1_bytes = body.u64("keyspace option")?,
            LEVEL_RATIO => options.level_ratio = narrow(body)?,
            tag if field.required => {
                return Err(Unreadable::Newer(format!("unknown required keyspace option {tag}")));
            }
            _ => {
                body.rest();
            }
        }
        body.finish("keyspace option")?;
    }
    Ok(options)
}

fn narrow(reader: &mut Reader<'_>) -> Result<u32, Unreadable> {
    let value = reader.u64("keyspace option")?;
    Ok(u32::try_from(value).map_err(|_| reader.bad("keyspace option: too large"))?)
}

fn compression_to_u8(kind: Compression) -> u8 {
    match kind {
        Compression::None => 0,
        Compression::Lz4 => 1,
        Compression::Zstd => 2,
    }
}

fn compression_from_u8(value: u8) -> Result<Compression, Unreadable> {
    match value {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Lz4),
        2 => Ok(Compression::Zstd),
        other => Err(Unreadable::Newer(format!("unknown compression {other}"))),
    }
}
