//! From a seed to a plan of an application.
//!
//! Each kind of decision has a stream of its own, and so has each fault class. What the application does is not known
//! here: a rehearsal, a run in which nothing goes wrong, has told the names and numbers of its steps.

use std::collections::BTreeMap;

use super::plan::{At, CrashKind, DiskPlan, Plan, PlannedCrash, PlannedFault, SCHEMA, Target};
use super::settings::Settings;
use crate::contract::FaultCost;
use crate::disk::personality::Personality;
use crate::fault::FaultClass;
use crate::stream::{Stream, StreamClass};

/// What the rehearsal has told.
#[derive(Clone, Default, Debug)]
pub(super) struct Rehearsed {
    /// By name: how many steps there are.
    pub(super) steps: BTreeMap<String, u64>,
    /// Disk calls.
    pub(super) io_calls: u64,
}

/// The plan in which nothing goes wrong.
pub(super) fn calm(seed: u64, test: &Target, settings: Settings) -> Plan {
    Plan {
        schema: SCHEMA,
        test: test.clone(),
        seed,
        settings,
        rare_one_in: 0,
        disk: DiskPlan::default(),
        steps: BTreeMap::new(),
        crashes: Vec::new(),
        faults: Vec::new(),
        plain_schedule: false,
        schedule: Vec::new(),
    }
}

/// Everything that a seed decides.
pub(super) fn plan(seed: u64, test: &Target, classes: &[FaultClass], rehearsed: &Rehearsed) -> Plan {
    let mut shape = Stream::new(seed, StreamClass::PlanShape);
    let costs: &[FaultCost] = match shape.below(4) {
        0 => &[],
        1 | 2 => &[FaultCost::Nothing],
        _ => &[FaultCost::Nothing, FaultCost::Damage, FaultCost::Suffix],
    };
    let rare_one_in = shape.of(&[0, 0, 16, 128]);
    let disk = DiskPlan {
        like: shape.of(&[
            Personality::Strict,
            Personality::Strict,
            Personality::Strict,
            Personality::Ext4,
            Personality::Xfs,
            Personality::Btrfs,
        ]),
        delayed_allocation: shape.one_in(4),
        copy_on_write: shape.one_in(6),
        full_in_sync: shape.one_in(6),
        iops_max: None,
    };
    let settings = Settings::draw(&mut Stream::new(seed, StreamClass::PlanSettings));
    let crashes = crashes(rehearsed, &mut Stream::new(seed, StreamClass::PlanCrashes));
    let allowed = classes.iter().filter(|class| costs.contains(&class.cost()));
    let faults = allowed
        .flat_map(|class| faults_of(*class, rehearsed, &mut Stream::of_planned_fault(seed, *class as usize)));
    let steps = rehearsed.steps.iter().map(|(name, count)| (name.clone(), (0..*count).collect()));
    Plan {
        rare_one_in,
        disk,
        steps: steps.collect(),
        crashes,
        faults: faults.collect(),
        ..calm(seed, test, settings)
    }
}

/// Two to four in the course of the steps, and for some of them one in the recovery behind it.
fn crashes(rehearsed: &Rehearsed, stream: &mut Stream) -> Vec<PlannedCrash> {
    let kind =
        |stream: &mut Stream| stream.of(&[CrashKind::Kill, CrashKind::PowerLoss, CrashKind::PowerLoss]);
    let parts = 2 + stream.below(3);
    let mut crashes: Vec<PlannedCrash> = (0..parts)
        .map(|part| {
            let at = some_step(rehearsed, (100 * part / parts, 100 / parts), stream);
            let reach = match &at {
                Some(_) => stream.of(&[6, 20, 60]),
                None => rehearsed.io_calls.max(1),
            };
            let at = at.unwrap_or(At::Life(u32::try_from(part).unwrap_or(0)));
            PlannedCrash { at, calls: 1 + stream.below(reach), kind: kind(stream) }
        })
        .collect();
    for life in 0..4 {
        if stream.one_in(3) {
            let (reach, kind) = (stream.of(&[10, 50]), kind(stream));
            crashes.push(PlannedCrash { at: At::Life(life), calls: 1 + stream.below(reach), kind });
        }
    }
    crashes
}

/// A step of some name, from so many percent of its steps on and within so many more; none if there are none.
fn some_step(rehearsed: &Rehearsed, (from, within): (u64, u64), stream: &mut Stream) -> Option<At> {
    let names: Vec<(&String, u64)> = rehearsed.steps.iter().map(|(name, count)| (name, *count)).collect();
    if names.is_empty() {
        return None;
    }
    let (of, count) = stream.of(&names);
    let number = count * from / 100 + stream.below(count * within / 100 + 1);
    Some(At::Step { of: of.clone(), number: number.min(count.saturating_sub(1)) })
}

/// The faults of one class: none in two of three plans, so that a plan has a handful of classes.
fn faults_of(class: FaultClass, rehearsed: &Rehearsed, stream: &mut Stream) -> Vec<PlannedFault> {
    if !stream.one_in(3) {
        return Vec::new();
    }
    let costs_nothing = class.cost() == FaultCost::Nothing;
    // What may make the database refuse to open comes when there is something to lose.
    let (life, from) = if costs_nothing { (0, 0) } else { (1, 40) };
    let count = match class {
        FaultClass::Stall | FaultClass::ShortRead | FaultClass::ShortWrite | FaultClass::TransientRead => 8,
        _ => 3,
    };
    // Most of what is read is read when the database opens.
    let is_of_read = matches!(
        class,
        FaultClass::ReadError
            | FaultClass::ShortRead
            | FaultClass::TransientRead
            | FaultClass::LostSector
            | FaultClass::BitRot
            | FaultClass::StaleRead
            | FaultClass::MisdirectedRead
    );
    let one = |stream: &mut Stream| {
        let in_step = some_step(rehearsed, (from, 100 - from), stream)
            .filter(|_| !stream.one_in(if is_of_read { 2 } else { 6 }));
        let at = in_step.unwrap_or_else(|| At::Life(life + stream.below(3) as u32));
        let on = match class {
            FaultClass::SpawnRefused => stream.of(&["", "flush", "compact"]),
            FaultClass::Stall | FaultClass::ClockJump => "",
            // Damage of files that are not the database's is nothing that the contract speaks of.
            _ if !costs_nothing => stream.of(DATABASE_FILES),
            _ => stream.of(&["", "", ".log", ".log", ".table", ".manifest", "CURRENT"]),
        };
        let is_narrow = class == FaultClass::NoSpace && stream.one_in(3);
        PlannedFault {
            class,
            at,
            on: on.to_owned(),
            nth: 1 + {
                let reach = stream.of(&[1, 3, 10, 30]);
                stream.below(reach)
            },
            lasting: matches!(class, FaultClass::NoSpace | FaultClass::TooManyFiles) && stream.one_in(3),
            room_kib: is_narrow.then(|| stream.of(&[0, 8, 40, 100, 200, 400])),
        }
    };
    let count = 1 + stream.below(count);
    (0..count).map(|_| one(stream)).collect()
}

/// Parts of names that only files of a database have.
pub(super) const DATABASE_FILES: &[&str] = &[".log", ".log", ".table", ".table", ".manifest", "CURRENT"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::faults::Faults;

    fn target() -> Target {
        Target {
            package: "shop".to_owned(),
            name: "sells".to_owned(),
            features: Vec::new(),
            binary: "shop".into(),
            directory: "/".into(),
        }
    }

    fn rehearsed() -> Rehearsed {
        let steps = [("a", 40), ("b", 1), ("c", 0)].map(|(name, count)| (name.to_owned(), count));
        Rehearsed { steps: steps.into(), io_calls: 100 }
    }

    #[test]
    fn a_seed_is_one_plan_that_can_be_read_back_and_classes_are_independent() {
        let all = Faults::of("lossy").expect("a known word").classes;
        let fewer: Vec<FaultClass> =
            all.iter().copied().filter(|class| *class != FaultClass::Stall).collect();
        for seed in 0..200 {
            let whole = plan(seed, &target(), &all, &rehearsed());
            assert_eq!(Plan::from_text(&whole.to_text()).expect("a plan comes back"), whole);
            let mut expected = whole;
            expected.faults.retain(|fault| fault.class != FaultClass::Stall);
            assert_eq!(plan(seed, &target(), &fewer, &rehearsed()), expected);
        }
    }

    #[test]
    fn an_application_without_steps_is_crashed_all_the_same() {
        let plan = plan(7, &target(), &[], &Rehearsed { steps: BTreeMap::new(), io_calls: 30 });
        assert!(plan.crashes.len() >= 2, "{plan:?}");
    }

    #[test]
    fn other_versions_and_impossible_plans_are_refused_in_words() {
        let text = plan(1, &target(), &[], &rehearsed()).to_text();
        for (from, to, words) in [
            ("\"schema\":1", "\"schema\":9", "version 9"),
            ("\"seed\"", "\"sead\"", "sead"),
            (
                "\"crashes\": [",
                "\"crashes\": [{\"at\":{\"life\":0},\"calls\":0,\"kind\":\"kill\"},",
                "calls is 0",
            ),
            ("\"block_bytes\":", "\"block_bytes\":9999", "block_bytes"),
        ] {
            let broken = text.replacen(from, to, 1);
            assert_ne!(broken, text, "{from}");
            let refused = Plan::from_text(&broken).expect_err("it is broken");
            assert!(refused.contains(words), "{refused}");
        }
    }
}
