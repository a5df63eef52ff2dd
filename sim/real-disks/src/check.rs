//! One sequence: recorded on the real file system, cut, recovered, looked at, and judged by the model.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use holdfast_sim::{Process, SimOptions, Survival, SurvivorChoice, UnsyncedContent};
use serde::Serialize;

use crate::cut::Cut;
use crate::device::Pages;
use crate::draw::Draw;
use crate::file_system::FileSystem;
use crate::judge::{Guide, Judge};
use crate::kinds::{self, Kinds};
use crate::model::{images, lose};
use crate::record::record;
use crate::rig::Rig;
use crate::seen::Seen;
use crate::sequence::Sequence;
use crate::wrong::Wrong;

/// What the real file system showed after one cut.
#[derive(Clone)]
pub struct State {
    pub cut: Cut,
    /// Operations that had been answered.
    pub answered: usize,
    pub seen: Result<Seen, String>,
}

/// What the model forbids and the file system shows.
#[derive(Clone, Debug, Serialize)]
pub struct Disagreement {
    pub file_system: &'static str,
    pub seed: u64,
    /// The operations, one a line, those that had been answered marked.
    pub operations: Vec<String>,
    pub cut: String,
    pub seen: String,
    pub expected: String,
}

/// What came of some sequences.
#[derive(Default, Serialize)]
pub struct Outcome {
    pub sequences: u64,
    pub operations: u64,
    pub states: u64,
    /// Those that differ in what is seen or in what had been answered.
    pub distinct_states: u64,
    /// States that are not what is there when everything survives or nothing does.
    pub partial_states: u64,
    pub model_states: u64,
    pub disagreements: Vec<Disagreement>,
    /// States drawn by the model for which the judge found no answers: a fault of the judge.
    pub unexplained: Vec<String>,
    pub seen_kinds: Kinds,
    pub model_kinds: Kinds,
}

impl Outcome {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.sequences += other.sequences;
        self.operations += other.operations;
        self.states += other.states;
        self.distinct_states += other.distinct_states;
        self.partial_states += other.partial_states;
        self.model_states += other.model_states;
        self.disagreements.extend(other.disagreements);
        self.unexplained.extend(other.unexplained);
        for (kinds, more) in
            [(&mut self.seen_kinds, other.seen_kinds), (&mut self.model_kinds, other.model_kinds)]
        {
            for (kind, count) in more {
                *kinds.entry(kind).or_insert(0) += count;
            }
        }
    }

    /// Kinds that the model draws and the file system never showed.
    pub fn never_seen(&self) -> Vec<String> {
        self.model_kinds.keys().filter(|kind| !self.seen_kinds.contains_key(*kind)).cloned().collect()
    }
}

/// Runs a sequence on the real file system and looks at what is left after each of some cuts.
pub fn states(
    rig: &Rig,
    fresh: &Arc<Pages>,
    file_system: FileSystem,
    sequence: &Sequence,
    cuts: u64,
) -> Result<Vec<State>, String> {
    let recorded = record(rig, fresh, sequence)?;
    let mut draw = Draw::new(sequence.seed ^ 0xc07);
    let mut states = Vec::new();
    for _ in 0..cuts {
        let cut = Cut::draw(&mut draw, &recorded);
        cut.apply(&recorded, &rig.device, file_system);
        let seen = rig.mount().and_then(|mounted| {
            let seen = Seen::on_linux(&rig.root());
            mounted.unmount()?;
            seen
        });
        states.push(State { cut, answered: cut.answered(&recorded), seen });
    }
    Ok(states)
}

/// Judges states by the model of this file system.
pub fn judge(
    file_system: FileSystem,
    sequence: &Sequence,
    states: &[State],
    wrong: Option<Wrong>,
) -> Result<Outcome, String> {
    let (sequence, states) = (sequence.clone(), states.to_vec());
    let seed = sequence.seed;
    let run = holdfast_sim::try_run(options(file_system, seed), move |world| async move {
        let process = world.process("writer");
        let (images, _, handles) = images(&process, &sequence, wrong, sequence.operations.len()).await?;
        process.kill();
        drop(handles);
        let judge = Judge { world: &world, process: &process, images: &images, file_system, wrong };
        let mut outcome =
            Outcome { sequences: 1, operations: sequence.operations.len() as u64, ..Outcome::default() };
        let mut distinct = BTreeSet::new();
        let mut draw = Draw::new(seed ^ 0x3d);
        for state in &states {
            judge_state(&judge, &sequence, state, &mut outcome, &mut distinct);
            if wrong.is_none() {
                draw_state(&judge, &sequence, state, &mut draw, &mut outcome);
            }
        }
        outcome.distinct_states = distinct.len() as u64;
        Ok(outcome)
    });
    run.map_err(|failed| format!("seed {seed}: the simulation stopped: {}", failed.message()))?.result
}

/// A world whose calls are done at once but for what waits for the device.
pub fn options(file_system: FileSystem, seed: u64) -> SimOptions {
    let mut options = SimOptions { personality: file_system.personality(), ..SimOptions::new(seed) };
    options.latency.late = holdfast_sim::Ratio::NEVER;
    options
}

fn judge_state(
    judge: &Judge<'_>,
    sequence: &Sequence,
    state: &State,
    outcome: &mut Outcome,
    distinct: &mut BTreeSet<u64>,
) {
    outcome.states += 1;
    let mut hasher = DefaultHasher::new();
    (state.answered, format!("{:?}", state.seen)).hash(&mut hasher);
    let is_new = distinct.insert(hasher.finish());
    let mut reasons = Vec::new();
    if let Ok(seen) = &state.seen {
        // An operation that was under way may have acted or not.
        let images = [judge.images.within.get(state.answered), judge.images.after.get(state.answered)];
        for image in images.into_iter().flatten() {
            match judge.explain(image, seen) {
                Ok(guide) => {
                    outcome.partial_states += u64::from(is_new && is_partial(&guide));
                    let files = files_of(judge.process, seen);
                    kinds::note(&mut outcome.seen_kinds, sequence, judge.images, &guide, seen, &files);
                    return;
                }
                Err(reason) => reasons.push(reason),
            }
        }
    }
    reasons.dedup();
    outcome.disagreements.push(Disagreement {
        file_system: judge.file_system.name(),
        seed: sequence.seed,
        operations: listed(sequence, state.answered),
        cut: state.cut.to_string(),
        seen: state.seen.as_ref().map_or_else(Clone::clone, Seen::summary),
        expected: if reasons.is_empty() {
            "a file system that can be read".to_owned()
        } else {
            reasons.join("; or within the operation: ")
        },
    });
}

/// Operations with a mark at those that had been answered; those before the recording stand in front.
pub fn listed(sequence: &Sequence, answered: usize) -> Vec<String> {
    let before = sequence.before.len();
    let line = |(number, operation): (u16, &crate::sequence::Operation)| {
        let position = usize::from(number) - 1;
        let mark = if position < before {
            "there"
        } else if position < before + answered {
            "done"
        } else {
            "-"
        };
        format!("{number:3} {mark:5} {operation}")
    };
    sequence.all().map(line).collect()
}

fn is_partial(guide: &Guide) -> bool {
    let questions: usize = guide.questions.values().map(Vec::len).sum();
    let gone = guide.content.values().filter(|answer| **answer == Survival::Gone).count();
    let torn = guide.content.values().any(|answer| matches!(answer, Survival::Torn(_)));
    let some_names =
        guide.journal > 0 && guide.journal < guide.operations || guide.log.values().any(|names| *names > 0);
    torn || some_names || gone > 0 && gone < questions
}

/// Numbers of the files that are seen, by the first of their names.
fn files_of(process: &Process, seen: &Seen) -> BTreeMap<String, u64> {
    let disk = process.disk();
    let firsts = seen.files.iter().filter(|(path, file)| file.first_name == **path);
    firsts.filter_map(|(path, _)| Some((path.clone(), disk.number_of(format!("/{path}"))?))).collect()
}

/// A state that the model itself draws for the same crash point must be explained, and tells which kinds there are.
fn draw_state(judge: &Judge<'_>, sequence: &Sequence, state: &State, draw: &mut Draw, outcome: &mut Outcome) {
    let Some(image) = judge.images.within.get(state.answered).or(judge.images.after.last()) else { return };
    let (_, seen) = lose(judge.world, judge.process, image, Anything(draw.clone()));
    draw.next();
    outcome.model_states += 1;
    match judge.explain(image, &seen) {
        Ok(guide) => {
            let files = files_of(judge.process, &seen);
            kinds::note(&mut outcome.model_kinds, sequence, judge.images, &guide, &seen, &files);
        }
        Err(reason) => {
            let listed = listed(sequence, state.answered).join("\n");
            outcome.unexplained.push(format!(
                "seed {}: {}: {reason}\n{listed}",
                sequence.seed,
                seen.summary()
            ));
        }
    }
}

/// Any survivor set of the model.
#[derive(Clone)]
struct Anything(Draw);

impl SurvivorChoice for Anything {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        match self.0.below(4) {
            0 => Survival::Gone,
            1 | 2 => Survival::Whole,
            _ => {
                let mut kept = Vec::new();
                for sector in 0..change.sectors {
                    if self.0.chance(1, 2) {
                        kept.push(sector..sector + 1);
                    }
                }
                Survival::Torn(kept)
            }
        }
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        self.0.below(candidates.len() as u64) as usize
    }

    fn name(&mut self, _: u64, _: &str, candidates: &[Option<u64>]) -> usize {
        self.0.below(candidates.len() as u64) as usize
    }

    fn journal(&mut self, operations: usize) -> usize {
        self.0.below(operations as u64 + 1) as usize
    }
}
