use arrow_array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, DurationMicrosecondArray,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_buffer::i256;
use connector_api::ColumnType;

/// One value, borrowed from its array.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Float32(f32),
    Float64(f64),
    Decimal {
        unscaled: i128,
        scale: u8,
    },
    /// Of more than 38 digits. A reference, so that the rare type does not make all cells larger.
    Decimal256 {
        unscaled: &'a i256,
        scale: u8,
    },
    Text(&'a str),
    Bytes(&'a [u8]),
    Date(i32),
    Time(i64),
    Timestamp(i64),
    TimestampTz(i64),
    /// Microseconds.
    Duration(i64),
    Interval {
        months: i32,
        days: i32,
        micros: i64,
    },
    Uuid(&'a [u8]),
    /// The elements `start..end` of the array.
    List {
        items: &'a Values<'a>,
        start: usize,
        end: usize,
    },
}

/// A column of an image, downcast once a batch, so that a row costs a match and no lookup.
#[derive(Debug)]
pub(crate) enum Values<'a> {
    Bool(&'a BooleanArray),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal(&'a Decimal128Array, u8),
    Decimal256(&'a Decimal256Array, u8),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
    TimestampTz(&'a TimestampMicrosecondArray),
    Duration(&'a DurationMicrosecondArray),
    Interval { whole: &'a StructArray, months: &'a Int32Array, days: &'a Int32Array, micros: &'a Int64Array },
    Uuid(&'a FixedSizeBinaryArray),
    List(&'a ListArray, Box<Values<'a>>),
}

fn downcast<T: 'static>(array: &dyn Array) -> Option<&T> {
    array.as_any().downcast_ref()
}

impl<'a> Values<'a> {
    /// The values of an array that holds a column of that type; `None` if it does not.
    pub(crate) fn new(kind: &ColumnType, array: &'a dyn Array) -> Option<Self> {
        Some(match kind {
            ColumnType::Bool => Self::Bool(downcast(array)?),
            ColumnType::Int16 => Self::Int16(downcast(array)?),
            ColumnType::Int32 => Self::Int32(downcast(array)?),
            ColumnType::Int64 => Self::Int64(downcast(array)?),
            ColumnType::Float32 => Self::Float32(downcast(array)?),
            ColumnType::Float64 => Self::Float64(downcast(array)?),
            ColumnType::Decimal { scale, .. } => match downcast(array) {
                Some(array) => Self::Decimal(array, *scale),
                None => Self::Decimal256(downcast(array)?, *scale),
            },
            ColumnType::Text | ColumnType::Json => Self::Text(downcast(array)?),
            ColumnType::Bytes => Self::Bytes(downcast(array)?),
            ColumnType::Date => Self::Date(downcast(array)?),
            ColumnType::Time => Self::Time(downcast(array)?),
            ColumnType::Timestamp => Self::Timestamp(downcast(array)?),
            ColumnType::TimestampTz => Self::TimestampTz(downcast(array)?),
            ColumnType::Duration => Self::Duration(downcast(array)?),
            ColumnType::Interval => {
                let whole: &StructArray = downcast(array)?;
                let [months, days, micros] = whole.columns() else { return None };
                Self::Interval {
                    whole,
                    months: downcast(months.as_ref())?,
                    days: downcast(days.as_ref())?,
                    micros: downcast(micros.as_ref())?,
                }
            }
            ColumnType::Uuid => {
                let array: &FixedSizeBinaryArray = downcast(array)?;
                (array.value_length() == 16).then_some(Self::Uuid(array))?
            }
            ColumnType::List(item) => {
                let array: &ListArray = downcast(array)?;
                Self::List(array, Box::new(Values::new(item, array.values().as_ref())?))
            }
        })
    }

    /// The value of a row, which must be in range.
    #[inline]
    pub(crate) fn cell(&'a self, row: usize) -> Cell<'a> {
        macro_rules! value {
            ($array:expr, $cell:expr) => {
                if $array.is_null(row) { Cell::Null } else { $cell($array.value(row)) }
            };
        }
        match self {
            Self::Bool(a) => value!(a, Cell::Bool),
            Self::Int16(a) => value!(a, Cell::Int16),
            Self::Int32(a) => value!(a, Cell::Int32),
            Self::Int64(a) => value!(a, Cell::Int64),
            Self::Float32(a) => value!(a, Cell::Float32),
            Self::Float64(a) => value!(a, Cell::Float64),
            Self::Decimal(a, scale) => value!(a, |unscaled| Cell::Decimal { unscaled, scale: *scale }),
            Self::Decimal256(a, scale) => {
                if a.is_null(row) {
                    return Cell::Null;
                }
                a.values().get(row).map_or(Cell::Null, |unscaled| Cell::Decimal256 { unscaled, scale: *scale })
            }
            Self::Text(a) => value!(a, Cell::Text),
            Self::Bytes(a) => value!(a, Cell::Bytes),
            Self::Date(a) => value!(a, Cell::Date),
            Self::Time(a) => value!(a, Cell::Time),
            Self::Timestamp(a) => value!(a, Cell::Timestamp),
            Self::TimestampTz(a) => value!(a, Cell::TimestampTz),
            Self::Duration(a) => value!(a, Cell::Duration),
            Self::Interval { whole, months, days, micros } => {
                if whole.is_null(row) {
                    return Cell::Null;
                }
                Cell::Interval { months: months.value(row), days: days.value(row), micros: micros.value(row) }
            }
            Self::Uuid(a) => value!(a, Cell::Uuid),
            Self::List(a, items) => {
                if a.is_null(row) {
                    return Cell::Null;
                }
                let offsets = a.value_offsets();
                Cell::List { items, start: offsets[row] as usize, end: offsets[row + 1] as usize }
            }
        }
    }
}
