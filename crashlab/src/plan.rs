//! Everything that a seed decided, as plain data.
//!
//! Faults and crashes are anchored to what clients do, not to instants: "when client 2 begins its step 120, at the third
//! sync of a log file from then". So a plan from which steps were cut still means something, and it keeps its meaning when the kernel changes.
//! What no plan holds, such as latencies and which sectors survive a power loss, is drawn from the seed's streams.

use std::ops::RangeInclusive;
use std::path::Path;

use holdfast_sim::plan;
pub use holdfast_sim::plan::DiskPlan;
use holdfast_workloads::storm::{Script, Settings, Workload};
use serde::{Deserialize, Serialize};

use crate::fault::Replacing;

/// The version of the form; a plan of another one is refused.
pub const SCHEMA: u32 = 1;

/// From a wall clock that stands still to one that goes eleven times as fast as time.
const WALL_DRIFT_PPM: RangeInclusive<i32> = -1_000_000..=10_000_000;

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
    /// How much faster the wall clock goes than time, in millionths.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wall_drift_ppm: i32,
    /// What clients do.
    pub script: Script,
    /// Where the process dies, and how.
    pub crashes: Vec<Crash>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Where the disk becomes another one between two openings: once at most, for the model follows one line of commits and
    /// could not tell what a copy from before another replacement brings back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replacements: Vec<Replacement>,
    /// Of several ready tasks the one that waited longest runs, instead of one that is drawn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_schedule: bool,
    /// Choices of the scheduler that are other ones: number and pick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<(u64, u32)>,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// When something happens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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

/// The disk becomes another one while nobody uses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// Before this attempt to open the database, counted from 0; not before the first.
    pub opening: u32,
    /// What takes its place.
    pub by: Substitute,
    /// Whoever opens it demands the newest commit that must have lasted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub demand: bool,
}

/// What takes the place of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Substitute {
    /// An empty disk.
    Empty,
    /// What was durable at this moment. If it never came, the disk stays.
    CopyOf(At),
}

impl Substitute {
    /// How the disk is replaced by it.
    pub fn way(self) -> Replacing {
        match self {
            Self::Empty => Replacing::Wiped,
            Self::CopyOf(_) => Replacing::OlderCopy,
        }
    }
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
    /// In words: it is no plan, or one of another version.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let plan: Self = plan::parse(text, SCHEMA)?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), String> {
        self.disk.check()?;
        plan::within("wall_drift_ppm", self.wall_drift_ppm, WALL_DRIFT_PPM)?;
        plan::check_counts(self.crashes.len(), self.faults.len())?;
        for (number, crash) in self.crashes.iter().enumerate() {
            plan::within(format_args!("crashes[{number}].calls"), crash.calls, 0..=plan::CALLS_MAX)?;
        }
        for (number, fault) in self.faults.iter().enumerate() {
            let Some(class) = crate::fault::of_name(&fault.class) else {
                let known = crate::fault::of_one_process().into_iter().map(crate::fault::name_of);
                let known: Vec<&str> = known.collect();
                let class = &fault.class;
                return Err(format!("faults[{number}].class is {class:?}; there are {}", known.join(", ")));
            };
            plan::check_fault(number, class, fault.nth, (fault.lasting, fault.room_kib))?;
        }
        if self.replacements.len() > 1 {
            return Err(format!(
                "the number of replacements is {}, but must be at most 1: what a copy from before another brings back is not \
                 judged",
                self.replacements.len()
            ));
        }
        for replacement in &self.replacements {
            plan::within("replacements[0].opening", replacement.opening, 1..=u32::MAX)?;
        }
        plan::check_schedule(&self.schedule)?;
        plan::check_settings(&self.settings.options(), &self.settings.keyspace_options())?;
        self.script.check(&self.settings)
    }

    /// Crashes after which what was lost has to be recovered.
    pub fn crashes_with_recovery(&self) -> u64 {
        let is_one = |crash: &&Crash| matches!(crash.kind, CrashKind::Kill | CrashKind::PowerLoss);
        self.crashes.iter().filter(is_one).count() as u64
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Choice, plan};

    #[test]
    fn a_plan_is_what_its_text_says_or_is_refused_in_words() {
        let plan = plan(5, &Choice::default());
        assert_eq!(Plan::from_text(&plan.to_text()), Ok(plan.clone()));
        let refused = |change: &dyn Fn(&mut Plan)| {
            let mut changed = plan.clone();
            change(&mut changed);
            Plan::from_text(&changed.to_text()).expect_err("it is no plan")
        };
        assert!(refused(&|plan| plan.schema += 1).contains("version"));
        assert!(refused(&|plan| plan.disk.iops_max = Some(0)).contains("iops_max"));
        assert!(refused(&|plan| plan.wall_drift_ppm = -1_000_001).contains("wall_drift_ppm"));
        let first = Replacement { opening: 0, by: Substitute::Empty, demand: false };
        assert!(refused(&|plan| plan.replacements = vec![first]).contains("replacement"));
        let later = Replacement { opening: 1, ..first };
        assert!(refused(&|plan| plan.replacements = vec![later; 2]).contains("number of replacements is 2"));
        assert!(refused(&|plan| plan.schedule = vec![(4, 1), (4, 0)]).contains("schedule"));
        let fault = |class: &str, nth| Fault {
            class: class.to_owned(),
            at: At::Opening(0),
            on: String::new(),
            nth,
            lasting: false,
            room_kib: None,
        };
        for (wrong, named) in [(fault("read_errors", 1), "read_errors"), (fault("read_error", 0), "nth is 0")]
        {
            let mut changed = plan.clone();
            changed.faults.push(wrong);
            let error = Plan::from_text(&changed.to_text()).expect_err("it is no plan");
            assert!(error.contains(named), "{error}");
        }
    }
}
