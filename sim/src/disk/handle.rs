//! The simulated disk behind the kernel's traits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::env::{
    Access, Advice, Buf, DirEntry, DirLock, Disk, File, FreeSpace, Io, IoError, IoErrorKind, IoResult,
    LockKind, Metadata, OpenOptions,
};

use super::inode::Route;
use super::{DiskState, Refusal, WriteMode, Written};
use crate::DIRECT_ALIGNMENT;
use crate::env::{SimEnv, Submitted};
use crate::log::Detail;
use crate::state::{Cost, State, Timing};
use crate::timers::Effect;
use crate::trace::Event;

/// What a call is about.
struct About<'a> {
    operation: &'static str,
    name: &'a str,
    /// Number of the file, if one is open.
    file: Option<u64>,
    at: (u64, u64),
    is_durable: bool,
}

impl<'a> About<'a> {
    /// A call about a name.
    fn path(operation: &'static str, name: &'a str) -> Self {
        Self { operation, name, file: None, at: (0, 0), is_durable: false }
    }
}

/// Notes a call and its outcome in the trace.
fn note<T>(state: &mut State, about: &About<'_>, result: &Result<T, Refusal>) {
    let About { operation, name, file, at, is_durable } = *about;
    let kind = match result {
        Ok(_) => 0,
        Err((kind, _)) => 1 + *kind as u64,
    };
    let word = operation.bytes().fold(kind, |word, byte| word.wrapping_mul(31).wrapping_add(u64::from(byte)));
    state.trace.event(Event::Call, word, at.0);
    state.trace.event(Event::Result, at.1, state.processes.len() as u64);
    state.trace.log_with(|| {
        let text = match result {
            Ok(_) => format!("{operation} {name} at {}+{}", at.0, at.1),
            Err((kind, detail)) => format!("{operation} {name} at {}+{}: {kind:?} {detail}", at.0, at.1),
        };
        let (name, is_refused) = (name.to_owned(), result.is_err());
        (
            text,
            Detail::Call {
                operation: operation.into(),
                name,
                file,
                offset: at.0,
                len: at.1,
                is_durable,
                is_refused,
            },
        )
    });
}

fn failure(operation: &'static str, path: &Path, offset: Option<u64>, refusal: Refusal) -> IoError {
    let (kind, detail) = refusal;
    IoError { kind, operation, path: path.to_owned(), offset, detail: detail.to_owned() }
}

impl SimEnv {
    /// A call about names: path in, value out.
    fn directory_call<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &Path,
        cost: Cost,
        run: impl FnOnce(&mut DiskState) -> Result<(T, Effect), Refusal>,
    ) -> Submitted<IoResult<T>> {
        let disk = self.disk;
        self.submit(cost, |state, _| {
            let result = run(&mut state.disks[disk].1);
            if let Some(text) = path.to_str() {
                note(state, &About::path(operation, text), &result);
                state.trace.bytes(text.as_bytes());
            }
            match result {
                Ok((value, effect)) => (Ok(value), effect),
                Err(refusal) => (Err(failure(operation, path, None, refusal)), Effect::None),
            }
        })
    }
}

impl Disk for SimEnv {
    fn open(&self, path: &Path, options: OpenOptions) -> Io<IoResult<Arc<dyn File>>> {
        let who = self.who;
        let (env, owned) = (self.clone(), path.to_owned());
        let submitted = self.submit(Cost::Directory, |state, _| {
            let process = state.process(who);
            let is_full = process.open_files_max.is_some_and(|most| process.open_files.len() >= most);
            let result = if is_full {
                Err((IoErrorKind::TooManyFiles, "the process has as many open files as it may"))
            } else {
                state.disks[env.disk].1.open(path, options.create_new)
            };
            let about = About::path("open", path.to_str().unwrap_or("?"));
            note(state, &About { file: result.as_ref().ok().copied(), ..about }, &result);
            let result = match result {
                Ok(inode) => {
                    state.process(who).open_files.push(inode);
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("?").into();
                    let file: Arc<dyn File> =
                        Arc::new(SimFile(Arc::new(OpenFile { env, inode, path: owned, name, options })));
                    Ok(file)
                }
                Err(refusal) => Err(failure("open", path, None, refusal)),
            };
            (result, Effect::None)
        });
        submitted.into_io()
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<IoResult<()>> {
        self.directory_call("rename", to, Cost::Directory, |disk| Ok((disk.rename(from, to)?, Effect::None)))
            .into_io()
    }

    fn remove(&self, path: &Path) -> Io<IoResult<()>> {
        self.directory_call("remove", path, Cost::Directory, |disk| Ok((disk.remove(path)?, Effect::None)))
            .into_io()
    }

    fn remove_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.directory_call("remove_dir", path, Cost::Directory, |disk| {
            Ok((disk.remove_dir(path)?, Effect::None))
        })
        .into_io()
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Io<IoResult<()>> {
        self.directory_call("hard_link", to, Cost::Directory, |disk| {
            Ok((disk.hard_link(from, to)?, Effect::None))
        })
        .into_io()
    }

    fn list(&self, dir: &Path) -> Io<IoResult<Vec<DirEntry>>> {
        self.directory_call("list", dir, Cost::Cached(0), |disk| {
            disk.refuse_after_abort(false)?;
            Ok((disk.list(dir)?, Effect::None))
        })
        .into_io()
    }

    fn metadata(&self, path: &Path) -> Io<IoResult<Metadata>> {
        self.directory_call("metadata", path, Cost::Cached(0), |disk| {
            disk.refuse_after_abort(false)?;
            Ok((disk.metadata(path)?, Effect::None))
        })
        .into_io()
    }

    fn create_dir(&self, path: &Path) -> Io<IoResult<()>> {
        self.directory_call("create_dir", path, Cost::Directory, |disk| {
            Ok((disk.create_dir(path)?, Effect::None))
        })
        .into_io()
    }

    fn sync_dir(&self, path: &Path) -> Io<IoResult<()>> {
        let disk_number = self.disk;
        self.directory_call("sync_dir", path, Cost::Sync(0), |disk| {
            let (inode, watermark) = disk.start_sync_dir(path)?;
            Ok(((), Effect::SettleDirectory { disk: disk_number, inode, watermark }))
        })
        .into_io()
    }

    fn lock(&self, dir: &Path, name: &str, kind: LockKind) -> Io<IoResult<Box<dyn DirLock>>> {
        let env = self.clone();
        self.directory_call("lock", dir, Cost::Directory, |disk| {
            let number = disk.lock(dir, name, kind, env.who)?;
            let lock: Box<dyn DirLock> = Box::new(SimLock { env, number });
            Ok((lock, Effect::None))
        })
        .into_io()
    }

    fn free_space(&self, path: &Path) -> Io<IoResult<FreeSpace>> {
        self.directory_call("free_space", path, Cost::Cached(0), |disk| Ok((disk.free_space(), Effect::None)))
            .into_io()
    }
}

struct SimLock {
    env: SimEnv,
    number: u64,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.env.shared.state.lock();
        if state.is_alive(self.env.who) {
            state.disks[self.env.disk].1.unlock(self.number);
        }
    }
}

/// What the kernel holds; the futures of its calls hold the rest along.
struct SimFile(Arc<OpenFile>);

struct OpenFile {
    env: SimEnv,
    inode: u64,
    path: PathBuf,
    name: Box<str>,
    options: OpenOptions,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut state = self.env.shared.state.lock();
        if state.is_alive(self.env.who) {
            state.disks[self.env.disk].1.close(self.inode);
            let open_files = &mut state.process(self.env.who).open_files;
            if let Some(position) = open_files.iter().position(|inode| *inode == self.inode) {
                open_files.swap_remove(position);
            }
        }
    }
}

impl OpenFile {
    fn route(&self) -> Route {
        if self.options.direct { Route::Direct } else { Route::Cached }
    }

    fn about(&self, operation: &'static str, at: (u64, u64)) -> About<'_> {
        let is_durable = self.options.dsync;
        About { operation, name: &self.name, file: Some(self.inode), at, is_durable }
    }

    fn failure(&self, operation: &'static str, offset: Option<u64>, refusal: Refusal) -> IoError {
        failure(operation, &self.path, offset, refusal)
    }

    /// Direct I/O must be aligned; a handle for reading writes nothing.
    fn check(&self, offset: u64, len: usize, writes: bool) -> Result<(), Refusal> {
        let unit = DIRECT_ALIGNMENT as u64;
        if self.options.direct && (!offset.is_multiple_of(unit) || !len.is_multiple_of(DIRECT_ALIGNMENT)) {
            return Err((IoErrorKind::Unsupported, "direct I/O is not aligned"));
        }
        if writes && self.options.access == Access::Read {
            return Err((IoErrorKind::Permission, "the file is open for reading only"));
        }
        Ok(())
    }

    fn read_cost(&self, bytes: usize) -> Cost {
        if self.options.direct { Cost::Read(bytes as u64) } else { Cost::Cached(bytes as u64) }
    }

    fn write_cost(&self, bytes: usize) -> Cost {
        match (self.options.dsync, self.options.direct) {
            (true, _) => Cost::Sync(bytes as u64),
            (false, true) => Cost::Write(bytes as u64),
            (false, false) => Cost::Cached(bytes as u64),
        }
    }

    fn read_now(&self, state: &mut State, offset: u64, buf: &mut [u8]) -> IoResult<usize> {
        let disk = &mut state.disks[self.env.disk].1;
        let result = match self.check(offset, buf.len(), false) {
            Ok(()) => disk.read(self.inode, &self.name, offset, buf),
            Err(refusal) => Err(refusal),
        };
        note(state, &self.about("read", (offset, buf.len() as u64)), &result);
        if let Ok(count) = result {
            state.trace.bytes(&buf[..count]);
        }
        result.map_err(|refusal| self.failure("read", Some(offset), refusal))
    }

    fn write_now(
        &self,
        state: &mut State,
        timing: Timing,
        offset: u64,
        parts: &[&[u8]],
    ) -> (IoResult<usize>, Effect) {
        let late = (timing.late && timing.delay > 0).then_some(self.env.who);
        let mode = WriteMode { route: self.route(), dsync: self.options.dsync, late };
        let disk = &mut state.disks[self.env.disk].1;
        let aligned = parts.iter().try_for_each(|part| self.check(offset, part.len(), true));
        let result = aligned.and_then(|()| disk.write(self.inode, &self.name, offset, parts, mode));
        let len: usize = parts.iter().map(|part| part.len()).sum();
        note(state, &self.about("write", (offset, len as u64)), &result);
        for part in parts {
            state.trace.bytes(part);
        }
        match result {
            Ok(Written { count, number }) => (Ok(count), self.write_effect(late.is_some(), number)),
            Err(refusal) => (Err(self.failure("write", Some(offset), refusal)), Effect::None),
        }
    }

    fn write_effect(&self, late: bool, number: u64) -> Effect {
        let (disk, inode) = (self.env.disk, self.inode);
        match (late, self.options.dsync) {
            (false, false) => Effect::None,
            (false, true) => Effect::SettleOnly { disk, inode, number },
            (true, false) => Effect::Land { disk, number },
            (true, true) => Effect::LandDurably { disk, inode, number },
        }
    }

    /// A call that changes the file and has no bytes.
    fn change(
        &self,
        operation: &'static str,
        cost: Cost,
        at: (u64, u64),
        run: impl FnOnce(&mut DiskState) -> Result<Effect, Refusal>,
    ) -> Io<IoResult<()>> {
        self.env
            .submit(cost, |state, _| {
                let result = run(&mut state.disks[self.env.disk].1);
                note(state, &self.about(operation, at), &result);
                match result {
                    Ok(effect) => (Ok(()), effect),
                    Err(refusal) => (Err(self.failure(operation, None, refusal)), Effect::None),
                }
            })
            .into_io()
    }

    fn sync(&self, operation: &'static str, whole: bool) -> Io<IoResult<()>> {
        let (disk, inode) = (self.env.disk, self.inode);
        self.env
            .submit(Cost::Sync(0), |state, _| {
                let reads_old = state.failed_sync_reads_old();
                let result = state.disks[disk].1.start_sync(inode, &self.name);
                if let Err((kind, _)) = result {
                    state.disks[disk].1.fail_sync(inode, reads_old, kind);
                }
                note(state, &self.about(operation, (0, 0)), &result);
                match result {
                    Ok(watermark) => (Ok(()), Effect::Settle { disk, inode, watermark, whole }),
                    Err(refusal) => (Err(self.failure(operation, None, refusal)), Effect::None),
                }
            })
            .into_io()
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, mut buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        let submitted = self.0.env.submit(self.0.read_cost(buf.len()), |state, _| {
            (self.0.read_now(state, offset, &mut buf), Effect::None)
        });
        match submitted {
            Submitted::Now(result) => Io::ready((result, buf)),
            Submitted::Never => Io::waiting(std::future::pending()),
            Submitted::Later { ticket, value, late } => {
                let file = Arc::clone(&self.0);
                Io::waiting(async move {
                    ticket.await;
                    if late && value.is_ok() {
                        let result = file.read_now(&mut file.env.shared.state.lock(), offset, &mut buf);
                        return (result, buf);
                    }
                    (value, buf)
                })
            }
        }
    }

    fn read_many(&self, mut reads: Vec<(u64, Buf)>) -> Io<Vec<(IoResult<usize>, Buf)>> {
        let bytes = reads.iter().map(|(_, buf)| buf.len()).sum();
        let submitted = self.0.env.submit(self.0.read_cost(bytes), |state, _| {
            let results: Vec<IoResult<usize>> =
                reads.iter_mut().map(|(offset, buf)| self.0.read_now(state, *offset, buf)).collect();
            (results, Effect::None)
        });
        let paired = |results: Vec<IoResult<usize>>| {
            results.into_iter().zip(reads).map(|(result, (_, buf))| (result, buf)).collect()
        };
        match submitted {
            Submitted::Now(results) => Io::ready(paired(results)),
            Submitted::Never => Io::waiting(std::future::pending()),
            Submitted::Later { ticket, value, .. } => {
                let results = paired(value);
                Io::waiting(async move {
                    ticket.await;
                    results
                })
            }
        }
    }

    fn write_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        let submitted = self.0.env.submit(self.0.write_cost(buf.len()), |state, timing| {
            self.0.write_now(state, timing, offset, &[&buf])
        });
        match submitted {
            Submitted::Now(result) => Io::ready((result, buf)),
            Submitted::Never => Io::waiting(std::future::pending()),
            Submitted::Later { ticket, value, .. } => Io::waiting(async move {
                ticket.await;
                (value, buf)
            }),
        }
    }

    fn write_vectored_at(&self, offset: u64, bufs: Vec<Buf>) -> Io<(IoResult<usize>, Vec<Buf>)> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        let submitted = self.0.env.submit(self.0.write_cost(bytes), |state, timing| {
            let parts: Vec<&[u8]> = bufs.iter().map(|buf| &**buf).collect();
            self.0.write_now(state, timing, offset, &parts)
        });
        match submitted {
            Submitted::Now(result) => Io::ready((result, bufs)),
            Submitted::Never => Io::waiting(std::future::pending()),
            Submitted::Later { ticket, value, .. } => Io::waiting(async move {
                ticket.await;
                (value, bufs)
            }),
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        self.0.change("allocate", Cost::Directory, (offset, len), |disk| {
            self.0.check(0, 0, true)?;
            disk.allocate(self.0.inode, &self.0.name, offset, len)?;
            Ok(Effect::None)
        })
    }

    fn zero_range(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        self.0.change("zero_range", Cost::Write(0), (offset, len), |disk| {
            self.0.check(0, 0, true)?;
            let mode = WriteMode { route: self.0.route(), dsync: self.0.options.dsync, late: None };
            let number = disk.zero(self.0.inode, &self.0.name, offset, len, mode)?.number;
            Ok(self.0.write_effect(false, number))
        })
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        self.0.change("punch_hole", Cost::Directory, (offset, len), |disk| {
            self.0.check(0, 0, true)?;
            disk.refuse_after_abort(true)?;
            disk.punch(self.0.inode, offset, len);
            Ok(Effect::None)
        })
    }

    fn truncate(&self, len: u64) -> Io<IoResult<()>> {
        self.0.change("truncate", Cost::Directory, (len, 0), |disk| {
            self.0.check(0, 0, true)?;
            disk.refuse_after_abort(true)?;
            disk.truncate(self.0.inode, len);
            Ok(Effect::None)
        })
    }

    fn sync_data(&self) -> Io<IoResult<()>> {
        self.0.sync("sync_data", false)
    }

    fn sync_all(&self) -> Io<IoResult<()>> {
        self.0.sync("sync_all", true)
    }

    fn len(&self) -> Io<IoResult<u64>> {
        self.0
            .env
            .submit(Cost::Cached(0), |state, _| {
                let size = state.disks[self.0.env.disk].1.size(self.0.inode);
                note(state, &self.0.about("len", (size, 0)), &Ok(()));
                (Ok(size), Effect::None)
            })
            .into_io()
    }

    fn advise(&self, _: u64, _: u64, _: Advice) {}

    fn alignment(&self) -> usize {
        if self.0.options.direct { DIRECT_ALIGNMENT } else { 1 }
    }
}
