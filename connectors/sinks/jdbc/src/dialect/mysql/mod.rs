//! MySQL and MariaDB: rows are loaded from memory into a temporary table, and merged from there.
mod check;
mod connection;
mod direct;
mod load;
mod make_lock;
mod merge;
mod names;
mod refusal;
mod rows;
mod shape;
mod tls;
mod types;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use connector_api::{Finding, NextOffsets, TableName};

use self::{
    connection::{Connection, MySqlServer, Pool},
    names::{literal, quote},
    writer::{MySqlWriter, where_owner},
};
use crate::{
    config::{Mode, MySqlSettings},
    dialect::{Dialect, TableWriter},
    error::JdbcError,
    offsets::{Found, Held, Owner, Stored, take_over},
    table::TargetTable,
};

/// A MySQL or MariaDB server as a target.
#[derive(Debug)]
pub(crate) struct MySql {
    pool: Arc<Pool>,
    mode: Mode,
}

impl MySql {
    pub(crate) fn new(settings: MySqlSettings, mode: Mode) -> Self {
        let connections = settings.connections;
        Self { pool: Arc::new(Pool::new(MySqlServer::new(settings), connections)), mode }
    }

    /// Offset rows first, then the table: if this ends in between, the next one finds rows that say that nothing was written.
    async fn open_in(
        &self,
        connection: &mut Connection,
        table: &TargetTable,
        owner: &Owner,
        reported: &NextOffsets,
    ) -> Result<Held, JdbcError> {
        let doing = format!("open table {}", table.sql);
        make_offsets(connection, table).await?;
        connection.run(&doing, "START TRANSACTION").await?;
        let found = find(connection, table, owner).await?;
        let held = take_over(owner, table, &found, reported)?;
        store(connection, table, owner, &held).await?;
        connection.run(&doing, "COMMIT").await?;
        if !found.table_exists && self.mode == Mode::Upsert {
            shape::ensure(connection, table, &owner.topic.schema).await?;
        }
        Ok(held)
    }
}

#[async_trait]
impl Dialect for MySql {
    async fn connect(&self) -> Result<(), JdbcError> {
        self.pool.lease().await?.release();
        Ok(())
    }

    fn table(&self, source: &TableName) -> Result<TargetTable, JdbcError> {
        names::table(source, self.pool.server().settings.database.as_deref())
    }

    async fn open(
        &self,
        table: TargetTable,
        owner: Owner,
        reported: &NextOffsets,
    ) -> Result<(Box<dyn TableWriter>, Held), JdbcError> {
        let mut lease = self.pool.lease().await?;
        let lock = make_lock::take(&mut lease.connection, &table).await?;
        let held = self.open_in(&mut lease.connection, &table, &owner, reported).await?;
        make_lock::release(&mut lease.connection, &lock).await?;
        lease.release();
        Ok((Box::new(MySqlWriter::new(Arc::clone(&self.pool), table, owner, self.mode)), held))
    }

    async fn check(&self) -> Result<Vec<Finding>, JdbcError> {
        let mut lease = self.pool.lease().await?;
        let findings = check::check(&mut lease.connection, &self.pool.server().settings).await?;
        lease.release();
        Ok(findings)
    }
}

/// Makes the database and the table of offset rows if they are missing. It looks first: who may not make a database need not if it is there.
async fn make_offsets(connection: &mut Connection, table: &TargetTable) -> Result<(), JdbcError> {
    let database = table.schema.clone().unwrap_or_default();
    let doing = format!("create database {}", quote(&database));
    let sql = format!(
        "SELECT (SELECT count(*) FROM information_schema.schemata WHERE schema_name = {0}), \
         (SELECT count(*) FROM information_schema.tables WHERE table_schema = {0} AND table_name = 'mainstem_offsets')",
        literal(&database)
    );
    let row = connection.row(&doing, &sql).await?;
    let (databases, offsets): (i64, i64) = (connection.value(&doing, &row, 0)?, connection.value(&doing, &row, 1)?);
    let collation = connection.flavor.collation();
    if databases == 0 {
        let sql = format!("CREATE DATABASE {} DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}", quote(&database));
        connection.run(&doing, sql).await?;
    }
    if offsets == 0 {
        // The names in the key have 255 characters each because that is what an index can hold; the log's own limit is below it.
        let sql = format!(
            "CREATE TABLE {} (pipeline varchar(255) NOT NULL, sink varchar(255) NOT NULL, topic varchar(255) NOT NULL, `partition` int NOT NULL, \
             topic_id varchar(36) NOT NULL, target_table varchar(512) NOT NULL, next_offset bigint NOT NULL, epoch bigint NOT NULL, \
             PRIMARY KEY (pipeline, sink, topic, `partition`)) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}",
            table.offsets_sql
        );
        connection.run(&format!("create table {}", table.offsets_sql), sql).await?;
    }
    Ok(())
}

/// Locks and reads the offset rows, and looks at the table. Those of other topics are read without a lock: their writers may be in the middle of a flush.
async fn find(connection: &mut Connection, table: &TargetTable, owner: &Owner) -> Result<Found, JdbcError> {
    let doing = format!("read the offsets of table {}", table.sql);
    let select = format!("SELECT pipeline, sink, topic, `partition`, topic_id, next_offset, epoch FROM {}", table.offsets_sql);
    let owned = where_owner(owner);
    let others = format!("{select} WHERE target_table = {} AND NOT ({})", literal(&table.sql), owned.trim_start_matches("WHERE "));
    let mut offsets = Vec::new();
    for sql in [format!("{select} {owned} ORDER BY `partition` FOR UPDATE"), others] {
        for row in connection.rows(&doing, &sql).await? {
            offsets.push(Stored {
                pipeline: connection.value(&doing, &row, 0)?,
                sink: connection.value(&doing, &row, 1)?,
                topic: connection.value(&doing, &row, 2)?,
                partition: connection.value(&doing, &row, 3)?,
                topic_id: connection.value(&doing, &row, 4)?,
                next: connection.value(&doing, &row, 5)?,
                epoch: connection.value(&doing, &row, 6)?,
            });
        }
    }
    let table_exists = shape::exists(connection, table).await?;
    let mut table_has_rows = false;
    if table_exists {
        let doing = format!("look into table {}", table.sql);
        let row = connection.row(&doing, &format!("SELECT EXISTS (SELECT 1 FROM {})", table.sql)).await?;
        table_has_rows = connection.value::<i64>(&doing, &row, 0)? != 0;
    }
    Ok(Found { offsets, table_exists, table_has_rows })
}

/// Writes the offset rows that the writer holds from now on.
async fn store(connection: &mut Connection, table: &TargetTable, owner: &Owner, held: &Held) -> Result<(), JdbcError> {
    let doing = format!("take over the offsets of table {}", table.sql);
    let topic_id = owner.topic.id.to_string();
    let names = [&owner.pipeline, &owner.sink, &owner.topic.name, &topic_id, &table.sql].map(|name| literal(name));
    let [pipeline, sink, topic, topic_id, target] = &names;
    let row = |(partition, next): (&i32, &i64)| {
        format!("({pipeline}, {sink}, {topic}, {topic_id}, {target}, {partition}, {next}, {})", held.epoch)
    };
    let rows: Vec<String> = held.next.iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {} (pipeline, sink, topic, topic_id, target_table, `partition`, next_offset, epoch) VALUES {} \
         ON DUPLICATE KEY UPDATE epoch = {}, target_table = {target}",
        table.offsets_sql,
        rows.join(", "),
        held.epoch
    );
    connection.write(&doing, sql).await.map(drop)
}
