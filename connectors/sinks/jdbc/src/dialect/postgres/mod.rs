//! PostgreSQL: rows are copied in binary form into a temporary table, and merged from there.
mod check;
mod connection;
mod copy;
mod direct;
mod merge;
mod shape;
mod tls;
mod types;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use connector_api::{Finding, NextOffsets, TableName};

use tokio_postgres::types::ToSql;

use self::{
    connection::{Connection, Pool, PostgresServer},
    writer::PostgresWriter,
};
use crate::{
    config::{Mode, PostgresSettings},
    dialect::{Dialect, TableWriter},
    error::JdbcError,
    offsets::{COLUMNS, Found, Held, Owner, Stored, take_over},
    table::{TargetTable, quote, with_schema},
};

/// The lock that transactions take which make schemas and tables, so that two of them do not make the same. The number is arbitrary; it
/// only has to be the same for all.
const MAKE_LOCK: i64 = 0x4D61_696E_7374_656D;

/// A PostgreSQL database as a target.
#[derive(Debug)]
pub(crate) struct Postgres {
    pool: Arc<Pool>,
    mode: Mode,
}

impl Postgres {
    pub(crate) fn new(settings: PostgresSettings, mode: Mode) -> Result<Self, JdbcError> {
        let connections = settings.connections;
        Ok(Self { pool: Arc::new(Pool::new(PostgresServer::new(settings)?, connections)), mode })
    }

    async fn open_in(
        &self,
        connection: &mut Connection,
        table: &TargetTable,
        owner: &Owner,
        reported: &NextOffsets,
    ) -> Result<Held, JdbcError> {
        let doing = format!("open table {}", table.sql);
        connection.run(&doing, &format!("BEGIN; SELECT pg_advisory_xact_lock({MAKE_LOCK})")).await?;
        make_offsets(connection, table).await?;
        let found = find(connection, table, owner).await?;
        let held = take_over(owner, table, &found, reported)?;
        store(connection, table, owner, &held).await?;
        if !found.table_exists && self.mode == Mode::Upsert {
            shape::ensure(connection, table, &owner.topic.schema).await?;
        }
        connection.run(&doing, "COMMIT").await?;
        Ok(held)
    }
}

#[async_trait]
impl Dialect for Postgres {
    async fn connect(&self) -> Result<(), JdbcError> {
        self.pool.lease().await?.release();
        Ok(())
    }

    fn table(&self, source: &TableName) -> Result<TargetTable, JdbcError> {
        with_schema(source, self.pool.server().settings.schema.as_deref(), shape::NAME_BYTES_MAX)
    }

    async fn open(
        &self,
        table: TargetTable,
        owner: Owner,
        reported: &NextOffsets,
    ) -> Result<(Box<dyn TableWriter>, Held), JdbcError> {
        let mut lease = self.pool.lease().await?;
        let held = self.open_in(&mut lease.connection, &table, &owner, reported).await?;
        lease.release();
        Ok((Box::new(PostgresWriter::new(Arc::clone(&self.pool), table, owner, self.mode)), held))
    }

    async fn check(&self) -> Result<Vec<Finding>, JdbcError> {
        let mut lease = self.pool.lease().await?;
        let findings = check::check(&mut lease.connection, &self.pool.server().settings).await?;
        lease.release();
        Ok(findings)
    }
}

/// Makes the schema and the table of offset rows if they are missing. It looks first: who may not make a schema need not if it is there.
async fn make_offsets(connection: &mut Connection, table: &TargetTable) -> Result<(), JdbcError> {
    let schema = table.schema.clone().unwrap_or_default();
    let quoted = quote(&schema);
    let doing = format!("create schema {quoted}");
    let sql = "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL";
    let row = connection.client.query_one(sql, &[&quoted, &table.offsets_sql]).await;
    let row = row.map_err(|error| connection.failed(&doing, error))?;
    let there = || -> Result<(bool, bool), tokio_postgres::Error> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    let (has_schema, has_offsets) = there().map_err(|error| connection.failed(&doing, error))?;
    if !has_schema {
        connection.run(&doing, &format!("CREATE SCHEMA {quoted}")).await?;
    }
    if !has_offsets {
        let sql = format!(
            "CREATE TABLE {} (pipeline text NOT NULL, sink text NOT NULL, topic text NOT NULL, partition integer NOT NULL, \
             topic_id text NOT NULL, target_table text NOT NULL, next_offset bigint NOT NULL, epoch bigint NOT NULL, \
             PRIMARY KEY (pipeline, sink, topic, partition))",
            table.offsets_sql
        );
        connection.run(&format!("create table {}", table.offsets_sql), &sql).await?;
    }
    Ok(())
}

/// Locks and reads the offset rows, and looks at the table.
async fn find(connection: &mut Connection, table: &TargetTable, owner: &Owner) -> Result<Found, JdbcError> {
    let doing = format!("read the offsets of table {}", table.sql);
    let sql = format!(
        "SELECT {COLUMNS} FROM {} WHERE (pipeline = $1 AND sink = $2 AND topic = $3) OR target_table = $4 \
         ORDER BY pipeline, sink, topic, partition FOR UPDATE",
        table.offsets_sql
    );
    let rows = connection.client.query(&sql, &[&owner.pipeline, &owner.sink, &owner.topic.name, &table.sql]).await;
    let rows = rows.map_err(|error| connection.failed(&doing, error))?;
    let read = |row: &tokio_postgres::Row| -> Result<Stored, tokio_postgres::Error> {
        Ok(Stored {
            pipeline: row.try_get(0)?,
            sink: row.try_get(1)?,
            topic: row.try_get(2)?,
            partition: row.try_get(3)?,
            topic_id: row.try_get(4)?,
            next: row.try_get(6)?,
            epoch: row.try_get(7)?,
        })
    };
    let offsets = rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| connection.failed(&doing, error))?;
    let table_exists = shape::exists(connection, table).await?;
    let mut table_has_rows = false;
    if table_exists {
        let doing = format!("look into table {}", table.sql);
        let row = connection.client.query_one(&format!("SELECT EXISTS (SELECT FROM {})", table.sql), &[]).await;
        table_has_rows = row.and_then(|row| row.try_get(0)).map_err(|error| connection.failed(&doing, error))?;
    }
    Ok(Found { offsets, table_exists, table_has_rows })
}

/// Writes the offset rows that the writer holds from now on.
async fn store(connection: &mut Connection, table: &TargetTable, owner: &Owner, held: &Held) -> Result<(), JdbcError> {
    let doing = format!("take over the offsets of table {}", table.sql);
    let sql = format!(
        "INSERT INTO {} AS o ({COLUMNS}) SELECT $1, $2, $3, v.partition, $4, $5, v.next, $6 FROM unnest($7::int4[], $8::int8[]) AS v(partition, next) \
         ON CONFLICT (pipeline, sink, topic, partition) DO UPDATE SET epoch = EXCLUDED.epoch, target_table = EXCLUDED.target_table",
        table.offsets_sql
    );
    let (partitions, offsets): (Vec<i32>, Vec<i64>) = held.next.iter().unzip();
    let topic_id = owner.topic.id.to_string();
    let names: [&(dyn ToSql + Sync); 5] = [&owner.pipeline, &owner.sink, &owner.topic.name, &topic_id, &table.sql];
    let numbers: [&(dyn ToSql + Sync); 3] = [&held.epoch, &partitions, &offsets];
    let stored = connection.client.execute(&sql, &[&names[..], &numbers[..]].concat()).await;
    stored.map(drop).map_err(|error| connection.failed(&doing, error))
}
