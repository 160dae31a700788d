use std::sync::Arc;

use connector_api::ColumnType;

use super::{ZeroDates, charset::Charset};

/// How the values of a column are decoded. Decides the column's type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ValueType {
    Int8,
    UInt8,
    Int16,
    UInt16,
    Int24,
    UInt24,
    Int32,
    UInt32,
    Int64,
    UInt64,
    /// `tinyint(1)`, asked for as a boolean.
    TinyBool,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// 1 to 64 bits.
    Bit(u8),
    Year,
    Date(ZeroDates),
    /// Digits of the fraction, 0 to 6.
    Time(u8),
    DateTime(u8, ZeroDates),
    Timestamp(u8, ZeroDates),
    /// The types of servers before MySQL 5.6, which MariaDB still writes for tables that were made by such.
    OldTime,
    OldDateTime(ZeroDates),
    OldTimestamp(ZeroDates),
    Text(Charset),
    CompressedText(Charset),
    Bytes,
    CompressedBytes,
    /// `binary(n)`: the log strips the zeroes at the end.
    FixedBytes(u32),
    Enum(Arc<Labels>),
    Set(Arc<Labels>),
    /// MySQL's binary documents.
    Json,
    Geometry,
    Vector,
    Uuid,
    Inet4,
    Inet6,
}

/// The labels of an enum or a set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Labels {
    pub labels: Vec<String>,
    /// Of the labels, as a `SELECT` sends them.
    pub charset: Charset,
}

/// What an enum's invalid value (number 0) arrives as when '' is a label of its own, so that the two stay apart.
pub(crate) const INVALID_ENUM: &str = "<invalid>";

impl Labels {
    /// What an enum's invalid value arrives as: as the server prints it, unless that is a label too.
    pub(crate) fn invalid(&self) -> &str {
        if self.has_empty() { INVALID_ENUM } else { "" }
    }

    /// Whether '' is a label.
    pub(crate) fn has_empty(&self) -> bool {
        self.labels.iter().any(String::is_empty)
    }
}

/// How many bytes a value takes in a row event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Always so many.
    Fixed(u8),
    /// As many as a little-endian length of so many bytes (1 to 4) before it says.
    Prefixed(u8),
}

impl Layout {
    /// Splits the value off the front of `bytes`, without its length. `None` if there are not so many bytes.
    #[inline]
    pub(crate) fn take<'a>(self, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (len, rest) = match self {
            Self::Fixed(len) => (usize::from(len), *bytes),
            Self::Prefixed(1) => {
                let (len, rest) = bytes.split_first()?;
                (usize::from(*len), rest)
            }
            Self::Prefixed(2) => {
                let (len, rest) = bytes.split_first_chunk::<2>()?;
                (usize::from(u16::from_le_bytes(*len)), rest)
            }
            Self::Prefixed(count) => {
                let (len, rest) = bytes.split_at_checked(count.into())?;
                (len.iter().rev().fold(0, |len, byte| (len << 8) | usize::from(*byte)), rest)
            }
        };
        let (value, rest) = rest.split_at_checked(len)?;
        *bytes = rest;
        Some(value)
    }
}

impl ValueType {
    /// The column's type between source and sink.
    pub(crate) fn column_type(&self) -> ColumnType {
        match self {
            Self::TinyBool | Self::Bit(1) => ColumnType::Bool,
            Self::Int8 | Self::UInt8 | Self::Int16 | Self::Year => ColumnType::Int16,
            Self::UInt16 | Self::Int24 | Self::UInt24 | Self::Int32 => ColumnType::Int32,
            Self::UInt32 | Self::Int64 | Self::Bit(..=63) => ColumnType::Int64,
            Self::UInt64 | Self::Bit(_) => ColumnType::Decimal { precision: 20, scale: 0 },
            Self::Float => ColumnType::Float32,
            Self::Double => ColumnType::Float64,
            Self::Decimal { precision, scale } => ColumnType::Decimal { precision: *precision, scale: *scale },
            Self::Date(ZeroDates::Text)
            | Self::DateTime(_, ZeroDates::Text)
            | Self::Timestamp(_, ZeroDates::Text)
            | Self::OldDateTime(ZeroDates::Text)
            | Self::OldTimestamp(ZeroDates::Text) => ColumnType::Text,
            Self::Date(_) => ColumnType::Date,
            Self::Time(_) | Self::OldTime => ColumnType::Duration,
            Self::DateTime(..) | Self::OldDateTime(_) => ColumnType::Timestamp,
            Self::Timestamp(..) | Self::OldTimestamp(_) => ColumnType::TimestampTz,
            Self::Text(_) | Self::CompressedText(_) | Self::Enum(_) | Self::Set(_) | Self::Inet4 | Self::Inet6 => ColumnType::Text,
            Self::Bytes | Self::CompressedBytes | Self::FixedBytes(_) | Self::Geometry => ColumnType::Bytes,
            Self::Json => ColumnType::Json,
            Self::Vector => ColumnType::List(Box::new(ColumnType::Float32)),
            Self::Uuid => ColumnType::Uuid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        for (layout, bytes, expected) in [
            (Layout::Fixed(2), &[1, 2, 3][..], Some((&[1, 2][..], 1))),
            (Layout::Fixed(4), &[1, 2, 3], None),
            (Layout::Prefixed(1), &[1, 2, 3], Some((&[2], 1))),
            (Layout::Prefixed(1), &[3, 2, 3], None),
            (Layout::Prefixed(1), &[], None),
            (Layout::Prefixed(2), &[1, 0, 3], Some((&[3], 0))),
            (Layout::Prefixed(2), &[1], None),
            (Layout::Prefixed(3), &[1, 0, 0, 3], Some((&[3], 0))),
            (Layout::Prefixed(4), &[1, 0, 0, 0, 3, 4], Some((&[3], 1))),
            (Layout::Prefixed(4), &[0xFF, 0xFF, 0xFF, 0xFF, 3, 4], None),
        ] {
            let mut rest = bytes;
            let taken = layout.take(&mut rest);
            assert_eq!(taken.map(|value| (value, rest.len())), expected, "{layout:?} {bytes:?}");
        }
    }
}
