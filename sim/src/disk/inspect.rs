//! The disk as a test sees it, from outside of every process: look, damage, copy, restrict, and ask for faults.
//!
//! Nothing here counts as a disk call, takes time, or can fail by an injected fault.

use std::path::Path;
use std::sync::Arc;

use holdfast::env::{DirEntry, FreeSpace, Metadata};

use super::inode::{Change, ChangeKind};
use super::limits::IopsLimit;
use super::survivors::SurvivorChoice;
use super::{DiskState, Node, Refusal, Route, Space};
use crate::fault::{FaultClass, FiredFault, Trigger};
use crate::options::Ratio;
use crate::state::Shared;
use crate::trace::Event;

/// One disk of the world.
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: usize,
}

/// A whole disk at one moment, unsynced changes included. Cheap: shares every page with the disk.
#[derive(Clone)]
pub struct DiskImage {
    pub(super) nodes: std::collections::BTreeMap<u64, Node>,
    pub(super) space: Space,
    /// Number up to which the journal was durable.
    pub(super) journaled: u64,
    /// Files in the log of names.
    pub(super) logged: std::collections::BTreeMap<u64, u64>,
}

impl DiskImage {
    /// A hash over every name and byte that a process would see; equal images have equal hashes.
    pub fn hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |word: u64| {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 31;
        };
        for (number, node) in &self.nodes {
            mix(*number);
            match node {
                Node::File(file) => {
                    mix(file.size);
                    let mut bytes =
                        vec![0; usize::try_from(file.size).expect("a simulated file fits memory")];
                    file.content.read(0, &mut bytes);
                    mix(u64::from(crc32fast::hash(&bytes)));
                }
                Node::Directory(directory) => {
                    for (name, inode) in &directory.names {
                        mix(u64::from(crc32fast::hash(name.as_bytes())));
                        mix(*inode);
                    }
                }
            }
        }
        hash
    }
}

/// What a test gets when it names something that is not there: a bug of the test.
fn expect<T>(what: &str, path: &Path, result: Result<T, Refusal>) -> T {
    match result {
        Ok(value) => value,
        Err((_, detail)) => panic!("{what} {}: {detail}", path.display()),
    }
}

impl SimDisk {
    fn with<T>(&self, run: impl FnOnce(&mut DiskState) -> T) -> T {
        run(&mut self.shared.state.lock().disks[self.disk].1)
    }

    /// Asks for a fault at calls on any file.
    pub fn inject(&self, class: FaultClass, trigger: Trigger) {
        self.inject_on(class, "", trigger);
    }

    /// Asks for a fault at calls on files (or, for `SpawnRefused`, tasks) whose name contains `name_part`.
    pub fn inject_on(&self, class: FaultClass, name_part: &str, trigger: Trigger) {
        self.with(|disk| disk.faults.inject(class, name_part, trigger));
    }

    /// Lets a fault fire at random.
    pub fn set_fault_rate(&self, class: FaultClass, rate: Ratio) {
        self.with(|disk| disk.faults.set_rate(class, rate));
    }

    /// Lets `choice` decide, under every [`Personality`](crate::Personality) but `Strict`, what a failed sync leaves of
    /// bytes that could not be written, and how far their sizes are noted; `None` draws again.
    pub fn set_failed_survivors(&self, choice: Option<Box<dyn SurvivorChoice>>) {
        let before = self.with(|disk| std::mem::replace(&mut disk.failed_choice, choice));
        drop(before);
    }

    /// Ends every fault, asked for or at random.
    pub fn clear_faults(&self) {
        self.with(|disk| disk.faults.clear());
    }

    /// Ends the faults that were asked for at every call from one on; those asked for at one call still come, and those
    /// at random too.
    pub fn clear_lasting_faults(&self) {
        self.with(|disk| disk.faults.clear_lasting());
    }

    /// How often the class fired on this disk.
    pub fn faults_fired(&self, class: FaultClass) -> u64 {
        self.with(|disk| disk.faults.fired(class))
    }

    /// How often what a fault class did was met: the process went on after the answer, somebody read the damaged bytes, or
    /// the power went before what a sync had lied about was durable.
    pub fn faults_met(&self, class: FaultClass) -> u64 {
        self.with(|disk| disk.faults.met(class))
    }

    /// The faults that fired on this disk and of which it matters on what, in their order: those that alter or withhold
    /// bytes, or lie about them. What an oracle may excuse follows from it.
    pub fn fired_faults(&self) -> Vec<FiredFault> {
        self.with(|disk| disk.faults.notes().to_vec())
    }

    /// Writes refused because a file was written through the page cache and around it: a bug of the kernel.
    pub fn mixed_writes(&self) -> u64 {
        self.with(|disk| disk.mixed_writes)
    }

    /// Sets how much fits. What is stored stays, even above it.
    pub fn set_capacity(&self, bytes: u64, inodes: u64) {
        self.with(|disk| disk.set_capacity(bytes, inodes));
    }

    /// Room left.
    pub fn free_space(&self) -> FreeSpace {
        self.with(|disk| disk.free_space())
    }

    /// With `true`, cached writes learn of a full disk only at their sync.
    pub fn set_delayed_allocation(&self, delayed: bool) {
        self.with(|disk| disk.set_delayed_allocation(delayed));
    }

    /// With `true`, every write needs room, also over what is allocated: a write to a full disk is refused wherever it
    /// goes, as on btrfs. What is overwritten gives its room back, so nothing is charged for it.
    pub fn set_copy_on_write(&self, copies: bool) {
        self.with(|disk| disk.set_copy_on_write(copies));
    }

    /// With `true`, every `dsync` write asks for room in its sync too, as one may that must allocate for the journal: a
    /// write refused there is on the medium in an arbitrary part, the whole of it included.
    pub fn set_full_in_sync(&self, late: bool) {
        self.with(|disk| disk.set_full_in_sync(late));
    }

    /// Lets the device serve only so many calls a second from now on, beginning with a full burst; `None` lifts the
    /// limit. Calls that wait already keep their time.
    ///
    /// # Panics
    /// If the rate or the burst is 0.
    pub fn set_iops_limit(&self, limit: Option<IopsLimit>) {
        self.with(|disk| disk.iops.set(limit));
    }

    /// The bytes of a file as processes see them.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Vec<u8> {
        let path = path.as_ref();
        self.with(|disk| {
            let inode = expect("read_file", path, disk.resolve(path));
            let file = disk.file(inode);
            let mut bytes = vec![0; usize::try_from(file.size).expect("a simulated file fits memory")];
            file.content.read(0, &mut bytes);
            bytes
        })
    }

    /// The bytes of a file that are durable, whatever its name is.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn read_durable(&self, path: impl AsRef<Path>) -> Vec<u8> {
        let path = path.as_ref();
        self.with(|disk| {
            let inode = expect("read_durable", path, disk.resolve(path));
            let file = disk.file(inode);
            let mut bytes =
                vec![0; usize::try_from(file.durable_size).expect("a simulated file fits memory")];
            file.durable.read(0, &mut bytes);
            bytes
        })
    }

    /// True if something has this path.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.with(|disk| disk.resolve(path.as_ref()).is_ok())
    }

    /// Facts about a file or directory; `None` if there is none.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Option<Metadata> {
        self.with(|disk| disk.metadata(path.as_ref()).ok())
    }

    /// Number of the file or directory at this path, as [`UnsyncedContent::file`](crate::UnsyncedContent::file) has it;
    /// the same for all names of a file. `None` if there is none.
    pub fn number_of(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.with(|disk| disk.resolve(path.as_ref()).ok())
    }

    /// The number that the next change of this disk gets: those made between two calls have numbers from the first
    /// answer up to the second.
    pub fn next_change(&self) -> u64 {
        self.with(|disk| disk.next_number)
    }

    /// The entries of a directory, sorted.
    ///
    /// # Panics
    /// If there is no such directory.
    pub fn list(&self, path: impl AsRef<Path>) -> Vec<DirEntry> {
        let path = path.as_ref();
        self.with(|disk| expect("list", path, disk.list(path)))
    }

    /// Creates a durable directory, and its parents as needed.
    ///
    /// # Panics
    /// If a file is in the way.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) {
        let mut at = std::path::PathBuf::from("/");
        for component in path.as_ref().components() {
            at.push(component);
            self.with(|disk| {
                if disk.resolve(&at).is_err() {
                    expect("create_dir_all", &at, disk.create_dir(&at));
                    disk.settle_parent(&at);
                }
            });
        }
    }

    /// Puts a durable file in place, name and bytes, replacing what was there.
    ///
    /// # Panics
    /// If its directory is not there.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = path.as_ref();
        let mut state = self.shared.state.lock();
        state.trace.event(Event::Outside, 1, bytes.len() as u64);
        state.trace.bytes(bytes);
        let disk = &mut state.disks[self.disk].1;
        if disk.resolve(path).is_err() {
            let inode = expect("write_file", path, disk.open(path, true));
            disk.close(inode);
            disk.settle_parent(path);
        }
        let inode = expect("write_file", path, disk.resolve(path));
        disk.truncate(inode, 0);
        let number = disk.number();
        if !bytes.is_empty() {
            let kind = ChangeKind::Write(bytes.into());
            let change = Change { number, offset: 0, len: bytes.len() as u64, kind, route: Route::Cached };
            disk.make_change(inode, change, false);
        }
        disk.settle(inode, u64::MAX);
    }

    /// Removes a file for good.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn remove_file(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        self.with(|disk| {
            expect("remove_file", path, disk.remove(path));
            disk.settle_parent(path);
        });
    }

    /// Changes bytes at rest, behind everybody's back: `damage` gets `len` bytes of the file from `offset`.
    ///
    /// # Panics
    /// If there is no such file or it has no such bytes.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, len: usize, damage: impl FnOnce(&mut [u8])) {
        let path = path.as_ref();
        let mut state = self.shared.state.lock();
        let disk = &mut state.disks[self.disk].1;
        let inode = expect("corrupt", path, disk.resolve(path));
        let pages = disk.file(inode).content.allocated_pages();
        let file = disk.file_mut(inode);
        assert!(offset + len as u64 <= file.size, "corrupt {}: no such bytes", path.display());
        let mut bytes = vec![0; len];
        file.content.read(offset, &mut bytes);
        damage(&mut bytes);
        file.content.write(offset, &bytes);
        if offset + len as u64 <= file.durable_size {
            file.durable.write(offset, &bytes);
        }
        disk.account(inode, pages, false);
        state.trace.event(Event::Outside, 2, offset);
        state.trace.bytes(&bytes);
        state.trace.log(|| format!("corrupt {} at {offset}+{len}", path.display()));
    }

    /// Flips one bit at rest.
    ///
    /// # Panics
    /// If there is no such file or it has no such byte.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u32) {
        self.corrupt(path, offset, 1, |bytes| bytes[0] ^= 1 << (bit % 8));
    }

    /// An image of the whole disk.
    pub fn snapshot(&self) -> DiskImage {
        self.with(|disk| disk.image())
    }

    /// Puts an image back.
    ///
    /// # Panics
    /// If a living process has a file of this disk open, or holds a lock on it.
    pub fn restore(&self, image: &DiskImage) {
        let mut state = self.shared.state.lock();
        self.check_idle(&state, "restore");
        state.trace.event(Event::Outside, 3, image.hash());
        state.disks[self.disk].1.restore(image);
    }

    /// Makes everything durable, as an orderly shutdown of the machine would.
    pub fn sync_everything(&self) {
        self.with(DiskState::settle_everything);
    }
}

impl DiskState {
    fn settle_parent(&mut self, path: &Path) {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let inode = expect("settle", parent, self.resolve(parent));
        self.settle_dir(inode, u64::MAX);
    }

    fn settle_everything(&mut self) {
        let inodes: Vec<u64> = self.nodes.keys().copied().collect();
        for inode in inodes {
            self.settle(inode, u64::MAX);
            self.settle_dir(inode, u64::MAX);
            if let Some(Node::Directory(directory)) = self.nodes.get_mut(&inode) {
                let released = directory.commit();
                self.release(released);
            }
        }
    }

    /// Numbers go on from the greater of both, so that nothing in flight can be mistaken for something else.
    pub(super) fn restore(&mut self, image: &DiskImage) {
        self.nodes = image.nodes.clone();
        self.space = Space {
            capacity_bytes: self.space.capacity_bytes,
            capacity_inodes: self.space.capacity_inodes,
            delayed_allocation: self.space.delayed_allocation,
            copy_on_write: self.space.copy_on_write,
            full_in_sync: self.space.full_in_sync,
            ..image.space
        };
        self.in_flight.clear();
        self.is_aborted = false;
        self.journaled = image.journaled;
        self.logged.clone_from(&image.logged);
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.opens = 0;
            }
        }
        self.recount();
    }
}
