//! How the tour talks: sections of plain lines for people, one JSON object a section for programs.

use std::fmt::Display;

use serde_json::{Map, Value as Json, json};

use crate::exit::Failure;
use crate::output::Output;

pub(super) struct Teller<'a> {
    out: &'a mut Output,
    number: u64,
    title: &'static str,
    facts: Map<String, Json>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(out: &'a mut Output) -> Self {
        Self { out, number: 0, title: "", facts: Map::new() }
    }

    /// Begins a section.
    pub(super) fn begin(&mut self, title: &'static str) -> Result<(), Failure> {
        self.number += 1;
        self.title = title;
        self.facts = Map::new();
        self.out.line(format_args!("{}. {title}", self.number))?;
        self.out.flush()
    }

    /// A line for people.
    pub(super) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        for line in text.to_string().split('\n') {
            let indent = if line.is_empty() { "" } else { "   " };
            self.out.line(format_args!("{indent}{line}"))?;
        }
        self.out.flush()
    }

    /// A figure for programs, which find it by its name: in small letters and underscores, the unit last.
    pub(super) fn fact(&mut self, name: &str, value: impl Into<Json>) {
        self.facts.insert(name.to_string(), value.into());
    }

    /// A claim that must hold.
    pub(super) fn must(&mut self, holds: bool, claim: impl Display) -> Result<(), Failure> {
        if holds {
            return Ok(());
        }
        Err(Failure::Problem(format!(
            "the tour found a fault, please report it: this does not hold: {claim}"
        )))
    }

    /// Ends the section.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let facts = std::mem::take(&mut self.facts);
        self.out.say("", json!({ "section": self.title, "facts": facts }))?;
        self.out.flush()
    }
}
