//! Independent random streams, one for each kind of decision, all derived from the one seed.
//!
//! A stream is ChaCha8 keyed by the seed, with the number of its class as the nonce. So a new class, or one more
//! draw in one class, shifts nothing in the others.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::options::Ratio;

/// What a stream decides. The numbers are part of what a seed means: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamClass {
    /// Which ready task runs.
    Schedule = 0,
    /// Jitter, immediate and late completion.
    Latency = 1,
    /// The kernel's random numbers.
    Kernel = 2,
    /// `Env::rare`.
    Rare = 3,
    /// What survives a power loss.
    PowerLoss = 4,
    /// What becomes of writes in flight when their process is killed.
    Kill = 5,
    /// What survives a failed sync, and what is read afterwards.
    FailedSync = 6,
    /// How short a short read or write is.
    ShortLength = 7,
    /// Random numbers for the test itself.
    Workload = 8,
    /// Which bit rots, where a misdirected read or write goes.
    Deceit = 9,
    /// How far the wall clock jumps.
    ClockJump = 10,
    /// How much later than its link's latency a message arrives.
    NetworkJitter = 11,
    /// How much later a message arrives by a fault.
    NetworkFault = 12,
    /// The first fault class; class `n` has number `FaultBase + n`.
    FaultBase = 64,
    /// The disk, the weather and how often rare branches are taken, of an application's plan.
    PlanShape = 128,
    /// The options of its database.
    PlanSettings = 129,
    /// Where it is crashed.
    PlanCrashes = 130,
    /// The faults of the first class in it; those of class `n` have number `PlanFaultBase + n`.
    PlanFaultBase = 160,
}

/// One stream of random numbers.
#[derive(Clone)]
pub(crate) struct Stream {
    generator: ChaCha8Rng,
}

impl Stream {
    /// The stream of a class.
    pub(crate) fn new(seed: u64, class: StreamClass) -> Self {
        Self::numbered(seed, class as u64)
    }

    /// The stream of a fault class.
    pub(crate) fn of_fault(seed: u64, class: usize) -> Self {
        Self::numbered(seed, StreamClass::FaultBase as u64 + class as u64)
    }

    /// The stream that decides on the faults of a class in an application's plan.
    pub(crate) fn of_planned_fault(seed: u64, class: usize) -> Self {
        Self::numbered(seed, StreamClass::PlanFaultBase as u64 + class as u64)
    }

    /// The stream of one step of an application, which depends on no other step.
    pub(crate) fn of_step(seed: u64, name: &str, number: u64) -> Self {
        // FNV-1a: names of steps are few, and nobody chooses them to collide.
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let name = name.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
        let mut key = *b"................holdfast's steps";
        key[8..16].copy_from_slice(&name.to_le_bytes());
        Self::keyed(key, seed, number)
    }

    fn numbered(seed: u64, number: u64) -> Self {
        Self::keyed(*b"........holdfast simulated world", seed, number)
    }

    fn keyed(mut key: [u8; 32], seed: u64, number: u64) -> Self {
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(number);
        Self { generator }
    }

    /// 64 random bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing lies below 0");
        if let Ok(bound) = u32::try_from(bound) {
            // Multiply-shift; its bias is below 2^-32 for the small bounds used here.
            return (u64::from(self.generator.next_u32()) * u64::from(bound)) >> 32;
        }
        let product = u128::from(self.generator.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }

    /// One of several, which are not none.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        let place = self.below(choices.len() as u64);
        choices[usize::try_from(place).expect("a place in memory")]
    }

    /// True once in `times`.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// True with the given probability. Draws nothing when the answer is certain.
    pub(crate) fn chance(&mut self, ratio: Ratio) -> bool {
        if ratio.numerator == 0 {
            return false;
        }
        ratio.numerator >= ratio.denominator
            || self.below(u64::from(ratio.denominator)) < u64::from(ratio.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_class_and_by_seed() {
        let draw = |seed, class| Stream::new(seed, class).next_u64();
        assert_eq!(draw(1, StreamClass::Kernel), draw(1, StreamClass::Kernel));
        assert_ne!(draw(1, StreamClass::Kernel), draw(2, StreamClass::Kernel));
        assert_ne!(draw(1, StreamClass::Kernel), draw(1, StreamClass::Schedule));
    }

    #[test]
    fn steps_have_streams_of_their_own() {
        let draw = |seed, name, number| Stream::of_step(seed, name, number).next_u64();
        assert_eq!(draw(1, "a", 0), draw(1, "a", 0));
        let all = [draw(1, "a", 0), draw(1, "a", 1), draw(1, "b", 0), draw(2, "a", 0)];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }

    quickcheck::quickcheck! {
        fn below_stays_below(seed: u64, bound: u64) -> bool {
            let bound = bound.max(1);
            let mut stream = Stream::new(seed, StreamClass::Workload);
            (0..20).all(|_| stream.below(bound) < bound)
        }
    }
}
