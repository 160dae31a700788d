use connector_api::TableName;
use serde::{Deserialize, Serialize};

use crate::event::TableMap;

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
    /// The end of a row's time in a table with system versioning (MariaDB): `GENERATION_EXPRESSION` is `ROW END`.
    #[serde(default)]
    pub row_end: bool,
}

/// The name of the end of a row's time where none was declared.
pub(super) const ROW_END: &str = "row_end";

/// What names of columns that hold hashes begin with.
pub(super) const HASH: &str = "DB_ROW_HASH_";

/// Whether MariaDB gives that name to columns that it keeps for itself. Others may have it too.
pub(super) fn is_reserved(name: &str) -> bool {
    name == ROW_END || name == "row_start" || name.starts_with(HASH)
}

impl TableDefinition {
    /// The column of that name.
    pub(crate) fn column(&self, name: &str) -> Option<&ColumnDefinition> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether the table map, which has names, is of a table with these columns.
    pub(crate) fn describes(&self, map: &TableMap) -> bool {
        let mut names = map.columns.iter().map(|column| column.name.as_deref().unwrap_or_default());
        self.columns.iter().all(|column| names.next() == Some(column.name.as_str())) && names.all(is_reserved)
    }
}
