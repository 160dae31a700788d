use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use connector_api::{NextOffsets, Offset, PartitionId, TableSchema};
use futures_util::{SinkExt, future};
use tokio_postgres::{CopyInSink, types::ToSql};

use super::{
    connection::{Connection, Pool},
    copy::CopyRows,
    direct,
    merge::MergeSql,
    shape::{self, Shape},
    types::PgType,
};
use crate::{
    append::{Beside, append_schema},
    collapse::collapse,
    config::Mode,
    dialect::{
        TableWriter,
        staging::{AppendRows, NextRow, StageRows, Staged, named},
    },
    error::JdbcError,
    flush::{Flush, Images},
    offsets::{self, Held, Owner},
    table::{TargetTable, quote_all},
};

/// Rows are sent in pieces of this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Writes one table of a PostgreSQL database.
pub(crate) struct PostgresWriter {
    pool: Arc<Pool>,
    table: TargetTable,
    owner: Owner,
    mode: Mode,
    /// The shape that the table was given last, and for rows of which schema.
    shape: Option<(Arc<TableSchema>, Arc<Shape>)>,
}

impl PostgresWriter {
    pub(crate) fn new(pool: Arc<Pool>, table: TargetTable, owner: Owner, mode: Mode) -> Self {
        Self { pool, table, owner, mode, shape: None }
    }
}

#[async_trait]
impl TableWriter for PostgresWriter {
    async fn apply(&mut self, flush: Flush) -> Result<(), JdbcError> {
        let pool = Arc::clone(&self.pool);
        let mut lease = pool.lease().await?;
        let done = self.transact(&mut lease.connection, &flush).await;
        if let Err(JdbcError::ConnectionLost { .. }) = &done {
            pool.forget_idle();
        }
        let shape = done?;
        lease.release();
        if let (Some(schema), Some(shape)) = (flush.schema(), shape) {
            self.shape = Some((Arc::clone(schema), shape));
        }
        Ok(())
    }
}

impl PostgresWriter {
    async fn transact(&self, connection: &mut Connection, flush: &Flush) -> Result<Option<Arc<Shape>>, JdbcError> {
        let schema = flush.schema().map(|schema| self.row_schema(schema, flush)).transpose()?;
        self.begin(connection, &flush.held).await?;
        let mut shape = None;
        if let (Some(schema), Some(source)) = (&schema, flush.schema()) {
            let known = self.shape.as_ref().filter(|(known, _)| known == source).map(|(_, shape)| Arc::clone(shape));
            shape = Some(match known {
                Some(shape) => shape,
                None => Arc::new(shape::ensure(connection, &self.table, schema).await?),
            });
        }
        if flush.truncate {
            connection.run(&format!("empty table {}", self.table.sql), &format!("TRUNCATE TABLE {}", self.table.sql)).await?;
        }
        if let (Some(source), Some(shape)) = (flush.schema(), &shape) {
            match self.mode {
                Mode::Upsert => self.merge(connection, flush, source, shape).await?,
                Mode::Append => self.append(connection, flush, source, shape).await?,
            }
        }
        self.commit(connection, &flush.next).await?;
        Ok(shape)
    }

    /// The shape of the table's rows.
    fn row_schema(&self, schema: &Arc<TableSchema>, flush: &Flush) -> Result<Arc<TableSchema>, JdbcError> {
        match (self.mode, flush.rows.first()) {
            (Mode::Append, Some(rows)) => append_schema(&self.table.sql, schema, &rows.batch.info).map(Arc::new),
            _ => Ok(Arc::clone(schema)),
        }
    }

    /// Begins a transaction, locks the offset rows and compares them with what this writer left.
    async fn begin(&self, connection: &mut Connection, held: &Held) -> Result<(), JdbcError> {
        let doing = format!("lock the offsets of table {}", self.table.sql);
        let sql = format!(
            "SELECT partition, next_offset, epoch FROM {} WHERE pipeline = $1 AND sink = $2 AND topic = $3 ORDER BY partition FOR UPDATE",
            self.table.offsets_sql
        );
        let statement = connection.prepare(&doing, &sql).await?;
        // Sent together: one way to the server and back less.
        let names: [&(dyn ToSql + Sync); 3] = [&self.owner.pipeline, &self.owner.sink, &self.owner.topic.name];
        let (begun, rows) =
            future::join(connection.client.batch_execute("BEGIN"), connection.client.query(&statement, &names)).await;
        begun.map_err(|error| connection.failed(&doing, error))?;
        let rows = rows.map_err(|error| connection.failed(&doing, error))?;
        let stored = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect::<Result<Vec<_>, _>>();
        let stored = stored.map_err(|error| connection.failed(&doing, error))?;
        offsets::compare(&self.owner, &self.table, held, &stored)
    }

    /// Moves the offset rows and commits.
    async fn commit(&self, connection: &mut Connection, next: &NextOffsets) -> Result<(), JdbcError> {
        let doing = format!("commit to table {}", self.table.sql);
        let sql = format!(
            "UPDATE {} o SET next_offset = v.next FROM unnest($4::int4[], $5::int8[]) AS v(partition, next) \
             WHERE o.pipeline = $1 AND o.sink = $2 AND o.topic = $3 AND o.partition = v.partition",
            self.table.offsets_sql
        );
        let statement = connection.prepare(&doing, &sql).await?;
        let (partitions, offsets): (Vec<PartitionId>, Vec<Offset>) = next.iter().unzip();
        let owner = &self.owner;
        let values: [&(dyn ToSql + Sync); 5] = [&owner.pipeline, &owner.sink, &owner.topic.name, &partitions, &offsets];
        // Sent together: if the offsets do not move, the commit that follows rolls back.
        let (moved, committed) =
            future::join(connection.client.execute(&statement, &values), connection.client.batch_execute("COMMIT")).await;
        moved.map(drop).and(committed).map_err(|error| connection.failed(&doing, error))
    }

    /// Sends rows, which are made while the server takes in those before them.
    async fn copy<'a>(
        &self,
        connection: &mut Connection,
        sql: &str,
        shape: &'a Shape,
        from: &mut dyn NextRow<CopyRows<'a>>,
    ) -> Result<(), JdbcError> {
        let doing = format!("copy rows for table {}", self.table.sql);
        let statement = connection.prepare(&doing, sql).await?;
        let failed = |error| connection.failed(&doing, error);
        let sink: CopyInSink<Bytes> = connection.client.copy_in(&statement).await.map_err(failed)?;
        futures_util::pin_mut!(sink);
        let mut rows = CopyRows::new(&shape.columns);
        while from.next_row(&mut rows)? {
            if rows.len() >= PIECE_BYTES {
                sink.feed(rows.take()).await.map_err(failed)?;
            }
        }
        sink.feed(rows.finish()).await.map_err(failed)?;
        sink.finish().await.map(drop).map_err(failed)
    }

    async fn merge(
        &self,
        connection: &mut Connection,
        flush: &Flush,
        schema: &TableSchema,
        shape: &Shape,
    ) -> Result<(), JdbcError> {
        let images = Images::new(&self.table.sql, schema, &flush.rows)?;
        let net = collapse(&images)?;
        if direct::suits(&net) {
            return direct::write(connection, &self.table, &images, &net, shape).await;
        }
        let staged = Staged::of(&net);
        let stage = self.stage(connection, shape, staged.plain).await?;
        // Which row of the log a staged row is, for the one message that needs it.
        let partial = staged.patches || staged.moves;
        let missing = if partial { net.rows.iter().map(|row| images.offset(row.last)).collect() } else { Vec::new() };
        let sql = MergeSql::new(&self.table, shape, &stage);
        let doing = format!("merge rows into table {}", self.table.sql);
        let copy = if staged.plain { &sql.copy_plain } else { &sql.copy_full };
        let copied = self.copy(connection, copy, shape, &mut StageRows::new(&images, &net, staged)).await;
        copied.map_err(|error| named(error, |number| Some(&shape.columns.get(number)?.name)))?;
        if staged.moves {
            connection.run(&doing, &sql.save_moved).await?;
            self.require_none(connection, &sql.missing_moved, &missing).await?;
        }
        if staged.patches {
            self.require_none(connection, &sql.missing_patch, &missing).await?;
        }
        if staged.deletes {
            self.execute(connection, &doing, &sql.delete).await?;
        }
        if staged.moves {
            connection.run(&doing, &sql.insert_moved).await?;
        }
        if let Some(patch) = sql.patch.as_ref().filter(|_| staged.patches) {
            self.execute(connection, &doing, patch).await?;
        }
        if staged.upserts {
            self.execute(connection, &doing, if staged.plain { &sql.upsert_plain } else { &sql.upsert }).await?;
        }
        Ok(())
    }

    async fn stage(&self, connection: &mut Connection, shape: &Shape, plain: bool) -> Result<String, JdbcError> {
        let types: Vec<PgType> = shape.columns.iter().map(|column| column.staged.clone()).collect();
        connection.stage(&types, &shape.key, plain).await
    }

    async fn execute(&self, connection: &mut Connection, doing: &str, sql: &str) -> Result<(), JdbcError> {
        let statement = connection.prepare(doing, sql).await?;
        connection.client.execute(&statement, &[]).await.map(drop).map_err(|error| connection.failed(doing, error))
    }

    /// Fails if the query finds a staged row, which lacks columns that are not in the table.
    async fn require_none(
        &self,
        connection: &mut Connection,
        sql: &str,
        offsets: &[(PartitionId, Offset)],
    ) -> Result<(), JdbcError> {
        let doing = format!("look for the rows to change in table {}", self.table.sql);
        let found = connection.client.query_opt(sql, &[]).await.map_err(|error| connection.failed(&doing, error))?;
        let Some(row) = found else { return Ok(()) };
        let number: i32 = row.try_get(0).map_err(|error| connection.failed(&doing, error))?;
        let (partition, offset) = offsets.get(number as usize).copied().unwrap_or((-1, -1));
        Err(JdbcError::MissingRow { table: self.table.sql.clone(), partition, offset })
    }

    async fn append(
        &self,
        connection: &mut Connection,
        flush: &Flush,
        schema: &TableSchema,
        shape: &Shape,
    ) -> Result<(), JdbcError> {
        let images = Images::new(&self.table.sql, schema, &flush.rows)?;
        let beside: Vec<_> = images.rows().enumerate().map(|(batch, rows)| Beside::new(&images, batch, rows)).collect();
        let mut rows = AppendRows::new(&images, &beside)?;
        let columns = quote_all(shape.columns.iter().map(|column| column.name.as_str()));
        if shape.columns.iter().all(|column| column.cast.is_none()) {
            let sql = format!("COPY {} ({columns}) FROM STDIN (FORMAT binary)", self.table.sql);
            return self.copy(connection, &sql, shape, &mut rows).await;
        }
        // The table's types are wider than the rows', and COPY's binary form takes exact types only.
        let sql = MergeSql::new(&self.table, shape, &self.stage(connection, shape, true).await?);
        let copied = self.copy(connection, &sql.copy_plain, shape, &mut rows).await;
        copied.map_err(|error| named(error, |number| Some(&shape.columns.get(number)?.name)))?;
        self.execute(connection, &format!("append rows to table {}", self.table.sql), &sql.append).await
    }
}
