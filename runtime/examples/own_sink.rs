//! A complete build of Mainstem with a sink of one's own: it counts the changes of each table and keeps the counts in files.
//!
//! ```sh
//! cargo run -p mainstem --example own_sink -- run pipeline.yaml --once
//! ```
//! with `sinks: { totals: { count: { folder: totals } } }` in the pipeline file.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use async_trait::async_trait;
use mainstem::{
    Connectors,
    api::{
        ConnectorError, Delivery, Filled, Finding, FlushPolicy, Flushed, NextOffsets, OpenedSink, Recoverable, Recovery, Sink,
        SinkConnector, SinkContext, SinkFactory, SinkInput, Target, TopicInfo,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts changes per table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountConfig {
    /// The folder that gets a small JSON file for each topic.
    folder: PathBuf,
}

struct CountSink {
    config: CountConfig,
}

impl CountSink {
    fn factory() -> SinkFactory {
        SinkFactory::new(|config: CountConfig| match config.folder.to_str() {
            Some("") => Err(("folder", "name a folder".to_owned())),
            _ => Ok(Self { config }),
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot keep the count in {}", file.display())]
struct CountError {
    file: PathBuf,
    #[source]
    cause: std::io::Error,
}

impl Recoverable for CountError {
    fn recovery(&self) -> Recovery {
        Recovery::Retry
    }
}

#[async_trait]
impl SinkConnector for CountSink {
    async fn connect(&self, _context: SinkContext) -> Result<Arc<dyn Target>, ConnectorError> {
        let folder = self.config.folder.clone();
        std::fs::create_dir_all(&folder).map_err(|cause| CountError { file: folder.clone(), cause })?;
        Ok(Arc::new(CountTarget { folder }))
    }

    async fn check(&self, _context: SinkContext) -> Result<Vec<Finding>, ConnectorError> {
        Ok(Vec::new())
    }

    fn delivery(&self) -> Delivery {
        Delivery::PerPartition
    }

    fn policy(&self) -> FlushPolicy {
        FlushPolicy { bytes: u64::MAX, rows: 100_000, age: Duration::ZERO }
    }
}

struct CountTarget {
    folder: PathBuf,
}

/// The count and the offsets it belongs to, in one file that is replaced as a whole: that makes it exactly once.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct State {
    changes: u64,
    next: NextOffsets,
}

#[async_trait]
impl Target for CountTarget {
    async fn open(&self, topic: &TopicInfo, _reported: &NextOffsets) -> Result<OpenedSink, ConnectorError> {
        let file = self.folder.join(format!("{}.json", topic.name));
        let state: State = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|cause| CountError { file: file.clone(), cause: cause.into() })?,
            Err(_) => State::default(),
        };
        Ok(OpenedSink { next: state.next.clone(), sink: Box::new(Counter { file, state, rows: 0 }) })
    }
}

struct Counter {
    file: PathBuf,
    state: State,
    rows: u64,
}

#[async_trait]
impl Sink for Counter {
    async fn write(&mut self, input: SinkInput) -> Result<Filled, ConnectorError> {
        match input {
            SinkInput::Rows(rows) => {
                self.rows += rows.batch.len() as u64;
                self.state.next.insert(rows.partition, rows.next_offset);
            }
            SinkInput::Barrier(barrier) => self.state.next.extend(barrier.next),
        }
        Ok(Filled { bytes: 0, rows: self.rows })
    }

    async fn flush(&mut self) -> Result<Flushed, ConnectorError> {
        self.state.changes += std::mem::take(&mut self.rows);
        let write = || {
            let aside = self.file.with_extension("new");
            std::fs::write(&aside, serde_json::to_vec(&self.state)?)?;
            std::fs::rename(&aside, &self.file)
        };
        write().map_err(|cause| CountError { file: self.file.clone(), cause })?;
        Ok(Flushed { next: self.state.next.clone(), bytes: 0 })
    }
}

fn main() -> ExitCode {
    mainstem::cli(Connectors::builtin().with_sink("count", CountSink::factory()))
}
