//! What there is to salvage: the tables and log segments that count by the best witness there is, each with its keyspace.
//!
//! A file is found by its identity, so that one under a wrong name is found too.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::witness::{Directory, Witness, length};
use super::{KeyExtent, LostExtent, Mark};
use crate::cache::Budget;
use crate::env::{Buf, Env, OpenOptions};
use crate::error::Result;
use crate::manifest::Version;
use crate::options::KeyspaceOptions;
use crate::record::{HEADER_REGION, read_full};
use crate::table::{Salvage, TableMeta};
use crate::types::file_name::{self, FileKind};
use crate::types::{FileId, FileNo, KeyspaceId, Seq};
use crate::wal::{self, Predecessor, SegmentHeader, SegmentState};

/// Memory that is counted while blocks are looked at; nothing is kept.
const BUDGET_BYTES: u64 = 64 << 20;

/// How the list of files was known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Structure {
    /// From `CURRENT` and the manifest that it names.
    InForce,
    /// From the newest manifest, which agrees with the files that are there.
    Newest,
    /// Not at all: every file counted by itself.
    Lost,
}

/// A table to salvage.
pub(super) struct TablePlan {
    /// `None` if it is missing.
    pub path: Option<PathBuf>,
    /// Where it should be.
    pub named: PathBuf,
    pub no: FileNo,
    pub id: Option<FileId>,
    pub keyspace: Option<KeyspaceId>,
    pub meta: Option<Arc<TableMeta>>,
    /// Length of the file.
    pub bytes: u64,
}

/// A log segment to salvage.
pub(super) struct SegmentPlan {
    pub path: Option<PathBuf>,
    pub named: PathBuf,
    pub id: Option<FileId>,
    pub header: Option<SegmentHeader>,
    pub bytes: u64,
}

/// What there is to salvage.
pub(super) struct Plan {
    pub env: Arc<dyn Env>,
    pub budget: Arc<Budget>,
    pub structure: Structure,
    /// The state described; empty if lost.
    pub version: Version,
    /// The manifest that tells it, and where its edits end; the directory if there is none.
    pub manifest: (PathBuf, u64),
    /// Names and options of keyspaces that anything tells of. No name is there twice.
    pub keyspaces: BTreeMap<KeyspaceId, (String, KeyspaceOptions)>,
    /// Keyspaces that edits behind the lost ones dropped.
    pub dropped: BTreeSet<KeyspaceId>,
    pub tables: Vec<TablePlan>,
    /// Tables that no edit which can be read names, before or since: they count only if edits are lost.
    pub newer: Vec<TablePlan>,
    pub segments: Vec<SegmentPlan>,
    pub lost: Vec<LostExtent>,
    pub marks: Vec<Mark>,
}

impl Plan {
    pub fn files_to_read(&self) -> u64 {
        self.tables.len().saturating_add(self.segments.len()) as u64
    }

    /// Looks for the best witness.
    pub async fn read(env: &Arc<dyn Env>, source: &Path) -> Result<Self> {
        let directory = Directory::read(env, source).await?;
        let budget = Arc::new(Budget::new(BUDGET_BYTES));
        let mut witness = Witness::default();
        let structure = witness.find(&**env, source, &directory).await?;
        let keyspaces = witness.keyspaces();
        let mut plan = Self {
            env: env.clone(),
            budget,
            structure,
            version: witness.version,
            manifest: witness.manifest.unwrap_or_else(|| (source.to_path_buf(), 0)),
            keyspaces,
            dropped: witness.dropped,
            tables: Vec::new(),
            newer: Vec::new(),
            segments: Vec::new(),
            lost: witness.lost,
            marks: Vec::new(),
        };
        plan.find_tables(source, &directory, &witness.owners, &witness.never_named).await?;
        plan.find_segments(source, &directory, &witness.log_ids).await?;
        plan.doubt_edits(&directory);
        if structure == Structure::Lost {
            plan.version = Version { next_keyspace_id: 0, ..Version::default() };
        }
        if structure == Structure::Lost || witness.is_partial {
            plan.marks.push(Mark { owner: None, keys: KeyExtent::all(), through: Seq::LIMIT });
        }
        Ok(plan)
    }

    async fn find_tables(
        &mut self,
        source: &Path,
        directory: &Directory,
        owners: &BTreeMap<FileNo, KeyspaceId>,
        never_named: &BTreeSet<FileNo>,
    ) -> Result<()> {
        let mut here = Vec::new();
        for no in directory.of(FileKind::Table) {
            let path = file_name::path(source, FileKind::Table, no);
            let bytes = length(&*self.env, &path).await;
            let facts = Salvage::begin(&self.env, &self.budget, &path, None).await.ok();
            here.push((no, path, bytes, facts.map(|walk| walk.facts().clone())));
        }
        if self.structure == Structure::Lost {
            for (no, path, bytes, facts) in here {
                let told = facts.as_ref().and_then(|facts| facts.keyspace);
                self.tables.push(TablePlan {
                    named: path.clone(),
                    path: Some(path),
                    no,
                    id: facts.as_ref().map(|facts| facts.id),
                    keyspace: told.or(owners.get(&no).copied()),
                    meta: facts.and_then(|facts| facts.meta).map(Arc::new),
                    bytes,
                });
            }
            return Ok(());
        }
        for keyspace in self.version.keyspaces.values() {
            for (_, meta) in keyspace.tables() {
                let own = here.iter().find(|(no, _, _, facts)| {
                    *no == meta.no && facts.as_ref().is_none_or(|facts| facts.id == meta.id)
                });
                let other =
                    || here.iter().find(|(.., facts)| facts.as_ref().is_some_and(|f| f.id == meta.id));
                let found = own.or_else(other);
                self.tables.push(TablePlan {
                    path: found.map(|(_, path, ..)| path.clone()),
                    named: file_name::path(source, FileKind::Table, meta.no),
                    no: meta.no,
                    id: Some(meta.id),
                    keyspace: Some(keyspace.id),
                    meta: Some(meta.clone()),
                    bytes: found.map_or(0, |(_, _, bytes, _)| *bytes),
                });
            }
        }
        let is_named = |id: FileId| self.tables.iter().any(|table| table.id == Some(id));
        for (no, path, bytes, facts) in here {
            let is_newer = no >= self.version.next_file_no || never_named.contains(&no);
            let Some(facts) = facts.filter(|_| is_newer) else { continue };
            let keyspace = facts.keyspace.filter(|id| !is_named(facts.id) && !self.was_dropped(*id));
            if keyspace.is_some() {
                self.newer.push(TablePlan {
                    named: path.clone(),
                    path: Some(path),
                    no,
                    id: Some(facts.id),
                    keyspace,
                    meta: facts.meta.map(Arc::new),
                    bytes,
                });
            }
        }
        Ok(())
    }

    async fn find_segments(
        &mut self,
        source: &Path,
        directory: &Directory,
        log_ids: &BTreeMap<FileNo, FileId>,
    ) -> Result<()> {
        let mut here = Vec::new();
        for no in directory.of(FileKind::Log) {
            let path = file_name::path(source, FileKind::Log, no);
            let bytes = length(&*self.env, &path).await;
            let header = read_segment_header(&*self.env, &path).await?;
            here.push((no, path, bytes, header));
        }
        if self.structure == Structure::Lost {
            for (no, path, bytes, header) in here {
                let id = header.as_ref().map(|header| header.id).or(log_ids.get(&no).copied());
                self.segments.push(SegmentPlan { named: path.clone(), path: Some(path), id, header, bytes });
            }
            return Ok(());
        }
        for (no, id) in &self.version.log_segments {
            let own = here.iter().find(|(at, _, _, header)| at == no && header.is_none_or(|h| h.id == *id));
            let found = own.or_else(|| here.iter().find(|(.., header)| header.is_some_and(|h| h.id == *id)));
            self.segments.push(SegmentPlan {
                path: found.map(|(_, path, ..)| path.clone()),
                named: file_name::path(source, FileKind::Log, *no),
                id: Some(*id),
                header: found.and_then(|(.., header)| *header),
                bytes: found.map_or(0, |(_, _, bytes, _)| *bytes),
            });
        }
        if !self.find_unnamed_segments(&here).await? {
            self.find_needed_segments_let_go();
        }
        Ok(())
    }

    /// Each segment is named before anything is written to it, and its name goes only when all of it lies below the log's
    /// start. So one without a name that was written to and begins there or later shows that edits are lost. True if there
    /// is one.
    async fn find_unnamed_segments(
        &mut self,
        here: &[(FileNo, PathBuf, u64, Option<SegmentHeader>)],
    ) -> Result<bool> {
        let mut is_any = false;
        for (no, path, bytes, header) in here {
            let Some((of, _)) = header.and_then(|header| header.sector_use()) else { continue };
            let is_named = self.version.log_segments.values().any(|id| *id == of.id);
            let is_ours = file_name::is_within_reach(*no, self.version.next_file_no);
            if is_named || !is_ours || of.base < self.version.log_start {
                continue;
            }
            // One whose first group cannot be read may have been written to.
            let perhaps = match wal::was_written(&*self.env, path, of).await {
                Ok(true) => "",
                Ok(false) => continue,
                // What passes says nothing of the file.
                Err(error) if error.is_retriable() => return Err(error),
                Err(_) => ", perhaps",
            };
            is_any = true;
            self.lose_edits(format!(
                "the newest edits of the manifest{perhaps}: {} is in use, and none that is left names it",
                path.display()
            ));
            self.segments.push(SegmentPlan {
                named: path.clone(),
                path: Some(path.clone()),
                id: Some(of.id),
                header: *header,
                bytes: *bytes,
            });
        }
        Ok(is_any)
    }

    /// A segment is let go, to be removed or used again, only by a durable edit that moves the log's start behind it. So
    /// where one is needed that nothing names, or that waits or is in another use, that edit is lost.
    fn find_needed_segments_let_go(&mut self) {
        let first_needed = self.version.log_start;
        let covers = |segment: &SegmentPlan, needed: &Predecessor| match segment.header {
            Some(header) => header.sector_use().is_some_and(|(of, limit)| {
                of.epoch == needed.epoch && of.base <= needed.end && needed.end <= limit
            }),
            // Missing, which is told elsewhere, or not to be read.
            None => true,
        };
        let let_go = self.segments.iter().find_map(|segment| {
            let SegmentState::InUse { base, predecessor: Some(needed), .. } = segment.header?.state else {
                return None;
            };
            let is_needed = base > first_needed && needed.end > first_needed;
            let is_there =
                || self.segments.iter().any(|other| other.id == Some(needed.id) && covers(other, &needed));
            (is_needed && !is_there()).then(|| segment.named.clone())
        });
        if let Some(named) = let_go {
            self.lose_edits(format!(
                "the newest edits of the manifest: one of them let go of the log segment before {}",
                named.display()
            ));
        }
    }

    /// Edits behind all that can be read are lost, or may be: they may have made or dropped any keyspace.
    fn lose_edits(&mut self, what: String) {
        let (file, offset) = self.manifest.clone();
        let (keyspace, keys) = (None, Some(KeyExtent::all()));
        self.lost.push(LostExtent { file, offset, len: 0, what, keyspace, keys, seqs: None });
        self.marks.push(Mark { owner: None, keys: KeyExtent::all(), through: Seq::LIMIT });
    }

    /// A file goes away only when a durable edit lets it go. So one that is missing under its number, however that came
    /// about, leaves open whether such an edit is lost, and with it others that dropped or made any keyspace.
    fn doubt_edits(&mut self, directory: &Directory) {
        if self.structure == Structure::Lost {
            return;
        }
        let tables = self.tables.iter().map(|table| (FileKind::Table, table.no, &table.path, &table.named));
        let segments = self.version.log_segments.keys().zip(&self.segments);
        let segments = segments.map(|(no, segment)| (FileKind::Log, *no, &segment.path, &segment.named));
        let missing = tables
            .chain(segments)
            .find(|(kind, no, path, _)| path.is_none() && !directory.files.contains(&(*kind, *no)));
        let Some((.., named)) = missing else { return };
        self.lose_edits(format!(
            "the newest edits of the manifest, perhaps: one of them may have let go of {}, which is missing",
            named.display()
        ));
    }

    /// True if the keyspace was dropped for certain. One that is not known need not have been: the edit that made it
    /// may be lost, unless the manifest knows that its number was given before.
    pub fn was_dropped(&self, id: KeyspaceId) -> bool {
        let is_past = id.get() < self.version.next_keyspace_id && !self.version.keyspaces.contains_key(&id);
        is_past || self.dropped.contains(&id)
    }

    /// The name of a keyspace in the new database, and whether it is made up.
    pub fn name_of(&self, id: KeyspaceId) -> (String, bool) {
        match self.keyspaces.get(&id) {
            Some((name, _)) => (name.clone(), false),
            None => (format!("keyspace-{id}"), true),
        }
    }

    pub fn options_of(&self, id: KeyspaceId) -> KeyspaceOptions {
        self.keyspaces.get(&id).map(|(_, options)| options.clone()).unwrap_or_default()
    }
}

async fn read_segment_header(env: &dyn Env, path: &Path) -> Result<Option<SegmentHeader>> {
    let file = env.disk().open(path, OpenOptions::read()).await?;
    let (outcome, region) = read_full(file.as_ref(), 0, HEADER_REGION, Buf::default()).await;
    Ok(outcome.ok().and_then(|()| SegmentHeader::decode(&region).ok()))
}
