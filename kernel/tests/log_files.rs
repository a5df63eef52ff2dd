//! The log in files: what is acknowledged is replayed, whatever fails and whenever the power goes.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use crate::support::draw::Draw;
use crate::support::memory::{Fail, Memory, run};
use holdfast::env::{BoxFuture, Env, IoErrorKind, SharedDir};
use holdfast::record::{Frame, FrameKind, HEADER_REGION, SECTOR};
use holdfast::types::{FileId, FileNo, Lsn, file_name};
use holdfast::wal::{
    BatchSink, KnownDurable, LogPlace, ReplayRequest, Replayed, Segment, SegmentMaker, SegmentSize, Spares,
    Wal, WalError, WalStart, replay,
};
use holdfast::{Durability, Error, Options};

const DIR: &str = "db";
const CAPACITY: u64 = 64 << 10;

/// A log with its list of segments, as the manifest would keep it, and what was promised.
struct Log {
    world: Arc<Memory>,
    env: Arc<dyn Env>,
    maker: SegmentMaker,
    spares: Arc<Spares>,
    wal: Wal,
    segments: Vec<(FileNo, FileId)>,
    next_no: u64,
    log_start: Lsn,
    /// Bodies in the order given, and whether each was acknowledged with `Sync` or made durable since.
    promised: Vec<(Vec<u8>, Lsn)>,
    synced: usize,
    /// The last that may stand, whole, behind all that was promised, until the next append succeeds.
    unknown: Option<Vec<u8>>,
}

fn options() -> Options {
    Options { log_segment_bytes_max: CAPACITY, ..Options::default() }
}

fn make(env: &Arc<dyn Env>, maker: &SegmentMaker, no: u64, size: SegmentSize) -> Result<Segment, Error> {
    run(maker.make(FileNo::new(no), FileId::new(env.random_u64()), size))
}

impl Log {
    fn start(alignment: usize) -> Self {
        let world = Memory::new(alignment);
        let env: Arc<dyn Env> = world.clone();
        let maker = SegmentMaker::new(env.clone(), SharedDir::new(DIR), &options());
        let spares = Arc::new(Spares::new(CAPACITY));
        let segment = make(&env, &maker, 1, spares.wanted().unwrap()).unwrap();
        let segments = vec![(segment.no(), segment.id())];
        let start = WalStart {
            env: env.clone(),
            spares: spares.clone(),
            epoch: 1,
            base: Lsn::ZERO,
            predecessor: None,
            segment,
        };
        let wal = run(Wal::start(start)).unwrap();
        Self {
            world,
            env,
            maker,
            spares,
            wal,
            segments,
            next_no: 2,
            log_start: Lsn::ZERO,
            promised: Vec::new(),
            synced: 0,
            unknown: None,
        }
    }

    fn make(&mut self, size: SegmentSize) -> Result<(), Error> {
        let segment = make(&self.env, &self.maker, self.next_no, size)?;
        self.next_no += 1;
        self.segments.push((segment.no(), segment.id()));
        self.spares.offer(segment);
        Ok(())
    }

    fn append(&mut self, body: Vec<u8>, durability: Durability) -> Result<(), Error> {
        let (head, rest) = body.split_at(body.len() / 3);
        let frame = [Frame::new(FrameKind::Batch, head, rest)];
        let appended = loop {
            match run(self.wal.append(&frame, durability)) {
                Ok(appended) => break appended,
                Err(WalError::NeedsSegment(size)) => self.make(size)?,
                Err(WalError::Failed(error)) => {
                    // One before it is dead: the log went on to write this one.
                    if matches!(error, Error::CommitUnknown(_)) {
                        self.unknown = Some(body);
                    }
                    return Err(error);
                }
            }
        };
        self.unknown = None;
        self.promised.push((body, appended.end));
        self.note_durable();
        if durability == Durability::Sync {
            assert_eq!(self.synced, self.promised.len(), "Sync means all of it");
        }
        Ok(())
    }

    fn note_durable(&mut self) {
        let durable = self.wal.durable_lsn();
        while self.promised.get(self.synced).is_some_and(|(_, end)| *end <= durable) {
            self.synced += 1;
        }
        assert!(self.promised[self.synced..].iter().all(|(_, end)| *end > durable), "durable is a prefix");
    }

    fn known(&self) -> Option<KnownDurable> {
        Some(KnownDurable { epoch: 1, lsn: self.wal.durable_lsn() })
    }

    fn replay(
        &self,
        world: Arc<Memory>,
        known: Option<KnownDurable>,
    ) -> Result<(Vec<Vec<u8>>, Replayed), Error> {
        let env: Arc<dyn Env> = world;
        let request = ReplayRequest {
            dir: Path::new(DIR),
            segments: &self.segments,
            first_needed: self.log_start,
            flushed: Lsn::ZERO,
            known_durable: known,
            direct: true,
        };
        let mut sink = Bodies::default();
        let replayed = run(replay(&env, &request, &mut sink))?;
        Ok((sink.0, replayed))
    }

    /// What a replay in `world` gives must be a prefix of what was given, with all that was promised durable.
    fn check(&self, world: Arc<Memory>) -> usize {
        let (bodies, _) = self.replay(world, self.known()).unwrap();
        assert!(bodies.len() >= self.synced, "{} of {} durable batches", bodies.len(), self.synced);
        let given = self.promised.iter().map(|(body, _)| body).chain(&self.unknown);
        assert!(bodies.iter().eq(given.take(bodies.len())), "a prefix");
        bodies.len()
    }

    fn file(&self, index: usize) -> std::path::PathBuf {
        file_name::path(Path::new(DIR), file_name::FileKind::Log, self.segments[index].0)
    }
}

#[derive(Default)]
struct Bodies(Vec<Vec<u8>>);

impl BatchSink for Bodies {
    fn batch(&mut self, _: LogPlace<'_>, body: &[u8]) -> Result<(), Error> {
        self.0.push(body.to_vec());
        Ok(())
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

fn body(draw: &mut Draw) -> Vec<u8> {
    let len = match draw.below(20) {
        0 if draw.below(40) == 0 => draw.below(3 << 20),
        0..=5 => draw.below(20_000),
        _ => draw.below(300),
    };
    let salt = draw.next();
    (0..len).map(|i| (i.wrapping_mul(31) ^ salt >> (i % 8)) as u8).collect()
}

fn durability(draw: &mut Draw) -> Durability {
    [Durability::Buffered, Durability::Flush, Durability::Sync][draw.below(3) as usize]
}

/// Futures of the log may cross threads.
#[test]
fn futures_are_send() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let mut log = Log::start(512);
    drop(is_send(log.wal.sync()));
    let frames = [Frame::new(FrameKind::Batch, b"a", b"")];
    drop(is_send(log.wal.append(&frames, Durability::Sync)));
    drop(is_send(log.wal.release_before(Lsn::ZERO)));
    let request = ReplayRequest {
        dir: Path::new(DIR),
        segments: &[],
        first_needed: Lsn::ZERO,
        flushed: Lsn::ZERO,
        known_durable: None,
        direct: true,
    };
    drop(is_send(replay(&log.env, &request, &mut Bodies::default())));
}

quickcheck::quickcheck! {
    fn any_power_loss_keeps_a_prefix_with_all_that_was_durable(seed: u64, wide: u8) -> bool {
        let mut draw = Draw(seed);
        let mut log = Log::start([512, 4096, 0][usize::from(wide) % 3]);
        for _ in 0..draw.below(60) {
            let (body, durability) = (body(&mut draw), durability(&mut draw));
            log.append(body, durability).unwrap();
            match draw.below(16) {
                0 => drop(run(log.wal.flush_buffered())),
                1 => drop(run(log.wal.sync()).unwrap()),
                2 => {
                    let boundary = run(log.wal.seal()).unwrap();
                    assert_eq!(boundary, log.wal.durable_lsn());
                }
                3 => assert!(log.check(log.world.kill()) <= log.promised.len()),
                4 | 5 => drop(log.check(log.world.power_loss(&mut draw))),
                _ => {}
            }
            log.note_durable();
        }
        log.check(log.world.power_loss(&mut draw));
        run(log.wal.close()).unwrap();
        log.note_durable();
        log.synced == log.promised.len() && log.check(log.world.power_loss(&mut draw)) == log.promised.len()
    }

    fn a_disk_that_turns_out_to_be_full_costs_only_the_commits_it_refuses(seed: u64, wide: u8) -> bool {
        let mut draw = Draw(seed);
        let mut log = Log::start([512, 4096, 0][usize::from(wide) % 3]);
        for _ in 0..30 {
            log.world.fail(None);
            while log.spares.wanted().is_some() {
                log.make(SegmentSize { wanted: 4 << 20, least: CAPACITY }).unwrap();
            }
            if draw.below(4) == 0 {
                let operation = ["write", "sync_data"][draw.below(2) as usize];
                let through = draw.below(3) as usize * SECTOR;
                let times = 1 + draw.below(4);
                let fail = Fail { operation, suffix: ".log", skip: draw.below(3), times, kind: IoErrorKind::Full, through };
                log.world.fail(Some(fail));
            }
            let (body, durability) = (body(&mut draw), durability(&mut draw));
            match log.append(body.clone(), durability) {
                Ok(()) => {}
                Err(Error::DiskFull(_) | Error::CommitUnknown(_)) => {}
                Err(error) => panic!("{error}"),
            }
            if draw.below(3) == 0 {
                log.check(log.world.kill());
                log.check(log.world.power_loss(&mut draw));
            }
        }
        log.world.fail(None);
        log.append(b"there is room again".to_vec(), Durability::Sync).unwrap();
        log.check(log.world.kill());
        log.check(log.world.power_loss(&mut draw));
        true
    }

    fn after_a_failed_write_nothing_is_acknowledged(seed: u64) -> bool {
        let mut draw = Draw(seed);
        let mut log = Log::start(512);
        let operation = ["write", "sync_data"][draw.below(2) as usize];
        let through = draw.below(4) as usize * SECTOR;
        let skip = draw.below(30);
        log.world.fail(Some(Fail { operation, suffix: ".log", skip, times: 1, kind: IoErrorKind::Medium, through }));
        let mut failed = Vec::new();
        for _ in 0..60 {
            let body = body(&mut draw);
            match log.append(body.clone(), durability(&mut draw)) {
                Ok(()) => assert!(failed.is_empty(), "acknowledged after a failure"),
                Err(Error::Stopped(_)) => failed.push(body),
                // A segment could not be made: that harms nothing that is in use.
                Err(Error::Io(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        // The failed commit may appear, whole; nothing after it may.
        log.promised.extend(failed.into_iter().take(1).map(|body| (body, Lsn::MAX)));
        log.check(log.world.kill());
        log.check(log.world.power_loss(&mut draw));
        true
    }

    fn any_harm_to_a_durable_log_is_refused(seed: u64, wide: bool) -> bool {
        let mut draw = Draw(seed);
        let mut log = Log::start(if wide { 4096 } else { 512 });
        for _ in 0..1 + draw.below(30) {
            let len = draw.below(6000) as usize;
            log.append(vec![draw.next() as u8; len], Durability::Sync).unwrap();
        }
        let world = log.world.kill();
        let index = draw.below(log.segments.len() as u64) as usize;
        let file = log.file(index);
        let mut said = String::new();
        match draw.below(4) {
            0 => world.remove(&file),
            1 => world.harm(&file, |bytes| {
                // Beyond a named end lies nothing that counts.
                let at = draw.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << draw.below(8);
                said = format!("bit at {at}");
            }),
            2 => world.harm(&file, |bytes| {
                let sectors = (bytes.len() - HEADER_REGION) / SECTOR;
                let at = HEADER_REGION + draw.below(sectors as u64) as usize * SECTOR;
                bytes[at..at + SECTOR].fill(0);
                said = format!("zeros at {at}");
            }),
            _ => world.harm(&file, |bytes| {
                let len = draw.below(bytes.len() as u64) as usize;
                bytes.truncate(len);
            }),
        }
        match log.replay(world, log.known()) {
            Err(Error::Corrupt { file: named, .. }) => named == file || log.file(index + 1) == named,
            // Harm to bytes that never counted: then nothing may be missing.
            Ok((bodies, _)) => {
                let all: Vec<_> = log.promised.iter().map(|(body, _)| body.clone()).collect();
                assert!(bodies == all, "{said}");
                true
            }
            Err(error) => panic!("{error} {said}"),
        }
    }
}

#[test]
fn an_opening_goes_on_where_a_torn_log_ended_and_old_frames_stay_dead() {
    for seed in 0..40 {
        let mut draw = Draw(seed);
        let mut log = Log::start(512);
        log.append(vec![1; 700], Durability::Sync).unwrap();
        log.append(vec![2; 5000], Durability::Flush).unwrap();
        let world = log.world.power_loss(&mut draw);
        let (bodies, replayed) = log.replay(world.clone(), log.known()).unwrap();
        assert!(bodies.len() == 1 || bodies.len() == 2);
        let env: Arc<dyn Env> = world.clone();
        let maker = SegmentMaker::new(env.clone(), SharedDir::new(DIR), &options());
        let spares = Arc::new(Spares::new(CAPACITY));
        let segment = make(&env, &maker, 50, spares.wanted().unwrap()).unwrap();
        log.segments.push((segment.no(), segment.id()));
        let start = WalStart {
            env,
            spares,
            epoch: replayed.epoch_max + 1,
            base: replayed.next_base,
            predecessor: replayed.last,
            segment,
        };
        let mut wal = run(Wal::start(start)).unwrap();
        run(wal.append(&[Frame::new(FrameKind::Batch, b"new", b"")], Durability::Sync)).unwrap();
        let known = KnownDurable { epoch: 2, lsn: wal.durable_lsn() };
        let (again, end) = log.replay(world.kill(), Some(known)).unwrap();
        assert_eq!(again[..again.len() - 1], bodies[..]);
        assert_eq!(again.last().unwrap(), b"new");
        assert_eq!((end.epoch_max, end.end), (2, wal.durable_lsn()));
        // The end that the new header names was durable: what is lost below it now is corruption.
        let first = log.file(0);
        world.harm(&first, |bytes| bytes[HEADER_REGION..HEADER_REGION + SECTOR].fill(0));
        let lost = log.replay(world.kill(), Some(known)).unwrap_err();
        assert!(matches!(&lost, Error::Corrupt { file, offset: 4096, .. } if *file == first), "{lost}");
    }
}

#[test]
fn released_segments_are_used_anew_unless_a_second_name_pins_them() {
    let mut log = Log::start(4096);
    for round in 0u64..60 {
        log.append(vec![round as u8; 12_000], Durability::Sync).unwrap();
        if round % 4 == 3 {
            log.log_start = run(log.wal.seal()).unwrap();
            log.promised.clear();
            log.synced = 0;
            if round == 43 {
                let pinned = log.file(0);
                log.world.set_links(&pinned, 2);
            }
            for released in run(log.wal.release_before(log.log_start)) {
                log.segments.retain(|(no, _)| *no != released.no);
                run(log.maker.remove(&released));
            }
        }
        log.check(log.world.power_loss(&mut Draw(round)));
        assert!(log.segments.len() <= 6, "the log does not grow: {:?}", log.segments);
    }
    assert!(log.next_no < 12, "segments are used anew, not made: {}", log.next_no);
    for released in run(log.wal.close()).unwrap() {
        log.segments.retain(|(no, _)| *no != released.no);
        run(log.maker.remove(&released));
    }
    log.check(log.world.kill());
    let closed = run(log.wal.append(&[], Durability::Sync)).unwrap_err();
    assert!(matches!(closed, WalError::Failed(Error::Closed)));
}

/// A second name, as a backup by hand or `cp -l` gives, means that somebody relies on the bytes: neither a segment that
/// had it when it was released nor one that got it while it waited is ever written again.
#[test]
fn a_segment_with_a_second_name_is_let_go_and_never_written_again() {
    for pin_before_release in [true, false] {
        let mut log = Log::start(4096);
        let mut pinned: Vec<(FileNo, std::path::PathBuf, Vec<u8>)> = Vec::new();
        let mut at_once = 0;
        for round in 0u64..60 {
            log.append(vec![round as u8; 12_000], Durability::Sync).unwrap();
            assert!(
                pinned.iter().all(|(_, path, _)| path != log.wal.path()),
                "{:?} is in use",
                log.wal.path()
            );
            if round % 4 != 3 {
                continue;
            }
            log.log_start = run(log.wal.seal()).unwrap();
            log.promised.clear();
            log.synced = 0;
            for step in [true, false] {
                if step == pin_before_release && round == 43 {
                    for index in 0..log.segments.len() {
                        let path = log.file(index);
                        if path != log.wal.path() {
                            log.world.set_links(&path, 2);
                            pinned.push((log.segments[index].0, path.clone(), log.world.bytes(&path)));
                        }
                    }
                }
                if !step {
                    continue;
                }
                for released in run(log.wal.release_before(log.log_start)) {
                    if let Some(at) = pinned.iter().position(|(no, _, _)| *no == released.no) {
                        let (_, path, bytes) = pinned.swap_remove(at);
                        assert!(log.world.bytes(&path) == bytes, "{} was written again", path.display());
                        at_once += u64::from(round == 43);
                    }
                    log.segments.retain(|(no, _)| *no != released.no);
                    run(log.maker.remove(&released));
                }
            }
            assert!(round != 43 || !pinned.is_empty() || at_once > 0, "something was pinned");
        }
        assert_eq!(at_once > 0, pin_before_release, "what was pinned before its release is not kept waiting");
        assert!(pinned.is_empty(), "all were let go: {pinned:?}");
        log.check(log.world.kill());
    }
}

#[test]
fn without_room_nothing_is_written_and_later_all_goes_on() {
    let mut log = Log::start(512);
    log.world.set_room(Some(CAPACITY + 100_000));
    let mut full = 0;
    for round in 0u64..20 {
        if round == 15 {
            log.world.set_room(None);
        }
        let calls = log.world.names();
        match log.append(vec![round as u8; 10_000], Durability::Sync) {
            Ok(()) => {}
            Err(Error::DiskFull(_)) => {
                assert_eq!(log.world.names(), calls, "a segment that found no room leaves no file");
                assert!(round < 15, "there is room again");
                full += 1;
            }
            Err(error) => panic!("{error}"),
        }
        log.check(log.world.kill());
    }
    assert!(full > 0, "the disk was full once");
}

#[test]
fn an_append_dropped_midway_stops_the_log() {
    let mut log = Log::start(512);
    log.append(vec![1], Durability::Sync).unwrap();
    log.world.set_hang(true);
    {
        let frames = [Frame::new(FrameKind::Batch, &[2; 2000], b"")];
        let mut append = std::pin::pin!(log.wal.append(&frames, Durability::Sync));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(append.as_mut().poll(&mut context).is_pending());
    }
    log.world.set_hang(false);
    let durable = log.wal.durable_lsn();
    assert!(matches!(log.append(vec![3], Durability::Buffered), Err(Error::Stopped(_))));
    assert!(matches!(run(log.wal.sync()), Err(WalError::Failed(Error::Stopped(_)))));
    assert_eq!(log.wal.durable_lsn(), durable);
    assert_eq!(log.check(log.world.kill()), 1);
}
