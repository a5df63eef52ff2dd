//! What was counted so far, kept in a file so that a long run can be cut off anywhere and gone on with.
//!
//! ```text
//! {"identity": u32, "quick": bool, "done": cases, "total": cases, "judged": cases, "seconds": f64,
//!  "counts": {"database kind harm: verdict": cases}, "wrong": ["..."]}
//! ```
//! `identity` is a checksum of this program: what another one has counted says nothing of it, and is forgotten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use holdfast_workloads::Report;
use serde_json::{Value, json};

/// The counts.
#[derive(Default)]
pub struct Tally {
    identity: u32,
    file: Option<PathBuf>,
    quick: bool,
    /// The first case that has not been judged.
    pub done: usize,
    /// All there are.
    pub total: usize,
    /// Cases that changed something, and so have a verdict.
    pub judged: u64,
    /// Spent on them.
    pub seconds: f64,
    counts: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

impl Tally {
    /// What `file` holds of the same program and the same cases, or nothing yet.
    ///
    /// # Errors
    /// If this program cannot be read.
    pub fn load(file: Option<&Path>, quick: bool, total: usize) -> Result<Self, String> {
        let program = std::env::current_exe().and_then(std::fs::read).map_err(|error| error.to_string())?;
        let identity = crc32fast::hash(&program);
        let fresh = Self { identity, file: file.map(Path::to_path_buf), quick, total, ..Self::default() };
        let Some(text) = file.and_then(|file| std::fs::read_to_string(file).ok()) else { return Ok(fresh) };
        let found: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_same = found["identity"] == json!(identity)
            && found["quick"] == json!(quick)
            && found["total"] == json!(total);
        if !is_same {
            return Ok(fresh);
        }
        let counts = found["counts"].as_object().into_iter().flatten();
        let wrong = found["wrong"].as_array().into_iter().flatten();
        Ok(Self {
            done: found["done"].as_u64().unwrap_or(0) as usize,
            judged: found["judged"].as_u64().unwrap_or(0),
            seconds: found["seconds"].as_f64().unwrap_or(0.0),
            counts: counts.map(|(what, count)| (what.clone(), count.as_u64().unwrap_or(0))).collect(),
            wrong: wrong.filter_map(|what| what.as_str().map(ToString::to_string)).collect(),
            ..fresh
        })
    }

    /// Replaces the file, if there is one.
    ///
    /// # Errors
    /// In words.
    pub fn save(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = json!({
            "identity": self.identity, "quick": self.quick, "done": self.done, "total": self.total,
            "judged": self.judged, "seconds": self.seconds, "counts": self.counts, "wrong": self.wrong,
        });
        let new = file.with_extension("new");
        std::fs::write(&new, text.to_string())
            .and_then(|()| std::fs::rename(&new, file))
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Counts one case.
    pub fn count(&mut self, what: String) {
        self.judged += 1;
        *self.counts.entry(what).or_default() += 1;
    }

    /// Notes a wrong answer.
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Says everything.
    pub fn tell(&self, report: &mut Report) {
        for (what, count) in &self.counts {
            report.figure(what, *count as f64, "cases");
        }
        let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
        for (what, count) in &self.counts {
            *verdicts.entry(what.rsplit(": ").next().unwrap_or_default()).or_default() += count;
        }
        for (verdict, count) in verdicts {
            report.figure(&format!("all: {verdict}"), count as f64, "cases");
        }
        for what in &self.wrong {
            report.wrong(what);
        }
        report.figure("cases", self.judged as f64, "cases");
        report.at_least("cases a second", self.judged as f64 / self.seconds.max(0.001), "/s", 500.0);
    }
}
