//! Standard output: text for people, or one JSON object a line.
//!
//! Everything a command has to say goes through [`Output`], so that a closed pipe is met in one place and ends the run
//! quietly (see [`exit`](crate::exit)).

use std::io::{BufWriter, IsTerminal, Stdout, Write};

use serde_json::{Value as Json, json};

use crate::cli::Global;
use crate::exit::Failure;
use crate::formats::Notation;
use crate::visible::{beginning, visible_lines};

/// Where results go.
pub struct Output {
    sink: BufWriter<Stdout>,
    as_json: bool,
    is_terminal: bool,
    key: Notation,
    value: Notation,
}

impl Output {
    /// Standard output in the form that the arguments ask for.
    pub fn new(global: &Global) -> Self {
        let stdout = std::io::stdout();
        Self {
            is_terminal: stdout.is_terminal(),
            sink: BufWriter::new(stdout),
            as_json: global.json,
            key: global.key_format,
            value: global.value_format,
        }
    }

    /// True if results are JSON.
    pub fn as_json(&self) -> bool {
        self.as_json
    }

    /// One result: `object` as a line of JSON, or `text` with a line feed, nothing in it that disturbs a terminal.
    ///
    /// # Errors
    /// If standard output fails or was closed.
    pub fn say(&mut self, text: impl std::fmt::Display, object: Json) -> Result<(), Failure> {
        let line = if self.as_json {
            writeln!(self.sink, "{object}")
        } else {
            writeln!(self.sink, "{}", visible_lines(&text.to_string()))
        };
        line.map_err(failed)
    }

    /// A line for people; JSON leaves it out.
    ///
    /// # Errors
    /// As [`Output::say`].
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        if self.as_json {
            return Ok(());
        }
        writeln!(self.sink, "{}", visible_lines(&text.to_string())).map_err(failed)
    }

    /// Text as it is, without a line feed.
    ///
    /// # Errors
    /// As [`Output::say`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sink.write_all(bytes).map_err(failed)
    }

    /// A value on its own. In the raw notation these are its bytes and nothing else, except for a line feed on a
    /// terminal.
    ///
    /// # Errors
    /// If the notation cannot express it, or as [`Output::say`].
    pub fn value(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        if self.as_json {
            return self.entry(key, Some(value));
        }
        if self.value != Notation::Raw {
            let shown = self.value.format(value).map_err(|what| cannot_show("value", key, what))?;
            return writeln!(self.sink, "{shown}").map_err(failed);
        }
        self.bytes(value)?;
        if self.is_terminal { self.bytes(b"\n") } else { Ok(()) }
    }

    /// A key and its value, a tab between; or the key alone.
    ///
    /// # Errors
    /// If a notation cannot express them, or as [`Output::say`].
    pub fn entry(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Failure> {
        if !self.as_json && self.key == Notation::Raw {
            self.bytes(key)?;
        } else {
            let shown = self.key.format(key).map_err(|what| cannot_show("key", key, what))?;
            if self.as_json {
                let value = value
                    .map(|value| self.value.format(value).map_err(|what| cannot_show("value", key, what)));
                let object = match value.transpose()? {
                    Some(value) => json!({ "key": shown, "value": value }),
                    None => json!({ "key": shown }),
                };
                return writeln!(self.sink, "{object}").map_err(failed);
            }
            write!(self.sink, "{shown}").map_err(failed)?;
        }
        match value {
            Some(value) if self.value == Notation::Raw => {
                self.bytes(b"\t")?;
                self.bytes(value)?;
                self.bytes(b"\n")
            }
            Some(value) => {
                let shown = self.value.format(value).map_err(|what| cannot_show("value", key, what))?;
                writeln!(self.sink, "\t{shown}").map_err(failed)
            }
            None => self.bytes(b"\n"),
        }
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// As [`Output::say`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush().map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Failure {
    Failure::io("standard output", error)
}

fn cannot_show(what: &str, key: &[u8], why: String) -> Failure {
    Failure::WrongUse(format!("the {what} of key \"{}\": {why}", beginning(&holdfast::escaped::escape(key))))
}
