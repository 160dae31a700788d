use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use connector_api::{ChangeGroup, ConnectorError, Finding, Source, SourceConnector, SourceContext, SourceFactory, SourcePosition};
use source_tailing::Handover;
use tracing::warn;

use crate::{
    check,
    config::{PostgresSourceConfig, Settings},
    error::PostgresError,
    position::{self, Position, Progress},
    resume, slot,
    wire::{Client, quote_identifier},
};

/// So long a source that is closed waits for its reader, which waits for the server.
const GOODBYE: Duration = Duration::from_secs(1);

/// A PostgreSQL database as a source. See [`PostgresSourceConfig`] for its settings.
pub struct PostgresSource {
    settings: Arc<Settings>,
}

impl PostgresSource {
    /// Checks the settings. An error names the field, what is wrong, and what would be right.
    pub fn new(config: PostgresSourceConfig) -> Result<Self, (&'static str, String)> {
        Ok(Self { settings: Arc::new(Settings::new(config)?) })
    }

    /// What a pipeline file's `postgres:` stands for.
    pub fn factory() -> SourceFactory {
        SourceFactory::new(Self::new)
    }

    /// Runs what blocks on a thread for that.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Settings>) -> Result<R, PostgresError> + Send + 'static,
    ) -> Result<R, ConnectorError> {
        let settings = Arc::clone(&self.settings);
        let result = tokio::task::spawn_blocking(move || work(settings)).await;
        Ok(result.map_err(|_panic| PostgresError::ReaderGone)??)
    }
}

#[async_trait]
impl SourceConnector for PostgresSource {
    async fn open(&self, context: SourceContext, position: Option<SourcePosition>) -> Result<Box<dyn Source>, ConnectorError> {
        let stored = position.as_ref().map(Position::decode).transpose()?;
        let (reader, durable) = self.blocking(move |settings| resume::open(settings, context, stored)).await?;
        let handover = Arc::clone(&reader.handover);
        if let Some(lsn) = durable {
            handover.confirm(lsn.0);
        }
        let thread = std::thread::Builder::new().name("postgres-reader".to_owned());
        let reader = thread.spawn(move || reader.run()).map_err(PostgresError::Thread)?;
        Ok(Box::new(PostgresTail { handover, reader }))
    }

    async fn check(&self, pipeline: &str, position: Option<&SourcePosition>) -> Result<Vec<Finding>, ConnectorError> {
        let stored = position.map(Position::decode).transpose()?;
        let pipeline = pipeline.to_owned();
        self.blocking(move |settings| check::check(&settings, &pipeline, stored.as_ref())).await
    }

    async fn drop_state(&self, pipeline: &str) -> Result<Vec<String>, ConnectorError> {
        let pipeline = pipeline.to_owned();
        self.blocking(move |settings| {
            let (slot_name, publication) = slot::names(&settings, &pipeline);
            let mut client = Client::connect(&settings)?;
            let mut dropped = Vec::new();
            if settings.slot.create && slot::drop_slot(&mut client, &slot_name, settings.slot_patience)? {
                dropped.push(format!("replication slot `{slot_name}`"));
            }
            if settings.publication.create && slot::publication_is_own(&mut client, &publication)? == Some(true) {
                client.query("drop the publication", &format!("DROP PUBLICATION {}", quote_identifier(&publication)))?;
                dropped.push(format!("publication `{publication}`"));
            }
            client.close();
            Ok(dropped)
        })
        .await
    }

    fn resnapshot(&self, position: &SourcePosition, tables: &[String]) -> Result<SourcePosition, ConnectorError> {
        let mut position = Position::decode(position)?;
        let captured = |progress: Progress| progress != Progress::Left;
        for name in tables {
            let known = position.tables().values().any(|table| captured(table.progress) && table.name.to_string() == *name);
            if !known {
                let names: Vec<_> = position
                    .tables()
                    .values()
                    .filter(|table| captured(table.progress))
                    .map(|table| table.name.to_string())
                    .collect();
                let problem = format!("table {name} is not captured by this pipeline");
                return Err(PostgresError::prerequisite(problem, format!("it captures {}", names.join(", "))).into());
            }
        }
        for table in position.tables_mut().values_mut() {
            let named = tables.is_empty() || tables.iter().any(|name| table.name.to_string() == *name);
            if named && !matches!(table.progress, Progress::Left | Progress::Pending) {
                table.progress = Progress::Restart;
            }
        }
        Ok(position.encode())
    }

    fn describe(&self, position: &SourcePosition) -> Result<Vec<(String, String)>, ConnectorError> {
        let position = Position::decode(position)?;
        let origin = position.origin();
        let count = |wanted: fn(Progress) -> bool| position.tables().values().filter(|table| wanted(table.progress)).count();
        let mut lines = vec![
            ("lsn".to_owned(), position.lsn.to_string()),
            ("slot".to_owned(), origin.slot.clone()),
            ("publication".to_owned(), origin.publication.clone()),
            ("database".to_owned(), origin.database.clone()),
            ("system_id".to_owned(), origin.system_id.clone()),
            ("timeline".to_owned(), origin.timeline.to_string()),
            ("tables".to_owned(), count(|progress| progress != Progress::Left).to_string()),
        ];
        let unread = count(|progress| matches!(progress, Progress::Pending | Progress::Restart | Progress::Copying(_)));
        if unread > 0 {
            lines.push(("tables to snapshot".to_owned(), unread.to_string()));
        }
        if let Some(open) = position.open {
            let text = format!("{} rows of transaction {}, which commits at {}", open.rows, open.xid, open.final_lsn);
            lines.push(("open transaction".to_owned(), text));
        }
        Ok(lines)
    }

    async fn retained_bytes(&self, pipeline: &str) -> Result<Option<u64>, ConnectorError> {
        let pipeline = pipeline.to_owned();
        self.blocking(move |settings| {
            let mut client = Client::connect(&settings)?;
            let bytes = slot::retained_bytes(&mut client, &slot::names(&settings, &pipeline).0)?;
            client.close();
            Ok(bytes)
        })
        .await
    }
}

/// The runtime's end of a reader.
struct PostgresTail {
    handover: Arc<Handover>,
    reader: JoinHandle<()>,
}

#[async_trait]
impl Source for PostgresTail {
    async fn next(&mut self) -> Result<Option<ChangeGroup>, ConnectorError> {
        self.handover.take().await
    }

    async fn next_full(&mut self) -> Result<Option<ChangeGroup>, ConnectorError> {
        self.handover.take_full().await
    }

    fn confirm(&self, durable: &SourcePosition) {
        match position::lsn_of(durable) {
            Some(lsn) => self.handover.confirm(lsn.0),
            None => warn!("a position that is not ours was confirmed; it is ignored"),
        }
    }
}

impl Drop for PostgresTail {
    /// Gives the reader a moment to tell the server what was confirmed last: the process may end next, and a server that never hears of it
    /// keeps its log from there on.
    fn drop(&mut self) {
        self.handover.close();
        let until = Instant::now() + GOODBYE;
        while !self.reader.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
