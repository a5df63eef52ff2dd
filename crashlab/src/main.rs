//! The program that an engineer with a failing seed lives in.

mod arguments;
mod commands;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use arguments::{ChoiceArgs, Command, Program};
use clap::Parser;
use commands::{applications, bisect, console, explore, mutants, real, replay, shrink, sweep, written};
use holdfast_crashlab::draw::plan;
use holdfast_crashlab::plan::Plan;
use holdfast_crashlab::real::child;
use holdfast_crashlab::run::Watch;
use holdfast_crashlab::sweep::Sweep;

fn main() -> ExitCode {
    let outcome = match Program::parse().command {
        Command::Sweep { seeds, start, jobs, time, first, keep, hashes, json, choice } => {
            let (jobs, time) = (jobs.unwrap_or_else(console::cores), time.map(Duration::from_secs));
            let asked = choice.choice().map(|choice| Sweep { start, seeds, time, first, jobs, choice });
            asked.and_then(|asked| sweep::run(&asked, (&keep, hashes.as_deref()), &choice.again(), json))
        }
        Command::Replay { what, trace, lines, until, break_at, save, twice, json, .. }
            if applications::is_plan(&what) =>
        {
            let asked = applications::Replay {
                lines: if trace { lines } else { 0 },
                is_to_stop: until.or(break_at).is_some(),
                save: save.as_deref(),
                twice,
                as_json: json,
            };
            applications::replay(Path::new(&what), &asked)
        }
        Command::Replay { what, trace, lines, until, break_at, save, twice, json, choice } => {
            plan_of(&what, &choice).and_then(|plan| {
                if let Some(save) = save {
                    plan.save(&save)?;
                }
                let log_events = if trace || until.is_some() { lines } else { 0 };
                Ok(replay::replay(
                    &plan,
                    Watch { log_events, until, break_at, ..Watch::default() },
                    twice,
                    json,
                ))
            })
        }
        Command::Mutants(arguments) => mutants::run(&arguments),
        Command::Explore(arguments) => explore::run(arguments),
        Command::Bisect { plan, good, bad, json } => bisect::run(&plan, (&good, &bad), json),
        Command::Report { what, output, lines, json, .. } if applications::is_plan(&what) => {
            applications::report(Path::new(&what), &output, lines, json)
        }
        Command::Report { what, output, lines, json, choice } => {
            plan_of(&what, &choice).and_then(|plan| written::report(&plan, &output, lines, json))
        }
        Command::History { what, .. } if applications::is_plan(&what) => {
            Err(applications::NO_HISTORY.to_owned())
        }
        Command::History { what, output, flags, json, choice } => {
            plan_of(&what, &choice).and_then(|plan| written::history(&plan, &output, flags, json))
        }
        Command::Real(arguments) => real::run(&arguments),
        Command::RealLife { run, calm } => child::live(&run, calm).map(|()| true),
        Command::Shrink { what, output, time, check, json, .. } if applications::is_plan(&what) => {
            match check {
                true => applications::check_shrunk(Path::new(&what), json),
                false => applications::shrink_to(Path::new(&what), &output, Duration::from_secs(time), json),
            }
        }
        Command::Shrink { what, output, time, jobs, check, json, choice } => {
            let jobs = jobs.unwrap_or_else(console::cores);
            plan_of(&what, &choice).and_then(|plan| match check {
                true => shrink::check_shrunk(&plan, jobs, json),
                false => shrink::shrink_to(&plan, &output, Duration::from_secs(time), jobs, json),
            })
        }
    };
    exit_code(outcome)
}

fn exit_code(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(is_good) => ExitCode::from(u8::from(!is_good)),
        Err(wrong) => {
            eprintln!("error: {wrong}");
            ExitCode::from(2)
        }
    }
}

/// A seed's plan, or a file's.
fn plan_of(what: &str, choice: &ChoiceArgs) -> Result<Plan, String> {
    match what.parse() {
        Ok(seed) => Ok(plan(seed, &choice.choice()?)),
        Err(_) => Plan::load(Path::new(what)),
    }
}
