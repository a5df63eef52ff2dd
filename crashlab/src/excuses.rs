//! What the faults so far excuse: which error of now may be their doing.
//!
//! A refused or failed call is told of at once, so it excuses errors of its opening and none of a later one. Damage stays
//! where it is and excuses errors that name its file, also in calm:
//!
//! | fault | excuses |
//! |---|---|
//! | a call refused or failed, a read that gave other bytes | errors of the opening in which it fired |
//! | a failed sync | as well, until the machine is started anew: a file system whose journal failed shuts down |
//! | a rotten bit, a lost sector, a misdirected write | what is read of this file, from then on, and what is said of another because of it |
//! | a write or a sync that never was | what is read of this file; of any file if the manifest or a name may be older than what it speaks of; of any log if it was a log's |
//! | a log or manifest that ends early, through any of these | nothing of its own: the oracles know what may be gone |

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast::Error;
use holdfast::env::IoErrorKind;
use holdfast_sim::{FaultClass, FiredFault, SimDisk};

use crate::fault::{Cost, cost_of};

/// See the module's header.
pub(crate) struct Excuses {
    disk: SimDisk,
    since: Mutex<Since>,
    /// How often an error was explained by a class.
    detected: Mutex<BTreeMap<FaultClass, u64>>,
}

/// How often each class had fired before this opening, and before the machine was started.
#[derive(Default)]
struct Since {
    opening: BTreeMap<FaultClass, u64>,
    machine: BTreeMap<FaultClass, u64>,
    is_calm: bool,
}

impl Excuses {
    pub(crate) fn new(disk: SimDisk) -> Self {
        Self { disk, since: Mutex::default(), detected: Mutex::default() }
    }

    fn since(&self) -> MutexGuard<'_, Since> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fired(&self) -> BTreeMap<FaultClass, u64> {
        FaultClass::ALL.into_iter().map(|class| (class, self.disk.faults_fired(class))).collect()
    }

    /// An opening begins: what was refused before it is over.
    pub(crate) fn opening_begins(&self) {
        self.since().opening = self.fired();
    }

    /// The machine is started anew.
    pub(crate) fn machine_begins(&self) {
        self.since().machine = self.fired();
    }

    /// Nothing fires any more.
    pub(crate) fn calm(&self) {
        let mut since = self.since();
        (since.opening, since.machine, since.is_calm) = (self.fired(), self.fired(), true);
    }

    /// Those of these classes that fired in this opening.
    fn passing(&self, classes: &[FaultClass]) -> BTreeSet<FaultClass> {
        let since = self.since();
        let before = |class: &FaultClass| since.opening.get(class).copied().unwrap_or(0);
        classes.iter().copied().filter(|class| self.disk.faults_fired(*class) > before(class)).collect()
    }

    /// A failed sync, if the machine was not started anew since.
    fn failed_sync(&self) -> BTreeSet<FaultClass> {
        let before = self.since().machine.get(&FaultClass::SyncError).copied().unwrap_or(0);
        let has_failed = self.disk.faults_fired(FaultClass::SyncError) > before;
        has_failed.then_some(FaultClass::SyncError).into_iter().collect()
    }

    /// The classes that damaged a file for good, or may have left it, or what speaks of it, older than it should be.
    fn lasting(&self, file: &Path) -> BTreeSet<FaultClass> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let fired = self.disk.fired_faults().into_iter();
        fired.filter(|fault| lasts_in(fault, name)).map(|fault| fault.class).collect()
    }

    /// The same for the files that a sentence names: two that contradict each other, of which either may be the damaged one.
    fn lasting_in_named(&self, what: &str) -> BTreeSet<FaultClass> {
        let fired = self.disk.fired_faults().into_iter();
        let is_named = |fault: &FiredFault| {
            fault.name.contains('.') && what.contains(&fault.name) && lasts_in(fault, &fault.name)
        };
        fired.filter(is_named).map(|fault| fault.class).collect()
    }

    /// The classes that may give this error.
    fn culprits(&self, error: &Error) -> BTreeSet<FaultClass> {
        use FaultClass::{
            LyingSync, MisdirectedRead, NoSpace, PhantomWrite, ReadError, ShortRead, ShortWrite,
            SpawnRefused, StaleRead, SyncError, TooManyFiles, TransientRead, WriteError,
        };
        let misread = [MisdirectedRead, StaleRead];
        match error {
            Error::Corrupt { file, what, .. } => {
                &(&self.lasting(file) | &self.lasting_in_named(what)) | &self.passing(&misread)
            }
            Error::NewerFormat { file, .. } => &self.lasting(file) | &self.passing(&misread),
            Error::NotFound { .. } => &self.lasting(Path::new("")) | &self.passing(&misread),
            Error::Io(error) => match error.kind {
                IoErrorKind::Transient => self.passing(&[TransientRead]),
                _ => {
                    let passing = self.passing(&[ReadError, ShortRead, TransientRead, WriteError, SyncError]);
                    &(&passing | &self.failed_sync()) | &self.lasting(&error.path)
                }
            },
            Error::Stopped(_) => {
                let refused = [SyncError, WriteError, ShortWrite, NoSpace, ReadError, TooManyFiles];
                let passing = &self.passing(&refused) | &self.passing(&misread);
                let lied = self.passing(&[LyingSync, PhantomWrite]);
                &(&passing | &lied) | &self.failed_sync()
            }
            Error::DiskFull(_) | Error::CommitUnknown(_) => self.passing(&[NoSpace]),
            Error::TooManyFiles(_) => self.passing(&[TooManyFiles]),
            Error::Busy(_) => self.passing(&[SpawnRefused]),
            _ => BTreeSet::new(),
        }
    }

    /// True if a fault so far may be what the error tells of.
    pub(crate) fn explain(&self, error: &Error) -> bool {
        let culprits = self.culprits(error);
        let mut detected = self.detected.lock().unwrap_or_else(PoisonError::into_inner);
        culprits.iter().for_each(|class| *detected.entry(*class).or_default() += 1);
        !culprits.is_empty()
    }

    /// True if a fault so far may keep this file from being read.
    pub(crate) fn may_be_unreadable(&self, file: &Path) -> bool {
        let passing = self.passing(&[FaultClass::ReadError, FaultClass::TransientRead]);
        !passing.is_empty() || !self.failed_sync().is_empty() || !self.lasting(file).is_empty()
    }

    /// Errors that a fault of each class explained.
    pub(crate) fn detected(&self) -> BTreeMap<FaultClass, u64> {
        self.detected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if the disk lied about what was durable.
    pub(crate) fn may_have_lost_suffix(&self) -> bool {
        self.disk.fired_faults().iter().any(|fault| fault.class.may_lose_suffix())
    }
}

/// True if what a fault did to one file may be found in the one of this name at any later time.
fn lasts_in(fault: &FiredFault, name: &str) -> bool {
    match fault.class {
        FaultClass::MisdirectedRead | FaultClass::StaleRead => false,
        _ if cost_of(fault.class) == Cost::Nothing => false,
        _ if fault.name == name => true,
        class if class.may_lose_suffix() => speaks_of(&fault.name, name),
        _ => false,
    }
}

/// True if one file that is older than it should be can make another look wrong.
fn speaks_of(older: &str, name: &str) -> bool {
    let is = |name: &str, suffix: &str| name.ends_with(suffix);
    match () {
        () if is(older, ".table") => false,
        () if is(older, ".log") => is(name, ".log"),
        // The manifest, what names it, and directories.
        () => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(class: FaultClass, name: &str) -> FiredFault {
        FiredFault { class, name: name.to_owned(), offset: 0, len: 4096 }
    }

    #[test]
    fn damage_is_found_where_it_was_done_and_an_older_file_where_it_is_relied_on() {
        let rot = fault(FaultClass::BitRot, "0000000004.table");
        assert!(lasts_in(&rot, "0000000004.table") && !lasts_in(&rot, "0000000005.table"));
        let phantom = |name| fault(FaultClass::PhantomWrite, name);
        assert!(lasts_in(&phantom("0000000003.log"), "0000000009.log"));
        assert!(!lasts_in(&phantom("0000000003.log"), "0000000004.table"));
        assert!(!lasts_in(&phantom("0000000004.table"), "0000000003.log"));
        assert!(lasts_in(&phantom("CURRENT"), "0000000004.table"));
        assert!(lasts_in(&phantom("0000000002.manifest"), "0000000004.table"));
        assert!(lasts_in(&fault(FaultClass::LyingSync, "db"), "0000000004.table"));
    }

    #[test]
    fn what_passes_does_not_last() {
        for class in [FaultClass::StaleRead, FaultClass::MisdirectedRead, FaultClass::SyncError] {
            assert!(!lasts_in(&fault(class, "CURRENT"), "CURRENT"), "{class:?}");
        }
    }
}
