//! Tasks and the run queue: who is ready, and who of them runs next.
//!
//! All tasks of all processes, and the tasks of the world itself, stand in one queue, in the order in which they became
//! ready. Each time more than one is ready, the choice gets a number and is drawn from the `schedule` stream, unless an
//! override names it; or, in a plain schedule, the first one is taken unless an override says otherwise.
//!
//! A task is woken by its [`Waker`], from the simulation's own thread only; `queued` says whether it already
//! stands in the queue, so a task stands there at most once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use holdfast::env::{BoxFuture, Task, TaskClass};
use holdfast::sync::Mutex;

use crate::options::{ScheduleOverride, SimOptions};
use crate::stream::Stream;

/// One life of one process; process 0 is the world itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Who {
    pub(crate) process: u32,
    pub(crate) life: u32,
}

impl Who {
    /// The world itself, which never dies.
    pub(crate) const WORLD: Self = Self { process: 0, life: 0 };
}

/// A task: a future, and what the scheduler knows of it.
pub(crate) struct TaskCell {
    pub(crate) number: u64,
    pub(crate) name: &'static str,
    pub(crate) who: Who,
    queued: AtomicBool,
    finished: AtomicBool,
    background: AtomicBool,
    /// Taken while it is polled, and for good when it has ended. `None` from the start for the world's main future.
    pub(crate) future: Mutex<Option<BoxFuture<'static, ()>>>,
    queue: Arc<ReadyQueue>,
}

impl TaskCell {
    pub(crate) fn new(
        number: u64,
        name: &'static str,
        who: Who,
        class: TaskClass,
        future: Option<BoxFuture<'static, ()>>,
        queue: Arc<ReadyQueue>,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            name,
            who,
            queued: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            background: AtomicBool::new(class == TaskClass::Background),
            future: Mutex::new(future),
            queue,
        })
    }

    /// Marks it as taken from the queue; a wake from now on queues it again.
    pub(crate) fn start_poll(&self) {
        self.queued.store(false, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }
}

impl Wake for TaskCell {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let queue = Arc::clone(&self.queue);
            queue.ready.lock().push(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.queue.ready.lock().push(Arc::clone(self));
        }
    }
}

impl Task for TaskCell {
    fn is_finished(&self) -> bool {
        self.has_finished()
    }

    fn set_class(&self, class: TaskClass) {
        self.background.store(class == TaskClass::Background, Ordering::Relaxed);
    }
}

/// The ready tasks. A lock of its own, so that a waker may be called while the world is locked.
pub(crate) struct ReadyQueue {
    ready: Mutex<Vec<Arc<TaskCell>>>,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self { ready: Mutex::new(Vec::new()) }
    }

    /// Forgets every ready task, at the end of a run.
    pub(crate) fn clear(&self) {
        let ready = std::mem::take(&mut *self.ready.lock());
        drop(ready);
    }
}

/// A choice that was made, for the trace.
pub(crate) struct Picked {
    pub(crate) task: Arc<TaskCell>,
    /// Number of ready tasks and which was picked, if there was a choice.
    pub(crate) choice: Option<(u32, u32)>,
}

/// Decides which ready task runs.
pub(crate) struct Scheduler {
    stream: Stream,
    overrides: std::iter::Peekable<std::vec::IntoIter<ScheduleOverride>>,
    is_plain: bool,
    choices: u64,
    record: Option<Vec<u32>>,
}

impl Scheduler {
    /// A scheduler with what the options say of it.
    pub(crate) fn new(stream: Stream, options: &SimOptions) -> Self {
        let overrides = options.schedule_overrides.clone();
        assert!(
            overrides.windows(2).all(|pair| pair[0].choice < pair[1].choice),
            "schedule overrides must be in ascending order of their number"
        );
        Self {
            stream,
            overrides: overrides.into_iter().peekable(),
            is_plain: options.plain_schedule,
            choices: 0,
            record: options.record_schedule.then(Vec::new),
        }
    }

    /// Takes one task from the queue.
    pub(crate) fn pick(&mut self, queue: &ReadyQueue) -> Option<Picked> {
        let mut ready = queue.ready.lock();
        if ready.len() < 2 {
            return ready.pop().map(|task| Picked { task, choice: None });
        }
        let count = u32::try_from(ready.len()).expect("fewer than 2^32 tasks are ready");
        // The stream is drawn in any case, so that an override changes this choice and no other.
        let drawn = u32::try_from(self.stream.below(u64::from(count))).expect("below a 32-bit bound");
        let pick = match self.overrides.next_if(|planned| planned.choice == self.choices) {
            Some(planned) => planned.pick % count,
            None if self.is_plain => 0,
            None => drawn,
        };
        self.choices += 1;
        if let Some(record) = &mut self.record {
            record.push(pick);
        }
        let task = ready.remove(pick as usize);
        Some(Picked { task, choice: Some((count, pick)) })
    }

    /// The picks so far, if they were recorded.
    pub(crate) fn take_record(&mut self) -> Vec<u32> {
        self.record.take().unwrap_or_default()
    }

    pub(crate) fn choices(&self) -> u64 {
        self.choices
    }
}
