//! Values of rows, into Arrow: those of row events, and those of a `SELECT`'s text rows. Both forms of a value give the same.
//!
//! Reading order: `definition` is what the server's catalog says of a table, `sql_type` reads it and what a table map says into one list of types,
//! `layout` is how those lie in rows, `shape` makes of all that the plan by which rows are decoded, `rows` appends rows. The rest are the values.
mod binlog;
mod calendar;
mod charset;
mod decimal;
mod definition;
mod double_byte;
mod json;
mod json_diff;
mod layout;
mod options;
mod rows;
mod shape;
mod sql_type;
mod text;
mod value_type;

#[cfg(test)]
mod tests;

use connector_api::ColumnBuilder;

pub use self::options::{TinyInt1, ZeroDates};
pub(crate) use self::{
    charset::Charsets,
    definition::{ColumnDefinition, TableDefinition},
    options::DecodeOptions,
    rows::{RowsProblem, Stamp, TableRows, source_info},
    shape::Shape,
    value_type::ValueType,
};

/// Why a value cannot be taken. Says nothing of the value itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueProblem {
    #[error("a value that is cut off or longer than its type allows")]
    Length,
    #[error("a value that is not written as its type should be")]
    Syntax,
    #[error("text that is not valid in the column's character set `{0}`")]
    Charset(&'static str),
    #[error("a number with more digits than the column's type allows")]
    DecimalRange,
    #[error("a date that no calendar has, and `zero_dates` is `error`; set it to `null` or `text`")]
    ZeroDate,
    #[error("an enum or set value beyond the last label; did its definition change?")]
    Label,
    #[error("compressed data that is damaged")]
    Compression,
    #[error("a JSON document that is damaged")]
    Json,
    #[error(
        "a partial update of a JSON document whose old version is not in the log; set `binlog_row_value_options` to '' or `binlog_row_image` to FULL"
    )]
    JsonBase,
    #[error("the lists of one batch hold too many elements")]
    ListTooLong,
    #[error("the decoder and the column's type do not belong together")]
    Mismatch,
}

/// Appends a value as a row event has it, without its length. `scratch` is memory for what has to be decompressed.
#[inline]
pub(crate) fn append_binlog(
    kind: &ValueType,
    data: &[u8],
    out: &mut ColumnBuilder,
    scratch: &mut Vec<u8>,
) -> Result<(), ValueProblem> {
    binlog::append(kind, data, out, scratch)
}

/// Appends a value as the server's text protocol has it, in a session with `character_set_results = NULL` and `time_zone = '+00:00'`, selected by
/// [`Shape::select_list`].
#[inline]
pub(crate) fn append_text(kind: &ValueType, data: &[u8], out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    text::append(kind, data, out)
}
