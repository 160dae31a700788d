//! The page at `/metrics`, in the Prometheus text format: made from the status when somebody asks.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::status::{PipelineStatus, State};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabels {
    pipeline: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    pipeline: String,
    sink: String,
}

type Value = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Renders all pipelines.
pub(crate) fn render(pipelines: &[Arc<PipelineStatus>]) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("mainstem");
    let family = |registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>| {
        let family = Family::<PipelineLabels, Value>::default();
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family.clone()),
            None => registry.register(name, help, family.clone()),
        }
        family
    };
    let up = family(&mut registry, "pipeline_up", "1 while the source is read, 0 while it is retried or stopped", None);
    let records = family(&mut registry, "committed_records", "Records committed to the log since the start", None);
    let bytes = family(&mut registry, "committed", "Record batches committed to the log since the start", Some(Unit::Bytes));
    let sequence = family(&mut registry, "committed_sequence", "Sequence of the last commit", None);
    let retained = family(&mut registry, "source_retained", "Log that the source's server keeps for us", Some(Unit::Bytes));
    let behind = family(&mut registry, "source_behind", "Log of the source's server that was not received yet", Some(Unit::Bytes));
    let sink_family = |registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>| {
        let family = Family::<SinkLabels, Value>::default();
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family.clone()),
            None => registry.register(name, help, family.clone()),
        }
        family
    };
    let sink_up = sink_family(&mut registry, "sink_up", "1 while the sink works, 0 while it is retried or stopped", None);
    let lag_records = sink_family(&mut registry, "sink_lag_records", "Records that the target lacks", None);
    let lag_bytes = sink_family(&mut registry, "sink_lag", "Bytes of the log that the target lacks", Some(Unit::Bytes));
    let lag_seconds = sink_family(&mut registry, "sink_lag", "Age of the oldest record that the target lacks", Some(Unit::Seconds));
    let sink_rows = sink_family(&mut registry, "sink_rows", "Rows written since the start", None);
    let sink_bytes =
        sink_family(&mut registry, "sink_written", "Bytes written since the start, as the sink counts them", Some(Unit::Bytes));
    let sink_flushes = sink_family(&mut registry, "sink_flushes", "Flushes since the start", None);
    let works = |state: State| f64::from(u8::from(!matches!(state, State::Retrying | State::Stopped)));
    for pipeline in pipelines {
        let report = pipeline.report();
        let labels = PipelineLabels { pipeline: report.name.clone() };
        up.get_or_create(&labels).set(works(report.state));
        records.get_or_create(&labels).set(report.records as f64);
        bytes.get_or_create(&labels).set(report.bytes as f64);
        sequence.get_or_create(&labels).set(report.committed_sequence as f64);
        if let Some(value) = report.source.retained_bytes {
            retained.get_or_create(&labels).set(value as f64);
        }
        if let Some(value) = report.source.behind_bytes {
            behind.get_or_create(&labels).set(value as f64);
        }
        for sink in report.sinks {
            let labels = SinkLabels { pipeline: report.name.clone(), sink: sink.name };
            sink_up.get_or_create(&labels).set(works(sink.state));
            lag_records.get_or_create(&labels).set(sink.lag_records as f64);
            lag_bytes.get_or_create(&labels).set(sink.lag_bytes as f64);
            lag_seconds.get_or_create(&labels).set(sink.lag_seconds);
            sink_rows.get_or_create(&labels).set(sink.rows as f64);
            sink_bytes.get_or_create(&labels).set(sink.bytes as f64);
            sink_flushes.get_or_create(&labels).set(sink.flushes as f64);
        }
    }
    let mut page = String::new();
    encode(&mut page, &registry)?;
    Ok(page)
}
