//! What the kernel asks of the world: files, time, randomness and tasks, behind object-safe traits.
//!
//! The kernel holds `Arc<dyn Env>` and nothing else of the outside, so one compiled kernel serves production
//! (`env/linux`) and simulation (the `holdfast-sim` crate). The kernel never reads a clock, starts a thread, draws a
//! random number or touches a file except through here.
//!
//! What an implementation owes:
//! - An [`Io`] that was returned `Ready` cost no allocation; a `Waiting` one may be dropped at any time without
//!   freeing memory that the device still uses, because buffers are owned by the operation and given back with
//!   its result.
//! - A write whose future was dropped may or may not happen, in whole or in part.
//! - `write_at` on a `dsync` file makes its own bytes durable and nothing else.
//! - A failed `sync_data` or `sync_all` says nothing about any byte written before it, and neither does a later
//!   success on the same file.
//! - `list` is sorted by name.
//! - Tasks given to [`Env::spawn`] are polled until they end, or until the process does.

mod buffer;
mod disk;
mod io;
mod shared_dir;
#[cfg(target_os = "linux")]
pub mod linux;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use buffer::{BUF_ALIGN, Buf};
pub use disk::{
    Access, Advice, DirEntry, DirLock, Disk, File, FreeSpace, IoError, IoErrorKind, IoResult, LockKind,
    Metadata, OpenOptions, make_directory,
};
pub use io::Io;
pub use shared_dir::{NewEntries, SharedDir};

use crate::types::Timestamp;

/// A boxed future that may cross threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Monotonic time in nanoseconds since an arbitrary start; meaningful only within one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The instant `nanos` later; stays at the largest.
    #[must_use]
    pub const fn after(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to here, 0 if it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How urgent a task is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskClass {
    /// Someone waits for it.
    Foreground,
    /// Flush, compaction, clean-up: lowest scheduling class, and holds nothing a foreground task waits for.
    Background,
}

/// A handle to a spawned task. Dropping it detaches the task.
pub trait Task: Send + Sync {
    /// True once the task's future has returned.
    fn is_finished(&self) -> bool;
    /// Raises a background task to foreground urgency, or lowers it again. For compaction debt.
    fn set_class(&self, class: TaskClass);
}

/// The task was refused: no thread, no memory. Retriable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnRefused {
    /// What the system said.
    pub detail: String,
}

/// The world.
pub trait Env: Send + Sync {
    /// Files.
    fn disk(&self) -> &dyn Disk;

    /// Monotonic now.
    fn now(&self) -> Nanos;

    /// Wall-clock now; may jump in both directions.
    fn wall_now(&self) -> Timestamp;

    /// Completes at or after `deadline`.
    fn sleep_until(&self, deadline: Nanos) -> Io<()>;

    /// A random number, good enough for file identities.
    fn random_u64(&self) -> u64;

    /// True, rarely and by seed, in a simulator that wants the branch `name` taken; never in production. What is asked so
    /// is a choice that is right either way, and of which production makes the other one nearly always.
    fn rare(&self, name: &'static str) -> bool;

    /// Runs `future` until it ends, independent of the caller.
    ///
    /// # Errors
    /// [`SpawnRefused`] if the system has no room for a further task; the future is dropped.
    fn spawn(
        &self,
        name: &'static str,
        class: TaskClass,
        future: BoxFuture<'static, ()>,
    ) -> Result<Arc<dyn Task>, SpawnRefused>;

    /// Called by background work at least every 256 entries or 100 µs. In production it meters, yields and keeps
    /// priority low; in a simulator it costs virtual time and lets others run. `cost` is bytes handled since the
    /// last call.
    fn slice(&self, cost: u64) -> Io<()>;
}
