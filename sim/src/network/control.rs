//! The network as a test sees it, from outside of every process: shape it, cut it, ask for faults, count.

use std::sync::Arc;

use super::link::link_name;
use super::model::{LinkModel, NetworkCounts, NetworkModel};
use crate::fault::{FaultClass, FiredFault, Trigger};
use crate::options::Ratio;
use crate::state::{Shared, State};
use crate::trace::Event;

/// The network of the world. Processes are named; each must have been started once by `World::process`.
#[derive(Clone)]
pub struct Network {
    pub(crate) shared: Arc<Shared>,
}

fn number(state: &State, name: &str) -> u32 {
    match state.process_named(name) {
        Some(number) => number,
        None => panic!("network: there is no process {name}; start it with World::process first"),
    }
}

fn check(class: FaultClass) {
    assert!(class.is_of_network(), "network: {class:?} is a fault of disks; ask a SimDisk for it");
}

impl Network {
    /// Replaces the bounds and times from now on. Connections keep the window that they began with.
    pub fn set_model(&self, model: NetworkModel) {
        self.shared.state.lock().network.model = model;
    }

    /// Gives one direction a model of its own from now on; `None` takes it back.
    ///
    /// # Panics
    /// If a process was never started.
    pub fn set_link(&self, from: &str, to: &str, model: Option<LinkModel>) {
        let mut state = self.shared.state.lock();
        let ends = (number(&state, from), number(&state, to));
        state.network.links.entry(ends).or_default().model = model;
    }

    /// Cuts one direction. Datagrams on it are lost, those on their way included; parts of connections wait.
    ///
    /// # Panics
    /// If a process was never started.
    pub fn clog(&self, from: &str, to: &str) {
        self.set_clogged(from, to, true);
    }

    /// Opens one direction again; parts of connections that waited arrive one latency later.
    ///
    /// # Panics
    /// If a process was never started.
    pub fn heal(&self, from: &str, to: &str) {
        self.set_clogged(from, to, false);
    }

    fn set_clogged(&self, from: &str, to: &str, is_clogged: bool) {
        let mut state = self.shared.state.lock();
        let (from, to) = (number(&state, from), number(&state, to));
        state.set_clogged(from, to, is_clogged);
    }

    /// Cuts both directions between each process of one side and each of the other.
    ///
    /// # Panics
    /// If a process was never started.
    pub fn partition(&self, one_side: &[&str], other_side: &[&str]) {
        for one in one_side {
            for other in other_side {
                self.clog(one, other);
                self.clog(other, one);
            }
        }
    }

    /// Opens every link.
    pub fn heal_all(&self) {
        let mut state = self.shared.state.lock();
        let clogged: Vec<(u32, u32)> =
            state.network.links.iter().filter(|(_, link)| link.is_clogged).map(|(ends, _)| *ends).collect();
        for (from, to) in clogged {
            state.set_clogged(from, to, false);
        }
    }

    /// Breaks every connection between two processes: both ends are reset at once.
    ///
    /// # Panics
    /// If a process was never started.
    pub fn reset_connections(&self, one: &str, other: &str) {
        self.shared.with_network(|state| {
            let mut ends = [number(state, one), number(state, other)];
            ends.sort_unstable();
            state.trace.event(Event::Outside, 10, u64::from(ends[0]) << 32 | u64::from(ends[1]));
            state.trace.log(|| format!("connections between {one} and {other} are reset"));
            state.reset_between(ends);
        });
    }

    /// Asks for a fault at messages on any link; `ConnectionReset` counts the frames that are sent.
    ///
    /// # Panics
    /// If it is not a fault of the network.
    pub fn inject(&self, class: FaultClass, trigger: Trigger) {
        self.inject_on(class, "", trigger);
    }

    /// Asks for a fault at messages from one process to another.
    ///
    /// # Panics
    /// If it is not a fault of the network.
    pub fn inject_between(&self, class: FaultClass, from: &str, to: &str, trigger: Trigger) {
        self.inject_on(class, &link_name(from, to), trigger);
    }

    /// Asks for a fault at messages on links whose name contains `name_part`. The link from a to b has the name
    /// `from(a) to(b)`.
    ///
    /// # Panics
    /// If it is not a fault of the network.
    pub fn inject_on(&self, class: FaultClass, name_part: &str, trigger: Trigger) {
        check(class);
        self.shared.state.lock().network.faults.inject(class, name_part, trigger);
    }

    /// Lets a fault fire at random.
    ///
    /// # Panics
    /// If it is not a fault of the network.
    pub fn set_fault_rate(&self, class: FaultClass, rate: Ratio) {
        check(class);
        self.shared.state.lock().network.faults.set_rate(class, rate);
    }

    /// Ends every fault, asked for or at random. Clogged links stay so: see [`Self::heal_all`].
    pub fn clear_faults(&self) {
        self.shared.state.lock().network.faults.clear();
    }

    /// How often the class fired.
    pub fn faults_fired(&self, class: FaultClass) -> u64 {
        self.shared.state.lock().network.faults.fired(class)
    }

    /// The faults that fired, in their order: the name is the link's, the offset the number of the message (of the
    /// connection, for a reset), the length its bytes with headers.
    pub fn fired_faults(&self) -> Vec<FiredFault> {
        self.shared.state.lock().network.faults.notes().to_vec()
    }

    /// What became of all messages so far.
    pub fn counts(&self) -> NetworkCounts {
        self.shared.state.lock().network.counts
    }
}
