//! One sector: its encoding, and the judgement whether bytes found on disk are new, old, or corrupt.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::{SECTOR, SECTOR_HEAD, SECTOR_PAYLOAD};
use crate::codec::{Reader, checksum};
use crate::types::{FileId, Lsn};

/// First sector of its group.
pub(super) const FIRST: u8 = 1;
/// Last sector of its group.
pub(super) const LAST: u8 = 2;
/// Carries no payload; fills the group up to the device's alignment.
pub(super) const PAD: u8 = 4;
/// The layout this version writes.
const FORMAT: u8 = 1;

/// One use of a file: what a sector must say to be new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectorUse {
    /// The file.
    pub id: FileId,
    /// The opening that writes it.
    pub epoch: u32,
    /// Position of the first data sector.
    pub base: Lsn,
}

/// The fields of a sector that is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectorHead {
    pub(super) used: u16,
    pub(super) flags: u8,
    pub(super) remaining: u32,
}

/// What a sector found on disk is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// Written in this use, at this place.
    New(SectorHead, &'a [u8]),
    /// What stood there before this use: zeros, or a sector of an earlier use.
    Old,
    /// Neither, so not what any write left there.
    Corrupt(&'static str),
}

/// Judges the sector with number `number` in its file (see [`super::FIRST_SECTOR`]), which should hold position
/// `expected`.
pub fn judge<'a>(bytes: &'a [u8], number: u64, expected: Lsn, of: &SectorUse) -> Verdict<'a> {
    let Some((head, payload)) = bytes.split_at_checked(SECTOR_HEAD).filter(|_| bytes.len() == SECTOR) else {
        return Verdict::Corrupt("sector: not 512 bytes");
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Verdict::Old;
    }
    let mut reader = Reader::new(head);
    let (Ok(sum), covered) = (reader.u32("sector"), bytes.get(4..).unwrap_or_default()) else {
        return Verdict::Corrupt("sector: too short");
    };
    if sum != sector_checksum(of.id, number, covered) {
        return Verdict::Corrupt("sector: checksum does not match its bytes, file and place");
    }
    let fields = (|| {
        Ok::<_, crate::codec::BadBytes>((
            reader.u32("sector epoch")?,
            Lsn::new(reader.u64("sector lsn")?),
            reader.u16("sector used")?,
            reader.u8("sector flags")?,
            reader.u8("sector format")?,
            reader.u32("sector remaining")?,
        ))
    })();
    let Ok((epoch, lsn, used, flags, format, remaining)) = fields else {
        return Verdict::Corrupt("sector: too short");
    };
    if lsn < of.base && epoch <= of.epoch {
        return Verdict::Old;
    }
    if epoch != of.epoch {
        return Verdict::Corrupt("sector: its epoch is not this segment's");
    }
    if lsn != expected {
        return Verdict::Corrupt("sector: its position is not this place's");
    }
    if format != FORMAT || flags & !(FIRST | LAST | PAD) != 0 {
        return Verdict::Corrupt("sector: unknown format or flags");
    }
    if (flags & LAST != 0) != (remaining == 0) {
        return Verdict::Corrupt("sector: last of its group, yet sectors remain");
    }
    let pad_is_plain = flags & PAD == 0 || (used == 0 && flags & FIRST == 0);
    match payload.get(..usize::from(used)) {
        Some(payload) if pad_is_plain => Verdict::New(SectorHead { used, flags, remaining }, payload),
        _ => Verdict::Corrupt("sector: impossible length of payload"),
    }
}

/// The position a valid sector of file `id` names, whatever its use; `None` if it is zeros or not valid there.
pub(crate) fn position_of(bytes: &[u8], number: u64, id: FileId) -> Option<(u32, Lsn)> {
    let mut reader = Reader::new(bytes);
    let sum = reader.u32("sector").ok()?;
    let epoch = reader.u32("sector epoch").ok()?;
    let lsn = Lsn::new(reader.u64("sector lsn").ok()?);
    let whole = bytes.len() == SECTOR && sum == sector_checksum(id, number, bytes.get(4..)?);
    (whole && bytes.iter().any(|byte| *byte != 0)).then_some((epoch, lsn))
}

fn sector_checksum(id: FileId, number: u64, covered: &[u8]) -> u32 {
    checksum(&[&id.get().to_le_bytes(), &number.to_le_bytes(), covered])
}

/// Writes head and checksum of a sector whose payload already stands in place, its unused rest zero.
pub(super) fn seal_sector(
    sector: &mut [u8; SECTOR],
    number: u64,
    of: &SectorUse,
    lsn: Lsn,
    head: SectorHead,
) {
    debug_assert!(usize::from(head.used) <= SECTOR_PAYLOAD, "a sector holds 488 bytes");
    let mut fields = [0u8; SECTOR_HEAD - 4];
    let (epoch, rest) = fields.split_at_mut(4);
    let (position, rest) = rest.split_at_mut(8);
    let (used, rest) = rest.split_at_mut(2);
    let (bytes, remaining) = rest.split_at_mut(2);
    epoch.copy_from_slice(&of.epoch.to_le_bytes());
    position.copy_from_slice(&lsn.get().to_le_bytes());
    used.copy_from_slice(&head.used.to_le_bytes());
    bytes.copy_from_slice(&[head.flags, FORMAT]);
    remaining.copy_from_slice(&head.remaining.to_le_bytes());
    let (sum, covered) = sector.split_at_mut(4);
    let (place, _) = covered.split_at_mut(SECTOR_HEAD - 4);
    place.copy_from_slice(&fields);
    sum.copy_from_slice(&sector_checksum(of.id, number, covered).to_le_bytes());
}
