//! Random numbers that can be had again.

/// A sequence of numbers that its seed repeats exactly (splitmix64): what failed once can be run again.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Seed {
        Seed(seed)
    }

    /// A sequence of its own for part `n` of a whole.
    pub fn part(&self, n: u64) -> Seed {
        let mut seed = Seed(self.0 ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Seed(seed.number())
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// The next choice, true one time in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
