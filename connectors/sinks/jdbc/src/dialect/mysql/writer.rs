use std::sync::Arc;

use async_trait::async_trait;
use connector_api::{NextOffsets, TableSchema};

use super::{
    connection::{Connection, Pool},
    direct,
    load::load,
    make_lock,
    merge::MergeSql,
    names::literal,
    shape::{self, Shape},
};
use crate::{
    append::{Beside, append_schema},
    collapse::{Net, collapse},
    config::Mode,
    dialect::{
        TableWriter,
        staging::{AppendRows, StageRows, Staged, named},
    },
    error::JdbcError,
    flush::{Flush, Images},
    offsets::{self, Held, Owner},
    table::TargetTable,
};

/// Writes one table of a MySQL or MariaDB database.
pub(crate) struct MySqlWriter {
    pool: Arc<Pool>,
    table: TargetTable,
    owner: Owner,
    mode: Mode,
    /// The shape that the table was given last, and for rows of which schema.
    shape: Option<(Arc<TableSchema>, Arc<Shape>)>,
}

impl MySqlWriter {
    pub(crate) fn new(pool: Arc<Pool>, table: TargetTable, owner: Owner, mode: Mode) -> Self {
        Self { pool, table, owner, mode, shape: None }
    }
}

#[async_trait]
impl TableWriter for MySqlWriter {
    async fn apply(&mut self, flush: Flush) -> Result<(), JdbcError> {
        let pool = Arc::clone(&self.pool);
        let mut lease = pool.lease().await?;
        let done = self.flush(&mut lease.connection, &flush).await;
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

/// `WHERE pipeline = … AND sink = … AND topic = …`
pub(crate) fn where_owner(owner: &Owner) -> String {
    let [pipeline, sink, topic] = [&owner.pipeline, &owner.sink, &owner.topic.name].map(|name| literal(name));
    format!("WHERE pipeline = {pipeline} AND sink = {sink} AND topic = {topic}")
}

impl MySqlWriter {
    /// The table is given its shape first, because that commits. Then rows are staged, which nobody else sees. What others see is one transaction.
    async fn flush(&self, connection: &mut Connection, flush: &Flush) -> Result<Option<Arc<Shape>>, JdbcError> {
        let mut shape = None;
        if let Some(source) = flush.schema() {
            let known = self.shape.as_ref().filter(|(known, _)| known == source).map(|(_, shape)| Arc::clone(shape));
            shape = Some(match known {
                Some(shape) => shape,
                None => Arc::new(self.give_shape(connection, flush, source).await?),
            });
        }
        match (flush.schema(), &shape) {
            (Some(source), Some(shape)) => {
                let images = Images::new(&self.table.sql, source, &flush.rows)?;
                match self.mode {
                    Mode::Upsert => self.upsert(connection, flush, &images, shape).await?,
                    Mode::Append => self.append(connection, flush, &images, shape).await?,
                }
            }
            _ => {
                self.begin(connection, flush).await?;
                self.commit(connection, &flush.next).await?;
            }
        }
        Ok(shape)
    }

    /// Gives the table the shape of the rows. Whoever lost the table to another writer may not do so: the offset rows are compared first, and nobody can
    /// take the table over until it is done.
    async fn give_shape(&self, connection: &mut Connection, flush: &Flush, schema: &Arc<TableSchema>) -> Result<Shape, JdbcError> {
        let schema = match (self.mode, flush.rows.first()) {
            (Mode::Append, Some(rows)) => &Arc::new(append_schema(&self.table.sql, schema, &rows.batch.info)?),
            _ => schema,
        };
        let lock = make_lock::take(connection, &self.table).await?;
        self.lock_offsets(connection, &flush.held).await?;
        connection.run("end a transaction", "ROLLBACK").await?;
        let shape = shape::ensure(connection, &self.table, schema).await?;
        make_lock::release(connection, &lock).await?;
        Ok(shape)
    }

    /// Begins a transaction, locks the offset rows and compares them with what this writer left.
    async fn lock_offsets(&self, connection: &mut Connection, held: &Held) -> Result<(), JdbcError> {
        let doing = format!("lock the offsets of table {}", self.table.sql);
        let sql = format!(
            "START TRANSACTION; SELECT `partition`, next_offset, epoch FROM {} {} FOR UPDATE",
            self.table.offsets_sql,
            where_owner(&self.owner)
        );
        let rows = connection.rows_of_last(&doing, &sql).await?;
        let mut stored = Vec::with_capacity(rows.len());
        for row in &rows {
            stored.push((connection.value(&doing, row, 0)?, connection.value(&doing, row, 1)?, connection.value(&doing, row, 2)?));
        }
        offsets::compare(&self.owner, &self.table, held, &stored)
    }

    /// Begins the transaction of a flush, and empties the table if that is asked for. `TRUNCATE` would commit.
    async fn begin(&self, connection: &mut Connection, flush: &Flush) -> Result<(), JdbcError> {
        self.lock_offsets(connection, &flush.held).await?;
        if flush.truncate {
            connection.run(&format!("empty table {}", self.table.sql), format!("DELETE FROM {}", self.table.sql)).await?;
        }
        Ok(())
    }

    /// Moves the offset rows and commits. They are sent together: if the offsets do not move, the server does not come to the commit.
    async fn commit(&self, connection: &mut Connection, next: &NextOffsets) -> Result<(), JdbcError> {
        let mut sql = String::new();
        if !next.is_empty() {
            let cases = next.iter().map(|(partition, offset)| format!(" WHEN {partition} THEN {offset}")).collect::<String>();
            let partitions = next.keys().map(i32::to_string).collect::<Vec<_>>().join(", ");
            sql = format!(
                "UPDATE {} SET next_offset = CASE `partition`{cases} END {} AND `partition` IN ({partitions}); ",
                self.table.offsets_sql,
                where_owner(&self.owner)
            );
        }
        sql.push_str("COMMIT");
        connection.run(&format!("commit to table {}", self.table.sql), sql).await.map(drop)
    }

    async fn stage(&self, connection: &mut Connection, shape: &Shape) -> Result<String, JdbcError> {
        let database = super::names::quote(self.table.schema.as_deref().unwrap_or_default());
        connection.stage(&database, &shape.staged(), &shape.key).await
    }

    async fn upsert(
        &self,
        connection: &mut Connection,
        flush: &Flush,
        images: &Images<'_>,
        shape: &Shape,
    ) -> Result<(), JdbcError> {
        let net = collapse(images)?;
        if direct::suits(connection, &net, shape)
            && let Some(statements) = direct::statements(connection, &self.table, images, &net, shape)?
        {
            let doing = format!("merge rows into table {}", self.table.sql);
            self.begin(connection, flush).await?;
            for statement in statements {
                connection.write(&doing, statement).await?;
            }
            return self.commit(connection, &flush.next).await;
        }
        let staged = Staged::of(&net);
        let stage = self.stage(connection, shape).await?;
        let sql = MergeSql::new(&self.table, shape, &stage);
        let columns = if staged.plain { &sql.plain_columns } else { &sql.full_columns };
        let doing = format!("load rows for table {}", self.table.sql);
        let loaded = load(connection, &doing, &stage, columns, &shape.staged(), &mut StageRows::new(images, &net, staged)).await;
        loaded.map_err(|error| named(error, |number| Some(&shape.columns.get(number)?.name)))?;

        let doing = format!("merge rows into table {}", self.table.sql);
        if staged.moves {
            connection.run(&doing, &sql.make_moved).await?;
        }
        self.begin(connection, flush).await?;
        self.merge(connection, &doing, images, &net, staged, &sql).await?;
        self.commit(connection, &flush.next).await?;
        if staged.moves {
            connection.run(&doing, &sql.drop_moved).await?;
        }
        Ok(())
    }

    async fn merge(
        &self,
        connection: &mut Connection,
        doing: &str,
        images: &Images<'_>,
        net: &Net,
        staged: Staged,
        sql: &MergeSql,
    ) -> Result<(), JdbcError> {
        if staged.moves {
            connection.write(doing, &sql.save_moved).await?;
            self.require_none(connection, &sql.missing_moved, images, net).await?;
        }
        if staged.patches {
            self.require_none(connection, &sql.missing_patch, images, net).await?;
        }
        if staged.deletes {
            connection.run(doing, &sql.delete).await?;
        }
        if staged.moves {
            connection.write(doing, &sql.insert_moved).await?;
        }
        if let Some(patch) = sql.patch.as_ref().filter(|_| staged.patches) {
            connection.write(doing, patch).await?;
        }
        if staged.upserts {
            for upsert in if staged.plain { &sql.upsert_plain } else { &sql.upsert } {
                connection.write(doing, upsert).await?;
            }
        }
        Ok(())
    }

    /// Fails if the query finds a staged row, which lacks columns that are not in the table.
    async fn require_none(&self, connection: &mut Connection, sql: &str, images: &Images<'_>, net: &Net) -> Result<(), JdbcError> {
        let doing = format!("look for the rows to change in table {}", self.table.sql);
        let rows = connection.rows(&doing, sql).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let number: usize = connection.value(&doing, row, 0)?;
        let (partition, offset) = net.rows.get(number).map_or((-1, -1), |row| images.offset(row.last));
        Err(JdbcError::MissingRow { table: self.table.sql.clone(), partition, offset })
    }

    async fn append(
        &self,
        connection: &mut Connection,
        flush: &Flush,
        images: &Images<'_>,
        shape: &Shape,
    ) -> Result<(), JdbcError> {
        let beside: Vec<_> = images.rows().enumerate().map(|(batch, rows)| Beside::new(images, batch, rows)).collect();
        let mut rows = AppendRows::new(images, &beside)?;
        let types = shape.staged();
        let doing = format!("append rows to table {}", self.table.sql);
        if shape.exact {
            self.begin(connection, flush).await?;
            load(connection, &doing, &self.table.sql, &direct::column_list(shape), &types, &mut rows).await?;
            return self.commit(connection, &flush.next).await;
        }
        // The table's types are not the rows', and a file's values are cut to fit where a statement's are refused.
        let stage = self.stage(connection, shape).await?;
        let sql = MergeSql::new(&self.table, shape, &stage);
        let loaded = load(connection, &doing, &stage, &sql.plain_columns, &types, &mut rows).await;
        loaded.map_err(|error| named(error, |number| Some(&shape.columns.get(number)?.name)))?;
        self.begin(connection, flush).await?;
        connection.write(&doing, &sql.append).await?;
        self.commit(connection, &flush.next).await
    }
}
