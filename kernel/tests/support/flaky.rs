//! A world that passes everything on to another one, but lets reads of some files, and syncs and locks of some
//! directories, fail or take long for a while.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast::env::{
    Advice, Buf, DirEntry, DirLock, Disk, Env, File, FreeSpace, Io, IoError, IoErrorKind, IoResult, LockKind,
    Metadata, OpenOptions,
};

use super::other_disk::OtherDisk;

/// What the reads of a flaky world share with the test.
#[derive(Default)]
pub struct Reads {
    /// So many reads in a row will fail, as far as they are left.
    pub failing: AtomicU32,
    pub failed: AtomicU32,
    /// What begins now, a read or a sync of a directory, is answered so much later than it was done.
    pub late_ns: AtomicU64,
    /// How every lock of the directory is answered, if at all.
    pub lock_refused: Mutex<Option<IoErrorKind>>,
}

impl Reads {
    fn late<T: Send + 'static>(&self, env: &Arc<dyn Env>, done: Io<T>) -> Io<T> {
        let late_ns = self.late_ns.load(Ordering::Relaxed);
        if late_ns == 0 {
            return done;
        }
        let env = env.clone();
        Io::waiting(async move {
            let answer = done.await;
            env.sleep_until(env.now().after(late_ns)).await;
            answer
        })
    }
}

/// See the module's header.
pub struct Flaky {
    inner: Arc<dyn Env>,
    suffix: &'static str,
    reads: Arc<Reads>,
}

struct FlakyFile {
    env: Arc<dyn Env>,
    inner: Arc<dyn File>,
    path: std::path::PathBuf,
    reads: Arc<Reads>,
}

impl Flaky {
    /// Reads of files whose names end in `suffix` fail with `Transient` while `reads` says so.
    pub fn over(inner: Arc<dyn Env>, suffix: &'static str) -> (Arc<dyn Env>, Arc<Reads>) {
        let reads = Arc::new(Reads::default());
        let disk = Self { inner: inner.clone(), suffix, reads: reads.clone() };
        (Arc::new(OtherDisk { under: inner, disk }), reads)
    }
}

impl FlakyFile {
    fn fails(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        let fails = self.reads.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        self.reads.failed.fetch_add(u32::from(fails), Ordering::Relaxed);
        fails
    }

    fn error(&self, offset: u64) -> IoError {
        IoError {
            kind: IoErrorKind::Transient,
            operation: "read",
            path: self.path.clone(),
            offset: Some(offset),
            detail: "for a moment".into(),
        }
    }
}

impl File for FlakyFile {
    fn read_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        match self.fails() {
            true => Io::ready((Err(self.error(offset)), buf)),
            false => self.reads.late(&self.env, self.inner.read_at(offset, buf)),
        }
    }

    fn read_many(&self, reads: Vec<(u64, Buf)>) -> Io<Vec<(IoResult<usize>, Buf)>> {
        if self.fails() {
            return Io::ready(reads.into_iter().map(|(at, buf)| (Err(self.error(at)), buf)).collect());
        }
        self.reads.late(&self.env, self.inner.read_many(reads))
    }

    fn write_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        self.inner.write_at(offset, buf)
    }

    fn write_vectored_at(&self, offset: u64, bufs: Vec<Buf>) -> Io<(IoResult<usize>, Vec<Buf>)> {
        self.inner.write_vectored_at(offset, bufs)
    }

    fn allocate(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        self.inner.allocate(offset, len)
    }

    fn zero_range(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        self.inner.zero_range(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        self.inner.punch_hole(offset, len)
    }

    fn truncate(&self, len: u64) -> Io<IoResult<()>> {
        self.inner.truncate(len)
    }

    fn sync_data(&self) -> Io<IoResult<()>> {
        self.inner.sync_data()
    }

    fn sync_all(&self) -> Io<IoResult<()>> {
        self.inner.sync_all()
    }

    fn len(&self) -> Io<IoResult<u64>> {
        self.inner.len()
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        self.inner.advise(offset, len, advice);
    }

    fn alignment(&self) -> usize {
        self.inner.alignment()
    }
}

impl Disk for Flaky {
    fn open(&self, path: &Path, options: OpenOptions) -> Io<IoResult<Arc<dyn File>>> {
        let opening = self.inner.disk().open(path, options);
        if !path.to_string_lossy().ends_with(self.suffix) {
            return opening;
        }
        let (env, path, reads) = (self.inner.clone(), path.to_path_buf(), self.reads.clone());
        Io::waiting(async move {
            let inner = opening.await?;
            let file: Arc<dyn File> = Arc::new(FlakyFile { env, inner, path, reads });
            Ok(file)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<IoResult<()>> {
        self.inner.disk().rename(from, to)
    }

    fn remove(&self, path: &Path) -> Io<IoResult<()>> {
        self.inner.disk().remove(path)
    }

    fn remove_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.inner.disk().remove_dir(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Io<IoResult<()>> {
        self.inner.disk().hard_link(from, to)
    }

    fn list(&self, dir: &Path) -> Io<IoResult<Vec<DirEntry>>> {
        self.inner.disk().list(dir)
    }

    fn metadata(&self, path: &Path) -> Io<IoResult<Metadata>> {
        self.inner.disk().metadata(path)
    }

    fn create_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.inner.disk().create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Io<IoResult<()>> {
        let synced = self.inner.disk().sync_dir(path);
        match path.to_string_lossy().ends_with(self.suffix) {
            true => self.reads.late(&self.inner, synced),
            false => synced,
        }
    }

    fn lock(&self, dir: &Path, name: &str, kind: LockKind) -> Io<IoResult<Box<dyn DirLock>>> {
        let refused = *self.reads.lock_refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = refused.filter(|_| dir.to_string_lossy().ends_with(self.suffix)) {
            let (path, detail) = (dir.join(name), "for a moment".into());
            return Io::ready(Err(IoError { kind, operation: "lock", path, offset: None, detail }));
        }
        self.inner.disk().lock(dir, name, kind)
    }

    fn free_space(&self, path: &Path) -> Io<IoResult<FreeSpace>> {
        self.inner.disk().free_space(path)
    }
}
