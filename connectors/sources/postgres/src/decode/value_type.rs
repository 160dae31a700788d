use connector_api::ColumnType;

/// How the values of a column are decoded. Decides the column's type; a type that none of these fits is [`Printed`](Self::Printed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueType {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// `numeric` as the server prints it.
    NumericText,
    /// Types whose binary form is their text.
    Text,
    /// `"char"`: one byte.
    Char,
    Json,
    Jsonb,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    List(Box<ValueType>),
    /// Text as the server prints it; its binary form is not known here.
    Printed,
}

impl ValueType {
    /// The column's type between source and sink.
    pub(crate) fn column_type(&self) -> ColumnType {
        match self {
            Self::Bool => ColumnType::Bool,
            Self::Int2 => ColumnType::Int16,
            Self::Int4 => ColumnType::Int32,
            Self::Int8 | Self::Oid => ColumnType::Int64,
            Self::Float4 => ColumnType::Float32,
            Self::Float8 => ColumnType::Float64,
            Self::Decimal { precision, scale } => ColumnType::Decimal { precision: *precision, scale: *scale },
            Self::NumericText | Self::Text | Self::Char | Self::Printed => ColumnType::Text,
            Self::Json | Self::Jsonb => ColumnType::Json,
            Self::Bytea => ColumnType::Bytes,
            Self::Date => ColumnType::Date,
            Self::Time => ColumnType::Time,
            Self::Timestamp => ColumnType::Timestamp,
            Self::TimestampTz => ColumnType::TimestampTz,
            Self::Interval => ColumnType::Interval,
            Self::Uuid => ColumnType::Uuid,
            Self::List(item) => ColumnType::List(Box::new(item.column_type())),
        }
    }

    /// Whether the binary form is understood.
    pub(crate) fn has_binary(&self) -> bool {
        *self != Self::Printed
    }
}
