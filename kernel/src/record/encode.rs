//! From frames to sectors, in pieces: a group of any size is encoded through one buffer of at most 1 MiB.

use super::WRITE_CHUNK;
use super::frame::{FRAME_HEAD, FrameHead, GROUP_HEAD};
use super::sector::{FIRST, LAST, PAD, SectorHead, seal_sector};
use super::{FIRST_SECTOR, Frame, FrameKind, GroupHeader, SECTOR, SECTOR_HEAD, SECTOR_PAYLOAD, SectorUse};
use crate::env::Buf;
use crate::types::Lsn;

/// Longest body of one frame; a longer batch becomes several frames.
const FRAME_LEN_MAX: u64 = 1 << 30;

/// How large a group will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupLayout {
    payload_len: u64,
    sectors: u64,
    frames: u32,
}

impl GroupLayout {
    /// The layout of already encoded frames (see [`encode_frames`]) followed by `frames`. `align` is the device's
    /// alignment, a multiple of 512.
    pub fn new(encoded: &EncodedFrames, frames: &[Frame<'_>], align: u64) -> Self {
        Self::cut_at(encoded, frames, align, FRAME_LEN_MAX)
    }

    fn cut_at(encoded: &EncodedFrames, frames: &[Frame<'_>], align: u64, frame_len_max: u64) -> Self {
        assert!(align.is_multiple_of(SECTOR as u64) && align > 0, "alignment is whole sectors");
        let mut payload_len = (GROUP_HEAD + encoded.bytes.len()) as u64;
        let mut count = u64::from(encoded.frames);
        for frame in frames {
            let body = frame.body_len();
            assert!(
                body <= frame_len_max || frame.kind == FrameKind::Batch,
                "only a batch may be larger than a frame"
            );
            let pieces = body.div_ceil(frame_len_max).max(1);
            payload_len += body + pieces * FRAME_HEAD as u64;
            count += pieces;
        }
        let data = payload_len.div_ceil(SECTOR_PAYLOAD as u64);
        let sectors = data.next_multiple_of(align / SECTOR as u64);
        assert!(sectors <= u64::from(u32::MAX), "a group is smaller than 2 TiB");
        let frames = u32::try_from(count).expect("a group holds fewer than 2^32 frames");
        Self { payload_len, sectors, frames }
    }

    /// Bytes in the file, a multiple of the alignment.
    pub fn bytes(&self) -> u64 {
        self.sectors * SECTOR as u64
    }
}

/// Frames kept in memory in their encoded form.
#[derive(Clone, Debug, Default)]
pub struct EncodedFrames {
    bytes: Vec<u8>,
    frames: u32,
}

impl EncodedFrames {
    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if none is held.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets all of them; keeps the allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames = 0;
    }

    /// Adds all frames of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.frames += other.frames;
    }
}

/// Encodes `frames` at the end of `out`.
pub fn encode_frames(frames: &[Frame<'_>], out: &mut EncodedFrames) {
    let layout = GroupLayout::new(&EncodedFrames::default(), frames, SECTOR as u64);
    let start = out.bytes.len();
    let mut source = Payload::new(&[], frames, FRAME_LEN_MAX);
    out.bytes.resize(start + (layout.payload_len as usize - GROUP_HEAD), 0);
    source.fill(&mut out.bytes[start..]);
    out.frames += layout.frames;
}

/// Encodes one group, piece by piece.
pub struct GroupEncoder<'a> {
    of: SectorUse,
    layout: GroupLayout,
    start: Lsn,
    source: Payload<'a>,
    payload_left: u64,
    next: u64,
}

impl<'a> GroupEncoder<'a> {
    /// A group at position `start` of `of`. `durable` is the position below which everything is durable now.
    pub fn new(
        of: SectorUse,
        start: Lsn,
        durable: Lsn,
        layout: GroupLayout,
        encoded: &'a EncodedFrames,
        frames: &'a [Frame<'a>],
    ) -> Self {
        Self::cut_at(of, start, durable, layout, (encoded, frames, FRAME_LEN_MAX))
    }

    fn cut_at(
        of: SectorUse,
        start: Lsn,
        durable: Lsn,
        layout: GroupLayout,
        (encoded, frames, frame_len_max): (&'a EncodedFrames, &'a [Frame<'a>], u64),
    ) -> Self {
        assert!(durable <= start, "a group cannot vouch for itself");
        assert!(start >= of.base && start.since(of.base).is_multiple_of(SECTOR as u64), "whole sectors");
        let header = GroupHeader { durable, payload_len: layout.payload_len, frames: layout.frames };
        let mut source = Payload::new(&encoded.bytes, frames, frame_len_max);
        source.begin_with(&header.encode());
        Self { of, layout, start, source, payload_left: layout.payload_len, next: 0 }
    }

    /// Fills `buf` with the next piece, at most 1 MiB. False when nothing is left.
    pub fn next_chunk(&mut self, buf: &mut Buf) -> bool {
        let left = self.layout.sectors - self.next;
        let sectors = left.min((WRITE_CHUNK / SECTOR) as u64);
        buf.resize(sectors as usize * SECTOR);
        for sector in buf.as_chunks_mut::<SECTOR>().0 {
            self.sector(sector);
        }
        sectors > 0
    }

    fn sector(&mut self, sector: &mut [u8; SECTOR]) {
        let used = self.payload_left.min(SECTOR_PAYLOAD as u64) as usize;
        let (data, rest) = sector[SECTOR_HEAD..].split_at_mut(used);
        self.source.fill(data);
        rest.fill(0);
        self.payload_left -= used as u64;
        let remaining = (self.layout.sectors - self.next - 1) as u32;
        let mut flags = 0;
        flags |= if self.next == 0 { FIRST } else { 0 };
        flags |= if remaining == 0 { LAST } else { 0 };
        flags |= if used == 0 { PAD } else { 0 };
        let lsn = self.start.advance(self.next * SECTOR as u64);
        let number = FIRST_SECTOR + lsn.since(self.of.base) / SECTOR as u64;
        seal_sector(sector, number, &self.of, lsn, SectorHead { used: used as u16, flags, remaining });
        self.next += 1;
    }
}

/// The payload of a group as one run of bytes.
struct Payload<'a> {
    /// A head that was begun: its bytes, its length, and how many were given out.
    head: [u8; GROUP_HEAD],
    head_len: usize,
    head_at: usize,
    encoded: &'a [u8],
    frames: &'a [Frame<'a>],
    frame_len_max: u64,
    /// Given out of the first frame's body, and what is left of its current piece; `None` before a piece.
    body_at: u64,
    piece_left: Option<u64>,
}

impl<'a> Payload<'a> {
    fn new(encoded: &'a [u8], frames: &'a [Frame<'a>], frame_len_max: u64) -> Self {
        Self {
            head: [0; GROUP_HEAD],
            head_len: 0,
            head_at: 0,
            encoded,
            frames,
            frame_len_max,
            body_at: 0,
            piece_left: None,
        }
    }

    fn begin_with(&mut self, head: &[u8]) {
        self.head[..head.len()].copy_from_slice(head);
        self.head_len = head.len();
        self.head_at = 0;
    }

    /// Fills all of `out`; the layout promised that there is enough.
    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            let given = self.give(out);
            out = &mut out[given..];
        }
    }

    /// Gives some bytes, or moves on to the next piece and gives none.
    fn give(&mut self, out: &mut [u8]) -> usize {
        if self.head_at < self.head_len {
            let given = copy(&self.head[self.head_at..self.head_len], out);
            self.head_at += given;
            return given;
        }
        if !self.encoded.is_empty() {
            let given = copy(self.encoded, out);
            self.encoded = &self.encoded[given..];
            return given;
        }
        let (frame, rest) = self.frames.split_first().expect("the layout counted these very frames");
        match self.piece_left {
            Some(0) if self.body_at == frame.body_len() => {
                (self.frames, self.body_at, self.piece_left) = (rest, 0, None);
                0
            }
            None | Some(0) => {
                self.begin_piece(frame);
                0
            }
            Some(left) => {
                let first = frame.parts[0].len() as u64;
                let part = if self.body_at < first {
                    &frame.parts[0][self.body_at as usize..]
                } else {
                    &frame.parts[1][(self.body_at - first) as usize..]
                };
                let given = copy(&part[..part.len().min(left as usize)], out);
                self.body_at += given as u64;
                self.piece_left = Some(left - given as u64);
                given
            }
        }
    }

    fn begin_piece(&mut self, frame: &Frame<'_>) {
        let left = frame.body_len() - self.body_at;
        let len = left.min(self.frame_len_max);
        let kind = if len < left { FrameKind::BatchPart } else { frame.kind };
        let head = FrameHead { kind: kind as u8, stream: frame.stream, flags: 0, len: len as u32 };
        self.begin_with(&head.encode());
        self.piece_left = Some(len);
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
    len
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A whole group as bytes, batches cut at `frame_len_max`.
    pub fn group(
        of: SectorUse,
        start: Lsn,
        durable: Lsn,
        frames: &[Frame<'_>],
        align: u64,
        frame_len_max: u64,
    ) -> Vec<u8> {
        let none = EncodedFrames::default();
        let layout = GroupLayout::cut_at(&none, frames, align, frame_len_max);
        let mut encoder = GroupEncoder::cut_at(of, start, durable, layout, (&none, frames, frame_len_max));
        let mut out = Vec::new();
        let mut buf = Buf::default();
        while encoder.next_chunk(&mut buf) {
            out.extend_from_slice(&buf);
        }
        assert_eq!(out.len() as u64, layout.bytes());
        out
    }

    #[test]
    fn frames_encoded_early_or_late_give_the_same_group() {
        let of = SectorUse { id: crate::types::FileId::new(7), epoch: 3, base: Lsn::ZERO };
        let body = vec![9u8; 1000];
        let frames = [Frame::new(FrameKind::Batch, b"head", &body), Frame::new(FrameKind::Batch, b"", b"")];
        let whole = group(of, Lsn::new(512), Lsn::ZERO, &frames, 512, FRAME_LEN_MAX);
        let mut early = EncodedFrames::default();
        encode_frames(&frames[..1], &mut early);
        let layout = GroupLayout::new(&early, &frames[1..], 512);
        let mut encoder = GroupEncoder::new(of, Lsn::new(512), Lsn::ZERO, layout, &early, &frames[1..]);
        let mut buf = Buf::default();
        assert!(encoder.next_chunk(&mut buf));
        assert_eq!(&buf[..], &whole[..]);
        assert!(!encoder.next_chunk(&mut buf));
    }
}
