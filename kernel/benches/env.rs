//! What the production environment itself costs: `cargo bench -p holdfast-db --bench env [DIR]`.
//!
//! Files are made in DIR, by default the target directory; use the disk that matters. Each line gives the median, the
//! 99th percentile and the 99.9th. The last part is what background work does to a durable write, the reason for its low
//! scheduling class.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "a bench starts threads of its own")]

use std::future::poll_fn;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use holdfast::env::linux::{LinuxEnv, block_on};
use holdfast::env::{BUF_ALIGN, Buf, Disk, Env, File, Io, OpenOptions, TaskClass};

const FILE_BYTES: u64 = 16 << 20;

fn main() {
    let dir = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let dir = PathBuf::from(dir.as_deref().unwrap_or(env!("CARGO_TARGET_TMPDIR")));
    let env = LinuxEnv::new();
    let path = dir.join(format!("holdfast-bench-{}", std::process::id()));
    let file = finish(|| env.disk().open(&path, OpenOptions::create())).unwrap();
    finish(|| file.zero_range(0, FILE_BYTES)).unwrap();
    finish(|| file.sync_all()).unwrap();

    executor(&env);
    ping_pong(&env);
    reads(&env, file.as_ref());
    writes(&env, &path, file.as_ref());
    beside_background_work(&env, &path);
    std::fs::remove_file(&path).unwrap();
}

/// Runs an operation in place.
fn finish<T>(start: impl FnOnce() -> Io<T>) -> T {
    block_on(async { start().await })
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs an operation on a thread that the environment takes for one of an asynchronous runtime.
fn poll_by_hand<F: Future>(future: F, waker: &Waker) -> F::Output {
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
            return output;
        }
        std::thread::park();
    }
}

/// Prints percentiles over `samples` batches, each of `batch` runs.
fn measure(env: &LinuxEnv, name: &str, samples: usize, batch: u64, mut run: impl FnMut()) {
    let mut nanos: Vec<u64> = (0..samples)
        .map(|_| {
            let began = env.now();
            for _ in 0..batch {
                run();
            }
            env.now().since(began) / batch
        })
        .collect();
    nanos.sort_unstable();
    let [p50, p99, p999] = [500, 990, 999].map(|part| nanos[samples * part / 1000]);
    println!("{name:<58} p50 {p50:>8} ns   p99 {p99:>8} ns   p99.9 {p999:>8} ns");
}

fn executor(env: &Arc<LinuxEnv>) {
    measure(env, "block_on of a ready future", 1000, 1000, || {
        black_box(block_on(async { black_box(1) }));
    });
    measure(env, "now", 1000, 1000, || _ = black_box(env.now()));
    measure(env, "random_u64", 1000, 100, || _ = black_box(env.random_u64()));
    block_on(async { measure(env, "slice", 1000, 1000, || drop(black_box(env.slice(100)))) });
    measure(env, "sleep of 100 us", 1000, 1, || block_on(env.sleep_until(env.now().after(100_000))));
}

/// Whose turn it is, and the wakers of those who wait for theirs.
type Turns = [Mutex<(bool, Option<Waker>)>; 2];

/// Two threads wake each other in turns, as a commit's leader and its followers do.
fn ping_pong(env: &Arc<LinuxEnv>) {
    let turns: Arc<Turns> = Arc::default();
    let pass = |turns: &Turns, side: usize| {
        let mut turn = turns[side].lock().unwrap();
        turn.0 = true;
        let waker = turn.1.take();
        drop(turn);
        if let Some(waker) = waker {
            waker.wake();
        }
    };
    let wait = |turns: &Turns, side: usize| {
        block_on(poll_fn(|context| {
            let mut turn = turns[side].lock().unwrap();
            if std::mem::take(&mut turn.0) {
                return Poll::Ready(());
            }
            turn.1 = Some(context.waker().clone());
            Poll::Pending
        }));
    };
    const ROUNDS: usize = 5000;
    let theirs = Arc::clone(&turns);
    let opponent = std::thread::spawn(move || {
        for _ in 0..ROUNDS {
            wait(&theirs, 1);
            pass(&theirs, 0);
        }
    });
    measure(env, "wake another thread's block_on and be woken", ROUNDS, 1, || {
        pass(&turns, 1);
        wait(&turns, 0);
    });
    opponent.join().unwrap();
}

fn reads(env: &Arc<LinuxEnv>, file: &dyn File) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut buf = Buf::zeroed(BUF_ALIGN);
    let mut offset = 0;
    let mut next = || {
        offset = (offset + 37 * BUF_ALIGN as u64) % FILE_BYTES;
        offset
    };
    measure(env, "4 KiB cached read in place", 1000, 100, || {
        buf = finish(|| file.read_at(next(), std::mem::take(&mut buf))).1;
    });
    measure(env, "4 KiB cached read off a runtime's thread (RWF_NOWAIT)", 1000, 100, || {
        buf = poll_by_hand(file.read_at(next(), std::mem::take(&mut buf)), &waker).1;
    });
    // Past the end of the file nothing is cached, so this is the way through the pool and back.
    measure(env, "empty read through the pool", 2000, 1, || {
        buf = poll_by_hand(file.read_at(FILE_BYTES, std::mem::take(&mut buf)), &waker).1;
    });
}

fn writes(env: &Arc<LinuxEnv>, path: &std::path::Path, cached: &dyn File) {
    let mut buf = Buf::zeroed(BUF_ALIGN);
    measure(env, "4 KiB write + fdatasync in a zero-filled file", 1000, 1, || {
        buf = finish(|| cached.write_at(0, std::mem::take(&mut buf))).1;
        finish(|| cached.sync_data()).unwrap();
    });
    durable_writes(env, path, "4 KiB direct dsync write in place");
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let direct = open_direct(env.disk(), path);
    measure(env, "4 KiB direct dsync write through the pool", 1000, 1, || {
        buf = poll_by_hand(direct.write_at(0, std::mem::take(&mut buf)), &waker).1;
    });
}

fn open_direct(disk: &dyn Disk, path: &std::path::Path) -> Arc<dyn File> {
    finish(|| disk.open(path, OpenOptions::write().direct().dsync())).unwrap()
}

fn durable_writes(env: &Arc<LinuxEnv>, path: &std::path::Path, name: &str) {
    let direct = open_direct(env.disk(), path);
    let mut buf = Buf::zeroed(BUF_ALIGN);
    let mut offset = 0;
    measure(env, name, 3000, 1, || {
        offset = (offset + BUF_ALIGN as u64) % FILE_BYTES;
        let (count, back) = finish(|| direct.write_at(offset, std::mem::take(&mut buf)));
        assert_eq!(count, Ok(BUF_ALIGN));
        buf = back;
    });
}

/// Durable writes while as many tasks as there are processors, and one more, compute without a pause.
fn beside_background_work(env: &Arc<LinuxEnv>, path: &std::path::Path) {
    let tasks = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    for (class, slices) in [
        (TaskClass::Background, true),
        (TaskClass::Background, false),
        (TaskClass::Foreground, true),
        (TaskClass::Foreground, false),
    ] {
        let stop = Arc::new(AtomicBool::new(false));
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let (stop, env_inside) = (Arc::clone(&stop), Arc::clone(env));
                let work = async move {
                    let mut hash = 1_u64;
                    while !stop.load(Ordering::Relaxed) {
                        for i in 0..1000 {
                            hash = black_box(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ i);
                        }
                        if slices {
                            env_inside.slice(hash & 1).await;
                        }
                    }
                };
                env.spawn("compute", class, Box::pin(work)).unwrap()
            })
            .collect();
        durable_writes(
            env,
            path,
            &format!("  the same beside {tasks} busy {class:?} tasks, slices: {slices}"),
        );
        stop.store(true, Ordering::Relaxed);
        while !running.iter().all(|task| task.is_finished()) {
            std::thread::yield_now();
        }
    }
}
