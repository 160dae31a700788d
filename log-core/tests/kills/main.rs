//! `LOG-CRASH-01`: a process that writes is killed, five hundred times. What it was told to be committed is there, and of what it was not, all or
//! nothing.
//!
//! A program of its own: a process that is just being started holds copies of all open files for a moment, and with them the locks of the data
//! directories of other tests.

#[allow(dead_code, reason = "the other test program uses the rest")]
#[path = "../log/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use log_core::{Log, LogOptions, PipelineLog};

use support::{batch, commit, contents, temp_dir};

const KILLS: u64 = 500;
/// Kills that one log has to bear before the next one begins.
const KILLS_OF_A_LOG: u64 = 10;
const PIPELINES: [&str; 3] = ["p0", "p1", "p2"];
const PARTITIONS: i32 = 3;

/// Where the process that is killed finds its log, and what its random numbers begin with.
const DIRECTORY: &str = "MAINSTEM_KILLS_DIRECTORY";
const SEED: &str = "MAINSTEM_KILLS_SEED";

/// Segments and journals so small that they are followed by others all the time.
fn small_files() -> LogOptions {
    LogOptions { segment_bytes: 1 << 20, journal_bytes: 256 << 10, ..LogOptions::default() }
}

/// xorshift64*, <https://doi.org/10.1145/2845077>: what matters is that a run can be repeated.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// Commits records that say which commit they belong to, and how many there are of it; most commits are small, some are too large for the journal.
fn commit_one(log: &Log, pipeline: &PipelineLog, random: &mut Random) -> u64 {
    let sequence = pipeline.next_sequence();
    let topic = log.topic(pipeline.name()).expect("the topic");
    let count = 1 + random.below(5);
    let mut values = BTreeMap::<i32, Vec<Vec<u8>>>::new();
    for index in 0..count {
        let padding = if random.below(30) == 0 { random.below(200_000) } else { random.below(300) };
        let mut value = format!("{sequence}/{index}/{count}/").into_bytes();
        value.resize(value.len() + padding as usize, b'.');
        values.entry(random.below(PARTITIONS as u64) as i32).or_default().push(value);
    }
    let batches = values.into_iter().map(|(partition, values)| (topic.clone(), partition, batch(&values))).collect();
    let committed = commit(pipeline, &format!("{}:{sequence}", pipeline.name()), batches);
    assert_eq!(committed, sequence);
    committed
}

/// Writes to all pipelines at the same time, and tells of each commit, until `until`.
fn write(dir: &Path, seed: u64, until: Instant, told: impl Fn(&str, u64) + Sync) {
    let log = Log::open(dir, small_files()).expect("the log opens");
    thread::scope(|scope| {
        for (number, name) in PIPELINES.into_iter().enumerate() {
            let (log, told) = (&log, &told);
            scope.spawn(move || {
                let mut random = Random::new(seed * 8 + number as u64);
                if log.topic(name).is_none() {
                    log.create_topic(name, PARTITIONS, name).expect("a topic");
                }
                let pipeline = log.pipeline(name).expect("the pipeline's journal");
                while Instant::now() < until {
                    told(name, commit_one(log, &pipeline, &mut random));
                }
            });
        }
    });
}

/// Checks a log in which each pipeline was told of `told` commits.
fn check(dir: &Path, told: &BTreeMap<String, u64>, what: &str) {
    let log = Log::open(dir, small_files()).unwrap_or_else(|error| panic!("{what}: {error}"));
    for name in PIPELINES {
        let found = contents(&log, name).unwrap_or_else(|error| panic!("{what}: {error}"));
        let told = told.get(name).copied().unwrap_or(0);
        let (last, position) = found.position.unwrap_or_default();
        // It may have been killed between the commit and telling of it.
        assert!(last == told || last == told + 1, "{what}, {name}: told of {told} commits, found {last}");
        assert!(
            last == 0 || position == format!("{name}:{last}").into_bytes(),
            "{what}, {name}: {}",
            String::from_utf8_lossy(&position)
        );
        let mut records = vec![(0, 0); last as usize + 1];
        for ((_, partition), values) in &found.records {
            let mut before = 0;
            for value in values {
                let text = String::from_utf8_lossy(value);
                let mut numbers = text.split('/').map_while(|number| number.parse::<u64>().ok());
                let [sequence, _, count] = [(); 3].map(|()| numbers.next().expect("three numbers"));
                assert!((before..=last).contains(&sequence), "{what}, {name}/{partition}: {sequence} after {before}, of {last}");
                before = sequence;
                let (seen, wanted) = &mut records[sequence as usize];
                (*seen, *wanted) = (*seen + 1, count);
            }
        }
        let partial = (1..=last)
            .find(|&sequence| records[sequence as usize].0 != records[sequence as usize].1 || records[sequence as usize].0 == 0);
        assert_eq!(partial, None, "{what}, {name}: a commit that is not whole, of {last}");
    }
}

/// The process that is killed.
fn write_until_killed(dir: &Path) {
    let seed = std::env::var(SEED).expect("a seed").parse().expect("a number");
    write(dir, seed, Instant::now() + Duration::from_secs(120), |name, sequence| {
        // Past the test harness, which keeps what tests print.
        let line = format!("committed {name} {sequence}\n");
        std::io::stdout().write_all(line.as_bytes()).expect("standard output");
    });
}

/// A failure names the kill; MAINSTEM_KILLS_FIRST begins with another one.
#[test]
fn log_crash_01_five_hundred_kills_lose_nothing_that_was_committed() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return write_until_killed(Path::new(&dir));
    }
    let first = std::env::var("MAINSTEM_KILLS_FIRST").map_or(0, |first| first.parse().expect("a number"));
    let mut dir = temp_dir();
    let mut told = BTreeMap::new();
    for kill in first..first + KILLS {
        if kill % KILLS_OF_A_LOG == 0 {
            dir = temp_dir();
            told = BTreeMap::new();
        }
        let mut writer = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "log_crash_01_five_hundred_kills_lose_nothing_that_was_committed", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .env(SEED, kill.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the writer");
        let lines = BufReader::new(writer.stdout.take().expect("its output")).lines();
        let (wrote, has_written) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut told = Vec::new();
            for line in lines.map_while(Result::ok) {
                if let Some((name, sequence)) = line.strip_prefix("committed ").and_then(|rest| rest.split_once(' ')) {
                    told.push((name.to_owned(), sequence.parse::<u64>().expect("a number")));
                    // Nobody may listen any more.
                    let _ = wrote.send(());
                }
            }
            told
        });
        // Every second one while it writes, however slow the machine is; the others also before the log is open, and within its recovery.
        if kill % 2 == 1 {
            has_written.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("kill {kill}: nothing was committed"));
        }
        thread::sleep(Duration::from_micros(Random::new(kill).below(20_000)));
        writer.kill().expect("kill");
        let status = writer.wait().expect("wait");
        assert!(!status.success() && status.code().is_none(), "the writer ended by itself: {status}");
        told.extend(reader.join().expect("the reader"));
        check(dir.path(), &told, &format!("kill {kill}"));
        // What was not told of may have been committed.
        let log = Log::open_read_only(dir.path()).expect("the log");
        told = PIPELINES.iter().filter_map(|name| Some(((*name).to_owned(), log.position(name)?.sequence))).collect();
    }
}
