//! Every table: each byte of its file, and against the manifest.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::Path;
use std::sync::Arc;

use super::look::{Files, missing, name_of, table_numbers};
use super::report::{FileReport, FileVerdict, Problem};
use super::{LOOKS_MAX, Meter, WAIT_NS};
use crate::cache::{BlockCache, Budget};
use crate::check::mark;
use crate::env::{Env, IoErrorKind};
use crate::error::{Error, Result};
use crate::manifest::{self, Found, Version};
use crate::table::{TableMeta, TableReader};
use crate::types::FileNo;
use crate::types::file_name::{self, FileKind};

/// Blocks are read around the cache; only what an open table keeps is counted in it.
const CACHE_BYTES: u64 = 1 << 20;

/// Checks all tables that `version` names; without a version, each table of the directory by itself.
///
/// # Errors
/// What says nothing of a table, as [`Problem::of`] has it.
pub(super) async fn check(
    env: &Arc<dyn Env>,
    dir: &Path,
    version: Option<&Version>,
    files: &mut Files,
    problems: &mut Vec<Problem>,
    meter: &mut Meter<'_>,
) -> Result<()> {
    let cache = Arc::new(BlockCache::new(CACHE_BYTES, Arc::new(Budget::new(CACHE_BYTES))));
    let bench = Bench { env, dir, cache };
    let Some(version) = version else {
        let names: Vec<String> = files.keys().cloned().collect();
        for name in names {
            let Some((FileKind::Table, _)) = file_name::parse(&name) else { continue };
            meter.begin(&name);
            let verdict = match bench.check_unknown(&name, meter).await {
                Ok(()) => FileVerdict::Good,
                Err(error) => {
                    problems.push(Problem::of(&error, dir, false)?);
                    FileVerdict::Damaged
                }
            };
            files.entry(name).and_modify(|file| file.verdict = verdict);
        }
        return Ok(());
    };
    for (_, table) in version.keyspaces.values().flat_map(|keyspace| keyspace.tables()) {
        let name = name_of(FileKind::Table, table.no);
        if files.get(&name).is_none_or(|file| file.verdict == FileVerdict::Missing) {
            continue;
        }
        meter.begin(&name);
        match bench.check_listed(table, meter).await {
            Ok(()) => {}
            Err(error) if is_missing(&error) => match bench.still_names(table.no).await {
                // Compacted away since the look; nothing needs it.
                Ok(false) => {
                    mark!("verify_table_replaced");
                    files.remove(&name);
                }
                Ok(true) => {
                    let path = dir.join(&name);
                    let error = Error::corrupt_at(path, 0, "the manifest names this file, but it is missing");
                    problems.push(Problem::of(&error, dir, false)?);
                    let (verdict, unused) = (FileVerdict::Missing, Vec::new());
                    files.insert(name.clone(), FileReport { name, verdict, bytes: 0, unused });
                }
                Err(unread) => {
                    mark!("verify_table_unchecked");
                    problems.push(Problem::of(&unread, dir, false)?);
                    files.entry(name).and_modify(|file| file.verdict = FileVerdict::Unchecked);
                }
            },
            Err(error) => problems.push(Problem::of(&error, dir, false)?),
        }
    }
    Ok(())
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io(io) if io.kind == IoErrorKind::NotFound)
}

struct Bench<'a> {
    env: &'a Arc<dyn Env>,
    dir: &'a Path,
    cache: Arc<BlockCache>,
}

impl Bench<'_> {
    async fn check_listed(&self, table: &TableMeta, meter: &mut Meter<'_>) -> Result<()> {
        let reader = TableReader::open(self.env, &self.cache, self.dir, table, true).await?;
        reader.verify(&mut |bytes| meter.add(bytes)).await.map(drop)
    }

    async fn check_unknown(&self, name: &str, meter: &mut Meter<'_>) -> Result<()> {
        let path = self.dir.join(name);
        let (reader, _) = TableReader::open_unknown(self.env, &self.cache, &path).await?;
        reader.verify(&mut |bytes| meter.add(bytes)).await.map(drop)
    }

    /// Whether the manifest of now names the table. A read that fails, as one may beside a live writer or on a disk
    /// with a bad moment, is tried again.
    ///
    /// # Errors
    /// Why the manifest cannot be read: then nobody knows.
    async fn still_names(&self, no: FileNo) -> Result<bool> {
        let mut looks_left = LOOKS_MAX;
        loop {
            looks_left = looks_left.saturating_sub(1);
            match manifest::load(&**self.env, self.dir).await {
                Ok(Found::Database(loaded)) => {
                    return Ok(table_numbers(&loaded.version).any(|named| named == no));
                }
                Ok(_) => return Err(missing(self.dir, "it was removed while it was being verified")),
                Err(error) if looks_left == 0 => return Err(error),
                Err(_) => self.env.sleep_until(self.env.now().after(WAIT_NS)).await,
            }
        }
    }
}
