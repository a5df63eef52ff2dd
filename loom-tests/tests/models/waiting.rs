//! One-shot, notify and semaphore: no wake-up is lost, whoever goes away.

use std::sync::Arc;
use std::task::Poll;

use holdfast::sync::atomic::{AtomicBool, Ordering};
use holdfast::sync::{Notify, Semaphore, oneshot};
use holdfast_loom_tests::{Guarded, block_on, model, poll_once};
use loom::thread;

fn a_value_arrives() {
    let (sender, receiver) = oneshot::channel();
    let sending = thread::spawn(move || sender.send(7).unwrap());
    assert_eq!(block_on(receiver), Ok(7));
    sending.join().unwrap();
}

model!(
    oneshot_delivers,
    a_value_arrives,
    catches OneshotWakerAfterUnlock: "deadlock"
);

model!(oneshot_tells_of_a_dropped_sender, || {
    let (sender, receiver) = oneshot::channel::<u8>();
    let dropping = thread::spawn(move || drop(sender));
    assert_eq!(block_on(receiver), Err(oneshot::Dropped));
    dropping.join().unwrap();
});

model!(oneshot_gives_the_value_back_or_drops_it_with_the_receiver, || {
    // Loom fails the execution if this value is neither given back nor dropped.
    let (sender, mut receiver) = oneshot::channel();
    let value = loom::sync::Arc::new(7);
    let sending = thread::spawn(move || sender.send(value).is_err());
    let taken = receiver.try_take().is_some();
    drop(receiver);
    assert!(!(sending.join().unwrap() && taken));
});

fn a_notification_wakes() {
    let notify = Arc::new(Notify::new());
    let notifying = thread::spawn({
        let notify = notify.clone();
        move || notify.notify_one()
    });
    block_on(notify.notified());
    notifying.join().unwrap();
}

model!(
    notify_one_is_not_lost,
    a_notification_wakes,
    catches NotifyRegistersAfterUnlock: "deadlock"
);

/// Two wait, one is let through, one goes away: the other must get through.
fn a_permit_passes_on() {
    let notify = Arc::new(Notify::new());
    let mut first = notify.notified();
    assert!(poll_once(&mut first).is_pending());
    let waiting = thread::spawn({
        let notify = notify.clone();
        move || block_on(notify.notified())
    });
    let notifying = thread::spawn({
        let notify = notify.clone();
        move || notify.notify_one()
    });
    drop(first);
    waiting.join().unwrap();
    notifying.join().unwrap();
}

model!(
    notify_passes_a_permit_on,
    a_permit_passes_on,
    catches NotifyPermitNotPassedOn: "deadlock"
);

model!(notify_all_after_the_condition_is_not_missed, || {
    let shared = Arc::new((Notify::new(), AtomicBool::new(false)));
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                let notified = shared.0.notified();
                if !shared.1.load(Ordering::Acquire) {
                    block_on(notified);
                }
                assert!(shared.1.load(Ordering::Acquire));
            })
        })
        .collect();
    shared.1.store(true, Ordering::Release);
    shared.0.notify_all();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
});

model!(semaphore_excludes, || {
    let semaphore = Arc::new(Semaphore::new(2));
    let cell = Arc::new(Guarded::new());
    let work = |semaphore: Arc<Semaphore>, cell: Arc<Guarded>| {
        let permit = block_on(semaphore.acquire(2));
        cell.write();
        drop(permit);
    };
    let other = thread::spawn({
        let (semaphore, cell) = (semaphore.clone(), cell.clone());
        move || work(semaphore, cell)
    });
    work(semaphore.clone(), cell);
    other.join().unwrap();
    assert_eq!(semaphore.available(), 2);
});

/// A waiter that goes away, granted or not, costs no permit.
fn a_grant_comes_back() {
    let semaphore = Arc::new(Semaphore::new(1));
    let held = semaphore.try_acquire(1).unwrap();
    let mut cancelled = semaphore.acquire(1);
    assert!(poll_once(&mut cancelled).is_pending());
    let releasing = thread::spawn(move || drop(held));
    let waiting = thread::spawn({
        let semaphore = semaphore.clone();
        move || drop(block_on(semaphore.acquire(1)))
    });
    match poll_once(&mut cancelled) {
        Poll::Ready(permit) => drop(permit),
        Poll::Pending => drop(cancelled),
    }
    releasing.join().unwrap();
    waiting.join().unwrap();
    assert_eq!(semaphore.available(), 1);
}

model!(
    semaphore_survives_cancellation,
    a_grant_comes_back,
    catches SemaphoreGrantLeaked: "deadlock"
);
