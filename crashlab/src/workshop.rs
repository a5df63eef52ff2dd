//! A copy of the sources, at one commit after another or with a bug planted in it, and its own crashlab.
//!
//! ```text
//! target/NAME/tree     a clone at some commit
//! target/NAME/build    its build products, kept, so that each build costs what changed
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::{CrashKind, Plan};

/// A crashlab that has not ended by then hangs.
const TIME_MAX: Duration = Duration::from_secs(900);
/// Shrinking is given up after so many seconds.
const SHRINK_TIME_S: u64 = 120;

/// See the module's header.
pub(crate) struct Workshop {
    tree: PathBuf,
    build: PathBuf,
    /// The profile of `Cargo.toml` to build with.
    profile: &'static str,
}

/// A seed that failed.
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) violation: String,
}

/// What shrinking the plan of a failing seed came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shrunk {
    /// Operations of clients at first.
    pub operations_before: u64,
    /// Those that are left.
    pub operations_after: u64,
    /// Faults and replaced disks at first.
    pub faults_before: u64,
    /// Those that are left.
    pub faults_after: u64,
    /// Crashes at first.
    pub crashes_before: u64,
    /// Those that are left.
    pub crashes_after: u64,
    /// Schedule overrides at first.
    pub overrides_before: u64,
    /// Those in the end: where the schedule is drawn at first there may be more.
    pub overrides_after: u64,
    /// How long it took.
    pub seconds: u64,
    /// Without any single operation, fault, crash or schedule override it passes; all were tried anew.
    pub is_minimal: bool,
    /// It fails with the same kind of wrong as the seed.
    pub is_same: bool,
    /// Fault classes and kinds of crashes that are left.
    pub needs: Vec<String>,
}

/// What a crashlab said.
pub(crate) struct Answer {
    /// Its exit code.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) text: String,
}

impl Workshop {
    /// Copies the sources into `target/NAME` of the repository.
    ///
    /// # Errors
    /// What git says, or the disk.
    pub(crate) fn prepare(repository: &Path, name: &str, profile: &'static str) -> Result<Self, String> {
        let folder = repository.join("target").join(name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let tree = folder.join("tree");
        if !tree.join(".git").exists() {
            let from = repository.to_string_lossy().into_owned();
            git(&folder, &["clone", "--quiet", "--no-checkout", &from, "tree"])?;
        }
        let build = folder.join("build");
        std::fs::create_dir_all(&build).map_err(|error| format!("{}: {error}", build.display()))?;
        Ok(Self { tree, build, profile })
    }

    /// Makes the copy what the repository is at a commit.
    ///
    /// # Errors
    /// A commit that is not there.
    pub(crate) fn check_out(&self, commit: &str) -> Result<(), String> {
        git(&self.tree, &["fetch", "--quiet", "origin", commit])?;
        git(&self.tree, &["checkout", "--quiet", "--force", "--detach", commit]).map(drop)
    }

    /// Applies a patch to the commit that was checked out last.
    ///
    /// # Errors
    /// One that does not apply.
    pub(crate) fn plant(&self, patch: &Path) -> Result<(), String> {
        git(&self.tree, &["checkout", "--quiet", "--force", "--", "."])?;
        let wrong = |error: String| format!("{}: {error}", patch.display());
        let whole = patch.canonicalize().map_err(|error| wrong(error.to_string()))?;
        git(&self.tree, &["apply", &whole.to_string_lossy()]).map_err(wrong).map(drop)
    }

    /// Builds the copy's crashlab. `Err` inside if it does not build.
    ///
    /// # Errors
    /// If cargo cannot be started.
    pub(crate) fn build(&self) -> Result<Result<PathBuf, String>, String> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build).stdin(Stdio::null());
        // They would replace the flags of .cargo/config.toml, and madsim's with them.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
            cargo.env_remove(name);
        }
        cargo.args(["build", "--quiet", "--package", "holdfast-crashlab", "--profile", self.profile]);
        let output = cargo.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
            return Ok(Err(first.to_owned()));
        }
        let folder = if self.profile == "dev" { "debug" } else { self.profile };
        Ok(Ok(self.build.join(folder).join("crashlab")))
    }

    /// Sweeps until a seed fails. `Ok(None)` if none does.
    pub(crate) fn sweep(&self, program: &Path, start: u64, seeds: u64) -> Result<Option<Failure>, String> {
        let (start, seeds) = (start.to_string(), seeds.to_string());
        let text = self.ask_for_text(
            program,
            &["sweep", "--json", "--first", "--keep", "failing", "--start", &start, "--seeds", &seeds],
        )?;
        let json: Value = serde_json::from_str(&text).map_err(|error| format!("a sweep says {error}"))?;
        let Some(failure) = json["failures"].get(0) else { return Ok(None) };
        let seed = failure["seed"].as_u64().ok_or("a sweep names no seed")?;
        let violation = failure["violation"].as_str().unwrap_or_default().to_owned();
        if failure["wrong"] == "harness" {
            return Err(format!("seed {seed}: {violation}"));
        }
        Ok(Some(Failure { seed, violation }))
    }

    /// Explores two crashes deep, with so many survivor sets. Gives what is wrong first, if anything.
    ///
    /// # Errors
    /// A crashlab that does not come to a verdict, on its own account or on that of an image.
    pub(crate) fn explore(&self, program: &Path, sets: u64) -> Result<Option<String>, String> {
        let sets = sets.to_string();
        let arguments = ["explore", "--json", "--first", "--depth", "2", "--sets", &sets];
        let text = self.ask_for_text(program, &arguments)?;
        let json: Value =
            serde_json::from_str(&text).map_err(|error| format!("an exploration says {error}"))?;
        verdict_of(&json)
    }

    /// Shrinks the plan of a seed that fails, and checks that nothing single can go from what is left.
    ///
    /// # Errors
    /// A crashlab that does not come to a verdict.
    pub(crate) fn shrink(&self, program: &Path, failure: &Failure) -> Result<Shrunk, String> {
        let (seed, time) = (failure.seed.to_string(), SHRINK_TIME_S.to_string());
        let json = |text: String| {
            serde_json::from_str::<Value>(&text).map_err(|error| format!("a shrink says {error}"))
        };
        let arguments = ["shrink", &seed, "--json", "--time", &time, "-o", "shrunk.json"];
        let said = json(self.ask_for_text(program, &arguments)?)?;
        let checked = json(self.ask_for_text(program, &["shrink", "shrunk.json", "--check", "--json"])?)?;
        let number = |name: &str| said[name].as_u64().ok_or_else(|| format!("a shrink names no {name}"));
        let kind = |violation: &str| violation.split(':').next().unwrap_or_default().to_owned();
        Ok(Shrunk {
            operations_before: number("operations_before")?,
            operations_after: number("operations_after")?,
            faults_before: number("faults_before")?,
            faults_after: number("faults_after")?,
            crashes_before: number("crashes_before")?,
            crashes_after: number("crashes_after")?,
            overrides_before: number("overrides_before")?,
            overrides_after: number("overrides_after")?,
            seconds: number("seconds")?,
            is_minimal: checked["removable"].as_array().is_some_and(Vec::is_empty),
            is_same: kind(said["violation"].as_str().unwrap_or_default()) == kind(&failure.violation),
            needs: needs_of(&Plan::load(&self.build.join("shrunk.json"))?),
        })
    }

    /// Runs a crashlab and gives what it prints, of one that comes to a verdict.
    fn ask_for_text(&self, program: &Path, arguments: &[&str]) -> Result<String, String> {
        let answer = self.ask(program, arguments)?;
        match answer.code {
            0 | 1 => Ok(answer.text),
            code => Err(format!("crashlab {} ended with code {code}", arguments.join(" "))),
        }
    }

    /// Runs a crashlab.
    ///
    /// # Errors
    /// One that cannot be started, hangs, or ends without a code.
    pub(crate) fn ask(&self, program: &Path, arguments: &[&str]) -> Result<Answer, String> {
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
                None if began.elapsed() > TIME_MAX => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("it hangs: no end after {} s", TIME_MAX.as_secs()));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let code =
            status.code().ok_or_else(|| format!("crashlab {} ended with {status}", arguments.join(" ")))?;
        let text =
            std::fs::read_to_string(&answer).map_err(|error| format!("{}: {error}", answer.display()))?;
        Ok(Answer { code, text })
    }
}

/// What an exploration found wrong with the database first. What is wrong with the harness, and what is undecided, is
/// trouble, but only where the database is not caught anyway.
fn verdict_of(explored: &Value) -> Result<Option<String>, String> {
    let all = explored["wrong"].as_array().ok_or("an exploration says nothing of what is wrong")?;
    let (of_harness, of_database): (Vec<&Value>, Vec<&Value>) =
        all.iter().partition(|one| one["wrong"] == "harness");
    let told = |one: &Value| {
        let (script, violation) = (one["script"].as_str(), one["violation"].as_str());
        format!("{}, call {}: {}", script.unwrap_or("?"), one["call"], violation.unwrap_or("?"))
    };
    if let Some(first) = of_database.first() {
        return Ok(Some(told(first)));
    }
    if let Some(first) = of_harness.first() {
        return Err(told(first));
    }
    let number = |name: &str| explored[name].as_u64().ok_or(format!("an exploration names no {name}"));
    match (number("undecided")?, number("left")?) {
        (0, 0) => Ok(None),
        (undecided, left) => Err(format!("{undecided} images are undecided, {left} crash points were left")),
    }
}

/// Fault classes, kinds of crashes and replaced disks of a plan.
fn needs_of(plan: &Plan) -> Vec<String> {
    let crashes = plan.crashes.iter().map(|crash| match crash.kind {
        CrashKind::Kill => "kill",
        CrashKind::PowerLoss => "power_loss",
        CrashKind::Close => "close",
        CrashKind::Drop => "drop",
    });
    let faults = plan.faults.iter().map(|fault| fault.class.as_str());
    let replaced = plan.replacements.iter().map(|replacement| replacement.by.way().name());
    let mut all: Vec<String> = faults.chain(crashes).chain(replaced).map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all
}

/// Runs git and gives what it prints.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").current_dir(folder).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("git cannot be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git {}: {}", arguments.join(" "), said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A commit of what stands in the repository now, changes to files that git knows included.
pub(crate) fn snapshot_of(repository: &Path) -> Result<String, String> {
    let with_changes = git(repository, &["stash", "create"])?;
    if with_changes.is_empty() { git(repository, &["rev-parse", "HEAD"]) } else { Ok(with_changes) }
}

/// Git's hashes of files and folders as of a commit.
pub(crate) fn hashes_of<'a>(
    repository: &Path,
    commit: &str,
    paths: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, String> {
    let hash = |path: &str| git(repository, &["rev-parse", &format!("{commit}:{path}")]);
    paths.map(|path| Ok((path.to_owned(), hash(path)?))).collect()
}

/// The root of the repository that `from` lies in.
///
/// # Errors
/// If it lies in none, or git is not there.
pub fn repository_of(from: &Path) -> Result<PathBuf, String> {
    git(from, &["rev-parse", "--show-toplevel"]).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_database_is_caught() {
        let wrong = |kind: &str| json!({ "script": "put", "call": 3, "wrong": kind, "violation": kind });
        let of = |wrong: &[Value], undecided: u64, left: u64| {
            verdict_of(&json!({ "wrong": wrong, "undecided": undecided, "left": left }))
        };
        assert_eq!(of(&[], 0, 0), Ok(None));
        let lost = Ok(Some("put, call 3: lost_write".to_owned()));
        assert_eq!(of(&[wrong("lost_write")], 0, 7), lost);
        assert_eq!(of(&[wrong("harness"), wrong("lost_write")], 1, 0), lost);
        assert!(of(&[wrong("harness")], 1, 0).is_err_and(|trouble| trouble.contains("harness")));
        assert!(of(&[], 2, 0).is_err_and(|trouble| trouble.contains("undecided")));
        assert!(of(&[], 0, 5).is_err_and(|trouble| trouble.contains("left")));
        assert!(verdict_of(&json!({})).is_err());
    }
}
