//! The event log as data: each line with what it is about, for whoever draws a run or looks for something in it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::fault::FaultClass;

/// A line of the event log; as text, what [`Display`](fmt::Display) gives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// Number of the event that it belongs to, counted from 1 over the whole run.
    pub event: u64,
    /// When it happened, in simulated nanoseconds.
    pub at_ns: u64,
    /// Number of the task that had the turn, or was the last to have it.
    pub task: u64,
    /// The name of that task.
    pub task_name: Cow<'static, str>,
    /// In words.
    pub text: String,
    /// What it is about.
    pub detail: Detail,
}

/// What a line is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// Nothing that has a form of its own.
    Text,
    /// Said by whoever uses the world.
    Note,
    /// A disk call was made.
    Call {
        /// Which.
        operation: Cow<'static, str>,
        /// The path, or the name of an open file.
        name: String,
        /// Number of the file, if one is open.
        file: Option<u64>,
        /// Where in it, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// What it writes is durable when it is answered.
        is_durable: bool,
        /// It was refused.
        is_refused: bool,
    },
    /// A fault fired.
    Fault {
        /// Its class.
        class: FaultClass,
        /// The file's name, without its directory.
        name: String,
        /// Where in it, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// What became of an unsynced change at a power loss.
    Survivor {
        /// Number of the file.
        file: u64,
        /// Where in it, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// Runs of its sectors that are on the medium, counted from the first that it touches.
        runs: Vec<Range<u64>>,
    },
    /// A process died.
    Died {
        /// Its number.
        process: u32,
    },
    /// Power was lost.
    PowerLost {
        /// On this disk.
        disk: usize,
    },
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8} {:>14} ns  {}", self.event, self.at_ns, self.text)
    }
}
