//! Sequences that no commit has, as an opening knows them: those that the manifest told, and those of refused groups.
//!
//! A refused group's sequences are skipped, and nobody is told at once: refusals come when the disk is full, and then
//! an edit would be refused too. The log itself shows where its numbers leap, so a gap is written down with the flush
//! that lets the log before the commit behind it go:
//!
//! ```text
//! log            7 8 | 29 30           9 to 28 were refused; the opening that replays 29 behind 8 knows by that
//! flush to 30    SeqGap 8..28          the log of 29 may go from here on
//! ```
//! So a gap is written down only once there is a durable commit behind it. Numbers that were refused last of all are
//! forgotten by a crash and given anew; nobody ever saw them.

use crate::manifest::Change;
use crate::sync::Mutex;
use crate::types::{Seq, SeqGaps};

/// See the module's header.
pub(crate) struct Skipped(Mutex<Known>);

struct Known {
    gaps: SeqGaps,
    /// The manifest has every gap that ends up to here.
    told: Seq,
}

impl Skipped {
    /// Begins with what the manifest says.
    pub fn new(gaps: SeqGaps) -> Self {
        let told = gaps.iter().last().map_or(Seq::ZERO, |(_, until)| until);
        Self(Mutex::new(Known { gaps, told }))
    }

    /// No commit after `after`, the newest, is numbered up to `until`.
    pub fn note(&self, after: Seq, until: Seq) {
        if let Err(why) = self.0.lock().gaps.note(after, until) {
            // Only a manifest that no kernel wrote has gaps behind the newest commit.
            tracing::warn!(why, "a gap in the numbers of commits is not noted; a little less is retained");
        }
    }

    /// The sequence at which one reads everything but the last `commits` commits up to `from`.
    pub fn back(&self, from: Seq, commits: u64) -> Seq {
        self.0.lock().gaps.back(from, commits)
    }

    /// All of them.
    pub fn gaps(&self) -> SeqGaps {
        self.0.lock().gaps.clone()
    }

    /// What to write down with a flush of everything up to the commit `end`.
    pub fn untold(&self, end: Seq) -> Vec<Change> {
        let known = self.0.lock();
        let untold = known.gaps.iter().filter(|(_, until)| *until > known.told && *until < end);
        untold.map(|(after, until)| Change::SeqGap { after, until }).collect()
    }

    /// That was written down, and nobody reads before `retained_from` any more.
    pub fn note_told(&self, end: Seq, retained_from: Seq) {
        let mut known = self.0.lock();
        let told = known.gaps.iter().map(|(_, until)| until).filter(|until| *until < end).max();
        known.told = known.told.max(told.unwrap_or(Seq::ZERO));
        known.gaps.forget_through(retained_from);
    }
}
