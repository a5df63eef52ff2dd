//! From a seed to a plan.
//!
//! Each kind of decision has a stream of its own, so that a new fault class, say, leaves the scripts of all seeds as they
//! were. Half of all seeds have no fault that could excuse the loss of anything.

use holdfast_sim::plan::ROOM_KIB_MAX;
use holdfast_sim::{FaultClass, Personality};
use holdfast_workloads::Random;
use holdfast_workloads::random::mix;
use holdfast_workloads::storm::{Script, Settings, Workload, draw};

use crate::fault::{Cost, Replacing, cost_of, name_of, of_one_process};
use crate::plan::{At, Crash, CrashKind, DiskPlan, Fault, Plan, Replacement, SCHEMA, Substitute};
use crate::stage::DIR;

/// What seeds may draw from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The workloads; at least one.
    pub workloads: Vec<Workload>,
    /// The fault classes.
    pub faults: Vec<FaultClass>,
    /// The ways in which a disk becomes another one.
    pub replacing: Vec<Replacing>,
    /// Operations of clients in each seed.
    pub operations: u64,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            workloads: Workload::ALL.to_vec(),
            faults: of_one_process(),
            replacing: Replacing::ALL.to_vec(),
            operations: 1200,
        }
    }
}

/// The streams; each number is part of what a seed means.
#[derive(Clone, Copy)]
enum Of {
    Shape = 1,
    Settings = 2,
    Script = 3,
    Crashes = 4,
    /// When a real process is killed.
    Lives = 5,
    /// Reads from elsewhere where they are many.
    Misreads = 6,
    /// And one more for each way.
    Replacements = 8,
    /// And one more for each fault class.
    Faults = 16,
}

fn stream(seed: u64, of: Of, number: u64) -> Random {
    Random::new(mix(mix(seed) ^ (of as u64 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// How bad a seed's faults may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Crashes only.
    Crashes,
    /// Faults that cost nothing.
    Errors,
    /// And reads that come from elsewhere, many of them: they cost nothing that lasts.
    Misread,
    /// Any fault.
    Anything,
}

/// Everything that a seed decides.
pub fn plan(seed: u64, choice: &Choice) -> Plan {
    let mut shape = stream(seed, Of::Shape, 0);
    let workload = workload_of(choice, &mut shape);
    let weather = weather(&mut shape);
    let rare_one_in = *shape.of(&[0, 0, 16, 128]);
    let disk = DiskPlan {
        delayed_allocation: shape.one_in(4),
        copy_on_write: shape.one_in(6),
        full_in_sync: shape.one_in(4),
        like: *shape.of(&[
            Personality::Strict,
            Personality::Strict,
            Personality::Strict,
            Personality::Ext4,
            Personality::Xfs,
            Personality::Btrfs,
        ]),
        iops_max: shape.one_in(12).then(|| *shape.of(&[200, 1_000, 5_000])),
    };
    let wall_drift_ppm = *shape.of(&[0, 0, 0, 200, -200, 50_000, -50_000, 500_000]);
    let settings = Settings::draw(workload, &mut stream(seed, Of::Settings, 0));
    let script: Script = draw::draw(workload, choice.operations, &mut stream(seed, Of::Script, 0));
    let mut crashes = crashes(&script, &mut stream(seed, Of::Crashes, 0));
    let replacements: Vec<Replacement> = match weather {
        Weather::Anything => {
            let of_way = |way: &Replacing| {
                replacement_of(*way, &script, &mut stream(seed, Of::Replacements, *way as u64))
            };
            choice.replacing.iter().find_map(of_way).into_iter().collect()
        }
        Weather::Crashes | Weather::Errors | Weather::Misread => Vec::new(),
    };
    // What a disk lost that did not lie can be told to a commit.
    let weather = match replacements.is_empty() || stream(seed, Of::Replacements, 7).one_in(2) {
        true => weather,
        false => Weather::Errors,
    };
    let faults = choice.faults.iter().flat_map(|class| {
        let allowed = match weather {
            Weather::Crashes => false,
            Weather::Errors | Weather::Misread => cost_of(*class) == Cost::Nothing,
            Weather::Anything => true,
        };
        let drawn = faults_of(*class, &script, &crashes, &mut stream(seed, Of::Faults, *class as u64));
        if allowed { drawn } else { Vec::new() }
    });
    let mut faults: Vec<Fault> = faults.collect();
    let misreads = misreads(&script, &mut stream(seed, Of::Misreads, 0)).into_iter();
    faults.extend(misreads.filter(|_| weather == Weather::Misread && choice.faults.contains(&MISREAD)));
    if faults.iter().any(lies_at_creation) {
        // Any other one may end the first opening early, and the next one syncs.
        faults.retain(lies_at_creation);
        crashes = crashes_of_a_creation(&script, &mut stream(seed, Of::Crashes, 1));
    }
    Plan {
        schema: SCHEMA,
        seed,
        workload,
        settings,
        rare_one_in,
        disk,
        wall_drift_ppm,
        script,
        crashes,
        faults,
        replacements,
        plain_schedule: false,
        schedule: Vec::new(),
    }
}

fn weather(random: &mut Random) -> Weather {
    match *random.of(&[Weather::Crashes, Weather::Errors, Weather::Errors, Weather::Anything]) {
        Weather::Errors if random.one_in(3) => Weather::Misread,
        other => other,
    }
}

/// What decides when the real process of a seed is killed.
pub(crate) fn lives(seed: u64) -> Random {
    stream(seed, Of::Lives, 0)
}

/// One seed in so many that would hoard memory does, for these take long.
const HOARDS_ONE_IN: u64 = 16;

fn workload_of(choice: &Choice, random: &mut Random) -> Workload {
    let drawn = *random.of(&choice.workloads);
    let others: Vec<Workload> =
        choice.workloads.iter().copied().filter(|workload| *workload != Workload::Hoard).collect();
    if drawn != Workload::Hoard || others.is_empty() || random.one_in(HOARDS_ONE_IN) {
        return drawn;
    }
    *random.of(&others)
}

/// Four ends that surely come, in four parts of the script, one of which may be gentle, some of them followed by a crash
/// in the recovery; and some in the middle of whatever is going on. So there are at least three crashes with recovery.
fn crashes(script: &Script, random: &mut Random) -> Vec<Crash> {
    let mut crashes = Vec::new();
    let gentle = 1 + random.below(4);
    for part in 1..=4 {
        let at = step_in(script, (part * 20, 10), random);
        let kind = match part == gentle {
            true => *random.of(&[CrashKind::Close, CrashKind::Close, CrashKind::Drop, CrashKind::PowerLoss]),
            false => *random.of(&[
                CrashKind::Kill,
                CrashKind::Kill,
                CrashKind::PowerLoss,
                CrashKind::PowerLoss,
                CrashKind::PowerLoss,
            ]),
        };
        let calls = if random.one_in(2) { 0 } else { random.below(60) };
        crashes.push(Crash { at, calls, kind });
    }
    for opening in 0..6 {
        while random.one_in(3) {
            let kind = *random.of(&[CrashKind::Kill, CrashKind::PowerLoss]);
            let again = crashes.iter().filter(|crash| crash.at == At::Opening(opening)).count();
            if again == 0 {
                crashes.push(Crash { at: At::Opening(opening), calls: 1 + random.below(50), kind });
            }
        }
    }
    for _ in 0..random.below(3) {
        let kind = *random.of(&[CrashKind::Kill, CrashKind::PowerLoss]);
        let at = step_in(script, (0, 100), random);
        crashes.push(Crash { at, calls: 1 + random.below(300), kind });
    }
    crashes
}

/// A step of some client, from so many percent of its steps on and within so many more.
fn step_in(script: &Script, (from, within): (u64, u64), random: &mut Random) -> At {
    let client = random.below(script.clients.len() as u64);
    let steps = script.clients[client as usize].len() as u64;
    let step = steps * from / 100 + random.below(steps * within / 100 + 1);
    At::Step { client: client as u32, step: step as u32 }
}

/// A disk that is replaced somewhere between the ends that surely come; in most seeds it stays.
fn replacement_of(way: Replacing, script: &Script, random: &mut Random) -> Option<Replacement> {
    let (rare, by) = match way {
        Replacing::Wiped => (8, Substitute::Empty),
        Replacing::OlderCopy => {
            let at = match random.one_in(6) {
                true => At::Opening(random.below(4) as u32),
                false => step_in(script, (0, 60), random),
            };
            (3, Substitute::CopyOf(at))
        }
    };
    let (opening, demand) = (1 + random.below(5) as u32, random.one_in(2));
    random.one_in(rare).then_some(Replacement { opening, by, demand })
}

/// The faults of one class: none in two of three seeds, so that a seed has a handful of classes. Some strike between the
/// moment at which a crash is armed and the crash: then the process dies of the one while it has to do with the other.
fn faults_of(class: FaultClass, script: &Script, crashes: &[Crash], random: &mut Random) -> Vec<Fault> {
    if !random.one_in(3) {
        return Vec::new();
    }
    let count = match class {
        FaultClass::Stall | FaultClass::ShortRead | FaultClass::ShortWrite | FaultClass::TransientRead => {
            1 + random.below(12)
        }
        FaultClass::SpawnRefused => 1 + random.below(6),
        _ => 1 + random.below(3),
    };
    // What may make the database refuse to open comes when there is something to lose.
    let (opening, from) = if cost_of(class) == Cost::Nothing { (0, 0) } else { (4, 60) };
    let later_crashes: Vec<At> = match cost_of(class) {
        Cost::Nothing => crashes.iter().filter(|crash| crash.calls > 0).map(|crash| crash.at).collect(),
        Cost::Damage | Cost::Suffix => Vec::new(),
    };
    // What recovery reads tells what is there.
    let openings_one_in = match class {
        FaultClass::LostSector | FaultClass::StaleRead | FaultClass::MisdirectedRead => 3,
        _ => 6,
    };
    let one = |random: &mut Random| {
        let at = match random.one_in(openings_one_in) {
            // A creation of which not all is durable.
            true if class == FaultClass::LyingSync && random.one_in(12) => At::Opening(0),
            true => At::Opening((opening + random.below(5)) as u32),
            false if !later_crashes.is_empty() && random.one_in(4) => *random.of(&later_crashes),
            false => step_in(script, (from, 100 - from), random),
        };
        let on = match class {
            FaultClass::SpawnRefused => *random.of(&["", "flush", "compact"]),
            FaultClass::Stall | FaultClass::ClockJump => "",
            _ if cost_of(class) == Cost::Nothing => {
                *random.of(&["", "log", "log", "table", "table", "manifest", "CURRENT"])
            }
            // What is lost of the manifest ends the seed.
            _ => *random.of(&[
                "", "log", "log", "log", "table", "table", "table", "table", "table", "manifest", "CURRENT",
            ]),
        };
        let lasts = match class {
            FaultClass::NoSpace | FaultClass::TooManyFiles => true,
            // Nobody reads the manifest of an open database but whoever looks from beside.
            FaultClass::ReadError => matches!(on, "manifest" | "CURRENT"),
            _ => false,
        };
        let is_lasting = lasts && random.one_in(3);
        Fault {
            class: name_of(class).to_owned(),
            at,
            on: on.to_owned(),
            nth: 1 + random.below(*random.clone().of(&[3, 30, 300])),
            lasting: is_lasting,
            room_kib: None,
        }
    };
    let mut faults: Vec<Fault> = (0..count).map(|_| one(random)).collect();
    if class == FaultClass::LyingSync && random.one_in(6) {
        faults = vec![lie_at_creation(random)];
    }
    if class == FaultClass::NoSpace && random.one_in(2) {
        faults.extend(narrow_disk(script, random));
    }
    faults
}

const MISREAD: FaultClass = FaultClass::MisdirectedRead;

/// Reads that come from elsewhere: of tables at any time, and of the log where it is read.
fn misreads(script: &Script, random: &mut Random) -> Vec<Fault> {
    let one = |random: &mut Random| {
        let of_log = random.one_in(4);
        Fault {
            class: name_of(MISREAD).to_owned(),
            at: match of_log {
                true => At::Opening(3 + random.below(5) as u32),
                false => step_in(script, (0, 100), random),
            },
            on: if of_log { "log" } else { "table" }.to_owned(),
            nth: 1 + random.below(if of_log { 8 } else { 30 }),
            lasting: false,
            room_kib: None,
        }
    };
    (0..4 + random.below(12)).map(|_| one(random)).collect()
}

/// From one moment of the creation on no sync of the directory does anything, as long as the first opening lasts.
fn lie_at_creation(random: &mut Random) -> Fault {
    Fault {
        class: name_of(FaultClass::LyingSync).to_owned(),
        at: At::Opening(0),
        on: DIR.trim_start_matches('/').to_owned(),
        nth: 1 + random.below(5),
        lasting: true,
        room_kib: None,
    }
}

fn lies_at_creation(fault: &Fault) -> bool {
    fault.class == name_of(FaultClass::LyingSync) && fault.at == At::Opening(0) && fault.lasting
}

/// What such a lie leaves is seen where the power goes before another opening syncs what this one did not, and with it
/// there is something to lose. The recoveries behind it are crashed, too.
fn crashes_of_a_creation(script: &Script, random: &mut Random) -> Vec<Crash> {
    let at = step_in(script, (90, 9), random);
    let mut crashes = vec![Crash { at, calls: random.below(60), kind: CrashKind::PowerLoss }];
    for opening in [1, 2] {
        let kind = *random.of(&[CrashKind::Kill, CrashKind::PowerLoss]);
        crashes.push(Crash { at: At::Opening(opening), calls: 1 + random.below(50), kind });
    }
    crashes
}

/// The disk has little room from one moment on, and all of it again from another, if the opening lasts so long.
fn narrow_disk(script: &Script, random: &mut Random) -> [Fault; 2] {
    let fault = |at, room_kib| Fault {
        class: name_of(FaultClass::NoSpace).to_owned(),
        at,
        on: String::new(),
        nth: 1,
        lasting: false,
        room_kib: Some(room_kib),
    };
    let narrow_at = match random.one_in(3) {
        true => At::Opening(random.below(5) as u32),
        false => step_in(script, (0, 80), random),
    };
    let room_kib = *random.of(&[0, 8, 40, 100, 200, 400]);
    [fault(narrow_at, room_kib), fault(step_in(script, (20, 80), random), ROOM_KIB_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_has_a_thousand_operations_and_three_crashes_with_recovery() {
        for seed in 0..1000 {
            let plan = plan(seed, &Choice::default());
            assert!(plan.script.operations() >= 1000, "seed {seed}: {}", plan.script.operations());
            assert!(plan.crashes_with_recovery() >= 3, "seed {seed}: {:?}", plan.crashes);
        }
    }

    #[test]
    fn a_seed_is_one_plan_and_leaving_out_a_class_leaves_the_rest() {
        for seed in 0..50 {
            let whole = plan(seed, &Choice::default());
            assert_eq!(whole, plan(seed, &Choice::default()));
            let mut fewer = Choice::default();
            fewer.faults.retain(|class| *class != FaultClass::Stall);
            let mut expected = whole.clone();
            expected.faults.retain(|fault| fault.class != "stall");
            assert_eq!(plan(seed, &fewer), expected);
            let text = whole.to_text();
            assert_eq!(serde_json::from_str::<Plan>(&text).expect("a plan comes back"), whole);
        }
    }

    #[test]
    fn half_of_all_seeds_have_nothing_that_excuses_a_loss() {
        let excuses = |plan: &Plan| {
            let cost = |fault: &Fault| crate::fault::of_name(&fault.class).map(cost_of);
            !plan.replacements.is_empty() || plan.faults.iter().any(|fault| cost(fault) > Some(Cost::Nothing))
        };
        let plans = (0..1000).map(|seed| plan(seed, &Choice::default()));
        assert!(plans.filter(excuses).count() <= 500);
    }
}
