//! `mainstem log groups`: how far the readers of all topics have come.

use std::process::ExitCode;

use log_core::{Log, Offset, PartitionId, Topic};
use serde::Serialize;

use crate::{
    cli::GroupsArgs,
    commands::{WrongInput, status::human},
    ingest::clock_us,
};

/// How far a group has come in a partition.
#[derive(Debug, Serialize)]
pub(super) struct GroupLag {
    pub group: String,
    pub topic: String,
    pub partition: PartitionId,
    /// The first offset that it needs.
    pub next_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    pub lag_records: u64,
    pub lag_bytes: u64,
    /// Age of the oldest record that it lacks.
    pub lag_seconds: f64,
}

/// How far groups have come in a partition that they reported of.
pub(super) fn lags(log: &Log, topic: &Topic, partition: PartitionId) -> anyhow::Result<Vec<GroupLag>> {
    let mut lags = Vec::new();
    for group in log.offsets().groups() {
        let Some(&next_offset) = log.offsets().get(&group, topic.id()).get(&partition) else { continue };
        let backlog = topic.backlog(partition, next_offset)?;
        let behind_ms = backlog.oldest_timestamp_ms.map_or(0, |oldest| (clock_us() / 1000).saturating_sub(oldest).max(0));
        lags.push(GroupLag {
            group,
            topic: topic.name().to_owned(),
            partition,
            next_offset,
            end_offset: topic.end_offset(partition),
            lag_records: backlog.records,
            lag_bytes: backlog.bytes,
            lag_seconds: behind_ms as f64 / 1000.0,
        });
    }
    Ok(lags)
}

/// `mainstem log groups`.
pub(super) fn run(args: &GroupsArgs) -> anyhow::Result<ExitCode> {
    let log = Log::open_read_only(&args.data.data_dir)?;
    let groups = log.offsets().groups();
    if let Some(wanted) = args.group.as_ref().filter(|wanted| !groups.contains(wanted)) {
        return Err(WrongInput(format!("there is no group `{wanted}`; there are: {}", groups.join(", "))).into());
    }
    let mut found = Vec::new();
    for topic in log.topics() {
        for partition in 0..topic.partitions() {
            found.extend(lags(&log, &topic, partition)?);
        }
    }
    found.retain(|lag| args.group.as_ref().is_none_or(|wanted| *wanted == lag.group));
    found.sort_by(|a, b| (&a.group, &a.topic, a.partition).cmp(&(&b.group, &b.topic, b.partition)));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print(&found);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(lags: &[GroupLag]) {
    let width = |name: fn(&GroupLag) -> &str, least: usize| lags.iter().map(|lag| name(lag).len()).max().unwrap_or(0).max(least);
    let (group, topic) = (width(|lag| &lag.group, 5), width(|lag| &lag.topic, 5));
    println!(
        "{:group$} {:topic$} {:>9} {:>12} {:>12} {:>12} {:>12} {:>10}",
        "GROUP", "TOPIC", "PARTITION", "NEXT", "END", "RECORDS", "BYTES", "SECONDS"
    );
    for lag in lags {
        let GroupLag { partition, next_offset, end_offset, lag_records, lag_seconds, .. } = lag;
        let bytes = human(lag.lag_bytes);
        println!(
            "{:group$} {:topic$} {partition:>9} {next_offset:>12} {end_offset:>12} {lag_records:>12} {bytes:>12} {lag_seconds:>10.1}",
            lag.group, lag.topic
        );
    }
}
