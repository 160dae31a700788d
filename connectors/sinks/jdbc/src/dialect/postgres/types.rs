use connector_api::{Column, ColumnType};

use crate::collapse::is_numeric_text;

/// A column type of PostgreSQL, as far as this sink tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PgType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Precision and scale; `None` without bounds.
    Numeric(Option<(u16, u16)>),
    Text,
    Json,
    Jsonb,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    Array(Box<PgType>),
    /// A type that only a table made by somebody else can have, as the server prints it.
    Other(String),
}

/// How a column of the target comes to hold values of another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It can already.
    None,
    /// It has to become this type first, which keeps the values it has.
    Widen(PgType),
    /// No type holds both without touching values.
    Impossible,
}

impl PgType {
    /// The type for a column of the source. Types that have no better form between source and sink than text are text here too, but
    /// for unbounded numerics, which are numbers again.
    pub(crate) fn of(column: &Column) -> Self {
        Self::of_kind(&column.kind, &column.source_type)
    }

    fn of_kind(kind: &ColumnType, source_type: &str) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool,
            ColumnType::Int16 => Self::Int2,
            ColumnType::Int32 => Self::Int4,
            ColumnType::Int64 => Self::Int8,
            ColumnType::Float32 => Self::Float4,
            ColumnType::Float64 => Self::Float8,
            ColumnType::Decimal { precision, scale } => Self::Numeric(Some((u16::from(*precision), u16::from(*scale)))),
            ColumnType::Text if is_numeric_text(source_type) => Self::Numeric(None),
            ColumnType::Text => Self::Text,
            ColumnType::Json if source_type.starts_with("jsonb") => Self::Jsonb,
            ColumnType::Json => Self::Json,
            ColumnType::Bytes => Self::Bytea,
            ColumnType::Date => Self::Date,
            ColumnType::Time => Self::Time,
            ColumnType::Timestamp => Self::Timestamp,
            ColumnType::TimestampTz => Self::TimestampTz,
            ColumnType::Duration | ColumnType::Interval => Self::Interval,
            ColumnType::Uuid => Self::Uuid,
            // An array's type ends in brackets, which its elements' type does not.
            ColumnType::List(item) => Self::Array(Box::new(Self::of_kind(item, source_type.trim_end_matches("[]")))),
        }
    }

    /// The type's name in SQL: the one `format_type` prints.
    pub(crate) fn sql(&self) -> String {
        match self {
            Self::Bool => "boolean".into(),
            Self::Int2 => "smallint".into(),
            Self::Int4 => "integer".into(),
            Self::Int8 => "bigint".into(),
            Self::Float4 => "real".into(),
            Self::Float8 => "double precision".into(),
            Self::Numeric(None) => "numeric".into(),
            Self::Numeric(Some((precision, scale))) => format!("numeric({precision},{scale})"),
            Self::Text => "text".into(),
            Self::Json => "json".into(),
            Self::Jsonb => "jsonb".into(),
            Self::Bytea => "bytea".into(),
            Self::Date => "date".into(),
            Self::Time => "time without time zone".into(),
            Self::Timestamp => "timestamp without time zone".into(),
            Self::TimestampTz => "timestamp with time zone".into(),
            Self::Interval => "interval".into(),
            Self::Uuid => "uuid".into(),
            Self::Array(item) => format!("{}[]", item.sql()),
            Self::Other(name) => name.clone(),
        }
    }

    /// The type that `format_type` printed.
    pub(crate) fn parse(text: &str) -> Self {
        if let Some(item) = text.strip_suffix("[]") {
            return Self::Array(Box::new(Self::parse(item)));
        }
        match text {
            "boolean" => Self::Bool,
            "smallint" => Self::Int2,
            "integer" => Self::Int4,
            "bigint" => Self::Int8,
            "real" => Self::Float4,
            "double precision" => Self::Float8,
            "numeric" => Self::Numeric(None),
            "text" => Self::Text,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "bytea" => Self::Bytea,
            "date" => Self::Date,
            "time without time zone" => Self::Time,
            "timestamp without time zone" => Self::Timestamp,
            "timestamp with time zone" => Self::TimestampTz,
            "interval" => Self::Interval,
            "uuid" => Self::Uuid,
            other => {
                let bounds =
                    other.strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(')')).and_then(|rest| rest.split_once(','));
                match bounds.and_then(|(precision, scale)| Some((precision.parse().ok()?, scale.parse().ok()?))) {
                    Some(bounds) => Self::Numeric(Some(bounds)),
                    None => Self::Other(other.to_owned()),
                }
            }
        }
    }

    /// The fixed OID of the type, which an array in COPY's binary form names for its elements. Array elements are never arrays or other types.
    pub(crate) fn oid(&self) -> u32 {
        match self {
            Self::Bool => 16,
            Self::Bytea => 17,
            Self::Int8 => 20,
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Text | Self::Array(_) | Self::Other(_) => 25,
            Self::Json => 114,
            Self::Float4 => 700,
            Self::Float8 => 701,
            Self::Date => 1082,
            Self::Time => 1083,
            Self::Timestamp => 1114,
            Self::TimestampTz => 1184,
            Self::Interval => 1186,
            Self::Numeric(_) => 1700,
            Self::Uuid => 2950,
            Self::Jsonb => 3802,
        }
    }

    /// The decimal digits that an integer type can need.
    fn integer_digits(&self) -> Option<u16> {
        match self {
            Self::Int2 => Some(5),
            Self::Int4 => Some(10),
            Self::Int8 => Some(19),
            _ => None,
        }
    }

    /// What has to happen so that a column of this type can hold values of `wanted`, and keep those that it has.
    pub(crate) fn change_to(&self, wanted: &Self) -> Change {
        if self == wanted {
            return Change::None;
        }
        if let (Some(have), Some(want)) = (self.integer_digits(), wanted.integer_digits()) {
            return if have >= want { Change::None } else { Change::Widen(wanted.clone()) };
        }
        match (self, wanted) {
            // Text takes the text of any value. Whoever made a column of another type wants values to be cast to it.
            (Self::Text | Self::Other(_), _) => Change::None,
            // Text of the source need not be text that a bytea prints as.
            (Self::Bytea, Self::Text) => Change::Impossible,
            (_, Self::Text) => Change::Widen(Self::Text),
            (Self::Numeric(None), Self::Numeric(_) | Self::Int2 | Self::Int4 | Self::Int8) => Change::None,
            (Self::Numeric(_) | Self::Int2 | Self::Int4 | Self::Int8, Self::Numeric(None)) => Change::Widen(Self::Numeric(None)),
            (Self::Numeric(Some((precision, scale))), wanted) if wanted.integer_digits().is_some() => {
                self.widened(precision - scale.min(precision), *scale, wanted.integer_digits().unwrap_or(0), 0)
            }
            (Self::Numeric(Some((precision, scale))), Self::Numeric(Some((want_precision, want_scale)))) => {
                self.widened(precision - scale.min(precision), *scale, want_precision - want_scale.min(want_precision), *want_scale)
            }
            (have, Self::Numeric(Some((precision, scale)))) if have.integer_digits().is_some() => {
                have.widened(have.integer_digits().unwrap_or(0), 0, precision - scale.min(precision), *scale)
            }
            // A double holds each of these exactly.
            (Self::Float4 | Self::Int2 | Self::Int4, Self::Float8) | (Self::Int2 | Self::Int4, Self::Float4) => {
                Change::Widen(Self::Float8)
            }
            (Self::Float8, Self::Float4 | Self::Int2 | Self::Int4) | (Self::Float4, Self::Int2) => Change::None,
            (Self::Json, Self::Jsonb) | (Self::Jsonb, Self::Json) => Change::None,
            (Self::Date, Self::Timestamp) => Change::Widen(Self::Timestamp),
            // The session's zone is UTC.
            (Self::Timestamp, Self::Date) | (Self::TimestampTz, Self::Date | Self::Timestamp) => Change::None,
            (Self::Array(have), Self::Array(want)) => match have.change_to(want) {
                Change::Widen(item) => Change::Widen(Self::Array(Box::new(item))),
                other => other,
            },
            _ => Change::Impossible,
        }
    }

    fn widened(&self, have_whole: u16, have_scale: u16, want_whole: u16, want_scale: u16) -> Change {
        let scale = have_scale.max(want_scale);
        let wide = Self::Numeric(Some((have_whole.max(want_whole) + scale, scale)));
        if *self == wide { Change::None } else { Change::Widen(wide) }
    }

    /// The cast that a staged value of type `staged` needs before it is assigned to a column of this type; `None` if none.
    ///
    /// There is no cast to types with a length: a cast cuts what is too long, an assignment refuses it.
    pub(crate) fn cast_from(&self, staged: &Self) -> Option<String> {
        if self == staged {
            return None;
        }
        match self {
            Self::Numeric(_) => Some("numeric".into()),
            Self::Other(name) => {
                let has_length = ["character", "bit"].iter().any(|prefix| name.trim_matches('"').starts_with(prefix));
                (!has_length).then(|| name.clone())
            }
            other => Some(other.sql()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in [
            "boolean",
            "numeric(12,2)",
            "numeric",
            "timestamp with time zone",
            "bigint[]",
            "numeric(4,0)[]",
            "character varying(10)",
            "public.mood",
        ] {
            assert_eq!(PgType::parse(name).sql(), name);
        }
    }

    #[test]
    fn unbounded_numerics_are_numbers_again() {
        let of = |kind, source: &str| PgType::of(&Column { name: "c".into(), kind, source_type: source.into() });
        assert_eq!(of(ColumnType::Text, "numeric"), PgType::Numeric(None));
        assert_eq!(of(ColumnType::Text, "numeric(50,2)"), PgType::Numeric(None));
        assert_eq!(of(ColumnType::List(Box::new(ColumnType::Text)), "numeric[]"), PgType::Array(Box::new(PgType::Numeric(None))));
        assert_eq!(of(ColumnType::Text, "inet"), PgType::Text);
        assert_eq!(of(ColumnType::Json, "jsonb"), PgType::Jsonb);
        assert_eq!(of(ColumnType::List(Box::new(ColumnType::Json)), "json[]"), PgType::Array(Box::new(PgType::Json)));
    }

    #[test]
    fn columns_widen_and_never_narrow() {
        let check = |have: &str, want: &str, expected: Option<&str>| {
            let change = PgType::parse(have).change_to(&PgType::parse(want));
            match expected {
                Some("-") => assert_eq!(change, Change::None, "{have} to {want}"),
                Some(wide) => assert_eq!(change, Change::Widen(PgType::parse(wide)), "{have} to {want}"),
                None => assert_eq!(change, Change::Impossible, "{have} to {want}"),
            }
        };
        check("smallint", "bigint", Some("bigint"));
        check("bigint", "smallint", Some("-"));
        check("numeric(10,2)", "numeric(12,4)", Some("numeric(12,4)"));
        check("numeric(10,2)", "numeric(8,4)", Some("numeric(12,4)"));
        check("numeric(10,2)", "numeric(8,1)", Some("-"));
        check("numeric(10,2)", "numeric", Some("numeric"));
        check("integer", "numeric(4,2)", Some("numeric(12,2)"));
        check("numeric(4,2)", "integer", Some("numeric(12,2)"));
        check("numeric", "bigint", Some("-"));
        check("real", "double precision", Some("double precision"));
        check("integer", "text", Some("text"));
        check("text", "integer", Some("-"));
        check("bytea", "text", None);
        check("date", "timestamp without time zone", Some("timestamp without time zone"));
        check("timestamp without time zone", "timestamp with time zone", None);
        check("integer[]", "bigint[]", Some("bigint[]"));
        check("boolean", "integer", None);
        check("character varying(10)", "text", Some("-"));
    }

    #[test]
    fn casts_do_not_cut() {
        assert_eq!(PgType::parse("character varying(10)").cast_from(&PgType::Text), None);
        assert_eq!(PgType::parse("inet").cast_from(&PgType::Text).as_deref(), Some("inet"));
        assert_eq!(PgType::parse("numeric(12,4)").cast_from(&PgType::Int4).as_deref(), Some("numeric"));
        assert_eq!(PgType::Text.cast_from(&PgType::Int4).as_deref(), Some("text"));
    }
}
