//! The result of a spawned task, to be awaited by another.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use holdfast::sync::Mutex;

/// The task was dropped before it gave its result: its process died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Died;

impl std::fmt::Display for Died {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the process died before the task ended")
    }
}

impl std::error::Error for Died {}

enum Slot<T> {
    Waiting(Option<Waker>),
    Done(T),
    Died,
    Taken,
}

/// Completes with the result of a task, or with [`Died`]. Dropping it leaves the task running.
pub struct Join<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Join<T> {
    /// True once the task has ended or died.
    pub fn is_finished(&self) -> bool {
        !matches!(&*self.slot.lock(), Slot::Waiting(_))
    }
}

impl<T> Future for Join<T> {
    type Output = Result<T, Died>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Waiting(_) => {
                *slot = Slot::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            Slot::Done(value) => Poll::Ready(Ok(value)),
            Slot::Died => Poll::Ready(Err(Died)),
            Slot::Taken => unreachable!("a Join was polled after it had given its result"),
        }
    }
}

/// The task's end of a [`Join`]; dropping it unfinished says that the task died.
pub(crate) struct Completer<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Completer<T> {
    pub(crate) fn finish(self, value: T) {
        self.put(Slot::Done(value));
    }

    fn put(&self, result: Slot<T>) {
        let mut slot = self.slot.lock();
        if let Slot::Waiting(waker) = &mut *slot {
            let waker = waker.take();
            *slot = result;
            drop(slot);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        self.put(Slot::Died);
    }
}

/// The two ends.
pub(crate) fn join<T>() -> (Completer<T>, Join<T>) {
    let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
    (Completer { slot: Arc::clone(&slot) }, Join { slot })
}
