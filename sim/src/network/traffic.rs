//! Messages on their way: sent, put on a link, arrived, and given to what they were meant for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Waker;

use super::Address;
use super::link::Link;
use super::model::{NetworkCounts, NetworkModel};
use super::segment::{ConnectionState, Content, Segment};
use super::waiting::{Place, Waiters};
use crate::fault::Faults;
use crate::schedule::Who;
use crate::state::State;
use crate::stream::{Stream, StreamClass};
use crate::trace::Event;

/// What a message carries.
#[derive(Clone)]
pub(super) enum Body {
    Datagram {
        from_port: u16,
        to_port: u16,
        bytes: Vec<u8>,
    },
    /// Asks for a connection.
    Open {
        connection: u64,
        to_port: u16,
    },
    /// A part of a connection, for one of its sides.
    Part {
        connection: u64,
        side: usize,
        segment: Segment,
    },
}

impl Body {
    /// Bytes on the link, headers included.
    pub(super) fn len(&self) -> u64 {
        64 + self.bytes().len() as u64
    }

    pub(super) fn is_datagram(&self) -> bool {
        matches!(self, Self::Datagram { .. })
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Datagram { bytes, .. } => bytes,
            Self::Part { segment: Segment::Numbered(_, Content::Frame(bytes)), .. } => bytes,
            _ => &[],
        }
    }

    /// Everything but the bytes, for the trace.
    fn words(&self) -> (u64, u64) {
        match self {
            Self::Datagram { from_port, to_port, .. } => {
                (1, u64::from(*from_port) << 16 | u64::from(*to_port))
            }
            Self::Open { connection, to_port } => (2 | connection << 8, u64::from(*to_port)),
            Self::Part { connection, side, segment } => {
                let (kind, word) = segment.words();
                ((3 + 16 * *side as u64 + 32 * kind) | (connection << 8), word)
            }
        }
    }
}

/// A message on its way between two processes.
struct Packet {
    from: u32,
    to: u32,
    body: Body,
}

/// An endpoint: what arrived at its port and was not taken yet.
pub(super) struct Mailbox {
    pub(super) who: Who,
    pub(super) waiting: VecDeque<(Address, Vec<u8>)>,
}

/// A listener: connections that were not accepted yet.
pub(super) struct Backlog {
    pub(super) who: Who,
    pub(super) waiting: VecDeque<u64>,
}

/// Everything about the network.
pub(crate) struct NetworkState {
    pub(super) model: NetworkModel,
    pub(super) links: BTreeMap<(u32, u32), Link>,
    pub(super) mailboxes: BTreeMap<(u32, u16), Mailbox>,
    pub(super) backlogs: BTreeMap<(u32, u16), Backlog>,
    pub(super) connections: BTreeMap<u64, ConnectionState>,
    pub(super) next_connection: u64,
    /// Processes that lost power and do not run again yet.
    pub(super) dark: BTreeSet<u32>,
    pub(super) waiters: Waiters,
    /// Wakers to call once the world is unlocked.
    pub(crate) woken: Vec<Waker>,
    /// The deaths that come now are of a power loss.
    pub(crate) is_power_loss: bool,
    pub(crate) faults: Faults,
    pub(super) fault_lengths: Stream,
    pub(super) jitter: Stream,
    pub(super) counts: NetworkCounts,
    packets: BTreeMap<u64, Packet>,
    next_packet: u64,
}

/// What became of an arrival, for the trace and the counts.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    Delivered = 1,
    Undeliverable = 2,
    Overflowed = 3,
    Lost = 4,
    Held = 5,
}

impl NetworkState {
    pub(crate) fn new(seed: u64, model: NetworkModel) -> Self {
        Self {
            model,
            links: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            backlogs: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            dark: BTreeSet::new(),
            waiters: Waiters::default(),
            woken: Vec::new(),
            is_power_loss: false,
            faults: Faults::new(seed),
            fault_lengths: Stream::new(seed, StreamClass::NetworkFault),
            jitter: Stream::new(seed, StreamClass::NetworkJitter),
            counts: NetworkCounts::default(),
            packets: BTreeMap::new(),
            next_packet: 0,
        }
    }

    /// Everybody at a place is to try again.
    pub(super) fn wake(&mut self, place: Place) {
        self.woken.extend(self.waiters.take(place));
    }

    /// Keeps a message until it arrives; gives its number.
    pub(super) fn keep(&mut self, from: u32, to: u32, body: Body) -> u64 {
        let number = self.next_packet;
        self.next_packet += 1;
        self.packets.insert(number, Packet { from, to, body });
        number
    }

    /// Processes lost power, dead ones too.
    pub(crate) fn power_down<T>(&mut self, processes: impl Iterator<Item = (u32, T)>) {
        self.dark.extend(processes.map(|(number, _)| number));
    }

    /// A process that lost power runs again.
    pub(crate) fn power_up(&mut self, process: u32) {
        self.dark.remove(&process);
    }
}

impl State {
    /// The number of the process of this name.
    pub(super) fn process_named(&self, name: &str) -> Option<u32> {
        let found = self.processes.iter().skip(1).position(|process| process.name == name)?;
        Some(u32::try_from(found + 1).expect("fewer than 2^32 processes"))
    }

    /// Sends a message.
    pub(super) fn transmit(&mut self, from: u32, to: u32, body: Body) {
        let number = self.network.keep(from, to, body.clone());
        self.network.counts.sent += 1;
        let (kind, word) = body.words();
        self.trace.event(Event::Message, number, u64::from(from) << 32 | u64::from(to));
        self.trace.event(Event::Message, kind, word);
        self.trace.bytes(body.bytes());
        self.trace.log(|| format!("message {number} from {from} to {to}: {} bytes", body.bytes().len()));
        if !self.put_on_link(from, to, number, &body) {
            self.network.packets.remove(&number);
            self.tell_arrival(number, Arrival::Lost);
        }
    }

    fn tell_arrival(&mut self, number: u64, arrival: Arrival) {
        let counts = &mut self.network.counts;
        match arrival {
            Arrival::Delivered => counts.delivered += 1,
            Arrival::Undeliverable => counts.undeliverable += 1,
            Arrival::Overflowed => counts.overflowed += 1,
            Arrival::Lost => counts.lost += 1,
            Arrival::Held => {}
        }
        self.trace.event(Event::Arrival, number, arrival as u64);
        self.trace.log(|| format!("message {number}: {arrival:?}"));
    }

    /// A message has come to the end of its link.
    pub(crate) fn arrive(&mut self, number: u64) {
        let Some(packet) = self.network.packets.remove(&number) else {
            return;
        };
        let (from, to) = (packet.from, packet.to);
        if self.is_clogged(from, to) {
            if packet.body.is_datagram() {
                return self.tell_arrival(number, Arrival::Lost);
            }
            self.network.packets.insert(number, packet);
            self.network.links.entry((from, to)).or_default().held.push(number);
            return self.tell_arrival(number, Arrival::Held);
        }
        let arrival = match packet.body {
            _ if self.network.dark.contains(&to) => Arrival::Undeliverable,
            Body::Datagram { from_port, to_port, bytes } => {
                self.deliver(from, from_port, (to, to_port), bytes)
            }
            Body::Open { connection, to_port } => {
                self.open_asked(connection, to_port);
                Arrival::Delivered
            }
            Body::Part { connection, side, segment } => {
                if self.part_arrived(connection, side, segment) {
                    Arrival::Delivered
                } else {
                    Arrival::Undeliverable
                }
            }
        };
        self.tell_arrival(number, arrival);
    }

    fn deliver(&mut self, from: u32, from_port: u16, to: (u32, u16), bytes: Vec<u8>) -> Arrival {
        let most = self.network.model.mailbox_messages;
        let Some(mailbox) = self.network.mailboxes.get_mut(&to) else {
            return Arrival::Undeliverable;
        };
        if mailbox.waiting.len() >= most {
            return Arrival::Overflowed;
        }
        let sender = Address::new(self.processes[from as usize].name.as_str(), from_port);
        mailbox.waiting.push_back((sender, bytes));
        self.network.wake(Place::Mailbox(to.0, to.1));
        Arrival::Delivered
    }

    /// A process died: what it held on the network is closed, and peers are told unless it lost power.
    pub(crate) fn bury_network(&mut self, who: Who) {
        self.network.mailboxes.retain(|_, mailbox| mailbox.who != who);
        self.network.backlogs.retain(|_, backlog| backlog.who != who);
        let theirs: Vec<(u64, usize)> = self
            .network
            .connections
            .iter()
            .flat_map(|(number, state)| state.sides_of(*number, who))
            .collect();
        let tells = !self.network.is_power_loss;
        for (connection, side) in theirs {
            self.give_up_side(connection, side, tells);
        }
    }
}
