//! Connections as the network keeps them: two sides, numbered segments between them, a window for each direction.
//!
//! ```text
//! Opening --Opened--> Open --> Gone          the owner dropped it or died
//!    \---Refused--> Refused
//! ```
//! A side numbers what it sends; the other takes the numbers in order, keeps early ones, and forgets ones it has seen.
//! Only `Opened`, `Refused` and `Reset` have no number: the first two come once, and a reset acts when it arrives.
//!
//! Invariant: `room` of a side, what is on its way to the peer, and what the peer has and did not give back yet, are
//! the window in sum.

use std::collections::{BTreeMap, VecDeque};

use super::traffic::Body;
use super::waiting::Place;
use crate::schedule::Who;
use crate::state::State;

/// What a frame counts against the window beside its bytes.
pub(super) const FRAME_OVERHEAD: u64 = 32;

/// What a numbered segment carries.
#[derive(Clone)]
pub(super) enum Content {
    Frame(Vec<u8>),
    /// No frame comes after this one.
    End,
    /// The receiver gives so many bytes of the window back.
    Grant(u64),
}

/// A part of a connection.
#[derive(Clone)]
pub(super) enum Segment {
    Opened,
    Refused,
    Reset,
    Numbered(u64, Content),
}

impl Segment {
    /// Kind and content, for the trace.
    pub(super) fn words(&self) -> (u64, u64) {
        match self {
            Self::Opened => (0, 0),
            Self::Refused => (1, 0),
            Self::Reset => (2, 0),
            Self::Numbered(number, Content::Frame(_)) => (3, *number),
            Self::Numbered(number, Content::End) => (4, *number),
            Self::Numbered(number, Content::Grant(bytes)) => (5, *number ^ bytes << 32),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Opening,
    Open,
    Refused,
    Gone,
}

/// One side of a connection.
pub(super) struct Side {
    pub(super) who: Who,
    pub(super) port: u16,
    pub(super) stage: Stage,
    /// The peer was heard of.
    is_answered: bool,
    /// Number of the next segment that it sends.
    next_out: u64,
    /// Number of the next segment that it takes.
    next_in: u64,
    early: BTreeMap<u64, Content>,
    pub(super) inbox: VecDeque<Vec<u8>>,
    /// Bytes that it may send.
    pub(super) room: u64,
    /// Bytes that it took and did not give back yet.
    owes: u64,
    /// It sends no further frame.
    pub(super) is_closed: bool,
    /// The peer sends no further frame.
    pub(super) has_ended: bool,
    pub(super) is_reset: bool,
}

impl Side {
    pub(super) fn new(who: Who, port: u16, stage: Stage, room: u64) -> Self {
        Self {
            who,
            port,
            stage,
            is_answered: stage == Stage::Open,
            next_out: 0,
            next_in: 0,
            early: BTreeMap::new(),
            inbox: VecDeque::new(),
            room,
            owes: 0,
            is_closed: false,
            has_ended: false,
            is_reset: false,
        }
    }
}

/// Both sides; the accepting one is there once the question arrived.
pub(super) struct ConnectionState {
    /// The process that was asked.
    pub(super) asked: u32,
    pub(super) sides: [Option<Side>; 2],
}

impl ConnectionState {
    /// The sides that one life of a process holds.
    pub(super) fn sides_of(&self, number: u64, who: Who) -> impl Iterator<Item = (u64, usize)> {
        let holds = |side: &Option<Side>| {
            side.as_ref().is_some_and(|side| side.who == who && side.stage != Stage::Gone)
        };
        let held = [holds(&self.sides[0]), holds(&self.sides[1])];
        (0..2).filter(move |side| held[*side]).map(move |side| (number, side))
    }
}

impl State {
    pub(super) fn side(&mut self, connection: u64, side: usize) -> Option<&mut Side> {
        self.network.connections.get_mut(&connection)?.sides[side].as_mut()
    }

    /// The processes at `side` and at the other one.
    fn ends(&self, connection: u64, side: usize) -> Option<(u32, u32)> {
        let state = self.network.connections.get(&connection)?;
        let asking = state.sides[0].as_ref()?.who.process;
        Some(if side == 0 { (asking, state.asked) } else { (state.asked, asking) })
    }

    /// Sends a segment from `side` to the other one.
    fn send_segment(&mut self, connection: u64, side: usize, segment: Segment) {
        if let Some((from, to)) = self.ends(connection, side) {
            self.transmit(from, to, Body::Part { connection, side: 1 - side, segment });
        }
    }

    pub(super) fn send_content(&mut self, connection: u64, side: usize, content: Content) {
        let Some(mine) = self.side(connection, side) else {
            return;
        };
        let number = mine.next_out;
        mine.next_out += 1;
        self.send_segment(connection, side, Segment::Numbered(number, content));
    }

    /// Somebody asks for a connection.
    pub(super) fn open_asked(&mut self, connection: u64, port: u16) {
        let model = self.network.model;
        let Some(state) = self.network.connections.get_mut(&connection) else {
            return;
        };
        if state.sides[1].is_some() {
            return;
        }
        let asked = state.asked;
        match self.network.backlogs.get_mut(&(asked, port)) {
            Some(backlog) if backlog.waiting.len() < model.backlog => {
                backlog.waiting.push_back(connection);
                state.sides[1] = Some(Side::new(backlog.who, port, Stage::Open, model.window_bytes));
                self.network.wake(Place::Backlog(asked, port));
                self.send_segment(connection, 1, Segment::Opened);
            }
            _ => self.send_segment(connection, 1, Segment::Refused),
        }
    }

    /// A part of a connection arrived at one of its sides; false if nobody is there.
    pub(super) fn part_arrived(&mut self, connection: u64, side: usize, segment: Segment) -> bool {
        let Some(mine) = self.side(connection, side) else {
            return false;
        };
        if mine.stage == Stage::Gone {
            // What comes a second time was answered the first time.
            let is_news = match &segment {
                Segment::Numbered(number, Content::Frame(_)) => *number >= mine.next_in,
                Segment::Opened => !mine.is_answered,
                _ => false,
            };
            if is_news {
                self.send_segment(connection, side, Segment::Reset);
            } else if matches!(segment, Segment::Refused) {
                self.network.connections.remove(&connection);
            }
            return false;
        }
        match segment {
            Segment::Refused if mine.stage == Stage::Opening => mine.stage = Stage::Refused,
            Segment::Refused => {}
            Segment::Opened => mine.open(),
            Segment::Reset => {
                mine.is_reset = true;
                mine.early.clear();
            }
            Segment::Numbered(number, content) => {
                mine.open();
                if number >= mine.next_in && !mine.is_reset {
                    mine.early.insert(number, content);
                }
                mine.take_early();
            }
        }
        self.network.wake(Place::Inbox(connection, side));
        self.network.wake(Place::Window(connection, side));
        true
    }

    /// Takes a frame that has arrived, and gives the window back where it is due.
    pub(super) fn take_frame(&mut self, connection: u64, side: usize) -> Option<Vec<u8>> {
        let window = self.network.model.window_bytes;
        let mine = self.side(connection, side)?;
        let frame = mine.inbox.pop_front()?;
        mine.owes += frame.len() as u64 + FRAME_OVERHEAD;
        // Once nothing is left the peer must have all of it back: it may wait for the whole window.
        if !mine.is_reset && !mine.has_ended && (mine.inbox.is_empty() || mine.owes >= window / 2) {
            let owed = std::mem::take(&mut mine.owes);
            self.send_content(connection, side, Content::Grant(owed));
        }
        Some(frame)
    }

    /// Breaks a connection from one side: it is reset at once, the peer when the news arrives.
    pub(super) fn reset_from(&mut self, connection: u64, side: usize) {
        if let Some(mine) = self.side(connection, side) {
            mine.is_reset = true;
            mine.early.clear();
        }
        self.send_segment(connection, side, Segment::Reset);
        self.network.wake(Place::Inbox(connection, side));
        self.network.wake(Place::Window(connection, side));
    }

    /// Breaks every connection between two processes, given in ascending order, at both ends at once.
    pub(super) fn reset_between(&mut self, ends: [u32; 2]) {
        let between: Vec<u64> = self.network.connections.keys().copied().collect();
        for connection in between {
            let mut theirs = self.ends(connection, 0).map_or([u32::MAX; 2], |(from, to)| [from, to]);
            theirs.sort_unstable();
            for side in 0..2 {
                if let (true, Some(mine)) = (theirs == ends, self.side(connection, side)) {
                    mine.is_reset = true;
                    self.network.wake(Place::Inbox(connection, side));
                    self.network.wake(Place::Window(connection, side));
                }
            }
        }
    }

    /// The owner of a side is gone. If it tells, the peer reads what was sent and then the end, or a reset if not
    /// everything was read here.
    pub(super) fn give_up_side(&mut self, connection: u64, side: usize, tells: bool) {
        let Some(mine) = self.side(connection, side) else {
            return;
        };
        let is_early = mine.early.values().any(|content| matches!(content, Content::Frame(_)));
        let (was, is_read) = (mine.stage, mine.inbox.is_empty() && !is_early);
        let (is_reset, is_closed) = (mine.is_reset, mine.is_closed);
        mine.stage = Stage::Gone;
        mine.inbox.clear();
        mine.early.clear();
        if tells && was == Stage::Open && !is_reset {
            if !is_read {
                self.send_segment(connection, side, Segment::Reset);
            } else if !is_closed {
                self.send_content(connection, side, Content::End);
            }
        }
        let is_over = self.network.connections.get(&connection).is_some_and(|state| {
            state.sides.iter().all(|side| side.as_ref().is_some_and(|side| side.stage == Stage::Gone))
        });
        let was_refused = was == Stage::Refused;
        if is_over || was_refused {
            self.network.connections.remove(&connection);
        }
    }
}

impl Side {
    /// The peer has answered.
    fn open(&mut self) {
        self.is_answered = true;
        if self.stage == Stage::Opening {
            self.stage = Stage::Open;
        }
    }

    /// Takes everything that has come in order.
    fn take_early(&mut self) {
        while let Some(content) = self.early.remove(&self.next_in) {
            self.next_in += 1;
            match content {
                Content::Frame(bytes) => self.inbox.push_back(bytes),
                Content::End => self.has_ended = true,
                Content::Grant(bytes) => self.room += bytes,
            }
        }
    }
}
