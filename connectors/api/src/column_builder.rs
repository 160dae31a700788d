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
use arrow_schema::{ArrowError, DECIMAL128_MAX_PRECISION};

use crate::{
    ColumnType,
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
pub(crate) struct NullsBuilder(pub(crate) NullBufferBuilder);

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
    /// A builder for columns of that type, without room for any value: a thousand tables would take a hundred megabytes before their first row.
    pub fn new(kind: &ColumnType) -> Self {
        Self::with_capacity(kind, 0, 0)
    }

    /// A builder with room for so many values that have so many bytes together, if their type has no fixed length. Lists and intervals get none.
    pub(crate) fn with_capacity(kind: &ColumnType, values: usize, bytes: usize) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool(BooleanBuilder::with_capacity(values)),
            ColumnType::Int16 => Self::Int16(Int16Builder::with_capacity(values)),
            ColumnType::Int32 => Self::Int32(Int32Builder::with_capacity(values)),
            ColumnType::Int64 => Self::Int64(Int64Builder::with_capacity(values)),
            ColumnType::Float32 => Self::Float32(Float32Builder::with_capacity(values)),
            ColumnType::Float64 => Self::Float64(Float64Builder::with_capacity(values)),
            ColumnType::Decimal { precision, .. } if *precision <= DECIMAL128_MAX_PRECISION => {
                Self::Decimal(Decimal128Builder::with_capacity(values).with_data_type(kind.arrow()))
            }
            ColumnType::Decimal { .. } => Self::Decimal256(Decimal256Builder::with_capacity(values).with_data_type(kind.arrow())),
            ColumnType::Text | ColumnType::Json => Self::Text(StringBuilder::with_capacity(values, bytes)),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::with_capacity(values, bytes)),
            ColumnType::Date => Self::Date(Date32Builder::with_capacity(values)),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::with_capacity(values)),
            ColumnType::Timestamp | ColumnType::TimestampTz => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(values).with_data_type(kind.arrow()))
            }
            ColumnType::Duration => Self::Duration(DurationMicrosecondBuilder::with_capacity(values)),
            ColumnType::Interval => Self::Interval(Box::default()),
            ColumnType::Uuid => Self::Uuid(FixedSizeBinaryBuilder::with_capacity(values, 16)),
            ColumnType::List(item) => Self::List(Box::new(ListBuilder {
                items: Self::new(item),
                item_type: item.as_ref().clone(),
                offsets: vec![0],
                valid: NullsBuilder::default(),
            })),
        }
    }

    /// Bytes of the values that were appended, if their type has no fixed length; else 0.
    pub(crate) fn value_bytes(&self) -> usize {
        match self {
            Self::Text(b) => b.values_slice().len(),
            Self::Bytes(b) => b.values_slice().len(),
            _ => 0,
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

#[cfg(test)]
mod tests {
    use arrow_array::Array;

    use super::*;

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
}
