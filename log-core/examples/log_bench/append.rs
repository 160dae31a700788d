//! `append dir= [writers=1] [mb=1000] [commit_kib=256] [batch_kib=256] [bytes=1000] [keys=yes] [codec=none] [build=no] [group=0]`: appends `mb` with as many
//! threads, each with a pipeline, a journal and a topic of its own, and closes the log.
//!
//! The time counts from each writer's second commit until the log is closed, so that all bytes are in their segments and synced there too. Batches are made
//! before it begins, and copied for each commit, unless `build=yes`: then each is built of its records as it goes. `records` and `batches` are all there are.
//!
//! With `group=N` a second thread of each writer commits what the first one has made meanwhile, at most N batches at a time, as the runtime does.

use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{iter, thread};

use bytes::Bytes;
use log_core::{CommitSet, EncodedBatch, Log, LogOptions, PipelineLog, RecordBatchBuilder, Topic};

use crate::Failure;
use crate::arguments::Arguments;
use crate::process::cpu_seconds;
use crate::records::Records;

/// Batches made beforehand; more than fit a processor's cache.
const PREPARED: usize = 64;

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let count = arguments.number("writers", 1)?.max(1);
    let each = arguments.number("mb", 1000)? * 1_000_000 / count;
    let log = Log::open(&arguments.dir()?, LogOptions::default())?;
    let mut writers = (0..count).map(|number| Writer::new(&log, number, arguments)).collect::<Result<Vec<_>, _>>()?;
    // The first commit of a topic makes its directories.
    let mut before = Written::default();
    writers.iter_mut().try_for_each(|writer| writer.commit(&mut before))?;
    let cpu_before = cpu_seconds();
    let start = Instant::now();
    let written = thread::scope(|scope| {
        let threads: Vec<_> = writers.into_iter().map(|writer| scope.spawn(move || writer.write(each))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a writer panicked")?).collect::<Result<Vec<_>, Failure>>()
    })?;
    let committed = start.elapsed();
    log.close()?;
    println!("seconds={:.4}", start.elapsed().as_secs_f64());
    println!("close_seconds={:.4}", (start.elapsed() - committed).as_secs_f64());
    println!("run_cpu_seconds={:.2}", cpu_seconds() - cpu_before);
    println!("committed_bytes={}", written.iter().map(|written| written.bytes).sum::<u64>());
    println!("records={}", written.iter().map(|written| written.records).sum::<u64>() + before.records);
    println!("batches={}", written.iter().map(|written| written.batches).sum::<u64>() + before.batches);
    let mut latencies: Vec<_> = written.into_iter().flat_map(|written| written.latencies).collect();
    latencies.sort_unstable();
    println!("commits={}", latencies.len());
    for (name, part) in [("p50_us", 500), ("p99_us", 990), ("max_us", 1000)] {
        let at = (latencies.len() * part / 1000).min(latencies.len().saturating_sub(1));
        println!("{name}={}", latencies.get(at).map_or(0, Duration::as_micros));
    }
    Ok(())
}

/// What a writer did.
#[derive(Default)]
struct Written {
    bytes: u64,
    records: u64,
    batches: u64,
    latencies: Vec<Duration>,
}

/// One thread's part.
pub struct Writer {
    pipeline: PipelineLog,
    topic: Topic,
    records: Records,
    builder: RecordBatchBuilder,
    batch_bytes: usize,
    batches_a_commit: usize,
    /// None if they are to be built.
    prepared: Vec<EncodedBatch>,
    next: usize,
    group: usize,
}

impl Writer {
    /// The writer with this number; its pipeline and its topic are made if there are none.
    pub fn new(log: &Log, number: u64, arguments: &Arguments) -> Result<Self, Failure> {
        let name = format!("writer-{number}");
        let topic = log.create_topic(&name, 1, &name)?;
        let mut records = Records::new(arguments)?;
        let mut builder = RecordBatchBuilder::new(arguments.compression()?, 1_700_000_000_000);
        let batch_bytes = arguments.kib("batch_kib", 256)?;
        let batches_a_commit = (arguments.kib("commit_kib", 256)? / batch_bytes).max(1);
        let mut prepared = Vec::new();
        if arguments.word("build", "no") == "no" {
            for _ in 0..PREPARED {
                prepared.push(records.batch(&mut builder, batch_bytes)?.0);
            }
        }
        let group = usize::try_from(arguments.number("group", 0)?)?;
        Ok(Self {
            pipeline: log.pipeline(&name)?,
            topic,
            records,
            builder,
            batch_bytes,
            batches_a_commit,
            prepared,
            next: 0,
            group,
        })
    }

    /// The committed end of its topic.
    pub fn end(&self) -> i64 {
        self.topic.end_offset(0)
    }

    fn write(mut self, bytes: u64) -> Result<Written, Failure> {
        if self.group > 0 {
            return self.write_in_groups(bytes);
        }
        let mut written = Written::default();
        while written.bytes < bytes {
            self.commit(&mut written)?;
        }
        Ok(written)
    }

    fn write_in_groups(mut self, bytes: u64) -> Result<Written, Failure> {
        let (made, waiting) = mpsc::sync_channel(self.group);
        thread::scope(|scope| {
            let (pipeline, topic, group) = (&self.pipeline, &self.topic, self.group);
            let committer = scope.spawn(move || {
                let mut written = Written::default();
                while let Ok(first) = waiting.recv() {
                    let batches: Vec<EncodedBatch> = iter::once(first).chain(waiting.try_iter().take(group - 1)).collect();
                    commit(pipeline, topic, batches, &mut written)?;
                }
                Ok::<_, Failure>(written)
            });
            let mut sent = 0;
            while sent < bytes {
                let batch = next_batch(&mut self.records, &mut self.builder, &self.prepared, &mut self.next, self.batch_bytes)?;
                sent += batch.size_bytes() as u64;
                // Where the other thread has failed, it says why.
                if made.send(batch).is_err() {
                    break;
                }
            }
            drop(made);
            committer.join().map_err(|_| "a writer panicked")?
        })
    }

    /// Commits batches of `bytes` or a little more in all.
    pub fn append(&mut self, bytes: u64) -> Result<(), Failure> {
        let mut written = Written::default();
        while written.bytes < bytes {
            self.commit(&mut written)?;
        }
        Ok(())
    }

    fn commit(&mut self, written: &mut Written) -> Result<(), Failure> {
        let mut batches = Vec::with_capacity(self.batches_a_commit);
        for _ in 0..self.batches_a_commit {
            batches.push(next_batch(&mut self.records, &mut self.builder, &self.prepared, &mut self.next, self.batch_bytes)?);
        }
        commit(&self.pipeline, &self.topic, batches, written)
    }
}

fn next_batch(
    records: &mut Records,
    builder: &mut RecordBatchBuilder,
    prepared: &[EncodedBatch],
    next: &mut usize,
    bytes: usize,
) -> Result<EncodedBatch, Failure> {
    let number = *next;
    *next += 1;
    match prepared.len() {
        0 => Ok(records.batch(builder, bytes)?.0),
        count => Ok(prepared[number % count].clone()),
    }
}

fn commit(pipeline: &PipelineLog, topic: &Topic, batches: Vec<EncodedBatch>, written: &mut Written) -> Result<(), Failure> {
    for batch in &batches {
        written.bytes += batch.size_bytes() as u64;
        written.records += batch.record_count() as u64;
        written.batches += 1;
    }
    let batches = batches.into_iter().map(|batch| (topic.clone(), 0, batch)).collect();
    let start = Instant::now();
    pipeline.commit(CommitSet { batches, position: Bytes::from_static(b"position") })?;
    written.latencies.push(start.elapsed());
    Ok(())
}
