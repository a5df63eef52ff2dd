//! Names under a personality that keeps their order: what a sync takes along, and the prefix that a power loss leaves.
//!
//! Every change of a name on the disk has a number; together they are the journal. A rename is two changes with
//! numbers that follow each other, and is never taken apart. ext4 and XFS make a prefix durable. Btrfs logs a file or a
//! directory alone: its names and what they need, which is the other half of a rename, earlier changes of the same
//! name, and the names of the directories above.

use std::collections::BTreeSet;

use super::directory::{Binding, Cause, InodeNumber};
use super::ordered::Cut;
use super::personality::Personality;
use super::survivors::SurvivorChoice;
use super::{DiskState, Node};

impl DiskState {
    /// Every pending change of a name, with its directory, in the order in which they were made.
    fn journal(&self) -> Vec<(InodeNumber, Binding)> {
        let mut all: Vec<(InodeNumber, Binding)> = Vec::new();
        for (number, node) in &self.nodes {
            if let Node::Directory(directory) = node {
                all.extend(directory.changes.iter().map(|change| (*number, change.clone())));
            }
        }
        all.sort_unstable_by_key(|(_, change)| change.number);
        all
    }

    /// Makes the names durable that a sync of a file takes along. `metadata` is the number of its last change, up to
    /// `watermark`, that is in the journal itself.
    pub(super) fn settle_names_of(&mut self, inode: InodeNumber, watermark: u64, metadata: u64, whole: bool) {
        let is_due = |change: &Binding| {
            change.inode == Some(inode)
                && change.number <= watermark
                && (whole || change.cause == Cause::Created)
        };
        let journal = self.journal();
        let due = journal.iter().map(|(_, change)| change).filter(|change| is_due(change));
        let due: BTreeSet<u64> = due.map(|change| change.number).collect();
        if self.personality == Personality::Btrfs {
            return self.settle_log(&journal, due);
        }
        self.settle_journal(due.last().copied().unwrap_or(0).max(metadata));
    }

    /// Makes the names durable that a sync of a directory takes along.
    pub(super) fn settle_names_in(&mut self, directory: InodeNumber, watermark: u64) {
        let journal = self.journal();
        let is_due = |(holder, change): &&(InodeNumber, Binding)| {
            change.number <= watermark && (*holder == directory || change.inode == Some(directory))
        };
        let due: BTreeSet<u64> = journal.iter().filter(is_due).map(|(_, change)| change.number).collect();
        if self.personality == Personality::Btrfs {
            return self.settle_log(&journal, due);
        }
        self.settle_journal(due.last().copied().unwrap_or(0));
    }

    /// Makes every change of a name up to a number durable.
    fn settle_journal(&mut self, until: u64) {
        self.journaled = self.journaled.max(until);
        let journal = self.journal();
        let is_split =
            journal.iter().any(|(_, change)| change.number == until && change.cause.has_second_half());
        let until = until + u64::from(is_split);
        if self.personality == Personality::Ext4 {
            for (_, change) in journal.iter().filter(|(_, change)| change.number <= until) {
                if let (Cause::Replaced, Some(inode)) = (change.cause, change.inode) {
                    self.settle(inode, change.number);
                }
            }
        }
        let directories: BTreeSet<InodeNumber> = journal.iter().map(|(directory, _)| *directory).collect();
        for directory in directories {
            let released = self.directory_mut(directory).settle(until);
            self.release(released);
        }
    }

    /// Makes some changes durable, and what they need.
    fn settle_log(&mut self, journal: &[(InodeNumber, Binding)], mut due: BTreeSet<u64>) {
        loop {
            let known = due.len();
            for (position, (directory, change)) in journal.iter().enumerate() {
                if !due.contains(&change.number) {
                    continue;
                }
                if change.cause.has_second_half() {
                    due.insert(change.number + 1);
                }
                let before = &journal[..position];
                if before.last().is_some_and(|(_, first)| {
                    first.cause.has_second_half() && first.number + 1 == change.number
                }) {
                    due.insert(change.number - 1);
                }
                let same_name = |(other, earlier): &&(InodeNumber, Binding)| {
                    other == directory && earlier.name == change.name
                };
                due.extend(before.iter().filter(same_name).map(|(_, earlier)| earlier.number));
                let above = journal.iter().filter(|(_, other)| other.inode == Some(*directory));
                due.extend(above.map(|(_, other)| other.number));
            }
            if due.len() == known {
                break;
            }
        }
        let directories: BTreeSet<InodeNumber> = journal.iter().map(|(directory, _)| *directory).collect();
        for directory in directories {
            let released = self.directory_mut(directory).settle_some(&due);
            self.release(released);
        }
    }

    /// Power is lost: a prefix of the journal is there. Gives where it was cut.
    pub(super) fn survive_journal(&mut self, choice: &mut dyn SurvivorChoice) -> Cut {
        let ends: Vec<u64> = self
            .journal()
            .iter()
            .filter(|(_, change)| !change.cause.has_second_half())
            .map(|(_, change)| change.number)
            .collect();
        let survive = match ends.len() {
            0 => 0,
            operations => choice.journal(operations).min(operations),
        };
        let until = if survive == 0 { 0 } else { ends[survive - 1] };
        self.settle_journal(until);
        self.survive_log(choice);
        for node in self.nodes.values_mut() {
            if let Node::Directory(directory) = node {
                directory.changes.clear();
            }
        }
        self.logged.clear();
        self.is_aborted = false;
        Cut { after: self.journaled, before: ends.get(survive).copied().unwrap_or(u64::MAX) }
    }

    /// A sync of a file or directory began: from now on its names go to the log as they change.
    pub(super) fn note_logged(&mut self, inode: InodeNumber) {
        if self.personality == Personality::Btrfs {
            self.logged.insert(inode);
        }
    }

    /// Power is lost on btrfs: of the changes that no commit took along, those of files in the log went with any later
    /// sync, so a prefix of them is there, with what they need.
    fn survive_log(&mut self, choice: &mut dyn SurvivorChoice) {
        if self.logged.is_empty() {
            return;
        }
        let journal = self.journal();
        let is_logged = |position: &usize| {
            let position = *position;
            let (directory, change) = &journal[position];
            let inode =
                change.inode.or_else(|| self.bound_before(&journal[..position], *directory, &change.name));
            self.logged.contains(directory) || inode.is_some_and(|inode| self.logged.contains(&inode))
        };
        let logged: Vec<&Binding> =
            (0..journal.len()).filter(is_logged).map(|position| &journal[position].1).collect();
        // Of a rename the second half, which is in the log whenever the first is, stands for both.
        let ends: Vec<u64> = logged
            .iter()
            .filter(|change| !change.cause.has_second_half())
            .map(|change| change.number)
            .collect();
        if ends.is_empty() {
            return;
        }
        let survive = choice.log(ends.len()).min(ends.len());
        if survive > 0 {
            let due = ends[..survive].iter().copied().collect();
            self.settle_log(&journal, due);
        }
    }

    /// What a name was bound to before the changes that follow these.
    fn bound_before(
        &self,
        before: &[(InodeNumber, Binding)],
        directory: InodeNumber,
        name: &str,
    ) -> Option<InodeNumber> {
        let changed = before.iter().rev().find(|(other, change)| *other == directory && change.name == name);
        match changed {
            Some((_, change)) => change.inode,
            None => self.directory(directory).ok()?.durable.get(name).copied(),
        }
    }

    /// Number of the last change of the file up to `watermark` that goes through the journal, 0 if there is none.
    pub(super) fn metadata_due(&self, inode: InodeNumber, watermark: u64) -> u64 {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => file.last_metadata(watermark),
            _ => 0,
        }
    }

    /// The number itself if the write of this number changed the size, 0 otherwise.
    pub(super) fn size_due(&self, inode: InodeNumber, number: u64) -> u64 {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) if file.sizes.iter().any(|size| size.0 == number) => number,
            _ => 0,
        }
    }
}
