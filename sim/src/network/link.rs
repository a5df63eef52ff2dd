//! One direction between two processes: when a message arrives, and what a fault makes of it.

use super::model::LinkModel;
use super::traffic::Body;
use crate::fault::FaultClass;
use crate::schedule::Who;
use crate::state::State;
use crate::timers::Effect;
use crate::trace::Event;

/// See the module's header.
#[derive(Default)]
pub(super) struct Link {
    /// Its own model, if it was given one.
    pub(super) model: Option<LinkModel>,
    pub(super) is_clogged: bool,
    /// When it has transmitted everything.
    free_at: u64,
    /// Bytes that wait for their transmission.
    pub(super) queued_bytes: u64,
    /// When the last message that keeps the order arrives.
    last_arrival: u64,
    /// Parts of connections that arrived while it was clogged.
    pub(super) held: Vec<u64>,
}

/// What the faults make of a message.
#[derive(Default)]
struct Fate {
    is_lost: bool,
    /// It arrives so much later, and may be overtaken.
    overtaken: Option<u64>,
    /// It arrives so much later, and what is behind it waits.
    delay: u64,
    /// A copy arrives so much later than it.
    copy: Option<u64>,
}

/// The name of a link in filters and in what is told of faults.
pub(super) fn link_name(from: &str, to: &str) -> String {
    format!("from({from}) to({to})")
}

impl State {
    pub(super) fn link_model(&self, from: u32, to: u32) -> LinkModel {
        let own = self.network.links.get(&(from, to)).and_then(|link| link.model);
        own.unwrap_or(self.network.model.link)
    }

    pub(super) fn is_clogged(&self, from: u32, to: u32) -> bool {
        self.network.links.get(&(from, to)).is_some_and(|link| link.is_clogged)
    }

    /// True if a sender has to wait for the link.
    pub(super) fn is_queue_full(&self, from: u32, to: u32) -> bool {
        let queued = self.network.links.get(&(from, to)).map_or(0, |link| link.queued_bytes);
        queued > 0 && queued >= self.link_model(from, to).queue_bytes
    }

    /// Draws what the faults make of a message.
    fn fate(&mut self, from: u32, to: u32, packet: u64, body: &Body) -> Fate {
        let mut fate = Fate::default();
        if self.network.faults.is_quiet() {
            return fate;
        }
        let name = link_name(&self.processes[from as usize].name, &self.processes[to as usize].name);
        let len = body.len();
        let network = &mut self.network;
        let mut fires = |class| {
            let fires = network.faults.fires(class, &name);
            if fires {
                network.faults.note(class, &name, packet, len);
            }
            fires
        };
        let is_lost = fires(FaultClass::MessageLost);
        let is_copied = fires(FaultClass::MessageDuplicated);
        let is_reordered = fires(FaultClass::MessageReordered);
        let is_delayed = fires(FaultClass::MessageDelayed);
        let model = network.model;
        let lengths = &mut network.fault_lengths;
        if is_copied {
            fate.copy = Some(lengths.below(model.reorder_max_ns.max(1)));
        }
        if is_reordered {
            fate.overtaken = Some(1 + lengths.below(model.reorder_max_ns.max(1)));
        }
        if is_delayed {
            fate.delay = 1 + lengths.below(model.delay_max_ns.max(1));
        }
        if is_lost && body.is_datagram() {
            fate.is_lost = true;
        } else if is_lost {
            fate.overtaken = Some(fate.overtaken.unwrap_or(0) + model.retransmit_ns);
        }
        self.tell_network_faults();
        fate
    }

    /// When the link has transmitted so many bytes more.
    fn depart(&mut self, from: u32, to: u32, bytes: u64) -> u64 {
        let (now, model) = (self.now, self.link_model(from, to));
        let link = self.network.links.entry((from, to)).or_default();
        if model.bytes_per_second == 0 {
            return now;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(model.bytes_per_second);
        let nanos = u64::try_from(nanos).expect("a message is transmitted within 2^64 nanoseconds");
        link.free_at = link.free_at.max(now).saturating_add(nanos);
        let free_at = link.free_at;
        if free_at > now {
            link.queued_bytes += bytes;
            self.timers.add(free_at, Who::WORLD, Effect::Depart { from, to, bytes });
        }
        free_at
    }

    /// Bytes left the queue of a link.
    pub(crate) fn departed(&mut self, from: u32, to: u32, bytes: u64) {
        if let Some(link) = self.network.links.get_mut(&(from, to)) {
            link.queued_bytes -= bytes;
        }
        self.network.wake(super::waiting::Place::Queue(from, to));
    }

    /// Puts a message on its way. Gives false if it will never arrive.
    pub(super) fn put_on_link(&mut self, from: u32, to: u32, packet: u64, body: &Body) -> bool {
        let fate = self.fate(from, to, packet, body);
        let departs = self.depart(from, to, body.len());
        let model = self.link_model(from, to);
        let jitter = if model.jitter_ns > 0 { self.network.jitter.below(model.jitter_ns + 1) } else { 0 };
        if fate.is_lost || body.is_datagram() && self.is_clogged(from, to) {
            return false;
        }
        let mut arrives = departs.saturating_add(model.latency_ns).saturating_add(jitter);
        arrives = arrives.saturating_add(fate.delay);
        let link = self.network.links.entry((from, to)).or_default();
        if let Some(later) = fate.overtaken {
            arrives = arrives.max(link.last_arrival).saturating_add(later);
        } else {
            arrives = arrives.max(link.last_arrival);
            link.last_arrival = arrives;
        }
        self.timers.add(arrives, Who::WORLD, Effect::Arrive { packet });
        if let Some(later) = fate.copy {
            let copy = self.network.keep(from, to, body.clone());
            self.timers.add(arrives.saturating_add(later), Who::WORLD, Effect::Arrive { packet: copy });
        }
        true
    }

    /// Clogs a link, or opens it; what waited arrives one latency later, in its order.
    pub(super) fn set_clogged(&mut self, from: u32, to: u32, is_clogged: bool) {
        let latency = self.link_model(from, to).latency_ns;
        let link = self.network.links.entry((from, to)).or_default();
        link.is_clogged = is_clogged;
        let held = if is_clogged { Vec::new() } else { std::mem::take(&mut link.held) };
        for packet in held {
            self.timers.add(self.now.saturating_add(latency), Who::WORLD, Effect::Arrive { packet });
        }
        self.trace.event(Event::Outside, 8 + u64::from(is_clogged), u64::from(from) << 32 | u64::from(to));
        self.trace.log(|| format!("link {from} to {to} {}", if is_clogged { "clogs" } else { "opens" }));
    }
}
