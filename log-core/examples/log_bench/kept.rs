//! `kept dir= [codec=none] [bytes=1000] [mb=200] [batch_kib=256] [commit_kib=4096]`: builds and commits `mb` of keys and values, closes the log and reads
//! all records again. Prints the times for building the batches and for reading their records; how much there is on the disk is for the caller to see.

use std::time::{Duration, Instant};

use bytes::Bytes;
use log_core::{CommitSet, Log, LogOptions, RecordBatchBuilder};

use crate::Failure;
use crate::arguments::Arguments;
use crate::read;
use crate::records::Records;

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let dir = arguments.dir()?;
    let wanted = arguments.number("mb", 200)? * 1_000_000;
    let batch_bytes = arguments.kib("batch_kib", 256)?;
    let batches_a_commit = (arguments.kib("commit_kib", 4096)? / batch_bytes.max(1)).max(1);
    let mut records = Records::new(arguments)?;
    let mut builder = RecordBatchBuilder::new(arguments.compression()?, 1_700_000_000_000);
    let log = Log::open(&dir, LogOptions::default())?;
    let topic = log.create_topic("kept", 1, "kept")?;
    let pipeline = log.pipeline("kept")?;
    let (mut payload, mut count, mut building) = (0, 0, Duration::ZERO);
    while payload < wanted {
        let mut batches = Vec::new();
        let start = Instant::now();
        for _ in 0..batches_a_commit {
            let (batch, bytes) = records.batch(&mut builder, batch_bytes)?;
            payload += bytes as u64;
            count += batch.record_count();
            batches.push((topic.clone(), 0, batch));
        }
        building += start.elapsed();
        pipeline.commit(CommitSet { batches, position: Bytes::from_static(b"position") })?;
    }
    log.close()?;
    // The first time, pages that were just written may still be on their way.
    read::read(&topic, true)?;
    let start = Instant::now();
    let (bytes, found) = read::read(&topic, true)?;
    let reading = start.elapsed();
    if found != payload {
        return Err(format!("{payload} bytes were written and {found} read").into());
    }
    println!("payload_bytes={payload}");
    println!("batch_bytes={bytes}");
    println!("records={count}");
    println!("build_seconds={:.4}", building.as_secs_f64());
    println!("read_seconds={:.4}", reading.as_secs_f64());
    Ok(())
}
