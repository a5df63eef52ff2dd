//! The one writer of the manifest. It belongs to one task at a time.
//!
//! A manifest file is filled with zeros when it is made, so an edit normally needs no room from the file system.
//! When three quarters are used the writer tries to move to a new file with each edit, so that a full disk is met
//! while there is still room to go on without it.
//!
//! Should the disk be full in the middle of an edit, the edit is refused, but its bytes may have reached the file
//! and would count at the next opening. So the writer moves to a new file *without* the edit at once. Until that
//! has succeeded it is not settled, and whatever the refused edit names must not be removed.

use std::sync::Arc;

use super::current::{Current, CurrentState, InForce, NotInstalled};
use super::file::ManifestFile;
use super::{Change, Edit, FileNumbers, Version};
use crate::check::{Phase, mark};
use crate::env::{Env, IoError, IoErrorKind, SharedDir};
use crate::error::{Error, Result};
use crate::events::{SlowLimit, Timed, Where};
use crate::record::remove_quietly;
use crate::types::{FileId, FileNo, Lsn, file_name};

/// Writes edits. Every future it gives must be driven to its end: if one is dropped midway it is unknown what
/// became durable, and the writer stops.
pub struct ManifestWriter {
    env: Arc<dyn Env>,
    dir: Arc<SharedDir>,
    database: u64,
    numbers: Arc<FileNumbers>,
    file: ManifestFile,
    /// Where the next edit goes.
    end: Lsn,
    /// Everything below is durable: the end of the last edit. Its seal, which may follow, need not be.
    durable: Lsn,
    /// The last edit could not be sealed, so its place may not be written again: the next edit needs a new file.
    unsealed: bool,
    /// The state that is durable.
    version: Arc<Version>,
    /// Set after a refused edit that may have reached the file.
    unsettled: Option<IoError>,
    under_way: bool,
    stopped: Option<Error>,
    slow: SlowLimit,
}

/// Why the writer did not move to a new file.
enum NotMoved {
    /// Nothing changed; it may work later.
    Unchanged(IoError),
    /// It is unknown which manifest is in force.
    Unknown(IoError),
}

impl ManifestWriter {
    /// Writes a new manifest that describes `version`: file and name are durable when it returns. It is not in
    /// force before [`ManifestWriter::install_current`].
    ///
    /// # Errors
    /// What the disk says; nothing is left behind but, perhaps, an orphan.
    pub async fn create(
        env: Arc<dyn Env>,
        dir: Arc<SharedDir>,
        database: u64,
        numbers: Arc<FileNumbers>,
        version: Version,
    ) -> Result<Self> {
        let (file, end, version) = new_file(&env, &dir, database, &numbers, version).await?;
        Ok(Self {
            env,
            dir,
            database,
            numbers,
            file,
            end,
            durable: end,
            unsealed: false,
            version: Arc::new(version),
            unsettled: None,
            under_way: false,
            stopped: None,
            slow: SlowLimit::new(0),
        })
    }

    /// Puts this manifest into force: one step, durable when it returns. The files of the previous state may be
    /// removed then.
    ///
    /// # Errors
    /// [`Error::DiskFull`]: nothing changed, ask again later. [`Error::Stopped`]: unknown; reopen.
    pub async fn install_current(&mut self) -> Result<()> {
        self.begin()?;
        let _phase = Phase::begin("manifest_switch");
        let outcome = install(&*self.env, &self.dir, self.database, &self.file, self.end).await;
        self.under_way = false;
        match outcome {
            Ok(()) => {
                tracing::info!(file = %self.file.path.display(), "manifest switched");
                Ok(())
            }
            Err(NotMoved::Unchanged(error)) => Err(error.into()),
            Err(NotMoved::Unknown(error)) => Err(self.stop(&error)),
        }
    }

    /// From now on tells of edits and moves that take longer than this.
    pub(crate) fn report_slow(&mut self, slow: SlowLimit) {
        self.slow = slow;
    }

    /// The durable state.
    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Number and identity of the file in use.
    pub fn file(&self) -> (FileNo, FileId) {
        (self.file.no, self.file.of.id)
    }

    /// False after an edit was refused for want of room and may yet count at the next opening: what it names must
    /// be kept until this is true again, which the next successful [`ManifestWriter::append`] or
    /// [`ManifestWriter::settle`] brings.
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_none()
    }

    /// Why the manifest takes no more edits, if so.
    pub fn stopped(&self) -> Option<&Error> {
        self.stopped.as_ref()
    }

    /// Makes an edit durable and gives the state after it. The next file number is added to every edit.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the edit breaks a rule of [`Version::apply`], for example because the keyspace was
    /// dropped meanwhile. [`Error::DiskFull`], [`Error::TooManyFiles`]: it did not happen; see
    /// [`ManifestWriter::is_settled`]. [`Error::Stopped`]: it may have happened; no more edits in this opening.
    pub async fn append(&mut self, edit: Edit) -> Result<Arc<Version>> {
        self.begin()?;
        let outcome = self.append_edit(edit).await;
        self.under_way = false;
        outcome
    }

    async fn append_edit(&mut self, mut edit: Edit) -> Result<Arc<Version>> {
        edit.changes.insert(0, Change::NextFileNo(self.numbers.next().max(self.version.next_file_no)));
        let next = self.version.apply(&edit).map_err(|refused| Error::Invalid(refused.to_string()))?;
        let bytes = edit.encode();
        debug_assert_eq!(Edit::decode(&bytes).as_ref(), Ok(&edit), "what is written can be read");
        let has_room = self.file.has_room(self.end, &bytes);
        let is_filling = self.end.get() > self.file.capacity / 4 * 3 || self.env.rare("manifest_rolls_early");
        if !self.is_settled() || self.unsealed || !has_room || is_filling {
            match self.move_to_new_file(next.clone()).await {
                Ok(()) => return Ok(Arc::clone(&self.version)),
                Err(NotMoved::Unknown(error)) => return Err(self.stop(&error)),
                Err(NotMoved::Unchanged(_)) if self.is_settled() && !self.unsealed && has_room => {
                    mark!("manifest_not_rolled");
                }
                Err(NotMoved::Unchanged(error)) => return Err(error.into()),
            }
        }
        let _phase = Phase::begin("manifest_edit");
        let began = self.slow.begin(&*self.env);
        let written = match self.file.write(self.end, self.durable, &bytes).await {
            Ok(end) => self.file.file.sync_data().await.map(|()| end),
            Err(error) => Err(error),
        };
        self.slow.judge_since(began, &*self.env, Timed::ManifestSync, Where::File(&self.file.path));
        match written {
            Ok(end) => {
                (self.end, self.durable) = (end, end);
                self.version = Arc::new(next);
                self.seal().await;
                Ok(Arc::clone(&self.version))
            }
            Err(error) if is_full(&error) => Err(self.refuse(error).await),
            Err(error) => Err(self.stop(&error)),
        }
    }

    /// Says in the file that the last edit is durable, so that its loss is not taken for a tear. Not synced: it becomes
    /// durable with the next edit, or when the system writes it out, and nothing but that evidence depends on it.
    async fn seal(&mut self) {
        match self.file.write_seal(self.end).await {
            Ok(end) => self.end = end,
            Err(error) => {
                tracing::warn!(%error, "an edit of the manifest could not be sealed; the next one goes to a new file");
                mark!("manifest_unsealed");
                self.unsealed = true;
            }
        }
    }

    /// Tries to make it certain that a refused edit will never count.
    ///
    /// # Errors
    /// As [`ManifestWriter::append`].
    pub async fn settle(&mut self) -> Result<()> {
        if self.is_settled() {
            return Ok(());
        }
        self.begin()?;
        let outcome = self.move_to_new_file(Version::clone(&self.version)).await;
        self.under_way = false;
        match outcome {
            Ok(()) => Ok(()),
            Err(NotMoved::Unchanged(error)) => Err(error.into()),
            Err(NotMoved::Unknown(error)) => Err(self.stop(&error)),
        }
    }

    /// The disk was full in the middle of an edit.
    async fn refuse(&mut self, error: IoError) -> Error {
        mark!("manifest_edit_refused");
        self.unsettled = Some(error.clone());
        match self.move_to_new_file(Version::clone(&self.version)).await {
            Ok(()) | Err(NotMoved::Unchanged(_)) => error.into(),
            Err(NotMoved::Unknown(error)) => self.stop(&error),
        }
    }

    /// Writes `version` to a new file and puts that into force.
    async fn move_to_new_file(&mut self, version: Version) -> std::result::Result<(), NotMoved> {
        let _phase = Phase::begin("manifest_switch");
        let began = self.slow.begin(&*self.env);
        let made = new_file(&self.env, &self.dir, self.database, &self.numbers, version).await;
        let (file, end, version) = made.map_err(NotMoved::Unchanged)?;
        match install(&*self.env, &self.dir, self.database, &file, end).await {
            Ok(()) => {}
            Err(NotMoved::Unchanged(error)) => {
                remove_quietly(self.env.disk(), &file.path).await;
                return Err(NotMoved::Unchanged(error));
            }
            Err(unknown) => return Err(unknown),
        }
        mark!("manifest_rolled");
        let before = std::mem::replace(&mut self.file, file);
        (self.end, self.durable, self.unsealed) = (end, end, false);
        self.version = Arc::new(version);
        self.unsettled = None;
        let path = &self.file.path;
        tracing::info!(file = %path.display(), before = %before.path.display(), "manifest switched");
        self.slow.judge_since(began, &*self.env, Timed::ManifestSync, Where::File(path));
        remove_quietly(self.env.disk(), &before.path).await;
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        if self.under_way && self.stopped.is_none() {
            self.stopped =
                Some(Error::Stopped("an operation of the manifest was abandoned midway".to_string()));
        }
        if let Some(reason) = &self.stopped {
            return Err(reason.clone());
        }
        self.under_way = true;
        Ok(())
    }

    fn stop(&mut self, error: &IoError) -> Error {
        mark!("manifest_stopped");
        let reason = self.stopped.get_or_insert(Error::Stopped(error.to_string())).clone();
        tracing::error!(%reason, "the manifest takes no more edits");
        reason
    }
}

fn is_full(error: &IoError) -> bool {
    matches!(error.kind, IoErrorKind::Full | IoErrorKind::Quota)
}

/// Makes a file for `version`, whose next file number covers the file itself.
async fn new_file(
    env: &Arc<dyn Env>,
    dir: &SharedDir,
    database: u64,
    numbers: &FileNumbers,
    mut version: Version,
) -> std::result::Result<(ManifestFile, Lsn, Version), IoError> {
    let no = numbers.take();
    version.next_file_no = version.next_file_no.max(numbers.next());
    let snapshot = version.snapshot().encode();
    match ManifestFile::create(&**env, dir, database, no, &snapshot).await {
        Ok((file, end)) => Ok((file, end, version)),
        Err(error) => {
            let path = file_name::path(dir, file_name::FileKind::Manifest, no);
            remove_quietly(env.disk(), &path).await;
            Err(error)
        }
    }
}

async fn install(
    env: &dyn Env,
    dir: &SharedDir,
    database: u64,
    file: &ManifestFile,
    end: Lsn,
) -> std::result::Result<(), NotMoved> {
    let in_force = InForce { no: file.no, id: file.of.id, durable: end };
    let current = Current { database, state: CurrentState::InForce(in_force) };
    current.install(env, dir).await.map_err(|not| match not {
        NotInstalled::Unchanged(error) => NotMoved::Unchanged(error),
        NotInstalled::Unknown(error) => NotMoved::Unknown(error),
    })
}
