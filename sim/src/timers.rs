//! What comes due: sleeps, and disk calls that take time.
//!
//! A [`Ticket`] is a place that becomes done at an exact instant. Things due at the same instant come due in the
//! order in which they were asked for; who of those woken runs first is the scheduler's choice. An [`Effect`] takes
//! place at its instant even if nobody waits any more: a device does not care whether a future was dropped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

use crate::schedule::Who;

/// What happens to a disk when a call completes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// A sync makes everything up to a number durable; `whole` if it is one of names and times too.
    Settle { disk: usize, inode: u64, watermark: u64, whole: bool },
    /// A `dsync` write becomes durable.
    SettleOnly { disk: usize, inode: u64, number: u64 },
    /// A late write acts on the page cache.
    Land { disk: usize, number: u64 },
    /// A late `dsync` write acts and becomes durable.
    LandDurably { disk: usize, inode: u64, number: u64 },
    /// A sync of a directory makes its changes up to a number durable.
    SettleDirectory { disk: usize, inode: u64, watermark: u64 },
    /// A message comes to the end of its link.
    Arrive { packet: u64 },
    /// Bytes leave the queue in front of a link.
    Depart { from: u32, to: u32, bytes: u64 },
}

/// A place in [`Timers`], valid for one use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Ticket {
    slot: u32,
    generation: u32,
}

struct Slot {
    generation: u32,
    done: bool,
    abandoned: bool,
    waker: Option<Waker>,
    effect: Effect,
    who: Who,
}

/// Something that came due.
pub(crate) struct Due {
    pub(crate) who: Who,
    pub(crate) effect: Effect,
    pub(crate) waker: Option<Waker>,
}

/// All pending timers.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u64, Ticket)>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    asked: u64,
}

impl Timers {
    /// Asks for `effect` at `deadline`.
    pub(crate) fn add(&mut self, deadline: u64, who: Who, effect: Effect) -> Ticket {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 timers are pending");
                self.slots.push(Slot {
                    generation: 0,
                    done: false,
                    abandoned: false,
                    waker: None,
                    effect: Effect::None,
                    who,
                });
                slot
            }
        };
        let place = &mut self.slots[slot as usize];
        place.done = false;
        place.abandoned = false;
        place.effect = effect;
        place.who = who;
        let ticket = Ticket { slot, generation: place.generation };
        self.heap.push(Reverse((deadline, self.asked, ticket)));
        self.asked += 1;
        ticket
    }

    /// True if it came due; otherwise remembers whom to wake.
    pub(crate) fn poll(&mut self, ticket: Ticket, waker: &Waker) -> bool {
        let place = &mut self.slots[ticket.slot as usize];
        assert_eq!(place.generation, ticket.generation, "a ticket is used once");
        if place.done {
            return true;
        }
        match &mut place.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    }

    /// Nobody waits for it any more. Gives back the waker, to be dropped where no lock is held.
    pub(crate) fn abandon(&mut self, ticket: Ticket) -> Option<Waker> {
        let place = &mut self.slots[ticket.slot as usize];
        let waker = place.waker.take();
        if place.done || matches!(place.effect, Effect::None) {
            self.release(ticket.slot);
        } else {
            place.abandoned = true;
        }
        waker
    }

    fn release(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
    }

    /// When the next thing comes due.
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        while let Some(Reverse((deadline, _, ticket))) = self.heap.peek() {
            if self.slots[ticket.slot as usize].generation == ticket.generation {
                return Some(*deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next thing that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Due> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse((_, _, ticket)) = self.heap.pop()?;
        let place = &mut self.slots[ticket.slot as usize];
        place.done = true;
        let due = Due { who: place.who, effect: place.effect, waker: place.waker.take() };
        if place.abandoned {
            self.release(ticket.slot);
        }
        Some(due)
    }
}
