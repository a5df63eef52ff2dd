//! A file that has its name only when it is whole.
//!
//! It is written beside its place as `NAME.unfinished`, synced, and renamed last, never over another file. So whatever
//! has the final name is complete and durable, also after a crash. An error, or a signal that asks the process to end
//! ([`signals`](crate::signals)), removes what was begun; a process that is killed leaves it under the name that tells
//! what it is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::exit::{Failure, NAME_BYTES_MAX};
use crate::quoted::quoted;
use crate::signals;
use crate::stderr;
use crate::visible::beginning;

const ENDING: &str = ".unfinished";
const REMOVE_ATTEMPTS: u32 = 100;

/// A file in the making. Dropped before [`finish`](Self::finish) it is removed.
pub(super) struct Unfinished<'a> {
    into: &'a Path,
    path: PathBuf,
    file: File,
    guard: Guard,
}

/// The file or directory that is to be removed if the process is told to end; `None` once it has its final name.
#[derive(Clone)]
pub(super) struct Guard(Arc<Mutex<Option<PathBuf>>>);

impl<'a> Unfinished<'a> {
    /// Begins the file that shall be `into`.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] if that name, or the one of the unfinished file, is taken; what the operating system says.
    pub(super) fn create(into: &'a Path) -> Result<Self, Failure> {
        let path = unfinished_path(into, "file")?;
        if into.symlink_metadata().is_ok() {
            return Err(taken(into));
        }
        let failed = |error| Failure::io(into.display().to_string(), error);
        let guard = Guard::watch().map_err(failed)?;
        // Held meanwhile, so that a signal finds either no file or one that it knows of.
        let mut begun = guard.lock();
        let file = File::create_new(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::WrongUse(format!(
                "{} is left from an export that was killed, or is being written; remove it, or choose another name",
                path.display()
            )),
            _ => failed(error),
        })?;
        *begun = Some(path.clone());
        drop(begun);
        Ok(Self { into, path, file, guard })
    }

    /// Where to write.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes what was written durable and gives it its name.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] if the name was taken meanwhile: what was written is then kept as the unfinished file.
    /// What the operating system says.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let failed = |error| Failure::io(self.path.display().to_string(), error);
        self.file.sync_all().map_err(failed)?;
        // Held to the end: a signal that comes now finds the file whole, under whichever name.
        let mut begun = self.guard.lock();
        let path = tempfile::TempPath::try_from_path(&self.path).map_err(failed)?;
        *begun = None;
        if let Err(refused) = path.persist_noclobber(self.into) {
            let (error, path) = (refused.error, refused.path);
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(failed(error));
            }
            path.keep().map_err(|kept| failed(kept.error))?;
            return Err(Failure::WrongUse(format!(
                "{} appeared meanwhile and was left as it is; the whole export stands in {}, rename it",
                self.into.display(),
                self.path.display()
            )));
        }
        let parent = self.into.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let synced = File::open(parent).and_then(|directory| directory.sync_all());
        synced.map_err(|error| Failure::io(parent.display().to_string(), error))
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.guard.remove();
    }
}

/// Where that is made which shall be `into`, a `kind` of thing.
///
/// # Errors
/// [`Failure::WrongUse`] if `into` has no name, or one that is too long with the other's ending.
pub(super) fn unfinished_path(into: &Path, kind: &str) -> Result<PathBuf, Failure> {
    let Some(name) = into.file_name() else {
        return Err(Failure::WrongUse(format!("{} names no {kind}; give a new one", into.display())));
    };
    let bytes_max = NAME_BYTES_MAX - ENDING.len();
    if name.len() > bytes_max {
        return Err(Failure::WrongUse(format!(
            "the name {} is too long: {bytes_max} bytes are allowed, for {ENDING} stands behind it until the {kind} is \
             whole; choose a shorter one",
            beginning(&name.to_string_lossy())
        )));
    }
    let mut unfinished = name.to_os_string();
    unfinished.push(ENDING);
    Ok(into.with_file_name(unfinished))
}

fn taken(into: &Path) -> Failure {
    Failure::WrongUse(format!("{} exists already; choose another name, or remove it first", into.display()))
}

impl Guard {
    /// From now on a signal that asks the process to end removes what is guarded, then ends it as it always would.
    pub(super) fn watch() -> io::Result<Self> {
        Self::watch_with(|| ())
    }

    /// As [`watch`](Self::watch); `first` ends what would go on to write.
    pub(super) fn watch_with(first: impl Fn() + Send + 'static) -> io::Result<Self> {
        let guard = Self(Arc::default());
        let mut signals = Signals::new(signals::that_end())?;
        let guarded = guard.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                let mut begun = guarded.lock();
                // What is said from now on of files that vanish is no news.
                let hold = stderr::hold();
                first();
                match remove(&mut begun) {
                    None => std::mem::forget(hold),
                    left => {
                        drop(hold);
                        tell_left(left);
                    }
                }
                // The lock is held until the process is gone, so nothing gets its final name any more.
                let _ = emulate_default_handler(signal);
            }
        })?;
        Ok(guard)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is guarded, if it is there still.
    pub(super) fn remove(&self) {
        tell_left(remove(&mut self.lock()));
    }
}

/// Removes what was begun; gives what is left of it.
pub(super) fn remove(begun: &mut Option<PathBuf>) -> Option<PathBuf> {
    let path = begun.take()?;
    // While a directory is removed, who fills it may make another file in it.
    for _ in 0..REMOVE_ATTEMPTS {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if removed.is_ok() || path.symlink_metadata().is_err() {
            return None;
        }
    }
    Some(path)
}

fn tell_left(left: Option<PathBuf>) {
    if let Some(left) = left {
        let (left, word) = (left.display(), quoted(&left));
        super::note(format_args!("{left} could not be removed; remove it (rm -r {word}) and run this again"));
    }
}
