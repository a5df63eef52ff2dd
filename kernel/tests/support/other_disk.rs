//! A world with another disk: its clock, tasks and chances are those of the world below.

use std::sync::Arc;

use holdfast::env::{BoxFuture, Disk, Env, Io, Nanos, SpawnRefused, Task, TaskClass};
use holdfast::types::Timestamp;

/// The world `under`, but for its disk.
pub struct OtherDisk<D> {
    pub under: Arc<dyn Env>,
    pub disk: D,
}

impl<D: Disk + 'static> Env for OtherDisk<D> {
    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    fn now(&self) -> Nanos {
        self.under.now()
    }

    fn wall_now(&self) -> Timestamp {
        self.under.wall_now()
    }

    fn sleep_until(&self, deadline: Nanos) -> Io<()> {
        self.under.sleep_until(deadline)
    }

    fn random_u64(&self) -> u64 {
        self.under.random_u64()
    }

    fn rare(&self, name: &'static str) -> bool {
        self.under.rare(name)
    }

    fn spawn(
        &self,
        name: &'static str,
        class: TaskClass,
        future: BoxFuture<'static, ()>,
    ) -> Result<Arc<dyn Task>, SpawnRefused> {
        self.under.spawn(name, class, future)
    }

    fn slice(&self, cost: u64) -> Io<()> {
        self.under.slice(cost)
    }
}
