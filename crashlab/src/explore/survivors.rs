//! Survivor sets drawn from all that are legal, where there are too many to try each.

use holdfast_sim::{Survival, SurvivorChoice, UnsyncedContent};
use holdfast_workloads::Random;

/// Answers drawn from a seed; each set is nearer to everything or to nothing.
#[derive(Clone)]
pub(super) struct DrawnSet {
    random: Random,
    survives_of_8: u64,
}

impl DrawnSet {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let survives_of_8 = random.below(9);
        Self { random, survives_of_8 }
    }

    fn survives(&mut self) -> bool {
        self.random.below(8) < self.survives_of_8
    }

    fn pick(&mut self, answers: usize) -> usize {
        if self.survives() {
            return answers - 1;
        }
        usize::try_from(self.random.below(answers as u64)).unwrap_or(0)
    }
}

impl SurvivorChoice for DrawnSet {
    fn content(&mut self, change: &UnsyncedContent) -> Survival {
        if change.sectors > 1 && self.random.one_in(3) {
            let start = self.random.below(change.sectors);
            let end = start + 1 + self.random.below(change.sectors - start);
            let run = if self.random.one_in(2) { 0..start } else { start..end };
            return Survival::Torn(vec![run]);
        }
        if self.survives() { Survival::Whole } else { Survival::Gone }
    }

    fn size(&mut self, _: u64, candidates: &[u64]) -> usize {
        self.pick(candidates.len())
    }

    fn name(&mut self, _: u64, _: &str, candidates: &[Option<u64>]) -> usize {
        self.pick(candidates.len())
    }

    fn journal(&mut self, operations: usize) -> usize {
        self.pick(operations + 1)
    }
}
