use arrow_schema::ArrowError;
use connector_api::{Recoverable, Recovery, TableName};

use crate::RegistryError;

/// Why changes could not become records, or records changes. No message holds a value of a row.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The schema registry failed.
    #[error("use the schema registry")]
    Registry(#[from] RegistryError),
    /// No schema has the id that a record names.
    #[error("record at offset {offset} names schema {id}, which the schema registry does not have")]
    UnknownSchema {
        /// The record's offset.
        offset: i64,
        /// The id it names.
        id: u32,
    },
    /// A schema is not one that this crate wrote, or is damaged.
    #[error("schema {id}, named by the record at offset {offset}, is not a schema of change events that this version can read")]
    ForeignSchema {
        /// The record's offset.
        offset: i64,
        /// The id it names.
        id: u32,
        /// What the text lacks.
        #[source]
        cause: LayoutError,
    },
    /// A record's bytes are not what its schema says.
    #[error("record at offset {offset}{}: {what} (byte {byte} of the value)", place(table.as_ref(), column.as_deref()))]
    Malformed {
        /// The record's offset.
        offset: i64,
        /// The table, once the schema is known.
        table: Option<TableName>,
        /// The column, if it was one's value.
        column: Option<String>,
        /// What is wrong.
        what: Malformed,
        /// How many bytes of the value were good.
        byte: usize,
    },
    /// A row has no value in a key column.
    #[error(
        "table {table}: a change lacks a value in key column `{column}`; give the table a replica identity whose columns are NOT NULL"
    )]
    NullKey {
        /// The table.
        table: TableName,
        /// The key column.
        column: String,
    },
    /// An image that the op needs is not there.
    #[error("table {table}: a change lacks its {image} image")]
    NoImage {
        /// The table.
        table: TableName,
        /// `before` or `after`.
        image: &'static str,
    },
    /// An array of a batch is not of its column's type or length.
    #[error("table {table}: column `{column}` holds an array that does not fit its declared type")]
    ArrayMismatch {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// Arrow refused to build a batch.
    #[error("build a batch")]
    Arrow(#[from] ArrowError),
}

impl Recoverable for FormatError {
    fn recovery(&self) -> Recovery {
        match self {
            Self::Registry(_) => Recovery::Retry,
            Self::UnknownSchema { .. }
            | Self::ForeignSchema { .. }
            | Self::Malformed { .. }
            | Self::NullKey { .. }
            | Self::NoImage { .. }
            | Self::ArrayMismatch { .. }
            | Self::Arrow(_) => Recovery::Stop,
        }
    }
}

fn place(table: Option<&TableName>, column: Option<&str>) -> String {
    match (table, column) {
        (Some(table), Some(column)) => format!(" of {table}, column `{column}`"),
        (Some(table), None) => format!(" of {table}"),
        (None, _) => String::new(),
    }
}

/// What makes a schema text unreadable to us.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The text is not JSON, or lacks the attribute that describes the table.
    #[error("its attribute `mainstem` cannot be read")]
    Attribute(#[from] serde_json::Error),
    /// A later version of this program wrote it.
    #[error("its layout version is {found}, and this version reads {known}")]
    Version {
        /// The version in the text.
        found: u32,
        /// The version that this build reads.
        known: u32,
    },
    /// The description contradicts itself.
    #[error("its attribute `mainstem` contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// What is wrong with a record's bytes. One byte, because it travels through the functions that read single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum Malformed {
    #[error("it ends too early")]
    End,
    #[error("it goes on after the end of the event")]
    Trailing,
    #[error("it has neither the Avro wire header nor a `schema` header of four bytes")]
    NoSchema,
    #[error("it is larger than 2 GiB")]
    TooLarge,
    #[error("an integer has more than ten bytes")]
    VarintTooLong,
    #[error("an integer is out of the range of its type")]
    OutOfRange,
    #[error("a union has no such branch")]
    Branch,
    #[error("a length is negative or beyond the end")]
    Length,
    #[error("text is not UTF-8")]
    Utf8,
    #[error("a boolean is neither 0 nor 1")]
    Boolean,
    #[error("a decimal is malformed or has more digits than its column")]
    Decimal,
    #[error("a UUID is malformed")]
    Uuid,
    #[error("a timestamp is malformed")]
    Timestamp,
    #[error("an interval is malformed")]
    Interval,
    #[error("base64 is malformed")]
    Base64,
    #[error("a number is malformed or does not fit its type")]
    Number,
    #[error("it is not valid JSON")]
    Syntax,
    #[error("it is nested too deeply")]
    Depth,
    #[error("a field stands there twice")]
    Duplicate,
    #[error("a row has a column that the schema lacks")]
    UnknownColumn,
    #[error("a row lacks a key column")]
    MissingKey,
    #[error("the event lacks a required field")]
    MissingField,
    #[error("the op is not one of c, u, d, r, t, s")]
    Op,
    #[error("the event lacks the image that its op needs")]
    MissingImage,
    #[error("a list has too many elements")]
    ListTooLong,
}
