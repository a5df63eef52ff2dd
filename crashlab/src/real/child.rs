//! The process that is killed: goes on with the storm from where the record says that it stands.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::Error;
use holdfast::env::linux::{LinuxEnv, block_on};
use holdfast::env::{BoxFuture, Env, TaskClass};
use holdfast_workloads::storm::{Cue, End, Ended, Stage, Storm};

use super::record::{FILE_NAME, Reader, Writer};
use super::{DB_NAME, PLAN_NAME};
use crate::plan::{At, CrashKind, Plan};

/// Carries on with the run in this directory until its script is over; if the run is calm, looks at everything once more.
///
/// # Errors
/// In words: the run cannot be gone on with. What is wrong with the database stands in the record.
pub fn live(run: &Path, is_calm: bool) -> Result<(), String> {
    end_with_parent();
    abort_on_panic();
    let plan = Plan::load(&run.join(PLAN_NAME))?;
    let (settings, script) = (plan.settings, plan.script.clone());
    let (storm, path) = (Storm::new(settings, script), run.join(FILE_NAME));
    let writer = Writer::open(&path)?;
    for line in Reader::open(&path)?.read()? {
        storm.take_in(line)?;
    }
    storm.call_witness(Arc::new(move |line| {
        if let Err(error) = writer.add(line) {
            eprintln!("error: {error}");
            // What cannot be told must not happen.
            std::process::exit(2);
        }
    }));
    let stage = Arc::new(RealStage { env: LinuxEnv::new(), dir: run.join(DB_NAME), plan, is_calm });
    loop {
        match block_on(Arc::clone(&storm).live(stage.clone())) {
            Ok(Ended::OpenAgain) if !storm.is_lost() => {}
            _ => return Ok(()),
        }
    }
}

/// The parent holds the other end of standard input. If it is gone, nobody would kill this process.
fn end_with_parent() {
    std::thread::spawn(|| {
        let mut nothing = [0];
        while std::io::stdin().read(&mut nothing).is_ok_and(|len| len > 0) {}
        std::process::exit(3);
    });
}

/// A panic of any thread is the end of the process, so that none goes unseen.
fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// The storm's stage on a real disk. Nothing goes wrong there but that the process is killed.
struct RealStage {
    env: Arc<LinuxEnv>,
    dir: PathBuf,
    plan: Plan,
    is_calm: bool,
}

impl Stage for RealStage {
    fn env(&self) -> Arc<dyn Env> {
        self.env.clone()
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn spawn(&self, name: &'static str, client: BoxFuture<'static, ()>) {
        if let Err(refused) = self.env.spawn(name, TaskClass::Foreground, client) {
            eprintln!("error: {}", refused.detail);
            std::process::exit(2);
        }
    }

    /// The ends that the plan has on purpose come as in the simulator; the kills are the parent's.
    fn step_begins(&self, client: u32, step: u32) -> Cue {
        let at = At::Step { client, step };
        let ends =
            self.plan.crashes.iter().filter(|crash| crash.at == at).find_map(|crash| match crash.kind {
                CrashKind::Close => Some(End::Close),
                CrashKind::Drop => Some(End::Drop),
                CrashKind::Kill | CrashKind::PowerLoss => None,
            });
        ends.map_or(Cue::Go, Cue::GoAndEnd)
    }

    fn is_calm(&self) -> bool {
        self.is_calm
    }

    fn may_be_unreadable(&self, _file: &Path) -> bool {
        false
    }

    fn explains(&self, _error: &Error) -> bool {
        false
    }
}
