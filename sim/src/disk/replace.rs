//! A disk that is replaced behind its owner's back: wiped, or by an older copy of itself.
//!
//! What comes back is what a device has: a copy holds what was durable when it was kept. Numbers of files and of
//! changes go on, so nothing in flight can be mistaken for something on the other disk. Faults that were asked for, the
//! capacity and limits stay: they belong to the place and not to the device in it.

use std::collections::BTreeMap;

use super::directory::Directory;
use super::inspect::{DiskImage, SimDisk};
use super::survivors::NothingSurvives;
use super::{DiskState, Node, ROOT};
use crate::state::State;
use crate::trace::Event;

impl SimDisk {
    /// Replaces the disk by an empty one. Copies that were kept stay.
    ///
    /// # Panics
    /// If a living process has a file of this disk open, or holds a lock on it.
    pub fn wipe(&self) {
        let mut state = self.shared.state.lock();
        self.check_idle(&state, "wipe");
        state.trace.event(Event::Outside, 4, self.disk as u64);
        state.trace.log(|| format!("disk {} is wiped", self.disk));
        state.disks[self.disk].1.wipe();
    }

    /// Keeps a copy of what is durable now; gives its number, counted from 0. Cheap: shares every page with the disk.
    pub fn keep_copy(&self) -> usize {
        let mut state = self.shared.state.lock();
        let disk = &mut state.disks[self.disk].1;
        let image = disk.image();
        disk.copies.push(image);
        disk.copies.len() - 1
    }

    /// How many copies were kept.
    pub fn copies(&self) -> usize {
        self.shared.state.lock().disks[self.disk].1.copies.len()
    }

    /// Replaces the disk by a copy of itself that was kept. The copy stays and can be taken again.
    ///
    /// # Panics
    /// If no copy has this number; if a living process has a file of this disk open, or holds a lock on it.
    pub fn swap_for_older_copy(&self, copy: usize) {
        let mut state = self.shared.state.lock();
        self.check_idle(&state, "swap_for_older_copy");
        let kept = state.disks[self.disk].1.copies.len();
        assert!(copy < kept, "swap_for_older_copy: there is no copy {copy}; {kept} were kept by keep_copy");
        state.trace.event(Event::Outside, 5, copy as u64);
        state.trace.log(|| format!("disk {} is replaced by its copy {copy}", self.disk));
        let disk = &mut state.disks[self.disk].1;
        let image = disk.copies[copy].clone();
        disk.restore(&image);
        disk.lose_power(&mut NothingSurvives);
    }

    pub(super) fn check_idle(&self, state: &State, what: &str) {
        let uses = |process: &crate::state::ProcessState| {
            process.alive && process.disk == self.disk && !process.open_files.is_empty()
        };
        let is_busy = state.processes.iter().any(uses);
        assert!(!is_busy, "{what}: a living process has files open; kill it first");
        let is_locked = !state.disks[self.disk].1.locks.is_empty();
        assert!(!is_locked, "{what}: a living process holds a lock; kill it first");
    }
}

impl DiskState {
    pub(super) fn image(&self) -> DiskImage {
        DiskImage {
            nodes: self.nodes.clone(),
            space: self.space,
            journaled: self.journaled,
            logged: self.logged.clone(),
        }
    }

    fn wipe(&mut self) {
        self.nodes = BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]);
        self.in_flight.clear();
        self.logged.clear();
        self.is_aborted = false;
        self.recount();
    }
}
