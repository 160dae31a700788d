//! Measures the log alone: build, append and commit, read. For profiling, and for comparing settings on one machine.
//!
//! `append [DIR] [MB in all] [record bytes] [commit KiB] [none|lz4|zstd] [partitions]`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log_core::{CommitSet, Compression, EncodedBatch, Log, LogOptions, RecordBatchBuilder};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(|| std::env::temp_dir().join("mainstem-append"), PathBuf::from);
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse::<usize>());
    let total_bytes = number(1000)? << 20;
    let record_bytes = number(250)?;
    let commit_bytes = number(1024)? << 10;
    let compression = match args.next().as_deref() {
        Some("lz4") => Compression::Lz4,
        Some("zstd") => Compression::Zstd,
        _ => Compression::None,
    };
    let partitions = args.next().map_or(Ok(1), |text| text.parse::<i32>())?;

    std::fs::remove_dir_all(&dir).or_else(|error| if dir.exists() { Err(error) } else { Ok(()) })?;
    let log = Log::open(&dir, LogOptions::default())?;
    let topic = log.create_topic("bench", partitions, "bench")?;
    let pipeline = log.pipeline("bench")?;
    let value: Vec<u8> = (0..record_bytes as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();

    let mut builders: Vec<_> = (0..partitions).map(|_| RecordBatchBuilder::new(compression, 0)).collect();
    let (mut records, mut bytes) = (0u64, 0usize);
    let mut latencies = Vec::new();
    let (mut building, mut committing) = (Duration::ZERO, Duration::ZERO);
    while bytes < total_bytes {
        let start = Instant::now();
        let mut batches: Vec<(_, _, EncodedBatch)> = Vec::with_capacity(builders.len());
        for (partition, builder) in (0..).zip(&mut builders) {
            while builder.size_bytes() < commit_bytes / partitions as usize {
                builder.append(Some(&records.to_be_bytes()), Some(&value), &[])?;
                records += 1;
            }
            bytes += builder.size_bytes();
            batches.push((topic.clone(), partition, builder.finish()));
        }
        building += start.elapsed();
        let start = Instant::now();
        pipeline.commit(CommitSet { batches, position: Bytes::from_static(b"position") })?;
        latencies.push(start.elapsed());
        committing += start.elapsed();
    }
    let rate = |bytes: usize, time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    let per_record = |time: Duration| time.as_secs_f64() * 1e6 / records as f64;
    println!("records {records}, {} MB, commits {}", bytes / 1_000_000, latencies.len());
    println!("build   {:>8.0} MB/s  {:.3} us/record", rate(bytes, building), per_record(building));
    println!("commit  {:>8.0} MB/s  {:.3} us/record", rate(bytes, committing), per_record(committing));
    latencies.sort_unstable();
    let quantile = |part: usize| latencies.get(latencies.len() * part / 1000).copied().unwrap_or_default();
    println!("commit  p50 {:?}  p99 {:?}  max {:?}", quantile(500), quantile(990), quantile(999));

    let start = Instant::now();
    let mut batch_bytes = 0;
    for partition in 0..partitions {
        let mut next = 0;
        while next < topic.end_offset(partition) {
            for batch in topic.read(partition, next, 1 << 20)? {
                batch_bytes += batch.bytes().len();
                next = batch.next_offset();
            }
        }
    }
    println!("read    {:>8.0} MB/s  batches", rate(batch_bytes, start.elapsed()));

    let start = Instant::now();
    let mut seen = 0;
    for partition in 0..partitions {
        let mut next = 0;
        while next < topic.end_offset(partition) {
            for batch in topic.read(partition, next, 1 << 20)? {
                for record in &batch.records()? {
                    seen += u64::from(record?.value.is_some());
                }
                next = batch.next_offset();
            }
        }
    }
    assert_eq!(seen, records);
    println!("read    {:>8.0} MB/s  {:.3} us/record", rate(bytes, start.elapsed()), per_record(start.elapsed()));

    let start = Instant::now();
    log.close()?;
    println!("close   {:?}", start.elapsed());
    drop((pipeline, log));
    let start = Instant::now();
    Log::open(&dir, LogOptions::default())?;
    println!("open    {:?}", start.elapsed());
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
