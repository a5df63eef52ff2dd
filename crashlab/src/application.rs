//! Plans of tests that applications have, by `holdfast_sim::testing`: each is run by the test itself, in a process of its
//! own.
//!
//! A plan names the program that cargo has made of the test. It is given the plan by an environment variable, and writes
//! down what it came to, with its event log.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_sim::testing::plan::Plan;
use holdfast_sim::testing::{Failure, LINES, PLAN, RECORD, Record};

use crate::report::Shown;

/// Real time after which the test gives a run up as hanging, in seconds.
const PATIENCE_S: u64 = 20;
/// A program that has not ended by then is ended.
const TIME_MAX: Duration = Duration::from_secs(60);

/// True if a file holds a plan of an application.
pub fn is_plan(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| Plan::is_one(&text))
}

/// A place for the plan and the record of one run after another. Removed with everything in it when dropped.
pub struct Place {
    folder: PathBuf,
}

impl Place {
    /// Makes one.
    ///
    /// # Errors
    /// In words: the system's folder for temporary files takes nothing.
    pub fn new() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("crashlab-application-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Runs a plan; so many last lines of the event log are kept.
    ///
    /// # Errors
    /// In words: the program is not there any more, or has not run the test.
    pub fn run(&self, plan: &Plan, lines: usize) -> Result<Record, String> {
        let (plan_file, record) = (self.folder.join("plan.json"), self.folder.join("record.json"));
        plan.save(&plan_file)?;
        if record.exists() {
            std::fs::remove_file(&record).map_err(|error| format!("{}: {error}", record.display()))?;
        }
        let test = &plan.test;
        let rebuild = format!("build it again with: cargo test -p {} --no-run", test.package);
        let mut command = Command::new(&test.binary);
        command.args([&test.name, "--exact", "--test-threads=1"]).current_dir(&test.directory);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOLDFAST_SIM_") {
                command.env_remove(name);
            }
        }
        command.env(PLAN, &plan_file).env(RECORD, &record).env(LINES, lines.to_string());
        command.env("HOLDFAST_SIM_PATIENCE", PATIENCE_S.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn();
        let mut child = child.map_err(|error| format!("{}: {error}; {rebuild}", test.binary.display()))?;
        let began = Instant::now();
        loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(_) if record.exists() => return Record::load(&record),
                Some(status) => {
                    let what = "ended without having run the test";
                    let (binary, name) = (test.binary.display(), &test.name);
                    return Err(format!("{binary} {what} {name} ({status}); {rebuild}"));
                }
                None if began.elapsed() > TIME_MAX => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!(
                        "{} hangs: no end after {} s",
                        test.binary.display(),
                        TIME_MAX.as_secs()
                    ));
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// What a plan fails with; nothing if it passes or cannot be run.
    pub fn failure(&self, plan: &Plan) -> Option<Failure> {
        self.run(plan, 0).ok()?.failure
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A run of an application, as the page shows it.
pub fn shown<'a>(plan: &Plan, record: &'a Record) -> Shown<'a> {
    Shown {
        title: format!("seed {}, test {} of {}", plan.seed, plan.test.name, plan.test.package),
        violations: record.failure.iter().map(ToString::to_string).collect(),
        guilty: record.failure.as_ref().and_then(|_| record.log.len().checked_sub(1)),
        events: record.events,
        simulated_ns: record.simulated_ns,
        operations: record.steps,
        openings: record.lives,
        crashes: record.kills + record.power_losses,
        hash: record.hash.clone(),
        log: &record.log,
    }
}
