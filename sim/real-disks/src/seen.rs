//! What is seen of a file system: every name, size and byte.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use holdfast_sim::SimDisk;

/// Everything below the root, by path without a leading slash. Directories have no entry in `files`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    pub dirs: Vec<String>,
    pub files: BTreeMap<String, SeenFile>,
}

/// A file under one of its names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenFile {
    /// The first of its names, in order: the same for all of them.
    pub first_name: String,
    pub links: u64,
    pub bytes: Vec<u8>,
}

impl Seen {
    /// Reads a mounted file system. `first_name` must stand for the inode number, which differs from disk to disk.
    pub fn on_linux(root: &Path) -> Result<Self, String> {
        let mut seen = Self::default();
        let mut first_names: BTreeMap<u64, String> = BTreeMap::new();
        let mut waiting = vec![String::new()];
        while let Some(dir) = waiting.pop() {
            let path = root.join(&dir);
            let failed = |error: std::io::Error| format!("cannot read /{dir}: {error}");
            let mut names: Vec<String> = Vec::new();
            for entry in fs::read_dir(&path).map_err(failed)? {
                names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            for name in names {
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                let failed = |error: std::io::Error| format!("cannot read /{path}: {error}");
                let metadata = fs::symlink_metadata(root.join(&path)).map_err(failed)?;
                if metadata.is_dir() {
                    if path != "lost+found" {
                        seen.dirs.push(path.clone());
                        waiting.push(path);
                    }
                    continue;
                }
                let mut bytes = Vec::new();
                fs::File::open(root.join(&path))
                    .and_then(|mut file| file.read_to_end(&mut bytes))
                    .map_err(failed)?;
                if bytes.len() as u64 != metadata.len() {
                    return Err(format!("/{path} has {} bytes and says {}", bytes.len(), metadata.len()));
                }
                first_names.entry(metadata.ino()).or_insert_with(|| path.clone());
                let first_name = metadata.ino().to_string();
                seen.files.insert(path, SeenFile { first_name, links: metadata.nlink(), bytes });
            }
        }
        seen.name_by_first(|file| file.first_name.clone());
        Ok(seen)
    }

    /// Reads a simulated disk.
    pub fn on_model(disk: &SimDisk) -> Self {
        let mut seen = Self::default();
        let mut waiting = vec![String::new()];
        while let Some(dir) = waiting.pop() {
            for entry in disk.list(format!("/{dir}")) {
                let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
                if entry.is_dir {
                    seen.dirs.push(path.clone());
                    waiting.push(path);
                    continue;
                }
                let full = format!("/{path}");
                let links = disk.metadata(&full).map_or(0, |metadata| metadata.links);
                let number = disk.number_of(&full).unwrap_or(0);
                let file = SeenFile { first_name: number.to_string(), links, bytes: disk.read_file(&full) };
                seen.files.insert(path, file);
            }
        }
        seen.name_by_first(|file| file.first_name.clone());
        seen
    }

    /// Replaces numbers of files by the first of their names.
    fn name_by_first(&mut self, number: impl Fn(&SeenFile) -> String) {
        self.dirs.sort();
        let mut first_names: BTreeMap<String, String> = BTreeMap::new();
        for (path, file) in &mut self.files {
            file.first_name = first_names.entry(number(file)).or_insert_with(|| path.clone()).clone();
        }
    }

    /// True if both have the same names, bound to the same files.
    pub fn has_names_of(&self, other: &Self) -> bool {
        let names = |seen: &Self| -> Vec<(String, String, u64)> {
            seen.files
                .iter()
                .map(|(path, file)| (path.clone(), file.first_name.clone(), file.links))
                .collect()
        };
        self.dirs == other.dirs && names(self) == names(other)
    }

    /// Names, sizes, and who wrote the bytes, in one line.
    pub fn summary(&self) -> String {
        let dirs = self.dirs.iter().map(|dir| format!("/{dir}/"));
        let files = self.files.iter().map(|(path, file)| {
            let same =
                if file.first_name == *path { String::new() } else { format!(" = /{}", file.first_name) };
            format!("/{path}{same} ({} bytes, {} names: {})", file.bytes.len(), file.links, told(&file.bytes))
        });
        dirs.chain(files).collect::<Vec<_>>().join(", ")
    }
}

/// Which operations wrote these bytes, which begin at a sector's start.
pub fn told(bytes: &[u8]) -> String {
    let mut runs: Vec<(String, usize)> = Vec::new();
    for (word, place) in bytes.chunks(8).zip(0..) {
        let writer = match word {
            [b'H', b'F', high, low, ..] => format!("op {}", u16::from_be_bytes([*high, *low])),
            word if word.iter().all(|byte| *byte == 0) => "zeros".to_owned(),
            _ => continue,
        };
        if runs.last().is_none_or(|(last, _)| *last != writer) {
            runs.push((writer, place * 8));
        }
    }
    let told: Vec<String> = runs.iter().map(|(writer, start)| format!("{writer} from {start}")).collect();
    told.join(", ")
}
