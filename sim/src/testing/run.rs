//! Carries a plan of an application out, and judges it.

use std::sync::Arc;
use std::time::Duration;

use holdfast::env::BoxFuture;
use holdfast::sync::Mutex;

use super::panics::{self, Slot};
use super::plan::Plan;
use super::record::{Failure, Record};
use super::stage::{Stage, State};
use super::trespass::{self, Tried};
use super::world::World;
use crate::options::SimOptions;
use crate::plan::options;
use crate::run::try_run_within;
use crate::world::World as Simulation;

/// The application: one life of it.
pub(super) type Body = Arc<dyn Fn(World) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Lives in a row that may end with an error that a fault explains, before the faults are taken away.
const ATTEMPTS: u32 = 3;
/// Lives after which a run is cut off.
const LIVES_MAX: u32 = 500;
/// Simulated time after which a run is cut off: ten days.
const TIME_LIMIT_NS: u64 = 10 * 86_400 * 1_000_000_000;
/// A fault that lasts and has struck is taken away when no step has begun for so long, so that whoever waits for the end
/// of a full disk sees it.
const RELIEF_NS: u64 = 30_000_000_000;

/// How a run is looked at. None of it changes what happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Lines of the event log that are kept, the last ones.
    pub(super) log_events: usize,
    /// Real time after which it is given up.
    pub(super) patience: Duration,
}

/// Runs a plan.
pub(super) fn run(plan: &Plan, body: &Body, watch: Watch) -> Record {
    let options = SimOptions {
        log_events: watch.log_events,
        time_limit_ns: TIME_LIMIT_NS,
        std_clock: true,
        ..options(plan.seed, plan.rare_one_in, &plan.disk, (plan.plain_schedule, &plan.schedule))
    };
    let (state, slot, tried): (Arc<Mutex<State>>, Slot, Tried) = Default::default();
    let (plan, body) = (Arc::new(plan.clone()), Arc::clone(body));
    let (state_of_run, slot_of_run, tried_of_run) =
        (Arc::clone(&state), Arc::clone(&slot), Arc::clone(&tried));
    let outcome = try_run_within(options, Some(watch.patience), move |simulation| async move {
        panics::listen(&slot_of_run);
        trespass::refuse(&tried_of_run);
        live(simulation, plan, state_of_run, body).await
    });
    let (outcome, mut ended) = match outcome {
        Ok(outcome) => {
            let mut ended = outcome.result.clone();
            if let Some(panicked) = slot.lock().take() {
                let then = ended.failure.map_or(String::new(), |failure| format!("; then: {failure}"));
                let what =
                    format!("{}; somebody caught it, and it is a bug all the same{then}", panicked.what);
                ended = Ended::wrong(&format!("panic at {}", panicked.at), what);
            }
            (outcome.map(drop), ended)
        }
        Err(failed) => {
            let ended = match slot.lock().take() {
                Some(panicked) => Ended::wrong(&format!("panic at {}", panicked.at), panicked.what),
                None => Ended::wrong("hang", failed.message().to_owned()),
            };
            (failed.until, ended)
        }
    };
    if let Some(tried) = tried.lock().take() {
        let then = ended.failure.map_or(String::new(), |failure| format!("; then: {failure}"));
        let what = format!("it tried {tried}, which is refused: `World::env` has files and time{then}");
        ended.failure = Some(Failure { kind: "outside of the simulated world".to_owned(), what });
    }
    let state = state.lock();
    let fired = outcome.faults.iter().filter(|(_, count)| *count > 0);
    Record {
        failure: ended.failure,
        refused: ended.refused,
        hash: format!("{:016x}", outcome.hash),
        events: outcome.events,
        simulated_ns: outcome.simulated_ns,
        io_calls: outcome.io_calls,
        lives: u64::from(state.life) + 1,
        kills: outcome.crashes.kills,
        power_losses: outcome.crashes.power_losses,
        steps: state.steps,
        checks: state.checks,
        fired: fired.map(|(class, count)| (class.name().to_owned(), *count)).collect(),
        declared: state.declared(),
        log: outcome.log,
    }
}

#[derive(Clone, Default)]
struct Ended {
    failure: Option<Failure>,
    refused: bool,
}

impl Ended {
    fn wrong(kind: &str, what: String) -> Self {
        Self { failure: Some(Failure { kind: kind.to_owned(), what }), refused: false }
    }
}

/// All lives of the application, from the first to a last one in calm.
async fn live(simulation: Simulation, plan: Arc<Plan>, state: Arc<Mutex<State>>, body: Body) -> Ended {
    let stage = Arc::new(Stage::new(simulation, plan, state));
    let mut attempts = 0;
    for life in 0..LIVES_MAX {
        stage.life_begins(life);
        relieve_in_time(&stage, life);
        let ended = stage.process.run(body(World::new(Arc::clone(&stage), life))).await;
        let is_calm = stage.state.lock().is_calm;
        match ended {
            Ok(Ok(())) if is_calm => {
                if stage.state.lock().checks_of_life == 0 {
                    let what = "the last life, in calm, made no `World::check`: nothing was shown";
                    return Ended::wrong("unchecked", what.to_owned());
                }
                return Ended::default();
            }
            Ok(Ok(())) => {
                // A last look, with the power gone in between and nothing going wrong any more.
                stage.process.power_loss();
                stage.calm();
                attempts = 0;
            }
            Ok(Err(error)) if !stage.explains(&error) => {
                let when = if is_calm { ", in calm," } else { "" };
                let mut what =
                    format!("life {life}{when} ended with an error that no fault explains: {error}");
                let struck: Vec<String> = stage.struck_files().into_iter().collect();
                if !struck.is_empty() {
                    let files = struck.join(", ");
                    what.push_str(&format!(
                        "; it names none of the files that were damaged or lied about: {files}"
                    ));
                }
                return Ended::wrong("unexplained error", what);
            }
            Ok(Err(error)) => {
                stage.simulation.trace(&format!("life {life} ends with an error: {error}"));
                attempts += 1;
                if is_calm {
                    // Nothing but damage can explain it now, and that stays.
                    return Ended { failure: None, refused: true };
                }
                if attempts > 1 {
                    // Where the process alone does not come back, its machine is started anew.
                    stage.process.power_loss();
                }
                if attempts >= ATTEMPTS {
                    stage.calm();
                }
            }
            // It died; a death is no attempt.
            Err(_) => attempts = 0,
        }
        stage.process.restart();
    }
    Ended::wrong("endless", format!("after {LIVES_MAX} lives the application has not come to its end"))
}

/// Takes away what lasts in a life in which nothing goes on.
fn relieve_in_time(stage: &Arc<Stage>, life: u32) {
    let watched = Arc::clone(stage);
    let watch = async move {
        let mut seen = None;
        loop {
            watched.simulation.sleep(RELIEF_NS).await;
            let (now, steps) = {
                let state = watched.state.lock();
                (state.life, state.steps)
            };
            if now != life {
                return;
            }
            let idle_since = watched.has_refused().then_some(steps);
            if idle_since.is_some() && seen == idle_since {
                watched.relieve();
            }
            seen = idle_since;
        }
    };
    drop(stage.simulation.spawn("relief", watch));
}
