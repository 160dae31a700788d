use std::sync::Arc;

use async_trait::async_trait;
use connector_api::{ChangeGroup, ConnectorError, Finding, Source, SourceConnector, SourceContext, SourceFactory, SourcePosition};
use source_tailing::Handover;

use crate::{
    check,
    config::{MySqlSourceConfig, Settings},
    error::MySqlError,
    position::{Position, Progress},
    resume,
};

/// A MySQL or MariaDB server as a source. See [`MySqlSourceConfig`] for its settings.
pub struct MySqlSource {
    settings: Arc<Settings>,
}

impl MySqlSource {
    /// Checks the settings. An error names the field, what is wrong, and what would be right.
    pub fn new(config: MySqlSourceConfig) -> Result<Self, (&'static str, String)> {
        Ok(Self { settings: Arc::new(Settings::new(config)?) })
    }

    /// What a pipeline file's `mysql:` stands for.
    pub fn factory() -> SourceFactory {
        SourceFactory::new(Self::new)
    }

    /// Runs what blocks on a thread for that.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Settings>) -> Result<R, MySqlError> + Send + 'static,
    ) -> Result<R, ConnectorError> {
        let settings = Arc::clone(&self.settings);
        let result = tokio::task::spawn_blocking(move || work(settings)).await;
        Ok(result.map_err(|_panic| MySqlError::ReaderGone)??)
    }
}

#[async_trait]
impl SourceConnector for MySqlSource {
    async fn open(&self, context: SourceContext, position: Option<SourcePosition>) -> Result<Box<dyn Source>, ConnectorError> {
        let stored = position.as_ref().map(Position::decode).transpose()?;
        let reader = self.blocking(move |settings| resume::open(settings, context, stored)).await?;
        let handover = Arc::clone(&reader.handover);
        let thread = std::thread::Builder::new().name("mysql-reader".to_owned());
        thread.spawn(move || reader.run()).map_err(MySqlError::Thread)?;
        Ok(Box::new(MySqlTail { handover }))
    }

    async fn check(&self, pipeline: &str, position: Option<&SourcePosition>) -> Result<Vec<Finding>, ConnectorError> {
        let stored = position.map(Position::decode).transpose()?;
        let pipeline = pipeline.to_owned();
        self.blocking(move |settings| check::check(&settings, &pipeline, stored.as_ref())).await
    }

    /// Nothing of ours is on the server: it keeps its log for a time of its own.
    async fn drop_state(&self, _pipeline: &str) -> Result<Vec<String>, ConnectorError> {
        Ok(Vec::new())
    }

    fn resnapshot(&self, position: &SourcePosition, tables: &[String]) -> Result<SourcePosition, ConnectorError> {
        let mut position = Position::decode(position)?;
        let captured: Vec<String> = position
            .tables()
            .iter()
            .filter(|(_, state)| state.progress != Progress::Left)
            .map(|(name, _)| name.to_string())
            .collect();
        if let Some(unknown) = tables.iter().find(|name| !captured.contains(name)) {
            let problem = format!("table {unknown} is not captured by this pipeline");
            return Err(MySqlError::prerequisite(problem, format!("it captures {}", captured.join(", "))).into());
        }
        for (name, state) in position.tables_mut() {
            let named = tables.is_empty() || tables.contains(&name.to_string());
            if named && !matches!(state.progress, Progress::Left | Progress::Pending) {
                state.progress = Progress::Restart;
                // It is read again with the snapshot.
                state.definition = None;
            }
        }
        Ok(position.encode())
    }

    fn reads_on_demand(&self) -> bool {
        true
    }

    fn describe(&self, position: &SourcePosition) -> Result<Vec<(String, String)>, ConnectorError> {
        let position = Position::decode(position)?;
        let origin = position.origin();
        let count =
            |wanted: fn(Progress) -> bool| position.tables().values().filter(|table| wanted(table.progress)).count().to_string();
        let mut lines = vec![("place".to_owned(), position.done.place.to_string())];
        if let Some(gtids) = &position.done.gtids {
            lines.push(("gtids".to_owned(), gtids.to_string()));
        }
        let uuid = if origin.server_uuid.is_empty() { String::new() } else { format!(", {}", origin.server_uuid) };
        lines.push(("server".to_owned(), format!("{} (server_id {}{uuid})", origin.flavor, origin.server_id)));
        lines.push(("tables".to_owned(), count(|progress| progress != Progress::Left)));
        let unread = count(|progress| matches!(progress, Progress::Pending | Progress::Restart | Progress::Copying(_)));
        if unread != "0" {
            lines.push(("tables to snapshot".to_owned(), unread));
        }
        if let Some(open) = &position.open {
            let rows: u64 = open.rows.values().sum();
            lines.push(("open transaction".to_owned(), format!("{rows} rows of transaction {}", open.name)));
        }
        if !position.prepared().is_empty() {
            lines.push(("prepared transactions".to_owned(), position.prepared().len().to_string()));
        }
        Ok(lines)
    }

    /// A server keeps its binary log for a time, whoever reads it.
    async fn retained_bytes(&self, _pipeline: &str) -> Result<Option<u64>, ConnectorError> {
        Ok(None)
    }
}

/// The runtime's end of a reader.
struct MySqlTail {
    handover: Arc<Handover>,
}

#[async_trait]
impl Source for MySqlTail {
    async fn next(&mut self) -> Result<Option<ChangeGroup>, ConnectorError> {
        self.handover.take().await
    }

    async fn next_full(&mut self) -> Result<Option<ChangeGroup>, ConnectorError> {
        self.handover.take_full().await
    }

    /// The server does not want to know.
    fn confirm(&self, _durable: &SourcePosition) {}
}

impl Drop for MySqlTail {
    fn drop(&mut self) {
        self.handover.close();
    }
}
