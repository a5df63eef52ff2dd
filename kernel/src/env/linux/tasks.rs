//! Tasks: each on a thread of its own, with a priority that can change while it runs.
//!
//! The kernel spawns few and long-lived tasks, so a thread each is the simplest executor there is: a task blocks
//! only itself, and the system's scheduler knows it by priority.
//!
//! A background thread takes the policy `SCHED_IDLE`: any waking foreground thread preempts it at once. (A busy
//! background thread of normal priority made a 30 µs sync take 4 ms on two cores.) Its I/O goes to the end of
//! the best-effort class, not to the idle class, where a busy disk could starve a flush that writers wait for.
//!
//! Everyone may lower a thread, but ordinary users may not raise it again. So when the system refuses, a task that is
//! to be raised *moves*: at its next wait or slice it leaves its thread, and a new thread of normal priority takes
//! it on. The kernel cannot tell.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::launch::Launcher;
use super::raw::{self, Policy, ThreadId};
use super::{block_on, panic_message, timer};
use crate::env::{BoxFuture, Io, Nanos, SpawnRefused, Task, TaskClass};

/// How long work may hold a thread of an asynchronous runtime before it lets the runtime look around.
const SLICE_NANOS: u64 = 1_000_000;

/// Last of the best-effort class.
const BACKGROUND_IO_LEVEL: u8 = 7;

thread_local! {
    /// The task that runs on this thread, if any.
    static TASK: RefCell<Option<Arc<State>>> = const { RefCell::new(None) };
    /// When the running slice began.
    static SLICE_BEGAN: Cell<Nanos> = const { Cell::new(Nanos(0)) };
}

/// What the handle and the thread share.
struct State {
    name: &'static str,
    launcher: Arc<Launcher>,
    finished: AtomicBool,
    /// The task must go on on another thread. Only set while it waits for one.
    must_move: AtomicBool,
    seat: Mutex<Seat>,
}

/// Where the task sits. The thread clears `thread` before it ends, so a number found here is never another's.
struct Seat {
    class: TaskClass,
    thread: Option<ThreadId>,
    /// The policy the task's first thread was born with, which raising it restores.
    inherited: Option<Policy>,
    waker: Option<Waker>,
}

/// Starts a task.
pub fn spawn(
    launcher: &Arc<Launcher>,
    name: &'static str,
    class: TaskClass,
    future: BoxFuture<'static, ()>,
) -> Result<Arc<dyn Task>, SpawnRefused> {
    let refused = |error: io::Error| SpawnRefused { detail: format!("task {name}: {error}") };
    launcher.prepare().map_err(refused)?;
    let state = Arc::new(State {
        name,
        launcher: Arc::clone(launcher),
        finished: AtomicBool::new(false),
        must_move: AtomicBool::new(false),
        seat: Mutex::new(Seat { class, thread: None, inherited: None, waker: None }),
    });
    let running = Arc::clone(&state);
    launcher.launch(name, Box::new(move || drive(running, future))).map_err(refused)?;
    Ok(state)
}

/// The life of a task on one thread.
fn drive(state: Arc<State>, mut future: BoxFuture<'static, ()>) {
    state.sit_down();
    TASK.set(Some(Arc::clone(&state)));
    loop {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            block_on::poll_until(future.as_mut(), &|waker| state.seat().waker = Some(waker.clone()), &|| {
                state.must_move.load(Ordering::Acquire)
            })
        }));
        match outcome {
            Ok(ControlFlow::Continue(())) => match move_on(&state, future) {
                None => return TASK.set(None),
                Some(refused) => future = refused,
            },
            Ok(ControlFlow::Break(())) => break,
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                tracing::error!(task = state.name, message, "a task panicked");
                break;
            }
        }
    }
    TASK.set(None);
    state.stand_up();
    // What the future owns is gone before the task counts as finished.
    if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
        tracing::error!(task = state.name, "a task panicked while it was dropped");
    }
    state.finished.store(true, Ordering::Release);
}

/// Hands the task to a new thread. Gives it back if there is none: it then goes on where it is, as background
/// work, until it is raised again.
fn move_on(state: &Arc<State>, future: BoxFuture<'static, ()>) -> Option<BoxFuture<'static, ()>> {
    state.stand_up();
    let parcel = Arc::new(Mutex::new(Some(future)));
    let (running, carried) = (Arc::clone(state), Arc::clone(&parcel));
    let take = |parcel: &Mutex<Option<_>>| parcel.lock().unwrap_or_else(PoisonError::into_inner).take();
    let body = move || {
        if let Some(future) = take(&carried) {
            drive(running, future);
        }
    };
    match state.launcher.launch(state.name, Box::new(body)) {
        Ok(()) => None,
        Err(error) => {
            tracing::warn!(task = state.name, %error, "a task could not be raised");
            state.seat().class = TaskClass::Background;
            state.sit_down();
            take(&parcel)
        }
    }
}

impl State {
    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the calling thread as the task's own and gives it the task's class.
    fn sit_down(&self) {
        let mut seat = self.seat();
        self.must_move.store(false, Ordering::Release);
        seat.thread = Some(raw::thread_id());
        seat.inherited = seat.inherited.or_else(|| raw::policy().ok());
        if seat.class == TaskClass::Background {
            lower(&seat);
        }
    }

    fn stand_up(&self) {
        let mut seat = self.seat();
        seat.thread = None;
        seat.waker = None;
    }
}

fn lower(seat: &Seat) {
    let Some(thread) = seat.thread else { return };
    raw::set_io_priority(thread, Some(BACKGROUND_IO_LEVEL));
    if let Err(error) = raw::set_policy(thread, Policy::IDLE) {
        tracing::warn!(%error, "background work runs at normal priority");
    }
}

/// True if the thread has its full priority again.
fn raise(seat: &Seat) -> bool {
    let Some(thread) = seat.thread else { return true };
    raw::set_io_priority(thread, None);
    seat.inherited.is_none_or(|inherited| raw::set_policy(thread, inherited).is_ok())
}

impl Task for State {
    fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    fn set_class(&self, class: TaskClass) {
        let mut seat = self.seat();
        if seat.class == class {
            return;
        }
        seat.class = class;
        match class {
            TaskClass::Background => {
                // A move that has not happened yet is no longer wanted; the thread still has its low priority.
                if !self.must_move.swap(false, Ordering::AcqRel) {
                    lower(&seat);
                }
            }
            TaskClass::Foreground => {
                if !raise(&seat) {
                    self.must_move.store(true, Ordering::Release);
                    let waker = seat.waker.clone();
                    drop(seat);
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
            }
        }
    }
}

/// A point where a task can be moved, and where one that shares its thread lets others run.
///
/// A task's own thread is not asked to yield. At background priority whoever wakes preempts it anyhow, and a raised
/// one does harm by `sched_yield`: beside three tasks that yielded once a millisecond, the 99th percentile of
/// a durable write rose from 110 to 1,050 µs (Linux 6.18, two processors), because each yield starts a fresh time
/// slice of another busy thread, which a thread that wakes then has to wait for.
pub fn slice() -> Io<()> {
    let must_move = |state: &Arc<State>| state.must_move.load(Ordering::Relaxed);
    if TASK.with_borrow(|task| task.as_ref().is_some_and(must_move)) {
        return Io::waiting(YieldOnce { yielded: false });
    }
    if block_on::may_block() {
        return Io::ready(());
    }
    let now = timer::now();
    if now.since(SLICE_BEGAN.get()) < SLICE_NANOS {
        return Io::ready(());
    }
    SLICE_BEGAN.set(now);
    Io::waiting(YieldOnce { yielded: false })
}

/// Waits for nothing, but lets the executor look around once.
struct YieldOnce {
    yielded: bool,
}

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
