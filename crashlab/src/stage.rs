//! The storm's stage in the simulated world: arms what the plan anchors to a step or an opening, and knows what has
//! fired.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast::Error;
use holdfast::env::{BoxFuture, Env};
use holdfast_sim::{Crash as SimCrash, Process, Trigger};
use holdfast_workloads::history::Milestone;
use holdfast_workloads::storm::{Cue, End, Stage, Storm};

use crate::excuses::Excuses;
use crate::fault::{Replacing, of_name};
use crate::plan::{At, Crash, CrashKind, Fault, Plan, Substitute};

/// See the module's header.
pub(crate) struct SimStage {
    process: Process,
    plan: Arc<Plan>,
    is_calm: AtomicBool,
    /// How the process dies if a disk call of it is to be its last.
    armed_power_loss: AtomicBool,
    /// The disk has less room than it had.
    is_narrow: AtomicBool,
    excuses: Excuses,
    storm: Arc<Storm>,
    replaced: Mutex<Replaced>,
}

/// The disks that took the place of others, so far.
#[derive(Default)]
struct Replaced {
    /// The number of the copy that was kept for each of the plan's replacements.
    copies: BTreeMap<usize, usize>,
    /// By what the disk was replaced just before this opening, and whether it demands what must be there.
    newest: Option<(Replacing, bool)>,
    effects: BTreeMap<Replacing, Effects>,
}

/// How often something was done, met, and told of by an error.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Effects {
    /// It was done.
    pub fired: u64,
    /// Somebody went on with the damage.
    pub met: u64,
    /// An error spoke of it.
    pub detected: u64,
}

/// Room on a disk that is not narrow, in bytes and in files: more than any plan uses.
const CAPACITY: u64 = 1 << 40;
const INODES: u64 = 1 << 32;
/// Where the database is.
pub(crate) const DIR: &str = "/db";

impl SimStage {
    pub(crate) fn new(process: Process, plan: Arc<Plan>, storm: Arc<Storm>) -> Self {
        let disk = process.disk();
        disk.set_delayed_allocation(plan.disk.delayed_allocation);
        disk.set_copy_on_write(plan.disk.copy_on_write);
        disk.set_full_in_sync(plan.disk.full_in_sync);
        process.set_wall_drift_ppm(plan.wall_drift_ppm);
        Self {
            process,
            plan,
            is_calm: AtomicBool::new(false),
            armed_power_loss: AtomicBool::new(false),
            is_narrow: AtomicBool::new(false),
            excuses: Excuses::new(disk),
            storm,
            replaced: Mutex::default(),
        }
    }

    fn replaced(&self) -> MutexGuard<'_, Replaced> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the disk before an opening, if the plan says so.
    pub(crate) fn replace_disk(&self, opening: u32) {
        self.replaced().newest = None;
        let planned = self.plan.replacements.iter().position(|replacement| replacement.opening == opening);
        let Some(at) = planned.filter(|_| !self.is_calm()) else { return };
        let copy = self.replaced().copies.get(&at).copied();
        let replacement = &self.plan.replacements[at];
        let way = replacement.by.way();
        if way == Replacing::OlderCopy && copy.is_none() {
            return;
        }
        // Tasks of an opening whose handles were dropped may still be at work.
        self.lose_power();
        let disk = self.process.disk();
        match copy {
            Some(copy) => disk.swap_for_older_copy(copy),
            None => disk.wipe(),
        }
        self.storm.passes(Milestone::Replaced(copy));
        self.restart();
        let mut replaced = self.replaced();
        replaced.newest = Some((way, replacement.demand));
        replaced.effects.entry(way).or_default().fired += 1;
    }

    /// The power goes.
    pub(crate) fn lose_power(&self) {
        self.process.power_loss();
        self.storm.passes(Milestone::PowerLost);
        self.excuses.machine_begins();
    }

    /// The process is dead, as it was armed to be, or of a loss of power.
    pub(crate) fn note_death(&self) {
        if self.armed_power_loss.load(Ordering::Relaxed) {
            self.storm.passes(Milestone::PowerLost);
            self.excuses.machine_begins();
        } else {
            self.storm.passes(Milestone::Killed);
        }
    }

    /// The process begins anew.
    pub(crate) fn restart(&self) {
        self.process.restart();
    }

    /// What the faults so far excuse.
    pub(crate) fn excuses(&self) -> &Excuses {
        &self.excuses
    }

    /// What came of disks that were replaced.
    pub(crate) fn replacements(&self) -> BTreeMap<Replacing, Effects> {
        self.replaced().effects.clone()
    }

    /// Keeps the copies of the disk that the plan anchors here.
    fn keep_copies(&self, at: At) {
        for (number, replacement) in self.plan.replacements.iter().enumerate() {
            if replacement.by == Substitute::CopyOf(at) {
                let copy = self.process.disk().keep_copy();
                self.replaced().copies.insert(number, copy);
                self.storm.passes(Milestone::CopyKept(copy));
            }
        }
    }

    fn clear_faults(&self) {
        let disk = self.process.disk();
        disk.clear_faults();
        if self.is_narrow.swap(false, Ordering::Relaxed) {
            disk.set_capacity(CAPACITY, INODES);
        }
    }

    /// An attempt to open the database begins. Faults that last end with the opening before.
    pub(crate) fn opening_begins(&self, opening: u32) {
        self.clear_faults();
        self.process.cancel_crash();
        self.excuses.opening_begins();
        if !self.is_calm.load(Ordering::Relaxed) {
            self.arm(At::Opening(opening));
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
        self.clear_faults();
        self.process.cancel_crash();
        self.excuses.calm();
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// True if a disk call that may come is to be the last.
    fn arm(&self, at: At) -> Option<&Crash> {
        self.keep_copies(at);
        let disk = self.process.disk();
        let armed = |fault: &&Fault| fault.at == at;
        for fault in self.plan.faults.iter().filter(armed) {
            if let Some(room_kib) = fault.room_kib {
                let used = CAPACITY - disk.free_space().bytes.min(CAPACITY);
                self.is_narrow.store(true, Ordering::Relaxed);
                disk.set_capacity(CAPACITY.min(used.saturating_add(room_kib.saturating_mul(1024))), INODES);
                continue;
            }
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
            calls => self.process.crash_at(self.process.io_calls().saturating_add(calls), kind),
        }
        Some(crash)
    }
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

    fn note(&self, text: &dyn Fn() -> String) {
        self.process.note(text);
    }

    fn demands(&self) -> bool {
        self.replaced().newest.is_some_and(|(_, demands)| demands)
    }

    fn meets_replacement(&self, is_refused: bool) {
        let mut replaced = self.replaced();
        let Some((way, _)) = replaced.newest else { return };
        let effects = replaced.effects.entry(way).or_default();
        if is_refused {
            effects.detected += 1;
        } else {
            effects.met += 1;
        }
    }

    fn is_calm(&self) -> bool {
        self.is_calm()
    }

    fn may_be_unreadable(&self, file: &Path) -> bool {
        self.excuses.may_be_unreadable(file)
    }

    fn may_have_lost(&self) -> bool {
        self.excuses.may_have_lost_suffix()
    }

    fn explains(&self, error: &Error) -> bool {
        self.excuses.explain(error)
    }
}
