use std::sync::Arc;

use arrow_array::{
    ArrayRef, ListArray, StructArray,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder, DurationMicrosecondBuilder,
        FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
        Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
    },
};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DECIMAL128_MAX_PRECISION, Fields};

use crate::{
    ChangeBatch, ColumnType, Op, OrderKey, SourceInfo, TableSchema, Unchanged,
    column::{interval_fields, item_field},
};

/// Collects the values of one column. A decoder matches the variant once per value and appends; nothing here allocates per value
/// but the growth of its buffers.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "each variant is the builder of the column type of its name; `Decimal256` is for more than 38 digits"
)]
pub enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Decimal256(Decimal256Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Duration(DurationMicrosecondBuilder),
    Interval(Box<IntervalBuilder>),
    Uuid(FixedSizeBinaryBuilder),
    List(Box<ListBuilder>),
}

/// Collects intervals.
#[derive(Debug, Default)]
pub struct IntervalBuilder {
    months: Int32Builder,
    days: Int32Builder,
    micros: Int64Builder,
    valid: NullsBuilder,
}

/// Collects lists: append the elements to [`items`](Self::items), then close the list.
#[derive(Debug)]
pub struct ListBuilder {
    items: ColumnBuilder,
    item_type: ColumnType,
    offsets: Vec<i32>,
    valid: NullsBuilder,
}

/// A `NullBufferBuilder` with a default.
#[derive(Debug)]
struct NullsBuilder(NullBufferBuilder);

impl Default for NullsBuilder {
    fn default() -> Self {
        Self(NullBufferBuilder::new(0))
    }
}

impl IntervalBuilder {
    /// Appends an interval; the three parts may differ in sign.
    pub fn append_value(&mut self, months: i32, days: i32, micros: i64) {
        self.months.append_value(months);
        self.days.append_value(days);
        self.micros.append_value(micros);
        self.valid.0.append_non_null();
    }

    fn append_nulls(&mut self, n: usize) {
        // The fields are not nullable: a NULL interval holds zeroes under its validity bit.
        for _ in 0..n {
            self.months.append_value(0);
            self.days.append_value(0);
            self.micros.append_value(0);
        }
        self.valid.0.append_n_nulls(n);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.months.finish()), Arc::new(self.days.finish()), Arc::new(self.micros.finish())];
        Ok(Arc::new(StructArray::try_new(interval_fields(), columns, self.valid.0.finish())?))
    }
}

impl ListBuilder {
    /// The builder of the elements.
    pub fn items(&mut self) -> &mut ColumnBuilder {
        &mut self.items
    }

    /// Ends a list of the elements that were appended since the last one ended. Fails when the batch holds more than 2^31 elements.
    pub fn close(&mut self) -> Result<(), ArrowError> {
        self.push_offset()?;
        self.valid.0.append_non_null();
        Ok(())
    }

    fn push_offset(&mut self) -> Result<(), ArrowError> {
        let end = i32::try_from(self.items.len()).map_err(|_| ArrowError::OffsetOverflowError(self.items.len()))?;
        self.offsets.push(end);
        Ok(())
    }

    fn append_nulls(&mut self, n: usize) {
        let end = *self.offsets.last().unwrap_or(&0);
        self.offsets.extend(std::iter::repeat_n(end, n));
        self.valid.0.append_n_nulls(n);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.offsets, vec![0])));
        let items = self.items.finish()?;
        Ok(Arc::new(ListArray::try_new(item_field(&self.item_type), offsets, items, self.valid.0.finish())?))
    }
}

impl ColumnBuilder {
    /// A builder for columns of that type.
    pub fn new(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::Int16 => Self::Int16(Int16Builder::new()),
            ColumnType::Int32 => Self::Int32(Int32Builder::new()),
            ColumnType::Int64 => Self::Int64(Int64Builder::new()),
            ColumnType::Float32 => Self::Float32(Float32Builder::new()),
            ColumnType::Float64 => Self::Float64(Float64Builder::new()),
            ColumnType::Decimal { precision, .. } if *precision <= DECIMAL128_MAX_PRECISION => {
                Self::Decimal(Decimal128Builder::new().with_data_type(kind.arrow()))
            }
            ColumnType::Decimal { .. } => Self::Decimal256(Decimal256Builder::new().with_data_type(kind.arrow())),
            ColumnType::Text | ColumnType::Json => Self::Text(StringBuilder::with_capacity(0, 0)),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::with_capacity(0, 0)),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::new()),
            ColumnType::Timestamp | ColumnType::TimestampTz => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(kind.arrow()))
            }
            ColumnType::Duration => Self::Duration(DurationMicrosecondBuilder::new()),
            ColumnType::Interval => Self::Interval(Box::default()),
            ColumnType::Uuid => Self::Uuid(FixedSizeBinaryBuilder::with_capacity(0, 16)),
            ColumnType::List(item) => Self::List(Box::new(ListBuilder {
                items: Self::new(item),
                item_type: item.as_ref().clone(),
                offsets: vec![0],
                valid: NullsBuilder::default(),
            })),
        }
    }

    /// Appends one NULL.
    pub fn append_null(&mut self) {
        self.append_nulls(1);
    }

    /// Appends `n` NULLs.
    pub fn append_nulls(&mut self, n: usize) {
        match self {
            Self::Bool(b) => b.append_nulls(n),
            Self::Int16(b) => b.append_nulls(n),
            Self::Int32(b) => b.append_nulls(n),
            Self::Int64(b) => b.append_nulls(n),
            Self::Float32(b) => b.append_nulls(n),
            Self::Float64(b) => b.append_nulls(n),
            Self::Decimal(b) => b.append_nulls(n),
            Self::Decimal256(b) => b.append_nulls(n),
            Self::Text(b) => b.append_nulls(n),
            Self::Bytes(b) => b.append_nulls(n),
            Self::Date(b) => b.append_nulls(n),
            Self::Time(b) => b.append_nulls(n),
            Self::Timestamp(b) => b.append_nulls(n),
            Self::Duration(b) => b.append_nulls(n),
            Self::Interval(b) => b.append_nulls(n),
            Self::Uuid(b) => b.append_nulls(n),
            Self::List(b) => b.append_nulls(n),
        }
    }

    /// How many values were appended.
    pub fn len(&self) -> usize {
        use arrow_array::builder::ArrayBuilder as _;
        match self {
            Self::Bool(b) => b.len(),
            Self::Int16(b) => b.len(),
            Self::Int32(b) => b.len(),
            Self::Int64(b) => b.len(),
            Self::Float32(b) => b.len(),
            Self::Float64(b) => b.len(),
            Self::Decimal(b) => b.len(),
            Self::Decimal256(b) => b.len(),
            Self::Text(b) => b.len(),
            Self::Bytes(b) => b.len(),
            Self::Date(b) => b.len(),
            Self::Time(b) => b.len(),
            Self::Timestamp(b) => b.len(),
            Self::Duration(b) => b.len(),
            Self::Interval(b) => b.months.len(),
            Self::Uuid(b) => b.len(),
            Self::List(b) => b.offsets.len() - 1,
        }
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as an array; the builder is empty afterwards.
    pub fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Int16(b) => Arc::new(b.finish()),
            Self::Int32(b) => Arc::new(b.finish()),
            Self::Int64(b) => Arc::new(b.finish()),
            Self::Float32(b) => Arc::new(b.finish()),
            Self::Float64(b) => Arc::new(b.finish()),
            Self::Decimal(b) => Arc::new(b.finish()),
            Self::Decimal256(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Bytes(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Timestamp(b) => Arc::new(b.finish()),
            Self::Duration(b) => Arc::new(b.finish()),
            Self::Interval(b) => b.finish()?,
            Self::Uuid(b) => Arc::new(b.finish()),
            Self::List(b) => b.finish()?,
        })
    }
}

/// Collects one image (`before` or `after`) of each row.
#[derive(Debug)]
pub struct ImageBuilder {
    fields: Fields,
    columns: Vec<ColumnBuilder>,
    valid: NullsBuilder,
    /// Rows without this image that were not yet appended. They are appended together, so an image that is never there (the `before`
    /// of inserts) costs one addition a row.
    absent: usize,
    any_present: bool,
}

impl ImageBuilder {
    fn new(kinds: impl Iterator<Item = ColumnType>, fields: Fields) -> Self {
        let columns = kinds.map(|kind| ColumnBuilder::new(&kind)).collect();
        Self { fields, columns, valid: NullsBuilder::default(), absent: 0, any_present: false }
    }

    /// The row has no such image.
    pub fn absent(&mut self) {
        self.absent += 1;
    }

    /// The row has this image: append exactly one value to each of the columns.
    pub fn present(&mut self) -> &mut [ColumnBuilder] {
        self.append_absent();
        self.valid.0.append_non_null();
        self.any_present = true;
        &mut self.columns
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
        let columns = self.columns.iter_mut().map(ColumnBuilder::finish).collect::<Result<_, _>>()?;
        StructArray::try_new(self.fields.clone(), columns, self.valid.0.finish()).map(Some)
    }
}

/// Collects the changes of one table under one schema version.
///
/// For each row: [`begin`](Self::begin), then the images by [`before`](Self::before) and [`after`](Self::after) (each exactly once, `absent` or
/// `present`), then the per-row source columns by [`source`](Self::source).
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
        self.source.present()
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
    fn builders_make_what_their_types_say() {
        let decimal = |precision| ColumnType::Decimal { precision, scale: 1 };
        for kind in [decimal(1), decimal(38), decimal(39), decimal(76), ColumnType::Duration, ColumnType::Interval] {
            for kind in [kind.clone(), ColumnType::List(Box::new(kind))] {
                let mut builder = ColumnBuilder::new(&kind);
                builder.append_nulls(2);
                let array = builder.finish().unwrap();
                assert_eq!((array.data_type(), array.len(), array.null_count()), (&kind.arrow(), 2, 2));
            }
        }
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
