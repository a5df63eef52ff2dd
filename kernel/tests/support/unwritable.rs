//! A world whose disk refuses every call that would change something, whoever asks: the root user is refused nothing by
//! the permissions of a directory, so those prove nothing where tests run as root.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast::env::{
    Access, DirEntry, DirLock, Disk, Env, File, FreeSpace, Io, IoError, IoErrorKind, IoResult, LockKind,
    Metadata, OpenOptions,
};

use super::other_disk::OtherDisk;

/// See the module's header. Files are opened for reading only, so nothing can be written through them.
pub struct Unwritable {
    under: Arc<dyn Env>,
    refused: Arc<AtomicU64>,
}

impl Unwritable {
    /// The world, and how many calls it has refused.
    pub fn over(under: Arc<dyn Env>) -> (Arc<dyn Env>, Arc<AtomicU64>) {
        let refused = Arc::<AtomicU64>::default();
        let disk = Self { under: under.clone(), refused: refused.clone() };
        (Arc::new(OtherDisk { under, disk }), refused)
    }

    fn refuse<T>(&self, operation: &'static str, path: &Path) -> Io<IoResult<T>> {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let (kind, path) = (IoErrorKind::Permission, path.to_path_buf());
        Io::ready(Err(IoError {
            kind,
            operation,
            path,
            offset: None,
            detail: "nothing is written here".into(),
        }))
    }
}

impl Disk for Unwritable {
    fn open(&self, path: &Path, options: OpenOptions) -> Io<IoResult<Arc<dyn File>>> {
        match options.create_new || options.access == Access::ReadWrite {
            true => self.refuse("open for writing", path),
            false => self.under.disk().open(path, options),
        }
    }

    fn rename(&self, from: &Path, _: &Path) -> Io<IoResult<()>> {
        self.refuse("rename", from)
    }

    fn remove(&self, path: &Path) -> Io<IoResult<()>> {
        self.refuse("remove", path)
    }

    fn remove_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.refuse("remove_dir", path)
    }

    fn hard_link(&self, _: &Path, to: &Path) -> Io<IoResult<()>> {
        self.refuse("hard_link", to)
    }

    fn list(&self, dir: &Path) -> Io<IoResult<Vec<DirEntry>>> {
        self.under.disk().list(dir)
    }

    fn metadata(&self, path: &Path) -> Io<IoResult<Metadata>> {
        self.under.disk().metadata(path)
    }

    fn create_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.refuse("create_dir", path)
    }

    fn sync_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.refuse("sync_dir", path)
    }

    fn lock(&self, dir: &Path, _: &str, _: LockKind) -> Io<IoResult<Box<dyn DirLock>>> {
        self.refuse("lock", dir)
    }

    fn free_space(&self, path: &Path) -> Io<IoResult<FreeSpace>> {
        self.under.disk().free_space(path)
    }
}
