use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use connector_api::TableSchema;
use rusqlite::{CachedStatement, Connection, TransactionBehavior, types::Value};

use super::{Shared, shape, value::bind};
use crate::{
    append::{Beside, append_schema, place},
    collapse::{Kind, Net, NetRow, collapse},
    config::Mode,
    dialect::TableWriter,
    error::JdbcError,
    flush::{Flush, Images, Place, RowRef},
    offsets::{self, Owner},
    table::{TargetTable, quote, quote_all},
};

/// Writes one table of a SQLite file.
pub(crate) struct SqliteWriter {
    inner: Arc<Inner>,
    /// The schema that the table was given the shape of last.
    shaped: Option<Arc<TableSchema>>,
}

struct Inner {
    shared: Arc<Shared>,
    table: TargetTable,
    owner: Owner,
    mode: Mode,
}

impl SqliteWriter {
    pub(crate) fn new(shared: Arc<Shared>, table: TargetTable, owner: Owner, mode: Mode) -> Self {
        Self { inner: Arc::new(Inner { shared, table, owner, mode }), shaped: None }
    }
}

#[async_trait]
impl TableWriter for SqliteWriter {
    async fn apply(&mut self, flush: Flush) -> Result<(), JdbcError> {
        let inner = Arc::clone(&self.inner);
        let schema = flush.schema().cloned();
        let is_shaped = schema.is_none() || schema == self.shaped;
        let path = inner.shared.path.clone();
        let mut connection = Arc::clone(&inner.shared.connection).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || inner.apply(&mut connection, &flush, is_shaped)).await;
        written.map_err(|_| JdbcError::Interrupted { path })??;
        self.shaped = schema.or(self.shaped.take());
        Ok(())
    }
}

impl Inner {
    fn failed(&self, doing: &str, cause: rusqlite::Error) -> JdbcError {
        JdbcError::Sqlite { path: self.shared.path.clone(), doing: doing.to_owned(), cause }
    }

    fn apply(&self, connection: &mut Connection, flush: &Flush, is_shaped: bool) -> Result<(), JdbcError> {
        let table = &self.table.sql;
        let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begin.map_err(|error| self.failed(&format!("begin to write table {table}"), error))?;
        self.compare_offsets(&transaction, flush)?;
        if let (Some(schema), false) = (flush.schema(), is_shaped) {
            let info = flush.rows.first().map(|rows| &rows.batch.info);
            let failed = |doing: &str, error| self.failed(doing, error);
            match (self.mode, info) {
                (Mode::Append, Some(info)) => {
                    shape::ensure(&transaction, &self.table, &append_schema(table, schema, info)?, &failed)?
                }
                _ => shape::ensure(&transaction, &self.table, schema, &failed)?,
            };
        }
        if flush.truncate {
            let emptied = transaction.execute_batch(&format!("DELETE FROM {table}"));
            emptied.map_err(|error| self.failed(&format!("empty table {table}"), error))?;
        }
        if let Some(schema) = flush.schema() {
            let images = Images::new(table, schema, &flush.rows)?;
            match self.mode {
                Mode::Upsert => self.merge(&transaction, &images)?,
                Mode::Append => {
                    let doing = format!("append rows to table {table}");
                    self.append(&transaction, &images, flush).map_err(|error| error.or(|error| self.failed(&doing, error)))?;
                }
            }
        }
        self.move_offsets(&transaction, flush)?;
        transaction.commit().map_err(|error| self.failed(&format!("commit to table {table}"), error))
    }

    fn compare_offsets(&self, connection: &Connection, flush: &Flush) -> Result<(), JdbcError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT partition, next_offset, epoch FROM {} WHERE pipeline = ?1 AND sink = ?2 AND topic = ?3",
                self.table.offsets_sql
            ))?;
            let owner = (&self.owner.pipeline, &self.owner.sink, &self.owner.topic.name);
            statement.query_map(owner, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        };
        let stored = read().map_err(|error| self.failed(&format!("read the offsets of table {}", self.table.sql), error))?;
        offsets::compare(&self.owner, &self.table, &flush.held, &stored)
    }

    fn move_offsets(&self, connection: &Connection, flush: &Flush) -> Result<(), JdbcError> {
        let write = || -> rusqlite::Result<()> {
            let mut statement = connection.prepare_cached(&format!(
                "UPDATE {} SET next_offset = ?5 WHERE pipeline = ?1 AND sink = ?2 AND topic = ?3 AND partition = ?4",
                self.table.offsets_sql
            ))?;
            for (partition, next) in &flush.next {
                statement.execute((&self.owner.pipeline, &self.owner.sink, &self.owner.topic.name, partition, next))?;
            }
            Ok(())
        };
        write().map_err(|error| self.failed(&format!("move the offsets of table {}", self.table.sql), error))
    }

    fn append(&self, connection: &Connection, images: &Images<'_>, flush: &Flush) -> Result<(), Either> {
        let own = images.schema().columns().len();
        let Some(first) = flush.rows.first() else { return Ok(()) };
        let all = append_schema(&self.table.sql, images.schema(), &first.batch.info)?;
        let columns = quote_all(all.columns().iter().map(|column| column.name.as_str()));
        let parameters = vec!["?"; all.columns().len()].join(", ");
        let mut statement =
            connection.prepare_cached(&format!("INSERT INTO {} ({columns}) VALUES ({parameters})", self.table.sql))?;
        let mut scratch = String::new();
        for (batch, part) in images.rows().enumerate() {
            let beside = Beside::new(images, batch, part);
            let values = beside.values(&self.table.sql)?;
            for row in 0..part.batch.len() {
                let place = place(images, RowRef { batch: batch as u32, row: row as u32 });
                for index in 0..own {
                    bind(&mut statement, index + 1, images.cell(place, index), &mut scratch)?;
                }
                for (index, values) in values.iter().enumerate() {
                    bind(&mut statement, own + index + 1, values.cell(row), &mut scratch)?;
                }
                statement.raw_execute()?;
            }
        }
        Ok(())
    }

    fn merge(&self, connection: &Connection, images: &Images<'_>) -> Result<(), JdbcError> {
        let net = collapse(images)?;
        let merge = Merge { connection, images, net: &net, table: &self.table };
        let doing = format!("merge rows into table {}", self.table.sql);
        merge.run().map_err(|error| error.or(|error| self.failed(&doing, error)))
    }
}

/// An error of SQLite that has yet to be told what it was to do, or a whole one.
enum Either {
    Sqlite(rusqlite::Error),
    Whole(JdbcError),
}

impl Either {
    fn or(self, wrap: impl FnOnce(rusqlite::Error) -> JdbcError) -> JdbcError {
        match self {
            Self::Sqlite(error) => wrap(error),
            Self::Whole(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Either {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<JdbcError> for Either {
    fn from(error: JdbcError) -> Self {
        Self::Whole(error)
    }
}

/// Merges what a flush comes to into a table, row by row through prepared statements.
struct Merge<'a> {
    connection: &'a Connection,
    images: &'a Images<'a>,
    net: &'a Net,
    table: &'a TargetTable,
}

impl Merge<'_> {
    fn names(&self) -> Vec<&str> {
        self.images.schema().columns().iter().map(|column| column.name.as_str()).collect()
    }

    fn key(&self) -> &[usize] {
        self.images.schema().key()
    }

    /// `"key" = ?n AND …`, with parameters numbered from `first`.
    fn where_key(&self, first: usize) -> String {
        let names = self.names();
        let parts = self.key().iter().enumerate().map(|(number, &index)| {
            format!("{} = ?{}", names.get(index).map(|name| quote(name)).unwrap_or_default(), first + number)
        });
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// First what the table alone knows of moved rows is read, then all keys that go away or change hands are deleted, then rows are written.
    fn run(&self) -> Result<(), Either> {
        let plain = self.net.rows.iter().all(|row| row.kind == Kind::Upsert);
        let mut moved = HashMap::new();
        if !plain {
            self.read_moved(&mut moved)?;
            self.delete()?;
            self.insert_moved(&moved)?;
            self.patch()?;
        }
        self.upsert()
    }

    fn upsert(&self) -> Result<(), Either> {
        let names = self.names();
        let all: Vec<usize> = (0..names.len()).collect();
        let key = self.key().iter().filter_map(|&index| names.get(index).copied());
        let sets: Vec<String> = all
            .iter()
            .filter(|index| !self.key().contains(index))
            .filter_map(|&index| names.get(index))
            .map(|name| format!("{0} = excluded.{0}", quote(name)))
            .collect();
        let conflict = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
        let mut statement = self.connection.prepare_cached(&format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO {conflict}",
            self.table.sql,
            quote_all(names.iter().copied()),
            vec!["?"; names.len()].join(", "),
            quote_all(key),
        ))?;
        let mut scratch = String::new();
        for row in self.net.rows.iter().filter(|row| matches!(row.kind, Kind::Upsert | Kind::Replace)) {
            for &index in &all {
                bind(&mut statement, index + 1, self.images.cell(self.net.place(row, index), index), &mut scratch)?;
            }
            statement.raw_execute()?;
        }
        Ok(())
    }

    fn delete(&self) -> Result<(), Either> {
        let mut statement =
            self.connection.prepare_cached(&format!("DELETE FROM {} WHERE {}", self.table.sql, self.where_key(1)))?;
        let mut scratch = String::new();
        for row in self.net.rows.iter().filter(|row| matches!(row.kind, Kind::Delete | Kind::Replace | Kind::Move)) {
            self.bind_key(&mut statement, 1, row, &mut scratch)?;
            statement.raw_execute()?;
        }
        Ok(())
    }

    fn bind_key(
        &self,
        statement: &mut rusqlite::Statement<'_>,
        first: usize,
        row: &NetRow,
        scratch: &mut String,
    ) -> Result<(), Either> {
        for (number, &index) in self.key().iter().enumerate() {
            bind(statement, first + number, self.images.cell(self.net.place(row, index), index), scratch)?;
        }
        Ok(())
    }

    fn missing(&self, row: &NetRow) -> Either {
        let (partition, offset) = self.images.offset(row.last);
        JdbcError::MissingRow { table: self.table.sql.clone(), partition, offset }.into()
    }

    /// Changes the sent columns of rows that are there. Rows that were sent the same columns share a statement; they mostly follow one another.
    fn patch(&self) -> Result<(), Either> {
        let columns = self.images.schema().columns().len();
        let mut scratch = String::new();
        let mut sent: Vec<usize> = Vec::new();
        let mut prepared: Option<(Vec<usize>, CachedStatement<'_>)> = None;
        for row in self.net.rows.iter().filter(|row| row.kind == Kind::Patch) {
            sent.clear();
            sent.extend((0..columns).filter(|index| !self.key().contains(index) && self.net.place(row, *index) != Place::Target));
            if prepared.as_ref().is_none_or(|(columns, _)| *columns != sent) {
                prepared = Some((sent.clone(), self.connection.prepare_cached(&self.patch_sql(&sent))?));
            }
            let Some((_, statement)) = &mut prepared else { continue };
            for (number, &index) in sent.iter().enumerate() {
                bind(statement, number + 1, self.images.cell(self.net.place(row, index), index), &mut scratch)?;
            }
            self.bind_key(statement, sent.len() + 1, row, &mut scratch)?;
            if statement.raw_execute()? == 0 {
                return Err(self.missing(row));
            }
        }
        Ok(())
    }

    fn patch_sql(&self, sent: &[usize]) -> String {
        let names = self.names();
        let name = |index: usize| names.get(index).map(|name| quote(name)).unwrap_or_default();
        let sets: Vec<String> =
            sent.iter().enumerate().map(|(number, &index)| format!("{} = ?{}", name(index), number + 1)).collect();
        // With nothing sent, the row still has to be there.
        let key = self.key().first().map(|&index| name(index)).unwrap_or_default();
        let set = if sets.is_empty() { format!("{key} = {key}") } else { sets.join(", ") };
        format!("UPDATE {} SET {set} WHERE {}", self.table.sql, self.where_key(sent.len() + 1))
    }

    /// Reads the rows that are to get another key, as they are: all columns that can be written, by the number of the net row.
    fn read_moved(&self, moved: &mut HashMap<usize, Vec<(String, Value)>>) -> Result<(), Either> {
        let moves = || self.net.rows.iter().enumerate().filter_map(|(number, row)| Some((number, row, row.origin?)));
        if moves().next().is_none() {
            return Ok(());
        }
        let existing = shape::read(self.connection, self.table)?;
        let columns: Vec<String> = existing.writable().map(str::to_owned).collect();
        let list = quote_all(columns.iter().map(String::as_str));
        let sql = format!("SELECT {list} FROM {} WHERE {}", self.table.sql, self.where_key(1));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut scratch = String::new();
        for (number, row, origin) in moves() {
            for (key, &index) in self.key().iter().enumerate() {
                bind(&mut statement, key + 1, self.images.cell(Place::Before(origin), index), &mut scratch)?;
            }
            let mut found = statement.raw_query();
            match found.next()? {
                Some(old) => {
                    let values = columns.iter().enumerate().map(|(index, name)| Ok((name.clone(), old.get::<_, Value>(index)?)));
                    moved.insert(number, values.collect::<rusqlite::Result<_>>()?);
                }
                None if self.net.lacks_columns(row) => return Err(self.missing(row)),
                None => {}
            }
        }
        Ok(())
    }

    fn insert_moved(&self, moved: &HashMap<usize, Vec<(String, Value)>>) -> Result<(), Either> {
        let names = self.names();
        let mut scratch = String::new();
        for (number, row) in self.net.rows.iter().enumerate().filter(|(_, row)| row.kind == Kind::Move) {
            let old = moved.get(&number).map(Vec::as_slice).unwrap_or_default();
            let others: Vec<&(String, Value)> = old.iter().filter(|(name, _)| !names.contains(&name.as_str())).collect();
            let columns = quote_all(names.iter().copied().chain(others.iter().map(|(name, _)| name.as_str())));
            let parameters = vec!["?"; names.len() + others.len()].join(", ");
            let sql = format!("INSERT INTO {} ({columns}) VALUES ({parameters})", self.table.sql);
            let mut statement = self.connection.prepare_cached(&sql)?;
            for (index, name) in names.iter().enumerate() {
                match self.net.place(row, index) {
                    Place::Target => {
                        let value = old.iter().find(|(old, _)| old == name).map_or(&Value::Null, |(_, value)| value);
                        statement.raw_bind_parameter(index + 1, value)?;
                    }
                    place => bind(&mut statement, index + 1, self.images.cell(place, index), &mut scratch)?,
                }
            }
            for (index, (_, value)) in others.iter().enumerate() {
                statement.raw_bind_parameter(names.len() + index + 1, value)?;
            }
            statement.raw_execute()?;
        }
        Ok(())
    }
}
