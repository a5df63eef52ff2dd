//! What the kernel reports of its work, on standard error and never on standard output.
//!
//! ```text
//! warning: the log's tail is torn: a write was under way file=db/00000002.log offset=4096
//! {"level":"warn","time":"2026-01-31T12:00:00.000000Z","target":"holdfast::wal","message":"…","fields":{"offset":4096}}
//! ```
//! The first form is for people; a time stands before it when more than warnings was asked for, since whoever asks
//! wants to know what took how long. The second is for programs, under `--json`: one object a line, told from an error's
//! object by its member `level`. Control characters are escaped in both, so that no name of a file can move the cursor.

use std::fmt::{self, Write};

use serde_json::{Map, Value as Json, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::stderr;

/// Which events are shown: those of this level and all above it.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// None.
    Off,
    /// What went wrong for good: writes have stopped, a damaged table.
    Error,
    /// What deserves a look: a torn tail, a full disk.
    Warn,
    /// Changes of state (opened, flushed, compacted), and slow operations.
    Info,
    /// Each single step.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// The target of the kernel's slow operations. A long import on a slow disk meets thousands, and whoever runs it sees its
/// rate anyway, so they are shown to those who ask for more than warnings.
const SLOW: &str = "holdfast::slow";

/// Shows events from now on, until the process ends. Called once, by `main`.
///
/// # Panics
/// If events are shown already.
pub fn start(level: Level, as_json: bool) {
    let is_curious = level > Level::Warn;
    let lines = Lines { as_json, with_time: is_curious, with_slow: is_curious };
    let subscriber = tracing_subscriber::registry().with(level.filter()).with(lines);
    tracing::subscriber::set_global_default(subscriber).expect("main starts it once");
}

struct Lines {
    as_json: bool,
    with_time: bool,
    with_slow: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() == SLOW && !self.with_slow {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        if self.as_json {
            let level = metadata.level().as_str().to_ascii_lowercase();
            let object = json!({
                "level": level, "time": now(), "target": metadata.target(),
                "message": said.message, "fields": said.fields,
            });
            return stderr::line(&object.to_string());
        }
        let time = if self.with_time { format!("{} ", now()) } else { String::new() };
        stderr::line(&format!("{time}{}: {}", word(*metadata.level()), said.as_text()));
    }
}

fn word(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warning",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG => "debug",
        tracing::Level::TRACE => "trace",
    }
}

/// Now, in UTC.
fn now() -> String {
    let mut text = String::new();
    // Writing into a string does not fail, and an event without its time is better than none.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// An event's message and its other fields.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Json>,
}

impl Said {
    fn add(&mut self, field: &Field, value: Json) {
        self.fields.insert(field.name().to_string(), value);
    }

    fn as_text(&self) -> String {
        let mut text = printable(&self.message);
        for (name, value) in &self.fields {
            let shown = match value {
                Json::String(value) => printable(value),
                other => other.to_string(),
            };
            let _ = write!(text, " {name}={shown}");
        }
        text
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            _ => self.add(field, Json::String(text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_string(),
            _ => self.add(field, json!(value)),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, json!(value));
    }
}

/// The text with its control characters escaped.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { printable.extend(c.escape_default()) } else { printable.push(c) }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_can_move_the_cursor() {
        let mut said = Said { message: "a file\n".into(), fields: Map::new() };
        said.fields.insert("name".into(), json!("\u{1b}[2Jä"));
        said.fields.insert("offset".into(), json!(7));
        assert_eq!(said.as_text(), "a file\\n name=\\u{1b}[2Jä offset=7");
    }
}
