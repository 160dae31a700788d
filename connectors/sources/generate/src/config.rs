use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of the `generate` source: makes up rows, to try sinks without a database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateSourceConfig {
    /// The table that the rows seem to come from, in the schema `generated`.
    pub table: String,
    /// Rows in all; without it they never end.
    pub rows: Option<u64>,
    /// Rows a second; without it as many as the rest of the pipeline takes.
    pub rows_per_second: Option<u64>,
    /// Columns besides the key `id`, at most 1000. Their types take turns: text, bigint, numeric(12,2), timestamptz, boolean, double, date, uuid.
    pub columns: usize,
    /// Ids repeat after this many rows: the first time is an insert, later ones are updates. Without it every row is an insert.
    pub keys: Option<u64>,
    /// Other seeds make other values.
    pub seed: u64,
}

impl Default for GenerateSourceConfig {
    fn default() -> Self {
        Self { table: "rows".to_owned(), rows: None, rows_per_second: None, columns: 8, keys: None, seed: 0 }
    }
}
