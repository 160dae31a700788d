use std::fmt;

use super::{
    charset::{Charset, Charsets},
    definition::ColumnDefinition,
    shape::ShapeProblem,
    value_type::Labels,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(column_type: &str, charset: Option<&str>) -> Result<SqlType, ShapeProblem> {
        let column = ColumnDefinition {
            name: "c".into(),
            column_type: column_type.into(),
            charset: charset.map(str::to_owned),
            row_end: false,
        };
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
