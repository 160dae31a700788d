//! What a row of a file is: the table's columns as they are after the change (before it, for a delete), and beside them what happened.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
    builder::{ListBuilder, StringBuilder},
    cast::AsArray,
    new_null_array,
    types::{Date32Type, TimestampMicrosecondType},
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit, extension::Uuid};
use arrow_select::zip::zip;
use connector_api::{ChangeBatch, ColumnType, Op, SourceInfo, TableSchema};

pub(crate) const OP: &str = "_op";
pub(crate) const ORDER: &str = "_order";
pub(crate) const COMMIT_TS: &str = "_commit_ts";
pub(crate) const TX: &str = "_tx";
pub(crate) const UNCHANGED: &str = "_unchanged";
pub(crate) const OLD_KEY: &str = "_old_key";

/// The columns that every file has beside the table's own.
const OUR_COLUMNS: [&str; 6] = [OP, ORDER, COMMIT_TS, TX, UNCHANGED, OLD_KEY];

/// The fields of `_order`, in the order by which it sorts.
pub(crate) const ORDER_FIELDS: [&str; 2] = ["sequence", "ordinal"];

/// The key of a field's metadata that holds the type as the source database prints it.
const SOURCE_TYPE: &str = "source_type";

/// The columns of a file.
#[derive(Debug)]
pub(crate) struct FileSchema {
    pub table: Arc<TableSchema>,
    info: Arc<SourceInfo>,
    arrow: SchemaRef,
    /// The key columns, as `_old_key` has them; empty if there is no key, and then there is no such column.
    key: Fields,
}

impl FileSchema {
    /// The columns for rows of that table from that source.
    pub fn new(table: Arc<TableSchema>, info: Arc<SourceInfo>) -> Self {
        let columns: Vec<FieldRef> = table
            .columns()
            .iter()
            .map(|column| {
                let metadata = HashMap::from([(SOURCE_TYPE.to_owned(), column.source_type.clone())]);
                let field = stored_field(&file_column_name(&column.name, &table), &column.kind);
                let mut all = field.metadata().clone();
                all.extend(metadata);
                Arc::new(field.with_metadata(all))
            })
            .collect();
        let key: Fields = table.key().iter().filter_map(|&index| columns.get(index).cloned()).collect();
        let order = ORDER_FIELDS.map(|name| Field::new(name, DataType::Int64, false)).to_vec();
        let tx =
            info.transaction.and_then(|index| info.fields().get(index)).map_or(DataType::Int64, |field| field.data_type().clone());
        let mut fields = columns;
        fields.push(Arc::new(Field::new(OP, DataType::Utf8, false)));
        fields.push(Arc::new(Field::new(ORDER, DataType::Struct(order.into()), false)));
        fields.push(Arc::new(Field::new(COMMIT_TS, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)));
        fields.push(Arc::new(Field::new(TX, tx, true)));
        fields.push(Arc::new(Field::new(UNCHANGED, DataType::List(unchanged_item()), true)));
        if !key.is_empty() {
            fields.push(Arc::new(Field::new(OLD_KEY, DataType::Struct(key.clone()), true)));
        }
        Self { table, info, arrow: Arc::new(Schema::new(fields)), key }
    }

    /// Whether rows of that batch have these columns.
    pub fn fits(&self, batch: &ChangeBatch) -> bool {
        // A barrier has no column of the table, so it fits into any file of its topic.
        let barrier = batch.ops.iter().all(|op| op.is_barrier());
        (barrier || Arc::ptr_eq(&self.table, &batch.schema) || self.table == batch.schema)
            && (Arc::ptr_eq(&self.info, &batch.info) || self.info == batch.info)
    }

    /// The file's columns.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// What the table's columns are called in the file.
    pub fn column_names(&self) -> Vec<String> {
        self.arrow.fields().iter().take(self.table.columns().len()).map(|field| field.name().clone()).collect()
    }

    /// The rows of a batch that [`fits`](Self::fits), as rows of the file. Columns are shared with the batch wherever all rows take
    /// their values from the same image.
    pub fn rows(&self, batch: &ChangeBatch) -> Result<RecordBatch, ArrowError> {
        let images = Images::of(batch);
        let mut columns = Vec::with_capacity(self.arrow.fields().len());
        for (index, (field, column)) in self.arrow.fields().iter().zip(self.table.columns()).enumerate() {
            let array = match images.column(index)? {
                Some(array) => stored_array(&column.kind, &array, field)?,
                None => new_null_array(field.data_type(), batch.len()),
            };
            columns.push(array);
        }
        columns.push(Arc::new(op_letters(&batch.ops)?));
        columns.push(Arc::new(self.orders(batch)?));
        let commit_ts = TimestampMicrosecondArray::new(ScalarBuffer::from(batch.commit_ts_us.clone()), None).with_timezone("UTC");
        columns.push(Arc::new(commit_ts));
        columns.push(batch.transactions().cloned().unwrap_or_else(|| new_null_array(&DataType::Int64, batch.len())));
        columns.push(self.unchanged(batch));
        if !self.key.is_empty() {
            columns.push(self.old_key(batch)?);
        }
        RecordBatch::try_new(Arc::clone(&self.arrow), columns)
    }

    fn orders(&self, batch: &ChangeBatch) -> Result<StructArray, ArrowError> {
        // A sequence counts commits of the log: it can't reach 2^63.
        let sequence: Int64Array = batch.orders.iter().map(|order| order.sequence as i64).collect::<Vec<_>>().into();
        let ordinal: Int64Array = batch.orders.iter().map(|order| i64::from(order.ordinal)).collect::<Vec<_>>().into();
        let fields = ORDER_FIELDS.map(|name| Field::new(name, DataType::Int64, false)).to_vec();
        StructArray::try_new(fields.into(), vec![Arc::new(sequence), Arc::new(ordinal)], None)
    }

    /// For each row the names of the columns that were not sent; NULL where all were.
    fn unchanged(&self, batch: &ChangeBatch) -> ArrayRef {
        let Some(set) = &batch.unchanged else {
            return new_null_array(&DataType::List(unchanged_item()), batch.len());
        };
        let names = self.column_names();
        let mut lists = ListBuilder::new(StringBuilder::new()).with_field(unchanged_item());
        for row in 0..batch.len() {
            let any = set.any(row);
            if any {
                let of_row = names.iter().enumerate().filter(|(column, _)| set.contains(row, *column));
                of_row.for_each(|(_, name)| lists.values().append_value(name));
            }
            lists.append(any);
        }
        Arc::new(lists.finish())
    }

    /// The key columns of the old image where the key changed, else NULL.
    fn old_key(&self, batch: &ChangeBatch) -> Result<ArrayRef, ArrowError> {
        let is_move = |op: &Op| matches!(op, Op::Move | Op::MoveOut);
        let before = batch.before.as_ref().filter(|_| batch.ops.iter().any(is_move));
        let Some(before) = before else {
            return Ok(new_null_array(&DataType::Struct(self.key.clone()), batch.len()));
        };
        let mut columns = Vec::with_capacity(self.key.len());
        for (&index, field) in self.table.key().iter().zip(&self.key) {
            match (before.columns().get(index), self.table.columns().get(index)) {
                (Some(array), Some(column)) => columns.push(stored_array(&column.kind, array, field)?),
                _ => columns.push(new_null_array(field.data_type(), batch.len())),
            }
        }
        let valid = NullBuffer::new(BooleanBuffer::collect_bool(batch.len(), |row| batch.ops.get(row).is_some_and(is_move)));
        Ok(Arc::new(StructArray::try_new(self.key.clone(), columns, Some(valid))?))
    }
}

/// Which image each row's columns come from.
enum Images<'a> {
    /// No row has one.
    Neither,
    /// All come from this one, or from none.
    One(&'a StructArray),
    /// Where the mask is true from `before`, else from `after`.
    Both { from_before: BooleanArray, before: &'a StructArray, after: &'a StructArray },
}

impl<'a> Images<'a> {
    fn of(batch: &'a ChangeBatch) -> Self {
        let is_gone = |op: &Op| matches!(op, Op::Delete | Op::MoveOut);
        match (&batch.before, &batch.after) {
            (Some(before), Some(after)) => {
                let gone = batch.ops.iter().filter(|op| is_gone(op)).count();
                if gone == 0 {
                    Self::One(after)
                } else if gone == batch.len() {
                    Self::One(before)
                } else {
                    let mask = BooleanBuffer::collect_bool(batch.len(), |row| batch.ops.get(row).is_some_and(is_gone));
                    Self::Both { from_before: BooleanArray::new(mask, None), before, after }
                }
            }
            (None, Some(after)) => Self::One(after),
            // Rows that are not deletes have an `after`, so there are none of them here.
            (Some(before), None) => Self::One(before),
            (None, None) => Self::Neither,
        }
    }

    fn column(&self, index: usize) -> Result<Option<ArrayRef>, ArrowError> {
        match self {
            Self::Neither => Ok(None),
            Self::One(image) => Ok(image.columns().get(index).cloned()),
            Self::Both { from_before, before, after } => match (before.columns().get(index), after.columns().get(index)) {
                (Some(before), Some(after)) => zip(from_before, before, after).map(Some),
                _ => Ok(None),
            },
        }
    }
}

/// What a column of the table is called in its files. A table may have a column of one of our names: it is the one that gives way, by
/// underscores at its end, so that ours mean the same in every file. Many readers don't tell upper from lower case.
fn file_column_name(column: &str, table: &TableSchema) -> String {
    let taken = |name: &str| OUR_COLUMNS.iter().any(|ours| ours.eq_ignore_ascii_case(name));
    let mut name = column.to_owned();
    if !taken(&name) {
        return name;
    }
    while taken(&name) || table.columns().iter().any(|other| other.name != column && other.name.eq_ignore_ascii_case(&name)) {
        name.push('_');
    }
    name
}

fn unchanged_item() -> FieldRef {
    Arc::new(Field::new("element", DataType::Utf8, false))
}

/// The field of a column of that type in a file. The types are those of [`ColumnType::arrow`], with the names and marks that make
/// Parquet's lists and UUIDs of them.
fn stored_field(name: &str, kind: &ColumnType) -> Field {
    match kind {
        ColumnType::Uuid => Field::new(name, kind.arrow(), true).with_extension_type(Uuid),
        ColumnType::List(item) => Field::new(name, DataType::List(Arc::new(stored_field("element", item))), true),
        ColumnType::Bool
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. }
        | ColumnType::Text
        // Not Parquet's JSON: readers check it (DuckDB does), and one value that a database takes and they don't, such as a lone
        // surrogate, would make the whole file unreadable.
        | ColumnType::Json
        | ColumnType::Bytes
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::Duration
        | ColumnType::Interval => Field::new(name, kind.arrow(), true),
    }
}

/// A column as a file has it. Only lists and columns that hold a `-infinity` are made anew.
fn stored_array(kind: &ColumnType, array: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    match kind {
        ColumnType::Date => Ok(array.as_primitive_opt::<Date32Type>().map_or_else(|| Arc::clone(array), dates)),
        ColumnType::Timestamp | ColumnType::TimestampTz => Ok(array
            .as_primitive_opt::<TimestampMicrosecondType>()
            .map_or_else(|| Arc::clone(array), |column| timestamps(array, column))),
        ColumnType::List(item) => {
            let (Some(list), DataType::List(element)) = (array.as_list_opt::<i32>(), field.data_type()) else {
                return Err(ArrowError::SchemaError(format!("column `{}` is no list", field.name())));
            };
            let items = stored_array(item, list.values(), element)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(element), list.offsets().clone(), items, list.nulls().cloned())?))
        }
        _ => Ok(Arc::clone(array)),
    }
}

// Readers take the least number plus one for -infinity (DuckDB does, and falls over the least number itself): only that one is
// as far from zero as infinity is. No database has a value there.
fn dates(column: &Date32Array) -> ArrayRef {
    if !column.values().contains(&i32::MIN) {
        return Arc::new(column.clone());
    }
    Arc::new(column.unary::<_, Date32Type>(|days| days.max(-i32::MAX)))
}

fn timestamps(array: &ArrayRef, column: &TimestampMicrosecondArray) -> ArrayRef {
    if !column.values().contains(&i64::MIN) {
        return Arc::clone(array);
    }
    let stored = column.unary::<_, TimestampMicrosecondType>(|micros| micros.max(-i64::MAX));
    Arc::new(stored.with_timezone_opt(column.timezone()))
}

/// The ops as strings of one letter, without an allocation for each.
fn op_letters(ops: &[Op]) -> Result<StringArray, ArrowError> {
    let letters: Vec<u8> = ops.iter().map(|op| op.letter()).collect();
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, letters.len()));
    StringArray::try_new(offsets, Buffer::from_vec(letters), None)
}
