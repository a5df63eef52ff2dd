//! Death: what a killed process leaves behind, and what a power loss leaves of everything.

use std::collections::BTreeSet;

use super::directory::InodeNumber;
use super::ordered::Ways;
use super::personality::Personality;
use super::survivors::{Drawn, SurvivorChoice, Traced};
use super::{DiskState, InFlight, Node, ROOT};
use crate::schedule::Who;
use crate::stream::{Stream, StreamClass};
use crate::trace::Trace;

impl DiskState {
    /// A process died. Its handles close, its locks are released, and each of its writes in flight either acted or
    /// did not. The page cache stays as it is.
    pub(crate) fn kill(&mut self, who: Who, open_files: &[InodeNumber]) {
        let dead: Vec<u64> =
            self.in_flight.iter().filter(|write| write.who == who).map(|write| write.number).collect();
        for number in dead {
            if self.kills.below(2) == 0 {
                self.land(number);
            } else {
                self.in_flight.retain(|write| write.number != number);
            }
        }
        for inode in open_files {
            self.close(*inode);
        }
        self.faults.note_death();
        self.locks.retain(|held| held.who != who);
    }

    /// Power is lost: what survives is drawn from the `power_loss` stream.
    pub(crate) fn lose_power_drawn(&mut self, trace: &mut Trace) {
        let mut stream = std::mem::replace(&mut self.power_losses, Stream::new(0, StreamClass::PowerLoss));
        self.lose_power(&mut Traced { choice: &mut Drawn::new(&mut stream), trace });
        self.power_losses = stream;
    }

    /// Power is lost: `choice` says what survives. Every process that uses this disk must be dead.
    pub(crate) fn lose_power(&mut self, choice: &mut dyn SurvivorChoice) {
        // A write in flight may have reached the medium in any part, like every other unsynced change.
        let in_flight: Vec<u64> = self.in_flight.iter().map(|InFlight { number, .. }| *number).collect();
        for number in in_flight {
            self.land(number);
        }
        self.meet_lies();
        let inodes: Vec<InodeNumber> = self.nodes.keys().copied().collect();
        let cut = (!self.is_strict()).then(|| self.survive_journal(choice));
        let ways = Ways {
            whole_pages: self.personality == Personality::Btrfs,
            exposes_zeros: self.personality == Personality::Ext4,
        };
        for inode in &inodes {
            if let Some(Node::File(file)) = self.nodes.get_mut(inode) {
                match cut {
                    None => file.survive(u64::MAX, *inode, choice),
                    Some(cut) => file.survive_ordered(*inode, choice, cut, ways),
                }
                file.forget_cache();
            }
        }
        for inode in &inodes {
            if let Some(Node::Directory(directory)) = self.nodes.get_mut(inode) {
                directory.survive(u64::MAX, *inode, choice);
            }
        }
        self.locks.clear();
        self.rebuild_names();
        self.recount();
    }

    /// A sync of a directory failed: each name keeps its durable binding or gets a later one, for good.
    ///
    /// Not so on a real file system, whose journal failed by that: nothing changes any more, and what the power loss leaves
    /// is as if the sync had not ended.
    pub(crate) fn fail_sync_dir(&mut self, inode: InodeNumber, watermark: u64) {
        if !self.is_strict() {
            self.is_aborted = true;
            return;
        }
        let begun = self.syncs_begun(inode);
        let settled = self.directory_mut(inode).settle(begun);
        self.release(settled);
        let mut stream = self.take_failed_syncs();
        let released = self.directory_mut(inode).survive(watermark, inode, &mut Drawn::new(&mut stream));
        self.failed_syncs = stream;
        self.release(released);
    }

    /// Makes the durable names the visible ones, counts links anew, and forgets what has no name.
    ///
    /// A directory keeps only the name that the walk meets first: a rename of a directory can leave two names, but
    /// no file system lets a directory have two parents.
    fn rebuild_names(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.links = 0;
                file.anchors = 0;
            }
        }
        let mut reached = BTreeSet::from([ROOT]);
        let mut waiting = vec![ROOT];
        while let Some(inode) = waiting.pop() {
            let Some(Node::Directory(directory)) = self.nodes.get_mut(&inode) else {
                continue;
            };
            let bindings: Vec<(String, InodeNumber)> =
                directory.durable.iter().map(|(name, inode)| (name.clone(), *inode)).collect();
            for (name, target) in bindings {
                match self.nodes.get_mut(&target) {
                    Some(Node::File(file)) => {
                        file.links += 1;
                        file.anchors += 1;
                        reached.insert(target);
                    }
                    Some(Node::Directory(_)) if reached.insert(target) => waiting.push(target),
                    _ => {
                        self.directory_mut(inode).durable.remove(&name);
                    }
                }
            }
            let directory = self.directory_mut(inode);
            directory.names = directory.durable.clone();
        }
        self.nodes.retain(|inode, _| reached.contains(inode));
    }
}
