use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use connector_api::{ByteSize, SourcePosition};
use log_core::Log;
use serde::Serialize;

use crate::{
    Connectors,
    cli::StatusArgs,
    commands::{WrongInput, environment},
    definition::{self, Pipeline, fits},
    ingest::clock_us,
};

/// A source is asked for what it keeps at most this long.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);
/// A source that keeps more than this is worth a warning.
const RETAINED_WARNING: u64 = 1 << 30;

#[derive(Debug, Serialize)]
struct PipelineStatus {
    pipeline: String,
    sequence: Option<u64>,
    position: BTreeMap<String, String>,
    retained_bytes: Option<u64>,
    warning: Option<String>,
    sinks: Vec<SinkLag>,
}

#[derive(Debug, Serialize)]
struct SinkLag {
    sink: String,
    topics: usize,
    lag_records: u64,
    lag_bytes: u64,
    lag_seconds: f64,
}

/// `mainstem status`: from the data directory alone, or with pipeline files also from the sources.
pub(crate) async fn run(args: StatusArgs, connectors: Connectors) -> anyhow::Result<ExitCode> {
    if !args.data.data_dir.exists() {
        return Err(WrongInput(format!("{} does not exist: name the folder with --data-dir", args.data.data_dir.display())).into());
    }
    let log = Log::open_read_only(&args.data.data_dir)?;
    let pipelines = if args.files.is_empty() { Vec::new() } else { definition::load(&args.files, &connectors, &environment())? };
    let positions: BTreeMap<_, _> =
        log.pipelines().into_iter().filter_map(|name| Some((name.clone(), log.position(&name)?))).collect();
    let groups = log.offsets().groups();
    let mut names: Vec<String> = positions.keys().cloned().chain(pipelines.iter().map(|pipeline| pipeline.name.clone())).collect();
    names.extend(groups.iter().filter_map(|group| group.split_once('/')).map(|(pipeline, _)| pipeline.to_owned()));
    names.sort();
    names.dedup();
    let mut all = Vec::new();
    for name in names {
        let pipeline = pipelines.iter().find(|pipeline| pipeline.name == name);
        let stored = positions.get(&name);
        let position = stored.map(|stored| SourcePosition::new(stored.position.to_vec()));
        let (retained_bytes, warning) = retained(pipeline).await;
        let described = pipeline.and_then(|pipeline| pipeline.source.as_ref()?.describe(position.as_ref()?).ok());
        all.push(PipelineStatus {
            sequence: stored.map(|stored| stored.sequence),
            position: described.unwrap_or_default().into_iter().collect(),
            retained_bytes,
            warning,
            sinks: sinks(&log, &name, pipeline, &groups)?,
            pipeline: name,
        });
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        all.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

async fn retained(pipeline: Option<&Pipeline>) -> (Option<u64>, Option<String>) {
    let Some((pipeline, source)) = pipeline.and_then(|pipeline| Some((pipeline, pipeline.source.as_ref()?))) else {
        return (None, None);
    };
    match tokio::time::timeout(SOURCE_TIMEOUT, source.retained_bytes(&pipeline.name)).await {
        Ok(Ok(Some(bytes))) if bytes > RETAINED_WARNING => {
            let size = human(bytes);
            (
                Some(bytes),
                Some(format!("the source keeps {size} of its log for this pipeline: is it running, and does it keep up?")),
            )
        }
        Ok(Ok(bytes)) => (bytes, None),
        Ok(Err(error)) => (None, Some(format!("the source could not be asked: {error}"))),
        Err(_) => (None, Some(format!("the source did not answer within {} s", SOURCE_TIMEOUT.as_secs()))),
    }
}

/// The lag of each sink: those of the file, and those that have reported.
fn sinks(log: &Log, name: &str, pipeline: Option<&Pipeline>, groups: &[String]) -> anyhow::Result<Vec<SinkLag>> {
    let mut names: Vec<String> =
        groups.iter().filter_map(|group| group.strip_prefix(&format!("{name}/")).map(str::to_owned)).collect();
    names.extend(pipeline.into_iter().flat_map(|pipeline| pipeline.sinks.iter().map(|sink| sink.name.clone())));
    names.sort();
    names.dedup();
    let own = [format!("{name}.*")];
    let patterns = pipeline.map_or(&own[..], |pipeline| &pipeline.topics);
    let mut sinks = Vec::new();
    for sink in names {
        let mut lag = SinkLag { sink, topics: 0, lag_records: 0, lag_bytes: 0, lag_seconds: 0.0 };
        let mut oldest = i64::MAX;
        for topic in log.topics().iter().filter(|topic| patterns.iter().any(|pattern| fits(pattern, topic.name()))) {
            lag.topics += 1;
            let next = log.offsets().get(&format!("{name}/{}", lag.sink), topic.id());
            for partition in 0..topic.partitions() {
                let from = next.get(&partition).copied().unwrap_or_else(|| topic.start_offset(partition));
                let backlog = topic.backlog(partition, from.min(topic.end_offset(partition)))?;
                lag.lag_records += backlog.records;
                lag.lag_bytes += backlog.bytes;
                oldest = oldest.min(backlog.oldest_timestamp_ms.unwrap_or(i64::MAX));
            }
        }
        if lag.lag_records > 0 {
            lag.lag_seconds = (clock_us() / 1000 - oldest).max(0) as f64 / 1000.0;
        }
        sinks.push(lag);
    }
    Ok(sinks)
}

fn print(status: &PipelineStatus) {
    let sequence = status.sequence.map_or("nothing committed".to_owned(), |sequence| format!("commit {sequence}"));
    println!("{}: {sequence}", status.pipeline);
    for (name, value) in &status.position {
        println!("  {name}: {value}");
    }
    if let Some(bytes) = status.retained_bytes {
        println!("  kept by the source: {}", human(bytes));
    }
    if let Some(warning) = &status.warning {
        println!("  warning: {warning}");
    }
    for sink in &status.sinks {
        println!(
            "  sink {}: {} topics, behind by {} records, {}, {:.1} s",
            sink.sink,
            sink.topics,
            sink.lag_records,
            human(sink.lag_bytes),
            sink.lag_seconds
        );
    }
}

/// Bytes for people.
pub(crate) fn human(bytes: u64) -> String {
    if bytes < 1 << 20 { ByteSize(bytes).to_string() } else { format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)) }
}
