//! What the header of a log segment says.
//!
//! ```text
//! magic "HFLOG\0\0\0", version 1; fields, all required, each a u64:
//! 1 state (0 unused, 1 in use)   2 capacity in bytes   3 epoch   4 base Lsn
//! 5 predecessor's FileId         6 its epoch           7 the Lsn where it ended      (5-7 only if there is one)
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::codec::BadBytes;
use crate::record::{FileHeader, HEADER_REGION, HeaderWriter, SECTOR, SectorUse, Unreadable};
use crate::types::{FileId, Lsn};

const MAGIC: &[u8; 8] = b"HFLOG\0\0\0";
const VERSION: u32 = 1;
const STATE: u8 = 1;
const CAPACITY: u8 = 2;
const EPOCH: u8 = 3;
const BASE: u8 = 4;
const PREDECESSOR_ID: u8 = 5;
const PREDECESSOR_EPOCH: u8 = 6;
const PREDECESSOR_END: u8 = 7;
const KNOWN: &[u8] = &[STATE, CAPACITY, EPOCH, BASE, PREDECESSOR_ID, PREDECESSOR_EPOCH, PREDECESSOR_END];

/// The segment that came before, and where it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Predecessor {
    /// The file.
    pub id: FileId,
    /// The opening that wrote it.
    pub epoch: u32,
    /// Everything below was durable, and nothing at or above counts.
    pub end: Lsn,
}

/// What a segment is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// Filled with zeros, waiting.
    Unused,
    /// Part of the log.
    InUse {
        /// The opening that writes it.
        epoch: u32,
        /// Position of its first data sector.
        base: Lsn,
        /// What came before; `None` only in the first segment of a database.
        predecessor: Option<Predecessor>,
    },
}

/// The header of a log segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The file.
    pub id: FileId,
    /// Bytes behind the header region.
    pub capacity: u64,
    /// What it is used for.
    pub state: SegmentState,
}

impl SegmentHeader {
    /// The header sector.
    pub fn encode(&self) -> [u8; SECTOR] {
        let number = |writer: HeaderWriter, tag: u8, value: u64| writer.required(tag, &value.to_le_bytes());
        let mut writer = HeaderWriter::new(MAGIC, VERSION, self.id);
        let in_use = self.state != SegmentState::Unused;
        writer = number(writer, STATE, u64::from(in_use));
        writer = number(writer, CAPACITY, self.capacity);
        if let SegmentState::InUse { epoch, base, predecessor } = self.state {
            writer = number(writer, EPOCH, u64::from(epoch));
            writer = number(writer, BASE, base.get());
            if let Some(predecessor) = predecessor {
                writer = number(writer, PREDECESSOR_ID, predecessor.id.get());
                writer = number(writer, PREDECESSOR_EPOCH, u64::from(predecessor.epoch));
                writer = number(writer, PREDECESSOR_END, predecessor.end.get());
            }
        }
        writer.sector()
    }

    /// Reads and checks a header region.
    pub fn decode(region: &[u8]) -> Result<Self, Unreadable> {
        let header = FileHeader::decode_region(region, MAGIC, VERSION, KNOWN)?;
        let bad = |what| Unreadable::Bad(BadBytes { what, at: 0 });
        let capacity = header.number(CAPACITY, "segment capacity")?;
        if capacity == 0 || !capacity.is_multiple_of(HEADER_REGION as u64) || capacity > 1 << 48 {
            return Err(bad("segment header: impossible capacity"));
        }
        let state = match header.number(STATE, "segment state")? {
            0 => SegmentState::Unused,
            1 => in_use(&header, capacity)?,
            other => return Err(Unreadable::Newer(format!("unknown segment state {other}"))),
        };
        Ok(Self { id: header.id, capacity, state })
    }

    /// What its sectors must say to be new, and where the segment's room ends; `None` if it is unused.
    pub fn sector_use(&self) -> Option<(SectorUse, Lsn)> {
        match self.state {
            SegmentState::Unused => None,
            SegmentState::InUse { epoch, base, .. } => {
                Some((SectorUse { id: self.id, epoch, base }, base.advance(self.capacity)))
            }
        }
    }
}

fn in_use(header: &FileHeader, capacity: u64) -> Result<SegmentState, Unreadable> {
    let bad = |what| Unreadable::Bad(BadBytes { what, at: 0 });
    let epoch_of = |tag| {
        u32::try_from(header.number(tag, "segment epoch")?)
            .map_err(|_| bad("segment header: impossible epoch"))
    };
    let base = Lsn::new(header.number(BASE, "segment base")?);
    let end_is_sound = base.get().checked_add(capacity).is_some();
    if !base.get().is_multiple_of(SECTOR as u64) || !end_is_sound {
        return Err(bad("segment header: impossible base"));
    }
    let predecessor = match header.field(PREDECESSOR_ID) {
        None => None,
        Some(_) => Some(Predecessor {
            id: FileId::new(header.number(PREDECESSOR_ID, "segment predecessor")?),
            epoch: epoch_of(PREDECESSOR_EPOCH)?,
            end: Lsn::new(header.number(PREDECESSOR_END, "segment predecessor's end")?),
        }),
    };
    let epoch = epoch_of(EPOCH)?;
    let follows =
        |p: Predecessor| p.end <= base && p.epoch <= epoch && p.end.get().is_multiple_of(SECTOR as u64);
    if !predecessor.is_none_or(follows) {
        return Err(bad("segment header: does not follow its predecessor"));
    }
    Ok(SegmentState::InUse { epoch, base, predecessor })
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests harm bytes of a known length"
)]
mod tests {
    use super::*;

    fn header(draw: [u64; 4], unused: bool) -> SegmentHeader {
        let base = Lsn::new((draw[0] >> 20) * 512);
        let predecessor = (!draw[1].is_multiple_of(4)).then(|| Predecessor {
            id: FileId::new(draw[1]),
            epoch: 3,
            end: Lsn::new(draw[2] % (base.get() / 512 + 1) * 512),
        });
        let state = if unused {
            SegmentState::Unused
        } else {
            SegmentState::InUse { epoch: 3 + (draw[3] as u32 >> 1), base, predecessor }
        };
        SegmentHeader { id: FileId::new(draw[3]), capacity: 4096 * (1 + draw[2] % 1000), state }
    }

    quickcheck::quickcheck! {
        fn a_header_reads_back_and_no_flipped_bit_passes(a: (u64, u64, u64, u64), unused: bool, bit: usize) -> bool {
            let header = header([a.0, a.1, a.2, a.3], unused);
            let mut region = header.encode().to_vec();
            region.resize(HEADER_REGION, 0);
            assert_eq!(SegmentHeader::decode(&region), Ok(header));
            let bit = bit % (region.len() * 8);
            region[bit / 8] ^= 1 << (bit % 8);
            SegmentHeader::decode(&region).is_err()
        }
    }
}
