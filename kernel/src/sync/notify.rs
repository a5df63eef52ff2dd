//! A wake-up that is never lost and never multiplied.
//!
//! [`Notify::notify_one`] lets exactly one waiter through, in the order in which they began to wait; if there is
//! none it leaves one permit (at most one) for the next. [`Notify::notify_all`] lets everyone through whose
//! [`Notified`] existed when it was called, polled or not, and leaves no permit.
//!
//! Invariant: a permit given to a waiter that goes away before it sees it passes on to the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{Bug, Mutex, planted};

#[derive(Debug)]
struct State {
    permit: bool,
    /// Number of `notify_all` calls so far.
    rounds: u64,
    next_ticket: u64,
    /// Who waits, by ticket, so oldest first.
    waiting: BTreeMap<u64, Waker>,
    /// Who was let through by `notify_one` and has not seen it yet.
    chosen: BTreeSet<u64>,
}

impl State {
    /// Gives one permit to the oldest waiter, or stores it.
    fn give(&mut self) -> Option<Waker> {
        match self.waiting.pop_first() {
            Some((ticket, waker)) => {
                self.chosen.insert(ticket);
                Some(waker)
            }
            None => {
                self.permit = true;
                None
            }
        }
    }
}

/// Wakes tasks that wait for something to happen elsewhere.
#[derive(Debug)]
pub struct Notify {
    state: Mutex<State>,
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl Notify {
    /// Without a permit.
    pub fn new() -> Self {
        let (waiting, chosen) = (BTreeMap::new(), BTreeSet::new());
        Self { state: Mutex::new(State { permit: false, rounds: 0, next_ticket: 0, waiting, chosen }) }
    }

    /// Lets one waiter through, now or as soon as one comes.
    pub fn notify_one(&self) {
        let waker = self.state.lock().give();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets everyone through who waits now.
    pub fn notify_all(&self) {
        let woken = {
            let mut state = self.state.lock();
            state.rounds += 1;
            std::mem::take(&mut state.waiting)
        };
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// A future that completes at the next notification. [`Notify::notify_all`] counts from this call on, so
    /// "make the future, check the condition, await" misses nothing.
    pub fn notified(&self) -> Notified<'_> {
        let rounds = self.state.lock().rounds;
        Notified { notify: self, rounds, ticket: None, done: false }
    }
}

/// Waits for a notification. See [`Notify::notified`].
#[derive(Debug)]
pub struct Notified<'a> {
    notify: &'a Notify,
    rounds: u64,
    ticket: Option<u64>,
    done: bool,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.done {
            return Poll::Ready(());
        }
        let mut state = self.notify.state.lock();
        let through = match self.ticket {
            Some(ticket) => {
                state.chosen.remove(&ticket) || {
                    let round_passed = state.rounds != self.rounds;
                    if round_passed {
                        state.waiting.remove(&ticket);
                    }
                    round_passed
                }
            }
            None => state.rounds != self.rounds || std::mem::take(&mut state.permit),
        };
        if through {
            drop(state);
            self.done = true;
            return Poll::Ready(());
        }
        if planted(Bug::NotifyRegistersAfterUnlock) {
            drop(state);
            state = self.notify.state.lock();
        }
        let ticket = self.ticket.unwrap_or(state.next_ticket);
        if self.ticket.is_none() {
            state.next_ticket += 1;
        }
        let earlier = state.waiting.insert(ticket, context.waker().clone());
        drop(state);
        drop(earlier);
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.filter(|_| !self.done) else { return };
        let mut state = self.notify.state.lock();
        let own = state.waiting.remove(&ticket);
        let passed_on = if state.chosen.remove(&ticket) && !planted(Bug::NotifyPermitNotPassedOn) {
            state.give()
        } else {
            None
        };
        drop(state);
        drop(own);
        if let Some(waker) = passed_on {
            waker.wake();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::testing::poll_once;
    use super::*;

    #[test]
    fn one_permit_is_kept_and_no_more() {
        let notify = Notify::new();
        notify.notify_one();
        notify.notify_one();
        assert!(poll_once(&mut notify.notified()).is_ready());
        assert!(poll_once(&mut notify.notified()).is_pending());
    }

    #[test]
    fn everyone_means_those_who_existed() {
        let notify = Notify::new();
        let (mut polled, mut fresh) = (notify.notified(), notify.notified());
        assert!(poll_once(&mut polled).is_pending());
        notify.notify_all();
        assert!(poll_once(&mut polled).is_ready());
        assert!(poll_once(&mut fresh).is_ready());
        assert!(poll_once(&mut notify.notified()).is_pending());
    }

    #[test]
    fn a_dropped_waiter_passes_its_permit_on() {
        let notify = Notify::new();
        let (mut first, mut second) = (notify.notified(), notify.notified());
        assert!(poll_once(&mut first).is_pending());
        assert!(poll_once(&mut second).is_pending());
        notify.notify_one();
        assert!(poll_once(&mut second).is_pending());
        drop(first);
        assert!(poll_once(&mut second).is_ready());
    }

    quickcheck::quickcheck! {
        /// Permits are conserved: what was given is stored, was seen, or is on its way to a live waiter.
        fn permits_are_conserved(steps: Vec<(u8, u8)>) -> bool {
            let notify = Notify::new();
            let mut waiters: Vec<Pin<Box<Notified<'_>>>> = Vec::new();
            for (step, pick) in steps {
                match step % 4 {
                    0 => waiters.push(Box::pin(notify.notified())),
                    1 => notify.notify_one(),
                    _ if waiters.is_empty() => {}
                    2 => {
                        let at = usize::from(pick) % waiters.len();
                        if poll_once(&mut waiters[at]).is_ready() {
                            waiters.remove(at);
                        }
                    }
                    _ => drop(waiters.remove(usize::from(pick) % waiters.len())),
                }
                let state = notify.state.lock();
                // A stored permit beside a waiting task would be a lost wake-up.
                assert!(!state.permit || state.waiting.is_empty());
                assert!(state.chosen.len() + state.waiting.len() <= waiters.len());
            }
            waiters.clear();
            let state = notify.state.lock();
            state.chosen.is_empty() && state.waiting.is_empty()
        }
    }
}
