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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use connector_api::{Document, parse_at};

    use super::*;

    fn read(text: &str) -> Result<ZeroDates, String> {
        let document = Document { file: "test".into(), text: format!("zero_dates: {text}\n"), variables: HashMap::new() };
        parse_at(&document, &["zero_dates"]).map_err(|error| error.to_string())
    }

    #[test]
    fn null_is_a_word_here() {
        for (text, expected) in [("null", ZeroDates::Null), ("text", ZeroDates::Text), ("error", ZeroDates::Error)] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        assert!(read("zero").unwrap_err().contains("expected one of null, text, error"));
    }
}
