//! Who leads: the queue in which commits wait to be made by one of them.
//!
//! A request that enters while nobody leads becomes the leader. It takes a group of pending requests, works for all
//! of them, completes each, and hands the leadership to the first waiter that is still there. What a request and a
//! result are, and what the work is, this module does not know.
//!
//! ```text
//! enter ──► nobody leads ──────────────────────────► Lead(Leadership) ── take_group, complete … ── finish
//!       └─► someone leads ► Wait(Ticket) ─ await ─┬► Done(T)              the leader did it
//!                                                 ├► Lead(Leadership)     handed over; the request is still queued
//!                                                 └► Abandoned            the leader went away with the request
//! ```
//!
//! Invariants:
//! - At most one [`Leadership`] exists, and one exists, or is assigned to a ticket, whenever a request is pending.
//! - Requests are taken in the order in which they entered, each exactly once.
//! - A dropped ticket withdraws nothing: its request stays queued. If only such requests are left, the rescue
//!   callback given at construction gets the leadership; there is nobody else to wake.
//! - Whoever drops a leadership, or a ticket that was assigned one, passes it on.
//!
//! One exception: a rescuer that drops the leadership without having taken anything (the task was refused) is not
//! called again at once, or the two would call each other for ever. The queue then waits for the next who enters.
//!
//! Lock order: queue, then slot. Wakers and callbacks run under neither.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::check::mark;
use crate::sync::{Arc, Bug, Mutex, MutexGuard, planted};

/// Gets the leadership when requests are pending and nobody waits for them.
pub type Rescue<R, T> = std::sync::Arc<dyn Fn(Leadership<R, T>) + Send + Sync>;

/// Where one request's outcome arrives.
enum Slot<T> {
    /// A ticket waits, with the waker it left.
    Waiting(Option<Waker>),
    /// Leadership was assigned to the ticket, which has not seen it yet.
    Assigned,
    /// The request's owner leads.
    Leading,
    /// The outcome; `None` if the leader went away with the request in hand.
    Settled(Option<T>),
    /// The ticket was dropped, or has its outcome.
    Gone,
}

type SharedSlot<T> = Arc<Mutex<Slot<T>>>;

struct State<R, T> {
    led: bool,
    pending: VecDeque<(R, SharedSlot<T>)>,
}

struct Shared<R, T> {
    state: Mutex<State<R, T>>,
    rescue: Rescue<R, T>,
}

/// See the module's header.
pub struct Queue<R, T> {
    shared: Arc<Shared<R, T>>,
}

/// What entering gives.
pub enum Entry<R, T> {
    /// Nobody led: the caller does, its own request pending.
    Lead(Leadership<R, T>),
    /// Someone leads: wait.
    Wait(Ticket<R, T>),
}

/// What waiting gives.
pub enum Turn<R, T> {
    /// The request was completed.
    Done(T),
    /// Leadership was handed over; the own request is still pending.
    Lead(Leadership<R, T>),
    /// The leader was dropped after it took the request and before it completed it. Whether the work was done, in
    /// whole or in part, is unknown.
    Abandoned,
}

impl<R, T> Queue<R, T> {
    /// An empty queue.
    pub fn new(rescue: Rescue<R, T>) -> Self {
        let state = Mutex::new(State { led: false, pending: VecDeque::new() });
        Self { shared: Arc::new(Shared { state, rescue }) }
    }

    /// Queues a request. From here on it will be taken, whoever goes away.
    pub fn enter(&self, request: R) -> Entry<R, T> {
        let mut state = self.shared.state.lock();
        let leads = !state.led;
        state.led = true;
        let slot = Arc::new(Mutex::new(if leads { Slot::Leading } else { Slot::Waiting(None) }));
        state.pending.push_back((request, slot.clone()));
        drop(state);
        let shared = self.shared.clone();
        if leads {
            Entry::Lead(Leadership::new(shared, Some(slot)))
        } else {
            Entry::Wait(Ticket { shared, slot: Some(slot) })
        }
    }

    /// Requests not yet taken.
    pub fn pending(&self) -> usize {
        self.shared.state.lock().pending.len()
    }
}

/// A place in the queue. Dropping it withdraws nothing.
#[must_use = "the outcome arrives here"]
pub struct Ticket<R, T> {
    shared: Arc<Shared<R, T>>,
    /// None once it gave its turn.
    slot: Option<SharedSlot<T>>,
}

impl<R, T> Future for Ticket<R, T> {
    type Output = Turn<R, T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turn<R, T>> {
        let shared_slot = self.slot.clone().expect("a ticket is not polled after it gave its turn");
        let mut slot = shared_slot.lock();
        if planted(Bug::QueueWakerAfterUnlock) && matches!(*slot, Slot::Waiting(_)) {
            drop(slot);
            slot = shared_slot.lock();
            if !matches!(*slot, Slot::Waiting(_)) {
                return Poll::Pending;
            }
        }
        if let Slot::Waiting(waker) = &mut *slot {
            let earlier = waker.replace(context.waker().clone());
            drop(slot);
            drop(earlier);
            return Poll::Pending;
        }
        let turn = match std::mem::replace(&mut *slot, Slot::Gone) {
            Slot::Assigned => {
                *slot = Slot::Leading;
                drop(slot);
                Turn::Lead(Leadership::new(self.shared.clone(), Some(shared_slot)))
            }
            Slot::Settled(outcome) => outcome.map_or(Turn::Abandoned, Turn::Done),
            Slot::Waiting(_) | Slot::Leading | Slot::Gone => {
                unreachable!("a slot belongs to its ticket until the ticket gave its turn")
            }
        };
        self.slot = None;
        Poll::Ready(turn)
    }
}

impl<R, T> Drop for Ticket<R, T> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let before = std::mem::replace(&mut *slot.lock(), Slot::Gone);
        if matches!(before, Slot::Assigned) && !planted(Bug::QueueLeadershipDropped) {
            drop(Leadership::new(self.shared.clone(), None));
        }
    }
}

/// A request taken out of the queue.
#[must_use = "dropping it abandons the request"]
pub struct Pending<R, T> {
    request: R,
    slot: Reply<T>,
}

impl<R, T> Pending<R, T> {
    /// What is asked for.
    pub fn request(&self) -> &R {
        &self.request
    }

    /// Answers it; the one who waits is woken. If nobody does the result is dropped.
    pub fn complete(self, result: T) {
        self.slot.settle(Some(result));
    }
}

/// The way to a slot, which is told if nobody ever answers.
struct Reply<T>(SharedSlot<T>);

impl<T> Reply<T> {
    fn settle(&self, outcome: Option<T>) {
        let mut slot = self.0.lock();
        if matches!(*slot, Slot::Gone | Slot::Settled(_)) {
            // Dropped after the lock, as `outcome` is: a result's destructor may do anything.
            drop(slot);
            return;
        }
        let before = std::mem::replace(&mut *slot, Slot::Settled(outcome));
        drop(slot);
        if let Slot::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.settle(None);
    }
}

/// The right, and the duty, to work for all who wait. Only one exists per queue.
#[must_use = "dropping it passes the leadership on"]
pub struct Leadership<R, T> {
    shared: Arc<Shared<R, T>>,
    /// Of the own request; none for a rescuer.
    own: Option<SharedSlot<T>>,
    rescuer: bool,
    took_any: bool,
    finished: bool,
}

impl<R, T> Leadership<R, T> {
    fn new(shared: Arc<Shared<R, T>>, own: Option<SharedSlot<T>>) -> Self {
        Self { shared, own, rescuer: false, took_any: false, finished: false }
    }

    /// The pending requests, oldest first, until `requests_max` or `bytes_max` is reached, but at least one if there
    /// is any. The own request is among them unless older ones of those who went away fill the group: a leader goes
    /// on taking groups until [`Leadership::own_outcome`] answers, a rescuer until the group is empty.
    pub fn take_group(
        &mut self,
        requests_max: usize,
        bytes_max: u64,
        bytes: impl Fn(&R) -> u64,
    ) -> Vec<Pending<R, T>> {
        let mut state = self.shared.state.lock();
        let mut total = 0u64;
        let mut count = 0;
        for (request, _) in &state.pending {
            total = total.saturating_add(bytes(request));
            if count > 0 && (count >= requests_max || total > bytes_max) {
                break;
            }
            count += 1;
        }
        self.took_any |= count > 0;
        state.pending.drain(..count).map(|(request, slot)| Pending { request, slot: Reply(slot) }).collect()
    }

    /// The outcome of the own request, once it was completed; taken out, so answered once.
    pub fn own_outcome(&mut self) -> Option<T> {
        let mut slot = self.own.as_ref()?.lock();
        match &mut *slot {
            Slot::Settled(outcome) => outcome.take(),
            _ => None,
        }
    }

    /// Passes the leadership on, if anyone needs it.
    pub fn finish(mut self) {
        self.finished = true;
    }

    /// Finds a successor: the first waiter still there, else a rescuer, unless nothing is pending.
    fn pass_on(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(waker) = Self::assign(&state) {
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        let stuck = self.rescuer && !self.took_any;
        if state.pending.is_empty() || stuck || planted(Bug::QueueRescueForgotten) {
            state.led = false;
            return;
        }
        drop(state);
        let mut successor = Self::new(self.shared.clone(), None);
        successor.rescuer = true;
        (self.shared.rescue)(successor);
    }

    /// Assigns leadership to the first pending request whose ticket waits; answers its waker, if it left one.
    fn assign(state: &MutexGuard<'_, State<R, T>>) -> Option<Option<Waker>> {
        for (_, slot) in &state.pending {
            let mut slot = slot.lock();
            if let Slot::Waiting(waker) = &mut *slot {
                let waker = waker.take();
                *slot = Slot::Assigned;
                return Some(waker);
            }
            if planted(Bug::QueueLeadershipToTheGone) {
                return Some(None);
            }
        }
        None
    }
}

impl<R, T> Drop for Leadership<R, T> {
    fn drop(&mut self) {
        if !self.finished {
            mark!("commit_leader_dropped");
        }
        if let Some(own) = self.own.take() {
            // Nobody will ask for it any more, and it must not be offered the leadership.
            let outcome = std::mem::replace(&mut *own.lock(), Slot::Gone);
            drop(outcome);
        }
        self.pass_on();
    }
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "queue_tests.rs"]
mod tests;
