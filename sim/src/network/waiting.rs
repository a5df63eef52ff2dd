//! Waiting at a place of the network until a change there.
//!
//! An [`Attempt`] tries under the world's lock, and stands at the place that it was told until something changes there;
//! then everybody at that place tries again. Nobody is handed anything while asleep, so a future that is dropped
//! takes nothing along.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::schedule::Who;
use crate::state::{Shared, State};

/// Where one can wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// For a datagram at a port of a process.
    Mailbox(u32, u16),
    /// For a connection at a port of a process.
    Backlog(u32, u16),
    /// For frames, the answer, the end or a reset of a connection, at a side of it.
    Inbox(u64, usize),
    /// For room in the window of a connection, at a side of it.
    Window(u64, usize),
    /// For room in the queue of a link.
    Queue(u32, u32),
}

/// What an attempt led to.
pub(crate) enum Step<T> {
    Done(T),
    Wait(Place),
}

/// Everybody who waits.
#[derive(Default)]
pub(crate) struct Waiters {
    places: BTreeMap<Place, BTreeMap<u64, Waker>>,
    asked: u64,
}

impl Waiters {
    fn number(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Gives back a waker that it replaces, to be dropped where no lock is held.
    fn add(&mut self, place: Place, number: u64, waker: &Waker) -> Option<Waker> {
        self.places.entry(place).or_default().insert(number, waker.clone())
    }

    fn remove(&mut self, place: Place, number: u64) -> Option<Waker> {
        let there = self.places.get_mut(&place)?;
        let waker = there.remove(&number);
        if there.is_empty() {
            self.places.remove(&place);
        }
        waker
    }

    /// Takes everybody who stands at a place.
    pub(crate) fn take(&mut self, place: Place) -> impl Iterator<Item = Waker> {
        self.places.remove(&place).into_iter().flat_map(BTreeMap::into_values)
    }
}

/// Tries until it is done. Never done once the process is dead.
pub(crate) struct Attempt<F> {
    shared: Arc<Shared>,
    who: Who,
    stands: Option<(Place, u64)>,
    attempt: F,
}

impl<F> Attempt<F> {
    pub(crate) fn new(shared: &Arc<Shared>, who: Who, attempt: F) -> Self {
        Self { shared: Arc::clone(shared), who, stands: None, attempt }
    }
}

// Nothing inside is pinned.
impl<F> Unpin for Attempt<F> {}

impl<T, F: FnMut(&mut State) -> Step<T>> Future for Attempt<F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let mut state = this.shared.state.lock();
        let stood =
            this.stands.take().and_then(|(place, number)| state.network.waiters.remove(place, number));
        let mut replaced = None;
        let step = state.is_alive(this.who).then(|| (this.attempt)(&mut state));
        if let Some(Step::Wait(place)) = &step {
            let number = state.network.waiters.number();
            replaced = state.network.waiters.add(*place, number, context.waker());
            this.stands = Some((*place, number));
        }
        let woken = std::mem::take(&mut state.network.woken);
        drop(state);
        drop((stood, replaced));
        woken.into_iter().for_each(Waker::wake);
        match step {
            Some(Step::Done(value)) => Poll::Ready(value),
            Some(Step::Wait(_)) | None => Poll::Pending,
        }
    }
}

impl<F> Drop for Attempt<F> {
    fn drop(&mut self) {
        if let Some((place, number)) = self.stands {
            let waker = self.shared.state.lock().network.waiters.remove(place, number);
            drop(waker);
        }
    }
}

impl Shared {
    /// Does something to the network and wakes whom it concerns, after unlocking.
    pub(crate) fn with_network<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let value = run(&mut state);
        let woken = std::mem::take(&mut state.network.woken);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        value
    }
}
