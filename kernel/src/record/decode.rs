//! From sectors to frames, in bounded memory: at most one frame is held, and only as many of its bytes as have
//! really been read.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::frame::{FRAME_HEAD, FrameHead};
use super::sector::{FIRST, LAST, SectorHead};
use super::{FrameKind, GroupHeader, Unreadable};
use crate::codec::{BadBytes, Reader};
use crate::types::Lsn;

/// A frame that was read whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRef<'a> {
    /// Where its group starts.
    pub group: Lsn,
    /// What it is.
    pub kind: FrameKind,
    /// Which stream it belongs to.
    pub stream: u8,
    /// Its body.
    pub body: &'a [u8],
}

/// Takes the sectors of whole groups in order and gives their frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    group: Option<Group>,
    /// The beginning of a frame that goes on in the next sector.
    partial: Vec<u8>,
}

#[derive(Debug)]
struct Group {
    start: Lsn,
    /// Sectors still to come.
    remaining: u32,
    /// Payload bytes and frames still to come.
    payload_left: u64,
    frames_left: u32,
}

impl FrameDecoder {
    /// A decoder that expects the first sector of a group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the sector at `lsn`, judged new, and calls `emit` for each frame that is complete now.
    ///
    /// # Errors
    /// What `emit` answers; or the bytes, though their checksums hold, are not what an encoder makes.
    pub fn sector<E: From<Unreadable>>(
        &mut self,
        lsn: Lsn,
        head: SectorHead,
        payload: &[u8],
        emit: &mut impl FnMut(FrameRef<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::new(payload);
        let group = match self.group.take() {
            None if head.flags & FIRST != 0 => begin(&mut reader, lsn, head).map_err(Unreadable::Bad)?,
            Some(group)
                if head.flags & FIRST == 0 && group.remaining.checked_sub(1) == Some(head.remaining) =>
            {
                Group { remaining: head.remaining, ..group }
            }
            _ => return Err(Unreadable::Bad(reader.bad("sector: out of place in its group")).into()),
        };
        let group = self.group.insert(group);
        let bytes = reader.rest();
        group.payload_left = group
            .payload_left
            .checked_sub(bytes.len() as u64)
            .ok_or(Unreadable::Bad(BadBytes { what: "group: longer than it says", at: 0 }))?;
        take_frames(group, &mut self.partial, bytes, emit)?;
        if head.flags & LAST != 0 {
            let whole = group.payload_left == 0 && group.frames_left == 0 && self.partial.is_empty();
            self.group = None;
            if !whole {
                return Err(Unreadable::Bad(BadBytes { what: "group: shorter than it says", at: 0 }).into());
            }
        }
        Ok(())
    }

    /// True between groups.
    pub fn is_between_groups(&self) -> bool {
        self.group.is_none()
    }
}

fn begin(reader: &mut Reader<'_>, lsn: Lsn, head: SectorHead) -> Result<Group, BadBytes> {
    let header = GroupHeader::decode(reader, lsn, head.remaining)?;
    Ok(Group {
        start: lsn,
        remaining: head.remaining,
        payload_left: header.payload_len.saturating_sub(reader.position() as u64),
        frames_left: header.frames,
    })
}

fn take_frames<E: From<Unreadable>>(
    group: &mut Group,
    partial: &mut Vec<u8>,
    mut bytes: &[u8],
    emit: &mut impl FnMut(FrameRef<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while !bytes.is_empty() {
        if partial.is_empty() {
            // The common case: the frame lies in this sector whole and is not copied.
            if let Some((head, len)) = frame_at(bytes, group, bytes.len())?
                && let Some((frame, rest)) = bytes.split_at_checked(len)
            {
                give(group, head, frame, emit)?;
                bytes = rest;
                continue;
            }
        }
        let want = match frame_at(partial, group, partial.len().saturating_add(bytes.len()))? {
            Some((_, len)) => len,
            None => FRAME_HEAD,
        };
        let (now, rest) = bytes.split_at(want.saturating_sub(partial.len()).min(bytes.len()));
        partial.extend_from_slice(now);
        bytes = rest;
        match frame_at(partial, group, partial.len().saturating_add(bytes.len()))? {
            Some((head, len)) if partial.len() == len => give(group, head, partial, emit)?,
            _ => continue,
        }
        // A frame of a gigabyte must not leave a gigabyte behind.
        if partial.capacity() > 1 << 20 {
            *partial = Vec::new();
        } else {
            partial.clear();
        }
    }
    Ok(())
}

/// The head of the frame that starts `bytes` and its whole length, `None` if the head is not there yet. `here` is
/// how many of the group's bytes, from the frame's start on, have been read; the rest of it is still to come.
fn frame_at(bytes: &[u8], group: &Group, here: usize) -> Result<Option<(FrameHead, usize)>, Unreadable> {
    let Some(mut reader) = bytes.get(..FRAME_HEAD).map(Reader::new) else { return Ok(None) };
    let head = FrameHead::decode(&mut reader)?;
    let len = (FRAME_HEAD as u64).saturating_add(u64::from(head.len));
    if len > group.payload_left.saturating_add(here as u64) {
        return Err(BadBytes { what: "frame: longer than its group", at: 0 }.into());
    }
    Ok(Some((head, usize::try_from(len).map_err(|_| reader.bad("frame: too long"))?)))
}

fn give<E: From<Unreadable>>(
    group: &mut Group,
    head: FrameHead,
    frame: &[u8],
    emit: &mut impl FnMut(FrameRef<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let too_many = Unreadable::Bad(BadBytes { what: "group: more frames than it says", at: 0 });
    group.frames_left = group.frames_left.checked_sub(1).ok_or(too_many)?;
    if let Some(kind) = head.known_kind()? {
        let body = frame.get(FRAME_HEAD..).unwrap_or_default();
        emit(FrameRef { group: group.start, kind, stream: head.stream, body })?;
    }
    Ok(())
}
