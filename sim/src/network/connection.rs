//! Connections: a [`Listener`] accepts what another process connects; both ends send and receive frames.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use super::link::link_name;
use super::segment::{ConnectionState, Content, FRAME_OVERHEAD, Side, Stage};
use super::traffic::{Backlog, Body};
use super::waiting::{Attempt, Place, Step};
use super::{Address, NetworkError, ProcessNetwork};
use crate::env::SimEnv;
use crate::fault::FaultClass;
use crate::state::State;
use crate::trace::Event;

/// The first of the ports that connecting sides get.
const FIRST_OWN_PORT: u16 = 49_152;

/// A port of a process, for connections. Dropping it frees the port and resets what was not accepted.
pub struct Listener {
    network: ProcessNetwork,
    port: u16,
}

/// One end of a connection: frames in both directions, each whole, once and in order.
///
/// Dropping it closes it; if frames had come that nobody received, the peer reads a reset instead of the end.
pub struct Connection {
    network: ProcessNetwork,
    number: u64,
    side: usize,
    local: Address,
    peer: Address,
}

impl ProcessNetwork {
    /// Takes a port for connections.
    ///
    /// # Errors
    /// [`NetworkError::AddressInUse`].
    pub fn listen(&self, port: u16) -> Result<Listener, NetworkError> {
        let mut state = self.shared.state.lock();
        if state.is_alive(self.who) {
            let backlogs = &mut state.network.backlogs;
            if backlogs.contains_key(&(self.who.process, port)) {
                return Err(NetworkError::AddressInUse);
            }
            let backlog = Backlog { who: self.who, waiting: VecDeque::new() };
            backlogs.insert((self.who.process, port), backlog);
        }
        Ok(Listener { network: self.clone(), port })
    }

    /// Connects to a listener of another process, or of this one.
    ///
    /// # Errors
    /// [`NetworkError::Refused`] if nobody listens there or too many wait, [`NetworkError::TimedOut`] if no answer
    /// came, [`NetworkError::Reset`] if the peer broke it at once.
    pub async fn connect(&self, to: &Address) -> Result<Connection, NetworkError> {
        let asked = self.shared.with_network(|state| self.ask(state, to));
        let (connection, timeout) = match asked {
            Some((number, port, timeout)) => {
                let local = self.address(port);
                let network = self.clone();
                (Some(Connection { network, number, side: 0, local, peer: to.clone() }), timeout)
            }
            None => (None, self.shared.state.lock().network.model.connect_timeout_ns),
        };
        let env = SimEnv { shared: self.shared.clone(), who: self.who, disk: 0 };
        let deadline = self.shared.state.lock().now.saturating_add(timeout);
        let mut timer = env.wait_until(deadline);
        let Some(connection) = connection else {
            timer.await;
            return Err(NetworkError::TimedOut);
        };
        let number = connection.number;
        let mut answer = Attempt::new(&self.shared, self.who, move |state: &mut State| {
            match state.side(number, 0).map(|side| (side.stage, side.is_reset)) {
                Some((Stage::Opening, false)) => Step::Wait(Place::Inbox(number, 0)),
                Some((Stage::Open, _)) => Step::Done(Ok(())),
                Some((Stage::Refused, _)) => Step::Done(Err(NetworkError::Refused)),
                _ => Step::Done(Err(NetworkError::Reset)),
            }
        });
        let answered = std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = Pin::new(&mut answer).poll(context) {
                return Poll::Ready(answer);
            }
            Pin::new(&mut timer).poll(context).map(|()| Err(NetworkError::TimedOut))
        });
        answered.await.map(|()| connection)
    }

    /// Sends the question; gives the connection's number, its port here, and how long to wait. `None` if there is no
    /// such process, or if this one is dead.
    fn ask(&self, state: &mut State, to: &Address) -> Option<(u64, u16, u64)> {
        let asked = state.process_named(&to.process)?;
        if !state.is_alive(self.who) {
            return None;
        }
        let model = state.network.model;
        let number = state.network.next_connection;
        state.network.next_connection += 1;
        let own_ports = u64::from(u16::MAX - FIRST_OWN_PORT) + 1;
        let port = FIRST_OWN_PORT + u16::try_from(number % own_ports).expect("fewer than 2^16 ports");
        let side = Side::new(self.who, port, Stage::Opening, model.window_bytes);
        state.network.connections.insert(number, ConnectionState { asked, sides: [Some(side), None] });
        state.transmit(self.who.process, asked, Body::Open { connection: number, to_port: to.port });
        Some((number, port, model.connect_timeout_ns))
    }
}

impl Listener {
    /// Where it is reached.
    pub fn address(&self) -> Address {
        self.network.address(self.port)
    }

    /// The next connection that somebody asked for.
    pub async fn accept(&self) -> Connection {
        let place = (self.network.who.process, self.port);
        let accepted = Attempt::new(&self.network.shared, self.network.who, move |state: &mut State| {
            let waiting = state.network.backlogs.get_mut(&place).map(|backlog| &mut backlog.waiting);
            match waiting.and_then(VecDeque::pop_front) {
                Some(number) => Step::Done((number, state.asking_address(number))),
                None => Step::Wait(Place::Backlog(place.0, place.1)),
            }
        });
        let (number, peer) = accepted.await;
        let network = self.network.clone();
        Connection { network, number, side: 1, local: self.address(), peer }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let key = (self.network.who.process, self.port);
        self.network.shared.with_network(|state| {
            if state.network.backlogs.get(&key).is_none_or(|backlog| backlog.who != self.network.who) {
                return;
            }
            let waiting = state.network.backlogs.remove(&key).map(|backlog| backlog.waiting);
            for number in waiting.unwrap_or_default() {
                state.reset_from(number, 1);
                state.give_up_side(number, 1, false);
            }
        });
    }
}

impl Connection {
    /// Where this end is.
    pub fn local(&self) -> &Address {
        &self.local
    }

    /// Where the other end is.
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// Sends a frame, and waits while the window or the queue of a slow link is full. That it returned says nothing
    /// about the peer.
    ///
    /// # Errors
    /// [`NetworkError::TooLarge`], [`NetworkError::Closed`] after [`Self::close`], [`NetworkError::Reset`].
    pub async fn send(&self, frame: &[u8]) -> Result<(), NetworkError> {
        let (number, side) = (self.number, self.side);
        let mut frame = Some(frame.to_vec());
        Attempt::new(&self.network.shared, self.network.who, move |state: &mut State| {
            let cost = frame.as_ref().map_or(0, Vec::len) as u64 + FRAME_OVERHEAD;
            match self.may_send(state, cost) {
                Step::Wait(place) => return Step::Wait(place),
                Step::Done(Err(error)) => return Step::Done(Err(error)),
                Step::Done(Ok(())) => {}
            }
            if self.is_broken_by_fault(state) {
                state.reset_from(number, side);
                return Step::Done(Err(NetworkError::Reset));
            }
            if let Some(mine) = state.side(number, side) {
                mine.room -= cost;
            }
            state.send_content(number, side, Content::Frame(frame.take().unwrap_or_default()));
            Step::Done(Ok(()))
        })
        .await
    }

    fn may_send(&self, state: &mut State, cost: u64) -> Step<Result<(), NetworkError>> {
        if cost > state.network.model.window_bytes {
            return Step::Done(Err(NetworkError::TooLarge));
        }
        let place = Place::Window(self.number, self.side);
        match state.side(self.number, self.side) {
            Some(mine) if mine.is_closed => return Step::Done(Err(NetworkError::Closed)),
            Some(mine) if !mine.is_reset && mine.stage == Stage::Open => {
                if mine.room < cost {
                    return Step::Wait(place);
                }
            }
            _ => return Step::Done(Err(NetworkError::Reset)),
        }
        let from = self.network.who.process;
        let to = state.process_named(&self.peer.process).unwrap_or(from);
        if state.is_queue_full(from, to) { Step::Wait(Place::Queue(from, to)) } else { Step::Done(Ok(())) }
    }

    fn is_broken_by_fault(&self, state: &mut State) -> bool {
        if state.network.faults.is_quiet() {
            return false;
        }
        let name = link_name(&self.local.process, &self.peer.process);
        let is_broken = state.network.faults.fires(FaultClass::ConnectionReset, &name);
        if is_broken {
            state.network.faults.note(FaultClass::ConnectionReset, &name, self.number, 0);
            state.tell_network_faults();
        }
        is_broken
    }

    /// The next frame; `None` once the peer has closed and everything was received.
    ///
    /// # Errors
    /// [`NetworkError::Reset`], after the frames that had arrived before it.
    pub async fn receive(&self) -> Result<Option<Vec<u8>>, NetworkError> {
        let (number, side) = (self.number, self.side);
        Attempt::new(&self.network.shared, self.network.who, move |state: &mut State| {
            if let Some(frame) = state.take_frame(number, side) {
                return Step::Done(Ok(Some(frame)));
            }
            match state.side(number, side) {
                Some(mine) if mine.is_reset => Step::Done(Err(NetworkError::Reset)),
                Some(mine) if mine.has_ended => Step::Done(Ok(None)),
                Some(_) => Step::Wait(Place::Inbox(number, side)),
                None => Step::Done(Err(NetworkError::Reset)),
            }
        })
        .await
    }

    /// Sends no more: the peer reads everything and then the end. What the peer sends can still be received.
    pub fn close(&self) {
        self.network.shared.with_network(|state| {
            if !state.is_alive(self.network.who) {
                return;
            }
            let Some(mine) = state.side(self.number, self.side) else {
                return;
            };
            if !std::mem::replace(&mut mine.is_closed, true) && !mine.is_reset {
                state.send_content(self.number, self.side, Content::End);
            }
            state.network.wake(Place::Window(self.number, self.side));
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.network.shared.with_network(|state| {
            if state.is_alive(self.network.who) {
                state.give_up_side(self.number, self.side, true);
            }
        });
    }
}

impl State {
    /// Where a connection was asked for.
    fn asking_address(&self, connection: u64) -> Address {
        let state = self.network.connections.get(&connection);
        let side = state.and_then(|state| state.sides[0].as_ref());
        match side {
            Some(side) => Address::new(self.processes[side.who.process as usize].name.as_str(), side.port),
            None => Address::new("", 0),
        }
    }

    /// Puts the faults that fired into the trace.
    pub(super) fn tell_network_faults(&mut self) {
        for fault in self.network.faults.take_untold() {
            self.trace.event(Event::Fault, fault.class as u64, fault.offset);
            self.trace.log(|| format!("fault: {:?} of {} {}", fault.class, fault.offset, fault.name));
        }
    }
}
