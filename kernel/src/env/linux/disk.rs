//! The file system: names, directories, locks, room.
//!
//! All of these may wait for the disk, so they run where [`super::file`]'s operations do: on the caller's thread if it
//! may block, else on the I/O pool.
//!
//! Directory locks are `flock` locks: they belong to the open file, so a second attempt is refused in the same
//! process as in another one, and the death of the process releases them. Who the holder is `/proc/locks` tells.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block_on::may_block;
use super::failure::{failure, panicked};
use super::file::LinuxFile;
use super::pool::Pool;
use super::raw::{self, DirectAlignment};
use crate::env::{
    Access, BUF_ALIGN, Buf, DirEntry, DirLock, Disk, File, FreeSpace, Io, IoError, IoErrorKind, IoResult,
    LockKind, Metadata, OpenOptions,
};

/// Unit of `st_blocks`, whatever the file system's block size.
const STAT_BLOCK: u64 = 512;

/// How often a lock is tried that nobody seems to hold.
const LOCK_ATTEMPTS: u32 = 4;

/// Opens a FIFO without waiting for its other end. It means nothing to a regular file.
const NO_WAIT: libc::c_int = libc::O_NONBLOCK;

/// Least alignment that any disk asks of direct I/O.
const SECTOR: usize = 512;

/// The disk of [`super::LinuxEnv`].
pub struct LinuxDisk {
    pool: Arc<Pool>,
}

impl LinuxDisk {
    /// A disk whose operations run on `pool` when the caller may not wait.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    /// Runs a system call on one path and gives its failure that path and the operation's name.
    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &Path,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Io<IoResult<T>> {
        let run = move |path: &Path| call(path).map_err(|error| failure(operation, path, &error));
        if may_block() {
            return Io::ready(run(path));
        }
        let (path, named) = (path.to_path_buf(), path.to_path_buf());
        self.pool.run(move || run(&path), move |message| Err(panicked(operation, &named, message)))
    }
}

impl Disk for LinuxDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Io<IoResult<Arc<dyn File>>> {
        let pool = Arc::clone(&self.pool);
        if may_block() {
            return Io::ready(open(path, options, pool));
        }
        let (path, named) = (path.to_path_buf(), path.to_path_buf());
        let panicked = move |message: &str| Err(panicked("open", &named, message));
        self.pool.run(move || open(&path, options, pool), panicked)
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<IoResult<()>> {
        let to = to.to_path_buf();
        self.run("rename", from, move |from| fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> Io<IoResult<()>> {
        self.run("remove", path, |path| fs::remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.run("remove_dir", path, |path| fs::remove_dir(path))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Io<IoResult<()>> {
        let to = to.to_path_buf();
        self.run("hard_link", from, move |from| {
            fs::hard_link(from, to).map_err(|error| match error.raw_os_error() {
                // What `link` says where the file system knows no hard links.
                Some(libc::EPERM) => io::Error::from_raw_os_error(libc::EOPNOTSUPP),
                _ => error,
            })
        })
    }

    fn list(&self, dir: &Path) -> Io<IoResult<Vec<DirEntry>>> {
        self.run("list", dir, list)
    }

    fn metadata(&self, path: &Path) -> Io<IoResult<Metadata>> {
        self.run("metadata", path, |path| {
            let metadata = fs::metadata(path)?;
            Ok(Metadata {
                len: metadata.len(),
                allocated: metadata.blocks().saturating_mul(STAT_BLOCK),
                links: metadata.nlink(),
                is_dir: metadata.is_dir(),
            })
        })
    }

    fn resolve(&self, path: &Path) -> Io<IoResult<PathBuf>> {
        self.run("resolve", path, resolve)
    }

    fn create_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.run("create_dir", path, |path| fs::create_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.run("sync_dir", path, |path| {
            let dir = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
            match dir.sync_all() {
                // The file system has no such operation: its directories are as durable as they get.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
                result => result,
            }
        })
    }

    fn lock(&self, dir: &Path, name: &str, kind: LockKind) -> Io<IoResult<Box<dyn DirLock>>> {
        let path = dir.join(name);
        let pool = Arc::clone(&self.pool);
        if may_block() {
            return Io::ready(lock(&path, kind, pool));
        }
        let named = path.clone();
        self.pool.run(move || lock(&path, kind, pool), move |message| Err(panicked("lock", &named, message)))
    }

    fn free_space(&self, path: &Path) -> Io<IoResult<FreeSpace>> {
        self.run("free_space", path, |path| {
            let (bytes, inodes) = raw::free_space(&CString::new(path.as_os_str().as_bytes())?)?;
            Ok(FreeSpace { bytes, inodes })
        })
    }
}

/// What there is of the path, without links and detours, and behind it the names of what there is not.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        let shown = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        match fs::canonicalize(shown) {
            Ok(place) => return Ok(missing.iter().rev().fold(place, |place, name| place.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match (there.parent(), there.file_name()) {
                    (Some(parent), Some(name)) => {
                        missing.push(name);
                        there = parent;
                    }
                    _ => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn list(dir: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn open(path: &Path, options: OpenOptions, pool: Arc<Pool>) -> IoResult<Arc<dyn File>> {
    let flags = NO_WAIT
        | if options.direct { libc::O_DIRECT } else { 0 }
        | if options.dsync { libc::O_DSYNC } else { 0 };
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(options.access == Access::ReadWrite || options.create_new)
        .create_new(options.create_new)
        .custom_flags(flags)
        .open(path);
    if !options.create_new {
        refuse_if_no_file("open", path, &opened)?;
    }
    let file = match opened {
        Ok(file) => file,
        Err(error) if options.direct && error.raw_os_error() == Some(libc::EINVAL) => {
            return Err(direct_refused(path, options, &error.to_string()));
        }
        Err(error) => return Err(failure("open", path, &error)),
    };
    let alignment = if options.direct { direct_alignment(&file) } else { Ok(1) };
    match alignment {
        Ok(alignment) => Ok(Arc::new(LinuxFile::new(file, path.to_path_buf(), alignment, pool))),
        Err(detail) => Err(direct_refused(path, options, &detail)),
    }
}

/// Refuses what no database makes, whether it could be opened or not: a directory can be, and then refuses each read, and
/// whoever reads from a FIFO waits for a writer. A device makes nobody wait, and says by itself what it cannot do.
fn refuse_if_no_file(operation: &'static str, path: &Path, opened: &io::Result<fs::File>) -> IoResult<()> {
    let metadata = match opened {
        Ok(file) => file.metadata(),
        Err(_) => fs::metadata(path),
    };
    let is_link = || opened.is_err() && operation == "lock" && path.is_symlink();
    let what = match metadata.map(|metadata| metadata.file_type()) {
        _ if is_link() => "a symbolic link",
        Ok(kind) if kind.is_dir() => "a directory",
        Ok(kind) if kind.is_fifo() => "a FIFO",
        Ok(kind) if kind.is_socket() => "a socket",
        // What cannot be looked at has its own error.
        Ok(_) | Err(_) => return Ok(()),
    };
    Err(IoError {
        kind: IoErrorKind::Other,
        operation,
        path: path.to_path_buf(),
        offset: None,
        detail: format!("it is {what} and no regular file; move it away"),
    })
}

/// The failure to open for direct I/O. Linux creates the file before it finds out; that one is removed again.
fn direct_refused(path: &Path, options: OpenOptions, detail: &str) -> IoError {
    if options.create_new
        && let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file that was created in vain stays behind");
    }
    IoError {
        kind: IoErrorKind::Unsupported,
        operation: "open",
        path: path.to_path_buf(),
        offset: None,
        detail: format!("direct I/O: {detail}"),
    }
}

/// What direct I/O on `file` must be aligned to, or why it cannot be.
fn direct_alignment(file: &fs::File) -> Result<usize, String> {
    match raw::direct_alignment(file.as_fd()) {
        DirectAlignment::Refused => Err("the file system cannot".to_string()),
        DirectAlignment::Known(alignment) if alignment as usize > BUF_ALIGN => {
            Err(format!("the device wants {alignment} bytes of alignment, more than {BUF_ALIGN}"))
        }
        DirectAlignment::Known(alignment) => Ok((alignment as usize).max(SECTOR)),
        DirectAlignment::Unknown => {
            // A sector that can be read is proof; an empty file proves nothing, so the safe answer stands.
            let mut sector = Buf::zeroed(SECTOR);
            let proven = matches!(file.read_at(&mut sector, 0), Ok(SECTOR));
            Ok(if proven { SECTOR } else { BUF_ALIGN })
        }
    }
}

/// A held `flock`. Dropped, it stays until what was under way has ended: an opening whose future is dropped leaves
/// behind an operation on a thread of the pool, which must not come upon the files of the next opening.
struct HeldLock {
    file: Option<LockedFile>,
    pool: Arc<Pool>,
}

impl DirLock for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.pool.keep(Box::new(file));
        }
    }
}

struct LockedFile(fs::File);

impl Drop for LockedFile {
    /// Releases it by name and not just by closing: a child that this process is about to start shares the open
    /// file until it has executed its program, and would keep the lock that long.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a directory lock is released only by closing its file");
        }
    }
}

fn lock(path: &Path, kind: LockKind, pool: Arc<Pool>) -> IoResult<Box<dyn DirLock>> {
    let opened = open_lock(path, kind);
    refuse_if_no_file("lock", path, &opened)?;
    let file = opened.map_err(|error| failure("lock", path, &error))?;
    let mut attempts = 0;
    let (kind, detail) = loop {
        let taken = match kind {
            LockKind::Exclusive => file.try_lock(),
            LockKind::Shared => file.try_lock_shared(),
        };
        match taken {
            Ok(()) => return Ok(Box::new(HeldLock { file: Some(LockedFile(file)), pool })),
            Err(fs::TryLockError::Error(error)) => return Err(failure("lock", path, &error)),
            Err(fs::TryLockError::WouldBlock) => {}
        }
        attempts += 1;
        match holder(&file) {
            Holder::Here => break (IoErrorKind::LockedHere, "held by this process"),
            // It was let go just now, unless there is no list to look into.
            Holder::Unknown if attempts < LOCK_ATTEMPTS => {}
            Holder::Elsewhere | Holder::Unknown => break (IoErrorKind::Locked, "held by another process"),
        }
    };
    let detail = detail.to_string();
    Err(IoError { kind, operation: "lock", path: path.to_path_buf(), offset: None, detail })
}

/// Who holds a lock that is refused.
enum Holder {
    Here,
    Elsewhere,
    Unknown,
}

/// Looks for the holder of the lock on `file` in the kernel's list.
///
/// ```text
/// 1: FLOCK  ADVISORY  WRITE 2038 fe:00:6292271 0 EOF        number, kind, …, process, device and inode, range
/// ```
/// The device in the list is not the one that `stat` tells on every file system, so only the inode is compared: a
/// lock of this process on a file of another device with that number costs the caller a wait, no more.
fn holder(file: &fs::File) -> Holder {
    let Ok(inode) = file.metadata().map(|metadata| metadata.ino().to_string()) else {
        return Holder::Unknown;
    };
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return Holder::Unknown };
    let process = std::process::id().to_string();
    let mut found = Holder::Unknown;
    for line in locks.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [_, "FLOCK", _, _, holder, place, ..] = words[..]
            && place.rsplit(':').next() == Some(&inode)
        {
            if holder == process {
                return Holder::Here;
            }
            found = Holder::Elsewhere;
        }
    }
    found
}

/// Opens the lock's file. A shared holder only reads it, so that it needs no permission to write if it is there. Through a
/// symbolic link it would be made, and locked, in a place that is not the directory's.
fn open_lock(path: &Path, kind: LockKind) -> io::Result<fs::File> {
    let flags = NO_WAIT | libc::O_NOFOLLOW;
    if kind == LockKind::Shared {
        match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path)
}
