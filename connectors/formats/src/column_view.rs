use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeBinaryArray, StringArray, StructArray,
    cast::AsArray,
    types::{
        Date32Type, Decimal128Type, Decimal256Type, DecimalType, DurationMicrosecondType, Float32Type, Float64Type, Int16Type,
        Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
    },
};
use arrow_buffer::{NullBuffer, i256};
use arrow_schema::DECIMAL128_MAX_PRECISION;
use connector_api::ColumnType;

/// A column whose Arrow type was looked at once for the whole batch, so that a value costs one `match`.
pub(crate) struct ColumnView<'a> {
    nulls: Option<&'a NullBuffer>,
    pub(crate) values: Values<'a>,
}

/// The values of a column. What stands at a NULL is not to be used.
pub(crate) enum Values<'a> {
    Bool(&'a BooleanArray),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    /// Unscaled values, and the scale.
    Decimal(&'a [i128], u8),
    /// The same for more than 38 digits.
    Decimal256(&'a [i256], u8),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i64]),
    Timestamp(&'a [i64]),
    TimestampTz(&'a [i64]),
    Duration(&'a [i64]),
    /// Months, days, microseconds.
    Interval(&'a [i32], &'a [i32], &'a [i64]),
    Uuid(&'a FixedSizeBinaryArray),
    /// Where each list begins and ends among the items.
    List(&'a [i32], Box<ColumnView<'a>>),
}

impl<'a> ColumnView<'a> {
    /// Looks at an array as a column of that type; `None` if it is something else.
    pub(crate) fn new(array: &'a ArrayRef, kind: &ColumnType) -> Option<Self> {
        let values = match kind {
            ColumnType::Bool => Values::Bool(array.as_boolean_opt()?),
            ColumnType::Int16 => Values::Int16(primitive::<Int16Type>(array)?),
            ColumnType::Int32 => Values::Int32(primitive::<Int32Type>(array)?),
            ColumnType::Int64 => Values::Int64(primitive::<Int64Type>(array)?),
            ColumnType::Float32 => Values::Float32(primitive::<Float32Type>(array)?),
            ColumnType::Float64 => Values::Float64(primitive::<Float64Type>(array)?),
            ColumnType::Decimal { precision, scale } if *precision <= DECIMAL128_MAX_PRECISION => {
                Values::Decimal(unscaled::<Decimal128Type>(array, *scale)?, *scale)
            }
            ColumnType::Decimal { scale, .. } => Values::Decimal256(unscaled::<Decimal256Type>(array, *scale)?, *scale),
            ColumnType::Text | ColumnType::Json => Values::Text(array.as_string_opt()?),
            ColumnType::Bytes => Values::Bytes(array.as_binary_opt()?),
            ColumnType::Date => Values::Date(primitive::<Date32Type>(array)?),
            ColumnType::Time => Values::Time(primitive::<Time64MicrosecondType>(array)?),
            ColumnType::Timestamp => Values::Timestamp(primitive::<TimestampMicrosecondType>(array)?),
            ColumnType::TimestampTz => Values::TimestampTz(primitive::<TimestampMicrosecondType>(array)?),
            ColumnType::Duration => Values::Duration(primitive::<DurationMicrosecondType>(array)?),
            ColumnType::Interval => {
                let [months, days, micros] = array.as_struct_opt()?.columns() else { return None };
                Values::Interval(primitive::<Int32Type>(months)?, primitive::<Int32Type>(days)?, primitive::<Int64Type>(micros)?)
            }
            ColumnType::Uuid => {
                let uuids = array.as_fixed_size_binary_opt()?;
                if uuids.value_length() != 16 {
                    return None;
                }
                Values::Uuid(uuids)
            }
            ColumnType::List(item) => {
                let lists = array.as_list_opt::<i32>()?;
                Values::List(lists.value_offsets(), Box::new(Self::new(lists.values(), item)?))
            }
        };
        Some(Self { nulls: array.nulls(), values })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// Puts `mark` where a row may have another value than the row before it. The first row is left as it is.
    fn mark_changes(&self, mark: u8, marks: &mut [u8]) {
        if self.nulls.is_some_and(|nulls| nulls.null_count() == nulls.len()) {
            return;
        }
        match &self.values {
            _ if self.nulls.is_some_and(|nulls| nulls.null_count() > 0) => marks.fill(mark),
            Values::Int32(values) => mark_differing(values, mark, marks),
            Values::Int64(values) => mark_differing(values, mark, marks),
            Values::Text(values) => {
                let text = |from: i32, to: i32| &values.value_data()[from as usize..to as usize];
                for (bounds, place) in values.value_offsets().windows(3).zip(marks.iter_mut().skip(1)) {
                    if text(bounds[0], bounds[1]) != text(bounds[1], bounds[2]) {
                        *place = mark;
                    }
                }
            }
            _ => marks.fill(mark),
        }
    }
}

fn mark_differing<T: PartialEq>(values: &[T], mark: u8, marks: &mut [u8]) {
    for (pair, place) in values.windows(2).zip(marks.iter_mut().skip(1)) {
        *place = if pair[0] == pair[1] { *place } else { mark };
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<&[T::Native]> {
    array.as_primitive_opt::<T>().map(|array| array.values().as_ref())
}

fn unscaled<T: DecimalType>(array: &ArrayRef, scale: u8) -> Option<&[T::Native]> {
    let decimals = array.as_primitive_opt::<T>()?;
    (decimals.scale() == scale as i8).then_some(decimals.values().as_ref())
}

/// The columns of an image or of the `source` block.
pub(crate) struct RowView<'a> {
    nulls: Option<&'a NullBuffer>,
    pub(crate) columns: Vec<ColumnView<'a>>,
}

impl<'a> RowView<'a> {
    /// The error is the index of the first column that does not fit; the number of columns if their number does not.
    pub(crate) fn new<'k>(
        array: &'a StructArray,
        rows: usize,
        kinds: impl ExactSizeIterator<Item = &'k ColumnType>,
    ) -> Result<Self, usize> {
        if array.len() != rows || array.num_columns() != kinds.len() {
            return Err(kinds.len());
        }
        let columns = array.columns().iter().zip(kinds).enumerate();
        let columns =
            columns.map(|(index, (column, kind))| ColumnView::new(column, kind).ok_or(index)).collect::<Result<_, _>>()?;
        Ok(Self { nulls: array.nulls(), columns })
    }

    pub(crate) fn is_present(&self, row: usize) -> bool {
        self.nulls.is_none_or(|nulls| nulls.is_valid(row))
    }

    /// For each row up to which column it has the same values as the row before it, or a column before that one.
    pub(crate) fn unchanged_up_to(&self, rows: usize) -> Vec<u8> {
        if self.nulls.is_some() || rows == 0 {
            return vec![0; rows];
        }
        // The least index has the last word.
        let mut marks = vec![u8::try_from(self.columns.len()).unwrap_or(0); rows];
        for (index, column) in self.columns.iter().enumerate().rev() {
            column.mark_changes(u8::try_from(index).unwrap_or(0), &mut marks);
        }
        marks[0] = 0;
        marks
    }
}
