//! The simulated network: datagrams and connections between processes, over directed links with faults of their own.
//!
//! ```text
//! Endpoint      bind, send, receive            a message arrives whole, late, twice, out of order, or never
//! Connection    listen, accept, connect,       frames arrive whole, once and in order, until an end or a reset
//!               send, receive, close
//! ```
//! Each ordered pair of processes is a link: so fast, so long, so wide, clogged or not. A link keeps messages in the
//! order in which they were sent, unless a fault says otherwise; jitter lets them bunch up, never overtake.
//!
//! - **Connections** are built over the same links: segments are numbered for each direction and put back into order on
//!   arrival, so loss is a delay, a duplicate is nothing, and a clogged link is a wait until it heals. A receiver
//!   grants a window of bytes, and gives it back as it takes frames: a sender that is ahead of it waits, and so does
//!   one whose way back is clogged.
//! - **Death.** A kill closes what the process held, as an operating system would: peers read what it had sent, then
//!   the end, or a reset if it had not read everything. A power loss tells nobody: peers learn by their own time-outs,
//!   or by a reset once the process runs again and they send. What a dead process had sent still arrives.
//! - **Bounds.** Mailboxes, backlogs, windows and the queue in front of a slow link are bounded. A full mailbox drops
//!   the message; the others make the sender wait, or refuse the connection.
//!
//! Invariants: whoever waits at a place is woken by every change there, so no wake-up is lost, whichever future is
//! dropped; each message enters the trace with its bytes, and each arrival with its outcome; nothing is drawn from a
//! fault's stream while no fault is asked for.

mod control;
mod connection;
mod datagram;
mod link;
mod model;
mod segment;
mod traffic;
mod waiting;

use std::fmt;
use std::sync::Arc;

use crate::schedule::Who;
use crate::state::Shared;

pub use connection::{Connection, Listener};
pub use control::Network;
pub use datagram::Endpoint;
pub use model::{LinkModel, NetworkCounts, NetworkModel};
pub(crate) use traffic::NetworkState;

/// Where a message goes, or comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    /// Name of the process.
    pub process: String,
    /// Port there. Endpoints and listeners have ports of their own kind: both may have the same number.
    pub port: u16,
}

impl Address {
    /// The address of a port of a process.
    pub fn new(process: impl Into<String>, port: u16) -> Self {
        Self { process: process.into(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.process, self.port)
    }
}

/// Why the network refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkError {
    /// Another endpoint or listener of this process has the port.
    AddressInUse,
    /// The message is longer than `message_max_bytes` of [`NetworkModel`], or the frame than its `window_bytes`.
    TooLarge,
    /// Nobody listens there, or the backlog is full.
    Refused,
    /// No answer within `connect_timeout_ns` of [`NetworkModel`]: a partition, a machine that is off, or no such
    /// process.
    TimedOut,
    /// The connection was broken: by the peer, by its death, or by a fault. Frames on their way are lost.
    Reset,
    /// This end was closed by [`Connection::close`].
    Closed,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressInUse => "the port is in use in this process",
            Self::TooLarge => "the message is longer than the network's model allows",
            Self::Refused => "the connection was refused",
            Self::TimedOut => "the connection was not answered in time",
            Self::Reset => "the connection was reset",
            Self::Closed => "this end of the connection was closed",
        })
    }
}

impl std::error::Error for NetworkError {}

/// The network as one life of one process sees it. Inert once that life has ended: calls never complete.
#[derive(Clone)]
pub struct ProcessNetwork {
    pub(crate) shared: Arc<Shared>,
    pub(crate) who: Who,
}
