//! Takes what is whole out of a table that is damaged.
//!
//! Frames tell their own length and their checksum covers their place, so the file is walked from block to block
//! without any index; after bytes that are no frame a search ([`super::search`]) finds the next place where one begins. What is
//! given out is therefore exactly as trustworthy as in a healthy table. What is lost is told with the keys between
//! which it lay; an index partition that is whole tells whether a lost stretch held entries at all.
//!
//! Invariants:
//! - every byte of the blocks belongs to something given out or to a loss that is told;
//! - whatever the file holds, the work grows with its length and no faster: a byte is searched at most once, and what
//!   is read in vain besides is paid from a purse ([`IN_VAIN_SHARE`]). While that is empty, a block whose checksum
//!   holds but whose content is no block is told as lost with all that may stand inside it;
//! - memory is taken for one block whose checksum holds, for [`UNPROVED_BYTES_MAX`] of what may be none, and for what a
//!   search keeps: never for a length that is merely announced;
//! - the caller hears after each [`WINDOW_BYTES`] searched, and the world is asked for leave to go on.
//!
//! Range tombstones stand in one block. If it is lost, keys that it deleted would come back to life, which is for
//! the caller to weigh: [`Salvage::tombstones_seen`] says.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{EntryCursor, check_order};
use super::footer::{FOOTER_BYTES, Footer};
use super::frame::{FRAME_HEAD_BYTES, Frame, Handle, Role, announced_len};
use super::header::{HEADER_BYTES_MAX, Header};
use super::input::read_exact;
use super::meta::{Properties, TableMeta};
use super::reader::{decode_content, decode_handle, read_frame};
use super::search::Search;
use super::tombstones::decode_tombstones;
use crate::cache::{Block, Budget};
use crate::codec::BadBytes;
use crate::env::{Buf, Env, File, OpenOptions};
use crate::error::{Error, Result};
use crate::types::{FileId, FileNo, KeyspaceId, OpKind, RangeTombstones, Seq, Value};

/// How much is read at once while looking for the next block.
const WINDOW_BYTES: u64 = 64 << 10;
/// A block longer than this is read into memory only after a search has found that its checksum holds.
const UNPROVED_BYTES_MAX: u64 = 1 << 20;
/// So many times the file's bytes may be read for blocks that turn out to be none.
const IN_VAIN_SHARE: u64 = 4;
/// What a disk fails to read is a multiple of this.
const SECTOR_BYTES: u64 = FOOTER_BYTES as u64;

/// An entry that was found whole.
#[derive(Clone, Debug)]
pub(crate) struct SalvagedEntry {
    pub(crate) key: Vec<u8>,
    pub(crate) seq: Seq,
    pub(crate) kind: OpKind,
    pub(crate) value: Value,
}

/// One finding.
#[derive(Clone, Debug)]
pub(crate) enum Salvaged {
    /// The entries of a data block, in order. Blocks come in order.
    Entries(Vec<SalvagedEntry>),
    /// All range tombstones of the table.
    Tombstones(RangeTombstones),
    /// Nothing new, but [`Salvage::position`] has moved: the search for the next block goes on.
    Searching,
    /// Bytes that cannot be read as blocks.
    Lost {
        offset: u64,
        /// 0 for what may have stood behind the end of a file that was cut.
        len: u64,
        /// False if an index proves that no entry stood there.
        may_hold_entries: bool,
        /// Greatest key before it and smallest after it that were read; `None` where none was.
        after: Option<Vec<u8>>,
        before: Option<Vec<u8>>,
    },
}

struct Lost {
    offset: u64,
    len: u64,
    after: Option<Vec<u8>>,
    before: Option<Vec<u8>>,
}

/// What a table says of itself, as far as that can be read.
#[derive(Clone, Debug)]
pub(crate) struct SalvagedFacts {
    pub(crate) id: FileId,
    /// From the header or the properties.
    pub(crate) keyspace: Option<KeyspaceId>,
    /// From the properties; the file number is not in them and stays 0.
    pub(crate) meta: Option<TableMeta>,
}

/// A walk over a damaged table.
pub(crate) struct Salvage {
    env: Arc<dyn Env>,
    budget: Arc<Budget>,
    file: Arc<dyn File>,
    path: PathBuf,
    facts: SalvagedFacts,
    /// Behind the last block given out; or, after one that was lost, where the loss begins.
    position: u64,
    end: u64,
    /// The search for the next block, while one is under way.
    search: Option<Search>,
    /// What was read last for a search, and from where.
    window: (u64, Buf),
    /// Up to here is read sector by sector, for somewhere before it the disk could not read.
    unreadable_until: u64,
    /// Bytes that may still be read in vain.
    purse: u64,
    last_key: Option<Vec<u8>>,
    /// Lost stretches of which it is not known yet what they held.
    pending: Vec<Lost>,
    ready: VecDeque<Salvaged>,
    tombstones_seen: bool,
    /// True once the properties were read, which stand last: nothing is missing behind the end.
    end_seen: bool,
}

impl Salvage {
    /// Begins a walk over the file at `path`. If its identity is not known from the manifest, its header or else
    /// its footer must be whole.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if nothing tells the identity; what the disk answers.
    pub(crate) async fn begin(
        env: &Arc<dyn Env>,
        budget: &Arc<Budget>,
        path: &Path,
        id: Option<FileId>,
    ) -> Result<Self> {
        let file = env.disk().open(path, OpenOptions::read()).await?;
        let bytes = file.len().await?;
        let header = salvage_header(&*file, path, bytes).await;
        let footer = salvage_footer(&*file, path, bytes).await;
        let id = id.or(header.map(|header| header.id)).or(footer.map(|(id, _)| id));
        let Some(id) = id else {
            return Err(Error::corrupt_at(path, 0, "neither header nor footer tells which table this is"));
        };
        // Without its footer the file may have been cut, and what looks like padding is looked through.
        let end = footer.map_or(bytes, |(_, footer)| footer.properties.end().min(bytes));
        let properties = match footer {
            Some((_, footer)) => salvage_properties(&*file, path, bytes, id, footer).await,
            None => None,
        };
        let keyspace = header.and_then(|header| header.keyspace);
        let facts = SalvagedFacts {
            id,
            keyspace: keyspace.or(properties.as_ref().and_then(|properties| properties.keyspace)),
            meta: properties.map(|properties| properties.meta(FileNo::ZERO, id, bytes)),
        };
        Ok(Self {
            env: Arc::clone(env),
            budget: Arc::clone(budget),
            file,
            path: path.to_path_buf(),
            facts,
            position: header.map_or(0, |header| header.len),
            end,
            search: None,
            window: (0, Buf::default()),
            unreadable_until: 0,
            purse: end.saturating_mul(IN_VAIN_SHARE),
            last_key: None,
            pending: Vec::new(),
            ready: VecDeque::new(),
            tombstones_seen: false,
            end_seen: footer.is_some(),
        })
    }

    /// True once the block of range tombstones was read. Every table has one, so false at the end means lost.
    pub(crate) fn tombstones_seen(&self) -> bool {
        self.tombstones_seen
    }

    /// What the table says of itself.
    pub(crate) fn facts(&self) -> &SalvagedFacts {
        &self.facts
    }

    /// How far the walk is in the file.
    pub(crate) fn position(&self) -> u64 {
        self.search.as_ref().map_or(self.position, Search::position)
    }

    /// The next finding; `None` at the end.
    ///
    /// # Errors
    /// Only what a disk answers that could read before: unreadable sectors count as lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Salvaged>> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Ok(Some(found));
            }
            if self.position >= self.end {
                if !self.end_seen {
                    self.end_seen = true;
                    let after = self.last_key.clone();
                    self.pending.push(Lost { offset: self.end, len: 0, after, before: None });
                }
                self.settle(None);
                return Ok(self.ready.pop_front());
            }
            let before = self.position();
            let found = match self.search.take() {
                None => self.frame_here().await,
                Some(mut search) => {
                    let found = self.search_on(&mut search).await;
                    self.search = Some(search);
                    found
                }
            };
            let searched_all = self.search.as_ref().is_some_and(|search| search.position() >= self.end);
            match found {
                Some((handle, role, block)) => {
                    self.search = None;
                    self.lose_until(handle.offset);
                    self.take(handle, role, block);
                }
                None if searched_all => {
                    self.search = None;
                    self.lose_until(self.end);
                }
                None if self.search.is_some() => self.ready.push_back(Salvaged::Searching),
                None => self.search = Some(Search::new(self.facts.id, self.position, self.end)),
            }
            self.env.slice(self.position().saturating_sub(before)).await;
        }
    }

    /// The frame at the walk's position, where it stands in a file that is not damaged. `None` says that it must be
    /// searched for, from there on.
    async fn frame_here(&mut self) -> Option<(Handle, Role, Block)> {
        let offset = self.position;
        let room = self.end.saturating_sub(offset);
        if room < FRAME_HEAD_BYTES as u64 {
            return None;
        }
        let head = read_exact(&*self.file, &self.path, offset, FRAME_HEAD_BYTES).await.ok()?;
        let len = announced_len(&head).filter(|len| *len <= room.min(UNPROVED_BYTES_MAX).min(self.purse))?;
        self.frame_at(Handle { offset, len }).await
    }

    /// The sound frame that `handle` is, paid for if it is none.
    async fn frame_at(&mut self, handle: Handle) -> Option<(Handle, Role, Block)> {
        let buf = read_exact(&*self.file, &self.path, handle.offset, handle.len as usize).await;
        match buf.ok().and_then(|buf| self.decode(buf, handle).ok()) {
            Some((role, block)) => {
                let full = self.end.saturating_mul(IN_VAIN_SHARE);
                self.purse = self.purse.saturating_add(handle.len).min(full);
                Some((handle, role, block))
            }
            None => {
                self.purse = self.purse.saturating_sub(handle.len);
                None
            }
        }
    }

    /// Searches one window for the next sound frame.
    async fn search_on(&mut self, search: &mut Search) -> Option<(Handle, Role, Block)> {
        let at = search.position();
        let Some(window) = self.window_at(at).await else {
            // An unreadable sector. No frame that reaches into it is whole.
            search.begin_at(at.saturating_add(1).next_multiple_of(SECTOR_BYTES).min(self.end));
            return None;
        };
        let skipped = at.saturating_sub(self.window.0) as usize;
        let mut rest = window.get(skipped..).unwrap_or_default();
        let mut found = None;
        while found.is_none() {
            let before = search.position();
            let Some(handle) = search.feed(rest) else { break };
            let fed = search.position().saturating_sub(before) as usize;
            rest = rest.get(fed..).unwrap_or_default();
            found = self.frame_at(handle).await;
            // If its content is no block, it may be false for all its checksum, and true ones may stand inside it.
            if found.is_none() && self.purse == 0 {
                search.begin_at(handle.end());
            }
        }
        self.window.1 = window;
        found
    }

    /// Takes out the window in which `offset` stands, having read it if need be; `None` if it cannot be read.
    async fn window_at(&mut self, offset: u64) -> Option<Buf> {
        let (start, window) = std::mem::take(&mut self.window);
        if (start..start.saturating_add(window.len() as u64)).contains(&offset) {
            self.window.0 = start;
            return Some(window);
        }
        self.window.0 = offset;
        if offset >= self.unreadable_until {
            let len = self.end.saturating_sub(offset).min(WINDOW_BYTES);
            let window = read_exact(&*self.file, &self.path, offset, len as usize).await;
            if let Ok(window) = window {
                return Some(window);
            }
            self.unreadable_until = offset.saturating_add(len);
        }
        let sector_end = offset.saturating_add(1).next_multiple_of(SECTOR_BYTES).min(self.end);
        let len = sector_end.saturating_sub(offset) as usize;
        read_exact(&*self.file, &self.path, offset, len).await.ok()
    }

    /// What stands between the walk's position and `offset` is lost.
    fn lose_until(&mut self, offset: u64) {
        let len = offset.saturating_sub(self.position);
        if len > 0 {
            let after = self.last_key.clone();
            self.pending.push(Lost { offset: self.position, len, after, before: None });
        }
        self.position = offset;
    }

    fn decode(&self, buf: Buf, handle: Handle) -> std::result::Result<(Role, Block), BadBytes> {
        let frame = Frame::decode(&buf, self.facts.id, handle.offset)?;
        let role = frame.role;
        let block = decode_content(&self.budget, &frame, u64::MAX)?;
        let block = block.unwrap_or_else(|| Block::from_buf(&self.budget, buf, FRAME_HEAD_BYTES));
        if matches!(role, Role::Data | Role::Index) {
            check_order(block.bytes())?;
        }
        Ok((role, block))
    }

    fn take(&mut self, handle: Handle, role: Role, block: Block) {
        self.position = handle.end();
        match role {
            Role::Data => self.take_entries(Arc::new(block)),
            Role::Index => self.settle(data_handles(Arc::new(block)).ok()),
            Role::Tombstones => {
                if let Ok(tombstones) = decode_tombstones(block.bytes()) {
                    self.tombstones_seen = true;
                    self.ready.push_back(Salvaged::Tombstones(tombstones));
                }
            }
            Role::Properties => self.end_seen = true,
            Role::Filter | Role::TopIndex => {}
        }
    }

    fn take_entries(&mut self, block: Arc<Block>) {
        // `decode` has checked the block, so none of its entries fails here.
        let Ok(mut cursor) = EntryCursor::new(Arc::clone(&block)) else { return };
        let mut entries = Vec::new();
        let mut moved = cursor.seek_first();
        while moved.is_ok() && cursor.valid() {
            let range = cursor.value_range();
            entries.push(SalvagedEntry {
                key: cursor.key().to_vec(),
                seq: cursor.seq(),
                kind: cursor.kind(),
                value: Value::borrowed(Arc::clone(&block).into_owner(), range.start, range.len()),
            });
            moved = cursor.next();
        }
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            for lost in self.pending.iter_mut().filter(|lost| lost.before.is_none()) {
                lost.before = Some(first.key.clone());
            }
            self.last_key = Some(last.key.clone());
        }
        self.ready.push_back(Salvaged::Entries(entries));
    }

    /// Tells the pending losses. With the data blocks of the partition that ends here, those that touch none of
    /// them held no entry.
    fn settle(&mut self, data: Option<Vec<Handle>>) {
        for lost in self.pending.drain(..) {
            let end = lost.offset.saturating_add(lost.len);
            let touched = |handle: &Handle| handle.offset < end && lost.offset < handle.end();
            // A stretch that begins before this partition's first block may have swallowed the partition before.
            let known =
                data.as_ref().filter(|data| data.first().is_some_and(|first| first.offset <= lost.offset));
            self.ready.push_back(Salvaged::Lost {
                offset: lost.offset,
                len: lost.len,
                may_hold_entries: known.is_none_or(|data| data.iter().any(touched)),
                after: lost.after,
                before: lost.before,
            });
        }
    }
}

fn data_handles(index: Arc<Block>) -> std::result::Result<Vec<Handle>, BadBytes> {
    let mut cursor = EntryCursor::new(index)?;
    let mut handles = Vec::new();
    cursor.seek_first()?;
    while cursor.valid() {
        handles.push(decode_handle(cursor.value())?);
        cursor.next()?;
    }
    Ok(handles)
}

async fn salvage_header(file: &dyn File, path: &Path, bytes: u64) -> Option<Header> {
    let start = read_exact(file, path, 0, bytes.min(HEADER_BYTES_MAX as u64) as usize).await.ok()?;
    Header::decode(&start).ok()
}

async fn salvage_properties(
    file: &dyn File,
    path: &Path,
    bytes: u64,
    id: FileId,
    footer: Footer,
) -> Option<Properties> {
    let handle = footer.properties;
    let buf = read_frame(file, path, handle, Role::Properties, 0..bytes).await.ok()?;
    let frame = Frame::decode(&buf, id, handle.offset).ok()?;
    (frame.role == Role::Properties).then(|| Properties::decode(frame.payload).ok()).flatten()
}

async fn salvage_footer(file: &dyn File, path: &Path, bytes: u64) -> Option<(FileId, Footer)> {
    let offset = bytes.checked_sub(FOOTER_BYTES as u64)?;
    let footer = read_exact(file, path, offset, FOOTER_BYTES).await.ok()?;
    let footer: &[u8; FOOTER_BYTES] = footer.first_chunk()?;
    // The footer names the identity that its checksum covers.
    let id = FileId::new(crate::codec::Reader::new(footer.get(16..)?).u64("identity").ok()?);
    Some((id, Footer::decode(footer, id, offset).ok()?))
}
