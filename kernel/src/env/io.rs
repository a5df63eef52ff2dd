//! The future every I/O call returns: already done without an allocation, or boxed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A result that is there, or a future of it.
///
/// `Ready` holds `None` only after the value was taken by `poll`; polling again is a bug of the caller.
pub enum Io<T> {
    /// Done before it returned.
    Ready(Option<T>),
    /// Still under way.
    Waiting(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T> Io<T> {
    /// A call that is done.
    pub fn ready(value: T) -> Self {
        Self::Ready(Some(value))
    }

    /// A call that is under way.
    pub fn waiting(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Waiting(Box::pin(future))
    }
}

// Nothing inside `Ready` is ever pinned, and `Waiting` pins behind its own box.
impl<T> Unpin for Io<T> {}

impl<T> Future for Io<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut *self {
            Self::Ready(value) => match value.take() {
                Some(value) => Poll::Ready(value),
                None => unreachable!("an Io was polled after it had given its result"),
            },
            Self::Waiting(future) => future.as_mut().poll(context),
        }
    }
}
