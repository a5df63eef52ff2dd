//! Files and directories as the kernel sees them.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Buf, Io};
use crate::check::mark;

/// Why an operation failed, sorted by what the kernel does about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoErrorKind {
    /// No space or no inode left (ENOSPC).
    Full,
    /// Quota reached (EDQUOT); treated like `Full`.
    Quota,
    /// Out of file descriptors (EMFILE, ENFILE). Retriable.
    TooManyFiles,
    /// No such file or directory.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// Not allowed (EACCES, EPERM), or the file system is mounted read-only (EROFS).
    Permission,
    /// Would pass if tried again (EINTR, EAGAIN, ENOMEM).
    Transient,
    /// The device says the data is gone or unreachable (EIO and everything like it).
    Medium,
    /// Another process holds the lock.
    Locked,
    /// This very process holds the lock, through another handle.
    LockedHere,
    /// The file system cannot do this (EINVAL for direct I/O, EOPNOTSUPP, EXDEV).
    Unsupported,
    /// Anything else; treated like `Medium`.
    Other,
}

/// A failed operation on a file or directory.
#[derive(Clone, PartialEq, Eq)]
pub struct IoError {
    /// What the kernel should think of it.
    pub kind: IoErrorKind,
    /// The operation, as `write`, `sync_data`.
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// Byte offset, for reads and writes.
    pub offset: Option<u64>,
    /// What the system said.
    pub detail: String,
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.operation, self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl fmt::Debug for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

impl std::error::Error for IoError {}

/// Result of a disk operation.
pub type IoResult<T> = Result<T, IoError>;

/// What the file will be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Access {
    /// Reads only.
    #[default]
    Read,
    /// Reads and writes.
    ReadWrite,
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// Reads only, or writes too.
    pub access: Access,
    /// Create it; fails with `AlreadyExists` if it is there.
    pub create_new: bool,
    /// Bypass the page cache. Offsets, lengths and buffers must be multiples of [`File::alignment`].
    /// Fails with `Unsupported` where the file system cannot.
    pub direct: bool,
    /// Each write returns only when its own bytes are durable.
    pub dsync: bool,
}

impl OpenOptions {
    /// Open an existing file for reading through the page cache.
    pub const fn read() -> Self {
        Self { access: Access::Read, create_new: false, direct: false, dsync: false }
    }

    /// Open an existing file for reading and writing through the page cache.
    pub const fn write() -> Self {
        Self { access: Access::ReadWrite, create_new: false, direct: false, dsync: false }
    }

    /// Create a new file for reading and writing through the page cache.
    pub const fn create() -> Self {
        Self { access: Access::ReadWrite, create_new: true, direct: false, dsync: false }
    }

    /// The same with `direct` set.
    #[must_use]
    pub const fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// The same with `dsync` set.
    #[must_use]
    pub const fn dsync(mut self) -> Self {
        self.dsync = true;
        self
    }
}

/// What the kernel expects to do with a byte range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Reads will be scattered.
    Random,
    /// Reads will go forward.
    Sequential,
    /// Read it ahead.
    WillNeed,
    /// Drop it from the page cache.
    DontNeed,
}

/// An open file. All methods take `&self`; calls may overlap.
#[expect(clippy::len_without_is_empty, reason = "a length is asked of the disk, and nobody asks it for less")]
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`. Gives the count, smaller at the end of the file or, rarely,
    /// anywhere (the caller loops); 0 means end of file. Bytes past the count are unspecified.
    fn read_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)>;

    /// Several reads at once; each as [`File::read_at`], results in the order given.
    fn read_many(&self, reads: Vec<(u64, Buf)>) -> Io<Vec<(IoResult<usize>, Buf)>>;

    /// Writes `buf` at `offset`, extending the file if need be. Gives the count, which may be short (the caller
    /// loops).
    fn write_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)>;

    /// Writes the buffers one after another starting at `offset`. The count covers all of them.
    fn write_vectored_at(&self, offset: u64, bufs: Vec<Buf>) -> Io<(IoResult<usize>, Vec<Buf>)>;

    /// Reserves blocks for the range and extends the size over it. `Unsupported` where the file system cannot.
    fn allocate(&self, offset: u64, len: u64) -> Io<IoResult<()>>;

    /// Makes the range read as zeros by *written* blocks, so that later writes change no metadata.
    fn zero_range(&self, offset: u64, len: u64) -> Io<IoResult<()>>;

    /// Gives the blocks of the range back; it reads as zeros. `Unsupported` where the file system cannot.
    fn punch_hole(&self, offset: u64, len: u64) -> Io<IoResult<()>>;

    /// Sets the size.
    fn truncate(&self, len: u64) -> Io<IoResult<()>>;

    /// Makes every byte written before, and the size needed to read them, durable.
    fn sync_data(&self) -> Io<IoResult<()>>;

    /// The same with all metadata of the file. Its name needs [`Disk::sync_dir`].
    fn sync_all(&self) -> Io<IoResult<()>>;

    /// Size in bytes.
    fn len(&self) -> Io<IoResult<u64>>;

    /// A hint; never fails.
    fn advise(&self, offset: u64, len: u64, advice: Advice);

    /// Offsets, lengths and buffers of direct I/O must be multiples of this; 1 for cached files.
    fn alignment(&self) -> usize;
}

/// A directory entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Name inside the directory. Names that are not UTF-8 are given with replacement characters.
    pub name: String,
    /// True for a directory.
    pub is_dir: bool,
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// Size in bytes.
    pub len: u64,
    /// Bytes the file system has allocated for it.
    pub allocated: u64,
    /// Number of names.
    pub links: u64,
    /// True for a directory.
    pub is_dir: bool,
}

/// Room left in the file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeSpace {
    /// Bytes this user may still take.
    pub bytes: u64,
    /// Files this user may still create; `u64::MAX` where the file system has no such limit.
    pub inodes: u64,
}

/// Who may hold a directory lock beside us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// Nobody.
    Exclusive,
    /// Other shared holders.
    Shared,
}

/// A held directory lock; dropping it, or the death of the process, releases it.
pub trait DirLock: Send + Sync {}

/// A file system. Paths are absolute or relative to the process; the kernel uses no `..`.
pub trait Disk: Send + Sync {
    /// Opens or creates a file.
    fn open(&self, path: &Path, options: OpenOptions) -> Io<IoResult<Arc<dyn File>>>;

    /// Renames, replacing the target in one step.
    fn rename(&self, from: &Path, to: &Path) -> Io<IoResult<()>>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Io<IoResult<()>>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Io<IoResult<()>>;

    /// Gives the file a second name. `Unsupported` across file systems.
    fn hard_link(&self, from: &Path, to: &Path) -> Io<IoResult<()>>;

    /// The entries, sorted by name.
    fn list(&self, dir: &Path) -> Io<IoResult<Vec<DirEntry>>>;

    /// Facts about a file or directory.
    fn metadata(&self, path: &Path) -> Io<IoResult<Metadata>>;

    /// Where `path` leads: without `.`, `..` and symbolic links, so that all spellings of one place give the same. What
    /// is not there yet keeps its name, behind the place of what is.
    ///
    /// As it stands here it looks at the text alone, which is enough for a file system that has no symbolic links and
    /// takes each path from its root.
    fn resolve(&self, path: &Path) -> Io<IoResult<PathBuf>> {
        let mut place = PathBuf::new();
        for part in path.components() {
            match part {
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                Component::ParentDir => {
                    place.pop();
                }
                Component::Normal(name) => place.push(name),
            }
        }
        Io::ready(Ok(place))
    }

    /// Creates a directory whose parent exists.
    fn create_dir(&self, path: &Path) -> Io<IoResult<()>>;

    /// Makes the directory's entries durable.
    fn sync_dir(&self, path: &Path) -> Io<IoResult<()>>;

    /// Takes the lock of a directory without waiting, through the file `name` in it, created if need be.
    /// Fails with `LockedHere` if a holder in this process excludes it, with `Locked` if one elsewhere does, or
    /// if nobody can tell.
    fn lock(&self, dir: &Path, name: &str, kind: LockKind) -> Io<IoResult<Box<dyn DirLock>>>;

    /// Room left where `path` lies.
    fn free_space(&self, path: &Path) -> Io<IoResult<FreeSpace>>;
}

/// Makes sure that `dir` is there, and its entry in the parent durable.
///
/// Whether the directory was there says nothing about its entry: whoever made it may have died, or been told that the
/// sync failed, before it was durable. An entry made here whose sync failed is taken away, so that the next attempt makes it
/// anew: a second sync of the same one proves nothing. Of an entry that was there before, the sync is all there is.
///
/// # Errors
/// What the disk says; `NotFound` if the parent is missing, `AlreadyExists` if it is a file, or a symbolic link to nowhere.
/// A parent that may not be read is taken for durable if the directory was there before.
pub async fn make_directory(disk: &dyn Disk, dir: &Path) -> IoResult<()> {
    let is_new = match disk.create_dir(dir).await {
        Ok(()) => true,
        // A symbolic link to nowhere exists and leads to no directory.
        Err(error) if error.kind == IoErrorKind::AlreadyExists => match disk.metadata(dir).await {
            Ok(found) if found.is_dir => false,
            _ => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    match disk.sync_dir(parent.unwrap_or(Path::new("."))).await {
        Err(error) if error.kind == IoErrorKind::Permission && !is_new => Ok(()),
        Err(error) => {
            if is_new {
                mark!("directory_taken_back");
                // What remains of it is told by the next attempt.
                let _ = disk.remove_dir(dir).await;
            }
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}
