//! The verdict over one harmed database: does it answer right, or say that it cannot?

use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Problem, verify};

use super::ask::{Answer, Kill, answer, is_harmed};
use super::build::Subject;
use super::harm::Harm;
use super::world::{DIR, Image, MemoryWorld};

/// What is wrong if nothing else is.
pub const NOT_NOTICED: &str = "verification does not notice the harm";

/// What became of a harm.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Opening was refused.
    Refused,
    /// It opened, and reads of what is harmed failed.
    ReadError,
    /// Every answer is right, and verification names the harm.
    Named,
    /// Every answer is right, and nothing depends on the bytes.
    Unused,
    /// What one disk cannot know: the newest unsealed group of the log is gone.
    Excused,
    /// A wrong answer, or a harm that nobody noticed.
    Wrong(String),
}

impl Verdict {
    /// In one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ReadError => "read error",
            Self::Named => "harmless, named",
            Self::Unused => "harmless, unused",
            Self::Excused => "excused",
            Self::Wrong(_) => "WRONG",
        }
    }
}

/// Judges what `harm` made of `subject`.
pub fn judge(subject: &Subject, harm: &Harm, harmed: &Image) -> Verdict {
    judge_with(subject, harm, harmed, ALL_IS_KEPT)
}

/// What a kill leaves of the files of a kernel that keeps its promises: what was written.
const ALL_IS_KEPT: Kill = |_, written| written;

/// The same where a kill leaves what `kill` says.
pub fn judge_with(subject: &Subject, harm: &Harm, harmed: &Image, kill: Kill) -> Verdict {
    let noticed = || named(harm, harmed);
    let verdict = match answer(harm, harmed, &subject.truth, kill) {
        Answer::Refused => noticed().map(|()| Verdict::Refused),
        Answer::ReadError => noticed().map(|()| Verdict::ReadError),
        Answer::Right if is_harm_unused(subject, harm, harmed) => Ok(Verdict::Unused),
        Answer::Right => noticed().map(|()| Verdict::Named),
        Answer::Wrong(_) if is_excused(subject, harm, harmed) => Ok(Verdict::Excused),
        Answer::Wrong(what) => Err(what),
    };
    verdict.unwrap_or_else(Verdict::Wrong)
}

/// Says what is wrong with the answers of an unharmed database, before anything is made of those of a harmed one.
///
/// # Errors
/// What is wrong, in words.
pub fn baseline(subject: &Subject) -> Result<(), String> {
    let nothing = Harm::Remove { file: "LOCK".into() };
    match answer(&nothing, &subject.image, &subject.truth, ALL_IS_KEPT) {
        Answer::Right => Ok(()),
        Answer::Wrong(what) => Err(format!("{}, unharmed: {what}", subject.name)),
        Answer::Refused | Answer::ReadError => Err(format!("{}, unharmed: cannot be read", subject.name)),
    }
}

/// True if the newest group of the log is what it was before, which one disk cannot know, and every answer is that of
/// a moment before.
fn is_excused(subject: &Subject, harm: &Harm, harmed: &Image) -> bool {
    let Some((_, truth)) = &subject.before_last else { return false };
    harm.is_excused(subject, harmed) && matches!(answer(harm, harmed, truth, ALL_IS_KEPT), Answer::Right)
}

/// True if nothing depends on any byte that `harm` changed.
fn is_harm_unused(subject: &Subject, harm: &Harm, harmed: &Image) -> bool {
    subject.image.iter().filter(|(file, _)| harm.touches(file)).all(|(file, bytes)| {
        let now = harmed.get(file).map_or(&[][..], |now| &now[..]);
        (0..bytes.len()).all(|at| now.get(at) == Some(&bytes[at]) || subject.is_unused(file, at))
    })
}

/// Verification must name a file that `harm` touches, or what is wrong is returned. Where opening is refused or reads
/// fail it is what tells the extent.
fn named(harm: &Harm, harmed: &Image) -> Result<(), String> {
    // Of two files that contradict each other it cannot be told which is wrong: then the words name the other.
    let names = |problem: &Problem| {
        is_harmed(harm, &problem.file) || problem.what.split([' ', ',', ':']).any(|word| harm.touches(word))
    };
    let world = MemoryWorld::new(harmed);
    match world.run(verify(Arc::clone(&world) as Arc<dyn Env>, DIR, |_| ())) {
        Ok(Ok(report)) if report.problems.iter().any(names) => Ok(()),
        Ok(Ok(report)) if report.is_good() => Err(NOT_NOTICED.into()),
        Ok(Ok(report)) => Err(format!("verification names the wrong file: {:?}", report.problems)),
        Ok(Err(error)) => Err(format!("verification fails: {error}")),
        Err(stuck) => Err(format!("verification: {stuck}")),
    }
}
