//! The production environment, on real files, clocks and threads.
//!
//! `files` and `disk` check what the kernel reads and writes, `waiting` the executor, timers and cancellation, and
//! `threads` tasks and their priorities. What needs a process of its own (few descriptors, no address space, no
//! privileges, a death) runs this very test binary again as a child, see [`child`].

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests compare the environment with the operating system itself"
)]

mod disk;
mod files;
mod threads;
mod waiting;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use holdfast::env::{Buf, Disk, File, Io, OpenOptions};

/// A directory that goes away with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self::inside(Path::new(env!("CARGO_TARGET_TMPDIR")), name)
    }

    fn inside(parent: &Path, name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("holdfast-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// How a test waits for an operation.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    /// On a thread that may block: in place.
    Inline,
    /// On a thread that may not: through the page cache or the pool.
    Pooled,
}

const WAYS: [Way; 2] = [Way::Inline, Way::Pooled];

impl Way {
    /// Starts an operation and waits for it. `Inline` insists that it is ready when it returns.
    fn finish<T>(self, start: impl FnOnce() -> Io<T>) -> T {
        match self {
            Self::Inline => holdfast::env::linux::block_on(async {
                match start() {
                    Io::Ready(result) => result.unwrap(),
                    Io::Waiting(_) => panic!("an operation waits on a thread that may block"),
                }
            }),
            Self::Pooled => poll_by_hand(start()),
        }
    }

    fn open(self, disk: &dyn Disk, path: &Path, options: OpenOptions) -> Arc<dyn File> {
        self.finish(|| disk.open(path, options)).unwrap()
    }

    /// Writes all of `bytes`, in as many calls as it takes.
    fn write(self, file: &dyn File, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let buf = Buf::copy_of(&bytes[done..]);
            let (count, back) = self.finish(|| file.write_at(offset + done as u64, buf));
            assert_eq!(&back[..], &bytes[done..], "the buffer comes back as it was");
            done += count.unwrap();
        }
    }

    /// Reads `len` bytes, or fewer at the end of the file.
    fn read(self, file: &dyn File, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let buf = Buf::zeroed(len - bytes.len());
            let (count, buf) = self.finish(|| file.read_at(offset + bytes.len() as u64, buf));
            match count.unwrap() {
                0 => break,
                count => bytes.extend_from_slice(&buf[..count]),
            }
        }
        bytes
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker that unparks this thread, without telling the environment that this thread may block.
fn thread_waker() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

/// An executor that the environment knows nothing of.
fn poll_by_hand<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = thread_waker();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

/// Set in a child process to the name of the scenario it is there for.
const CHILD: &str = "HOLDFAST_TEST_CHILD";

/// True in a child process started for the scenario `name`.
fn is_child(name: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|child| child == name)
}

/// This test binary, about to run only the test `name`, under `shell_prefix`, as in `ulimit -n 20; exec`.
fn child(name: &str, shell_prefix: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{shell_prefix} \"$@\""))
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, name);
    command
}

/// Runs a child to its end and insists on its success.
fn run_child(name: &str, shell_prefix: &str) {
    let output = child(name, shell_prefix).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "child {name} failed:\n{text}");
}

/// True if this process may do everything.
fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t")
}

/// Waits, for at most ten seconds, until `condition` holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed().as_secs() < 10, "did not come about in time: {what}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
