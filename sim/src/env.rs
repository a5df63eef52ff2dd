//! The kernel's [`Env`] for one life of one simulated process.
//!
//! Once the process is dead nothing that came from its environment does anything any more: calls never complete,
//! the disk never changes, spawned futures are dropped unpolled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use holdfast::env::{BoxFuture, Disk, Env, Io, Nanos, SpawnRefused, Task, TaskClass};
use holdfast::types::Timestamp;

use crate::fault::FaultClass;
use crate::schedule::{TaskCell, Who};
use crate::state::{Cost, Shared, State, Timing};
use crate::timers::{Effect, Ticket};
use crate::trace::Event;

/// See the module's header.
#[derive(Clone)]
pub(crate) struct SimEnv {
    pub(crate) shared: Arc<Shared>,
    pub(crate) who: Who,
    pub(crate) disk: usize,
}

/// What became of a disk call.
pub(crate) enum Submitted<T> {
    /// Done.
    Now(T),
    /// Its result is known to us and will be told when the ticket comes due; `late` if it should be made anew then.
    Later { ticket: Waiting, value: T, late: bool },
    /// The process is dead.
    Never,
}

/// Waits for a ticket; abandons it when dropped.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Future for Waiting {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.state.lock().timers.poll(self.ticket, context.waker()) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waker = self.shared.state.lock().timers.abandon(self.ticket);
        drop(waker);
    }
}

impl<T: Send + 'static> Submitted<T> {
    /// As the kernel sees it.
    pub(crate) fn into_io(self) -> Io<T> {
        match self {
            Self::Now(value) => Io::ready(value),
            Self::Later { ticket, value, .. } => Io::waiting(async move {
                ticket.await;
                value
            }),
            Self::Never => Io::waiting(std::future::pending()),
        }
    }
}

impl SimEnv {
    /// Makes a disk call: counts it, draws its timing, runs it, and crashes the process if it is due.
    pub(crate) fn submit<T>(
        &self,
        cost: Cost,
        run: impl FnOnce(&mut State, Timing) -> (T, Effect),
    ) -> Submitted<T> {
        let mut state = self.shared.state.lock();
        if !state.is_alive(self.who) {
            return Submitted::Never;
        }
        let crash = state.count_call(self.who);
        let mut timing = state.timing(cost);
        if state.disks[self.disk].1.faults.fires(FaultClass::Stall, "") {
            timing.delay += state.options.latency.stall_ns;
            state.trace.event(Event::Fault, FaultClass::Stall as u64, timing.delay);
            state.trace.log(|| format!("fault: the call takes {} ns", timing.delay));
        }
        if !matches!(cost, Cost::Cached(_)) {
            timing.delay += state.iops_wait(self.disk);
        }
        let (value, effect) = run(&mut state, timing);
        state.tell_faults(self.disk);
        if let Some(crash) = crash {
            drop(state);
            self.shared.crash(self.who.process, crash);
            return Submitted::Never;
        }
        if timing.delay == 0 {
            state.complete(effect);
            return Submitted::Now(value);
        }
        let deadline = state.now + timing.delay;
        let ticket = state.timers.add(deadline, self.who, effect);
        drop(state);
        let ticket = Waiting { shared: Arc::clone(&self.shared), ticket };
        Submitted::Later { ticket, value, late: timing.late }
    }

    /// A place that comes due at `deadline`.
    pub(crate) fn wait_until(&self, deadline: u64) -> Io<()> {
        let mut state = self.shared.state.lock();
        if !state.is_alive(self.who) {
            return Io::waiting(std::future::pending());
        }
        if deadline <= state.now {
            return Io::ready(());
        }
        let ticket = state.timers.add(deadline, self.who, Effect::None);
        drop(state);
        Io::waiting(Waiting { shared: Arc::clone(&self.shared), ticket })
    }
}

impl Env for SimEnv {
    fn disk(&self) -> &dyn Disk {
        self
    }

    fn now(&self) -> Nanos {
        Nanos(self.shared.state.lock().now)
    }

    fn wall_now(&self) -> Timestamp {
        let mut state = self.shared.state.lock();
        if state.disks[self.disk].1.faults.fires(FaultClass::ClockJump, "") {
            state.jump_wall_clock(self.who);
        }
        let now = state.now;
        Timestamp::new(state.process(self.who).wall_clock.read(now))
    }

    fn sleep_until(&self, deadline: Nanos) -> Io<()> {
        self.wait_until(deadline.0)
    }

    fn random_u64(&self) -> u64 {
        let mut state = self.shared.state.lock();
        let drawn = state.kernel.next_u64();
        state.trace.event(Event::Draw, drawn, 0);
        drawn
    }

    fn rare(&self, name: &'static str) -> bool {
        let mut state = self.shared.state.lock();
        let ratio = state.rare_ratio;
        let taken = state.rare.chance(ratio);
        if taken {
            state.rare_taken += 1;
            state.trace.event(Event::Draw, 1, 1);
            state.trace.log(|| format!("rare: {name}"));
        }
        taken
    }

    fn spawn(
        &self,
        name: &'static str,
        class: TaskClass,
        future: BoxFuture<'static, ()>,
    ) -> Result<Arc<dyn Task>, SpawnRefused> {
        let mut state = self.shared.state.lock();
        if !state.is_alive(self.who) {
            drop(state);
            drop(future);
            let queue = Arc::clone(&self.shared.ready);
            return Ok(TaskCell::new(u64::MAX, name, self.who, class, None, queue));
        }
        if state.disks[self.disk].1.faults.fires(FaultClass::SpawnRefused, name) {
            state.trace.event(Event::Fault, FaultClass::SpawnRefused as u64, 0);
            state.trace.log(|| format!("fault: spawn of {name} refused"));
            drop(state);
            drop(future);
            return Err(SpawnRefused { detail: "injected: no room for a further task".to_owned() });
        }
        let task = state.new_task(name, self.who, class, Some(future), &self.shared.ready);
        drop(state);
        std::task::Wake::wake_by_ref(&task);
        Ok(task)
    }

    fn slice(&self, cost: u64) -> Io<()> {
        let now = {
            let state = self.shared.state.lock();
            state.now + 100 + state.options.latency.slice_per_kib_ns * cost / 1024
        };
        self.wait_until(now)
    }
}
