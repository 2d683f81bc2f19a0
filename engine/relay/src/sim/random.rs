//! Random numbers that repeat.
//!
//! No entropy but the seed. Used by `World` and by scenarios.

/// Small random numbers from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Seeds from 1 to `count`, or those that MAITRED_SEEDS names (`7` or `1-5000`).
    ///
    /// # Panics
    /// MAITRED_SEEDS holds something else.
    pub fn seeds(count: u64) -> std::ops::RangeInclusive<u64> {
        let Ok(wish) = std::env::var("MAITRED_SEEDS") else { return 1..=count };
        let (first, last) = wish.split_once('-').unwrap_or((&wish, &wish));
        let number = |text: &str| text.parse().expect("MAITRED_SEEDS is a number or two with a dash");
        number(first)..=number(last)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}
