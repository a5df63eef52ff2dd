//! A counted resource, given out in the order in which it was asked for.
//!
//! Nobody overtakes: a request that does not fit holds back those behind it, so a large one is not starved by
//! small ones. Permits are values; dropping one gives its share back.
//!
//! Invariants: given out + available = total. If anyone waits, the first one's wish exceeds what is available.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Bug, Mutex, planted};

#[derive(Debug)]
struct Waiting {
    wanted: usize,
    waker: Waker,
}

#[derive(Debug)]
struct State {
    available: usize,
    next_ticket: u64,
    /// Who waits, by ticket, so oldest first.
    waiting: BTreeMap<u64, Waiting>,
    /// Who was given its share and has not seen it yet.
    granted: BTreeMap<u64, usize>,
}

impl State {
    /// Takes `wanted` at once, if that overtakes nobody.
    fn take(&mut self, wanted: usize) -> bool {
        let fits = self.waiting.is_empty() && self.available >= wanted;
        if fits {
            self.available -= wanted;
        }
        fits
    }

    /// Gives to the first waiters whatever fits; answers whom to wake.
    fn grant(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if first.get().wanted > self.available {
                break;
            }
            let (ticket, Waiting { wanted, waker }) = first.remove_entry();
            self.available -= wanted;
            self.granted.insert(ticket, wanted);
            woken.push(waker);
        }
        woken
    }
}

/// A number of permits that tasks wait for. Held in the standard library's `Arc`: permits own it.
#[derive(Debug)]
pub struct Semaphore {
    total: usize,
    state: Mutex<State>,
}

impl Semaphore {
    /// With `total` permits, all available.
    pub fn new(total: usize) -> Self {
        let (waiting, granted) = (BTreeMap::new(), BTreeMap::new());
        Self { total, state: Mutex::new(State { available: total, next_ticket: 0, waiting, granted }) }
    }

    /// Permits that nobody holds; those already promised to a waiter are not counted.
    pub fn available(&self) -> usize {
        self.state.lock().available
    }

    /// A future of `permits` permits. It takes its place in the queue when first polled.
    ///
    /// # Panics
    /// If more is asked for than there is in total, which could never be given.
    pub fn acquire(self: &Arc<Self>, permits: usize) -> Acquire {
        assert!(permits <= self.total, "asked for {permits} of {} permits", self.total);
        Acquire { semaphore: self.clone(), wanted: permits, ticket: None }
    }

    /// `permits` permits, if they can be had at once without overtaking anyone.
    pub fn try_acquire(self: &Arc<Self>, permits: usize) -> Option<Permit> {
        self.state.lock().take(permits).then(|| Permit { semaphore: self.clone(), permits })
    }

    fn release(&self, permits: usize) {
        let woken = {
            let mut state = self.state.lock();
            state.available += permits;
            assert!(state.available <= self.total, "a permit was given back twice");
            state.grant()
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

/// A share of a [`Semaphore`], given back when dropped.
#[derive(Debug)]
#[must_use = "dropping the permit gives it back"]
pub struct Permit {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

impl Permit {
    /// How many it stands for.
    pub fn permits(&self) -> usize {
        self.permits
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.release(self.permits);
    }
}

/// Waits for a [`Permit`]. See [`Semaphore::acquire`].
#[derive(Debug)]
pub struct Acquire {
    semaphore: Arc<Semaphore>,
    wanted: usize,
    ticket: Option<u64>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let mut guard = self.semaphore.state.lock();
        let state = &mut *guard;
        let permits = match self.ticket {
            Some(ticket) => state.granted.remove(&ticket),
            None => state.take(self.wanted).then_some(self.wanted),
        };
        if let Some(permits) = permits {
            drop(guard);
            self.ticket = None;
            return Poll::Ready(Permit { semaphore: self.semaphore.clone(), permits });
        }
        let ticket = self.ticket.unwrap_or(state.next_ticket);
        if self.ticket.is_none() {
            state.next_ticket += 1;
        }
        let waker = context.waker().clone();
        let earlier = state.waiting.insert(ticket, Waiting { wanted: self.wanted, waker });
        drop(guard);
        drop(earlier);
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let (own, woken) = {
            let mut state = self.semaphore.state.lock();
            let own = state.waiting.remove(&ticket);
            if let Some(granted) = state.granted.remove(&ticket)
                && !planted(Bug::SemaphoreGrantLeaked)
            {
                state.available += granted;
            }
            // Also after leaving the queue without a grant: who stood behind may fit now.
            (own, state.grant())
        };
        drop(own);
        woken.into_iter().for_each(Waker::wake);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::testing::poll_once;
    use super::*;

    #[test]
    fn a_large_request_is_not_overtaken_and_leaving_lets_others_through() {
        let semaphore = Arc::new(Semaphore::new(3));
        let held = semaphore.try_acquire(2);
        let (mut large, mut small) = (semaphore.acquire(3), semaphore.acquire(1));
        assert!(poll_once(&mut large).is_pending());
        assert!(poll_once(&mut small).is_pending());
        assert!(semaphore.try_acquire(1).is_none());
        drop(large);
        assert!(poll_once(&mut small).is_ready());
        drop(held);
        assert_eq!(semaphore.available(), 3);
    }

    quickcheck::quickcheck! {
        /// Whatever is acquired, dropped and cancelled in whatever order: the first waiter never fits, and at the
        /// end every permit is back.
        fn permits_are_conserved(steps: Vec<(u8, u8)>) -> bool {
            let semaphore = Arc::new(Semaphore::new(5));
            let mut waiting: Vec<Acquire> = Vec::new();
            let mut held: Vec<Permit> = Vec::new();
            for (step, pick) in steps {
                let pick = usize::from(pick);
                match step % 4 {
                    0 => waiting.push(semaphore.acquire(pick % 6)),
                    1 if !waiting.is_empty() => {
                        let at = pick % waiting.len();
                        if let Poll::Ready(permit) = poll_once(&mut waiting[at]) {
                            waiting.remove(at);
                            held.push(permit);
                        }
                    }
                    2 if !waiting.is_empty() => drop(waiting.remove(pick % waiting.len())),
                    3 if !held.is_empty() => drop(held.remove(pick % held.len())),
                    _ => {}
                }
                let state = semaphore.state.lock();
                assert!(state.waiting.first_key_value().is_none_or(|(_, first)| first.wanted > state.available));
                let given: usize = held.iter().map(Permit::permits).sum();
                assert_eq!(given + state.granted.values().sum::<usize>() + state.available, 5);
            }
            drop((waiting, held));
            semaphore.available() == 5
        }
    }
}
