//! Chance from a seed: one small generator for each record.

use std::{
    f64::consts::TAU,
    sync::atomic::{AtomicU64, Ordering},
};

use domain::rng::Rng;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64: one addition and three mixes a number, and any start is as good
/// as any other.
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    /// The dice of one thing in a seed's world; `what` keeps apart what has the
    /// same number.
    pub fn new(seed: u64, what: u64, number: u64) -> Self {
        let start = mix(seed ^ mix(what.wrapping_mul(STEP) ^ mix(number)));
        Self(start.into())
    }

    /// Below `bound`, which is not 0. The bias is far below what anybody sees.
    pub fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// From 0 up to, and not, 1.
    pub fn unit(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn chance(&self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A value whose logarithm is normal: `median` in the middle, and e to the
    /// `spread` away from it where two of three lie within.
    pub fn lognormal(&self, median: f64, spread: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        median * (spread * radius * (TAU * self.unit()).cos()).exp()
    }
}

impl Rng for Dice {
    fn next_u64(&self) -> u64 {
        // One thread rolls; the atomic is there because the trait is shared.
        let state = self.0.load(Ordering::Relaxed).wrapping_add(STEP);
        self.0.store(state, Ordering::Relaxed);
        mix(state)
    }

    /// Nothing here is a secret.
    fn fill_secure(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A choice of which some are likelier than others.
#[derive(Clone, Debug)]
pub struct Weighted(Vec<f64>);

impl Weighted {
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = weights
            .into_iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        sums.iter_mut().for_each(|upto| *upto /= sum);
        Self(sums)
    }

    /// The k-th of `count` is drawn in proportion to 1/k^exponent.
    pub fn zipf(count: usize, exponent: f64) -> Self {
        Self::new((1..=count).map(|rank| (rank as f64).powf(-exponent)))
    }

    pub fn draw(&self, dice: &Dice) -> usize {
        let at = dice.unit();
        self.0.partition_point(|upto| *upto <= at).min(self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_rolls_the_same() {
        let roll = |seed, what, number| Dice::new(seed, what, number).next_u64();
        assert_eq!(roll(1, 2, 3), roll(1, 2, 3));
        let others = [roll(2, 2, 3), roll(1, 3, 3), roll(1, 2, 4), roll(3, 2, 1)];
        assert!(others.iter().all(|other| *other != roll(1, 2, 3)));
    }

    #[test]
    fn draws_follow_their_weights() {
        let dice = Dice::new(7, 0, 0);
        let weighted = Weighted::new([8.0, 1.0, 1.0]);
        let mut seen = [0_u32; 3];
        (0..10_000).for_each(|_| seen[weighted.draw(&dice)] += 1);
        assert!((7_700..8_300).contains(&seen[0]), "{seen:?}");
        assert!(seen[1] > 800 && seen[2] > 800, "{seen:?}");
    }

    #[test]
    fn half_of_lognormal_values_lie_below_the_median() {
        let dice = Dice::new(7, 0, 1);
        let below = (0..10_000).filter(|_| dice.lognormal(100.0, 0.6) < 100.0).count();
        assert!((4_800..5_200).contains(&below), "{below}");
    }
}
