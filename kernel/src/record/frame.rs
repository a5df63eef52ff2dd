//! Frames: what a group carries. Kinds, heads, and the group's own header.
//!
//! ```text
//! kind  1 batch, or its last part   2 part of a batch, the rest follows in the same group   3 tables that are a
//!       commit (reserved)   4 seal: all before its group is durable   5 end of the segment   6 edit of the manifest
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::{SECTOR, SECTOR_PAYLOAD, Unreadable};
use crate::codec::{BadBytes, Reader};
use crate::types::Lsn;

/// A reader that does not know the frame's kind may skip it.
pub const FRAME_OPTIONAL: u8 = 1;
/// Bytes before a frame's body.
pub(super) const FRAME_HEAD: usize = 7;
/// Bytes of the group header.
pub(super) const GROUP_HEAD: usize = 20;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// A write batch, or the last part of one.
    Batch = 1,
    /// A part of a write batch too large for one frame; the rest follows in the same group.
    BatchPart = 2,
    /// Names tables that are a commit. Reserved.
    Tables = 3,
    /// Everything before this frame's group is durable.
    Seal = 4,
    /// The log was closed here; nothing follows in this segment.
    End = 5,
    /// An edit of the manifest.
    Edit = 6,
}

impl FrameKind {
    /// From its stored form.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Batch),
            2 => Some(Self::BatchPart),
            3 => Some(Self::Tables),
            4 => Some(Self::Seal),
            5 => Some(Self::End),
            6 => Some(Self::Edit),
            _ => None,
        }
    }
}

/// A frame to be written. The body is two slices, one after the other, so that a caller can put a few bytes in
/// front of a large one without copying it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// Which of the streams that share the log it belongs to; 0 is the kernel's own.
    pub stream: u8,
    /// The body.
    pub parts: [&'a [u8]; 2],
}

impl<'a> Frame<'a> {
    /// A frame of the kernel's own stream.
    pub fn new(kind: FrameKind, head: &'a [u8], rest: &'a [u8]) -> Self {
        Self { kind, stream: 0, parts: [head, rest] }
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> u64 {
        self.parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.len() as u64))
    }
}

/// What stands before the frames of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupHeader {
    /// Everything below was known to be durable when this group was made.
    pub durable: Lsn,
    /// Payload bytes, this header included.
    pub payload_len: u64,
    /// Number of frames.
    pub frames: u32,
}

impl GroupHeader {
    pub(super) fn encode(&self) -> [u8; GROUP_HEAD] {
        let mut out = [0u8; GROUP_HEAD];
        let (durable, rest) = out.split_at_mut(8);
        let (len, frames) = rest.split_at_mut(8);
        durable.copy_from_slice(&self.durable.get().to_le_bytes());
        len.copy_from_slice(&self.payload_len.to_le_bytes());
        frames.copy_from_slice(&self.frames.to_le_bytes());
        out
    }

    /// Reads it from the payload of a group's first sector, which stands at `lsn` and says that `remaining`
    /// sectors follow.
    pub(super) fn decode(reader: &mut Reader<'_>, lsn: Lsn, remaining: u32) -> Result<Self, BadBytes> {
        let header = Self {
            durable: Lsn::new(reader.u64("group durable")?),
            payload_len: reader.u64("group length")?,
            frames: reader.u32("group frames")?,
        };
        let room = u64::from(remaining).saturating_add(1).saturating_mul(SECTOR_PAYLOAD as u64);
        if header.payload_len > room || header.payload_len < GROUP_HEAD as u64 {
            return Err(reader.bad("group: its length does not fit its sectors"));
        }
        if header.durable > lsn || !header.durable.get().is_multiple_of(SECTOR as u64) {
            return Err(reader.bad("group: claims that itself is durable already"));
        }
        Ok(header)
    }
}

/// What stands before a frame's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHead {
    pub kind: u8,
    pub stream: u8,
    pub flags: u8,
    pub len: u32,
}

impl FrameHead {
    pub fn encode(&self) -> [u8; FRAME_HEAD] {
        let [a, b, c, d] = self.len.to_le_bytes();
        [self.kind, self.stream, self.flags, a, b, c, d]
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, BadBytes> {
        Ok(Self {
            kind: reader.u8("frame kind")?,
            stream: reader.u8("frame stream")?,
            flags: reader.u8("frame flags")?,
            len: reader.u32("frame length")?,
        })
    }

    /// The kind, `None` if unknown and to be skipped.
    pub fn known_kind(&self) -> Result<Option<FrameKind>, Unreadable> {
        if self.flags & !FRAME_OPTIONAL != 0 {
            return Err(Unreadable::Newer(format!("unknown frame flags {:#04x}", self.flags)));
        }
        match FrameKind::from_u8(self.kind) {
            Some(kind) => Ok(Some(kind)),
            None if self.flags & FRAME_OPTIONAL != 0 => Ok(None),
            None => Err(Unreadable::Newer(format!("unknown frame kind {}", self.kind))),
        }
    }
}
