//! Reads a whole table around the cache and checks everything that a reader relies on.
//!
//! Beyond the checksums: blocks follow one another without a gap; entries ascend within and across blocks; every
//! separator stands between the blocks it separates; every key passes its filter; the properties are what the
//! entries say. What was kept in memory since opening is compared with the disk.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::sync::Arc;

use super::block::{EntryCursor, check_order, precedes};
use super::filter::{key_hash, may_contain};
use super::frame::{Handle, Role};
use super::meta::Properties;
use super::reader::{Partition, TableReader, decode_handle, decode_partition, read_footer, read_header};
use super::tombstones::decode_tombstones;
use crate::cache::Block;
use crate::error::{Error, Result};
use crate::types::Seq;

/// What a verification has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct VerifiedTable {
    /// Entries, range tombstones not counted.
    pub(crate) entries: u64,
    /// Blocks of every kind.
    pub(crate) blocks: u64,
}

/// Where a verification is.
struct Walk<'a> {
    table: &'a TableReader,
    progress: &'a mut (dyn FnMut(u64) + Send),
    counted: Properties,
    blocks: u64,
    /// Where the next block must begin.
    position: u64,
    /// The last entry seen, and the last separator: what follows must stand after both.
    last: Option<(Vec<u8>, Seq)>,
    separator: Option<(Vec<u8>, Seq)>,
}

impl TableReader {
    /// Reads every byte and checks every rule. `progress` is told the bytes read since it was last called.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming file, offset and rule; [`Error::Io`].
    pub(crate) async fn verify(&self, progress: &mut (dyn FnMut(u64) + Send)) -> Result<VerifiedTable> {
        let mut walk = Walk {
            table: self,
            progress,
            counted: Properties::uncounted(self.properties.reason, self.properties.keyspace),
            blocks: 0,
            position: self.blocks_start,
            last: None,
            separator: None,
        };
        walk.ends().await?;
        let top_index = self.footer.top_index;
        let mut top = self.located(top_index, EntryCursor::new(Arc::clone(&self.top_index)))?;
        self.located(top_index, top.seek_first())?;
        while top.valid() {
            let partition = self.located(top_index, decode_partition(top.value()))?;
            walk.partition(partition, (top.key(), top.seq())).await?;
            self.located(top_index, top.next())?;
        }
        walk.kept_blocks().await?;
        if walk.counted != self.properties {
            return Err(
                self.corrupt(self.footer.properties, "the properties differ from what the entries say")
            );
        }
        Ok(VerifiedTable { entries: walk.counted.entries, blocks: walk.blocks })
    }
}

impl Walk<'_> {
    /// Header, padding and footer, read again.
    async fn ends(&mut self) -> Result<()> {
        let table = self.table;
        let bytes = table.file.len().await?;
        if bytes != table.meta.bytes {
            return Err(Error::corrupt_at(
                &table.path,
                bytes,
                "the file's length has changed since it was opened",
            ));
        }
        let header = read_header(&*table.file, &table.path, bytes).await?;
        let (footer, blocks_end) = read_footer(&*table.file, &table.path, &header, bytes).await?;
        if (header.id, header.len, footer, blocks_end)
            != (table.meta.id, table.blocks_start, table.footer, table.blocks_end)
        {
            return Err(Error::corrupt_at(&table.path, 0, "the file has been replaced since it was opened"));
        }
        (self.progress)(bytes.saturating_sub(blocks_end).saturating_add(header.len));
        Ok(())
    }

    /// The next block of the file, which must begin where the last one ended.
    async fn block(&mut self, handle: Handle, role: Role) -> Result<Block> {
        if handle.offset != self.position {
            return Err(self.table.corrupt(handle, "a block does not begin where the one before it ends"));
        }
        let block = self.table.load_around_cache(handle, role).await?;
        self.position = handle.end();
        self.blocks = self.blocks.saturating_add(1);
        (self.progress)(handle.len);
        self.table.env.slice(handle.len).await;
        Ok(block)
    }

    async fn partition(&mut self, partition: Partition, separator: (&[u8], Seq)) -> Result<()> {
        let table = self.table;
        // The index stands after what it points to, so it is read out of turn and its place checked later.
        let index = table.load_around_cache(partition.index, Role::Index).await?;
        self.check_entries(partition.index, &index)?;
        let mut cursor = table.located(partition.index, EntryCursor::new(Arc::new(index)))?;
        table.located(partition.index, cursor.seek_first())?;
        let mut hashes = Vec::new();
        while cursor.valid() {
            let handle = table.located(partition.index, decode_handle(cursor.value()))?;
            self.data_block(handle, (cursor.key(), cursor.seq()), &mut hashes).await?;
            table.located(partition.index, cursor.next())?;
        }
        if self.separator.as_ref().map(|(key, seq)| (&key[..], *seq)) != Some(separator) {
            return Err(
                table.corrupt(partition.index, "the top index's separator is not the partition's last")
            );
        }
        if partition.filter.len > 0 {
            let filter = self.block(partition.filter, Role::Filter).await?;
            for hash in hashes {
                if !table.located(partition.filter, may_contain(filter.bytes(), hash))? {
                    return Err(table.corrupt(partition.filter, "the filter denies a key that is there"));
                }
            }
        }
        self.block(partition.index, Role::Index).await?;
        self.counted.partitions = self.counted.partitions.saturating_add(1);
        Ok(())
    }

    async fn data_block(
        &mut self,
        handle: Handle,
        separator: (&[u8], Seq),
        hashes: &mut Vec<u64>,
    ) -> Result<()> {
        let table = self.table;
        let block = self.block(handle, Role::Data).await?;
        self.check_entries(handle, &block)?;
        self.counted.data_blocks = self.counted.data_blocks.saturating_add(1);
        self.counted.data_bytes = self.counted.data_bytes.saturating_add(handle.len);
        let mut cursor = table.located(handle, EntryCursor::new(Arc::new(block)))?;
        table.located(handle, cursor.seek_first())?;
        let first = (cursor.key(), cursor.seq());
        let after = |bound: &Option<(Vec<u8>, Seq)>| {
            bound.as_ref().is_none_or(|(key, seq)| precedes((key, *seq), first))
        };
        if !cursor.valid() || !after(&self.last) || !after(&self.separator) {
            return Err(table.corrupt(handle, "a block is empty or does not follow the one before it"));
        }
        while cursor.valid() {
            hashes.push(key_hash(cursor.key()));
            let (key, seq, kind) = (cursor.key(), cursor.seq(), cursor.kind());
            let is_superseded = self.last.as_ref().is_some_and(|(last, _)| last == key);
            self.counted.count_entry(key, seq, kind, cursor.value_range().len(), is_superseded);
            self.last = Some((cursor.key().to_vec(), cursor.seq()));
            table.located(handle, cursor.next())?;
        }
        if self.last.as_ref().is_some_and(|(key, seq)| precedes(separator, (key, *seq))) {
            return Err(table.corrupt(handle, "a separator stands before the end of its block"));
        }
        self.separator = Some((separator.0.to_vec(), separator.1));
        Ok(())
    }

    fn check_entries(&mut self, handle: Handle, block: &Block) -> Result<()> {
        self.counted.block_bytes_max = self.counted.block_bytes_max.max(block.bytes().len() as u64);
        self.table.located(handle, check_order(block.bytes()))
    }

    /// The blocks that an open table keeps in memory.
    async fn kept_blocks(&mut self) -> Result<()> {
        let (table, footer) = (self.table, self.table.footer);
        let tombstones = self.block(footer.tombstones, Role::Tombstones).await?;
        let tombstones = table.located(footer.tombstones, decode_tombstones(tombstones.bytes()))?;
        let top_index = self.block(footer.top_index, Role::TopIndex).await?;
        let properties = self.block(footer.properties, Role::Properties).await?;
        let properties = Properties::decode(properties.bytes())
            .map_err(|unreadable| unreadable.in_file(&table.path, footer.properties.offset))?;
        let same = tombstones == *table.range_tombstones()
            && top_index.bytes() == table.top_index.bytes()
            && properties == table.properties;
        if !same || self.position != table.blocks_end {
            return Err(
                table.corrupt(footer.properties, "the table differs from what was read when it was opened")
            );
        }
        let last_key = self.last.take().map_or(Vec::new(), |(key, _)| key);
        self.counted.count_tombstones(&tombstones, &last_key);
        Ok(())
    }
}
