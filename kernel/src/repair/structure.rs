//! Which files belong to the database and to which keyspaces, by the best witness there is.
//!
//! | witness | believed if |
//! |---|---|
//! | the manifest that `CURRENT` names | both are whole, and it misses no table while newer ones are there |
//! | the manifest with the greatest number | whole, and every file it names is there |
//! | its edits before the first bad byte | the files they name are exactly those that are there; everything is uncertain |
//! | none | every file counts by itself, and everything is uncertain: a file may be missing, or one too many there |
//!
//! That the files fit says nothing of an edit that made, dropped or changed a keyspace, for it touches none. So what
//! follows from lost edits is uncertain even if they fit, and a keyspace that the manifest has not made *yet* is taken
//! from log and tables all the same: only a number below the manifest's next one can be that of a dropped keyspace.
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

use super::{KeyExtent, LostExtent, Mark};
use crate::cache::Budget;
use crate::env::{Buf, Env, IoErrorKind, OpenOptions};
use crate::error::{Error, Result};
use crate::manifest::{self, Change, Found, Version};
use crate::options::KeyspaceOptions;
use crate::record::{HEADER_REGION, read_full};
use crate::table::{Salvage, TableMeta};
use crate::types::file_name::{self, CURRENT, FileKind};
use crate::types::{FileId, FileNo, KeyspaceId, Seq};
use crate::wal::SegmentHeader;

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
    /// Tables that were made after the last edit that can be read: they count only if edits are lost.
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
        plan.find_tables(source, &directory, &witness.owners).await?;
        plan.find_segments(source, &directory, &witness.log_ids).await?;
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
            let Some(facts) = facts.filter(|_| no >= self.version.next_file_no) else { continue };
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
        Ok(())
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

async fn length(env: &dyn Env, path: &Path) -> u64 {
    env.disk().metadata(path).await.map_or(0, |metadata| metadata.len)
}

async fn read_segment_header(env: &dyn Env, path: &Path) -> Result<Option<SegmentHeader>> {
    let file = env.disk().open(path, OpenOptions::read()).await?;
    let (outcome, region) = read_full(file.as_ref(), 0, HEADER_REGION, Buf::default()).await;
    Ok(outcome.ok().and_then(|()| SegmentHeader::decode(&region).ok()))
}

/// The numbered files that are there.
struct Directory {
    files: Vec<(FileKind, FileNo)>,
}

impl Directory {
    async fn read(env: &Arc<dyn Env>, source: &Path) -> Result<Self> {
        let missing = |what: &str| Error::NotFound { path: source.to_path_buf(), what: what.to_string() };
        let entries = match env.disk().list(source).await {
            Ok(entries) => entries,
            Err(error) if error.kind == IoErrorKind::NotFound => {
                return Err(missing("the directory does not exist"));
            }
            Err(error) => return Err(error.into()),
        };
        let ours = entries.iter().filter(|entry| !entry.is_dir);
        let files: Vec<_> = ours.filter_map(|entry| file_name::parse(&entry.name)).collect();
        if files.is_empty() {
            return Err(missing("no manifest, log segment or table is there"));
        }
        Ok(Self { files })
    }

    fn of(&self, kind: FileKind) -> impl Iterator<Item = FileNo> + '_ {
        self.files.iter().filter(move |file| file.0 == kind).map(|file| file.1)
    }
}

#[derive(Default)]
struct Witness {
    version: Version,
    /// Where it stands, and where its edits end.
    manifest: Option<(PathBuf, u64)>,
    /// Edits are lost, or may be: nobody knows what they said.
    is_partial: bool,
    /// By edits of the newest manifest behind the lost ones. Numbers are never used again, so this stays true.
    dropped: BTreeSet<KeyspaceId>,
    names: BTreeMap<KeyspaceId, (String, KeyspaceOptions)>,
    owners: BTreeMap<FileNo, KeyspaceId>,
    log_ids: BTreeMap<FileNo, FileId>,
    lost: Vec<LostExtent>,
}

impl Witness {
    async fn find(&mut self, env: &dyn Env, source: &Path, directory: &Directory) -> Result<Structure> {
        let problem = match manifest::load(env, source).await {
            Ok(Found::Database(loaded)) => {
                self.version = loaded.version;
                let path = file_name::path(source, FileKind::Manifest, loaded.no);
                self.manifest = Some((path.clone(), loaded.unused_from));
                if !self.is_outdated(directory) {
                    return Ok(Structure::InForce);
                }
                let what =
                    "it names tables that are missing while newer ones are there: its newest edits are lost";
                self.lose(path, 0, 0, what.into());
                for (kind, no) in self.named() {
                    if !directory.files.contains(&(kind, no)) {
                        self.lose(file_name::path(source, kind, no), 0, 0, "the file is missing".into());
                    }
                }
                None
            }
            Ok(_) => {
                Some("it says that the database was never finished, yet its files are there".to_string())
            }
            Err(newer @ Error::NewerFormat { .. }) => return Err(newer),
            Err(error) => Some(error.to_string()),
        };
        let told = self.lost.len();
        let has_manifest_problem = self.find_newest(env, source, directory).await?;
        let manifest_is_sound = !has_manifest_problem && problem.is_some();
        if let Some(problem) = problem.filter(|_| !has_manifest_problem || self.lost.len() == told) {
            self.lose(source.join(CURRENT), 0, 512, problem);
        }
        let is_whole = manifest_is_sound && self.names_only_what_is_there(directory);
        if is_whole || self.names_exactly_what_is_there(directory) {
            // Without CURRENT a file that was made later may be that of a later manifest.
            self.is_partial = !is_whole || self.is_older_than_a_file(directory);
            self.version.keyspaces.retain(|id, _| !self.dropped.contains(id));
            return Ok(Structure::Newest);
        }
        self.lost.push(LostExtent {
            file: source.to_path_buf(),
            offset: 0,
            len: 0,
            what: "no manifest tells which files belong to the database: each counts by itself, dropped data may come \
                   back, and every key is uncertain"
                .into(),
            keyspace: None,
            keys: Some(KeyExtent::all()),
            seqs: None,
        });
        self.take_hints_of_version();
        self.dropped.clear();
        Ok(Structure::Lost)
    }

    /// Reads the manifest with the greatest number, then older ones for hints; of two hints the newer counts. True if the
    /// newest is bad, missing, or not the newest there was.
    async fn find_newest(&mut self, env: &dyn Env, source: &Path, directory: &Directory) -> Result<bool> {
        let mut numbers: Vec<FileNo> = directory.of(FileKind::Manifest).collect();
        numbers.sort_unstable();
        let mut is_bad = numbers.is_empty();
        if is_bad {
            self.lose(source.join("*.manifest"), 0, 0, "no manifest is there".into());
        }
        for (age, no) in numbers.iter().rev().enumerate() {
            let path = file_name::path(source, FileKind::Manifest, *no);
            let salvaged = manifest::salvage(env, source, *no).await?;
            let bad = match &salvaged {
                Some(salvaged) => salvaged.bad.clone(),
                None => vec![(0, length(env, &path).await)],
            };
            if age == 0 {
                is_bad = salvaged.as_ref().is_none_or(|salvaged| !salvaged.whole || salvaged.superseded);
            }
            for (offset, len) in bad {
                self.lose(path.clone(), offset, len, "edits of the manifest that cannot be read".into());
            }
            let Some(salvaged) = salvaged else { continue };
            for change in salvaged.later.iter().rev() {
                if let Change::DropKeyspace { id } = change
                    && age == 0
                {
                    self.dropped.insert(*id);
                }
                self.take_hint(change);
            }
            for change in &salvaged.version.snapshot().changes {
                self.take_hint(change);
            }
            if age == 0 {
                self.version = salvaged.version;
                self.manifest = Some((path, salvaged.end));
            }
        }
        Ok(is_bad)
    }

    fn take_hints_of_version(&mut self) {
        for change in &self.version.snapshot().changes {
            self.take_hint(change);
        }
        self.version = Version::default();
    }

    /// Takes a hint, unless a newer one was taken before.
    fn take_hint(&mut self, change: &Change) {
        match change {
            Change::CreateKeyspace { id, name, options } if options.validate().is_ok() => {
                let is_taken = self.names.values().any(|(used, _)| used == name);
                if !is_taken && !self.dropped.contains(id) {
                    self.names.entry(*id).or_insert_with(|| (name.clone(), options.clone()));
                }
            }
            Change::AddTable { keyspace, table, .. } => {
                self.owners.entry(table.no).or_insert(*keyspace);
            }
            Change::AddLogSegment { no, id } => {
                self.log_ids.entry(*no).or_insert(*id);
            }
            _ => {}
        }
    }

    /// Names and options of keyspaces: those of the version, and hints at what may have come after it. A hint at a name
    /// that is in use, or at a number that the version knows to be a dropped keyspace's, is none.
    fn keyspaces(&mut self) -> BTreeMap<KeyspaceId, (String, KeyspaceOptions)> {
        let mut keyspaces = std::mem::take(&mut self.names);
        let version = &self.version;
        keyspaces.retain(|id, (name, _)| {
            id.get() >= version.next_keyspace_id && version.keyspace_named(name).is_none()
        });
        for keyspace in version.keyspaces.values() {
            keyspaces.insert(keyspace.id, (keyspace.name.clone(), keyspace.options.clone()));
        }
        keyspaces
    }

    fn named(&self) -> Vec<(FileKind, FileNo)> {
        let tables = self.version.keyspaces.values().flat_map(|keyspace| keyspace.tables());
        let mut named: Vec<_> = tables.map(|(_, table)| (FileKind::Table, table.no)).collect();
        named.extend(self.version.log_segments.keys().map(|no| (FileKind::Log, *no)));
        named.sort_unstable();
        named
    }

    fn names_only_what_is_there(&self, directory: &Directory) -> bool {
        self.named().iter().all(|file| directory.files.contains(file))
    }

    /// Its end was lost without a trace: what it names was removed since, and other tables came.
    fn is_outdated(&self, directory: &Directory) -> bool {
        let named = self.named();
        let is_newer = |no| no >= self.version.next_file_no;
        let is_missing =
            |file: &(FileKind, FileNo)| file.0 == FileKind::Table && !directory.files.contains(file);
        named.iter().any(is_missing) && directory.of(FileKind::Table).any(is_newer)
    }

    /// A table or log segment was made after its last edit. That may be a flush which a kill interrupted.
    fn is_older_than_a_file(&self, directory: &Directory) -> bool {
        let mut made = directory.of(FileKind::Table).chain(directory.of(FileKind::Log));
        made.any(|no| no >= self.version.next_file_no)
    }

    /// The tables of dropped keyspaces may be there or not.
    fn names_exactly_what_is_there(&self, directory: &Directory) -> bool {
        let dropped = self.version.keyspaces.values().filter(|keyspace| self.dropped.contains(&keyspace.id));
        let gone: BTreeSet<FileNo> =
            dropped.flat_map(|keyspace| keyspace.tables()).map(|(_, table)| table.no).collect();
        let counts = |file: &(FileKind, FileNo)| {
            file.0 == FileKind::Log || file.0 == FileKind::Table && !gone.contains(&file.1)
        };
        let mut here: Vec<_> = directory.files.iter().copied().filter(counts).collect();
        here.sort_unstable();
        let named: Vec<_> = self.named().into_iter().filter(counts).collect();
        !self.version.keyspaces.is_empty() && here == named
    }

    fn lose(&mut self, file: PathBuf, offset: u64, len: u64, what: String) {
        self.lost.push(LostExtent { file, offset, len, what, keyspace: None, keys: None, seqs: None });
    }
}
