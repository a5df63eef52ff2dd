//! What the manifest knows of a table, and what the table says of itself.
//!
//! [`TableMeta`] stands in the manifest and [`Properties`] in the table; opening a table demands that they agree,
//! so that neither a wrong file nor a wrong manifest passes.
//!
//! ```text
//! meta       := bytes(fields: 1 file number · 2 file identity · 3 file length · 4 smallest key ·
//!               5 largest (1 byte: 1 if exclusive, then the key) · 6 min seq · 7 max seq · 8 entries ·
//!               9 deletes · 10 range tombstones · 11 raw bytes · 12 superseded bytes)
//! properties := fields: 1 entries · 2 deletes · 3 range tombstones · 4 raw key bytes · 5 raw value bytes ·
//!               6 smallest key · 7 largest (as above) · 8 min seq · 9 max seq · 10 data blocks · 11 data bytes ·
//!               12 index partitions · 13 longest block content · 14 reason (optional; 1 byte) ·
//!               15 keyspace (optional; varint) · 16 superseded bytes
//! ```
//!
//! All fields but the optional ones are required; numbers are varints. `range tombstones` counts (piece, commit) pairs as
//! stored. `superseded bytes` are keys and values of entries behind a newer one of the same key in this table. Smallest and largest include the extents of range tombstones: an exclusive largest is the end of one.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::fields::{
    Field, Need, Unreadable, put_field, put_keyspace, put_number, read_fields, read_keyspace,
};
use crate::codec::{BadBytes, Reader, put_bytes};
use crate::types::{FileId, FileNo, KeyspaceId, OpKind, RangeTombstones, Seq};

/// What the manifest knows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMeta {
    /// Number in the file's name.
    pub no: FileNo,
    /// Identity in every checksum of the file.
    pub id: FileId,
    /// Length of the file.
    pub bytes: u64,
    /// Smallest key, of an entry or where a range tombstone starts.
    pub smallest: Vec<u8>,
    /// Largest key, of an entry or where a range tombstone ends.
    pub largest: Vec<u8>,
    /// True if `largest` is the end of a range tombstone and no entry's key: the table says nothing of it.
    pub largest_is_exclusive: bool,
    /// Oldest commit in the table.
    pub min_seq: Seq,
    /// Newest commit in the table.
    pub max_seq: Seq,
    /// Puts and deletes.
    pub entries: u64,
    /// Deletes among them.
    pub deletes: u64,
    /// Pieces of range tombstones, counted once for each commit.
    pub range_tombstones: u64,
    /// Bytes of keys and values, before prefixes are shared and blocks compressed.
    pub raw_bytes: u64,
    /// Those of them that belong to old versions: the table has a newer one of the same key.
    pub superseded_bytes: u64,
}

/// Why a table was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BuildReason {
    /// Unknown to this version.
    #[default]
    Unknown,
    /// From a frozen memtable.
    Flush,
    /// From other tables.
    Compaction,
    /// From a transaction too large for the log.
    Ingest,
    /// From what could be salvaged.
    Repair,
}

/// What a table says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Properties {
    pub(super) entries: u64,
    pub(super) deletes: u64,
    pub(super) range_tombstones: u64,
    pub(super) raw_key_bytes: u64,
    pub(super) raw_value_bytes: u64,
    pub(super) superseded_bytes: u64,
    pub(super) smallest: Vec<u8>,
    pub(super) largest: Vec<u8>,
    pub(super) largest_is_exclusive: bool,
    pub(super) min_seq: Seq,
    pub(super) max_seq: Seq,
    pub(super) data_blocks: u64,
    pub(super) data_bytes: u64,
    pub(super) partitions: u64,
    /// No block's content is longer: what bounds the memory that a damaged length can ask for.
    pub(super) block_bytes_max: u64,
    pub(super) reason: BuildReason,
    /// Whose table it is; the manifest decides, this is for a repair that has lost it.
    pub(super) keyspace: Option<KeyspaceId>,
}

impl TableMeta {
    /// Appends it, for the manifest.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::new();
        put_number(&mut fields, 1, self.no.get());
        put_number(&mut fields, 2, self.id.get());
        put_number(&mut fields, 3, self.bytes);
        put_field(&mut fields, 4, Need::Required, &self.smallest);
        put_field(&mut fields, 5, Need::Required, &largest_field(self.largest_is_exclusive, &self.largest));
        put_number(&mut fields, 6, self.min_seq.get());
        put_number(&mut fields, 7, self.max_seq.get());
        put_number(&mut fields, 8, self.entries);
        put_number(&mut fields, 9, self.deletes);
        put_number(&mut fields, 10, self.range_tombstones);
        put_number(&mut fields, 11, self.raw_bytes);
        put_number(&mut fields, 12, self.superseded_bytes);
        put_bytes(out, &fields);
    }

    /// True if it holds a delete of a key or of a range.
    pub(crate) fn hides_something(&self) -> bool {
        self.deletes > 0 || self.range_tombstones > 0
    }

    /// True if a compaction may make it smaller once the readers of the past are gone.
    pub(crate) fn holds_something_old(&self) -> bool {
        self.hides_something() || self.superseded_bytes > 0
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`BadBytes`] if the bytes are none, or hold a required field that this version does not know.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let start = reader.position();
        let fields = reader.bytes("table description")?;
        let mut meta = Self {
            no: FileNo::ZERO,
            id: FileId::ZERO,
            bytes: 0,
            smallest: Vec::new(),
            largest: Vec::new(),
            largest_is_exclusive: false,
            min_seq: Seq::ZERO,
            max_seq: Seq::ZERO,
            entries: 0,
            deletes: 0,
            range_tombstones: 0,
            raw_bytes: 0,
            superseded_bytes: 0,
        };
        let mut seen = 0u32;
        read_fields(fields, |field| {
            match field.tag {
                1 => meta.no = FileNo::new(field.number("table number")?),
                2 => meta.id = FileId::new(field.number("table identity")?),
                3 => meta.bytes = field.number("table length")?,
                4 => meta.smallest = field.value.to_vec(),
                5 => (meta.largest_is_exclusive, meta.largest) = read_largest(&field)?,
                6 => meta.min_seq = read_seq(&field)?,
                7 => meta.max_seq = read_seq(&field)?,
                8 => meta.entries = field.number("number of entries")?,
                9 => meta.deletes = field.number("number of deletes")?,
                10 => meta.range_tombstones = field.number("number of range tombstones")?,
                11 => meta.raw_bytes = field.number("raw bytes")?,
                12 => meta.superseded_bytes = field.number("superseded bytes")?,
                _ => return field.unknown("table description"),
            }
            seen = seen.saturating_add(1);
            Ok(())
        })
        .map_err(|unreadable| match unreadable {
            Unreadable::Bad(bad) => BadBytes { what: bad.what, at: start },
            Unreadable::Newer(_) => BadBytes { what: "table description of a newer version", at: start },
        })?;
        let consistent = bounds_are_ordered(&meta.smallest, &meta.largest, meta.largest_is_exclusive)
            && meta.min_seq <= meta.max_seq;
        if seen != 12 || !consistent {
            return Err(BadBytes {
                what: "table description lacks a field or contradicts itself",
                at: start,
            });
        }
        Ok(meta)
    }
}

impl Properties {
    /// The content of the properties block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, 1, self.entries);
        put_number(&mut out, 2, self.deletes);
        put_number(&mut out, 3, self.range_tombstones);
        put_number(&mut out, 4, self.raw_key_bytes);
        put_number(&mut out, 5, self.raw_value_bytes);
        put_field(&mut out, 6, Need::Required, &self.smallest);
        put_field(&mut out, 7, Need::Required, &largest_field(self.largest_is_exclusive, &self.largest));
        put_number(&mut out, 8, self.min_seq.get());
        put_number(&mut out, 9, self.max_seq.get());
        put_number(&mut out, 10, self.data_blocks);
        put_number(&mut out, 11, self.data_bytes);
        put_number(&mut out, 12, self.partitions);
        put_number(&mut out, 13, self.block_bytes_max);
        let reason = match self.reason {
            BuildReason::Unknown => 0,
            BuildReason::Flush => 1,
            BuildReason::Compaction => 2,
            BuildReason::Ingest => 3,
            BuildReason::Repair => 4,
        };
        put_field(&mut out, 14, Need::Optional, &[reason]);
        if let Some(keyspace) = self.keyspace {
            put_keyspace(&mut out, 15, keyspace);
        }
        put_number(&mut out, 16, self.superseded_bytes);
        out
    }

    /// Reads the content of the properties block.
    pub(super) fn decode(content: &[u8]) -> Result<Self, Unreadable> {
        let mut found = Self::default();
        let mut seen = 0u32;
        read_fields(content, |field| {
            match field.tag {
                1 => found.entries = field.number("number of entries")?,
                2 => found.deletes = field.number("number of deletes")?,
                3 => found.range_tombstones = field.number("number of range tombstones")?,
                4 => found.raw_key_bytes = field.number("raw key bytes")?,
                5 => found.raw_value_bytes = field.number("raw value bytes")?,
                6 => found.smallest = field.value.to_vec(),
                7 => (found.largest_is_exclusive, found.largest) = read_largest(&field)?,
                8 => found.min_seq = read_seq(&field)?,
                9 => found.max_seq = read_seq(&field)?,
                10 => found.data_blocks = field.number("number of data blocks")?,
                11 => found.data_bytes = field.number("bytes of data blocks")?,
                12 => found.partitions = field.number("number of index partitions")?,
                13 => found.block_bytes_max = field.number("longest block content")?,
                14 => {
                    found.reason = match field.value {
                        [1] => BuildReason::Flush,
                        [2] => BuildReason::Compaction,
                        [3] => BuildReason::Ingest,
                        [4] => BuildReason::Repair,
                        _ => BuildReason::Unknown,
                    };
                    return Ok(());
                }
                15 => {
                    found.keyspace = read_keyspace(&field);
                    return Ok(());
                }
                16 => found.superseded_bytes = field.number("superseded bytes")?,
                _ => return field.unknown("table property"),
            }
            seen = seen.saturating_add(1);
            Ok(())
        })?;
        let consistent = bounds_are_ordered(&found.smallest, &found.largest, found.largest_is_exclusive)
            && found.min_seq <= found.max_seq;
        if seen != 14 || !consistent {
            return Err(BadBytes { what: "properties lack a field or contradict themselves", at: 0 }.into());
        }
        Ok(found)
    }

    /// The properties of a table of which nothing was counted yet.
    pub(super) fn uncounted(reason: BuildReason, keyspace: impl Into<Option<KeyspaceId>>) -> Self {
        Self { min_seq: Seq::MAX, reason, keyspace: keyspace.into(), ..Self::default() }
    }

    /// Counts an entry; entries come in order. `is_superseded` says that the one before has the same key.
    pub(super) fn count_entry(
        &mut self,
        key: &[u8],
        seq: Seq,
        kind: OpKind,
        value_len: usize,
        is_superseded: bool,
    ) {
        if self.entries == 0 {
            self.smallest = key.to_vec();
        }
        self.entries = self.entries.saturating_add(1);
        self.deletes = self.deletes.saturating_add(u64::from(kind == OpKind::Delete));
        self.raw_key_bytes = self.raw_key_bytes.saturating_add(key.len() as u64);
        self.raw_value_bytes = self.raw_value_bytes.saturating_add(value_len as u64);
        if is_superseded {
            let bytes = (key.len() as u64).saturating_add(value_len as u64);
            self.superseded_bytes = self.superseded_bytes.saturating_add(bytes);
        }
        self.min_seq = self.min_seq.min(seq);
        self.max_seq = self.max_seq.max(seq);
    }

    /// Counts the range tombstones and settles the bounds, after the last entry, whose key is `last_key`.
    pub(super) fn count_tombstones(&mut self, tombstones: &RangeTombstones, last_key: &[u8]) {
        self.range_tombstones = tombstones.len() as u64;
        self.largest = last_key.to_vec();
        if let Some((start, end)) = tombstones.extent() {
            if self.entries == 0 || *start < *self.smallest {
                self.smallest = start.to_vec();
            }
            if self.entries == 0 || *end > *self.largest {
                self.largest = end.to_vec();
                self.largest_is_exclusive = true;
            }
        }
        for tombstone in tombstones.list() {
            self.min_seq = self.min_seq.min(tombstone.seq);
            self.max_seq = self.max_seq.max(tombstone.seq);
        }
    }

    /// What the manifest should know of the table.
    pub(super) fn meta(&self, no: FileNo, id: FileId, bytes: u64) -> TableMeta {
        TableMeta {
            no,
            id,
            bytes,
            smallest: self.smallest.clone(),
            largest: self.largest.clone(),
            largest_is_exclusive: self.largest_is_exclusive,
            min_seq: self.min_seq,
            max_seq: self.max_seq,
            entries: self.entries,
            deletes: self.deletes,
            range_tombstones: self.range_tombstones,
            raw_bytes: self.raw_key_bytes.saturating_add(self.raw_value_bytes),
            superseded_bytes: self.superseded_bytes,
        }
    }
}

fn largest_field(exclusive: bool, key: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::from(exclusive)];
    out.extend_from_slice(key);
    out
}

fn read_largest(field: &Field<'_>) -> Result<(bool, Vec<u8>), BadBytes> {
    match field.value {
        [exclusive @ (0 | 1), key @ ..] => Ok((*exclusive == 1, key.to_vec())),
        _ => Err(BadBytes { what: "largest key", at: 0 }),
    }
}

fn read_seq(field: &Field<'_>) -> Result<Seq, BadBytes> {
    let seq = Seq::new(field.number("seq")?);
    if seq > Seq::LIMIT {
        return Err(BadBytes { what: "seq is out of range", at: 0 });
    }
    Ok(seq)
}

fn bounds_are_ordered(smallest: &[u8], largest: &[u8], exclusive: bool) -> bool {
    smallest < largest || (smallest == largest && !exclusive)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn both_come_back_and_damage_is_judged(numbers: Vec<u64>, a: Vec<u8>, b: Vec<u8>, flips: Vec<(u16, u8)>) -> bool {
            let number = |at: usize| numbers.get(at).copied().unwrap_or(at as u64) >> 1;
            let (smallest, largest) = if a <= b { (a, b) } else { (b, a) };
            let properties = Properties {
                entries: number(0),
                deletes: number(1),
                range_tombstones: number(2),
                raw_key_bytes: number(3),
                raw_value_bytes: number(4),
                superseded_bytes: number(16),
                largest_is_exclusive: smallest != largest && number(5) & 1 == 1,
                smallest,
                largest,
                min_seq: Seq::new((number(6) >> 8).min(number(7) >> 8)),
                max_seq: Seq::new((number(6) >> 8).max(number(7) >> 8)),
                data_blocks: number(8),
                data_bytes: number(9),
                partitions: number(10),
                block_bytes_max: number(11),
                reason: BuildReason::Ingest,
                keyspace: Some(KeyspaceId::new(number(15) as u32)),
            };
            let mut content = properties.encode();
            assert_eq!(Properties::decode(&content).as_ref(), Ok(&properties));
            let meta = properties.meta(FileNo::new(number(12)), FileId::new(number(13)), number(14));
            let mut encoded = Vec::new();
            meta.encode(&mut encoded);
            let mut reader = Reader::new(&encoded);
            assert_eq!(TableMeta::decode(&mut reader).as_ref(), Ok(&meta));
            assert!(reader.is_empty());
            for cut in 0..encoded.len() {
                assert!(TableMeta::decode(&mut Reader::new(&encoded[..cut])).is_err());
            }
            for (at, bits) in flips {
                let (at, len) = (at as usize, content.len());
                content[at % len] ^= bits;
                Properties::decode(&content).ok();
                let len = encoded.len();
                encoded[at % len] ^= bits;
                TableMeta::decode(&mut Reader::new(&encoded)).ok();
            }
            true
        }
    }
}
