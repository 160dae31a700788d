use std::{
    collections::BTreeMap,
    io::{BufWriter, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use formats::Decoder;
use log_core::{Log, Topic};

use crate::{
    cli::ReadArgs,
    commands::{WrongInput, find_topic},
    registry::LogRegistry,
    topic_reader::present_headers,
};

const READ_BYTES: usize = 1 << 20;
/// How often `--follow` looks for commits of the process that writes.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// `mainstem read`: one JSON object a line: topic, partition, offset, time of appending, and the event.
pub(crate) async fn run(args: ReadArgs) -> anyhow::Result<ExitCode> {
    let log = Log::open_read_only(&args.data.data_dir)?;
    let topic = find_topic(&log, &args.topic)?;
    let wanted = |partition: &i32| args.partition.is_none_or(|wanted| wanted == *partition);
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for partition in (0..topic.partitions()).filter(wanted) {
        let from = match &args.since {
            Some(since) => {
                let end = topic.end_offset(partition);
                topic.offset_for_time(partition, since.ms())?.unwrap_or(end)
            }
            None => args.from.unwrap_or(0).max(topic.start_offset(partition)),
        };
        next.insert(partition, from);
    }
    if next.is_empty() {
        return Err(WrongInput(format!("topic `{}` has {} partitions, numbered from 0", args.topic, topic.partitions())).into());
    }
    let mut out = BufWriter::new(std::io::stdout());
    loop {
        for (partition, next) in &mut next {
            print_partition(&log, &topic, *partition, next, &mut out)?;
        }
        out.flush()?;
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        log.refresh()?;
    }
}

fn print_partition(log: &Log, topic: &Topic, partition: i32, next: &mut i64, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let mut decoder = Decoder::new(Arc::new(LogRegistry(log.clone())));
    let end = topic.end_offset(partition);
    while *next < end {
        let mut times = BTreeMap::new();
        for batch in topic.read(partition, *next, READ_BYTES)? {
            for record in batch.records()?.iter() {
                let record = record?;
                if record.offset >= *next && record.offset < end {
                    times.insert(record.offset, record.timestamp_ms);
                    decoder.push(record.offset, record.key, record.value, present_headers(&record))?;
                }
            }
            *next = (*next).max(batch.next_offset().min(end));
        }
        for decoded in decoder.finish()? {
            for (row, offset) in decoded.offsets.iter().enumerate() {
                let event = formats::read_json(&decoded.batch, row);
                let time = times.get(offset).copied().unwrap_or(0);
                let name = topic.name();
                write!(out, "{{\"topic\":\"{name}\",\"partition\":{partition},\"offset\":{offset},")?;
                writeln!(out, "\"timestamp_ms\":{time},\"event\":{event}}}")?;
            }
        }
    }
    Ok(())
}
