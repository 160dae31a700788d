use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// An attempt that lasted this long was a success: the next failure starts from the beginning.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// How long to wait before each attempt: doubling, bounded, with jitter so that pipelines do not all come back at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after an attempt that began at `started` and failed.
    pub fn next(&mut self, started: Instant) -> Duration {
        if started.elapsed() >= GOOD_RUN {
            self.failures = 0;
        }
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        doubled.mul_f64(0.75 + 0.25 * jitter())
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Between 0 and 1, different in each call and process.
fn jitter() -> f64 {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), Instant::now());
    random as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next(Instant::now())).collect();
        assert!(pauses[0] <= FIRST && pauses[19] <= LONGEST && pauses[19] >= LONGEST / 2);
        assert_eq!(backoff.failures(), 20);
    }
}
