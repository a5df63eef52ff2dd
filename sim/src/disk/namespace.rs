//! Names: from a path to a file, and everything that changes a directory.

use std::path::{Component, Path};

use holdfast::env::{DirEntry, IoErrorKind, LockKind, Metadata};

use super::content::PAGE;
use super::directory::{Cause, Directory, InodeNumber};
use super::{DiskState, HeldLock, Inode, Node, ROOT, Refusal};
use crate::fault::FaultClass;
use crate::schedule::Who;

const NOT_FOUND: Refusal = (IoErrorKind::NotFound, "no such file or directory");
const EXISTS: Refusal = (IoErrorKind::AlreadyExists, "it exists already");
const NOT_A_DIRECTORY: Refusal = (IoErrorKind::Other, "not a directory");
const IS_A_DIRECTORY: Refusal = (IoErrorKind::Other, "is a directory");

/// The names in a path; relative paths start at the root.
fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

impl DiskState {
    fn walk<'p>(&self, names: impl Iterator<Item = &'p str>) -> Result<InodeNumber, Refusal> {
        let mut at = ROOT;
        for name in names {
            at = *self.directory(at)?.names.get(name).ok_or(NOT_FOUND)?;
        }
        Ok(at)
    }

    /// The file or directory at `path`.
    pub(crate) fn resolve(&self, path: &Path) -> Result<InodeNumber, Refusal> {
        self.walk(names(path))
    }

    /// The directory that holds the last name of `path`, and that name.
    fn resolve_parent<'p>(&self, path: &'p Path) -> Result<(InodeNumber, &'p str), Refusal> {
        let mut all: Vec<&str> = names(path).collect();
        let last = all.pop().ok_or((IoErrorKind::Other, "the root has no name"))?;
        let parent = self.walk(all.into_iter())?;
        self.directory(parent)?;
        Ok((parent, last))
    }

    pub(super) fn directory(&self, inode: InodeNumber) -> Result<&Directory, Refusal> {
        match self.nodes.get(&inode) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(NOT_A_DIRECTORY),
        }
    }

    pub(super) fn directory_mut(&mut self, inode: InodeNumber) -> &mut Directory {
        match self.nodes.get_mut(&inode) {
            Some(Node::Directory(directory)) => directory,
            _ => unreachable!("the caller resolved it as a directory"),
        }
    }

    /// Binds a name and keeps the reference counts.
    fn bind(&mut self, directory: InodeNumber, name: &str, inode: Option<InodeNumber>, cause: Cause) {
        if let Some(Node::File(file)) = inode.and_then(|inode| self.nodes.get_mut(&inode)) {
            file.links += 1;
            file.anchors += 1;
        }
        let number = self.number();
        let before = self.directory_mut(directory).bind(number, name, inode, cause);
        if let Some(before) = before {
            if let Some(Node::File(file)) = self.nodes.get_mut(&before) {
                file.links -= 1;
                if file.links == 0 && file.opens == 0 {
                    self.give_back(before);
                }
            }
            self.drop_if_unused(before);
        }
    }

    /// The file has neither name nor handle: its space is free.
    fn give_back(&mut self, inode: InodeNumber) {
        let file = self.file(inode);
        let pages = file.content.allocated_pages() - file.delayed_pages;
        self.space.used_pages -= pages;
        self.space.used_inodes -= 1;
    }

    /// Forgets a file that nothing can bring back.
    fn drop_if_unused(&mut self, inode: InodeNumber) {
        if let Some(Node::File(file)) = self.nodes.get(&inode)
            && file.links == 0
            && file.opens == 0
            && file.anchors == 0
        {
            self.nodes.remove(&inode);
            self.requests.forget(inode);
        }
    }

    pub(super) fn release(&mut self, released: Vec<InodeNumber>) {
        for inode in released {
            if let Some(Node::File(file)) = self.nodes.get_mut(&inode) {
                file.anchors -= 1;
            }
            self.drop_if_unused(inode);
        }
    }

    fn add(&mut self, directory: InodeNumber, name: &str, node: Node) -> InodeNumber {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, node);
        self.space.used_inodes += 1;
        self.bind(directory, name, Some(inode), Cause::Created);
        inode
    }

    /// Opens a file, or creates it.
    pub(crate) fn open(&mut self, path: &Path, create_new: bool) -> Result<InodeNumber, Refusal> {
        self.refuse_after_abort(create_new)?;
        let (directory, name) = self.resolve_parent(path)?;
        if self.faults.fires(FaultClass::TooManyFiles, name) {
            return Err((IoErrorKind::TooManyFiles, "injected: too many open files"));
        }
        let found = self.directory(directory)?.names.get(name).copied();
        let inode = match (found, create_new) {
            (Some(_), true) => return Err(EXISTS),
            (None, false) => return Err(NOT_FOUND),
            (Some(inode), false) => inode,
            (None, true) => {
                self.reserve_for_inode(name)?;
                self.add(directory, name, Node::File(Box::default()))
            }
        };
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => file.opens += 1,
            _ => return Err(IS_A_DIRECTORY),
        }
        Ok(inode)
    }

    /// A handle was dropped.
    pub(crate) fn close(&mut self, inode: InodeNumber) {
        let Some(Node::File(file)) = self.nodes.get_mut(&inode) else {
            return;
        };
        file.opens -= 1;
        if file.links == 0 && file.opens == 0 {
            self.give_back(inode);
            self.drop_if_unused(inode);
        }
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Refusal> {
        self.refuse_after_abort(true)?;
        let (from_directory, from_name) = self.resolve_parent(from)?;
        let (to_directory, to_name) = self.resolve_parent(to)?;
        let inode = *self.directory(from_directory)?.names.get(from_name).ok_or(NOT_FOUND)?;
        let target = self.directory(to_directory)?.names.get(to_name).copied();
        if target == Some(inode) {
            return Ok(());
        }
        let moves_directory = matches!(self.nodes.get(&inode), Some(Node::Directory(_)));
        match target.and_then(|target| self.nodes.get(&target)) {
            Some(Node::Directory(directory)) if !moves_directory || !directory.names.is_empty() => {
                return Err(if moves_directory { EXISTS } else { IS_A_DIRECTORY });
            }
            Some(Node::File(_)) if moves_directory => return Err(NOT_A_DIRECTORY),
            Some(_) => self.refuse_space(to_name)?,
            None => self.reserve_for_name(to_name)?,
        }
        if moves_directory && target.is_some() {
            self.space.used_inodes -= 1;
        }
        // The new name first, so that the file never loses its last one in between.
        let cause = if target.is_some() { Cause::Replaced } else { Cause::Renamed };
        self.bind(to_directory, to_name, Some(inode), cause);
        self.bind(from_directory, from_name, None, Cause::Other);
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &Path) -> Result<(), Refusal> {
        self.refuse_after_abort(true)?;
        let (directory, name) = self.resolve_parent(path)?;
        let inode = *self.directory(directory)?.names.get(name).ok_or(NOT_FOUND)?;
        match self.nodes.get(&inode) {
            Some(Node::File(_)) => self.bind(directory, name, None, Cause::Other),
            _ => return Err(IS_A_DIRECTORY),
        }
        Ok(())
    }

    pub(crate) fn remove_dir(&mut self, path: &Path) -> Result<(), Refusal> {
        self.refuse_after_abort(true)?;
        let (directory, name) = self.resolve_parent(path)?;
        let inode = *self.directory(directory)?.names.get(name).ok_or(NOT_FOUND)?;
        if !self.directory(inode)?.names.is_empty() {
            return Err((IoErrorKind::Other, "directory not empty"));
        }
        self.bind(directory, name, None, Cause::Other);
        self.space.used_inodes -= 1;
        Ok(())
    }

    pub(crate) fn hard_link(&mut self, from: &Path, to: &Path) -> Result<(), Refusal> {
        self.refuse_after_abort(true)?;
        let inode = self.resolve(from)?;
        if !matches!(self.nodes.get(&inode), Some(Node::File(_))) {
            return Err(IS_A_DIRECTORY);
        }
        let (directory, name) = self.resolve_parent(to)?;
        if self.directory(directory)?.names.contains_key(name) {
            return Err(EXISTS);
        }
        self.reserve_for_name(name)?;
        self.bind(directory, name, Some(inode), Cause::Other);
        Ok(())
    }

    pub(crate) fn create_dir(&mut self, path: &Path) -> Result<(), Refusal> {
        self.refuse_after_abort(true)?;
        let (directory, name) = self.resolve_parent(path)?;
        if self.directory(directory)?.names.contains_key(name) {
            return Err(EXISTS);
        }
        self.reserve_for_inode(name)?;
        self.add(directory, name, Node::Directory(Directory::default()));
        Ok(())
    }

    pub(crate) fn list(&self, path: &Path) -> Result<Vec<DirEntry>, Refusal> {
        let directory = self.directory(self.resolve(path)?)?;
        let entry = |(name, inode): (&String, &InodeNumber)| DirEntry {
            name: name.clone(),
            is_dir: matches!(self.nodes.get(inode), Some(Node::Directory(_))),
        };
        Ok(directory.names.iter().map(entry).collect())
    }

    pub(crate) fn metadata(&self, path: &Path) -> Result<Metadata, Refusal> {
        match self.nodes.get(&self.resolve(path)?) {
            Some(Node::File(file)) => Ok(Metadata {
                len: file.size,
                allocated: file.content.allocated_pages() * PAGE,
                links: file.links,
                is_dir: false,
            }),
            Some(Node::Directory(_)) => Ok(Metadata { len: 0, allocated: 0, links: 2, is_dir: true }),
            None => Err(NOT_FOUND),
        }
    }

    pub(crate) fn size(&self, inode: InodeNumber) -> u64 {
        self.file(inode).size
    }

    /// Starts a sync of a directory; gives it and the number of its last change.
    pub(crate) fn start_sync_dir(&mut self, path: &Path) -> Result<(InodeNumber, u64), Refusal> {
        let inode = self.resolve(path)?;
        if self.is_idle_after_abort(inode) {
            return Ok((inode, 0));
        }
        self.refuse_after_abort(true)?;
        let last = self.directory(inode)?.changes.last().map_or(0, |change| change.number);
        let watermark = if self.is_strict() { last } else { self.next_number - 1 };
        let name = names(path).last().unwrap_or("/");
        self.note_logged(inode, self.next_number - 1);
        if self.faults.fires(FaultClass::SyncError, name) {
            self.fail_sync_dir(inode, watermark);
            return Err((IoErrorKind::Medium, "injected sync error"));
        }
        if self.lies(name, 0, 0) {
            self.note_lie(inode, watermark);
            return Ok((inode, 0));
        }
        self.note_sync_begun(inode, watermark);
        Ok((inode, watermark))
    }

    /// A sync of a directory completed.
    pub(crate) fn sync_dir_done(&mut self, inode: InodeNumber, watermark: u64) {
        if self.is_strict() {
            self.settle_dir(inode, watermark)
        } else {
            self.settle_names_in(inode, watermark)
        }
    }

    /// Makes the changes of one directory durable.
    pub(crate) fn settle_dir(&mut self, inode: InodeNumber, watermark: u64) {
        if let Some(Node::Directory(directory)) = self.nodes.get_mut(&inode) {
            let released = directory.settle(watermark);
            self.release(released);
        }
    }

    /// Takes a directory's lock.
    pub(crate) fn lock(&mut self, path: &Path, name: &str, kind: LockKind, who: Who) -> Result<u64, Refusal> {
        let directory = self.resolve(path)?;
        let is_new = !self.directory(directory)?.names.contains_key(name);
        let excludes = |held: &HeldLock| {
            held.directory == directory
                && held.name == name
                && (kind == LockKind::Exclusive || held.kind == LockKind::Exclusive)
        };
        if self.locks.iter().any(|held| excludes(held) && held.who == who) {
            return Err((IoErrorKind::LockedHere, "held by this process"));
        }
        if self.locks.iter().any(excludes) {
            return Err((IoErrorKind::Locked, "another holder has the lock"));
        }
        if is_new {
            self.refuse_after_abort(true)?;
            self.reserve_for_inode(name)?;
            self.add(directory, name, Node::File(Box::<Inode>::default()));
        }
        let number = self.number();
        self.locks.push(HeldLock { number, directory, name: name.to_owned(), kind, who });
        Ok(number)
    }

    /// A lock was dropped.
    pub(crate) fn unlock(&mut self, number: u64) {
        self.locks.retain(|held| held.number != number);
    }
}
