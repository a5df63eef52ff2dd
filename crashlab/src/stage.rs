//! The storm's stage in the simulated world: arms what the plan anchors to a step or an opening, and knows what has
//! fired.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast::Error;
use holdfast::env::{BoxFuture, Env, IoErrorKind};
use holdfast_sim::{Crash as SimCrash, FaultClass, Process, Trigger};
use holdfast_workloads::storm::{Cue, End, Stage};

use crate::fault::{Cost, cost_of, of_name};
use crate::plan::{At, Crash, CrashKind, Fault, Plan};

/// See the module's header.
pub(crate) struct SimStage {
    process: Process,
    plan: Arc<Plan>,
    is_calm: AtomicBool,
    /// How the process dies if a disk call of it is to be its last.
    armed_power_loss: AtomicBool,
}

/// Where the database is.
pub(crate) const DIR: &str = "/db";

impl SimStage {
    pub(crate) fn new(process: Process, plan: Arc<Plan>) -> Self {
        let disk = process.disk();
        disk.set_delayed_allocation(plan.disk.delayed_allocation);
        disk.set_copy_on_write(plan.disk.copy_on_write);
        disk.set_full_in_sync(plan.disk.full_in_sync);
        Self { process, plan, is_calm: AtomicBool::new(false), armed_power_loss: AtomicBool::new(false) }
    }

    /// An attempt to open the database begins. Faults that last end with the opening before.
    pub(crate) fn opening_begins(&self, opening: u32) {
        self.process.disk().clear_faults();
        self.process.cancel_crash();
        if !self.is_calm.load(Ordering::Relaxed) {
            self.arm(At::Opening(opening));
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
        self.process.disk().clear_faults();
        self.process.cancel_crash();
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// True if the last death was a loss of power.
    pub(crate) fn lost_power(&self) -> bool {
        self.armed_power_loss.load(Ordering::Relaxed)
    }

    /// True if a disk call that may come is to be the last.
    fn arm(&self, at: At) -> Option<&Crash> {
        let disk = self.process.disk();
        let armed = |fault: &&Fault| fault.at == at;
        for fault in self.plan.faults.iter().filter(armed) {
            let trigger = if fault.lasting { Trigger::From(fault.nth) } else { Trigger::Once(fault.nth) };
            if let Some(class) = of_name(&fault.class) {
                disk.inject_on(class, &fault.on, trigger);
            }
        }
        let crash = self.plan.crashes.iter().find(|crash| crash.at == at)?;
        let kind = match crash.kind {
            CrashKind::Kill => SimCrash::Kill,
            CrashKind::PowerLoss => SimCrash::PowerLoss,
            CrashKind::Close | CrashKind::Drop => return Some(crash),
        };
        self.armed_power_loss.store(kind == SimCrash::PowerLoss, Ordering::Relaxed);
        match crash.calls {
            0 => match kind {
                SimCrash::PowerLoss => self.process.power_loss(),
                SimCrash::Kill => self.process.kill(),
            },
            calls => self.process.crash_at(self.process.io_calls() + calls, kind),
        }
        Some(crash)
    }

    fn has_fired(&self, classes: &[FaultClass]) -> bool {
        let disk = self.process.disk();
        classes.iter().any(|class| disk.faults_fired(*class) > 0)
    }

    /// True if a fault that damages or loses bytes struck this file, or any file where the loss shows elsewhere.
    fn was_harmed(&self, file: &Path) -> bool {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.process.disk().fired_faults().iter().any(|fault| match cost_of(fault.class) {
            Cost::Nothing => false,
            Cost::Damage => fault.name == name || fault.class == FaultClass::MisdirectedWrite,
            // A write to one file that never was shows where another relies on it.
            Cost::Suffix => true,
        })
    }
}

/// True if the disk lied about what was durable.
pub(crate) fn may_lose_suffix(disk: &holdfast_sim::SimDisk) -> bool {
    disk.fired_faults()
        .iter()
        .any(|fault| cost_of(fault.class) == Cost::Suffix || fault.class == FaultClass::MisdirectedWrite)
}

impl Stage for SimStage {
    fn env(&self) -> Arc<dyn Env> {
        self.process.env()
    }

    fn dir(&self) -> &Path {
        Path::new(DIR)
    }

    fn spawn(&self, name: &'static str, client: BoxFuture<'static, ()>) {
        drop(self.process.spawn(name, client));
    }

    fn step_begins(&self, client: u32, step: u32) -> Cue {
        if self.is_calm.load(Ordering::Relaxed) {
            return Cue::Go;
        }
        match self.arm(At::Step { client, step }) {
            Some(Crash { kind: CrashKind::Close, .. }) => Cue::GoAndEnd(End::Close),
            Some(Crash { kind: CrashKind::Drop, .. }) => Cue::GoAndEnd(End::Drop),
            Some(Crash { calls: 0, .. }) => Cue::Dead,
            _ => Cue::Go,
        }
    }

    fn is_calm(&self) -> bool {
        self.is_calm()
    }

    fn may_be_unreadable(&self) -> bool {
        self.has_fired(&[FaultClass::ReadError, FaultClass::LostSector, FaultClass::TransientRead])
    }

    fn explains(&self, error: &Error) -> bool {
        use FaultClass::{
            LostSector, LyingSync, MisdirectedRead, NoSpace, PhantomWrite, ReadError, ShortRead, ShortWrite,
            StaleRead, SyncError, TooManyFiles, TransientRead, WriteError,
        };
        match error {
            Error::Corrupt { file, .. } => self.was_harmed(file),
            Error::NotFound { .. } | Error::NewerFormat { .. } => self.was_harmed(Path::new("")),
            Error::Io(error) => match error.kind {
                IoErrorKind::Transient => self.has_fired(&[TransientRead]),
                _ => {
                    self.has_fired(&[ReadError, LostSector, ShortRead, TransientRead, WriteError, SyncError])
                }
            },
            Error::Stopped(_) => {
                self.has_fired(&[SyncError, WriteError, ShortWrite, NoSpace, ReadError, LostSector])
                    || self.has_fired(&[LyingSync, PhantomWrite, StaleRead, MisdirectedRead, TooManyFiles])
            }
            Error::DiskFull(_) | Error::CommitUnknown(_) => self.has_fired(&[NoSpace]),
            Error::TooManyFiles(_) => self.has_fired(&[TooManyFiles]),
            _ => false,
        }
    }
}
