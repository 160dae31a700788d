//! What a registered schema of values says beyond Avro: all that a reader needs to build the table's Arrow form again.
//!
//! It stands in the attribute `mainstem` of the envelope's schema. Avro's own field list would not do: it cannot tell `json` from `text`
//! for sure, and its names may have been changed to be legal.
use std::sync::Arc;

use arrow_schema::DECIMAL256_MAX_PRECISION;
use connector_api::{Column, ColumnType, Identity, SourceInfo, TableName, TableSchema};
use serde::{Deserialize, Serialize};

use crate::error::LayoutError;

/// Rises when the order or the form of what is in a value changes.
const LAYOUT_VERSION: u32 = 1;

/// The attribute. The order of its fields is part of the schema's text, and so of its id.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Layout {
    version: u32,
    connector: String,
    database: String,
    source: Vec<SourceColumn>,
    transaction: Option<usize>,
    table: TableName,
    identity: Identity,
    key: Vec<usize>,
    columns: Vec<Column>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SourceColumn {
    name: String,
    #[serde(rename = "type")]
    kind: ColumnType,
}

/// Only the attribute: the rest of the schema text is for other readers.
#[derive(Deserialize)]
struct EnvelopeSchema {
    mainstem: Layout,
}

impl Layout {
    pub(crate) fn new(schema: &TableSchema, info: &SourceInfo) -> Self {
        Self {
            version: LAYOUT_VERSION,
            connector: info.connector.clone(),
            database: info.database.clone(),
            source: info.columns.iter().map(|(name, kind)| SourceColumn { name: name.clone(), kind: kind.clone() }).collect(),
            transaction: info.transaction,
            table: schema.table().clone(),
            identity: schema.identity(),
            key: schema.key().to_vec(),
            columns: schema.columns().to_vec(),
        }
    }

    /// Reads a schema text back.
    pub(crate) fn parse(text: &str) -> Result<(Arc<TableSchema>, Arc<SourceInfo>), LayoutError> {
        let EnvelopeSchema { mainstem: layout } = serde_json::from_str(text)?;
        if layout.version != LAYOUT_VERSION {
            return Err(LayoutError::Version { found: layout.version, known: LAYOUT_VERSION });
        }
        let kinds = layout.columns.iter().map(|column| &column.kind).chain(layout.source.iter().map(|column| &column.kind));
        if !kinds.into_iter().all(is_possible) {
            return Err(LayoutError::Contradiction("a column has a type that cannot be"));
        }
        if layout.key.iter().any(|index| *index >= layout.columns.len()) {
            return Err(LayoutError::Contradiction("a key column is not there"));
        }
        if layout.transaction.is_some_and(|index| index >= layout.source.len()) {
            return Err(LayoutError::Contradiction("the transaction column is not there"));
        }
        let source = layout.source.into_iter().map(|column| (column.name, column.kind)).collect();
        let schema = TableSchema::new(layout.table, layout.columns, layout.key, layout.identity);
        Ok((Arc::new(schema), SourceInfo::new(layout.connector, layout.database, source, layout.transaction)))
    }
}

/// The shape of a topic's rows, from the text of its values' schema.
pub fn table_schema(text: &str) -> Result<Arc<TableSchema>, LayoutError> {
    Layout::parse(text).map(|(schema, _)| schema)
}

fn is_possible(kind: &ColumnType) -> bool {
    match kind {
        ColumnType::Decimal { precision, scale } => (1..=DECIMAL256_MAX_PRECISION).contains(precision) && scale <= precision,
        ColumnType::List(item) => !matches!(**item, ColumnType::List(_)) && is_possible(item),
        _ => true,
    }
}

/// Which columns of a row are never NULL in any image, so that their Avro type is no union: the key's, where `before` holds the key.
///
/// Elsewhere a key may be a later addition, with rows from before it still in the source's queue.
pub(crate) fn required_columns(schema: &TableSchema) -> Vec<bool> {
    let has_key = schema.identity() == Identity::Key;
    (0..schema.columns().len()).map(|index| has_key && schema.key().contains(&index)).collect()
}
