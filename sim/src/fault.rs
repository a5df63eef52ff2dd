//! Faults that can be asked for, and when they fire.
//!
//! Each class has a random stream of its own and a counter. A class fires by an [`Injection`] (an exact call, or
//! every call from one on, of files whose name contains a text) or by a rate.

use crate::options::Ratio;
use crate::stream::Stream;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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
}

impl FaultClass {
    /// All classes, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::ReadError,
        Self::WriteError,
        Self::SyncError,
        Self::NoSpace,
        Self::TooManyFiles,
        Self::ShortRead,
        Self::ShortWrite,
        Self::SpawnRefused,
    ];
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

/// The faults of one disk (and, for `SpawnRefused`, of its processes).
pub(crate) struct Faults {
    injections: Vec<Injection>,
    rates: [Ratio; FaultClass::ALL.len()],
    streams: Vec<Stream>,
    fired: [u64; FaultClass::ALL.len()],
    quiet: bool,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            injections: Vec::new(),
            rates: [Ratio::NEVER; FaultClass::ALL.len()],
            streams: FaultClass::ALL.iter().map(|class| Stream::of_fault(seed, *class as usize)).collect(),
            fired: [0; FaultClass::ALL.len()],
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
        self.rates = [Ratio::NEVER; FaultClass::ALL.len()];
        self.quiet = true;
    }

    pub(crate) fn fired(&self, class: FaultClass) -> u64 {
        self.fired[class as usize]
    }

    /// Asks whether the class fires at this call, on the file or task `name`.
    #[inline]
    pub(crate) fn fires(&mut self, class: FaultClass, name: &str) -> bool {
        !self.quiet && self.fires_loud(class, name)
    }

    fn fires_loud(&mut self, class: FaultClass, name: &str) -> bool {
        let mut fires = self.streams[class as usize].chance(self.rates[class as usize]);
        self.injections.retain_mut(|injection| {
            if injection.class != class || !name.contains(&injection.name_part) {
                return true;
            }
            injection.calls += 1;
            match injection.trigger {
                Trigger::Once(call) => {
                    fires |= injection.calls == call;
                    injection.calls < call
                }
                Trigger::From(call) => {
                    fires |= injection.calls >= call;
                    true
                }
            }
        });
        self.fired[class as usize] += u64::from(fires);
        fires
    }
}
