//! The world as a test sees it: processes, disks, time, and the test's own tasks and randomness.

use std::future::Future;
use std::sync::Arc;

use holdfast::env::{Io, Nanos};
use holdfast::sync::Mutex;
use madsim::runtime::Handle;

use crate::disk::inspect::SimDisk;
use crate::disk::survivors::{Survival, SurvivorChoice, UnsyncedContent};
use crate::env::SimEnv;
use crate::join::Join;
use crate::log::{Detail, LogLine};
use crate::network::Network;
use crate::options::Ratio;
use crate::process::Process;
use crate::run::node_driver;
use crate::schedule::Who;
use crate::state::Shared;
use crate::trace::Event;

/// A handle to the simulated world. Clones are the same world.
#[derive(Clone)]
pub struct World {
    pub(crate) shared: Arc<Shared>,
}

impl World {
    /// The process of this name, on the disk of the same name; started when asked for the first time.
    pub fn process(&self, name: &str) -> Process {
        self.process_on(name, name)
    }

    /// The process of this name on a disk that others may share; started when asked for the first time.
    ///
    /// # Panics
    /// If it runs on another disk already.
    pub fn process_on(&self, name: &str, disk: &str) -> Process {
        let number = {
            let mut state = self.shared.state.lock();
            let disk = state.disk_named(disk);
            if let Some(number) = state.processes.iter().skip(1).position(|known| known.name == name) {
                assert_eq!(state.processes[number + 1].disk, disk, "process {name} has another disk");
                let number = u32::try_from(number + 1).expect("fewer than 2^32 processes");
                return Process { shared: Arc::clone(&self.shared), number };
            }
            let number = state.add_process(name, disk);
            state.processes[number as usize].alive = true;
            state.trace.event(Event::Life, u64::from(number), 3);
            state.trace.log(|| format!("process {number} is {name}"));
            number
        };
        let shared = Arc::clone(&self.shared);
        let node = Handle::current()
            .create_node()
            .name(name)
            .init(move || node_driver(Arc::clone(&shared), number))
            .build();
        self.shared.state.lock().processes[number as usize].node = Some(node.id());
        Process { shared: Arc::clone(&self.shared), number }
    }

    /// The disk of this name; empty when asked for the first time.
    pub fn disk(&self, name: &str) -> SimDisk {
        let disk = self.shared.state.lock().disk_named(name);
        SimDisk { shared: Arc::clone(&self.shared), disk }
    }

    /// The network between the processes.
    pub fn network(&self) -> Network {
        Network { shared: Arc::clone(&self.shared) }
    }

    /// Runs `future` as a task of the test, outside of every process.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Join<T> {
        self.shared.spawn(Who::WORLD, name, future)
    }

    /// Simulated time since the start.
    pub fn now(&self) -> Nanos {
        Nanos(self.shared.state.lock().now)
    }

    /// Waits, in simulated time.
    pub fn sleep(&self, nanos: u64) -> Io<()> {
        self.sleep_until(self.now().after(nanos))
    }

    /// Waits until an exact instant of simulated time.
    pub fn sleep_until(&self, deadline: Nanos) -> Io<()> {
        let env = SimEnv { shared: Arc::clone(&self.shared), who: Who::WORLD, disk: 0 };
        env.wait_until(deadline.0)
    }

    /// A random number for the test, from the `workload` stream.
    pub fn random_u64(&self) -> u64 {
        let mut state = self.shared.state.lock();
        let drawn = state.workload.next_u64();
        state.trace.event(Event::Draw, drawn, 2);
        drawn
    }

    /// A random number below `bound`, which is at least 1.
    pub fn random_below(&self, bound: u64) -> u64 {
        let mut state = self.shared.state.lock();
        let drawn = state.workload.below(bound);
        state.trace.event(Event::Draw, drawn, 3);
        drawn
    }

    /// How often [`holdfast::env::Env::rare`] is true from now on.
    pub fn set_rare(&self, ratio: Ratio) {
        self.shared.state.lock().rare_ratio = ratio;
    }

    /// Lets `choice` decide what survives power losses from now on; `None` draws again.
    pub fn set_survivors(&self, choice: Option<Box<dyn SurvivorChoice>>) {
        let before = std::mem::replace(&mut self.shared.state.lock().survivors, choice);
        drop(before);
    }

    /// Calls `lose_power` with `choice` deciding what survives, and gives the advanced choice back: for walking
    /// through survivor sets with an [`crate::Odometer`].
    pub fn survivors_from<C>(&self, choice: &mut C, lose_power: impl FnOnce())
    where
        C: SurvivorChoice + Clone + 'static,
    {
        let lent = Arc::new(Mutex::new(choice.clone()));
        self.set_survivors(Some(Box::new(Lent(Arc::clone(&lent)))));
        lose_power();
        self.set_survivors(None);
        *choice = lent.lock().clone();
    }

    /// Adds something to the trace, so that it takes part in the hash.
    pub fn trace(&self, text: &str) {
        let mut state = self.shared.state.lock();
        state.trace.event(Event::Outside, 0, text.len() as u64);
        state.trace.bytes(text.as_bytes());
        state.trace.log_with(|| (text.to_owned(), Detail::Note));
    }

    /// The lines kept of the event log, oldest first.
    pub fn log_lines(&self) -> Vec<LogLine> {
        self.shared.state.lock().trace.lines()
    }

    /// The hash of everything that happened so far.
    pub fn hash(&self) -> u64 {
        self.shared.state.lock().trace.hash()
    }
}

/// A choice that the world has on loan.
struct Lent<C>(Arc<Mutex<C>>);

impl<C: SurvivorChoice> SurvivorChoice for Lent<C> {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        self.0.lock().content(change)
    }

    fn size(&mut self, file: u64, candidates: &[u64]) -> usize {
        self.0.lock().size(file, candidates)
    }

    fn name(&mut self, directory: u64, name: &str, candidates: &[Option<u64>]) -> usize {
        self.0.lock().name(directory, name, candidates)
    }

    fn journal(&mut self, operations: usize) -> usize {
        self.0.lock().journal(operations)
    }

    fn log(&mut self, file: u64, operations: usize) -> usize {
        self.0.lock().log(file, operations)
    }
}
