//! `partitions dir= [count=10000] [topics=1] [bytes=100]`: makes so many partitions, commits a record to each of them, then another one, and reads both
//! back. Prints how long each took, and what was resident then. Run again on the same directory it finds the topics as they are.

use std::time::Instant;

use bytes::Bytes;
use log_core::{CommitSet, Log, LogOptions, PartitionId, RecordBatchBuilder, Topic};

use crate::Failure;
use crate::arguments::Arguments;
use crate::process::memory_mib;
use crate::records::Records;

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let topics = arguments.number("topics", 1)?.max(1);
    let each = PartitionId::try_from(arguments.number("count", 10_000)? / topics)?;
    let mut stage = Stage::begin();
    let log = Log::open(&arguments.dir()?, LogOptions::default())?;
    stage.end("open");
    let names: Vec<String> = (0..topics).map(|number| format!("many-{number}")).collect();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), each)).collect();
    let topics = log.create_topics(&wanted, "many")?;
    stage.end("make");
    let pipeline = log.pipeline("many")?;
    let mut records = Records::new(arguments)?;
    let mut builder = RecordBatchBuilder::new(arguments.compression()?, 1_700_000_000_000);
    let mut set = || -> Result<CommitSet, Failure> {
        let mut batches = Vec::new();
        for topic in &topics {
            for partition in 0..each {
                batches.push((topic.clone(), partition, records.batch(&mut builder, 0)?.0));
            }
        }
        Ok(CommitSet { batches, position: Bytes::from_static(b"position") })
    };
    for name in ["first_commit", "second_commit"] {
        let set = set()?;
        stage.again();
        pipeline.commit(set)?;
        stage.end(name);
    }
    let read = topics.iter().map(|topic| read_all(topic, each)).sum::<Result<usize, _>>()?;
    stage.end("read");
    println!("records={read}");
    log.close()?;
    stage.end("close");
    Ok(())
}

fn read_all(topic: &Topic, partitions: PartitionId) -> Result<usize, Failure> {
    let mut records = 0;
    for partition in 0..partitions {
        let batches = topic.read(partition, topic.start_offset(partition), 1 << 20)?;
        records += batches.iter().map(|batch| batch.record_count()).sum::<usize>();
    }
    Ok(records)
}

/// Prints time and memory, part by part.
struct Stage(Instant);

impl Stage {
    fn begin() -> Self {
        Self(Instant::now())
    }

    fn again(&mut self) {
        self.0 = Instant::now();
    }

    fn end(&mut self, name: &str) {
        println!("{name}_seconds={:.4}", self.0.elapsed().as_secs_f64());
        println!("{name}_mib={:.1}", memory_mib("VmRSS"));
        self.again();
    }
}
