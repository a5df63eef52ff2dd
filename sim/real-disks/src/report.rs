//! What came of it, for people and for programs.

use std::fmt::Write;
use std::time::Instant;

use serde::Serialize;

use crate::check::{Disagreement, Outcome};
use crate::failures::FailureOutcome;
use crate::file_system::FileSystem;
use crate::self_test::Caught;

/// Disagreements shown in words; JSON has all.
const SHOWN_MAX: usize = 10;

/// Everything that was found.
#[derive(Serialize)]
pub struct Report {
    pub kernel: String,
    pub file_systems: Vec<OfFileSystem>,
}

/// What was found on one file system.
#[derive(Serialize)]
pub struct OfFileSystem {
    pub file_system: &'static str,
    pub states: Outcome,
    pub failures: FailureOutcome,
    /// Kinds of states that the model allows and the file system never showed.
    pub never_seen: Vec<String>,
    pub self_test: Caught,
    pub seconds: u64,
    #[serde(skip)]
    began: Instant,
}

impl OfFileSystem {
    pub fn new(file_system: FileSystem) -> Self {
        Self {
            file_system: file_system.name(),
            states: Outcome::default(),
            failures: FailureOutcome::default(),
            never_seen: Vec::new(),
            self_test: Caught::new(),
            seconds: 0,
            began: Instant::now(),
        }
    }

    /// Draws what follows from the counts.
    pub fn finish(&mut self) {
        self.never_seen = self.states.never_seen();
        self.seconds = self.began.elapsed().as_secs();
    }

    fn disagreements(&self) -> impl Iterator<Item = &Disagreement> {
        self.states.disagreements.iter().chain(&self.failures.disagreements)
    }
}

impl Report {
    pub fn new() -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { kernel: kernel.trim().to_owned(), file_systems: Vec::new() }
    }

    /// True if the model holds, every state that it draws is explained, and every wrong model was caught.
    pub fn is_good(&self) -> bool {
        self.file_systems.iter().all(|found| {
            found.disagreements().next().is_none()
                && found.states.unexplained.is_empty()
                && found.self_test.values().all(Option::is_some)
        })
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    pub fn text(&self) -> String {
        let mut text = format!("Linux {}\n", self.kernel);
        for found in &self.file_systems {
            // A String takes everything.
            let _ = found.write(&mut text);
        }
        text
    }
}

impl OfFileSystem {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let (states, failures) = (&self.states, &self.failures);
        writeln!(text, "\n{}: {} s", self.file_system, self.seconds)?;
        if !self.self_test.is_empty() {
            for (wrong, seed) in &self.self_test {
                match seed {
                    Some(seed) => writeln!(text, "  {wrong}: caught by sequence {seed}")?,
                    None => writeln!(text, "  {wrong}: NOT CAUGHT")?,
                }
            }
            return Ok(());
        }
        writeln!(
            text,
            "  {} sequences of {} operations, {} states, {} distinct, {} of these neither all nor nothing",
            states.sequences, states.operations, states.states, states.distinct_states, states.partial_states
        )?;
        writeln!(
            text,
            "  {} states drawn by the model, {} not explained by the judge",
            states.model_states,
            states.unexplained.len()
        )?;
        writeln!(text, "  {} failures of the device", failures.failures)?;
        for (noticed, count) in &failures.noticed {
            writeln!(text, "    {count:5} {noticed}")?;
        }
        for (known, count) in &failures.known {
            writeln!(text, "    {count:5} known: {known}")?;
        }
        writeln!(text, "  kinds seen:")?;
        for (kind, count) in &states.seen_kinds {
            writeln!(text, "    {count:5} {kind}")?;
        }
        writeln!(text, "  allowed and never seen: {}", none_or(&self.never_seen))?;
        let disagreements: Vec<&Disagreement> = self.disagreements().collect();
        writeln!(text, "  {} disagreements", disagreements.len())?;
        for found in disagreements.iter().take(SHOWN_MAX) {
            writeln!(text, "    seed {}, {}", found.seed, found.cut)?;
            for operation in &found.operations {
                writeln!(text, "      {operation}")?;
            }
            writeln!(text, "      seen:     {}\n      expected: {}", found.seen, found.expected)?;
        }
        if !disagreements.is_empty() {
            let system = self.file_system;
            writeln!(
                text,
                "  When {system} writes back is its own choice: if one does not come again by `--file-system {system} --first \
                 SEED --sequences 1`, repeat that some times."
            )?;
        }
        for unexplained in states.unexplained.iter().take(SHOWN_MAX) {
            writeln!(text, "    the judge cannot explain what the model drew: {unexplained}")?;
        }
        Ok(())
    }
}

fn none_or(all: &[String]) -> String {
    if all.is_empty() { "nothing".to_owned() } else { all.join("; ") }
}
