//! Takes the whole groups out of a file of sectors that may be damaged: the walk of a repair. Pure.
//!
//! Groups begin on sector boundaries and their first sector says so, hence the walk goes on behind bad bytes at the
//! next group. What lies between two whole groups is told as bad, with whether some sector of it is neither new nor
//! what stood there before (so that a tear does not explain it).

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::sector::{FIRST, SectorHead, SectorUse, Verdict, judge};
use super::{FIRST_SECTOR, FrameDecoder, FrameKind, GroupHeader, SECTOR, Unreadable};
use crate::codec::Reader;
use crate::types::Lsn;

/// A frame of a whole group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ScannedFrame {
    pub(crate) kind: FrameKind,
    pub(crate) stream: u8,
    pub(crate) body: Vec<u8>,
}

/// One finding. Findings come in the order of their positions and leave no gap, but for old sectors at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Scanned {
    /// A group of which every sector is new and every frame can be read.
    Group { start: Lsn, end: Lsn, frames: Vec<ScannedFrame> },
    /// Sectors of which no whole group can be made.
    Bad {
        start: Lsn,
        end: Lsn,
        /// Some sector is neither new nor old, or could not be read.
        damaged: bool,
    },
}

#[derive(Clone, Copy)]
struct Bad {
    start: Lsn,
    /// End of the last sector that is not old.
    end: Lsn,
    damaged: bool,
}

/// The walk. Give it every sector in order, then [`Scan::finish`].
pub(crate) struct Scan {
    of: SectorUse,
    next: u64,
    decoder: FrameDecoder,
    group: Option<Lsn>,
    frames: Vec<ScannedFrame>,
    bad: Option<Bad>,
    durable: Lsn,
}

impl Scan {
    /// Expects the first data sector.
    pub(crate) fn new(of: SectorUse) -> Self {
        Self {
            of,
            next: 0,
            decoder: FrameDecoder::new(),
            group: None,
            frames: Vec::new(),
            bad: None,
            durable: of.base,
        }
    }

    /// The greatest position that any group so far says was durable, whole or not.
    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    /// Takes the next sector, `None` if it could not be read.
    pub(crate) fn sector(&mut self, bytes: Option<&[u8]>, found: &mut Vec<Scanned>) {
        let lsn = self.position();
        let number = FIRST_SECTOR.saturating_add(self.next);
        self.next = self.next.saturating_add(1);
        let verdict = match bytes {
            Some(bytes) => judge(bytes, number, lsn, &self.of),
            None => Verdict::Corrupt("sector: unreadable"),
        };
        match verdict {
            Verdict::New(head, payload) if head.flags & FIRST != 0 => {
                self.give_up_group(lsn);
                self.note_durable(lsn, head, payload);
                self.group = Some(lsn);
                self.take(lsn, head, payload, found);
            }
            Verdict::New(head, payload) if self.group.is_some() => self.take(lsn, head, payload, found),
            Verdict::New(..) => self.note_bad(lsn, self.position(), false),
            Verdict::Old => {
                self.give_up_group(lsn);
                // Old sectors are bad only if something follows them.
                self.note_bad(lsn, Lsn::ZERO, false);
            }
            Verdict::Corrupt(_) => {
                self.give_up_group(lsn);
                self.note_bad(lsn, self.position(), true);
            }
        }
    }

    /// Tells what is bad at the end. Old sectors at the very end are no finding.
    pub(crate) fn finish(&mut self, found: &mut Vec<Scanned>) {
        self.give_up_group(self.position());
        if let Some(bad) = self.bad.take().filter(|bad| bad.end > bad.start) {
            found.push(Scanned::Bad { start: bad.start, end: bad.end, damaged: bad.damaged });
        }
    }

    fn position(&self) -> Lsn {
        self.of.base.advance(self.next.saturating_mul(SECTOR as u64))
    }

    fn note_durable(&mut self, lsn: Lsn, head: SectorHead, payload: &[u8]) {
        if let Ok(header) = GroupHeader::decode(&mut Reader::new(payload), lsn, head.remaining) {
            self.durable = self.durable.max(header.durable);
        }
    }

    fn note_bad(&mut self, start: Lsn, end: Lsn, damaged: bool) {
        let bad = self.bad.get_or_insert(Bad { start, end: start, damaged });
        bad.end = bad.end.max(end);
        bad.damaged |= damaged;
    }

    /// The group under way, if there is one, does not go on at `end`.
    fn give_up_group(&mut self, end: Lsn) {
        if let Some(start) = self.group.take() {
            self.decoder = FrameDecoder::new();
            self.frames.clear();
            self.note_bad(start, end, false);
        }
    }

    fn take(&mut self, lsn: Lsn, head: SectorHead, payload: &[u8], found: &mut Vec<Scanned>) {
        let frames = &mut self.frames;
        let taken = self.decoder.sector::<Unreadable>(lsn, head, payload, &mut |frame| {
            frames.push(ScannedFrame { kind: frame.kind, stream: frame.stream, body: frame.body.to_vec() });
            Ok(())
        });
        let end = self.position();
        match (taken, self.group) {
            (Err(_), _) => {
                self.give_up_group(end);
                self.note_bad(lsn, end, true);
            }
            (Ok(()), Some(start)) if self.decoder.is_between_groups() => {
                self.group = None;
                if let Some(bad) = self.bad.take() {
                    found.push(Scanned::Bad { start: bad.start, end: start, damaged: bad.damaged });
                }
                found.push(Scanned::Group { start, end, frames: std::mem::take(&mut self.frames) });
            }
            (Ok(()), _) => {}
        }
    }
}
