//! Removes from the log what no sink needs any more.

use std::{sync::Arc, time::Duration};

use connector_api::Shutdown;
use log_core::{Log, Topic};

use crate::{
    definition::{Pipeline, RetentionSettings, fits},
    supervisor::group_name,
};

/// How often to look for what has come of age: twice within the shortest age, each second at most and each minute at least.
pub(crate) fn interval(ages: impl Iterator<Item = Duration>) -> Duration {
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(60));
    ages.min().map_or(longest, |age| (age / 2).clamp(shortest, longest))
}

/// The rules of all pipelines of a process.
#[derive(Clone)]
pub(crate) struct Retention {
    owners: Arc<Vec<(String, RetentionSettings)>>,
    readers: Readers,
}

/// Who reads what: patterns of topics, and the group that reads them.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Vec<(Vec<String>, String)>>);

impl Readers {
    pub fn new(pipelines: &[Pipeline]) -> Self {
        let readers = pipelines.iter().flat_map(|pipeline| {
            let group = |sink: &str| (pipeline.topics.clone(), group_name(&pipeline.name, sink));
            pipeline.sinks.iter().map(move |sink| group(&sink.name))
        });
        Self(Arc::new(readers.collect()))
    }

    /// The groups that read a topic.
    pub fn of(&self, topic: &Topic) -> Vec<String> {
        let reads = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, topic.name()));
        self.0.iter().filter(|(patterns, _)| reads(patterns)).map(|(_, group)| group.clone()).collect()
    }
}

impl Retention {
    pub fn new(pipelines: &[Pipeline], readers: &Readers) -> Self {
        let owners = pipelines.iter().filter(|pipeline| pipeline.source.is_some() && pipeline.log.cleanup.delete);
        let owners = owners.map(|pipeline| (pipeline.name.clone(), pipeline.log.retention.clone()));
        Self { owners: Arc::new(owners.collect()), readers: readers.clone() }
    }

    /// Looks from time to time, until shutdown.
    pub async fn run(self, log: Log, mut shutdown: Shutdown) {
        let interval = interval(self.owners.iter().filter_map(|(_, settings)| settings.age).map(|age| age.0));
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
        let readers = self.readers.of(topic);
        let readers: Vec<&str> = readers.iter().map(String::as_str).collect();
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
