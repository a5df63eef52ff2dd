//! The frame around every block of a table, and the handle that finds it.
//!
//! ```text
//!  0  1  role: 1 data, 2 index partition, 3 filter partition, 4 top index, 5 range tombstones, 6 properties
//!  1  1  codec: 0 none, 1 LZ4 block, 2 Zstandard frame
//!  2  1  checksum kind: 1 = CRC-32
//!  3  1  flags, 0. A flag will announce further fields (key id, nonce, tag) between the head and the payload
//!  4  4  length of the payload, as stored
//!  8  4  length of the content, decoded; equal to the former if codec is none
//! 12  4  CRC-32 of file identity (8), offset of the frame (8), bytes 0 to 11, payload
//! 16  n  payload
//! ```
//!
//! Frames follow one another without a gap from the header to the footer's padding. Each tells its own length,
//! so that salvage can walk a file whose index is lost.
//!
//! A handle is `varint(offset) varint(length of the frame)`.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::compress::{COMPRESS_BYTES_MAX, Codec};
use crate::codec::{BadBytes, Checksum, Reader, put_varint};
use crate::types::FileId;

/// Bytes of a frame before its payload.
pub(super) const FRAME_HEAD_BYTES: usize = 16;

const CHECKSUM_KIND_CRC32: u8 = 1;
const COVERED_HEAD_BYTES: usize = 12;

/// What a block is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Role {
    Data = 1,
    Index = 2,
    Filter = 3,
    TopIndex = 4,
    Tombstones = 5,
    Properties = 6,
}

impl Role {
    fn from_u8(value: u8) -> Option<Self> {
        [Self::Data, Self::Index, Self::Filter, Self::TopIndex, Self::Tombstones, Self::Properties]
            .into_iter()
            .find(|role| *role as u8 == value)
    }

    /// What to call a block of this role in an error.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Data => "data block",
            Self::Index => "index partition",
            Self::Filter => "filter partition",
            Self::TopIndex => "top index",
            Self::Tombstones => "range tombstones",
            Self::Properties => "properties",
        }
    }
}

/// Where a frame stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Handle {
    pub(super) offset: u64,
    /// Length of the whole frame; 0 only for a block that does not exist.
    pub(super) len: u64,
}

impl Handle {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, self.len);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, BadBytes> {
        Ok(Self { offset: reader.varint("block offset")?, len: reader.varint("block length")? })
    }

    /// The first byte after the frame.
    pub(super) fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// The head of a frame around `payload` that will stand at `offset`.
pub(super) fn frame_head(
    id: FileId,
    offset: u64,
    role: Role,
    codec: Codec,
    content_len: u32,
    payload: &[u8],
) -> [u8; FRAME_HEAD_BYTES] {
    let [l0, l1, l2, l3] = (payload.len() as u32).to_le_bytes();
    let [c0, c1, c2, c3] = content_len.to_le_bytes();
    let covered = [role as u8, codec as u8, CHECKSUM_KIND_CRC32, 0, l0, l1, l2, l3, c0, c1, c2, c3];
    let mut sum = begin_checksum(id, offset, &covered);
    sum.add(payload);
    let [s0, s1, s2, s3] = sum.finish().to_le_bytes();
    [role as u8, codec as u8, CHECKSUM_KIND_CRC32, 0, l0, l1, l2, l3, c0, c1, c2, c3, s0, s1, s2, s3]
}

/// A frame whose checksum holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) role: Role,
    pub(super) codec: Codec,
    pub(super) content_len: usize,
    pub(super) payload: &'a [u8],
}

/// Length of the frame that the head in front of `bytes` announces, if no later check would refuse the head by itself.
/// Says nothing of its truth.
pub(super) fn announced_len(bytes: &[u8]) -> Option<u64> {
    let head = FrameHead::decode(bytes.first_chunk()?);
    head.is_possible().then_some(head.payload_len().saturating_add(FRAME_HEAD_BYTES as u64))
}

impl<'a> Frame<'a> {
    /// Checks the frame that `bytes` are, exactly, at `offset` of the file `id`.
    pub(super) fn decode(bytes: &'a [u8], id: FileId, offset: u64) -> Result<Self, BadBytes> {
        let Some((head, payload)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Err(BadBytes { what: "block is cut short", at: bytes.len() });
        };
        let head = FrameHead::decode(head);
        if head.payload_len() != payload.len() as u64 {
            return Err(BadBytes { what: "block length differs from its handle", at: 4 });
        }
        let mut sum = head.checksum(id, offset);
        sum.add(payload);
        let (role, codec) = head.judge(sum.finish())?;
        Ok(Self { role, codec, content_len: head.content_len as usize, payload })
    }
}

/// The head of a frame as it stands: nothing in it is believed before [`FrameHead::judge`].
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHead {
    covered: [u8; COVERED_HEAD_BYTES],
    payload_len: u32,
    content_len: u32,
    sum: u32,
}

impl FrameHead {
    /// Takes the numbers out of the bytes.
    pub(super) fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Self {
        let [r, c, k, f, p0, p1, p2, p3, c0, c1, c2, c3, s0, s1, s2, s3] = *bytes;
        Self {
            covered: [r, c, k, f, p0, p1, p2, p3, c0, c1, c2, c3],
            payload_len: u32::from_le_bytes([p0, p1, p2, p3]),
            content_len: u32::from_le_bytes([c0, c1, c2, c3]),
            sum: u32::from_le_bytes([s0, s1, s2, s3]),
        }
    }

    /// Length of the payload that it announces.
    pub(super) fn payload_len(&self) -> u64 {
        u64::from(self.payload_len)
    }

    /// The checksum that it states.
    pub(super) fn stated_sum(&self) -> u32 {
        self.sum
    }

    /// False if the frame is refused whatever its payload and its checksum are.
    pub(super) fn is_possible(&self) -> bool {
        let [_, codec, ..] = self.covered;
        let fits = Codec::from_u8(codec).is_some_and(|codec| {
            let (payload, content) = (self.payload_len as usize, self.content_len as usize);
            codec.can_hold(payload, content) && (codec == Codec::None || content <= COMPRESS_BYTES_MAX)
        });
        fits && self.judge(self.sum).is_ok()
    }

    /// What it says that the frame is for, if that is known.
    pub(super) fn role(&self) -> Option<Role> {
        let [role, ..] = self.covered;
        Role::from_u8(role)
    }

    /// The checksum up to here of the frame at `offset` of the file `id`; the payload is still to be added.
    pub(super) fn checksum(&self, id: FileId, offset: u64) -> Checksum {
        begin_checksum(id, offset, &self.covered)
    }

    /// Judges the head by the checksum over itself and its payload.
    pub(super) fn judge(&self, sum: u32) -> Result<(Role, Codec), BadBytes> {
        let [_, codec, kind, flags, ..] = self.covered;
        if kind != CHECKSUM_KIND_CRC32 || sum != self.sum {
            return Err(BadBytes { what: "block does not match its checksum", at: 0 });
        }
        let role = self.role().ok_or(BadBytes { what: "unknown block role", at: 0 })?;
        let codec = Codec::from_u8(codec).ok_or(BadBytes { what: "unknown block codec", at: 1 })?;
        if flags != 0 {
            return Err(BadBytes { what: "unknown block flags", at: 3 });
        }
        if codec == Codec::None && self.content_len != self.payload_len {
            return Err(BadBytes { what: "block content length differs from its payload", at: 8 });
        }
        Ok((role, codec))
    }
}

/// The checksum of a frame, without its payload.
fn begin_checksum(id: FileId, offset: u64, covered_head: &[u8]) -> Checksum {
    let mut sum = Checksum::default();
    for part in [&id.get().to_le_bytes()[..], &offset.to_le_bytes(), covered_head] {
        sum.add(part);
    }
    sum
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn a_frame_is_believed_only_whole_and_in_its_place(payload: Vec<u8>, id: u64, offset: u64, other: u64) -> bool {
            let (file, len) = (FileId::new(id), payload.len() as u32);
            let mut bytes = frame_head(file, offset, Role::Filter, Codec::None, len, &payload).to_vec();
            bytes.extend_from_slice(&payload);
            let frame = Frame::decode(&bytes, file, offset).unwrap();
            assert_eq!((frame.role, frame.payload), (Role::Filter, &payload[..]));
            assert_eq!(announced_len(&bytes), Some(bytes.len() as u64));
            assert!(other == id || Frame::decode(&bytes, FileId::new(other), offset).is_err());
            assert!(other == offset || Frame::decode(&bytes, file, other).is_err());
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(Frame::decode(&bad, file, offset).is_err());
            }
            (0..bytes.len()).all(|cut| Frame::decode(&bytes[..cut], file, offset).is_err())
        }

        fn any_bytes_are_judged(bytes: Vec<u8>) -> bool {
            announced_len(&bytes);
            Frame::decode(&bytes, FileId::new(1), 0).is_err()
        }
    }
}
