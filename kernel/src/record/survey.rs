//! Torn tail or corruption? The verdict over all sectors of one use of a file. Pure.
//!
//! ```text
//! new groups ........ | candidate ....................... to the end of the file
//! every sector New    | first group that is not entirely New: some sector of it is Old
//! ```
//!
//! A power loss tears only what was not durable. So the candidate is a tear exactly if nothing vouches that its
//! start was durable: no later group's `durable` (a group's first sector suffices, for it was made after that
//! much was durable), no later seal (which is a group whose `durable` is its own start), and no evidence from
//! outside. If something vouches, acknowledged bytes are missing: corruption. A sector that is neither New nor
//! Old is corruption wherever it lies.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::sector::{FIRST, SectorHead, SectorUse, Verdict, judge};
use super::{FIRST_SECTOR, GroupHeader, SECTOR};
use crate::codec::{BadBytes, Reader};
use crate::types::Lsn;

/// Walks over the sectors from the first data sector on.
#[derive(Debug)]
pub struct Survey {
    of: SectorUse,
    /// Sectors judged so far, and how many the file has.
    next: u64,
    sectors: u64,
    /// Start of the group under way and how many of its sectors follow.
    group: Option<(Lsn, u32)>,
    /// The first group that is not entirely new, and whether any sector at or after its start is new.
    candidate: Option<(Lsn, bool)>,
    /// The greatest position that any group says was durable.
    durable: Lsn,
}

/// What the sectors say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Surveyed {
    /// Where the last whole group ends.
    pub end: Lsn,
    /// True if something was being written beyond `end` when the writer died.
    pub torn: bool,
    /// The greatest position that any group says was durable; at most `end`.
    pub durable: Lsn,
}

/// A torn end of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Torn {
    /// Where the log ends.
    pub end: Lsn,
    /// The same as an offset in its file.
    pub offset: u64,
}

/// Bytes are missing that were durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vouched {
    /// Where the good groups end.
    pub end: Lsn,
    /// Everything below was durable.
    pub durable: Lsn,
}

impl Survey {
    /// Expects the first data sector of a file with `sectors` of them.
    pub fn new(of: SectorUse, sectors: u64) -> Self {
        Self { of, next: 0, sectors, group: None, candidate: None, durable: of.base }
    }

    /// Judges the next sector.
    ///
    /// # Errors
    /// It is corrupt.
    pub fn sector(&mut self, bytes: &[u8]) -> Result<(), BadBytes> {
        let lsn = self.position();
        let number = FIRST_SECTOR.saturating_add(self.next);
        self.next = self.next.saturating_add(1);
        match (judge(bytes, number, lsn, &self.of), self.candidate.is_some()) {
            (Verdict::Corrupt(what), _) => Err(BadBytes { what, at: 0 }),
            (Verdict::Old, true) => Ok(()),
            (Verdict::Old, false) => {
                let under_way = self.group.take();
                self.candidate = Some((under_way.map_or(lsn, |group| group.0), under_way.is_some()));
                Ok(())
            }
            (Verdict::New(head, payload), true) => {
                self.candidate = self.candidate.map(|(start, _)| (start, true));
                if head.flags & FIRST != 0 { self.note_header(lsn, head, payload) } else { Ok(()) }
            }
            (Verdict::New(head, payload), false) => self.next_of_group(lsn, head, payload),
        }
    }

    fn position(&self) -> Lsn {
        self.of.base.advance(self.next.saturating_mul(SECTOR as u64))
    }

    fn next_of_group(&mut self, lsn: Lsn, head: SectorHead, payload: &[u8]) -> Result<(), BadBytes> {
        let start = match self.group {
            None if head.flags & FIRST != 0 => {
                self.note_header(lsn, head, payload)?;
                lsn
            }
            Some((start, remaining))
                if head.flags & FIRST == 0 && remaining.checked_sub(1) == Some(head.remaining) =>
            {
                start
            }
            _ => return Err(BadBytes { what: "sector: out of place in its group", at: 0 }),
        };
        self.group = (head.remaining > 0).then_some((start, head.remaining));
        Ok(())
    }

    fn note_header(&mut self, lsn: Lsn, head: SectorHead, payload: &[u8]) -> Result<(), BadBytes> {
        if u64::from(head.remaining) > self.sectors.saturating_sub(self.next) {
            return Err(BadBytes { what: "group: longer than its file", at: 0 });
        }
        let header = GroupHeader::decode(&mut Reader::new(payload), lsn, head.remaining)?;
        self.durable = self.durable.max(header.durable);
        Ok(())
    }

    /// The verdict over a file whose end nobody has named. `durable` is what the caller knows to be durable in
    /// this use.
    ///
    /// # Errors
    /// Bytes are missing that were durable.
    pub fn finish(self, durable: Lsn) -> Result<Surveyed, Vouched> {
        let (end, torn) = match (self.candidate, self.group) {
            (Some(candidate), _) => candidate,
            (None, Some((start, _))) => (start, true),
            (None, None) => (self.position(), false),
        };
        let vouched = self.durable.max(durable);
        if vouched > end {
            return Err(Vouched { end, durable: vouched });
        }
        Ok(Surveyed { end, torn, durable: vouched })
    }

    /// The verdict over the sectors below `named`, where a successor says that this use ended: all of them were
    /// durable, so all must be whole groups.
    ///
    /// # Errors
    /// They are not.
    pub fn finish_at(self, named: Lsn) -> Result<Surveyed, Vouched> {
        let surveyed = self.finish(named)?;
        if surveyed.end == named && !surveyed.torn {
            return Ok(surveyed);
        }
        Err(Vouched { end: surveyed.end, durable: named })
    }
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "tests harm bytes of a known length"
)]
#[path = "survey_tests.rs"]
mod tests;
