//! Bugs on demand, so that the model checker itself is tested.
//!
//! A model that passes proves little until it is known to fail when the code is wrong. Each [`Bug`] names one place
//! where one ordering or one step can be weakened; `loom-tests` plants it and demands that loom reports it.
//! Outside `--cfg loom` [`planted`] is the constant `false` and the compiler removes every trace.

use super::atomic::Ordering;

/// One deliberate mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The receiver checks for a value and leaves its waker in two steps.
    OneshotWakerAfterUnlock,
    /// A waiter checks for a permit and queues up in two steps.
    NotifyRegistersAfterUnlock,
    /// A waiter that was notified and goes away keeps the permit.
    NotifyPermitNotPassedOn,
    /// A waiter that was given its share and goes away keeps it.
    SemaphoreGrantLeaked,
    /// A node is linked without publishing its bytes.
    SkiplistLinkRelaxed,
    /// A link is followed without acquiring the bytes behind it.
    SkiplistFollowRelaxed,
    /// A new chunk is put in force without publishing its header.
    ArenaChunkRelaxed,
    /// A set of deleted ranges takes its place though another was quicker.
    RangeSetsExchangedBlindly,
    /// A ticket dropped after leadership was assigned to it keeps the leadership.
    QueueLeadershipDropped,
    /// Leadership is offered to a waiter that has gone away.
    QueueLeadershipToTheGone,
    /// With no live waiter left, what is queued stays where it is.
    QueueRescueForgotten,
    /// A waiter looks at its slot and leaves its waker in two steps.
    QueueWakerAfterUnlock,
    /// The visible sequence is published without what it makes visible.
    PublishVisibleRelaxed,
    /// The read view does not look whether the state was swapped meanwhile.
    PublishNoRecheck,
    /// A snapshot reads the visible sequence before it takes the registry's lock.
    SnapshotReadsOutsideLock,
    /// An update starts from the state that it saw before it took the lock.
    PublishUpdateOutsideLock,
    /// An evicted block is counted as pinned only after the shard's lock was released.
    CacheCountsAfterUnlock,
    /// A charge reads its purpose and replaces it in two steps.
    BudgetMovesInTwoSteps,
}

#[cfg(loom)]
std::thread_local! {
    // A model and all of its threads run on one thread of the system, so models in parallel do not see each other.
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Makes [`planted`] true for `bug`, in models that the calling thread runs from now on.
#[cfg(loom)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// True if this mistake is to be made.
#[cfg(loom)]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// False: nothing is planted in production.
#[cfg(not(loom))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// The right ordering, unless `bug` is planted.
#[inline(always)]
pub fn ordering(bug: Bug, right: Ordering) -> Ordering {
    if planted(bug) { Ordering::Relaxed } else { right }
}
