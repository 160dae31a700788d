use std::sync::Arc;

use connector_api::{Column, Identity, TableName, TableSchema};

use super::{
    DecodeOptions, ValueProblem,
    charset::Charsets,
    definition::{HASH, ROW_END, TableDefinition, is_reserved},
    sql_type::SqlType,
    value_type::{Layout, ValueType},
};
use crate::event::{TableMap, TableMapColumn, column_type};

/// Why a table's rows cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShapeProblem {
    /// A type that this program does not know.
    #[error("column `{column}` is of the type `{column_type}`, which is not known here")]
    UnknownType { column: String, column_type: String },
    /// A type code that this program does not know.
    #[error("column `{column}` is of the unknown type code {code}; the server is probably newer than this program")]
    UnknownCode { column: String, code: u8 },
    /// A character set that this program does not know.
    #[error("column `{column}` has the character set `{charset}`, which is not known here")]
    Charset { column: String, charset: String },
    /// A collation that the server's catalog did not list.
    #[error("column `{column}` has the unknown collation number {collation}")]
    Collation { column: String, collation: u32 },
    /// The labels of an enum or set are not valid in their character set.
    #[error("the labels of column `{column}`: {problem}")]
    Labels { column: String, problem: ValueProblem },
    /// The log does not say what is needed, and no definition of the table is there.
    #[error(
        "the log says too little of column `{column}`: set the server's `binlog_row_metadata` to FULL (SET GLOBAL binlog_row_metadata = FULL), \
         and take a new snapshot of the table"
    )]
    Metadata { column: String },
    /// The form of dates and times before MariaDB 10, of which a table map does not tell the fraction.
    #[error(
        "column `{column}` is stored in the form of MariaDB 5.3, and the log does not say how many digits its fraction has; rebuild the table: \
         SET GLOBAL mysql56_temporal_format = ON, then ALTER TABLE … FORCE"
    )]
    OldFraction { column: String },
    /// The table's definition has another number of columns than the log's rows.
    #[error(
        "the log's rows have {log} columns and the table's known definition has {definition}: the table was changed, and with `binlog_row_metadata` \
         MINIMAL the log does not say how. Set it to FULL (SET GLOBAL binlog_row_metadata = FULL), and take a new snapshot of the table"
    )]
    ColumnCount { log: usize, definition: usize },
    /// A column is of another type in the log than in the table's definition.
    #[error(
        "column `{column}` (number {number}) is `{column_type}` in the table's known definition, but the log's rows have another type there: the table \
         was changed, and with `binlog_row_metadata` MINIMAL the log does not say how. Set it to FULL (SET GLOBAL binlog_row_metadata = FULL), and \
         take a new snapshot of the table"
    )]
    ColumnType { column: String, number: usize, column_type: String },
}

/// How a column's values are decoded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedColumn {
    pub value: ValueType,
    pub layout: Layout,
}

/// All that is needed to decode a table's rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub(super) plan: Vec<PlannedColumn>,
    /// Columns behind those, which the server keeps for itself: in the log, but in no `SELECT *` and no catalog.
    pub(super) hidden: Vec<Layout>,
    /// Where the end of a row's time stands, in a table with system versioning (MariaDB). Counts the hidden columns.
    pub(super) row_end: Option<usize>,
    /// Whether each column is part of the key.
    pub(super) is_key: Vec<bool>,
    /// The schema of rows whose old images are whole.
    full: Arc<TableSchema>,
    /// The schema of rows of whose old images only the key counts.
    by_key: Arc<TableSchema>,
    /// What to select for each column.
    expressions: Vec<String>,
}

impl Shape {
    /// The shape that a table map describes. `definition` is needed where the server's metadata are not full, and then must agree with the table map
    /// in number and types of columns; where they are full it only tells types that a table map shows as others.
    pub(crate) fn new(
        table: &TableName,
        map: &TableMap,
        definition: Option<&TableDefinition>,
        charsets: &Charsets,
        options: DecodeOptions,
    ) -> Result<Self, ShapeProblem> {
        let mut types = if map.has_names {
            described(map, definition, charsets)?
        } else {
            let definition = definition.ok_or_else(|| ShapeProblem::Metadata { column: "1".into() })?;
            agreed(map, definition, charsets)?
        };
        let hidden_from = if map.has_names && charsets.is_mariadb() { hidden_from(map, definition) } else { types.len() };
        let key = match (&map.key, definition) {
            (Some(key), _) => key.clone(),
            (None, definition) => key_indices(&types, definition),
        };
        let row_end = types
            .iter()
            .enumerate()
            .position(|(index, (name, _))| if index < hidden_from { ends_row(name, definition) } else { name == ROW_END });
        let hidden = types.split_off(hidden_from);
        let hidden = hidden.iter().map(|(_, sql_type)| sql_type.plan(options, None).1).collect();
        Ok(Self { hidden, ..Self::build(table, &types, Some(&map.columns), key, row_end, options) })
    }

    /// The shape of a snapshot's rows.
    pub(crate) fn of_definition(
        definition: &TableDefinition,
        charsets: &Charsets,
        options: DecodeOptions,
    ) -> Result<Self, ShapeProblem> {
        let types = defined(definition, charsets)?;
        let key = key_indices(&types, Some(definition));
        let row_end = types.iter().position(|(name, _)| ends_row(name, Some(definition)));
        Ok(Self::build(&definition.name, &types, None, key, row_end, options))
    }

    fn build(
        table: &TableName,
        types: &[(String, SqlType)],
        map: Option<&[TableMapColumn]>,
        mut key: Vec<usize>,
        row_end: Option<usize>,
        options: DecodeOptions,
    ) -> Self {
        // With it the key tells versions of one row apart, of which only one counts.
        key.retain(|index| row_end != Some(*index));
        let mut plan = Vec::with_capacity(types.len());
        let mut columns = Vec::with_capacity(types.len());
        let mut expressions = Vec::with_capacity(types.len());
        for (index, (name, sql_type)) in types.iter().enumerate() {
            let (value, layout) = sql_type.plan(options, map.and_then(|columns| columns.get(index)));
            columns.push(Column { name: name.clone(), kind: value.column_type(), source_type: sql_type.to_string() });
            expressions.push(expression(name, &value));
            plan.push(PlannedColumn { value, layout });
        }
        let is_key = (0..types.len()).map(|index| key.contains(&index)).collect();
        let schema = |identity| Arc::new(TableSchema::new(table.clone(), columns.clone(), key.clone(), identity));
        let hidden = Vec::new();
        Self { plan, hidden, row_end, is_key, full: schema(Identity::Full), by_key: schema(Identity::Key), expressions }
    }

    /// The schema of rows whose old images hold so much. Nothing else than [`Identity::Full`] and [`Identity::Key`] is made.
    pub(crate) fn schema(&self, identity: Identity) -> &Arc<TableSchema> {
        match identity {
            Identity::Full => &self.full,
            Identity::Key | Identity::Nothing => &self.by_key,
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> &TableName {
        self.full.table()
    }

    /// What to put between `SELECT` and `FROM`, so that the text of each column is as exact as the log and tells as much.
    pub(crate) fn select_list(&self) -> String {
        self.expressions.join(", ")
    }
}

/// A name in backticks.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn expression(name: &str, value: &ValueType) -> String {
    let name = quoted(name);
    match value {
        // A float is printed with six digits, and a `double(10,2)` with two behind the point; as a plain double with all it has. Multiplied, because
        // adding would lose the sign of -0.
        ValueType::Float | ValueType::Double => format!("{name} * 1e0"),
        // Number 0 and '' print the same.
        ValueType::Enum(labels) if labels.has_empty() => {
            format!("IF({name} + 0 = 0, '{}', {name})", super::value_type::INVALID_ENUM)
        }
        _ => name,
    }
}

fn key_indices(types: &[(String, SqlType)], definition: Option<&TableDefinition>) -> Vec<usize> {
    let key = definition.map_or(&[][..], |definition| &definition.key);
    let indices: Option<Vec<usize>> = key.iter().map(|key| types.iter().position(|(name, _)| name == key)).collect();
    indices.unwrap_or_default()
}

/// Whether the column is the declared end of a row's time.
fn ends_row(name: &str, definition: Option<&TableDefinition>) -> bool {
    definition.and_then(|definition| definition.column(name)).is_some_and(|column| column.row_end)
}

/// Where MariaDB's hidden columns begin: the times of system versioning if none were declared, and the hashes of unique keys over long columns.
fn hidden_from(map: &TableMap, definition: Option<&TableDefinition>) -> usize {
    let is_hidden = |column: &TableMapColumn| {
        let name = column.name.as_deref().unwrap_or_default();
        let reserved =
            is_reserved(name) && (name.starts_with(HASH) || column.type_code == column_type::TIMESTAMP2 && column.metadata == 6);
        reserved && definition.is_none_or(|definition| definition.column(name).is_none())
    };
    map.columns.len() - map.columns.iter().rev().take_while(|column| is_hidden(column)).count()
}

fn defined(definition: &TableDefinition, charsets: &Charsets) -> Result<Vec<(String, SqlType)>, ShapeProblem> {
    definition.columns.iter().map(|column| Ok((column.name.clone(), SqlType::of_definition(column, charsets)?))).collect()
}

/// The log says all but what [`TableDefinition`] is asked for.
fn described(
    map: &TableMap,
    definition: Option<&TableDefinition>,
    charsets: &Charsets,
) -> Result<Vec<(String, SqlType)>, ShapeProblem> {
    let mut types = Vec::with_capacity(map.columns.len());
    for (index, column) in map.columns.iter().enumerate() {
        let name = column.name.clone().ok_or_else(|| ShapeProblem::Metadata { column: (index + 1).to_string() })?;
        let mut sql_type = SqlType::of_map(column, &name, charsets)?;
        let known = definition.and_then(|definition| definition.column(&name));
        let known = known.map(|known| SqlType::of_definition(known, charsets)).transpose()?;
        match known {
            Some(known) if known.looks_like_another() && known.agrees_with(column) => sql_type = known,
            // Nothing but the catalog tells a fraction there.
            known if column.is_old_temporal() && known.as_ref() != Some(&sql_type) => {
                return Err(ShapeProblem::OldFraction { column: name });
            }
            _ => {}
        }
        types.push((name, sql_type));
    }
    Ok(types)
}

/// The log says only the layout: the definition must have the same.
fn agreed(map: &TableMap, definition: &TableDefinition, charsets: &Charsets) -> Result<Vec<(String, SqlType)>, ShapeProblem> {
    if map.columns.len() != definition.columns.len() {
        return Err(ShapeProblem::ColumnCount { log: map.columns.len(), definition: definition.columns.len() });
    }
    let types = defined(definition, charsets)?;
    for (index, ((name, sql_type), column)) in types.iter().zip(&map.columns).enumerate() {
        let charset_agrees = match column.collation {
            Some(collation) => sql_type.charset_agrees_with(charsets.of_collation(collation, name)?, charsets, name)?,
            None => true,
        };
        if column.is_old_temporal() && matches!(sql_type, SqlType::Time(1..) | SqlType::DateTime(1..) | SqlType::Timestamp(1..)) {
            return Err(ShapeProblem::OldFraction { column: name.clone() });
        }
        if !sql_type.agrees_with(column) || !charset_agrees {
            let column_type = sql_type.to_string();
            return Err(ShapeProblem::ColumnType { column: name.clone(), number: index + 1, column_type });
        }
    }
    Ok(types)
}
