//! Everything that a seed decided for one run of an application, as plain data.
//!
//! ```json
//! {
//!   "schema": 1,
//!   "test": {"package": "inventory", "name": "orders_survive", "features": [], "binary": "…", "directory": "…"},
//!   "seed": 17,
//!   "settings": {"production": false, "memtable_kib": 4, …},
//!   "rare_one_in": 16,
//!   "disk": {"like": "ext4", "delayed_allocation": false, "copy_on_write": false, "full_in_sync": false},
//!   "steps": {"till 0": [0, 1, 2], "till 1": [0]},
//!   "crashes": [{"at": {"step": {"of": "till 0", "number": 2}}, "calls": 5, "kind": "power_loss"}],
//!   "faults": [{"class": "sync_error", "at": {"life": 1}, "on": "log", "nth": 3}],
//!   "schedule": [[1200, 1]]
//! }
//! ```
//! `steps` are the operations: those that the application makes, by name; a step that is not listed is left out, and a
//! name that is not listed has all of its steps. Crashes and faults are anchored to steps and lives, so that a plan
//! keeps its meaning when steps are left out. What no plan holds, such as latencies and which sectors survive a power
//! loss, is drawn from the streams of the seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::fault::FaultClass;
use crate::plan;
pub use crate::plan::DiskPlan;

/// The version of the form; a plan of another one is refused.
pub const SCHEMA: u32 = 1;

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The test that it is of.
    pub test: Target,
    /// What is drawn during the run is drawn from the streams of this seed.
    pub seed: u64,
    /// Options of the database, for an application that asks for them.
    pub settings: Settings,
    /// `Env::rare` is true once in so many times; 0 is never.
    pub rare_one_in: u32,
    /// The disk.
    pub disk: DiskPlan,
    /// By name: the steps that are made.
    pub steps: BTreeMap<String, Vec<u64>>,
    /// Where the process dies, and how.
    pub crashes: Vec<PlannedCrash>,
    /// What goes wrong.
    pub faults: Vec<PlannedFault>,
    /// The task that waited longest runs where no override says otherwise, instead of one that is drawn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_schedule: bool,
    /// Choices of the scheduler that are not its own: number and pick, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<(u64, u32)>,
}

/// A test, and how to run it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The cargo package.
    pub package: String,
    /// Its name, as `cargo test -- --exact NAME` takes it.
    pub name: String,
    /// Features of the package that it was built with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The program that cargo made of it.
    pub binary: PathBuf,
    /// Where it runs.
    pub directory: PathBuf,
}

/// When something happens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum At {
    /// When this step begins, or the first one behind it that is made; at the end of the steps of that name if none is.
    Step {
        /// The name of the steps.
        of: String,
        /// Which of them, counted from 0.
        number: u64,
    },
    /// When this life of the process begins, counted from 0.
    Life(u32),
}

/// How the process dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashKind {
    /// It is killed; what the operating system has, it keeps.
    Kill,
    /// The power fails.
    PowerLoss,
}

/// A crash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCrash {
    /// When it is armed. Of several in one life the one armed last comes.
    pub at: At,
    /// At which disk call from then, counted from 1.
    pub calls: u64,
    /// How.
    pub kind: CrashKind,
}

/// A fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// Which class.
    pub class: FaultClass,
    /// When it is armed.
    pub at: At,
    /// A part of the names of the files (or tasks) that it can strike; empty is all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub on: String,
    /// At which matching call from then, counted from 1.
    pub nth: u64,
    /// At every call from that one on, until the life ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lasting: bool,
    /// For `no_space`, and instead of `on`, `nth` and `lasting`: the disk has so many KiB left from then on, until the
    /// life ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_kib: Option<u64>,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// In words: the file cannot be read, is no plan, or is one of another version.
    pub fn load(path: &Path) -> Result<Self, String> {
        Self::from_text(&plan::read(path)?).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The plan of a text.
    ///
    /// # Errors
    /// In words: it is no plan of an application, or one of another version, or asks for what cannot be.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let plan: Self = plan::parse(text, SCHEMA)?;
        plan.check()?;
        Ok(plan)
    }

    /// True if a text is meant to be a plan of an application, and not of a workload of ours.
    pub fn is_one(text: &str) -> bool {
        let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
        value.is_some_and(|value| value.get("test").is_some_and(serde_json::Value::is_object))
    }

    fn check(&self) -> Result<(), String> {
        self.disk.check()?;
        plan::check_counts(self.crashes.len(), self.faults.len())?;
        for (number, crash) in self.crashes.iter().enumerate() {
            plan::within(format_args!("crashes[{number}].calls"), crash.calls, 1..=plan::CALLS_MAX)?;
        }
        for (number, fault) in self.faults.iter().enumerate() {
            plan::check_fault(number, fault.class, fault.nth, (fault.lasting, fault.room_kib))?;
        }
        plan::check_schedule(&self.schedule)?;
        for (name, steps) in &self.steps {
            if let Some(at) = steps.windows(2).position(|pair| pair[0] >= pair[1]) {
                let (before, step) = (steps[at], steps[at + 1]);
                return Err(format!("steps.{name}[{}] is {step}, but must be behind {before}", at + 1));
            }
        }
        plan::check_settings(&self.settings.options(), &self.settings.keyspace_options())
    }

    /// Steps that are made.
    pub fn operations(&self) -> u64 {
        self.steps.values().map(|steps| steps.len() as u64).sum()
    }

    /// The plan as text.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("a plan is plain data");
        // A line for each of its parts, for whoever reads or compares it.
        for name in
            ["test", "seed", "settings", "rare_one_in", "disk", "steps", "crashes", "faults", "schedule"]
        {
            text = text.replacen(&format!(",\"{name}\":"), &format!(",\n\"{name}\": "), 1);
        }
        text.push('\n');
        text
    }

    /// Writes a plan, into a folder that is made if need be.
    ///
    /// # Errors
    /// In words: the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(wrong)?;
        }
        std::fs::write(path, self.to_text()).map_err(wrong)
    }
}
