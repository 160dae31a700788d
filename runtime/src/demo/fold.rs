//! The current rows out of Parquet files that hold a row a change. The rules are those of docs/parquet-files.md.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// A row's values as text, in the order of the columns asked for.
pub(super) type Row = Vec<Option<String>>;

struct Change {
    order: (i64, i64),
    op: String,
    row: Row,
    old_key: Option<Option<String>>,
    unchanged: Vec<String>,
}

/// The current rows of the table whose files are below `dir`, by the text of the key column `columns[0]`.
pub(super) fn fold(dir: &Path, columns: &[&str]) -> Result<HashMap<String, Row>> {
    let mut changes = Vec::new();
    for path in files(dir)? {
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            read(&batch?, columns, &mut changes).with_context(|| format!("in {}", path.display()))?;
        }
    }
    changes.sort_by_key(|change| change.order);
    let mut rows: HashMap<String, Row> = HashMap::new();
    for mut change in changes {
        // Truncates, and snapshots that started over, void what came before.
        if change.op == "t" || change.op == "s" {
            rows.clear();
            continue;
        }
        let key = change.row.first().cloned().flatten().context("a change without a key")?;
        if change.op == "d" {
            // The first half of a change of key; the second takes the old row along.
            if change.old_key.is_none() {
                rows.remove(&key);
            }
            continue;
        }
        let before = match change.old_key.flatten() {
            Some(old) => rows.remove(&old),
            None => rows.get(&key).cloned(),
        };
        for name in &change.unchanged {
            if let Some(index) = columns.iter().position(|column| column == name) {
                change.row[index] = before.as_ref().and_then(|row| row[index].clone());
            }
        }
        rows.insert(key, change.row);
    }
    Ok(rows)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(found)
}

fn read(batch: &RecordBatch, columns: &[&str], changes: &mut Vec<Change>) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("there is no column {name}"));
    let values = columns.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    let ops = column("_op")?.as_string_opt::<i32>().context("_op is no text")?;
    let order = column("_order")?.as_struct_opt().context("_order is no struct")?;
    let [sequence, ordinal] = order.columns() else { bail!("_order has not two fields") };
    let sequence = sequence.as_primitive_opt::<Int64Type>().context("_order.sequence is no bigint")?;
    let ordinal = ordinal.as_primitive_opt::<Int64Type>().context("_order.ordinal is no bigint")?;
    let old_key = column("_old_key")?.as_struct_opt().context("_old_key is no struct")?;
    let unchanged = column("_unchanged")?.as_list_opt::<i32>().context("_unchanged is no list")?;
    for i in 0..batch.num_rows() {
        let names = match unchanged.is_valid(i) {
            true => unchanged
                .value(i)
                .as_string_opt::<i32>()
                .context("_unchanged holds no text")?
                .iter()
                .flatten()
                .map(str::to_owned)
                .collect(),
            false => Vec::new(),
        };
        changes.push(Change {
            order: (sequence.value(i), ordinal.value(i)),
            op: ops.value(i).to_owned(),
            row: values.iter().map(|array| text(array, i)).collect::<Result<_>>()?,
            old_key: if old_key.is_valid(i) { Some(text(old_key.column(0), i)?) } else { None },
            unchanged: names,
        });
    }
    Ok(())
}

/// A value as `comparison` writes it: dates as days and timestamps as microseconds since 1970.
fn text(array: &dyn Array, i: usize) -> Result<Option<String>> {
    if array.is_null(i) {
        return Ok(None);
    }
    Ok(Some(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(i).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(i).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(i).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(i).to_owned(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(i).to_string(),
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(i).to_string(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(i),
        other => bail!("the demo's tables have no column of type {other}"),
    }))
}
