use std::process::ExitCode;

use log_core::Log;
use serde_json::json;

use crate::cli::TopicsArgs;

/// `mainstem topics`.
pub(crate) fn run(args: TopicsArgs) -> anyhow::Result<ExitCode> {
    let log = Log::open_read_only(&args.data.data_dir)?;
    let mut rows = Vec::new();
    for topic in log.topics() {
        let (mut records, mut bytes) = (0, 0);
        let starts: Vec<_> = (0..topic.partitions()).map(|partition| topic.start_offset(partition)).collect();
        for partition in 0..topic.partitions() {
            let backlog = topic.backlog(partition, topic.start_offset(partition))?;
            records += backlog.records;
            bytes += backlog.bytes;
        }
        rows.push(json!({
            "topic": topic.name(), "id": topic.id().to_string(), "pipeline": topic.pipeline(),
            "partitions": topic.partitions(), "records": records, "bytes": bytes,
            "start_offsets": starts, "end_offsets": topic.end_offsets(),
        }));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    let width = rows.iter().filter_map(|row| row["topic"].as_str()).map(str::len).max().unwrap_or(5).max(5);
    println!("{:width$} {:>10} {:>12} {:>14}", "TOPIC", "PARTITIONS", "RECORDS", "BYTES");
    for row in &rows {
        let name = row["topic"].as_str().unwrap_or_default();
        let [partitions, records, bytes] = ["partitions", "records", "bytes"].map(|column| row[column].to_string());
        println!("{name:width$} {partitions:>10} {records:>12} {bytes:>14}");
    }
    Ok(ExitCode::SUCCESS)
}
