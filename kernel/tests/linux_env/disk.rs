//! Names, directories, locks and what the system's refusals become.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use holdfast::env::linux::LinuxEnv;
use holdfast::env::{Buf, Env, IoError, IoErrorKind, LockKind, OpenOptions};

use crate::{Scratch, WAYS, Way, child, eventually, is_child, run_child};

#[test]
fn all_spellings_of_a_place_lead_to_it() {
    let scratch = Scratch::new("resolve");
    let dir = std::fs::canonicalize(scratch.path(".")).unwrap();
    std::fs::create_dir(dir.join("a")).unwrap();
    std::os::unix::fs::symlink("a", dir.join("link")).unwrap();
    let env = LinuxEnv::new();
    let resolve = |path: &Path| holdfast::blocking::block_on(env.disk().resolve(path));
    for spelling in ["a/new/b", "./a/./new/b", "a/../a/new/b", "link/new/b", "link/../link/new/b"] {
        assert_eq!(resolve(&dir.join(spelling)).unwrap(), dir.join("a/new/b"), "{spelling}");
    }
    let here = std::env::current_dir().unwrap();
    for (spelling, place) in [("new", here.join("new")), ("./new", here.join("new")), (".", here.clone())] {
        assert_eq!(resolve(Path::new(spelling)).unwrap(), std::fs::canonicalize(&here).unwrap().join(place));
    }
    // Where a name is missing, nobody can say where its parent will be.
    assert_eq!(resolve(&dir.join("new/../b")).unwrap_err().kind, IoErrorKind::NotFound);
}

#[test]
fn names_come_and_go() {
    let env = LinuxEnv::new();
    let disk = env.disk();
    for way in WAYS {
        let scratch = Scratch::new("names");
        let dir = scratch.path("dir");
        way.finish(|| disk.create_dir(&dir)).unwrap();
        way.finish(|| disk.create_dir(&dir.join("m"))).unwrap();
        for name in ["z", "a", "b10", "b9"] {
            let file = way.open(disk, &dir.join(name), OpenOptions::create());
            way.write(file.as_ref(), 0, name.as_bytes());
        }
        let names = || {
            let entries = way.finish(|| disk.list(&dir)).unwrap();
            entries.into_iter().map(|e| (e.name, e.is_dir)).collect::<Vec<_>>()
        };
        let listed = ["a", "b10", "b9", "m", "z"].map(|name| (name.to_string(), name == "m"));
        assert_eq!(names(), listed, "sorted by name");

        way.finish(|| disk.hard_link(&dir.join("a"), &dir.join("c"))).unwrap();
        let metadata = way.finish(|| disk.metadata(&dir.join("c"))).unwrap();
        assert!(metadata.links == 2 && metadata.len == 1 && !metadata.is_dir, "{metadata:?}");
        way.finish(|| disk.rename(&dir.join("z"), &dir.join("c"))).unwrap();
        let renamed = way.open(disk, &dir.join("c"), OpenOptions::read());
        assert_eq!(way.read(renamed.as_ref(), 0, 9), b"z", "the target is replaced");
        assert_eq!(way.finish(|| disk.metadata(&dir.join("a"))).unwrap().links, 1);
        way.finish(|| disk.sync_dir(&dir)).unwrap();

        for name in ["a", "b10", "b9", "c"] {
            way.finish(|| disk.remove(&dir.join(name))).unwrap();
        }
        assert_eq!(way.read(renamed.as_ref(), 0, 9), b"z", "an open file outlives its name");
        drop(renamed);
        eventually("a removed file is closed", || {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            targets.filter(|target| target.starts_with(&dir)).count() == 0
        });
        way.finish(|| disk.remove_dir(&dir.join("m"))).unwrap();
        assert_eq!(names(), []);
        assert!(way.finish(|| disk.metadata(&dir)).unwrap().is_dir);
        let room = way.finish(|| disk.free_space(&dir)).unwrap();
        assert!(room.bytes > 1 << 20 && room.inodes > 0, "{room:?}");
    }
}

#[test]
fn refusals_are_sorted_by_what_to_do() {
    let env = LinuxEnv::new();
    let disk = env.disk();
    for way in WAYS {
        let scratch = Scratch::new("errors");
        let (file, missing) = (scratch.path("file"), scratch.path("missing"));
        let open = |path: &Path, options| way.finish(|| disk.open(path, options)).map(|_| ());
        open(&file, OpenOptions::create()).unwrap();
        let full = way.open(disk, Path::new("/dev/full"), OpenOptions::write());
        let read_only = way.open(disk, &file, OpenOptions::read());
        let cases = [
            (open(&missing, OpenOptions::read()), IoErrorKind::NotFound),
            (open(&missing.join("deeper"), OpenOptions::create()), IoErrorKind::NotFound),
            (open(&file, OpenOptions::create()), IoErrorKind::AlreadyExists),
            (open(&file, OpenOptions::create().direct()), IoErrorKind::AlreadyExists),
            (open(&scratch.path(""), OpenOptions::read()), IoErrorKind::Other),
            (open(&scratch.path(""), OpenOptions::write()), IoErrorKind::Other),
            (open(Path::new("/sys/holdfast"), OpenOptions::create()), IoErrorKind::Permission),
            (way.finish(|| disk.create_dir(&file)), IoErrorKind::AlreadyExists),
            (way.finish(|| disk.remove(&missing)), IoErrorKind::NotFound),
            (way.finish(|| disk.rename(&missing, &file)), IoErrorKind::NotFound),
            (way.finish(|| disk.remove_dir(&missing)), IoErrorKind::NotFound),
            (way.finish(|| disk.sync_dir(&missing)), IoErrorKind::NotFound),
            (way.finish(|| disk.list(&missing)).map(|_| ()), IoErrorKind::NotFound),
            (way.finish(|| disk.metadata(&missing)).map(|_| ()), IoErrorKind::NotFound),
            (way.finish(|| disk.free_space(&missing)).map(|_| ()), IoErrorKind::NotFound),
            (way.finish(|| disk.hard_link(&file, Path::new("/dev/holdfast"))), IoErrorKind::Unsupported),
            (way.finish(|| full.write_at(0, Buf::zeroed(1))).0.map(|_| ()), IoErrorKind::Full),
            (way.finish(|| full.zero_range(0, 1)), IoErrorKind::Full),
            (way.finish(|| read_only.write_at(0, Buf::zeroed(1))).0.map(|_| ()), IoErrorKind::Other),
        ];
        for (number, (result, kind)) in cases.into_iter().enumerate() {
            let error = result.unwrap_err();
            assert_eq!(error.kind, kind, "case {number}: {error:?}");
            assert!(!error.detail.is_empty() && error.path.is_absolute(), "case {number}: {error:?}");
        }
        assert!(file.exists(), "a creation refused because the file exists removes nothing");
        let error = way.finish(|| full.write_at(4096, Buf::zeroed(1))).0.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("write of /dev/full at byte 4096: No space left"), "{text}");
    }
}

/// A pipe without a writer would keep whoever opens it waiting for ever.
#[test]
fn what_is_no_file_is_refused_at_once_by_its_kind() {
    let env = LinuxEnv::new();
    let disk = env.disk();
    for way in WAYS {
        let scratch = Scratch::new("kinds");
        let dir = scratch.path("dir");
        std::fs::create_dir(&dir).unwrap();
        let make = Command::new("mkfifo").arg(scratch.path("pipe")).status().unwrap();
        assert!(make.success());
        let _listener = std::os::unix::net::UnixListener::bind(scratch.path("socket")).unwrap();
        std::os::unix::fs::symlink(scratch.path("pipe"), scratch.path("link")).unwrap();
        let kinds = [("pipe", "FIFO"), ("socket", "socket"), ("dir", "directory"), ("link", "FIFO")];
        for (name, said) in kinds {
            let path = scratch.path(name);
            let refused = |error: IoError, said: &str| {
                let text = error.to_string();
                assert_eq!(error.kind, IoErrorKind::Other, "{text}");
                assert!(text.contains(said) && text.contains("regular file"), "{text}");
                assert!(text.contains(path.to_str().unwrap()), "{text}");
            };
            for options in [OpenOptions::read(), OpenOptions::write(), OpenOptions::write().direct().dsync()]
            {
                refused(way.finish(|| disk.open(&path, options)).map(drop).unwrap_err(), said);
            }
            // A lock is never taken through a link: who else holds it could not be told.
            let said = if name == "link" { "symbolic link" } else { said };
            for kind in [LockKind::Shared, LockKind::Exclusive] {
                refused(way.finish(|| disk.lock(&scratch.path(""), name, kind)).map(drop).unwrap_err(), said);
            }
        }
    }
}

#[test]
fn running_out_of_descriptors_is_retriable() {
    const NAME: &str = "disk::running_out_of_descriptors_is_retriable";
    if !is_child(NAME) {
        return run_child(NAME, "ulimit -n 40; exec");
    }
    let scratch = Scratch::new("descriptors");
    let env = LinuxEnv::new();
    let path = scratch.path("file");
    let mut open = vec![Way::Inline.open(env.disk(), &path, OpenOptions::create())];
    let error = loop {
        match Way::Inline.finish(|| env.disk().open(&path, OpenOptions::read())) {
            Ok(file) => open.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, IoErrorKind::TooManyFiles, "{error:?}");
    let error = Way::Pooled.finish(|| env.disk().list(&scratch.path(""))).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::TooManyFiles, "{error:?}");
    Way::Pooled.write(open[0].as_ref(), 0, b"open files still work");
    open.pop();
    Way::Inline.open(env.disk(), &path, OpenOptions::read());
}

#[test]
fn locks_exclude_within_a_process() {
    let scratch = Scratch::new("lock");
    let env = LinuxEnv::new();
    let dir = scratch.path("");
    for way in WAYS {
        let take = |kind| way.finish(|| env.disk().lock(&dir, "LOCK", kind));
        let kind_of = |kind| take(kind).map(|_| ()).map_err(|error| error.kind);
        let exclusive = take(LockKind::Exclusive).unwrap();
        assert_eq!(kind_of(LockKind::Exclusive), Err(IoErrorKind::LockedHere));
        assert_eq!(kind_of(LockKind::Shared), Err(IoErrorKind::LockedHere));
        drop(exclusive);
        let shared = [take(LockKind::Shared).unwrap(), take(LockKind::Shared).unwrap()];
        assert_eq!(kind_of(LockKind::Exclusive), Err(IoErrorKind::LockedHere));
        drop(shared);
        assert_eq!(kind_of(LockKind::Exclusive), Ok(()));
    }
    let missing =
        Way::Inline.finish(|| env.disk().lock(&scratch.path("missing"), "LOCK", LockKind::Exclusive));
    assert_eq!(missing.map(|_| ()).unwrap_err().kind, IoErrorKind::NotFound);
}

#[test]
fn locks_exclude_other_processes_and_end_with_them() {
    const NAME: &str = "disk::locks_exclude_other_processes_and_end_with_them";
    const DIR: &str = "HOLDFAST_TEST_DIR";
    let env = LinuxEnv::new();
    if is_child(NAME) {
        let dir = std::env::var(DIR).unwrap();
        let held = Way::Inline.finish(|| env.disk().lock(Path::new(&dir), "LOCK", LockKind::Exclusive));
        println!("\nheld {}", held.is_ok());
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let scratch = Scratch::new("lock-process");
    let dir = scratch.path("");
    let mut holder = child(NAME, "exec").env(DIR, &dir).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let told = lines.map_while(Result::ok).find(|line| line.starts_with("held"));
    assert_eq!(told.as_deref(), Some("held true"));
    let take = || Way::Inline.finish(|| env.disk().lock(&dir, "LOCK", LockKind::Shared));
    assert_eq!(take().map(|_| ()).unwrap_err().kind, IoErrorKind::Locked);
    holder.kill().unwrap();
    holder.wait().unwrap();
    take().unwrap();
}
