//! What clients do: a language of steps that every workload is written in.
//!
//! A step is a transaction, a single call, or a wait. It names keys and keyspaces by small numbers, so that any list of
//! steps is a script that can run: what is not there makes a step do nothing. That is what lets a script be cut to
//! pieces and still mean what it meant. Writes that depend on reads are actions of their own ([`Action::Move`],
//! [`Action::Append`]), for the same reason.

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::history::Durable;
use crate::tpcc::Profile;

/// What a step reads through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum View {
    /// Each read by itself.
    Now,
    /// One snapshot for all reads of the step.
    Snapshot,
    /// The state so many numbers of commits back.
    Past(u16),
    /// The state of an acknowledged commit that has to be kept: so many before the newest one, round and round.
    PastCommits(u16),
}

/// How a transaction is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Level {
    /// `Isolation::Snapshot`.
    Snapshot,
    /// `Isolation::Serializable`.
    Serializable,
}

/// What becomes of a transaction at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Finish {
    /// It is committed.
    Commit,
    /// It is rolled back.
    RollBack,
}

/// What is walked over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// All keys.
    Everything,
    /// Keys that start with the first bytes of this key.
    Prefix {
        /// This key.
        key: u16,
        /// So many bytes of it.
        bytes: u8,
    },
    /// From one key to another, in whichever order, each included or not.
    Between {
        /// One end.
        from: u16,
        /// It is included.
        with_from: bool,
        /// The other.
        to: u16,
        /// It is included.
        with_to: bool,
    },
    /// What comes behind a key in the direction of the walk.
    After(u16),
}

/// A walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Walk {
    /// Over what.
    pub shape: Shape,
    /// From the upper end.
    pub reverse: bool,
    /// The scan's own limit.
    pub limit: Option<u8>,
    /// Whoever walks stops after so many entries.
    pub steps: Option<u8>,
    /// Time passes on the way, with the cursor and every value so far held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

impl Walk {
    /// Over all keys, from the first to the last.
    pub const WHOLE: Self =
        Self { shape: Shape::Everything, reverse: false, limit: None, steps: None, hold: None };
}

/// Where a walk rests, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Behind so many entries, or at the end if there are fewer.
    pub entries: u8,
    /// So many microseconds.
    pub us: u32,
}

/// One thing that a step does. Keyspaces and keys are taken modulo what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Reads a key.
    Get(u8, u16),
    /// Walks.
    Scan(u8, Walk),
    /// Writes a value of so many bytes.
    Put(u8, u16, u32),
    /// Deletes a key.
    Delete(u8, u16),
    /// Deletes from one key up to another, which stays.
    DeleteRange(u8, u16, u16),
    /// Reads two balances and moves an amount from the first to the second, if the first has it. A key without a
    /// balance has [`crate::storm::BALANCE`] of it.
    Move(u8, u16, u16, u16),
    /// Reads a list and writes it longer by one element.
    Append(u8, u16),
    /// Reads a number and writes it greater by one.
    Increment(u8, u16),
    /// Puts an element at the end of the queue.
    Push(u8),
    /// Takes the element at the queue's head.
    Pop(u8),
    /// A transaction of TPC-C, within the one that the step is.
    Tpcc(Profile),
    /// Lets so many microseconds pass, with whatever the step has open held open.
    Pause(u32),
}

impl Action {
    /// True if it needs a transaction's view, for it reads or depends on what it reads.
    pub fn reads(&self) -> bool {
        !matches!(self, Self::Put(..) | Self::Delete(..) | Self::DeleteRange(..))
    }

    /// True if it may write.
    pub fn writes(&self) -> bool {
        match self {
            Self::Get(..) | Self::Scan(..) | Self::Pause(..) => false,
            Self::Tpcc(profile) => profile.writes(),
            _ => true,
        }
    }

    /// How long it rests, in microseconds.
    fn rest_us(&self) -> u64 {
        match self {
            Self::Pause(us) => u64::from(*us),
            Self::Scan(_, walk) => walk.hold.map_or(0, |hold| u64::from(hold.us)),
            _ => 0,
        }
    }

    /// Bytes of the value that it writes, if it says how many.
    fn value_bytes(&self, most: u32) -> u64 {
        if let Self::Put(_, _, bytes) = self { u64::from(*bytes.min(&most)) } else { 0 }
    }

    /// What it adds to the length of a script.
    fn operations(&self) -> u64 {
        if let Self::Tpcc(profile) = self { profile.operations() } else { 1 }
    }
}

/// What a client does in one go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// A transaction.
    Transact {
        /// How it is protected.
        level: Level,
        /// What its commit promises.
        durable: Durable,
        /// What it does; another client may come between any two.
        actions: Vec<Action>,
        /// How it ends.
        finish: Finish,
    },
    /// Writes, all or none, checked against nobody. What reads is left out.
    Batch {
        /// What it promises.
        durable: Durable,
        /// What it writes.
        actions: Vec<Action>,
    },
    /// Reads. What writes is left out.
    Read {
        /// Through what.
        view: View,
        /// What it reads.
        actions: Vec<Action>,
    },
    /// Flushes everything to tables.
    Flush,
    /// Compacts everything.
    Compact,
    /// Makes everything so far durable.
    Sync,
    /// Waits so many microseconds.
    Wait(u32),
    /// Creates the keyspace of this number, unless it is there.
    CreateKeyspace(u8),
    /// Drops the keyspace of this number; that of number 0 stays.
    DropKeyspace(u8),
    /// Makes a checkpoint in another directory, opens it, compares all of it, and removes it.
    Checkpoint,
    /// The same by copying.
    Backup,
    /// Verifies every file.
    Verify,
    /// Opens the directory read-only beside the writer and reads all of it.
    Look,
    /// Looks from beside, waits so many microseconds, and makes a copy of what it saw, as [`Call::Backup`] does.
    BackupBeside(u32),
}

/// A call, and how long its futures are kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is done.
    pub call: Call,
    /// When each future of it is dropped, if it has not ended. `None` lets all of them end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<Patience>,
}

/// When a future is dropped that has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Patience {
    /// As soon as it was polled once more than so often.
    Polls(u8),
    /// When it was woken once more than so often: what it was woken for it never sees.
    Wakes(u8),
}

impl Step {
    /// A call whose futures are awaited to their end.
    pub fn patient(call: Call) -> Self {
        Self { call, patience: None }
    }

    fn actions(&self) -> Option<&[Action]> {
        match &self.call {
            Call::Transact { actions, .. } | Call::Batch { actions, .. } | Call::Read { actions, .. } => {
                Some(actions)
            }
            _ => None,
        }
    }

    /// Its actions, or the one call.
    pub fn operations(&self) -> u64 {
        self.actions().map_or(1, |actions| actions.iter().map(Action::operations).sum())
    }

    fn rest_us(&self) -> u64 {
        match &self.call {
            Call::Wait(us) | Call::BackupBeside(us) => u64::from(*us),
            _ => self.actions().unwrap_or_default().iter().map(Action::rest_us).sum(),
        }
    }

    /// True if it is to commit something.
    pub fn commits_writes(&self) -> bool {
        match &self.call {
            Call::Transact { actions, finish, .. } => {
                *finish == Finish::Commit && actions.iter().any(Action::writes)
            }
            Call::Batch { actions, .. } => actions.iter().any(Action::writes),
            _ => false,
        }
    }
}

/// A script: the steps of each client.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// How many keys there are in a keyspace, at least 1.
    pub keys: u16,
    /// By client.
    pub clients: Vec<Vec<Step>>,
}

impl Script {
    /// Steps of all clients.
    pub fn steps(&self) -> u64 {
        self.clients.iter().map(|steps| steps.len() as u64).sum()
    }

    /// Operations: actions of transactions, batches and reads, and every other call.
    pub fn operations(&self) -> u64 {
        self.clients.iter().flatten().map(Step::operations).sum()
    }

    /// Checks that it can be run with these settings, in bounded time and memory.
    ///
    /// # Errors
    /// In words: the field, its value and the limit.
    pub fn check(&self, settings: &Settings) -> Result<(), String> {
        if self.keys == 0 {
            return Err("script.keys is 0, but must be at least 1".to_owned());
        }
        let clients = self.clients.len();
        if clients > CLIENTS_MAX {
            return Err(format!(
                "the number of script.clients is {clients}, but must not be above {CLIENTS_MAX}"
            ));
        }
        for (number, steps) in self.clients.iter().enumerate() {
            let rest_us: u64 = steps.iter().map(Step::rest_us).sum();
            if rest_us > REST_US_MAX {
                return Err(format!(
                    "the waits, pauses and holds of script.clients[{number}] come to {rest_us} microseconds, but may only \
                     come to {REST_US_MAX}"
                ));
            }
        }
        let (most, steps) = (settings.value_bytes_max(), self.clients.iter().flatten());
        let actions = steps.flat_map(|step| step.actions().unwrap_or_default());
        let bytes: u64 = actions.map(|action| action.value_bytes(most)).sum();
        if bytes > VALUE_BYTES_MAX {
            return Err(format!(
                "the values that script.clients put come to {bytes} bytes, but may only come to {VALUE_BYTES_MAX}"
            ));
        }
        Ok(())
    }
}

/// Most clients: each is a task of its own.
const CLIENTS_MAX: usize = 1000;
/// Longest rest of one client in all its steps, in microseconds: ten minutes, for a run must end.
const REST_US_MAX: u64 = 600_000_000;
/// Most bytes of values, for the simulated disk is memory.
const VALUE_BYTES_MAX: u64 = 512 << 20;

/// Names of the keyspaces, by number.
pub const KEYSPACES: [&str; 3] = ["default", "alpha", "beta"];

/// Keys of several shapes: the empty one, long common prefixes, extensions of one another, bytes at both ends.
pub fn key_of(index: u16) -> Vec<u8> {
    let [high, low] = index.to_be_bytes();
    match index % 5 {
        _ if index == 0 => Vec::new(),
        0 => format!("k{index:03}").into_bytes(),
        1 => format!("k{:03}/x", index - 1).into_bytes(),
        2 => format!("a common prefix that is long/{index}").into_bytes(),
        3 => vec![0xff, 0xff, high, low],
        _ => vec![0, high, low, 0],
    }
}
