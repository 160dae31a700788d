//! What this process has used so far, from /proc.

use std::fs;

/// The kernel counts processor time in these (USER_HZ is 100 on every Linux that matters).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds of all threads, user and system.
pub fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which stands in parentheses and may hold anything, they are the 12th and 13th field.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// A figure of /proc/self/status in MiB: `VmRSS` is what is resident now, `VmHWM` the most that ever was.
pub fn memory_mib(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
