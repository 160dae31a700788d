use std::process::ExitCode;

use log_core::{Log, Offset, SegmentDescription, Topic};
use serde::Serialize;

use super::{
    groups::{self, GroupLag},
    time,
};
use crate::{
    cli::DescribeArgs,
    commands::{find_topic, status::human},
};

#[derive(Debug, Serialize)]
struct TopicReport {
    topic: String,
    id: String,
    pipeline: String,
    partitions: Vec<PartitionReport>,
}

#[derive(Debug, Serialize)]
struct PartitionReport {
    partition: i32,
    start_offset: Offset,
    /// Exclusive.
    end_offset: Offset,
    bytes: u64,
    segments: Vec<SegmentReport>,
    groups: Vec<GroupLag>,
}

#[derive(Debug, Serialize)]
struct SegmentReport {
    base_offset: Offset,
    /// Exclusive.
    end_offset: Offset,
    bytes: u64,
    first_timestamp_ms: i64,
    last_timestamp_ms: i64,
    compacted: bool,
}

/// `mainstem log describe`.
pub(super) fn run(args: &DescribeArgs) -> anyhow::Result<ExitCode> {
    let log = Log::open_read_only(&args.data.data_dir)?;
    let topic = find_topic(&log, &args.topic)?;
    let partitions = (0..topic.partitions()).map(|partition| describe(&log, &topic, partition));
    let report = TopicReport {
        topic: topic.name().to_owned(),
        id: topic.id().to_string(),
        pipeline: topic.pipeline().to_owned(),
        partitions: partitions.collect::<anyhow::Result<_>>()?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(log: &Log, topic: &Topic, partition: i32) -> anyhow::Result<PartitionReport> {
    let segments: Vec<_> = topic.segments(partition)?.into_iter().map(SegmentReport::from).collect();
    Ok(PartitionReport {
        partition,
        start_offset: topic.start_offset(partition),
        end_offset: topic.end_offset(partition),
        bytes: segments.iter().map(|segment| segment.bytes).sum(),
        segments,
        groups: groups::lags(log, topic, partition)?,
    })
}

impl From<SegmentDescription> for SegmentReport {
    fn from(segment: SegmentDescription) -> Self {
        let SegmentDescription { base_offset, end_offset, bytes, first_timestamp_ms, last_timestamp_ms, compacted } = segment;
        Self { base_offset, end_offset, bytes, first_timestamp_ms, last_timestamp_ms, compacted }
    }
}

fn print(report: &TopicReport) {
    println!("{}: id {}, pipeline {}, {} partitions", report.topic, report.id, report.pipeline, report.partitions.len());
    for partition in &report.partitions {
        let (number, start, end) = (partition.partition, partition.start_offset, partition.end_offset);
        println!("  partition {number}: offsets {start} to {end} (exclusive), {}", human(partition.bytes));
        for segment in &partition.segments {
            let (first, last) = (time(segment.first_timestamp_ms), time(segment.last_timestamp_ms));
            let compacted = if segment.compacted { ", compacted" } else { "" };
            println!("    segment {:020}: {}, {first} to {last}{compacted}", segment.base_offset, human(segment.bytes));
        }
        for group in &partition.groups {
            println!(
                "    group {}: needs offset {} next, behind by {} records, {}, {:.1} s",
                group.group,
                group.next_offset,
                group.lag_records,
                human(group.lag_bytes),
                group.lag_seconds
            );
        }
    }
}
