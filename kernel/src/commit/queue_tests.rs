//! The queue against a plain list: whatever leads, goes away and waits, each request is taken once and in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

type Sent = u64;
type Rescued = std::sync::Arc<Mutex<Vec<Leadership<Sent, Sent>>>>;

fn rescued_into(list: &Rescued) -> Rescue<Sent, Sent> {
    let list = std::sync::Arc::downgrade(list);
    std::sync::Arc::new(move |leadership| match list.upgrade() {
        Some(list) => list.lock().unwrap().push(leadership),
        None => drop(leadership),
    })
}

fn poll(ticket: &mut Ticket<Sent, Sent>) -> Poll<Turn<Sent, Sent>> {
    Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop()))
}

fn take(leader: &mut Leadership<Sent, Sent>, max: usize) -> Vec<Pending<Sent, Sent>> {
    leader.take_group(max, u64::MAX, |_| 1)
}

#[derive(Default)]
struct World {
    entered: u64,
    taken: u64,
    tickets: Vec<(u64, Ticket<Sent, Sent>)>,
    leaders: Vec<(Option<u64>, Leadership<Sent, Sent>)>,
    /// Of owners who still want to know.
    unanswered: usize,
}

impl World {
    fn lead(&mut self, max: usize) {
        let Some((own, leader)) = self.leaders.last_mut() else { return };
        for pending in take(leader, max) {
            assert_eq!(*pending.request(), self.taken, "out of order");
            self.taken += 1;
            let request = *pending.request();
            pending.complete(request * 10);
        }
        if let Some(own) = own.filter(|own| *own < self.taken) {
            assert_eq!(leader.own_outcome(), Some(own * 10));
            self.unanswered -= 1;
            self.leaders.pop().unwrap().1.finish();
        }
    }

    fn step(&mut self, queue: &Queue<Sent, Sent>, action: u8, pick: u8) {
        let pick = usize::from(pick);
        match action % 6 {
            0 | 1 => {
                let request = self.entered;
                self.entered += 1;
                self.unanswered += 1;
                match queue.enter(request) {
                    Entry::Lead(leader) => self.leaders.push((Some(request), leader)),
                    Entry::Wait(ticket) => self.tickets.push((request, ticket)),
                }
            }
            2 => self.lead(1 + pick % 3),
            3 if !self.tickets.is_empty() => {
                let (request, mut ticket) = self.tickets.remove(pick % self.tickets.len());
                match poll(&mut ticket) {
                    Poll::Pending => self.tickets.push((request, ticket)),
                    Poll::Ready(Turn::Lead(leader)) => self.leaders.push((Some(request), leader)),
                    Poll::Ready(Turn::Done(result)) => {
                        assert_eq!(result, request * 10);
                        self.unanswered -= 1;
                    }
                    Poll::Ready(Turn::Abandoned) => panic!("nobody abandons here"),
                }
            }
            4 if !self.tickets.is_empty() => {
                drop(self.tickets.remove(pick % self.tickets.len()));
                self.unanswered -= 1;
            }
            5 => {
                if let Some((own, _leader)) = self.leaders.pop() {
                    self.unanswered -= usize::from(own.is_some());
                }
            }
            _ => {}
        }
    }
}

quickcheck::quickcheck! {
    fn nothing_is_stranded_and_order_is_kept(steps: Vec<(u8, u8)>) -> bool {
        let rescued: Rescued = Rescued::default();
        let queue = Queue::new(rescued_into(&rescued));
        let mut world = World::default();
        for (action, pick) in steps {
            world.step(&queue, action, pick);
            let calls = std::mem::take(&mut *rescued.lock().unwrap());
            world.leaders.extend(calls.into_iter().map(|leader| (None, leader)));
            assert!(world.leaders.len() <= 1, "two leaders at once");
        }
        // From here everyone stays until all is answered; a rescuer leads until nothing is pending. One more enters,
        // for what a rescuer left that was dropped before it took anything.
        world.step(&queue, 0, 0);
        for _ in 0..(world.entered + 4).pow(2) {
            world.lead(2);
            if world.leaders.last().is_some_and(|(own, _)| own.is_none() && queue.pending() == 0) {
                world.leaders.pop().unwrap().1.finish();
            }
            world.step(&queue, 3, 0);
            let calls = std::mem::take(&mut *rescued.lock().unwrap());
            world.leaders.extend(calls.into_iter().map(|leader| (None, leader)));
        }
        assert_eq!((world.unanswered, queue.pending()), (0, 0));
        world.taken == world.entered
    }

    fn a_group_keeps_its_limits_but_is_never_empty(sizes: Vec<u8>, requests_max: u8, bytes_max: u8) -> bool {
        let queue: Queue<u64, u64> = Queue::new(std::sync::Arc::new(drop));
        let mut entries: Vec<_> = sizes.iter().map(|size| queue.enter(u64::from(*size))).collect();
        let Some(Entry::Lead(leader)) = entries.first_mut() else { return sizes.is_empty() };
        let (requests_max, bytes_max) = (usize::from(requests_max % 8), u64::from(bytes_max));
        let mut at = 0;
        while at < sizes.len() {
            let group = leader.take_group(requests_max, bytes_max, |size| *size);
            let bytes: u64 = group.iter().map(|pending| *pending.request()).sum();
            assert!(group.len() == 1 || (group.len() <= requests_max && bytes <= bytes_max));
            assert!(group.iter().map(|pending| *pending.request()).eq(sizes[at..at + group.len()].iter().map(|s| u64::from(*s))));
            at += group.len();
        }
        leader.take_group(1, 1, |_| 1).is_empty()
    }
}

#[test]
fn a_request_taken_and_not_completed_is_abandoned() {
    let queue: Queue<u64, u64> = Queue::new(std::sync::Arc::new(drop));
    let Entry::Lead(mut leader) = queue.enter(0) else { panic!("nobody led") };
    let Entry::Wait(mut ticket) = queue.enter(1) else { panic!("someone leads") };
    drop(take(&mut leader, 2));
    assert!(matches!(poll(&mut ticket), Poll::Ready(Turn::Abandoned)));
    assert_eq!(leader.own_outcome(), None);
}

#[test]
fn a_rescuer_that_is_refused_is_not_called_for_ever() {
    let calls = std::sync::Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let queue: Queue<u64, u64> = Queue::new(std::sync::Arc::new(move |leadership| {
        counted.fetch_add(1, Ordering::Relaxed);
        drop(leadership);
    }));
    let Entry::Lead(leader) = queue.enter(0) else { panic!("nobody led") };
    drop(leader);
    assert_eq!((calls.load(Ordering::Relaxed), queue.pending()), (1, 1));
    let Entry::Lead(mut leader) = queue.enter(1) else { panic!("nobody led") };
    let group = take(&mut leader, 9);
    assert!(group.iter().map(|pending| *pending.request()).eq([0, 1]));
    group.into_iter().for_each(|pending| pending.complete(7));
    assert_eq!(leader.own_outcome(), Some(7));
    leader.finish();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}
