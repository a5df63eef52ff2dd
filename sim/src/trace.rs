//! The trace: a rolling hash over every event with its content, and an optional readable log of the last ones.
//!
//! Two runs with one hash did the same things in the same order with the same bytes at the same instants. Bytes
//! enter as their CRC-32 and length, everything else as itself. Task and file numbers are counted per run, so
//! nothing in the hash depends on addresses, threads or the build.

use std::collections::VecDeque;

use crate::log::{Detail, LogLine};
use crate::options::{AtEvent, SimOptions};

/// What happened; the first word of an event in the hash.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The scheduler picked one of several ready tasks.
    Choice = 1,
    /// A task was polled.
    Poll = 2,
    /// A timer or an operation came due.
    Due = 3,
    /// A disk call was made.
    Call = 4,
    /// Bytes were written or read, or a call gave its result.
    Result = 5,
    /// A random number was drawn for the kernel or the test.
    Draw = 6,
    /// A task was spawned.
    Spawn = 7,
    /// A process died or started.
    Life = 8,
    /// A fault fired.
    Fault = 9,
    /// Something survived a power loss, or did not.
    Survivor = 10,
    /// The test touched a disk from outside.
    Outside = 11,
    /// A message was sent.
    Message = 12,
    /// A message came to the end of its link.
    Arrival = 13,
}

/// The rolling hash and the log.
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    now: u64,
    log: VecDeque<LogLine>,
    /// Number and name of the task that has the turn.
    turn: (u64, &'static str),
    log_limit: usize,
    at_event: Option<AtEvent>,
    /// The hash before each event, if they are recorded.
    hashes: Option<Vec<u64>>,
}

impl Trace {
    pub(crate) fn new(options: &SimOptions) -> Self {
        Self {
            hash: 0x686f_6c64_6661_7374,
            events: 0,
            now: 0,
            log: VecDeque::new(),
            turn: (0, "main"),
            log_limit: options.log_events,
            at_event: options.at_event,
            hashes: options.record_hashes.then(Vec::new),
        }
    }

    /// Sets the time of the events that follow.
    pub(crate) fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// Adds an event with two words of content.
    #[inline]
    pub(crate) fn event(&mut self, event: Event, first: u64, second: u64) {
        if let Some(hashes) = &mut self.hashes {
            hashes.push(self.hash);
        }
        self.events += 1;
        self.mix(event as u64 ^ (self.now << 8));
        self.mix(first);
        self.mix(second);
        if let Some(at) = self.at_event
            && at.number == self.events
        {
            (at.call)();
        }
    }

    /// Adds bytes to the last event.
    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.mix(u64::from(crc32fast::hash(bytes)) << 32 ^ bytes.len() as u64);
    }

    #[inline]
    fn mix(&mut self, word: u64) {
        let mixed = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }

    /// A task has the turn.
    #[inline]
    pub(crate) fn set_turn(&mut self, task: u64, name: &'static str) {
        self.turn = (task, name);
    }

    /// Adds a line to the log if one is kept; the text is made only then.
    #[inline]
    pub(crate) fn log(&mut self, text: impl FnOnce() -> String) {
        self.log_with(|| (text(), Detail::Text));
    }

    /// The same for a line with a form of its own.
    #[inline]
    pub(crate) fn log_with(&mut self, line: impl FnOnce() -> (String, Detail)) {
        if self.log_limit > 0 {
            self.keep(line());
        }
    }

    fn keep(&mut self, (text, detail): (String, Detail)) {
        if self.log.len() == self.log_limit {
            self.log.pop_front();
        }
        let (task, task_name) = (self.turn.0, self.turn.1.into());
        self.log.push_back(LogLine { event: self.events, at_ns: self.now, task, task_name, text, detail });
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The hash before each event and after the last one, if they were recorded.
    pub(crate) fn take_hashes(&mut self) -> Vec<u64> {
        let last = self.hash;
        self.hashes.take().map(|hashes| hashes.into_iter().chain([last]).collect()).unwrap_or_default()
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The log so far, oldest line first.
    pub(crate) fn lines(&self) -> Vec<LogLine> {
        self.log.iter().cloned().collect()
    }
}
