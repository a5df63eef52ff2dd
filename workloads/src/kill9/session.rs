//! One child from start to death: when it is killed, what it had told, which phases it was in.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::child::Plant;

/// When to kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// So long after the writers started.
    Running(Duration),
    /// So long after the phase began for the `nth` time (from 0) since the writers started.
    Inside {
        /// The phase.
        phase: &'static str,
        /// How many beginnings to let pass.
        nth: u64,
        /// How long after it.
        delay: Duration,
    },
    /// So long after the phase began during the recovery, before the database is open.
    Opening {
        /// The phase; `recovery` is the whole of it.
        phase: &'static str,
        /// How long after its beginning.
        delay: Duration,
    },
}

/// A moment that does not come is given up after this long; the child is killed all the same.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is left of a child.
#[derive(Debug)]
pub struct Death {
    /// Its process id.
    pub process: u32,
    /// How it ended, as the system says.
    pub status: String,
    /// True if it was our signal that ended it.
    pub was_killed: bool,
    /// Its own lines.
    pub lines: Vec<String>,
    /// Phases it had begun and not ended.
    pub inside: Vec<String>,
    /// How often each phase ended, and how long all of them took.
    pub phases: BTreeMap<String, (u64, Duration)>,
}

/// Starts this program again as a child on `dir` and kills it at `moment`.
///
/// # Errors
/// If it cannot be started.
pub fn run(dir: &Path, seed: u64, writers: u32, plant: Option<Plant>, moment: Moment) -> io::Result<Death> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--child").arg(dir).args(["--seed", &seed.to_string(), "--writers", &writers.to_string()]);
    match plant {
        Some(Plant::UnkeptPromise) => drop(command.args(["--plant", "unkept-promise"])),
        Some(Plant::HalfTransaction) => drop(command.args(["--plant", "half-transaction"])),
        None => {}
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let pipe = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // The pipe is read to its end whatever the main thread does: what was told counts, however late it is read.
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    let mut told = Told::default();
    wait_for(&receiver, moment, &mut told);
    child.kill()?;
    let status = child.wait()?;
    for (at, line) in &receiver {
        told.take(at, line);
    }
    drop(reader.join());
    let was_killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGKILL);
    let inside = told.open.iter().filter(|(_, begun)| !begun.is_empty()).map(|(phase, _)| phase.clone());
    Ok(Death {
        process: child.id(),
        status: status.to_string(),
        was_killed,
        inside: inside.collect(),
        lines: told.lines,
        phases: told.ended,
    })
}

/// Returns when the moment has come, or can come no more.
fn wait_for(receiver: &mpsc::Receiver<(Instant, String)>, moment: Moment, told: &mut Told) {
    let mut due = Instant::now() + PATIENCE;
    let mut passed = 0;
    let mut fixed = false;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let (at, line) = match receiver.recv_timeout(left) {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        };
        let delay = match moment {
            Moment::Running(delay) if line == "R" => Some(delay),
            Moment::Opening { phase, delay } if line.strip_prefix("B ") == Some(phase) => Some(delay),
            Moment::Inside { phase, nth, delay } if told.runs && line.strip_prefix("B ") == Some(phase) => {
                passed += 1;
                (passed > nth).then_some(delay)
            }
            _ => None,
        };
        told.take(at, line);
        if let Some(delay) = delay.filter(|_| !fixed) {
            fixed = true;
            due = at + delay;
        }
    }
}

/// What was read from the pipe.
#[derive(Default)]
struct Told {
    runs: bool,
    lines: Vec<String>,
    open: BTreeMap<String, Vec<Instant>>,
    ended: BTreeMap<String, (u64, Duration)>,
}

impl Told {
    fn take(&mut self, at: Instant, line: String) {
        if let Some(phase) = line.strip_prefix("B ") {
            self.open.entry(phase.to_string()).or_default().push(at);
        } else if let Some(phase) = line.strip_prefix("E ") {
            if let Some(begun) = self.open.get_mut(phase).and_then(Vec::pop) {
                let ended = self.ended.entry(phase.to_string()).or_default();
                ended.0 += 1;
                ended.1 += at.saturating_duration_since(begun);
            }
        } else {
            self.runs |= line == "R";
            self.lines.push(line);
        }
    }
}
