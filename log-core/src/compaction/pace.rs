//! Holds a compaction to so many bytes in a second, and lets it end when somebody wants that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::log::Core;

/// Whoever wants it to end waits no longer than this.
const NAP: Duration = Duration::from_millis(50);

pub(super) struct Pace<'a> {
    core: &'a Core,
    stop: &'a AtomicBool,
    bytes_per_second: Option<u64>,
    /// When the bytes so far are due.
    due: Instant,
}

impl<'a> Pace<'a> {
    pub(super) fn new(core: &'a Core, stop: &'a AtomicBool, bytes_per_second: Option<u64>) -> Self {
        Self { core, stop, bytes_per_second, due: Instant::now() }
    }

    /// Waits until `bytes` more, read or written, are due; `false` when the work shall end. An error once the log is closed.
    pub(super) fn advance(&mut self, bytes: u64) -> Result<bool> {
        if let Some(rate) = self.bytes_per_second {
            // Time that was not used is not made up for.
            self.due = self.due.max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        }
        loop {
            self.core.check_open()?;
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let left = self.due.saturating_duration_since(Instant::now());
            if left.is_zero() || self.bytes_per_second.is_none() {
                return Ok(true);
            }
            thread::sleep(left.min(NAP));
        }
    }
}
