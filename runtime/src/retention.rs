//! Removes from the log what no sink needs any more.

use std::{sync::Arc, time::Duration};

use connector_api::Shutdown;
use log_core::{Log, Topic};

use crate::{
    definition::{Pipeline, RetentionSettings, fits},
    supervisor::group_name,
};

/// How often it looks, at least and at most: twice within the shortest age.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// The rules of all pipelines of a process.
#[derive(Clone)]
pub(crate) struct Retention {
    owners: Arc<Vec<(String, RetentionSettings)>>,
    /// Patterns of topics, and the group that reads them.
    readers: Arc<Vec<(Vec<String>, String)>>,
}

impl Retention {
    pub fn new(pipelines: &[Pipeline]) -> Self {
        let owners = pipelines.iter().filter(|pipeline| pipeline.source.is_some());
        let owners = owners.map(|pipeline| (pipeline.name.clone(), pipeline.log.retention.clone()));
        let readers = pipelines.iter().flat_map(|pipeline| {
            let group = |sink: &str| (pipeline.topics.clone(), group_name(&pipeline.name, sink));
            pipeline.sinks.iter().map(move |sink| group(&sink.name))
        });
        Self { owners: Arc::new(owners.collect()), readers: Arc::new(readers.collect()) }
    }

    /// Looks from time to time, until shutdown.
    pub async fn run(self, log: Log, mut shutdown: Shutdown) {
        let shortest = self.owners.iter().filter_map(|(_, settings)| settings.age).map(|age| age.0).min();
        let interval = shortest.map_or(INTERVAL_MAX, |age| (age / 2).clamp(INTERVAL_MIN, INTERVAL_MAX));
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.requested() => return,
            }
            let (this, log) = (self.clone(), log.clone());
            // A panic in there has printed itself, and the next round may do better.
            let _ = tokio::task::spawn_blocking(move || this.apply(&log)).await;
        }
    }

    /// Looks once. Blocks on the disk.
    pub fn apply(&self, log: &Log) {
        for topic in log.topics() {
            let owner = self.owners.iter().find(|(name, _)| name == topic.pipeline());
            if let Some((_, settings)) = owner {
                self.retain(log, &topic, settings);
            }
        }
    }

    fn retain(&self, log: &Log, topic: &Topic, settings: &RetentionSettings) {
        let reads = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, topic.name()));
        let readers: Vec<&str> =
            self.readers.iter().filter(|(patterns, _)| reads(patterns)).map(|(_, group)| group.as_str()).collect();
        match log.retain(topic, &settings.for_log(), &readers) {
            Ok(removed) if removed.segments == 0 => {}
            Ok(removed) => {
                let (topic, segments, bytes) = (topic.name(), removed.segments, removed.bytes);
                tracing::info!(topic, segments, bytes, "removed old segments");
            }
            Err(error) => tracing::warn!(topic = topic.name(), %error, "cannot remove old segments, trying again later"),
        }
    }
}
