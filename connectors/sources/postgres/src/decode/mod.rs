//! Values of the server, in binary and in text, into Arrow builders. Both forms of a value give the same.
mod binary;
mod calendar;
mod numeric;
mod text;
mod value_type;

use connector_api::ColumnBuilder;

pub(crate) use self::{calendar::micros_since_1970, value_type::ValueType};

/// Why a value cannot be taken. Says nothing of the value itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueProblem {
    #[error("the server sent a value of the wrong length for its type")]
    Length,
    #[error("the server sent text that is no UTF-8; is the database's encoding UTF8?")]
    Utf8,
    #[error("the server sent a value that is not written as its type should be")]
    Syntax,
    #[error("NaN or an infinity, which a decimal cannot hold; set `numeric: text`")]
    NotADecimal,
    #[error("a number with more digits than the column's type allows")]
    DecimalRange,
    #[error("a time beyond what 64-bit microseconds since 1970 can hold (after the year 294246)")]
    TimeRange,
    #[error("an array of more than one dimension or that does not begin at 1, which a list cannot hold; set `arrays: text`")]
    ArrayShape,
    #[error("the lists of one batch hold too many elements")]
    ListTooLong,
    #[error("the decoder and the column's type do not belong together")]
    Mismatch,
}

/// Appends a value that the server sent in binary.
#[inline]
pub(crate) fn append_binary(kind: &ValueType, data: &[u8], out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    binary::append(kind, data, out)
}

/// Appends a value that the server sent as text.
pub(crate) fn append_text(kind: &ValueType, data: &[u8], out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    text::append(kind, data, out)
}
