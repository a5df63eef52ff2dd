//! Threads that do I/O for callers who may not wait.
//!
//! An operation owns everything it touches (descriptor, buffers), so dropping its future never frees memory that
//! the device still uses: the operation runs to its end and its result is dropped then. Nothing is cancelled. What
//! must not be let go before such operations have ended, as a directory's lock, is given to [`Pool::keep`].
//!
//! Threads are started when an operation finds none idle, up to [`THREADS_MAX`]; beyond that operations queue.
//! They live as long as the pool, whose drop lets them finish what is queued. If not even one thread can be had,
//! the caller runs the operation itself: slow, but an answer. An operation that panics is answered too, by what its
//! caller gave for that case: a commit or a background task that waits for the disk gets an error and can stop writes
//! in order, and does not die of somebody else's panic.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::launch::Launcher;
use super::panic_message;
use crate::env::Io;

/// Most threads of one pool: enough requests in flight to saturate a disk, few enough to be no burden.
pub const THREADS_MAX: usize = 16;

/// A lazily grown set of I/O threads.
pub struct Pool {
    shared: Arc<Shared>,
    launcher: Arc<Launcher>,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    operations: VecDeque<(u64, Arc<dyn Run>)>,
    /// Number of the next operation.
    next: u64,
    /// Operations that were queued and have not ended.
    unfinished: BTreeSet<u64>,
    /// What is let go once every operation below a number has ended.
    kept: Vec<(u64, Box<dyn Send>)>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, number: u64) {
        let mut queue = self.lock();
        queue.unfinished.remove(&number);
        let oldest = queue.unfinished.first().copied().unwrap_or(u64::MAX);
        let let_go: Vec<_> = queue.kept.extract_if(.., |(bound, _)| *bound <= oldest).collect();
        drop(queue);
        drop(let_go);
    }
}

impl Pool {
    /// A pool without threads yet.
    pub fn new(launcher: Arc<Launcher>) -> Self {
        let shared = Shared { queue: Mutex::new(Queue::default()), arrived: Condvar::new() };
        Self { shared: Arc::new(shared), launcher }
    }

    /// Runs `operation` on a thread of the pool. It starts at once, whether or not the result is awaited. Should it
    /// panic, the result is what `panicked` makes of the panic's message.
    pub fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> T + Send + 'static,
        panicked: impl FnOnce(&str) -> T + Send + 'static,
    ) -> Io<T> {
        let operation = move || match catch_unwind(AssertUnwindSafe(operation)) {
            Ok(result) => result,
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                tracing::error!(message, "an I/O operation panicked");
                panicked(message)
            }
        };
        let operation = Arc::new(Operation {
            state: Mutex::new(State { stage: Stage::Queued(operation), waiter: None }),
        });
        self.enqueue(Arc::clone(&operation) as Arc<dyn Run>);
        Io::waiting(Outcome(operation))
    }

    /// Drops `kept` once every operation that was started before has ended: at once if there is none. The future of
    /// an operation may be gone long before.
    pub fn keep(&self, kept: Box<dyn Send>) {
        let mut queue = self.shared.lock();
        if queue.unfinished.is_empty() {
            drop(queue);
            return;
        }
        let bound = queue.next;
        queue.kept.push((bound, kept));
    }

    fn enqueue(&self, operation: Arc<dyn Run>) {
        let mut queue = self.shared.lock();
        let number = queue.next;
        queue.next += 1;
        queue.unfinished.insert(number);
        queue.operations.push_back((number, operation));
        if queue.idle >= queue.operations.len() || queue.threads == THREADS_MAX {
            drop(queue);
            self.shared.arrived.notify_one();
            return;
        }
        queue.threads += 1;
        drop(queue);
        let shared = Arc::clone(&self.shared);
        if let Err(error) = self.launcher.launch("holdfast-io", Box::new(move || work(&shared))) {
            tracing::warn!(%error, "no further I/O thread");
            let mut queue = self.shared.lock();
            queue.threads -= 1;
            let nobody = queue.threads == 0;
            let orphaned = if nobody { std::mem::take(&mut queue.operations) } else { VecDeque::new() };
            drop(queue);
            self.shared.arrived.notify_one();
            for (number, operation) in orphaned {
                operation.run(&|| self.shared.end(number));
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_all();
    }
}

/// The life of one pool thread.
fn work(shared: &Shared) {
    let mut queue = shared.lock();
    loop {
        if let Some((number, operation)) = queue.operations.pop_front() {
            drop(queue);
            operation.run(&|| shared.end(number));
            drop(operation);
            queue = shared.lock();
        } else if queue.closed {
            queue.threads -= 1;
            return;
        } else {
            queue.idle += 1;
            queue = shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

/// An operation without its type, as the queue holds it.
trait Run: Send + Sync {
    /// Runs it, and calls `ended` before anybody can see its result.
    fn run(&self, ended: &dyn Fn());
}

/// One operation and, later, its result: shared by the queue and the future that waits for it.
struct Operation<F, T> {
    state: Mutex<State<F, T>>,
}

struct State<F, T> {
    stage: Stage<F, T>,
    waiter: Option<Waker>,
}

enum Stage<F, T> {
    Queued(F),
    Running,
    Done(T),
    Taken,
}

impl<F, T> Operation<F, T> {
    fn lock(&self) -> MutexGuard<'_, State<F, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: FnOnce() -> T + Send, T: Send> Run for Operation<F, T> {
    fn run(&self, ended: &dyn Fn()) {
        let Stage::Queued(operation) = std::mem::replace(&mut self.lock().stage, Stage::Running) else {
            unreachable!("an operation is queued once and run once");
        };
        let result = operation();
        ended();
        let waiter = {
            let mut state = self.lock();
            state.stage = Stage::Done(result);
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// The future of an operation's result.
struct Outcome<F, T>(Arc<Operation<F, T>>);

impl<F, T> Future for Outcome<F, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Cloning and dropping a waker is foreign code, so neither happens under our lock.
        let waker = context.waker().clone();
        let mut state = self.0.lock();
        match std::mem::replace(&mut state.stage, Stage::Taken) {
            Stage::Done(result) => return Poll::Ready(result),
            Stage::Taken => unreachable!("an I/O future was polled after it had given its result"),
            pending => state.stage = pending,
        }
        let before = state.waiter.replace(waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::linux::block_on;

    #[test]
    fn what_is_kept_goes_when_the_operations_before_it_have_ended() {
        struct Flag(std::sync::mpsc::Sender<()>);
        impl Drop for Flag {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let pool = Pool::new(Arc::new(Launcher::default()));
        let (gone, let_go) = std::sync::mpsc::channel();
        pool.keep(Box::new(Flag(gone.clone())));
        assert_eq!(let_go.try_recv(), Ok(()), "nothing is under way");
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        drop(pool.run(move || may_end.recv().is_ok(), |_| false));
        pool.keep(Box::new(Flag(gone.clone())));
        // Operations that come later are not waited for, nor do their ends count.
        assert!(block_on(pool.run(|| true, |_| false)));
        assert!(let_go.try_recv().is_err(), "an operation whose future is gone is still under way");
        end.send(()).unwrap();
        assert_eq!(let_go.recv_timeout(std::time::Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn a_panic_is_an_answer_and_the_thread_goes_on() {
        let pool = Pool::new(Arc::new(Launcher::default()));
        for round in 0..2 * THREADS_MAX {
            let panics = move || -> Result<usize, String> { panic!("on purpose, {round}") };
            let answer = pool.run(panics, |message| Err(message.to_string()));
            assert_eq!(block_on(answer), Err(format!("on purpose, {round}")));
            assert_eq!(block_on(pool.run(move || Ok(round), |message| Err(message.to_string()))), Ok(round));
        }
    }
}
