//! Makes a table from entries in order: writes what [`TableReader`](super::TableReader) reads.
//!
//! A data block is closed when the next entry would take it past its target size, so a separator can be chosen
//! between two known keys, and an entry larger than a block gets one to itself. An index partition is closed, and
//! its filter written, when it reaches [`PARTITION_BYTES`].
//!
//! Nothing is durable, and nothing may name the file, before [`TableBuilder::finish`] has returned. Dropping a
//! builder does no I/O and leaves an orphan for recovery to remove.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{EntryBlockBuilder, common_len, precedes};
use super::compress::{Codec, Compressor};
use super::filter::{build_filter, key_hash};
use super::footer::{FOOTER_BYTES, Footer};
use super::frame::{FRAME_HEAD_BYTES, Handle, Role, frame_head};
use super::header::Header;
use super::meta::{BuildReason, Properties, TableMeta};
use super::output::Output;
use super::tombstones::encode_tombstones;
use crate::check::mark;
use crate::env::{Env, OpenOptions};
use crate::error::Result;
use crate::options::{Compression, KeyspaceOptions};
use crate::types::file_name::{self, FileKind};
use crate::types::{
    FileId, FileNo, KEY_LEN_MAX, KeyspaceId, OpKind, RangeTombstone, RangeTombstones, Seq, VALUE_LEN_MAX,
};

/// Target size of an index partition.
const PARTITION_BYTES: usize = 4 << 10;
/// Restart intervals: of data, where space counts, and of index blocks, where every get searches three.
const DATA_INTERVAL: u8 = 16;
const INDEX_INTERVAL: u8 = 4;

/// How to make a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BuildOptions {
    /// Target size of a data block before compression.
    pub(crate) block_bytes: u32,
    /// Of data blocks; the others stay as they are.
    pub(crate) compression: Compression,
    /// 0 has no filter.
    pub(crate) filter_bits_per_key: u32,
    /// Kept in the table, for people.
    pub(crate) reason: BuildReason,
    /// Kept in the table, for a repair that has lost the manifest.
    pub(crate) keyspace: KeyspaceId,
}

impl BuildOptions {
    /// How a table of `keyspace` at `level` is built.
    pub(crate) fn at_level(
        keyspace: KeyspaceId,
        options: &KeyspaceOptions,
        level: usize,
        reason: BuildReason,
    ) -> Self {
        Self {
            block_bytes: options.block_bytes,
            compression: options.compression_at(level),
            filter_bits_per_key: options.filter_bits_per_key,
            reason,
            keyspace,
        }
    }
}

/// A table being made.
pub(crate) struct TableBuilder {
    env: Arc<dyn Env>,
    no: FileNo,
    options: BuildOptions,
    writer: FrameWriter,
    data: EntryBlockBuilder,
    partition: EntryBlockBuilder,
    top_index: EntryBlockBuilder,
    /// Hashes of the distinct keys of the open partition, for its filter.
    hashes: Vec<u64>,
    last_key: Vec<u8>,
    last_seq: Seq,
    tombstones: Vec<RangeTombstone>,
    /// What is known so far; bounds and range tombstones come at the end.
    properties: Properties,
    separator: Vec<u8>,
}

impl TableBuilder {
    /// Creates the file of table `no` in `dir` and writes its header.
    ///
    /// # Errors
    /// What the disk answers; the half-made file is removed.
    pub(crate) async fn create(
        env: &Arc<dyn Env>,
        dir: &Path,
        no: FileNo,
        id: FileId,
        options: BuildOptions,
    ) -> Result<Self> {
        let path = file_name::path(dir, FileKind::Table, no);
        let file = env.disk().open(&path, OpenOptions::create()).await?;
        let mut output = Output::new(file, path);
        // The header fits into the first piece that is collected, so this does not write yet.
        output.append(&Header::encode(id, options.keyspace)).await?;
        Ok(Self {
            env: Arc::clone(env),
            no,
            options,
            writer: FrameWriter { output, id, compressor: Compressor::new(options.compression) },
            data: EntryBlockBuilder::new(DATA_INTERVAL),
            partition: EntryBlockBuilder::new(INDEX_INTERVAL),
            top_index: EntryBlockBuilder::new(INDEX_INTERVAL),
            hashes: Vec::new(),
            last_key: Vec::new(),
            last_seq: Seq::MAX,
            tombstones: Vec::new(),
            properties: Properties::uncounted(options.reason, options.keyspace),
            separator: Vec::new(),
        })
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// What the disk answers to a write. The table is then good for nothing but [`TableBuilder::abandon`].
    ///
    /// # Panics
    /// If the entry does not follow the last one in order, or breaks a limit of the format: such a table must not
    /// reach the disk.
    pub(crate) async fn add(&mut self, key: &[u8], seq: Seq, kind: OpKind, value: &[u8]) -> Result<()> {
        let first = self.properties.entries == 0;
        assert!(first || precedes((&self.last_key, self.last_seq), (key, seq)), "entries come in order");
        assert!(key.len() <= KEY_LEN_MAX && value.len() <= VALUE_LEN_MAX, "keys and values within limits");
        assert!(
            seq <= Seq::LIMIT && kind != OpKind::DeleteRange,
            "an entry is a put or a delete of a usable seq"
        );
        let len = self.data.content_len() + EntryBlockBuilder::entry_len_max(key, value);
        if !self.data.is_empty() && len > self.options.block_bytes as usize {
            let separator_seq = choose_separator(&self.last_key, self.last_seq, key, &mut self.separator);
            self.finish_data_block(separator_seq).await?;
        }
        let is_superseded = !first && key == self.last_key;
        // Each partition has a filter of its own, which must know a key whose versions began in the one before.
        if self.options.filter_bits_per_key > 0 && (self.hashes.is_empty() || !is_superseded) {
            self.hashes.push(key_hash(key));
        }
        self.data.add(key, seq, kind, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.last_seq = seq;
        self.properties.count_entry(key, seq, kind, value.len(), is_superseded);
        Ok(())
    }

    /// Takes a range tombstone, in any order.
    ///
    /// # Panics
    /// If the range is empty or breaks a limit of the format.
    pub(crate) fn add_range_tombstone(&mut self, tombstone: RangeTombstone) {
        assert!(tombstone.start < tombstone.end, "a range tombstone deletes something");
        assert!(
            tombstone.seq <= Seq::LIMIT
                && tombstone.start.len() <= KEY_LEN_MAX
                && tombstone.end.len() <= KEY_LEN_MAX + 1,
            "range tombstone within limits"
        );
        self.tombstones.push(tombstone);
    }

    /// About how long the file would be if it were finished now.
    pub(crate) fn estimated_bytes(&self) -> u64 {
        let unwritten = self.data.content_len() + self.partition.content_len() + self.top_index.content_len();
        let filter = self.hashes.len() * self.options.filter_bits_per_key as usize / 8;
        self.writer.output.position() + (unwritten + filter + FOOTER_BYTES) as u64
    }

    /// True if nothing was added; such a table cannot be finished.
    pub(crate) fn is_empty(&self) -> bool {
        self.properties.entries == 0 && self.tombstones.is_empty()
    }

    /// Writes the rest and makes the file durable. The caller syncs the directory before anything names the table.
    ///
    /// # Errors
    /// What the disk answers; the half-made file is removed, best effort. After a failed sync nothing of it may be
    /// believed.
    ///
    /// # Panics
    /// If nothing was added.
    pub(crate) async fn finish(mut self) -> Result<TableMeta> {
        assert!(!self.is_empty(), "a table holds something");
        match self.write_rest().await {
            Ok(meta) => Ok(meta),
            Err(error) => {
                self.abandon().await;
                Err(error)
            }
        }
    }

    /// Removes the half-made file. Best effort: a file that cannot be removed is an orphan, which recovery removes.
    pub(crate) async fn abandon(self) {
        mark!("table_abandoned");
        let Self { env, writer, .. } = self;
        let path: PathBuf = writer.output.path().to_path_buf();
        drop(writer);
        if let Err(error) = env.disk().remove(&path).await {
            tracing::debug!(%error, "a half-made table stays for recovery to remove");
        }
    }

    async fn write_rest(&mut self) -> Result<TableMeta> {
        if !self.data.is_empty() {
            self.separator.clone_from(&self.last_key);
            self.finish_data_block(Seq::ZERO).await?;
        }
        if !self.partition.is_empty() {
            self.finish_partition(Seq::ZERO).await?;
        }
        let tombstones = RangeTombstones::new(std::mem::take(&mut self.tombstones));
        let tombstones_content = encode_tombstones(&tombstones);
        let tombstones_handle = self.writer.write(Role::Tombstones, &tombstones_content).await?;
        let top_index = self.writer.write(Role::TopIndex, self.top_index.finish()).await?;
        self.properties.count_tombstones(&tombstones, &self.last_key);
        let properties = self.writer.write(Role::Properties, &self.properties.encode()).await?;
        let output = &mut self.writer.output;
        let padding = output.position().next_multiple_of(FOOTER_BYTES as u64) - output.position();
        output.append(&[0; FOOTER_BYTES][..padding as usize]).await?;
        let file_bytes = output.position() + FOOTER_BYTES as u64;
        let footer = Footer { file_bytes, properties, tombstones: tombstones_handle, top_index };
        output.append(&footer.encode(self.writer.id)).await?;
        assert_eq!(output.position(), file_bytes, "the footer ends the file");
        output.finish().await?;
        Ok(self.properties.meta(self.no, self.writer.id, file_bytes))
    }

    /// Writes the data block and enters it under `self.separator`.
    async fn finish_data_block(&mut self, separator_seq: Seq) -> Result<()> {
        let content = self.data.finish();
        self.properties.block_bytes_max = self.properties.block_bytes_max.max(content.len() as u64);
        let handle = self.writer.write(Role::Data, content).await?;
        self.data.clear();
        self.properties.data_blocks += 1;
        self.properties.data_bytes += handle.len;
        let mut value = Vec::with_capacity(20);
        handle.encode(&mut value);
        self.partition.add(&self.separator, separator_seq, OpKind::Delete, &value);
        if self.partition.content_len() >= PARTITION_BYTES || self.env.rare("partition_ends_early") {
            self.finish_partition(separator_seq).await?;
        }
        Ok(())
    }

    /// Writes the filter and the index partition, whose last separator is `self.separator`.
    async fn finish_partition(&mut self, separator_seq: Seq) -> Result<()> {
        let mut filter = Handle::default();
        if !self.hashes.is_empty() {
            let content = build_filter(&self.hashes, self.options.filter_bits_per_key);
            filter = self.writer.write(Role::Filter, &content).await?;
            self.hashes.clear();
        }
        let content = self.partition.finish();
        self.properties.block_bytes_max = self.properties.block_bytes_max.max(content.len() as u64);
        let index = self.writer.write(Role::Index, content).await?;
        self.partition.clear();
        self.properties.partitions += 1;
        let mut value = Vec::with_capacity(40);
        index.encode(&mut value);
        filter.encode(&mut value);
        self.top_index.add(&self.separator, separator_seq, OpKind::Delete, &value);
        Ok(())
    }
}

/// Puts blocks into frames and frames into the file.
struct FrameWriter {
    output: Output,
    id: FileId,
    compressor: Compressor,
}

impl FrameWriter {
    async fn write(&mut self, role: Role, content: &[u8]) -> Result<Handle> {
        let (codec, payload) = match role {
            Role::Data => self.compressor.compress(content),
            _ => (Codec::None, content),
        };
        let content_len = u32::try_from(content.len()).expect("a block stays below 4 GiB");
        let offset = self.output.position();
        self.output.append(&frame_head(self.id, offset, role, codec, content_len, payload)).await?;
        self.output.append(payload).await?;
        Ok(Handle { offset, len: (FRAME_HEAD_BYTES + payload.len()) as u64 })
    }
}

/// Puts into `out` the shortest key that separates (`last`, `last_seq`) from entries of `next` on, and gives the
/// `Seq` that goes with it.
fn choose_separator(last: &[u8], last_seq: Seq, next: &[u8], out: &mut Vec<u8>) -> Seq {
    out.clear();
    if last == next {
        // The versions of one key go on in the next block.
        out.extend_from_slice(last);
        return last_seq;
    }
    let common = common_len(last, next);
    // `last` cut after the first differing byte, raised by one, if that still stands before `next`; raising a later byte
    // would do too but saves little. Else `next` cut there, if `last` is a prefix of it or ends earlier.
    match (last.get(common), next.get(common)) {
        (Some(low), Some(high)) if low + 1 < *high => {
            out.extend_from_slice(&last[..common]);
            out.push(low + 1);
        }
        (Some(_), Some(_)) if next.len() > common + 1 => out.extend_from_slice(&next[..=common]),
        _ => out.extend_from_slice(last),
    }
    debug_assert!(**out >= *last && **out < *next, "a separator separates");
    // Seq 0 stands after every version of the separator's key.
    Seq::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn a_separator_separates(a: Vec<u8>, b: Vec<u8>, narrow: bool) -> bool {
            let narrow = |key: Vec<u8>| -> Vec<u8> {
                key.into_iter().map(|byte| if narrow { byte % 2 + 254 } else { byte }).collect()
            };
            let (a, b) = (narrow(a), narrow(b));
            let (last, next) = if a <= b { (a, b) } else { (b, a) };
            let mut out = Vec::new();
            let seq = choose_separator(&last, Seq::new(5), &next, &mut out);
            !precedes((&out, seq), (&last, Seq::new(5)))
                && precedes((&out, seq), (&next, Seq::new(if last == next { 4 } else { Seq::MAX.get() })))
                && out.len() <= last.len()
        }
    }
}
