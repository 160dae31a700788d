use std::time::{Duration, Instant};

use async_trait::async_trait;
use connector_api::{
    ChangeGroup, ConnectorError, Finding, Recoverable, Recovery, Source, SourceConnector, SourceContext, SourceFactory,
    SourcePosition,
};
use serde::{Deserialize, Serialize};

use crate::{GenerateSourceConfig, rows::RowMaker};

const GROUP_ROWS_MAX: u64 = 8192;
/// Rough size of a value, for the memory budget.
const BYTES_PER_VALUE: usize = 24;
/// With a rate: how often rows are handed over.
const PACE: Duration = Duration::from_millis(20);

/// The `generate` source.
#[derive(Debug)]
pub struct GenerateSource {
    config: GenerateSourceConfig,
}

#[derive(Debug, thiserror::Error)]
enum GenerateError {
    #[error("the stored position is not one of the generate source, or of a newer version")]
    Position(#[source] serde_json::Error),
    #[error("rows could not be made")]
    Rows(#[source] arrow_schema::ArrowError),
    #[error("the generate source has one table, `generated.{table}`, not `{asked}`")]
    Table { table: String, asked: String },
}

impl Recoverable for GenerateError {
    fn recovery(&self) -> Recovery {
        match self {
            Self::Position(_) | Self::Rows(_) | Self::Table { .. } => Recovery::Stop,
        }
    }
}

/// What the source needs to go on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    version: Version,
    next_row: u64,
    /// All rows so far are void: the marker that says so is still to be sent.
    #[serde(default)]
    restart: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Version {
    #[serde(rename = "1")]
    V1,
}

impl Position {
    fn read(position: &SourcePosition) -> Result<Self, GenerateError> {
        serde_json::from_slice(position.as_bytes()).map_err(GenerateError::Position)
    }

    fn at(next_row: u64, restart: bool) -> Result<SourcePosition, GenerateError> {
        serde_json::to_vec(&Self { version: Version::V1, next_row, restart })
            .map(SourcePosition::new)
            .map_err(GenerateError::Position)
    }
}

impl GenerateSource {
    /// A source with these settings, once they are known to be good.
    pub fn new(config: GenerateSourceConfig) -> Result<Self, (&'static str, String)> {
        if config.columns > 1000 {
            return Err(("columns", format!("{} columns are too many: at most 1000", config.columns)));
        }
        if config.keys == Some(0) {
            return Err(("keys", "there must be at least 1 key".to_owned()));
        }
        if config.rows_per_second == Some(0) {
            return Err(("rows_per_second", "at least 1 row a second; leave it out for no limit".to_owned()));
        }
        if config.table.is_empty() {
            return Err(("table", "a table needs a name".to_owned()));
        }
        Ok(Self { config })
    }

    /// What `generate:` in a pipeline file makes.
    pub fn factory() -> SourceFactory {
        SourceFactory::new(Self::new)
    }
}

#[async_trait]
impl SourceConnector for GenerateSource {
    async fn open(&self, context: SourceContext, position: Option<SourcePosition>) -> Result<Box<dyn Source>, ConnectorError> {
        let position = position.as_ref().map(Position::read).transpose()?;
        let next_row = position.as_ref().map_or(0, |position| position.next_row);
        Ok(Box::new(Generator {
            maker: RowMaker::new(&self.config),
            config: self.config.clone(),
            context,
            next_row,
            first_row: next_row,
            restart: position.is_some_and(|position| position.restart),
            started: Instant::now(),
            reached_end: false,
        }))
    }

    async fn check(&self, _pipeline: &str, position: Option<&SourcePosition>) -> Result<Vec<Finding>, ConnectorError> {
        position.map(Position::read).transpose()?;
        Ok(Vec::new())
    }

    async fn drop_state(&self, _pipeline: &str) -> Result<Vec<String>, ConnectorError> {
        Ok(Vec::new())
    }

    fn resnapshot(&self, position: &SourcePosition, tables: &[String]) -> Result<SourcePosition, ConnectorError> {
        Position::read(position)?;
        let own = format!("generated.{}", self.config.table);
        match tables.iter().find(|table| **table != own) {
            Some(asked) => Err(GenerateError::Table { table: self.config.table.clone(), asked: asked.clone() }.into()),
            None => Ok(Position::at(0, true)?),
        }
    }

    fn describe(&self, position: &SourcePosition) -> Result<Vec<(String, String)>, ConnectorError> {
        Ok(vec![("next_row".into(), Position::read(position)?.next_row.to_string())])
    }

    async fn retained_bytes(&self, _pipeline: &str) -> Result<Option<u64>, ConnectorError> {
        Ok(None)
    }
}

struct Generator {
    config: GenerateSourceConfig,
    maker: RowMaker,
    context: SourceContext,
    next_row: u64,
    first_row: u64,
    restart: bool,
    started: Instant,
    reached_end: bool,
}

impl Generator {
    /// How many rows may go out now.
    fn rows_due(&self) -> u64 {
        let left = self.config.rows.map_or(u64::MAX, |rows| rows.saturating_sub(self.next_row));
        let paced = self.config.rows_per_second.map_or(u64::MAX, |rate| {
            let due = self.started.elapsed().as_secs_f64() * rate as f64;
            (self.first_row + due as u64).saturating_sub(self.next_row)
        });
        left.min(paced).min(GROUP_ROWS_MAX)
    }
}

#[async_trait]
impl Source for Generator {
    async fn next(&mut self) -> Result<Option<ChangeGroup>, ConnectorError> {
        loop {
            if self.context.shutdown.is_requested() {
                return Ok(None);
            }
            if std::mem::take(&mut self.restart) {
                let batches = vec![self.maker.restart_marker().map_err(GenerateError::Rows)?];
                let position = Position::at(self.next_row, false)?;
                return Ok(Some(ChangeGroup { batches, position, reached_end: false, reservation: None }));
            }
            let all_made = self.config.rows.is_some_and(|rows| self.next_row >= rows);
            let rows = self.rows_due();
            if rows == 0 && (!all_made || self.reached_end) {
                if all_made && self.context.once {
                    return Ok(None);
                }
                let mut shutdown = self.context.shutdown.clone();
                tokio::select! {
                    () = tokio::time::sleep(PACE) => {}
                    () = shutdown.requested() => {}
                }
                continue;
            }
            // No await between the reservation and the return: a dropped future has changed nothing.
            let bytes = (rows as usize + 1) * (self.config.columns + 1) * BYTES_PER_VALUE;
            let reservation = self.context.budget.reserve(bytes).await;
            let end = self.next_row + rows;
            let batch = self.maker.make(self.next_row, end).map_err(GenerateError::Rows)?;
            self.next_row = end;
            // A source without an end has nothing to wait for: `--once` takes what there is first.
            self.reached_end = self.config.rows.is_none_or(|rows| end >= rows);
            return Ok(Some(ChangeGroup {
                batches: if batch.is_empty() { Vec::new() } else { vec![batch] },
                position: Position::at(end, false)?,
                reached_end: self.reached_end,
                reservation: Some(reservation),
            }));
        }
    }

    fn confirm(&self, _durable: &SourcePosition) {}
}
