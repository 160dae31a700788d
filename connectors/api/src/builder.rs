use std::sync::Arc;

use arrow_array::StructArray;
use arrow_schema::{ArrowError, Fields};

use crate::{
    ChangeBatch, ColumnBuilder, ColumnType, Op, OrderKey, SourceInfo, TableSchema, Unchanged, column_builder::NullsBuilder,
};

/// A batch of at least so many rows is taken for one of many: the next one gets room for as many rows at once. Growing step by step would copy all
/// values about once more.
const MANY_ROWS: usize = 1024;

/// What is expected of a number that was `last` the time before.
fn expected(last: usize) -> usize {
    last + last / 8
}

/// Collects one image (`before` or `after`) of each row.
#[derive(Debug)]
pub struct ImageBuilder {
    fields: Fields,
    kinds: Vec<ColumnType>,
    columns: Vec<ColumnBuilder>,
    /// What to make room for when the first row comes: the number of rows, and each column's bytes.
    expected_rows: usize,
    expected_bytes: Vec<usize>,
    valid: NullsBuilder,
    /// Rows without this image that were not yet appended. They are appended together, so an image that is never there (the `before`
    /// of inserts) costs one addition a row.
    absent: usize,
    any_present: bool,
}

impl ImageBuilder {
    fn new(kinds: impl Iterator<Item = ColumnType>, fields: Fields) -> Self {
        let kinds: Vec<_> = kinds.collect();
        let columns = kinds.iter().map(ColumnBuilder::new).collect();
        let (expected_rows, expected_bytes) = (0, Vec::new());
        Self {
            fields,
            kinds,
            columns,
            expected_rows,
            expected_bytes,
            valid: NullsBuilder::default(),
            absent: 0,
            any_present: false,
        }
    }

    /// The row has no such image.
    pub fn absent(&mut self) {
        self.absent += 1;
    }

    /// The row has this image: append exactly one value to each of the columns.
    pub fn present(&mut self) -> &mut [ColumnBuilder] {
        self.present_in(1)
    }

    #[inline]
    fn present_in(&mut self, rows: usize) -> &mut [ColumnBuilder] {
        if self.expected_rows > 0 {
            self.make_room();
        }
        self.append_absent();
        self.valid.0.append_n_non_nulls(rows);
        self.any_present = true;
        &mut self.columns
    }

    /// No column has a value yet.
    #[cold]
    fn make_room(&mut self) {
        let rows = std::mem::take(&mut self.expected_rows);
        for ((column, kind), bytes) in self.columns.iter_mut().zip(&self.kinds).zip(&self.expected_bytes) {
            *column = ColumnBuilder::with_capacity(kind, rows, *bytes);
        }
    }

    fn append_absent(&mut self) {
        if self.absent > 0 {
            self.columns.iter_mut().for_each(|column| column.append_nulls(self.absent));
            self.valid.0.append_n_nulls(self.absent);
            self.absent = 0;
        }
    }

    fn finish(&mut self) -> Result<Option<StructArray>, ArrowError> {
        if !std::mem::take(&mut self.any_present) {
            self.absent = 0;
            return Ok(None);
        }
        self.append_absent();
        if self.columns.is_empty() {
            let len = self.valid.0.len();
            return Ok(Some(StructArray::new_empty_fields(len, self.valid.0.finish())));
        }
        if self.valid.0.len() >= MANY_ROWS {
            self.expected_rows = expected(self.valid.0.len());
            self.expected_bytes.clear();
            self.expected_bytes.extend(self.columns.iter().map(|column| expected(column.value_bytes())));
        }
        let columns = self.columns.iter_mut().map(ColumnBuilder::finish).collect::<Result<_, _>>()?;
        StructArray::try_new(self.fields.clone(), columns, self.valid.0.finish()).map(Some)
    }
}

/// Collects the changes of one table under one schema version.
///
/// For each row: [`begin`](Self::begin), then the images by [`before`](Self::before) and [`after`](Self::after) (each exactly once, `absent` or
/// `present`), then the per-row source columns by [`source`](Self::source), or those
/// of many rows by [`sources`](Self::sources).
#[derive(Debug)]
pub struct ChangeBatchBuilder {
    schema: Arc<TableSchema>,
    info: Arc<SourceInfo>,
    ops: Vec<Op>,
    orders: Vec<OrderKey>,
    commit_ts_us: Vec<i64>,
    source: ImageBuilder,
    before: ImageBuilder,
    after: ImageBuilder,
    unchanged: Option<Unchanged>,
    /// Rows to make room for when the first one comes.
    expected_rows: usize,
}

impl ChangeBatchBuilder {
    /// An empty builder.
    pub fn new(schema: Arc<TableSchema>, info: Arc<SourceInfo>) -> Self {
        let image = || ImageBuilder::new(schema.columns().iter().map(|column| column.kind.clone()), schema.fields().clone());
        Self {
            ops: Vec::new(),
            orders: Vec::new(),
            commit_ts_us: Vec::new(),
            source: ImageBuilder::new(info.columns.iter().map(|(_, kind)| kind.clone()), info.fields().clone()),
            before: image(),
            after: image(),
            unchanged: None,
            expected_rows: 0,
            schema,
            info,
        }
    }

    /// The shape of the rows.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// The number of rows begun.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether no row was begun.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Begins a row. Order keys must ascend; a source leaves the sequence 0.
    pub fn begin(&mut self, op: Op, order: OrderKey, commit_ts_us: i64) {
        if self.ops.is_empty() {
            self.ops.reserve(self.expected_rows);
            self.orders.reserve(self.expected_rows);
            self.commit_ts_us.reserve(self.expected_rows);
        }
        self.ops.push(op);
        self.orders.push(order);
        self.commit_ts_us.push(commit_ts_us);
    }

    /// The row's old image.
    pub fn before(&mut self) -> &mut ImageBuilder {
        &mut self.before
    }

    /// The row's new image.
    pub fn after(&mut self) -> &mut ImageBuilder {
        &mut self.after
    }

    /// The per-row columns of the `source` block: append exactly one value to each.
    pub fn source(&mut self) -> &mut [ColumnBuilder] {
        self.sources(1)
    }

    /// The same for so many rows at once, which may have been begun long before: append as many values to each column.
    pub fn sources(&mut self, rows: usize) -> &mut [ColumnBuilder] {
        self.source.present_in(rows)
    }

    /// Says of the row begun last that a column was not sent because it did not change; append NULL to the column itself.
    pub fn mark_unchanged(&mut self, column: usize) {
        let columns = self.schema.columns().len();
        let row = self.ops.len().saturating_sub(1);
        self.unchanged.get_or_insert_with(|| Unchanged::new(0, columns)).set(row, column);
    }

    /// Changes the op of the row begun last, for decoders that learn it late.
    pub fn set_op(&mut self, op: Op) {
        if let Some(last) = self.ops.last_mut() {
            *last = op;
        }
    }

    /// The rows so far as a batch; the builder is empty afterwards. An error means that a row was not appended to every column.
    pub fn finish(&mut self) -> Result<ChangeBatch, ArrowError> {
        let rows = self.ops.len();
        self.expected_rows = if rows >= MANY_ROWS { expected(rows) } else { 0 };
        let unchanged = self.unchanged.take().map(|mut set| {
            set.resize(rows);
            set
        });
        let source = match self.source.finish()? {
            Some(source) => source,
            None if self.info.columns.is_empty() => StructArray::new_empty_fields(rows, None),
            None => StructArray::new_null(self.info.fields().clone(), rows),
        };
        let batch = ChangeBatch {
            schema: Arc::clone(&self.schema),
            info: Arc::clone(&self.info),
            ops: std::mem::take(&mut self.ops),
            orders: std::mem::take(&mut self.orders),
            commit_ts_us: std::mem::take(&mut self.commit_ts_us),
            source,
            before: self.before.finish()?,
            after: self.after.finish()?,
            unchanged,
        };
        let images = [batch.before.as_ref(), batch.after.as_ref(), Some(&batch.source)];
        if images.into_iter().flatten().any(|image| arrow_array::Array::len(image) != rows) {
            return Err(ArrowError::InvalidArgumentError("an image of a row was appended twice or not at all".into()));
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, cast::AsArray, types::Int32Type};

    use super::*;
    use crate::{Column, Identity, TableName};

    fn builder() -> ChangeBatchBuilder {
        let column = |name: &str, kind| Column { name: name.into(), kind, source_type: String::new() };
        let columns = vec![column("id", ColumnType::Int32), column("tags", ColumnType::List(Box::new(ColumnType::Text)))];
        let schema = TableSchema::new(TableName::new("public", "t"), columns, vec![0], Identity::Key);
        let info = SourceInfo::new("test", "db", vec![("txId".into(), ColumnType::Int64)], Some(0));
        ChangeBatchBuilder::new(Arc::new(schema), info)
    }

    fn append(builder: &mut ChangeBatchBuilder, op: Op, id: i32, tags: Option<&[Option<&str>]>) {
        builder.begin(op, OrderKey { sequence: 0, ordinal: id as u32 }, 0);
        let image = if op == Op::Delete {
            builder.after().absent();
            builder.before()
        } else {
            builder.before().absent();
            builder.after()
        };
        let columns = image.present();
        let ColumnBuilder::Int32(ids) = &mut columns[0] else { panic!() };
        ids.append_value(id);
        match (&mut columns[1], tags) {
            (ColumnBuilder::List(list), Some(tags)) => {
                for tag in tags {
                    let ColumnBuilder::Text(items) = list.items() else { panic!() };
                    items.append_option(*tag);
                }
                list.close().unwrap();
            }
            (column, _) => column.append_null(),
        }
        let ColumnBuilder::Int64(tx) = &mut builder.source()[0] else { panic!() };
        tx.append_value(7);
    }

    #[test]
    fn images_line_up_with_rows() {
        let mut builder = builder();
        append(&mut builder, Op::Insert, 1, Some(&[Some("a"), None]));
        append(&mut builder, Op::Insert, 2, None);
        append(&mut builder, Op::Delete, 3, Some(&[]));
        builder.mark_unchanged(1);
        let batch = builder.finish().unwrap();
        let after = batch.after.as_ref().unwrap();
        assert_eq!((after.len(), after.null_count()), (3, 1));
        assert_eq!(batch.before.as_ref().unwrap().null_count(), 2);
        assert_eq!(after.column(1).as_list::<i32>().value(0).len(), 2);
        assert!(after.column(1).is_null(1));
        let unchanged = batch.unchanged.as_ref().unwrap();
        assert!(unchanged.contains(2, 1) && !unchanged.any(0) && !unchanged.any(1));
        let tail = batch.slice(2, 1);
        assert_eq!(tail.before.unwrap().column(0).as_primitive::<Int32Type>().value(0), 3);
        assert!(tail.unchanged.unwrap().contains(0, 1));

        append(&mut builder, Op::Insert, 4, None);
        let next = builder.finish().unwrap();
        assert_eq!((next.len(), next.before.is_none(), next.unchanged.is_none()), (1, true, true));
    }

    #[test]
    fn a_batch_after_a_large_one_has_its_room_at_once_and_the_same_types() {
        let mut builder = builder();
        let rows = MANY_ROWS as i32 * 3;
        let room = |batch: &ChangeBatch| batch.after.as_ref().unwrap().column(0).get_buffer_memory_size();
        let mut batches = Vec::new();
        for count in [rows, rows, 1, 1] {
            (0..count).for_each(|id| append(&mut builder, Op::Insert, id, Some(&[Some("a")])));
            batches.push(builder.finish().unwrap());
        }
        let [first, second, third, fourth] = &batches[..] else { panic!() };
        assert_eq!(first.after, second.after);
        assert_eq!((&first.slice(0, 1).after, &first.slice(0, 1).source), (&third.after, &third.source));
        assert_eq!((third.len(), &third.after), (1, &fourth.after));
        // Doubling would have come to 4096 values.
        let expected = expected(rows as usize) * size_of::<i32>();
        assert!((expected..expected + 64).contains(&room(second)), "{} for {expected}", room(second));
        assert!(room(fourth) < 1024, "{} bytes for one row", room(fourth));
    }

    #[test]
    fn a_table_without_columns_has_rows_all_the_same() {
        let schema = Arc::new(TableSchema::new(TableName::new("public", "t"), Vec::new(), Vec::new(), Identity::Nothing));
        let mut builder = ChangeBatchBuilder::new(schema, SourceInfo::new("test", "db", Vec::new(), None));
        for ordinal in 0..2 {
            builder.begin(Op::Insert, OrderKey { sequence: 0, ordinal }, 0);
            builder.before().absent();
            builder.after().present();
            builder.source();
        }
        let batch = builder.finish().unwrap();
        assert_eq!((batch.source.len(), batch.after.unwrap().len()), (2, 2));
    }

    #[test]
    fn a_row_that_lacks_an_image_is_an_error() {
        let mut builder = builder();
        append(&mut builder, Op::Insert, 1, None);
        builder.begin(Op::Insert, OrderKey::default(), 0);
        assert!(builder.finish().is_err());
    }
}
