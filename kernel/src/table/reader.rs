//! Reads one table: opening it, and finding the newest version of a key.
//!
//! Opening checks identity, length and footer, and that table and manifest agree. From then on only checked
//! bytes are believed: a block's checksum, role and lengths when it is loaded, and every number in it when it is
//! decoded.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{Layout, check_order};
use super::compress::{COMPRESS_BYTES_MAX, Codec};
use super::filter::{key_hash, may_contain};
use super::footer::{FOOTER_BYTES, Footer};
use super::frame::{FRAME_HEAD_BYTES, Frame, Handle, Role};
use super::header::{HEADER_BYTES_MAX, Header};
use super::input::read_exact;
use super::iter::TableIter;
use super::meta::{Properties, TableMeta};
use super::tombstones::decode_tombstones;
use crate::cache::{Block, BlockCache, BlockKey, Budget, Charge, Purpose};
use crate::codec::{BadBytes, Reader};
use crate::env::{Buf, Env, File, OpenOptions};
use crate::error::{Error, Result};
use crate::types::file_name::{self, FileKind};
use crate::types::{FileId, FileNo, OpKind, RangeTombstones, Seq, Value};

/// From this size on a block keeps the buffer that it was read into, to save the copy.
const KEEP_BUFFER_BYTES: usize = 64 << 10;

/// The newest entry of a key that a read may see.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) seq: Seq,
    pub(crate) kind: OpKind,
    /// Borrows the block; empty for a delete.
    pub(crate) value: Value,
}

/// An open table.
pub(crate) struct TableReader {
    pub(super) env: Arc<dyn Env>,
    pub(super) cache: Arc<BlockCache>,
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) meta: TableMeta,
    pub(super) properties: Properties,
    pub(super) footer: Footer,
    /// Where the blocks begin, and where the padding before the footer does.
    pub(super) blocks_start: u64,
    pub(super) blocks_end: u64,
    pub(super) top_index: Arc<Block>,
    top_layout: Layout,
    tombstones: RangeTombstones,
    paranoid: bool,
    _tombstones_charge: Charge,
}

/// What the top index says of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    pub(super) index: Handle,
    /// Length 0 if there is none.
    pub(super) filter: Handle,
}

impl TableReader {
    /// Opens the table that the manifest describes as `meta`. With `paranoid` the order of every block is checked
    /// when it is loaded.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming file and offset if anything differs from what was written; [`Error::NewerFormat`];
    /// what the disk answers.
    pub(crate) async fn open(
        env: &Arc<dyn Env>,
        cache: &Arc<BlockCache>,
        dir: &Path,
        meta: &TableMeta,
        paranoid: bool,
    ) -> Result<Arc<Self>> {
        let path = file_name::path(dir, FileKind::Table, meta.no);
        let reader = Self::open_at(env, cache, path, Some(meta), meta.no, paranoid).await?;
        Ok(Arc::new(reader))
    }

    /// Opens a table of which nothing is known: the description comes from the file itself, its number from
    /// the name (0 if that is not a table's). For repair.
    ///
    /// # Errors
    /// As [`TableReader::open`].
    pub(crate) async fn open_unknown(
        env: &Arc<dyn Env>,
        cache: &Arc<BlockCache>,
        path: &Path,
    ) -> Result<(Arc<Self>, TableMeta)> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let no = file_name::parse(name).map_or(FileNo::ZERO, |(_, no)| no);
        let reader = Self::open_at(env, cache, path.to_path_buf(), None, no, true).await?;
        let meta = reader.meta.clone();
        Ok((Arc::new(reader), meta))
    }

    async fn open_at(
        env: &Arc<dyn Env>,
        cache: &Arc<BlockCache>,
        path: PathBuf,
        expected: Option<&TableMeta>,
        no: FileNo,
        paranoid: bool,
    ) -> Result<Self> {
        let file = env.disk().open(&path, OpenOptions::read()).await?;
        let bytes = file.len().await?;
        if let Some(meta) = expected.filter(|meta| meta.bytes != bytes) {
            let what = format!("the file has {bytes} bytes, the manifest says {}", meta.bytes);
            return Err(Error::corrupt_at(&path, bytes, what));
        }
        let header = read_header(&*file, &path, bytes).await?;
        if let Some(meta) = expected.filter(|meta| meta.id != header.id) {
            let what =
                format!("this is table {:016x}, the manifest names {:016x}", header.id.get(), meta.id.get());
            return Err(Error::corrupt_at(&path, 16, what));
        }
        let (footer, blocks_end) = read_footer(&*file, &path, &header, bytes).await?;
        let opening = Opening { file: &*file, path: &path, header, blocks_end, cache };
        let properties_block = opening.load(footer.properties, Role::Properties).await?;
        let properties = Properties::decode(properties_block.bytes())
            .map_err(|u| u.in_file(&path, footer.properties.offset))?;
        let meta = properties.meta(no, header.id, bytes);
        if expected.is_some_and(|expected| *expected != meta) {
            let what = "the table's properties differ from what the manifest says of it";
            return Err(Error::corrupt_at(&path, footer.properties.offset, what));
        }
        let tombstones_block = opening.load(footer.tombstones, Role::Tombstones).await?;
        let tombstones = decode_tombstones(tombstones_block.bytes())
            .map_err(|bad| Error::corrupt(&path, footer.tombstones.offset, &bad))?;
        let top_index = opening.load(footer.top_index, Role::TopIndex).await?;
        check_order(top_index.bytes()).map_err(|bad| Error::corrupt(&path, footer.top_index.offset, &bad))?;
        let top_layout = Layout::decode(top_index.bytes())
            .map_err(|bad| Error::corrupt(&path, footer.top_index.offset, &bad))?;
        top_index.count_as(Purpose::TableMeta);
        let charge = cache.budget().charge(Purpose::TableMeta, tombstones.heap_bytes());
        Ok(Self {
            env: Arc::clone(env),
            cache: Arc::clone(cache),
            file,
            path,
            meta,
            properties,
            footer,
            blocks_start: header.len,
            blocks_end,
            top_index: Arc::new(top_index),
            top_layout,
            tombstones,
            paranoid,
            _tombstones_charge: charge,
        })
    }

    /// The newest entry of `key` not after `read_seq`, deletes included. Range tombstones are not applied.
    /// Blocks that are in the cache cost no system call and no allocation.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`] naming file and offset.
    pub(crate) async fn get(&self, key: &[u8], read_seq: Seq) -> Result<Option<Found>> {
        self.get_hashed(key, key_hash(key), read_seq).await
    }

    /// As [`TableReader::get`] with the hash of `key` known, for readers that ask several tables.
    pub(crate) async fn get_hashed(&self, key: &[u8], hash: u64, read_seq: Seq) -> Result<Option<Found>> {
        let top = self.footer.top_index;
        let content = self.top_index.bytes();
        let Some(spot) = self.located(top, self.top_layout.seek(content, key, read_seq))? else {
            return Ok(None);
        };
        let partition = self.located(top, decode_partition(content.get(spot.value).unwrap_or_default()))?;
        if partition.filter.len > 0 {
            let filter = self.load(partition.filter, Role::Filter, true).await?;
            if !self.located(partition.filter, may_contain(filter.bytes(), hash))? {
                return Ok(None);
            }
        }
        let index = self.load(partition.index, Role::Index, true).await?;
        let content = index.bytes();
        let layout = self.located(partition.index, Layout::decode(content))?;
        let Some(spot) = self.located(partition.index, layout.seek(content, key, read_seq))? else {
            return Err(self.corrupt(partition.index, "the index partition ends before its separator"));
        };
        let handle =
            self.located(partition.index, decode_handle(content.get(spot.value).unwrap_or_default()))?;
        let data = self.load(handle, Role::Data, true).await?;
        let layout = self.located(handle, Layout::decode(data.bytes()))?;
        let spot = self.located(handle, layout.seek(data.bytes(), key, read_seq))?;
        Ok(spot.filter(|spot| spot.same_key).map(|spot| Found {
            seq: spot.seq,
            kind: spot.kind,
            value: Value::borrowed(data.into_owner(), spot.value.start, spot.value.len()),
        }))
    }

    /// The open file, for whoever copies the table as it stands.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The table's range tombstones, cut into pieces.
    pub(crate) fn range_tombstones(&self) -> &RangeTombstones {
        &self.tombstones
    }

    /// Where the blocks of data, index and filter stand in the file.
    pub(crate) fn blocks(&self) -> Range<u64> {
        self.blocks_start..self.blocks_end
    }

    /// A cursor over the entries that stands nowhere yet. With `fill_cache` the blocks it loads are kept in the
    /// cache; a compaction or a backup wants them not to be.
    pub(crate) fn iter(self: &Arc<Self>, fill_cache: bool) -> TableIter {
        TableIter::new(Arc::clone(self), fill_cache)
    }

    /// About where in the file `key` stands: the start of the data block that it is in or would be in, or the end of
    /// the blocks if everything sorts before it. Loads at most one block.
    ///
    /// # Errors
    /// As [`TableReader::get`].
    pub(crate) async fn approximate_offset(&self, key: &[u8]) -> Result<u64> {
        let top = self.footer.top_index;
        let content = self.top_index.bytes();
        let Some(spot) = self.located(top, self.top_layout.seek(content, key, Seq::LIMIT))? else {
            return Ok(self.blocks_end);
        };
        let partition = self.located(top, decode_partition(content.get(spot.value).unwrap_or_default()))?;
        let index = self.load(partition.index, Role::Index, true).await?;
        let layout = self.located(partition.index, Layout::decode(index.bytes()))?;
        match self.located(partition.index, layout.seek(index.bytes(), key, Seq::LIMIT))? {
            Some(spot) => {
                let value = index.bytes().get(spot.value).unwrap_or_default();
                Ok(self.located(partition.index, decode_handle(value))?.offset)
            }
            None => Ok(partition.index.offset),
        }
    }

    /// The block, from the cache or the disk.
    #[inline]
    pub(super) async fn load(&self, handle: Handle, role: Role, fill_cache: bool) -> Result<Arc<Block>> {
        let key = BlockKey { file: self.meta.id, offset: handle.offset };
        if let Some(block) = self.cache.get(key) {
            return Ok(block);
        }
        let block = Arc::new(self.load_around_cache(handle, role).await?);
        Ok(if fill_cache { self.cache.insert(key, block) } else { block })
    }

    /// The block, from the disk.
    pub(super) async fn load_around_cache(&self, handle: Handle, role: Role) -> Result<Block> {
        let blocks = self.blocks_start..self.blocks_end;
        let buf = read_frame(&*self.file, &self.path, handle, role, blocks).await?;
        let budget = self.cache.budget();
        let longest = self.properties.block_bytes_max;
        let block = self.located(handle, decode_block(budget, buf, self.meta.id, handle, role, longest))?;
        if self.paranoid && matches!(role, Role::Data | Role::Index) {
            self.located(handle, check_order(block.bytes()))?;
        }
        Ok(block)
    }

    /// Says where bad bytes are. Inside a compressed block only the block's own offset means something.
    #[inline]
    pub(super) fn located<T>(&self, handle: Handle, result: std::result::Result<T, BadBytes>) -> Result<T> {
        result.map_err(|bad| self.corrupt(handle, &bad.to_string()))
    }

    #[cold]
    pub(super) fn corrupt(&self, handle: Handle, what: &str) -> Error {
        Error::corrupt_at(&self.path, handle.offset, what)
    }
}

/// Reads a handle that is all of `value`.
pub(super) fn decode_handle(value: &[u8]) -> std::result::Result<Handle, BadBytes> {
    let mut reader = Reader::new(value);
    let handle = Handle::decode(&mut reader)?;
    reader.finish("bytes after a block handle")?;
    Ok(handle)
}

/// Reads what the top index says of a partition.
pub(super) fn decode_partition(value: &[u8]) -> std::result::Result<Partition, BadBytes> {
    let mut reader = Reader::new(value);
    let partition = Partition { index: Handle::decode(&mut reader)?, filter: Handle::decode(&mut reader)? };
    reader.finish("bytes after the handles of a partition")?;
    Ok(partition)
}

/// What the blocks read while opening have in common.
struct Opening<'a> {
    file: &'a dyn File,
    path: &'a Path,
    header: Header,
    blocks_end: u64,
    cache: &'a BlockCache,
}

impl Opening<'_> {
    /// A block that stands outside the cache and is never compressed.
    async fn load(&self, handle: Handle, role: Role) -> Result<Block> {
        let buf = read_frame(self.file, self.path, handle, role, self.header.len..self.blocks_end).await?;
        decode_block(self.cache.budget(), buf, self.header.id, handle, role, handle.len)
            .map_err(|bad| Error::corrupt_at(self.path, handle.offset, bad.to_string()))
    }
}

pub(super) async fn read_header(file: &dyn File, path: &Path, bytes: u64) -> Result<Header> {
    let len = bytes.min(HEADER_BYTES_MAX as u64) as usize;
    let start = read_exact(file, path, 0, len).await?;
    Header::decode(&start).map_err(|unreadable| unreadable.in_file(path, 0))
}

/// The footer, and where the padding before it begins, which is checked to be zero.
pub(super) async fn read_footer(
    file: &dyn File,
    path: &Path,
    header: &Header,
    bytes: u64,
) -> Result<(Footer, u64)> {
    let footer_bytes = FOOTER_BYTES as u64;
    let Some(offset) = bytes.checked_sub(footer_bytes).filter(|offset| *offset >= header.len) else {
        return Err(Error::corrupt_at(path, bytes, "the file is too short to be a table"));
    };
    // The footer and the longest padding, in one read.
    let start = offset.saturating_sub(footer_bytes).max(header.len);
    let tail = read_exact(file, path, start, bytes.saturating_sub(start) as usize).await?;
    let Some((before, footer)) = tail.split_last_chunk::<FOOTER_BYTES>() else {
        return Err(Error::corrupt_at(path, offset, "the file is too short to be a table"));
    };
    let footer = Footer::decode(footer, header.id, offset).map_err(|u| u.in_file(path, offset))?;
    let blocks_end = footer.properties.end();
    let padding = offset.checked_sub(blocks_end).and_then(|len| before.len().checked_sub(len as usize));
    let padding = padding.and_then(|at| before.get(at..));
    match padding {
        Some(padding) if padding.len() < FOOTER_BYTES && padding.iter().all(|byte| *byte == 0) => {
            Ok((footer, blocks_end))
        }
        _ => Err(Error::corrupt_at(path, blocks_end, "the bytes before the table's footer are not padding")),
    }
}

/// Reads a whole frame, which must lie inside `blocks`: a wrong length never asks for more memory than the file
/// has bytes.
pub(super) async fn read_frame(
    file: &dyn File,
    path: &Path,
    handle: Handle,
    role: Role,
    blocks: std::ops::Range<u64>,
) -> Result<Buf> {
    let inside = handle.offset >= blocks.start && handle.end() <= blocks.end;
    if !inside || handle.len < FRAME_HEAD_BYTES as u64 {
        let what = format!("the handle of a {} points outside the table's blocks", role.name());
        return Err(Error::corrupt_at(path, handle.offset, what));
    }
    read_exact(file, path, handle.offset, handle.len as usize).await
}

/// The content of the frame that `buf` holds, of at most `longest` bytes if it is compressed.
pub(super) fn decode_block(
    budget: &Arc<Budget>,
    buf: Buf,
    id: FileId,
    handle: Handle,
    role: Role,
    longest: u64,
) -> std::result::Result<Block, BadBytes> {
    let frame = Frame::decode(&buf, id, handle.offset)?;
    if frame.role != role {
        return Err(BadBytes { what: "a block has another role than its handle says", at: 0 });
    }
    decode_content(budget, &frame, longest)?
        .map_or_else(|| Ok(Block::from_buf(budget, buf, FRAME_HEAD_BYTES)), Ok)
}

/// The content of a frame as a block with memory of its own; `None` if it is large and stands in the frame as it is.
pub(super) fn decode_content(
    budget: &Arc<Budget>,
    frame: &Frame<'_>,
    longest: u64,
) -> std::result::Result<Option<Block>, BadBytes> {
    let compressed = frame.codec != Codec::None;
    if !compressed && frame.payload.len() >= KEEP_BUFFER_BYTES {
        return Ok(None);
    }
    let fits = frame.codec.can_hold(frame.payload.len(), frame.content_len);
    if !fits || (compressed && frame.content_len as u64 > longest.min(COMPRESS_BYTES_MAX as u64)) {
        return Err(BadBytes { what: "block states an impossible content length", at: 8 });
    }
    Block::filled(budget, frame.content_len, |content| frame.codec.decode(frame.payload, content))
        .map(Some)
        .map_err(|what| BadBytes { what, at: FRAME_HEAD_BYTES })
}
