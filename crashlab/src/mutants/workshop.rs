//! A copy of the sources in which mutants are planted, one after another, and built.
//!
//! ```text
//! target/mutants/tree     a clone at the commit of now; what is not committed is not in it
//! target/mutants/build    its build products, kept, so that a mutant costs what changes
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Mutant;
use crate::plan::{CrashKind, Plan};

/// A sweep that has not ended by then hangs.
const SWEEP_TIME_MAX: Duration = Duration::from_secs(900);
/// Shrinking is given up after so many seconds.
const SHRINK_TIME_S: u64 = 30;
/// The profile of `Cargo.toml` that mutants are built with.
const PROFILE: &str = "mutants";

pub(super) struct Workshop {
    tree: PathBuf,
    build: PathBuf,
    commit: String,
}

/// A seed that failed.
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) violation: String,
}

impl Workshop {
    /// Copies the sources as of the last commit.
    pub(super) fn prepare(repository: &Path) -> Result<Self, String> {
        let commit = git(repository, &["rev-parse", "HEAD"])?;
        let folder = repository.join("target/mutants");
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let tree = folder.join("tree");
        if !tree.join(".git").exists() {
            let from = repository.to_string_lossy().into_owned();
            git(&folder, &["clone", "--quiet", "--no-checkout", &from, "tree"])?;
        }
        git(&tree, &["fetch", "--quiet", "origin", &commit])?;
        git(&tree, &["checkout", "--quiet", "--force", "--detach", &commit])?;
        Ok(Self { tree, build: folder.join("build"), commit })
    }

    pub(super) fn commit(&self) -> &str {
        &self.commit
    }

    /// Plants a mutant and builds it. `Err` inside if it does not build.
    pub(super) fn plant(&self, mutant: &Mutant) -> Result<Result<PathBuf, String>, String> {
        git(&self.tree, &["checkout", "--quiet", "--force", "--", "."])?;
        let patch = mutant.file.canonicalize();
        let patch = patch.map_err(|error| format!("{}: {error}", mutant.file.display()))?;
        git(&self.tree, &["apply", &patch.to_string_lossy()])
            .map_err(|error| format!("{}: {error}", mutant.file.display()))?;
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build).stdin(Stdio::null());
        // They would replace the flags of .cargo/config.toml, and madsim's with them.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
            cargo.env_remove(name);
        }
        cargo.args(["build", "--quiet", "--package", "holdfast-crashlab", "--profile", PROFILE]);
        let output = cargo.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
            return Ok(Err(first.to_owned()));
        }
        Ok(Ok(self.build.join(PROFILE).join("crashlab")))
    }

    /// Sweeps until a seed fails. `Ok(None)` if none does.
    pub(super) fn sweep(&self, program: &Path, start: u64, seeds: u64) -> Result<Option<Failure>, String> {
        let (start, seeds) = (start.to_string(), seeds.to_string());
        let text = self.ask(
            program,
            &["sweep", "--json", "--first", "--keep", "failing", "--start", &start, "--seeds", &seeds],
        )?;
        let json: Value = serde_json::from_str(&text).map_err(|error| format!("a sweep says {error}"))?;
        let Some(failure) = json["failures"].get(0) else { return Ok(None) };
        let seed = failure["seed"].as_u64().ok_or("a sweep names no seed")?;
        let violation = failure["violation"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Failure { seed, violation }))
    }

    /// What is left in the plan of a seed when it is shrunk; nothing if it could not be.
    pub(super) fn faults_of(&self, program: &Path, seed: u64) -> Vec<String> {
        let (seed, time) = (seed.to_string(), SHRINK_TIME_S.to_string());
        let shrunk = self.ask(program, &["shrink", &seed, "--json", "--time", &time, "-o", "shrunk.json"]);
        let plan = shrunk.and_then(|_| Plan::load(&self.build.join("shrunk.json")));
        let Ok(plan) = plan else { return Vec::new() };
        let crashes = plan.crashes.iter().map(|crash| match crash.kind {
            CrashKind::Kill => "kill",
            CrashKind::PowerLoss => "power_loss",
            CrashKind::Close => "close",
            CrashKind::Drop => "drop",
        });
        let faults = plan.faults.iter().map(|fault| fault.class.as_str());
        let mut all: Vec<String> = faults.chain(crashes).map(str::to_owned).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Runs a planted crashlab and gives what it prints.
    fn ask(&self, program: &Path, arguments: &[&str]) -> Result<String, String> {
        // To a file: a pipe that nobody empties would hold it up.
        let answer = self.build.join("answer.json");
        let file =
            std::fs::File::create(&answer).map_err(|error| format!("{}: {error}", answer.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(&self.build)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(file)
            .spawn();
        let mut child = child.map_err(|error| format!("{}: {error}", program.display()))?;
        let began = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if began.elapsed() > SWEEP_TIME_MAX => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("it hangs: no end after {} s", SWEEP_TIME_MAX.as_secs()));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        if !matches!(status.code(), Some(0 | 1)) {
            return Err(format!("crashlab {} ended with {status}", arguments.join(" ")));
        }
        std::fs::read_to_string(&answer).map_err(|error| format!("{}: {error}", answer.display()))
    }
}

/// Runs git and gives what it prints.
pub(super) fn git(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").current_dir(folder).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("git cannot be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git {}: {}", arguments.join(" "), said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
