//! Where a misdirected read comes from.
//!
//! A disk misdirects whole sectors, so the bytes come from as far inside a sector as they should. From any such place they
//! are seldom a thing of their own, and the first look at them tells. What puts a reader to the test is a place that looks
//! alike: where another request began, of this file or of one of its kind in the same directory, as far inside a sector
//! and with the same length; or the same place of another of its kind, if what stands there begins with the same bytes.
//!
//! ```text
//! whole sectors   three in four alike, or longer if nothing else is; the others from any place that was written
//! other requests  alike; while there is no such place the fault waits, but in one case of 32
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::directory::InodeNumber;
use super::inode::SECTOR;
use super::{DiskState, Node};

/// Requests of a file that are remembered.
const REMEMBERED: usize = 64;
/// One misdirected read of whole sectors in so many comes from any place; so does one of other requests in so many.
const ANY_PLACE: u64 = 4;
const ANY_PLACE_UNALIGNED: u64 = 32;
/// One misdirected read from any place in so many comes from another file, and one of these from a file of any kind.
const OTHER_FILE: u64 = 2;
const OTHER_KIND: u64 = 4;
/// Two places begin alike if so many bytes are the same: kind and length of a thing stand in front of it.
const ALIKE_BYTES: u64 = 8;
/// Places that a misdirected read tries, for one that was written.
const PLACES_TRIED: u32 = 16;

/// Where the last requests of each file began, and how long they were, each once.
#[derive(Default)]
pub(super) struct Requests {
    of: BTreeMap<InodeNumber, VecDeque<(u64, u64)>>,
}

impl Requests {
    /// Remembers one, and forgets the one that came first if there are too many.
    pub(super) fn note(&mut self, inode: InodeNumber, offset: u64, len: u64) {
        let requests = self.of.entry(inode).or_default();
        if len == 0 || requests.contains(&(offset, len)) {
            return;
        }
        if requests.len() == REMEMBERED {
            requests.pop_front();
        }
        requests.push_back((offset, len));
    }

    /// The file is gone.
    pub(super) fn forget(&mut self, inode: InodeNumber) {
        self.of.remove(&inode);
    }

    fn of(&self, inode: InodeNumber) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.of.get(&inode).into_iter().flatten().copied()
    }
}

impl DiskState {
    /// The place that a misdirected read of this range comes from; `None` if there is none, or none that it does not wait
    /// for a better one.
    pub(super) fn elsewhere(
        &mut self,
        inode: InodeNumber,
        name: &str,
        offset: u64,
        len: u64,
    ) -> Option<(InodeNumber, u64)> {
        let is_whole = offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR);
        let any_place = if is_whole { ANY_PLACE } else { ANY_PLACE_UNALIGNED };
        let kind = self.files_of_kind(inode, name);
        if self.deceits.below(any_place) > 0 {
            let alike = self.places_alike(inode, &kind, offset, len, is_whole);
            if !alike.is_empty() {
                return Some(self.deceits.of(&alike));
            }
            if !is_whole {
                return None;
            }
        }
        (0..PLACES_TRIED).find_map(|_| {
            let (other, at) = self.any_place(inode, &kind, offset);
            self.was_written(other, at, len).then_some((other, at))
        })
    }

    /// Other files of the directory whose names end as this one's does.
    fn files_of_kind(&self, inode: InodeNumber, name: &str) -> Vec<InodeNumber> {
        let end_of = |name: &str| name.rsplit_once('.').map(|(_, end)| end.to_owned());
        let end = end_of(name);
        let names = self.nodes.values().find_map(|node| match node {
            Node::Directory(directory) if directory.names.get(name) == Some(&inode) => Some(&directory.names),
            _ => None,
        });
        let kind = names.into_iter().flatten().filter(|(other, _)| end_of(other) == end);
        let mut files: Vec<InodeNumber> = kind.map(|(_, other)| *other).collect();
        files.retain(|other| *other != inode && self.is_filled(*other));
        files.sort_unstable();
        files.dedup();
        files
    }

    fn is_filled(&self, inode: InodeNumber) -> bool {
        matches!(self.nodes.get(&inode), Some(Node::File(file)) if file.size > 0)
    }

    /// Places where requests of the same length began as far inside a sector; if there are none and whole sectors are read,
    /// those of longer ones.
    fn places_alike(
        &self,
        inode: InodeNumber,
        kind: &[InodeNumber],
        offset: u64,
        len: u64,
        is_whole: bool,
    ) -> Vec<(InodeNumber, u64)> {
        let (mut same, mut longer) = (Vec::new(), Vec::new());
        for file in std::iter::once(inode).chain(kind.iter().copied()) {
            let size = self.file(file).size;
            if file != inode && offset + len <= size && self.begin_alike(inode, file, offset, len) {
                same.push((file, offset));
            }
            for (at, of_len) in self.requests.of(file) {
                let is_elsewhere = (file, at) != (inode, offset) && at % SECTOR == offset % SECTOR;
                if is_elsewhere && of_len >= len && at + len <= size && self.was_written(file, at, len) {
                    let places = if of_len == len { &mut same } else { &mut longer };
                    places.push((file, at));
                }
            }
        }
        if same.is_empty() && is_whole { longer } else { same }
    }

    /// True if the same bytes stand in front of a range of two files, and others behind them.
    fn begin_alike(&self, one: InodeNumber, other: InodeNumber, offset: u64, len: u64) -> bool {
        let read = |file: InodeNumber, len: u64| {
            let mut bytes = vec![0; usize::try_from(len).expect("a request fits into memory")];
            self.file(file).content.read(offset, &mut bytes);
            bytes
        };
        let front = read(one, len.min(ALIKE_BYTES));
        len > ALIKE_BYTES
            && front.iter().any(|byte| *byte != 0)
            && front == read(other, ALIKE_BYTES)
            && read(one, len) != read(other, len)
    }

    /// True if bytes other than zeros stand in the first sector: zeros are what stood in a place before, and to give that is
    /// the business of a stale read.
    fn was_written(&self, inode: InodeNumber, offset: u64, len: u64) -> bool {
        let mut bytes = [0; SECTOR as usize];
        let first = usize::try_from(len.min(SECTOR - offset % SECTOR)).expect("at most a sector");
        let bytes = &mut bytes[..first];
        self.file(inode).content.read(offset, bytes);
        bytes.iter().any(|byte| *byte != 0)
    }

    /// Another sector of this file, or one of another file, there as often as not at the same distance from its start.
    fn any_place(&mut self, inode: InodeNumber, kind: &[InodeNumber], offset: u64) -> (InodeNumber, u64) {
        let (own, within) = (offset / SECTOR, offset % SECTOR);
        if self.deceits.one_in(OTHER_FILE) {
            let others = match self.deceits.one_in(OTHER_KIND) || kind.is_empty() {
                true => {
                    let all = self.nodes.keys().copied();
                    all.filter(|other| *other != inode && self.is_filled(*other)).collect()
                }
                false => kind.to_vec(),
            };
            if !others.is_empty() {
                let other = self.deceits.of(&others);
                let sectors = self.file(other).size.div_ceil(SECTOR);
                let at = match own < sectors && self.deceits.one_in(2) {
                    true => own,
                    false => self.deceits.below(sectors),
                };
                return (other, at * SECTOR + within);
            }
        }
        let sectors = self.file(inode).size.div_ceil(SECTOR);
        let drawn = self.deceits.below(sectors - 1);
        let sector = if drawn >= own { drawn + 1 } else { drawn };
        (inode, sector * SECTOR + within)
    }
}
