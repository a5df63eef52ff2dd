//! How the models are explored, and how the explorer itself is put to the test.
//!
//! Loom runs a model again and again, each time with another interleaving and another legal outcome of every relaxed
//! load, until none is left within the bound. The bound: every execution with at most
//! `PREEMPTIONS_MAX` involuntary thread switches. The models are in `tests/models`; run them with `cargo loom`.
//!
//! A passing model proves little until it is known to fail when the code is wrong, so each one is also run with a
//! planted bug (`holdfast::sync::Bug`) that `model!` demands to be reported.
//!
//! Roles matter: writers go first. Loom 0.7 remembers one last access per atomic, so a thread that loads an atomic
//! before it writes to it hides that another thread has loaded it before, and the other order of the two is never
//! tried. The write that comes first is remembered, so a model in which the thread that runs first (the main one,
//! then by order of spawning) is the one that writes is explored in both orders. The planted bugs found this out,
//! and guard against it.
//!
//! Without `--cfg loom` this package is empty.

#![cfg(loom)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use holdfast::sync::{Bug, UnsafeCell, plant};

/// Involuntary thread switches per execution. Musuvathi and Qadeer, "Iterative Context Bounding for Systematic
/// Testing of Multithreaded Programs" (2007), found that nearly all real races need no more than two.
pub const PREEMPTIONS_MAX: usize = 3;

/// Names the planted bug that a child process is to explore with.
const PLANTED: &str = "HOLDFAST_PLANTED";

/// Defines a test that explores a model, and explores it again with each of the planted bugs, which must be reported
/// in words that contain the given ones.
#[macro_export]
macro_rules! model {
    ($name:ident, $model:expr $(, catches $bug:ident: $report:literal)*) => {
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            $crate::check(test, $model, &[$((holdfast::sync::Bug::$bug, $report)),*]);
        }
    };
}

/// See [`model!`]; `test` is the full path of the calling test.
pub fn check(test: &str, model: fn(), bugs: &[(Bug, &str)]) {
    if let Ok(name) = std::env::var(PLANTED) {
        let (bug, _) =
            bugs.iter().find(|(bug, _)| format!("{bug:?}") == name).expect("one of the test's own bugs");
        plant(Some(*bug));
        return explore(model);
    }
    explore(model);
    for (bug, report) in bugs {
        must_catch(test, *bug, report);
    }
}

/// Explores every execution of `model` within the bound. Panics in the first one that fails.
fn explore(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.max_branches = 20_000;
    let executions = Arc::new(AtomicU64::new(0));
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    // Printed when the test fails, or with `--nocapture`.
    println!("explored {} executions", executions.load(Ordering::Relaxed));
}

/// Runs the calling test in a process of its own with `bug` planted and demands that it fails as it should. Not in
/// this process, because loom's reports may end in an abort: what it unwinds over still belongs to its execution.
fn must_catch(test: &str, bug: Bug, report: &str) {
    let (_, test) = test.split_once("::").expect("a test stands in a module of its binary");
    let output = Command::new(std::env::current_exe().expect("a test is a file"))
        .args(["--exact", test, "--nocapture"])
        .env(PLANTED, format!("{bug:?}"))
        .output()
        .expect("a test can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{bug:?} went unnoticed");
    assert!(said.contains(report), "{bug:?} was reported as something else than {report:?}:\n{said}");
}

/// Stands for memory that a structure under test is to protect: loom fails an execution in which a write races with
/// anything.
#[derive(Debug)]
pub struct Guarded(UnsafeCell<()>);

#[expect(
    unsafe_code,
    reason = "loom's cell is not Sync: finding out whether it may be shared is what it is for"
)]
// SAFETY: the pointer to the content is never followed.
unsafe impl Sync for Guarded {}

impl Guarded {
    /// Not yet touched.
    #[expect(clippy::new_without_default, reason = "made in a model only, never by default")]
    pub fn new() -> Self {
        Self(UnsafeCell::new(()))
    }

    /// A read.
    pub fn read(&self) {
        self.0.with(|_| ());
    }

    /// A write.
    pub fn write(&self) {
        self.0.with_mut(|_| ());
    }
}

struct Unpark(loom::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on the calling thread of a model. One that is never woken is a deadlock, which loom
/// reports.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(loom::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        loom::thread::park();
    }
}

/// Polls once, for futures that are to be dropped afterwards.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
