//! Locks, atomics and wake-ups, with the loom switch.
//!
//! Every hand-synchronised structure of the kernel takes its primitives from here and nowhere else. In production
//! they are the standard library's; under `--cfg loom` they are loom's, so that `loom-tests` explores the very
//! source that ships. Locks do not poison: a panic while one is held is a bug that the panic itself reports.
//!
//! Wakers are woken and dropped only after a lock is released: both may run code of others.
//!
//! [`UnsafeCell`] is the tracked cell: bytes published through a pointer stand in one, so that loom sees every
//! access to them and catches an ordering that is too weak.

mod either;
mod lock;
mod notify;
pub mod oneshot;
mod planted;
mod semaphore;

pub use either::either;
pub use lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use notify::{Notified, Notify};
#[cfg(loom)]
pub use planted::plant;
pub use planted::{Bug, ordering, planted};
pub use semaphore::{Acquire, Permit, Semaphore};

#[cfg(loom)]
pub use loom::sync::Arc;
#[cfg(not(loom))]
pub use std::sync::Arc;

/// Atomic numbers and pointers.
pub mod atomic {
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    #[cfg(not(loom))]
    pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

#[cfg(loom)]
pub use loom::cell::UnsafeCell;

/// Memory that several threads reach under a protocol of their own; the same interface as loom's tracked cell.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T: ?Sized>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    /// Puts `value` into a cell.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Lends the content for reading; dereferencing the pointer is the caller's proof to make.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Lends the content for writing; dereferencing the pointer is the caller's proof to make.
    #[inline(always)]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Raw memory; under loom it is tracked, so that a leak is a failed model.
pub mod memory {
    #[cfg(loom)]
    pub use loom::alloc::{alloc, dealloc};
    #[cfg(not(loom))]
    pub use std::alloc::{alloc, dealloc};
}

#[cfg(all(test, not(loom)))]
mod testing {
    //! What the tests of the waiting primitives share.

    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// Polls with a waker that does nothing.
    pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}
