//! Faults that can be asked for, and when they fire.
//!
//! Each class has a random stream of its own and a counter. A class fires by an [`Injection`] (an exact call, or
//! every call from one on, of files whose name contains a text) or by a rate.

use serde::{Deserialize, Serialize};

use crate::options::Ratio;
use crate::stream::Stream;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// A read fails with `Medium`.
    ReadError,
    /// A write fails with `Medium`; nothing of it is written.
    WriteError,
    /// A sync of a file or a directory, or a `dsync` write, fails with `Medium`. An arbitrary part of what it
    /// covered is on the medium, the rest never will be, and later syncs succeed without it.
    SyncError,
    /// A call that needs space fails with `Full`: write, create, rename, link, allocate, sync.
    NoSpace,
    /// An open fails with `TooManyFiles`.
    TooManyFiles,
    /// A read gives fewer bytes than asked for.
    ShortRead,
    /// A write takes fewer bytes than given.
    ShortWrite,
    /// `Env::spawn` refuses.
    SpawnRefused,
    /// A read fails with `Transient`: tried again, it would pass.
    TransientRead,
    /// A sector becomes unreadable: each read of it fails with `Medium` until it is written again.
    LostSector,
    /// A bit of what is read has flipped at rest, for this reader and all later ones.
    BitRot,
    /// A read gives what stood there before the last write. Only writes since the fault was asked for can be missed.
    StaleRead,
    /// A read gives the bytes of another place, of the same file or of another one.
    MisdirectedRead,
    /// A write is acknowledged and never reaches the medium.
    PhantomWrite,
    /// A write goes to another place of the same file.
    MisdirectedWrite,
    /// A sync of a file or a directory, or a `dsync` write, is acknowledged though nothing became durable.
    LyingSync,
    /// A call takes [`LatencyModel::stall_ns`](crate::LatencyModel::stall_ns) longer.
    Stall,
    /// The wall clock jumps by up to a day, forward or back, when it is read.
    ClockJump,
    /// A datagram never arrives; a part of a connection arrives when it was sent again.
    MessageLost,
    /// A message arrives twice. A connection takes it once.
    MessageDuplicated,
    /// A message arrives after messages that were sent later. A connection puts it back into its place.
    MessageReordered,
    /// A message arrives late, and what was sent behind it waits.
    MessageDelayed,
    /// A connection breaks when a frame is sent: this end at once, the other when it hears of it.
    ConnectionReset,
}

impl FaultClass {
    /// All classes, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::ReadError,
        Self::WriteError,
        Self::SyncError,
        Self::NoSpace,
        Self::TooManyFiles,
        Self::ShortRead,
        Self::ShortWrite,
        Self::SpawnRefused,
        Self::TransientRead,
        Self::LostSector,
        Self::BitRot,
        Self::StaleRead,
        Self::MisdirectedRead,
        Self::PhantomWrite,
        Self::MisdirectedWrite,
        Self::LyingSync,
        Self::Stall,
        Self::ClockJump,
        Self::MessageLost,
        Self::MessageDuplicated,
        Self::MessageReordered,
        Self::MessageDelayed,
        Self::ConnectionReset,
    ];

    /// True if it is what a caller is told, or not told. The others are damage that shows later.
    const fn is_an_answer(self) -> bool {
        !matches!(self, Self::PhantomWrite | Self::MisdirectedWrite | Self::LyingSync)
            && !self.is_of_network()
    }

    /// True if it strikes the network and is asked of [`Network`](crate::Network); all others are asked of a
    /// [`SimDisk`](crate::SimDisk).
    pub const fn is_of_network(self) -> bool {
        matches!(
            self,
            Self::MessageLost
                | Self::MessageDuplicated
                | Self::MessageReordered
                | Self::MessageDelayed
                | Self::ConnectionReset
        )
    }
}

/// A fault that fired, and on what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FiredFault {
    /// Its class.
    pub class: FaultClass,
    /// The file's name without its directory; the task's, for `SpawnRefused`.
    pub name: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How many bytes; 0 if it was about none.
    pub len: u64,
}

/// When an injection fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// At the n-th matching call from now, counted from 1, and never again.
    Once(u64),
    /// At the n-th matching call from now, counted from 1, and at every one after it.
    From(u64),
}

/// A fault that was asked for.
struct Injection {
    class: FaultClass,
    trigger: Trigger,
    name_part: String,
    calls: u64,
}

/// The faults of one disk (and, for `SpawnRefused`, of its processes), or those of the network.
pub(crate) struct Faults {
    injections: Vec<Injection>,
    /// Those that the last class which fired has used up.
    used_up: Vec<Injection>,
    rates: [Ratio; FaultClass::ALL.len()],
    streams: Vec<Stream>,
    fired: [u64; FaultClass::ALL.len()],
    /// Answers after which the process has not gone on yet.
    answered: [u64; FaultClass::ALL.len()],
    has_answered: bool,
    met: [u64; FaultClass::ALL.len()],
    /// Those of which it matters on what they fired, in their order.
    notes: Vec<FiredFault>,
    /// How many of them are in the trace.
    told: usize,
    quiet: bool,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            injections: Vec::new(),
            used_up: Vec::new(),
            rates: [Ratio::NEVER; FaultClass::ALL.len()],
            streams: FaultClass::ALL.iter().map(|class| Stream::of_fault(seed, *class as usize)).collect(),
            fired: [0; FaultClass::ALL.len()],
            answered: [0; FaultClass::ALL.len()],
            has_answered: false,
            met: [0; FaultClass::ALL.len()],
            notes: Vec::new(),
            told: 0,
            quiet: true,
        }
    }

    pub(crate) fn inject(&mut self, class: FaultClass, name_part: &str, trigger: Trigger) {
        self.quiet = false;
        self.injections.push(Injection { class, trigger, name_part: name_part.to_owned(), calls: 0 });
    }

    pub(crate) fn set_rate(&mut self, class: FaultClass, rate: Ratio) {
        self.quiet = false;
        self.rates[class as usize] = rate;
    }

    pub(crate) fn clear(&mut self) {
        self.injections.clear();
        self.used_up.clear();
        self.rates = [Ratio::NEVER; FaultClass::ALL.len()];
        self.quiet = true;
    }

    /// Ends those that were asked for at every call from one on.
    pub(crate) fn clear_lasting(&mut self) {
        self.injections.retain(|injection| matches!(injection.trigger, Trigger::Once(_)));
    }

    pub(crate) fn fired(&self, class: FaultClass) -> u64 {
        self.fired[class as usize]
    }

    /// How often what a class did was met.
    pub(crate) fn met(&self, class: FaultClass) -> u64 {
        self.met[class as usize]
    }

    /// What a class did was met.
    pub(crate) fn note_met(&mut self, class: FaultClass) {
        self.met[class as usize] += 1;
    }

    /// The process goes on: it has taken the answers that it got.
    #[inline]
    pub(crate) fn note_going_on(&mut self) {
        if self.has_answered {
            self.has_answered = false;
            for (met, answered) in self.met.iter_mut().zip(&mut self.answered) {
                *met += std::mem::take(answered);
            }
        }
    }

    /// The process dies: nobody has taken the answers.
    pub(crate) fn note_death(&mut self) {
        self.has_answered = false;
        self.answered = [0; FaultClass::ALL.len()];
    }

    /// True while no fault at all can fire.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// True if the class may fire at some call to come.
    pub(crate) fn may_fire(&self, class: FaultClass) -> bool {
        let is_asked_for = || self.injections.iter().any(|injection| injection.class == class);
        !self.quiet && (self.rates[class as usize].numerator > 0 || is_asked_for())
    }

    /// Notes on what a class fired.
    pub(crate) fn note(&mut self, class: FaultClass, name: &str, offset: u64, len: u64) {
        self.notes.push(FiredFault { class, name: name.to_owned(), offset, len });
    }

    /// Everything noted so far.
    pub(crate) fn notes(&self) -> &[FiredFault] {
        &self.notes
    }

    /// What was noted since the last time.
    pub(crate) fn take_untold(&mut self) -> Vec<FiredFault> {
        let untold = self.notes[self.told..].to_vec();
        self.told = self.notes.len();
        untold
    }

    /// Asks whether the class fires at this call, on the file or task `name`.
    #[inline]
    pub(crate) fn fires(&mut self, class: FaultClass, name: &str) -> bool {
        !self.quiet && self.fires_loud(class, name)
    }

    /// Counts that a class fired.
    pub(crate) fn strike(&mut self, class: FaultClass) {
        self.fired[class as usize] += 1;
        if class.is_an_answer() {
            self.answered[class as usize] += 1;
            self.has_answered = true;
        }
    }

    /// The class that fired last found nothing to strike: it did not fire, and what was asked for once waits for the next
    /// call.
    pub(crate) fn take_back(&mut self, class: FaultClass) {
        for mut injection in self.used_up.drain(..).filter(|injection| injection.class == class) {
            injection.calls -= 1;
            self.injections.push(injection);
        }
        self.fired[class as usize] -= 1;
        if class.is_an_answer() {
            self.answered[class as usize] -= 1;
            self.has_answered = self.answered.iter().any(|answered| *answered > 0);
        }
    }

    fn fires_loud(&mut self, class: FaultClass, name: &str) -> bool {
        let mut fires = self.streams[class as usize].chance(self.rates[class as usize]);
        self.used_up.clear();
        let (waiting, used_up) = (&mut self.injections, &mut self.used_up);
        used_up.extend(waiting.extract_if(.., |injection| {
            if injection.class != class || !name.contains(&injection.name_part) {
                return false;
            }
            injection.calls += 1;
            match injection.trigger {
                Trigger::Once(call) => {
                    fires |= injection.calls == call;
                    injection.calls >= call
                }
                Trigger::From(call) => {
                    fires |= injection.calls >= call;
                    false
                }
            }
        }));
        if fires {
            self.strike(class);
        }
        fires
    }
}
