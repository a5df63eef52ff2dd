//! Tells another process, line by line, what this one is doing: the pipe from a child to the parent that kills it.
//!
//! A line is one `write` of less than `PIPE_BUF` bytes, so lines of several threads never mix, and a line that was
//! written is read by the parent whatever happens to the child afterwards. The kernel's phases arrive as `tracing`
//! events and are written by the very thread that enters or leaves the phase, before it goes on: a phase whose
//! beginning was read and whose end was not is where a kill fell.
//!
//! ```text
//! B <phase>          a phase begins          E <phase>      it ends
//! <anything else>    the program's own lines
//! ```

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use holdfast::check::PHASE_TARGET;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Lines longer than this could be mixed by the pipe.
const LINE_BYTES_MAX: usize = 4096;

/// Writes a line to standard output in one call.
///
/// # Panics
/// If it is longer than a pipe keeps whole. If the reader has gone the process ends: it has nobody to tell.
pub fn tell(line: &str) {
    assert!(line.len() < LINE_BYTES_MAX, "a line the pipe keeps whole");
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    let mut out = standard_output();
    if out.write_all(&bytes).is_err() {
        std::process::exit(3);
    }
}

/// Standard output without the buffer and lock of `std::io::stdout`.
fn standard_output() -> &'static File {
    static OUT: OnceLock<File> = OnceLock::new();
    OUT.get_or_init(|| {
        let descriptor = std::io::stdout().as_fd().try_clone_to_owned();
        File::from(descriptor.expect("the process has room for one more descriptor"))
    })
}

/// Counts of what a subscriber saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Events that tell of a replay that goes on.
    pub progress: AtomicU64,
}

/// A `tracing` subscriber that tells the parent of phases and counts progress events.
#[derive(Debug, Default)]
pub struct PhaseTeller {
    seen: Arc<Seen>,
    /// Tell the parent of phases; else only count.
    tells: bool,
}

impl PhaseTeller {
    /// Puts it in force for the whole process. With `tells`, phases are written to standard output.
    ///
    /// # Panics
    /// If there is a subscriber already.
    pub fn install(tells: bool) -> Arc<Seen> {
        let teller = Self { seen: Arc::default(), tells };
        let seen = teller.seen.clone();
        tracing::subscriber::set_global_default(teller).expect("one subscriber a process");
        seen
    }
}

impl Subscriber for PhaseTeller {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == PHASE_TARGET || metadata.target().starts_with("holdfast::wal")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut found = PhaseEvent::default();
        event.record(&mut found);
        if event.metadata().target() != PHASE_TARGET {
            if found.is_progress {
                self.seen.progress.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        if self.tells {
            let edge = if found.edge == "begin" { 'B' } else { 'E' };
            tell(&format!("{edge} {}", found.phase));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct PhaseEvent {
    phase: String,
    edge: String,
    is_progress: bool,
}

impl Visit for PhaseEvent {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "phase" => self.phase = value.to_string(),
            "edge" => self.edge = value.to_string(),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, _: u64) {
        self.is_progress |= field.name() == "mebibytes";
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
