//! A file system on a recording device: made, mounted and unmounted, and taken away on every way out.
//!
//! Everything belongs to one directory below the system's temporary one, named after this process. A process that was
//! killed leaves such a directory behind; the next one finds it, sees that its owner is gone, and takes its mounts and
//! loop device away. No loop device is touched whose file does not lie in such a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::device::Device;
use crate::file_system::FileSystem;
use crate::fuse::{NAME, OneFile};

const PREFIX: &str = "holdfast-real-disks-";
const BUSY_TRIES: u32 = 200;

/// See the module's header. Fields are dropped in their order: the loop device before the file it needs.
pub struct Rig {
    pub device: Arc<Device>,
    file_system: FileSystem,
    loop_device: Option<Loop>,
    session: Option<BackgroundSession>,
    directory: PathBuf,
}

struct Loop(PathBuf);

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run("losetup", &["--detach".as_ref(), self.0.as_os_str()]) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// A mounted file system; dropping it unmounts.
pub struct Mounted<'a>(&'a Rig);

impl Rig {
    /// Makes a file system of this kind, and takes away what dead processes left.
    pub fn new(file_system: FileSystem) -> Result<Self, String> {
        clear_leftovers();
        let directory =
            std::env::temp_dir().join(format!("{PREFIX}{}-{}", std::process::id(), file_system.name()));
        for part in ["fuse", "mnt"] {
            let path = directory.join(part);
            fs::create_dir_all(&path)
                .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        }
        let device = Device::new(file_system.device_bytes());
        let mut rig =
            Self { device: Arc::clone(&device), file_system, loop_device: None, session: None, directory };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("holdfast-real-disks".into()), MountOption::NoAtime];
        let session =
            fuser::spawn_mount(OneFile(device), rig.directory.join("fuse"), &config).map_err(|error| {
                format!("cannot mount a FUSE file system; root and /dev/fuse are needed: {error}")
            })?;
        rig.session = Some(session);
        let file = rig.directory.join("fuse").join(NAME);
        let attach = ["--find", "--show", "--direct-io=on", "--sector-size=512"].map(AsRef::as_ref);
        let shown = run("losetup", &[&attach[..], &[file.as_os_str()]].concat())?;
        rig.loop_device = Some(Loop(PathBuf::from(shown.trim())));
        rig.check_direct()?;
        let mut make: Vec<&std::ffi::OsStr> = file_system.mkfs_options().iter().map(AsRef::as_ref).collect();
        make.push(rig.loop_path().as_os_str());
        run(file_system.mkfs(), &make)?;
        rig.device.settle();
        Ok(rig)
    }

    fn loop_path(&self) -> &Path {
        self.loop_device.as_ref().map_or(Path::new(""), |device| &device.0)
    }

    /// With a page cache in between, the log would not be what the file system did.
    fn check_direct(&self) -> Result<(), String> {
        let name = self.loop_path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let path = format!("/sys/block/{name}/loop/dio");
        match fs::read_to_string(&path) {
            Ok(text) if text.trim() == "1" => Ok(()),
            Ok(_) => {
                Err(format!("{} does no direct I/O over FUSE on this kernel", self.loop_path().display()))
            }
            Err(error) => Err(format!("cannot read {path}: {error}")),
        }
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.directory.join("mnt")
    }

    /// Mounts it; what the device holds is recovered by that.
    pub fn mount(&self) -> Result<Mounted<'_>, String> {
        let options = self.file_system.mount_options();
        let name = self.file_system.name();
        match mount(Some(self.loop_path()), &self.root(), Some(name), MsFlags::empty(), Some(options)) {
            Ok(()) => Ok(Mounted(self)),
            Err(error) => Err(format!("cannot mount {name}: {error}")),
        }
    }
}

impl Mounted<'_> {
    /// Unmounts it and says so if that fails.
    pub fn unmount(self) -> Result<(), String> {
        let root = self.0.root();
        std::mem::forget(self);
        unmount(&root)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0.root()) {
            eprintln!("{error}");
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.loop_device = None;
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("the FUSE file system stays mounted: {error}");
        }
        let _ = fs::remove_dir(self.directory.join("fuse"));
        let _ = fs::remove_dir(self.directory.join("mnt"));
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Somebody who looks at all mounts, as a file indexer, may keep one busy for a moment.
fn unmount(path: &Path) -> Result<(), String> {
    let mut tries = 0;
    loop {
        match umount2(path, MntFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(nix::errno::Errno::EBUSY) if tries < BUSY_TRIES => thread::sleep(Duration::from_millis(10)),
            Err(error) => {
                let _ = umount2(path, MntFlags::MNT_DETACH);
                return Err(format!("cannot unmount {}: {error}", path.display()));
            }
        }
        tries += 1;
    }
}

/// Runs a program; gives what it printed.
fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{program} is missing: install the package {}", FileSystem::package_of(program))
        }
        _ => format!("cannot run {program}: {error}"),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Takes away what processes left that are dead.
fn clear_leftovers() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if Path::new("/proc").join(owner).exists() {
            continue;
        }
        let directory = entry.path();
        let _ = umount2(&directory.join("mnt"), MntFlags::MNT_DETACH);
        if let Ok(list) =
            run("losetup", &["--list", "--noheadings", "--output=NAME,BACK-FILE"].map(AsRef::as_ref))
        {
            let is_its = |line: &&str| line.contains(&*directory.to_string_lossy());
            for line in list.lines().filter(is_its) {
                if let Some(device) = line.split_ascii_whitespace().next() {
                    drop(Loop(PathBuf::from(device)));
                }
            }
        }
        let _ = umount2(&directory.join("fuse"), MntFlags::MNT_DETACH);
        for part in ["fuse", "mnt", ""] {
            let _ = fs::remove_dir(directory.join(part));
        }
    }
}
