//! What the network is like without faults: links, bounds and times, all integers.

/// One direction between two processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkModel {
    /// Nanoseconds from the end of the transmission to the arrival.
    pub latency_ns: u64,
    /// Up to so many nanoseconds more, drawn for each message. Never lets one overtake another.
    pub jitter_ns: u64,
    /// Bytes a second that the link transmits; 0 is without limit.
    pub bytes_per_second: u64,
    /// Bytes that may wait for their transmission; a sender waits while there are more. At least one message always
    /// fits.
    pub queue_bytes: u64,
}

impl Default for LinkModel {
    /// A local network that is never the bottleneck.
    fn default() -> Self {
        Self { latency_ns: 100_000, jitter_ns: 20_000, bytes_per_second: 0, queue_bytes: 1 << 20 }
    }
}

/// Bounds and times that all links share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetworkModel {
    /// Links that were not given a model of their own.
    pub link: LinkModel,
    /// Longest datagram, in bytes.
    pub message_max_bytes: u64,
    /// Datagrams that wait in an endpoint; further ones are dropped.
    pub mailbox_messages: usize,
    /// Connections that wait to be accepted; further ones are refused.
    pub backlog: usize,
    /// Bytes of frames on their way or not yet received, in each direction of a connection. A frame counts its bytes
    /// and 32 more.
    pub window_bytes: u64,
    /// How much later a part of a connection arrives that was lost and sent again.
    pub retransmit_ns: u64,
    /// How long a connection attempt waits for its answer.
    pub connect_timeout_ns: u64,
    /// A delayed message arrives up to so much later, and those behind it on its link with it.
    pub delay_max_ns: u64,
    /// A reordered message, and the copy of a duplicated one, arrive up to so much later; those behind it do not wait.
    pub reorder_max_ns: u64,
}

impl Default for NetworkModel {
    fn default() -> Self {
        Self {
            link: LinkModel::default(),
            message_max_bytes: 1 << 20,
            mailbox_messages: 1024,
            backlog: 128,
            window_bytes: 1 << 20,
            retransmit_ns: 200_000_000,
            connect_timeout_ns: 5_000_000_000,
            delay_max_ns: 500_000_000,
            reorder_max_ns: 2_000_000,
        }
    }
}

/// What became of everything that was sent. Parts of connections count as messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetworkCounts {
    /// Messages sent, copies by a fault not counted.
    pub sent: u64,
    /// Messages that reached what they were meant for.
    pub delivered: u64,
    /// Datagrams that a fault or a clogged link swallowed.
    pub lost: u64,
    /// Datagrams that met a full mailbox.
    pub overflowed: u64,
    /// Messages to nobody: no such process, port or connection any more, or a machine without power.
    pub undeliverable: u64,
}
