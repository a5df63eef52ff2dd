//! A small world in memory for tests of files: it forgets what was not synced, and fails on demand.
//!
//! Every call is done at once. What a power loss may keep is chosen sector by sector; names are durable at once,
//! since the simulator of the `holdfast-sim` crate is the adversary for those.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::draw::Draw;
use holdfast::env::{
    Advice, BoxFuture, Buf, DirEntry, DirLock, Disk, Env, File, FreeSpace, Io, IoError, IoErrorKind,
    IoResult, LockKind, Metadata, Nanos, OpenOptions, SpawnRefused, Task, TaskClass,
};
use holdfast::types::Timestamp;

const SECTOR: usize = 512;

/// Drives a future that never has to wait.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future of the world in memory had to wait"),
    }
}

#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    live: Vec<u8>,
    links: u64,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    calls: u64,
    fail: Option<Fail>,
    /// Bytes that all files may have together.
    room: Option<u64>,
    /// Writes never end.
    hang: bool,
}

/// A fault: the call with this number among those whose name begins with `operation`, and all after it if `on`.
#[derive(Clone)]
pub struct Fail {
    pub operation: &'static str,
    pub suffix: &'static str,
    pub skip: u64,
    pub times: u64,
    pub kind: IoErrorKind,
    /// Bytes of a failing write that get through all the same.
    pub through: usize,
}

/// The world.
pub struct Memory {
    disk: MemoryDisk,
    ticks: AtomicU64,
    random: AtomicU64,
}

#[derive(Clone)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    alignment: usize,
}

impl Memory {
    /// Direct I/O wants `alignment`; 0 says that it is not supported.
    pub fn new(alignment: usize) -> Arc<Self> {
        Arc::new(Self {
            disk: MemoryDisk { state: Arc::default(), alignment },
            ticks: AtomicU64::new(1),
            random: AtomicU64::new(1),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.disk.state.lock().unwrap()
    }

    pub fn fail(&self, fail: Option<Fail>) {
        self.state().fail = fail;
    }

    pub fn set_hang(&self, hang: bool) {
        self.state().hang = hang;
    }

    pub fn set_room(&self, room: Option<u64>) {
        self.state().room = room;
    }

    /// Names of the files.
    pub fn names(&self) -> Vec<String> {
        self.state().files.keys().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    /// A copy of the world after a power loss: each sector that was not synced is kept or lost by `draw`.
    pub fn power_loss(&self, draw: &mut Draw) -> Arc<Self> {
        self.copy(|content| {
            let mut after = content.durable.clone();
            after.resize(content.live.len(), 0);
            for at in (0..after.len()).step_by(SECTOR) {
                let end = (at + SECTOR).min(after.len());
                if after[at..end] != content.live[at..end] && draw.below(2) == 0 {
                    after[at..end].copy_from_slice(&content.live[at..end]);
                }
            }
            after
        })
    }

    /// A copy of the world as another process would find it now.
    pub fn kill(&self) -> Arc<Self> {
        self.copy(|content| content.live.clone())
    }

    fn copy(&self, mut after: impl FnMut(&Content) -> Vec<u8>) -> Arc<Self> {
        let world = Self::new(self.disk.alignment);
        for (path, content) in &self.state().files {
            let content = content.lock().unwrap();
            let bytes = after(&content);
            let content = Content { durable: bytes.clone(), live: bytes, links: content.links };
            world.state().files.insert(path.clone(), Arc::new(Mutex::new(content)));
        }
        world.random.store(self.random.load(Ordering::Relaxed) + 1000, Ordering::Relaxed);
        world
    }

    /// Changes a file behind everybody's back.
    pub fn harm(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let file = Arc::clone(&self.state().files[path]);
        let mut content = file.lock().unwrap();
        change(&mut content.live);
        content.durable = content.live.clone();
    }

    pub fn remove(&self, path: &Path) {
        self.state().files.remove(path);
    }

    pub fn set_links(&self, path: &Path, links: u64) {
        self.state().files[path].lock().unwrap().links = links;
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        self.state().files[path].lock().unwrap().live.clone()
    }
}

impl MemoryDisk {
    /// Counts a call; gives the fault that hits it.
    fn call(&self, operation: &'static str, path: &Path) -> Result<(), (IoError, usize)> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let name = path.to_string_lossy().into_owned();
        let Some(fail) = &mut state.fail else { return Ok(()) };
        if !operation.starts_with(fail.operation) || !name.ends_with(fail.suffix) {
            return Ok(());
        }
        if fail.skip > 0 {
            fail.skip -= 1;
            return Ok(());
        }
        if fail.times == 0 {
            return Ok(());
        }
        fail.times -= 1;
        Err((error(fail.kind, operation, path), fail.through))
    }

    fn has_room(&self, more: u64) -> bool {
        let state = self.state.lock().unwrap();
        let used: u64 = state.files.values().map(|f| f.lock().unwrap().live.len() as u64).sum();
        state.room.is_none_or(|room| used + more <= room)
    }

    fn find(&self, path: &Path, operation: &'static str) -> IoResult<Arc<Mutex<Content>>> {
        let state = self.state.lock().unwrap();
        state.files.get(path).cloned().ok_or_else(|| error(IoErrorKind::NotFound, operation, path))
    }
}

fn error(kind: IoErrorKind, operation: &'static str, path: &Path) -> IoError {
    IoError { kind, operation, path: path.to_path_buf(), offset: None, detail: format!("{kind:?}") }
}

struct MemoryFile {
    disk: MemoryDisk,
    path: PathBuf,
    content: Arc<Mutex<Content>>,
    options: OpenOptions,
}

impl MemoryFile {
    fn check_alignment(&self, offset: u64, buf: &Buf) {
        let alignment = self.alignment();
        assert!(
            offset.is_multiple_of(alignment as u64) && buf.len().is_multiple_of(alignment),
            "misaligned direct I/O"
        );
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        let mut content = self.content.lock().unwrap();
        let end = offset as usize + bytes.len();
        if content.live.len() < end {
            content.live.resize(end, 0);
        }
        content.live[offset as usize..end].copy_from_slice(bytes);
        if self.options.dsync {
            let len = content.live.len();
            content.durable.resize(len, 0);
            content.durable[offset as usize..end].copy_from_slice(bytes);
        }
    }

    fn sync(&self, operation: &'static str) -> IoResult<()> {
        if let Err((error, _)) = self.disk.call(operation, &self.path) {
            // The pages of a failed sync are clean and lost: they stay readable until the machine dies.
            return Err(error);
        }
        let mut content = self.content.lock().unwrap();
        content.durable = content.live.clone();
        Ok(())
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, mut buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        self.check_alignment(offset, &buf);
        if let Err((error, _)) = self.disk.call("read", &self.path) {
            return Io::ready((Err(error), buf));
        }
        let content = self.content.lock().unwrap();
        let from = (offset as usize).min(content.live.len());
        let count = buf.len().min(content.live.len() - from);
        buf[..count].copy_from_slice(&content.live[from..from + count]);
        Io::ready((Ok(count), buf))
    }

    fn read_many(&self, _: Vec<(u64, Buf)>) -> Io<Vec<(IoResult<usize>, Buf)>> {
        unimplemented_here()
    }

    fn write_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        self.check_alignment(offset, &buf);
        if self.disk.state.lock().unwrap().hang {
            self.put(offset, &buf[..buf.len() / 2 / SECTOR * SECTOR]);
            return Io::waiting(std::future::pending());
        }
        if let Err((error, through)) = self.disk.call("write", &self.path) {
            // A write that found no room left something unwritten, or it would have said how much it wrote.
            let most = if error.kind == IoErrorKind::Full { buf.len() - SECTOR } else { buf.len() };
            self.put(offset, &buf[..through.min(most)]);
            return Io::ready((Err(error), buf));
        }
        // Every other write is short, in whole blocks.
        let alignment = self.alignment().max(SECTOR);
        let half = buf.len() / 2 / alignment * alignment;
        let count = if half > 0 && self.disk.state.lock().unwrap().calls.is_multiple_of(2) {
            half
        } else {
            buf.len()
        };
        self.put(offset, &buf[..count]);
        Io::ready((Ok(count), buf))
    }

    fn write_vectored_at(&self, _: u64, _: Vec<Buf>) -> Io<(IoResult<usize>, Vec<Buf>)> {
        unimplemented_here()
    }

    fn allocate(&self, _: u64, _: u64) -> Io<IoResult<()>> {
        unimplemented_here()
    }

    fn zero_range(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        if let Err((error, _)) = self.disk.call("zero", &self.path) {
            return Io::ready(Err(error));
        }
        if !self.disk.has_room(len) {
            return Io::ready(Err(error(IoErrorKind::Full, "zero", &self.path)));
        }
        self.put(offset, &vec![0; len as usize]);
        Io::ready(Ok(()))
    }

    fn punch_hole(&self, _: u64, _: u64) -> Io<IoResult<()>> {
        unimplemented_here()
    }

    fn truncate(&self, len: u64) -> Io<IoResult<()>> {
        self.content.lock().unwrap().live.resize(len as usize, 0);
        Io::ready(Ok(()))
    }

    fn sync_data(&self) -> Io<IoResult<()>> {
        Io::ready(self.sync("sync_data"))
    }

    fn sync_all(&self) -> Io<IoResult<()>> {
        Io::ready(self.sync("sync_all"))
    }

    fn len(&self) -> Io<IoResult<u64>> {
        Io::ready(Ok(self.content.lock().unwrap().live.len() as u64))
    }

    fn advise(&self, _: u64, _: u64, _: Advice) {}

    fn alignment(&self) -> usize {
        if self.options.direct { self.disk.alignment } else { 1 }
    }
}

fn unimplemented_here<T>() -> T {
    panic!("the world in memory has no such call")
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Io<IoResult<Arc<dyn File>>> {
        if let Err((error, _)) = self.call("open", path) {
            return Io::ready(Err(error));
        }
        if options.create_new {
            let mut state = self.state.lock().unwrap();
            if state.files.contains_key(path) {
                return Io::ready(Err(error(IoErrorKind::AlreadyExists, "open", path)));
            }
            let content = Content { links: 1, ..Content::default() };
            state.files.insert(path.to_path_buf(), Arc::new(Mutex::new(content)));
        }
        let content = match self.find(path, "open") {
            Ok(content) => content,
            Err(error) => return Io::ready(Err(error)),
        };
        if options.direct && self.alignment == 0 {
            return Io::ready(Err(error(IoErrorKind::Unsupported, "open", path)));
        }
        Io::ready(Ok(Arc::new(MemoryFile { disk: self.clone(), path: path.to_path_buf(), content, options })))
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<IoResult<()>> {
        if let Err((error, _)) = self.call("rename", to) {
            return Io::ready(Err(error));
        }
        let mut state = self.state.lock().unwrap();
        let Some(content) = state.files.remove(from) else {
            return Io::ready(Err(error(IoErrorKind::NotFound, "rename", from)));
        };
        state.files.insert(to.to_path_buf(), content);
        Io::ready(Ok(()))
    }

    fn remove(&self, path: &Path) -> Io<IoResult<()>> {
        if let Err((error, _)) = self.call("remove", path) {
            return Io::ready(Err(error));
        }
        let removed = self.state.lock().unwrap().files.remove(path);
        Io::ready(removed.map(drop).ok_or_else(|| error(IoErrorKind::NotFound, "remove", path)))
    }

    fn remove_dir(&self, _: &Path) -> Io<IoResult<()>> {
        unimplemented_here()
    }

    fn hard_link(&self, _: &Path, _: &Path) -> Io<IoResult<()>> {
        unimplemented_here()
    }

    fn list(&self, dir: &Path) -> Io<IoResult<Vec<DirEntry>>> {
        let state = self.state.lock().unwrap();
        let names = state.files.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        Io::ready(Ok(names.map(|path| DirEntry { name: name(path), is_dir: false }).collect()))
    }

    fn metadata(&self, path: &Path) -> Io<IoResult<Metadata>> {
        Io::ready(self.find(path, "metadata").map(|content| {
            let content = content.lock().unwrap();
            let len = content.live.len() as u64;
            Metadata { len, allocated: len, links: content.links, is_dir: false }
        }))
    }

    fn create_dir(&self, _: &Path) -> Io<IoResult<()>> {
        Io::ready(Ok(()))
    }

    fn sync_dir(&self, path: &Path) -> Io<IoResult<()>> {
        Io::ready(self.call("dir_sync", path).map_err(|(error, _)| error))
    }

    fn lock(&self, _: &Path, _: &str, _: LockKind) -> Io<IoResult<Box<dyn DirLock>>> {
        unimplemented_here()
    }

    fn free_space(&self, _: &Path) -> Io<IoResult<FreeSpace>> {
        Io::ready(Ok(FreeSpace { bytes: u64::MAX, inodes: u64::MAX }))
    }
}

impl Env for Memory {
    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    fn now(&self) -> Nanos {
        Nanos(self.ticks.fetch_add(1, Ordering::Relaxed))
    }

    fn wall_now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn sleep_until(&self, _: Nanos) -> Io<()> {
        Io::ready(())
    }

    fn random_u64(&self) -> u64 {
        Draw(self.random.fetch_add(1, Ordering::Relaxed)).next()
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
        Err(SpawnRefused { detail: "the world in memory has no tasks".into() })
    }

    fn slice(&self, _: u64) -> Io<()> {
        Io::ready(())
    }
}
