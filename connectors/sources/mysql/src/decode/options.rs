use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of dates that no calendar has: `0000-00-00`, `2000-00-01`, `2000-02-31`. The same in snapshot and stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZeroDates {
    /// NULL. Such a date cannot be told from NULL then, but never looks like a real date.
    #[default]
    Null,
    /// All columns of type date, datetime and timestamp arrive as text, as the server prints them.
    Text,
    /// The table stops with an error.
    Error,
}

/// What `tinyint(1)`, which is MySQL's `boolean`, arrives as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TinyInt1 {
    /// A number: the column can hold -128 to 127.
    #[default]
    Number,
    /// True or false; every number but 0 is true.
    Bool,
}

/// The choices that decide how values arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DecodeOptions {
    pub zero_dates: ZeroDates,
    pub tinyint1: TinyInt1,
}
