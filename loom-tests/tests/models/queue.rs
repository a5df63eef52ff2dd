//! The commit queue: one leader at a time, every request taken once, nobody stranded, whoever goes away.

use std::sync::{Arc, Mutex};

use holdfast::loom_exports::{Entry, Leadership, Queue, Rescue, Ticket, Turn};
use holdfast_loom_tests::{Guarded, block_on, model, poll_once};
use loom::thread;

/// What the queue works on. The standard library's lock around the log: loom need not explore it.
struct World {
    queue: Queue<u64, u64>,
    work: Arc<Work>,
}

struct Work {
    taken: Mutex<Vec<u64>>,
    /// Touched by whoever leads: loom reports two at once, and a hand-over that orders nothing.
    led: Guarded,
}

impl Work {
    /// One group of at most `max`; false if nothing was pending.
    fn lead(&self, leader: &mut Leadership<u64, u64>, max: usize) -> bool {
        self.led.write();
        let group = leader.take_group(max, u64::MAX, |_| 1);
        let any = !group.is_empty();
        for pending in group {
            let request = *pending.request();
            self.taken.lock().unwrap().push(request);
            pending.complete(request * 10);
        }
        any
    }
}

impl World {
    fn new() -> Arc<Self> {
        let work = Arc::new(Work { taken: Mutex::default(), led: Guarded::new() });
        let rescuing = work.clone();
        let rescue: Rescue<u64, u64> = Arc::new(move |mut leader| {
            while rescuing.lead(&mut leader, 8) {}
            leader.finish();
        });
        Arc::new(Self { queue: Queue::new(rescue), work })
    }

    fn commit(&self, request: u64) -> u64 {
        match self.queue.enter(request) {
            Entry::Lead(leader) => self.lead(leader),
            Entry::Wait(ticket) => self.wait(ticket),
        }
    }

    fn wait(&self, ticket: Ticket<u64, u64>) -> u64 {
        match block_on(ticket) {
            Turn::Done(result) => result,
            Turn::Lead(leader) => self.lead(leader),
            Turn::Abandoned => panic!("nobody abandons a request here"),
        }
    }

    /// Groups of one, so that leadership moves on.
    fn lead(&self, mut leader: Leadership<u64, u64>) -> u64 {
        loop {
            assert!(self.work.lead(&mut leader, 1), "the own request is pending until it is taken");
            if let Some(result) = leader.own_outcome() {
                leader.finish();
                return result;
            }
        }
    }

    fn assert_all_taken(&self, count: u64) {
        let mut taken = self.work.taken.lock().unwrap().clone();
        taken.sort_unstable();
        assert!(taken.into_iter().eq(1..=count), "a request was lost, or taken twice");
        assert_eq!(self.queue.pending(), 0);
    }
}

fn enter_waiting(world: &World, request: u64) -> Ticket<u64, u64> {
    match world.queue.enter(request) {
        Entry::Wait(ticket) => ticket,
        Entry::Lead(_) => panic!("someone leads already"),
    }
}

fn enter_leading(world: &World, request: u64) -> Leadership<u64, u64> {
    match world.queue.enter(request) {
        Entry::Lead(leader) => leader,
        Entry::Wait(_) => panic!("nobody leads yet"),
    }
}

/// Everyone commits and stays.
fn hand_over() {
    let world = World::new();
    let committing: Vec<_> = (1..=2)
        .map(|request| {
            let world = world.clone();
            thread::spawn(move || assert_eq!(world.commit(request), request * 10))
        })
        .collect();
    assert_eq!(world.commit(3), 30);
    committing.into_iter().for_each(|thread| thread.join().unwrap());
    world.assert_all_taken(3);
}

model!(
    leadership_is_handed_over,
    hand_over,
    catches QueueWakerAfterUnlock: "deadlock"
);

// The leader goes away without having taken anything.
model!(a_dropped_leader_strands_nobody, || {
    let world = World::new();
    let leader = enter_leading(&world, 1);
    let committing = thread::spawn({
        let world = world.clone();
        move || assert_eq!(world.commit(2), 20)
    });
    drop(leader);
    committing.join().unwrap();
    world.assert_all_taken(2);
});

/// The only waiter goes away, while the leader finishes: before it is assigned leadership, or after.
fn dropped_waiter() {
    let world = World::new();
    let leader = enter_leading(&world, 1);
    let mut ticket = enter_waiting(&world, 2);
    assert!(poll_once(&mut ticket).is_pending());
    let dropping = thread::spawn(move || drop(ticket));
    assert_eq!(world.lead(leader), 10);
    dropping.join().unwrap();
    world.assert_all_taken(2);
}

model!(
    a_dropped_waiter_is_rescued,
    dropped_waiter,
    catches QueueRescueForgotten: "a request was lost",
    catches QueueLeadershipDropped: "a request was lost"
);

/// One waiter goes away, the one behind it stays and must get through.
fn waiter_behind_a_dropped_one() {
    let world = World::new();
    let leader = enter_leading(&world, 1);
    let (first, second) = (enter_waiting(&world, 2), enter_waiting(&world, 3));
    let dropping = thread::spawn(move || drop(first));
    let waiting = thread::spawn({
        let world = world.clone();
        move || assert_eq!(world.wait(second), 30)
    });
    assert_eq!(world.lead(leader), 10);
    dropping.join().unwrap();
    waiting.join().unwrap();
    world.assert_all_taken(3);
}

model!(
    a_waiter_behind_a_dropped_one_gets_through,
    waiter_behind_a_dropped_one,
    catches QueueLeadershipToTheGone: "deadlock"
);
