//! Values as SQLite stores them.
//!
//! | type | stored as |
//! |---|---|
//! | boolean | INTEGER 0 or 1 |
//! | integers | INTEGER |
//! | duration | INTEGER, microseconds |
//! | floats | REAL; `NaN`, `Infinity` and `-Infinity` as TEXT, because SQLite makes NaN a NULL |
//! | decimals | TEXT with all digits of their scale: NUMERIC would put them through a double |
//! | text, JSON | TEXT |
//! | bytes | BLOB |
//! | date, time, timestamps, interval, UUID | TEXT, see `iso`; timestamps with time zone in UTC with `+00:00` |
//! | lists | TEXT with a JSON array |
use std::fmt::Write;

use connector_api::ColumnType;
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

use crate::{cell::Cell, iso, json};

/// The affinities that columns of this sink have. SQLite keeps values of any type in any column; the affinity says what it converts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Real,
    Text,
    Blob,
}

impl Affinity {
    /// The affinity for columns of a type.
    pub(crate) fn of(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::Bool | ColumnType::Int16 | ColumnType::Int32 | ColumnType::Int64 | ColumnType::Duration => Self::Integer,
            ColumnType::Float32 | ColumnType::Float64 => Self::Real,
            ColumnType::Bytes => Self::Blob,
            ColumnType::Text
            | ColumnType::Json
            | ColumnType::Decimal { .. }
            | ColumnType::Date
            | ColumnType::Time
            | ColumnType::Timestamp
            | ColumnType::TimestampTz
            | ColumnType::Interval
            | ColumnType::Uuid
            | ColumnType::List(_) => Self::Text,
        }
    }

    /// The type's name in a declaration.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
        }
    }

    /// The affinity of a declared type, by SQLite's rules (<https://www.sqlite.org/datatype3.html>, section 3.1). NUMERIC has no counterpart
    /// here: it would change texts that look like numbers.
    pub(crate) fn parse(declared: &str) -> Option<Self> {
        let upper = declared.to_ascii_uppercase();
        let has = |part: &str| upper.contains(part);
        if has("INT") {
            Some(Self::Integer)
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Some(Self::Text)
        } else if has("BLOB") || upper.is_empty() {
            Some(Self::Blob)
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Some(Self::Real)
        } else {
            None
        }
    }
}

/// A value for a parameter. SQLite copies it when it is bound.
struct Borrowed<'a>(ValueRef<'a>);

impl ToSql for Borrowed<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// Binds a value to the parameter of that number, from 1. `scratch` holds texts that are made here; it is reused from value to value.
pub(crate) fn bind(
    statement: &mut rusqlite::Statement<'_>,
    parameter: usize,
    cell: Cell<'_>,
    scratch: &mut String,
) -> rusqlite::Result<()> {
    scratch.clear();
    let value = match cell {
        Cell::Null => ValueRef::Null,
        Cell::Bool(value) => ValueRef::Integer(i64::from(value)),
        Cell::Int16(value) => ValueRef::Integer(i64::from(value)),
        Cell::Int32(value) => ValueRef::Integer(i64::from(value)),
        Cell::Int64(value) | Cell::Duration(value) => ValueRef::Integer(value),
        Cell::Float32(value) if value.is_finite() => {
            // The double whose shortest text is that of the single: 3.3 stays 3.3, and reads back as the same single.
            let _ = write!(scratch, "{value:?}");
            ValueRef::Real(scratch.parse().unwrap_or(f64::from(value)))
        }
        Cell::Float64(value) if value.is_finite() => ValueRef::Real(value),
        Cell::Float32(value) => ValueRef::Text(json::special_float(f64::from(value)).as_bytes()),
        Cell::Float64(value) => ValueRef::Text(json::special_float(value).as_bytes()),
        Cell::Text(value) => ValueRef::Text(value.as_bytes()),
        Cell::Bytes(value) => ValueRef::Blob(value),
        made => {
            match made {
                Cell::Decimal { unscaled, scale } => iso::write_decimal(scratch, unscaled, scale),
                Cell::Decimal256 { unscaled, scale } => iso::write_decimal256(scratch, unscaled, scale),
                Cell::Date(days) => iso::write_date(scratch, days),
                Cell::Time(micros) => iso::write_time(scratch, micros),
                Cell::Timestamp(micros) => iso::write_timestamp(scratch, micros, ""),
                Cell::TimestampTz(micros) => iso::write_timestamp(scratch, micros, "+00:00"),
                Cell::Interval { months, days, micros } => iso::write_interval(scratch, months, days, micros),
                Cell::Uuid(bytes) => json::write_uuid(scratch, bytes),
                Cell::List { items, start, end } => json::write_list(scratch, items, start, end),
                _ => {}
            }
            ValueRef::Text(scratch.as_bytes())
        }
    };
    statement.raw_bind_parameter(parameter, Borrowed(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_follow_the_rules_of_sqlite() {
        for (declared, expected) in [
            ("INTEGER", Some(Affinity::Integer)),
            ("bigint", Some(Affinity::Integer)),
            ("varchar(10)", Some(Affinity::Text)),
            ("double precision", Some(Affinity::Real)),
            ("", Some(Affinity::Blob)),
            ("DECIMAL(10,2)", None),
        ] {
            assert_eq!(Affinity::parse(declared), expected, "{declared}");
        }
    }
}
