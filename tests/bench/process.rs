//! Time, processor time and memory of a process, from /proc: no library, the same for every program that is measured.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The kernel counts processor time in these (USER_HZ is 100 on every Linux that matters).
const TICKS_PER_SECOND: f64 = 100.0;

/// What one run took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall: f64,
    /// Processor seconds of the client.
    pub client: f64,
    /// Processor seconds of the server and all its processes.
    pub server: f64,
    /// The client's peak resident memory in MiB.
    pub peak_mib: f64,
    /// Of a PostgreSQL server's process that sends its log: seconds that it ran, and that it could have run but for other processes. The rest of the
    /// time it waited, for room in the socket above all.
    pub sender: (f64, f64),
}

/// A process id's processor seconds; with those of children that it has waited for, if asked.
pub fn cpu_seconds(pid: u32, with_children: bool) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |i: usize| fields.get(i).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let own = field(11) + field(12);
    (if with_children { own + field(13) + field(14) } else { own }) / TICKS_PER_SECOND
}

fn state(pid: u32) -> char {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next()).unwrap_or('X')
}

/// A figure of /proc/PID/status in MiB.
pub fn memory_mib(pid: u32, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Processor seconds of a server: its first process, that one's ended children, and the living ones.
pub fn server_seconds(postmaster: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
    let living: f64 = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(|pid| cpu_seconds(pid, true)).sum();
    cpu_seconds(postmaster, true) + living
}

/// The process of a PostgreSQL server that sends its log to a client, if there is one.
fn sender(postmaster: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
    let is_sender = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("walsender"));
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_sender)
}

/// Seconds that a process ran, and that it waited for a processor.
fn scheduled(pid: u32) -> Option<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let mut nanos = text.split_whitespace().map_while(|number| number.parse::<f64>().ok());
    Some((nanos.next()? / 1e9, nanos.next()? / 1e9))
}

/// Runs commands at the same time to their ends. Panics with what they printed if one fails.
pub fn run(commands: Vec<Command>, postmaster: u32) -> Cost {
    let server = server_seconds(postmaster);
    let start = Instant::now();
    let mut children: Vec<Child> = commands
        .into_iter()
        .map(|mut command| {
            let error = format!("{command:?}");
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|e| panic!("{error}: {e}"))
        })
        .collect();
    let readers: Vec<_> = children
        .iter_mut()
        .map(|child| {
            let mut stderr = child.stderr.take();
            thread::spawn(move || {
                let mut text = String::new();
                if let Some(stderr) = &mut stderr {
                    let _ = std::io::Read::read_to_string(stderr, &mut text);
                }
                text
            })
        })
        .collect();
    let mut cost = Cost::default();
    let mut peaks = vec![0.0_f64; children.len()];
    let mut ends = vec![None; children.len()];
    let mut sends = None;
    // A process that has ended keeps its times until it is waited for.
    while ends.iter().any(Option::is_none) {
        for (i, child) in children.iter().enumerate() {
            if ends[i].is_none() {
                peaks[i] = peaks[i].max(memory_mib(child.id(), "VmHWM"));
                if state(child.id()) == 'Z' {
                    ends[i] = Some(start.elapsed().as_secs_f64());
                    cost.client += cpu_seconds(child.id(), true);
                }
            }
        }
        // The first one may be of a connection that only asks for something.
        sends = sends.filter(|&pid| state(pid) != 'X').or_else(|| sender(postmaster));
        cost.sender = sends.and_then(scheduled).unwrap_or(cost.sender);
        thread::sleep(Duration::from_millis(5));
    }
    cost.wall = ends.into_iter().flatten().fold(0.0, f64::max);
    cost.peak_mib = peaks.iter().sum();
    for (mut child, reader) in children.into_iter().zip(readers) {
        let status = child.wait().expect("wait");
        let text = reader.join().unwrap_or_default();
        assert!(status.success(), "{status}: {text}");
    }
    cost.server = server_seconds(postmaster) - server;
    cost
}
