//! The production world: Linux files, clocks and threads.
//!
//! In reading order: [`block_on`] is the executor; `raw` holds the few system calls that the standard library lacks;
//! `failure` sorts errors; `launch`, `pool`, `timer` and `tasks` own the threads; `file` and `disk` do I/O.
//!
//! Where an operation runs is decided per call and the kernel cannot tell. On a thread that may block (inside
//! [`block_on`], or a task's own) it runs at once on that thread and is `Ready` when it returns. On any other
//! thread, as a worker of an asynchronous runtime, a read takes what the page cache has, and everything that
//! could wait goes to a small pool of I/O threads.
//!
//! Threads are started by the first use that needs them and end when the environment and all its files and sleeps are
//! gone. There are no mutable statics: two environments in one process share nothing.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this module is the one place where the kernel touches the operating system"
)]

mod block_on;
mod disk;
mod failure;
mod file;
mod launch;
mod pool;
mod raw;
mod tasks;
mod timer;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::SystemTime;

pub use block_on::block_on;

use self::disk::LinuxDisk;
use self::launch::Launcher;
use self::pool::Pool;
use self::timer::Timer;
use crate::env::{BoxFuture, Disk, Env, Io, Nanos, SpawnRefused, Task, TaskClass};
use crate::types::Timestamp;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("Holdfast needs a 64-bit Linux: file offsets and sizes in memory are one type there.");

/// The world as Linux offers it.
pub struct LinuxEnv {
    disk: LinuxDisk,
    timer: Arc<Timer>,
    launcher: Arc<Launcher>,
}

impl LinuxEnv {
    /// An environment; cheap, for threads are started when they are first needed.
    pub fn new() -> Arc<Self> {
        let launcher = Arc::new(Launcher::default());
        let pool = Arc::new(Pool::new(Arc::clone(&launcher)));
        let timer = Timer::new(Arc::clone(&launcher));
        Arc::new(Self { disk: LinuxDisk::new(pool), timer, launcher })
    }
}

impl Env for LinuxEnv {
    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    fn now(&self) -> Nanos {
        timer::now()
    }

    /// Microseconds since 1970; 0 if the clock stands before that.
    fn wall_now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::new(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, deadline: Nanos) -> Io<()> {
        self.timer.sleep_until(deadline)
    }

    fn random_u64(&self) -> u64 {
        // A sandbox may forbid the call; the standard library has other sources to seed its hashers from.
        raw::random_u64().unwrap_or_else(|_| RandomState::new().build_hasher().finish())
    }

    /// Never: production takes no branch for variety's sake.
    fn rare(&self, _name: &'static str) -> bool {
        false
    }

    fn spawn(
        &self,
        name: &'static str,
        class: TaskClass,
        future: BoxFuture<'static, ()>,
    ) -> Result<Arc<dyn Task>, SpawnRefused> {
        tasks::spawn(&self.launcher, name, class, future)
    }

    fn slice(&self, _cost: u64) -> Io<()> {
        tasks::slice()
    }
}

/// What a panic said.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
