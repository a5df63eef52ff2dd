//! A storm of many lives: starts the process, kills it, and knows from its record where the storm stands.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_workloads::history::{Change, Ending, History, Milestone};
use holdfast_workloads::oracle::model::Rules;
use holdfast_workloads::oracle::{Violation, Wrong};
use holdfast_workloads::storm::{Counts, Line, Storm};

use super::PLAN_NAME;
use super::record::{FILE_NAME, Reader, Writer};
use crate::panics::ask_guarded;
use crate::plan::Plan;

/// When a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// So long after it began to open the database for the first time.
    Opening(Duration),
    /// So long after its clients began so many steps.
    Steps(u64, Duration),
    /// Never: it ends by itself, with the script.
    End,
    /// Never; and once the script is over everything is looked at, and nothing may be left.
    Calm,
}

/// What a life came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Death {
    /// The process was killed, and did not end by itself before.
    pub killed: bool,
    /// It died while it was opening the database.
    pub opening: bool,
    /// It died while it was adding a line to the record.
    pub cut: bool,
    /// How long its first opening took, if that came to its end.
    pub opened_in: Option<Duration>,
}

/// What the oracles say of a storm.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was wrong; empty if nothing was.
    pub violations: Vec<Violation>,
    /// The model gave up on the way.
    pub undecided: bool,
    /// What was counted.
    pub counts: Counts,
    /// Commits with writes of which nobody was told what became.
    pub untold: u64,
    /// What clients saw.
    pub history: History,
}

/// How many transactions with writes ended so.
fn with_ending(history: &History, is_it: fn(&Ending) -> bool) -> u64 {
    let transactions = history.transactions.iter();
    transactions.filter(|transaction| transaction.writes() && is_it(&transaction.ending)).count() as u64
}

/// The record is looked at so often.
const POLL: Duration = Duration::from_micros(200);
/// A process that tells nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How much of what a process said at its end is shown.
const LAST_WORDS_MAX: usize = 2000;

/// See the module's header.
pub struct Session {
    run: PathBuf,
    program: PathBuf,
    narrow_window: bool,
    storm: Arc<Storm>,
    reader: Reader,
    writer: Writer,
}

impl Session {
    /// A storm that has not begun, in an empty directory. `program` is crashlab's own, which each life is a process of.
    ///
    /// # Errors
    /// In words: the directory cannot be written to.
    pub fn new(run: &Path, program: &Path, plan: &Plan) -> Result<Self, String> {
        plan.save(&run.join(PLAN_NAME))?;
        let record = run.join(FILE_NAME);
        let writer = Writer::open(&record)?;
        Ok(Self {
            run: run.to_owned(),
            program: program.to_owned(),
            narrow_window: plan.settings.narrow_window,
            storm: Storm::new(plan.settings, plan.script.clone()),
            reader: Reader::open(&record)?,
            writer,
        })
    }

    /// True if no client has anything more to do.
    pub fn is_over(&self) -> bool {
        self.storm.is_over()
    }

    /// True once something is wrong: to go on would show nothing new.
    pub fn is_lost(&self) -> bool {
        self.storm.is_lost()
    }

    /// One life, which `stop` ends early.
    ///
    /// # Errors
    /// In words: the process cannot be run, or the record cannot be read.
    pub fn live(&mut self, moment: Moment, stop: &AtomicBool) -> Result<Death, String> {
        let mut child = self.spawn(moment == Moment::Calm)?;
        let mut life = Life::default();
        let watched = self.watch(&mut child, moment, stop, &mut life);
        // Whatever came of it, the process does not outlive this.
        let killed = child.kill().and_then(|()| child.wait());
        let status = killed.map_err(|error| format!("a process cannot be killed: {error}"))?;
        let end = watched?;
        self.take_in(&mut life)?;
        let was_killed = status.signal() == Some(KILL) && end != WatchEnd::Ended;
        let cut = self.reader.cut()?;
        if life.opens.is_some() && !life.has_ended {
            self.note(Line::History(Change::Passes(Milestone::Killed)))?;
        }
        if end == WatchEnd::Silent {
            self.wrong(format!("nothing happened for {} s", SILENCE_MAX.as_secs()))?;
        } else if status.code() == Some(2) {
            return Err(format!("the process cannot run: {}", self.last_words()));
        } else if !was_killed && !status.success() {
            self.wrong(format!("the process ended by itself with {status}: {}", self.last_words()))?;
        }
        if moment == Moment::Calm && end == WatchEnd::Ended && !life.has_ended {
            self.wrong("the last opening, in calm, has not come to its end".to_owned())?;
        }
        let opening = life.opens.is_some() && !life.is_open && !life.has_ended;
        Ok(Death { killed: was_killed, opening: was_killed && opening, cut, opened_in: life.opened_in })
    }

    fn spawn(&self, is_calm: bool) -> Result<Child, String> {
        let words = self.run.join(WORDS_NAME);
        let words = File::create(&words).map_err(|error| format!("{}: {error}", words.display()))?;
        let mut command = Command::new(&self.program);
        command.arg("real-life").arg(&self.run);
        if is_calm {
            command.arg("--calm");
        }
        // In a group of its own it does not hear a Ctrl-C that is meant for this process.
        let spawned =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(words).process_group(0).spawn();
        spawned.map_err(|error| format!("{}: {error}", self.program.display()))
    }

    /// Returns when the process has ended, or is to be killed.
    fn watch(
        &mut self,
        child: &mut Child,
        moment: Moment,
        stop: &AtomicBool,
        life: &mut Life,
    ) -> Result<WatchEnd, String> {
        let mut heard = Instant::now();
        loop {
            let status = child.try_wait().map_err(|error| format!("a process is lost: {error}"))?;
            let now = Instant::now();
            if self.take_in(life)? {
                heard = now;
            }
            if status.is_some() {
                return Ok(WatchEnd::Ended);
            }
            let due = match moment {
                Moment::Opening(delay) => life.opens.map(|since| since + delay),
                Moment::Steps(steps, delay) => {
                    if life.steps >= steps {
                        life.reached.get_or_insert(now);
                    }
                    life.reached.map(|since| since + delay)
                }
                Moment::End | Moment::Calm => None,
            };
            if stop.load(Ordering::Relaxed) || due.is_some_and(|due| now >= due) {
                return Ok(WatchEnd::Due);
            }
            if now.duration_since(heard) > SILENCE_MAX {
                return Ok(WatchEnd::Silent);
            }
            std::thread::sleep(due.map_or(POLL, |due| POLL.min(due - now)));
        }
    }

    /// Takes in what the record has got. True if that is anything.
    fn take_in(&mut self, life: &mut Life) -> Result<bool, String> {
        let lines = self.reader.read()?;
        let is_any = !lines.is_empty();
        for line in lines {
            life.hear(&line);
            self.storm.take_in(line)?;
        }
        Ok(is_any)
    }

    /// Adds to the record of a process that is dead.
    fn note(&mut self, line: Line) -> Result<(), String> {
        self.writer.add(&line)?;
        self.take_in(&mut Life::default()).map(drop)
    }

    /// Notes that the database is not available as it should be. No process may be running.
    pub(super) fn wrong(&mut self, what: String) -> Result<(), String> {
        self.note(Line::Wrong(Violation { wrong: Wrong::Unavailable, what }))
    }

    /// The end of what the last process said.
    fn last_words(&self) -> String {
        let words = std::fs::read(self.run.join(WORDS_NAME)).unwrap_or_default();
        let end = &words[words.len().saturating_sub(LAST_WORDS_MAX)..];
        String::from_utf8_lossy(end).trim().to_owned()
    }

    /// Asks the oracles, unless something is known to be wrong already.
    pub fn judge(self) -> Verdict {
        let mut counts = self.storm.counts();
        let (history, violations) = self.storm.take();
        // What was counted shortly before a kill was not told.
        counts.acknowledged = with_ending(&history, |ending| matches!(ending, Ending::Committed(_)));
        let untold = with_ending(&history, |ending| *ending == Ending::Unknown);
        let rules = Rules { narrow_window: self.narrow_window, ..Rules::default() };
        let answer = ask_guarded(&history, rules, violations);
        Verdict { violations: answer.violations, undecided: answer.is_undecided, counts, untold, history }
    }
}

/// What the process said to people.
const WORDS_NAME: &str = "stderr";
const KILL: i32 = signal_hook::consts::SIGKILL;

/// Why the watch over a process ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WatchEnd {
    /// The process has ended by itself.
    Ended,
    /// Its moment has come.
    Due,
    /// It tells nothing any more.
    Silent,
}

/// What was heard of a life.
#[derive(Default)]
struct Life {
    /// When it began to open the database for the first time.
    opens: Option<Instant>,
    opened_in: Option<Duration>,
    is_open: bool,
    /// The last opening of it came to its end.
    has_ended: bool,
    steps: u64,
    /// When its clients had begun as many steps as they were to.
    reached: Option<Instant>,
}

impl Life {
    fn hear(&mut self, line: &Line) {
        match line {
            Line::Opens => {
                self.opens.get_or_insert_with(Instant::now);
                self.has_ended = false;
            }
            Line::Step(_) => self.steps += 1,
            Line::History(Change::Passes(Milestone::Opened(..))) => {
                let since = self.opens.map(|since| since.elapsed());
                self.opened_in = self.opened_in.or(since);
                self.is_open = true;
            }
            Line::History(Change::Passes(Milestone::Closed | Milestone::Killed)) => {
                self.is_open = false;
                self.has_ended = true;
            }
            _ => {}
        }
    }
}
