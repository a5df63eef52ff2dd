//! Keyspaces that come and go, copies of the database, and a look from beside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use holdfast::{CheckpointInfo, Db, Error, KeyspaceInfo, ReadOnlyDb, Scan};

use super::Client;
use crate::history::{Durable, Ending, Interval, Milestone, Operation, Promise};
use crate::oracle::Wrong;
use crate::storm::script::KEYSPACES;
use crate::storm::state::State;
use crate::storm::{Patience, Stopped, within};

/// What was there when somebody began to look.
struct Standing {
    commit: u64,
    keyspaces: BTreeSet<u32>,
}

impl Client {
    pub(super) async fn create_keyspace(&self, slot: u8, patience: Option<Patience>) -> Result<(), Stopped> {
        let slot = slot % KEYSPACES.len() as u8;
        if self.keyspace(slot).is_some() {
            return Ok(());
        }
        let storm = &self.opening.storm;
        storm.passes(Milestone::Creating(slot));
        let options = storm.settings.keyspace_options();
        let created = self.opening.db.create_keyspace(KEYSPACES[usize::from(slot)], options);
        match within(patience, created).await {
            // Another client was faster.
            Some(Err(Error::Invalid(_))) => Ok(()),
            created => {
                if let Some(keyspace) = self.answered(created, "creating a keyspace")? {
                    storm.passes(Milestone::Created(slot, keyspace.id().get()));
                }
                Ok(())
            }
        }
    }

    pub(super) async fn drop_keyspace(&self, slot: u8, patience: Option<Patience>) -> Result<(), Stopped> {
        let slot = slot % KEYSPACES.len() as u8;
        // The default keyspace stays: an opening would make it anew.
        let Some(keyspace) = self.keyspace(slot).filter(|_| slot != 0) else { return Ok(()) };
        let storm = &self.opening.storm;
        let id = keyspace.id().get();
        storm.passes(Milestone::Dropping(id));
        match within(patience, self.opening.db.drop_keyspace(&keyspace)).await {
            Some(Err(Error::Invalid(_))) => Ok(()),
            dropped => {
                if self.answered(dropped, "dropping a keyspace")?.is_some() {
                    storm.passes(Milestone::Dropped(id));
                }
                Ok(())
            }
        }
    }

    /// Makes a copy, opens it, reads all of it, and removes it.
    pub(super) async fn copy(&self, by_bytes: bool, patience: Option<Patience>) -> Result<(), Stopped> {
        let target = self.next_copy();
        let least = self.standing(|state| state.newest_told);
        let made = match by_bytes {
            true => within(patience, self.opening.db.backup(&target)).await,
            false => within(patience, self.opening.db.checkpoint(&target)).await,
        };
        self.judge_copy(&target, made, least).await
    }

    /// The same of what a process beside the writer sees, a while after it has looked. What it sees of commits that a full
    /// disk left unknown may be gone again.
    pub(super) async fn back_up_beside(&self, us: u32, patience: Option<Patience>) -> Result<(), Stopped> {
        let Some((beside, mut least)) = self.open_beside().await? else { return Ok(()) };
        // A commit that nobody was told of yet may be gone again.
        least.commit = beside.last_seq().get().min(self.opening.storm.state().newest_told);
        self.pause(us).await;
        let target = self.next_copy();
        let made = within(patience, beside.backup(&target)).await;
        drop(beside);
        if self.opening.storm.state().has_unknown {
            self.answered(made, "making a copy from beside")?;
            self.remove_all(&target).await;
            return Ok(());
        }
        self.judge_copy(&target, made, least).await
    }

    /// A directory of its own for each copy.
    fn next_copy(&self) -> PathBuf {
        let number = self.opening.storm.state().copy();
        let mut name = self.opening.stage.dir().as_os_str().to_owned();
        name.push(format!(".copy-{number}"));
        PathBuf::from(name)
    }

    /// What is there now, and a copy or look that begins now must have.
    fn standing(&self, commit: impl Fn(&State) -> u64) -> Standing {
        let state = self.opening.storm.state();
        Standing { commit: commit(&state), keyspaces: state.standing_keyspaces() }
    }

    /// Keyspaces that had to be seen by what began a while ago, and were not.
    fn find_missing(&self, least: &Standing, found: &[KeyspaceInfo], who: &str) {
        let found: BTreeSet<u32> = found.iter().map(|info| info.id.get()).collect();
        let still = self.opening.storm.state().standing_keyspaces();
        let is_missing = |id: &&u32| still.contains(id) && !found.contains(id);
        if let Some(id) = least.keyspaces.iter().find(is_missing) {
            let what = format!("{who} finds the keyspaces {found:?}, but {id} was there before and still is");
            self.opening.storm.wrong(Wrong::Structure, what);
        }
    }

    /// Opens a copy, reads all of it, and removes it. It must hold what `least` says.
    async fn judge_copy(
        &self,
        target: &Path,
        made: Option<Result<CheckpointInfo, Error>>,
        least: Standing,
    ) -> Result<(), Stopped> {
        let storm = &self.opening.storm;
        if let Some(info) = self.answered(made, "making a copy")? {
            let opened = Db::open_in(self.opening.env.clone(), target, storm.settings.options()).await;
            if let Some(copy) = self.answered(Some(opened), "opening a copy")? {
                let doing = self.begin(Promise::Past, Durable::Buffered, None);
                self.note_view(&doing, info.seq, least.commit);
                match copy.keyspaces() {
                    Ok(found) => self.find_missing(&least, &found, "a copy"),
                    Err(error) => {
                        self.answered(Some(Err(error)), "listing the keyspaces of a copy")?.unwrap_or(())
                    }
                }
                let walked = self.read_all(&doing, &copy).await;
                storm.state().ends(doing.txn, Ending::Committed(info.seq.get()));
                let closed = copy.close().await;
                walked?;
                self.answered(Some(closed), "closing a copy")?;
            }
        }
        self.remove_all(target).await;
        Ok(())
    }

    /// Opens read-only; gives what it has to show, too. What was made to outlive the process is there for others to see.
    async fn open_beside(&self) -> Result<Option<(ReadOnlyDb, Standing)>, Stopped> {
        let (env, options) = (self.opening.env.clone(), self.opening.storm.settings.beside());
        let least = self.standing(|state| state.newest_lasting);
        let opened = Db::open_read_only_in(env, self.opening.stage.dir(), options).await;
        let Some(beside) = self.answered(Some(opened), "opening read-only")? else { return Ok(None) };
        if !self.opening.stage.may_have_lost() {
            let (seen, must) = (beside.last_seq().get(), least.commit);
            if seen < must {
                let what = format!("from beside commit {seen} is the newest, but {must} was synced before");
                self.opening.storm.wrong(Wrong::LostWrite, what);
            }
            self.find_missing(&least, &beside.keyspaces(), "whoever looks from beside");
        }
        Ok(Some((beside, least)))
    }

    async fn read_all(&self, doing: &super::Doing, copy: &Db) -> Result<(), Stopped> {
        for info in copy.keyspaces().unwrap_or_default() {
            let Some(keyspace) = self.answered(Some(copy.keyspace(&info.name)), "a keyspace of a copy")?
            else {
                continue;
            };
            let walked = match keyspace.scan(Scan::all()).await {
                Ok(mut cursor) => cursor.collect().await,
                Err(error) => Err(error),
            };
            if let Some(entries) = self.answered(Some(walked), "reading a copy")? {
                self.note_all(doing, info.id.get(), entries);
            }
        }
        Ok(())
    }

    fn note_all(&self, doing: &super::Doing, keyspace: u32, entries: Vec<(Vec<u8>, Vec<u8>)>) {
        let storm = &self.opening.storm;
        let found = storm.decoded(entries);
        let scan =
            Operation::Scan { keyspace, interval: Interval::ALL, reverse: false, found, complete: true };
        storm.state().did(doing.txn, scan);
    }

    /// What a process beside the writer sees.
    pub(super) async fn look_beside(&self) -> Result<(), Stopped> {
        let storm = &self.opening.storm;
        let Some((beside, _)) = self.open_beside().await? else { return Ok(()) };
        let doing = self.begin(Promise::Past, Durable::Buffered, None);
        let snapshot = beside.snapshot();
        storm.state().views(doing.txn, snapshot.seq().get());
        for info in beside.keyspaces() {
            let Some(keyspace) =
                self.answered(Some(beside.keyspace(&info.name)), "a keyspace from beside")?
            else {
                continue;
            };
            let walked = match snapshot.scan(&keyspace, Scan::all()).await {
                Ok(mut cursor) => cursor.collect().await,
                Err(error) => Err(error),
            };
            match walked {
                // The writer took a file away: that is what `refresh` is for.
                Err(Error::Stale(_)) => break,
                walked => {
                    // A commit that a full disk left unknown is shown until the next one settles that it never was.
                    if let Some(entries) = self.answered(Some(walked), "reading from beside")?
                        && !storm.state().has_unknown
                    {
                        self.note_all(&doing, info.id.get(), entries);
                    }
                }
            }
        }
        storm.state().ends(doing.txn, Ending::Committed(snapshot.seq().get()));
        Ok(())
    }

    /// Removes a directory of files, as far as the disk lets it.
    async fn remove_all(&self, dir: &Path) {
        let disk = self.opening.env.disk();
        for entry in disk.list(dir).await.unwrap_or_default() {
            let _ = disk.remove(&dir.join(entry.name)).await;
        }
        let _ = disk.remove_dir(dir).await;
    }
}
