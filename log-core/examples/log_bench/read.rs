//! `read dir= [what=batches|records] [passes=2]`: reads what the first writer of `append` left, with one thread, as often as asked. `records` also walks
//! over every record, with its key and value. The first pass is that of a log just opened: nothing is known yet of where its batches stand.

use std::time::Instant;

use log_core::{Log, LogOptions, Topic};

use crate::Failure;
use crate::arguments::Arguments;

/// Asked for at a time.
const READ_BYTES: usize = 1 << 20;

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let log = Log::open(&arguments.dir()?, LogOptions::default())?;
    let topic = log.topic("writer-0").ok_or("there is no topic writer-0: run append first")?;
    let records = arguments.word("what", "batches") == "records";
    for pass in 1..=arguments.number("passes", 2)? {
        let start = Instant::now();
        let (bytes, payload) = read(&topic, records)?;
        let name = if pass == 1 { "first_seconds" } else { "seconds" };
        println!("{name}={:.4}", start.elapsed().as_secs_f64());
        println!("batch_bytes={bytes}");
        println!("payload_bytes={payload}");
    }
    Ok(())
}

/// Bytes of the batches, and if asked for, of all keys and values.
pub fn read(topic: &Topic, records: bool) -> Result<(u64, u64), Failure> {
    let (mut bytes, mut payload, mut next) = (0, 0, 0);
    while next < topic.end_offset(0) {
        for batch in topic.read(0, next, READ_BYTES)? {
            bytes += batch.bytes().len() as u64;
            next = batch.next_offset();
            if records {
                for record in &batch.records()? {
                    let record = record?;
                    payload += (record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len())) as u64;
                }
            }
        }
    }
    Ok((bytes, payload))
}
