use connector_api::TableName;
use serde::{Deserialize, Serialize};

/// A table as `information_schema` describes it.
///
/// The snapshot's rows are decoded by it. Row events are decoded by their own table map; the definition only adds what a table map does not tell: the
/// types that look like another there (`uuid`, `inet6`, `tinyint(1)`), and without full metadata the names, labels, character sets and the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableDefinition {
    /// Database and table.
    pub name: TableName,
    /// In the table's order.
    pub columns: Vec<ColumnDefinition>,
    /// The primary key's columns in its order; empty if there is none.
    pub key: Vec<String>,
}

/// A row of `information_schema.COLUMNS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ColumnDefinition {
    /// `COLUMN_NAME`
    pub name: String,
    /// `COLUMN_TYPE`, for example `int(10) unsigned` or `enum('a','b')`.
    pub column_type: String,
    /// `CHARACTER_SET_NAME`; `None` for types without one.
    pub charset: Option<String>,
}

impl TableDefinition {
    /// The column of that name.
    pub(crate) fn column(&self, name: &str) -> Option<&ColumnDefinition> {
        self.columns.iter().find(|column| column.name == name)
    }
}
