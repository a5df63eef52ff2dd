//! Progress of long commands: a moving line for people, nothing for programs.
//!
//! On a terminal, standard error shows how far the work is and how many rows a second it makes. When standard error
//! is not a terminal nothing is drawn, so that logs stay free of it. Standard output is never touched.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::stderr;

const WITH_TOTAL: &str = "{msg} [{bar:30}] {human_pos} of {human_len} rows, {rows_per_s}, {eta} left";
const BYTES: &str = "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
const WITHOUT_TOTAL: &str = "{spinner} {msg} {human_pos} rows, {rows_per_s}, {elapsed}";

/// Shows how far a command is.
pub struct Progress {
    bar: ProgressBar,
    rows: u64,
}

/// What was done, for the closing line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// Rows handled.
    pub rows: u64,
    /// How long all of it took, to the end of the command.
    pub elapsed: Duration,
}

impl Progress {
    /// Starts to show `what`, towards `rows_total` if that is known.
    pub fn start(what: &'static str, rows_total: Option<u64>) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = match (is_terminal, rows_total) {
            (false, _) => ProgressBar::hidden(),
            (true, Some(total)) => ProgressBar::new(total).with_style(style(WITH_TOTAL)),
            (true, None) => ProgressBar::no_length().with_style(style(WITHOUT_TOTAL)),
        };
        bar.set_message(what);
        if is_terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
            stderr::show(&bar);
        }
        Self { bar, rows: 0 }
    }

    /// Counts rows as done. Cheap enough for every row: the line is redrawn at most some times a second.
    pub fn add(&mut self, rows: u64) {
        self.rows += rows;
        self.bar.inc(rows);
    }

    /// Clears the line and gives the number of rows.
    pub fn finish(&self) -> u64 {
        self.bar.finish_and_clear();
        self.rows
    }
}

/// Shows how far a command is that reads files as a whole.
pub struct Bytes {
    bar: ProgressBar,
}

impl Bytes {
    /// Starts to show `what`.
    pub fn start(what: &'static str) -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(0).with_style(style(BYTES)),
            false => ProgressBar::hidden(),
        };
        bar.set_message(what);
        stderr::show(&bar);
        Self { bar }
    }

    /// So many bytes are done of so many.
    pub fn at(&self, done: u64, total: u64) {
        self.bar.set_length(total.max(done));
        self.bar.set_position(done);
    }

    /// Clears the line.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).expect("the template is a constant that a test parses");
    // The library's own rate has four digits behind the point, and its unit in an order of its own.
    style.with_key("rows_per_s", |state: &ProgressState, line: &mut dyn Write| {
        let _ = line.write_str(&shown_rate(state.per_sec() as u64));
    })
}

fn shown_rate(rows_per_s: u64) -> String {
    format!("{} rows/s", HumanCount(rows_per_s))
}

impl Summary {
    /// Rows a second; 0 if no time passed.
    pub fn rows_per_s(&self) -> u64 {
        let elapsed_us = self.elapsed.as_micros();
        let rate = u128::from(self.rows) * 1_000_000;
        rate.checked_div(elapsed_us).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let took = match self.elapsed.as_secs() {
            0..60 => format!("{:.2} s", self.elapsed.as_secs_f64()),
            _ => HumanDuration(self.elapsed).to_string(),
        };
        write!(f, "{} rows in {took} ({})", HumanCount(self.rows), shown_rate(self.rows_per_s()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_and_rated() {
        let mut progress = Progress::start("importing", Some(3));
        progress.add(1);
        progress.add(2);
        assert_eq!(progress.finish(), 3);
        let summary = Summary { rows: 159_866, elapsed: Duration::from_millis(500) };
        assert_eq!(summary.to_string(), "159,866 rows in 0.50 s (319,732 rows/s)");
        assert_eq!(Summary { rows: 1, elapsed: Duration::ZERO }.rows_per_s(), 0);
    }

    #[test]
    fn the_templates_parse() {
        style(WITH_TOTAL);
        style(WITHOUT_TOTAL);
        style(BYTES);
    }
}
