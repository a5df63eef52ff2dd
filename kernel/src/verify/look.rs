//! One look at structure and log: CURRENT, manifest, directory, segments.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Meter;
use super::report::{FileReport, FileVerdict, Problem, UnusedRegion};
use crate::env::{BoxFuture, DirEntry, Env, IoErrorKind};
use crate::error::{Error, Result};
use crate::manifest::{self, Found, Loaded, Version};
use crate::reapply::Reapplier;
use crate::record::SECTOR;
use crate::types::file_name::{self, CURRENT, CURRENT_TMP, FileKind, LOCK, RESERVE};
use crate::types::{FileId, FileNo, Seq};
use crate::wal::{self, BatchSink, LogPlace, ReplayRequest};

/// Files by name.
pub(super) type Files = BTreeMap<String, FileReport>;

/// What a look found.
pub(super) struct Look {
    pub files: Files,
    pub problems: Vec<Problem>,
    /// `None` if the manifest could not be read.
    pub version: Option<Version>,
    pub last_seq: Option<Seq>,
}

/// Bytes of all files, for telling the progress.
pub(super) async fn bytes_of(env: &dyn Env, dir: &Path) -> Result<u64> {
    let entries = match env.disk().list(dir).await {
        Ok(entries) => entries,
        Err(error) if error.kind == IoErrorKind::NotFound => {
            return Err(missing(dir, "the directory does not exist"));
        }
        Err(error) => return Err(error.into()),
    };
    let mut bytes: u64 = 0;
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        bytes = bytes.saturating_add(len_of(env, &dir.join(&entry.name)).await);
    }
    Ok(bytes)
}

pub(super) fn missing(dir: &Path, what: &str) -> Error {
    Error::NotFound { path: dir.to_path_buf(), what: what.to_string() }
}

/// 0 if it went away meanwhile.
async fn len_of(env: &dyn Env, path: &Path) -> u64 {
    env.disk().metadata(path).await.map_or(0, |metadata| metadata.len)
}

pub(super) async fn look(env: &Arc<dyn Env>, dir: &Path, meter: &mut Meter<'_>) -> Result<Look> {
    meter.begin(CURRENT);
    let mut look = Look { files: Files::new(), problems: Vec::new(), version: None, last_seq: None };
    let loaded = match manifest::load(&**env, dir).await {
        Ok(Found::Database(loaded)) => Some(loaded),
        Ok(Found::Nothing) => return Err(missing(dir, "there is no file CURRENT")),
        Ok(Found::Unfinished { .. }) => return Err(missing(dir, "its creation has not been finished")),
        Err(error @ Error::Invalid(_)) => return Err(error),
        Err(error) => {
            look.problems.push(Problem::of(&error, dir, false)?);
            None
        }
    };
    let entries = env.disk().list(dir).await?;
    for entry in &entries {
        let bytes = if entry.is_dir { 0 } else { len_of(&**env, &dir.join(&entry.name)).await };
        look.files.insert(entry.name.clone(), first_verdict(entry, bytes, loaded.as_ref()));
    }
    if let Some(loaded) = loaded {
        look.manifest(&loaded, meter);
        look.check_names(dir, &loaded)?;
        look.log(env, dir, &loaded.version, meter).await?;
        look.version = Some(loaded.version);
    }
    Ok(look)
}

/// What the name alone says; files that are read get their verdict later.
fn first_verdict(entry: &DirEntry, bytes: u64, loaded: Option<&Loaded>) -> FileReport {
    let name = entry.name.clone();
    let whole = |why| vec![UnusedRegion { start: 0, end: bytes, why }];
    let (verdict, unused) = if entry.is_dir {
        (FileVerdict::Foreign, Vec::new())
    } else if name == CURRENT {
        (FileVerdict::Good, Vec::new())
    } else if name == LOCK || name == RESERVE {
        (FileVerdict::Empty, whole("its content means nothing"))
    } else if name == CURRENT_TMP {
        (FileVerdict::Leftover, whole("left by a crash, or being made"))
    } else {
        match (file_name::parse(&name), loaded) {
            (None, _) => (FileVerdict::Foreign, whole("not a file of this database")),
            (Some(_), None) => (FileVerdict::Unchecked, Vec::new()),
            (Some(file), Some(loaded)) if is_listed(loaded, file) => (FileVerdict::Good, Vec::new()),
            (Some((_, no)), Some(loaded)) if !file_name::is_within_reach(no, loaded.version.next_file_no) => {
                (FileVerdict::Foreign, whole("not a file of this database: it never gave this number"))
            }
            (Some(_), Some(_)) => {
                (FileVerdict::Leftover, whole("nothing names this file: left by a crash, or being made"))
            }
        }
    };
    FileReport { name, verdict, bytes, unused }
}

fn is_listed(loaded: &Loaded, (kind, no): (FileKind, FileNo)) -> bool {
    match kind {
        FileKind::Manifest => loaded.no == no,
        FileKind::Log => loaded.version.log_segments.contains_key(&no),
        FileKind::Table => table_numbers(&loaded.version).any(|table| table == no),
    }
}

pub(super) fn table_numbers(version: &Version) -> impl Iterator<Item = FileNo> {
    version.keyspaces.values().flat_map(|keyspace| keyspace.tables()).map(|(_, table)| table.no)
}

pub(super) fn name_of(kind: FileKind, no: FileNo) -> String {
    let path = file_name::path(Path::new(""), kind, no);
    path.to_str().unwrap_or_default().to_string()
}

impl Look {
    fn manifest(&mut self, loaded: &Loaded, meter: &mut Meter<'_>) {
        meter.add(SECTOR as u64);
        let name = name_of(FileKind::Manifest, loaded.no);
        meter.begin(&name);
        let Some(file) = self.files.get_mut(&name) else { return };
        meter.add(file.bytes);
        if loaded.unused_from < file.bytes {
            let why = if loaded.torn {
                "behind the last edit: one that was being written when the writer died"
            } else {
                "behind the last edit"
            };
            file.unused.push(UnusedRegion { start: loaded.unused_from, end: file.bytes, why });
        }
    }

    /// Tables and the manifest that must be there; segments are opened later.
    fn check_names(&mut self, dir: &Path, loaded: &Loaded) -> Result<()> {
        let tables = table_numbers(&loaded.version).map(|no| (FileKind::Table, no));
        for (kind, no) in tables.chain([(FileKind::Manifest, loaded.no)]) {
            if !self.files.contains_key(&name_of(kind, no)) {
                self.note_missing(dir, kind, no)?;
            }
        }
        Ok(())
    }

    fn note_missing(&mut self, dir: &Path, kind: FileKind, no: FileNo) -> Result<()> {
        let name = name_of(kind, no);
        let error = Error::corrupt_at(dir.join(&name), 0, "the manifest names this file, but it is missing");
        self.problems.push(Problem::of(&error, dir, false)?);
        let report = FileReport { name, verdict: FileVerdict::Missing, bytes: 0, unused: Vec::new() };
        self.files.insert(report.name.clone(), report);
        Ok(())
    }

    async fn log(
        &mut self,
        env: &Arc<dyn Env>,
        dir: &Path,
        version: &Version,
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let segments: Vec<(FileNo, FileId)> =
            version.log_segments.iter().map(|(no, id)| (*no, *id)).collect();
        let request = ReplayRequest {
            dir,
            segments: &segments,
            first_needed: version.log_start,
            flushed: version.flushed(),
            known_durable: version.known_durable,
            direct: true,
        };
        meter.begin("the log");
        let mut batches = Batches { log: Reapplier::new(version), version };
        let examined = wal::examine(&**env, &request, &mut batches, &mut |bytes| meter.add(bytes)).await?;
        let mut sound = examined.problems.is_empty();
        for error in &examined.problems {
            self.problems.push(Problem::of(error, dir, false)?);
        }
        for segment in examined.segments {
            let name = name_of(FileKind::Log, segment.no);
            if !self.files.contains_key(&name) {
                let report = FileReport {
                    name: name.clone(),
                    verdict: FileVerdict::Missing,
                    bytes: 0,
                    unused: Vec::new(),
                };
                self.files.insert(name.clone(), report);
            }
            for (error, harmless) in &segment.problems {
                sound &= harmless;
                self.problems.push(Problem::of(error, dir, *harmless)?);
            }
            if let Some(file) = self.files.get_mut(&name) {
                let unused = segment.unused.into_iter();
                file.unused = unused
                    .map(|(part, why)| UnusedRegion { start: part.start, end: part.end, why })
                    .collect();
            }
        }
        self.last_seq = sound.then_some(batches.log.progress.last_seq);
        Ok(())
    }
}

/// Marks every file damaged in which a byte that matters is wrong.
pub(super) fn blame(dir: &Path, files: &mut Files, problems: &[Problem]) {
    for problem in problems.iter().filter(|problem| !problem.harmless) {
        if let Some(file) = files.get_mut(&problem.name_in(dir))
            && file.verdict != FileVerdict::Missing
        {
            file.verdict = FileVerdict::Damaged;
        }
    }
}

/// Checks batches as a replay would and keeps none of them.
struct Batches<'a> {
    log: Reapplier<'a>,
    version: &'a Version,
}

impl BatchSink for Batches<'_> {
    fn batch(&mut self, place: LogPlace<'_>, body: &[u8]) -> Result<()> {
        self.log.batch(&place, body)
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<()>> {
        // The entries themselves are of no interest, only that they can be taken.
        let progress = self.log.progress;
        self.log = Reapplier::new(self.version);
        self.log.progress = progress;
        Box::pin(async { Ok(()) })
    }
}
