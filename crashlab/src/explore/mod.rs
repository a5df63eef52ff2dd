//! Every crash: the power goes at each disk call of a short script, and each legal survivor set is recovered and judged.
//!
//! ```text
//! script --call 1, 2, 3, ...--> crash points --every answer of the disk--> survivor sets --hash--> images -> verdict
//!                                                                                             \-> recovery's own calls
//! ```
//! Bounds, which the output states:
//!
//! - Writes act on the page cache when they are made. What of them is on the medium, and in which order, the survivor set
//!   decides, so nothing is lost by that but calls that overtake each other.
//! - Of a change of up to [`SECTORS_MAX`] sectors each subset survives, of a longer one each of so many prefixes.
//! - A crash point with more survivor sets than asked for gets the first of them in order, in which the newest changes
//!   vary fastest, and as many drawn from all of them.
//! - An image that was judged with the same history is not judged again.
//! - A crash point with [`BAD_IMAGES_MAX`] bad images is left there: further ones say nothing new.
//! - One level deeper, the power goes again at each call of the recovery, with a sixteenth of the survivor sets, for the
//!   first images of each crash point.
//!
//! Each image is judged good or bad, or it is **undecided**: the model gave up, or the harness failed over it. Good is only
//! what was judged so.

mod scripts;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_sim::{
    Crash, DiskImage, DrawnSurvivors, LatencyModel, Odometer, Process, Ratio, SimOptions, World,
};
use holdfast_workloads::history::Milestone;
use holdfast_workloads::oracle::model::Rules;
use holdfast_workloads::oracle::{Answer, Violation, Wrong};
use holdfast_workloads::storm::{Ended, Script, Stage, Storm, Workload};
use serde::Serialize;

use crate::lanes;
use crate::panics::{ask_guarded, violation_of};
use crate::plan::{DiskPlan, Plan, SCHEMA};
use crate::stage::SimStage;
use scripts::{SETTINGS, Short};

/// Changes of up to so many sectors are torn in every way.
pub const SECTORS_MAX: u64 = 4;

/// How far to look.
#[derive(Clone, Debug)]
pub struct Explore {
    /// Names of scripts; all if empty.
    pub scripts: Vec<String>,
    /// Crashes behind one another: 1 is the script's, 2 that and one in the recovery from it, and so on.
    pub depth: u32,
    /// Survivor sets of each crash point, at most, in order; and as many drawn.
    pub sets: u64,
    /// Images of each crash point whose recovery is crashed too.
    pub recoveries: u64,
    /// Decides the schedule, and what is drawn.
    pub seed: u64,
    /// No crash point is begun after so long.
    pub time: Option<Duration>,
    /// No crash point is begun behind one at which something is wrong with the database.
    pub first: bool,
    /// Crash points at once.
    pub jobs: usize,
}

/// Something wrong after a crash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Bad {
    /// The script.
    pub script: String,
    /// The power went at this disk call, counted from 1.
    pub call: u64,
    /// What kind of wrong.
    pub wrong: Wrong,
    /// What was wrong, in words.
    pub violation: String,
}

/// What was found.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Explored {
    /// Disk calls at which the power went, those of recoveries included.
    pub crash_points: u64,
    /// Of these, the ones all of whose survivor sets were tried.
    pub whole: u64,
    /// Survivor sets tried.
    pub survivor_sets: u64,
    /// Different images among them.
    pub images: u64,
    /// Images judged, each with a different history before it.
    pub judged: u64,
    /// Those among them with something wrong that is the database's.
    pub bad: u64,
    /// Those of which it is not known whether anything is wrong.
    pub undecided: u64,
    /// Crash points that were not begun, for the time was over or something was wrong before them.
    pub left: u64,
    /// What was wrong, by script and call; the first of it, if it is much.
    pub wrong: Vec<Bad>,
}

impl Explored {
    /// Those that were judged and found good.
    pub fn good(&self) -> u64 {
        self.judged.saturating_sub(self.bad + self.undecided)
    }

    /// True if every image that was judged is known to be good, and nothing else was wrong.
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty() && self.bad == 0 && self.undecided == 0
    }

    fn add(&mut self, script: &str, call: u64, point: &Point) {
        self.crash_points += point.points;
        self.whole += point.whole;
        self.survivor_sets += point.sets;
        self.judged += point.seen.len() as u64;
        self.bad += point.bad;
        self.undecided += point.undecided;
        self.wrong.extend(point.wrong.iter().map(|violation| Bad {
            script: script.to_owned(),
            call,
            wrong: violation.wrong,
            violation: violation.to_string(),
        }));
    }
}

/// What is wrong beyond so many says nothing new.
const WRONG_MAX: usize = 40;
/// So many bad images of one crash point are enough.
const BAD_IMAGES_MAX: u64 = 4;

struct Shared {
    found: Mutex<(Explored, BTreeSet<u64>)>,
}

impl Explore {
    /// Names of all scripts.
    pub fn script_names() -> Vec<&'static str> {
        scripts::all().iter().map(|short| short.name).collect()
    }

    /// Explores. `told` is called after each crash point with how many of how many are done.
    ///
    /// # Errors
    /// A script that there is not, or one that fails without any crash.
    pub fn run(&self, stop: &AtomicBool, told: impl Fn(u64, u64) + Sync) -> Result<Explored, String> {
        let chosen = self.chosen()?;
        let mut points = Vec::new();
        for short in &chosen {
            let calls = self.calls_of(short)?;
            points.extend((1..=calls).map(|call| (short, call)));
        }
        let shared = Shared { found: Mutex::default() };
        let (done, began, count) = (AtomicU64::new(0), Instant::now(), points.len() as u64);
        let is_late = || self.time.is_some_and(|time| began.elapsed() >= time);
        let is_over = || is_late() || stop.load(Ordering::Relaxed);
        lanes::run(count, self.jobs, self.first, is_over, |number| {
            let at = usize::try_from(number).ok().and_then(|number| points.get(number));
            let Some((short, call)) = at else { return false };
            let point = self.explore_point(short, *call);
            let is_wrong = point.wrong.iter().any(|violation| violation.wrong != Wrong::Harness);
            let mut found = shared.lock();
            found.0.add(short.name, *call, &point);
            found.1.extend(point.images);
            drop(found);
            told(done.fetch_add(1, Ordering::Relaxed) + 1, count);
            is_wrong
        });
        let (mut explored, images) = shared.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        explored.images = images.len() as u64;
        explored.left = count - done.into_inner();
        explored.wrong.sort();
        explored.wrong.truncate(WRONG_MAX);
        Ok(explored)
    }

    fn chosen(&self) -> Result<Vec<Short>, String> {
        let known = Self::script_names();
        if let Some(strange) = self.scripts.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("there is no script {strange:?}; there are {}", known.join(", ")));
        }
        let is_chosen =
            |short: &Short| self.scripts.is_empty() || self.scripts.iter().any(|name| name == short.name);
        Ok(scripts::all().into_iter().filter(is_chosen).collect())
    }

    fn options(&self) -> SimOptions {
        SimOptions {
            latency: LatencyModel { late: Ratio::NEVER, ..LatencyModel::default() },
            time_limit_ns: u64::MAX / 2,
            ..SimOptions::new(self.seed)
        }
    }

    /// Disk calls of a script that nothing disturbs.
    fn calls_of(&self, short: &Short) -> Result<u64, String> {
        let script = short.script.clone();
        let outcome = holdfast_sim::try_run(self.options(), |world| async move {
            let process = world.process("db");
            let branch = Branch::new(&process, Storm::new(SETTINGS, script));
            let ended = process.run(Arc::clone(&branch.storm).live(branch.stage)).await;
            let (history, violations) = branch.storm.take();
            let answer = ask_guarded(&history, Rules::default(), violations);
            (process.io_calls(), matches!(ended, Ok(Ok(Ended::Finished))), answer)
        });
        let fails = |what: String| Err(format!("the script {} fails without any crash: {what}", short.name));
        match outcome.map(|outcome| outcome.result) {
            Ok((_, _, Answer { violations, .. })) if !violations.is_empty() => {
                fails(violations[0].to_string())
            }
            Ok((_, _, answer)) if answer.is_undecided => fails("it is undecided".to_owned()),
            Ok((_, false, _)) => fails("it does not end".to_owned()),
            Ok((calls, true, _)) => Ok(calls),
            Err(failed) => fails(failed.message().to_owned()),
        }
    }

    fn explore_point(&self, short: &Short, call: u64) -> Point {
        let (script, explore, found) = (short.script.clone(), self.clone(), Arc::<Mutex<Point>>::default());
        let kept = Kept { point: Point::default(), into: Arc::clone(&found) };
        let outcome = holdfast_sim::try_run(self.options(), move |world| async move {
            let mut kept = kept;
            let process = world.process("db");
            let branch = Branch::new(&process, Storm::new(SETTINGS, script));
            process.crash_at(call, Crash::Kill);
            if process.run(Arc::clone(&branch.storm).live(branch.stage)).await.is_ok() {
                return;
            }
            branch.storm.passes(Milestone::PowerLost);
            kept.point.branch(&explore, &world, &process, &branch.storm, explore.depth).await;
        });
        let mut point = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(failed) = outcome {
            let violation = vec![violation_of(&failed)];
            // It failed over an image, or on the way to one.
            if point.noted < point.seen.len() as u64 {
                point.note(violation, false);
            } else {
                point.wrong.extend(violation);
            }
        }
        point
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, (Explored, BTreeSet<u64>)> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A storm on a stage where nothing goes wrong but what is explored.
struct Branch {
    storm: Arc<Storm>,
    stage: Arc<dyn Stage>,
}

impl Branch {
    fn new(process: &Process, storm: Arc<Storm>) -> Self {
        let plan = Plan {
            schema: SCHEMA,
            seed: 0,
            workload: Workload::Mixed,
            settings: SETTINGS,
            rare_one_in: 0,
            disk: DiskPlan::default(),
            script: Script::default(),
            crashes: Vec::new(),
            faults: Vec::new(),
            replacements: Vec::new(),
            wall_drift_ppm: 0,
            plain_schedule: false,
            schedule: Vec::new(),
        };
        let stage = SimStage::new(process.clone(), Arc::new(plan), Arc::clone(&storm));
        stage.calm();
        Self { storm, stage: Arc::new(stage) }
    }
}

/// A point that is explored: what is known of it stays, also if the run panics.
struct Kept {
    point: Point,
    into: Arc<Mutex<Point>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut into = self.into.lock().unwrap_or_else(PoisonError::into_inner);
        *into = std::mem::take(&mut self.point);
    }
}

/// What comes of one crash point and the recoveries behind it.
#[derive(Default)]
struct Point {
    points: u64,
    whole: u64,
    sets: u64,
    images: BTreeSet<u64>,
    /// Images with the length of the history before each.
    seen: BTreeSet<(u64, usize)>,
    /// Those of which something was said.
    noted: u64,
    bad: u64,
    undecided: u64,
    wrong: Vec<Violation>,
}

impl Point {
    /// Takes in what was said of an image.
    fn note(&mut self, violations: Vec<Violation>, is_undecided: bool) {
        let is_bad = violations.iter().any(|violation| violation.wrong != Wrong::Harness);
        self.noted += 1;
        self.bad += u64::from(is_bad);
        self.undecided += u64::from(!is_bad && (is_undecided || !violations.is_empty()));
        self.wrong.extend(violations);
    }

    /// The process has just died: tries what the disk may hold.
    async fn branch(
        &mut self,
        explore: &Explore,
        world: &World,
        process: &Process,
        storm: &Arc<Storm>,
        depth: u32,
    ) {
        let disk = process.disk();
        let died = disk.snapshot();
        let sets = if depth == explore.depth { explore.sets } else { explore.sets.div_ceil(16) };
        self.points += 1;
        let (mut odometer, mut recoveries, mut is_whole) = (Odometer::new(SECTORS_MAX), 0, false);
        for set in 0..sets * 2 {
            disk.restore(&died);
            if set < sets {
                world.survivors_from(&mut odometer, || process.power_loss());
                is_whole = !odometer.advance();
            } else {
                let mut drawn = DrawnSurvivors::new(explore.seed ^ set);
                world.survivors_from(&mut drawn, || process.power_loss());
            }
            self.sets += 1;
            let image = disk.snapshot();
            let hash = image.hash();
            self.images.insert(hash);
            if self.seen.insert((hash, storm.history_len())) {
                let calls = self.recover(process, storm).await;
                if depth > 1 && recoveries < explore.recoveries && self.wrong.is_empty() {
                    recoveries += 1;
                    self.crash_recovery(explore, world, process, storm, &image, (depth, calls)).await;
                }
            }
            if is_whole || self.bad >= BAD_IMAGES_MAX {
                break;
            }
        }
        self.whole += u64::from(is_whole);
    }

    /// Opens what is there and judges it. Gives the disk calls that it took.
    async fn recover(&mut self, process: &Process, storm: &Arc<Storm>) -> u64 {
        let branch = Branch::new(process, storm.fork_at_its_end());
        process.restart();
        let before = process.io_calls();
        let ended = process.run(Arc::clone(&branch.storm).live(branch.stage)).await;
        let calls = process.io_calls() - before;
        process.kill();
        let (history, mut violations) = branch.storm.take();
        if !matches!(ended, Ok(Ok(Ended::Finished))) && violations.is_empty() {
            let what = format!("after the power loss it does not open: {ended:?}");
            violations.push(Violation { wrong: Wrong::Unavailable, what });
        }
        let answer = ask_guarded(&history, Rules::default(), violations);
        self.note(answer.violations, answer.is_undecided);
        calls
    }

    /// Lets the power go at each disk call of the recovery from an image.
    async fn crash_recovery(
        &mut self,
        explore: &Explore,
        world: &World,
        process: &Process,
        storm: &Arc<Storm>,
        image: &DiskImage,
        (depth, calls): (u32, u64),
    ) {
        for call in 1..=calls {
            process.disk().restore(image);
            let branch = Branch::new(process, storm.fork_at_its_end());
            process.restart();
            process.crash_at(process.io_calls() + call, Crash::Kill);
            let died = process.run(Arc::clone(&branch.storm).live(branch.stage)).await.is_err();
            process.cancel_crash();
            process.kill();
            if !died {
                return;
            }
            branch.storm.passes(Milestone::PowerLost);
            Box::pin(self.branch(explore, world, process, &branch.storm, depth - 1)).await;
        }
    }
}
