//! Whether a fault was met: damage is remembered until somebody reads it, or recovers without what was lied about.
//!
//! ```text
//! an answer           every class whose caller gets a wrong answer, or none   met when the process goes on after it
//! PhantomWrite        bytes that are not there                                 met when they are read from the medium
//! MisdirectedWrite    the place that kept its bytes, and the one overwritten   met when either is read
//! LyingSync           changes said to be durable                               met when the power goes before they are
//! ```
//! Written over before anybody looks, damage is never met. What is met is counted once for each time that a class fired.

use super::DiskState;
use super::Node;
use super::directory::InodeNumber;
use crate::fault::FaultClass;

/// Damaged bytes of a file.
struct Harm {
    class: FaultClass,
    /// Which firing of the class it belongs to: a misdirected write does harm in two places.
    firing: u64,
    inode: InodeNumber,
    start: u64,
    end: u64,
    /// The page cache still shows what should be there.
    is_hidden: bool,
}

/// Everything wrong that nobody has met yet.
#[derive(Default)]
pub(crate) struct Harms {
    harms: Vec<Harm>,
    /// Files and directories, with the last change of each that was said to be durable and is not.
    lies: Vec<(InodeNumber, u64)>,
}

impl DiskState {
    /// Remembers damage of this class.
    pub(super) fn harm(
        &mut self,
        class: FaultClass,
        inode: InodeNumber,
        offset: u64,
        len: u64,
        is_hidden: bool,
    ) {
        let firing = self.faults.fired(class);
        self.harms.harms.push(Harm { class, firing, inode, start: offset, end: offset + len, is_hidden });
    }

    /// Remembers that a sync of everything up to this change was a lie.
    pub(super) fn note_lie(&mut self, inode: InodeNumber, last: u64) {
        self.harms.lies.push((inode, last));
    }

    /// Somebody read this range.
    pub(super) fn meet(&mut self, inode: InodeNumber, offset: u64, len: u64) {
        let is_met = |harm: &Harm| {
            harm.inode == inode && !harm.is_hidden && harm.start < offset + len && offset < harm.end
        };
        while let Some(at) = self.harms.harms.iter().position(is_met) {
            let Harm { class, firing, .. } = self.harms.harms[at];
            self.harms.harms.retain(|harm| harm.class != class || harm.firing != firing);
            self.faults.note_met(class);
        }
    }

    /// This range is written over: whatever was wrong there is gone.
    pub(super) fn heal(&mut self, inode: InodeNumber, offset: u64, len: u64) {
        let is_gone = |harm: &Harm| harm.inode == inode && offset <= harm.start && harm.end <= offset + len;
        self.harms.harms.retain(|harm| !is_gone(harm));
    }

    /// The power goes: the page cache hides nothing any more, and what was said to be durable may be lost.
    pub(super) fn meet_lies(&mut self) {
        self.harms.harms.iter_mut().for_each(|harm| harm.is_hidden = false);
        for (inode, last) in std::mem::take(&mut self.harms.lies) {
            let is_pending = match self.nodes.get(&inode) {
                Some(Node::File(file)) => file.is_unsynced_up_to(last),
                Some(Node::Directory(directory)) => {
                    directory.changes.first().is_some_and(|change| change.number <= last)
                }
                None => false,
            };
            if is_pending {
                self.faults.note_met(FaultClass::LyingSync);
            }
        }
    }
}
