//! The world as an application's test sees it: a machine with a disk and a clock, that crashes.

use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast::env::{BoxFuture, Env};
use holdfast::sync::Mutex;
use holdfast::{Db, KeyspaceOptions, Options};

use super::stage::Stage;
use crate::disk::inspect::SimDisk;
use crate::stream::Stream;
use crate::world::World as Simulation;

/// One life of the machine. Clones are the same one; once it has ended, none of them does anything any more.
#[derive(Clone)]
pub struct World {
    stage: Arc<Stage>,
    env: Arc<dyn Env>,
    life: u32,
}

impl World {
    pub(super) fn new(stage: Arc<Stage>, life: u32) -> Self {
        let env = stage.process.env();
        Self { stage, env, life }
    }

    /// Files, time, randomness and tasks of this life, for the application's own modules.
    pub fn env(&self) -> Arc<dyn Env> {
        Arc::clone(&self.env)
    }

    /// Opens the database in `dir`, or creates it there: [`Db::open_in`] on this world's disk.
    ///
    /// # Errors
    /// As [`Db::open_in`].
    pub async fn open(&self, dir: impl AsRef<Path>, options: Options) -> holdfast::Result<Db> {
        Db::open_in(self.env(), dir, options).await
    }

    /// Options that the seed draws: small memtables and log segments in most seeds, so that a short run flushes and
    /// compacts, and the production options in some.
    pub fn options(&self) -> Options {
        self.stage.plan.settings.options()
    }

    /// The same for keyspaces.
    pub fn keyspace_options(&self) -> KeyspaceOptions {
        self.stage.plan.settings.keyspace_options()
    }

    /// Runs `future` as a task of this life, beside the others. It goes on whether or not what is returned is awaited.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        future: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let join = self.stage.process.spawn(name, future);
        Box::pin(async move {
            match join.await {
                Ok(value) => value,
                // It died with its life, and so will whoever waits here.
                Err(_) => std::future::pending().await,
            }
        })
    }

    /// Waits, in simulated time.
    pub async fn sleep(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.env.sleep_until(self.env.now().after(nanos)).await;
    }

    /// Simulated time since the run began, over all lives.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.env.now().0)
    }

    /// Which life this is, counted from 0.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// The steps of this name that are left, of `count` in all: over all lives each is begun at most once. A step that
    /// a crash has cut off is not begun again; what it did may be there or not.
    ///
    /// Steps are what a plan counts as operations: crashes and faults come when one begins or soon after, and to shrink
    /// a plan is to leave steps out. So one step is one request of one client, say, and each client has a name.
    pub fn steps(&self, name: &str, count: u64) -> Steps {
        Steps { world: self.clone(), name: name.into(), count }
    }

    /// Checks an invariant. `holds` panics, by `assert!` for example, if it does not hold, and gives an error if it could
    /// not be found out. Belongs behind each recovery, and wherever else something must hold.
    ///
    /// # Errors
    /// That of `holds`: pass it on, so that it is judged whether a fault explains it.
    pub async fn check<E>(&self, what: &str, holds: impl Future<Output = Result<(), E>>) -> Result<(), E> {
        holds.await?;
        let mut state = self.stage.state.lock();
        state.checks += 1;
        state.checks_of_life += 1;
        drop(state);
        self.note(&format!("check: {what}: holds"));
        Ok(())
    }

    /// The one `T` of this run that stands beside the machine and that no crash takes: what clients were told, for
    /// example. Made by `T::default()` when it is first asked for.
    pub fn outside<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.stage.outside()
    }

    /// True once a fault has struck that lets a disk lose what it had acknowledged. Only under `faults = "lossy"`.
    pub fn may_have_lost(&self) -> bool {
        self.stage.may_have_lost()
    }

    /// The power fails now, and the next life begins.
    pub async fn cut_power(&self) -> ! {
        self.stage.process.power_loss();
        match std::future::pending::<Infallible>().await {}
    }

    /// The process is killed now, and the next life begins.
    pub async fn kill(&self) -> ! {
        self.stage.process.kill();
        match std::future::pending::<Infallible>().await {}
    }

    /// Adds a line to the event log, which a report shows and a trace prints. It takes part in the hash.
    pub fn note(&self, text: &str) {
        self.stage.simulation.trace(text);
    }

    /// The disk as seen from outside of the machine.
    pub fn disk(&self) -> SimDisk {
        self.stage.process.disk()
    }

    /// The simulation that this is a machine of, for what a plan does not draw: further processes, and the network.
    pub fn simulation(&self) -> &Simulation {
        &self.stage.simulation
    }
}

/// Steps that are left; see [`World::steps`].
pub struct Steps {
    world: World,
    name: Arc<str>,
    count: u64,
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let World { stage, life, .. } = &self.world;
        let number = stage.next_step(*life, &self.name, self.count)?;
        self.world.note(&format!("step: {} {number}", self.name));
        let stream = Stream::of_step(stage.plan.seed, &self.name, number);
        Some(Step { number, stream: Mutex::new(stream) })
    }
}

/// A step, with random numbers of its own: they follow from the seed, the step's name and its number, so that to leave
/// out one step changes no other.
pub struct Step {
    number: u64,
    stream: Mutex<Stream>,
}

impl Step {
    /// Its number among those of its name, counted from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// 64 random bits.
    pub fn random_u64(&self) -> u64 {
        self.stream.lock().next_u64()
    }

    /// A random number below `bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn random_below(&self, bound: u64) -> u64 {
        self.stream.lock().below(bound)
    }

    /// True once in so many times.
    ///
    /// # Panics
    /// If `times` is 0.
    pub fn one_in(&self, times: u64) -> bool {
        self.random_below(times) == 0
    }

    /// One of several.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        let place = self.random_below(choices.len() as u64);
        &choices[usize::try_from(place).expect("a place in memory")]
    }
}
