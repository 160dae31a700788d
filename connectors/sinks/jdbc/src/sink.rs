use std::sync::Arc;

use arrow_array::Array;
use async_trait::async_trait;
use connector_api::{
    Barrier, ConnectorError, Delivery, Filled, Finding, FlushPolicy, Flushed, NextOffsets, OpenedSink, Rows, Sink, SinkConnector,
    SinkContext, SinkFactory, SinkInput, Target, TopicInfo,
};

use crate::{
    config::{Database, JdbcSinkConfig, Mode, Settings},
    dialect::{Dialect, TableWriter, mysql::MySql, postgres::Postgres, sqlite::Sqlite},
    error::JdbcError,
    flush::Flush,
    offsets::{Held, Owner},
    table::TargetTable,
};

/// Keeps tables of a SQL database equal to topics.
#[derive(Debug)]
pub struct JdbcSink {
    settings: Settings,
}

impl JdbcSink {
    /// Makes sinks from their settings in a pipeline file.
    pub fn factory() -> SinkFactory {
        SinkFactory::new(Self::new)
    }

    /// Checks the settings. An error names the field, what is wrong, and what would be right.
    pub fn new(config: JdbcSinkConfig) -> Result<Self, (&'static str, String)> {
        Ok(Self { settings: config.resolve()? })
    }

    fn dialect(&self) -> Result<Arc<dyn Dialect>, JdbcError> {
        Ok(match &self.settings.database {
            Database::Postgres(settings) => Arc::new(Postgres::new(settings.clone(), self.settings.mode)?),
            Database::MySql(settings) => Arc::new(MySql::new(settings.clone(), self.settings.mode)),
            Database::Sqlite(path) => Arc::new(Sqlite::new(path.clone(), self.settings.mode)),
        })
    }
}

#[async_trait]
impl SinkConnector for JdbcSink {
    async fn connect(&self, context: SinkContext) -> Result<Arc<dyn Target>, ConnectorError> {
        let dialect = self.dialect()?;
        dialect.connect().await?;
        Ok(Arc::new(JdbcTarget { dialect, mode: self.settings.mode, context }))
    }

    async fn check(&self, _context: SinkContext) -> Result<Vec<Finding>, ConnectorError> {
        Ok(self.dialect()?.check().await?)
    }

    fn delivery(&self) -> Delivery {
        Delivery::WholeTable
    }

    fn policy(&self) -> FlushPolicy {
        self.settings.policy
    }
}

/// A connected database.
struct JdbcTarget {
    dialect: Arc<dyn Dialect>,
    mode: Mode,
    context: SinkContext,
}

#[async_trait]
impl Target for JdbcTarget {
    async fn open(&self, topic: &TopicInfo, reported: &NextOffsets) -> Result<OpenedSink, ConnectorError> {
        let table = self.dialect.table(topic.schema.table())?;
        if self.mode == Mode::Upsert && topic.schema.key().is_empty() {
            return Err(no_key(&table).into());
        }
        let owner = Owner::new(&self.context, topic);
        let (writer, held) = self.dialect.open(table.clone(), owner, reported).await?;
        let next = held.needed();
        let sink = TableSink { table, mode: self.mode, writer, pending: Pending::new(&held), held };
        Ok(OpenedSink { sink: Box::new(sink), next })
    }
}

/// The error for a table that `upsert` cannot keep.
pub(crate) fn no_key(table: &TargetTable) -> JdbcError {
    JdbcError::NoKey { table: table.sql.clone(), source_table: table.source.to_string() }
}

/// What was taken since the last flush.
#[derive(Debug)]
struct Pending {
    truncate: bool,
    rows: Vec<Rows>,
    next: NextOffsets,
    filled: Filled,
}

impl Pending {
    fn new(held: &Held) -> Self {
        Self { truncate: false, rows: Vec::new(), next: held.next.clone(), filled: Filled::default() }
    }
}

/// Writes one topic to its table.
struct TableSink {
    table: TargetTable,
    mode: Mode,
    writer: Box<dyn TableWriter>,
    held: Held,
    pending: Pending,
}

impl TableSink {
    fn take_rows(&mut self, mut rows: Rows) -> Result<(), JdbcError> {
        let expected = self.pending.next.get(&rows.partition).copied().unwrap_or(0);
        if expected > 0 && rows.first_offset > expected {
            let (table, partition, found) = (self.table.sql.clone(), rows.partition, rows.first_offset);
            return Err(JdbcError::Gap { table, partition, expected, found });
        }
        // Rows that the target has already may come again after a crash.
        let known = rows.offsets.partition_point(|offset| *offset < expected);
        if known > 0 {
            let rest = rows.offsets.len().min(rows.batch.len()).saturating_sub(known);
            rows.batch = rows.batch.slice(known.min(rows.batch.len()), rest);
            rows.offsets.drain(..known);
        }
        self.pending.next.insert(rows.partition, expected.max(rows.next_offset));
        if !rows.batch.is_empty() {
            if self.mode == Mode::Upsert && rows.batch.schema.key().is_empty() {
                return Err(no_key(&self.table));
            }
            self.pending.filled.rows += rows.batch.len() as u64;
            self.pending.filled.bytes += image_bytes(&rows);
            self.pending.rows.push(rows);
        }
        Ok(())
    }

    fn take_barrier(&mut self, barrier: Barrier) {
        let known = barrier.next.iter().all(|(partition, next)| self.pending.next.get(partition).is_some_and(|held| held >= next));
        if known {
            return;
        }
        match self.mode {
            // All rows before it are void, so they need not be written first.
            Mode::Upsert => {
                self.pending.rows.clear();
                self.pending.truncate = true;
            }
            Mode::Append => {
                let partition = barrier.next.keys().next().copied().unwrap_or(0);
                let next_offset = barrier.next.values().next().copied().unwrap_or(0);
                let offsets = vec![next_offset - 1; barrier.batch.len()];
                self.pending.filled.bytes += 64;
                self.pending.rows.push(Rows {
                    partition,
                    first_offset: next_offset - 1,
                    next_offset,
                    offsets,
                    batch: barrier.batch,
                });
            }
        }
        self.pending.filled.rows += 1;
        for (partition, next) in barrier.next {
            let held = self.pending.next.entry(partition).or_insert(0);
            *held = next.max(*held);
        }
    }
}

/// A barrier has no image, so it may have met another schema version than the rows around it; they are written as one.
fn give_barriers_the_shape_of_rows(all: &mut [Rows]) {
    let is_barrier = |rows: &Rows| rows.batch.ops.iter().all(|op| op.is_barrier());
    let Some(schema) = all.iter().find(|rows| !is_barrier(rows)).map(|rows| Arc::clone(&rows.batch.schema)) else { return };
    for rows in all.iter_mut().filter(|rows| is_barrier(rows)) {
        rows.batch.schema = Arc::clone(&schema);
        rows.batch.before = None;
        rows.batch.after = None;
        rows.batch.unchanged = None;
    }
}

/// The bytes of the rows' images, without those of the rows around them that share their buffers.
fn image_bytes(rows: &Rows) -> u64 {
    let batch = &rows.batch;
    let images = [&batch.before, &batch.after].into_iter().flatten();
    // A slice that cannot be measured (which no array of ours is) counts with all its buffers.
    let bytes = images.map(|image| image.to_data().get_slice_memory_size().unwrap_or_else(|_| image.get_array_memory_size()));
    (bytes.sum::<usize>() + batch.len() * 32) as u64
}

#[async_trait]
impl Sink for TableSink {
    async fn write(&mut self, input: SinkInput) -> Result<Filled, ConnectorError> {
        match input {
            SinkInput::Rows(rows) => self.take_rows(rows)?,
            SinkInput::Barrier(barrier) => self.take_barrier(barrier),
        }
        Ok(self.pending.filled)
    }

    async fn flush(&mut self) -> Result<Flushed, ConnectorError> {
        let pending = std::mem::replace(&mut self.pending, Pending::new(&self.held));
        if pending.next == self.held.next && !pending.truncate && pending.rows.is_empty() {
            return Ok(Flushed { next: self.held.needed(), bytes: 0 });
        }
        let mut pending = pending;
        give_barriers_the_shape_of_rows(&mut pending.rows);
        let next = pending.next.clone();
        let moved = next.iter().filter(|(partition, next)| self.held.next.get(*partition) != Some(*next));
        let moved = moved.map(|(partition, next)| (*partition, *next)).collect();
        let flush = Flush { truncate: pending.truncate, rows: pending.rows, held: self.held.clone(), next: moved };
        self.writer.apply(flush).await?;
        self.held.next = next;
        self.pending = Pending::new(&self.held);
        Ok(Flushed { next: self.held.needed(), bytes: pending.filled.bytes })
    }
}
