//! `mode: append`: every change is a row of the target, with what happened beside the row's columns.
//!
//! The columns beside it are made as Arrow arrays, once a batch, so that a dialect writes them like all others.
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray,
    builder::{ListBuilder, StringBuilder},
};
use connector_api::{ChangeBatch, Column, ColumnType, Op, Rows, SourceInfo, TableSchema};

use crate::{
    cell::Values,
    error::JdbcError,
    flush::{Images, Place, RowRef},
    json,
};

/// The columns beside the row's own: name and type. `_tx` is text where the source's transactions have no number.
fn columns(info: &SourceInfo) -> Vec<Column> {
    let tx = info.transaction.and_then(|index| info.columns.get(index)).map_or(ColumnType::Int64, |(_, kind)| kind.clone());
    let list = ColumnType::List(Box::new(ColumnType::Text));
    [
        ("_op", ColumnType::Text),
        ("_sequence", ColumnType::Int64),
        ("_ordinal", ColumnType::Int64),
        ("_commit_ts", ColumnType::TimestampTz),
        ("_tx", tx),
        ("_unchanged", list),
        ("_old_key", ColumnType::Json),
    ]
    .map(|(name, kind)| Column { name: name.into(), kind, source_type: String::new() })
    .to_vec()
}

/// The shape of an `append` table: the schema's columns, then ours; no key, because a key comes once for each of its changes.
pub(crate) fn append_schema(table: &str, schema: &TableSchema, info: &SourceInfo) -> Result<TableSchema, JdbcError> {
    let ours = columns(info);
    if let Some(column) = ours.iter().find(|column| schema.index_of(&column.name).is_some()) {
        return Err(JdbcError::ReservedColumn { table: table.to_owned(), column: column.name.clone() });
    }
    let all = schema.columns().iter().cloned().chain(ours).collect();
    Ok(TableSchema::new(schema.table().clone(), all, Vec::new(), schema.identity()))
}

/// The columns beside the rows of one batch.
#[derive(Debug)]
pub(crate) struct Beside {
    arrays: Vec<(ColumnType, ArrayRef)>,
}

impl Beside {
    /// Makes the arrays. `batch` is the index of the rows among the images.
    pub(crate) fn new(images: &Images<'_>, batch: usize, rows: &Rows) -> Self {
        let changes = &rows.batch;
        let kinds = columns(&changes.info).into_iter().map(|column| column.kind);
        let ops: StringArray = changes.ops.iter().map(|op| Some(letter(*op))).collect();
        // A sequence counts commits of the log: it cannot reach 2^63.
        let sequences: Int64Array = changes.orders.iter().map(|order| order.sequence as i64).collect();
        let ordinals: Int64Array = changes.orders.iter().map(|order| i64::from(order.ordinal)).collect();
        let commit_ts = TimestampMicrosecondArray::from(changes.commit_ts_us.clone()).with_timezone("UTC");
        let tx = changes.transactions().cloned().unwrap_or_else(|| Arc::new(Int64Array::new_null(changes.len())));
        let arrays: [ArrayRef; 7] = [
            Arc::new(ops),
            Arc::new(sequences),
            Arc::new(ordinals),
            Arc::new(commit_ts),
            tx,
            unchanged(changes),
            old_keys(images, batch, changes),
        ];
        Self { arrays: kinds.zip(arrays).collect() }
    }

    /// The arrays as values.
    pub(crate) fn values(&self, table: &str) -> Result<Vec<Values<'_>>, JdbcError> {
        let value = |(kind, array): &'_ (ColumnType, ArrayRef)| Values::new(kind, array.as_ref()).is_some();
        if !self.arrays.iter().all(value) {
            return Err(JdbcError::BadBatch { table: table.to_owned(), what: "transactions of an unknown type".into() });
        }
        Ok(self.arrays.iter().filter_map(|(kind, array)| Values::new(kind, array.as_ref())).collect())
    }
}

fn letter(op: Op) -> &'static str {
    match op {
        Op::Read => "r",
        Op::Insert => "c",
        Op::Update | Op::Move => "u",
        Op::Delete | Op::MoveOut => "d",
        Op::Truncate => "t",
        Op::SnapshotRestart => "s",
    }
}

fn unchanged(changes: &ChangeBatch) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..changes.len() {
        let set = changes.unchanged.as_ref().filter(|set| set.any(row));
        if let Some(set) = set {
            for (index, column) in changes.schema.columns().iter().enumerate() {
                if set.contains(row, index) {
                    lists.values().append_value(&column.name);
                }
            }
        }
        lists.append(set.is_some());
    }
    Arc::new(lists.finish())
}

/// For each move the old key as a JSON object; NULL for all other changes.
fn old_keys(images: &Images<'_>, batch: usize, changes: &ChangeBatch) -> ArrayRef {
    let mut keys = StringBuilder::new();
    let mut text = String::new();
    for (row, op) in changes.ops.iter().enumerate() {
        let at = RowRef { batch: batch as u32, row: row as u32 };
        if *op != Op::Move || !images.has_before(at) {
            keys.append_null();
            continue;
        }
        text.clear();
        for (index, &column) in changes.schema.key().iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            json::write_text(&mut text, changes.schema.columns().get(column).map_or("", |column| column.name.as_str()));
            text.push(':');
            json::write_value(&mut text, images.cell(Place::Before(at), column));
        }
        text.push('}');
        keys.append_value(&text);
    }
    Arc::new(keys.finish())
}

/// Where the columns of an `append` row are: in the new image, or in the old one of a row that is gone. Barriers have neither.
pub(crate) fn place(images: &Images<'_>, at: RowRef) -> Place {
    if images.has_after(at) {
        Place::After(at)
    } else if images.has_before(at) {
        Place::Before(at)
    } else {
        Place::Target
    }
}
