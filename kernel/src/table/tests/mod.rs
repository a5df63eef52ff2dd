//! Whole tables: against a sorted map, under damage to any bit or length, and as strangers.

mod damage;
mod memory_env;
mod model;
mod passage;
mod salvage;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory_env::{MemoryEnv, run};

use super::*;
use crate::cache::{BlockCache, Budget};
use crate::env::Env;
use crate::error::Result;
use crate::options::Compression;
use crate::types::{FileId, FileNo, KeyspaceId, OpKind, RangeTombstone, Seq, file_name};

/// Entries by order of the table.
type Model = BTreeMap<(Vec<u8>, Reverse<Seq>), (OpKind, Vec<u8>)>;

/// A world with one directory and one cache.
struct World {
    memory: Arc<MemoryEnv>,
    env: Arc<dyn Env>,
    cache: Arc<BlockCache>,
}

const DIR: &str = "db";

impl World {
    fn new(cache_bytes: u64) -> Self {
        let memory = Arc::new(MemoryEnv::default());
        let budget = Arc::new(Budget::new(1 << 30));
        let env: Arc<dyn Env> = memory.clone();
        Self { memory, env, cache: Arc::new(BlockCache::new(cache_bytes, budget)) }
    }

    fn path(no: u64) -> PathBuf {
        file_name::path(Path::new(DIR), file_name::FileKind::Table, FileNo::new(no))
    }

    fn build(
        &self,
        no: u64,
        options: BuildOptions,
        model: &Model,
        tombstones: &[RangeTombstone],
    ) -> Result<TableMeta> {
        run(async {
            let (no, id) = (FileNo::new(no), FileId::new(no.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let mut builder = TableBuilder::create(&self.env, Path::new(DIR), no, id, options).await?;
            for ((key, Reverse(seq)), (kind, value)) in model {
                if let Err(error) = builder.add(key, *seq, *kind, value).await {
                    builder.abandon().await;
                    return Err(error);
                }
            }
            tombstones.iter().cloned().for_each(|t| builder.add_range_tombstone(t));
            builder.finish().await
        })
    }

    fn open(&self, meta: &TableMeta) -> Result<Arc<TableReader>> {
        run(TableReader::open(&self.env, &self.cache, Path::new(DIR), meta, true))
    }
}

fn options(block_bytes: u32, compression: Compression, filter_bits_per_key: u32) -> BuildOptions {
    let (reason, keyspace) = (BuildReason::Flush, KeyspaceId::new(5));
    BuildOptions { block_bytes, compression, filter_bits_per_key, reason, keyspace }
}

fn tombstone(start: &[u8], end: &[u8], seq: u64) -> RangeTombstone {
    RangeTombstone { start: start.into(), end: end.into(), seq: Seq::new(seq) }
}

/// Some hundred entries of every kind, in several partitions of small blocks.
fn sample(keys: u32) -> (Model, Vec<RangeTombstone>) {
    let mut model = Model::new();
    for i in 0..keys {
        let key = format!("key{:05}", i * 3).into_bytes();
        for version in 0..=(i % 3) + if i == keys / 2 { 40 } else { 0 } {
            let seq = Seq::new(u64::from(i + version * 7 + 1));
            let value = format!("value of {i} as of {version} ").repeat((i % 4) as usize).into_bytes();
            let entry = if version == 1 { (OpKind::Delete, Vec::new()) } else { (OpKind::Put, value) };
            model.insert((key.clone(), Reverse(seq)), entry);
        }
    }
    let tombstones = vec![
        tombstone(b"a", b"key00020", 9),
        tombstone(b"key00010", b"key00500", 1000),
        tombstone(b"key00400", b"zebra", 3),
    ];
    (model, tombstones)
}
