//! One directory: the names as processes see them, the names that are durable, and the changes between.
//!
//! Every change binds one name to an inode or to nothing, and is unsynced until the directory is synced. After a
//! power loss each name has its durable binding or any one that it was given since, independently of every other
//! name; a rename is two changes, so both names, or neither, may be left.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::survivors::SurvivorChoice;

/// Number of a file or directory on one disk.
pub(crate) type InodeNumber = u64;

/// What a change of a name is a part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The file or directory was created by it.
    Created,
    /// A link, a removal, or the second half of a rename.
    Other,
    /// The first half of a rename to a name that was free.
    Renamed,
    /// The first half of a rename to a name that something had.
    Replaced,
}

impl Cause {
    /// True if the next change on this disk is the other half of a rename.
    pub(crate) fn has_second_half(self) -> bool {
        matches!(self, Self::Renamed | Self::Replaced)
    }
}

/// A name was bound to an inode, or to nothing.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) inode: Option<InodeNumber>,
    pub(crate) cause: Cause,
}

/// See the module's header.
#[derive(Clone, Default)]
pub(crate) struct Directory {
    pub(crate) names: BTreeMap<String, InodeNumber>,
    pub(crate) durable: BTreeMap<String, InodeNumber>,
    pub(crate) changes: Vec<Binding>,
    /// Names that a log has, with the number of the change: earlier ones that are still pending alter them no more.
    pub(crate) logged: BTreeMap<String, u64>,
    /// What those names are bound to where the log is forgotten.
    pub(crate) beneath: BTreeMap<String, Option<InodeNumber>>,
}

/// Inodes that lost one durable or pending reference each.
pub(crate) type Released = Vec<InodeNumber>;

impl Directory {
    /// Binds a name as processes see it. Gives the inode that the name had.
    pub(crate) fn bind(
        &mut self,
        number: u64,
        name: &str,
        inode: Option<InodeNumber>,
        cause: Cause,
    ) -> Option<InodeNumber> {
        let before = match inode {
            Some(inode) => self.names.insert(name.to_owned(), inode),
            None => self.names.remove(name),
        };
        self.changes.push(Binding { number, name: name.to_owned(), inode, cause });
        before
    }

    /// Makes every change up to `watermark` durable.
    pub(crate) fn settle(&mut self, watermark: u64) -> Released {
        let count = self.changes.partition_point(|change| change.number <= watermark);
        let changes: Vec<Binding> = self.changes.drain(..count).collect();
        let mut released = Vec::new();
        for change in changes {
            if self.is_older_than_log(&change) {
                released.extend(self.beneath.insert(change.name, change.inode).flatten());
            } else {
                released.extend(self.beneath.remove(&change.name).flatten());
                released.extend(self.set_durable(change.name, change.inode));
            }
        }
        released
    }

    /// True if a later change of the same name is in the log.
    pub(crate) fn is_older_than_log(&self, change: &Binding) -> bool {
        self.logged.get(&change.name).is_some_and(|logged| change.number < *logged)
    }

    /// The log forgets a file: each name that it has for it is what it was without.
    pub(crate) fn forget_in_log(&mut self, inode: InodeNumber) -> Released {
        let names: Vec<String> = self.names_in_log(inode).cloned().collect();
        let mut released = Vec::new();
        for name in names {
            self.logged.remove(&name);
            if let Some(before) = self.beneath.remove(&name) {
                released.extend(self.set_durable(name, before));
            }
        }
        released
    }

    /// The names that the log has for a file.
    pub(crate) fn names_in_log(&self, inode: InodeNumber) -> impl Iterator<Item = &String> {
        self.beneath.keys().filter(move |name| self.durable.get(*name) == Some(&inode))
    }

    /// What is durable needs no log any more.
    pub(crate) fn commit(&mut self) -> Released {
        self.logged.clear();
        std::mem::take(&mut self.beneath).into_values().flatten().collect()
    }

    /// Makes the changes with these numbers durable by a log.
    pub(crate) fn settle_some(&mut self, numbers: &BTreeSet<u64>) -> Released {
        let is_due = |change: &Binding| numbers.contains(&change.number);
        let (due, kept) = std::mem::take(&mut self.changes).into_iter().partition(is_due);
        self.changes = kept;
        let due: Vec<Binding> = due;
        let mut released = Vec::new();
        for change in due {
            let (name, number) = (change.name.clone(), change.number);
            if self.is_older_than_log(&change) {
                released.extend(change.inode);
                continue;
            }
            let before = self.set_durable(change.name, change.inode);
            match self.beneath.entry(name.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(before)),
                Entry::Occupied(_) => released.extend(before),
            }
            self.logged.insert(name, number);
        }
        released
    }

    /// Each name changed up to `watermark` gets, for good, its durable binding or one of the later ones.
    pub(crate) fn survive(
        &mut self,
        watermark: u64,
        number: InodeNumber,
        choice: &mut dyn SurvivorChoice,
    ) -> Released {
        let count = self.changes.partition_point(|change| change.number <= watermark);
        let mut by_name: BTreeMap<String, Vec<Option<InodeNumber>>> = BTreeMap::new();
        for change in self.changes.drain(..count) {
            by_name.entry(change.name).or_default().push(change.inode);
        }
        let mut released = Vec::new();
        for (name, bindings) in by_name {
            let mut candidates = vec![self.durable.get(&name).copied()];
            candidates.extend(bindings);
            let pick = choice.name(number, &name, &candidates).min(candidates.len() - 1);
            let picked = candidates[pick];
            released.extend(
                candidates[1..]
                    .iter()
                    .enumerate()
                    .filter_map(|(position, binding)| if position + 1 == pick { None } else { *binding }),
            );
            if pick > 0 {
                released.extend(self.set_durable(name, picked));
            }
        }
        released
    }

    fn set_durable(&mut self, name: String, inode: Option<InodeNumber>) -> Option<InodeNumber> {
        match inode {
            Some(inode) => self.durable.insert(name, inode),
            None => self.durable.remove(&name),
        }
    }
}
