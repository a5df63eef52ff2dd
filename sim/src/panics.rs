//! Where a thread panicked last, so that whoever judges a run knows whose bug it is.
//!
//! The place is the line that panicked, or that called what may panic. Where that is a line of the standard library or of
//! a dependency, the nearest of our own lines above it in the backtrace is named too. In a build without line tables it is
//! the nearest of our functions that was not inlined.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::PanicHookInfo;
use std::sync::Once;

/// Where something panicked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file, as the compiler was given it: relative to its workspace, or absolute.
    pub file: String,
    /// The line in it.
    pub line: u32,
    /// If the file is none of ours: the nearest caller that is, as file and line, or as a function if these are not known.
    pub caller: Option<String>,
}

impl Place {
    /// True if what panicked belongs to the kernel.
    pub fn is_of_kernel(&self) -> bool {
        match &self.caller {
            Some(caller) => is_file_of_kernel(caller) || crate_of(caller) == Some("holdfast"),
            None => is_file_of_kernel(&self.file),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        self.caller.as_ref().map_or(Ok(()), |caller| write!(f, ", called by {caller}"))
    }
}

/// Why a run did not come to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Nothing in it went on: a dead end, a busy loop, no end within its limits. Whatever ran inside is to blame.
    Stuck,
    /// Something panicked here.
    Panicked(Option<Place>),
}

thread_local! {
    static LAST: RefCell<Option<Place>> = const { RefCell::new(None) };
    static LISTENS: Cell<bool> = const { Cell::new(false) };
    static IS_STUCK: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread remembers where it panicked. It still does whatever it did at a panic before.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note(info);
            before(info);
        }));
    });
    LISTENS.set(true);
}

/// Takes where this thread panicked last, if it listened.
pub fn take() -> Option<Place> {
    LAST.take()
}

/// The words of a panic that was caught.
pub fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// Takes why the run of this thread has just panicked.
pub(crate) fn take_cause() -> Cause {
    let place = take();
    if IS_STUCK.replace(false) { Cause::Stuck } else { Cause::Panicked(place) }
}

/// Ends the run of this thread, in which nothing goes on.
#[track_caller]
pub(crate) fn stuck(what: String) -> ! {
    IS_STUCK.set(true);
    panic!("{what}")
}

fn note(info: &PanicHookInfo<'_>) {
    let Some(at) = info.location().filter(|_| LISTENS.try_with(Cell::get).unwrap_or(false)) else { return };
    // The long form, for the short one cuts the current directory off all files in it.
    let backtrace = || format!("{:#}", Backtrace::force_capture());
    let caller = is_foreign(at.file()).then(|| caller_in(&backtrace())).flatten();
    let place = Place { file: at.file().to_owned(), line: at.line(), caller };
    let _ = LAST.try_with(|last| last.replace(Some(place)));
}

fn is_file_of_kernel(file: &str) -> bool {
    file.starts_with("kernel/src/") || file.contains("/kernel/src/")
}

fn is_foreign(file: &str) -> bool {
    ["/rustc/", "/library/", "/registry/"].iter().any(|place| file.contains(place))
}

/// The nearest of our lines in a backtrace, as the standard library prints it, but for this module's.
fn caller_in(backtrace: &str) -> Option<String> {
    let mut lines = backtrace.lines().map(str::trim_start).peekable();
    while let Some(line) = lines.next() {
        let Some(function) = function_of(line) else { continue };
        let place = lines.peek().and_then(|next| next.strip_prefix("at "));
        // Line and column stand behind the file.
        let is_ours = match place {
            Some(place) => !is_foreign(place) && !place.contains("sim/src/panics.rs:"),
            None => {
                crate_of(function).is_some_and(|of| of.starts_with("holdfast"))
                    && !function.contains(module_path!())
            }
        };
        if is_ours {
            let line = place.map(|place| place.rsplit_once(':').map_or(place, |(line, _)| line));
            return Some(line.unwrap_or(function).to_owned());
        }
    }
    None
}

/// The function in a line such as `   7:     0x55d5c8a3 - holdfast::wal::append`; the address need not be there.
fn function_of(line: &str) -> Option<&str> {
    let (number, function) = line.split_once(": ")?;
    let is_numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let function = function.trim_start();
    let named = function.split_once(" - ").filter(|(address, _)| address.starts_with("0x"));
    is_numbered.then_some(named.map_or(function, |(_, function)| function))
}

/// The crate that a function belongs to: of a method the one of its type.
fn crate_of(function: &str) -> Option<&str> {
    let name = function.trim_start_matches(['<', '&', '*', '[', '(']);
    let name =
        ["dyn ", "mut ", "const "].iter().fold(name, |name, word| name.strip_prefix(word).unwrap_or(name));
    name.split_once("::").map(|(of, _)| of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_where_and_whose_it_is() {
        let place = std::thread::spawn(|| {
            listen();
            let caught = std::panic::catch_unwind(|| panic!("planted"));
            (caught.is_err(), take(), take())
        });
        let (has_panicked, place, again) = place.join().expect("it was caught");
        let place = place.expect("it was noted");
        assert!(has_panicked && place.file.ends_with("sim/src/panics.rs") && place.line > 100, "{place:?}");
        assert!(!place.is_of_kernel());
        assert_eq!(again, None);
        let of = |file: &str| Place { file: file.to_owned(), line: 1, caller: None };
        assert!(of("kernel/src/wal/mod.rs").is_of_kernel());
        assert!(of("/somewhere/kernel/src/wal/mod.rs").is_of_kernel());
        assert!(!of("kernel/tests/wal.rs").is_of_kernel());
        assert!(!of("workloads/src/oracle/model.rs").is_of_kernel());
    }

    fn called_by(backtrace: &str) -> Place {
        let file = "/rustc/0/library/core/src/x.rs".to_owned();
        Place { file, line: 3, caller: caller_in(backtrace) }
    }

    #[test]
    fn what_panics_in_a_library_is_its_callers() {
        let hook = "   0:     0x55d5c8a3 - force_capture\n             at /rustc/0/library/std/src/backtrace.rs:9:1\n   1:     \
                    0x55d5c8a4 - note\n             at /x/sim/src/panics.rs:90:1\n   2:     0x55d5c8a5 - \
                    sort<holdfast::types::Seq>\n             at /rustc/0/library/core/src/slice.rs:9:1\n";
        let with_lines =
            |file: &str| format!("{hook}   3:     0x55d5c8a6 - {{closure#0}}\n             at {file}:12:5\n");
        let of_kernel = called_by(&with_lines("/x/kernel/src/wal/mod.rs"));
        assert!(of_kernel.is_of_kernel());
        assert_eq!(
            of_kernel.to_string(),
            "/rustc/0/library/core/src/x.rs:3, called by /x/kernel/src/wal/mod.rs:12"
        );
        assert!(!called_by(&with_lines("/x/workloads/src/oracle/mod.rs")).is_of_kernel());
        assert_eq!(called_by(hook).caller, None);
    }

    #[test]
    fn without_line_tables_functions_say_whose_it_is() {
        let with = |function: &str| {
            format!(
                "   0: std::backtrace::Backtrace::force_capture\n   1: holdfast_sim::panics::note\n   2: \
                 core::slice::sort::unstable::panic_on_ord_violation\n   3: {function}\n   4: \
                 holdfast_workloads::storm::Storm::live\n"
            )
        };
        let of_kernel = called_by(&with("<holdfast::wal::Log as core::fmt::Debug>::fmt"));
        assert!(of_kernel.is_of_kernel());
        assert_eq!(of_kernel.caller.as_deref(), Some("<holdfast::wal::Log as core::fmt::Debug>::fmt"));
        assert!(!called_by(&with("holdfast_workloads::oracle::ask")).is_of_kernel());
    }
}
