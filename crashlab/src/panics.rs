//! Whose bug a panic is: one of the kernel is a violation of its own kind, any other one is trouble of the harness.
//!
//! Decided is by the place ([`holdfast_sim::panics`]): the line that panicked, which of `unwrap`, of an index and of whatever
//! else tracks its caller is the caller's. If that line belongs to the standard library or to a dependency, the nearest
//! function of ours in the backtrace decides; where none is named, the panic is the harness's. While the oracles are asked
//! no kernel runs: each panic is the harness's then, wherever it comes from, and costs the seed that is judged its verdict
//! and no other one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use holdfast_sim::Failed;
use holdfast_sim::panics::{self, Cause, Place};
use holdfast_workloads::history::History;
use holdfast_workloads::oracle::model::Rules;
use holdfast_workloads::oracle::{Answer, Violation, Wrong, ask};

/// What is wrong with a run that did not come to its end.
pub(crate) fn violation_of(failed: &Failed) -> Violation {
    match &failed.cause {
        Cause::Stuck => Violation { wrong: Wrong::Unavailable, what: failed.message().to_owned() },
        Cause::Panicked(place) => of_panic(place.as_ref(), failed.message()),
    }
}

/// Asks the oracles, unless something is known to be wrong already.
pub(crate) fn ask_guarded(history: &History, rules: Rules, known: Vec<Violation>) -> Answer {
    if !known.is_empty() {
        return Answer { violations: known, is_undecided: false };
    }
    guarded(|| ask(history, rules))
        .unwrap_or_else(|violation| Answer { violations: vec![violation], is_undecided: false })
}

/// What `judge` says, or where it panicked.
fn guarded<T>(judge: impl FnOnce() -> T) -> Result<T, Violation> {
    panics::listen();
    catch_unwind(AssertUnwindSafe(judge)).map_err(|panic| {
        let what = format!("judging: {}", told(panics::take().as_ref(), panics::words_of(&*panic)));
        Violation { wrong: Wrong::Harness, what }
    })
}

fn of_panic(place: Option<&Place>, words: &str) -> Violation {
    let wrong = if place.is_some_and(Place::is_of_kernel) { Wrong::Panicked } else { Wrong::Harness };
    Violation { wrong, what: told(place, words) }
}

fn told(place: Option<&Place>, words: &str) -> String {
    match place {
        Some(place) => format!("panic at {place}: {words}"),
        None => format!("panic: {words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(body: fn()) -> Violation {
        let run = holdfast_sim::try_run(1, move |world| async move {
            let process = world.process("db");
            let _ = process.run(async move { body() }).await;
        });
        violation_of(&run.expect_err("it panics"))
    }

    #[test]
    fn a_panic_of_the_kernel_is_the_kernels_and_any_other_the_harness_s() {
        let of_kernel = failure(|| drop(std::sync::Arc::new(holdfast::sync::Semaphore::new(1)).acquire(2)));
        assert_eq!(of_kernel.wrong, Wrong::Panicked, "{of_kernel}");
        assert!(of_kernel.what.contains("kernel/src/sync/semaphore.rs"), "{of_kernel}");
        let of_ours = failure(|| panic!("planted"));
        assert_eq!(of_ours.wrong, Wrong::Harness, "{of_ours}");
        assert!(
            of_ours.what.contains("crashlab/src/panics.rs") && of_ours.what.contains("planted"),
            "{of_ours}"
        );
    }

    #[test]
    fn a_panic_while_judging_is_the_harness_s_and_leaves_the_next_verdict_alone() {
        let order: Vec<u8> = Vec::new();
        let judges: [(&dyn Fn() -> usize, &str); 3] = [
            (&|| usize::from(order[order.len() + 3]), "index out of bounds"),
            (&|| (0..9).step_by(order.len()).count(), "called by"),
            (
                &|| {
                    drop(std::sync::Arc::new(holdfast::sync::Semaphore::new(1)).acquire(2));
                    0
                },
                "kernel/src",
            ),
        ];
        for (judge, named) in judges {
            let violation = guarded(judge).expect_err("it panics");
            assert_eq!(violation.wrong, Wrong::Harness, "{violation}");
            assert!(
                violation.what.starts_with("judging: panic at ") && violation.what.contains(named),
                "{violation}"
            );
            assert_eq!(guarded(|| 7), Ok(7));
        }
    }

    #[test]
    fn a_run_that_cannot_go_on_is_the_databases() {
        let run = holdfast_sim::try_run(1, |_| std::future::pending::<()>());
        let violation = violation_of(&run.expect_err("nothing can go on"));
        assert_eq!(violation.wrong, Wrong::Unavailable);
        assert!(violation.what.starts_with("nothing can go on"), "{violation}");
    }
}
