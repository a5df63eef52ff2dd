//! Names under a personality that keeps their order: what a sync takes along, and the prefix that a power loss leaves.
//!
//! Every change of a name on the disk has a number; together they are the journal. A rename is two changes with
//! numbers that follow each other, and is never taken apart. ext4 and XFS make a prefix durable. Btrfs logs a file or a
//! directory alone: its names and what they need, which is the other half of a rename, earlier changes of the same
//! name if something has it, and the names of the directories above.

use std::collections::{BTreeMap, BTreeSet};

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
        // Whatever had a name in this prefix that the log has for another file must have left it, whole.
        let gives_up = |(directory, change): &&(InodeNumber, Binding)| {
            change.number > until
                && self.directory(*directory).is_ok_and(|holder| {
                    holder.is_older_than_log(change)
                        && journal
                            .iter()
                            .rfind(|(other, earlier)| {
                                other == directory && earlier.name == change.name && earlier.number <= until
                            })
                            .is_some_and(|(_, earlier)| earlier.inode.is_some())
                })
        };
        let due: BTreeSet<u64> = journal.iter().filter(gives_up).map(|(_, change)| change.number).collect();
        if !due.is_empty() {
            self.settle_log(&journal, due);
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
                let is_over = |earlier: &Binding| {
                    self.directory(*directory).is_ok_and(|holder| holder.is_older_than_log(earlier))
                };
                let same_name = |(other, earlier): &&(InodeNumber, Binding)| {
                    other == directory && earlier.name == change.name && !is_over(earlier)
                };
                // Where nothing durable has the name, nothing need give it up first.
                if self.is_durably_bound(*directory, &change.name) {
                    due.extend(before.iter().filter(same_name).map(|(_, earlier)| earlier.number));
                }
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
                directory.commit();
            }
        }
        self.logged.clear();
        self.is_aborted = false;
        Cut { after: self.journaled, before: ends.get(survive).copied().unwrap_or(u64::MAX) }
    }

    /// A sync of a file or directory began: from now on its names go to the log as they change.
    /// `last` is the number of the last change that it covers.
    pub(super) fn note_logged(&mut self, inode: InodeNumber, last: u64) {
        if self.personality == Personality::Btrfs {
            self.logged.insert(inode, last);
        }
    }

    /// Power is lost on btrfs: of the changes that no commit took along, those of files and directories in the log went
    /// with any later sync. Each of them stands as it was logged last, whatever the log has of others: a prefix of its own
    /// changes is there, with what they need.
    fn survive_log(&mut self, choice: &mut dyn SurvivorChoice) {
        let journal = self.journal();
        let mut logged: BTreeMap<InodeNumber, BTreeSet<u64>> = BTreeMap::new();
        for (position, (directory, change)) in journal.iter().enumerate() {
            let bound = || self.bound_before(&journal[..position], *directory, &change.name);
            let inode = change.inode.or_else(bound);
            // Of a rename the second half stands for both.
            let end = change.number + u64::from(change.cause.has_second_half());
            for holder in inode.into_iter().chain([*directory]) {
                if self.logged.contains_key(&holder) {
                    logged.entry(holder).or_default().insert(end);
                }
            }
        }
        let mut due = BTreeSet::new();
        for (holder, ends) in logged {
            // The names of a file that was removed leave the log before its removal is in it.
            let forgets = usize::from(self.is_removed_and_logged(holder));
            let survive = choice.log(holder, ends.len() + forgets).min(ends.len() + forgets);
            if survive > 0 && forgets > 0 {
                self.forget_in_log(holder);
            }
            due.extend(ends.into_iter().take(survive.saturating_sub(forgets)));
        }
        if !due.is_empty() {
            self.settle_log(&journal, due);
        }
    }

    fn is_removed_and_logged(&self, inode: InodeNumber) -> bool {
        let is_removed = matches!(self.nodes.get(&inode), Some(Node::File(file)) if file.links == 0);
        let has_name = |node: &Node| match node {
            Node::Directory(directory) => directory.names_in_log(inode).next().is_some(),
            Node::File(_) => false,
        };
        is_removed && self.nodes.values().any(has_name)
    }

    fn forget_in_log(&mut self, inode: InodeNumber) {
        let numbers: Vec<InodeNumber> = self.nodes.keys().copied().collect();
        for number in numbers {
            if let Some(Node::Directory(directory)) = self.nodes.get_mut(&number) {
                let released = directory.forget_in_log(inode);
                self.release(released);
            }
        }
    }

    fn is_durably_bound(&self, directory: InodeNumber, name: &str) -> bool {
        self.directory(directory).is_ok_and(|directory| directory.durable.contains_key(name))
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
