use std::{fmt, sync::Arc};

use super::{
    DecodeOptions, TinyInt1,
    charset::{Charset, Charsets},
    definition::ColumnDefinition,
    shape::ShapeProblem,
    value_type::{Labels, Layout, ValueType},
};
use crate::event::{TableMapColumn, column_type as code};

/// The type of a column, without what does not change its values (display width, zerofill, collation).
///
/// Snapshot and stream learn it from different places, the catalog and the table map, and must come to the same: this is where they meet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SqlType {
    Integer {
        bytes: u8,
        unsigned: bool,
        /// `tinyint(1)`; only the catalog knows.
        one: bool,
    },
    Decimal {
        precision: u8,
        scale: u8,
        unsigned: bool,
    },
    Float {
        unsigned: bool,
    },
    Double {
        unsigned: bool,
    },
    Bit(u8),
    Year,
    Date,
    Time(u8),
    DateTime(u8),
    Timestamp(u8),
    Text {
        form: StringForm,
        charset: Charset,
        /// Bytes of the character set's longest character.
        char_bytes: u32,
        compressed: bool,
    },
    Bytes {
        form: StringForm,
        compressed: bool,
    },
    Enum(Labels),
    Set(Labels),
    Json,
    /// 0 to 7, as in table maps.
    Geometry(u8),
    Vector {
        dimensions: u32,
        /// MariaDB's looks like a varbinary in table maps.
        mariadb: bool,
    },
    Uuid,
    Inet4,
    Inet6,
}

/// How long a string can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StringForm {
    /// `char(n)`, `binary(n)`: so many characters or bytes.
    Fixed(u32),
    /// `varchar(n)`, `varbinary(n)`.
    Variable(u32),
    /// `tinytext` to `longtext`, `tinyblob` to `longblob`: bytes of the length, 1 to 4.
    Large(u8),
}

const GEOMETRIES: [&str; 8] =
    ["geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection"];

/// The column's type as the source database prints it, but for what [`SqlType`] leaves out.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsigned = |unsigned: &bool| if *unsigned { " unsigned" } else { "" };
        let fraction = |f: &mut fmt::Formatter<'_>, name, digits: &u8| match digits {
            0 => f.write_str(name),
            digits => write!(f, "{name}({digits})"),
        };
        match self {
            Self::Integer { one: true, .. } => f.write_str("tinyint(1)"),
            Self::Integer { bytes, unsigned: sign, .. } => {
                let name = match bytes {
                    1 => "tinyint",
                    2 => "smallint",
                    3 => "mediumint",
                    4 => "int",
                    _ => "bigint",
                };
                write!(f, "{name}{}", unsigned(sign))
            }
            Self::Decimal { precision, scale, unsigned: sign } => write!(f, "decimal({precision},{scale}){}", unsigned(sign)),
            Self::Float { unsigned: sign } => write!(f, "float{}", unsigned(sign)),
            Self::Double { unsigned: sign } => write!(f, "double{}", unsigned(sign)),
            Self::Bit(bits) => write!(f, "bit({bits})"),
            Self::Year => f.write_str("year"),
            Self::Date => f.write_str("date"),
            Self::Time(digits) => fraction(f, "time", digits),
            Self::DateTime(digits) => fraction(f, "datetime", digits),
            Self::Timestamp(digits) => fraction(f, "timestamp", digits),
            Self::Text { form, .. } => match form {
                StringForm::Fixed(len) => write!(f, "char({len})"),
                StringForm::Variable(len) => write!(f, "varchar({len})"),
                StringForm::Large(prefix) => write!(f, "{}text", size_name(*prefix)),
            },
            Self::Bytes { form, .. } => match form {
                StringForm::Fixed(len) => write!(f, "binary({len})"),
                StringForm::Variable(len) => write!(f, "varbinary({len})"),
                StringForm::Large(prefix) => write!(f, "{}blob", size_name(*prefix)),
            },
            Self::Enum(labels) => write_labels(f, "enum", labels),
            Self::Set(labels) => write_labels(f, "set", labels),
            Self::Json => f.write_str("json"),
            Self::Geometry(kind) => f.write_str(GEOMETRIES.get(usize::from(*kind)).unwrap_or(&"geometry")),
            Self::Vector { dimensions, .. } => write!(f, "vector({dimensions})"),
            Self::Uuid => f.write_str("uuid"),
            Self::Inet4 => f.write_str("inet4"),
            Self::Inet6 => f.write_str("inet6"),
        }
    }
}

fn size_name(prefix: u8) -> &'static str {
    match prefix {
        1 => "tiny",
        2 => "",
        3 => "medium",
        _ => "long",
    }
}

fn write_labels(f: &mut fmt::Formatter<'_>, name: &str, labels: &Labels) -> fmt::Result {
    write!(f, "{name}(")?;
    for (index, label) in labels.labels.iter().enumerate() {
        write!(f, "{}'{}'", if index == 0 { "" } else { "," }, label.replace('\'', "''"))?;
    }
    f.write_str(")")
}

impl SqlType {
    /// What the catalog says of a column.
    pub(crate) fn of_definition(column: &ColumnDefinition, charsets: &Charsets) -> Result<Self, ShapeProblem> {
        let unknown = || ShapeProblem::UnknownType { column: column.name.clone(), column_type: column.column_type.clone() };
        let text = column.column_type.as_str();
        let name_end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(name_end);
        let name = name.to_ascii_lowercase();
        let unsigned = rest.contains("unsigned");
        let compressed = rest.contains("COMPRESSED");
        let mut numbers = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or("", |(inside, _)| inside).split(',');
        let mut number = || numbers.next().and_then(|number| number.trim().parse::<u32>().ok());
        let small = |number: Option<u32>, default: u8| number.map_or(Some(default), |number| u8::try_from(number).ok());
        let string = |form, default: &str| {
            let charset = column.charset.as_deref().unwrap_or(default);
            Self::string(form, charset, compressed, charsets, &column.name)
        };
        Ok(match name.as_str() {
            "tinyint" | "boolean" | "bool" => Self::Integer { bytes: 1, unsigned, one: number() == Some(1) && !unsigned },
            "smallint" => Self::Integer { bytes: 2, unsigned, one: false },
            "mediumint" => Self::Integer { bytes: 3, unsigned, one: false },
            "int" | "integer" => Self::Integer { bytes: 4, unsigned, one: false },
            "bigint" => Self::Integer { bytes: 8, unsigned, one: false },
            "decimal" | "numeric" => {
                let precision = small(number(), 10).ok_or_else(unknown)?;
                Self::Decimal { precision, scale: small(number(), 0).ok_or_else(unknown)?, unsigned }
            }
            "float" => Self::Float { unsigned },
            "double" | "real" => Self::Double { unsigned },
            "bit" => Self::Bit(small(number(), 1).ok_or_else(unknown)?),
            "year" => Self::Year,
            "date" => Self::Date,
            "time" => Self::Time(small(number(), 0).ok_or_else(unknown)?),
            "datetime" => Self::DateTime(small(number(), 0).ok_or_else(unknown)?),
            "timestamp" => Self::Timestamp(small(number(), 0).ok_or_else(unknown)?),
            "char" => string(StringForm::Fixed(number().unwrap_or(1)), "binary")?,
            "varchar" => string(StringForm::Variable(number().ok_or_else(unknown)?), "binary")?,
            "tinytext" => string(StringForm::Large(1), "binary")?,
            "text" => string(StringForm::Large(2), "binary")?,
            "mediumtext" => string(StringForm::Large(3), "binary")?,
            "longtext" => string(StringForm::Large(4), "binary")?,
            "binary" => Self::Bytes { form: StringForm::Fixed(number().unwrap_or(1)), compressed },
            "varbinary" => Self::Bytes { form: StringForm::Variable(number().ok_or_else(unknown)?), compressed },
            "tinyblob" => Self::Bytes { form: StringForm::Large(1), compressed },
            "blob" => Self::Bytes { form: StringForm::Large(2), compressed },
            "mediumblob" => Self::Bytes { form: StringForm::Large(3), compressed },
            "longblob" => Self::Bytes { form: StringForm::Large(4), compressed },
            "enum" | "set" => {
                let charset = column.charset.as_deref().unwrap_or("utf8mb4");
                let labels =
                    Labels { labels: parse_labels(rest).ok_or_else(unknown)?, charset: charsets.get(charset, &column.name)? };
                if name == "enum" { Self::Enum(labels) } else { Self::Set(labels) }
            }
            "json" => Self::Json,
            "vector" => Self::Vector { dimensions: number().unwrap_or(2048), mariadb: charsets.is_mariadb() },
            "uuid" => Self::Uuid,
            "inet4" => Self::Inet4,
            "inet6" => Self::Inet6,
            "geomcollection" => Self::Geometry(7),
            other => match GEOMETRIES.iter().position(|geometry| *geometry == other) {
                Some(kind) => Self::Geometry(kind as u8),
                None => return Err(unknown()),
            },
        })
    }

    /// What a table map with metadata says of a column.
    pub(crate) fn of_map(column: &TableMapColumn, name: &str, charsets: &Charsets) -> Result<Self, ShapeProblem> {
        let missing = || ShapeProblem::Metadata { column: name.to_owned() };
        let unsigned = || column.unsigned.ok_or_else(missing);
        let small = column.metadata as u8;
        let string = |form, compressed| {
            let collation = column.collation.ok_or_else(missing)?;
            let charset = charsets.of_collation(collation, name)?;
            Self::string(form, charset, compressed, charsets, name).map(Self::in_characters)
        };
        let labels = || -> Result<Labels, ShapeProblem> {
            let charset = charsets.get(charsets.of_collation(column.collation.ok_or_else(missing)?, name)?, name)?;
            let mut labels = Vec::new();
            for bytes in column.labels.as_ref().ok_or_else(missing)? {
                let mut label = String::new();
                charset.decode(bytes, &mut label).map_err(|problem| ShapeProblem::Labels { column: name.to_owned(), problem })?;
                labels.push(label);
            }
            Ok(Labels { labels, charset })
        };
        let integer = |bytes| Ok::<_, ShapeProblem>(Self::Integer { bytes, unsigned: unsigned()?, one: false });
        Ok(match column.type_code {
            code::TINY => integer(1)?,
            code::SHORT => integer(2)?,
            code::INT24 => integer(3)?,
            code::LONG => integer(4)?,
            code::LONGLONG => integer(8)?,
            code::NEWDECIMAL => Self::Decimal { precision: small, scale: (column.metadata >> 8) as u8, unsigned: unsigned()? },
            code::FLOAT => Self::Float { unsigned: unsigned()? },
            code::DOUBLE => Self::Double { unsigned: unsigned()? },
            // Bits beyond whole bytes, then whole bytes.
            code::BIT => Self::Bit(((column.metadata >> 8) * 8 + (column.metadata & 0xFF)).min(255) as u8),
            code::YEAR => Self::Year,
            code::DATE => Self::Date,
            code::TIME2 => Self::Time(small),
            code::DATETIME2 => Self::DateTime(small),
            code::TIMESTAMP2 => Self::Timestamp(small),
            code::TIME => Self::Time(0),
            code::DATETIME => Self::DateTime(0),
            code::TIMESTAMP => Self::Timestamp(0),
            code::STRING => string(StringForm::Fixed(column.metadata.into()), false)?,
            code::VARCHAR | code::VAR_STRING => string(StringForm::Variable(column.metadata.into()), false)?,
            code::VARCHAR_COMPRESSED => string(StringForm::Variable(u32::from(column.metadata).saturating_sub(1)), true)?,
            code::BLOB => string(StringForm::Large(small), false)?,
            code::BLOB_COMPRESSED => string(StringForm::Large(small), true)?,
            code::ENUM => Self::Enum(labels()?),
            code::SET => Self::Set(labels()?),
            code::JSON => Self::Json,
            code::GEOMETRY => Self::Geometry(column.geometry.unwrap_or(0).min(7) as u8),
            code::VECTOR => {
                Self::Vector { dimensions: column.dimensions.ok_or_else(missing)?.min(u32::MAX.into()) as u32, mariadb: false }
            }
            other => return Err(ShapeProblem::UnknownCode { column: name.to_owned(), code: other }),
        })
    }

    /// Text, or bytes if the character set is `binary`.
    fn string(form: StringForm, charset: &str, compressed: bool, charsets: &Charsets, column: &str) -> Result<Self, ShapeProblem> {
        if charset == "binary" {
            return Ok(Self::Bytes { form, compressed });
        }
        let char_bytes = charsets.char_bytes(charset);
        Ok(Self::Text { form, charset: charsets.get(charset, column)?, char_bytes, compressed })
    }

    /// Table maps give lengths in bytes: makes characters of them.
    fn in_characters(self) -> Self {
        match self {
            Self::Text { form, charset, char_bytes, compressed } => {
                let form = match form {
                    StringForm::Fixed(bytes) => StringForm::Fixed(bytes / char_bytes.max(1)),
                    StringForm::Variable(bytes) => StringForm::Variable(bytes / char_bytes.max(1)),
                    large @ StringForm::Large(_) => large,
                };
                Self::Text { form, charset, char_bytes, compressed }
            }
            other => other,
        }
    }

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
                Layout::Fixed(super::decimal::binary_len(*precision, *scale) as u8),
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

/// `('a','b''s','c,d')`, as the catalog prints them.
fn parse_labels(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('(')?;
    let mut labels = Vec::new();
    loop {
        rest = rest.strip_prefix('\'')?;
        let mut label = String::new();
        loop {
            let at = rest.find(['\'', '\\'])?;
            label.push_str(rest.get(..at)?);
            let mut chars = rest.get(at..)?.chars();
            match (chars.next()?, chars.next()?) {
                ('\'', '\'') => label.push('\''),
                ('\'', _) => {
                    rest = rest.get(at + 1..)?;
                    break;
                }
                (_, '0') => label.push('\0'),
                (_, 'n') => label.push('\n'),
                (_, 'r') => label.push('\r'),
                (_, escaped) => label.push(escaped),
            }
            rest = chars.as_str();
        }
        labels.push(label);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return rest.starts_with(')').then_some(labels),
        }
    }
}

impl SqlType {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(column_type: &str, charset: Option<&str>) -> Result<SqlType, ShapeProblem> {
        let column = ColumnDefinition { name: "c".into(), column_type: column_type.into(), charset: charset.map(str::to_owned) };
        SqlType::of_definition(&column, &Charsets::for_tests())
    }

    #[test]
    fn the_catalogs_types_are_read() {
        for (text, charset, expected) in [
            ("tinyint(1)", None, "tinyint(1)"),
            ("tinyint(4)", None, "tinyint"),
            ("tinyint(3) unsigned zerofill", None, "tinyint unsigned"),
            ("int", None, "int"),
            ("int(10) unsigned", None, "int unsigned"),
            ("mediumint", None, "mediumint"),
            ("bigint unsigned", None, "bigint unsigned"),
            ("decimal(65,30)", None, "decimal(65,30)"),
            ("decimal(10,2) unsigned", None, "decimal(10,2) unsigned"),
            ("float(7,3)", None, "float"),
            ("double unsigned", None, "double unsigned"),
            ("bit(20)", None, "bit(20)"),
            ("year(4)", None, "year"),
            ("time(3)", None, "time(3)"),
            ("datetime", None, "datetime"),
            ("timestamp(6)", None, "timestamp(6)"),
            ("char(5)", Some("latin1"), "char(5)"),
            ("varchar(300)", Some("utf8mb4"), "varchar(300)"),
            ("varchar(300) /*M!100301 COMPRESSED*/", Some("utf8mb4"), "varchar(300)"),
            ("longtext", Some("utf8mb4"), "longtext"),
            ("varbinary(8)", None, "varbinary(8)"),
            ("mediumblob", None, "mediumblob"),
            ("enum('a','b''s','c,d','')", Some("utf8mb4"), "enum('a','b''s','c,d','')"),
            ("set('x','(y)')", Some("latin1"), "set('x','(y)')"),
            ("json", None, "json"),
            ("geomcollection", None, "geometrycollection"),
            ("point", None, "point"),
            ("vector(3)", None, "vector(3)"),
            ("inet6", None, "inet6"),
        ] {
            assert_eq!(parse(text, charset).unwrap().to_string(), expected, "{text}");
        }
        for text in ["hyperint", "", "varchar", "enum(a)", "enum('a", "bit(999)", "decimal(999,1)"] {
            assert!(parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn escaped_labels_are_read() {
        let Ok(SqlType::Enum(labels)) = parse(r"enum('a\\b','c\nd','e''f')", Some("utf8mb4")) else { panic!() };
        assert_eq!(labels.labels, ["a\\b", "c\nd", "e'f"]);
    }
}
