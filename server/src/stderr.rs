//! Standard error, shared by all that write to it: notes, the log, a moving progress line, and the shell's line editor.
//!
//! Events come from any thread at any time. A line that is written into a progress line, or into what somebody is
//! typing, garbles both. So every line goes through here: a progress line is taken away, the line written, and the
//! progress line drawn again below it; what comes while a line is edited is held until it has been entered.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, WeakProgressBar};
use serde_json::json;

use crate::visible::visible;

/// So many lines are held at most; of the others only the number is told.
const HELD_LINES_MAX: usize = 1000;

static SCREEN: Mutex<Screen> = Mutex::new(Screen { bar: None, held: None });

struct Screen {
    bar: Option<WeakProgressBar>,
    held: Option<HeldLines>,
}

#[derive(Default)]
struct HeldLines {
    lines: Vec<String>,
    dropped: u64,
}

impl HeldLines {
    fn push(&mut self, text: &str) {
        if self.lines.len() < HELD_LINES_MAX {
            self.lines.push(text.to_string());
        } else {
            self.dropped += 1;
        }
    }

    fn write(self) {
        for line in &self.lines {
            write(line);
        }
        if self.dropped > 0 {
            write(&format!("and {} lines more, which were not kept", self.dropped));
        }
    }
}

/// Writes a line. Nothing can be done about a closed standard error, and nothing depends on it.
pub fn line(text: &str) {
    let mut screen = screen();
    if let Some(held) = &mut screen.held {
        return held.push(text);
    }
    match screen.bar.as_ref().and_then(WeakProgressBar::upgrade) {
        Some(bar) => bar.suspend(|| write(text)),
        None => write(text),
    }
}

/// Says what is neither result nor failure; with `as_json`, as an object whose only member is `note`.
pub fn note(as_json: bool, text: &str) {
    match as_json {
        true => line(&json!({ "note": text }).to_string()),
        false => line(&visible(&format!("note: {text}"))),
    }
}

/// As [`note`], of something that went wrong and did not stop the command.
pub fn warning(as_json: bool, text: &str) {
    match as_json {
        true => note(as_json, text),
        false => line(&visible(&format!("warning: {text}"))),
    }
}

/// From now on lines are written above this progress line, until it is gone or another one is shown.
pub(crate) fn show(bar: &ProgressBar) {
    screen().bar = Some(bar.downgrade());
}

/// From now on lines are held, until the value that is returned is dropped.
#[must_use = "lines are held as long as it lives"]
pub(crate) fn hold() -> Hold {
    screen().held.get_or_insert_default();
    Hold(())
}

/// Somebody is typing.
pub(crate) struct Hold(());

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(held) = screen().held.take() {
            held.write();
        }
    }
}

fn screen() -> MutexGuard<'static, Screen> {
    // A panic between two lines leaves nothing half done.
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_the_rest_counted() {
        let mut held = HeldLines::default();
        for number in 0..HELD_LINES_MAX + 3 {
            held.push(&number.to_string());
        }
        assert_eq!((held.lines.len(), held.dropped), (HELD_LINES_MAX, 3));
        assert_eq!((held.lines[0].as_str(), held.lines[HELD_LINES_MAX - 1].as_str()), ("0", "999"));
    }
}
