//! A device that refuses: the sync that fails, the one after it, what is read, and what is left.
//!
//! Of a sequence, one sync (or one `dsync` write) is chosen, and during it the device refuses chosen writes or flushes.
//! Everything a program can notice afterwards is compared with the model whose sync failed at the same place:
//!
//! ```text
//! first     what the sync that met the failure says
//! reads     what is read then
//! lost      what is there if the power goes then
//! second    what the next sync of the same file or directory says
//! dropped   what is read once the cache has let go of the files
//! changes   whether a file can be created
//! remount   what is there if the power goes only now
//! ```
//! Which part of a failed sync reached the medium the model draws, so it runs with many seeds; what one of them does is
//! allowed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use holdfast::blocking::block_on;
use holdfast::env::linux::LinuxEnv;
use holdfast::env::{Advice, Env, IoErrorKind, IoResult, OpenOptions};
use holdfast_sim::{DiskImage, FaultClass, Survival, SurvivorChoice, Trigger, UnsyncedContent};
use serde::Serialize;

use crate::check::{Disagreement, listed, options};
use crate::device::{Failing, Pages, Target};
use crate::draw::Draw;
use crate::file_system::FileSystem;
use crate::judge::Judge;
use crate::model::{Images, images};
use crate::perform::{Handles, perform};
use crate::record::{Running, prepare};
use crate::rig::Rig;
use crate::seen::{Seen, SeenFile};
use crate::sequence::{Operation, Sequence};
use crate::wrong::Wrong;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Seeds by which the model may draw what a failed sync left.
const DRAWS: u64 = 64;
/// How far a size may be noted, in pages.
const SIZES_TRIED: u64 = 8;
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

/// What the model says to the same failure, by one draw.
struct Modelled {
    first: Result<(), IoErrorKind>,
    reads: Seen,
    second: Result<(), IoErrorKind>,
    /// What is durable, for what may be read once the cache let go.
    durable: BTreeMap<String, Vec<u8>>,
    changes: Result<(), IoErrorKind>,
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
    let mut best: Option<Vec<(&'static str, String)>> = None;
    for draw in 0..DRAWS {
        let wrongs = compare_once(file_system, failure, noticed, wrong, draw)?;
        let is_better = best.as_ref().is_none_or(|best| wrongs.len() < best.len());
        if is_better {
            best = Some(wrongs);
        }
        if best.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    let wrongs = best.unwrap_or_default();
    for aspect in ["first", "reads", "lost", "second", "dropped", "changes", "remount"] {
        match wrongs.iter().find(|(other, _)| *other == aspect) {
            None => {
                outcome.agreed.insert(format!("{name}: {aspect}"), 1);
            }
            Some(_) if is_known(file_system, noticed, aspect) => {
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

/// What btrfs reads once a commit has failed.
const KNOWN: &str =
    "btrfs whose commit failed lists the names that were committed, and the model those that were made";

/// A difference that is known. No program learns from a list of names what it may rely on after a failed sync.
fn is_known(file_system: FileSystem, noticed: &Noticed, aspect: &str) -> bool {
    file_system == FileSystem::Btrfs && noticed.changes.is_err() && matches!(aspect, "reads" | "dropped")
}

/// What differs from the model by one draw, by aspect.
fn compare_once(
    file_system: FileSystem,
    failure: &Failure,
    noticed: &Noticed,
    wrong: Option<Wrong>,
    draw: u64,
) -> Result<Vec<(&'static str, String)>, String> {
    let (failure, noticed) = (failure.clone(), noticed.clone());
    let run = holdfast_sim::try_run(options(file_system, draw), move |world| async move {
        let process = world.process("writer");
        let sequence = &failure.sequence;
        let (images, env, handles) = images(&process, sequence, None, failure.position).await?;
        if !draw.is_multiple_of(4) {
            let size = usize::try_from(draw / 4 % SIZES_TRIED).unwrap_or(0);
            process.disk().set_failed_survivors(Some(Box::new(NoBytes { size })));
        }
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
        demand("first", is_same(&noticed.first, &modelled.first), word(&modelled.first));
        demand("second", is_same(&noticed.second, &modelled.second), word(&modelled.second));
        demand("changes", is_same(&noticed.changes, &modelled.changes), word(&modelled.changes));
        let reads = match &noticed.reads {
            Ok(seen) => !modelled.is_shut && *seen == modelled.reads,
            Err(_) => modelled.is_shut,
        };
        demand("reads", reads, differs(noticed.reads.as_ref().ok(), &modelled.reads));
        let dropped = match &noticed.dropped {
            Ok(seen) => !modelled.is_shut && may_be_read(seen, &modelled),
            Err(_) => modelled.is_shut,
        };
        demand("dropped", dropped, differs(noticed.dropped.as_ref().ok(), &modelled.reads));
        let left =
            [("lost", &noticed.lost, &modelled.first_image), ("remount", &noticed.remount, &modelled.image)];
        for (aspect, seen, image) in left {
            let explained = match seen {
                Ok(seen) => judge.explain(image, seen).map(|_| ()),
                Err(error) => Err(format!("a file system that can be mounted: {error}")),
            };
            demand(aspect, explained.is_ok(), explained.err().unwrap_or_default());
        }
        Ok(wrongs)
    });
    run.map_err(|failed| format!("draw {draw}: the simulation stopped: {}", failed.message()))?.result
}

/// No byte is there, and a size is noted as far as this place among the candidates.
struct NoBytes {
    size: usize,
}

impl SurvivorChoice for NoBytes {
    fn content(&mut self, _: &UnsyncedContent) -> Survival {
        Survival::Gone
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        self.size.min(candidates.len() - 1)
    }

    fn name(&mut self, _: u64, _: &str, _: &[Option<u64>]) -> usize {
        0
    }
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
        let first = kind(perform(&*env, root, &mut handles, number, failure.operation(), &mut ignore).await);
        let (reads, first_image) = (Seen::on_model(&disk), disk.snapshot());
        if wrong == Some(Wrong::SecondSync) && fails {
            disk.sync_everything();
        }
        let second = kind(perform(&*env, root, &mut handles, number, &failure.again(), &mut ignore).await);
        let image = disk.snapshot();
        let durable =
            reads.files.keys().map(|path| (path.clone(), disk.read_durable(format!("/{path}")))).collect();
        let is_shut = env.disk().list(root).await.is_err();
        let changes = kind(env.disk().open(&root.join(PROBE), OpenOptions::create()).await.map(|_| ()));
        (Modelled { first, reads, second, durable, changes, is_shut, first_image, image }, images)
    });
    running.await.map_err(|_| "the simulated process died".to_owned())
}

/// Each sector of a clean page is what was read before or what is durable.
fn may_be_read(seen: &Seen, modelled: &Modelled) -> bool {
    let may = |path: &String, file: &SeenFile, before: &SeenFile| {
        let durable = modelled.durable.get(path).map_or(&[][..], Vec::as_slice);
        file.bytes.len() == before.bytes.len()
            && file.bytes.chunks(512).zip(0..).all(|(sector, place)| {
                let range = place * 512..place * 512 + sector.len();
                let old =
                    durable.get(range.clone()).map_or_else(|| padded(durable, range.clone()), <[u8]>::to_vec);
                sector == &before.bytes[range] || sector == old
            })
    };
    seen.has_names_of(&modelled.reads)
        && seen
            .files
            .iter()
            .all(|(path, file)| modelled.reads.files.get(path).is_some_and(|before| may(path, file, before)))
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
        "first" => word(&noticed.first),
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
