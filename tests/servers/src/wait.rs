use std::time::{Duration, Instant};

/// How long a test waits for a condition before it fails: far more than it takes, so that a busy machine fails nothing.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds, for two minutes at most; panics with `what` if it never does.
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_for(2 * MINUTE, what, condition);
}

/// Waits until `condition` holds, for `limit` at most; panics with `what` if it never does.
#[track_caller]
pub fn wait_until_for(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
