//! Simulated processes: born, spawning, killed, restarted; and the power that all processes of a disk share.

use std::future::Future;
use std::sync::Arc;

use holdfast::env::{Env, TaskClass};
use madsim::runtime::Handle;

use crate::disk::inspect::SimDisk;
use crate::env::SimEnv;
use crate::join::{Died, Join, join};
use crate::log::Detail;
use crate::network::{Address, Connection, Endpoint, Listener, NetworkError, ProcessNetwork};
use crate::schedule::Who;
use crate::state::Shared;

/// How a process dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process alone: everything written stays readable, nothing becomes durable by it.
    Kill,
    /// The machine: every process on the same disk dies, and the disk keeps a legal survivor set.
    PowerLoss,
}

/// A simulated process. Clones are handles to the same one.
#[derive(Clone)]
pub struct Process {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: u32,
}

impl Process {
    fn who(&self) -> Who {
        let state = self.shared.state.lock();
        Who { process: self.number, life: state.processes[self.number as usize].life }
    }

    /// The environment of its present life, for the kernel. Inert once that life has ended.
    pub fn env(&self) -> Arc<dyn Env> {
        let who = self.who();
        let disk = self.shared.state.lock().processes[self.number as usize].disk;
        Arc::new(SimEnv { shared: Arc::clone(&self.shared), who, disk })
    }

    /// The network of its present life. Inert once that life has ended.
    pub fn network(&self) -> ProcessNetwork {
        ProcessNetwork { shared: Arc::clone(&self.shared), who: self.who() }
    }

    /// Takes a port for datagrams: [`ProcessNetwork::bind`].
    ///
    /// # Errors
    /// [`NetworkError::AddressInUse`].
    pub fn bind(&self, port: u16) -> Result<Endpoint, NetworkError> {
        self.network().bind(port)
    }

    /// Takes a port for connections: [`ProcessNetwork::listen`].
    ///
    /// # Errors
    /// [`NetworkError::AddressInUse`].
    pub fn listen(&self, port: u16) -> Result<Listener, NetworkError> {
        self.network().listen(port)
    }

    /// Connects to a listener: [`ProcessNetwork::connect`].
    ///
    /// # Errors
    /// [`NetworkError::Refused`], [`NetworkError::TimedOut`], [`NetworkError::Reset`].
    pub async fn connect(&self, to: &Address) -> Result<Connection, NetworkError> {
        self.network().connect(to).await
    }

    /// Adds a line to the event log, if one is kept, which is when `text` is asked for it. It is no event, and changes no
    /// hash.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let mut state = self.shared.state.lock();
        state.trace.log_with(|| (text(), Detail::Note));
    }

    /// Its disk, which outlives it.
    pub fn disk(&self) -> SimDisk {
        let disk = self.shared.state.lock().processes[self.number as usize].disk;
        SimDisk { shared: Arc::clone(&self.shared), disk }
    }

    /// Runs `future` as a task of this process; it dies with it.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Join<T> {
        self.shared.spawn(self.who(), name, future)
    }

    /// Runs `future` as a task of this process and waits for it.
    ///
    /// # Errors
    /// [`Died`] if the process died before the task ended.
    pub async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Died> {
        self.spawn("run", future).await
    }

    /// True until it is killed, crashes or loses power.
    pub fn is_alive(&self) -> bool {
        self.shared.state.lock().processes[self.number as usize].alive
    }

    /// Completes when the process is dead.
    pub async fn died(&self) {
        let life = self.who().life;
        std::future::poll_fn(|context| {
            let mut state = self.shared.state.lock();
            let process = &mut state.processes[self.number as usize];
            if !process.alive || process.life != life {
                return std::task::Poll::Ready(());
            }
            process.death_waiters.push(context.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }

    /// Disk calls made so far, over all its lives.
    pub fn io_calls(&self) -> u64 {
        self.shared.state.lock().processes[self.number as usize].io_calls
    }

    /// Lets it die at its `call`-th disk call, counted from 1 over all its lives. The call is made; its result
    /// never arrives. Forgotten when the process dies otherwise.
    pub fn crash_at(&self, call: u64, crash: Crash) {
        self.shared.state.lock().processes[self.number as usize].crash_at = Some((call, crash));
    }

    /// Takes a planned crash back.
    pub fn cancel_crash(&self) {
        self.shared.state.lock().processes[self.number as usize].crash_at = None;
    }

    /// Shifts its wall clock by this many microseconds against simulated time.
    pub fn set_wall_offset_us(&self, offset: i64) {
        let mut state = self.shared.state.lock();
        let now = state.now;
        state.processes[self.number as usize].wall_clock.set_offset_us(now, offset);
    }

    /// Lets its wall clock gain so many microseconds in every second from now on, or lose them. With 0 it keeps what it
    /// has drifted so far.
    ///
    /// # Panics
    /// If it would run backwards.
    pub fn set_wall_drift_ppm(&self, drift: i32) {
        assert!(drift >= -1_000_000, "set_wall_drift_ppm: {drift} runs backwards; -1000000 stops the clock");
        let mut state = self.shared.state.lock();
        let now = state.now;
        state.processes[self.number as usize].wall_clock.set_drift_ppm(now, drift);
    }

    /// Lets it have at most so many open files: a further open fails with `TooManyFiles`. `None` lifts the limit.
    /// Files that are open stay so, also above it. Holds for all its lives.
    pub fn set_open_files_max(&self, files: Option<usize>) {
        self.shared.state.lock().processes[self.number as usize].open_files_max = files;
    }

    /// Ends it at once. Nothing happens if it is dead.
    pub fn kill(&self) {
        self.shared.crash(self.number, Crash::Kill);
        self.shared.drop_graveyard();
    }

    /// Ends it and every other process on its disk, and leaves a legal survivor set of that disk.
    pub fn power_loss(&self) {
        self.shared.crash(self.number, Crash::PowerLoss);
        self.shared.drop_graveyard();
    }

    /// Gives it a new life, with no tasks and on the same disk; ends the present one first if need be.
    pub fn restart(&self) {
        self.kill();
        let node = {
            let mut state = self.shared.state.lock();
            let process = &mut state.processes[self.number as usize];
            process.life += 1;
            process.alive = true;
            let node = process.node.expect("a process has its node from the start");
            state.network.power_up(self.number);
            state.trace.event(crate::trace::Event::Life, u64::from(self.number), 2);
            state.trace.log(|| format!("process {} restarts", self.number));
            node
        };
        Handle::current().restart(node);
    }
}

impl Shared {
    /// Runs `future` as a task of one life of a process.
    pub(crate) fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        who: Who,
        name: &'static str,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Join<T> {
        let (completer, join) = join();
        let future = Box::pin(async move { completer.finish(future.await) });
        let mut state = self.state.lock();
        if state.is_alive(who) {
            let task = state.new_task(name, who, TaskClass::Foreground, Some(future), &self.ready);
            drop(state);
            std::task::Wake::wake_by_ref(&task);
        } else {
            drop(state);
            drop(future);
        }
        join
    }

    /// Ends a process by way of its madsim node. Its tasks lie in the graveyard afterwards; the one that is being
    /// polled right now, if it belongs to it, is dropped when its poll returns.
    pub(crate) fn crash(&self, process: u32, crash: Crash) {
        let (victims, disk) = {
            let mut state = self.state.lock();
            if crash == Crash::Kill && !state.processes[process as usize].alive {
                return;
            }
            state.crashes[crash as usize] += 1;
            let disk = state.processes[process as usize].disk;
            state.network.is_power_loss = crash == Crash::PowerLoss;
            let dies = |(number, other): &(usize, &crate::state::ProcessState)| {
                let shares = crash == Crash::PowerLoss && other.disk == disk && *number > 0;
                other.alive && (*number == process as usize || shares)
            };
            let nodes: Vec<_> =
                state.processes.iter().enumerate().filter(dies).filter_map(|(_, other)| other.node).collect();
            (nodes, disk)
        };
        for node in victims {
            // Comes back through the plug-in as `on_node_reset`.
            Handle::current().kill(node);
        }
        let mut state = self.state.lock();
        state.network.is_power_loss = false;
        if crash == Crash::PowerLoss {
            state.lose_power(disk);
        }
    }

    /// madsim has killed a node: the process on it is dead.
    pub(crate) fn on_node_reset(&self, node: madsim::task::NodeId) {
        let waiters = {
            let mut state = self.state.lock();
            let found = state.processes.iter().position(|process| process.node == Some(node));
            match found.and_then(|number| u32::try_from(number).ok()) {
                Some(number) => state.bury(number),
                None => Vec::new(),
            }
        };
        for waiter in waiters {
            waiter.wake();
        }
    }

    /// Drops the tasks of dead processes, where no lock is held.
    pub(crate) fn drop_graveyard(&self) {
        let dead = std::mem::take(&mut self.state.lock().graveyard);
        for task in dead {
            let future = task.future.lock().take();
            drop(future);
        }
    }
}
