//! Sequences of operations of the kinds that the kernel does, drawn from a seed.
//!
//! A sequence has two parts: what is there and durable when it begins, and 5 to 15 operations whose effects a power
//! loss may take. Each file is reached by one handle of one mode, for the kernel never mixes cached and direct writes.
//! Every byte written tells which operation wrote it and where:
//!
//! ```text
//! 48 46 | number of the operation, 2 bytes | offset in the file / 8, 4 bytes       big-endian, at offsets divisible by 8
//! ```

use std::collections::BTreeMap;
use std::fmt;

use crate::draw::Draw;
use crate::file_system::FileSystem;

const MARK: [u8; 2] = *b"HF";
const SECTOR: usize = 512;
const FILE_BYTES_MAX: u64 = 96 << 10;
/// Changes without bytes multiply the answers that must be tried when a state is judged.
const RANGES_MAX: usize = 4;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    pub direct: bool,
    pub dsync: bool,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direct = if self.direct { " direct" } else { "" };
        let dsync = if self.dsync { " dsync" } else { "" };
        write!(f, "{direct}{dsync}")
    }
}

/// One operation. A slot names a file that was created, whatever its names are by now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    Create {
        slot: usize,
        path: String,
        mode: Mode,
    },
    /// The file's handle is replaced by one of another mode, on the same way to the file.
    Reopen {
        slot: usize,
        path: String,
        mode: Mode,
    },
    Write {
        slot: usize,
        offset: u64,
        len: u64,
    },
    Allocate {
        slot: usize,
        offset: u64,
        len: u64,
    },
    Zero {
        slot: usize,
        offset: u64,
        len: u64,
    },
    Punch {
        slot: usize,
        offset: u64,
        len: u64,
    },
    Truncate {
        slot: usize,
        len: u64,
    },
    SyncData {
        slot: usize,
    },
    SyncAll {
        slot: usize,
    },
    SyncDir {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    CreateDir {
        path: String,
    },
    /// The system begins to write the cached bytes of a file, as it may at any time: no operation of the model.
    WriteBack {
        slot: usize,
    },
    /// The system writes everything, as it may at any time: no operation of the model.
    Commit,
}

impl Operation {
    /// The file that it writes to or syncs.
    pub fn slot(&self) -> Option<usize> {
        match self {
            Self::SyncData { slot } | Self::SyncAll { slot } | Self::Write { slot, .. } => Some(*slot),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { slot, path, mode } => write!(f, "create /{path} as file {slot}{mode}"),
            Self::Reopen { slot, path, mode } => write!(f, "open /{path} as file {slot}{mode}"),
            Self::Write { slot, offset, len } => write!(f, "write file {slot} at {offset}+{len}"),
            Self::Allocate { slot, offset, len } => write!(f, "allocate file {slot} at {offset}+{len}"),
            Self::Zero { slot, offset, len } => write!(f, "zero_range file {slot} at {offset}+{len}"),
            Self::Punch { slot, offset, len } => write!(f, "punch_hole file {slot} at {offset}+{len}"),
            Self::Truncate { slot, len } => write!(f, "truncate file {slot} to {len}"),
            Self::SyncData { slot } => write!(f, "sync_data file {slot}"),
            Self::SyncAll { slot } => write!(f, "sync_all file {slot}"),
            Self::SyncDir { path } => write!(f, "sync_dir /{path}"),
            Self::Rename { from, to } => write!(f, "rename /{from} to /{to}"),
            Self::Link { from, to } => write!(f, "hard_link /{from} as /{to}"),
            Self::Remove { path } => write!(f, "remove /{path}"),
            Self::CreateDir { path } => write!(f, "create_dir /{path}"),
            Self::WriteBack { slot } => write!(f, "the system writes back file {slot}"),
            Self::Commit => write!(f, "the system commits"),
        }
    }
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub seed: u64,
    pub before: Vec<Operation>,
    pub operations: Vec<Operation>,
}

impl Sequence {
    /// The sequence of a seed.
    pub fn of(seed: u64, file_system: FileSystem) -> Self {
        let mut drawing = Drawing {
            draw: Draw::new(seed),
            file_system,
            names: BTreeMap::new(),
            files: Vec::new(),
            dirs: vec![String::new()],
            ranges: 0,
        };
        let mut before = Vec::new();
        if drawing.draw.chance(2, 3) {
            drawing.create_dir(&mut before);
        }
        for _ in 0..drawing.draw.below(3) {
            drawing.create(&mut before);
            if drawing.draw.chance(3, 4) {
                drawing.write(&mut before);
            }
        }
        let mut operations = Vec::new();
        let count = 5 + drawing.draw.below(11) as usize;
        while operations.len() < count {
            drawing.any(&mut operations);
        }
        Self { seed, before, operations }
    }

    /// All operations with their numbers, which the bytes that they write carry.
    pub fn all(&self) -> impl Iterator<Item = (u16, &Operation)> {
        (1..).zip(self.before.iter().chain(&self.operations))
    }

    /// How the file in a slot is open when the operation of this number is done.
    pub fn mode_of(&self, slot: usize, number: u16) -> Mode {
        let opened = self.all().take(usize::from(number)).filter_map(|(_, operation)| match operation {
            Operation::Create { slot: opened, mode, .. } | Operation::Reopen { slot: opened, mode, .. } => {
                (*opened == slot).then_some(*mode)
            }
            _ => None,
        });
        opened.last().unwrap_or(Mode { direct: false, dsync: false })
    }

    /// The number of an operation of the second part.
    pub fn number_of(&self, position: usize) -> u16 {
        (self.before.len() + position + 1) as u16
    }
}

/// The bytes that an operation writes.
pub fn bytes_of(number: u16, offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len)
        .map(|at| {
            let word = (u64::from(u16::from_be_bytes(MARK)) << 48) | (u64::from(number) << 32) | (at / 8);
            word.to_be_bytes()[(at % 8) as usize]
        })
        .collect()
}

/// The operation that wrote the first bytes of a file among these, seen at a sector's start.
pub fn writer_of(bytes: &[u8]) -> Option<u16> {
    bytes.chunks(SECTOR).find_map(|sector| match sector {
        [first, second, high, low, ..] if [*first, *second] == MARK => {
            Some(u16::from_be_bytes([*high, *low]))
        }
        _ => None,
    })
}

struct Drawn {
    mode: Mode,
    size: u64,
    is_synced: bool,
}

/// What is known of the file system while a sequence is drawn.
struct Drawing {
    draw: Draw,
    file_system: FileSystem,
    names: BTreeMap<String, usize>,
    files: Vec<Drawn>,
    dirs: Vec<String>,
    ranges: usize,
}

impl Drawing {
    fn any(&mut self, into: &mut Vec<Operation>) {
        match self.draw.below(100) {
            0..12 => self.create(into),
            12..42 => self.write(into),
            42..56 => self.sync_file(into),
            56..61 => self.sync_dir(into),
            61..71 => self.rename(into),
            71..74 => self.link(into),
            74..79 => self.remove(into),
            79..81 => self.create_dir(into),
            81..88 => self.range(into),
            88..93 => self.reopen(into),
            93..97 => {
                if let Some(slot) = self.slot() {
                    into.push(Operation::WriteBack { slot });
                }
            }
            _ => into.push(Operation::Commit),
        }
    }

    /// A file with a name: nobody writes to or syncs one that was removed, which btrfs takes as a removal of its name
    /// without the rename that removed it.
    fn slot(&mut self) -> Option<usize> {
        let named: Vec<usize> = self.names.values().copied().collect();
        self.draw.of(&named).copied()
    }

    fn free_path(&mut self) -> Option<String> {
        let dir = self.draw.of(&self.dirs)?.clone();
        let letter = ["a", "b", "c", "e"][self.draw.below(4) as usize];
        let path = if dir.is_empty() { letter.to_owned() } else { format!("{dir}/{letter}") };
        (!self.names.contains_key(&path)).then_some(path)
    }

    fn used_path(&mut self) -> Option<String> {
        let all: Vec<String> = self.names.keys().cloned().collect();
        self.draw.of(&all).cloned()
    }

    fn create(&mut self, into: &mut Vec<Operation>) {
        let Some(path) = self.free_path() else { return };
        let mode = Mode { direct: self.draw.chance(1, 3), dsync: self.draw.chance(1, 3) };
        let slot = self.files.len();
        self.files.push(Drawn { mode, size: 0, is_synced: true });
        self.names.insert(path.clone(), slot);
        into.push(Operation::Create { slot, path, mode });
    }

    fn reopen(&mut self, into: &mut Vec<Operation>) {
        let Some(path) = self.used_path() else { return };
        let Some(slot) = self.names.get(&path).copied() else { return };
        let mode = &mut self.files[slot].mode;
        mode.dsync = !mode.dsync;
        into.push(Operation::Reopen { slot, path, mode: *mode });
    }

    fn unit(&self, slot: usize) -> u64 {
        if self.files[slot].mode.direct { self.file_system.direct_alignment() } else { 1 }
    }

    /// A place and a length: mostly near the end, where files grow, sometimes anywhere.
    fn place(&mut self, slot: usize) -> (u64, u64) {
        let unit = self.unit(slot);
        let size = self.files[slot].size;
        let offset = match self.draw.below(4) {
            0 | 1 => size,
            2 => self.draw.below(size + 1),
            _ => self.draw.below(size + 8192),
        };
        let len = match self.draw.below(4) {
            0 => 1 + self.draw.below(600),
            1 => 4096,
            2 => 512 * (1 + self.draw.below(8)),
            _ => 1 + self.draw.below(20_000),
        };
        (offset / unit * unit, len.div_ceil(unit) * unit)
    }

    fn write(&mut self, into: &mut Vec<Operation>) {
        let Some(slot) = self.slot() else { return };
        let (offset, len) = self.place(slot);
        let file = &mut self.files[slot];
        if offset + len > FILE_BYTES_MAX {
            return;
        }
        file.size = file.size.max(offset + len);
        file.is_synced = false;
        into.push(Operation::Write { slot, offset, len });
    }

    fn range(&mut self, into: &mut Vec<Operation>) {
        let Some(slot) = self.slot() else { return };
        let (offset, len) = self.place(slot);
        if offset + len > FILE_BYTES_MAX || self.ranges == RANGES_MAX {
            return;
        }
        self.ranges += 1;
        let size = self.files[slot].size;
        let operation = match self.draw.below(4) {
            0 => Operation::Allocate { slot, offset, len },
            1 => Operation::Zero { slot, offset, len },
            2 if size > 0 => {
                let offset = self.draw.below(size);
                Operation::Punch { slot, offset, len }
            }
            _ => Operation::Truncate { slot, len: offset },
        };
        let file = &mut self.files[slot];
        file.size = match operation {
            Operation::Truncate { len, .. } => len,
            Operation::Punch { .. } => size,
            _ => size.max(offset + len),
        };
        file.is_synced = false;
        into.push(operation);
    }

    fn sync_file(&mut self, into: &mut Vec<Operation>) {
        // A file with something to sync, if there is one.
        let unsynced: Vec<usize> =
            self.names.values().copied().filter(|slot| !self.files[*slot].is_synced).collect();
        let slot = if self.draw.chance(3, 4) { self.draw.of(&unsynced).copied() } else { None };
        let Some(slot) = slot.or_else(|| self.slot()) else { return };
        self.files[slot].is_synced = true;
        into.push(if self.draw.chance(1, 2) {
            Operation::SyncData { slot }
        } else {
            Operation::SyncAll { slot }
        });
    }

    fn sync_dir(&mut self, into: &mut Vec<Operation>) {
        if let Some(path) = self.draw.of(&self.dirs).cloned() {
            into.push(Operation::SyncDir { path });
        }
    }

    fn rename(&mut self, into: &mut Vec<Operation>) {
        let Some(from) = self.used_path() else { return };
        let over = if self.draw.chance(1, 2) { self.used_path() } else { None };
        let Some(to) = over.or_else(|| self.free_path()) else { return };
        let (Some(slot), other) = (self.names.get(&from).copied(), self.names.get(&to).copied()) else {
            return;
        };
        if other == Some(slot) {
            return;
        }
        self.names.remove(&from);
        self.names.insert(to.clone(), slot);
        into.push(Operation::Rename { from, to });
    }

    fn link(&mut self, into: &mut Vec<Operation>) {
        let (Some(from), Some(to)) = (self.used_path(), self.free_path()) else { return };
        let Some(slot) = self.names.get(&from).copied() else { return };
        self.names.insert(to.clone(), slot);
        into.push(Operation::Link { from, to });
    }

    fn remove(&mut self, into: &mut Vec<Operation>) {
        if let Some(path) = self.used_path() {
            self.names.remove(&path);
            into.push(Operation::Remove { path });
        }
    }

    fn create_dir(&mut self, into: &mut Vec<Operation>) {
        let path = ["d", "f"][self.draw.below(2) as usize].to_owned();
        if !self.dirs.contains(&path) {
            self.dirs.push(path.clone());
            into.push(Operation::CreateDir { path });
        }
    }
}
