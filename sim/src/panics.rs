//! Where a thread panicked last, so that whoever judges a run knows whose bug it is.
//!
//! The place is the line that panicked, or that called what may panic. Where that is a line of the standard library or of
//! a dependency, the nearest of our own functions above it is named too, unless it was inlined.

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
    /// If the file is none of ours: the nearest caller that is.
    pub caller: Option<String>,
}

impl Place {
    /// True if what panicked belongs to the kernel.
    pub fn is_of_kernel(&self) -> bool {
        match &self.caller {
            Some(caller) => crate_of(caller) == Some("holdfast"),
            None => self.file.starts_with("kernel/src/") || self.file.contains("/kernel/src/"),
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
    let is_foreign = ["/rustc/", "/library/", "/registry/"].iter().any(|place| at.file().contains(place));
    let caller = is_foreign.then(|| caller_in(&Backtrace::force_capture().to_string())).flatten();
    let place = Place { file: at.file().to_owned(), line: at.line(), caller };
    let _ = LAST.try_with(|last| last.replace(Some(place)));
}

/// The nearest of our functions in a backtrace, as the standard library prints it, but for the hook's.
fn caller_in(backtrace: &str) -> Option<String> {
    let functions = backtrace.lines().filter_map(|line| {
        let (number, function) = line.trim_start().split_once(": ")?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then_some(function)
    });
    let ours = |function: &&str| {
        let of = crate_of(function);
        let is_hook = ["holdfast_sim::panics::note", "holdfast_sim::panics::listen"];
        of.is_some_and(|of| of.starts_with("holdfast")) && !is_hook.iter().any(|name| function.contains(name))
    };
    functions.into_iter().find(ours).map(str::to_owned)
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

    #[test]
    fn what_panics_in_a_library_is_its_callers() {
        let backtrace = "   0: std::backtrace::Backtrace::force_capture\n   1: holdfast_sim::panics::note\n             at \
                         ./sim/src/panics.rs:90:1\n   2: core::slice::sort::unstable::panic_on_ord_violation\n   3: \
                         <holdfast::wal::Log as core::fmt::Debug>::fmt\n   4: holdfast_workloads::storm::Storm::live\n";
        let place = Place {
            file: "/rustc/0/library/core/src/x.rs".to_owned(),
            line: 3,
            caller: caller_in(backtrace),
        };
        assert!(place.is_of_kernel());
        assert_eq!(
            place.to_string(),
            "/rustc/0/library/core/src/x.rs:3, called by <holdfast::wal::Log as core::fmt::Debug>::fmt"
        );
        let of_oracle = Place { caller: Some("holdfast_workloads::oracle::ask".to_owned()), ..place };
        assert!(!of_oracle.is_of_kernel());
    }
}
