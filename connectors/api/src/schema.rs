use std::{fmt, sync::Arc};

use arrow_schema::Fields;
use serde::{Deserialize, Serialize};

use crate::{Column, ColumnType};

/// The name of a table in its database: schema (or database, for MySQL) and table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The schema, for example `public`.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl TableName {
    /// A name from its two parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What the source sends of a row's old version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// Only the key columns; the other columns of `before` are NULL because they were not sent.
    Key,
    /// The whole old row: a NULL in `before` is a NULL that was in the row.
    Full,
    /// Nothing: there are no updates or deletes.
    Nothing,
}

/// One version of a table's shape. Two batches with an equal `TableSchema` have the same schema version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableSchema {
    table: TableName,
    columns: Vec<Column>,
    key: Vec<usize>,
    identity: Identity,
    fields: Fields,
}

impl TableSchema {
    /// A schema from its parts. `key` holds indices into `columns`, in the key's declared order; empty for a table without a key.
    /// Indices that are out of range are dropped.
    pub fn new(table: TableName, columns: Vec<Column>, key: Vec<usize>, identity: Identity) -> Self {
        let fields = columns.iter().map(Column::field).collect();
        let key = key.into_iter().filter(|&index| index < columns.len()).collect();
        Self { table, columns, key, identity, fields }
    }

    /// The table.
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// The columns, in the table's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Indices of the key columns in the key's order; empty for a table without a key.
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// What the source sends of a row's old version.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The Arrow fields of an image (`before` or `after`) of a row.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The index of the column of that name.
    pub fn index_of(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == column)
    }
}

/// What a source says of itself in the `source` block of every event: constants, and the columns that differ from row to row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceInfo {
    /// Debezium's name for the kind of source: `postgresql`, `mysql`, `mariadb`, or one of a connector's own.
    pub connector: String,
    /// The database that the changes come from.
    pub database: String,
    /// Names and types of the per-row columns, for example `txId`, `lsn`; only integers and text are allowed. All are nullable.
    pub columns: Vec<(String, ColumnType)>,
    /// Which of `columns` identifies the transaction.
    pub transaction: Option<usize>,
    fields: Fields,
}

impl SourceInfo {
    /// The description of a source; see the fields.
    pub fn new(
        connector: impl Into<String>,
        database: impl Into<String>,
        columns: Vec<(String, ColumnType)>,
        transaction: Option<usize>,
    ) -> Arc<Self> {
        let fields = columns.iter().map(|(name, kind)| arrow_schema::Field::new(name, kind.arrow(), true)).collect();
        Arc::new(Self { connector: connector.into(), database: database.into(), columns, transaction, fields })
    }

    /// The Arrow fields of the per-row columns.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }
}
