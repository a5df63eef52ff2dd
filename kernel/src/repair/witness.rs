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
//! A table is newer if no edit that can be read names it, before or since. A compaction may take its numbers long before
//! its edit, so also a number below the manifest's next one can be that of a newer table.

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

use super::structure::Structure;
use super::{KeyExtent, LostExtent};
use crate::env::{Env, IoErrorKind};
use crate::error::{Error, Result};
use crate::manifest::{self, Change, Found, Version};
use crate::options::KeyspaceOptions;
use crate::types::file_name::{self, CURRENT, FileKind};
use crate::types::{FileId, FileNo, KeyspaceId};

/// The numbered files that are there.
pub(super) struct Directory {
    pub files: Vec<(FileKind, FileNo)>,
}

impl Directory {
    pub async fn read(env: &Arc<dyn Env>, source: &Path) -> Result<Self> {
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

    pub fn of(&self, kind: FileKind) -> impl Iterator<Item = FileNo> + '_ {
        self.files.iter().filter(move |file| file.0 == kind).map(|file| file.1)
    }
}

/// What is believed.
#[derive(Default)]
pub(super) struct Witness {
    pub version: Version,
    /// Where it stands, and where its edits end.
    pub manifest: Option<(PathBuf, u64)>,
    /// Edits are lost, or may be: nobody knows what they said.
    pub is_partial: bool,
    /// By edits of the newest manifest behind the lost ones. Numbers are never used again, so this stays true.
    pub dropped: BTreeSet<KeyspaceId>,
    names: BTreeMap<KeyspaceId, (String, KeyspaceOptions)>,
    pub owners: BTreeMap<FileNo, KeyspaceId>,
    pub log_ids: BTreeMap<FileNo, FileId>,
    /// Tables that are there and that no edit of the manifest in force ever named.
    pub never_named: BTreeSet<FileNo>,
    pub lost: Vec<LostExtent>,
}

impl Witness {
    /// Looks for the best witness.
    pub async fn find(&mut self, env: &dyn Env, source: &Path, directory: &Directory) -> Result<Structure> {
        let problem = match manifest::load(env, source).await {
            Ok(Found::Database(loaded)) => {
                self.version = loaded.version;
                let path = file_name::path(source, FileKind::Manifest, loaded.no);
                self.manifest = Some((path.clone(), loaded.unused_from));
                let tables = directory.of(FileKind::Table);
                self.never_named = tables.filter(|no| loaded.never_named.contains(*no)).collect();
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
    pub fn keyspaces(&mut self) -> BTreeMap<KeyspaceId, (String, KeyspaceOptions)> {
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
        let is_missing =
            |file: &(FileKind, FileNo)| file.0 == FileKind::Table && !directory.files.contains(file);
        named.iter().any(is_missing) && !self.never_named.is_empty()
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

/// Length of the file, 0 if it cannot be told.
pub(super) async fn length(env: &dyn Env, path: &Path) -> u64 {
    env.disk().metadata(path).await.map_or(0, |metadata| metadata.len)
}
