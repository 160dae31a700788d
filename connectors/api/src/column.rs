use std::sync::Arc;

use arrow_schema::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, TimeUnit};
use serde::{Deserialize, Serialize};

/// The fields of an [`ColumnType::Interval`] value, in order: months (i32), days (i32), microseconds (i64).
///
/// The three are kept apart because a month has no fixed number of days and a day no fixed number of hours.
pub const INTERVAL_FIELDS: [&str; 3] = ["months", "days", "micros"];

/// The types a column can have between a source and a sink.
///
/// A closed list, so that every format and every sink says by an exhaustive `match` what it does with each. A source maps each
/// type of its database to exactly one of these, the same in snapshot and stream; what fits none arrives as [`ColumnType::Text`], the
/// exact text that the database prints.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// 16-bit signed integer.
    Int16,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// IEEE 754 single, NaN and infinities included.
    Float32,
    /// IEEE 754 double, NaN and infinities included.
    Float64,
    /// Exact decimal, `0 <= scale <= precision`: of 128 bits in Arrow up to 38 digits, of 256 bits beyond them.
    Decimal {
        /// Digits in all, 1 to 76.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// UTF-8 text. Also every type that has no better form: its exact text.
    Text,
    /// JSON text, byte for byte as the database gave it.
    Json,
    /// Bytes.
    Bytes,
    /// Days since 1970-01-01, proleptic Gregorian. `i32::MAX` and `i32::MIN` are infinity and -infinity.
    Date,
    /// Microseconds since midnight, 0 to 86,400,000,000 inclusive (24:00:00 is a value of its own).
    Time,
    /// Microseconds since 1970-01-01 00:00:00 of a wall clock without zone. `i64::MAX` and `i64::MIN` are infinity and -infinity.
    Timestamp,
    /// Microseconds since 1970-01-01 00:00:00 UTC. `i64::MAX` and `i64::MIN` are infinity and -infinity.
    TimestampTz,
    /// A span of so many microseconds, of either sign and beyond a day: a stopwatch's time, where [`Time`](Self::Time) is a clock's.
    Duration,
    /// Months, days and microseconds, kept apart: see [`INTERVAL_FIELDS`].
    Interval,
    /// 16 bytes.
    Uuid,
    /// A one-dimensional list; elements may be NULL. The element is never a list.
    List(Box<ColumnType>),
}

impl ColumnType {
    /// The Arrow type that holds such a column.
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } if *precision <= DECIMAL128_MAX_PRECISION => {
                DataType::Decimal128(*precision, *scale as i8)
            }
            Self::Decimal { precision, scale } => DataType::Decimal256(*precision, *scale as i8),
            Self::Text | Self::Json => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Duration => DataType::Duration(TimeUnit::Microsecond),
            Self::Interval => DataType::Struct(interval_fields()),
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::List(item) => DataType::List(item_field(item)),
        }
    }
}

/// The Arrow fields of an interval.
pub(crate) fn interval_fields() -> Fields {
    Fields::from(vec![
        Field::new(INTERVAL_FIELDS[0], DataType::Int32, false),
        Field::new(INTERVAL_FIELDS[1], DataType::Int32, false),
        Field::new(INTERVAL_FIELDS[2], DataType::Int64, false),
    ])
}

/// The Arrow field of a list's elements.
pub(crate) fn item_field(item: &ColumnType) -> Arc<Field> {
    Arc::new(Field::new("item", item.arrow(), true))
}

/// A column of a table, as one schema version has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// The name, exactly as the database has it.
    pub name: String,
    /// The type between source and sink.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// The type as the source database prints it, for example `numeric(12,2)` or `inet`.
    pub source_type: String,
}

impl Column {
    /// The Arrow field of this column: always nullable, because an image may lack any column but the key's.
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.kind.arrow(), true)
    }
}
