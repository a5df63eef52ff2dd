//! What clients did and what they were told: the evidence that every oracle judges.
//!
//! A history is a list of transactions in the order in which they began. Single reads and writes are transactions of
//! one operation. Every value ever written carries a [`Stamp`], the transaction and the operation that wrote it, so a
//! read says by itself whose write it saw, and a value that nobody wrote is noticed at once. What a client was told
//! stands here as it was told; what happened in truth is for the oracles to find out.
//!
//! Time is a counter of the history's own: each beginning and each end takes the next number. It orders what one
//! observer saw, so "ended before that one began" means what it says, on a simulated disk as on a real one.

mod change;

use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use change::Change;

/// Number of a transaction: its place in the history.
pub type TxnNo = u32;

/// Who wrote a value: an operation of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Stamp {
    /// The transaction.
    pub txn: TxnNo,
    /// Which of its operations.
    pub operation: u32,
}

/// A key of a keyspace. Keyspaces go by the kernel's number, which is never used twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// The keyspace.
    pub keyspace: u32,
    /// The key.
    pub key: Arc<[u8]>,
}

/// What a value says, behind its stamp.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// So many bytes that follow from the stamp.
    Filler(u32),
    /// A number: a balance, a counter.
    Number(i64),
    /// A list that only ever grows at its end.
    List(Arc<[u32]>),
    /// A row of numbers.
    Row(Arc<[i64]>),
}

/// A value as it was written or read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    /// Who wrote it.
    pub stamp: Stamp,
    /// What it says.
    pub body: Body,
}

/// From one key to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub start: Bound<Arc<[u8]>>,
    /// The upper end.
    pub end: Bound<Arc<[u8]>>,
}

impl Interval {
    /// All keys.
    pub const ALL: Self = Self { start: Bound::Unbounded, end: Bound::Unbounded };

    /// Only this key.
    pub fn of_key(key: &Arc<[u8]>) -> Self {
        Self { start: Bound::Included(Arc::clone(key)), end: Bound::Included(Arc::clone(key)) }
    }

    /// True if the key lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        let above = match &self.start {
            Bound::Included(start) => key >= &**start,
            Bound::Excluded(start) => key > &**start,
            Bound::Unbounded => true,
        };
        let below = match &self.end {
            Bound::Included(end) => key <= &**end,
            Bound::Excluded(end) => key < &**end,
            Bound::Unbounded => true,
        };
        above && below
    }

    /// True if no key lies in it.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
            _ => false,
        }
    }
}

/// A key with what stands there.
pub type Entry = (Arc<[u8]>, Value);

/// One thing that a transaction did, with what it was told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Read one key.
    Get {
        /// Which.
        cell: Cell,
        /// What was there.
        found: Option<Value>,
    },
    /// Walked over a range.
    Scan {
        /// In this keyspace.
        keyspace: u32,
        /// Over these keys.
        interval: Interval,
        /// From the upper end.
        reverse: bool,
        /// What was there, in the order of the walk.
        found: Vec<Entry>,
        /// The walk came to the end of the interval; else it ended behind the last entry found.
        complete: bool,
    },
    /// Wrote one key.
    Put {
        /// Which.
        cell: Cell,
        /// With what.
        value: Value,
    },
    /// Deleted one key.
    Delete {
        /// Which.
        cell: Cell,
    },
    /// Deleted a range.
    DeleteRange {
        /// In this keyspace.
        keyspace: u32,
        /// These keys.
        interval: Interval,
    },
}

impl Operation {
    /// True if it changes something.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. } | Self::DeleteRange { .. })
    }
}

/// What was promised to a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// Reads of one consistent view that was current when it began, no check: a snapshot, or a read of its own.
    View,
    /// Reads of one consistent view of whatever age: a state of the past, a copy, what a process beside the writer sees.
    Past,
    /// Writes, all or none, checked against nobody; reads nothing.
    Batch,
    /// One view, and the first committer wins.
    Snapshot,
    /// As if transactions ran one at a time.
    Serializable,
}

/// How far a commit's promise reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durable {
    /// Nothing yet.
    Buffered,
    /// It outlives the process.
    Flush,
    /// It outlives a power loss.
    Sync,
}

/// What a client was told at the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Committed, with this number in the order of commits. A transaction that wrote nothing has the number of its view.
    Committed(u64),
    /// Refused for a conflict: it has no effect.
    Conflict,
    /// Refused, or rolled back: it has no effect.
    Refused(String),
    /// Nothing was told, or "unknown": it has all of its effect, or none.
    Unknown,
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Which client's.
    pub client: u32,
    /// In which opening of the database, counted from 0.
    pub opening: u32,
    /// What was promised.
    pub promise: Promise,
    /// How durable its commit was to be.
    pub durable: Durable,
    /// The commit whose state it reads, if it reads. Of a read that is not told its view, the last commit that was
    /// there when it began.
    pub view: Option<u64>,
    /// Of a read that is not told its view: the last commit that was there when it ended. Its view lies between.
    pub view_at_most: Option<u64>,
    /// It read more than stands here, for a read was given up: a conflict may come from that.
    pub blurred: bool,
    /// When it began.
    pub began: u64,
    /// When its commit was asked for; before that it had no effect for certain. `None` if it never was.
    pub committing: Option<u64>,
    /// When its end was told. `None` if it never was.
    pub ended: Option<u64>,
    /// What it did, in order.
    pub operations: Vec<Operation>,
    /// How it ended.
    pub ending: Ending,
}

impl Transaction {
    /// True if it changed something, or tried to.
    pub fn writes(&self) -> bool {
        self.operations.iter().any(Operation::is_write)
    }
}

/// Something that happened to the database beside transactions. Keyspaces go by their number in the script, and by the
/// kernel's once it is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// Everything up to this commit is durable: a sync, flush or close was acknowledged.
    Synced(u64),
    /// A keyspace is being created.
    Creating(u8),
    /// It is there.
    Created(u8, u32),
    /// A keyspace is being dropped.
    Dropping(u32),
    /// It is gone.
    Dropped(u32),
    /// The opening ended with its process, or by dropping the handles.
    Killed,
    /// The opening ended by a power loss.
    PowerLost,
    /// The opening was closed.
    Closed,
    /// The disk as it is now was copied; copies are counted from 0.
    CopyKept(usize),
    /// With nobody using it the disk was replaced, by this copy or by an empty one.
    Replaced(Option<usize>),
    /// The next opening is there: the last commit it has, and its keyspaces. What stands in them follows as scans of
    /// the [`SURVEYOR`].
    Opened(u64, Vec<(u8, u32)>),
}

/// The client that reads everything after each opening.
pub const SURVEYOR: u32 = u32::MAX;

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order in which they began.
    pub transactions: Vec<Transaction>,
    /// With their times.
    pub milestones: Vec<(u64, Milestone)>,
    clock: u64,
}

impl History {
    /// The next instant.
    pub fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Notes that a transaction begins; gives its number.
    pub fn begin(&mut self, client: u32, opening: u32, promise: Promise, durable: Durable) -> TxnNo {
        let began = self.tick();
        let number = TxnNo::try_from(self.transactions.len()).expect("fewer than 2^32 transactions");
        self.transactions.push(Transaction {
            client,
            opening,
            promise,
            durable,
            view: None,
            view_at_most: None,
            blurred: false,
            began,
            committing: None,
            ended: None,
            operations: Vec::new(),
            ending: Ending::Refused("it never came to its commit".to_owned()),
        });
        number
    }

    /// The transaction of this number.
    pub fn of(&mut self, number: TxnNo) -> &mut Transaction {
        &mut self.transactions[number as usize]
    }

    /// Notes what a transaction did; gives the number of the operation.
    pub fn did(&mut self, number: TxnNo, operation: Operation) -> u32 {
        let operations = &mut self.of(number).operations;
        operations.push(operation);
        u32::try_from(operations.len() - 1).expect("fewer than 2^32 operations")
    }

    /// Notes that its commit is asked for: from now on it may have an effect.
    pub fn commits(&mut self, number: TxnNo) {
        let now = self.tick();
        let transaction = self.of(number);
        transaction.committing = Some(now);
        transaction.ending = Ending::Unknown;
    }

    /// Notes what a client was told at the end.
    pub fn ends(&mut self, number: TxnNo, ending: Ending) {
        let now = self.tick();
        let transaction = self.of(number);
        transaction.ended = Some(now);
        transaction.ending = ending;
    }

    /// Notes a milestone.
    pub fn passes(&mut self, milestone: Milestone) {
        let now = self.tick();
        self.milestones.push((now, milestone));
    }
}
