//! What tests of a whole database share: small settings, a directory's image name by name, a scratch directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{KeyspaceOptions, Options};
use holdfast_sim::{Process, SimDisk, World};

/// The directory of the database on a simulated disk.
pub const DIR: &str = "/db";

/// Settings under which a few hundred commits reach every part of the kernel.
pub fn small_options() -> Options {
    Options {
        memory_limit_bytes: 8 << 20,
        memtable_bytes: 4 << 10,
        log_segment_bytes_max: 64 << 10,
        log_bytes_max: 128 << 10,
        reserve_bytes: 4 << 10,
        ..Options::default()
    }
}

/// The same of a keyspace.
pub fn small_keyspace() -> KeyspaceOptions {
    KeyspaceOptions {
        block_bytes: 256,
        table_bytes: 16 << 10,
        level0_tables: 1,
        level1_bytes: 16 << 10,
        level_ratio: 2,
        ..KeyspaceOptions::default()
    }
}

/// Every path of a disk; the bytes of files, none for directories.
pub type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Everything on a simulated disk, as a process would see it.
pub fn image(disk: &SimDisk) -> Image {
    let mut image = Image::new();
    let mut open = vec![PathBuf::from("/")];
    while let Some(dir) = open.pop() {
        for entry in disk.list(&dir) {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                open.push(path.clone());
                image.insert(path, None);
            } else {
                let bytes = disk.read_file(&path);
                image.insert(path, Some(bytes));
            }
        }
    }
    image
}

/// Everything in a real directory.
pub fn real_image(dir: &Path) -> Image {
    let mut image = Image::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a test's own files can be had") {
            let path = entry.expect("a test's own files can be had").path();
            if path.is_dir() {
                open.push(path.clone());
                image.insert(path, None);
            } else {
                let bytes = std::fs::read(&path).expect("a test's own files can be had");
                image.insert(path, Some(bytes));
            }
        }
    }
    image
}

/// Demands that two images are the same, and names what differs.
#[track_caller]
pub fn assert_same(before: &Image, after: &Image, what: &str) {
    for path in before.keys().chain(after.keys()) {
        assert!(before.get(path) == after.get(path), "{what}: {} is not as it was", path.display());
    }
}

/// Runs a script in a fresh process of a fresh world and gives its result.
pub fn simulate<T, F>(seed: u64, script: impl FnOnce(World, Process) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    holdfast_sim::run(seed, move |world| {
        let process = world.process("db");
        script(world, process)
    })
    .result
}

/// Runs a future of the kernel where it belongs: in the process.
pub async fn within<T, F>(process: &Process, script: impl FnOnce(Arc<dyn Env>) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    process.run(script(process.env())).await.expect("nobody killed the process")
}

/// A real directory that is removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("holdfast-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir(&path).expect("a test's own files can be had");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
