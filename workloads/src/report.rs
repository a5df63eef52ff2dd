//! What a program says at its end: figures with their targets, and everything that was wrong.
//!
//! A missed target is said and recorded, but only a wrong answer makes the exit code 1.

use std::process::ExitCode;

use serde_json::{Value, json};

/// Collects figures and wrong answers.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    as_json: bool,
    figures: Vec<Value>,
    missed: u64,
    wrong: Vec<String>,
    quiet: bool,
}

/// Wrong answers beyond this many are only counted.
const WRONG_SHOWN: usize = 20;

impl Report {
    /// An empty report of `program`; `as_json` prints one JSON object at the end and nothing else.
    pub fn new(program: &'static str, as_json: bool) -> Self {
        Self { program, as_json, figures: Vec::new(), missed: 0, wrong: Vec::new(), quiet: false }
    }

    /// A report that prints nothing and is looked at by a self-test.
    pub fn silent(program: &'static str) -> Self {
        Self { quiet: true, ..Self::new(program, false) }
    }

    /// Says something that is no figure.
    pub fn say(&self, text: &str) {
        if !self.as_json && !self.quiet {
            println!("{text}");
        }
    }

    /// A figure without a target.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.say(&format!("  {name:<52} {value:>14.3} {unit}"));
        self.figures.push(json!({ "name": name, "value": value, "unit": unit }));
    }

    /// A figure that should be at most `target`.
    pub fn at_most(&mut self, name: &str, value: f64, unit: &str, target: f64) {
        self.judged(name, value, unit, "at most", target, value <= target);
    }

    /// A figure that should be at least `target`.
    pub fn at_least(&mut self, name: &str, value: f64, unit: &str, target: f64) {
        self.judged(name, value, unit, "at least", target, value >= target);
    }

    fn judged(&mut self, name: &str, value: f64, unit: &str, relation: &str, target: f64, met: bool) {
        let verdict = if met { "met" } else { "MISSED" };
        self.missed += u64::from(!met);
        self.say(&format!("  {name:<52} {value:>14.3} {unit:<8} {relation} {target}: {verdict}"));
        self.figures.push(json!({
            "name": name, "value": value, "unit": unit, "relation": relation, "target": target, "met": met,
        }));
    }

    /// A wrong answer: the program will fail.
    pub fn wrong(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.wrong.len() < WRONG_SHOWN && !self.quiet {
            eprintln!("WRONG: {what}");
        }
        self.wrong.push(what);
    }

    /// Notes a wrong answer unless `holds`.
    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong(what());
        }
    }

    /// All wrong answers so far.
    pub fn wrongs(&self) -> &[String] {
        &self.wrong
    }

    /// Prints the verdict and gives the exit code.
    pub fn finish(self) -> ExitCode {
        let good = self.wrong.is_empty();
        if self.as_json {
            let shown: Vec<&String> = self.wrong.iter().take(WRONG_SHOWN).collect();
            let object = json!({
                "program": self.program, "good": good, "missed": self.missed,
                "wrong_answers": self.wrong.len(), "wrong": shown, "figures": self.figures,
            });
            println!("{object}");
        } else {
            let verdict = if good { "every answer was right" } else { "FAILED" };
            let (wrong, missed) = (self.wrong.len(), self.missed);
            println!("{}: {verdict} ({wrong} wrong answers, {missed} targets missed)", self.program);
        }
        ExitCode::from(u8::from(!good))
    }
}

/// The outcome of a program's self-test: each planted defect and whether it was reported.
#[derive(Debug)]
pub struct SelfTest {
    program: &'static str,
    as_json: bool,
    planted: Vec<(String, bool)>,
}

impl SelfTest {
    /// Nothing planted yet.
    pub fn new(program: &'static str, as_json: bool) -> Self {
        Self { program, as_json, planted: Vec::new() }
    }

    /// Notes that a defect was planted, and what was reported of it.
    pub fn planted(&mut self, defect: &str, wrongs: &[String]) {
        if !self.as_json {
            match wrongs.first() {
                Some(first) => println!("  planted: {defect}\n    caught: {first}"),
                None => println!("  planted: {defect}\n    NOT CAUGHT"),
            }
        }
        self.planted.push((defect.to_string(), !wrongs.is_empty()));
    }

    /// The exit code: 0 only if all were caught.
    pub fn finish(self) -> ExitCode {
        let caught = self.planted.iter().filter(|(_, caught)| *caught).count();
        let good = caught == self.planted.len() && caught > 0;
        if self.as_json {
            let planted: Vec<Value> = (self.planted.iter())
                .map(|(defect, caught)| json!({ "defect": defect, "caught": caught }))
                .collect();
            println!("{}", json!({ "program": self.program, "self_test": planted, "good": good }));
        } else {
            println!("{} --self-test: {caught} of {} defects caught", self.program, self.planted.len());
        }
        ExitCode::from(u8::from(!good))
    }
}
