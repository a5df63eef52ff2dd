//! What a run of an application came to, in a form that `crashlab` reads.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::log::LogLine;

/// What was wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of thing, and where: two runs fail in the same way if this is the same.
    pub kind: String,
    /// In words.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)
    }
}

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What was wrong, if anything was.
    pub failure: Option<Failure>,
    /// Hash over every event of the run with its content, in hexadecimal digits.
    pub hash: String,
    /// Number of events.
    pub events: u64,
    /// Simulated time, in nanoseconds.
    pub simulated_ns: u64,
    /// Disk calls.
    pub io_calls: u64,
    /// Lives of the process.
    pub lives: u64,
    /// Kills.
    pub kills: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Steps that were begun.
    pub steps: u64,
    /// Checks that held.
    pub checks: u64,
    /// The application could not go on for damage that lasts, as it may: the run ended there.
    pub refused: bool,
    /// How often each fault class fired, by name; those that did.
    pub fired: BTreeMap<String, u64>,
    /// By name: how many steps the application has.
    pub declared: BTreeMap<String, u64>,
    /// The last lines of the event log, if one was asked for.
    pub log: Vec<LogLine>,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// In words: the file cannot be read, or is no record.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Writes a record.
    ///
    /// # Errors
    /// In words: the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string(self).expect("a record is plain data");
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}
