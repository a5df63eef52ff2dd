//! Finds the next sound frame among bytes of which nothing is known, in one pass over them.
//!
//! Any byte may begin a frame, and what users store may look like heads of frames: 16-bit ones announce 64 KiB at every
//! second byte. To read what each head announces would take time that grows with the square of the bytes. Here each byte
//! is looked at once. A CRC is linear: the checksum of a payload follows from the checksums of the stretch up to its two
//! ends ([`Shift`]). So when a head has passed, it is known what checksum the stretch must have up to the end that the
//! head announces, and the head waits, as two places and one number, until the search comes there.
//!
//! Whichever waiting head ends first and fits is the finding. Frames do not overlap, so of true ones the first to
//! end is the first to begin.
//!
//! Invariants:
//! - a finding has the checksum that its head states, over identity, place, head and payload: [`Frame::decode`] of it
//!   succeeds;
//! - every frame of the bytes that were fed without a gap is found, unless it was let go of or the search was begun
//!   anew behind its head;
//! - at most [`WAITING_MAX`] heads wait, about 10 MB; if there are more, those are let go of that end last. User data that
//!   was not made for it stays far below. A true frame that was let go of is part of what the caller tells as lost;
//! - a byte costs a few instructions, a head that is possible about 100 ns; nothing is read or allocated for the payload.
//!
//! [`Frame::decode`]: super::frame::Frame::decode

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeMap;

use super::frame::{FRAME_HEAD_BYTES, FrameHead, Handle, announced_len};
use crate::codec::{Checksum, Shift};
use crate::types::FileId;

/// So many heads may wait for their end.
pub(super) const WAITING_MAX: usize = 1 << 18;

/// Bytes 2 and 3 of every head, checksum kind and flags, among its first four as a little-endian number.
const KIND_AND_FLAGS: u32 = 0x0001_0000;
const KIND_AND_FLAGS_MASK: u32 = 0xffff_0000;

/// Where a head announces that its frame ends, and where it begins: in the order in which they are judged.
type Extent = (u64, u64);

/// A search that goes forward through a file.
pub(super) struct Search {
    id: FileId,
    /// Where the blocks of the file end: a head that announces more is none.
    end: u64,
    /// No head before this place.
    begun: u64,
    /// The next byte to be fed.
    position: u64,
    /// The last bytes fed, the newest highest: a head at the moment when its last byte has come.
    recent: u128,
    /// The checksum from `begun` up to `position`.
    sum: Checksum,
    /// What `sum` must be at the announced end.
    waiting: BTreeMap<Extent, u32>,
    /// The first of these ends.
    next_end: u64,
    /// The shift that was needed last, by its length: heads that resemble each other announce the same.
    shift: (u64, Shift),
}

impl Search {
    /// Frames of the file `id` that stand in `start..end`.
    pub(super) fn new(id: FileId, start: u64, end: u64) -> Self {
        Self {
            id,
            end,
            begun: start,
            position: start,
            recent: 0,
            sum: Checksum::default(),
            waiting: BTreeMap::new(),
            next_end: u64::MAX,
            shift: (0, Shift::by(0)),
        }
    }

    /// Where the bytes stand that are to be fed next.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Begins anew at `position`: what lies before cannot be read, or is not to be looked at again.
    pub(super) fn begin_at(&mut self, position: u64) {
        *self = Self::new(self.id, position, self.end);
    }

    /// Takes the bytes at [`Self::position`] up to the end of the first frame among them. If it gives none, it has
    /// taken all; else the rest is to be fed again, and the heads that were waiting still are.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<Handle> {
        if let Some(found) = self.judge_ended() {
            return Some(found);
        }
        let mut summed = 0;
        for (index, byte) in bytes.iter().enumerate() {
            self.recent = (self.recent >> 8) | (u128::from(*byte) << 120);
            self.position = self.position.saturating_add(1);
            let is_head = (self.recent as u32) & KIND_AND_FLAGS_MASK == KIND_AND_FLAGS;
            if !is_head && self.position < self.next_end {
                continue;
            }
            let passed = index.saturating_add(1);
            self.sum.add(bytes.get(summed..passed).unwrap_or_default());
            summed = passed;
            if is_head {
                self.note_head();
            }
            if let Some(found) = self.judge_ended() {
                return Some(found);
            }
        }
        self.sum.add(bytes.get(summed..).unwrap_or_default());
        None
    }

    /// The last bytes look like a head: notes what the checksum must be where its frame ends.
    fn note_head(&mut self) {
        let bytes = self.recent.to_le_bytes();
        let Some(offset) = self.position.checked_sub(FRAME_HEAD_BYTES as u64) else { return };
        let Some(len) = announced_len(&bytes).filter(|_| offset >= self.begun) else { return };
        let extent @ (end, _) = (offset.saturating_add(len), offset);
        if end > self.end || !self.makes_room(extent) {
            return;
        }
        let head = FrameHead::decode(&bytes);
        if self.shift.0 != head.payload_len() {
            self.shift = (head.payload_len(), Shift::by(head.payload_len()));
        }
        // The frame's checksum is that of identity, place and head, shifted by the payload, and the payload's own; which
        // is the checksum at the end and the checksum here, shifted likewise.
        let before = head.checksum(self.id, offset).finish() ^ self.sum.clone().finish();
        self.waiting.insert(extent, self.shift.1.apply(before) ^ head.stated_sum());
        self.next_end = self.next_end.min(end);
    }

    /// Lets go of the head that ends last if too many wait. False if that would be the one at `extent`.
    fn makes_room(&mut self, extent: Extent) -> bool {
        if self.waiting.len() < WAITING_MAX {
            return true;
        }
        let ends_earlier = self.waiting.last_key_value().is_some_and(|(last, _)| extent < *last);
        if ends_earlier {
            self.waiting.pop_last();
        }
        ends_earlier
    }

    /// The first that fits of those frames that end here.
    fn judge_ended(&mut self) -> Option<Handle> {
        if self.next_end > self.position {
            return None;
        }
        let sum = self.sum.clone().finish();
        let mut found = None;
        while let Some(first) = self.waiting.first_entry() {
            let (end, offset) = *first.key();
            self.next_end = end;
            if end > self.position || found.is_some() {
                return found;
            }
            if first.remove() == sum {
                found = Some(Handle { offset, len: end.saturating_sub(offset) });
            }
        }
        self.next_end = u64::MAX;
        found
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::super::compress::Codec;
    use super::super::frame::{Frame, Role, frame_head};
    use super::*;

    const ID: FileId = FileId::new(9);
    const START: u64 = 70_000;

    /// All findings, if the bytes are fed in pieces of these lengths, again and again.
    fn findings(search: &mut Search, bytes: &[u8], pieces: &[u8]) -> Vec<Handle> {
        let start = search.position();
        let mut lens = pieces.iter().map(|len| *len as usize + 1).cycle();
        let mut found = Vec::new();
        loop {
            let at = (search.position() - start) as usize;
            let piece = lens.next().unwrap_or(bytes.len()).min(bytes.len() - at);
            match search.feed(&bytes[at..at + piece]) {
                Some(handle) => found.push(handle),
                None if piece == 0 => return found,
                None => assert_eq!(search.position() - start, (at + piece) as u64),
            }
        }
    }

    /// What reading every announced frame would find, in the order in which they end.
    fn expected(bytes: &[u8]) -> Vec<Handle> {
        let mut found = Vec::new();
        for at in 0..bytes.len() {
            let Some(len) = announced_len(&bytes[at..]) else { continue };
            let offset = START + at as u64;
            let frame = bytes[at..].get(..len as usize);
            if frame.is_some_and(|frame| Frame::decode(frame, ID, offset).is_ok()) {
                found.push(Handle { offset, len });
            }
        }
        found.sort_by_key(|handle| (handle.end(), handle.offset));
        found
    }

    /// Bytes among which stand frames, true or harmed, some of them inside others, and false heads.
    fn arena(parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        for (kind, payload) in parts {
            let offset = START + bytes.len() as u64;
            let frame = |payload: &[u8], offset| {
                let head =
                    frame_head(ID, offset, Role::Data, Codec::None, payload.len() as u32, payload).to_vec();
                [head, payload.to_vec()].concat()
            };
            match kind % 6 {
                0 => bytes.extend_from_slice(payload),
                1 => bytes.extend(frame(payload, offset)),
                2 => bytes.extend(frame(payload, offset ^ 1)),
                3 => {
                    let inside = frame(payload, offset + FRAME_HEAD_BYTES as u64);
                    bytes.extend(frame(&inside, offset));
                }
                4 => bytes.extend([1, 0].repeat(payload.len() + 8)),
                _ => {
                    let len = [payload.len() as u8 / 2, 0, 0, 0];
                    bytes.extend([&[1, 0, 1, 0], &len[..], &len].concat());
                }
            }
        }
        bytes
    }

    quickcheck::quickcheck! {
        fn it_finds_what_reading_every_announced_frame_would(parts: Vec<(u8, Vec<u8>)>, pieces: Vec<u8>) -> bool {
            let bytes = arena(&parts);
            let mut search = Search::new(ID, START, START + bytes.len() as u64);
            findings(&mut search, &bytes, &pieces) == expected(&bytes)
        }

        fn after_a_new_beginning_nothing_before_it_is_found(parts: Vec<(u8, Vec<u8>)>, cut: u16, skip: u8) -> bool {
            let bytes = arena(&parts);
            let cut = cut as usize % (bytes.len() + 1);
            let behind = (cut + skip as usize).min(bytes.len());
            let mut search = Search::new(ID, START, START + bytes.len() as u64);
            findings(&mut search, &bytes[..cut], &[]);
            search.begin_at(START + behind as u64);
            let found = findings(&mut search, &bytes[behind..], &[]);
            let mut rest = expected(&bytes);
            rest.retain(|handle| handle.offset >= START + behind as u64);
            found == rest
        }
    }

    #[test]
    fn frames_are_found_and_searched_past() {
        let payload = vec![7; 300];
        let parts = [(4, payload.clone()), (1, payload.clone()), (3, payload.clone()), (1, Vec::new())];
        let bytes = arena(&parts);
        let found = findings(&mut Search::new(ID, START, START + bytes.len() as u64), &bytes, &[99, 3]);
        assert_eq!(found, expected(&bytes));
        assert_eq!(found.len(), 4, "one, one inside another, one without payload");
    }

    /// Heads whose frames end far away, more than may wait; then a frame that is true.
    #[test]
    fn when_too_many_wait_those_that_end_first_stay() {
        let heads = WAITING_MAX + 1000;
        let len = (heads as u32 * 12 + 4000).to_le_bytes();
        let mut bytes = [&[1, 0, 1, 0], &len[..], &len].concat().repeat(heads);
        let offset = START + bytes.len() as u64;
        let payload = [0x55; 200];
        bytes.extend(frame_head(ID, offset, Role::Data, Codec::None, 200, &payload));
        bytes.extend(payload);
        let mut search = Search::new(ID, START, START + bytes.len() as u64 + (1 << 30));
        assert_eq!(search.feed(&bytes), Some(Handle { offset, len: 216 }));
        assert_eq!(search.waiting.len(), WAITING_MAX - 1, "all that may wait, but for the one found");
    }
}
