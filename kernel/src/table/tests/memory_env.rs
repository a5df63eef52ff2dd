//! A world in memory, just enough for tables: files are byte vectors that a test may damage, and reads can be made
//! short or to fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::env::{
    Advice, BoxFuture, Buf, DirEntry, DirLock, Disk, Env, File, FreeSpace, Io, IoError, IoErrorKind,
    IoResult, LockKind, Metadata, Nanos, OpenOptions, SpawnRefused, Task, TaskClass,
};
use crate::types::Timestamp;

type Bytes = Arc<Mutex<Vec<u8>>>;

/// The world and its one disk.
#[derive(Default)]
pub(super) struct MemoryEnv {
    files: Mutex<BTreeMap<PathBuf, Bytes>>,
    faults: Arc<Faults>,
}

/// What goes wrong, until it is set back to 0.
#[derive(Default)]
pub(super) struct Faults {
    /// So many of the next reads fail as transient.
    pub(super) transient_reads: AtomicU64,
    /// Reads and writes move at most so many bytes; 0 is no limit.
    pub(super) short_by: AtomicU64,
    /// Reads that touch this offset fail as medium errors, if not 0.
    pub(super) bad_offset: AtomicU64,
    /// Writes beyond this size of a file fail as full, if not 0.
    pub(super) full_at: AtomicU64,
    /// Reads so far.
    pub(super) reads: AtomicU64,
    /// Bytes asked to be read so far.
    pub(super) read_bytes: AtomicU64,
    /// Largest buffer asked to be read.
    pub(super) read_max: AtomicU64,
}

impl MemoryEnv {
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.files.lock().unwrap().get(path).map(|bytes| bytes.lock().unwrap().clone())
    }

    /// Puts a file there, under a new inode if it exists.
    pub(super) fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(path.to_path_buf(), Arc::new(Mutex::new(bytes)));
    }

    /// Changes a file in place, for those who have it open too.
    pub(super) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.files.lock().unwrap()[path].lock().unwrap());
    }
}

fn error(kind: IoErrorKind, operation: &'static str, path: &Path, offset: Option<u64>) -> IoError {
    IoError { kind, operation, path: path.to_path_buf(), offset, detail: "as the test wants".into() }
}

struct MemoryFile {
    path: PathBuf,
    bytes: Bytes,
    faults: Arc<Faults>,
}

impl MemoryFile {
    fn limit(&self, len: usize) -> usize {
        match self.faults.short_by.load(Ordering::Relaxed) {
            0 => len,
            limit => len.min(limit as usize),
        }
    }

    fn read(&self, offset: u64, buf: &mut Buf) -> IoResult<usize> {
        self.faults.reads.fetch_add(1, Ordering::Relaxed);
        self.faults.read_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.faults.read_max.fetch_max(buf.len() as u64, Ordering::Relaxed);
        let transient = &self.faults.transient_reads;
        if transient.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(error(IoErrorKind::Transient, "read", &self.path, Some(offset)));
        }
        let bad = self.faults.bad_offset.load(Ordering::Relaxed);
        if bad != 0 && (offset..offset + buf.len() as u64).contains(&bad) {
            return Err(error(IoErrorKind::Medium, "read", &self.path, Some(offset)));
        }
        let bytes = self.bytes.lock().unwrap();
        let from = bytes.get(offset as usize..).unwrap_or_default();
        let count = self.limit(from.len().min(buf.len()));
        buf[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write(&self, offset: u64, buf: &Buf) -> IoResult<usize> {
        let count = self.limit(buf.len());
        let end = offset as usize + count;
        let full_at = self.faults.full_at.load(Ordering::Relaxed);
        if full_at != 0 && end as u64 > full_at {
            return Err(error(IoErrorKind::Full, "write", &self.path, Some(offset)));
        }
        let mut bytes = self.bytes.lock().unwrap();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(&buf[..count]);
        Ok(count)
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, mut buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        let result = self.read(offset, &mut buf);
        Io::ready((result, buf))
    }

    fn read_many(&self, reads: Vec<(u64, Buf)>) -> Io<Vec<(IoResult<usize>, Buf)>> {
        Io::ready(reads.into_iter().map(|(offset, mut buf)| (self.read(offset, &mut buf), buf)).collect())
    }

    fn write_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        Io::ready((self.write(offset, &buf), buf))
    }

    fn write_vectored_at(&self, _: u64, _: Vec<Buf>) -> Io<(IoResult<usize>, Vec<Buf>)> {
        unreachable!("tables do not use it")
    }

    fn allocate(&self, _: u64, _: u64) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn zero_range(&self, _: u64, _: u64) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn punch_hole(&self, _: u64, _: u64) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn truncate(&self, _: u64) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn sync_data(&self) -> Io<IoResult<()>> {
        Io::ready(Ok(()))
    }

    fn sync_all(&self) -> Io<IoResult<()>> {
        Io::ready(Ok(()))
    }

    fn len(&self) -> Io<IoResult<u64>> {
        Io::ready(Ok(self.bytes.lock().unwrap().len() as u64))
    }

    fn advise(&self, _: u64, _: u64, _: Advice) {}

    fn alignment(&self) -> usize {
        1
    }
}

impl Disk for MemoryEnv {
    fn open(&self, path: &Path, options: OpenOptions) -> Io<IoResult<Arc<dyn File>>> {
        let mut files = self.files.lock().unwrap();
        let found = files.get(path).cloned();
        let bytes = match (found, options.create_new) {
            (Some(_), true) => return Io::ready(Err(error(IoErrorKind::AlreadyExists, "open", path, None))),
            (None, false) => return Io::ready(Err(error(IoErrorKind::NotFound, "open", path, None))),
            (Some(bytes), false) => bytes,
            (None, true) => Arc::clone(files.entry(path.to_path_buf()).or_default()),
        };
        let faults = Arc::clone(&self.faults);
        Io::ready(Ok(Arc::new(MemoryFile { path: path.to_path_buf(), bytes, faults })))
    }

    fn remove(&self, path: &Path) -> Io<IoResult<()>> {
        let removed = self.files.lock().unwrap().remove(path);
        Io::ready(removed.map(drop).ok_or_else(|| error(IoErrorKind::NotFound, "remove", path, None)))
    }

    fn rename(&self, _: &Path, _: &Path) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn remove_dir(&self, _: &Path) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn hard_link(&self, _: &Path, _: &Path) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn list(&self, _: &Path) -> Io<IoResult<Vec<DirEntry>>> {
        unreachable!("tables do not use it")
    }

    fn metadata(&self, _: &Path) -> Io<IoResult<Metadata>> {
        unreachable!("tables do not use it")
    }

    fn create_dir(&self, _: &Path) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn sync_dir(&self, _: &Path) -> Io<IoResult<()>> {
        unreachable!("tables do not use it")
    }

    fn lock(&self, _: &Path, _: &str, _: LockKind) -> Io<IoResult<Box<dyn DirLock>>> {
        unreachable!("tables do not use it")
    }

    fn free_space(&self, _: &Path) -> Io<IoResult<FreeSpace>> {
        unreachable!("tables do not use it")
    }
}

impl Env for MemoryEnv {
    fn disk(&self) -> &dyn Disk {
        self
    }

    fn now(&self) -> Nanos {
        Nanos(0)
    }

    fn wall_now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn sleep_until(&self, _: Nanos) -> Io<()> {
        Io::ready(())
    }

    fn random_u64(&self) -> u64 {
        4
    }

    fn rare(&self, _: &'static str) -> bool {
        false
    }

    fn spawn(
        &self,
        _: &'static str,
        _: TaskClass,
        _: BoxFuture<'static, ()>,
    ) -> Result<Arc<dyn Task>, SpawnRefused> {
        unreachable!("tables do not use it")
    }

    fn slice(&self, _: u64) -> Io<()> {
        Io::ready(())
    }
}

/// Runs a future that never really waits.
pub(super) fn run<T>(future: impl Future<Output = T> + Send) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
