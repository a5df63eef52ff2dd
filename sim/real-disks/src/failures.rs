//! A device that refuses: the sync that fails, the one after it, what is read, and what is left.
//!
//! Of a sequence, one sync (or one `dsync` write) is chosen, and during it the device refuses chosen writes or flushes.
//! Everything a program can notice afterwards is compared with the model whose sync failed at the same place:
//!
//! ```text
//! reads     what is read then
//! lost      what is there if the power goes then
//! second    what the next sync of the same file or directory says
//! dropped   what is read once the cache has let go of the files
//! changes   whether a file can be created
//! remount   what is there if the power goes only now
//! ```
//! That the sync which met the failure says so is no question: the model is told. Which way it went and which part of it
//! reached the medium, the model asks; the answers are looked for in what was seen, and what the model makes of one set of
//! them must be all of it ([`crate::ways`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use holdfast::blocking::block_on;
use holdfast::env::linux::LinuxEnv;
use holdfast::env::{Advice, Env, IoErrorKind, IoResult, OpenOptions};
use holdfast::sync::Mutex;
use holdfast_sim::{DiskImage, FaultClass, Trigger};
use serde::Serialize;

use crate::check::{Disagreement, listed, options};
use crate::device::{Failing, Pages, Target};
use crate::draw::Draw;
use crate::file_system::FileSystem;
use crate::judge::Judge;
use crate::known::{KNOWN, lists_committed};
use crate::model::{Images, images};
use crate::perform::{Handles, perform};
use crate::record::{Running, prepare};
use crate::rig::Rig;
use crate::seen::{Seen, SeenFile};
use crate::sequence::{Operation, Sequence};
use crate::ways::{Answering, Answers, Asked, Way};
use crate::wrong::Wrong;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// A file that is created to see whether anything can be changed.
const PROBE: &str = "probe";

/// One failure to be tried.
#[derive(Clone, Debug)]
pub struct Failure {
    pub sequence: Sequence,
    /// The operation during which the device refuses.
    pub position: usize,
    pub failing: Failing,
}

/// What a program noticed.
#[derive(Clone, Debug)]
pub struct Noticed {
    pub first: Result<(), IoErrorKind>,
    pub reads: Result<Seen, String>,
    pub lost: Result<Seen, String>,
    pub second: Result<(), IoErrorKind>,
    pub dropped: Result<Seen, String>,
    pub changes: Result<(), IoErrorKind>,
    pub remount: Result<Seen, String>,
}

/// What came of some failures.
#[derive(Default, Serialize)]
pub struct FailureOutcome {
    /// Failures that the device was made to have and that were met.
    pub failures: u64,
    /// By what failed and what was compared: how often the model does the same.
    pub agreed: BTreeMap<String, u64>,
    pub disagreements: Vec<Disagreement>,
    /// What was noticed, by what failed.
    pub noticed: BTreeMap<String, u64>,
    /// Where the model is known to be otherwise, and why that may stay so.
    pub known: BTreeMap<String, u64>,
}

impl FailureOutcome {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.failures += other.failures;
        self.disagreements.extend(other.disagreements);
        let all = [
            (&mut self.agreed, other.agreed),
            (&mut self.noticed, other.noticed),
            (&mut self.known, other.known),
        ];
        for (counts, more) in all {
            for (name, count) in more {
                *counts.entry(name).or_insert(0) += count;
            }
        }
    }
}

impl Failure {
    /// Draws a sync of a sequence and what the device refuses during it; `None` if the sequence has no sync.
    pub fn draw(sequence: &Sequence, draw: &mut Draw) -> Option<Self> {
        let is_sync = |position: usize| match &sequence.operations[position] {
            Operation::SyncData { .. } | Operation::SyncAll { .. } | Operation::SyncDir { .. } => true,
            Operation::Write { slot, .. } => sequence.mode_of(*slot, sequence.number_of(position)).dsync,
            _ => false,
        };
        let syncs: Vec<usize> =
            (0..sequence.operations.len()).filter(|position| is_sync(*position)).collect();
        let position = *draw.of(&syncs)?;
        // Zeros that are written cannot be told from what is not of a file, so they would come through.
        let synced = sequence.operations[position].slot();
        let hides = |operation: &Operation| match operation {
            Operation::Zero { slot, .. } => synced == Some(*slot),
            // A dsync write syncs its own range only, and another write of the same file may share a page with it.
            Operation::Reopen { slot, .. } => synced == Some(*slot),
            _ => false,
        };
        let has_zeros = sequence.operations[..position].iter().any(hides);
        let target = match draw.below(4) {
            0 | 1 if !has_zeros => Target::Data(writers_of(sequence, position)),
            0 | 2 => Target::Metadata,
            _ => Target::Flushes,
        };
        let is_data = matches!(target, Target::Data(_));
        // Of bytes that come in several requests all are refused: which part of them comes through the model draws.
        let first = if is_data || draw.chance(1, 2) { 0 } else { draw.below(4) };
        let count = if !is_data && draw.chance(1, 2) { 1 } else { u64::MAX };
        let errno = if draw.chance(3, 4) { EIO } else { ENOSPC };
        Some(Self { sequence: sequence.clone(), position, failing: Failing { target, first, count, errno } })
    }

    fn operation(&self) -> &Operation {
        &self.sequence.operations[self.position]
    }

    /// The sync that a program would try next.
    fn again(&self) -> Operation {
        match self.operation() {
            Operation::Write { slot, .. } => Operation::SyncData { slot: *slot },
            other => other.clone(),
        }
    }

    /// What failed, in words.
    fn name(&self) -> String {
        let what = match &self.failing.target {
            Target::Data(_) => "a write of bytes",
            Target::Metadata => "a write of metadata",
            Target::Flushes => "a flush",
        };
        let number = self.sequence.number_of(self.position);
        let during = match self.operation() {
            Operation::SyncDir { .. } => "a sync of a directory",
            Operation::Write { slot, .. } if self.sequence.mode_of(*slot, number).direct => {
                "a direct dsync write"
            }
            Operation::Write { .. } => "a cached dsync write",
            _ => "a sync of a file",
        };
        let errno = if self.failing.errno == EIO { "EIO" } else { "ENOSPC" };
        format!("{what} in {during} fails with {errno}")
    }
}

/// The operations that wrote into the file that an operation syncs. That bytes of another file are written and lost
/// meanwhile is no failure of this sync.
fn writers_of(sequence: &Sequence, position: usize) -> Vec<u16> {
    let Some(slot) = sequence.operations.get(position).and_then(Operation::slot) else { return Vec::new() };
    let writes = sequence.all().filter(
        |(_, operation)| matches!(operation, Operation::Write { slot: written, .. } if *written == slot),
    );
    writes.map(|(number, _)| number).collect()
}

/// Lets it happen on the real file system. `None` if the device was asked nothing that should fail.
pub fn notice(rig: &Rig, fresh: &Arc<Pages>, failure: &Failure) -> Result<Option<Noticed>, String> {
    let sequence = &failure.sequence;
    let base = prepare(rig, fresh, sequence)?;
    let mounted = rig.mount()?;
    let mut running = Running::new(rig, sequence)?;
    for (position, operation) in sequence.operations[..failure.position].iter().enumerate() {
        running
            .perform(position, operation)
            .map_err(|error| format!("seed {}: {operation}: {error}", sequence.seed))?;
    }
    let kind = |result: IoResult<()>| result.map_err(|error| error.kind);
    rig.device.fail(Some(failure.failing.clone()));
    let first = kind(running.perform(failure.position, failure.operation()));
    let failed = rig.device.fail(None);
    let root = rig.root();
    let over_first = rig.device.over();
    let reads = Seen::on_linux(&root);
    let second = kind(running.perform(failure.position, &failure.again()));
    let over = rig.device.over();
    let dropped = drop_caches(&root).and_then(|()| Seen::on_linux(&root));
    let env = LinuxEnv::new();
    let created = block_on(env.disk().open(&root.join(PROBE), OpenOptions::create()));
    let changes = kind(created.map(|_| ()));
    drop(running);
    // A file system that failed may have things to say at its end; what it holds by now was kept aside.
    let _ = mounted.unmount();
    if failed == 0 {
        return Ok(None);
    }
    let left = |over: Pages| {
        rig.device.load(&base);
        rig.device.lay_over(over);
        rig.mount().and_then(|mounted| {
            let seen = Seen::on_linux(&root);
            mounted.unmount()?;
            seen
        })
    };
    let (lost, remount) = (left(over_first), left(over));
    Ok(Some(Noticed { first, reads, lost, second, dropped, changes, remount }))
}

/// Lets the page cache forget the files, as far as it wants to.
fn drop_caches(root: &Path) -> Result<(), String> {
    let env = LinuxEnv::new();
    let seen = Seen::on_linux(root)?;
    for path in seen.files.keys() {
        let file = block_on(env.disk().open(&root.join(path), OpenOptions::read()))
            .map_err(|error| format!("cannot open /{path}: {error}"))?;
        file.advise(0, 0, Advice::DontNeed);
    }
    Ok(())
}

/// What differs, by aspect, with what was expected.
type Wrongs = Vec<(&'static str, String)>;

/// What the model says to the same failure, by one draw.
struct Modelled {
    reads: Seen,
    second: Result<(), IoErrorKind>,
    /// What is durable, for what may be read once the cache let go.
    durable: BTreeMap<String, Vec<u8>>,
    changes: Result<(), IoErrorKind>,
    /// What was durable before the sync.
    before: BTreeMap<String, Vec<u8>>,
    /// Numbers of the files that are read.
    files: BTreeMap<String, u64>,
    /// Everything is refused, reads included.
    is_shut: bool,
    first_image: DiskImage,
    image: DiskImage,
}

/// Compares what was noticed with the model.
pub fn judge(
    file_system: FileSystem,
    failure: &Failure,
    noticed: &Noticed,
    wrong: Option<Wrong>,
) -> Result<FailureOutcome, String> {
    let mut outcome = FailureOutcome { failures: 1, ..FailureOutcome::default() };
    let name = failure.name();
    let told = format!(
        "{name}: first {}, second {}, changes {}",
        word(&noticed.first),
        word(&noticed.second),
        word(&noticed.changes)
    );
    outcome.noticed.insert(told, 1);
    let mut best: Option<Wrongs> = None;
    for way in Way::all(file_system) {
        let mut waiting = vec![Answers::new(way)];
        let mut has_looked = false;
        while let Some(answers) = waiting.pop() {
            let (wrongs, asked) = compare_once(file_system, failure, noticed, wrong, &answers)?;
            if best.as_ref().is_none_or(|best| wrongs.len() < best.len()) {
                best = Some(wrongs);
            }
            if best.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
            if !has_looked {
                has_looked = true;
                let views = [&noticed.remount, &noticed.lost, &noticed.dropped];
                waiting = asked.guesses(&answers, file_system, views.into_iter().flatten());
            }
        }
        if best.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    let wrongs = best.unwrap_or_default();
    for aspect in ["reads", "lost", "second", "dropped", "changes", "remount"] {
        match wrongs.iter().find(|(other, _)| *other == aspect) {
            None => {
                outcome.agreed.insert(format!("{name}: {aspect}"), 1);
            }
            Some((_, why)) if why == KNOWN => {
                outcome.known.insert(format!("{aspect}: {KNOWN}"), 1);
            }
            Some((_, why)) => outcome.disagreements.push(Disagreement {
                file_system: file_system.name(),
                seed: failure.sequence.seed,
                operations: listed(&failure.sequence, failure.position),
                cut: format!("{name} ({:?})", failure.failing),
                seen: format!("{aspect}: {}", seen_of(noticed, aspect)),
                expected: why.clone(),
            }),
        }
    }
    Ok(outcome)
}

/// What differs from the model by one draw, by aspect.
fn compare_once(
    file_system: FileSystem,
    failure: &Failure,
    noticed: &Noticed,
    wrong: Option<Wrong>,
    answers: &Answers,
) -> Result<(Wrongs, Asked), String> {
    let (failure, noticed, answers) = (failure.clone(), noticed.clone(), answers.clone());
    let seed = failure.sequence.seed;
    let run = holdfast_sim::try_run(options(file_system, seed), move |world| async move {
        let process = world.process("writer");
        let sequence = &failure.sequence;
        let (images, env, handles) = images(&process, sequence, None, failure.position).await?;
        let told = Arc::new(Mutex::new(Asked::default()));
        let choice = Answering { answers, told: Arc::clone(&told) };
        process.disk().set_failed_survivors(Some(Box::new(choice)));
        // A failure that nobody was told of leaves everything promised.
        let (modelled, images) =
            model(&process, &failure, env, handles, images, noticed.first.is_err(), wrong).await?;
        process.kill();
        let judge = Judge { world: &world, process: &process, images: &images, file_system, wrong: None };
        let mut wrongs = Vec::new();
        let mut demand = |aspect, holds: bool, expected: String| {
            if !holds {
                wrongs.push((aspect, expected));
            }
        };
        let is_same =
            |real: &Result<(), IoErrorKind>, model: &Result<(), IoErrorKind>| real.is_ok() == model.is_ok();
        demand("second", is_same(&noticed.second, &modelled.second), word(&modelled.second));
        demand("changes", is_same(&noticed.changes, &modelled.changes), word(&modelled.changes));
        let reads = match &noticed.reads {
            Ok(seen) => !modelled.is_shut && *seen == modelled.reads,
            Err(_) => modelled.is_shut,
        };
        let is_known = |seen: &Result<Seen, String>| {
            let is_btrfs = file_system == FileSystem::Btrfs && noticed.changes.is_err();
            is_btrfs && lists_committed(&failure, seen, &modelled.reads)
        };
        let why = |seen: &Result<Seen, String>| match is_known(seen) {
            true => KNOWN.to_owned(),
            false => differs(seen.as_ref().ok(), &modelled.reads),
        };
        demand("reads", reads, why(&noticed.reads));
        let dropped = match &noticed.dropped {
            Ok(seen) => !modelled.is_shut && may_be_read(seen, &modelled),
            Err(_) => modelled.is_shut,
        };
        demand("dropped", dropped, why(&noticed.dropped));
        let left =
            [("lost", &noticed.lost, &modelled.first_image), ("remount", &noticed.remount, &modelled.image)];
        for (aspect, seen, image) in left {
            let explained = match seen {
                Ok(seen) => judge.explain(image, seen).map(|_| ()),
                Err(error) => Err(format!("a file system that can be mounted: {error}")),
            };
            demand(aspect, explained.is_ok(), explained.err().unwrap_or_default());
        }
        let mut asked = std::mem::take(&mut *told.lock());
        asked.learn(&images, &modelled.files, &modelled.before);
        Ok((wrongs, asked))
    });
    run.map_err(|failed| format!("seed {seed}: the simulation stopped: {}", failed.message()))?.result
}

/// The same failure on the model.
async fn model(
    process: &holdfast_sim::Process,
    failure: &Failure,
    env: Arc<dyn Env>,
    mut handles: Handles,
    mut images: Images,
    fails: bool,
    wrong: Option<Wrong>,
) -> Result<(Modelled, Images), String> {
    let (disk, failure) = (process.disk(), failure.clone());
    let running = process.run(async move {
        let number = failure.sequence.number_of(failure.position);
        let root = Path::new("/");
        images.changes.push((disk.next_change(), number, failure.operation().clone()));
        if fails {
            disk.inject(FaultClass::SyncError, Trigger::Once(1));
        }
        let kind = |result: IoResult<()>| result.map_err(|error| error.kind);
        let mut ignore = || {};
        let durable_of = |paths: &[String]| -> BTreeMap<String, Vec<u8>> {
            paths.iter().map(|path| (path.clone(), disk.read_durable(format!("/{path}")))).collect()
        };
        let paths: Vec<String> = Seen::on_model(&disk).files.into_keys().collect();
        let before = durable_of(&paths);
        let numbers =
            paths.iter().filter_map(|path| Some((path.clone(), disk.number_of(format!("/{path}"))?)));
        let files = numbers.collect();
        let first = kind(perform(&*env, root, &mut handles, number, failure.operation(), &mut ignore).await);
        if first.is_err() != fails {
            return Err(format!("the model's sync {} where the real one did not", word(&first)));
        }
        let (reads, first_image) = (Seen::on_model(&disk), disk.snapshot());
        if wrong == Some(Wrong::SecondSync) && fails {
            disk.sync_everything();
        }
        let second = kind(perform(&*env, root, &mut handles, number, &failure.again(), &mut ignore).await);
        let image = disk.snapshot();
        let durable = durable_of(&paths);
        let is_shut = env.disk().list(root).await.is_err();
        let changes = kind(env.disk().open(&root.join(PROBE), OpenOptions::create()).await.map(|_| ()));
        Ok((Modelled { reads, second, durable, before, files, changes, is_shut, first_image, image }, images))
    });
    running.await.map_err(|_| "the simulated process died".to_owned())?
}

/// Each sector of a clean page is what was read before or what is durable.
fn may_be_read(seen: &Seen, modelled: &Modelled) -> bool {
    seen.has_names_of(&modelled.reads)
        && seen.files.iter().all(|(path, file)| {
            modelled
                .reads
                .files
                .get(path)
                .is_some_and(|before| may_show(file, before, modelled.durable.get(path)))
        })
}

/// True if each sector is what was read before or what is durable.
fn may_show(file: &SeenFile, before: &SeenFile, durable: Option<&Vec<u8>>) -> bool {
    let durable = durable.map_or(&[][..], Vec::as_slice);
    file.bytes.len() == before.bytes.len()
        && file.bytes.chunks(512).zip(0..).all(|(sector, place)| {
            let range = place * 512..place * 512 + sector.len();
            let old =
                durable.get(range.clone()).map_or_else(|| padded(durable, range.clone()), <[u8]>::to_vec);
            sector == &before.bytes[range] || sector == old
        })
}

fn padded(bytes: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    let mut part = bytes.get(range.start.min(bytes.len())..).unwrap_or_default().to_vec();
    part.resize(range.len(), 0);
    part
}

fn word(result: &Result<(), IoErrorKind>) -> String {
    match result {
        Ok(()) => "succeeds".to_owned(),
        Err(kind) => format!("fails ({kind:?})"),
    }
}

fn seen_of(noticed: &Noticed, aspect: &str) -> String {
    let read = |seen: &Result<Seen, String>| seen.as_ref().map_or_else(Clone::clone, Seen::summary);
    match aspect {
        "second" => word(&noticed.second),
        "changes" => word(&noticed.changes),
        "reads" => read(&noticed.reads),
        "lost" => read(&noticed.lost),
        "dropped" => read(&noticed.dropped),
        _ => read(&noticed.remount),
    }
}

fn differs(seen: Option<&Seen>, model: &Seen) -> String {
    let Some(seen) = seen else { return format!("to be read: {}", model.summary()) };
    if !seen.has_names_of(model) {
        return model.summary();
    }
    let first = seen.files.iter().find_map(|(path, file)| {
        let other = model.files.get(path)?;
        let at = file.bytes.iter().zip(&other.bytes).position(|(real, model)| real != model);
        (file.bytes != other.bytes).then(|| match at {
            Some(at) => format!("/{path}: other bytes from {at} on"),
            None => format!("/{path}: {} bytes", other.bytes.len()),
        })
    });
    first.unwrap_or_else(|| "the same".to_owned())
}
