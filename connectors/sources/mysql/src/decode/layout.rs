//! How the values of a type lie in row events, and whether a table map says so.

use std::sync::Arc;

use super::{
    DecodeOptions, TinyInt1,
    charset::Charsets,
    decimal,
    shape::ShapeProblem,
    sql_type::{SqlType, StringForm},
    value_type::{Layout, ValueType},
};
use crate::event::{TableMapColumn, column_type as code};

impl SqlType {
    /// Whether a table map describes such a column so. Without full metadata this is all that can be compared.
    pub(crate) fn agrees_with(&self, column: &TableMapColumn) -> bool {
        let (codes, metadata): (&[u8], Option<u16>) = match self {
            Self::Integer { bytes, .. } => {
                let type_code = match bytes {
                    1 => code::TINY,
                    2 => code::SHORT,
                    3 => code::INT24,
                    4 => code::LONG,
                    _ => code::LONGLONG,
                };
                return column.type_code == type_code && self.sign_agrees_with(column);
            }
            Self::Decimal { precision, scale, .. } => (&[code::NEWDECIMAL], Some(u16::from(*scale) << 8 | u16::from(*precision))),
            Self::Float { .. } => (&[code::FLOAT], None),
            Self::Double { .. } => (&[code::DOUBLE], None),
            Self::Bit(bits) => (&[code::BIT], Some(u16::from(bits / 8) << 8 | u16::from(bits % 8))),
            Self::Year => (&[code::YEAR], None),
            Self::Date => (&[code::DATE], None),
            Self::Time(0) if column.type_code == code::TIME => return true,
            Self::DateTime(0) if column.type_code == code::DATETIME => return true,
            Self::Timestamp(0) if column.type_code == code::TIMESTAMP => return true,
            Self::Time(digits) => (&[code::TIME2], Some((*digits).into())),
            Self::DateTime(digits) => (&[code::DATETIME2], Some((*digits).into())),
            Self::Timestamp(digits) => (&[code::TIMESTAMP2], Some((*digits).into())),
            Self::Text { form, char_bytes, compressed, .. } => return form.agrees_with(*char_bytes, *compressed, column),
            Self::Bytes { form, compressed } => return form.agrees_with(1, *compressed, column),
            Self::Enum(labels) => (&[code::ENUM], Some(enum_bytes(labels.labels.len()).into())),
            Self::Set(labels) => (&[code::SET], Some(set_bytes(labels.labels.len()).into())),
            Self::Json => (&[code::JSON], None),
            Self::Geometry(_) => (&[code::GEOMETRY], None),
            Self::Vector { mariadb: false, .. } => (&[code::VECTOR], None),
            Self::Vector { dimensions, mariadb: true } => (&[code::VARCHAR], u16::try_from(dimensions.saturating_mul(4)).ok()),
            Self::Uuid | Self::Inet6 => (&[code::STRING], Some(16)),
            Self::Inet4 => (&[code::STRING], Some(4)),
        };
        codes.contains(&column.type_code) && metadata.is_none_or(|metadata| metadata == column.metadata)
    }

    fn sign_agrees_with(&self, column: &TableMapColumn) -> bool {
        match self {
            Self::Integer { unsigned, .. } => column.unsigned.is_none_or(|said| said == *unsigned),
            _ => true,
        }
    }

    /// How the values are decoded, and how many bytes they take in row events of a table map that describes the column so (`None` for a snapshot's).
    pub(crate) fn plan(&self, options: DecodeOptions, column: Option<&TableMapColumn>) -> (ValueType, Layout) {
        let zero = options.zero_dates;
        let fraction_bytes = |digits: &u8| digits.min(&6).div_ceil(2);
        let old = |type_code| column.is_some_and(|column| column.type_code == type_code);
        match self {
            Self::Integer { one: true, .. } if options.tinyint1 == TinyInt1::Bool => (ValueType::TinyBool, Layout::Fixed(1)),
            Self::Integer { bytes, unsigned, .. } => {
                let value = match (bytes, unsigned) {
                    (1, false) => ValueType::Int8,
                    (1, true) => ValueType::UInt8,
                    (2, false) => ValueType::Int16,
                    (2, true) => ValueType::UInt16,
                    (3, false) => ValueType::Int24,
                    (3, true) => ValueType::UInt24,
                    (4, false) => ValueType::Int32,
                    (4, true) => ValueType::UInt32,
                    (_, false) => ValueType::Int64,
                    (_, true) => ValueType::UInt64,
                };
                (value, Layout::Fixed(*bytes))
            }
            Self::Decimal { precision, scale, .. } => (
                ValueType::Decimal { precision: *precision, scale: *scale },
                Layout::Fixed(decimal::binary_len(*precision, *scale) as u8),
            ),
            Self::Float { .. } => (ValueType::Float, Layout::Fixed(4)),
            Self::Double { .. } => (ValueType::Double, Layout::Fixed(8)),
            Self::Bit(bits) => (ValueType::Bit(*bits), Layout::Fixed(bits.div_ceil(8))),
            Self::Year => (ValueType::Year, Layout::Fixed(1)),
            Self::Date => (ValueType::Date(zero), Layout::Fixed(3)),
            Self::Time(_) if old(code::TIME) => (ValueType::OldTime, Layout::Fixed(3)),
            Self::Time(digits) => (ValueType::Time(*digits), Layout::Fixed(3 + fraction_bytes(digits))),
            Self::DateTime(_) if old(code::DATETIME) => (ValueType::OldDateTime(zero), Layout::Fixed(8)),
            Self::DateTime(digits) => (ValueType::DateTime(*digits, zero), Layout::Fixed(5 + fraction_bytes(digits))),
            Self::Timestamp(_) if old(code::TIMESTAMP) => (ValueType::OldTimestamp(zero), Layout::Fixed(4)),
            Self::Timestamp(digits) => (ValueType::Timestamp(*digits, zero), Layout::Fixed(4 + fraction_bytes(digits))),
            Self::Text { form, charset, char_bytes, compressed } => {
                let charset = charset.clone();
                let value = if *compressed { ValueType::CompressedText(charset) } else { ValueType::Text(charset) };
                (value, form.layout(*char_bytes, *compressed))
            }
            Self::Bytes { form, compressed } => {
                let value = match (form, compressed) {
                    (_, true) => ValueType::CompressedBytes,
                    (StringForm::Fixed(len), _) => ValueType::FixedBytes(*len),
                    _ => ValueType::Bytes,
                };
                (value, form.layout(1, *compressed))
            }
            Self::Enum(labels) => (ValueType::Enum(Arc::new(labels.clone())), Layout::Fixed(enum_bytes(labels.labels.len()))),
            Self::Set(labels) => (ValueType::Set(Arc::new(labels.clone())), Layout::Fixed(set_bytes(labels.labels.len()))),
            Self::Json => (ValueType::Json, Layout::Prefixed(4)),
            Self::Geometry(_) => (ValueType::Geometry, Layout::Prefixed(4)),
            Self::Vector { mariadb: false, .. } => (ValueType::Vector, Layout::Prefixed(4)),
            Self::Vector { dimensions, mariadb: true } => {
                (ValueType::Vector, StringForm::Variable(dimensions.saturating_mul(4)).layout(1, false))
            }
            Self::Uuid => (ValueType::Uuid, Layout::Prefixed(1)),
            Self::Inet4 => (ValueType::Inet4, Layout::Prefixed(1)),
            Self::Inet6 => (ValueType::Inet6, Layout::Prefixed(1)),
        }
    }

    /// Whether a table map shows the type as another: only the catalog tells.
    pub(crate) fn looks_like_another(&self) -> bool {
        matches!(
            self,
            Self::Integer { one: true, .. } | Self::Uuid | Self::Inet4 | Self::Inet6 | Self::Vector { mariadb: true, .. }
        )
    }

    /// Whether the character set is that of a table map's collation.
    pub(crate) fn charset_agrees_with(&self, said: &str, charsets: &Charsets, column: &str) -> Result<bool, ShapeProblem> {
        Ok(match self {
            Self::Text { charset, .. } => said != "binary" && *charset == charsets.get(said, column)?,
            Self::Bytes { .. } => said == "binary",
            Self::Enum(labels) | Self::Set(labels) => labels.charset == charsets.get(said, column)?,
            _ => true,
        })
    }
}

impl StringForm {
    fn agrees_with(self, char_bytes: u32, compressed: bool, column: &TableMapColumn) -> bool {
        let bytes = |len: u32| len.saturating_mul(char_bytes);
        let metadata = u32::from(column.metadata);
        match (self, compressed) {
            (Self::Fixed(len), _) => column.type_code == code::STRING && metadata == bytes(len),
            (Self::Variable(len), false) => matches!(column.type_code, code::VARCHAR | code::VAR_STRING) && metadata == bytes(len),
            // A byte more, for the compression's header.
            (Self::Variable(len), true) => column.type_code == code::VARCHAR_COMPRESSED && metadata == bytes(len) + 1,
            (Self::Large(prefix), false) => column.type_code == code::BLOB && metadata == u32::from(prefix),
            (Self::Large(prefix), true) => column.type_code == code::BLOB_COMPRESSED && metadata == u32::from(prefix),
        }
    }

    /// The length takes two bytes where it can be more than 255.
    fn layout(self, char_bytes: u32, compressed: bool) -> Layout {
        match self {
            Self::Fixed(len) | Self::Variable(len) => {
                let bytes = len.saturating_mul(char_bytes) + u32::from(compressed);
                Layout::Prefixed(if bytes > 255 { 2 } else { 1 })
            }
            Self::Large(prefix) => Layout::Prefixed(prefix.clamp(1, 4)),
        }
    }
}

fn enum_bytes(labels: usize) -> u8 {
    if labels > 255 { 2 } else { 1 }
}

fn set_bytes(labels: usize) -> u8 {
    match labels.div_ceil(8) {
        0 | 1 => 1,
        bytes @ 2..=4 => bytes as u8,
        _ => 8,
    }
}
