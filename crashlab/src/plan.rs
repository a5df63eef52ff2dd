//! Everything that a seed decided, as plain data.
//!
//! Faults and crashes are anchored to what clients do, not to instants: "when client 2 begins its step 120, at the third
//! sync of a log file from then". So a plan from which steps were cut still means something, and it keeps its meaning when the kernel changes.
//! What no plan holds, such as latencies and which sectors survive a power loss, is drawn from the seed's streams.

use std::path::Path;

use holdfast_sim::Personality;
use holdfast_workloads::storm::{Script, Settings, Workload};
use serde::{Deserialize, Serialize};

/// The version of the form; a plan of another one is refused.
pub const SCHEMA: u32 = 1;

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What is drawn during the run is drawn from the streams of this seed.
    pub seed: u64,
    /// Where the script comes from.
    pub workload: Workload,
    /// Options of the database.
    pub settings: Settings,
    /// `Env::rare` is true once in so many times; 0 is never.
    pub rare_one_in: u32,
    /// The disk.
    pub disk: DiskPlan,
    /// What clients do.
    pub script: Script,
    /// Where the process dies, and how.
    pub crashes: Vec<Crash>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Of several ready tasks the one that waited longest runs, instead of one that is drawn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_schedule: bool,
    /// Choices of the scheduler that are other ones: number and pick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<(u64, u32)>,
}

/// How the disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPlan {
    /// A cached write is charged only when its file is synced.
    pub delayed_allocation: bool,
    /// Overwriting takes room.
    pub copy_on_write: bool,
    /// A full disk shows in the sync of a write.
    pub full_in_sync: bool,
    /// Which file system it is like.
    #[serde(default, skip_serializing_if = "FileSystem::is_strict")]
    pub like: FileSystem,
}

/// A file system, as far as crashes show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSystem {
    /// None that there is: whatever the system calls do not promise may be lost.
    #[default]
    Strict,
    /// Ext4, in its ordered mode.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl FileSystem {
    fn is_strict(&self) -> bool {
        *self == Self::Strict
    }

    /// What the simulated disk is told.
    pub fn personality(self) -> Personality {
        match self {
            Self::Strict => Personality::Strict,
            Self::Ext4 => Personality::Ext4,
            Self::Xfs => Personality::Xfs,
            Self::Btrfs => Personality::Btrfs,
        }
    }
}

/// When something happens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// When this client begins this step, both counted from 0; behind its last one when it has no more.
    Step {
        /// The client.
        client: u32,
        /// Its step.
        step: u32,
    },
    /// When this attempt to open the database begins, counted from 0.
    Opening(u32),
}

/// How the process dies, or the opening ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashKind {
    /// The process is killed; what the operating system has, it keeps.
    Kill,
    /// The power fails.
    PowerLoss,
    /// The database is closed after the step.
    Close,
    /// All handles are dropped after the step.
    Drop,
}

/// A crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// When it is armed.
    pub at: At,
    /// At which disk call from then; 0 is at once.
    pub calls: u64,
    /// How.
    pub kind: CrashKind,
}

/// A fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which class, by name.
    pub class: String,
    /// When it is armed.
    pub at: At,
    /// A part of the names of the files (or tasks) that it can strike; empty is all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub on: String,
    /// At which matching call from then, counted from 1.
    pub nth: u64,
    /// At every call from that one on, for as long as the opening lasts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lasting: bool,
    /// For `no_space`, and instead of `on`, `nth` and `lasting`: the disk has so many KiB left from then on, until the
    /// opening ends or another one says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_kib: Option<u64>,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// In words: the file cannot be read, is no plan, or is one of another version.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::from_text(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The plan of a text.
    ///
    /// # Errors
    /// In words: it is no plan, or one of another version.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if plan.schema != SCHEMA {
            return Err(format!(
                "a plan of version {}, but this program reads version {SCHEMA}",
                plan.schema
            ));
        }
        if let Some(fault) = plan.faults.iter().find(|fault| crate::fault::of_name(&fault.class).is_none()) {
            return Err(format!("there is no fault class {:?}", fault.class));
        }
        Ok(plan)
    }

    /// A test that fails as long as this plan does. It stands beside the plan's file.
    pub fn to_test(&self, file: &Path, violation: &str) -> String {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("plan.json");
        let violation = violation.replace('\n', " ");
        format!(
            "//! {violation}\n\nuse holdfast_crashlab::{{Plan, run}};\n\n#[test]\nfn seed_{}_passes() {{\n    let plan = \
             Plan::from_text(include_str!({name:?})).expect(\"a plan of this version\");\n    let violations = \
             run(&plan).violations;\n    assert!(violations.is_empty(), \"{{violations:?}}\");\n}}\n",
            self.seed
        )
    }

    /// The plan as text, a list element to a line where that helps to read it.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a plan is plain data");
        text.push('\n');
        text
    }

    /// Writes a plan.
    ///
    /// # Errors
    /// In words: the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        std::fs::write(path, self.to_text()).map_err(|error| format!("{}: {error}", path.display()))
    }
}
