//! What a device does without a word: each class does what it says, tells on what, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use holdfast::env::{Buf, Env, File, IoErrorKind, IoResult, OpenOptions};
use holdfast_sim::{
    FaultClass, FiredFault, NothingSurvives, Outcome, Process, Ratio, SECTOR, SimOptions, Trigger, World,
};
use quickcheck::quickcheck;

const SECTORS: u64 = 8;

async fn write(file: &Arc<dyn File>, sector: u64, byte: u8) -> IoResult<usize> {
    let mut buf = Buf::zeroed(SECTOR as usize);
    buf.fill(byte);
    file.write_at(sector * SECTOR, buf).await.0
}

async fn read(file: &Arc<dyn File>, sector: u64, sectors: u64) -> IoResult<Vec<u8>> {
    let (result, buf) = file.read_at(sector * SECTOR, Buf::zeroed((sectors * SECTOR) as usize)).await;
    result.map(|count| buf[..count].to_vec())
}

/// Eight sectors, each full of its number.
fn numbered() -> Vec<u8> {
    (0..SECTORS).flat_map(|sector| [sector as u8; SECTOR as usize]).collect()
}

async fn open(env: &Arc<dyn Env>, options: OpenOptions) -> Arc<dyn File> {
    env.disk().open(Path::new("/a"), options).await.expect("it is there")
}

/// Runs `body` with one process and a durable file `/a` of eight numbered sectors, opened with `options`.
fn with_file<F, Fut>(options: OpenOptions, body: F) -> Outcome<()>
where
    F: FnOnce(World, Process, Arc<dyn File>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    holdfast_sim::run(SimOptions::new(7), move |world| async move {
        let process = world.process("db");
        process.disk().write_file("/a", &numbered());
        let env = process.env();
        let file = open(&env, options).await;
        body(world, process, file).await;
    })
}

fn noted(process: &Process, class: FaultClass) -> Vec<(u64, u64)> {
    let of = |fault: &FiredFault| fault.class == class && fault.name == "a";
    process
        .disk()
        .fired_faults()
        .iter()
        .filter(|fault| of(fault))
        .map(|fault| (fault.offset, fault.len))
        .collect()
}

#[test]
fn a_transient_read_error_passes() {
    let outcome = with_file(OpenOptions::read(), |_, process, file| async move {
        process.disk().inject(FaultClass::TransientRead, Trigger::Once(1));
        let refused = read(&file, 0, 1).await.unwrap_err();
        assert_eq!(refused.kind, IoErrorKind::Transient);
        assert_eq!(read(&file, 0, SECTORS).await.unwrap(), numbered());
    });
    assert_eq!(outcome.fired(FaultClass::TransientRead), 1);
}

#[test]
fn a_lost_sector_stays_lost_until_it_is_written() {
    with_file(OpenOptions::write(), |world, process, file| async move {
        process.disk().inject(FaultClass::LostSector, Trigger::Once(1));
        assert_eq!(read(&file, 2, 3).await.unwrap_err().kind, IoErrorKind::Medium);
        let lost = noted(&process, FaultClass::LostSector);
        assert_eq!(lost.len(), 1);
        let sector = lost[0].0 / SECTOR;
        assert!((2..5).contains(&sector) && lost[0].1 == SECTOR);
        process.disk().clear_faults();
        for at in 0..SECTORS {
            assert_eq!(read(&file, at, 1).await.is_err(), at == sector, "sector {at}");
        }
        // Not even the next life can read it.
        drop(file);
        process.power_loss();
        process.restart();
        let file = open(&process.env(), OpenOptions::write()).await;
        assert_eq!(read(&file, 0, SECTORS).await.unwrap_err().kind, IoErrorKind::Medium);
        write(&file, sector, 9).await.unwrap();
        assert_eq!(read(&file, sector, 1).await.unwrap(), [9; SECTOR as usize]);
        drop(world);
    });
}

#[test]
fn rot_is_one_bit_at_rest() {
    with_file(OpenOptions::write(), |_, process, file| async move {
        process.disk().inject(FaultClass::BitRot, Trigger::Once(1));
        let rotten = read(&file, 0, SECTORS).await.unwrap();
        let noted = noted(&process, FaultClass::BitRot);
        let [(at, 1)] = noted[..] else { panic!("{noted:?}") };
        let differs = |(byte, good): (&u8, u8)| (byte ^ good).count_ones();
        assert_eq!(rotten.iter().zip(numbered()).map(differs).sum::<u32>(), 1);
        assert_ne!(rotten[at as usize], numbered()[at as usize]);
        assert_eq!(read(&file, 0, SECTORS).await.unwrap(), rotten, "it stays rotten");
        assert_eq!(process.disk().read_durable("/a"), rotten);
    });
}

#[test]
fn a_stale_read_misses_the_last_write_once() {
    for options in [OpenOptions::write(), OpenOptions::write().direct()] {
        with_file(options, |_, process, file| async move {
            process.disk().inject(FaultClass::StaleRead, Trigger::Once(1));
            assert_eq!(read(&file, 3, 1).await.unwrap(), [3; SECTOR as usize], "nothing was written yet");
            write(&file, 3, 9).await.unwrap();
            file.sync_data().await.unwrap();
            assert_eq!(read(&file, 3, 1).await.unwrap(), [3; SECTOR as usize]);
            assert_eq!(read(&file, 3, 1).await.unwrap(), [9; SECTOR as usize]);
            assert_eq!(noted(&process, FaultClass::StaleRead), [(3 * SECTOR, SECTOR)]);
        });
    }
}

#[test]
fn a_misdirected_read_gives_another_place_once() {
    with_file(OpenOptions::read(), |_, process, file| async move {
        process.disk().inject(FaultClass::MisdirectedRead, Trigger::Once(1));
        let other = read(&file, 3, 1).await.unwrap();
        assert!(other[0] != 3 && other == numbered()[usize::from(other[0]) * 512..][..512]);
        assert_eq!(read(&file, 3, 1).await.unwrap(), [3; SECTOR as usize]);
        assert_eq!(noted(&process, FaultClass::MisdirectedRead), [(3 * SECTOR, SECTOR)]);
    });
}

#[test]
fn a_misdirected_read_waits_for_a_place_that_looks_alike() {
    const WITHIN: u64 = 100;
    const LEN: usize = 300;
    let outcome = with_file(OpenOptions::read(), |_, process, file| async move {
        process.disk().write_file("/b", &[77; (SECTORS * SECTOR) as usize]);
        let read_at = |sector: u64| {
            let file = Arc::clone(&file);
            async move { file.read_at(sector * SECTOR + WITHIN, Buf::zeroed(LEN)).await.1.to_vec() }
        };
        let good = |sector: u64| vec![sector as u8; LEN];
        process.disk().inject(FaultClass::MisdirectedRead, Trigger::Once(1));
        assert_eq!(read_at(3).await, good(3), "no other request has begun anywhere");
        assert!(noted(&process, FaultClass::MisdirectedRead).is_empty());
        let (five, again) = (read_at(5).await, read_at(5).await);
        assert_eq!(five, good(3), "the one place that looks alike");
        assert_eq!(again, good(5));
    });
    assert_eq!(outcome.fired(FaultClass::MisdirectedRead), 1);
}

/// What is read before and after a sync and a power loss, in sector 3 and as a whole.
fn after_a_write_of_nines(options: OpenOptions, class: FaultClass) -> (Vec<u8>, Vec<u8>, Vec<(u64, u64)>) {
    holdfast_sim::run(SimOptions::new(7), move |world| async move {
        let process = world.process("db");
        process.disk().write_file("/a", &numbered());
        let file = open(&process.env(), options).await;
        process.disk().inject(class, Trigger::Once(1));
        write(&file, 3, 9).await.unwrap();
        file.sync_all().await.unwrap();
        let before = read(&file, 0, SECTORS).await.unwrap();
        drop(file);
        world.set_survivors(Some(Box::new(NothingSurvives)));
        process.power_loss();
        process.restart();
        let after = process.disk().read_file("/a");
        (before, after, noted(&process, class))
    })
    .result
}

fn with_nines_at(sectors: &[u64]) -> Vec<u8> {
    let mut bytes = numbered();
    for sector in sectors {
        bytes[(sector * SECTOR) as usize..((sector + 1) * SECTOR) as usize].fill(9);
    }
    bytes
}

#[test]
fn a_phantom_write_is_seen_by_the_page_cache_alone() {
    let (before, after, noted) = after_a_write_of_nines(OpenOptions::write(), FaultClass::PhantomWrite);
    assert_eq!((before, after), (with_nines_at(&[3]), numbered()));
    assert_eq!(noted, [(3 * SECTOR, SECTOR)]);
    for options in [OpenOptions::write().direct(), OpenOptions::write().direct().dsync()] {
        let (before, after, _) = after_a_write_of_nines(options, FaultClass::PhantomWrite);
        assert_eq!((before, after), (numbered(), numbered()));
    }
}

#[test]
fn a_misdirected_write_is_durable_elsewhere() {
    for options in [OpenOptions::write(), OpenOptions::write().direct().dsync()] {
        let (before, after, noted) = after_a_write_of_nines(options, FaultClass::MisdirectedWrite);
        let [(meant, SECTOR), (hit, SECTOR)] = noted[..] else { panic!("{noted:?}") };
        assert!(meant == 3 * SECTOR && hit != meant);
        assert_eq!((before, after), (with_nines_at(&[hit / SECTOR]), with_nines_at(&[hit / SECTOR])));
    }
}

#[test]
fn a_sync_that_lies_makes_nothing_durable() {
    for options in [OpenOptions::write(), OpenOptions::write().direct()] {
        let (before, after, _) = after_a_write_of_nines(options, FaultClass::LyingSync);
        assert_eq!((before, after), (with_nines_at(&[3]), numbered()));
    }
    // Of a dsync write its own promise lies; the sync behind it is honest.
    let (_, after, noted) =
        after_a_write_of_nines(OpenOptions::write().direct().dsync(), FaultClass::LyingSync);
    assert_eq!((after, noted), (with_nines_at(&[3]), vec![(3 * SECTOR, SECTOR)]));
    for late in [Ratio::NEVER, Ratio::ALWAYS] {
        let mut options = SimOptions::new(7);
        options.latency.late = late;
        holdfast_sim::run(options, |world| async move {
            let process = world.process("db");
            process.disk().write_file("/a", &numbered());
            let file = open(&process.env(), OpenOptions::write().direct().dsync()).await;
            process.disk().inject(FaultClass::LyingSync, Trigger::Once(1));
            write(&file, 3, 9).await.unwrap();
            write(&file, 4, 9).await.unwrap();
            drop(file);
            world.set_survivors(Some(Box::new(NothingSurvives)));
            process.power_loss();
            process.restart();
            assert_eq!(process.disk().read_file("/a"), with_nines_at(&[4]));
        });
    }
}

#[test]
fn a_directory_sync_that_lies_leaves_names_to_chance() {
    holdfast_sim::run(7, |world| async move {
        let process = world.process("db");
        let env = process.env();
        for (name, lies) in [("/honest", false), ("/lied", true)] {
            let file = env.disk().open(Path::new(name), OpenOptions::create()).await.unwrap();
            file.sync_all().await.unwrap();
            if lies {
                process.disk().inject(FaultClass::LyingSync, Trigger::Once(1));
            }
            env.disk().sync_dir(Path::new("/")).await.unwrap();
        }
        world.set_survivors(Some(Box::new(NothingSurvives)));
        process.power_loss();
        process.restart();
        assert!(process.disk().exists("/honest") && !process.disk().exists("/lied"));
    });
}

/// What a class did is met by whoever reads it, recovers without it, or goes on after the answer; and by nobody else.
#[test]
fn a_fault_is_met_when_somebody_feels_it() {
    let dsync = OpenOptions::write().direct().dsync();
    // What is done after the fault, on a file that was written once under it.
    let met_after = |class: FaultClass, options: OpenOptions, ends: &'static [&'static str]| {
        let outcome = with_file(options, move |world, process, mut file| async move {
            process.disk().inject(class, Trigger::Once(1));
            let _ = write(&file, 3, 9).await;
            for end in ends {
                match *end {
                    "read elsewhere" => drop(read(&file, 6, 1).await),
                    "read" => drop(read(&file, 0, 6).await),
                    "write" => drop(write(&file, 3, 8).await),
                    "sync" => file.sync_all().await.unwrap(),
                    "kill" => process.kill(),
                    _ => {
                        world.set_survivors(Some(Box::new(NothingSurvives)));
                        process.power_loss();
                        process.restart();
                        file = open(&process.env(), options).await;
                    }
                }
            }
        });
        assert_eq!(outcome.fired(class), 1, "{class:?} {ends:?}");
        outcome.faults_met.iter().find(|(of, _)| *of == class).unwrap().1
    };
    use FaultClass::{LyingSync, MisdirectedWrite, PhantomWrite, WriteError};
    let cached = OpenOptions::write();
    assert_eq!(met_after(WriteError, cached, &[]), 0);
    assert_eq!(met_after(WriteError, cached, &["kill"]), 0, "nobody has the answer");
    assert_eq!(met_after(WriteError, cached, &["read elsewhere"]), 1);
    assert_eq!(met_after(PhantomWrite, dsync, &["read elsewhere"]), 0);
    assert_eq!(met_after(PhantomWrite, dsync, &["read", "read"]), 1);
    assert_eq!(met_after(PhantomWrite, dsync, &["write", "read"]), 0, "written over");
    assert_eq!(met_after(PhantomWrite, cached, &["read"]), 0, "the page cache has it");
    assert_eq!(met_after(PhantomWrite, cached, &["power", "read"]), 1);
    assert_eq!(met_after(MisdirectedWrite, dsync, &["read"]), 1, "two places, one fault");
    assert_eq!(met_after(LyingSync, dsync, &["read"]), 0);
    assert_eq!(met_after(LyingSync, dsync, &["power"]), 1);
    assert_eq!(met_after(LyingSync, dsync, &["sync", "power"]), 0, "made good in time");
}

#[test]
fn a_stall_takes_its_time_and_a_clock_jump_moves_the_wall_clock_alone() {
    holdfast_sim::run(7, |world| async move {
        let process = world.process("db");
        process.disk().write_file("/a", &numbered());
        let env = process.env();
        let file = open(&env, OpenOptions::read()).await;
        process.disk().inject(FaultClass::Stall, Trigger::Once(2));
        let began = env.now();
        read(&file, 0, 1).await.unwrap();
        let between = env.now();
        read(&file, 0, 1).await.unwrap();
        assert!(between.since(began) < 1_000_000 && env.now().since(between) >= 2_000_000_000);
        let (wall, now) = (env.wall_now(), env.now());
        process.disk().inject(FaultClass::ClockJump, Trigger::Once(1));
        let jumped = env.wall_now();
        assert_ne!(jumped, wall);
        assert_eq!(env.wall_now(), jumped, "once");
        assert_eq!(env.now(), now);
    });
}

quickcheck! {
    /// Whatever is read otherwise than it was written lies in a range that was noted.
    fn nothing_deviates_that_is_not_noted(seed: u64, operations: Vec<(u8, u8)>) -> bool {
        const CLASSES: [FaultClass; 6] = [
            FaultClass::BitRot,
            FaultClass::StaleRead,
            FaultClass::MisdirectedRead,
            FaultClass::PhantomWrite,
            FaultClass::MisdirectedWrite,
            FaultClass::LyingSync,
        ];
        holdfast_sim::run(seed, move |world| async move {
            let process = world.process("db");
            process.disk().write_file("/a", &numbered());
            let file = open(&process.env(), OpenOptions::write().direct()).await;
            for class in CLASSES {
                process.disk().set_fault_rate(class, Ratio::new(1, 4));
            }
            let mut model = numbered();
            for (what, byte) in operations {
                let sector = u64::from(what) % SECTORS;
                let range = (sector * SECTOR) as usize..((sector + 1) * SECTOR) as usize;
                if what < 128 {
                    write(&file, sector, byte).await.unwrap();
                    model[range].fill(byte);
                    continue;
                }
                let found = read(&file, sector, 1).await.unwrap();
                let noted = process.disk().fired_faults();
                let is_noted = |at: usize| {
                    noted.iter().any(|fault| (fault.offset..fault.offset + fault.len).contains(&(at as u64)))
                };
                let deviates = |(at, byte): (usize, &u8)| *byte != model[range.start + at] && !is_noted(range.start + at);
                if found.iter().enumerate().any(deviates) {
                    return false;
                }
            }
            true
        })
        .result
    }
}
