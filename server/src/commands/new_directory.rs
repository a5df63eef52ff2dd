//! A directory that has its name only when what is in it is whole.
//!
//! It is made beside its place as `NAME.unfinished`, which no command opens, filled, and renamed last. An error, or a
//! signal that asks the process to end ([`signals`](crate::signals)), removes what was begun; a process that is killed
//! leaves it under the name that tells what it is.
//!
//! It must not lie in the directory that it is made from, in whichever way the two are spelled.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use holdfast::blocking::block_on;
use holdfast::env::Env;
use holdfast::env::linux::LinuxEnv;

use super::unfinished::{Guard, remove, unfinished_path};
use crate::exit::Failure;
use crate::quoted::quoted;

/// Refuses a place in the directory of a database, where nothing but its own files belongs.
pub(super) fn must_lie_outside(database: &Path, into: &Path) -> Result<(), Failure> {
    let env = LinuxEnv::new();
    let resolve = |path: &Path| block_on(env.disk().resolve(path)).map_err(holdfast::Error::from);
    if resolve(into)?.starts_with(resolve(database)?) {
        return Err(Failure::WrongUse(format!(
            "{} lies in the directory of the original, {}, where nothing but its own files belongs; choose another \
             place",
            into.display(),
            database.display()
        )));
    }
    Ok(())
}

/// Where a directory is made, and where it belongs.
pub(super) struct NewDirectory<'a> {
    unfinished: PathBuf,
    into: &'a Path,
}

impl<'a> NewDirectory<'a> {
    /// Checks that both are free and outside of `original`, and that there is a directory to make them in.
    pub(super) fn beside(into: &'a Path, original: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| Err(Failure::WrongUse(what));
        let place = Self { unfinished: unfinished_path(into, "directory")?, into };
        if let Some(target) = place.link_target() {
            return wrong(format!(
                "{} is a symbolic link to {}, and a directory cannot take its name; give the directory to make by its \
                 own name, or remove the link",
                into.display(),
                target.display()
            ));
        }
        if place.unfinished.symlink_metadata().is_ok() {
            return Err(place.left_over());
        }
        let parent = place.parent();
        if !parent.is_dir() && !parent.is_file() {
            let (parent, into) = (parent.display(), into.display());
            return wrong(format!("there is no directory {parent} to make {into} in; create it first"));
        }
        must_lie_outside(original, into)?;
        match std::fs::read_dir(into).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return wrong(format!("{} is not empty; give a new directory", into.display())),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::io(into.display().to_string(), error));
            }
            _ => {}
        }
        Ok(place)
    }

    /// Has it filled, and gives it its name, durably. If either fails what was made is removed; what cannot be is named.
    pub(super) fn fill<T>(&self, fill: impl FnOnce(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
        let guard = Guard::watch().map_err(|error| Failure::io("watching for signals", error))?;
        // Held meanwhile, so that a signal finds either no directory or one that it knows of.
        let mut begun = guard.lock();
        // Whoever makes the directory owns it: a second run at the same time is told that it is there.
        std::fs::create_dir(&self.unfinished).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => self.left_over(),
            _ => Failure::io(self.unfinished.display().to_string(), error),
        })?;
        *begun = Some(self.unfinished.clone());
        drop(begun);
        let filled = fill(&self.unfinished);
        // Held to the end: a signal that comes now finds it whole or given up. One that came before holds it until the
        // process is gone, so that nothing is said of files that it took away.
        let mut begun = guard.lock();
        let named = filled.and_then(|filled| self.take().map(|()| filled));
        match named {
            Ok(filled) => {
                *begun = None;
                Ok(filled)
            }
            Err(failure) => Err(match remove(&mut begun) {
                Some(left) => Failure::Unfinished { failure: Box::new(failure), left },
                None => failure,
            }),
        }
    }

    fn take(&self) -> Result<(), Failure> {
        let renamed = std::fs::rename(&self.unfinished, self.into);
        renamed.map_err(|error| Failure::io(self.into.display().to_string(), error))?;
        let synced = File::open(self.parent()).and_then(|dir| dir.sync_all());
        synced.map_err(|error| Failure::io(self.parent().display().to_string(), error))
    }

    /// Where a link of that name leads. A name may end with a slash, behind which Linux would see the target only.
    fn link_target(&self) -> Option<PathBuf> {
        std::fs::read_link(self.into.with_file_name(self.into.file_name()?)).ok()
    }

    fn parent(&self) -> &Path {
        let parent = self.into.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    fn left_over(&self) -> Failure {
        let (left, word) = (self.unfinished.display(), quoted(&self.unfinished));
        Failure::WrongUse(format!(
            "{left} is left over from a run that was killed, or is being filled by one that is under way; \
             if none is, remove it (rm -r {word}) and run this again"
        ))
    }
}
