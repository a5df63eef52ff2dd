//! Directories to work in, their size, and what a process has used.

use std::io;
use std::path::{Path, PathBuf};

/// A directory that is removed at the end, unless it is asked to stay.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A fresh directory under `parent`, or under the system's temporary directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(name: &str, parent: Option<&Path>) -> io::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        for attempt in 0u32.. {
            let path = parent.join(format!("holdfast-{name}-{}-{attempt}", std::process::id()));
            match std::fs::create_dir_all(&parent).and_then(|()| std::fs::create_dir(&path)) {
                Ok(()) => return Ok(Self { path, keep: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it in place, for somebody to look at.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What stays behind lies in a temporary directory.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// Bytes of all files in `dir`, by length.
///
/// # Errors
/// If it cannot be read.
pub fn bytes_of(dir: &Path) -> io::Result<u64> {
    bytes_of_kind(dir, "")
}

/// Bytes of the files in `dir` whose names end so.
///
/// # Errors
/// If it cannot be read.
pub fn bytes_of_kind(dir: &Path, ending: &str) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().ends_with(ending) {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) => sum += metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// The greatest resident memory of this process so far, in bytes (`VmHWM`).
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// Makes [`peak_memory_bytes`] start again from what is used now.
///
/// # Errors
/// If the system refuses.
pub fn reset_peak_memory() -> io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}
