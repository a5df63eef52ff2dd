//! Zipf's law with exponent 1, in integers.

use crate::Random;

/// How much weight lies on the first keys up to each.
pub(super) struct Zipf(Vec<u64>);

impl Zipf {
    const SCALE: u64 = 1 << 20;

    pub(super) fn new(keys: u64) -> Self {
        let mut sum = 0;
        let weights = (1..=keys).map(|rank| {
            sum += Self::SCALE / rank + 1;
            sum
        });
        Self(weights.collect())
    }

    pub(super) fn draw(&self, random: &mut Random) -> u16 {
        let drawn = random.below(self.0.last().copied().unwrap_or(1));
        let rank = self.0.partition_point(|sum| *sum <= drawn);
        // The popular keys do not stand side by side.
        (crate::random::mix(rank as u64) % self.0.len().max(1) as u64) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_keys_are_popular() {
        let zipf = Zipf::new(100);
        let mut random = Random::new(1);
        let mut counts = [0u32; 100];
        for _ in 0..10_000 {
            counts[usize::from(zipf.draw(&mut random))] += 1;
        }
        counts.sort_unstable();
        assert!(counts[99] > 1500 && counts[50] < 300, "{counts:?}");
    }
}
