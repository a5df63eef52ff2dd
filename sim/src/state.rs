//! Everything that a run holds, behind one lock, and the steps that move it on.
//!
//! Lock order: the state, then the ready queue. A waker may be called under the state's lock only if nothing but
//! the ready queue can be behind it, so wakers are collected and called after unlocking. No future and no waker
//! is ever dropped under the lock, since its `Drop` may call back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use holdfast::env::TaskClass;
use holdfast::sync::Mutex;
use madsim::task::NodeId;

use crate::disk::DiskState;
use crate::disk::survivors::{SurvivorChoice, Traced};
use crate::fault::FiredFault;
use crate::log::Detail;
use crate::network::NetworkState;
use crate::options::{FailedSync, Ratio, SimOptions};
use crate::process::Crash;
use crate::schedule::{ReadyQueue, Scheduler, TaskCell, Who};
use crate::stream::{Stream, StreamClass};
use crate::timers::{Effect, Timers};
use crate::trace::{Event, Trace};
use crate::wall::WallClock;

/// One simulated process over all its lives; number 0 stands for the world itself.
pub(crate) struct ProcessState {
    pub(crate) name: String,
    pub(crate) disk: usize,
    pub(crate) node: Option<NodeId>,
    pub(crate) life: u32,
    pub(crate) alive: bool,
    pub(crate) io_calls: u64,
    pub(crate) crash_at: Option<(u64, Crash)>,
    pub(crate) wall_clock: WallClock,
    /// Open files that it may have.
    pub(crate) open_files_max: Option<usize>,
    pub(crate) tasks: BTreeMap<u64, Arc<TaskCell>>,
    pub(crate) open_files: Vec<u64>,
    pub(crate) death_waiters: Vec<Waker>,
}

/// See the module's header.
pub(crate) struct State {
    pub(crate) options: SimOptions,
    pub(crate) now: u64,
    pub(crate) trace: Trace,
    pub(crate) scheduler: Scheduler,
    pub(crate) timers: Timers,
    pub(crate) latency: Stream,
    pub(crate) kernel: Stream,
    pub(crate) rare: Stream,
    pub(crate) rare_ratio: Ratio,
    pub(crate) rare_taken: u64,
    pub(crate) workload: Stream,
    clock_jumps: Stream,
    pub(crate) processes: Vec<ProcessState>,
    pub(crate) disks: Vec<(String, DiskState)>,
    pub(crate) network: NetworkState,
    pub(crate) survivors: Option<Box<dyn SurvivorChoice>>,
    pub(crate) graveyard: Vec<Arc<TaskCell>>,
    pub(crate) running: &'static str,
    pub(crate) polls_this_instant: u64,
    pub(crate) calls_this_poll: u64,
    pub(crate) crashes: [u64; 2],
    next_task: u64,
}

/// How a disk call behaves in time.
#[derive(Clone, Copy)]
pub(crate) struct Timing {
    /// Nanoseconds until its result; 0 is at once.
    pub(crate) delay: u64,
    /// It acts on the file at its end.
    pub(crate) late: bool,
}

/// What a disk call costs.
#[derive(Clone, Copy)]
pub(crate) enum Cost {
    /// Served by the page cache.
    Cached(u64),
    /// A read from the device.
    Read(u64),
    /// A write to the device.
    Write(u64),
    /// Waits until the device says that bytes are durable.
    Sync(u64),
    /// A change of a directory.
    Directory,
}

impl State {
    pub(crate) fn new(options: SimOptions) -> Self {
        let seed = options.seed;
        let scheduler = Scheduler::new(Stream::new(seed, StreamClass::Schedule), &options);
        let mut state = Self {
            now: 0,
            trace: Trace::new(&options),
            scheduler,
            timers: Timers::default(),
            latency: Stream::new(seed, StreamClass::Latency),
            kernel: Stream::new(seed, StreamClass::Kernel),
            rare: Stream::new(seed, StreamClass::Rare),
            rare_ratio: options.rare,
            rare_taken: 0,
            workload: Stream::new(seed, StreamClass::Workload),
            clock_jumps: Stream::new(seed, StreamClass::ClockJump),
            processes: Vec::new(),
            disks: Vec::new(),
            network: NetworkState::new(seed, options.network),
            survivors: None,
            graveyard: Vec::new(),
            running: "none",
            polls_this_instant: 0,
            calls_this_poll: 0,
            crashes: [0; 2],
            next_task: 0,
            options,
        };
        state.add_process("world", 0);
        state
    }

    /// A further process, dead until it gets its first life.
    pub(crate) fn add_process(&mut self, name: &str, disk: usize) -> u32 {
        let number = u32::try_from(self.processes.len()).expect("fewer than 2^32 processes");
        self.processes.push(ProcessState {
            name: name.to_owned(),
            disk,
            node: None,
            life: 0,
            alive: number == 0,
            io_calls: 0,
            crash_at: None,
            wall_clock: WallClock::default(),
            open_files_max: None,
            tasks: BTreeMap::new(),
            open_files: Vec::new(),
            death_waiters: Vec::new(),
        });
        number
    }

    /// The disk of this name, made if need be.
    pub(crate) fn disk_named(&mut self, name: &str) -> usize {
        if let Some(position) = self.disks.iter().position(|(known, _)| known == name) {
            return position;
        }
        let number = self.disks.len();
        let mut disk = DiskState::new(self.options.seed, number as u64);
        disk.iops.set(self.options.iops_limit);
        disk.personality = self.options.personality;
        self.disks.push((name.to_owned(), disk));
        number
    }

    pub(crate) fn process(&mut self, who: Who) -> &mut ProcessState {
        &mut self.processes[who.process as usize]
    }

    #[inline]
    pub(crate) fn is_alive(&self, who: Who) -> bool {
        let process = &self.processes[who.process as usize];
        process.alive && process.life == who.life
    }

    pub(crate) fn new_task(
        &mut self,
        name: &'static str,
        who: Who,
        class: TaskClass,
        future: Option<holdfast::env::BoxFuture<'static, ()>>,
        queue: &Arc<ReadyQueue>,
    ) -> Arc<TaskCell> {
        let number = self.next_task;
        self.next_task += 1;
        let task = TaskCell::new(number, name, who, class, future, Arc::clone(queue));
        self.process(who).tasks.insert(number, Arc::clone(&task));
        self.trace.event(Event::Spawn, number, u64::from(who.process));
        self.trace.log(|| format!("spawn: task {number} {name} in process {}", who.process));
        task
    }

    /// Draws how a call behaves in time.
    pub(crate) fn timing(&mut self, cost: Cost) -> Timing {
        let model = &self.options.latency;
        let (base, bytes) = match cost {
            Cost::Cached(bytes) => (model.cached_ns, bytes),
            Cost::Read(bytes) => (model.read_ns, bytes),
            Cost::Write(bytes) => (model.write_ns, bytes),
            Cost::Sync(bytes) => (model.sync_ns, bytes),
            Cost::Directory => (model.directory_ns, 0),
        };
        let (ready, late) = (model.ready, model.late);
        let whole = base + model.per_kib_ns * bytes / 1024;
        if matches!(cost, Cost::Cached(_)) && self.latency.chance(ready) {
            return Timing { delay: 0, late: false };
        }
        if whole == 0 {
            return Timing { delay: 0, late: false };
        }
        let delay = whole + self.latency.below(whole / 2 + 1);
        Timing { delay, late: self.latency.chance(late) }
    }

    /// How long a device call waits because of the limit of its disk.
    pub(crate) fn iops_wait(&mut self, disk: usize) -> u64 {
        let wait = self.disks[disk].1.iops.wait(self.now);
        if wait > 0 {
            self.trace.log(|| format!("the call waits {wait} ns for its turn"));
        }
        wait
    }

    /// Puts the faults that fired in a call of `disk` into the trace.
    pub(crate) fn tell_faults(&mut self, disk: usize) {
        let faults = &mut self.disks[disk].1.faults;
        if faults.is_quiet() {
            return;
        }
        for fault in faults.take_untold() {
            self.trace.event(Event::Fault, fault.class as u64, fault.offset);
            self.trace.log_with(|| {
                let FiredFault { class, name, offset, len } = fault;
                (
                    format!("fault: {class:?} {name} at {offset}+{len}"),
                    Detail::Fault { class, name, offset, len },
                )
            });
        }
    }

    /// The wall clock of a process jumps by up to a day.
    pub(crate) fn jump_wall_clock(&mut self, who: Who) {
        const DAY_US: u64 = 86_400_000_000;
        let drawn = i64::try_from(self.clock_jumps.below(2 * DAY_US)).expect("two days fit");
        let jump_us = drawn - DAY_US as i64;
        self.process(who).wall_clock.jump(jump_us);
        self.trace.event(Event::Fault, crate::fault::FaultClass::ClockJump as u64, drawn as u64);
        self.trace.log(|| format!("fault: the wall clock jumps by {jump_us} us"));
    }

    /// Counts a disk call of a process. Gives the crash that it has coming.
    pub(crate) fn count_call(&mut self, who: Who) -> Option<Crash> {
        self.calls_this_poll += 1;
        if self.calls_this_poll > self.options.calls_per_poll_max {
            crate::panics::stuck(format!(
                "busy loop: task {} made {} disk calls in one poll",
                self.running, self.calls_this_poll
            ));
        }
        let disk = self.processes[who.process as usize].disk;
        self.disks[disk].1.faults.note_going_on();
        let process = self.process(who);
        process.io_calls += 1;
        let (call, crash) = process.crash_at?;
        if call != process.io_calls {
            return None;
        }
        process.crash_at = None;
        Some(crash)
    }

    /// Carries out what a call does when it completes.
    pub(crate) fn complete(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Settle { disk, inode, watermark, whole } => {
                self.disks[disk].1.sync_done(inode, watermark, whole);
            }
            Effect::SettleOnly { disk, inode, number } => self.disks[disk].1.dsync_done(inode, number),
            Effect::Land { disk, number } => {
                self.disks[disk].1.land(number);
            }
            Effect::LandDurably { disk, inode, number } => {
                let disk = &mut self.disks[disk].1;
                let landed = disk.land(number);
                disk.dsync_done(inode, landed);
            }
            Effect::SettleDirectory { disk, inode, watermark } => {
                self.disks[disk].1.sync_dir_done(inode, watermark);
            }
            Effect::Arrive { packet } => self.arrive(packet),
            Effect::Depart { from, to, bytes } => self.departed(from, to, bytes),
        }
    }

    /// Goes on to the next instant at which something is due. Puts whom to wake into `wakers`; false if nothing
    /// is pending.
    pub(crate) fn advance(&mut self, wakers: &mut Vec<Waker>) -> bool {
        let Some(deadline) = self.timers.next_deadline() else {
            return false;
        };
        if deadline > self.now {
            self.now = deadline;
            self.polls_this_instant = 0;
            self.trace.set_now(deadline);
            if self.options.std_clock {
                let clock = madsim::time::TimeHandle::current();
                // It runs ahead by some nanoseconds for each of madsim's own steps.
                clock.advance(Duration::from_nanos(deadline).saturating_sub(clock.elapsed()));
            }
        }
        if self.now > self.options.time_limit_ns {
            crate::panics::stuck(format!(
                "the run passed its limit of {} simulated nanoseconds; waiting are{}",
                self.options.time_limit_ns,
                self.waiting_tasks()
            ));
        }
        while let Some(due) = self.timers.pop_due(self.now) {
            self.trace.event(Event::Due, u64::from(due.who.process), 0);
            if self.is_alive(due.who) {
                self.complete(due.effect);
            }
            wakers.extend(due.waker);
        }
        wakers.append(&mut self.network.woken);
        true
    }

    /// A process dies: its tasks go to the graveyard, its handles and locks are given up.
    pub(crate) fn bury(&mut self, process: u32) -> Vec<Waker> {
        let state = &mut self.processes[process as usize];
        if !state.alive {
            return Vec::new();
        }
        state.alive = false;
        state.crash_at = None;
        let who = Who { process, life: state.life };
        let open_files = std::mem::take(&mut state.open_files);
        let tasks = std::mem::take(&mut state.tasks);
        let mut waiters = std::mem::take(&mut state.death_waiters);
        let disk = state.disk;
        self.graveyard.extend(tasks.into_values());
        self.disks[disk].1.kill(who, &open_files);
        self.trace.event(Event::Life, u64::from(process), 0);
        self.trace.log_with(|| (format!("process {process} died"), Detail::Died { process }));
        self.bury_network(who);
        waiters.append(&mut self.network.woken);
        waiters
    }

    /// Power is lost on a disk whose processes are dead.
    pub(crate) fn lose_power(&mut self, disk: usize) {
        self.trace.event(Event::Life, disk as u64, 1);
        self.trace.log_with(|| (format!("power lost on disk {disk}"), Detail::PowerLost { disk }));
        self.network.power_down((0..).zip(&self.processes).filter(|(_, process)| process.disk == disk));
        let disk = &mut self.disks[disk].1;
        match &mut self.survivors {
            Some(choice) => {
                disk.lose_power(&mut Traced { choice: choice.as_mut(), trace: &mut self.trace });
            }
            None => disk.lose_power_drawn(&mut self.trace),
        }
    }

    /// What a failed sync leaves in the page cache: the old bytes, the new ones, or `None` to draw.
    pub(crate) fn failed_sync_reads_old(&self) -> Option<bool> {
        match self.options.failed_sync {
            FailedSync::ReadsNew => Some(false),
            FailedSync::ReadsOld => Some(true),
            FailedSync::Drawn => None,
        }
    }

    /// Names every task that waits, for the report of a hang.
    pub(crate) fn waiting_tasks(&self) -> String {
        let mut text = String::new();
        for process in &self.processes {
            for task in process.tasks.values().filter(|task| !task.has_finished()) {
                text.push_str(&format!("\n  {}: task {} {}", process.name, task.number, task.name));
            }
            if !process.alive {
                text.push_str(&format!("\n  {}: dead", process.name));
            }
        }
        text
    }
}

/// The state behind its lock, and the queue of ready tasks.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) ready: Arc<ReadyQueue>,
}
