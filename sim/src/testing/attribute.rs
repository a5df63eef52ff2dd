//! What `#[holdfast_sim::test]` makes of a function: a test that runs the function's seeds.

use std::fmt::Display;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::draw::{Rehearsed, calm, plan};
use super::faults::Faults;
use super::plan::{Plan, Target};
use super::record::Record;
use super::run::{Body, Watch, run};
use super::settings::Settings;
use super::sweep::{Sweep, sweep};
use super::tell;
use super::variables::{Variables, What};
use super::world::World;

/// How a life of an application ends that no crash ends: by `()` or by a result.
pub trait Ending: Send + 'static {
    /// The error in words, if it is one: with its causes, where its alternate form (`{:#}`) tells them.
    ///
    /// # Errors
    /// The error.
    fn into_result(self) -> Result<(), String>;
}

impl Ending for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display + Send + 'static> Ending for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// A simulation test, as the attribute describes it.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The cargo package.
    pub package: &'static str,
    /// Its folder.
    pub folder: &'static str,
    /// Features that it is built with.
    pub features: &'static [&'static str],
    /// The module that the function stands in, as `module_path!` gives it.
    pub module: &'static str,
    /// The function.
    pub name: &'static str,
    /// How many seeds.
    pub seeds: u64,
    /// Which faults.
    pub faults: &'static str,
    /// A folder of plans, relative to the package's; none if empty.
    pub plans: &'static str,
}

/// The seed of the rehearsal.
const REHEARSAL_SEED: u64 = 0;

impl Test {
    /// Runs what the environment asks for: the seeds, one seed, or one plan.
    ///
    /// # Panics
    /// If something fails, with all that is needed to run it again; and if what is asked for makes no sense.
    pub fn run<F, Fut>(&self, life: F)
    where
        F: Fn(World) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Ending,
    {
        let life = Arc::new(life);
        let body: Body = Arc::new(move |world| {
            let life = Arc::clone(&life);
            Box::pin(async move { life(world).await.into_result() })
        });
        if let Err(wrong) = self.run_body(&body) {
            panic!("{wrong}");
        }
    }

    fn run_body(&self, body: &Body) -> Result<(), String> {
        let variables = Variables::read(|name| std::env::var(name).ok())?;
        let classes = Faults::of(self.faults)?.classes;
        let target = self.target();
        let watch = Watch { log_events: 0, patience: variables.patience };
        if let What::Plan(file) = &variables.what {
            let here = |wrong| match file.is_relative() {
                true => format!("{wrong}; it is looked for from {}", target.directory.display()),
                false => wrong,
            };
            let plan = Plan::load(file).map_err(here)?;
            if plan.test.name != target.name || plan.test.package != target.package {
                let Target { package, name, .. } = &plan.test;
                return Err(format!(
                    "{}: a plan of the test {name} of {package}, and this is {} of {}; run that one alone: cargo test -p \
                     {package} {name} -- --exact",
                    file.display(),
                    target.name,
                    target.package
                ));
            }
            return self.run_one(&Plan { test: target, ..plan }, body, &variables, Some(file));
        }
        let rehearsal = calm(REHEARSAL_SEED, &target, Settings::PRODUCTION);
        let record = run(&rehearsal, body, watch);
        if record.failure.is_some() {
            let steps = record.declared.iter().map(|(name, count)| (name.clone(), (0..*count).collect()));
            let rehearsal = Plan { steps: steps.collect(), ..rehearsal };
            let told =
                tell::Failed { plan: &rehearsal, record: &record, body, variables: &variables, file: None };
            return Err(format!("the rehearsal failed, in which nothing goes wrong\n{}", told.words()));
        }
        let rehearsed = Rehearsed { steps: record.declared, io_calls: record.io_calls };
        let of_seed = |seed| plan(seed, &target, &classes, &rehearsed);
        match variables.what {
            What::Seed(seed) => self.run_one(&of_seed(seed), body, &variables, None),
            What::Seeds { start, count } => {
                self.run_kept_plans(&target, body, &variables)?;
                let count = count.unwrap_or(self.seeds);
                let job = Sweep { start, count, jobs: variables.jobs, watch };
                let summary = sweep(job, body, &of_seed);
                tell::print(&format!("{}: {}", target.name, summary.words()));
                if let Some((failed, record)) = &summary.failure {
                    let told = tell::Failed { plan: failed, record, body, variables: &variables, file: None };
                    return Err(told.words());
                }
                summary.demand_that_something_was_shown(&classes)
            }
            What::Plan(_) => Ok(()),
        }
    }

    /// One plan, twice.
    fn run_one(
        &self,
        plan: &Plan,
        body: &Body,
        variables: &Variables,
        file: Option<&Path>,
    ) -> Result<(), String> {
        let lines = variables.lines.max(variables.trace);
        let watch = Watch { log_events: lines, patience: variables.patience };
        let record = run(plan, body, watch);
        if let Some(path) = &variables.record {
            record.save(path)?;
            // Whoever asked for the record judges it, and runs it again as often as needed.
            return record.failure.map_or(Ok(()), |failure| Err(failure.to_string()));
        }
        tell::print(&tell::words_of(&record));
        if record.failure.is_some() {
            return Err(tell::Failed { plan, record: &record, body, variables, file }.words());
        }
        if variables.trace > 0 {
            tell::print(&tell::lines(&record, variables.trace));
        }
        tell::demand_the_same(plan, &record, body, watch)
    }

    fn run_kept_plans(&self, target: &Target, body: &Body, variables: &Variables) -> Result<(), String> {
        if self.plans.is_empty() {
            return Ok(());
        }
        let folder = Path::new(self.folder).join(self.plans);
        let wrong =
            |error: std::io::Error| format!("plans = {:?}: {}: {error}", self.plans, folder.display());
        let entries = std::fs::read_dir(&folder).map_err(wrong)?;
        let files: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut files = files.map_err(wrong)?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        for file in files {
            let plan = Plan::load(&file)?;
            if plan.test.name != target.name || plan.test.package != target.package {
                self.demand_another_test_of(&plan, &file)?;
                continue;
            }
            let plan = Plan { test: target.clone(), ..plan };
            let record: Record = run(&plan, body, Watch { log_events: 0, patience: variables.patience });
            if record.failure.is_some() {
                let told = tell::Failed { plan: &plan, record: &record, body, variables, file: Some(&file) };
                return Err(told.words());
            }
        }
        Ok(())
    }

    /// # Errors
    /// In words: this program has no test that a kept plan is of, so that nobody would run it.
    fn demand_another_test_of(&self, plan: &Plan, file: &Path) -> Result<(), String> {
        let Target { package, name, .. } = &plan.test;
        let tests = tests_of_this_program()?;
        if package == self.package && tests.iter().any(|test| test == name) {
            return Ok(());
        }
        Err(format!(
            "{}: a plan of the test {name} of {package}, and this program of {} has no such test: give the plan the name              that the test has now, keep plans of other programs in a folder of their own, or remove it",
            file.display(),
            self.package
        ))
    }

    /// How it is run again.
    fn target(&self) -> Target {
        // Inside its crate a test has the path of its module, without the crate's name.
        let module = self.module.split_once("::").map(|(_, module)| module);
        Target {
            package: self.package.to_owned(),
            name: module.map_or(self.name.to_owned(), |module| format!("{module}::{}", self.name)),
            features: self.features.iter().map(|feature| (*feature).to_owned()).collect(),
            binary: std::env::current_exe().unwrap_or_default(),
            directory: std::env::current_dir().unwrap_or_default(),
        }
    }
}

/// The names of all tests in this program, as its harness tells them.
fn tests_of_this_program() -> Result<Vec<String>, String> {
    let wrong = |what: String| format!("this program's tests cannot be listed: {what}");
    let program = std::env::current_exe().map_err(|error| wrong(error.to_string()))?;
    let listed = std::process::Command::new(program).args(["--list", "--format", "terse"]).output();
    let listed = listed.map_err(|error| wrong(error.to_string()))?;
    if !listed.status.success() {
        return Err(wrong(String::from_utf8_lossy(&listed.stderr).into_owned()));
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
