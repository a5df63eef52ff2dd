//! What goes on around the application: arms what the plan anchors to a step or a life, and knows what has fired.
//!
//! An error is excused by what may be its cause, and by nothing else:
//!
//! ```text
//! a call was refused               in this life, or the disk was narrow in it
//! a sync failed                    since the machine last had no power: its file system may have shut itself down
//! a sector was lost, a bit has     ever, if the error names that file; a read from another place only in this life
//!   flipped, a write went astray
//! a disk lied about what is        ever, if the error names that file or one of a database: what was lied about shows
//!   durable                          where another file relies on it
//! ```

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast::sync::Mutex;

use super::draw::DATABASE_FILES;
use super::plan::{At, CrashKind, Plan};
use crate::contract::FaultCost;
use crate::fault::{FaultClass, FiredFault, Trigger};
use crate::process::{Crash, Process};
use crate::world::World as Simulation;

/// Room on a disk that is not narrow, in bytes and in files: more than any application of a test uses.
const CAPACITY: u64 = 1 << 40;
const INODES: u64 = 1 << 32;

/// How far the steps of one name have come.
#[derive(Clone, Copy, Default)]
struct Progress {
    next: u64,
    count: u64,
    is_over: bool,
}

/// What outlives the process.
#[derive(Default)]
pub(super) struct State {
    pub(super) life: u32,
    pub(super) is_calm: bool,
    /// The disk has less room than it had.
    is_narrow: bool,
    /// It had in this life.
    was_narrow: bool,
    progress: BTreeMap<String, Progress>,
    pub(super) steps: u64,
    pub(super) checks: u64,
    pub(super) checks_of_life: u64,
    /// Calls that were refused, when this life began.
    refused_before: u64,
    /// Faults that were noted with their file, when this life began.
    noted_before: usize,
    /// Failed syncs when the machine was last without power: a file system that has shut itself down after one stays so
    /// when only the process is restarted.
    syncs_failed_before: u64,
    power_losses: u64,
    outside: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl State {
    /// By name: how many steps there are.
    pub(super) fn declared(&self) -> BTreeMap<String, u64> {
        self.progress.iter().map(|(name, progress)| (name.clone(), progress.count)).collect()
    }
}

/// See the module's header.
pub(super) struct Stage {
    pub(super) simulation: Simulation,
    pub(super) process: Process,
    pub(super) plan: Arc<Plan>,
    pub(super) state: Arc<Mutex<State>>,
}

impl Stage {
    pub(super) fn new(simulation: Simulation, plan: Arc<Plan>, state: Arc<Mutex<State>>) -> Self {
        let process = simulation.process("app");
        let disk = process.disk();
        disk.set_delayed_allocation(plan.disk.delayed_allocation);
        disk.set_copy_on_write(plan.disk.copy_on_write);
        disk.set_full_in_sync(plan.disk.full_in_sync);
        Self { simulation, process, plan, state }
    }

    /// Ends the faults that last. What comes once, and crashes, still come.
    pub(super) fn relieve(&self) {
        self.process.disk().clear_lasting_faults();
        self.widen();
    }

    /// A call was refused in this life.
    pub(super) fn has_refused(&self) -> bool {
        let refused_before = self.state.lock().refused_before;
        self.refused() > refused_before
    }

    fn widen(&self) {
        if std::mem::take(&mut self.state.lock().is_narrow) {
            self.process.disk().set_capacity(CAPACITY, INODES);
        }
    }

    /// A life begins. What lasts has ended with the one before, and so has what has not come in it.
    pub(super) fn life_begins(&self, life: u32) {
        let disk = self.process.disk();
        disk.clear_faults();
        self.process.cancel_crash();
        self.widen();
        let (refused, noted, syncs_failed) = (self.refused(), disk.fired_faults().len(), self.syncs_failed());
        let power_losses = self.simulation.shared.state.lock().crashes[Crash::PowerLoss as usize];
        {
            let mut state = self.state.lock();
            state.life = life;
            state.checks_of_life = 0;
            state.was_narrow = false;
            (state.refused_before, state.noted_before) = (refused, noted);
            if std::mem::replace(&mut state.power_losses, power_losses) < power_losses {
                state.syncs_failed_before = syncs_failed;
            }
        }
        self.arm(|at| *at == At::Life(life));
    }

    /// Nothing goes wrong any more.
    pub(super) fn calm(&self) {
        self.state.lock().is_calm = true;
    }

    /// The next step of this name that the plan has, of `count`.
    pub(super) fn next_step(&self, life: u32, name: &str, count: u64) -> Option<u64> {
        let kept = self.plan.steps.get(name);
        let (from, step) = {
            let mut state = self.state.lock();
            if state.life != life || !self.process.is_alive() {
                return None;
            }
            let progress = state.progress.entry(name.to_owned()).or_default();
            progress.count = progress.count.max(count);
            let from = progress.next;
            let next = match kept {
                Some(kept) => kept.iter().copied().find(|number| *number >= from),
                None => Some(from),
            };
            let step = next.filter(|number| *number < count);
            match step {
                Some(number) => progress.next = number + 1,
                None if progress.is_over => return None,
                None => progress.is_over = true,
            }
            state.steps += u64::from(step.is_some());
            (from, step)
        };
        let until = step.unwrap_or(u64::MAX);
        self.arm(|at| matches!(at, At::Step { of, number } if of == name && (from..=until).contains(number)));
        step
    }

    fn arm(&self, is_now: impl Fn(&At) -> bool) {
        if self.state.lock().is_calm {
            return;
        }
        let disk = self.process.disk();
        for fault in self.plan.faults.iter().filter(|fault| is_now(&fault.at)) {
            if let Some(room_kib) = fault.room_kib {
                let used = CAPACITY - disk.free_space().bytes.min(CAPACITY);
                {
                    let mut state = self.state.lock();
                    (state.is_narrow, state.was_narrow) = (true, true);
                }
                disk.set_capacity(CAPACITY.min(used.saturating_add(room_kib.saturating_mul(1024))), INODES);
                continue;
            }
            let trigger = if fault.lasting { Trigger::From(fault.nth) } else { Trigger::Once(fault.nth) };
            disk.inject_on(fault.class, &fault.on, trigger);
        }
        for crash in self.plan.crashes.iter().filter(|crash| is_now(&crash.at)) {
            let kind = match crash.kind {
                CrashKind::Kill => Crash::Kill,
                CrashKind::PowerLoss => Crash::PowerLoss,
            };
            self.process.crash_at(self.process.io_calls().saturating_add(crash.calls), kind);
        }
    }

    fn fired(&self, counts: impl Fn(FaultClass) -> bool) -> u64 {
        let disk = self.process.disk();
        let classes = FaultClass::ALL.into_iter().filter(|class| counts(*class));
        classes.map(|class| disk.faults_fired(class)).sum()
    }

    /// Calls so far that were refused or failed, and damaged nothing.
    fn refused(&self) -> u64 {
        let is_silent = |class| matches!(class, FaultClass::Stall | FaultClass::ClockJump);
        self.fired(|class| class.cost() == FaultCost::Nothing && !is_silent(class))
    }

    /// A disk has lied about what was durable.
    pub(super) fn may_have_lost(&self) -> bool {
        self.fired(FaultClass::may_lose_suffix) > 0
    }

    fn syncs_failed(&self) -> u64 {
        self.fired(|class| class == FaultClass::SyncError)
    }

    /// An error of now, in these words, has something that may be its cause.
    pub(super) fn explains(&self, words: &str) -> bool {
        let (syncs_failed_before, noted_before, was_narrow) = {
            let state = self.state.lock();
            (state.syncs_failed_before, state.noted_before, state.was_narrow)
        };
        was_narrow
            || self.has_refused()
            || self.syncs_failed() > syncs_failed_before
            || self.process.disk().fired_faults().iter().enumerate().any(|(number, fault)| {
                let lasts = fault.class != FaultClass::MisdirectedRead || number >= noted_before;
                let shows_elsewhere = || fault.class.may_lose_suffix() && names_a_database_file(words);
                lasts && (names(words, &fault.name) || shows_elsewhere())
            })
    }

    /// Files that a fault has damaged or lied about, once each, for whoever is told of an error that speaks of none.
    pub(super) fn struck_files(&self) -> BTreeSet<String> {
        self.process.disk().fired_faults().into_iter().map(|FiredFault { name, .. }| name).collect()
    }

    /// The one of this type that no crash takes.
    pub(super) fn outside<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut state = self.state.lock();
        let kept = state.outside.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        Arc::clone(kept).downcast().expect("it is kept by its type")
    }
}

/// True if a file is named there that only databases have.
fn names_a_database_file(words: &str) -> bool {
    DATABASE_FILES.iter().any(|part| match part.strip_prefix('.') {
        Some(_) => words.match_indices(part).any(|(at, _)| ends_a_name(&words[at + part.len()..])),
        None => names(words, part),
    })
}

/// True if no name goes on in this.
fn ends_a_name(rest: &str) -> bool {
    !rest.chars().next().is_some_and(char::is_alphanumeric)
}

/// True if a file of this name is named there, and not one whose name only contains it.
fn names(words: &str, file: &str) -> bool {
    words.match_indices(file).any(|(at, _)| {
        !words[..at].chars().next_back().is_some_and(char::is_alphanumeric)
            && ends_a_name(&words[at + file.len()..])
    })
}

#[cfg(test)]
mod tests {
    use super::{names, names_a_database_file};

    #[test]
    fn a_file_is_named_by_its_whole_name() {
        assert!(names("corrupt: /shop/db/11.log at byte 512: no", "11.log"));
        assert!(names("11.log", "11.log") && names("of '11.log': no", "11.log"));
        assert!(!names("corrupt: /shop/db/11.log at byte 512", "1.log"));
        assert!(!names("corrupt: /shop/db/1.logs, 21.log", "1.log"));
        for (words, is_one) in [
            ("corrupt: /shop/db/11.log at byte 0", true),
            ("/shop/db/CURRENT: not 512 bytes", true),
            ("inconsistent: order 3 is Open, and None units are set aside for it", false),
            ("the CURRENTLY.logged order", false),
        ] {
            assert_eq!(names_a_database_file(words), is_one, "{words}");
        }
    }
}
