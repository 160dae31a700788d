//! Takes out of the log what later changes of the same row make superfluous, where the files want that, and old records of schemas.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use connector_api::Shutdown;
use log_core::{Compacted, Log, LogError};

use crate::{
    cleanup::CompactionSettings,
    definition::Pipeline,
    retention::{self, Readers},
};

/// The rules of all pipelines of a process.
#[derive(Clone)]
pub(crate) struct Compaction {
    /// Of the pipelines that compact.
    owners: Arc<Vec<(String, CompactionSettings)>>,
    readers: Readers,
    stop: Arc<AtomicBool>,
}

impl Compaction {
    pub fn new(pipelines: &[Pipeline], readers: &Readers) -> Self {
        let owners = pipelines.iter().filter(|pipeline| pipeline.source.is_some() && pipeline.log.cleanup.compact);
        let owners = owners.map(|pipeline| (pipeline.name.clone(), pipeline.log.compaction.clone()));
        Self { owners: Arc::new(owners.collect()), readers: readers.clone(), stop: Arc::default() }
    }

    /// Looks from time to time, until shutdown.
    pub async fn run(self, log: Log, mut shutdown: Shutdown) {
        let interval = retention::interval(self.owners.iter().map(|(_, settings)| settings.tombstone_age.0));
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.requested() => return,
            }
            let (this, log) = (self.clone(), log.clone());
            let round = tokio::task::spawn_blocking(move || this.apply(&log));
            tokio::pin!(round);
            tokio::select! {
                // A panic in there has printed itself, and the next round may do better.
                _ = &mut round => {}
                () = shutdown.requested() => {
                    self.stop();
                    let _ = round.await;
                    return;
                }
            }
        }
    }

    /// Ends a round that is under way, soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Looks once. Blocks on the disk, and for as long as the rate makes it.
    pub fn apply(&self, log: &Log) {
        for topic in log.topics() {
            let owner = self.owners.iter().find(|(name, _)| name == topic.pipeline());
            if let Some((_, settings)) = owner {
                let groups = self.readers.of(&topic);
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                tell(topic.name(), log.compact(&topic, &settings.for_log(), &groups, &self.stop));
            }
        }
        let settings = log_core::Compaction { memory_bytes: 1 << 20, ..log_core::Compaction::default() };
        tell("_schemas", log.compact_schemas(&settings, &self.stop));
    }
}

fn tell(topic: &str, compacted: Result<Compacted, LogError>) {
    match compacted {
        Ok(Compacted { records: 0, .. }) | Err(LogError::Closed(_)) => {}
        Ok(Compacted { records, bytes, .. }) => tracing::info!(topic, records, bytes, "compacted"),
        Err(error) => tracing::warn!(topic, %error, "cannot compact, trying again later"),
    }
}
