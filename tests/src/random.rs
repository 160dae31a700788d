use std::time::{SystemTime, UNIX_EPOCH};

/// Random numbers from a seed that is printed, so that a failed run can be repeated with `SEED=…`.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for the test of that name. The seed is the time, or `SEED` if that is set.
    pub fn new(test: &str) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(time);
        println!("{test}: SEED={seed}");
        Self(seed | 1)
    }

    /// A generator with a seed that was drawn from another one.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next 64 bits (xorshift64*).
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 (inclusive) to `end` (exclusive).
    pub fn below(&mut self, end: u64) -> u64 {
        (self.bits() >> 11) % end.max(1)
    }
}
