//! Randomness that a seed repeats.

use std::ops::RangeInclusive;

/// `SplitMix64`. Source: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of one round.
    pub fn of(seed: u64, round: u64) -> Self {
        let mut dice = Self(seed);
        let start = dice.roll() ^ round.wrapping_mul(0xD134_2543_DE82_EF95);
        Self(start)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.roll() % (range.end() - range.start() + 1)
    }

    pub fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.roll() % len).unwrap_or(0)
    }
}
