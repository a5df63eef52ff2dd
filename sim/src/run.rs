//! One run: a fresh thread, a madsim runtime on it, and the loop that gives each task its turn.
//!
//! The run has a fresh thread because the order of the standard library's hash maps, which madsim makes
//! repeatable, is repeatable only on a thread's first run. Each process is a madsim node with one task, the
//! driver, that polls the process's tasks; the supervisor (madsim's main task) polls the test's. At any time one
//! of them has the turn. Whoever has it asks for the next task of the whole world; if that belongs to another
//! node, the turn goes there by way of the supervisor. So madsim never has two things to choose between, and every
//! choice is ours.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use holdfast::env::TaskClass;
use holdfast::sync::Mutex;
use madsim::plugin::Simulator;
use madsim::rand::GlobalRng;
use madsim::runtime::Runtime;
use madsim::task::NodeId;
use madsim::time::TimeHandle;

use crate::fault::FaultClass;
use crate::log::LogLine;
use crate::options::SimOptions;
use crate::panics::{self, Cause};
use crate::process::Crash;
use crate::schedule::{ReadyQueue, TaskCell, Who};
use crate::state::{Shared, State};
use crate::trace::Event;
use crate::world::World;

/// What a run did.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    /// What the test's future gave.
    pub result: T,
    /// Hash over every event with its content.
    pub hash: u64,
    /// Number of events.
    pub events: u64,
    /// Disk calls of all processes.
    pub io_calls: u64,
    /// Simulated nanoseconds.
    pub simulated_ns: u64,
    /// Choices that the scheduler had.
    pub choices: u64,
    /// What it picked each time, if `record_schedule` was set.
    pub schedule: Vec<u32>,
    /// The trace hash before each event and after the last one, if `record_hashes` was set.
    pub hashes: Vec<u64>,
    /// How often each fault class fired.
    pub faults: Vec<(FaultClass, u64)>,
    /// How often each was met; see [`SimDisk::faults_met`](crate::SimDisk::faults_met). One of the network is met as it
    /// fires.
    pub faults_met: Vec<(FaultClass, u64)>,
    /// Processes killed, and power losses.
    pub crashes: Crashes,
    /// How often `Env::rare` was true.
    pub rare_taken: u64,
    /// Writes refused because cached and direct access were mixed.
    pub mixed_writes: u64,
    /// The lines kept of the event log.
    pub log: Vec<LogLine>,
}

/// A run that did not come to its end.
pub struct Failed {
    /// What was panicked with: by whatever ran inside, or by the simulation itself.
    pub panic: Box<dyn Any + Send>,
    /// Why.
    pub cause: Cause,
    /// What the run did until then.
    pub until: Outcome<()>,
}

impl Failed {
    /// The words of the panic.
    pub fn message(&self) -> &str {
        panics::words_of(&*self.panic)
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Failed");
        all.field("message", &self.message()).field("cause", &self.cause).field("until", &self.until).finish()
    }
}

/// Crashes of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Crashes {
    /// Kills of living processes, by a restart included.
    pub kills: u64,
    /// Power losses.
    pub power_losses: u64,
}

impl<T> Outcome<T> {
    /// The same with another result, made of this one's.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome {
            result: make(self.result),
            hash: self.hash,
            events: self.events,
            io_calls: self.io_calls,
            simulated_ns: self.simulated_ns,
            choices: self.choices,
            schedule: self.schedule,
            hashes: self.hashes,
            faults: self.faults,
            faults_met: self.faults_met,
            crashes: self.crashes,
            rare_taken: self.rare_taken,
            mixed_writes: self.mixed_writes,
            log: self.log,
        }
    }

    /// How often a fault class fired.
    pub fn fired(&self, class: FaultClass) -> u64 {
        self.faults[class as usize].1
    }
}

/// Whose turn it is.
#[derive(Default)]
struct Turn {
    /// Picked, to be polled by whoever has the turn.
    task: Option<Arc<TaskCell>>,
    supervisor: Option<Waker>,
    /// By process number: how to reach its driver.
    drivers: Vec<Option<Waker>>,
}

thread_local! {
    /// The turn of the run on this thread; a run has its thread to itself.
    static TURN: RefCell<Turn> = RefCell::new(Turn::default());
}

/// madsim's hook: tells the world that a node was killed.
struct DeathHook {
    shared: Mutex<Option<Arc<Shared>>>,
}

impl Simulator for DeathHook {
    fn new(_: &GlobalRng, _: &TimeHandle, _: &madsim::Config) -> Self {
        Self { shared: Mutex::new(None) }
    }

    fn reset_node(&self, node: NodeId) {
        let shared = self.shared.lock().clone();
        if let Some(shared) = shared {
            shared.on_node_reset(node);
        }
    }
}

/// Runs `body` in a simulated world of its own until its future completes.
///
/// # Panics
/// With the panic of whatever panicked inside, after printing the seed; when nothing can go on any more, naming
/// the waiting tasks; at a busy loop; and past the time limit.
pub fn run<T, F, Fut>(options: impl Into<SimOptions>, body: F) -> Outcome<T>
where
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let options = options.into();
    let seed = options.seed;
    try_run(options, body).unwrap_or_else(|failed| {
        eprintln!("the simulation with seed {seed} failed");
        std::panic::resume_unwind(failed.panic)
    })
}

/// As [`run`], but a run that fails says what it did until then.
///
/// # Errors
/// Where [`run`] panics.
pub fn try_run<T, F, Fut>(options: impl Into<SimOptions>, body: F) -> Result<Outcome<T>, Box<Failed>>
where
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    try_run_within(options, None, body)
}

/// As [`try_run`], but a run that has not ended after so much real time, since something in it blocks its thread or
/// spins, is given up. Its thread then stays behind as it is.
///
/// # Errors
/// Where [`run`] panics, and for a run that is given up.
pub fn try_run_within<T, F, Fut>(
    options: impl Into<SimOptions>,
    patience: Option<Duration>,
    body: F,
) -> Result<Outcome<T>, Box<Failed>>
where
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let options = options.into();
    let seed = options.seed;
    let shared =
        Arc::new(Shared { state: Mutex::new(State::new(options)), ready: Arc::new(ReadyQueue::new()) });
    let (done, told) = mpsc::channel();
    let of_run = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name(format!("seed {seed}"))
        .stack_size(8 << 20)
        .spawn(move || {
            let lived = run_here(seed, &of_run, body);
            // Whoever gave it up does not listen any more.
            let _ = done.send(());
            lived
        })
        .expect("the system gives a run its thread");
    if let Some(patience) = patience
        && told.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout)
    {
        let running = shared.state.lock().running;
        let what = format!(
            "hang: no end after {} s of real time, and task {running} has had the turn last; it spins, sleeps for real, \
             or waits for a lock that nobody gives back",
            patience.as_secs()
        );
        let cause = Cause::Stuck;
        return Err(Box::new(Failed { panic: Box::new(what), cause, until: shared.outcome(()) }));
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn run_here<T, F, Fut>(seed: u64, shared: &Arc<Shared>, body: F) -> Result<Outcome<T>, Box<Failed>>
where
    F: FnOnce(World) -> Fut,
    Fut: Future<Output = T> + 'static,
{
    let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.add_simulator::<DeathHook>();
    let shared = Arc::clone(shared);
    let life = async {
        let hook = madsim::plugin::simulator::<DeathHook>();
        *hook.shared.lock() = Some(Arc::clone(&shared));
        let cleanup = Cleanup { shared: Arc::clone(&shared), hook };
        let task = main_task(&shared);
        std::task::Wake::wake_by_ref(&task);
        let main = body(World { shared: Arc::clone(&shared) });
        let result = Supervisor { shared: Arc::clone(&shared), task, main: Box::pin(main) }.await;
        let outcome = shared.outcome(result);
        drop(cleanup);
        outcome
    };
    panics::listen();
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(life)));
    lived.map_err(|panic| Box::new(Failed { panic, cause: panics::take_cause(), until: shared.outcome(()) }))
}

fn main_task(shared: &Arc<Shared>) -> Arc<TaskCell> {
    let mut state = shared.state.lock();
    state.new_task("main", Who::WORLD, TaskClass::Foreground, None, &shared.ready)
}

/// Breaks the reference cycles at the end of a run, also when that end is a panic.
struct Cleanup {
    shared: Arc<Shared>,
    hook: Arc<DeathHook>,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let mut dead = Vec::new();
        {
            let mut state = self.shared.state.lock();
            for process in &mut state.processes {
                process.alive = false;
                dead.extend(std::mem::take(&mut process.tasks).into_values());
            }
            dead.append(&mut state.graveyard);
        }
        let futures: Vec<_> = dead.iter().filter_map(|task| task.future.lock().take()).collect();
        drop(futures);
        self.shared.ready.clear();
        TURN.take();
        *self.hook.shared.lock() = None;
    }
}

/// madsim's main task.
struct Supervisor<F> {
    shared: Arc<Shared>,
    task: Arc<TaskCell>,
    main: Pin<Box<F>>,
}

impl<F: Future> Future for Supervisor<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        loop {
            let task = match TURN.with_borrow_mut(|turn| turn.task.take()) {
                Some(task) => task,
                None => self.shared.next_task(),
            };
            if task.who.process != 0 {
                TURN.with_borrow_mut(|turn| turn.pass_to_driver(task, context.waker()));
                return Poll::Pending;
            }
            if !Arc::ptr_eq(&task, &self.task) {
                self.shared.poll_task(&task);
                continue;
            }
            task.start_poll();
            let waker = Waker::from(task);
            if let Poll::Ready(result) = self.main.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(result);
            }
        }
    }
}

impl Turn {
    fn pass_to_driver(&mut self, task: Arc<TaskCell>, supervisor: &Waker) {
        self.supervisor = Some(supervisor.clone());
        let driver = self.drivers.get(task.who.process as usize).and_then(Option::as_ref);
        self.task = Some(task);
        // A driver that has not said how to reach it has not been polled yet, and madsim will.
        if let Some(driver) = driver {
            driver.wake_by_ref();
        }
    }

    fn register_driver(&mut self, process: u32, waker: &Waker) {
        let place = process as usize;
        if self.drivers.len() <= place {
            self.drivers.resize(place + 1, None);
        }
        self.drivers[place] = Some(waker.clone());
    }

    fn pass_to_supervisor(&self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.wake_by_ref();
        }
    }
}

/// The one madsim task of a process.
pub(crate) async fn node_driver(shared: Arc<Shared>, process: u32) {
    let mut is_known = false;
    std::future::poll_fn(move |context| {
        if !is_known {
            is_known = true;
            TURN.with_borrow_mut(|turn| turn.register_driver(process, context.waker()));
        }
        loop {
            let mine = |task: &mut Arc<TaskCell>| task.who.process == process;
            let Some(task) = TURN.with_borrow_mut(|turn| turn.task.take_if(mine)) else {
                return Poll::<()>::Pending;
            };
            shared.poll_task(&task);
            if shared.state.lock().is_alive(task.who) {
                let next = shared.next_task();
                let stays = next.who.process == process;
                TURN.with_borrow_mut(|turn| turn.task = Some(next));
                if stays {
                    continue;
                }
            }
            TURN.with_borrow(Turn::pass_to_supervisor);
            return Poll::Pending;
        }
    })
    .await;
}

impl Shared {
    /// The next task to run, letting time pass as needed.
    fn next_task(&self) -> Arc<TaskCell> {
        let mut wakers = Vec::new();
        loop {
            let mut state = self.state.lock();
            if !state.graveyard.is_empty() {
                drop(state);
                self.drop_graveyard();
                continue;
            }
            if let Some(picked) = state.scheduler.pick(&self.ready) {
                if let Some((count, pick)) = picked.choice {
                    state.trace.event(Event::Choice, u64::from(count), u64::from(pick));
                }
                if picked.task.has_finished() || !state.is_alive(picked.task.who) {
                    drop(state);
                    continue;
                }
                state.begin_poll(&picked.task);
                return picked.task;
            }
            if !state.advance(&mut wakers) {
                let waiting = state.waiting_tasks();
                drop(state);
                panics::stuck(format!(
                    "nothing can go on: no task is ready and no timer is pending; waiting are{waiting}"
                ));
            }
            drop(state);
            for waker in wakers.drain(..) {
                waker.wake();
            }
        }
    }

    /// Polls a task once. Its future is not reachable meanwhile, so a crash from inside cannot drop it early.
    fn poll_task(&self, task: &Arc<TaskCell>) {
        task.start_poll();
        let taken = task.future.lock().take();
        let Some(mut future) = taken else {
            return;
        };
        let waker = Waker::from(Arc::clone(task));
        let is_done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if is_done {
            task.finish();
            let removed = self.state.lock().process(task.who).tasks.remove(&task.number);
            drop(removed);
        } else if self.state.lock().is_alive(task.who) {
            *task.future.lock() = Some(future);
            return;
        }
        drop(future);
    }

    fn outcome<T>(&self, result: T) -> Outcome<T> {
        let mut state = self.state.lock();
        let fired = |class: &FaultClass| {
            let of_disks: u64 = state.disks.iter().map(|(_, disk)| disk.faults.fired(*class)).sum();
            (*class, of_disks + state.network.faults.fired(*class))
        };
        let faults = FaultClass::ALL.iter().map(fired).collect();
        let met = |class: &FaultClass| {
            let of_disks: u64 = state.disks.iter().map(|(_, disk)| disk.faults.met(*class)).sum();
            (*class, of_disks + state.network.faults.fired(*class))
        };
        let faults_met = FaultClass::ALL.iter().map(met).collect();
        Outcome {
            result,
            hash: state.trace.hash(),
            events: state.trace.events(),
            io_calls: state.processes.iter().map(|process| process.io_calls).sum(),
            simulated_ns: state.now,
            choices: state.scheduler.choices(),
            schedule: state.scheduler.take_record(),
            hashes: state.trace.take_hashes(),
            faults,
            faults_met,
            crashes: Crashes {
                kills: state.crashes[Crash::Kill as usize],
                power_losses: state.crashes[Crash::PowerLoss as usize],
            },
            rare_taken: state.rare_taken,
            mixed_writes: state.disks.iter().map(|(_, disk)| disk.mixed_writes).sum(),
            log: state.trace.lines(),
        }
    }
}

impl State {
    fn begin_poll(&mut self, task: &TaskCell) {
        self.running = task.name;
        self.calls_this_poll = 0;
        self.polls_this_instant += 1;
        if self.polls_this_instant > self.options.polls_per_instant_max {
            panics::stuck(format!(
                "busy loop: {} polls without progress of simulated time, the last of task {}",
                self.polls_this_instant, task.name
            ));
        }
        self.trace.event(Event::Poll, task.number, 0);
        self.trace.set_turn(task.number, task.name);
    }
}
