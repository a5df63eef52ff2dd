//! One value, from one sender to one waiting receiver.
//!
//! The receiver is a future; the sender is told when nobody waits any more. Either side may go away at any time:
//! a dropped sender resolves the receiver to [`Dropped`], a dropped receiver gives the sent value back.
//! Everything stands behind one lock, held for a few instructions; wakers run after it is released.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{Arc, Bug, Mutex, planted};

/// The sender went away without sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender was dropped without sending")
    }
}

impl std::error::Error for Dropped {}

#[derive(Debug)]
struct State<T> {
    value: Option<T>,
    sender_gone: bool,
    receiver_gone: bool,
    waker: Option<Waker>,
}

/// Sends at most one value.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Mutex<State<T>>>,
}

/// Resolves to the value sent, or to [`Dropped`]. Dropping it is how the sender learns that nobody waits.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Mutex<State<T>>>,
}

/// A connected pair.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared =
        Arc::new(Mutex::new(State { value: None, sender_gone: false, receiver_gone: false, waker: None }));
    (Sender { shared: shared.clone() }, Receiver { shared })
}

impl<T> Sender<T> {
    /// Hands `value` to the receiver and wakes it.
    ///
    /// # Errors
    /// The value itself, if the receiver was dropped.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut state = self.shared.lock();
        if state.receiver_gone {
            return Err(value);
        }
        state.value = Some(value);
        // Dropping `self` at the end of this call wakes the receiver: one place wakes for both outcomes.
        Ok(())
    }

    /// True once the receiver was dropped; it stays true.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().receiver_gone
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.lock();
            state.sender_gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The outcome if it is there already.
    pub fn try_take(&mut self) -> Option<Result<T, Dropped>> {
        let mut state = self.shared.lock();
        match state.value.take() {
            Some(value) => Some(Ok(value)),
            None if state.sender_gone => Some(Err(Dropped)),
            None => None,
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Dropped>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock();
        if let Some(value) = state.value.take() {
            return Poll::Ready(Ok(value));
        }
        if state.sender_gone {
            return Poll::Ready(Err(Dropped));
        }
        if planted(Bug::OneshotWakerAfterUnlock) {
            drop(state);
            state = self.shared.lock();
        }
        let earlier = state.waker.replace(context.waker().clone());
        drop(state);
        drop(earlier);
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (value, waker) = {
            let mut state = self.shared.lock();
            state.receiver_gone = true;
            (state.value.take(), state.waker.take())
        };
        // A value nobody took, and the waker, may run code of others when dropped: not under the lock.
        drop((value, waker));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::testing::poll_once;
    use super::*;

    #[test]
    fn a_value_arrives_and_is_given_back_when_nobody_waits() {
        let (sender, mut receiver) = channel();
        assert!(poll_once(&mut receiver).is_pending());
        assert_eq!(sender.send(7), Ok(()));
        assert_eq!(poll_once(&mut receiver), Poll::Ready(Ok(7)));

        let (sender, receiver) = channel();
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(8), Err(8));
    }

    #[test]
    fn a_dropped_sender_is_told() {
        let (sender, mut receiver) = channel::<u8>();
        assert!(poll_once(&mut receiver).is_pending());
        drop(sender);
        assert_eq!(poll_once(&mut receiver), Poll::Ready(Err(Dropped)));
        assert_eq!(receiver.try_take(), Some(Err(Dropped)));
    }
}
