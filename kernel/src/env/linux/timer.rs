//! Sleeping: one thread that wakes each sleeper at its deadline.
//!
//! The thread is started by the first sleep that really has to wait. Pending deadlines stand in an ordered map, so a
//! sleep dropped early is removed at once and idle timers that are re-armed for ever leave nothing behind.
//! Precision is that of a futex with a time-out: about 60 µs late on an idle machine, never early.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::launch::Launcher;
use super::raw;
use crate::env::{Io, Nanos};

/// How long a sleeper holds its thread between looks at the clock when no timer thread can be had.
const NO_THREAD_NAP: Duration = Duration::from_millis(1);

/// Wakes sleepers. Dropping it ends the thread; sleepers keep it alive.
pub struct Timer {
    shared: Arc<Shared>,
    launcher: Arc<Launcher>,
}

struct Shared {
    schedule: Mutex<Schedule>,
    changed: Condvar,
}

#[derive(Default)]
struct Schedule {
    /// By deadline, then by arrival.
    sleepers: BTreeMap<(Nanos, u64), Waker>,
    arrivals: u64,
    running: bool,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Monotonic now.
pub fn now() -> Nanos {
    Nanos(raw::monotonic_nanos())
}

impl Timer {
    /// A timer without a thread yet.
    pub fn new(launcher: Arc<Launcher>) -> Arc<Self> {
        let shared = Shared { schedule: Mutex::new(Schedule::default()), changed: Condvar::new() };
        Arc::new(Self { shared: Arc::new(shared), launcher })
    }

    /// Completes at or after `deadline`.
    pub fn sleep_until(self: &Arc<Self>, deadline: Nanos) -> Io<()> {
        if deadline <= now() {
            return Io::ready(());
        }
        Io::waiting(Sleep { timer: Arc::clone(self), deadline, arrival: None })
    }

    /// Registers a sleeper under a new arrival number, or fails if there is no thread to wake it.
    fn register(&self, deadline: Nanos, waker: Waker) -> std::io::Result<u64> {
        let mut schedule = self.shared.lock();
        if !schedule.running {
            let shared = Arc::clone(&self.shared);
            self.launcher.launch("holdfast-timer", Box::new(move || keep_time(&shared)))?;
            schedule.running = true;
        }
        let arrival = schedule.arrivals;
        schedule.arrivals += 1;
        let earliest = schedule.sleepers.first_key_value().is_none_or(|(first, _)| deadline < first.0);
        schedule.sleepers.insert((deadline, arrival), waker);
        drop(schedule);
        if earliest {
            self.shared.changed.notify_one();
        }
        Ok(arrival)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

/// The life of the timer thread.
fn keep_time(shared: &Shared) {
    let mut schedule = shared.lock();
    while !schedule.closed {
        let now = now();
        let Some((&(deadline, arrival), _)) = schedule.sleepers.first_key_value() else {
            schedule = shared.changed.wait(schedule).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        if deadline > now {
            let remaining = Duration::from_nanos(deadline.since(now));
            schedule = match shared.changed.wait_timeout(schedule, remaining) {
                Ok((schedule, _)) => schedule,
                Err(poisoned) => poisoned.into_inner().0,
            };
            continue;
        }
        let waker = schedule.sleepers.remove(&(deadline, arrival));
        // A waker is foreign code: it may take any lock, so none of ours is held meanwhile.
        drop(schedule);
        if let Some(waker) = waker {
            waker.wake();
        }
        schedule = shared.lock();
    }
}

/// One sleep.
struct Sleep {
    timer: Arc<Timer>,
    deadline: Nanos,
    /// Its number in the schedule, once it was polled.
    arrival: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.deadline <= now() {
            return Poll::Ready(());
        }
        // Cloning and dropping a waker is foreign code, so neither happens under our lock.
        let waker = context.waker().clone();
        if let Some(arrival) = self.arrival {
            let mut schedule = self.timer.shared.lock();
            if let Some(registered) = schedule.sleepers.get_mut(&(self.deadline, arrival)) {
                let before = std::mem::replace(registered, waker);
                drop(schedule);
                drop(before);
                return Poll::Pending;
            }
        }
        match self.timer.register(self.deadline, waker) {
            Ok(arrival) => self.arrival = Some(arrival),
            Err(error) => {
                tracing::warn!(%error, "no timer thread");
                std::thread::sleep(NO_THREAD_NAP.min(Duration::from_nanos(self.deadline.since(now()))));
                context.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(arrival) = self.arrival {
            let waker = self.timer.shared.lock().sleepers.remove(&(self.deadline, arrival));
            drop(waker);
        }
    }
}
