//! Whose bug a panic is: one of the kernel is a violation of its own kind, any other one is trouble of the harness.

use holdfast_sim::Failed;
use holdfast_sim::panics::{Cause, Place};
use holdfast_workloads::oracle::{Violation, Wrong};

/// What is wrong with a run that did not come to its end.
pub(crate) fn violation_of(failed: &Failed) -> Violation {
    match &failed.cause {
        Cause::Stuck => Violation { wrong: Wrong::Unavailable, what: failed.message().to_owned() },
        Cause::Panicked(place) => of_panic(place.as_ref(), failed.message()),
    }
}

fn of_panic(place: Option<&Place>, words: &str) -> Violation {
    let wrong = if place.is_some_and(Place::is_of_kernel) { Wrong::Panicked } else { Wrong::Harness };
    let what = match place {
        Some(place) => format!("panic at {place}: {words}"),
        None => format!("panic: {words}"),
    };
    Violation { wrong, what }
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
    fn a_run_that_cannot_go_on_is_the_databases() {
        let run = holdfast_sim::try_run(1, |_| std::future::pending::<()>());
        let violation = violation_of(&run.expect_err("nothing can go on"));
        assert_eq!(violation.wrong, Wrong::Unavailable);
        assert!(violation.what.starts_with("nothing can go on"), "{violation}");
    }
}
