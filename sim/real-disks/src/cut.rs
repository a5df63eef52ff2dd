//! Where the power goes, and what the device keeps: everything before its last flush, and of what came later any sectors.

use std::fmt;

use crate::device::{Device, Request};
use crate::draw::Draw;
use crate::file_system::FileSystem;
use crate::record::Recorded;
use crate::sequence::writer_of;

/// The unit in which bytes of files are torn.
const SECTOR: u64 = 512;

/// What is kept of the writes that no flush covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kept {
    All,
    Nothing,
    Some,
    Torn,
}

/// A cut of a log.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Requests before it.
    pub at: usize,
    pub kept: Kept,
    /// Decides which writes and sectors are kept.
    pub seed: u64,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after request {}, {:?} kept (cut {})", self.at, self.kept, self.seed)
    }
}

impl Cut {
    /// Draws one: half of them right at the end of an operation, where most is promised.
    pub fn draw(draw: &mut Draw, recorded: &Recorded) -> Self {
        let last = recorded.log.len();
        let anywhere = recorded.start + draw.below((last - recorded.start + 1) as u64) as usize;
        let at = if draw.chance(1, 2) { draw.of(&recorded.ends).copied() } else { None };
        let kept = [Kept::All, Kept::Nothing, Kept::Some, Kept::Some, Kept::Torn, Kept::Torn]
            [draw.below(6) as usize];
        Self { at: at.unwrap_or(anywhere), kept, seed: draw.next() }
    }

    /// Operations that had been answered.
    pub fn answered(&self, recorded: &Recorded) -> usize {
        recorded.ends.iter().filter(|end| **end <= self.at).count()
    }

    /// Puts what is left into the device.
    pub fn apply(&self, recorded: &Recorded, device: &Device, file_system: FileSystem) {
        device.load(&recorded.base);
        let log = &recorded.log[..self.at];
        let flushed = log.iter().rposition(|request| matches!(request, Request::Flush)).unwrap_or(0);
        let mut draw = Draw::new(self.seed);
        let eighths = draw.below(9);
        for (position, request) in log.iter().enumerate() {
            let Request::Write { offset, bytes } = request else { continue };
            let kept = if position < flushed { Kept::All } else { self.kept };
            match kept {
                Kept::All => device.put(*offset, bytes),
                Kept::Nothing => {}
                Kept::Some if draw.chance(eighths, 8) => device.put(*offset, bytes),
                Kept::Some => {}
                Kept::Torn => {
                    let is_data = writer_of(bytes).is_some();
                    let unit = if is_data { SECTOR } else { file_system.torn_metadata_unit() };
                    tear(&mut draw, *offset, bytes, unit, device);
                }
            }
        }
    }
}

/// Half of the time a beginning, as disks mostly tear; otherwise any parts.
fn tear(draw: &mut Draw, offset: u64, bytes: &[u8], unit: u64, device: &Device) {
    let parts = bytes.chunks(unit as usize).zip(0u64..);
    let count = bytes.len().div_ceil(unit as usize) as u64;
    let until = draw.chance(1, 2).then(|| draw.below(count + 1));
    for (part, number) in parts {
        let is_kept = match until {
            Some(until) => number < until,
            None => draw.chance(1, 2),
        };
        if is_kept {
            device.put(offset + number * unit, part);
        }
    }
}
