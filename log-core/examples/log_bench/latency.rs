//! `latency dir= [partitions=1] [rate=1000] [commits=10000] [bytes=100] [journal_mib=64]`: commits of one record for each partition, so many a second.
//!
//! `bare dir= …`, with the same settings: the bytes of the same batches, with one `write` to a file that grows and one `fdatasync`.
//!
//! A call's time is that from the call to its return. Beside it stands the time from when the call was due, which also holds what calls before it made
//! it wait for. What is written is made before it is due.

use std::fs::File;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log_core::{CommitSet, EncodedBatch, Log, LogOptions, RecordBatchBuilder};

use crate::Failure;
use crate::arguments::Arguments;
use crate::records::Records;

pub fn commits(arguments: &Arguments) -> Result<(), Failure> {
    let batches = batches(arguments)?;
    let options = LogOptions { journal_bytes: arguments.number("journal_mib", 64)? << 20, ..LogOptions::default() };
    let log = Log::open(&arguments.dir()?, options)?;
    let topic = log.create_topic("latency", i32::try_from(batches.len())?, "latency")?;
    let pipeline = log.pipeline("latency")?;
    let set = || CommitSet {
        batches: (0..).zip(&batches).map(|(partition, batch)| (topic.clone(), partition, batch.clone())).collect(),
        position: Bytes::from_static(b"position"),
    };
    // Files and directories are there before the clock starts: of every partition but the first time, a commit makes none.
    pipeline.commit(set())?;
    at_rate(arguments, set, |set| Ok(pipeline.commit(set).map(|_| ())?))
}

pub fn bare_writes(arguments: &Arguments) -> Result<(), Failure> {
    let bytes: Vec<u8> = batches(arguments)?.iter().flat_map(|batch| batch.bytes().to_vec()).collect();
    println!("commit_bytes={}", bytes.len());
    std::fs::create_dir_all(arguments.dir()?)?;
    let mut file = File::create(arguments.dir()?.join("bare"))?;
    let mut write = |()| {
        file.write_all(&bytes)?;
        Ok(file.sync_data()?)
    };
    write(())?;
    at_rate(arguments, || (), write)
}

/// One record for each partition, of half to one and a half times `bytes=`: of equal ones, the segments of all partitions would come to the end of
/// a page in the same commit.
fn batches(arguments: &Arguments) -> Result<Vec<EncodedBatch>, Failure> {
    let bytes = arguments.number("bytes", 1000)? as usize;
    let partitions = arguments.number("partitions", 1)? as usize;
    let mut records = Records::sized(bytes * 3 / 2, true);
    let mut builder = RecordBatchBuilder::new(arguments.compression()?, 1_700_000_000_000);
    let size = |partition: usize| bytes / 2 + (bytes / 2 + partition * 37) % (bytes + 1);
    (0..partitions).map(|partition| records.short_one(&mut builder, size(partition))).collect()
}

/// Calls `act` at the rate, with what `prepare` made before each call is due, and prints how long it took.
fn at_rate<T>(
    arguments: &Arguments,
    mut prepare: impl FnMut() -> T,
    mut act: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let period = Duration::from_secs(1) / u32::try_from(arguments.number("rate", 1000)?.max(1))?;
    let calls = u32::try_from(arguments.number("commits", 10_000)?)?;
    let (mut in_call, mut since_due) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for call in 0..calls {
        let due = start + period * call;
        let prepared = prepare();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        act(prepared)?;
        in_call.push(began.elapsed());
        since_due.push(due.elapsed());
    }
    println!("seconds={:.3}", start.elapsed().as_secs_f64());
    for (prefix, mut times) in [("", in_call), ("due_", since_due)] {
        times.sort_unstable();
        for (name, part) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999), ("max", 1000)] {
            let at = (times.len() * part / 1000).min(times.len().saturating_sub(1));
            println!("{prefix}{name}_us={}", times.get(at).map_or(0, Duration::as_micros));
        }
    }
    Ok(())
}
