//! Datagrams: an [`Endpoint`] of a process sends to any address, and receives what arrives at its port.

use std::collections::VecDeque;

use super::traffic::{Body, Mailbox};
use super::waiting::{Attempt, Place, Step};
use super::{Address, NetworkError, ProcessNetwork};
use crate::state::State;

/// A port of a process, for datagrams. Dropping it frees the port; what waited there is lost.
pub struct Endpoint {
    network: ProcessNetwork,
    port: u16,
}

impl ProcessNetwork {
    /// Takes a port for datagrams.
    ///
    /// # Errors
    /// [`NetworkError::AddressInUse`].
    pub fn bind(&self, port: u16) -> Result<Endpoint, NetworkError> {
        let mut state = self.shared.state.lock();
        if state.is_alive(self.who) {
            let mailboxes = &mut state.network.mailboxes;
            if mailboxes.contains_key(&(self.who.process, port)) {
                return Err(NetworkError::AddressInUse);
            }
            let mailbox = Mailbox { who: self.who, waiting: VecDeque::new() };
            mailboxes.insert((self.who.process, port), mailbox);
        }
        Ok(Endpoint { network: self.clone(), port })
    }

    fn name(&self) -> String {
        self.shared.state.lock().processes[self.who.process as usize].name.clone()
    }

    pub(super) fn address(&self, port: u16) -> Address {
        Address::new(self.name(), port)
    }
}

impl Endpoint {
    /// Where it is reached.
    pub fn address(&self) -> Address {
        self.network.address(self.port)
    }

    /// Sends a message, and waits only for room in the queue of a slow link. Whether it arrives nobody tells; to an
    /// address where nobody is, it does not.
    ///
    /// # Errors
    /// [`NetworkError::TooLarge`].
    pub async fn send(&self, to: &Address, bytes: &[u8]) -> Result<(), NetworkError> {
        let who = self.network.who;
        let mut bytes = Some(bytes.to_vec());
        Attempt::new(&self.network.shared, who, move |state: &mut State| {
            let len = bytes.as_ref().map_or(0, Vec::len) as u64;
            if len > state.network.model.message_max_bytes {
                return Step::Done(Err(NetworkError::TooLarge));
            }
            let Some(target) = state.process_named(&to.process) else {
                state.network.counts.sent += 1;
                state.network.counts.undeliverable += 1;
                return Step::Done(Ok(()));
            };
            if state.is_queue_full(who.process, target) {
                return Step::Wait(Place::Queue(who.process, target));
            }
            let bytes = bytes.take().unwrap_or_default();
            let body = Body::Datagram { from_port: self.port, to_port: to.port, bytes };
            state.transmit(who.process, target, body);
            Step::Done(Ok(()))
        })
        .await
    }

    /// The next message that arrived here, and where it came from.
    pub async fn receive(&self) -> (Address, Vec<u8>) {
        let place = (self.network.who.process, self.port);
        Attempt::new(&self.network.shared, self.network.who, move |state: &mut State| {
            let waiting = state.network.mailboxes.get_mut(&place).map(|mailbox| &mut mailbox.waiting);
            match waiting.and_then(VecDeque::pop_front) {
                Some(message) => Step::Done(message),
                None => Step::Wait(Place::Mailbox(place.0, place.1)),
            }
        })
        .await
    }

    /// A message, if one has arrived.
    pub fn try_receive(&self) -> Option<(Address, Vec<u8>)> {
        let mut state = self.network.shared.state.lock();
        let mailbox = state.network.mailboxes.get_mut(&(self.network.who.process, self.port))?;
        if mailbox.who == self.network.who { mailbox.waiting.pop_front() } else { None }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let key = (self.network.who.process, self.port);
        let mut state = self.network.shared.state.lock();
        if state.network.mailboxes.get(&key).is_some_and(|mailbox| mailbox.who == self.network.who) {
            state.network.mailboxes.remove(&key);
        }
    }
}
