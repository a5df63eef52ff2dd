//! Contents of files: every operation against a model, cached and direct, in place and through the pool.

use std::sync::Arc;

use holdfast::env::linux::LinuxEnv;
use holdfast::env::{Advice, Buf, Env, File, IoErrorKind, OpenOptions};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::{Scratch, WAYS, Way};

/// Unit of offsets and lengths: any file system takes it for direct I/O.
const UNIT: usize = 4096;

#[derive(Clone, Debug)]
enum Step {
    Write { at: u8, units: u8, fill: u8 },
    WriteVectored { at: u8, pieces: Vec<u8> },
    Zero { at: u8, units: u8 },
    PunchHole { at: u8, units: u8 },
    Allocate { at: u8, units: u8 },
    Truncate { units: u8 },
    Read { at: u8, units: u8 },
    ReadMany { at: Vec<u8> },
    Sync { all: bool },
    Advise { at: u8, units: u8 },
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let (at, units, fill) = (u8::arbitrary(g) % 48, 1 + u8::arbitrary(g) % 40, u8::arbitrary(g));
        match u8::arbitrary(g) % 12 {
            0..=2 => Self::Write { at, units, fill },
            3 => {
                Self::WriteVectored { at, pieces: (0..units).map(|piece| piece.wrapping_add(fill)).collect() }
            }
            4 => Self::Zero { at, units },
            5 => Self::PunchHole { at, units },
            6 => Self::Allocate { at, units },
            7 => Self::Truncate { units },
            8 | 9 => Self::Read { at, units },
            10 if fill < 128 => Self::ReadMany { at: (0..units % 9).map(|i| (at + 7 * i) % 64).collect() },
            10 => Self::Advise { at, units },
            _ => Self::Sync { all: fill < 128 },
        }
    }
}

/// The file as a vector of bytes.
#[derive(Default)]
struct Model(Vec<u8>);

impl Model {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if self.0.len() < offset + bytes.len() {
            self.0.resize(offset + bytes.len(), 0);
        }
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn get(&self, offset: usize, len: usize) -> &[u8] {
        let from = offset.min(self.0.len());
        &self.0[from..(offset + len).min(self.0.len())]
    }
}

fn offset(at: u8) -> u64 {
    u64::from(at) * UNIT as u64
}

fn apply(way: Way, file: &dyn File, model: &mut Model, step: &Step) {
    match step {
        Step::Write { at, units, fill } => {
            let bytes: Vec<u8> = (0..usize::from(*units) * UNIT).map(|i| (i / 7) as u8 ^ fill).collect();
            way.write(file, offset(*at), &bytes);
            model.put(usize::from(*at) * UNIT, &bytes);
        }
        Step::WriteVectored { at, pieces } => {
            let bufs = pieces.iter().map(|piece| Buf::copy_of(&[*piece; UNIT])).collect();
            let (count, bufs) = way.finish(|| file.write_vectored_at(offset(*at), bufs));
            assert_eq!(count.unwrap(), pieces.len() * UNIT);
            let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
            model.put(usize::from(*at) * UNIT, &bytes);
        }
        Step::Zero { at, units } => {
            let len = usize::from(*units) * UNIT;
            way.finish(|| file.zero_range(offset(*at), len as u64)).unwrap();
            model.put(usize::from(*at) * UNIT, &vec![0; len]);
        }
        Step::PunchHole { at, units } => {
            let len = usize::from(*units) * UNIT;
            way.finish(|| file.punch_hole(offset(*at), len as u64)).unwrap();
            let inside = model.get(usize::from(*at) * UNIT, len).len();
            model.put(usize::from(*at).min(model.0.len() / UNIT) * UNIT, &vec![0; inside]);
        }
        Step::Allocate { at, units } => {
            let len = usize::from(*units) * UNIT;
            way.finish(|| file.allocate(offset(*at), len as u64)).unwrap();
            let end = usize::from(*at) * UNIT + len;
            model.0.resize(model.0.len().max(end), 0);
        }
        Step::Truncate { units } => {
            way.finish(|| file.truncate(offset(*units))).unwrap();
            model.0.resize(usize::from(*units) * UNIT, 0);
        }
        Step::Read { at, units } => {
            let len = usize::from(*units) * UNIT;
            let read = way.read(file, offset(*at), len);
            assert!(read == model.get(usize::from(*at) * UNIT, len), "{step:?} differs from the model");
        }
        Step::ReadMany { at } => {
            let reads = at.iter().map(|at| (offset(*at), Buf::zeroed(UNIT))).collect();
            let results = way.finish(|| file.read_many(reads));
            assert_eq!(results.len(), at.len());
            for (at, (count, buf)) in at.iter().zip(results) {
                assert!(buf[..count.unwrap()] == *model.get(usize::from(*at) * UNIT, UNIT), "{step:?}");
            }
        }
        Step::Sync { all } => way.finish(|| if *all { file.sync_all() } else { file.sync_data() }).unwrap(),
        Step::Advise { at, units } => {
            for advice in [Advice::Random, Advice::WillNeed, Advice::Sequential, Advice::DontNeed] {
                file.advise(offset(*at), offset(*units), advice);
            }
        }
    }
    assert_eq!(way.finish(|| file.len()).unwrap(), model.0.len() as u64, "after {step:?}");
}

#[test]
fn every_operation_agrees_with_a_model() {
    fn property(steps: Vec<Step>, direct: bool, pooled: bool) {
        let scratch = Scratch::new("model");
        let env = LinuxEnv::new();
        let way = if pooled { Way::Pooled } else { Way::Inline };
        let options = if direct { OpenOptions::create().direct() } else { OpenOptions::create() };
        let file = way.open(env.disk(), &scratch.path("file"), options);
        let mut model = Model::default();
        for step in &steps {
            apply(way, file.as_ref(), &mut model, step);
        }
        assert!(way.read(file.as_ref(), 0, model.0.len() + UNIT) == model.0, "the whole file differs");
    }
    QuickCheck::new().tests(60).quickcheck(property as fn(Vec<Step>, bool, bool));
}

#[test]
fn direct_files_insist_on_their_alignment() {
    let scratch = Scratch::new("direct");
    let env = LinuxEnv::new();
    for way in WAYS {
        let path = scratch.path(&format!("{way:?}"));
        let file = way.open(env.disk(), &path, OpenOptions::create().direct().dsync());
        let alignment = file.alignment();
        assert!(alignment.is_power_of_two() && (512..=UNIT).contains(&alignment), "{alignment}");
        way.write(file.as_ref(), 0, &vec![7; 2 * alignment]);
        let refused = [
            way.finish(|| file.write_at(1, Buf::zeroed(alignment))).0.unwrap_err(),
            way.finish(|| file.write_at(0, Buf::zeroed(alignment - 1))).0.unwrap_err(),
            way.finish(|| file.write_vectored_at(0, vec![Buf::zeroed(alignment), Buf::zeroed(1)]))
                .0
                .unwrap_err(),
            way.finish(|| file.read_at(1, Buf::zeroed(alignment))).0.unwrap_err(),
            way.finish(|| file.read_at(0, Buf::zeroed(100))).0.unwrap_err(),
            way.finish(|| file.zero_range(0, 100)).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind, IoErrorKind::Unsupported, "{error:?}");
            assert_eq!(error.path, path);
            assert!(error.detail.contains(&alignment.to_string()), "{error:?}");
        }
        let cached = way.open(env.disk(), &path, OpenOptions::read());
        assert_eq!(cached.alignment(), 1);
        assert_eq!(way.read(cached.as_ref(), 0, 3 * alignment), vec![7; 2 * alignment]);
    }
}

#[test]
fn memory_file_systems_take_direct_files_or_refuse_them_whole() {
    let dir = std::path::Path::new("/dev/shm");
    if !dir.is_dir() {
        return;
    }
    let path = dir.join(format!("holdfast-direct-{}", std::process::id()));
    let env = LinuxEnv::new();
    match Way::Inline.finish(|| env.disk().open(&path, OpenOptions::create().direct())) {
        Ok(file) => {
            for way in WAYS {
                way.write(file.as_ref(), 0, &[3; UNIT]);
                assert_eq!(way.read(file.as_ref(), 0, 2 * UNIT), [3; UNIT]);
            }
            std::fs::remove_file(&path).unwrap();
        }
        Err(error) => {
            assert_eq!(error.kind, IoErrorKind::Unsupported, "{error:?}");
            assert!(!path.exists(), "a refused creation leaves nothing behind");
        }
    }
}

#[test]
fn zeroed_blocks_are_really_written() {
    let scratch = Scratch::new("zeroed");
    let env = LinuxEnv::new();
    for way in WAYS {
        for (name, options) in [("cached", OpenOptions::create()), ("direct", OpenOptions::create().direct())]
        {
            let path = scratch.path(&format!("{name}-{way:?}"));
            let file = way.open(env.disk(), &path, options);
            let len = (9 << 20) + UNIT as u64;
            way.write(file.as_ref(), len - UNIT as u64, &[9; UNIT]);
            way.finish(|| file.zero_range(0, len)).unwrap();
            way.finish(|| file.sync_all()).unwrap();
            let metadata = way.finish(|| env.disk().metadata(&path)).unwrap();
            assert_eq!(metadata.len, len);
            assert!(metadata.allocated >= len, "holes are left: {metadata:?}");
            assert!(way.read(file.as_ref(), 0, len as usize).iter().all(|byte| *byte == 0));
            way.finish(|| file.punch_hole(0, 8 << 20)).unwrap();
            let punched = way.finish(|| env.disk().metadata(&path)).unwrap();
            assert!(punched.len == len && punched.allocated + (7 << 20) < metadata.allocated, "{punched:?}");
        }
    }
}

#[test]
fn vectored_writes_of_any_number_of_buffers_go_through_in_order() {
    let scratch = Scratch::new("vectored");
    let env = LinuxEnv::new();
    for way in WAYS {
        let file = way.open(env.disk(), &scratch.path(&format!("{way:?}")), OpenOptions::create());
        for count in [0_usize, 1, 31, 32, 33, 1024, 1025, 3000] {
            let mut left: Vec<Buf> = (0..count).map(|i| Buf::copy_of(&[i as u8; 3])).collect();
            let mut offset = 0;
            while !left.is_empty() {
                let (written, mut bufs) = way.finish(|| file.write_vectored_at(offset, left));
                let written = written.unwrap();
                assert!(written > 0 && written % 3 == 0);
                offset += written as u64;
                left = bufs.split_off(written / 3);
            }
            let expected: Vec<u8> = (0..count).flat_map(|i| [i as u8; 3]).collect();
            assert_eq!(way.read(file.as_ref(), 0, 3 * count), expected);
        }
    }
}

#[test]
fn reads_end_where_the_file_does() {
    let scratch = Scratch::new("short");
    let env = LinuxEnv::new();
    for way in WAYS {
        let file = way.open(env.disk(), &scratch.path(&format!("{way:?}")), OpenOptions::create());
        way.write(file.as_ref(), 0, b"holdfast");
        let at = |offset, len| {
            let (count, buf) = way.finish(|| file.read_at(offset, Buf::zeroed(len)));
            buf[..count.unwrap()].to_vec()
        };
        assert_eq!(at(4, 100), b"fast");
        assert_eq!(at(8, 100), b"");
        assert_eq!(at(1 << 40, 10), b"");
        assert_eq!(at(0, 0), b"");
        let error = way.finish(|| file.read_at(u64::MAX, Buf::zeroed(1))).0.unwrap_err();
        assert_eq!((error.offset, error.operation), (Some(u64::MAX), "read"), "{error:?}");
    }
}

#[test]
fn cached_reads_are_ready_everywhere_and_many_threads_may_share_a_file() {
    let scratch = Scratch::new("cached");
    let env = LinuxEnv::new();
    let file = Way::Inline.open(env.disk(), &scratch.path("file"), OpenOptions::create());
    Way::Inline.write(file.as_ref(), 0, &(0..=255).collect::<Vec<u8>>().repeat(64));
    let ready = file.read_at(0, Buf::zeroed(UNIT));
    assert!(matches!(ready, holdfast::env::Io::Ready(_)), "just written, so in the page cache");
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let file = Arc::clone(&file);
            scope.spawn(move || {
                let way = WAYS[thread as usize % 2];
                for i in 0..500 {
                    let offset = (i * 37 + thread * 1000) % 8000;
                    assert_eq!(way.read(file.as_ref(), offset, 1), [offset as u8]);
                }
            });
        }
    });
}
