//! How urgent background work is: as urgent as whoever waits for it.
//!
//! Flush, compaction and removal run when nobody else wants the processor. On a busy machine that may be never, so
//! they are raised while anybody is held back by them: a writer who is slowed or stopped, a caller of `flush`,
//! `compact` or `close`, and at the end the next opening, which waits for the lock.
//!
//! Invariant: the class of every task is the one that the reasons ask for whenever the mutex is free, so of two who
//! change a reason at once the later has the last word.

use std::sync::Arc;

use crate::env::{Task, TaskClass};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
struct Reasons {
    tasks: Vec<Arc<dyn Task>>,
    is_raised: bool,
    writers_held_back: bool,
    /// Callers who wait.
    waiting: u64,
    ending: bool,
}

/// The background tasks of one opening, and the reasons to hurry.
#[derive(Default)]
pub(crate) struct Urgency {
    reasons: Mutex<Reasons>,
    /// The reason that writers ask about, without the lock.
    writers_held_back: AtomicBool,
}

impl Urgency {
    /// Takes a task that was started as background work.
    pub fn add(&self, task: Arc<dyn Task>) {
        self.change(|reasons| {
            if reasons.is_raised {
                task.set_class(TaskClass::Foreground);
            }
            reasons.tasks.push(task);
        });
    }

    /// Writers are held back, or no longer. One atomic load if that is known.
    pub fn writers(&self, held_back: bool) {
        if self.writers_held_back.load(Ordering::Acquire) != held_back {
            self.change(|reasons| {
                reasons.writers_held_back = held_back;
                self.writers_held_back.store(held_back, Ordering::Release);
            });
        }
    }

    /// Somebody waits for background work as long as what is returned lives.
    pub fn wait(&self) -> Waiting<'_> {
        self.change(|reasons| reasons.waiting += 1);
        Waiting(self)
    }

    /// The tasks are to end; for good.
    pub fn end(&self) {
        self.change(|reasons| reasons.ending = true);
    }

    fn change(&self, change: impl FnOnce(&mut Reasons)) {
        let mut reasons = self.reasons.lock();
        change(&mut reasons);
        let raise = reasons.writers_held_back || reasons.waiting > 0 || reasons.ending;
        if raise != reasons.is_raised {
            reasons.is_raised = raise;
            let class = if raise { TaskClass::Foreground } else { TaskClass::Background };
            reasons.tasks.iter().for_each(|task| task.set_class(class));
        }
    }
}

/// Somebody waits.
pub(crate) struct Waiting<'a>(&'a Urgency);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.change(|reasons| reasons.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Option<TaskClass>>);

    impl Task for Seen {
        fn is_finished(&self) -> bool {
            false
        }

        fn set_class(&self, class: TaskClass) {
            *self.0.lock() = Some(class);
        }
    }

    #[test]
    fn tasks_are_raised_while_there_is_a_reason() {
        let urgency = Urgency::default();
        let (first, late) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
        let is = |task: &Arc<Seen>, class| *task.0.lock() == class;
        let (raised, lowered) = (Some(TaskClass::Foreground), Some(TaskClass::Background));
        urgency.add(first.clone());
        assert!(is(&first, None), "as it was started");
        let waiting = urgency.wait();
        assert!(is(&first, raised));
        urgency.add(late.clone());
        assert!(is(&late, raised), "it comes when there is a reason already");
        urgency.writers(true);
        drop(waiting);
        assert!(is(&first, raised), "the writers are left");
        drop(urgency.wait());
        urgency.writers(false);
        assert!(is(&first, lowered) && is(&late, lowered));
        urgency.end();
        urgency.writers(true);
        urgency.writers(false);
        assert!(is(&first, raised), "for good");
    }
}
