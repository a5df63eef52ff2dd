//! A world in memory for one case: files as byte vectors, tasks on one thread, and a clock that jumps to the next timer
//! as soon as nobody can go on. Nothing fails and nothing waits, so an opening costs little but its own work.
//!
//! While it records, every sector that is written over leaves its earlier content behind, for the harm that puts it
//! back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use holdfast::env::{
    Advice, BoxFuture, Buf, DirEntry, DirLock, Disk, Env, File, FreeSpace, Io, IoError, IoErrorKind,
    IoResult, LockKind, Metadata, Nanos, OpenOptions, SpawnRefused, Task, TaskClass,
};
use holdfast::types::Timestamp;

/// What a disk writes whole.
pub const SECTOR: usize = 512;

/// Where the database stands in its world.
pub const DIR: &str = "/db";

/// Files of one directory by name. Worlds share the bytes of a file until one of them writes to it.
pub type Image = BTreeMap<String, Arc<Vec<u8>>>;

/// Contents that sectors had before: file name and sector number.
pub type Earlier = BTreeMap<(String, usize), BTreeSet<Vec<u8>>>;

/// More rounds of the executor than this are a hang.
const ROUNDS_MAX: u64 = 20_000_000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The world.
pub struct MemoryWorld {
    disk: MemoryDisk,
    now: AtomicU64,
    random: AtomicU64,
    timers: Arc<Mutex<BTreeMap<(u64, u64), Waker>>>,
    timer_no: AtomicU64,
    ready: Arc<Ready>,
    tasks: Mutex<Vec<Arc<Running>>>,
}

#[derive(Default)]
struct Ready {
    queue: Mutex<VecDeque<Arc<Running>>>,
}

struct Running {
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Running {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let ready = Arc::clone(&self.ready);
            locked(&ready.queue).push_back(self);
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Where random numbers begin over these files. Each opening makes some under new names, so whoever opens what an earlier
/// world left draws other numbers than that one: files and tables are told apart by theirs.
fn seed_of(image: &Image) -> u64 {
    let bytes = image.keys().flat_map(|name| name.bytes());
    bytes.fold(1, |seed, byte| crate::random::mix(seed ^ u64::from(byte)))
}

impl MemoryWorld {
    /// A world whose directory [`DIR`] holds `image`.
    pub fn new(image: &Image) -> Arc<Self> {
        let files = image.iter().map(|(name, bytes)| {
            (Path::new(DIR).join(name), Arc::new(Mutex::new(Content { bytes: Arc::clone(bytes) })))
        });
        let state = State { files: files.collect(), earlier: None };
        Arc::new(Self {
            disk: MemoryDisk { state: Arc::new(Mutex::new(state)) },
            now: AtomicU64::new(1),
            random: AtomicU64::new(seed_of(image)),
            timers: Arc::default(),
            timer_no: AtomicU64::new(0),
            ready: Arc::default(),
            tasks: Mutex::default(),
        })
    }

    /// Begins to keep what is written over.
    pub fn record(&self) {
        locked(&self.disk.state).earlier = Some(Earlier::new());
    }

    /// What was written over so far.
    pub fn earlier(&self) -> Earlier {
        locked(&self.disk.state).earlier.clone().unwrap_or_default()
    }

    /// The files of `/db` as of now.
    pub fn image(&self) -> Image {
        let state = locked(&self.disk.state);
        let named = state.files.iter().map(|(path, content)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, Arc::clone(&locked(content).bytes))
        });
        named.collect()
    }

    /// Drives `future` and every task until it is done; then all tasks end where they are, as in a kill.
    ///
    /// # Errors
    /// If nobody can go on, or for very long.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> Result<T, String> {
        let outcome = self.drive(future);
        locked(&self.ready.queue).clear();
        locked(&self.timers).clear();
        for task in std::mem::take(&mut *locked(&self.tasks)) {
            drop(locked(&task.future).take());
        }
        locked(&self.ready.queue).clear();
        locked(&self.timers).clear();
        outcome
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> Result<T, String> {
        let mut future = pin!(future);
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        for _ in 0..ROUNDS_MAX {
            if flag.0.swap(false, Ordering::AcqRel)
                && let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return Ok(value);
            }
            let next = locked(&self.ready.queue).pop_front();
            if let Some(task) = next {
                self.poll_task(&task);
                continue;
            }
            if flag.0.load(Ordering::Acquire) {
                continue;
            }
            let timer = locked(&self.timers).pop_first();
            let Some(((at, _), waker)) = timer else { return Err("nobody can go on".into()) };
            self.now.fetch_max(at, Ordering::AcqRel);
            waker.wake();
        }
        Err("it goes on for ever".into())
    }

    fn poll_task(&self, task: &Arc<Running>) {
        task.queued.store(false, Ordering::Release);
        let taken = locked(&task.future).take();
        let Some(mut future) = taken else { return };
        let waker = Waker::from(Arc::clone(task));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            *locked(&task.future) = Some(future);
        }
    }
}

struct Sleep {
    timers: Arc<Mutex<BTreeMap<(u64, u64), Waker>>>,
    key: (u64, u64),
    asked: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // A timer that fired is no longer in the map.
        let mut timers = locked(&self.timers);
        if self.asked && !timers.contains_key(&self.key) {
            return Poll::Ready(());
        }
        timers.insert(self.key, context.waker().clone());
        drop(timers);
        self.asked = true;
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        locked(&self.timers).remove(&self.key);
    }
}

struct Handle(Arc<Running>);

impl Task for Handle {
    fn is_finished(&self) -> bool {
        locked(&self.0.future).is_none()
    }

    fn set_class(&self, _: TaskClass) {}
}

impl Env for MemoryWorld {
    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    fn now(&self) -> Nanos {
        Nanos(self.now.fetch_add(100, Ordering::AcqRel))
    }

    fn wall_now(&self) -> Timestamp {
        Timestamp::new(1_700_000_000_000_000 + self.now.load(Ordering::Acquire) / 1000)
    }

    fn sleep_until(&self, deadline: Nanos) -> Io<()> {
        let key = (deadline.0, self.timer_no.fetch_add(1, Ordering::Relaxed));
        Io::waiting(Sleep { timers: Arc::clone(&self.timers), key, asked: false })
    }

    fn random_u64(&self) -> u64 {
        crate::random::mix(self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }

    fn rare(&self, _: &'static str) -> bool {
        false
    }

    fn spawn(
        &self,
        _: &'static str,
        _: TaskClass,
        future: BoxFuture<'static, ()>,
    ) -> Result<Arc<dyn Task>, SpawnRefused> {
        let ready = Arc::clone(&self.ready);
        let task =
            Arc::new(Running { future: Mutex::new(Some(future)), queued: AtomicBool::new(false), ready });
        Arc::clone(&task).wake();
        locked(&self.tasks).push(Arc::clone(&task));
        Ok(Arc::new(Handle(task)))
    }

    fn slice(&self, _: u64) -> Io<()> {
        Io::ready(())
    }
}

struct Content {
    bytes: Arc<Vec<u8>>,
}

struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    earlier: Option<Earlier>,
}

impl State {
    fn keep(&mut self, path: &Path, bytes: &[u8], sectors: std::ops::Range<usize>) {
        let Some(earlier) = &mut self.earlier else { return };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for number in sectors {
            let Some(sector) = bytes.get(number * SECTOR..(number + 1) * SECTOR) else { break };
            earlier.entry((name.clone(), number)).or_default().insert(sector.to_vec());
        }
    }
}

#[derive(Clone)]
struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

fn error(kind: IoErrorKind, operation: &'static str, path: &Path) -> IoError {
    IoError { kind, operation, path: path.to_path_buf(), offset: None, detail: format!("{kind:?}") }
}

struct MemoryFile {
    disk: MemoryDisk,
    path: PathBuf,
    content: Arc<Mutex<Content>>,
    direct: bool,
}

impl MemoryFile {
    fn put(&self, offset: u64, bytes: &[u8]) {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let mut content = locked(&self.content);
        locked(&self.disk.state).keep(&self.path, &content.bytes, start / SECTOR..end.div_ceil(SECTOR));
        let content = Arc::make_mut(&mut content.bytes);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
    }

    fn zero(&self, offset: u64, len: u64) {
        let mut content = locked(&self.content);
        let end = (offset + len) as usize;
        let content = Arc::make_mut(&mut content.bytes);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].fill(0);
    }

    fn get(&self, offset: u64, buf: &mut Buf) -> usize {
        let content = locked(&self.content);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes.len());
        let count = buf.len().min(content.bytes.len() - from);
        buf[..count].copy_from_slice(&content.bytes[from..from + count]);
        count
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, mut buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        let count = self.get(offset, &mut buf);
        Io::ready((Ok(count), buf))
    }

    fn read_many(&self, reads: Vec<(u64, Buf)>) -> Io<Vec<(IoResult<usize>, Buf)>> {
        let read = |(offset, mut buf): (u64, Buf)| (Ok(self.get(offset, &mut buf)), buf);
        Io::ready(reads.into_iter().map(read).collect())
    }

    fn write_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        self.put(offset, &buf);
        Io::ready((Ok(buf.len()), buf))
    }

    fn write_vectored_at(&self, mut offset: u64, bufs: Vec<Buf>) -> Io<(IoResult<usize>, Vec<Buf>)> {
        let start = offset;
        for buf in &bufs {
            self.put(offset, buf);
            offset += buf.len() as u64;
        }
        Io::ready((Ok((offset - start) as usize), bufs))
    }

    fn allocate(&self, _: u64, _: u64) -> Io<IoResult<()>> {
        Io::ready(Err(error(IoErrorKind::Unsupported, "allocate", &self.path)))
    }

    fn zero_range(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        self.zero(offset, len);
        Io::ready(Ok(()))
    }

    fn punch_hole(&self, _: u64, _: u64) -> Io<IoResult<()>> {
        Io::ready(Err(error(IoErrorKind::Unsupported, "punch_hole", &self.path)))
    }

    fn truncate(&self, len: u64) -> Io<IoResult<()>> {
        Arc::make_mut(&mut locked(&self.content).bytes).resize(len as usize, 0);
        Io::ready(Ok(()))
    }

    fn sync_data(&self) -> Io<IoResult<()>> {
        Io::ready(Ok(()))
    }

    fn sync_all(&self) -> Io<IoResult<()>> {
        Io::ready(Ok(()))
    }

    fn len(&self) -> Io<IoResult<u64>> {
        Io::ready(Ok(locked(&self.content).bytes.len() as u64))
    }

    fn advise(&self, _: u64, _: u64, _: Advice) {}

    fn alignment(&self) -> usize {
        if self.direct { SECTOR } else { 1 }
    }
}

struct Lock;

impl DirLock for Lock {}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Io<IoResult<Arc<dyn File>>> {
        let mut state = locked(&self.state);
        let content = match (state.files.get(path), options.create_new) {
            (Some(_), true) => return Io::ready(Err(error(IoErrorKind::AlreadyExists, "open", path))),
            (None, false) => return Io::ready(Err(error(IoErrorKind::NotFound, "open", path))),
            (Some(content), false) => Arc::clone(content),
            (None, true) => {
                let content = Arc::new(Mutex::new(Content { bytes: Arc::default() }));
                state.files.insert(path.to_path_buf(), Arc::clone(&content));
                content
            }
        };
        let (disk, path, direct) = (self.clone(), path.to_path_buf(), options.direct);
        Io::ready(Ok(Arc::new(MemoryFile { disk, path, content, direct })))
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<IoResult<()>> {
        let mut state = locked(&self.state);
        let Some(content) = state.files.remove(from) else {
            return Io::ready(Err(error(IoErrorKind::NotFound, "rename", from)));
        };
        if let Some(replaced) = state.files.insert(to.to_path_buf(), content) {
            let bytes = Arc::clone(&locked(&replaced).bytes);
            state.keep(to, &bytes, 0..bytes.len() / SECTOR);
        }
        Io::ready(Ok(()))
    }

    fn remove(&self, path: &Path) -> Io<IoResult<()>> {
        let removed = locked(&self.state).files.remove(path);
        Io::ready(removed.map(drop).ok_or_else(|| error(IoErrorKind::NotFound, "remove", path)))
    }

    fn remove_dir(&self, _: &Path) -> Io<IoResult<()>> {
        Io::ready(Ok(()))
    }

    fn hard_link(&self, from: &Path, _: &Path) -> Io<IoResult<()>> {
        Io::ready(Err(error(IoErrorKind::Unsupported, "hard_link", from)))
    }

    fn list(&self, dir: &Path) -> Io<IoResult<Vec<DirEntry>>> {
        let state = locked(&self.state);
        let inside = state.files.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Io::ready(Ok(inside.map(|path| DirEntry { name: name(path), is_dir: false }).collect()))
    }

    fn metadata(&self, path: &Path) -> Io<IoResult<Metadata>> {
        let state = locked(&self.state);
        let Some(content) = state.files.get(path) else {
            return Io::ready(Err(error(IoErrorKind::NotFound, "metadata", path)));
        };
        let len = locked(content).bytes.len() as u64;
        Io::ready(Ok(Metadata { len, allocated: len, links: 1, is_dir: false }))
    }

    fn create_dir(&self, _: &Path) -> Io<IoResult<()>> {
        Io::ready(Ok(()))
    }

    fn sync_dir(&self, _: &Path) -> Io<IoResult<()>> {
        Io::ready(Ok(()))
    }

    fn lock(&self, dir: &Path, name: &str, _: LockKind) -> Io<IoResult<Box<dyn DirLock>>> {
        let mut state = locked(&self.state);
        state
            .files
            .entry(dir.join(name))
            .or_insert_with(|| Arc::new(Mutex::new(Content { bytes: Arc::default() })));
        Io::ready(Ok(Box::new(Lock)))
    }

    fn free_space(&self, _: &Path) -> Io<IoResult<FreeSpace>> {
        Io::ready(Ok(FreeSpace { bytes: 1 << 40, inodes: u64::MAX }))
    }
}
